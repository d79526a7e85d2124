//! What a conductor remembers: open requests and ended ones by their key, the destinations, and what it counts.
//! All of it is bounded, and whatever is durable can be read back from the records.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use fluxrig_actors::protocol::{Blob, SmolStr};
use fluxrig_actors::{Tallies, Tally};

use super::fields::Trail;
use super::key::{Key, KeyHash};
use super::route::Peer;

/// What a conductor remembers between messages.
#[derive(Debug, Default)]
pub struct Table {
    /// Name of the gear, for what it logs.
    pub(super) gear: SmolStr,
    slots: HashMap<Key, Slot, KeyHash>,
    /// Keys of ended transactions, oldest first. One whose transaction was opened anew is skipped when its turn comes.
    ended: VecDeque<(i64, Key)>,
    open: usize,
    pub(super) peers: Vec<Peer>,
    /// Whose turn it is, for each `round_robin`.
    pub(super) cursors: Vec<usize>,
    /// The request that was opened last, until it is seen that what it opened was kept.
    pub(super) unproven: Option<Key>,
    /// What was forgotten before its window was over.
    early: Early,
    /// Names of records that cannot be read: removed with the next commit.
    pub(super) broken: Vec<SmolStr>,
    /// The parts of the key of the message at hand.
    pub(super) buffer: Vec<u8>,
    /// Where the last request, and the last reply, had the fields that are looked for.
    pub(super) trails: Trails,
    pub(super) counts: Counts,
}

/// Transactions that were forgotten since there are more than are remembered.
#[derive(Debug, Default)]
struct Early {
    untold: u64,
    /// When it was told last.
    told: Option<i64>,
}

/// One of requests and one of replies: they are looked for different fields.
#[derive(Debug, Default)]
pub(super) struct Trails {
    pub(super) request: Trail,
    pub(super) reply: Trail,
}

/// One transaction.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    Open(OpenSlot),
    Done(DoneSlot),
}

#[derive(Clone, Debug)]
pub(super) struct OpenSlot {
    pub(super) record: Blob,
    pub(super) expires: i64,
    /// `None` where the configuration has no such destination any more.
    pub(super) destination: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct DoneSlot {
    pub(super) at: i64,
    pub(super) record: Blob,
    /// Whether it stands in the durable state as well.
    pub(super) is_durable: bool,
}

impl Table {
    pub(super) fn new(gear: SmolStr, peers: Vec<Peer>, cursors: usize, counts: Counts) -> Self {
        Self { gear, peers, cursors: vec![0; cursors], counts, ..Self::default() }
    }

    pub(super) fn get(&self, key: Key) -> Option<&Slot> {
        self.slots.get(&key)
    }

    /// Requests that wait for their reply.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// A request is open, or open with another record.
    pub(super) fn insert_open(&mut self, key: Key, slot: OpenSlot) {
        self.open += 1;
        if let Some(idx) = slot.destination {
            self.peers[idx].open += 1;
        }
        if let Some(Slot::Open(old)) = self.slots.insert(key, Slot::Open(slot)) {
            self.close(&old);
        }
    }

    /// Takes out an open request.
    pub(super) fn take_open(&mut self, key: Key) -> Option<OpenSlot> {
        let Entry::Occupied(found) = self.slots.entry(key) else { return None };
        if matches!(found.get(), Slot::Done(_)) {
            return None;
        }
        let Slot::Open(slot) = found.remove() else { return None };
        self.close(&slot);
        Some(slot)
    }

    fn close(&mut self, slot: &OpenSlot) {
        self.open -= 1;
        if let Some(idx) = slot.destination {
            self.peers[idx].open -= 1;
        }
    }

    /// A transaction has ended. Gives what was open until now.
    pub(super) fn insert_done(&mut self, key: Key, slot: DoneSlot) -> Option<OpenSlot> {
        self.ended.push_back((slot.at, key));
        match self.slots.insert(key, Slot::Done(slot)) {
            Some(Slot::Open(old)) => {
                self.close(&old);
                Some(old)
            }
            Some(Slot::Done(_)) | None => None,
        }
    }

    /// Forgets the oldest ended transaction, if there are more than `max` or it ended before `until`. Says its key when
    /// its record must be removed as well, and `None` when there was nothing to forget.
    pub(super) fn forget(&mut self, max: usize, until: i64) -> Option<Option<Key>> {
        let &(at, key) = self.ended.front()?;
        if self.ended.len() <= max && at >= until {
            return None;
        }
        self.ended.pop_front();
        // Found once: what is forgotten is what was not looked at for the longest time, so finding it is what costs.
        match self.slots.entry(key) {
            Entry::Occupied(found) if matches!(found.get(), Slot::Done(slot) if slot.at == at) => {
                if at >= until {
                    self.early.untold += 1;
                    self.counts.forgotten_early.add(1);
                }
                let is_durable = matches!(found.remove(), Slot::Done(slot) if slot.is_durable);
                Some(is_durable.then_some(key))
            }
            _ => Some(None),
        }
    }

    /// How many transactions were forgotten early, where that is to be told now: at once, and then once a window.
    pub(super) fn forgotten_early(&mut self, now: i64, window_ns: i64) -> Option<u64> {
        let Early { untold, told } = &mut self.early;
        if *untold == 0 || told.is_some_and(|told| now.saturating_sub(told) < window_ns) {
            return None;
        }
        *told = Some(now);
        Some(std::mem::take(untold))
    }

    /// After a restart the ended ones come in any order.
    pub(super) fn sort_ended(&mut self) {
        self.ended.make_contiguous().sort_unstable_by_key(|(at, _)| *at);
    }
}

/// What it counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) answered: Tally,
    pub(super) expired: Tally,
    pub(super) undeliverable: Tally,
    pub(super) format: Tally,
    pub(super) no_route: Tally,
    pub(super) no_destination: Tally,
    pub(super) overload: Tally,
    pub(super) forwarded: Tally,
    pub(super) duplicates: Tally,
    pub(super) repeats: Tally,
    pub(super) unmatched: Tally,
    pub(super) forgotten_early: Tally,
    pub(super) broken_records: Tally,
    /// Per destination.
    pub(super) peers: Vec<PeerCounts>,
}

#[derive(Debug, Default)]
pub(super) struct PeerCounts {
    pub(super) sent: Tally,
    pub(super) answered: Tally,
    pub(super) unanswered: Tally,
}

impl Counts {
    pub(super) fn new<'a>(tallies: &Tallies, destinations: impl Iterator<Item = &'a str>) -> Self {
        let outcome = |label| tallies.tally("outcomes", label);
        let refusal = |label| tallies.tally("refusals", label);
        let other = |label| tallies.tally("messages", label);
        let peer = |name| PeerCounts {
            sent: tallies.tally("requests_sent", name),
            answered: tallies.tally("requests_answered", name),
            unanswered: tallies.tally("requests_unanswered", name),
        };
        Self {
            answered: outcome("answered"),
            expired: outcome("expired"),
            undeliverable: outcome("undeliverable"),
            format: refusal("format"),
            no_route: refusal("no_route"),
            no_destination: refusal("no_destination"),
            overload: refusal("overload"),
            forwarded: other("forwarded"),
            duplicates: other("duplicate"),
            repeats: other("repeat"),
            unmatched: other("unmatched"),
            forgotten_early: other("forgotten_early"),
            broken_records: other("broken_record"),
            peers: destinations.map(peer).collect(),
        }
    }
}
