//! The simulation as CI runs it: a slice of seeds that must be clean, one that repeats itself, and proof that it would
//! notice: a run that met no fault fails, and with the feature `mutants` every broken rule of the runtime is caught.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};

use fluxrig_tests::sim::{self, Fault, Options, Storage, Totals};

/// Seeds that every change must pass; `--bin sim` runs thousands.
const SEEDS: u64 = 100;

/// Mutations are switched for the whole process, so that whoever needs a sound runtime reads, and whoever breaks it writes.
static RUNTIME: RwLock<()> = RwLock::new(());

fn sound() -> std::sync::RwLockReadGuard<'static, ()> {
    RUNTIME.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn run_seeds(seeds: u64) -> Totals {
    let next = AtomicU64::new(0);
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let report = sim::run(seed, &Options::default());
                    if !report.violations.is_empty() {
                        println!("{report}");
                    }
                    totals.lock().unwrap().add(&report);
                }
            });
        }
    });
    totals.into_inner().unwrap()
}

fn command(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().unwrap()
}

#[test]
fn seeds_break_no_rule_and_meet_every_fault() {
    let _sound = sound();
    let totals = run_seeds(SEEDS);
    assert_eq!(totals.failed, Vec::<u64>::new(), "again: cargo run -p fluxrig-tests --bin sim -- --seed N");
    assert_eq!(totals.vacuous(&Fault::ALL), Vec::new());
    assert!(totals.carried > 0 && totals.trimmed > 0, "{totals}");
    assert!(totals.classes.duplicate > 0 && totals.classes.unknown > 0 && totals.classes.dead > 0, "{totals}");
}

/// Seeds under which a rule was broken once, long ago or not.
#[test]
fn seeds_that_found_something_stay_clean() {
    let _sound = sound();
    for seed in [2_027_067, 3_008_771] {
        let report = sim::run(seed, &Options::default());
        assert_eq!(report.violations.len(), 0, "{report}");
    }
}

/// The same rigs with their journal on a stream: acks that are lost or late, doubled publishes, elections, slow followers.
#[test]
fn seeds_on_a_stream_break_no_rule() {
    let _sound = sound();
    let options = Options { storage: Storage::Stream, ..Options::default() };
    let mut totals = Totals::default();
    // Under some of these a stream that did not answer looked like a damaged one, or held a wire for good.
    for seed in (0..40).chain([247, 332, 818, 1295]) {
        let report = sim::run(seed, &options);
        assert_eq!(report.violations.len(), 0, "{report}");
        totals.add(&report);
    }
    assert_eq!(totals.vacuous(&Fault::ALL), Vec::new());
    assert!(totals.carried > 0 && totals.trimmed > 0, "{totals}");
}

/// A holder and its stand-by over one stream, paused, parted, killed and stopped.
#[test]
fn seeds_with_a_standby_break_no_rule() {
    let _sound = sound();
    let options = Options { storage: Storage::Pair, ..Options::default() };
    let mut totals = Totals::default();
    // Under some of these a stand-by took what the holder had deleted for damage.
    for seed in (0..150).chain([306, 593, 716]) {
        let report = sim::run(seed, &options);
        assert_eq!(report.violations.len(), 0, "{report}");
        totals.add(&report);
    }
    assert_eq!(totals.vacuous(&sim::pair::FAULTS), Vec::new());
    assert!(totals.take_overs > 100 && totals.classes.unknown > 0, "{totals}");
    assert_eq!(sim::run(1, &options), sim::run(1, &options), "a seed repeats itself");
}

#[test]
fn a_seed_repeats_itself() {
    let _sound = sound();
    for seed in 0..20 {
        let (first, second) = (sim::run(seed, &Options::default()), sim::run(seed, &Options::default()));
        assert_eq!(first, second);
        assert_ne!(first.digest, sim::run(seed + 1, &Options::default()).digest);
    }
}

#[test]
fn a_fault_that_was_not_asked_for_never_fires() {
    let _sound = sound();
    let options = Options { faults: vec![Fault::Power], ..Options::default() };
    let mut totals = Totals::default();
    for seed in 0..10 {
        totals.add(&sim::run(seed, &options));
    }
    assert_eq!(totals.failed, Vec::<u64>::new());
    let silent = [Fault::Kill, Fault::Flush, Fault::Full, Fault::Endpoint, Fault::Scenario, Fault::Clock];
    assert_eq!(totals.vacuous(&silent), silent);
    assert_eq!(totals.vacuous(&[Fault::Power]), Vec::new());
}

#[test]
fn a_run_without_the_fault_that_was_asked_for_fails() {
    // The command is a process of its own, which no mutation of this one reaches.
    let run = command(&["--seed", "0", "--faults", "scenario,clock"]);
    assert!(!run.status.success());
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(text.contains("vacuous: no fault `clock` fired"), "{text}");
    let run = command(&["--seeds", "20", "--faults", "kill,clock"]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
}

#[test]
fn a_fault_that_is_none_is_refused() {
    let run = command(&["--faults", "earthquake"]);
    assert_eq!(run.status.code(), Some(2));
    assert!(String::from_utf8(run.stderr).unwrap().starts_with("`earthquake` is no fault"));
}

#[cfg(feature = "mutants")]
mod mutants {
    //! Teeth: the simulation notices every rule that is broken on purpose.

    use std::sync::PoisonError;

    use fluxrig_actors::mutants::Mutation;
    use fluxrig_tests::sim::mutants::catch;
    use fluxrig_tests::sim::{Options, threads};

    use super::{RUNTIME, sound};

    /// Every thousand seeds notice every mutation, most within ten.
    const SEEDS: u64 = 1000;

    #[test]
    fn every_mutation_is_caught() {
        let _alone = RUNTIME.write().unwrap_or_else(PoisonError::into_inner);
        let mut survivors = Vec::new();
        for mutation in Mutation::ALL {
            match catch(mutation, 0, SEEDS, &Options::default()) {
                Some((seed, ran, found)) => println!("{mutation:?}: seed {seed} of {ran}, {}", found.check),
                None => survivors.push(mutation),
            }
        }
        assert_eq!(survivors, Vec::new());
    }

    /// The gate needs threads that really run beside each other: with it no number is given twice.
    #[test]
    fn the_gate_holds_on_threads() {
        let _sound = sound();
        for seed in 0..5 {
            assert_eq!(threads::run(seed), Vec::new());
        }
    }
}
