//! The way in: an endpoint admits messages through a door, which waits while the rig has no room.

use std::collections::VecDeque;
use std::sync::Arc;

use fluxrig_protocol::{FluxMsg, Hop, LimitError, Value};
use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::cell::Cell;
use crate::commit::{Admit, Letter};
use crate::door::{Closed, Door};
use crate::memory::Change;
use crate::mutants::{self, Mutation};
use crate::node::Node;
use crate::outlet::Send;
use crate::wire::{After, DeadNote, Wire};

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
    #[error("door: found the rig {}, expected it running; remedy: keep the message and offer it after the restart", .1.word())]
    Closed(FluxMsg, Closed),
    /// The message is beyond a limit.
    #[error("door: {1}")]
    Limit(FluxMsg, #[source] LimitError),
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

/// What an endpoint is to remember: durable with the admission it is given to, when any of the endpoint's wires is, and
/// there again at its next start ([`Io::recovered`](crate::Io::recovered)).
#[derive(Clone, Debug, Default)]
pub struct Keep(SmallVec<[Change; 1]>);

impl Keep {
    /// Keeps `value` behind `key`.
    #[must_use]
    pub fn put(mut self, key: impl Into<SmolStr>, value: impl Into<Value>) -> Self {
        self.0.push(Change::Put(key.into(), value.into()));
        self
    }

    /// Forgets `key`.
    #[must_use]
    pub fn remove(mut self, key: impl Into<SmolStr>) -> Self {
        self.0.push(Change::Remove(key.into()));
        self
    }

    /// Goes behind what the messages before it keep. Of one key only the last value counts, and a run of messages
    /// usually keeps the same key.
    fn join(self, kept: &mut Vec<Change>) {
        for change in self.0 {
            if let (Change::Put(key, _), Some(Change::Put(before, _))) = (&change, kept.last())
                && key == before
            {
                kept.pop();
            }
            kept.push(change);
        }
    }
}

impl From<Keep> for Vec<Change> {
    fn from(keep: Keep) -> Self {
        keep.0.into_vec()
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
        self.admit_with(msg, Keep::default()).await
    }

    /// The same, and what the endpoint is to remember becomes true together with it: both are there after a crash, or
    /// neither is. The receipt is for both.
    ///
    /// # Errors
    /// As for `admit`; nothing is remembered then.
    pub async fn admit_with(&self, msg: FluxMsg, keep: Keep) -> Result<Receipt, Refused> {
        let msg = self.stamped(msg)?;
        if let Err(closed) = self.open().await {
            return Err(Refused::Closed(msg, closed));
        }
        let mut sends = Vec::with_capacity(1);
        self.route(msg, &mut sends);
        Ok(self.commit(&mut sends, &mut Vec::from(keep), Vec::new()))
    }

    /// Remembers without letting anything in. It does not wait for the door.
    pub fn keep(&self, keep: Keep) -> Receipt {
        self.commit(&mut Vec::new(), &mut Vec::from(keep), Vec::new())
    }

    /// Makes a dead letter of what came from outside and cannot be let in, and remembers `keep` with it. It does not wait
    /// for the door.
    pub fn bury(&self, msg: FluxMsg, reason: &str, keep: Keep) -> Receipt {
        let note = DeadNote {
            gear: self.cell.name.clone(),
            wire: SmolStr::default(),
            reason: reason.into(),
            attempts: 1,
            first: reason.into(),
            last: reason.into(),
            at_ns: self.node.wall_ns(),
        };
        let letter = (self.node.redacted(msg), After::NOTHING, Arc::new(note));
        self.commit(&mut Vec::new(), &mut Vec::from(keep), vec![letter])
    }

    fn commit(&self, sends: &mut Vec<Send>, kept: &mut Vec<Change>, dead: Vec<Letter>) -> Receipt {
        let (cell, door, now_ns) = (Some(&*self.cell), &*self.door, self.node.now_ns());
        let after = self.node.admit(Admit { cell, door, sends, kept, dead, now_ns });
        Receipt { node: Arc::clone(&self.node), after }
    }

    /// Lets a run of messages in, in order, as few commits as the door's room allows. The receipt is for the last.
    ///
    /// # Errors
    /// As for `admit`: all before the message in the error were let in, `msgs` holds those after it.
    pub async fn admit_all(&self, msgs: &mut VecDeque<FluxMsg>) -> Result<Option<Receipt>, Refused> {
        self.admit_run(msgs, |msg| (msg, Keep::default())).await
    }

    /// The same, each message with what the endpoint is to remember together with it.
    ///
    /// # Errors
    /// As for `admit_all`; what belongs to the message in the error is not remembered.
    pub async fn admit_all_with(&self, msgs: &mut VecDeque<(FluxMsg, Keep)>) -> Result<Option<Receipt>, Refused> {
        self.admit_run(msgs, |pair| pair).await
    }

    async fn admit_run<T>(
        &self,
        msgs: &mut VecDeque<T>,
        split: impl Fn(T) -> (FluxMsg, Keep),
    ) -> Result<Option<Receipt>, Refused> {
        let mut sends = Vec::new();
        let mut kept = Vec::new();
        let mut last = None;
        while !msgs.is_empty() {
            if let Err(closed) = self.open().await {
                return match msgs.pop_front() {
                    Some(item) => Err(Refused::Closed(split(item).0, closed)),
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
                let Some(item) = msgs.pop_front() else { break };
                let (msg, keep) = split(item);
                match self.stamped(msg) {
                    Ok(msg) => {
                        bytes += msg.content_bytes();
                        self.route(msg, &mut sends);
                        keep.join(&mut kept);
                    }
                    Err(error) => {
                        refused = Some(error);
                        break;
                    }
                }
            }
            // Also when one is refused: those before it are in nobody's hands any more.
            last = Some(self.commit(&mut sends, &mut kept, Vec::new()));
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
        self.node.open(&self.door).await
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
pub(crate) const BATCH: usize = 256;

/// Bytes of content in one admission, give or take one message: how far a door may be overshot.
pub(crate) const BATCH_BYTES: usize = 1 << 20;
