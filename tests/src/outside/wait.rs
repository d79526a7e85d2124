//! The only place where the suite lets real time pass: a fault falls at a moment, and peers look again after a while.
//! Everything else waits for facts, each with a bound.

use std::time::Duration;

use tokio::time::Instant;

/// Between two looks at a fact that nobody tells of.
pub const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Lets time pass.
#[expect(clippy::disallowed_methods, reason = "faults fall at moments of real time on a real process")]
pub fn pass(time: Duration) {
    std::thread::sleep(time);
}

/// Looks until a fact is so; false when it is not after `at_most`.
pub fn until(at_most: Duration, mut fact: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + at_most;
    loop {
        if fact() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        pass(LOOK_EVERY);
    }
}
