//! The commit: input acked, outputs emitted, state and timers changed, whole or not at all, in memory at once (HEART §2).
//! It prepares outside the gate and applies inside; the bells ring when it is out again.

use std::sync::Arc;

use fluxrig_protocol::FluxMsg;
use smol_str::SmolStr;

use crate::cell::Cell;
use crate::door::Door;
use crate::memory::Change;
use crate::mutants::{self, Mutation};
use crate::node::Node;
use crate::outlet::{Batch, Send};
use crate::wire::{After, DeadNote, Lane, Queue};

/// What an admission that ended the node waits for: nothing that will ever come.
const NEVER: After = After { flush: u64::MAX, os: u64::MAX };

/// Messages of one queue that a commit acks: `count` from `first_seq` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acks<'a> {
    pub(crate) queue: &'a Queue,
    pub(crate) first_seq: u64,
    pub(crate) count: usize,
}

/// A failing message at the front of its queue, once what came before it is acked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure<'a> {
    pub(crate) queue: &'a Queue,
    pub(crate) seq: u64,
    pub(crate) error: &'a str,
    pub(crate) until_ns: u64,
    /// The attempt was counted before it was made.
    pub(crate) is_counted: bool,
}

/// A message for the dead-letter wire.
pub(crate) type Letter = (FluxMsg, After, Arc<DeadNote>);

/// Everything that becomes true at once.
#[derive(Debug)]
pub(crate) struct Commit<'a> {
    pub(crate) cell: &'a Cell,
    pub(crate) acks: Option<Acks<'a>>,
    /// Timers that fired, with their generations.
    pub(crate) fired: &'a [(SmolStr, u64)],
    pub(crate) batch: &'a mut Batch,
    /// What the gear's later messages depend on because of this batch.
    pub(crate) after: After,
    pub(crate) dead: Vec<Letter>,
    pub(crate) failure: Option<Failure<'a>>,
    pub(crate) now_ns: u64,
}

impl Node {
    /// Applies a commit; a panic inside the gate ends the node, which recovers as after `kill -9` (HEART §2.2).
    pub(crate) fn commit_or_halt(&self, commit: Commit<'_>, gone: &mut Vec<FluxMsg>) {
        self.or_halt(|| self.commit(commit, gone));
    }

    fn or_halt<T>(&self, inside: impl FnOnce() -> T) -> Option<T> {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(inside));
        if result.is_err() {
            self.halt("a commit panicked inside the gate");
        }
        result.ok()
    }

    /// Applies a gear's commit. Messages that went are left in `gone`, so that they are dropped by the caller, outside.
    pub(crate) fn commit(&self, commit: Commit<'_>, gone: &mut Vec<FluxMsg>) {
        let Commit { cell, acks, fired, batch, after, dead, failure, now_ns } = commit;
        let lane = self.strongest(cell, acks.as_ref(), fired, batch, !dead.is_empty(), failure.as_ref());
        // Runs of one queue are pushed under one lock; the sort is stable, so each queue keeps its order.
        if batch.sends.windows(2).any(|pair| pair[0].queue > pair[1].queue) {
            batch.sends.sort_by_key(|send| send.queue);
        }
        let mut gate = lane.is_standard().then(|| self.gate.enter());
        let now = self.after_now(lane);
        if let Some(acks) = acks {
            let passed = batch.sends.iter().filter_map(|send| Some((send.passed?.seq, &send.msg)));
            acks.queue.let_go(acks.first_seq, acks.count, passed);
        }
        batch.stamp_passed(cell.entity);
        // First what comes, then what goes: doors look at queues in the middle of this, and must see no room that is taken.
        let touched = &mut batch.touched;
        let mut motion = self.push_runs(&mut batch.sends, now, now_ns, |idx| touched.push(idx));
        // Whoever sees that a message has left its wire must see whether it is a dead letter.
        if !dead.is_empty() {
            let dead = dead.into_iter().map(|(msg, after, note)| (msg, after.max(now), note)).collect();
            self.bury(dead, now_ns);
        }
        if let Some(acks) = acks {
            motion += acks.queue.ack_front(acks.first_seq, acks.count, gone);
        }
        if let Some(failure) = failure {
            motion += failure.queue.fail_front(failure.seq, failure.error, failure.until_ns, failure.is_counted);
        }
        if !batch.changes.is_empty() || !fired.is_empty() || after != After::NOTHING {
            if mutants::is(Mutation::SkipGateForState) {
                gate = None;
                mutants::linger();
            }
            let mut memory = cell.memory();
            let is_told = cell.lane.is_standard();
            memory.apply(batch.changes.drain(..), is_told);
            for (key, generation) in fired {
                memory.fire(key, *generation, is_told);
            }
            memory.after = memory.after.max(after).max(now);
        }
        if lane.is_standard() {
            self.note_dirty();
        }
        drop(gate);
        self.ring_touched(batch);
        self.move_motion(motion);
    }

    fn strongest(
        &self,
        cell: &Cell,
        acks: Option<&Acks<'_>>,
        fired: &[(SmolStr, u64)],
        batch: &Batch,
        is_burying: bool,
        failure: Option<&Failure<'_>>,
    ) -> Lane {
        let mut lane = acks.map_or(Lane::Turbo, |acks| acks.queue.spec.lane);
        if let Some(failure) = failure {
            lane = lane.max(failure.queue.spec.lane);
        }
        if !batch.changes.is_empty() || !fired.is_empty() {
            lane = lane.max(cell.lane);
        }
        if is_burying {
            lane = lane.max(self.dead.spec.lane);
        }
        let mut last = usize::MAX;
        for send in &batch.sends {
            if send.queue != last {
                last = send.queue;
                lane = lane.max(self.queues[last].spec.lane);
            }
        }
        lane
    }

    /// Pushes sends that are grouped by queue. The queues to ring are noted in `touched` by index.
    fn push_runs(&self, sends: &mut Vec<Send>, now: After, now_ns: u64, mut touched: impl FnMut(usize)) -> i64 {
        let mut motion = 0;
        let mut sends = sends.drain(..);
        while let Some(first) = sends.as_slice().first() {
            let idx = first.queue;
            touched(idx);
            // Counted first, so that each is moved once.
            let count = sends.as_slice().iter().take_while(|send| send.queue == idx).count();
            let run = sends.by_ref().take(count);
            motion += self.queues[idx].push(run.map(|send| (send.msg, send.after.max(now))), now_ns);
        }
        motion
    }

    fn ring_touched(&self, batch: &mut Batch) {
        for idx in batch.touched.drain(..) {
            self.queues[idx].consumer.ring();
        }
    }

    /// Lets messages in through a door, as one commit. Returns what a receipt for them waits for.
    pub(crate) fn admit(&self, admit: Admit<'_>) -> After {
        self.or_halt(|| self.admit_sends(admit)).unwrap_or(NEVER)
    }

    fn admit_sends(&self, admit: Admit<'_>) -> After {
        let Admit { cell, door, sends, kept, dead, now_ns } = admit;
        // Into nothing when no wire leaves the door: then there is nothing to wait for either.
        let mut lane = sends.iter().map(|send| self.queues[send.queue].spec.lane).max().unwrap_or(Lane::Turbo);
        let cell = cell.filter(|_| !kept.is_empty());
        if let Some(cell) = cell {
            lane = lane.max(cell.lane);
        }
        if !dead.is_empty() {
            lane = lane.max(self.dead.spec.lane);
        }
        let (count, bytes) = (sends.len(), sends.iter().map(|send| send.msg.content_bytes()).sum());
        if sends.windows(2).any(|pair| pair[0].queue > pair[1].queue) {
            sends.sort_by_key(|send| send.queue);
        }
        let gate = lane.is_standard().then(|| self.gate.enter());
        let now = self.after_now(lane);
        let mut rung = smallvec::SmallVec::<[usize; 8]>::new();
        let motion = self.push_runs(sends, now, now_ns, |idx| rung.push(idx));
        if !dead.is_empty() {
            let dead = dead.into_iter().map(|(msg, after, note)| (msg, after.max(now), note)).collect();
            self.bury(dead, now_ns);
        }
        if let Some(cell) = cell {
            cell.memory().apply(kept.drain(..), cell.lane.is_standard());
        }
        if lane.is_standard() {
            if count > 0 {
                door.note_admitted(self.epoch(), lane, count, bytes);
            }
            self.note_dirty();
        }
        drop(gate);
        for idx in rung {
            self.queues[idx].consumer.ring();
        }
        self.move_motion(motion);
        now
    }

    /// Ends effects: acks them, buries or reports in the same commit.
    pub(crate) fn end_effects(&self, end: EffectEnd<'_>) {
        self.or_halt(|| self.apply_ends(end));
    }

    fn apply_ends(&self, end: EffectEnd<'_>) {
        let EffectEnd { queue, seqs, dead, mut reports } = end;
        let now_ns = self.now_ns();
        let mut lane = queue.spec.lane;
        if !dead.is_empty() {
            lane = lane.max(self.dead.spec.lane);
        }
        for report in &reports {
            lane = lane.max(self.queues[report.queue].spec.lane);
        }
        let mut gone = Vec::new();
        let gate = lane.is_standard().then(|| self.gate.enter());
        let now = self.after_now(lane);
        let mut rung = smallvec::SmallVec::<[usize; 4]>::new();
        let mut motion = self.push_runs(&mut reports, now, now_ns, |idx| rung.push(idx));
        if !dead.is_empty() {
            let dead = dead.into_iter().map(|(msg, after, note)| (msg, after.max(now), note)).collect();
            self.bury(dead, now_ns);
        }
        motion += queue.ack_effects(seqs, &mut gone);
        if lane.is_standard() {
            self.note_dirty();
        }
        drop(gate);
        for idx in rung {
            self.queues[idx].consumer.ring();
        }
        self.move_motion(motion);
    }

    /// Puts the message of a dead letter on a queue and takes the letter off the list, in one commit. Says its sequence
    /// on the queue; `None` when the node ended instead.
    pub(crate) fn send_again(&self, letter: u64, queue: &Queue, msg: FluxMsg) -> Option<u64> {
        self.or_halt(|| {
            let lane = queue.spec.lane.max(self.dead.spec.lane);
            let now_ns = self.now_ns();
            let mut gone = Vec::new();
            let gate = lane.is_standard().then(|| self.gate.enter());
            let born = (msg, self.after_now(lane), None);
            let (seq, motion) = queue.push_noted(std::iter::once(born), now_ns);
            let motion = motion + self.dead.ack_effects(&mut std::iter::once(letter), &mut gone);
            if lane.is_standard() {
                self.note_dirty();
            }
            drop(gate);
            queue.consumer.ring();
            self.move_motion(motion);
            seq
        })
    }
}

/// What an endpoint lets in at once, and what it keeps together with that.
pub(crate) struct Admit<'a> {
    /// Whoever remembers `kept`; none where nothing is kept.
    pub(crate) cell: Option<&'a Cell>,
    pub(crate) door: &'a Door,
    pub(crate) sends: &'a mut Vec<Send>,
    /// What it remembers from here on.
    pub(crate) kept: &'a mut Vec<Change>,
    /// What came from outside and cannot be let in.
    pub(crate) dead: Vec<Letter>,
    pub(crate) now_ns: u64,
}

/// How effects of one queue ended.
pub(crate) struct EffectEnd<'a> {
    pub(crate) queue: &'a Queue,
    pub(crate) seqs: &'a mut dyn Iterator<Item = u64>,
    pub(crate) dead: Vec<Letter>,
    pub(crate) reports: Vec<Send>,
}
