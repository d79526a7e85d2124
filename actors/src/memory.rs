//! The durable state and the timers of one gear (of one partition of it): they belong to the node and outlive the gear.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use fluxrig_protocol::Value;
use smol_str::SmolStr;

use crate::journal::{GearDelta, SegmentId, TimerRecord};
use crate::wire::After;

/// One change of state or timers, as a commit makes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Put(SmolStr, Value),
    Remove(SmolStr),
    /// Fires at this monotonic time of the node, in nanoseconds.
    Timer(SmolStr, u64),
    Cancel(SmolStr),
}

#[derive(Clone, Debug)]
struct Kept {
    value: Value,
    home: SegmentId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timer {
    pub(crate) generation: u64,
    pub(crate) due_ns: u64,
    home: SegmentId,
    /// Failures so far, in this process.
    attempts: u32,
}

/// State and timers behind one gear's mutex.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    keys: BTreeMap<SmolStr, Kept>,
    timers: HashMap<SmolStr, Timer>,
    due: BTreeSet<(u64, SmolStr)>,
    /// Counts timers of this gear; never reset, so that an id of a timer never comes twice (HEART §6.3).
    generation: u64,
    changed_keys: HashSet<SmolStr>,
    changed_timers: HashSet<SmolStr>,
    /// What everything that this gear says from now on depends on.
    pub(crate) after: After,
    is_touched: bool,
    generation_home: SegmentId,
}

impl Memory {
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).map(|kept| &kept.value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&SmolStr, &Value)> {
        self.keys.iter().map(|(key, kept)| (key, &kept.value))
    }

    /// Where the generations begin: zero with a journal, random without, since nothing else would outlive the process.
    pub(crate) fn start_generations(&mut self, at: u64) {
        self.generation = self.generation.max(at);
    }

    pub(crate) fn apply(&mut self, changes: impl Iterator<Item = Change>) {
        for change in changes {
            self.is_touched = true;
            match change {
                Change::Put(key, value) => {
                    self.changed_keys.insert(key.clone());
                    self.keys.insert(key, Kept { value, home: 0 });
                }
                Change::Remove(key) => {
                    if self.keys.remove(&key).is_some() {
                        self.changed_keys.insert(key);
                    }
                }
                Change::Timer(key, due_ns) => {
                    self.generation += 1;
                    let timer = Timer { generation: self.generation, due_ns, home: 0, attempts: 0 };
                    if let Some(old) = self.timers.insert(key.clone(), timer) {
                        self.due.remove(&(old.due_ns, key.clone()));
                    }
                    self.due.insert((due_ns, key.clone()));
                    self.changed_timers.insert(key);
                }
                Change::Cancel(key) => self.drop_timer(&key),
            }
        }
    }

    fn drop_timer(&mut self, key: &SmolStr) {
        if let Some(old) = self.timers.remove(key) {
            self.due.remove(&(old.due_ns, key.clone()));
            self.changed_timers.insert(key.clone());
            self.is_touched = true;
        }
    }

    /// The timer is fired: it is gone, if it is still the one that was due.
    pub(crate) fn fire(&mut self, key: &SmolStr, generation: u64) -> bool {
        let is_current = self.timers.get(key).is_some_and(|timer| timer.generation == generation);
        if is_current {
            self.drop_timer(key);
        }
        is_current
    }

    /// Timers due at `now_ns`, earliest first, at most `max`.
    pub(crate) fn due(&self, now_ns: u64, max: usize, into: &mut Vec<(SmolStr, u64)>) {
        for (_, key) in self.due.iter().take_while(|(due_ns, _)| *due_ns <= now_ns).take(max) {
            if let Some(timer) = self.timers.get(key) {
                into.push((key.clone(), timer.generation));
            }
        }
    }

    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        self.due.first().map(|(due_ns, _)| *due_ns)
    }

    /// Lets the timer wait until `due_ns` without making it another timer (a door is closed, a failure is backing off).
    pub(crate) fn postpone(&mut self, key: &SmolStr, due_ns: u64) {
        if let Some(timer) = self.timers.get_mut(key) {
            self.due.remove(&(timer.due_ns, key.clone()));
            timer.due_ns = due_ns;
            self.due.insert((due_ns, key.clone()));
        }
    }

    /// Counts a failure of the timer.
    pub(crate) fn note_timer_failure(&mut self, key: &SmolStr) -> u32 {
        self.timers.get_mut(key).map_or(u32::MAX, |timer| {
            timer.attempts += 1;
            timer.attempts
        })
    }

    /// Notes the last value of everything changed since the last cut.
    pub(crate) fn cut(&mut self, number: u32, now_ns: u64, segment: SegmentId) -> Option<GearDelta> {
        if !std::mem::take(&mut self.is_touched) {
            return None;
        }
        let mut delta = GearDelta { number, generation: self.generation, keys: Vec::new(), timers: Vec::new() };
        self.generation_home = segment;
        for key in self.changed_keys.drain() {
            let value = self.keys.get_mut(&key).map(|kept| {
                kept.home = segment;
                kept.value.clone()
            });
            delta.keys.push((key, value));
        }
        for key in self.changed_timers.drain() {
            let record = self.timers.get_mut(&key).map(|timer| {
                timer.home = segment;
                TimerRecord { generation: timer.generation, left_ns: timer.due_ns.saturating_sub(now_ns) }
            });
            delta.timers.push((key, record));
        }
        Some(delta)
    }

    /// Says again up to `max` keys and all timers whose newest record is in `oldest` or before, from key `cursor` on.
    /// Returns the key to go on from, or `None` at the end.
    pub(crate) fn carry(&mut self, number: u32, now_ns: u64, step: &mut MemoryCarry<'_>) -> Option<SmolStr> {
        let mut delta = GearDelta { number, generation: self.generation, keys: Vec::new(), timers: Vec::new() };
        let mut next = None;
        for (looked, (key, kept)) in self.keys.range_mut(step.cursor.clone()..).enumerate() {
            if looked == step.look {
                next = Some(key.clone());
                break;
            }
            if kept.home != 0 && kept.home <= step.oldest {
                kept.home = step.segment;
                delta.keys.push((key.clone(), Some(kept.value.clone())));
            }
        }
        if next.is_none() {
            for (key, timer) in self.timers.iter_mut().filter(|(_, timer)| timer.home != 0 && timer.home <= step.oldest)
            {
                timer.home = step.segment;
                let left_ns = timer.due_ns.saturating_sub(now_ns);
                delta.timers.push((key.clone(), Some(TimerRecord { generation: timer.generation, left_ns })));
            }
        }
        let is_generation_old = self.generation_home != 0 && self.generation_home <= step.oldest;
        if is_generation_old || !delta.keys.is_empty() || !delta.timers.is_empty() {
            self.generation_home = step.segment;
            step.into.push(delta);
        }
        next
    }

    /// Keys and timers.
    pub(crate) fn len(&self) -> usize {
        self.keys.len() + self.timers.len()
    }

    /// Keys and timers whose newest record is in `oldest` or before.
    pub(crate) fn count_homed(&self, oldest: SegmentId) -> usize {
        let is_homed = |home: SegmentId| home != 0 && home <= oldest;
        let keys = self.keys.values().filter(|kept| is_homed(kept.home)).count();
        keys + self.timers.values().filter(|timer| is_homed(timer.home)).count()
    }

    /// Fills an empty memory with what was recovered. `due_ns` of each timer is already in this node's time.
    pub(crate) fn recover(
        &mut self,
        keys: Vec<(SmolStr, Value, SegmentId)>,
        timers: Vec<RecoveredTimer>,
        generation: u64,
    ) {
        self.generation = self.generation.max(generation);
        self.generation_home = 1;
        for (key, value, home) in keys {
            self.keys.insert(key, Kept { value, home });
        }
        for RecoveredTimer { key, generation, due_ns, home } in timers {
            self.due.insert((due_ns, key.clone()));
            self.timers.insert(key, Timer { generation, due_ns, home, attempts: 0 });
        }
    }
}

/// One step of a carry over one gear's memory.
pub(crate) struct MemoryCarry<'a> {
    pub(crate) cursor: SmolStr,
    pub(crate) oldest: SegmentId,
    pub(crate) segment: SegmentId,
    pub(crate) look: usize,
    pub(crate) into: &'a mut Vec<GearDelta>,
}

/// A timer as it came out of the journal.
#[derive(Debug)]
pub(crate) struct RecoveredTimer {
    pub(crate) key: SmolStr,
    pub(crate) generation: u64,
    pub(crate) due_ns: u64,
    pub(crate) home: SegmentId,
}

#[cfg(test)]
mod tests;
