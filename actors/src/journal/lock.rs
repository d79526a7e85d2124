//! One process per data directory: the lock file and what its holder wrote into it.

use std::io;

use super::disk::{Disk, Lock};

/// Name of the lock file.
pub(super) const LOCK_FILE: &str = "lock";

/// Who holds a data directory; written into the lock file for whoever is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Name of the machine.
    pub host: String,
    /// Random number of this run, since process ids come back.
    pub incarnation: u64,
    /// When it started, in the caller's words: this layer reads no clock.
    pub started: String,
}

impl Holder {
    /// This process, with a fresh incarnation.
    ///
    /// # Errors
    /// When the disk has no randomness.
    pub fn this_process(disk: &dyn Disk, started: impl Into<String>) -> io::Result<Holder> {
        let mut random = [0; 8];
        disk.random(&mut random)?;
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        Ok(Holder { pid: std::process::id(), host, incarnation: u64::from_le_bytes(random), started: started.into() })
    }

    fn encode(&self) -> Vec<u8> {
        let Holder { pid, host, incarnation, started } = self;
        format!("pid={pid}\nhost={host}\nincarnation={incarnation:016x}\nstarted={started}\n").into_bytes()
    }

    // Whatever is missing or garbled stays at its default: the text only serves the person who is refused.
    fn decode(bytes: &[u8]) -> Holder {
        let mut holder = Holder::default();
        for line in String::from_utf8_lossy(bytes).lines() {
            match line.split_once('=') {
                Some(("pid", value)) => holder.pid = value.parse().unwrap_or_default(),
                Some(("host", value)) => holder.host = value.to_owned(),
                Some(("incarnation", value)) => {
                    holder.incarnation = u64::from_str_radix(value, 16).unwrap_or_default();
                }
                Some(("started", value)) => holder.started = value.to_owned(),
                _ => {}
            }
        }
        holder
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on `{}`", self.pid, self.host)?;
        if !self.started.is_empty() {
            write!(f, ", started {}", self.started)?;
        }
        write!(f, ", incarnation {:016x}", self.incarnation)
    }
}

/// The directory is ours until this is dropped.
pub(super) struct DirLock {
    _held: Box<dyn Send + Sync>,
}

/// Takes the directory's lock.
///
/// # Errors
/// `Ok(Err(holder))` when another process has it, `Err` when the system refuses.
pub(super) fn acquire(disk: &dyn Disk, holder: &Holder) -> io::Result<Result<DirLock, Holder>> {
    Ok(match disk.try_lock(LOCK_FILE, &holder.encode())? {
        Lock::Held(held) => Ok(DirLock { _held: held }),
        Lock::Taken(found) => Err(Holder::decode(&found)),
    })
}
