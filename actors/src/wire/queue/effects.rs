//! Effects of a queue: taken by an endpoint, given back, ended in whatever order, and *maybe sent* when it starts anew.

use super::{Body, Effect, Fault, Motion, Queue};

impl Queue {
    /// Takes up to `room` effects: from here on each of them is *taken* until it is acked (HEART §5.1).
    pub(crate) fn take_effects(&self, room: usize, into: &mut Vec<Effect>) -> Motion {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let from = inner.index_of(inner.next_take);
        let mut count = 0;
        let mut is_away = false;
        for entry in inner.entries.range_mut(from..) {
            if count == room {
                break;
            }
            if entry.is_done || entry.is_out {
                inner.next_take = entry.seq + 1;
                continue;
            }
            let Body::Here(msg) = &entry.body else {
                is_away = true;
                break;
            };
            let is_maybe_sent = entry.is_maybe_sent;
            into.push(Effect { seq: entry.seq, msg: msg.clone(), after: entry.after, is_maybe_sent });
            entry.is_out = true;
            if !entry.is_taken {
                entry.is_taken = true;
                if entry.seq < inner.cut_seq {
                    inner.changed.push(entry.seq);
                }
            }
            inner.next_take = entry.seq + 1;
            count += 1;
        }
        if is_away {
            self.pager.ring();
        }
        if count > 0 {
            self.touch();
        }
        inner.waiting -= count;
        if inner.is_idle { 0 } else { -(count as Motion) }
    }

    /// Effects that an endpoint has.
    pub(crate) fn in_flight(&self) -> usize {
        let inner = self.lock();
        if self.spec.is_effects { inner.entries.len() - inner.done - inner.waiting } else { 0 }
    }

    /// Whether an effect waits that was not taken yet.
    pub(crate) fn has_effects(&self) -> bool {
        let inner = self.lock();
        inner.next_seq > inner.next_take
    }

    /// Gives back effects that were taken and certainly never started, so that they are not *maybe sent*.
    pub(crate) fn untake(&self, seqs: impl Iterator<Item = u64>) -> Motion {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let mut back = 0;
        for seq in seqs {
            let idx = inner.index_of(seq);
            let Some(entry) = inner.entries.get_mut(idx).filter(|entry| entry.seq == seq && entry.is_out) else {
                continue;
            };
            entry.is_out = false;
            back += 1;
            inner.next_take = inner.next_take.min(seq);
            // What came back as maybe sent stays so: that it was not started again proves nothing about before.
            if !entry.is_maybe_sent {
                entry.is_taken = false;
                if seq < inner.cut_seq {
                    inner.changed.push(seq);
                }
            }
        }
        inner.waiting += back;
        self.touch();
        if inner.is_idle { 0 } else { back as Motion }
    }

    /// An endpoint starts anew: what its predecessor had and did not end comes back as *maybe sent*.
    pub(crate) fn rewind_effects(&self) -> Motion {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let mut back = 0;
        for entry in inner.entries.iter_mut().filter(|entry| entry.is_out && !entry.is_done) {
            entry.is_out = false;
            entry.is_maybe_sent |= entry.is_taken;
            back += 1;
        }
        inner.waiting += back;
        inner.next_take = inner.entries.front().map_or(inner.next_seq, |entry| entry.seq);
        if inner.is_idle { 0 } else { back as Motion }
    }

    /// Acks effects in whatever order they ended. One that an earlier endpoint had may end late: it counts all the same.
    pub(crate) fn ack_effects(&self, seqs: &mut dyn Iterator<Item = u64>, gone: &mut Vec<Body>) -> Motion {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let mut count = 0;
        let mut motion = 0;
        for seq in seqs {
            let idx = inner.index_of(seq);
            if inner.entries.get(idx).is_none_or(|entry| entry.seq != seq || entry.is_done) {
                continue;
            }
            count += 1;
            if self.spec.lane.is_standard() {
                inner.note_ack(idx, &self.spec);
            }
            let entry = &mut inner.entries[idx];
            entry.is_done = true;
            gone.push(std::mem::replace(&mut entry.body, Body::Gone));
            if !std::mem::take(&mut entry.is_out) {
                inner.waiting -= 1;
                motion -= Motion::from(!inner.is_idle);
            }
            inner.done += 1;
        }
        while inner.entries.front().is_some_and(|entry| entry.is_done) {
            inner.entries.pop_front();
            inner.done -= 1;
        }
        // One effect that never ends must not make those behind it pile up as done entries.
        if inner.done > 1024 && inner.done * 2 > inner.entries.len() {
            inner.entries.retain(|entry| !entry.is_done);
            inner.done = 0;
        }
        if count > 0 {
            self.after_removal(inner, count);
        }
        motion
    }

    pub(crate) fn effect_fault(&self, seq: u64) -> (u32, Option<Box<Fault>>) {
        let inner = self.lock();
        let idx = inner.index_of(seq);
        inner.entries.get(idx).map_or((0, None), |entry| (entry.attempts, entry.fault.clone()))
    }
}
