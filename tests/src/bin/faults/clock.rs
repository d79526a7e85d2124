//! F7 in part: the wall clock jumps an hour forward and back under a running rack, by libfaketime. Deadlines hold by the
//! monotonic clock: none fires early, each fires in time, no request is lost, and repeats are still answered from memory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::daemon::Wrap;
use fluxrig_tests::outside::payments::{Payments, TIMEOUT};
use fluxrig_tests::outside::pipeline::Pipeline;
use fluxrig_tests::outside::place::Place;
use fluxrig_tests::outside::session::Session;
use fluxrig_tests::outside::{World, tried, wait};
use tokio::time::Instant;

use super::class::{Ask, Report, Stop};

/// Names the library where it is not in its usual place.
const LIBRARY_VARIABLE: &str = "FLUXRIG_FAKETIME";
const LIBRARY: &str = "libfaketimeMT.so.1";
const JUMPS: [&str; 4] = ["+3600s", "+0s", "-3600s", "+0s"];
/// Further ahead than any of them.
const AHEAD: &str = "+7200s";
/// Requests that wait for the bank when the clock jumps.
const WAITING: u64 = 20;
const WAITING_MAX: Duration = Duration::from_secs(10);
/// Clearly before the deadline of anything that waits.
const EARLY: Duration = Duration::from_millis(1200);
const LATE: Duration = Duration::from_secs(8);

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    report.expect("forward");
    report.expect("back");
    let library = library().ok_or_else(|| {
        let remedy = format!("install `faketime`, or name its {LIBRARY} in {LIBRARY_VARIABLE}");
        Stop::Skipped(format!("no {LIBRARY} found; remedy: {remedy}"))
    })?;
    let place = Place::new()?;
    let clock = place.file("clock", JUMPS[1])?;
    let wrap = Wrap {
        before: Vec::new(),
        variables: [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec(),
        ..Wrap::default()
    };
    payments(Payments::new(&ask.daemon, None, chance)?, &wrap, &clock, rounds, report)?;
    pipeline(Pipeline::new(&ask.daemon, None, chance)?, &wrap, &clock, rounds, report)
}

fn library() -> Option<PathBuf> {
    let named = std::env::var_os(LIBRARY_VARIABLE).map(PathBuf::from);
    let usual = ["x86_64-linux-gnu", "aarch64-linux-gnu"].map(|machine| format!("lib/{machine}/faketime"));
    let folders = usual.into_iter().chain(["lib/faketime".to_owned(), "lib64/faketime".to_owned()]);
    let mut found = named.into_iter().chain(folders.map(|folder| Path::new("/usr").join(folder).join(LIBRARY)));
    found.find(|path| path.is_file())
}

fn jump(clock: &Path, round: u64, report: &mut Report) -> Result<(), String> {
    let to = JUMPS[round as usize % JUMPS.len()];
    std::fs::write(clock, to).map_err(tried("the clock"))?;
    report.fired(if matches!(round % 4, 0 | 3) { "forward" } else { "back" });
    Ok(())
}

fn started<W: World>(session: &mut Session<W>, wrap: &Wrap) -> Result<(), String> {
    match session.start_under(wrap)? {
        Some((status, log)) => Err(format!("the rack ended under faketime with {status}: {log}")),
        None => session.until_answers(100),
    }
}

fn payments(world: Payments, wrap: &Wrap, clock: &Path, rounds: u64, report: &mut Report) -> Result<(), Stop> {
    let mut session = Session::new(world);
    let outcome = started(&mut session, wrap).and_then(|()| {
        (0..rounds).try_for_each(|round| {
            jump_with_requests(&mut session, clock, round, report).map_err(|error| format!("jump {round}: {error}"))
        })
    });
    let outcome = outcome.and_then(|()| session.end());
    report.session(&mut session);
    Ok(outcome?)
}

/// The bank keeps its answers back over a jump. In even rounds it then answers, before any deadline; in odd ones it does
/// not, and the deadlines must come at their time.
fn jump_with_requests(
    session: &mut Session<Payments>,
    clock: &Path,
    round: u64,
    report: &mut Report,
) -> Result<(), String> {
    session.world.set_quiet(false);
    session.until_answers(50)?;
    session.world.bank().set_mute(true);
    let is_waiting = wait::until(WAITING_MAX, || session.world.terminals().open() >= WAITING);
    // What the bank had sent before arrives.
    wait::pass(Duration::from_millis(100));
    let (since, before) = (Instant::now(), session.world.progress());
    jump(clock, round, report)?;
    if round.is_multiple_of(2) {
        wait::pass(EARLY);
        let early = session.world.progress() - before;
        session.world.bank().set_mute(false);
        if !is_waiting || early > 0 {
            return Err(format!("{early} answers before any deadline ({is_waiting})"));
        }
    } else {
        let is_over = wait::until(LATE, || session.world.progress() >= before + WAITING / 2);
        let took = since.elapsed();
        session.world.bank().set_mute(false);
        if !is_over || took < TIMEOUT / 2 {
            return Err(format!("deadlines of {TIMEOUT:?} came after {took:?} ({is_over}): {}", session.log()));
        }
    }
    session.until_answers(50)?;
    // The repeats that `settle` asks for are of requests that have their outcome: an hour ago, by the wall clock.
    session.world.set_quiet(true);
    if !wait::until(WAITING_MAX, || session.world.terminals().open() == 0) {
        return Err(format!("requests are still open: {}", session.log()));
    }
    std::fs::write(clock, AHEAD).map_err(tried("the clock"))?;
    report.fired("forward");
    session.settle()
}

fn pipeline(world: Pipeline, wrap: &Wrap, clock: &Path, rounds: u64, report: &mut Report) -> Result<(), Stop> {
    let mut session = Session::new(world);
    let outcome = started(&mut session, wrap).and_then(|()| {
        (0..rounds).try_for_each(|round| {
            jump(clock, round, report)?;
            session.until_answers(200)?;
            session.settle()?;
            session.world.set_quiet(false);
            Ok(())
        })
    });
    let outcome = outcome.and_then(|()| session.end());
    report.session(&mut session);
    Ok(outcome?)
}
