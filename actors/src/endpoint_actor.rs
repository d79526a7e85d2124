//! The actor around an endpoint: runs its future as a task, and ends when the future ends.
//! What it had taken and not ended comes back to its successor as *maybe sent*.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::cell::Cell;
use crate::endpoint::{AnyEndpoint, Io};
use crate::gear::GearError;
use crate::gear_actor::panic_text;
use crate::node::Node;

pub(crate) enum EndpointMsg {
    /// Its future ended.
    Ended(Result<(), GearError>),
}

pub(crate) struct EndpointActor;

/// What an endpoint actor is started with.
pub(crate) struct EndpointSetup {
    pub(crate) endpoint: Arc<dyn AnyEndpoint>,
    pub(crate) node: Arc<Node>,
    pub(crate) cell: Arc<Cell>,
}

pub(crate) struct Running {
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Also when the actor is killed: no endpoint outlives its actor.
        self.task.abort();
    }
}

impl Actor for EndpointActor {
    type Msg = EndpointMsg;
    type State = Running;
    type Arguments = EndpointSetup;

    async fn pre_start(&self, me: ActorRef<EndpointMsg>, setup: EndpointSetup) -> Result<Running, ActorProcessingErr> {
        let EndpointSetup { endpoint, node, cell } = setup;
        for inlet in &cell.wiring().inlets {
            let gate = inlet.queue.spec.lane.is_standard().then(|| node.gate.enter());
            let motion = inlet.queue.rewind_effects();
            drop(gate);
            node.move_motion(motion);
        }
        cell.note_started();
        let opened = Arc::new(Notify::new());
        let opens = endpoint.opens();
        let io = Io::new(node, Arc::clone(&cell), Arc::clone(&opened));
        let (ended, mut end) = oneshot::channel();
        let task = tokio::spawn(async move {
            let run = AssertUnwindSafe(async move { endpoint.run(io).await });
            let result = run.catch_unwind().await;
            let result = result
                .unwrap_or_else(|panic| Err(GearError::Broken(format!("panicked: {}", panic_text(&*panic)).into())));
            if result.is_ok() {
                cell.note_ended();
            }
            cell.lose_link("the endpoint ended");
            // The actor may have been stopped meanwhile; then nobody waits for either.
            drop(ended.send(result.clone()));
            drop(me.cast(EndpointMsg::Ended(result)));
        });
        let running = Running { task };
        if opens {
            tokio::select! {
                biased;
                result = &mut end => result.unwrap_or(Ok(()))?,
                () = opened.notified() => {}
            }
        }
        Ok(running)
    }

    async fn handle(
        &self,
        me: ActorRef<EndpointMsg>,
        msg: EndpointMsg,
        _running: &mut Running,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            EndpointMsg::Ended(Ok(())) => me.stop(None),
            EndpointMsg::Ended(Err(error)) => return Err(Box::new(error)),
        }
        Ok(())
    }

    async fn post_stop(&self, _me: ActorRef<EndpointMsg>, running: &mut Running) -> Result<(), ActorProcessingErr> {
        running.task.abort();
        // The task's values are gone before the successor starts, so that what was only parked is given back first.
        drop((&mut running.task).await);
        Ok(())
    }
}
