//! The teeth of the simulation: every mutation of the runtime has to be caught, and the table says by what and how soon.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fluxrig_actors::mutants::{Mutation, set};

use super::report::{Options, Violation};
use super::{Storage, threads};

/// Runs of real threads for what one thread cannot show.
const THREADED_MAX: u64 = 300;

/// Breaks each rule (or those whose name contains `name`) and runs seeds until one notices. Prints a table; false when
/// one was never noticed within `seeds` seeds.
#[must_use]
pub fn run(name: &str, start: u64, seeds: u64, options: &Options) -> bool {
    println!("{:<24} {:>8} {:>6}  check", "mutation", "seed", "seeds");
    let mut survivors = Vec::new();
    for mutation in Mutation::ALL {
        let text = format!("{mutation:?}");
        if !text.to_lowercase().contains(&name.to_lowercase()) {
            continue;
        }
        match catch(mutation, start, seeds, options) {
            Some((seed, ran, found)) => println!("{text:<24} {seed:>8} {ran:>6}  {}: {}", found.check, found.found),
            None => {
                println!("{text:<24} {:>8} {seeds:>6}  SURVIVED", "-");
                survivors.push(text);
            }
        }
    }
    survivors.is_empty()
}

/// The first seed that notices, and how many it took. A seed that finds something without the mutation too does not
/// count: then the checker or the runtime is wrong, and nothing is shown about the mutation.
#[must_use]
pub fn catch(mutation: Mutation, start: u64, seeds: u64, options: &Options) -> Option<(u64, u64, Violation)> {
    set(Some(mutation));
    let on_stream = Options { storage: Storage::Pair, ..options.clone() };
    let options = if mutation.is_of_streams() { &on_stream } else { options };
    let is_threaded = mutation == Mutation::SkipGateForState;
    let seeds = if is_threaded { seeds.min(THREADED_MAX) } else { seeds };
    let next = AtomicU64::new(start);
    let noticed: Mutex<Option<(u64, Violation)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= start + seeds || noticed.lock().expect("no thread panics while it is held").is_some() {
                        return;
                    }
                    if let Some(violation) = run_one(seed, is_threaded, options).into_iter().next() {
                        let mut noticed = noticed.lock().expect("no thread panics while it is held");
                        // Of several the smallest seed, so that the table repeats itself.
                        if noticed.as_ref().is_none_or(|(other, _)| seed < *other) {
                            *noticed = Some((seed, violation));
                        }
                    }
                }
            });
        }
    });
    set(None);
    let (seed, violation) = noticed.into_inner().expect("no thread panics while it is held")?;
    let sane = run_one(seed, is_threaded, options);
    sane.is_empty().then_some((seed, seed - start + 1, violation))
}

fn run_one(seed: u64, is_threaded: bool, options: &Options) -> Vec<Violation> {
    if is_threaded { threads::run(seed) } else { super::run(seed, options).violations }
}
