//! How long to wait before a failed child is started again.
//! Jitter comes from a seed, so that a simulation repeats itself.

use std::time::Duration;

/// Waiting times between restarts of one child.
///
/// The first restart in a row comes after `first` (zero: at once), the second after `then`, each later one after
/// `factor` times the previous, never more than `max`. A child that ran for `max` or for the intensity's window,
/// whichever is longer, begins at `first` again, and so does one whose progress counter moved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Wait before the first restart in a row.
    pub first: Duration,
    /// Wait before the second.
    pub then: Duration,
    /// No wait is longer than this.
    pub max: Duration,
    /// Growth from one wait to the next, 2 unless there is a reason.
    pub factor: f64,
    /// Fraction of a wait that chance may take away, 0 to 1: a wait of `d` is drawn evenly from `d × (1 − jitter)` to `d`.
    pub jitter: f64,
}

impl Backoff {
    /// No wait at all, as in OTP: the intensity is the only brake.
    pub const NONE: Self =
        Self { first: Duration::ZERO, then: Duration::ZERO, max: Duration::ZERO, factor: 2.0, jitter: 0.0 };

    /// Waits that double from `first` to `max`, with a fifth of jitter. With a `first` of zero the second wait is 100 ms.
    pub fn new(first: Duration, max: Duration) -> Self {
        let then = if first.is_zero() { Duration::from_millis(100) } else { first.saturating_mul(2) };
        Self { first, then: then.min(max), max, factor: 2.0, jitter: 0.2 }
    }

    /// The wait after `failures` earlier failures in a row.
    pub fn delay(&self, failures: u32, jitter: &mut Jitter) -> Duration {
        let full = match failures {
            0 => self.first,
            n => self.grown(n - 1),
        };
        let full = full.min(self.max);
        if full.is_zero() {
            return full;
        }
        full.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * jitter.next_fraction())
    }

    fn grown(&self, steps: u32) -> Duration {
        let seconds = self.then.as_secs_f64() * self.factor.max(1.0).powi(steps.min(1_000) as i32);
        Duration::try_from_secs_f64(seconds).unwrap_or(self.max)
    }
}

impl Default for Backoff {
    /// At once, then 100 ms doubling up to 30 s.
    fn default() -> Self {
        Self::new(Duration::ZERO, Duration::from_secs(30))
    }
}

/// Seeded chance (SplitMix64: one addition and two multiplications per number, every seed good).
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, from 0 up to but not including 1.
    fn next_fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // 53 bits are what a double holds exactly.
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests;
