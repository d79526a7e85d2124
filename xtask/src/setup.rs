//! `cargo xtask setup`: fetches what only tests need and cargo does not bring, into the ignored folder `.cache`.
//! The product needs none of it. Where something cannot be fetched, what needs it is skipped, and says so.

mod nats;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{child, usage};

/// What the interop tests ask of Python, at exactly this version: another one is another second opinion.
const PYTHON_PACKAGE: &str = "pyiso8583==4.0.1";
/// The folder of the Python of our own.
const PYTHON: &str = ".cache/interop";

/// Fetches all of it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    usage::none(arguments)?;
    python(&child::root());
    nats::fetch(&child::root());
    Ok(())
}

/// The nats-server that was fetched, for the environment of whatever is started from here.
pub(crate) fn nats_server(root: &Path) -> Option<PathBuf> {
    nats::fetched(root)
}

/// A Python of our own with the packages of the interop tests; made once.
fn python(root: &Path) {
    let folder = root.join(PYTHON);
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
    child::run(child::command(program(folder)).args(PIP).arg("install").args(QUIET).arg(PYTHON_PACKAGE))
}

const PIP: [&str; 2] = ["-m", "pip"];
/// Where there is no network this is known soon.
const QUIET: [&str; 4] = ["--quiet", "--disable-pip-version-check", "--retries=1", "--timeout=10"];

fn program(folder: &Path) -> PathBuf {
    folder.join("bin/python")
}
