//! One child as its supervisor holds it: the spec, the actor of the moment, and what is remembered about it.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Duration;

use ractor::{ActorCell, ActorId, ActorRef, ActorStatus};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::Request;
use crate::error::StartError;
use crate::exit::{ExitReason, SHUTDOWN, chain};
use crate::spec::{ChildSpec, Shutdown, Start, TaskSlot};
use crate::strategy::Phase;
use crate::tree::{Status, TreeNode};
use crate::vitals::{Meter, Vitals};

/// How long a killed actor may take to end. It ends at its next await; one that never awaits cannot be ended, and a
/// supervisor that waited for it would be stuck, too.
const KILL_GRACE: Duration = Duration::from_secs(5);

pub(super) struct Slot {
    pub(super) spec: ChildSpec,
    pub(super) actor: Option<ActorCell>,
    pub(super) last_exit: Option<ExitReason>,
    /// End of the wait before its restart.
    pub(super) until: Option<Instant>,
    since: Option<Instant>,
    task: TaskSlot,
    stopped: Option<ActorId>,
    progress_at_start: u64,
    vitals: Option<Vitals>,
    rate: Option<f64>,
    meter: Option<Meter>,
    is_stuck: bool,
}

impl Slot {
    pub(super) fn new(spec: ChildSpec) -> Self {
        Self {
            spec,
            actor: None,
            last_exit: None,
            until: None,
            since: None,
            task: TaskSlot::default(),
            stopped: None,
            progress_at_start: 0,
            vitals: None,
            rate: None,
            meter: None,
            is_stuck: false,
        }
    }

    pub(super) async fn start(&mut self, me: &ActorRef<Request>, restarts: u64) -> Result<ActorCell, StartError> {
        self.until = None;
        // Before the start, because the child may get something done before its start is reported.
        self.progress_at_start = self.progress();
        let start =
            Start { supervisor: me.get_cell(), name: self.spec.name.clone(), restarts, task: self.task.clone() };
        let actor = match self.spec.start_timeout {
            Some(limit) => match tokio::time::timeout(limit, guarded(&self.spec, start)).await {
                Ok(started) => started?,
                Err(_) => return Err(StartError::TimedOut(limit)),
            },
            None => guarded(&self.spec, start).await?,
        };
        if !is_linked(&actor, me) {
            kill(&actor, me).await;
            return Err(StartError::NotLinked);
        }
        self.actor = Some(actor.clone());
        let now = Instant::now();
        self.since = Some(now);
        self.read_vitals(now);
        Ok(actor)
    }

    /// Stops the actor and waits until it is gone, its state included.
    pub(super) async fn stop(
        &mut self,
        me: &ActorRef<Request>,
        supervisor: &Arc<str>,
        shutdown: Shutdown,
    ) -> Option<ActorId> {
        let actor = self.actor.take()?;
        let dying = Unlinked::new(&actor, me);
        let is_gone_by_itself = match shutdown {
            Shutdown::Kill => false,
            Shutdown::Timeout(limit) => {
                actor.stop(Some(SHUTDOWN.to_owned()));
                actor.wait(Some(limit)).await.is_ok()
            }
            Shutdown::Infinite => {
                actor.stop(Some(SHUTDOWN.to_owned()));
                actor.wait(None).await.is_ok()
            }
        };
        let reason = if is_gone_by_itself { ExitReason::Shutdown } else { ExitReason::Killed };
        if !is_gone_by_itself {
            if shutdown != Shutdown::Kill {
                warn!(%supervisor, child = %self.spec.name, ?shutdown, "child did not stop in time and is killed");
            }
            kill(&actor, me).await;
        }
        drop(dying);
        self.task_over().await;
        self.note_exit(reason);
        self.stopped = Some(actor.get_id());
        self.stopped
    }

    /// Waits until the actor's task has ended, which is a moment after its end was reported.
    pub(super) async fn task_over(&mut self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task.filter(|task| !task.is_finished()) {
            // Longer than a moment only if it is left behind, which `kill` has reported.
            let _ = tokio::time::timeout(KILL_GRACE, task).await;
        }
    }

    /// Whether this actor was the last that was stopped on purpose.
    pub(super) fn has_stopped(&self, actor: ActorId) -> bool {
        self.stopped == Some(actor)
    }

    pub(super) fn note_exit(&mut self, reason: ExitReason) {
        self.actor = None;
        self.since = None;
        self.is_stuck = false;
        self.last_exit = Some(reason);
    }

    pub(super) fn note_failed_start(&mut self, error: &StartError) {
        self.note_exit(ExitReason::Failed(chain(error).into()));
    }

    pub(super) fn has_progressed(&self) -> bool {
        self.progress() != self.progress_at_start
    }

    fn progress(&self) -> u64 {
        self.spec.progress.as_ref().map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// The limit after which it is stuck, if there is anything to tell it by.
    pub(super) fn watched(&self) -> Option<Duration> {
        self.spec.stuck_after.filter(|_| self.spec.vitals.is_some())
    }

    /// Reads the vitals of a running child and reports each episode of being stuck once.
    pub(super) fn check(&mut self, supervisor: &Arc<str>, now: Instant) {
        // Also of one that does not run: what waits for it is worth seeing.
        self.read_vitals(now);
        let (Some(limit), Some(vitals), Some(_)) = (self.watched(), self.vitals, &self.actor) else { return };
        let was_stuck = self.is_stuck;
        self.is_stuck = vitals.busy_ms.is_some_and(|busy_ms| u128::from(busy_ms) >= limit.as_millis());
        if self.is_stuck && !was_stuck {
            warn!(%supervisor, child = %self.spec.name, busy_ms = vitals.busy_ms, depth = vitals.depth, limit_ms = limit.as_millis() as u64, "child is stuck");
        } else if was_stuck && !self.is_stuck {
            info!(%supervisor, child = %self.spec.name, "child is no longer stuck");
        }
    }

    fn read_vitals(&mut self, now: Instant) {
        let Some(read) = &self.spec.vitals else { return };
        // A reader that panics says nothing; it must not take its supervisor down.
        self.vitals = catch_unwind(AssertUnwindSafe(|| read())).ok();
        let Some(vitals) = self.vitals else { return };
        self.rate = self.meter.get_or_insert_with(|| Meter::new(now, vitals.handled)).read(now, vitals.handled);
    }

    pub(super) fn node(&self, phase: Phase, restarts: u64, now: Instant) -> TreeNode {
        TreeNode {
            name: self.spec.name.clone(),
            kind: self.spec.kind,
            status: self.status(phase, now),
            id: self.actor.as_ref().map(ActorCell::get_id),
            restarts,
            last_exit: self.last_exit.clone(),
            up_for: self.since.map(|since| now.saturating_duration_since(since)),
            vitals: self.vitals,
            rate: self.rate,
            stuck: self.is_stuck,
            answered: true,
            children: Vec::new(),
        }
    }

    fn status(&self, phase: Phase, now: Instant) -> Status {
        match phase {
            Phase::Stopped | Phase::Held { is_culprit: false } => Status::Stopped,
            Phase::Queued | Phase::Starting => Status::Starting,
            Phase::Running { .. } => Status::Running,
            Phase::Waiting { .. } => Status::Backoff {
                remaining: self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now)),
            },
            Phase::Held { is_culprit: true } => Status::Failed,
        }
    }
}

/// An actor on its way out. ractor would hand its last state to the supervisor in an event, which lies unread while the
/// supervisor starts a successor that may need what the state holds; without a link the state is dropped at once.
struct Unlinked(ActorCell);

impl Unlinked {
    fn new(actor: &ActorCell, me: &ActorRef<Request>) -> Self {
        actor.unlink(me.get_cell());
        Self(actor.clone())
    }
}

impl Drop for Unlinked {
    fn drop(&mut self) {
        // Only a supervisor that is itself killed while it waits leaves an actor here that is not gone.
        self.0.kill();
    }
}

/// Kills an actor and waits until it is gone, within reason.
pub(super) async fn kill(actor: &ActorCell, me: &ActorRef<Request>) {
    actor.unlink(me.get_cell());
    // ractor kills those below along with it but does not wait for them, and a new start may need what they hold.
    let mut dying = vec![actor.clone()];
    let mut next = 0;
    while let Some(above) = dying.get(next) {
        dying.extend(above.get_children());
        next += 1;
    }
    actor.kill();
    let deadline = Instant::now() + KILL_GRACE;
    for actor in dying {
        if actor.wait(Some(deadline.saturating_duration_since(Instant::now()))).await.is_err() {
            error!(actor = %actor.get_id(), after = ?KILL_GRACE, "killed actor does not end: it never awaits; it is left behind");
        }
    }
}

/// Whether the end of an actor will be, or already was, reported to this supervisor.
fn is_linked(actor: &ActorCell, me: &ActorRef<Request>) -> bool {
    // In this order: an actor that ends reports first and unlinks then, and has a later status before both.
    let supervisor = actor.try_get_supervisor().map(|supervisor| supervisor.get_id());
    supervisor == Some(me.get_id()) || (supervisor.is_none() && actor.get_status() >= ActorStatus::Stopping)
}

/// Runs a start function; its panic becomes an error.
async fn guarded(spec: &ChildSpec, start: Start) -> Result<ActorCell, StartError> {
    let mut starting = match catch_unwind(AssertUnwindSafe(|| spec.start(start))) {
        Ok(starting) => starting,
        Err(panic) => return Err(panicked(panic)),
    };
    poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| starting.as_mut().poll(context))) {
        Ok(polled) => polled,
        Err(panic) => Poll::Ready(Err(panicked(panic))),
    })
    .await
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> StartError {
    let text = match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().map_or_else(|| "(no text)".to_owned(), |text| (*text).to_owned()),
    };
    StartError::Panicked(text)
}
