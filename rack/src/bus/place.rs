//! The folder of a managed server inside the data directory: its lock, what it keeps over restarts (ports, token), its
//! configuration, and the note by which a server that was left behind is found.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluxrig_actors::clock::{Machine, World};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::BusError;
use crate::scenario::ManagedBus;

/// Name of the folder.
pub(crate) const FOLDER: &str = "bus";
/// How long a server that was left behind may take to go.
const GONE_TIME: Duration = Duration::from_secs(10);
/// How long the folder may be another's.
const LOCK_TIME: Duration = Duration::from_secs(2);
/// How long a port may be another's.
const PORT_TIME: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A folder that is ours for as long as the value lives.
#[derive(Debug)]
pub(crate) struct Place {
    dir: PathBuf,
    _lock: File,
}

/// What stays the same over restarts, so that whoever connects finds it again.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) port: u16,
    pub(crate) monitor_port: u16,
    pub(crate) token: String,
}

/// Where a server listens, and what it asks of clients.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) address: SocketAddr,
    pub(crate) monitor: SocketAddr,
    pub(crate) token: String,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("address", &self.address)
            .field("monitor", &self.monitor)
            .finish_non_exhaustive()
    }
}

impl Place {
    /// Makes the folder and locks it: two racks in one data directory would end each other's servers.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, BusError> {
        let dir = std::path::absolute(data_dir.join(FOLDER)).map_err(|source| unusable(data_dir, source))?;
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|source| unusable(&dir, source))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.join("lock"));
        let lock = lock.map_err(|source| unusable(&dir, source))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(BusError::Locked { dir: dir.display().to_string() }),
            Err(TryLockError::Error(source)) => Err(unusable(&dir, source)),
        }
    }

    /// The same with some patience: the rack before this one may still be ending, or one of its children be starting.
    pub(crate) async fn open_soon(data_dir: &Path) -> Result<Self, BusError> {
        let until = Instant::now() + LOCK_TIME;
        loop {
            match Self::open(data_dir) {
                Err(BusError::Locked { .. }) if Instant::now() < until => tokio::time::sleep(LOOK_EVERY).await,
                opened => return opened,
            }
        }
    }

    /// Where a rack that runs has its server, as it noted; `None` when none runs in this data directory.
    pub(crate) fn of_running(data_dir: &Path) -> Option<Kept> {
        let dir = data_dir.join(FOLDER);
        let lock = File::open(dir.join("lock")).ok()?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => read_kept(&dir),
            _ => None,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.join("nats-server.conf")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("nats-server.log")
    }

    /// What the program says before it has a log.
    pub(crate) fn errors(&self) -> PathBuf {
        self.dir.join("start.log")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// Where what a killed server left unfinished is kept.
    pub(crate) fn aside(&self) -> PathBuf {
        self.dir.join("aside")
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join("nats-server.pid")
    }

    /// Chooses ports and token, or takes those of the last start, and writes the configuration.
    pub(crate) async fn prepare(&self, wanted: &ManagedBus, rack: &str) -> Result<Settings, BusError> {
        let refuse = |source| unusable(&self.dir, source);
        let kept = self.kept();
        let port = match wanted.port {
            Some(port) => free(wanted.host, port.get(), "bus.port").await?,
            None => kept_or_new(wanted.host, kept.as_ref().map(|kept| kept.port)).await.map_err(refuse)?,
        };
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let monitor_port = match wanted.monitor_port {
            Some(port) => free(loopback, port.get(), "bus.monitor_port").await?,
            None => kept_or_new(loopback, kept.as_ref().map(|kept| kept.monitor_port)).await.map_err(refuse)?,
        };
        let given = wanted.token.as_ref().map(|token| token.expose().to_owned());
        let token = given.or(kept.map(|kept| kept.token)).unwrap_or_else(new_token);
        let kept = Kept { port, monitor_port, token: token.clone() };
        let text = serde_json::to_string(&kept).expect("numbers and a text are JSON");
        self.write(&self.dir.join("kept.json"), &text).map_err(refuse)?;
        let settings = Settings {
            address: SocketAddr::new(wanted.host, port),
            monitor: SocketAddr::new(loopback, monitor_port),
            token,
        };
        self.write(&self.config(), &self.config_text(&settings, rack)).map_err(refuse)?;
        Ok(settings)
    }

    fn kept(&self) -> Option<Kept> {
        read_kept(&self.dir)
    }

    fn config_text(&self, settings: &Settings, rack: &str) -> String {
        let path = |path: PathBuf| quoted(&path.to_string_lossy());
        format!(
            "# Written by fluxrig at each start.\n\
             server_name: {}\n\
             listen: {}\n\
             http: {}\n\
             authorization {{ token: {} }}\n\
             jetstream {{ store_dir: {}, sync_interval: always }}\n\
             log_file: {}\n\
             logfile_size_limit: 16MB\n\
             logfile_max_num: 2\n",
            quoted(rack),
            quoted(&settings.address.to_string()),
            quoted(&settings.monitor.to_string()),
            quoted(&settings.token),
            path(self.store()),
            path(self.log()),
        )
    }

    /// Whole or not at all, for its owner only: a token stands in it.
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let unfinished = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)
    }

    /// Notes which process it is.
    pub(crate) fn note_pid(&self, pid: u32) {
        // Without the note a server that is left is found by its port.
        drop(self.write(&self.pid_file(), &pid.to_string()));
    }

    /// It has ended.
    pub(crate) fn forget_pid(&self) {
        drop(std::fs::remove_file(self.pid_file()));
    }

    /// Ends a server of this folder that a rack before us left: the kernel ends it with its rack, but not everywhere.
    pub(crate) async fn end_leftover(&self) -> Result<(), BusError> {
        let Some(number) = self.left() else {
            self.forget_pid();
            return Ok(());
        };
        tracing::warn!(pid = number, "bus: found a nats-server that the rack before this one left; it is ended");
        if let Some(pid) = Pid::from_raw(number) {
            // It may end by itself meanwhile.
            kill_process(pid, Signal::KILL).unwrap_or_default();
        }
        let gone = async {
            while self.left().is_some() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let is_gone = tokio::time::timeout(GONE_TIME, gone).await.is_ok();
        if !is_gone {
            return Err(BusError::Leftover { pid: number });
        }
        self.forget_pid();
        Ok(())
    }

    /// The process of the note, if it runs and is a server with our configuration.
    fn left(&self) -> Option<i32> {
        let pid: i32 = std::fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let config = self.config();
        let is_ours = line.split(|byte| *byte == 0).any(|word| word == config.as_os_str().as_encoded_bytes());
        is_ours.then_some(pid)
    }

    /// The last thing that it said for a person to read.
    pub(crate) fn last_words(&self) -> String {
        const TAIL_BYTES: usize = 64 << 10;
        let read = |path: &Path| {
            let bytes = std::fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]).into_owned()
        };
        let (log, errors) = (read(&self.log()), read(&self.errors()));
        let is_bad = |line: &&str| line.contains("[FTL]") || line.contains("[ERR]");
        let word = errors.lines().rev().find(|line| !line.trim().is_empty()).or(log.lines().rev().find(is_bad));
        word.unwrap_or("nothing").chars().take(300).collect()
    }
}

fn read_kept(dir: &Path) -> Option<Kept> {
    serde_json::from_slice(&std::fs::read(dir.join("kept.json")).ok()?).ok()
}

/// A text of the server's configuration. In quotes `$NAME` is no variable.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn new_token() -> String {
    let mut bytes = [0; 24];
    Machine::new().random(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A port that somebody gave: nobody may have it.
async fn free(host: IpAddr, port: u16, key: &'static str) -> Result<u16, BusError> {
    let refuse = |source| BusError::Port { key, address: SocketAddr::new(host, port), source };
    bound_soon(host, port).await.map(|()| port).map_err(refuse)
}

/// The port of the last start, unless somebody else has it by now.
async fn kept_or_new(host: IpAddr, kept: Option<u16>) -> io::Result<u16> {
    if let Some(port) = kept {
        match bound_soon(host, port).await {
            Ok(()) => return Ok(port),
            Err(error) => {
                tracing::warn!(port, %error, "bus: the port of the last start is not to be had; another one is taken");
            }
        }
    }
    Ok(TcpListener::bind((host, 0))?.local_addr()?.port())
}

/// Whether a port can be had, with some patience: a server that was killed a moment ago may still be going.
async fn bound_soon(host: IpAddr, port: u16) -> io::Result<()> {
    let until = Instant::now() + PORT_TIME;
    loop {
        match TcpListener::bind((host, port)) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn unusable(dir: &Path, source: io::Error) -> BusError {
    BusError::Place { dir: dir.display().to_string(), source }
}

#[cfg(test)]
mod tests;
