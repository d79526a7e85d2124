//! Child processes: all start in the workspace root, and a failed one says its command line.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

use crate::setup;

/// The folder of the root manifest.
pub(crate) fn root() -> PathBuf {
    // Asked at run time: a target directory that two checkouts share may hold the other one's program.
    let xtask = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let xtask = Path::new(&xtask);
    xtask.parent().expect("xtask lies in the workspace root").to_path_buf()
}

/// The folder that cargo builds into, whatever says which one that is.
pub(crate) fn target() -> Result<PathBuf> {
    let output = cargo("metadata --no-deps --format-version 1").stderr(Stdio::inherit()).output()?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("`cargo metadata` gave no JSON")?;
    let folder = metadata["target_directory"].as_str().context("`cargo metadata` gave no `target_directory`")?;
    Ok(PathBuf::from(folder))
}

/// Where tests find the nats-server that was fetched.
const NATS_SERVER: &str = "FLUXRIG_NATS_SERVER";

/// A command that will start in the workspace root.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    if std::env::var_os(NATS_SERVER).is_none() {
        command.envs(setup::nats_server(&root()).map(|program| (NATS_SERVER, program)));
    }
    command
}

/// The cargo that runs us, with `arguments` split at spaces.
pub(crate) fn cargo(arguments: &str) -> Command {
    let mut command = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments.split_whitespace());
    command
}

/// Runs to the end with our own output streams.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("could not start `{}`", line(command)))?;
    check(command, status)
}

/// Runs to the end and hands over each line of standard output as it comes. Standard error stays ours.
pub(crate) fn run_lines(command: &mut Command, mut each: impl FnMut(&str)) -> Result<()> {
    let started = command.stdout(Stdio::piped()).spawn();
    let mut child = started.with_context(|| format!("could not start `{}`", line(command)))?;
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout was piped above"));
    let mut bytes = Vec::new();
    while stdout.read_until(b'\n', &mut bytes)? > 0 {
        // A test may print anything: bytes that are not text must not end the run.
        each(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']));
        bytes.clear();
    }
    let status = child.wait()?;
    check(command, status)
}

/// Standard output of a short question, trimmed; `None` when it cannot be answered here.
pub(crate) fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let output = command(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` ended with {status}", line(command));
    }
    Ok(())
}

/// The command as a person would type it, without the folder of the program.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
