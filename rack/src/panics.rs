//! What a rack says of panics. Those of gears are caught, and each is said with its gear where it is restarted, so the
//! system's own report, which with a backtrace costs a millisecond of one core, is made of each place once in a while.

use std::io::Write;
use std::panic::Location;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// One report of each place in this time.
const EVERY: Duration = Duration::from_secs(10);
/// Places that are told apart; the one that was reported longest ago makes room.
const PLACES_MAX: usize = 64;

/// Where panics came from lately.
#[derive(Debug, Default)]
struct Places(Vec<Place>);

#[derive(Debug)]
struct Place {
    file: String,
    line: u32,
    column: u32,
    reported: Instant,
    left_out: u64,
}

impl Places {
    /// Whether this panic is to be reported, and how many of its place were not since the last that was.
    fn look(&mut self, file: &str, line: u32, column: u32, now: Instant) -> Option<u64> {
        let is_it = |place: &&mut Place| place.line == line && place.column == column && place.file == file;
        if let Some(place) = self.0.iter_mut().find(is_it) {
            if now.saturating_duration_since(place.reported) < EVERY {
                place.left_out += 1;
                return None;
            }
            place.reported = now;
            return Some(std::mem::take(&mut place.left_out));
        }
        if self.0.len() == PLACES_MAX
            && let Some((oldest, _)) = self.0.iter().enumerate().min_by_key(|(_, place)| place.reported)
        {
            self.0.swap_remove(oldest);
        }
        self.0.push(Place { file: file.to_owned(), line, column, reported: now, left_out: 0 });
        Some(0)
    }
}

/// Makes reports of panics rare: at most one of each place in ten seconds, which says how many it stands for. For a
/// program that runs racks and nothing else: a panic hook is the whole program's.
pub fn limit_panic_reports() {
    let places = Mutex::new(Places::default());
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let (file, line, column) =
            info.location().map_or(("", 0, 0), |at: &Location<'_>| (at.file(), at.line(), at.column()));
        let due = places.lock().unwrap_or_else(PoisonError::into_inner).look(file, line, column, Instant::now());
        let Some(left_out) = due else { return };
        report(info);
        if left_out > 0 {
            // Not by the log: that is where it may have panicked. Where nobody reads it, nothing can be done.
            drop(writeln!(
                std::io::stderr(),
                "{left_out} panics before it at {file}:{line}:{column} were not reported"
            ));
        }
    }));
}

#[cfg(test)]
mod tests;
