//! What a wire with `retention` keeps: read back, and delivered once more. A replay comes in through a door of its own, so
//! it waits as every source does while the wire, or what is behind it, has no room.

use std::ops::RangeInclusive;
use std::sync::Arc;

use fluxrig_protocol::FluxMsg;

use super::RunningRig;
use super::letters::{Group, LetterError, read_back};
use crate::commit::Admit;
use crate::door::Door;
use crate::endpoint::{BATCH, BATCH_BYTES};
use crate::journal::Reader;
use crate::node::Node;
use crate::outlet::Send;
use crate::plan::nearest;
use crate::retained::Item;
use crate::wire::{After, Queue, Wire};

/// One message that a wire retains.
#[derive(Clone, Debug)]
pub struct RetainedMsg {
    /// Its sequence on the wire (on its partition).
    pub seq: u64,
    /// When it was written, in nanoseconds since the Unix epoch.
    pub at_ns: i64,
    /// The message.
    pub msg: FluxMsg,
}

/// Where a replay begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// From this sequence on.
    FromSeq(u64),
    /// From this wall time on, in nanoseconds since the Unix epoch.
    FromNs(i64),
}

impl Replayed {
    fn takes(self, item: &Item) -> bool {
        match self {
            Self::FromSeq(from) => item.seq >= from,
            Self::FromNs(from) => item.at_ns >= from,
        }
    }
}

/// What a wire retained when [`RunningRig::replay`] was called, on its way over it once more. A batch at a time is read
/// back and in memory. Whoever drops it ends it: what was delivered stays so.
#[must_use = "it delivers nothing by itself"]
pub struct Replay {
    node: Arc<Node>,
    reader: Option<Arc<dyn Reader>>,
    wire: Arc<Wire>,
    door: Arc<Door>,
    from: Replayed,
    number: u64,
    /// Of each partition what is left, the last one first.
    left: Vec<(Arc<Queue>, RangeInclusive<u64>)>,
    group: Option<Group>,
    delivered: u64,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { wire, from, number, delivered, .. } = self;
        let mut shown = f.debug_struct("Replay");
        shown.field("wire", &wire.name).field("from", from).field("number", number).field("delivered", delivered);
        shown.finish_non_exhaustive()
    }
}

impl Replay {
    /// Delivers all of it, and says how many messages that were.
    ///
    /// # Errors
    /// When one cannot be read back, or the rig drains or ends: those before were delivered.
    pub async fn run(mut self) -> Result<u64, LetterError> {
        loop {
            self.room().await?;
            if self.deliver()? == 0 {
                return Ok(self.delivered);
            }
        }
    }

    /// Waits until there is room for more.
    ///
    /// # Errors
    /// When there will be none: the rig drains, or has ended.
    pub async fn room(&self) -> Result<(), LetterError> {
        self.node.open(&self.door).await.map_err(|closed| LetterError::Stopped {
            wire: self.wire.name.to_string(),
            delivered: self.delivered,
            closed,
        })
    }

    /// Delivers the next messages, for which there was [room](Self::room), and says how many: 0 when none is left. Reads
    /// the journal, which may take its time.
    ///
    /// # Errors
    /// When the next one cannot be read back.
    pub fn deliver(&mut self) -> Result<usize, LetterError> {
        let mut msgs = Vec::new();
        while let Some((queue, seqs)) = self.left.last_mut()
            && msgs.is_empty()
        {
            let (from, max) = (self.from, self.door.room().clamp(1, BATCH));
            let items = queue.retained(|kept| kept.items(seqs, |item| from.takes(item), max, BATCH_BYTES as u64));
            if items.is_empty() {
                self.left.pop();
                continue;
            }
            for item in items {
                match read(&self.node, self.reader.as_deref(), queue, item, &mut self.group) {
                    Ok(msg) => msgs.extend(msg),
                    // Those before it go first.
                    Err(_) if !msgs.is_empty() => break,
                    Err(error) => return Err(error),
                }
                *seqs = item.seq + 1..=*seqs.end();
            }
        }
        let count = msgs.len();
        if count == 0 {
            return Ok(0);
        }
        let mut sends: Vec<Send> = msgs.into_iter().map(|msg| self.again(msg)).collect();
        let (door, now_ns) = (&*self.door, self.node.now_ns());
        self.node.admit(Admit { cell: None, door, sends: &mut sends, kept: &mut Vec::new(), dead: Vec::new(), now_ns });
        self.delivered += count as u64;
        Ok(count)
    }

    /// How many messages were delivered so far.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    fn again(&self, mut msg: FluxMsg) -> Send {
        let queue = self.wire.route(&msg);
        msg.reference = Some(msg.id);
        msg.id = self.node.id_key.replay(msg.id, queue.spec.number, self.number);
        Send::new(queue.spec.idx, msg, After::NOTHING)
    }
}

/// A retained message; none when it is not retained any more.
fn read(
    node: &Node,
    reader: Option<&dyn Reader>,
    queue: &Queue,
    mut item: Item,
    group: &mut Option<Group>,
) -> Result<Option<FluxMsg>, LetterError> {
    loop {
        let error = match read_back(node, reader, item.position, group) {
            Ok(msg) => return Ok(Some(msg)),
            Err(error) => error,
        };
        // Since it was looked at, its segment may have been let go of, and the message with it, or carried on.
        match queue.retained(|kept| kept.items(&(item.seq..=item.seq), |_| true, 1, u64::MAX)).pop() {
            None => return Ok(None),
            Some(found) if found.position != item.position => item = found,
            Some(_) => return Err(error),
        }
    }
}

impl RunningRig {
    /// What a wire with `retention` still holds from there on, oldest first, and of that at most `max`: all of them are in
    /// memory at once.
    ///
    /// # Errors
    /// When there is no such wire, it does not retain, or its messages cannot be read back.
    pub fn retained(&self, wire: &str, from: Replayed, max: usize) -> Result<Vec<RetainedMsg>, LetterError> {
        let (mut found, mut group) = (Vec::new(), None);
        for queue in &self.retaining(wire)?.queues {
            let left = max - found.len();
            for item in queue.retained(|kept| kept.items(&(0..=u64::MAX), |item| from.takes(item), left, u64::MAX)) {
                let msg = read(&self.node, self.reader.as_deref(), queue, item, &mut group)?;
                found.extend(msg.map(|msg| RetainedMsg { seq: item.seq, at_ns: item.at_ns, msg }));
            }
        }
        Ok(found)
    }

    /// Begins to deliver what a wire retains once more, from there on, behind what is on it now. Every message gets an id
    /// of its own, made of its first one and `number`, which tells this replay from others: the same number twice makes
    /// the same ids.
    ///
    /// # Errors
    /// When there is no such wire, or it does not retain.
    pub fn replay(&self, wire: &str, from: Replayed, number: u64) -> Result<Replay, LetterError> {
        let wire = self.retaining(wire)?;
        let door = wire.replay_door.get().ok_or_else(|| not_retained(wire))?;
        // What comes from here on, also by this replay, is no part of it.
        let until =
            |queue: &Arc<Queue>| queue.retained(|kept| kept.last_seq()).map(|last| (Arc::clone(queue), 0..=last));
        Ok(Replay {
            node: Arc::clone(&self.node),
            reader: self.reader.clone(),
            door: Arc::clone(door),
            left: wire.queues.iter().rev().filter_map(until).collect(),
            wire: Arc::clone(wire),
            from,
            number,
            group: None,
            delivered: 0,
        })
    }

    fn retaining(&self, wire: &str) -> Result<&Arc<Wire>, LetterError> {
        let Some(found) = self.node.wires.iter().find(|found| found.name == wire) else {
            let near = nearest(wire, self.node.wires.iter().map(|wire| wire.name.as_str()));
            return Err(LetterError::UnknownWire { wire: wire.to_owned(), near: near.map(str::to_owned) });
        };
        if found.options.retention.is_none() {
            return Err(not_retained(found));
        }
        Ok(found)
    }
}

fn not_retained(wire: &Wire) -> LetterError {
    LetterError::NotRetained { wire: wire.name.to_string() }
}
