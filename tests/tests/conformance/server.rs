//! A real `nats-server` for one case: a free port, a store that goes with the case, every message flushed.
//! Found on PATH, in `$FLUXRIG_NATS_SERVER`, or not at all: then the case is skipped, and says so.

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use async_nats::jetstream;
use rustix::process::{Pid, Signal, kill_process};

use crate::stage::TempDir;

/// A start that takes longer hangs.
const READY_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    program: PathBuf,
    dir: TempDir,
    child: Mutex<Child>,
    port: u16,
}

fn program() -> Option<PathBuf> {
    let named = std::env::var_os("FLUXRIG_NATS_SERVER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("nats-server"));
    named.into_iter().chain(on_path).find(|program| program.is_file())
}

impl Server {
    /// `None` where there is no such program.
    pub(crate) fn start() -> Option<Self> {
        let Some(program) = program() else {
            println!("SKIPPED: no nats-server on PATH or in FLUXRIG_NATS_SERVER; remedy: `cargo xtask setup`");
            return None;
        };
        let dir = TempDir::new();
        let child = spawn(&program, &dir, -1);
        let port = port_of(&dir, child.id());
        let server = Self { program, dir, child: Mutex::new(child), port };
        server.wait_until_ready();
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// `kill -9`, and a new start on the same port and store.
    pub(crate) fn kill_and_restart(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        *child = spawn(&self.program, &self.dir, self.port.into());
        drop(child);
        self.wait_until_ready();
    }

    pub(crate) fn set_paused(&self, is_paused: bool) {
        let pid = Pid::from_child(&self.child.lock().unwrap());
        kill_process(pid, if is_paused { Signal::STOP } else { Signal::CONT }).unwrap();
    }

    /// Changes the limit of a stream: from what it takes now to what it may take.
    pub(crate) fn limit(&self, stream: &str, max_bytes: impl FnOnce(u64) -> Option<u64> + Send) {
        let (url, stream) = (self.url(), stream.to_owned());
        aside(async move {
            let context = jetstream::new(async_nats::connect(url).await.unwrap());
            let info = context.get_stream(stream).await.unwrap().get_info().await.unwrap();
            let max_bytes = max_bytes(info.state.bytes).map_or(-1, |bytes| i64::try_from(bytes).unwrap());
            context.update_stream(jetstream::stream::Config { max_bytes, ..info.config }).await.unwrap();
        });
    }

    fn wait_until_ready(&self) {
        let url = self.url();
        aside(async move {
            let ready = async {
                loop {
                    if let Ok(client) = async_nats::connect(&url).await
                        && jetstream::new(client).query_account().await.is_ok()
                    {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(READY_MAX, ready).await.expect("the server is ready");
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap();
        drop(child.kill());
        drop(child.wait());
    }
}

fn spawn(program: &PathBuf, dir: &TempDir, port: i32) -> Child {
    let path = dir.path();
    let config = format!(
        "listen: \"127.0.0.1:{port}\"\nports_file_dir: {path:?}\njetstream {{ store_dir: {path:?}, sync_interval: always }}\n"
    );
    let config_path = path.join("nats.conf");
    fs::write(&config_path, config).unwrap();
    let log = fs::File::create(path.join("nats.log")).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(config_path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

// The server says which port the system gave it.
fn port_of(dir: &TempDir, pid: u32) -> u16 {
    let path = dir.path().join(format!("nats-server_{pid}.ports"));
    let mut found = None;
    aside(async {
        let until = tokio::time::Instant::now() + READY_MAX;
        while found.is_none() && tokio::time::Instant::now() < until {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let port = text.split("nats://127.0.0.1:").nth(1).and_then(|rest| rest.split('"').next());
            found = port.and_then(|port| port.parse().ok());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let log = || fs::read_to_string(dir.path().join("nats.log")).unwrap_or_default();
    found.unwrap_or_else(|| panic!("the server names no port: {}", log()))
}

/// Runs a future to its end, whatever runtime the caller is in.
fn aside(future: impl Future<Output = ()> + Send) {
    std::thread::scope(|scope| {
        let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
        scope.spawn(run).join().unwrap();
    });
}
