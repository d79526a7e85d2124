//! The binary `fluxrig` as a child process: started bare or under a tool that hurts it, killed, asked, ended.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::{Outcome, place, tried, wait};

/// A start that takes longer hangs.
const START_MAX: Duration = Duration::from_secs(60);
/// A drain that takes longer hangs.
const END_MAX: Duration = Duration::from_secs(60);
/// So much of a log is shown with an error.
const LOG_TAIL_BYTES: usize = 3000;

/// A scenario with its data directory, and the binary that runs it.
#[derive(Clone, Debug)]
pub struct RackAt {
    /// The binary.
    pub binary: PathBuf,
    /// Another program that does `run` in its place, with gears of its own.
    pub runner: Option<PathBuf>,
    /// The scenario.
    pub scenario: PathBuf,
    /// Where its journal is.
    pub data_dir: PathBuf,
    /// What the scenario asks the environment for.
    pub variables: Vec<(String, String)>,
}

/// What the binary runs under.
#[derive(Clone, Debug, Default)]
pub struct Wrap {
    /// A program and its arguments, in front of the binary.
    pub before: Vec<String>,
    /// Variables.
    pub variables: Vec<(String, String)>,
    /// More arguments of `run`.
    pub arguments: Vec<String>,
}

impl Wrap {
    /// Under strace, which does to the system calls of `trace` what `inject` says. The binary stays our own child.
    #[must_use]
    pub fn strace(trace: &str, inject: &str, notes: &Path) -> Self {
        let notes = notes.display().to_string();
        let words = ["strace", "-D", "-f", "-qq", "-o", &notes, "-e", trace, "-e", inject];
        Self { before: words.map(str::to_owned).to_vec(), ..Self::default() }
    }
}

/// How a start went.
#[derive(Debug)]
pub enum Started {
    /// It runs.
    Ready(Daemon),
    /// It ended before; what it logged.
    Ended(ExitStatus, String),
}

impl RackAt {
    fn command(&self, program: &Path, wrap: &Wrap) -> Command {
        let mut words = wrap.before.iter();
        let mut command = match words.next() {
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.env_remove("FLUXRIG_DATA_DIR").env_remove("FLUXRIG_RACK").env_remove("FLUXRIG_LOG");
        command.envs(self.variables.iter().cloned()).envs(wrap.variables.iter().cloned());
        command
    }

    /// Starts it without waiting for anything.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn spawn(&self, wrap: &Wrap) -> Outcome<Daemon> {
        // What a kill left would be taken for the new one.
        drop(std::fs::remove_file(self.data_dir.join("control.sock")));
        let log_path = self.data_dir.with_extension("log");
        let log = OpenOptions::new().create(true).append(true).open(&log_path).map_err(tried("the log"))?;
        let log_from = log.metadata().map_err(tried("the log"))?.len();
        let mut command = self.command(self.runner.as_ref().unwrap_or(&self.binary), wrap);
        command.arg("run").arg(&self.scenario).arg("--data-dir").arg(&self.data_dir);
        if self.runner.is_none() {
            command.args(["--metrics", "127.0.0.1:0"]);
        }
        command.args(&wrap.arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.map_err(tried("starting the rack"))?;
        place::born(child.id());
        Ok(Daemon { child, began: Instant::now(), socket: self.data_dir.join("control.sock"), log_path, log_from })
    }

    /// Starts it and waits until it runs or has ended.
    ///
    /// # Errors
    /// When it does neither.
    pub fn start(&self, wrap: &Wrap) -> Outcome<Started> {
        self.spawn(wrap)?.until_ready()
    }

    /// Starts it; anything but a running rack is an error.
    ///
    /// # Errors
    /// When it ended.
    pub fn run(&self) -> Outcome<Daemon> {
        match self.start(&Wrap::default())? {
            Started::Ready(daemon) => Ok(daemon),
            Started::Ended(status, log) => Err(format!("the rack ended at its start with {status}: {log}")),
        }
    }

    /// Asks the binary something about this data directory.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn ask(&self, command: &str, rest: &[&str]) -> Outcome<Output> {
        let mut asked = self.command(&self.binary, &Wrap::default());
        asked.arg(command).arg("--data-dir").arg(&self.data_dir).args(rest);
        asked.output().map_err(tried(command))
    }

    /// The journal of a rack that does not run must be whole, a torn tail included.
    ///
    /// # Errors
    /// When it is not, in the words of the binary.
    pub fn verify(&self) -> Outcome {
        let output = self.ask("journal", &["verify"])?;
        match output.status.code() {
            Some(0) => Ok(()),
            code => Err(format!("`fluxrig journal verify` ended with {code:?}: {}", said(&output))),
        }
    }

    /// What a running rack shows of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn top(&self) -> Outcome<serde_json::Value> {
        self.shown("top", &["--json"])
    }

    /// The sum of all series of a running rack whose line has each of these words.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn counted(&self, words: &[&str]) -> Outcome<u64> {
        let page = self.metrics()?;
        let lines = page.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// The page of metrics of a running rack.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn metrics(&self) -> Outcome<String> {
        let top = self.top()?;
        let address = top["metrics"].as_str().ok_or("`top` names no address of metrics")?;
        let mut stream = TcpStream::connect(address).map_err(tried("metrics"))?;
        let mut page = String::new();
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: rack\r\nconnection: close\r\n\r\n")
            .and_then(|()| stream.read_to_string(&mut page))
            .map_err(tried("metrics"))?;
        Ok(page)
    }

    /// How many dead letters of a gear a running rack has.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn letters_of(&self, gear: &str) -> Outcome<u64> {
        let list = self.shown("dlq", &["list", "--json"])?;
        let letters = list["letters"].as_array().into_iter().flatten();
        Ok(letters.filter(|letter| letter["gear"] == gear).count() as u64)
    }

    fn shown(&self, command: &str, rest: &[&str]) -> Outcome<serde_json::Value> {
        let output = self.ask(command, rest)?;
        serde_json::from_slice(&output.stdout).map_err(|error| format!("{command}: {error}: {}", said(&output)))
    }
}

/// What a command printed, on either stream.
#[must_use]
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)).trim().to_owned()
}

/// A rack that runs, or ran; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    began: Instant,
    socket: PathBuf,
    log_path: PathBuf,
    log_from: u64,
}

impl Daemon {
    /// Waits until it runs or has ended.
    ///
    /// # Errors
    /// When it does neither.
    pub fn until_ready(mut self) -> Outcome<Started> {
        let end = Instant::now() + START_MAX;
        while !self.socket.exists() {
            if let Some(status) = self.ended() {
                return Ok(Started::Ended(status, self.log()));
            }
            if Instant::now() > end {
                return Err(format!("the rack does not start: {}", self.log()));
            }
            wait::pass(Duration::from_millis(1));
        }
        Ok(Started::Ready(self))
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it stands still, by a signal.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn is_stopped(&self) -> Outcome<bool> {
        Ok(self.status_of("State:")?.starts_with('T'))
    }

    /// Its resident memory.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn memory_kib(&self) -> Outcome<u64> {
        let said = self.status_of("VmRSS:")?;
        let number = said.split_whitespace().next().and_then(|number| number.parse().ok());
        number.ok_or_else(|| format!("memory of the rack: found `{said}`, expected kibibytes"))
    }

    fn status_of(&self, key: &str) -> Outcome<String> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).map_err(tried(key))?;
        let said = status.lines().find_map(|line| line.strip_prefix(key));
        said.map(|said| said.trim().to_owned()).ok_or_else(|| format!("the system does not say {key} of the rack"))
    }

    /// How many file descriptors it has open.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn descriptors(&self) -> Outcome<u64> {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_err(tried("file descriptors"))?;
        Ok(open.count() as u64)
    }

    /// How long ago it was started.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The end of what this start logged.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log_path).unwrap_or_default();
        let own = bytes.get(usize::try_from(self.log_from).unwrap_or(0)..).unwrap_or_default();
        String::from_utf8_lossy(&own[own.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        place::signal(self.child.id(), signal);
    }

    /// SIGKILL: nothing is drained, nothing said.
    pub fn kill(self) {
        drop(self);
    }

    /// SIGTERM, and the end: it must drain and say 0.
    ///
    /// # Errors
    /// When it hangs or ends with anything else.
    pub fn terminate(mut self) -> Outcome {
        self.signal(Signal::TERM);
        if !wait::until(END_MAX, || self.ended().is_some()) {
            return Err(format!("the rack does not end: {}", self.log()));
        }
        match self.ended() {
            Some(status) if status.code() == Some(0) => Ok(()),
            status => Err(format!("the rack ended with {status:?}: {}", self.log())),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        place::gone(self.child.id());
    }
}

/// Whether a process was ended by SIGKILL.
#[must_use]
pub fn is_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}
