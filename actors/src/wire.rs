//! A wire: a named queue, or one queue per partition, from an output port to an input port.
//! The wire is the mailbox: it belongs to the node and outlives the gears and the wire actor (HEART §2.3).

use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fluxrig_protocol::{FieldPath, FluxMsg};
use smol_str::SmolStr;

use crate::door::Door;

mod entry;
mod queue;

pub(crate) use entry::{After, Body, DeadNote, Entry, Fault, Position};
pub(crate) use queue::{Carry, Effect, Front, Queue, QueueSpec, Taken, Written};

/// What a wire survives, and what an effect waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// In memory: survives a gear crash, not a process crash.
    Turbo,
    /// In the journal, in the page cache: survives a process crash (`durability: os`).
    Os,
    /// In the journal, on disk before any effect leaves (`durability: flush`).
    #[default]
    Flush,
}

impl Lane {
    /// Whether messages on it are written to the journal.
    #[must_use]
    pub const fn is_standard(self) -> bool {
        !matches!(self, Self::Turbo)
    }
}

/// How long to wait before a failing message is delivered again: doubles from `first` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redelivery {
    /// Deliveries before the message goes to the dead-letter wire.
    pub max_deliver: NonZeroU32,
    /// Wait after the first failure.
    pub first: Duration,
    /// Longest wait.
    pub max: Duration,
}

impl Default for Redelivery {
    fn default() -> Self {
        Self {
            max_deliver: NonZeroU32::new(5).expect("five is not zero"),
            first: Duration::from_millis(100),
            max: Duration::from_secs(10),
        }
    }
}

impl Redelivery {
    /// Wait after the `attempts`-th failure (1 is the first).
    #[must_use]
    pub fn wait(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.max)
    }
}

/// How much of what passed stays readable for replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Everything younger than this.
    Time(Duration),
    /// The newest messages, up to about so many encoded bytes.
    Bytes(u64),
}

/// What a wire is asked to be; every field has the default of DESIGN §8.
#[derive(Clone, Debug)]
pub struct WireOptions {
    /// Delivery contract.
    pub lane: Lane,
    /// Messages on the wire before the doors that feed it close.
    pub capacity: usize,
    /// Redelivery of failing messages.
    pub redelivery: Redelivery,
    /// Queues (and instances of the gear) it is spread over; order holds per key.
    pub partitions: NonZeroU32,
    /// Dotted path in `data` of the key that chooses the partition. Messages without it share one partition.
    pub partition_by: Option<FieldPath>,
    /// What stays readable after it was handled.
    pub retention: Option<Retention>,
    /// Bodies kept in memory; a longer backlog keeps positions in the journal and reads bodies back.
    pub memory_window: usize,
}

impl Default for WireOptions {
    fn default() -> Self {
        Self {
            lane: Lane::Flush,
            capacity: 4096,
            redelivery: Redelivery::default(),
            partitions: NonZeroU32::MIN,
            partition_by: None,
            retention: None,
            memory_window: 16_384,
        }
    }
}

/// A wire of a running rig.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) name: SmolStr,
    pub(crate) options: WireOptions,
    pub(crate) queues: Box<[Arc<Queue>]>,
    /// The way in for what is replayed, where messages are retained.
    pub(crate) replay_door: OnceLock<Arc<Door>>,
}

impl Wire {
    /// The queue a message belongs to: equal keys share one, so that order holds per key.
    #[inline]
    pub(crate) fn route(&self, msg: &FluxMsg) -> &Arc<Queue> {
        if self.queues.len() == 1 {
            return &self.queues[0];
        }
        &self.queues[self.partition(msg)]
    }

    fn partition(&self, msg: &FluxMsg) -> usize {
        let Some(value) = self.options.partition_by.as_ref().and_then(|path| msg.data.get(path)) else {
            return 0;
        };
        // The hash is part of what the journal means: a key must find its state again after a restart.
        let mut key = Vec::new();
        value.encode_into(&mut key);
        let hash = blake3::hash(&key);
        let mut word = [0; 8];
        word.copy_from_slice(&hash.as_bytes()[..8]);
        (u64::from_be_bytes(word) % self.queues.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests;
