//! The binary `fluxrig` in a process of its own, with a fresh data directory, as an operator runs it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::row::pause;

const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Longest that anything waited for here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The program, built beside this one.
pub(crate) fn program() -> Option<PathBuf> {
    let path = std::env::current_exe().expect("this program has a path").with_file_name("fluxrig");
    if !path.is_file() {
        eprintln!("SKIPPED: rows of the binary: `fluxrig` is not built; remedy: use `cargo xtask bench`");
        return None;
    }
    Some(path)
}

/// A running rack; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    data_dir: PathBuf,
}

/// What the relay of the payments example is told.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) program: PathBuf,
    pub(crate) scenario: PathBuf,
    pub(crate) lane: &'static str,
    pub(crate) terminals: SocketAddr,
    pub(crate) host: SocketAddr,
}

impl Relay {
    /// Starts it; whether it is ready is another question.
    pub(crate) fn start(&self, data_dir: &Path) -> Daemon {
        let log = File::create(data_dir.with_extension("log")).expect("the temporary folder is writable");
        let child = Command::new(&self.program)
            .arg("run")
            .arg(&self.scenario)
            .arg("--data-dir")
            .arg(data_dir)
            .env("LANE", self.lane)
            .env("TERMINALS", self.terminals.to_string())
            .env("HOST", self.host.to_string())
            .env_remove("FLUXRIG_RACK")
            .env("FLUXRIG_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        Daemon { child, data_dir: data_dir.to_owned() }
    }
}

impl Daemon {
    /// Waits until the control socket answers a question.
    pub(crate) fn ready(&mut self) {
        let socket = self.data_dir.join("control.sock");
        let started = Instant::now();
        while top(&socket).is_none() {
            let ended = self.child.try_wait().expect("it is our child");
            assert!(ended.is_none() && started.elapsed() < PATIENCE, "the rack starts: {}", self.log());
            pause(LOOK_EVERY);
        }
    }

    /// Resident memory, MiB.
    pub(crate) fn resident_mib(&self) -> f64 {
        resident_mib(&self.child.id().to_string())
    }

    /// Processor time that it has used, in its own code and in the kernel, seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // Behind the name, which is in brackets: state, then ten numbers, then both times in hundredths of a second.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
    }

    /// Messages on all its wires.
    pub(crate) fn waiting(&self) -> u64 {
        let top = top(&self.data_dir.join("control.sock")).unwrap_or_default();
        let wires = top["wires"].as_array().into_iter().flatten();
        wires.filter_map(|wire| wire["depth"].as_u64()).sum()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// SIGTERM, and the end.
    pub(crate) fn terminate(mut self) {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "it can be signalled");
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "the rack drains: {}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data_dir.with_extension("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a rack shows of itself, once it answers.
fn top(socket: &Path) -> Option<Value> {
    let mut stream = UnixStream::connect(socket).ok()?;
    let mut line = String::new();
    stream.write_all(b"{\"ask\":\"top\"}\n").ok()?;
    BufReader::new(stream).read_line(&mut line).ok()?;
    serde_json::from_str::<Value>(&line).ok()?.get("done").cloned()
}

/// Resident memory of a process, MiB.
pub(crate) fn resident_mib(process: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(f64::NAN);
    kib / 1024.0
}

/// An address on which nobody listens.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the system has a free port");
    listener.local_addr().expect("it is bound")
}
