//! How many restarts a supervisor stands before it gives up: the only judgement OTP makes about health.
//! Restarts of all its children count together.

use std::collections::VecDeque;
use std::time::Duration;

use crate::strategy::ChildId;

/// At most `max_restarts` restarts `within` a time; one more and the supervisor gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// Restarts that are still accepted. Zero: the first failure is too much.
    pub max_restarts: u32,
    /// Length of the window, both ends included as in OTP.
    pub within: Duration,
}

impl Intensity {
    /// At most `max_restarts` in `within`.
    pub const fn new(max_restarts: u32, within: Duration) -> Self {
        Self { max_restarts, within }
    }
}

impl Default for Intensity {
    /// One restart in five seconds, as in OTP.
    fn default() -> Self {
        Self::new(1, Duration::from_secs(5))
    }
}

/// The restarts that still count.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    limit: Intensity,
    // Never longer than `max_restarts` + 1: the entry that exceeds it ends the supervisor.
    restarts: VecDeque<(Duration, ChildId)>,
}

impl Window {
    pub(crate) fn new(limit: Intensity) -> Self {
        Self { limit, restarts: VecDeque::new() }
    }

    /// Notes a restart of `child` at `at` and says whether it was one too many.
    pub(crate) fn exceeds(&mut self, child: ChildId, at: Duration) -> bool {
        while self.restarts.front().is_some_and(|(first, _)| first.saturating_add(self.limit.within) < at) {
            self.restarts.pop_front();
        }
        self.restarts.push_back((at, child));
        self.restarts.len() > self.limit.max_restarts as usize
    }

    /// A child got something done: its restarts up to now do not count any more.
    pub(crate) fn forgive(&mut self, child: ChildId) {
        self.restarts.retain(|(_, other)| *other != child);
    }

    pub(crate) fn clear(&mut self) {
        self.restarts.clear();
    }
}
