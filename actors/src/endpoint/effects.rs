//! The way out: effects are taken inside the gate, wait for the mark, start, and are ended (HEART §5).
//! What was taken and not ended when the endpoint or the process ends comes back as *maybe sent*.

use std::collections::VecDeque;
use std::sync::Arc;

use fluxrig_protocol::{Flags, FluxMsg};
use smol_str::SmolStr;

use crate::cell::Cell;
use crate::commit::EffectEnd;
use crate::identity::Cause;
use crate::marks::{MarkWatch, Marks};
use crate::mutants::{self, Mutation};
use crate::node::Node;
use crate::outlet::Send;
use crate::wire::{After, DeadNote, Effect as TakenEffect, Lane, Queue};

/// The effects of one endpoint, in the order of each wire.
#[derive(Debug)]
pub struct Effects {
    home: Arc<Home>,
    marks: MarkWatch,
    /// Taken, waiting for the mark.
    parked: VecDeque<Parked>,
    window: usize,
    is_idle: bool,
    next_inlet: usize,
    buffer: Vec<TakenEffect>,
}

/// Where effects are ended. One for all of an endpoint: the counts of node and cell, which every core has a hand in,
/// are not touched for each effect.
#[derive(Debug)]
struct Home {
    node: Arc<Node>,
    cell: Arc<Cell>,
}

impl Home {
    fn give_back(&self, queue: &Queue, seqs: impl Iterator<Item = u64>) {
        let gate = queue.spec.lane.is_standard().then(|| self.node.gate.enter());
        let motion = queue.untake(seqs);
        if gate.is_some() {
            self.node.note_dirty();
        }
        drop(gate);
        self.node.move_motion(motion);
    }
}

#[derive(Debug)]
struct Parked {
    inlet_idx: usize,
    needs: After,
    effect: TakenEffect,
}

/// An effect that may start now: everything it depends on is durable. End it with one of its methods.
#[derive(Debug)]
#[must_use = "an effect that is not ended comes back as maybe sent"]
pub struct Effect {
    home: Arc<Home>,
    inlet_idx: usize,
    seq: u64,
    after: After,
    is_maybe_sent: bool,
    /// It had the flag of that name before it was taken.
    was_flagged: bool,
    /// What to send.
    pub msg: FluxMsg,
}

impl Effects {
    pub(crate) fn new(node: &Arc<Node>, cell: &Arc<Cell>) -> Self {
        Self {
            home: Arc::new(Home { node: Arc::clone(node), cell: Arc::clone(cell) }),
            marks: node.watch_marks(),
            parked: VecDeque::new(),
            window: node.settings.effects_max,
            is_idle: true,
            next_inlet: 0,
            buffer: Vec::new(),
        }
    }

    /// How many effects may be taken and wait for the mark: what the endpoint could start now. 0 while its link is
    /// down, so that nothing is taken that cannot be sent; what was taken and not started is given back.
    pub fn set_window(&mut self, window: usize) {
        self.window = window.min(self.home.node.settings.effects_max);
        if self.window == 0 {
            self.give_back();
            self.set_idle(true);
        }
    }

    /// The next effect, as soon as one may start. `None` when the rig has ended.
    pub async fn take(&mut self) -> Option<Effect> {
        loop {
            if self.home.node.gauge.is_halted() {
                return None;
            }
            if self.home.node.gauge.is_settling() {
                // What was not started stays on its wire, and is not maybe sent.
                self.set_window(0);
            }
            let marks = self.marks.look();
            if let Some(effect) = self.start_one(marks, &mut None) {
                return Some(effect);
            }
            if self.take_more() {
                continue;
            }
            let needs = self.parked.front().map_or(After::NOTHING, |parked| parked.needs);
            // While the lease is too short there is nothing to wait for but that it is renewed, which all are told.
            let needs = if self.home.node.may_start_effects() { needs } else { After::NOTHING };
            if needs != After::NOTHING {
                self.home.node.demand(needs);
            }
            tokio::select! {
                biased;
                () = self.marks.covered(needs) => {}
                () = self.home.cell.bell.heard() => {}
            }
        }
    }

    /// Waits for at least one effect and gives up to `max` that may start now. Empty when the rig has ended.
    pub async fn take_many(&mut self, max: usize) -> Vec<Effect> {
        let Some(first) = self.take().await else { return Vec::new() };
        let mut effects = Vec::with_capacity(1 + self.parked.len().min(max));
        effects.push(first);
        let marks = self.marks.get();
        let mut now = None;
        while effects.len() < max {
            match self.start_one(marks, &mut now) {
                Some(effect) => effects.push(effect),
                None => break,
            }
        }
        effects
    }

    /// `now` is the wall time of the batch: it is read for the first effect that expires, and not again for the others.
    fn start_one(&mut self, marks: Marks, now: &mut Option<i64>) -> Option<Effect> {
        if !self.home.node.may_start_effects() {
            return None;
        }
        let is_early = mutants::is(Mutation::EffectBeforeMark);
        while self.parked.front().is_some_and(|parked| is_early || marks.cover(parked.needs)) {
            let parked = self.parked.pop_front()?;
            let effect = self.effect(parked);
            if mutants::is(Mutation::AckBeforeEffect) {
                effect.end(Vec::new(), Vec::new());
            }
            // Maybe sent comes first: it is reported even past its expiry.
            let mut now = || *now.get_or_insert_with(|| self.home.node.wall_ns());
            if !effect.is_maybe_sent && effect.msg.expires.is_some_and(|expires| expires < now()) {
                effect.reject("expired");
                continue;
            }
            return Some(effect);
        }
        None
    }

    fn effect(&self, parked: Parked) -> Effect {
        let TakenEffect { seq, mut msg, after, is_maybe_sent } = parked.effect;
        let was_flagged = msg.flags.contains(Flags::MAYBE_SENT);
        if is_maybe_sent {
            let flags = msg.flags.with(Flags::MAYBE_SENT);
            msg.set_flags(flags);
        }
        Effect {
            home: Arc::clone(&self.home),
            inlet_idx: parked.inlet_idx,
            seq,
            after,
            is_maybe_sent,
            was_flagged,
            msg,
        }
    }

    /// Takes what is there, up to the window. False when there was nothing, or no room.
    fn take_more(&mut self) -> bool {
        let room = self.window.saturating_sub(self.parked.len());
        self.set_idle(room == 0);
        if room == 0 {
            return false;
        }
        let home = Arc::clone(&self.home);
        let inlets = &home.cell.wiring().inlets;
        let mut left = room;
        let mut needs = After::NOTHING;
        for offset in 0..inlets.len() {
            let inlet_idx = (self.next_inlet + offset) % inlets.len();
            let queue = &inlets[inlet_idx].queue;
            if left == 0 || !queue.has_effects() {
                continue;
            }
            let gate = queue.spec.lane.is_standard().then(|| self.home.node.gate.enter());
            let taken_in = self.home.node.after_now(queue.spec.lane);
            let motion = queue.take_effects(left, &mut self.buffer);
            if gate.is_some() && !self.buffer.is_empty() {
                self.home.node.note_dirty();
            }
            drop(gate);
            self.home.node.move_motion(motion);
            left -= self.buffer.len();
            for effect in self.buffer.drain(..) {
                let taken_in = if mutants::is(Mutation::CutBeforeTake) { After::NOTHING } else { taken_in };
                let needs_here = effect.after.max(taken_in);
                needs = needs.max(needs_here);
                self.parked.push_back(Parked { inlet_idx, needs: needs_here, effect });
            }
        }
        self.next_inlet = self.next_inlet.wrapping_add(1);
        if left == room {
            return false;
        }
        if needs != After::NOTHING {
            self.home.node.demand(needs);
        }
        true
    }

    fn set_idle(&mut self, is_idle: bool) {
        if self.is_idle == is_idle {
            return;
        }
        self.is_idle = is_idle;
        for inlet in &self.home.cell.wiring().inlets {
            self.home.node.move_motion(inlet.queue.set_idle(is_idle));
        }
    }

    /// Certainly not started: they are not *maybe sent* when the next endpoint takes them.
    fn give_back(&mut self) {
        for (inlet_idx, inlet) in self.home.cell.wiring().inlets.iter().enumerate() {
            let seqs =
                self.parked.iter().filter(|parked| parked.inlet_idx == inlet_idx).map(|parked| parked.effect.seq);
            self.home.give_back(&inlet.queue, seqs);
        }
        self.parked.clear();
    }
}

impl Drop for Effects {
    fn drop(&mut self) {
        if !self.home.node.gauge.is_halted() {
            self.give_back();
        }
        self.set_idle(true);
    }
}

impl Effect {
    /// Whether it may have happened before a crash. It has the flag of that name, too. A dead letter that an operator has
    /// replayed as *maybe sent* has the flag only: it is to be sent, as a repeat where the protocol can say so.
    #[must_use]
    pub fn is_maybe_sent(&self) -> bool {
        self.is_maybe_sent
    }

    /// What to send, to a receiver that tells repeats by [`Effect::place`]: without the flag, unless somebody before has
    /// set it.
    #[must_use]
    pub fn unflagged(&self) -> FluxMsg {
        let flags = if self.was_flagged { self.msg.flags } else { self.msg.flags.without(Flags::MAYBE_SENT) };
        self.msg.clone().with_flags(flags)
    }

    /// The wire's incarnation and its sequence there: the same whenever it comes back, never again for another one. A
    /// message that was replayed has another sequence.
    #[must_use]
    pub fn place(&self) -> (u64, u64) {
        (self.queue().spec.incarnation, self.seq)
    }

    /// It happened.
    pub fn done(self) {
        self.end(Vec::new(), Vec::new());
    }

    /// Nobody knows whether it happened: a report goes out of the endpoint's first output port, without waiting for a
    /// door, with the effect's message as `ref`, its trace and return address, and the flag *maybe sent*. Where no wire
    /// leaves that port, the message is a dead letter with that flag.
    pub fn unknown(self, reason: &str) {
        let mut report = FluxMsg::new(self.msg.id, self.msg.trace, self.home.cell.entity, self.home.node.wall_ns());
        let cause = Cause { input: self.msg.id, wire: self.queue().spec.number, gear: self.home.cell.number };
        report.id = self.home.node.id_key.derive(cause, 0);
        report.reference = Some(self.msg.id);
        report.return_to.clone_from(&self.msg.return_to);
        report.expires = self.msg.expires;
        report.flags = Flags::MAYBE_SENT;
        // The context goes along, so that whoever asked can tell which question this is.
        report.meta = self.msg.meta.clone();
        report.meta.set("fluxrig.outcome", "unknown");
        report.meta.set("fluxrig.reason", reason);
        let mut reports = Vec::new();
        for wire in self.home.cell.outs(0) {
            let queue = wire.route(&report).spec.idx;
            reports.push(Send::new(queue, report.clone(), self.after));
        }
        if reports.is_empty() {
            // Nobody is there to be told: it is kept where a person finds it, with its flag, never dropped.
            let msg = self.msg.clone().with_flags(self.msg.flags.with(Flags::MAYBE_SENT));
            return self.bury(msg, &format!("outcome unknown: {reason}"));
        }
        self.end(Vec::new(), reports);
    }

    /// It cannot happen: the message goes to the dead-letter wire with this reason.
    pub fn reject(self, reason: &str) {
        self.bury(self.msg.clone(), reason);
    }

    fn bury(&self, msg: FluxMsg, reason: &str) {
        let (attempts, fault) = self.queue().effect_fault(self.seq);
        let (first, last) = match fault {
            Some(fault) => (fault.first, fault.last),
            None => (SmolStr::from(reason), SmolStr::from(reason)),
        };
        let note = Arc::new(DeadNote {
            gear: self.home.cell.name.clone(),
            wire: self.queue().spec.wire.clone(),
            reason: reason.into(),
            attempts: attempts + 1,
            first,
            last,
            at_ns: self.home.node.wall_ns(),
        });
        self.end(vec![(self.home.node.redacted(msg), self.after, note)], Vec::new());
    }

    /// Ends many effects that happened, with one commit per wire.
    pub fn done_all(effects: impl IntoIterator<Item = Effect>) {
        let mut effects = effects.into_iter().peekable();
        while let Some(first) = effects.next() {
            let (home, inlet_idx) = (Arc::clone(&first.home), first.inlet_idx);
            let queue = &home.cell.wiring().inlets[inlet_idx].queue;
            let mut count = 0;
            let mut seqs = std::iter::once(first.seq)
                .chain(std::iter::from_fn(|| effects.next_if(|next| next.inlet_idx == inlet_idx).map(|next| next.seq)))
                .inspect(|_| count += 1);
            home.node.end_effects(EffectEnd { queue, seqs: &mut seqs, dead: Vec::new(), reports: Vec::new() });
            home.cell.count_handled(count);
        }
    }

    /// Gives back effects of which nothing has started after all, for instance since the link was lost before a byte was
    /// written: each is on its wire again, in its place, and not *maybe sent*, unless it was so before.
    pub fn give_back_all(effects: impl IntoIterator<Item = Effect>) {
        let mut effects = effects.into_iter().peekable();
        while let Some(first) = effects.next() {
            let home = Arc::clone(&first.home);
            if home.node.gauge.is_halted() {
                return;
            }
            let inlet_idx = first.inlet_idx;
            let queue = &home.cell.wiring().inlets[inlet_idx].queue;
            let seqs = std::iter::once(first.seq)
                .chain(std::iter::from_fn(|| effects.next_if(|next| next.inlet_idx == inlet_idx).map(|next| next.seq)));
            home.give_back(queue, seqs);
        }
    }

    fn queue(&self) -> &Queue {
        &self.home.cell.wiring().inlets[self.inlet_idx].queue
    }

    fn end(&self, dead: Vec<(FluxMsg, After, Arc<DeadNote>)>, reports: Vec<Send>) {
        if self.queue().spec.lane == Lane::Turbo || !self.home.node.gauge.is_halted() {
            let mut seqs = std::iter::once(self.seq);
            self.home.node.end_effects(EffectEnd { queue: self.queue(), seqs: &mut seqs, dead, reports });
            self.home.cell.count_handled(1);
        }
    }
}
