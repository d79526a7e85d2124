//! Time and chance as the runtime sees them: injected, so that a simulation can own both.
//! Running timers use tokio's monotonic clock; wall time, which does not jump, and boot time come from here.

use std::any::Any;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Where wall time, boot time and randomness come from.
pub trait World: Send + Sync + 'static {
    /// Nanoseconds since the Unix epoch. Deadlines of messages are compared with it, so it should not jump.
    fn wall_ns(&self) -> i64;
    /// Nanoseconds since the Unix epoch as the machine's clock stands, jumps and all: what two boots are compared by.
    fn machine_wall_ns(&self) -> i64 {
        self.wall_ns()
    }
    /// Nanoseconds since this machine was booted, time asleep included.
    fn boot_ns(&self) -> u64;
    /// Which boot of the machine this is; two times of one boot can be compared by [`World::boot_ns`].
    fn boot_id(&self) -> u64;
    /// Fills `bytes` with randomness fit for keys and incarnations.
    fn random(&self, bytes: &mut [u8]);

    /// What endpoints meet in place of this machine's own sockets and files, for those that know its type. Default:
    /// nothing, and they use the machine's.
    fn outside(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
}

/// The clock that also counts the time asleep. Elsewhere the boot is not known either, and nothing is compared by it.
#[cfg(target_os = "linux")]
const BOOT_CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const BOOT_CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

/// The machine this process runs on. Its wall time begins as the machine's clock stands, goes on with the boot clock and
/// follows the machine's clock by at most one part in a hundred: nothing expires since somebody has set the clock. Only
/// a machine that began without knowing the time is followed at once.
#[derive(Debug)]
pub struct Machine {
    boot_id: u64,
    steady: SteadyWall,
}

impl Machine {
    /// Reads the machine's boot id and its wall clock.
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
        let steady = SteadyWall::new(boot_clock_ns(), machine_wall_ns());
        Self { boot_id: u64::from_be_bytes(boot_id), steady }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl World for Machine {
    fn wall_ns(&self) -> i64 {
        self.steady.wall_ns(boot_clock_ns(), machine_wall_ns)
    }

    fn machine_wall_ns(&self) -> i64 {
        machine_wall_ns()
    }

    fn boot_ns(&self) -> u64 {
        boot_clock_ns()
    }

    fn boot_id(&self) -> u64 {
        self.boot_id
    }

    fn random(&self, bytes: &mut [u8]) {
        fill(bytes);
    }
}

// The one place of this crate that reads the wall clock: everything else is given this value.
#[allow(clippy::disallowed_methods)]
fn machine_wall_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn boot_clock_ns() -> u64 {
    // Asked for at every cut and in every batch, so it must not be a file to open.
    let since = rustix::time::clock_gettime(BOOT_CLOCK);
    let (seconds, ns) = (u64::try_from(since.tv_sec).unwrap_or(0), u64::try_from(since.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(ns)
}

/// Wall time that never jumps: the boot clock plus an offset, which goes after the machine's wall clock slowly.
#[derive(Debug)]
struct SteadyWall {
    /// Wall time less boot time.
    offset_ns: AtomicI64,
    /// Boot time of the last look at the machine's wall clock.
    looked_ns: AtomicU64,
    /// Whether it was said that the machine's clock is far away.
    is_far: AtomicBool,
}

impl SteadyWall {
    /// Between two looks at the machine's clock. A hundredth of it is the most by which two times come out of order.
    const LOOK_EVERY_NS: u64 = 1_000_000;
    /// The offset moves by at most one of so many nanoseconds that pass, as that of Erlang does, so a deadline is wrong
    /// by a hundredth at most.
    const SLEW: u64 = 100;
    /// From here on somebody has set the clock, and is told what that means.
    const FAR_NS: i64 = 10_000_000_000;
    /// 2020-01-01: a clock before it has not been set since the machine had power.
    const KNOWN_NS: i64 = 1_577_836_800_000_000_000;

    fn new(boot_ns: u64, machine_ns: i64) -> Self {
        Self {
            offset_ns: AtomicI64::new(machine_ns.saturating_sub_unsigned(boot_ns)),
            looked_ns: AtomicU64::new(boot_ns),
            is_far: AtomicBool::new(false),
        }
    }

    fn wall_ns(&self, boot_ns: u64, machine_ns: impl FnOnce() -> i64) -> i64 {
        let looked_ns = self.looked_ns.load(Ordering::Relaxed);
        let passed_ns = boot_ns.saturating_sub(looked_ns);
        let is_due = passed_ns >= Self::LOOK_EVERY_NS;
        // One of those who see it at the same time looks.
        let swap = |to| self.looked_ns.compare_exchange(looked_ns, to, Ordering::Relaxed, Ordering::Relaxed);
        if is_due && swap(boot_ns).is_ok() {
            self.follow(passed_ns, machine_ns().saturating_sub_unsigned(boot_ns));
        }
        self.offset_ns.load(Ordering::Relaxed).saturating_add_unsigned(boot_ns)
    }

    /// Goes towards the machine's offset, as far as the time that has passed allows.
    fn follow(&self, passed_ns: u64, machine_ns: i64) {
        let (boot_ns, offset_ns) = (self.looked_ns.load(Ordering::Relaxed), self.offset_ns.load(Ordering::Relaxed));
        let away_ns = machine_ns.saturating_sub(offset_ns);
        let is_known = |offset_ns: i64| offset_ns.saturating_add_unsigned(boot_ns) >= Self::KNOWN_NS;
        if !is_known(offset_ns) && is_known(machine_ns) {
            self.offset_ns.store(machine_ns, Ordering::Relaxed);
            return tracing::info!(
                "the machine's clock was set for the first time: times of this process follow at once"
            );
        }
        let most_ns = i64::try_from(passed_ns / Self::SLEW).unwrap_or(i64::MAX);
        self.offset_ns.fetch_add(away_ns.clamp(-most_ns, most_ns), Ordering::Relaxed);
        let is_far = away_ns.saturating_abs() >= Self::FAR_NS;
        if self.is_far.swap(is_far, Ordering::Relaxed) != is_far && is_far {
            let seconds = away_ns / 1_000_000_000;
            tracing::warn!(
                seconds,
                "the machine's clock was set: times of this process follow by 1 %, timers do not move; remedy: restart to follow at once"
            );
        }
    }
}

/// A time as people write it: RFC 3339 in UTC, to the millisecond, from nanoseconds since 1970 (Howard Hinnant's
/// `civil_from_days`).
#[must_use]
pub fn utc(ns: i64) -> String {
    const NS_PER_S: i64 = 1_000_000_000;
    let (seconds, millis) = (ns.div_euclid(NS_PER_S), ns.rem_euclid(NS_PER_S) / 1_000_000);
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
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
