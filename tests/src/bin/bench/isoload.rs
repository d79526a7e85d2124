//! `isoload`, a load client and host for any ISO 8583 switch, which is no part of the repository: found, built, run.
//! Its folder is `$FLUXRIG_BENCH/isoload`, or `shared/bench/isoload` beside or above the repository.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use fluxrig_gears::iso8583::Spec;
use tokio::time::Instant;

use super::daemon::free_address;
use super::message::Purchase;
use super::row::pause;

/// Longest that the host's count, or an answer, may take.
const PATIENCE: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(2);
/// Requests of our own so far.
static ASKED: AtomicU64 = AtomicU64::new(1);

/// The folder of the peers.
pub(crate) fn folder() -> Option<PathBuf> {
    let told = std::env::var_os("FLUXRIG_BENCH").map(PathBuf::from);
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("shared/bench"));
    told.into_iter().chain(above).find(|folder| folder.join("isoload/Cargo.toml").is_file())
}

/// Where builds of others go: in the target folder.
pub(crate) fn target() -> PathBuf {
    std::env::current_exe().expect("this program has a path").with_file_name("peers")
}

/// The built program.
#[derive(Clone)]
pub(crate) struct Isoload(PathBuf);

/// What one run of terminals came to. Times are in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    pub(crate) sent: u64,
    pub(crate) per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Answers that are no approval.
    pub(crate) bad: u64,
    /// Answers to another's request, or second ones.
    pub(crate) crossed: u64,
    /// Requests without an answer.
    pub(crate) lost: u64,
}

impl Isoload {
    /// Builds it where it is found; says so where it is not.
    pub(crate) fn build() -> Option<Self> {
        let Some(folder) = folder() else {
            eprintln!("SKIPPED: rows of the switch: no `isoload`; remedy: set FLUXRIG_BENCH to the folder that has it");
            return None;
        };
        // Cargo would write a lock file beside the manifest, and that folder is not ours.
        let copy = target().join("isoload-source");
        mirror(&folder.join("isoload"), &copy);
        let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--release", "--quiet", "--manifest-path"])
            .arg(copy.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(target().join("isoload"))
            .status();
        if !built.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: rows of the switch: `isoload` could not be built");
            return None;
        }
        Some(Self(target().join("isoload/release/isoload")))
    }

    pub(crate) fn program(&self) -> &Path {
        &self.0
    }

    pub(crate) fn host(&self) -> Host {
        let address = free_address();
        let mut child = Command::new(&self.0)
            .args(["host", &address.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the host starts");
        let lines = BufReader::new(child.stdout.take().expect("its output is a pipe")).lines();
        let (counts, counted) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let count = line.strip_prefix("answered=").and_then(|count| count.parse().ok());
                if counts.send(count.unwrap_or(0)).is_err() {
                    return;
                }
            }
        });
        until_listening(address);
        Host { address, process: Process(child), counted }
    }

    /// Copies bytes to `target`: what no switch can beat.
    pub(crate) fn proxy(&self, target: SocketAddr) -> (SocketAddr, Process) {
        let address = free_address();
        let arguments = ["proxy", &address.to_string(), &target.to_string()];
        let child = Command::new(&self.0).args(arguments).spawn().expect("the proxy starts");
        until_listening(address);
        (address, Process(child))
    }

    /// Terminals, as `load` and `rate` of the program say.
    pub(crate) fn run(&self, arguments: &[String]) -> Load {
        let output = self.command(arguments).output().expect("the terminals start");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "the terminals end well: {}", String::from_utf8_lossy(&output.stderr));
        let figure = |name: &str| {
            let value = text.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("`{name}` is in `{text}`"))
        };
        Load {
            sent: figure("sent") as u64,
            per_second: figure("tps"),
            p50: figure("p50_us"),
            p99: figure("p99_us"),
            bad: figure("bad") as u64,
            crossed: figure("crossed") as u64,
            lost: figure("lost") as u64,
        }
    }

    /// Terminals that go on beside us.
    pub(crate) fn beside(&self, arguments: &[String]) -> Process {
        let mut command = self.command(arguments);
        Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the terminals start"))
    }

    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.0);
        command.args(arguments);
        command
    }
}

/// A host that approves everything, and what it says it has answered.
pub(crate) struct Host {
    pub(crate) address: SocketAddr,
    #[expect(dead_code, reason = "it lives as long as this")]
    process: Process,
    counted: Receiver<u64>,
}

impl Host {
    /// What it has answered in all, told when connections close: the last word, or earlier when it is `expected`.
    pub(crate) fn answered(&self, expected: u64) -> u64 {
        let mut last = 0;
        while last != expected
            && let Ok(count) = self.counted.recv_timeout(ANSWER)
        {
            last = count;
        }
        last
    }
}

/// A child, killed when dropped.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Sends requests of our own until one is approved. Gives when that was.
pub(crate) fn until_approved(address: SocketAddr) -> Instant {
    let (purchase, started) = (Purchase::new(), Instant::now());
    let spec = Spec::built_in("iso8583-1987-ascii").expect("it is built in");
    loop {
        // A switch remembers what it has answered, so no request is asked twice.
        let request = purchase.numbered(ASKED.fetch_add(1, Ordering::Relaxed));
        if approved(address, &spec, &request).is_some_and(|is_approved| is_approved) {
            return Instant::now();
        }
        assert!(started.elapsed() < PATIENCE, "the switch answers");
        pause(Duration::from_millis(1));
    }
}

/// One request over a connection of its own. `None` when there was no answer.
fn approved(address: SocketAddr, spec: &Spec, request: &[u8]) -> Option<bool> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(ANSWER)).ok()?;
    let length = u16::try_from(request.len()).expect("it is short").to_be_bytes();
    stream.write_all(&[&length, request].concat()).ok()?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).ok()?;
    let answer = spec.decode(&answer).ok()?;
    let code = answer.fields.iter().find(|(number, _)| *number == "39").and_then(|(_, code)| code.as_text());
    Some(answer.mti == "0210" && code == Some("00"))
}

fn until_listening(address: SocketAddr) {
    let started = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(started.elapsed() < PATIENCE, "a program listens");
        pause(Duration::from_millis(1));
    }
}

/// Copies what differs, so that what is built of it is built once.
fn mirror(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the target folder is writable");
    for entry in std::fs::read_dir(from).expect("it was found").flatten() {
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            mirror(&path, &copy);
        } else {
            let bytes = std::fs::read(&path).expect("it can be read");
            if std::fs::read(&copy).ok().as_ref() != Some(&bytes) {
                std::fs::write(&copy, bytes).expect("the target folder is writable");
            }
        }
    }
}
