//! The receiver's order: what arrives in any order, twice, or with holes leaves in the order of its wire, once.
//! Pure: it knows sequences, not messages; what it has let through is the floor that the endpoint keeps.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use super::stamp::Stamp;

/// Wires that are remembered at once; the one unused longest goes first.
pub(super) const WIRES_MAX: usize = 256;

/// What became of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is among what was let through, or waits for what is before it.
    Taken,
    /// It was let through before.
    Repeat,
    /// It waits already; this copy is to be forgotten.
    Held,
}

/// One message that may go on, with its wire and sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Through<T> {
    pub(super) incarnation: u64,
    pub(super) seq: u64,
    pub(super) item: T,
}

/// What is known of one wire.
#[derive(Debug)]
struct Wire<T> {
    /// Everything up to here was let through, or never comes.
    floor: u64,
    /// What waits for something before it: sequence, with the one published before.
    waiting: BTreeMap<u64, (u64, T)>,
    used: u64,
}

/// All wires that end here.
#[derive(Debug)]
pub(super) struct Order<T> {
    wires: HashMap<u64, Wire<T>>,
    clock: u64,
    /// Messages that the server had acked and that never arrived.
    pub(super) lost: u64,
    /// Messages that never arrived and may have been published: what a sender did before its last start it cannot say.
    pub(super) unexplained: u64,
}

impl<T> Order<T> {
    /// Goes on where the floors say.
    pub(super) fn new(floors: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let wire = |floor| Wire { floor, waiting: BTreeMap::new(), used: 0 };
        let wires = floors.into_iter().map(|(incarnation, floor)| (incarnation, wire(floor))).collect();
        Self { wires, clock: 0, lost: 0, unexplained: 0 }
    }

    /// Forgets what waits: the server gives it again.
    pub(super) fn forget_held(&mut self) {
        self.wires.values_mut().for_each(|wire| wire.waiting.clear());
    }

    /// Something arrived, in the order of the stream. What may go on because of it is put on `out`. `evicted` is told the
    /// wire that had to be forgotten for it.
    pub(super) fn arrive(
        &mut self,
        stamp: Stamp,
        item: T,
        out: &mut Vec<Through<T>>,
        evicted: &mut Option<u64>,
    ) -> Arrival {
        self.clock += 1;
        *evicted = self.make_room(stamp.incarnation);
        let Stamp { incarnation, seq, before, settled } = stamp;
        let clock = self.clock;
        let is_known = self.wires.contains_key(&incarnation);
        let wire = self.wires.entry(incarnation).or_insert_with(|| {
            // Nothing is known of it. What was settled before we came was not for us; what was not may still arrive.
            let floor = if before < settled { before } else { 0 };
            Wire { floor, waiting: BTreeMap::new(), used: clock }
        });
        wire.used = clock;
        let (lost, hole) = wire.settle(incarnation, settled, before, out);
        self.lost += lost;
        if before == 0 && is_known {
            self.unexplained += hole;
        }
        let arrival = if seq <= wire.floor {
            Arrival::Repeat
        } else if let Entry::Vacant(place) = wire.waiting.entry(seq) {
            place.insert((before, item));
            Arrival::Taken
        } else {
            Arrival::Held
        };
        wire.release(incarnation, out);
        arrival
    }

    /// The sender says that everything of a wire below `settled` has been published before this, or never comes.
    pub(super) fn settle(&mut self, incarnation: u64, settled: u64, out: &mut Vec<Through<T>>) {
        let Some(wire) = self.wires.get_mut(&incarnation) else { return };
        wire.settle(incarnation, settled, 0, out);
        wire.release(incarnation, out);
    }

    fn make_room(&mut self, incarnation: u64) -> Option<u64> {
        if self.wires.len() < WIRES_MAX || self.wires.contains_key(&incarnation) {
            return None;
        }
        let idle = self.wires.iter().filter(|(_, wire)| wire.waiting.is_empty());
        let oldest = idle.min_by_key(|(_, wire)| wire.used).map(|(&oldest, _)| oldest)?;
        self.wires.remove(&oldest);
        Some(oldest)
    }
}

impl<T> Wire<T> {
    /// What is settled stands in the stream before this, or nowhere: whoever waits for it need not any more. Says how many
    /// gaps there were where `before`, and what waited, say that something had been published, and how many sequences
    /// there are between what arrived and what is settled.
    fn settle(&mut self, incarnation: u64, settled: u64, before: u64, out: &mut Vec<Through<T>>) -> (u64, u64) {
        let mut lost = 0;
        while let Some(entry) = self.waiting.first_entry().filter(|entry| *entry.key() < settled) {
            let (seq, (before, item)) = entry.remove_entry();
            lost += u64::from(before > self.floor);
            self.floor = seq;
            out.push(Through { incarnation, seq, item });
        }
        lost += u64::from(before > self.floor && before < settled);
        let hole = settled.saturating_sub(1).saturating_sub(self.floor);
        self.floor += hole;
        (lost, hole)
    }

    fn release(&mut self, incarnation: u64, out: &mut Vec<Through<T>>) {
        while let Some(entry) = self.waiting.first_entry().filter(|entry| entry.get().0 <= self.floor) {
            let (seq, (_, item)) = entry.remove_entry();
            self.floor = seq;
            out.push(Through { incarnation, seq, item });
        }
    }
}

#[cfg(test)]
mod tests;
