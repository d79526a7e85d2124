//! What the classes share that hurt a bus: the program, one server, a run of rounds on two racks with a wire between them
//! and on one whose journal is on the servers, and the faults that more than one of them makes.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::nats::{self, Server};
use fluxrig_tests::outside::racks::{OnBus, Racks};
use fluxrig_tests::outside::wait;

use super::class::{Ask, Report, Stop};

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

/// `kill -9` of one of them, and a new start.
pub(crate) fn kill_rack(racks: &mut Racks, chance: &mut Chance, report: &mut Report) -> Result<(), String> {
    let idx = chance.below(racks.count() as u64) as usize;
    racks.kill(idx);
    wait::pass(chance.time(AWAY_MAX));
    report.fired("rack killed");
    racks.start(idx)
}

/// One world from its first start to its last judgement, which the report has whether it held or not.
pub(crate) fn world(
    mut racks: Racks,
    report: &mut Report,
    faults: impl FnOnce(&mut Racks, &mut Report) -> Result<(), String>,
) -> Result<(), Stop> {
    let outcome = faults(&mut racks, report).and_then(|()| racks.end());
    report.tally(std::mem::take(&mut racks.tally));
    Ok(outcome?)
}

/// Rounds of a class, each with one fault under load.
pub(crate) struct Rounds<'a> {
    pub(crate) ask: &'a Ask,
    pub(crate) on: &'a OnBus,
    pub(crate) count: u64,
    /// Everything is judged after so many.
    pub(crate) judged_every: u64,
}

impl Rounds<'_> {
    /// Half of them on two racks, the rest on the one. A fault is told the round, counted through both.
    pub(crate) fn run(
        &self,
        chance: &mut Chance,
        report: &mut Report,
        mut fault: impl FnMut(&mut Racks, u64, &mut Chance, &mut Report) -> Result<(), String>,
    ) -> Result<(), Stop> {
        let (daemon, two) = (&self.ask.daemon, self.count.div_ceil(2));
        let racks = Racks::two(daemon, self.on, chance)?;
        world(racks, report, |racks, report| self.faults(racks, 0..two, chance, report, &mut fault))?;
        if two == self.count {
            return Ok(());
        }
        let racks = Racks::on_stream(daemon, self.on, chance)?;
        world(racks, report, |racks, report| self.faults(racks, two..self.count, chance, report, &mut fault))
    }

    fn faults(
        &self,
        racks: &mut Racks,
        rounds: Range<u64>,
        chance: &mut Chance,
        report: &mut Report,
        fault: &mut impl FnMut(&mut Racks, u64, &mut Chance, &mut Report) -> Result<(), String>,
    ) -> Result<(), String> {
        racks.start_all()?;
        racks.until_answers(1)?;
        for round in rounds {
            racks.until_answers(chance.zipf(300))?;
            fault(racks, round, chance, report)?;
            if round % self.judged_every == self.judged_every - 1 {
                racks.settle()?;
            }
        }
        Ok(())
    }
}
