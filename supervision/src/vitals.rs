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
    per_second: Option<f64>,
}

impl Meter {
    /// Time after which an old rate weighs a third.
    const MEMORY: Duration = Duration::from_secs(5);

    /// Two readings closer than this say more about the readers than about the child.
    const SHORTEST: Duration = Duration::from_millis(10);

    pub(crate) fn new(at: Instant, handled: u64) -> Self {
        Self { at, handled, per_second: None }
    }

    pub(crate) fn read(&mut self, at: Instant, handled: u64) -> Option<f64> {
        let passed = at.saturating_duration_since(self.at);
        if handled < self.handled {
            // The counter began again with its owner.
            *self = Self { at, handled, ..*self };
        } else if passed >= Self::SHORTEST {
            let now = (handled - self.handled) as f64 / passed.as_secs_f64();
            let weight = 1.0 - (-passed.as_secs_f64() / Self::MEMORY.as_secs_f64()).exp();
            let rate = self.per_second.map_or(now, |before| before + weight * (now - before));
            *self = Self { at, handled, per_second: Some(rate) };
        }
        self.per_second
    }
}
