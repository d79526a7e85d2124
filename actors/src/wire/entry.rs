//! One message on a wire: where its body is, what it depends on, how often it failed.

use std::sync::Arc;

use fluxrig_protocol::FluxMsg;
use smol_str::SmolStr;

use crate::journal::{GroupAt, SegmentId};

/// What must be durable before the world may see anything caused by a message (HEART §2.5).
/// Zero in a component means: nothing of that kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct After {
    /// Epoch that must be below the flushed mark.
    pub(crate) flush: u64,
    /// Epoch that must be below the written mark.
    pub(crate) os: u64,
}

impl After {
    pub(crate) const NOTHING: Self = Self { flush: 0, os: 0 };

    pub(crate) fn max(self, other: Self) -> Self {
        Self { flush: self.flush.max(other.flush), os: self.os.max(other.os) }
    }
}

/// Where a body lies in the journal: inside the opened body of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) at: GroupAt,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// A message, or where to read it.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Here(FluxMsg),
    There(Position),
    /// The entry is done.
    Gone,
}

/// What went wrong with a message so far; the texts go with it to the dead-letter wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) first: SmolStr,
    pub(crate) last: SmolStr,
}

/// Why a message is on the dead-letter wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadNote {
    pub(crate) gear: SmolStr,
    pub(crate) wire: SmolStr,
    pub(crate) reason: SmolStr,
    pub(crate) attempts: u32,
    pub(crate) first: SmolStr,
    pub(crate) last: SmolStr,
    /// Nanoseconds since the Unix epoch.
    pub(crate) at_ns: i64,
}

/// A message on a wire.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) body: Body,
    pub(crate) after: After,
    pub(crate) attempts: u32,
    /// Segment of its newest durable record; 0 while it has none.
    pub(crate) home: SegmentId,
    /// An endpoint has it; its effect may have happened.
    pub(crate) is_taken: bool,
    /// Was taken before the last start of its endpoint: it comes back as *maybe sent*.
    pub(crate) is_maybe_sent: bool,
    /// The running endpoint has it.
    pub(crate) is_out: bool,
    /// Acked out of order; goes when all before it have gone.
    pub(crate) is_done: bool,
    /// Monotonic nanoseconds since the node's start at which it came onto the wire.
    pub(crate) since_ns: u64,
    pub(crate) fault: Option<Box<Fault>>,
    pub(crate) dead: Option<Arc<DeadNote>>,
}
