//! `cargo xtask demo`: the main job on embedded defaults. Builds the daemon in release, starts the payments scenario,
//! drives it as terminals would, and ends well when every answer was right.

use anyhow::Result;

use crate::{child, usage};

/// Builds and runs it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    usage::none(arguments)?;
    child::run(&mut child::cargo("build --release -p fluxrig-rack -p payments"))?;
    let folder = child::target()?.join("release");
    child::run(child::command(folder.join("payments")).arg("--daemon").arg(folder.join("fluxrig")))
}
