//! The handle by which others speak to a supervisor. It hides the messages, and stays valid after the supervisor's end.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorRef};
use tokio::sync::oneshot;

use super::order::{Change, Order, Reply};
use super::snapshot::BUDGET_BELOW;
use super::{Request, Setup, Supervisor};
use crate::error::{ControlError, StartError};
use crate::exit::{ExitReason, shut_down};
use crate::spec::{ChildSpec, SupervisorSpec};
use crate::tree::TreeNode;

/// How long a snapshot may take unless the caller says otherwise.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(1);

/// A running supervisor, or one that ran. Cheap to clone.
///
/// Paths are names separated by `/`, starting below this supervisor. Requests wait while the supervisor starts or stops
/// a child, so never await one from a start function or from an actor below.
#[derive(Clone)]
pub struct SupervisorRef {
    name: Arc<str>,
    actor: ActorRef<Request>,
    ended: Arc<OnceLock<ExitReason>>,
}

impl SupervisorRef {
    /// Starts the root of a tree: the only actor without a supervisor. Await its end with [`SupervisorRef::wait`].
    ///
    /// # Errors
    /// A child did not start; those before it are stopped again.
    pub async fn start_root(name: impl Into<Arc<str>>, spec: SupervisorSpec) -> Result<Self, StartError> {
        Self::spawn(name.into(), spec, None).await
    }

    /// Starts a supervisor below an actor that is not one of ours, which then hears of its end from ractor.
    /// Below a supervisor, use [`ChildSpec::supervisor`].
    ///
    /// # Errors
    /// A child did not start; those before it are stopped again.
    pub async fn start_linked(
        name: impl Into<Arc<str>>,
        spec: SupervisorSpec,
        parent: ActorCell,
    ) -> Result<Self, StartError> {
        Self::spawn(name.into(), spec, Some(parent)).await
    }

    async fn spawn(name: Arc<str>, spec: SupervisorSpec, parent: Option<ActorCell>) -> Result<Self, StartError> {
        let ended = Arc::new(OnceLock::new());
        let setup = Setup { name: name.clone(), spec, ended: ended.clone() };
        // No global name: ractor's registry is one per process, and a process may hold several trees.
        let (actor, _) = match parent {
            Some(parent) => Actor::spawn_linked(None, Supervisor, setup, parent).await?,
            None => Actor::spawn(None, Supervisor, setup).await?,
        };
        Ok(Self { name, actor, ended })
    }

    pub(super) fn of(name: Arc<str>, actor: &ActorRef<Request>, ended: Arc<OnceLock<ExitReason>>) -> Self {
        Self { name, actor: actor.clone(), ended }
    }

    /// The supervisor's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The supervisor's actor, for example to hold it under something of one's own. Link nothing below it: actors that are
    /// no children of its spec are ended when a start fails.
    pub fn cell(&self) -> ActorCell {
        self.actor.get_cell()
    }

    /// The whole tree below, within a second. A supervisor below that does not answer in time is marked.
    ///
    /// # Errors
    /// This supervisor has ended, or did not answer in time.
    pub async fn snapshot(&self) -> Result<TreeNode, ControlError> {
        self.snapshot_within(SNAPSHOT_TIMEOUT).await
    }

    /// As [`SupervisorRef::snapshot`], with another time limit.
    ///
    /// # Errors
    /// This supervisor has ended, or did not answer in time.
    pub async fn snapshot_within(&self, limit: Duration) -> Result<TreeNode, ControlError> {
        let (sender, answer) = oneshot::channel();
        let budget = limit.mul_f64(BUDGET_BELOW);
        self.actor.cast(Request::Snapshot { budget, reply: sender.into() }).map_err(|_| self.gone())?;
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(tree)) => Ok(tree),
            Ok(Err(_)) => Err(self.gone()),
            Err(_) => Err(ControlError::NoAnswer { supervisor: self.name.clone(), after: limit }),
        }
    }

    /// Stops the children in reverse order, then the supervisor, and waits for its end. Never an error: a supervisor
    /// that has ended is stopped.
    ///
    /// One that is somebody's permanent child is started again by its parent; there, use
    /// [`SupervisorRef::terminate_child`] on the parent.
    pub async fn stop(&self) -> ExitReason {
        shut_down(&self.actor);
        self.wait().await
    }

    /// Waits for the supervisor's end and says why it ended.
    pub async fn wait(&self) -> ExitReason {
        // Without a time limit there is nothing that could fail.
        let _ = self.actor.wait(None).await;
        // A kill leaves no time to set it.
        self.ended.get().cloned().unwrap_or(ExitReason::Killed)
    }

    /// The supervisor at a path below this one, as long as it is not restarted. The empty path is this one.
    ///
    /// # Errors
    /// No such child, or it is no running supervisor.
    pub async fn supervisor(&self, path: &str) -> Result<SupervisorRef, ControlError> {
        self.ask(path, Order::Reveal).await
    }

    /// Starts a child afresh, and with it those that the strategy binds to it, without counting it. Wakes a supervisor
    /// that gave up and holds: all it had stopped starts again.
    ///
    /// # Errors
    /// No such child, or a start failed. A failed start is tried again by the strategy.
    pub async fn restart_child(&self, path: &str) -> Result<(), ControlError> {
        self.ask(path, |reply| Order::Change(Change::Restart, reply)).await
    }

    /// Stops a child but keeps its spec. It starts again when it is restarted or when the strategy restarts it along
    /// with a sibling. A temporary child is forgotten.
    ///
    /// # Errors
    /// No such child.
    pub async fn terminate_child(&self, path: &str) -> Result<(), ControlError> {
        self.ask(path, |reply| Order::Change(Change::Terminate, reply)).await
    }

    /// Stops a child and forgets it.
    ///
    /// # Errors
    /// No such child.
    pub async fn remove_child(&self, path: &str) -> Result<(), ControlError> {
        self.ask(path, |reply| Order::Change(Change::Remove, reply)).await
    }

    /// Appends a child and starts it. It is lost when this supervisor itself is restarted.
    ///
    /// # Errors
    /// The name is taken, or the child did not start; it is not kept then.
    pub async fn add_child(&self, spec: ChildSpec) -> Result<(), ControlError> {
        self.ask("", |reply| Order::Add(Box::new(spec), reply)).await
    }

    async fn ask<T>(&self, path: &str, order: impl FnOnce(Reply<T>) -> Order) -> Result<T, ControlError> {
        let (reply, answer) = oneshot::channel();
        let path: VecDeque<Arc<str>> = path.split('/').filter(|name| !name.is_empty()).map(Arc::from).collect();
        self.actor.cast(Request::Order { path, order: order(reply) }).map_err(|_| self.gone())?;
        answer.await.unwrap_or_else(|_| Err(self.gone()))
    }

    fn gone(&self) -> ControlError {
        ControlError::Gone { supervisor: self.name.clone() }
    }
}

impl fmt::Debug for SupervisorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorRef").field("name", &self.name).field("id", &self.actor.get_id()).finish()
    }
}
