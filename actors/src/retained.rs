//! What passed over a wire and stays readable for replay: sequences, times and positions, never bodies.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use crate::journal::SegmentId;
use crate::wire::{Position, Retention};

/// One message that can be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) seq: u64,
    /// Nanoseconds since the Unix epoch at which it was written.
    pub(crate) at_ns: i64,
    pub(crate) position: Position,
}

/// The retained messages of one queue, ascending by sequence.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retained {
    retention: Option<Retention>,
    items: VecDeque<Item>,
    bytes: u64,
    /// What is before this sequence was let go, if it was ever kept.
    floor: u64,
}

impl Retained {
    pub(crate) fn new(retention: Option<Retention>) -> Self {
        Self { retention, ..Self::default() }
    }

    pub(crate) fn add(&mut self, seq: u64, position: Position, at_ns: i64) {
        match self.items.binary_search_by_key(&seq, |item| item.seq) {
            // A carried message is written again: only its position moves.
            Ok(idx) => {
                self.bytes = self.bytes - u64::from(self.items[idx].position.len) + u64::from(position.len);
                self.items[idx].position = position;
            }
            // It was let go while it waited, and was carried after that.
            Err(_) if seq < self.floor => {}
            // Seldom before others: one that is kept only since it was handled.
            Err(idx) => {
                self.bytes += u64::from(position.len);
                self.items.insert(idx, Item { seq, at_ns, position });
                self.forget(at_ns);
            }
        }
    }

    fn forget(&mut self, wall_ns: i64) {
        while let Some(front) = self.items.front() {
            let is_old = match self.retention {
                Some(Retention::Time(keep)) => {
                    wall_ns.saturating_sub(front.at_ns) > i64::try_from(keep.as_nanos()).unwrap_or(i64::MAX)
                }
                Some(Retention::Bytes(keep)) => self.bytes > keep,
                None => true,
            };
            if !is_old {
                return;
            }
            self.bytes -= u64::from(front.position.len);
            self.floor = front.seq + 1;
            self.items.pop_front();
        }
    }

    /// The oldest segment that holds something still kept at this wall time.
    pub(crate) fn oldest(&mut self, wall_ns: i64) -> Option<SegmentId> {
        self.forget(wall_ns);
        self.items.iter().map(|item| item.position.at.segment).min()
    }

    #[cfg(test)]
    pub(crate) fn all(&self) -> Vec<Item> {
        self.items(&(0..=u64::MAX), |_| true, usize::MAX, u64::MAX)
    }

    /// The youngest, by its sequence.
    pub(crate) fn last_seq(&self) -> Option<u64> {
        self.items.back().map(|item| item.seq)
    }

    /// Those of these sequences that are meant, oldest first: at most `max` of them, and only the first one goes beyond
    /// `bytes_max`.
    pub(crate) fn items(
        &self,
        seqs: &RangeInclusive<u64>,
        is_meant: impl Fn(&Item) -> bool,
        max: usize,
        bytes_max: u64,
    ) -> Vec<Item> {
        let from = self.items.partition_point(|item| item.seq < *seqs.start());
        let items = self.items.range(from..).take_while(|item| item.seq <= *seqs.end());
        let mut bytes = 0;
        let fits = |item: &&Item| {
            bytes += u64::from(item.position.len);
            bytes <= bytes_max || bytes == u64::from(item.position.len)
        };
        items.filter(|item| is_meant(item)).take(max).take_while(fits).copied().collect()
    }
}

#[cfg(test)]
mod tests;
