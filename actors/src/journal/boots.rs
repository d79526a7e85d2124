//! The boots of the machine that a journal tells of: how much time passed between one of its cuts and now.
//! Within a boot its own clock says so, and the wall clock only from one boot to the next, whatever was done to it within.

use super::record::Clock;

/// First and last cut of each boot, in the order of the boots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Boots(Vec<Boot>);

#[derive(Clone, Copy, Debug)]
struct Boot {
    first: Clock,
    last: Clock,
}

impl Boots {
    /// A cut was made then. One that is told again, as that of a merged group may be, changes nothing.
    pub(crate) fn note(&mut self, clock: Clock) {
        match self.0.iter_mut().rev().find(|boot| boot.last.boot_id == clock.boot_id) {
            Some(boot) if boot.last.boot_ns < clock.boot_ns => boot.last = clock,
            Some(_) => {}
            None => self.0.push(Boot { first: clock, last: clock }),
        }
    }

    /// Nanoseconds from this cut until now.
    pub(crate) fn passed_ns(&self, noted: &Clock, now: &Clock) -> u64 {
        let mut from = *noted;
        let mut passed_ns: u64 = 0;
        if from.boot_id != now.boot_id {
            let later = self.0.iter().skip_while(|boot| boot.last.boot_id != noted.boot_id);
            for (idx, boot) in later.take_while(|boot| boot.last.boot_id != now.boot_id).enumerate() {
                if idx > 0 {
                    passed_ns = passed_ns.saturating_add(between_ns(&from, &boot.first));
                    from = boot.first;
                }
                passed_ns = passed_ns.saturating_add(between_ns(&from, &boot.last));
                from = boot.last;
            }
            if let Some(present) = self.0.iter().find(|boot| boot.last.boot_id == now.boot_id) {
                passed_ns = passed_ns.saturating_add(between_ns(&from, &present.first));
                from = present.first;
            }
        }
        passed_ns.saturating_add(between_ns(&from, now))
    }
}

/// By the boot clock within one boot, by the wall clock across boots (HEART §8). A clock that was set back counts for nothing.
fn between_ns(from: &Clock, to: &Clock) -> u64 {
    if from.boot_id == to.boot_id {
        to.boot_ns.saturating_sub(from.boot_ns)
    } else {
        u64::try_from(to.wall_ns.saturating_sub(from.wall_ns)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
