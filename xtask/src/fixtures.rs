//! `cargo xtask fixtures`: the data-driven tests write what they found instead of comparing it. The diff is reviewed like code.

use anyhow::Result;

use crate::{child, usage};

/// Rewrites fixture files and inline snapshots.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    usage::none(arguments)?;
    let mut tests = child::cargo("test --workspace --lib --bins --tests --no-fail-fast");
    // The first is ours, for files; the second is expect-test's, for inline snapshots.
    child::run(tests.env("UPDATE_FIXTURES", "1").env("UPDATE_EXPECT", "1"))?;
    println!("fixtures rewritten; now read `git diff`: each changed line is a changed behaviour");
    Ok(())
}
