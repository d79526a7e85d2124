//! `cargo xtask setup`: fetches what only tests need and cargo does not bring, into the ignored folder `.cache`.
//! The product needs none of it. Where something cannot be fetched, what needs it is skipped, and says so.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{child, usage};

/// What the interop tests ask of Python, at exactly this version: another one is another second opinion.
const PYTHON_PACKAGE: &str = "pyiso8583==4.0.1";

/// Fetches all of it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    usage::none(arguments)?;
    python(&child::root());
    Ok(())
}

/// A Python of our own with the packages of the interop tests; made once.
fn python(root: &Path) {
    let folder = root.join(".cache/interop");
    let done = folder.join("done");
    if std::fs::read_to_string(&done).is_ok_and(|package| package == PYTHON_PACKAGE) {
        println!("setup: {PYTHON_PACKAGE} is here");
        return;
    }
    if let Err(error) = fetch(&folder).and_then(|()| Ok(std::fs::write(&done, PYTHON_PACKAGE)?)) {
        println!(
            "SKIPPED: {PYTHON_PACKAGE} was not fetched ({error:#}); the interop tests will say that they are skipped"
        );
    }
}

fn fetch(folder: &Path) -> Result<()> {
    println!("setup: fetching {PYTHON_PACKAGE}");
    child::run(child::command("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
    // Where there is no network this is known soon.
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=1", "--timeout=10"];
    child::run(child::command(program(folder)).args(pip).arg(PYTHON_PACKAGE))
}

fn program(folder: &Path) -> PathBuf {
    folder.join("bin/python")
}
