//! `cargo xtask interop`: programs by others against ours; skipped with a word where they cannot be fetched.

use anyhow::Result;

use crate::{child, setup, usage};

/// Fetches them and runs the tests that need them.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    usage::none(arguments)?;
    setup::run(&[])?;
    child::run(&mut child::cargo("test -p fluxrig-rack --test it interop -- --nocapture"))
}
