//! The server of a bus is killed or stands still, and so are the racks on it: two with a wire between them, and one whose
//! journal is on the server.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::nats::{self, Server, Wanted};
use fluxrig_tests::outside::racks::{OnBus, Racks};
use fluxrig_tests::outside::wait;

use super::class::{Ask, Report, Stop};

/// Everything is judged after so many faults.
const JUDGED_EVERY: u64 = 10;
/// A fault falls up to this long after some answers.
const LOAD_MAX: Duration = Duration::from_millis(120);
/// A server is away, or stands still, for up to this long.
const AWAY_MAX: Duration = Duration::from_secs(3);
/// Longer than any answer is waited for, and than a connection is believed in.
const LONG: Duration = Duration::from_secs(20);
/// One of so many faults of a full run is a long one.
const LONG_EVERY: u64 = 16;

/// The program, or a word why the class is skipped.
pub(crate) fn program() -> Result<PathBuf, Stop> {
    nats::program("faults").ok_or_else(|| Stop::Skipped("no nats-server; remedy: `cargo xtask setup`".to_owned()))
}

/// One server that flushes each write, asked by its monitor.
pub(crate) fn on_one(server: &Server, urls: Vec<String>) -> OnBus {
    let bus = format!("{{ servers: [\"${{BUS}}\"], monitor_url: \"{}\" }}", server.monitor_url());
    OnBus { bus, durability: "flush", urls }
}

/// How long this fault lasts.
pub(crate) fn away(ask: &Ask, chance: &mut Chance) -> Duration {
    if !ask.is_slice && chance.below(LONG_EVERY) == 0 { LONG } else { chance.time(AWAY_MAX) }
}

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    let program = program()?;
    for kind in ["server killed", "server stood still", "rack killed"] {
        report.expect(kind);
    }
    let mut server = Server::start(&program, &Wanted::default())?;
    let on = on_one(&server, vec![server.url()]);
    let two = rounds.div_ceil(2);
    world(Racks::two(&ask.daemon, &on, chance)?, &mut server, ask, 0..two, chance, report)?;
    world(Racks::on_stream(&ask.daemon, &on, chance)?, &mut server, ask, two..rounds, chance, report)
}

fn world(
    mut racks: Racks,
    server: &mut Server,
    ask: &Ask,
    rounds: Range<u64>,
    chance: &mut Chance,
    report: &mut Report,
) -> Result<(), Stop> {
    let outcome = faults(&mut racks, server, ask, rounds, chance, report).and_then(|()| racks.end());
    report.tally(std::mem::take(&mut racks.tally));
    Ok(outcome?)
}

fn faults(
    racks: &mut Racks,
    server: &mut Server,
    ask: &Ask,
    rounds: Range<u64>,
    chance: &mut Chance,
    report: &mut Report,
) -> Result<(), String> {
    racks.start_all()?;
    racks.until_answers(1)?;
    for round in rounds {
        racks.until_answers(chance.zipf(300))?;
        wait::pass(chance.time(LOAD_MAX));
        // Each kind in turn, so that a slice has all of them.
        match round % 4 {
            0 => {
                server.kill();
                wait::pass(away(ask, chance));
                server.restart()?;
                report.fired("server killed");
            }
            1 => kill_rack(racks, chance, report)?,
            2 => {
                server.pause();
                wait::pass(away(ask, chance));
                server.resume();
                report.fired("server stood still");
            }
            _ => {
                // Together, in either order.
                let is_server_first = chance.percent(50);
                if is_server_first {
                    server.kill();
                }
                let idx = chance.below(racks.count() as u64) as usize;
                racks.kill(idx);
                server.restart()?;
                racks.start(idx)?;
                report.fired("server and rack killed");
            }
        }
        racks.until_answers(1)?;
        if round % JUDGED_EVERY == JUDGED_EVERY - 1 {
            racks.settle()?;
        }
    }
    Ok(())
}

/// `kill -9` of one of them, and a new start.
pub(crate) fn kill_rack(racks: &mut Racks, chance: &mut Chance, report: &mut Report) -> Result<(), String> {
    let idx = chance.below(racks.count() as u64) as usize;
    racks.kill(idx);
    wait::pass(chance.time(AWAY_MAX));
    report.fired("rack killed");
    racks.start(idx)
}
