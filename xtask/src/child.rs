//! Child processes: all start in the workspace root, and a failed one says its command line.

mod family;

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

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

/// How long what a child started may outlive it.
const LEAVE_TIME: Duration = Duration::from_secs(5);
/// Between two looks at what outlives a child.
const LOOK_EVERY: Duration = Duration::from_millis(50);

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

/// Runs to the end and hands over each line of standard output as it comes. Standard error stays ours. A child that ends
/// and leaves processes behind has failed; they are named and killed.
pub(crate) fn run_lines(command: &mut Command, each: impl FnMut(&str)) -> Result<()> {
    run_watched(command, Duration::MAX, each)
}

/// The same for a child that tries our programs: when no line comes for `silence_max`, it has failed, and what runs is
/// named and killed.
pub(crate) fn run_watched(command: &mut Command, silence_max: Duration, mut each: impl FnMut(&str)) -> Result<()> {
    family::adopt();
    let started = command.stdout(Stdio::piped()).spawn();
    let mut child = started.with_context(|| format!("could not start `{}`", line(command)))?;
    let stdout = child.stdout.take().expect("stdout was piped above");
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || send_lines(stdout, &sender));
    loop {
        match lines.recv_timeout(silence_max) {
            Ok(line) => each(&line?),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let killed = kill_all();
                bail!("`{}` said nothing for {silence_max:?}; killed what ran: {killed}", line(command));
            }
        }
    }
    let status = child.wait()?;
    wait_for_leavers();
    let killed = kill_all();
    check(command, status)?;
    if !killed.is_empty() {
        bail!("`{}` left processes behind; killed: {killed}", line(command));
    }
    Ok(())
}

/// Ends when nobody writes any more, or nobody listens.
fn send_lines(stdout: impl Read, lines: &mpsc::Sender<io::Result<String>>) {
    let mut stdout = BufReader::new(stdout);
    let mut bytes = Vec::new();
    let mut next = || match stdout.read_until(b'\n', &mut bytes) {
        Ok(0) => None,
        Ok(_) => {
            // A test may print anything: bytes that are not text must not end the run.
            let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            bytes.clear();
            Some(Ok(line))
        }
        Err(error) => Some(Err(error)),
    };
    while let Some(line) = next() {
        if lines.send(line).is_err() {
            return;
        }
    }
}

/// Who was told to end may need a moment.
#[expect(clippy::disallowed_methods, reason = "an automation has nothing else to do, and nobody tells it")]
fn wait_for_leavers() {
    for _ in 0..LEAVE_TIME.as_millis() / LOOK_EVERY.as_millis() {
        if family::below().is_empty() {
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Ends all that runs below this process, and names it.
fn kill_all() -> String {
    let running = family::below();
    running.iter().for_each(family::Process::kill);
    running.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// One test: what runs below this process is the same for all of its threads.
    #[test]
    fn who_hangs_or_leaves_processes_behind_is_named_and_ended() {
        let sh = |script: &str, silence_ms| {
            let mut said = Vec::new();
            let mut command = command("sh");
            let silence_max = Duration::from_millis(silence_ms);
            let outcome = run_watched(command.args(["-c", script]), silence_max, |line| said.push(line.to_owned()));
            wait_for_leavers();
            assert!(family::below().iter().all(|process| !process.to_string().contains("sleep")));
            (said.join("|"), outcome.map_err(|error| error.to_string()).err().unwrap_or_default())
        };
        assert_eq!(sh("echo a; echo b", 60_000), ("a|b".into(), String::new()));

        let (said, error) = sh("echo a; sleep 1000; echo b", 200);
        assert!(said == "a" && error.contains("said nothing for 200ms") && error.contains("`sleep 1000`"), "{error}");

        let (said, error) = sh("sleep 1000 >&2 & echo a", 60_000);
        assert!(said == "a" && error.contains("left processes behind") && error.contains("`sleep 1000`"), "{error}");

        // It holds the output, too.
        let (said, error) = sh("sleep 1000 & echo a", 200);
        assert!(said == "a" && error.contains("said nothing") && error.contains("`sleep 1000`"), "{error}");

        let (_, error) = sh("exit 3", 60_000);
        assert!(error.contains("exit status: 3"), "{error}");
    }
}
