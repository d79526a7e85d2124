//! The actor that carries the decisions out: it starts and stops, learns of ends, keeps time, and answers questions.
//! It runs no foreign code but start functions and vitals, both guarded, so that it cannot itself be the fault.

mod child;
mod handle;
mod order;
mod snapshot;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use self::child::Slot;
pub use self::handle::SupervisorRef;
use self::order::Order;
use crate::error::StartError;
use crate::exit::ExitReason;
use crate::spec::{ChildSpec, Kind, Shutdown, SupervisorSpec};
use crate::strategy::{Action, ChildId, Decider, Event, Phase, Rules};
use crate::tree::TreeNode;

/// Checks for stuck children are never closer than this.
const CHECK_EVERY_MIN: Duration = Duration::from_millis(1);

/// What a supervisor is asked.
pub(crate) enum Request {
    /// Start those whose wait is over.
    Due { generation: u64 },
    /// Look for stuck children.
    Check,
    /// Show the tree.
    Snapshot { budget: Duration, reply: RpcReplyPort<TreeNode> },
    /// Do something at the end of a path of names.
    Order { path: VecDeque<Arc<str>>, order: Order },
}

/// Arguments of the actor.
pub(crate) struct Setup {
    pub(crate) name: Arc<str>,
    pub(crate) spec: SupervisorSpec,
    pub(crate) ended: Arc<OnceLock<ExitReason>>,
}

pub(crate) struct Supervisor;

pub(crate) struct State {
    name: Arc<str>,
    began: Instant,
    decider: Decider,
    slots: HashMap<ChildId, Slot>,
    by_name: HashMap<Arc<str>, ChildId>,
    by_actor: HashMap<ActorId, ChildId>,
    // Timers of restarts and checks, which end with the supervisor however it ends.
    timers: JoinSet<()>,
    stuck_after_min: Option<Duration>,
    is_checking: bool,
    ended: Arc<OnceLock<ExitReason>>,
}

impl Actor for Supervisor {
    type Msg = Request;
    type State = State;
    type Arguments = Setup;

    async fn pre_start(&self, me: ActorRef<Request>, setup: Setup) -> Result<State, ActorProcessingErr> {
        let mut state = State::new(setup)?;
        match state.follow(&me, Event::Boot).await {
            Some(error) => Err(Box::new(error)),
            None => Ok(state),
        }
    }

    async fn handle(
        &self,
        me: ActorRef<Request>,
        request: Request,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match request {
            Request::Due { generation } => drop(state.follow(&me, Event::Due { generation }).await),
            Request::Check => {
                state.is_checking = false;
                state.check_all();
                state.keep_checking(&me);
            }
            Request::Snapshot { budget, reply } => state.snapshot(&me, budget, reply),
            Request::Order { path, order } => state.order(&me, path, order).await,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<Request>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let end = event.actor_id().zip(ExitReason::from_event(&event));
        // The event owns the last state of the actor, and with it sockets and files that its successor needs.
        drop(event);
        if let Some((actor, reason)) = end {
            state.exited(&me, actor, reason).await;
        }
        Ok(())
    }

    async fn post_stop(&self, me: ActorRef<Request>, state: &mut State) -> Result<(), ActorProcessingErr> {
        // After giving up the children are gone already, and this does nothing.
        state.follow(&me, Event::StopAll).await;
        // Set unless it gave up, which says so before.
        let _ = state.ended.set(ExitReason::Shutdown);
        Ok(())
    }
}

impl State {
    fn new(setup: Setup) -> Result<Self, StartError> {
        let Setup { name, spec, ended } = setup;
        let mut state = Self {
            name,
            began: Instant::now(),
            decider: Decider::new(spec.strategy, spec.intensity, spec.on_give_up, spec.seed),
            slots: HashMap::with_capacity(spec.children.len()),
            by_actor: HashMap::with_capacity(spec.children.len()),
            by_name: HashMap::with_capacity(spec.children.len()),
            timers: JoinSet::new(),
            stuck_after_min: None,
            is_checking: false,
            ended,
        };
        for child in spec.children {
            state.adopt(child)?;
        }
        Ok(state)
    }

    /// Takes a child into the list, without starting it.
    fn adopt(&mut self, spec: ChildSpec) -> Result<ChildId, StartError> {
        if spec.name.is_empty() || spec.name.contains('/') {
            return Err(StartError::BadName { supervisor: self.name.clone(), name: spec.name });
        }
        if self.by_name.contains_key(&spec.name) {
            return Err(StartError::DuplicateName { supervisor: self.name.clone(), name: spec.name });
        }
        let id = self.decider.add(Rules { restart: spec.restart, shutdown: spec.shutdown, backoff: spec.backoff });
        let slot = Slot::new(spec);
        self.stuck_after_min = self.stuck_after_min.into_iter().chain(slot.watched()).min();
        self.by_name.insert(slot.spec.name.clone(), id);
        self.slots.insert(id, slot);
        Ok(id)
    }

    fn forget(&mut self, child: ChildId) {
        if let Some(slot) = self.slots.remove(&child) {
            self.by_name.remove(&slot.spec.name);
        }
    }

    /// Carries out what an event leads to, to its end. Returns the first start that failed on the way.
    async fn follow(&mut self, me: &ActorRef<Request>, event: Event) -> Option<StartError> {
        let mut failure = None;
        let mut actions = VecDeque::from(self.decider.decide(event, self.began.elapsed()));
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Start(child) => {
                    let event = match self.start(me, child).await {
                        Ok(()) => Event::Started(child),
                        Err(error) => {
                            failure.get_or_insert(error);
                            Event::StartFailed(child)
                        }
                    };
                    actions.extend(self.decider.decide(event, self.began.elapsed()));
                }
                Action::Stop(child, shutdown) => self.stop(me, child, shutdown).await,
                Action::Later { child, generation, after } => self.wait_for(me, child, generation, after),
                Action::Forget(child) => self.forget(child),
                Action::Abort(child) => debug!(supervisor = %self.name, child = %self.name_of(child), "start aborted"),
                Action::Escalate(child) => {
                    let reason = ExitReason::GaveUp(self.why_given_up(child));
                    warn!(supervisor = %self.name, child = %self.name_of(child), %reason, "supervisor gives up");
                    let _ = self.ended.set(reason.clone());
                    me.stop(reason.to_stop());
                }
                Action::Hold(child) => {
                    let reason = self.why_given_up(child);
                    error!(supervisor = %self.name, child = %self.name_of(child), %reason, "supervisor gives up and holds");
                }
            }
        }
        self.keep_checking(me);
        failure
    }

    async fn start(&mut self, me: &ActorRef<Request>, child: ChildId) -> Result<(), StartError> {
        let restarts = self.decider.restarts(child);
        let Some(slot) = self.slots.get_mut(&child) else { return Ok(()) };
        match slot.start(me, restarts).await {
            Ok(actor) => {
                self.by_actor.insert(actor.get_id(), child);
                Ok(())
            }
            Err(error) => {
                slot.note_failed_start(&error);
                let (supervisor, child, cause) = (&self.name, &slot.spec.name, crate::exit::chain(&error));
                match slot.spec.kind {
                    Kind::Worker => warn!(%supervisor, %child, restarts, error = %cause, "child did not start"),
                    // Its own supervisor has told why; each one above would only repeat it, longer.
                    Kind::Supervisor => {
                        debug!(%supervisor, %child, restarts, error = %cause, "supervisor did not start")
                    }
                }
                let error = error.of(&slot.spec.name);
                self.sweep(me).await;
                Err(error)
            }
        }
    }

    /// Ends actors that a failed start function left linked to this supervisor.
    async fn sweep(&self, me: &ActorRef<Request>) {
        for stray in me.get_children() {
            if !self.by_actor.contains_key(&stray.get_id()) {
                child::kill(&stray, me).await;
            }
        }
    }

    async fn stop(&mut self, me: &ActorRef<Request>, child: ChildId, shutdown: Shutdown) {
        let Some(slot) = self.slots.get_mut(&child) else { return };
        if let Some(actor) = slot.stop(me, &self.name, shutdown).await {
            self.by_actor.remove(&actor);
        }
    }

    fn wait_for(&mut self, me: &ActorRef<Request>, child: ChildId, generation: u64, after: Duration) {
        let until = Instant::now() + after;
        for (id, slot) in &mut self.slots {
            if self.decider.phase(*id) == Some(Phase::Waiting { generation }) {
                slot.until = Some(until);
            }
        }
        debug!(supervisor = %self.name, child = %self.name_of(child), ?after, "restart waits");
        if after.is_zero() {
            // The mailbox is this actor's own, so it is open as long as this code runs.
            let _ = me.cast(Request::Due { generation });
        } else {
            self.remind(me, until, Request::Due { generation });
        }
    }

    fn remind(&mut self, me: &ActorRef<Request>, at: Instant, request: Request) {
        while self.timers.try_join_next().is_some() {}
        let me = me.clone();
        self.timers.spawn(async move {
            tokio::time::sleep_until(at).await;
            // Refused only by a supervisor that is ending.
            let _ = me.cast(request);
        });
    }

    async fn exited(&mut self, me: &ActorRef<Request>, actor: ActorId, reason: ExitReason) {
        let Some(child) = self.by_actor.remove(&actor) else {
            return self.exited_before(actor, reason);
        };
        let Some(slot) = self.slots.get_mut(&child) else { return };
        slot.task_over().await;
        let is_abnormal = reason.is_abnormal();
        let has_progressed = slot.has_progressed();
        if is_abnormal {
            warn!(supervisor = %self.name, child = %slot.spec.name, %reason, has_progressed, "child failed");
        } else {
            info!(supervisor = %self.name, child = %slot.spec.name, %reason, "child ended");
        }
        slot.note_exit(reason);
        self.follow(me, Event::Exited { child, is_abnormal, has_progressed }).await;
    }

    /// The end of an actor that a stop overtook: no reason to start it again, but nothing to hide either.
    fn exited_before(&mut self, actor: ActorId, reason: ExitReason) {
        match self.slots.values_mut().find(|slot| slot.has_stopped(actor)) {
            Some(slot) if reason.is_abnormal() => {
                warn!(supervisor = %self.name, child = %slot.spec.name, %reason, "child had failed before it was stopped");
                slot.last_exit = Some(reason);
            }
            _ => debug!(supervisor = %self.name, %actor, %reason, "end of an actor that is no child"),
        }
    }

    fn check_all(&mut self) {
        let now = Instant::now();
        for slot in self.slots.values_mut() {
            slot.check(&self.name, now);
        }
    }

    /// Keeps one check under way while a child can be stuck; twice per shortest limit, so that none is found late.
    fn keep_checking(&mut self, me: &ActorRef<Request>) {
        if let (Some(shortest), false) = (self.stuck_after_min, self.is_checking) {
            self.is_checking = true;
            let every = (shortest / 2).max(CHECK_EVERY_MIN);
            self.remind(me, Instant::now() + every, Request::Check);
        }
    }

    fn why_given_up(&self, child: ChildId) -> Arc<str> {
        let last = self.slots.get(&child).and_then(|slot| slot.last_exit.clone()).unwrap_or(ExitReason::Normal);
        format!("too many restarts, the last of `{}` ({last})", self.name_of(child)).into()
    }

    fn name_of(&self, child: ChildId) -> &str {
        self.slots.get(&child).map_or("", |slot| &slot.spec.name)
    }
}

#[cfg(test)]
mod tests;
