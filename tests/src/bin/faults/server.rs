//! The server of a bus is killed or stands still, and so are the racks on it: two with a wire between them, and one whose
//! journal is on the server.

use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::nats::{Server, Wanted};
use fluxrig_tests::outside::racks::Racks;
use fluxrig_tests::outside::wait;

use super::class::{Ask, Report, Stop};
use super::on_bus::{Rounds, away, kill_rack, on_one, program};

/// Everything is judged after so many faults.
const JUDGED_EVERY: u64 = 10;
/// A fault falls up to this long after some answers.
const LOAD_MAX: Duration = Duration::from_millis(120);

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    let program = program()?;
    for kind in ["server killed", "server stood still", "rack killed"] {
        report.expect(kind);
    }
    let mut server = Server::start(&program, &Wanted::default())?;
    let on = on_one(&server, vec![server.url()]);
    let rounds = Rounds { ask, on: &on, count: rounds, judged_every: JUDGED_EVERY };
    rounds.run(chance, report, |racks, round, chance, report| {
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
                kill_both(racks, &mut server, chance)?;
                report.fired("server and rack killed");
            }
        }
        racks.until_answers(1)
    })
}

/// Together, in either order.
fn kill_both(racks: &mut Racks, server: &mut Server, chance: &mut Chance) -> Result<(), String> {
    let is_server_first = chance.percent(50);
    if is_server_first {
        server.kill();
    }
    let idx = chance.below(racks.count() as u64) as usize;
    racks.kill(idx);
    server.restart()?;
    racks.start(idx)
}
