//! The simulation: a whole rig on one thread with a paused clock, a simulated disk or stream, seeded faults, and ledgers outside it.
//! A seed draws the rig, the faults and their times; [`check`] then compares what the world saw with a dumb model.

pub mod check;
pub mod drive;
pub mod ends;
pub mod gears;
pub mod keep;
pub mod ledger;
pub mod model;
pub mod pair;
pub mod plan;
pub mod report;

pub mod threads;

#[cfg(feature = "mutants")]
pub mod mutants;

pub use keep::Storage;
pub use report::{Fault, Faults, Options, Report, Totals};

/// Runs one seed to the end.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Report {
    match options.storage {
        Storage::Pair => pair::run(seed, options),
        Storage::Disk | Storage::Stream => drive::run(seed, options),
    }
}

/// A number drawn from words and texts: the same everywhere for the same arguments.
#[must_use]
pub fn draw(seed: u64, words: &[&str], number: u64) -> u64 {
    let mut hash = seed ^ 0xcbf2_9ce4_8422_2325;
    for byte in words.iter().flat_map(|word| word.bytes().chain([0])).chain(number.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The low bits of a product of bytes are poor; one round of mixing spreads them.
    hash = (hash ^ (hash >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 29)
}
