//! What a journal amounts to: names, live messages, memories. Built by reading every group in order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fluxrig_protocol::Value;
use smol_str::SmolStr;

use super::boots::Boots;
use super::record::{self, BirthBody, Clock, Delta, NameRecord, RecordError, TimerRecord};
use super::{GroupAt, SegmentId};
use crate::memory::CLOCK;
use crate::retained::Item;
use crate::wire::{DeadNote, Fault, Position};

/// A message that is on a wire, its body still in the journal.
#[derive(Clone, Debug)]
pub(crate) struct LiveMsg {
    pub(crate) position: Position,
    pub(crate) attempts: u32,
    pub(crate) is_taken: bool,
    pub(crate) fault: Option<Box<Fault>>,
    pub(crate) dead: Option<Arc<DeadNote>>,
}

/// One queue as the journal knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct WireImage {
    pub(crate) next_seq: u64,
    pub(crate) live: BTreeMap<u64, LiveMsg>,
    pub(crate) passed: BTreeMap<u64, Item>,
}

/// One gear's memory as the journal knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct GearImage {
    pub(crate) generation: u64,
    pub(crate) keys: BTreeMap<SmolStr, (Value, SegmentId)>,
    pub(crate) timers: BTreeMap<SmolStr, (TimerRecord, Clock, SegmentId)>,
}

impl GearImage {
    /// Keys of the timers that fire: a clock is nothing that anybody waits for.
    pub(crate) fn timers(&self) -> impl Iterator<Item = &SmolStr> {
        self.timers.keys().filter(|key| *key != CLOCK)
    }
}

/// Everything that a journal says is true now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) names: BTreeMap<u32, (NameRecord, SegmentId)>,
    pub(crate) wires: HashMap<u32, WireImage>,
    pub(crate) gears: HashMap<u32, GearImage>,
    pub(crate) unclean_starts: u32,
    /// Messages born in each segment, dead ones included: what a carry weighs the live ones against.
    pub(crate) births: BTreeMap<SegmentId, u64>,
    pub(crate) epoch: u64,
    pub(crate) boots: Boots,
}

impl Image {
    /// Applies one group that lies at `at`.
    pub(crate) fn apply(&mut self, body: &[u8], at: GroupAt) -> Result<(), RecordError> {
        record::decode(body, |delta| self.delta(delta, at))
    }

    /// Segments before `oldest` are gone, or go with the next trim: nothing in them is alive, and nothing retained can be
    /// read any more.
    pub(crate) fn forget_before(&mut self, oldest: SegmentId) {
        self.births = self.births.split_off(&oldest);
        for wire in self.wires.values_mut() {
            wire.passed.retain(|_, item| item.position.at.segment >= oldest);
        }
    }

    /// The lowest number that owns something and that no record names: its messages would be nobody's, and a new name
    /// could be given the same number.
    pub(crate) fn nameless(&self) -> Option<u32> {
        let wires = self.wires.iter().filter(|(_, wire)| !wire.live.is_empty()).map(|(number, _)| number);
        let gears = self.gears.iter().filter(|(_, gear)| !gear.keys.is_empty() || !gear.timers.is_empty());
        wires.chain(gears.map(|(number, _)| number)).filter(|number| !self.names.contains_key(number)).min().copied()
    }

    fn delta(&mut self, delta: Delta, at: GroupAt) {
        let clock = delta.clock;
        self.epoch = self.epoch.max(clock.epoch);
        self.boots.note(clock);
        for name in delta.names {
            self.names.insert(name.number, (name, at.segment));
        }
        for wire in delta.wires {
            let image = self.wires.entry(wire.number).or_default();
            image.next_seq = image.next_seq.max(wire.next_seq);
            for (from, to) in wire.acked {
                // A range may name more sequences than are live; what counts is what is there.
                while let Some((&seq, _)) = image.live.range(from..to).next() {
                    image.live.remove(&seq);
                }
            }
            for mark in wire.marks {
                if let Some(live) = image.live.get_mut(&mark.seq) {
                    live.attempts = mark.attempts;
                    live.is_taken = mark.is_taken;
                    live.fault = mark.fault;
                }
            }
            *self.births.entry(at.segment).or_default() += wire.births.len() as u64;
            for birth in wire.births {
                let BirthBody::At { offset, len } = birth.body else {
                    unreachable!("a decoded birth has its place in the body");
                };
                let position = Position { at, offset, len };
                if birth.is_retained {
                    let at_ns = image.passed.get(&birth.seq).map_or(clock.wall_ns, |item| item.at_ns);
                    image.passed.insert(birth.seq, Item { seq: birth.seq, at_ns, position });
                }
                if !birth.is_passed {
                    let live = LiveMsg {
                        position,
                        attempts: birth.attempts,
                        is_taken: birth.is_taken,
                        fault: birth.fault,
                        dead: birth.dead,
                    };
                    image.live.insert(birth.seq, live);
                }
            }
        }
        for gear in delta.gears {
            let image = self.gears.entry(gear.number).or_default();
            image.generation = image.generation.max(gear.generation);
            for (key, value) in gear.keys {
                match value {
                    Some(value) => drop(image.keys.insert(key, (value, at.segment))),
                    None => drop(image.keys.remove(&key)),
                }
            }
            for (key, timer) in gear.timers {
                match timer {
                    Some(timer) => drop(image.timers.insert(key, (timer, clock, at.segment))),
                    None => drop(image.timers.remove(&key)),
                }
            }
        }
        if let Some(count) = delta.unclean_starts {
            self.unclean_starts = count;
        }
    }
}

#[cfg(test)]
mod tests;
