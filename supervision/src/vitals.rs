//! What a child tells about its work without being asked to stop: counters that its supervisor reads from outside.
//! They stay readable while the child is stuck, which is when they are needed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Reads a child's vitals. It runs in the supervisor, so it only loads counters: no lock that the child holds while it
/// works, no waiting.
pub type VitalsFn = Arc<dyn Fn() -> Vitals + Send + Sync>;

/// A child's work, at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Messages waiting.
    pub depth: u64,
    /// Messages handled, ever growing.
    pub handled: u64,
    /// Age of the oldest waiting message in milliseconds.
    pub oldest_ms: Option<u64>,
    /// How long the current message has been handled, in milliseconds; nothing when idle.
    pub busy_ms: Option<u64>,
}

/// Messages per second from a growing counter, smoothed over a few seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    at: Instant,
    handled: u64,
    per_second: f64,
    /// Weight of all readings so far, up to 1: the first one, however short, is not the whole truth.
    weight: f64,
}

impl Meter {
    /// Time after which an old rate weighs a third.
    const MEMORY: Duration = Duration::from_secs(5);

    /// Two readings closer than this say more about the readers than about the child.
    const SHORTEST: Duration = Duration::from_millis(100);

    pub(crate) fn new(at: Instant, handled: u64) -> Self {
        Self { at, handled, per_second: 0.0, weight: 0.0 }
    }

    pub(crate) fn read(&mut self, at: Instant, handled: u64) -> Option<f64> {
        let passed = at.saturating_duration_since(self.at);
        if handled < self.handled {
            // The counter began again with its owner.
            *self = Self { at, handled, ..*self };
        } else if passed >= Self::SHORTEST {
            let now = (handled - self.handled) as f64 / passed.as_secs_f64();
            let weight = 1.0 - (-passed.as_secs_f64() / Self::MEMORY.as_secs_f64()).exp();
            let per_second = self.per_second + weight * (now - self.per_second);
            *self = Self { at, handled, per_second, weight: self.weight + weight * (1.0 - self.weight) };
        }
        (self.weight > 0.0).then(|| self.per_second / self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred a second in bursts of ten: what a meter says at the end when it is read that often.
    fn read_every(poll_ms: u64, end_ms: u64) -> Vec<f64> {
        let start = Instant::now();
        let mut meter = Meter::new(start, 0);
        let polls = (poll_ms..=end_ms).step_by(usize::try_from(poll_ms).unwrap());
        polls.filter_map(|ms| meter.read(start + Duration::from_millis(ms), ms / 100 * 10)).collect()
    }

    #[test]
    fn who_asks_often_sees_the_same_rate() {
        for poll_ms in [1, 7, 50, 110, 250, 1000] {
            let rates = read_every(poll_ms, 20_000);
            let last = rates.last().copied().unwrap();
            assert!((90.0..110.0).contains(&last), "every {poll_ms} ms: {last}");
        }
        // Nothing is said of a time in which there was nothing to be seen.
        assert_eq!(read_every(10, 90), Vec::<f64>::new());
    }

    #[test]
    fn a_short_first_reading_is_soon_outweighed() {
        let start = Instant::now();
        let mut meter = Meter::new(start, 0);
        assert_eq!(meter.read(start + Duration::from_millis(100), 100).map(f64::round), Some(1000.0));
        let later = meter.read(start + Duration::from_millis(1100), 100).unwrap();
        assert!(later < 120.0, "a hundred in 1.1 s: {later}");
    }
}
