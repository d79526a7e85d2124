//! Folders, ports and child processes of a run: each gone with its value, and all of them when the run is interrupted.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use rustix::process::{Pid, Signal};

use super::{Outcome, tried, wait};

static FOLDERS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// Folders of others that are passed over.
const TAKEN_MAX: u32 = 1_000;
/// How often an interrupted run is cleared.
const CLEARED: usize = 20;

static MOUNTS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
static CHILDREN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// A folder of its own, gone with the value.
#[derive(Debug)]
pub struct Place(PathBuf);

impl Place {
    /// A new, empty one among the temporary files.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new() -> Outcome<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        for _ in 0..TAKEN_MAX {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("fluxrig-faults-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                // In a namespace of processes every suite has the same number.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => {
                    made.map_err(tried("a temporary folder"))?;
                    FOLDERS.lock().expect("nothing panics while it is held").insert(path.clone());
                    return Ok(Self(path));
                }
            }
        }
        Err(format!("a temporary folder: the first {TAKEN_MAX} are taken"))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn file(&self, name: &str, text: &str) -> Outcome<PathBuf> {
        let path = self.0.join(name);
        std::fs::write(&path, text).map_err(tried(name))?;
        Ok(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        FOLDERS.lock().expect("nothing panics while it is held").remove(&self.0);
        // What cannot be removed is no fault of the rack.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Notes a child process, so that an interrupted run ends it.
pub(super) fn born(pid: u32) {
    CHILDREN.lock().expect("nothing panics while it is held").insert(pid);
}

/// A child process has been waited for.
pub(super) fn gone(pid: u32) {
    CHILDREN.lock().expect("nothing panics while it is held").remove(&pid);
}

/// Sends a signal; one that comes too late is no error.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        rustix::process::kill_process(pid, signal).unwrap_or_default();
    }
}

/// Notes that a file system is mounted here, so that an interrupted run takes it away.
pub fn mounted(at: &Path) {
    MOUNTS.lock().expect("nothing panics while it is held").insert(at.to_owned());
}

/// Takes a file system away that was mounted here.
pub fn unmount(at: &Path) {
    // What is busy or gone already goes with its namespace.
    drop(Command::new("umount").arg("-l").arg(at).stderr(Stdio::null()).status());
    MOUNTS.lock().expect("nothing panics while it is held").remove(at);
}

/// Ends and removes everything that is still there: what an interrupted run leaves.
pub fn clear() {
    let mounts = MOUNTS.lock().expect("nothing panics while it is held").clone();
    mounts.iter().for_each(|at| unmount(at));
    // Other threads go on until the process ends: what they start meanwhile goes as well.
    for _ in 0..CLEARED {
        for pid in &*CHILDREN.lock().expect("nothing panics while it is held") {
            signal(*pid, Signal::KILL);
        }
        for folder in &*FOLDERS.lock().expect("nothing panics while it is held") {
            drop(std::fs::remove_dir_all(folder));
        }
        wait::pass(wait::LOOK_EVERY);
    }
}

/// An address on which nobody listens, below the ports that the system gives to whoever connects: a peer that dials it
/// while the rack is away can never reach itself.
///
/// # Errors
/// When none is free.
pub fn address() -> Outcome<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 8_000;
    let own = (std::process::id() as u16).wrapping_mul(131);
    for _ in 0..COUNT {
        let offset = own.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + offset));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err("no free port".to_owned())
}
