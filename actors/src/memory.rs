//! The durable state and the timers of one gear (of one partition of it): they belong to the node and outlive the gear.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};

use fluxrig_protocol::Value;
use siphasher::sip::SipHasher13;
use smol_str::SmolStr;

use crate::journal::{GearDelta, SegmentId, TimerRecord};
use crate::wire::After;

/// Key of the timer that is a gear's clock: it never fires, what is left of it tells the time.
pub(crate) const CLOCK: &str = "fluxrig.clock";

/// One change of state or timers, as a commit makes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Put(SmolStr, Value),
    Remove(SmolStr),
    /// Fires at this monotonic time of the node, in nanoseconds.
    Timer(SmolStr, u64),
    Cancel(SmolStr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timer {
    pub(crate) generation: u64,
    pub(crate) due_ns: u64,
    home: SegmentId,
    /// Failures so far, in this process.
    attempts: u32,
}

/// All that is known under one key. It stays where it is until it is empty and the journal has been told.
#[derive(Debug)]
struct Slot {
    key: SmolStr,
    value: Option<Value>,
    timer: Option<Timer>,
    /// Segment of the value's newest record.
    home: SegmentId,
    /// Whether the journal says that there is a value, or a timer: only then its end has to be told.
    is_value_told: bool,
    is_timer_told: bool,
    /// What changed since the last cut. One of both is set exactly while the slot is in `changed`.
    is_value_new: bool,
    is_timer_new: bool,
}

impl Slot {
    fn new(key: SmolStr) -> Self {
        Self {
            key,
            value: None,
            timer: None,
            home: 0,
            is_value_told: false,
            is_timer_told: false,
            is_value_new: false,
            is_timer_new: false,
        }
    }

    fn is_spent(&self) -> bool {
        self.value.is_none() && self.timer.is_none() && !self.is_value_new && !self.is_timer_new
    }
}

/// Hashes names in one go; the standard hasher takes a text in two parts, which costs twice as much. Its keys are random,
/// since names may come from outside.
#[derive(Clone, Debug)]
struct NameHash(SipHasher13);

struct NameHasher {
    sip: SipHasher13,
    hash: u64,
}

impl Default for NameHash {
    fn default() -> Self {
        let chance = RandomState::new();
        Self(SipHasher13::new_with_keys(chance.hash_one(0_u8), chance.hash_one(1_u8)))
    }
}

impl BuildHasher for NameHash {
    type Hasher = NameHasher;

    fn build_hasher(&self) -> NameHasher {
        NameHasher { sip: self.0, hash: 0 }
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.hash = self.sip.hash(bytes);
    }

    /// The end of a text, which tells nothing where one text is all there is.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.hash
    }
}

/// State and timers behind one gear's mutex. A key is looked up once for all that a message does under it.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    index: HashMap<SmolStr, usize, NameHash>,
    /// The slot that was found last: what is stored under a key is nearly always armed under it as well.
    last: usize,
    /// Slots by the time and generation of their timers.
    due: BTreeMap<(u64, u64), usize>,
    /// Counts timers of this gear; never reset, so that an id of a timer never comes twice (HEART §6.3).
    generation: u64,
    changed: Vec<usize>,
    /// What everything that this gear says from now on depends on.
    pub(crate) after: After,
    is_touched: bool,
    generation_home: SegmentId,
}

impl Memory {
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.slot(self.find(key)?)?.value.as_ref()
    }

    /// All keys with a value, in their order: the same whatever happened before.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&SmolStr, &Value)> {
        let valued = self.slots.iter().flatten().filter_map(|slot| Some((&slot.key, slot.value.as_ref()?)));
        let mut valued: Vec<_> = valued.collect();
        valued.sort_unstable_by_key(|(key, _)| *key);
        valued.into_iter()
    }

    /// Where the generations begin: zero with a journal, random without, since nothing else would outlive the process.
    pub(crate) fn start_generations(&mut self, at: u64) {
        self.generation = self.generation.max(at);
    }

    /// Applies what a commit changes. `is_told` says whether a cut will ask what changed; where no journal does,
    /// noting it would be a list that only grows.
    pub(crate) fn apply(&mut self, changes: impl Iterator<Item = Change>, is_told: bool) {
        for change in changes {
            self.is_touched = true;
            match change {
                Change::Put(key, value) => {
                    let idx = self.find_or_make(key);
                    self.slot_mut(idx).home = 0;
                    self.slot_mut(idx).value = Some(value);
                    self.note_value(idx, is_told);
                }
                Change::Remove(key) => {
                    if let Some(idx) = self.find_again(&key)
                        && self.slot_mut(idx).value.take().is_some()
                    {
                        self.note_value(idx, is_told);
                    }
                }
                Change::Timer(key, due_ns) => {
                    self.generation += 1;
                    let generation = self.generation;
                    let is_clock = key == CLOCK;
                    let idx = self.find_or_make(key);
                    let timer = Timer { generation, due_ns, home: 0, attempts: 0 };
                    if let Some(old) = self.slot_mut(idx).timer.replace(timer) {
                        self.due.remove(&(old.due_ns, old.generation));
                    }
                    if !is_clock {
                        self.due.insert((due_ns, generation), idx);
                    }
                    self.note_timer(idx, is_told);
                }
                Change::Cancel(key) => {
                    if let Some(idx) = self.find_again(&key) {
                        self.drop_timer(idx, is_told);
                    }
                }
            }
        }
    }

    fn drop_timer(&mut self, idx: usize, is_told: bool) {
        if let Some(old) = self.slot_mut(idx).timer.take() {
            self.due.remove(&(old.due_ns, old.generation));
            self.is_touched = true;
            self.note_timer(idx, is_told);
        }
    }

    fn find(&self, key: &str) -> Option<usize> {
        if self.slot(self.last).is_some_and(|slot| slot.key == key) {
            return Some(self.last);
        }
        self.index.get(key).copied()
    }

    fn find_again(&mut self, key: &str) -> Option<usize> {
        let idx = self.find(key)?;
        self.last = idx;
        Some(idx)
    }

    fn find_or_make(&mut self, key: SmolStr) -> usize {
        if self.slot(self.last).is_some_and(|slot| slot.key == key) {
            return self.last;
        }
        self.last = match self.index.entry(key) {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(vacant) => {
                let slot = Slot::new(vacant.key().clone());
                let idx = match self.free.pop() {
                    Some(idx) => idx,
                    None => {
                        self.slots.push(None);
                        self.slots.len() - 1
                    }
                };
                self.slots[idx] = Some(slot);
                *vacant.insert(idx)
            }
        };
        self.last
    }

    fn slot(&self, idx: usize) -> Option<&Slot> {
        self.slots.get(idx)?.as_ref()
    }

    fn slot_mut(&mut self, idx: usize) -> &mut Slot {
        self.slots[idx].as_mut().expect("a slot that was found is there")
    }

    fn note_value(&mut self, idx: usize, is_told: bool) {
        let slot = self.slot_mut(idx);
        let is_listed = slot.is_value_new || slot.is_timer_new;
        slot.is_value_new |= is_told;
        self.list(idx, is_listed, is_told);
    }

    fn note_timer(&mut self, idx: usize, is_told: bool) {
        let slot = self.slot_mut(idx);
        let is_listed = slot.is_value_new || slot.is_timer_new;
        slot.is_timer_new |= is_told;
        self.list(idx, is_listed, is_told);
    }

    fn list(&mut self, idx: usize, is_listed: bool, is_told: bool) {
        if !is_told {
            self.free_if_spent(idx);
        } else if !is_listed {
            self.changed.push(idx);
        }
    }

    fn free_if_spent(&mut self, idx: usize) {
        if let Some(slot) = self.slots[idx].take_if(|slot| slot.is_spent()) {
            self.index.remove(&slot.key);
            self.free.push(idx);
        }
    }

    /// The timer is fired: it is gone, if it is still the one that was due.
    pub(crate) fn fire(&mut self, key: &SmolStr, generation: u64, is_told: bool) -> bool {
        let Some(idx) = self.find(key) else { return false };
        let is_current = self.slot_mut(idx).timer.is_some_and(|timer| timer.generation == generation);
        if is_current {
            self.drop_timer(idx, is_told);
        }
        is_current
    }

    /// Timers due at `now_ns`, earliest first and of one time in the order in which they were set, at most `max`.
    pub(crate) fn due(&self, now_ns: u64, max: usize, into: &mut Vec<(SmolStr, u64)>) {
        let due = self.due.range(..=(now_ns, u64::MAX)).take(max);
        into.extend(due.filter_map(|((_, generation), &idx)| Some((self.slot(idx)?.key.clone(), *generation))));
    }

    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        self.due.first_key_value().map(|((due_ns, _), _)| *due_ns)
    }

    /// When the gear's clock would fire, if it has one.
    pub(crate) fn clock_end_ns(&self) -> Option<u64> {
        Some(self.slot(self.find(CLOCK)?)?.timer?.due_ns)
    }

    /// Timers that run.
    pub(crate) fn timers(&self) -> usize {
        self.due.len()
    }

    /// Lets the timer wait until `due_ns` without making it another timer (a door is closed, a failure is backing off).
    pub(crate) fn postpone(&mut self, key: &SmolStr, due_ns: u64) {
        let Some(idx) = self.find(key) else { return };
        let Some(timer) = &mut self.slot_mut(idx).timer else { return };
        let (was_ns, generation) = (std::mem::replace(&mut timer.due_ns, due_ns), timer.generation);
        self.due.remove(&(was_ns, generation));
        self.due.insert((due_ns, generation), idx);
    }

    /// Counts a failure of the timer.
    pub(crate) fn note_timer_failure(&mut self, key: &SmolStr) -> u32 {
        let Some(idx) = self.find(key) else { return u32::MAX };
        self.slot_mut(idx).timer.as_mut().map_or(u32::MAX, |timer| {
            timer.attempts += 1;
            timer.attempts
        })
    }

    /// Notes the last value of everything changed since the last cut. What came and went in between is not said.
    pub(crate) fn cut(&mut self, number: u32, now_ns: u64, segment: SegmentId) -> Option<GearDelta> {
        if !std::mem::take(&mut self.is_touched) {
            return None;
        }
        let mut delta = GearDelta { number, generation: self.generation, keys: Vec::new(), timers: Vec::new() };
        self.generation_home = segment;
        let mut changed = std::mem::take(&mut self.changed);
        for idx in changed.drain(..) {
            let slot = self.slot_mut(idx);
            if std::mem::take(&mut slot.is_value_new) {
                let was_told = std::mem::replace(&mut slot.is_value_told, slot.value.is_some());
                if was_told || slot.is_value_told {
                    slot.home = segment;
                    delta.keys.push((slot.key.clone(), slot.value.clone()));
                }
            }
            if std::mem::take(&mut slot.is_timer_new) {
                let was_told = std::mem::replace(&mut slot.is_timer_told, slot.timer.is_some());
                if was_told || slot.is_timer_told {
                    let record = slot.timer.as_mut().map(|timer| timer.say(now_ns, segment));
                    delta.timers.push((slot.key.clone(), record));
                }
            }
            self.free_if_spent(idx);
        }
        self.changed = changed;
        Some(delta)
    }

    /// Says again what has its newest record in `oldest` or before, of at most `look` keys from `cursor` on, which is
    /// empty at first. Returns where to go on, or `None` at the end.
    pub(crate) fn carry(&mut self, number: u32, now_ns: u64, step: &mut MemoryCarry<'_>) -> Option<SmolStr> {
        let is_old = |home: SegmentId| home != 0 && home <= step.oldest;
        let mut delta = GearDelta { number, generation: self.generation, keys: Vec::new(), timers: Vec::new() };
        // A slot is never moved, so its position is a place to go on from whatever happens in between.
        let from: usize = step.cursor.parse().unwrap_or_default();
        let until = from.saturating_add(step.look).min(self.slots.len());
        for slot in self.slots.get_mut(from..until).into_iter().flatten().flatten() {
            if is_old(slot.home)
                && let Some(value) = &slot.value
            {
                slot.home = step.segment;
                delta.keys.push((slot.key.clone(), Some(value.clone())));
            }
            if let Some(timer) = slot.timer.as_mut().filter(|timer| is_old(timer.home)) {
                delta.timers.push((slot.key.clone(), Some(timer.say(now_ns, step.segment))));
            }
        }
        if is_old(self.generation_home) || !delta.keys.is_empty() || !delta.timers.is_empty() {
            self.generation_home = step.segment;
            step.into.push(delta);
        }
        (until < self.slots.len()).then(|| until.to_string().into())
    }

    /// Values and timers.
    pub(crate) fn len(&self) -> usize {
        let slots = self.slots.iter().flatten();
        slots.map(|slot| usize::from(slot.value.is_some()) + usize::from(slot.timer.is_some())).sum()
    }

    /// Values and timers whose newest record is in `oldest` or before.
    pub(crate) fn count_homed(&self, oldest: SegmentId) -> usize {
        let is_homed = |home: SegmentId| home != 0 && home <= oldest;
        let count = |slot: &Slot| {
            let has_value = slot.value.is_some() && is_homed(slot.home);
            let has_timer = slot.timer.is_some_and(|timer| is_homed(timer.home));
            usize::from(has_value) + usize::from(has_timer)
        };
        self.slots.iter().flatten().map(count).sum()
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
            let idx = self.find_or_make(key);
            let slot = self.slot_mut(idx);
            (slot.value, slot.home, slot.is_value_told) = (Some(value), home, true);
        }
        for RecoveredTimer { key, generation, due_ns, home } in timers {
            let is_clock = key == CLOCK;
            let idx = self.find_or_make(key);
            let slot = self.slot_mut(idx);
            (slot.timer, slot.is_timer_told) = (Some(Timer { generation, due_ns, home, attempts: 0 }), true);
            if !is_clock {
                self.due.insert((due_ns, generation), idx);
            }
        }
    }
}

impl Timer {
    /// What the journal is told about it, in this segment.
    fn say(&mut self, now_ns: u64, segment: SegmentId) -> TimerRecord {
        self.home = segment;
        TimerRecord { generation: self.generation, left_ns: self.due_ns.saturating_sub(now_ns) }
    }
}

/// One step of a carry over one gear's memory.
pub(crate) struct MemoryCarry<'a> {
    /// As the step before returned it.
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
