//! A backlog far above the memory window of its wire: while the consumer is away everybody else goes on, memory stays
//! within what positions cost, and over a `kill -9` each line comes once and in order.

use fluxrig_tests::outside::World;
use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::pipeline::{Pipeline, SCENARIO};
use fluxrig_tests::outside::place;
use fluxrig_tests::outside::session::Session;
use tokio::time::Instant;

use super::class::{Ask, Report, Stop};

/// The wire that holds them, in the scenario of the pipeline, and with room for so many.
const WIRE: &str = "  - { from: five.out, to: line.in }";
/// Segments as they are by default: small ones would be thousands of files.
const SMALL: &str = "segment_bytes: 131072, max_bytes: 1073741824";
const LARGE: &str = "segment_bytes: 67108864, max_bytes: 8589934592";
/// Beside what any rack needs, a line that waits may cost so much memory.
const BYTES_EACH_MAX: u64 = 200;
const RACK_KIB: u64 = 96 << 10;
/// A start holds some segments whole while it reads them.
const START_KIB: u64 = 256 << 10;

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    report.expect("lines waiting");
    report.expect("killed with them");
    let roomy = format!("  - {{ from: five.out, to: line.in, capacity: {} }}", 2 * rounds);
    let scenario = SCENARIO.replacen(WIRE, &roomy, 1).replacen(SMALL, LARGE, 1);
    let mut session = Session::new(Pipeline::with(&scenario, &ask.daemon, None, chance)?.with_many_feeders(chance));
    let outcome = backlog(&mut session, rounds, report);
    report.session(&mut session);
    Ok(outcome?)
}

fn backlog(session: &mut Session<Pipeline>, lines: u64, report: &mut Report) -> Result<(), String> {
    let nobody = place::address()?;
    session.world.set("LEDGER", &nobody.to_string());
    session.start(1)?;
    let began = Instant::now();
    while session.world.progress() < lines {
        // In steps: each must come within the patience for answers.
        session.until_answers((lines - session.world.progress()).min(10_000))?;
    }
    session.world.set_quiet(true);
    let took = began.elapsed();
    let memory_kib = session.daemon()?.memory_kib()?;
    report.fired_times("lines waiting", session.world.progress());
    let bound_kib = RACK_KIB + lines * BYTES_EACH_MAX / 1024;
    if memory_kib > bound_kib {
        return Err(format!("{lines} lines wait, and memory is {memory_kib} KiB; at most {bound_kib} were expected"));
    }
    session.kill();
    report.fired("killed with them");
    session.world.open_ledger_at(nobody)?;
    session.start(1)?;
    let again_kib = session.daemon()?.memory_kib()?;
    if again_kib > bound_kib + START_KIB {
        return Err(format!(
            "after a start with {lines} lines memory is {again_kib} KiB; at most {bound_kib} and {START_KIB} were expected"
        ));
    }
    report.note(format!(
        "{lines} lines waited, taken in {:.1} s: memory {memory_kib} KiB, and {again_kib} after the kill",
        took.as_secs_f64()
    ));
    session.end()
}
