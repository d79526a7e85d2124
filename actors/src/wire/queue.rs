//! The queue behind a wire (or behind one partition of it): births, acks, takes and what changed since the last cut.
//! Every method is called inside the gate when the wire is standard; none of them waits or runs user code.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use fluxrig_protocol::FluxMsg;
use smol_str::SmolStr;

use super::{After, Body, DeadNote, Entry, Fault, Lane, Redelivery, Retention};
use crate::bell::Bell;
use crate::door::Door;
use crate::journal::SegmentId;
use crate::node::Redactor;
use crate::retained::Retained;
use crate::tap::{TAPS_MAX, TapEnd};

mod delta;
mod effects;

pub(crate) use delta::Carry;

/// What a queue is, fixed while the rig runs.
#[derive(Debug)]
pub(crate) struct QueueSpec {
    /// Index among the node's queues.
    pub(crate) idx: usize,
    pub(crate) wire: SmolStr,
    /// The journal's number for it, never reused; also what ids derived from its messages name.
    pub(crate) number: u32,
    /// Random, renewed whenever sequences cannot continue.
    pub(crate) incarnation: u64,
    pub(crate) lane: Lane,
    pub(crate) capacity: usize,
    pub(crate) memory_window: usize,
    pub(crate) redelivery: Redelivery,
    pub(crate) retention: Option<Retention>,
    /// Ends in an endpoint: messages are taken as effects.
    pub(crate) is_effects: bool,
    pub(crate) redactor: Option<Redactor>,
}

/// One queue of a running rig.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) spec: QueueSpec,
    inner: Mutex<Inner>,
    len: AtomicUsize,
    is_touched: AtomicBool,
    /// Messages here count as in motion: their consumer will take them by itself soon (HEART §4.3).
    pub(crate) consumer: Arc<Bell>,
    /// Rung when a full queue is full no more: the doors that feed it wait there.
    pub(crate) doors: Mutex<Vec<Weak<Door>>>,
    /// Rung when bodies must be read back.
    pub(crate) pager: Arc<Bell>,
    passed: AtomicU64,
    is_tapped: AtomicBool,
    taps: Mutex<Vec<TapEnd>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Ascending by sequence; acked entries in the middle stay as done until those before them have gone.
    entries: VecDeque<Entry>,
    done: usize,
    next_seq: u64,
    /// No effect before this one is to be taken.
    next_take: u64,
    /// Messages that nobody has: they are in motion unless the queue is idle.
    waiting: usize,
    /// A failing message makes its queue wait until then (monotonic ns).
    blocked_until_ns: u64,
    /// Not counted as in motion: stalled, backing off, or its endpoint has no room.
    is_idle: bool,
    /// What was there at the start ends before this sequence.
    recovered_end: u64,
    /// Sequence the next cut's births begin with.
    cut_seq: u64,
    acked: Vec<(u64, u64)>,
    changed: Vec<u64>,
    /// Acked since the last cut without ever having been written, on a wire that retains.
    passing: Vec<(u64, FluxMsg)>,
    /// Bodies that are in the journal only; they are the newest ones.
    away: usize,
    retained: Retained,
}

/// A message handed to a gear; the queue holds it as well, until its gear passes it on or it is acked.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) seq: u64,
    pub(crate) msg: FluxMsg,
    pub(crate) after: After,
    pub(crate) attempts: u32,
}

/// An effect handed to an endpoint.
#[derive(Debug)]
pub(crate) struct Effect {
    pub(crate) seq: u64,
    pub(crate) msg: FluxMsg,
    pub(crate) after: After,
    pub(crate) is_maybe_sent: bool,
}

/// What a queue gave up when it was asked for a front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// Nothing is there.
    Empty,
    /// Messages were given.
    Given,
    /// It waits out a failing message until this monotonic time.
    BlockedUntil(u64),
    /// Its front has to be read back from the journal first.
    Away,
}

/// How many deliveries are in motion is told to the caller as a difference, so that one counter can serve the node.
pub(crate) type Motion = i64;

impl Queue {
    pub(crate) fn new(spec: QueueSpec, consumer: Arc<Bell>, pager: Arc<Bell>) -> Self {
        let retained = Retained::new(spec.retention);
        // An endpoint says by itself when it has room.
        let is_idle = spec.is_effects;
        let inner = Inner { next_seq: 1, next_take: 1, cut_seq: 1, is_idle, retained, ..Inner::default() };
        Self {
            spec,
            inner: Mutex::new(inner),
            len: AtomicUsize::new(0),
            is_touched: AtomicBool::new(false),
            consumer,
            doors: Mutex::default(),
            pager,
            passed: AtomicU64::new(0),
            is_tapped: AtomicBool::new(false),
            taps: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic inside the gate: it ends the node")
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.len() < self.spec.capacity
    }

    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    pub(crate) fn oldest_since_ns(&self) -> Option<u64> {
        self.lock().entries.front().map(|entry| entry.since_ns)
    }

    /// Puts messages at the end, in order. Says by how much motion grew.
    pub(crate) fn push(&self, births: impl Iterator<Item = (FluxMsg, After)>, since_ns: u64) -> Motion {
        self.push_noted(births.map(|(msg, after)| (msg, after, None)), since_ns).1
    }

    /// The same for messages that may be dead letters. Says the sequence of the first one, too.
    pub(crate) fn push_noted(
        &self,
        births: impl Iterator<Item = (FluxMsg, After, Option<Arc<DeadNote>>)>,
        since_ns: u64,
    ) -> (u64, Motion) {
        let mut inner = self.lock();
        let first_seq = inner.next_seq;
        let before = inner.entries.len();
        for (msg, after, dead) in births {
            let seq = inner.next_seq;
            inner.next_seq += 1;
            inner.entries.push_back(Entry {
                seq,
                body: Body::Here(msg),
                after,
                attempts: 0,
                home: 0,
                is_taken: false,
                is_maybe_sent: false,
                is_out: false,
                is_done: false,
                since_ns,
                fault: None,
                dead,
            });
        }
        let count = inner.entries.len() - before;
        if self.is_tapped.load(Ordering::Relaxed) {
            self.show(inner.entries.range(before..));
        }
        inner.waiting += count;
        self.len.fetch_add(count, Ordering::Relaxed);
        self.touch();
        (first_seq, if inner.is_idle { 0 } else { count as Motion })
    }

    /// Whether the message of this sequence is still here.
    pub(crate) fn holds(&self, seq: u64) -> bool {
        let inner = self.lock();
        inner.entries.get(inner.index_of(seq)).is_some_and(|entry| entry.seq == seq && !entry.is_done)
    }

    /// Adds a tap; false when there are too many.
    pub(crate) fn tap(&self, tap: TapEnd) -> bool {
        let mut taps = self.taps.lock().expect("nothing panics while it is held");
        taps.retain(TapEnd::is_open);
        if taps.len() == TAPS_MAX {
            return false;
        }
        taps.push(tap);
        self.is_tapped.store(true, Ordering::Relaxed);
        true
    }

    /// Ends every tap.
    pub(crate) fn untap(&self) {
        self.taps.lock().expect("nothing panics while it is held").clear();
        self.is_tapped.store(false, Ordering::Relaxed);
    }

    fn show<'a>(&self, entries: impl Iterator<Item = &'a Entry>) {
        let mut taps = self.taps.lock().expect("nothing panics while it is held");
        taps.retain(TapEnd::is_open);
        for entry in entries {
            let Body::Here(msg) = &entry.body else { continue };
            taps.iter().for_each(|tap| tap.show(entry.seq, msg));
        }
        if taps.is_empty() {
            self.is_tapped.store(false, Ordering::Relaxed);
        }
    }

    fn touch(&self) {
        if self.spec.lane.is_standard() && !self.is_touched.load(Ordering::Relaxed) {
            self.is_touched.store(true, Ordering::Relaxed);
        }
    }

    /// The message of this sequence, for whoever has to bury it.
    pub(crate) fn msg_at(&self, seq: u64) -> Option<FluxMsg> {
        let inner = self.lock();
        let entry = inner.entries.get(inner.index_of(seq)).filter(|entry| entry.seq == seq)?;
        match &entry.body {
            Body::Here(msg) => Some(msg.clone()),
            Body::There(_) | Body::Gone => None,
        }
    }

    /// Copies up to `max` messages from the front for a gear; they stay until [`Queue::ack_front`].
    pub(crate) fn front(&self, max: usize, now_ns: u64, into: &mut Vec<Taken>) -> Front {
        let inner = self.lock();
        if inner.blocked_until_ns > now_ns {
            return Front::BlockedUntil(inner.blocked_until_ns);
        }
        let before = into.len();
        for entry in inner.entries.iter().filter(|entry| !entry.is_done).take(max) {
            let Body::Here(msg) = &entry.body else {
                drop(inner);
                self.pager.ring();
                return if into.len() > before { Front::Given } else { Front::Away };
            };
            into.push(Taken { seq: entry.seq, msg: msg.clone(), after: entry.after, attempts: entry.attempts });
        }
        if into.len() > before { Front::Given } else { Front::Empty }
    }

    /// Lets go of messages that their gear passes on as they are, which are about to be acked in the same commit: with one
    /// holder less they can be stamped in place. Their entries stay until [`Queue::ack_front`] takes off these `count`.
    pub(crate) fn let_go<'a>(&self, first_seq: u64, count: usize, passed: impl Iterator<Item = (u64, &'a FluxMsg)>) {
        let mut passed = passed.peekable();
        if passed.peek().is_none() {
            return;
        }
        let mut inner = self.lock();
        for (seq, msg) in passed {
            // Where sequences have gaps it is not found here, and is copied when it is stamped.
            let idx = seq.saturating_sub(first_seq) as usize;
            let Some(entry) = inner.entries.get_mut(idx).filter(|entry| idx < count && entry.seq == seq) else {
                continue;
            };
            // Only this message: one holder less of two frees nothing inside the gate.
            if matches!(&entry.body, Body::Here(here) if here.ptr_eq(msg)) {
                entry.body = Body::Gone;
            }
        }
    }

    /// Removes the `count` messages at the front, the first of which must be `first_seq`.
    /// They are handed back as far as they are still held, so that they are dropped outside the gate.
    pub(crate) fn ack_front(&self, first_seq: u64, count: usize, gone: &mut Vec<FluxMsg>) -> Motion {
        if count == 0 {
            return 0;
        }
        let mut inner = self.lock();
        debug_assert_eq!(inner.entries.front().map(|entry| entry.seq), Some(first_seq), "acks name sequences");
        if self.spec.lane.is_standard() {
            for idx in 0..count {
                inner.note_ack(idx, &self.spec);
            }
        }
        for entry in inner.entries.drain(..count) {
            if let Body::Here(msg) = entry.body {
                gone.push(msg);
            }
        }
        inner.blocked_until_ns = 0;
        inner.waiting -= count;
        // A queue that was backing off is in motion again once its front went through.
        let moved = if inner.is_idle { inner.set_idle(false) } else { -(count as Motion) };
        self.after_removal(&mut inner, count);
        moved
    }

    fn after_removal(&self, inner: &mut Inner, count: usize) {
        self.touch();
        self.passed.fetch_add(count as u64, Ordering::Relaxed);
        let before = self.len.fetch_sub(count, Ordering::Relaxed);
        if inner.away > 0 && inner.entries.len() - inner.done - inner.away <= self.spec.memory_window / 2 {
            self.pager.ring();
        }
        if before >= self.spec.capacity && before - count < self.spec.capacity {
            for door in self.doors.lock().expect("nothing panics while it is held").iter().filter_map(Weak::upgrade) {
                door.open_up();
            }
        }
    }

    /// Notes a failure of the front message: one attempt more unless it was counted before,
    /// and the queue waits until `until_ns`.
    pub(crate) fn fail_front(&self, seq: u64, error: &str, until_ns: u64, is_counted: bool) -> Motion {
        let mut inner = self.lock();
        let cut_seq = inner.cut_seq;
        let Some(entry) = inner.entries.front_mut().filter(|entry| entry.seq == seq) else {
            return 0;
        };
        entry.attempts += u32::from(!is_counted);
        note_fault(entry, error);
        if seq < cut_seq {
            inner.changed.push(seq);
        }
        inner.blocked_until_ns = until_ns;
        self.touch();
        inner.set_idle(true)
    }

    /// Counts an attempt before it is made (careful start, HEART §7.2).
    pub(crate) fn attempt_front(&self, seq: u64) -> u32 {
        let mut inner = self.lock();
        let cut_seq = inner.cut_seq;
        let Some(entry) = inner.entries.front_mut().filter(|entry| entry.seq == seq) else { return 0 };
        entry.attempts += 1;
        note_fault(entry, "the process ended while this message was handled");
        let attempts = entry.attempts;
        if seq < cut_seq {
            inner.changed.push(seq);
        }
        self.touch();
        attempts
    }

    /// What went wrong with the message of this sequence so far.
    pub(crate) fn front_fault(&self, seq: u64) -> Option<Fault> {
        let inner = self.lock();
        let entry = inner.entries.get(inner.index_of(seq)).filter(|entry| entry.seq == seq)?;
        entry.fault.as_deref().cloned()
    }

    /// Says whether its messages are in motion. Returns by how much the node's motion changes.
    pub(crate) fn set_idle(&self, is_idle: bool) -> Motion {
        self.lock().set_idle(is_idle)
    }

    /// Its gear runs again: its messages are in motion, unless a failing one holds them.
    pub(crate) fn resume(&self) -> Motion {
        let mut inner = self.lock();
        if inner.blocked_until_ns > 0 { 0 } else { inner.set_idle(false) }
    }

    /// Whether something is left of what was there at the start, on the way to a gear.
    pub(crate) fn has_recovered(&self) -> bool {
        let inner = self.lock();
        !self.spec.is_effects && inner.entries.front().is_some_and(|entry| entry.seq < inner.recovered_end)
    }

    /// Whether it wants to be told where its messages were written.
    pub(crate) fn wants_positions(&self) -> bool {
        self.spec.retention.is_some() || self.len() > self.spec.memory_window || self.lock().away > 0
    }

    /// The oldest segment that replay still needs, and forgets what retention no longer keeps.
    pub(crate) fn oldest_retained(&self, wall_ns: i64) -> Option<SegmentId> {
        self.lock().retained.oldest(wall_ns)
    }

    /// Looks at what is kept for replay.
    pub(crate) fn retained<T>(&self, look: impl FnOnce(&Retained) -> T) -> T {
        look(&self.lock().retained)
    }

    /// Told where births were written, once they are flushed: notes them for replay, and lets go of the bodies of a
    /// backlog that is longer than the memory window.
    pub(crate) fn written(&self, births: &[Written], wall_ns: i64) {
        let is_long = self.len() > self.spec.memory_window;
        let mut guard = self.lock();
        let inner = &mut *guard;
        for &Written { seq, position, is_retained } in births {
            if is_retained {
                inner.retained.add(seq, position, wall_ns);
            }
            let idx = inner.index_of(seq);
            let next_take = inner.next_take;
            let Some(entry) = inner.entries.get_mut(idx).filter(|entry| entry.seq == seq) else { continue };
            match &mut entry.body {
                // It was carried: where it was is about to be deleted.
                Body::There(place) => *place = position,
                // Only the newest go away: the front stays ready to be handled.
                Body::Here(_) if is_long && idx >= self.spec.memory_window && seq >= next_take => {
                    entry.body = Body::There(position);
                    inner.away += 1;
                }
                Body::Here(_) | Body::Gone => {}
            }
        }
    }

    /// Positions of the first bodies that are away, up to the memory window.
    pub(crate) fn wanted(&self) -> Vec<(u64, super::Position)> {
        let inner = self.lock();
        inner
            .entries
            .iter()
            // What is done has no body: behind an effect that stays, it must not use up the window.
            .filter(|entry| !entry.is_done)
            .take(self.spec.memory_window)
            .filter_map(|entry| match entry.body {
                Body::There(position) => Some((entry.seq, position)),
                Body::Here(_) | Body::Gone => None,
            })
            .collect()
    }

    /// Bodies that were read back.
    pub(crate) fn restore(&self, bodies: Vec<(u64, FluxMsg)>) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        for (seq, msg) in bodies {
            let idx = inner.index_of(seq);
            let Some(entry) = inner.entries.get_mut(idx).filter(|entry| entry.seq == seq && !entry.is_done) else {
                continue;
            };
            if matches!(entry.body, Body::There(_)) {
                entry.body = Body::Here(msg);
                inner.away -= 1;
            }
        }
        drop(guard);
        self.consumer.ring();
    }

    /// Fills an empty queue with what was recovered. Called once, before the rig runs.
    pub(crate) fn recover(&self, entries: Vec<Entry>, next_seq: u64, retained: Retained) -> Motion {
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.entries = entries.into();
        inner.away = inner.entries.iter().filter(|entry| matches!(entry.body, Body::There(_))).count();
        inner.next_seq = next_seq;
        inner.cut_seq = next_seq;
        inner.recovered_end = next_seq;
        inner.next_take = inner.entries.front().map_or(next_seq, |entry| entry.seq);
        inner.waiting = inner.entries.len();
        if self.spec.retention.is_some() {
            inner.retained = retained;
        }
        self.len.store(inner.entries.len(), Ordering::Relaxed);
        if inner.is_idle { 0 } else { inner.entries.len() as Motion }
    }

    /// Live entries, oldest first, as the dead-letter listing reads them.
    pub(crate) fn peek<T>(&self, mut view: impl FnMut(&Entry) -> Option<T>) -> Vec<T> {
        self.lock().entries.iter().filter(|entry| !entry.is_done).filter_map(&mut view).collect()
    }
}

/// Where a birth was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) seq: u64,
    pub(crate) position: super::Position,
    pub(crate) is_retained: bool,
}

impl Inner {
    /// Index of the entry with this sequence, or where it would be.
    fn index_of(&self, seq: u64) -> usize {
        let Some(front) = self.entries.front() else { return 0 };
        // Sequences are dense but after recovery and compaction, so the guess is nearly always right.
        let guess = seq.saturating_sub(front.seq) as usize;
        if self.entries.get(guess).is_some_and(|entry| entry.seq == seq) {
            return guess;
        }
        self.entries.partition_point(|entry| entry.seq < seq)
    }

    fn set_idle(&mut self, is_idle: bool) -> Motion {
        if self.is_idle == is_idle {
            return 0;
        }
        self.is_idle = is_idle;
        let waiting = self.waiting as Motion;
        if is_idle { -waiting } else { waiting }
    }
}

fn note_fault(entry: &mut Entry, error: &str) {
    match &mut entry.fault {
        Some(fault) => fault.last = error.into(),
        none => *none = Some(Box::new(Fault { first: error.into(), last: error.into() })),
    }
}

#[cfg(test)]
mod tests;
