//! `cargo xtask sim`: whole rigs on one thread under seeded faults, in the release profile because here it is about many seeds.

use anyhow::Result;

use crate::child;
use crate::usage::{self, Usage};

pub(crate) const ARGUMENTS: &str = "[--seeds N | --seed N | --minutes M] [--stream | --pair]";
/// Journals on a simulated stream in place of simulated disks; the same with a stand-by that takes over.
const STORAGES: [&str; 2] = ["--stream", "--pair"];

const SEEDS_BY_DEFAULT: &str = "2000";

/// Runs the simulation; a failing run prints its seed.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    check(arguments)?;
    let mut sim = child::cargo("run --release -p fluxrig-tests --bin sim --");
    if counted(arguments).is_empty() {
        sim.args(["--seeds", SEEDS_BY_DEFAULT]);
    }
    sim.args(arguments);
    child::run(&mut sim)
}

/// All but a storage at the end.
fn counted(arguments: &[String]) -> &[String] {
    match arguments.split_last() {
        Some((last, rest)) if STORAGES.contains(&last.as_str()) => rest,
        _ => arguments,
    }
}

fn check(arguments: &[String]) -> Result<(), Usage> {
    let Some((flag, rest)) = counted(arguments).split_first() else { return Ok(()) };
    if !matches!(flag.as_str(), "--seeds" | "--seed" | "--minutes") {
        return Err(Usage(format!("`{flag}` is no option of `sim`: {ARGUMENTS}")));
    }
    usage::number(flag, rest.first())?;
    usage::none(&rest[1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_option_with_a_number_or_nothing() {
        let says = |line: &str| check(&line.split_whitespace().map(String::from).collect::<Vec<_>>());
        assert!(says("").is_ok());
        assert!(says("--seed 7").is_ok());
        assert!(says("--minutes 5").is_ok());
        assert!(says("--stream").is_ok());
        assert!(says("--seed 7 --stream").is_ok());
        assert!(says("--seed 7 --pair").is_ok());
        for wrong in ["--seed", "--seed x", "--speed 7", "--seed 7 --seeds 7", "--pair --seed 7", "--stream --pair"] {
            assert!(says(wrong).is_err(), "{wrong}");
        }
    }
}
