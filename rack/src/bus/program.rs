//! Which `nats-server` a rack runs: the first that is new enough of those that it knows of.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::BusError;

/// Names the program where it is not on PATH.
const VARIABLE: &str = "FLUXRIG_NATS_SERVER";
/// Its name.
const NAME: &str = "nats-server";
/// Older ones lose what they acknowledged.
const FLOOR: [u32; 3] = [2, 12, 6];
/// How long it may take to say its version.
const VERSION_TIME: Duration = Duration::from_secs(10);

/// A program that will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
}

/// Looks in the environment, then in the rack's own folder, then on PATH.
pub(crate) async fn find(folder: &Path) -> Result<Program, BusError> {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    if let Some(missing) = named.as_ref().filter(|path| !path.is_file()) {
        tracing::warn!(path = %missing.display(), "bus: {VARIABLE} names no file; another nats-server is looked for");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(NAME));
    first_of(named.into_iter().chain([folder.join(NAME)]).chain(fetched()).chain(on_path)).await
}

#[cfg(not(test))]
fn fetched() -> Option<PathBuf> {
    None
}

/// What `cargo xtask setup` has fetched.
#[cfg(test)]
fn fetched() -> Option<PathBuf> {
    Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/nats-server").join(NAME))
}

async fn first_of(places: impl Iterator<Item = PathBuf>) -> Result<Program, BusError> {
    let mut too_old = Vec::new();
    // A server starts in a folder of its own.
    let places = places.filter_map(|path| std::path::absolute(path).ok());
    for path in places.filter(|path| path.is_file()) {
        let said = version_of(&path).await;
        match said.as_deref().and_then(parsed) {
            Some(version) if version >= FLOOR => {
                return Ok(Program { path, version: said.unwrap_or_default() });
            }
            _ => too_old.push(format!("{} ({})", path.display(), said.as_deref().unwrap_or("no version"))),
        }
    }
    let floor = FLOOR.map(|part| part.to_string()).join(".");
    match too_old.is_empty() {
        true => Err(BusError::NoProgram { floor }),
        false => Err(BusError::TooOld { found: too_old.join(", "), floor }),
    }
}

/// What it calls its version.
async fn version_of(path: &Path) -> Option<String> {
    let mut asked = Command::new(path);
    asked.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = timeout(VERSION_TIME, asked.output()).await.ok()?.ok()?;
    let said = String::from_utf8_lossy(&output.stdout);
    Some(said.trim().rsplit_once(": v")?.1.to_owned())
}

fn parsed(version: &str) -> Option<[u32; 3]> {
    let core = version.split(['-', '+']).next()?;
    let mut parts = core.split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program that only says a version.
    fn says(folder: &Path, version: &str) -> PathBuf {
        let path = folder.join(format!("nats-server-{version}"));
        std::fs::write(&path, format!("#!/bin/sh\necho 'nats-server: v{version}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn the_first_that_is_new_enough_is_taken_and_all_others_are_named() {
        let folder = std::env::temp_dir().join(format!("fluxrig-rack-program-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [old, new, newer] = ["2.12.5", "2.12.6", "2.15.1-RC.1"].map(|version| says(&folder, version));
        let found = first_of([folder.join("none"), old.clone(), newer.clone(), new].into_iter()).await.unwrap();
        assert_eq!(found, Program { path: newer, version: "2.15.1-RC.1".into() });
        let error = first_of([old.clone()].into_iter()).await.unwrap_err().to_string();
        let expected = format!("bus: found `nats-server` too old: {} (2.12.5), expected 2.12.6", old.display());
        assert!(error.starts_with(&expected), "{error}");
        let none = first_of(std::iter::empty()).await.unwrap_err().to_string();
        assert!(none.starts_with("bus: found no `nats-server`"), "{none}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
