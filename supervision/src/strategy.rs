//! The decisions of a supervisor: events in, an ordered list of actions out. No actor, no clock, no chance but a seed.
//! OTP's rules, plus backoff between restarts and forgiveness for children that make progress.

use std::time::Duration;

use crate::backoff::{Backoff, Jitter};
use crate::intensity::{Intensity, Window};
use crate::spec::{GiveUp, Restart, Shutdown};

/// Who is restarted when a child fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The child that failed.
    #[default]
    OneForOne,
    /// All children.
    OneForAll,
    /// The child that failed and those after it.
    RestForOne,
}

/// A child, for as long as its supervisor knows it. Ids grow in start order and are not used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildId(u64);

/// What the decider must know of a child.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// When it is started again.
    pub restart: Restart,
    /// How it is stopped; handed on in [`Action::Stop`].
    pub shutdown: Shutdown,
    /// Waits between restarts.
    pub backoff: Backoff,
}

/// What happened, or is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The supervisor starts: all children are to be started.
    Boot,
    /// The child of the last [`Action::Start`] runs.
    Started(ChildId),
    /// The child of the last [`Action::Start`] does not run.
    StartFailed(ChildId),
    /// A running child ended by itself.
    Exited {
        /// Which one.
        child: ChildId,
        /// An error, a panic or a kill.
        is_abnormal: bool,
        /// Its progress counter moved since its last start.
        has_progressed: bool,
    },
    /// The time of an [`Action::Later`] is over.
    Due {
        /// As in the action.
        generation: u64,
    },
    /// A child from [`Decider::add`] is to be started.
    Add(ChildId),
    /// An operator wants this child started afresh, and with it those that the strategy binds to it.
    Restart(ChildId),
    /// An operator wants this child stopped, and not started again before a restart reaches it.
    Terminate(ChildId),
    /// An operator wants this child stopped and forgotten.
    Remove(ChildId),
    /// The supervisor ends.
    StopAll,
}

/// What the supervisor must do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the start function and report [`Event::Started`] or [`Event::StartFailed`]. Always the last of a list.
    Start(ChildId),
    /// Stop the child and wait until it is gone. Needs no report.
    Stop(ChildId, Shutdown),
    /// Report [`Event::Due`] after this time, zero included. Only the latest generation of a child has an effect.
    Later {
        /// The child whose failure is waited out.
        child: ChildId,
        /// Names this wait.
        generation: u64,
        /// How long.
        after: Duration,
    },
    /// The child is gone for good; its spec can be dropped.
    Forget(ChildId),
    /// A first start failed, those started before are stopped: report the failure and end.
    Abort(ChildId),
    /// This child's failure was one too many, all are stopped: end, so that the parent counts it.
    Escalate(ChildId),
    /// This child's failure was one too many, all are stopped: stay, marked failed.
    Hold(ChildId),
}

/// Where a child is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not running and not about to.
    Stopped,
    /// To be started in this turn, after those before it.
    Queued,
    /// Its start was ordered.
    Starting,
    /// It runs since then.
    Running {
        /// Time of its start.
        since: Duration,
    },
    /// To be started when this wait is over.
    Waiting {
        /// The wait.
        generation: u64,
    },
    /// Not running because the supervisor gave up and holds.
    Held {
        /// Its failure was the one too many.
        is_culprit: bool,
    },
}

#[derive(Clone, Debug)]
struct Child {
    id: ChildId,
    rules: Rules,
    phase: Phase,
    /// Failures in a row, for the backoff.
    failures: u32,
    /// How often its start was ordered.
    starts: u64,
    /// Added while running and not yet started once: a failed start is the caller's to handle, not ours.
    is_new: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Booting,
    Serving,
    Held,
    Ended,
}

/// The state of a supervisor's decisions.
#[derive(Clone, Debug)]
pub struct Decider {
    strategy: Strategy,
    on_give_up: GiveUp,
    steady_after: Duration,
    window: Window,
    jitter: Jitter,
    // In start order, hence sorted by id.
    children: Vec<Child>,
    next_id: u64,
    next_generation: u64,
    // So that a supervisor of many children does not look through all of them at each event.
    queued: usize,
    mode: Mode,
}

impl Decider {
    /// A supervisor without children.
    pub fn new(strategy: Strategy, intensity: Intensity, on_give_up: GiveUp, seed: u64) -> Self {
        Self {
            strategy,
            on_give_up,
            steady_after: intensity.within,
            window: Window::new(intensity),
            jitter: Jitter::new(seed),
            children: Vec::new(),
            next_id: 0,
            next_generation: 0,
            queued: 0,
            mode: Mode::Booting,
        }
    }

    /// Appends a child, which is started by [`Event::Boot`] or, later, by [`Event::Add`].
    pub fn add(&mut self, rules: Rules) -> ChildId {
        let id = ChildId(self.next_id);
        self.next_id += 1;
        let is_new = self.mode != Mode::Booting;
        self.children.push(Child { id, rules, phase: Phase::Stopped, failures: 0, starts: 0, is_new });
        id
    }

    /// The children in start order.
    pub fn children(&self) -> impl DoubleEndedIterator<Item = ChildId> + '_ {
        self.children.iter().map(|child| child.id)
    }

    /// Where a child is in its life; nothing once it is forgotten.
    pub fn phase(&self, child: ChildId) -> Option<Phase> {
        self.position(child).map(|idx| self.children[idx].phase)
    }

    /// How often a child was started again.
    pub fn restarts(&self, child: ChildId) -> u64 {
        self.position(child).map_or(0, |idx| self.children[idx].starts.saturating_sub(1))
    }

    /// Whether it gave up and holds.
    pub fn is_held(&self) -> bool {
        self.mode == Mode::Held
    }

    /// What to do about an event at a time, which is counted from any fixed point and never goes back.
    pub fn decide(&mut self, event: Event, at: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.mode != Mode::Ended {
            self.take(event, at, &mut actions);
            self.start_next(&mut actions);
        }
        actions
    }

    fn take(&mut self, event: Event, at: Duration, actions: &mut Vec<Action>) {
        match event {
            Event::Boot => (0..self.children.len()).for_each(|idx| self.set(idx, Phase::Queued)),
            Event::Due { generation } => self.due(generation),
            Event::StopAll => {
                self.stop_all(actions);
                self.mode = Mode::Ended;
            }
            Event::Started(child)
            | Event::StartFailed(child)
            | Event::Exited { child, .. }
            | Event::Add(child)
            | Event::Restart(child)
            | Event::Terminate(child)
            | Event::Remove(child) => {
                // A child that was forgotten meanwhile: nothing is left to decide.
                if let Some(idx) = self.position(child) {
                    self.take_for(idx, event, at, actions);
                }
            }
        }
    }

    fn take_for(&mut self, idx: usize, event: Event, at: Duration, actions: &mut Vec<Action>) {
        match (event, self.children[idx].phase) {
            (Event::Started(_), Phase::Starting) => self.started(idx, at),
            (Event::StartFailed(_), Phase::Starting) => self.start_failed(idx, at, actions),
            (Event::Exited { is_abnormal, has_progressed, .. }, Phase::Running { since }) => {
                let was_steady =
                    at.saturating_sub(since) >= self.steady_after.max(self.children[idx].rules.backoff.max);
                if has_progressed || was_steady {
                    self.children[idx].failures = 0;
                }
                if has_progressed {
                    self.window.forgive(self.children[idx].id);
                }
                self.exited(idx, is_abnormal, has_progressed, at, actions);
            }
            (Event::Add(_), Phase::Stopped) if self.mode == Mode::Serving => self.set(idx, Phase::Queued),
            (Event::Restart(_), _) => self.restart(idx, actions),
            (Event::Terminate(_), _) => {
                self.terminate(idx, self.children[idx].rules.restart == Restart::Temporary, actions)
            }
            (Event::Remove(_), _) => self.terminate(idx, true, actions),
            // An exit or a start that a stop overtook.
            _ => {}
        }
    }

    fn started(&mut self, idx: usize, at: Duration) {
        self.children[idx].is_new = false;
        self.set(idx, Phase::Running { since: at });
        if self.queued == 0 && self.mode == Mode::Booting {
            self.mode = Mode::Serving;
        }
    }

    fn start_failed(&mut self, idx: usize, at: Duration, actions: &mut Vec<Action>) {
        let id = self.children[idx].id;
        self.set(idx, Phase::Stopped);
        if self.mode == Mode::Booting {
            self.stop_all(actions);
            self.mode = Mode::Ended;
            actions.push(Action::Abort(id));
        } else if self.children[idx].is_new || self.children[idx].rules.restart == Restart::Temporary {
            self.forget(idx, actions);
        } else {
            // Even without a backoff this goes through `Later`: a start that fails at once must leave room for a stop.
            self.fail(idx, Failure { is_forgiven: false, may_be_at_once: false }, at, actions);
        }
    }

    fn exited(&mut self, idx: usize, is_abnormal: bool, is_forgiven: bool, at: Duration, actions: &mut Vec<Action>) {
        self.set(idx, Phase::Stopped);
        match self.children[idx].rules.restart {
            Restart::Temporary => self.forget(idx, actions),
            Restart::Transient if !is_abnormal => {}
            _ => self.fail(idx, Failure { is_forgiven, may_be_at_once: true }, at, actions),
        }
    }

    /// A restart is due: count it, clear the way, and start again now or later.
    fn fail(&mut self, idx: usize, failure: Failure, at: Duration, actions: &mut Vec<Action>) {
        if !failure.is_forgiven && self.window.exceeds(self.children[idx].id, at) {
            return self.give_up(idx, actions);
        }
        let child = &mut self.children[idx];
        let after = child.rules.backoff.delay(child.failures, &mut self.jitter);
        child.failures = child.failures.saturating_add(1);
        let id = child.id;
        if failure.may_be_at_once && after.is_zero() {
            self.clear(idx, Phase::Queued, actions);
        } else {
            let generation = self.next_generation;
            self.next_generation += 1;
            self.clear(idx, Phase::Waiting { generation }, actions);
            actions.push(Action::Later { child: id, generation, after });
        }
    }

    /// Stops, in reverse, whom the strategy binds to a child, and puts them and the child into a phase.
    fn clear(&mut self, failed: usize, phase: Phase, actions: &mut Vec<Action>) {
        let bound = match self.strategy {
            Strategy::OneForOne => failed..failed + 1,
            Strategy::OneForAll => 0..self.children.len(),
            Strategy::RestForOne => failed..self.children.len(),
        };
        for idx in bound.rev() {
            self.stop(idx, actions);
            if idx != failed && self.children[idx].rules.restart == Restart::Temporary {
                self.forget(idx, actions);
            } else {
                self.set(idx, phase);
            }
        }
    }

    fn due(&mut self, generation: u64) {
        for idx in 0..self.children.len() {
            if self.children[idx].phase == (Phase::Waiting { generation }) {
                self.set(idx, Phase::Queued);
            }
        }
    }

    fn restart(&mut self, idx: usize, actions: &mut Vec<Action>) {
        if self.mode == Mode::Held {
            self.mode = Mode::Serving;
            self.window.clear();
            self.set(idx, Phase::Queued);
            for idx in 0..self.children.len() {
                self.children[idx].failures = 0;
                if matches!(self.children[idx].phase, Phase::Held { .. }) {
                    self.set(idx, Phase::Queued);
                }
            }
            return;
        }
        self.children[idx].failures = 0;
        // One that is down on purpose binds nobody: its siblings run without it.
        if self.children[idx].phase == Phase::Stopped {
            self.set(idx, Phase::Queued);
        } else {
            self.clear(idx, Phase::Queued, actions);
        }
    }

    fn terminate(&mut self, idx: usize, is_forgotten: bool, actions: &mut Vec<Action>) {
        self.stop(idx, actions);
        self.set(idx, Phase::Stopped);
        if is_forgotten {
            self.forget(idx, actions);
        }
    }

    fn give_up(&mut self, culprit: usize, actions: &mut Vec<Action>) {
        let id = self.children[culprit].id;
        match self.on_give_up {
            GiveUp::Escalate => {
                self.stop_all(actions);
                self.mode = Mode::Ended;
                actions.push(Action::Escalate(id));
            }
            GiveUp::Hold => {
                for idx in (0..self.children.len()).rev() {
                    // One that was down on purpose stays so when the supervisor is woken.
                    if idx != culprit && self.children[idx].phase == Phase::Stopped {
                        continue;
                    }
                    self.stop(idx, actions);
                    if idx != culprit && self.children[idx].rules.restart == Restart::Temporary {
                        self.forget(idx, actions);
                    } else {
                        self.set(idx, Phase::Held { is_culprit: self.children[idx].id == id });
                    }
                }
                self.mode = Mode::Held;
                actions.push(Action::Hold(id));
            }
        }
    }

    fn stop_all(&mut self, actions: &mut Vec<Action>) {
        for idx in (0..self.children.len()).rev() {
            self.stop(idx, actions);
            self.set(idx, Phase::Stopped);
        }
    }

    fn stop(&self, idx: usize, actions: &mut Vec<Action>) {
        let child = &self.children[idx];
        if matches!(child.phase, Phase::Running { .. }) {
            actions.push(Action::Stop(child.id, child.rules.shutdown));
        }
    }

    fn forget(&mut self, idx: usize, actions: &mut Vec<Action>) {
        self.set(idx, Phase::Stopped);
        actions.push(Action::Forget(self.children.remove(idx).id));
    }

    /// One start at a time: the next one waits for the report on this one.
    fn start_next(&mut self, actions: &mut Vec<Action>) {
        if self.queued == 0 {
            if self.mode == Mode::Booting && self.children.is_empty() {
                self.mode = Mode::Serving;
            }
            return;
        }
        if self.children.iter().any(|child| child.phase == Phase::Starting) {
            return;
        }
        if let Some(idx) = self.children.iter().position(|child| child.phase == Phase::Queued) {
            self.set(idx, Phase::Starting);
            self.children[idx].starts += 1;
            actions.push(Action::Start(self.children[idx].id));
        }
    }

    fn set(&mut self, idx: usize, phase: Phase) {
        let old = std::mem::replace(&mut self.children[idx].phase, phase);
        self.queued -= usize::from(old == Phase::Queued);
        self.queued += usize::from(phase == Phase::Queued);
    }

    fn position(&self, child: ChildId) -> Option<usize> {
        self.children.binary_search_by_key(&child, |known| known.id).ok()
    }
}

/// How a failure is taken.
#[derive(Clone, Copy)]
struct Failure {
    /// It does not count against the intensity.
    is_forgiven: bool,
    /// A wait of zero means now, and not after what else has happened.
    may_be_at_once: bool,
}

#[cfg(test)]
mod tests;
