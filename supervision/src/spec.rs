//! What a caller writes down: which children there are, in which order, and how each is started, restarted and stopped.
//! Values only; they can be used again at every restart.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorRef};
use tokio::task::JoinHandle;

use crate::backoff::Backoff;
use crate::error::StartError;
use crate::intensity::Intensity;
use crate::strategy::Strategy;
use crate::supervisor::SupervisorRef;
use crate::vitals::{Vitals, VitalsFn};

/// When a child that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// Only after an abnormal exit.
    Transient,
    /// Never, not even when a sibling takes it down; it is forgotten when it ends.
    Temporary,
}

/// How a child is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// It is killed. For workers: a killed supervisor cannot stop its children in order, they are killed with it.
    Kill,
    /// It is asked, and killed if it takes longer.
    Timeout(Duration),
    /// It is asked, and waited for without end. For supervisors, whose own children have bounds.
    Infinite,
}

/// Whether a child has children itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An actor that works.
    Worker,
    /// A supervisor of this crate.
    Supervisor,
}

/// What a supervisor does after one restart too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GiveUp {
    /// It stops its children and ends; its parent counts that as a failure. OTP.
    #[default]
    Escalate,
    /// It stops its children and stays, marked failed, so that its siblings go on. A restart of one of its children, or
    /// of itself, wakes it. Its own first start is not forgiven: if that fails, its parent hears of it.
    Hold,
}

/// What a start function is given.
#[derive(Clone, Debug)]
pub struct Start {
    /// The supervisor: spawn linked to it.
    pub supervisor: ActorCell,
    /// The child's name.
    pub name: Arc<str>,
    /// How often this child was started before.
    pub restarts: u64,
    pub(crate) task: TaskSlot,
}

/// Where a start function leaves the task of its actor.
pub(crate) type TaskSlot = Arc<Mutex<Option<JoinHandle<()>>>>;

impl Start {
    /// Spawns the child's actor, linked to its supervisor and without a global name.
    ///
    /// # Errors
    /// The actor's `pre_start` failed or panicked.
    pub async fn spawn<A: Actor>(&self, actor: A, arguments: A::Arguments) -> Result<ActorCell, StartError> {
        self.spawn_ref(actor, arguments).await.map(|actor| actor.get_cell())
    }

    /// As [`Start::spawn`], for a start function that passes the typed reference on.
    ///
    /// # Errors
    /// The actor's `pre_start` failed or panicked.
    pub async fn spawn_ref<A: Actor>(&self, actor: A, arguments: A::Arguments) -> Result<ActorRef<A::Msg>, StartError> {
        let (actor, task) = Actor::spawn_linked(None, actor, arguments, self.supervisor.clone()).await?;
        self.keep_task(task);
        Ok(actor)
    }

    /// For a start function that spawns its actor by itself: hands over what `spawn_linked` returned beside the actor.
    ///
    /// ractor reports a failure before it drops the actor's state, so a successor could find a socket or a file of its
    /// predecessor still open. With the task the supervisor waits until all of it is gone. [`Start::spawn`] does this.
    pub fn keep_task(&self, task: JoinHandle<()>) {
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }
}

/// The future of a start function.
pub type Starting = Pin<Box<dyn Future<Output = Result<ActorCell, StartError>> + Send>>;

type StartFn = Arc<dyn Fn(Start) -> Starting + Send + Sync>;

/// One child of a supervisor.
#[derive(Clone)]
pub struct ChildSpec {
    /// Unique among its siblings, without `/`.
    pub name: Arc<str>,
    /// When it is started again.
    pub restart: Restart,
    /// How it is stopped.
    pub shutdown: Shutdown,
    /// Waits between restarts.
    pub backoff: Backoff,
    /// Worker or supervisor.
    pub kind: Kind,
    /// Grows whenever the child gets something done. A failure after growth is forgiven: neither it nor the child's
    /// failures before it count against the intensity, and the backoff begins again.
    pub progress: Option<Arc<AtomicU64>>,
    /// Reads the child's vitals.
    pub vitals: Option<VitalsFn>,
    /// A message handled for longer than this makes the child stuck (needs `vitals`).
    pub stuck_after: Option<Duration>,
    /// A start that takes longer is abandoned and counts as failed. The supervisor handles nothing else meanwhile.
    pub start_timeout: Option<Duration>,
    start: StartFn,
}

impl ChildSpec {
    /// A worker: permanent, stopped within 5 s, default backoff, started within 30 s.
    ///
    /// `start` runs at every start. It must spawn exactly one actor linked to [`Start::supervisor`] (best by
    /// [`Start::spawn`]) and wait for nothing that waits for this supervisor.
    pub fn worker<F, Fut>(name: impl Into<Arc<str>>, start: F) -> Self
    where
        F: Fn(Start) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ActorCell, StartError>> + Send + 'static,
    {
        Self {
            name: name.into(),
            restart: Restart::Permanent,
            shutdown: Shutdown::Timeout(Duration::from_secs(5)),
            backoff: Backoff::default(),
            kind: Kind::Worker,
            progress: None,
            vitals: None,
            stuck_after: None,
            start_timeout: Some(Duration::from_secs(30)),
            start: Arc::new(move |context| Box::pin(start(context))),
        }
    }

    /// A supervisor: permanent, waited for at its end, no time limit on its start (its children have theirs).
    pub fn supervisor(name: impl Into<Arc<str>>, spec: SupervisorSpec) -> Self {
        Self::supervisor_from(name, move |_| Ok(spec.clone()))
    }

    /// A supervisor whose children are made anew at every start.
    pub fn supervisor_from<F>(name: impl Into<Arc<str>>, spec: F) -> Self
    where
        F: Fn(&Start) -> Result<SupervisorSpec, StartError> + Send + Sync + 'static,
    {
        let worker = Self::worker(name, move |start| {
            let spec = spec(&start);
            async move { Ok(SupervisorRef::start_linked(start.name, spec?, start.supervisor).await?.cell()) }
        });
        Self { kind: Kind::Supervisor, shutdown: Shutdown::Infinite, start_timeout: None, ..worker }
    }

    /// Sets when it is started again.
    pub fn restart(self, restart: Restart) -> Self {
        Self { restart, ..self }
    }

    /// Sets how it is stopped.
    pub fn shutdown(self, shutdown: Shutdown) -> Self {
        Self { shutdown, ..self }
    }

    /// Sets the waits between restarts.
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// Gives the counter that forgives failures.
    pub fn progress(self, progress: Arc<AtomicU64>) -> Self {
        Self { progress: Some(progress), ..self }
    }

    /// Gives the child's vitals.
    pub fn vitals(self, vitals: impl Fn() -> Vitals + Send + Sync + 'static) -> Self {
        Self { vitals: Some(Arc::new(vitals)), ..self }
    }

    /// Sets after how long one message makes the child stuck.
    pub fn stuck_after(self, stuck_after: Duration) -> Self {
        Self { stuck_after: Some(stuck_after), ..self }
    }

    /// Sets how long a start may take.
    pub fn start_timeout(self, start_timeout: Duration) -> Self {
        Self { start_timeout: Some(start_timeout), ..self }
    }

    pub(crate) fn start(&self, context: Start) -> Starting {
        (self.start)(context)
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("restart", &self.restart)
            .field("shutdown", &self.shutdown)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

/// A supervisor and its children, in the order in which they start.
#[derive(Clone, Debug, Default)]
pub struct SupervisorSpec {
    /// Who is restarted together.
    pub strategy: Strategy,
    /// How many restarts are too many.
    pub intensity: Intensity,
    /// Started in this order, stopped in reverse.
    pub children: Vec<ChildSpec>,
    /// What happens then.
    pub on_give_up: GiveUp,
    /// Seeds the jitter.
    pub seed: u64,
}

impl SupervisorSpec {
    /// No children yet; intensity of OTP (1 restart in 5 s), escalating.
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy, ..Self::default() }
    }

    /// Only the child that failed is restarted.
    pub fn one_for_one() -> Self {
        Self::new(Strategy::OneForOne)
    }

    /// All are restarted when one fails.
    pub fn one_for_all() -> Self {
        Self::new(Strategy::OneForAll)
    }

    /// The one that failed and those after it are restarted.
    pub fn rest_for_one() -> Self {
        Self::new(Strategy::RestForOne)
    }

    /// Appends a child.
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// Sets how many restarts are too many.
    pub fn intensity(self, max_restarts: u32, within: Duration) -> Self {
        Self { intensity: Intensity::new(max_restarts, within), ..self }
    }

    /// Sets what happens then.
    pub fn on_give_up(self, on_give_up: GiveUp) -> Self {
        Self { on_give_up, ..self }
    }

    /// Sets the seed of the jitter.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }
}
