//! The actor of the journal: starts the writer, and stops it with a last flush when everything above it has stopped.
//! A writer that ends by itself takes the node with it: what it had not written must not be acted upon.

use std::sync::{Arc, Mutex};

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::journal::{Control, Pace, Writer, spawn_task, spawn_thread};
use crate::node::Node;

pub(crate) enum JournalMsg {
    /// The writer has ended.
    Ended,
}

pub(crate) struct JournalActor;

/// What the journal actor is started with.
#[derive(Clone)]
pub(crate) struct JournalSetup {
    pub(crate) node: Arc<Node>,
    pub(crate) control: Arc<Control>,
    /// Taken by the first start: a journal is written by one writer of one process start.
    pub(crate) writer: Arc<Mutex<Option<Writer>>>,
    /// A task with pauses in place of a thread.
    pub(crate) pace: Option<Pace>,
}

impl Actor for JournalActor {
    type Msg = JournalMsg;
    type State = JournalSetup;
    type Arguments = JournalSetup;

    async fn pre_start(
        &self,
        me: ActorRef<JournalMsg>,
        setup: JournalSetup,
    ) -> Result<JournalSetup, ActorProcessingErr> {
        let writer = setup.writer.lock().expect("nothing panics while it is held").take();
        let writer = writer.ok_or("the journal's writer ended before; remedy: restart the rig, which recovers")?;
        match setup.pace {
            Some(pace) => spawn_task(writer, Arc::clone(&setup.control), pace),
            None => spawn_thread(writer, Arc::clone(&setup.control))?,
        }
        let control = Arc::clone(&setup.control);
        tokio::spawn(async move {
            control.finished().await;
            drop(me.cast(JournalMsg::Ended));
        });
        Ok(setup)
    }

    async fn handle(
        &self,
        _me: ActorRef<JournalMsg>,
        msg: JournalMsg,
        setup: &mut JournalSetup,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            JournalMsg::Ended => {
                setup.node.halt("the journal's writer has ended");
                Err("the journal's writer has ended".into())
            }
        }
    }

    async fn post_stop(&self, _me: ActorRef<JournalMsg>, setup: &mut JournalSetup) -> Result<(), ActorProcessingErr> {
        setup.control.finish(&setup.node);
        setup.control.finished().await;
        Ok(())
    }
}
