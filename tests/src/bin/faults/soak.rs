//! F20 in short: minutes at half of what the rack can, with kills and connections that break in the first half, and one
//! long life in the second: memory, file descriptors and the journal's size stay as they are, and the ledgers agree.

use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::payments::{Payments, SCENARIO};
use fluxrig_tests::outside::session::Session;
use fluxrig_tests::outside::{World, wait};
use tokio::time::Instant;

use super::class::{Ask, Report, Stop};

const MINUTE: Duration = Duration::from_secs(60);
/// How long the peak is looked for.
const PEAK: Duration = Duration::from_secs(10);
/// A kill falls within this time after the one before.
const KILL_MAX: Duration = Duration::from_secs(20);
/// The ledgers are compared this often.
const SETTLED_EVERY: Duration = Duration::from_secs(30);
const SAMPLED_EVERY: Duration = Duration::from_secs(1);
/// What the switch remembers is its memory, too: with so much of it a run is full of it soon.
const REMEMBERED: (&str, &str) =
    ("      timeout_ms: 10000\n", "      timeout_ms: 10000\n      repeats: { max: 20000 }\n");
/// Within this a figure is called flat.
const GROWTH_KIB_MAX: u64 = 6 << 10;
const GROWTH_DESCRIPTORS_MAX: u64 = 4;
const GROWTH_JOURNAL_MAX: u64 = 4 << 20;

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    report.expect("kill");
    report.expect("broken connection");
    let scenario = SCENARIO.replacen(REMEMBERED.0, REMEMBERED.1, 1);
    let mut session = Session::new(Payments::with(&scenario, &ask.daemon, None, chance)?);
    let half = MINUTE * u32::try_from(rounds).unwrap_or(u32::MAX) / 2;
    let outcome = peak(&mut session, report)
        .and_then(|()| killed(&mut session, half, chance, report))
        .and_then(|()| long_life(&mut session, half, report))
        .and_then(|()| session.end());
    report.fired_times("broken connection", session.world.rudeness());
    report.session(&mut session);
    Ok(outcome?)
}

/// What these terminals and this bank get out of the rack; from then on they ask for half of it.
fn peak(session: &mut Session<Payments>, report: &mut Report) -> Result<(), String> {
    session.start(100)?;
    let before = session.world.progress();
    wait::pass(PEAK);
    let peak = (session.world.progress() - before) / PEAK.as_secs();
    session.settle()?;
    let terminals = session.world.terminals();
    terminals.set_rate((peak / 2 / u64::from(terminals.count())).max(1));
    report.note(format!("peak {peak} answers/s, from then on half of it is asked for"));
    Ok(())
}

fn killed(
    session: &mut Session<Payments>,
    time: Duration,
    chance: &mut Chance,
    report: &mut Report,
) -> Result<(), String> {
    session.world.set_rude(true);
    let (end, mut settled) = (Instant::now() + time, Instant::now());
    while Instant::now() < end {
        session.world.set_quiet(false);
        wait::pass(chance.time(KILL_MAX.min(end.saturating_duration_since(Instant::now()))));
        session.kill();
        report.fired("kill");
        session.start(1)?;
        if settled.elapsed() >= SETTLED_EVERY {
            settled = Instant::now();
            session.settle()?;
        }
    }
    session.world.set_rude(false);
    session.settle()
}

/// The largest of each figure over some time.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    memory_kib: u64,
    descriptors: u64,
    journal: u64,
}

/// One process through the second half, its connections breaking all the time: the last third against the one before.
fn long_life(session: &mut Session<Payments>, time: Duration, report: &mut Report) -> Result<(), String> {
    session.world.set_rude(true);
    session.world.set_quiet(false);
    let third = time / 3;
    let _warm = watched(session, third)?;
    let middle = watched(session, third)?;
    let last = watched(session, third)?;
    session.world.set_rude(false);
    report.note(format!(
        "one life of {} s: memory {} and then {} KiB, descriptors {} and {}, journal {} and {} KiB",
        time.as_secs(),
        middle.memory_kib,
        last.memory_kib,
        middle.descriptors,
        last.descriptors,
        middle.journal >> 10,
        last.journal >> 10
    ));
    let is_flat = last.memory_kib <= middle.memory_kib + GROWTH_KIB_MAX
        && last.descriptors <= middle.descriptors + GROWTH_DESCRIPTORS_MAX
        && last.journal <= middle.journal + GROWTH_JOURNAL_MAX;
    if is_flat { Ok(()) } else { Err(format!("something grows: {middle:?} and a third of the time later {last:?}")) }
}

/// Looks at the rack every second, and compares the ledgers now and then.
fn watched(session: &mut Session<Payments>, time: Duration) -> Result<Figures, String> {
    let (end, mut settled, mut largest) = (Instant::now() + time, Instant::now(), Figures::default());
    while Instant::now() < end {
        session.world.set_quiet(false);
        wait::pass(SAMPLED_EVERY.min(end.saturating_duration_since(Instant::now())));
        session.until_answers(1)?;
        let journal = session.rack().counted(&["fluxrig_journal_disk_bytes"])?;
        let daemon = session.daemon()?;
        largest.memory_kib = largest.memory_kib.max(daemon.memory_kib()?);
        largest.descriptors = largest.descriptors.max(daemon.descriptors()?);
        largest.journal = largest.journal.max(journal);
        if settled.elapsed() >= SETTLED_EVERY {
            settled = Instant::now();
            session.settle()?;
        }
    }
    Ok(largest)
}
