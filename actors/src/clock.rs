//! Time and chance as the runtime sees them: injected, so that a simulation can own both.
//! Running timers use tokio's monotonic clock; wall time and boot time come from here.

use std::cell::RefCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Where wall time, boot time and randomness come from.
pub trait World: Send + Sync + 'static {
    /// Nanoseconds since the Unix epoch, as the wall clock says now.
    fn wall_ns(&self) -> i64;
    /// Nanoseconds since this machine was booted, time asleep included.
    fn boot_ns(&self) -> u64;
    /// Which boot of the machine this is; two times of one boot can be compared by [`World::boot_ns`].
    fn boot_id(&self) -> u64;
    /// Fills `bytes` with randomness fit for keys and incarnations.
    fn random(&self, bytes: &mut [u8]);
}

/// The clock that also counts the time asleep. Elsewhere the boot is not known either, and nothing is compared by it.
#[cfg(target_os = "linux")]
const BOOT_CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const BOOT_CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

/// The machine this process runs on.
#[derive(Debug)]
pub struct Machine {
    boot_id: u64,
}

impl Machine {
    /// Reads the machine's boot id once.
    #[must_use]
    pub fn new() -> Self {
        // Absent outside Linux: then every start counts as another boot, and timers fall back to the wall clock.
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let mut boot_id = [0; 8];
        if text.trim().is_empty() {
            fill(&mut boot_id);
        } else {
            boot_id.copy_from_slice(&blake3::hash(text.trim().as_bytes()).as_bytes()[..8]);
        }
        Self { boot_id: u64::from_be_bytes(boot_id) }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl World for Machine {
    // The one place of this crate that reads the wall clock: everything else is given this value.
    #[allow(clippy::disallowed_methods)]
    fn wall_ns(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }

    fn boot_ns(&self) -> u64 {
        // Asked for at every cut, so it must not be a file to open.
        let since = rustix::time::clock_gettime(BOOT_CLOCK);
        let (seconds, ns) = (u64::try_from(since.tv_sec).unwrap_or(0), u64::try_from(since.tv_nsec).unwrap_or(0));
        seconds.saturating_mul(1_000_000_000).saturating_add(ns)
    }

    fn boot_id(&self) -> u64 {
        self.boot_id
    }

    fn random(&self, bytes: &mut [u8]) {
        fill(bytes);
    }
}

/// Randomness of one thread: a key that makes a block and is replaced by the block's head, so that a later leak of this
/// memory tells nothing of what was given out before. A system call per id would cost more than the rest of an admission.
struct Block {
    bytes: [u8; Block::BYTES],
    left: usize,
}

impl Block {
    const BYTES: usize = 2048;
    const KEY_BYTES: usize = 32;

    fn take(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(Self::BYTES - Self::KEY_BYTES) {
            if self.left < part.len() {
                self.refill();
            }
            let from = self.left;
            self.left -= part.len();
            part.copy_from_slice(&self.bytes[self.left + Self::KEY_BYTES..from + Self::KEY_BYTES]);
            self.bytes[self.left + Self::KEY_BYTES..from + Self::KEY_BYTES].fill(0);
        }
    }

    fn refill(&mut self) {
        let mut key = [0; Self::KEY_BYTES];
        if self.bytes[..Self::KEY_BYTES] == key {
            getrandom::fill(&mut key).expect("the system gives randomness");
        } else {
            key.copy_from_slice(&self.bytes[..Self::KEY_BYTES]);
        }
        blake3::Hasher::new_keyed(&key).finalize_xof().fill(&mut self.bytes);
        self.left = Self::BYTES - Self::KEY_BYTES;
    }
}

thread_local! {
    static BLOCK: RefCell<Block> = const { RefCell::new(Block { bytes: [0; Block::BYTES], left: 0 }) };
}

fn fill(bytes: &mut [u8]) {
    BLOCK.with_borrow_mut(|block| block.take(bytes));
}

/// A world whose clocks follow tokio's (paused in tests) and whose chance is a seed.
#[derive(Debug)]
pub struct SimWorld {
    origin: tokio::time::Instant,
    wall_start_ns: i64,
    boot: AtomicU64,
    jumped_ns: AtomicI64,
    chance: Mutex<u64>,
}

impl SimWorld {
    /// A world that begins at a fixed wall time; equal seeds give equal randomness.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            origin: tokio::time::Instant::now(),
            wall_start_ns: 1_750_000_000_000_000_000,
            boot: AtomicU64::new(1),
            jumped_ns: AtomicI64::new(0),
            chance: Mutex::new(seed),
        }
    }

    /// As after a reboot of the machine: boot times of before cannot be compared any more.
    pub fn reboot(&self) {
        self.boot.fetch_add(1, Ordering::Relaxed);
    }

    /// The wall clock jumps by so many nanoseconds, forwards or backwards.
    pub fn jump(&self, by_ns: i64) {
        self.jumped_ns.fetch_add(by_ns, Ordering::Relaxed);
    }
}

impl World for SimWorld {
    fn wall_ns(&self) -> i64 {
        let passed_ns = i64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(i64::MAX / 2);
        self.wall_start_ns + self.jumped_ns.load(Ordering::Relaxed) + passed_ns
    }

    fn boot_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn boot_id(&self) -> u64 {
        self.boot.load(Ordering::Relaxed)
    }

    fn random(&self, bytes: &mut [u8]) {
        let mut state = self.chance.lock().expect("nothing panics while it is held");
        for chunk in bytes.chunks_mut(8) {
            let word = splitmix(&mut state).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// One step of splitmix64: a small generator whose every seed is a good one.
pub(crate) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests;
