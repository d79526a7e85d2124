//! F2: killed at the nth call of the system that touches a file, swept over calls and n by strace.
//! Each kill is followed by a look at the journal, a start without strace, and a judgement.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::daemon::{Wrap, is_killed};
use fluxrig_tests::outside::payments::Payments;
use fluxrig_tests::outside::pipeline::Pipeline;
use fluxrig_tests::outside::place::Place;
use fluxrig_tests::outside::session::Session;
use fluxrig_tests::outside::{World, wait};

use super::class::{Ask, Report, Stop, needs_strace};

/// What the journal, its lock, its key and the file sink do to files, and how many of each of their first calls are
/// swept one by one. strace counts each thread by itself, so a number falls early in some thread and late in another.
const CALLS: &[(&str, u64)] = &[
    ("pwrite64", 40),
    ("fdatasync", 40),
    ("fsync", 10),
    ("openat", 60),
    ("link,linkat", 4),
    ("unlink,unlinkat", 8),
    ("ftruncate", 6),
    ("write,writev", 60),
    ("rename,renameat,renameat2", 2),
];
/// A number that no thread reaches within this time of load is too high.
const REACH_MAX: Duration = Duration::from_millis(1500);
/// After so many kills on one directory comes a fresh one.
const ROTATED_EVERY: u64 = 20;
const ANSWERS_AFTER: u64 = 40;

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    let place = Place::new()?;
    needs_strace(&place.path().join("strace"))?;
    let mut sweep = Sweep { turns: BTreeMap::new(), end: BTreeMap::new(), notes: place.path().join("strace") };
    let mut done = 0;
    while done < rounds {
        let some = ROTATED_EVERY.min((rounds - done).div_ceil(2).max(1));
        done += world(Pipeline::new(&ask.daemon, None, chance)?, some, &mut sweep, chance, report)?;
        let some = ROTATED_EVERY.min(rounds.saturating_sub(done));
        done += world(Payments::new(&ask.daemon, None, chance)?, some, &mut sweep, chance, report)?;
    }
    Ok(())
}

fn world<W: World>(
    world: W,
    kills: u64,
    sweep: &mut Sweep,
    chance: &mut Chance,
    report: &mut Report,
) -> Result<u64, Stop> {
    let mut session = Session::new(world);
    let mut fired = 0;
    let mut outcome = Ok(());
    while fired < kills && outcome.is_ok() {
        let (calls, n) = sweep.next(chance);
        match kill_at(&mut session, calls, n, &sweep.notes) {
            Ok(true) => {
                report.fired(calls.split(',').next().unwrap_or(calls));
                fired += 1;
            }
            Ok(false) => drop(sweep.end.insert(calls, n)),
            Err(error) => outcome = Err(format!("killed at call {n} of {calls}: {error}")),
        }
    }
    if outcome.is_ok() && kills > 0 {
        outcome = session.start(1).and_then(|()| session.end());
    }
    report.session(&mut session);
    outcome?;
    Ok(fired)
}

/// Which call is next, and which of its numbers.
struct Sweep {
    turns: BTreeMap<&'static str, u64>,
    /// A number that was not reached.
    end: BTreeMap<&'static str, u64>,
    notes: PathBuf,
}

impl Sweep {
    fn next(&mut self, chance: &mut Chance) -> (&'static str, u64) {
        let turn: u64 = self.turns.values().sum();
        let is_left = |calls: &str| self.end.get(calls) != Some(&1);
        let left: Vec<_> = CALLS.iter().filter(|(calls, _)| is_left(calls)).collect();
        let (calls, first) = left[turn as usize % left.len()];
        let own = self.turns.entry(calls).or_default();
        *own += 1;
        // The first ones one by one, then anywhere below what is too high.
        let end = self.end.get(calls).copied().unwrap_or(4 * first);
        (calls, if *own <= *first && *own < end { *own } else { 1 + chance.below((end - 1).max(1)) })
    }
}

/// One start under strace that ends at the nth call; false when it is never reached.
fn kill_at<W: World>(session: &mut Session<W>, calls: &str, n: u64, notes: &Path) -> Result<bool, String> {
    let wrap = Wrap::strace(&format!("trace={calls}"), &format!("inject={calls}:signal=KILL:when={n}"), notes);
    let is_fired = match session.start_under(&wrap)? {
        Some((status, _)) if is_killed(status) => true,
        Some((status, log)) => return Err(format!("the rack ended at its start with {status}: {log}")),
        None => {
            let daemon = session.daemon()?;
            let mut ended = None;
            wait::until(REACH_MAX, || {
                ended = daemon.ended();
                ended.is_some()
            });
            match ended {
                Some(status) if is_killed(status) => true,
                Some(status) => return Err(format!("the rack ended with {status}: {}", session.log())),
                None => false,
            }
        }
    };
    session.kill();
    session.rack().verify()?;
    session.start(ANSWERS_AFTER)?;
    session.settle()?;
    session.kill();
    session.stay_away();
    Ok(is_fired)
}
