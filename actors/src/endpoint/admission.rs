//! The way in: an endpoint admits messages through a door, which waits while the rig has no room.

use std::sync::Arc;

use fluxrig_protocol::{FluxMsg, Hop, LimitError};

use crate::cell::Cell;
use crate::door::{Closed, Door};
use crate::mutants::{self, Mutation};
use crate::node::Node;
use crate::outlet::Send;
use crate::wire::{After, Wire};

/// A door of an endpoint. Clones share it.
#[derive(Clone, Debug)]
pub struct Admission {
    node: Arc<Node>,
    cell: Arc<Cell>,
    door: Arc<Door>,
    port_idx: usize,
}

/// A message that was not let in, given back with the reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The rig drains or has ended: nothing comes in any more.
    #[error("door: found the rig {}, expected it running; remedy: keep the message and offer it after the restart", why(.1))]
    Closed(FluxMsg, Closed),
    /// The message is beyond a limit.
    #[error("door: {1}")]
    Limit(FluxMsg, #[source] LimitError),
}

fn why(closed: &Closed) -> &'static str {
    match closed {
        Closed::Draining => "draining",
        Closed::Halted => "ended",
        Closed::Full | Closed::Unflushed | Closed::Disk => "busy",
    }
}

/// Proof of an admission. What the source waits for before it forgets the message is [`Receipt::durable`].
#[derive(Clone, Debug)]
pub struct Receipt {
    node: Arc<Node>,
    after: After,
}

impl Receipt {
    /// Waits until the admission is durable (at once on a turbo wire). False when the rig ended before.
    pub async fn durable(&self) -> bool {
        mutants::is(Mutation::ReceiptBeforeMark) || self.node.durable(self.after).await
    }
}

impl Admission {
    pub(crate) fn new(node: &Arc<Node>, cell: &Arc<Cell>, port_idx: usize) -> Self {
        let door = Arc::clone(&cell.wiring().doors[port_idx]);
        Self { node: Arc::clone(node), cell: Arc::clone(cell), door, port_idx }
    }

    /// Lets `msg` in as soon as the door is open.
    ///
    /// # Errors
    /// Gives the message back when the rig drains or has ended, or when the message is beyond a limit.
    pub async fn admit(&self, msg: FluxMsg) -> Result<Receipt, Refused> {
        let msg = self.stamped(msg)?;
        if let Err(closed) = self.open().await {
            return Err(Refused::Closed(msg, closed));
        }
        let mut sends = Vec::with_capacity(1);
        self.route(msg, &mut sends);
        let after = self.node.admit(&self.door, &mut sends, self.node.now_ns());
        Ok(Receipt { node: Arc::clone(&self.node), after })
    }

    /// Lets a run of messages in, in order, as few commits as the door's room allows. The receipt is for the last.
    ///
    /// # Errors
    /// As for `admit`: all before the message in the error were let in, `msgs` holds those after it.
    pub async fn admit_all(&self, msgs: &mut std::collections::VecDeque<FluxMsg>) -> Result<Option<Receipt>, Refused> {
        let mut sends = Vec::new();
        let mut last = None;
        while !msgs.is_empty() {
            if let Err(closed) = self.open().await {
                return match msgs.pop_front() {
                    Some(msg) => Err(Refused::Closed(msg, closed)),
                    None => Ok(last),
                };
            }
            let room = self.door.room().clamp(1, BATCH);
            let mut refused = None;
            let mut bytes = 0;
            for _ in 0..room {
                if bytes >= BATCH_BYTES {
                    break;
                }
                let Some(msg) = msgs.pop_front() else { break };
                match self.stamped(msg) {
                    Ok(msg) => {
                        bytes += msg.content_bytes();
                        self.route(msg, &mut sends);
                    }
                    Err(error) => {
                        refused = Some(error);
                        break;
                    }
                }
            }
            // Also when one is refused: those before it are in nobody's hands any more.
            let after = self.node.admit(&self.door, &mut sends, self.node.now_ns());
            last = Some(Receipt { node: Arc::clone(&self.node), after });
            if let Some(refused) = refused {
                return Err(refused);
            }
        }
        Ok(last)
    }

    /// Whether a message would be let in at once.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.door.closed().is_none()
    }

    /// Waits until the door is open: a source that can be held back waits here before it reads.
    ///
    /// # Errors
    /// When the rig drains or has ended: the door stays closed.
    pub async fn open(&self) -> Result<(), Closed> {
        // A source that never has to wait would otherwise keep its worker, and could not be stopped.
        tokio::task::consume_budget().await;
        loop {
            match self.door.closed() {
                None => return Ok(()),
                Some(closed @ (Closed::Draining | Closed::Halted)) => return Err(closed),
                Some(Closed::Unflushed) => {
                    // A door closed for this is a demand for a cut: nobody else may ask for one.
                    let epoch = self.node.epoch();
                    self.node.demand(After { flush: epoch, os: epoch });
                    self.door.opening().await;
                }
                Some(Closed::Full | Closed::Disk) => self.door.opening().await,
            }
        }
    }

    fn stamped(&self, mut msg: FluxMsg) -> Result<FluxMsg, Refused> {
        let id = msg.id;
        let hop = Hop { gear: self.cell.entity, ts: msg.ts };
        msg.stamp(id, self.cell.entity, hop);
        match msg.check(&self.node.settings.limits) {
            Ok(()) => Ok(msg),
            Err(error) => Err(Refused::Limit(msg, error)),
        }
    }

    fn wires(&self) -> &[Arc<Wire>] {
        self.cell.outs(self.port_idx)
    }

    fn route(&self, msg: FluxMsg, sends: &mut Vec<Send>) {
        let Some((last, others)) = self.wires().split_last() else {
            self.cell.count_unwired();
            return;
        };
        for wire in others {
            let queue = wire.route(&msg).spec.idx;
            sends.push(Send::new(queue, msg.clone(), After::NOTHING));
        }
        let queue = last.route(&msg).spec.idx;
        sends.push(Send::new(queue, msg, After::NOTHING));
    }
}

/// Messages in one admission: long enough to share the locks, short enough to keep the gate free.
const BATCH: usize = 256;

/// Bytes of content in one admission, give or take one message: how far a door may be overshot.
const BATCH_BYTES: usize = 1 << 20;
