//! Chance from a seed: the same seed chooses the same faults. When they fall inside the rack still differs from run to
//! run, since nothing stops its threads.

use std::time::Duration;

/// A row of numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The row of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// A time up to `most`, short ones as likely as long ones of twice the length.
    pub fn time(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.zipf(micros))
    }

    /// A number from 0 to `most`: each power of two is as likely as the next.
    pub fn zipf(&mut self, most: u64) -> u64 {
        let bits = 1 + self.below(u64::from(u64::BITS - most.leading_zeros()).max(1));
        self.below(1 << bits.min(63)).min(most)
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
