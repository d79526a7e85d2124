//! What the modules share: a folder of its own for each test, the binary as a child process, and what it can be asked.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// Longest wait for a fact: the machine may have other things to do.
const PATIENCE: Duration = Duration::from_secs(300);

/// A folder of its own, gone with the value.
pub(crate) struct TempDir(pub(crate) PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fluxrig-rack-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let removed = std::fs::remove_dir_all(&self.0);
        // A test that fails says why itself, and its rack may still write there.
        assert!(std::thread::panicking() || removed.is_ok(), "{removed:?}");
    }
}

pub(crate) fn fluxrig(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fluxrig"));
    command.args(arguments).env_remove("FLUXRIG_DATA_DIR").env_remove("FLUXRIG_RACK").env_remove("FLUXRIG_LOG");
    command.envs(nats_server().map(|program| ("FLUXRIG_NATS_SERVER", program)));
    command
}

/// The nats-server of the environment, or the one that `cargo xtask setup` has fetched.
pub(crate) fn nats_server() -> Option<PathBuf> {
    let named = std::env::var_os("FLUXRIG_NATS_SERVER").map(PathBuf::from);
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/nats-server/nats-server");
    named.or(Some(fetched).filter(|program| program.is_file()))
}

pub(crate) fn done(arguments: &[&str]) -> Output {
    fluxrig(arguments).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A rack that runs until it is told to end, or until the test fails.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    data_dir: PathBuf,
}

impl Daemon {
    pub(crate) fn start(scenario: &Path, data_dir: &Path) -> Self {
        Self::start_with(scenario, data_dir, &[])
    }

    pub(crate) fn start_with(scenario: &Path, data_dir: &Path, arguments: &[&str]) -> Self {
        let mut command = fluxrig(&["run", scenario.to_str().unwrap(), "--metrics", "127.0.0.1:0"]);
        Self::spawn(command.args(arguments), data_dir)
    }

    /// Starts a rack whose scenario has variables, also where one was killed before.
    pub(crate) fn start_set(scenario: &Path, data_dir: &Path, variables: &[(&str, SocketAddr)]) -> Self {
        Self::start_set_with(scenario, data_dir, variables, &[])
    }

    pub(crate) fn start_set_with(
        scenario: &Path,
        data_dir: &Path,
        variables: &[(&str, SocketAddr)],
        arguments: &[&str],
    ) -> Self {
        // What a kill left would be taken for the new one.
        drop(std::fs::remove_file(data_dir.join("control.sock")));
        let mut command = fluxrig(&["run", scenario.to_str().unwrap(), "--metrics", "127.0.0.1:0"]);
        command.envs(variables.iter().map(|(name, address)| (name, address.to_string())));
        Self::spawn(command.args(arguments), data_dir)
    }

    fn spawn(command: &mut Command, data_dir: &Path) -> Self {
        let data_dir = data_dir.to_owned();
        // A pipe that nobody reads would stop the rack once it is full.
        let log = File::create(data_dir.with_extension("log")).unwrap();
        let child = command.arg("--data-dir").arg(&data_dir).stderr(log).spawn().unwrap();
        let mut daemon = Self { child, data_dir };
        wait_until("its control socket is there", || {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("ended at the start with {status}: {}", daemon.log());
            }
            daemon.data_dir.join("control.sock").exists()
        });
        daemon
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data_dir.with_extension("log")).unwrap()
    }

    pub(crate) fn ask(&self, arguments: &[&str]) -> Output {
        let (command, rest) = arguments.split_first().unwrap();
        fluxrig(&[command, "--data-dir"]).arg(&self.data_dir).args(rest).output().unwrap()
    }

    pub(crate) fn top(&self) -> Value {
        let output = self.ask(&["top", "--json"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Asks until a fact is so.
    pub(crate) fn until(&self, fact: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let top = self.top();
            if fact(&top) {
                return top;
            }
            assert!(Instant::now() < end, "still {top}; its log: {}", self.log());
        }
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let top = self.top();
        get(top["metrics"].as_str().unwrap(), path)
    }

    pub(crate) fn signal(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// SIGKILL: nothing is drained, nothing said.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The dead letters, oldest first.
    pub(crate) fn letters(&self) -> Vec<Value> {
        let list: Value = serde_json::from_slice(&self.ask(&["dlq", "list", "--json"]).stdout).unwrap();
        list["letters"].as_array().unwrap().clone()
    }

    /// SIGTERM again and again, and the end.
    pub(crate) fn terminate_at_once(mut self) -> (Option<i32>, String) {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            self.signal();
        };
        (status.code(), self.log())
    }

    /// SIGTERM, and the end.
    pub(crate) fn terminate(self) -> (Option<i32>, String) {
        self.signal();
        self.ended()
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        (code, self.log())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Looks until a fact is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut fact: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < end, "{what}: not so after {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// Addresses that were free a moment ago, held together so that they differ.
pub(crate) fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}

pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: rack\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// What a gear has counted, from the page `/metrics`.
pub(crate) fn counted(page: &str, gear: &str, name: &str, label: &str) -> u64 {
    let head = format!("fluxrig_gear_count_total{{gear=\"{gear}\",name=\"{name}\",label=\"{label}\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&head));
    line.unwrap_or_else(|| panic!("no {head}: {page}")).parse().unwrap()
}

pub(crate) fn passed(top: &Value, wire: &str) -> u64 {
    let wires = top["wires"].as_array().unwrap();
    wires.iter().find(|found| found["name"] == wire).unwrap()["passed"].as_u64().unwrap()
}
