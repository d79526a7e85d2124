//! `cargo xtask faults`: the shipped binary under kills, refusing disks, damaged files, pauses, resets and more.
//! Both programs are built in the release profile: what is shipped is what has to bear it.

use anyhow::Result;

use crate::child;

pub(crate) const ARGUMENTS: &str = "[CLASS…] [--rounds N] [--seed N] [--slice] | --mutants";

/// Runs the classes of faults that are named, or all; `--help` lists them. A failing class prints what repeats it. With
/// `--mutants` it breaks rules of the runtime, and each must be noticed.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    // It lies beside the suite, which looks for it there.
    child::run(&mut child::cargo("build --release -p fluxrig-rack --bin fluxrig"))?;
    let features = if arguments.iter().any(|word| word == "--mutants") { "--features mutants" } else { "" };
    child::run(child::cargo(&format!("run --release -p fluxrig-tests {features} --bin faults --")).args(arguments))
}
