//! `cargo xtask soak`: minutes of payments at half of peak, with kills and broken connections; nothing may grow or be
//! missing. It is a class of the fault suite that takes its time.

use anyhow::{Context, Result};

use crate::faults;
use crate::usage::Usage;

pub(crate) const ARGUMENTS: &str = "[--minutes N] [--seed N]";

/// Runs it for ten minutes, or as many as are asked for.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut words = vec!["soak".to_owned()];
    for pair in arguments.chunks(2) {
        let name = match pair[0].as_str() {
            "--minutes" => "--rounds",
            "--seed" => "--seed",
            other => return Err(Usage(format!("`{other}` is no option of `soak`")).into()),
        };
        let value = pair.get(1).with_context(|| format!("`{}` needs a value", pair[0]))?;
        words.extend([name.to_owned(), value.clone()]);
    }
    faults::run(&words)
}
