//! The actor of a wire: reads bodies of a long backlog back from the journal before the gear comes to them.
//! The queue is the node's, so a wire actor that restarts finds it as it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fluxrig_protocol::{FluxMsg, Limits};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::bell::Bell;
use crate::journal::{GroupAt, Reader, StorageError};
use crate::node::Node;
use crate::wire::{Position, Queue, Wire};

/// How often a storage that does not answer is asked again.
const AWAY_LOOK_EVERY: Duration = Duration::from_millis(250);

pub(crate) enum WireMsg {
    /// Bodies at the front of a queue are away.
    Page,
}

pub(crate) struct WireActor;

/// What a wire actor is started with.
pub(crate) struct WireSetup {
    pub(crate) wire: Arc<Wire>,
    pub(crate) node: Arc<Node>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) reader: Option<Arc<dyn Reader>>,
}

impl Actor for WireActor {
    type Msg = WireMsg;
    type State = WireSetup;
    type Arguments = WireSetup;

    async fn pre_start(&self, me: ActorRef<WireMsg>, setup: WireSetup) -> Result<WireSetup, ActorProcessingErr> {
        setup.bell.connect(move || drop(me.cast(WireMsg::Page)));
        Ok(setup)
    }

    async fn handle(
        &self,
        _me: ActorRef<WireMsg>,
        msg: WireMsg,
        setup: &mut WireSetup,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            WireMsg::Page => {
                setup.bell.answer();
                let Some(reader) = &setup.reader else { return Ok(()) };
                for queue in &setup.wire.queues {
                    match page(queue, &**reader, setup.node.settings.limits) {
                        Ok(()) => {}
                        // Nothing of ours is broken, and a new start of this actor would mend nothing: what waits can wait.
                        Err(PageError::Storage { wire, source }) if source.is_unreachable() => {
                            tracing::warn!(%wire, %source, "what waits is read back later");
                            tokio::time::sleep(AWAY_LOOK_EVERY).await;
                            setup.bell.ring();
                            // Nor do the bodies of its other queues come: one wait is enough.
                            return Ok(());
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _me: ActorRef<WireMsg>, setup: &mut WireSetup) -> Result<(), ActorProcessingErr> {
        setup.bell.disconnect();
        Ok(())
    }
}

/// A body that cannot be read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PageError {
    #[error("wire `{wire}`: a waiting message cannot be read back from the journal")]
    Storage {
        wire: String,
        #[source]
        source: StorageError,
    },
    #[error(
        "wire `{wire}`: a waiting message read back from the journal does not decode: {reason}; remedy: run `fluxrig journal verify`"
    )]
    Decode { wire: String, reason: String },
}

/// Reads the first bodies that are away, each group once.
pub(crate) fn page(queue: &Queue, reader: &dyn Reader, limits: Limits) -> Result<(), PageError> {
    let wanted = queue.wanted();
    let mut by_group: BTreeMap<GroupAt, Vec<(u64, Position)>> = BTreeMap::new();
    for (seq, position) in wanted {
        by_group.entry(position.at).or_default().push((seq, position));
    }
    let mut read = Vec::new();
    for (at, group) in by_group {
        let wire = || queue.spec.wire.to_string();
        let body = reader.read(at).map_err(|source| PageError::Storage { wire: wire(), source })?;
        for (seq, position) in group {
            let msg = body_at(&body, position, limits).map_err(|reason| PageError::Decode { wire: wire(), reason })?;
            read.push((seq, msg));
        }
    }
    if !read.is_empty() {
        queue.restore(read);
    }
    Ok(())
}

/// The message at a position of a group's body.
pub(crate) fn body_at(body: &Bytes, position: Position, limits: Limits) -> Result<FluxMsg, String> {
    let from = position.offset as usize;
    let bytes = body.get(from..from + position.len as usize).ok_or("its place is outside the group")?;
    FluxMsg::decode(bytes, &limits).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
