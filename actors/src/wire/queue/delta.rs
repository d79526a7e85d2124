//! What changed on a queue since the last cut, and what of it is carried into a younger segment.

use std::sync::atomic::Ordering;

use super::{Body, Entry, Inner, Queue, QueueSpec};
use crate::journal::{Birth, BirthBody, Mark, SegmentId, WireDelta};
use crate::mutants::{self, Mutation};

/// One step of a carry over one queue.
pub(crate) struct Carry<'a> {
    pub(crate) cursor: u64,
    pub(crate) oldest: SegmentId,
    pub(crate) segment: SegmentId,
    pub(crate) look: usize,
    pub(crate) max: usize,
    pub(crate) wall_ns: i64,
    pub(crate) into: &'a mut Vec<WireDelta>,
}

impl QueueSpec {
    /// Whether an entry is written as one that replay may read: not with sensitive data in it (HEART §9.2).
    fn retains(&self, entry: &Entry) -> bool {
        if self.retention.is_none() {
            return false;
        }
        let is_sensitive = match (self.redactor, &entry.body) {
            (Some(redact), Body::Here(msg)) => redact(msg).is_some(),
            // Not known without reading it back; its first record said whether it is retained.
            (Some(_), Body::There(_)) => true,
            _ => false,
        };
        !is_sensitive
    }

    /// Sensitive data is not carried past its message's expiry; the message then only waits to be a dead letter.
    fn redact_expired(&self, birth: &mut Birth, wall_ns: i64) {
        if let (Some(redact), BirthBody::Msg(msg)) = (self.redactor, &birth.body)
            && msg.expires.is_some_and(|expires| expires < wall_ns)
            && let Some(redacted) = redact(msg)
        {
            birth.body = BirthBody::Msg(redacted);
        }
    }
}

impl Queue {
    /// Notes what changed since the last cut. `segment` is where the group will be written.
    pub(crate) fn cut(&self, segment: SegmentId) -> Option<WireDelta> {
        if !self.is_touched.swap(false, Ordering::Relaxed) {
            return None;
        }
        let mut guard = self.lock();
        let inner = &mut *guard;
        let mut changed = std::mem::take(&mut inner.changed);
        changed.sort_unstable();
        changed.dedup();
        let marks = changed.into_iter().filter_map(|seq| inner.mark(seq)).collect();
        let from = inner.index_of(inner.cut_seq);
        let mut births = Vec::with_capacity(inner.entries.len() - from + inner.passing.len());
        births.extend(inner.passing.drain(..).map(|(seq, msg)| Birth::passed(seq, msg)));
        for entry in inner.entries.range_mut(from..).filter(|entry| !entry.is_done) {
            entry.home = segment;
            births.push(Birth::of(entry, self.spec.retains(entry)));
        }
        births.sort_by_key(|birth| birth.seq);
        inner.cut_seq = inner.next_seq;
        if mutants::is(Mutation::FloorsWithoutRanges) {
            inner.acked = vec![(0, inner.entries.front().map_or(inner.next_seq, |entry| entry.seq))];
        }
        Some(WireDelta {
            number: self.spec.number,
            next_seq: inner.next_seq,
            acked: std::mem::take(&mut inner.acked),
            marks,
            births,
        })
    }

    /// Births again up to `max` live messages whose newest record is in `oldest` or before, looking at `look` entries
    /// from `cursor` on. Returns where to go on, or `None` at the end. Called inside the cut that carries them.
    pub(crate) fn carry(&self, carry: &mut Carry<'_>) -> Option<u64> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let from = inner.index_of(carry.cursor);
        let mut births = Vec::new();
        let mut next = None;
        for (looked, entry) in inner.entries.range_mut(from..).enumerate() {
            if looked == carry.look || births.len() == carry.max {
                next = Some(entry.seq);
                break;
            }
            if !entry.is_done && entry.home != 0 && entry.home <= carry.oldest {
                entry.home = carry.segment;
                let mut birth = Birth::of(entry, self.spec.retains(entry));
                self.spec.redact_expired(&mut birth, carry.wall_ns);
                births.push(birth);
            }
        }
        if !births.is_empty() {
            carry.into.push(WireDelta {
                number: self.spec.number,
                next_seq: inner.next_seq,
                acked: Vec::new(),
                marks: Vec::new(),
                births,
            });
        }
        next
    }

    /// A delta that says only how far its sequences are.
    pub(crate) fn identity(&self) -> WireDelta {
        WireDelta { number: self.spec.number, next_seq: self.lock().next_seq, ..WireDelta::default() }
    }

    /// Live messages whose newest record is in `oldest` or before.
    pub(crate) fn count_homed(&self, oldest: SegmentId) -> usize {
        let inner = self.lock();
        inner.entries.iter().filter(|entry| !entry.is_done && entry.home != 0 && entry.home <= oldest).count()
    }
}

impl Inner {
    /// What the journal has to be told of an ack. On a turbo wire, which it does not know, there is nothing to note.
    pub(super) fn note_ack(&mut self, idx: usize, spec: &QueueSpec) {
        let Some(entry) = self.entries.get(idx) else { return };
        if matches!(entry.body, Body::There(_)) {
            self.away -= 1;
        }
        let seq = entry.seq;
        let was_written = seq < self.cut_seq;
        if let (Some(_), Body::Here(msg)) = (spec.retention, &entry.body) {
            // What is sensitive was not written for replay; now that it is handled, a copy without the secrets is.
            match spec.redactor.and_then(|redact| redact(msg)) {
                Some(redacted) => self.passing.push((seq, redacted)),
                None if was_written => {}
                None => self.passing.push((seq, msg.clone())),
            }
        }
        if was_written {
            self.note_range(seq);
        }
    }

    pub(super) fn note_range(&mut self, seq: u64) {
        match self.acked.last_mut() {
            Some((_, end)) if *end == seq => *end = seq + 1,
            _ => self.acked.push((seq, seq + 1)),
        }
    }

    pub(super) fn mark(&self, seq: u64) -> Option<Mark> {
        let idx = self.index_of(seq);
        let entry = self.entries.get(idx).filter(|entry| entry.seq == seq && !entry.is_done)?;
        let attempts = if mutants::is(Mutation::AttemptsNotKept) { 0 } else { entry.attempts };
        let is_taken = entry.is_taken && !mutants::is(Mutation::NoTaken);
        Some(Mark { seq, attempts, is_taken, fault: entry.fault.clone() })
    }
}
