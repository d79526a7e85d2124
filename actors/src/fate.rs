//! What becomes of dead letters that were sent again: still on their wire, handled, or dead once more.
//! A commit buries before it acks, so a message that has left its wire without a word here was handled.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fluxrig_protocol::FluxId;
use smol_str::SmolStr;
use tokio::time::Instant;

use crate::commit::Letter;
use crate::node::Node;
use crate::wire::Queue;

/// How often a fact that nobody announces is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What became of a dead letter that was sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is on its wire: not handled yet, or backing off after a failure.
    Waiting,
    /// It has left its wire, and not to the dead letters.
    Handled,
    /// It is a dead letter again.
    DeadAgain {
        /// Its new number on the dead-letter wire.
        seq: u64,
        /// Why.
        reason: SmolStr,
    },
}

/// A dead letter that was sent again. While it is kept, what becomes of the message is noted.
pub struct SentAgain {
    letter: u64,
    id: FluxId,
    seq: u64,
    queue: Arc<Queue>,
    node: Arc<Node>,
}

impl std::fmt::Debug for SentAgain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { letter, id, seq, .. } = self;
        let mut shown = f.debug_struct("SentAgain");
        shown.field("letter", letter).field("id", id).field("wire", &self.wire()).field("seq", seq);
        shown.finish_non_exhaustive()
    }
}

impl SentAgain {
    /// Sends it, and watches from before it can be handled. `None` when the node has ended.
    pub(crate) fn send(
        node: &Arc<Node>,
        queue: &Arc<Queue>,
        letter: u64,
        msg: fluxrig_protocol::FluxMsg,
    ) -> Option<Self> {
        let id = msg.id;
        node.fates.watch(id, queue.spec.wire.clone());
        // Whatever becomes of the sending, the watch ends with this.
        let mut sent = Self { letter, id, seq: 0, queue: Arc::clone(queue), node: Arc::clone(node) };
        sent.seq = node.send_again(letter, queue, msg)?;
        Some(sent)
    }

    /// The number that it had as a dead letter.
    #[must_use]
    pub fn letter(&self) -> u64 {
        self.letter
    }

    /// Its id from here on: another one than before.
    #[must_use]
    pub fn id(&self) -> FluxId {
        self.id
    }

    /// The wire that it is sent over.
    #[must_use]
    pub fn wire(&self) -> &str {
        &self.queue.spec.wire
    }

    /// Its sequence on that wire, or on its partition of it.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// What has become of it by now. In a rig with a journal it is durable when [`RunningRig::durable`] has returned.
    ///
    /// [`RunningRig::durable`]: crate::RunningRig::durable
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        // In this order: what has left its wire was buried before.
        if self.queue.holds(self.seq) {
            return Outcome::Waiting;
        }
        match self.node.fates.death(self.id) {
            Some((seq, reason)) => Outcome::DeadAgain { seq, reason },
            None => Outcome::Handled,
        }
    }

    /// Waits at most so long until it is handled or dead again, or the rig has ended.
    pub async fn settled(&self, wait: Duration) -> Outcome {
        let until = Instant::now() + wait;
        loop {
            let outcome = self.outcome();
            if outcome != Outcome::Waiting || self.node.gauge.is_halted() || Instant::now() >= until {
                return outcome;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for SentAgain {
    fn drop(&mut self) {
        self.node.fates.forget(self.id);
    }
}

/// Number and reason of the letter that a message became.
type Death = (u64, SmolStr);

/// The messages whose fate somebody waits for: one for each [`SentAgain`] that is kept.
#[derive(Debug, Default)]
pub(crate) struct Fates {
    /// So that burying costs one look where nobody waits.
    count: AtomicUsize,
    by_id: Mutex<HashMap<FluxId, Watched>>,
}

#[derive(Debug)]
struct Watched {
    wire: SmolStr,
    death: Option<Death>,
}

impl Fates {
    fn lock(&self) -> MutexGuard<'_, HashMap<FluxId, Watched>> {
        self.by_id.lock().expect("nothing panics while it is held")
    }

    fn watch(&self, id: FluxId, wire: SmolStr) {
        let mut by_id = self.lock();
        by_id.insert(id, Watched { wire, death: None });
        self.count.store(by_id.len(), Ordering::Relaxed);
    }

    fn forget(&self, id: FluxId) {
        let mut by_id = self.lock();
        by_id.remove(&id);
        self.count.store(by_id.len(), Ordering::Relaxed);
    }

    fn death(&self, id: FluxId) -> Option<Death> {
        self.lock().get(&id)?.death.clone()
    }

    /// Which of these letters somebody waits for: their ids, and where they stand.
    pub(crate) fn watched(&self, letters: &[Letter]) -> Vec<(usize, FluxId, SmolStr)> {
        // The watch began before the message was on its wire, whose lock orders the two.
        if self.count.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let by_id = self.lock();
        let found = letters.iter().enumerate().filter(|(_, (msg, _, note))| {
            // Copies of one message on other wires have its id.
            by_id.get(&msg.id).is_some_and(|watched| watched.wire == note.wire)
        });
        found.map(|(idx, (msg, _, note))| (idx, msg.id, note.reason.clone())).collect()
    }

    /// They are on the dead-letter wire now, the first letter of all under this number.
    pub(crate) fn note_dead(&self, watched: Vec<(usize, FluxId, SmolStr)>, first_seq: u64) {
        if watched.is_empty() {
            return;
        }
        let mut by_id = self.lock();
        for (idx, id, reason) in watched {
            if let Some(watched) = by_id.get_mut(&id) {
                watched.death = Some((first_seq + idx as u64, reason));
            }
        }
    }
}
