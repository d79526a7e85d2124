//! The body of a group: one or more deltas, each the difference that one cut noted, as deterministic CBOR.
//!
//! ```text
//! body   = delta *                       ; a merged group simply holds several, oldest first
//! delta  = { 0: clock, ? 1: [+ name], ? 2: [+ wire], ? 3: [+ gear], ? 4: unclean starts in a row }
//! clock  = [epoch, wall ns since 1970, boot id, boot ns]
//! name   = [number, kind, scenario, name, variant, incarnation]      ; kind 0 wire, 1 gear
//! wire   = [number, next seq, [* [acked from, acked to (exclusive)]], [* mark], [* birth]]
//! mark   = [seq, attempts, taken, fault]
//! birth  = [seq, attempts, state, fault, dead, bytes of the fluxMsg]  ; state: bit 0 taken, bit 1 passed, bit 2 kept for replay
//! fault  = null / [first error, last error]
//! dead   = null / [gear, wire, reason, attempts, first error, last error, ns since 1970]
//! gear   = [number, generation, [* [key, bytes of the value's CBOR, or null]], [* [key, null / [generation, ns left]]]]
//! ```

use std::sync::Arc;

use fluxrig_protocol::{FluxMsg, Value};
use smol_str::SmolStr;

use crate::clock::World;
use crate::mutants::{self, Mutation};
use crate::wire::{Body, DeadNote, Entry, Fault, Position};

mod decode;
mod encode;

pub(crate) use decode::decode;
pub(crate) use encode::encode;

/// A body of a group that does not say what this version understands.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error(
        "journal group at byte {offset} of its body: found {found}, expected {expected}; remedy: run `fluxrig journal verify`"
    )]
    Shape { offset: usize, found: String, expected: &'static str },
    #[error(
        "journal group at byte {offset} of its body: found key {key}, which this version does not know; remedy: use the version that wrote it"
    )]
    Unknown { offset: usize, key: u64 },
}

/// When a cut was made, by every clock that a restart may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    pub(crate) epoch: u64,
    pub(crate) wall_ns: i64,
    pub(crate) boot_id: u64,
    pub(crate) boot_ns: u64,
}

impl Clock {
    /// A restart in another boot reads the machine's clock anew, so that is what it is compared with.
    pub(crate) fn now(world: &dyn World, epoch: u64) -> Self {
        Self { epoch, wall_ns: world.machine_wall_ns(), boot_id: world.boot_id(), boot_ns: world.boot_ns() }
    }
}

/// What a number of the journal stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Wire,
    Gear,
}

/// A line of the table of names: numbers are never reused (HEART §6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NameRecord {
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) scenario: SmolStr,
    pub(crate) name: SmolStr,
    /// Gear type and partition of a gear, partition of a wire: another variant is another thing.
    pub(crate) variant: SmolStr,
    pub(crate) incarnation: u64,
}

/// What changed on one queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct WireDelta {
    pub(crate) number: u32,
    pub(crate) next_seq: u64,
    pub(crate) acked: Vec<(u64, u64)>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) births: Vec<Birth>,
}

/// The present attempts and *taken* of a message that was born before.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) seq: u64,
    pub(crate) attempts: u32,
    pub(crate) is_taken: bool,
    pub(crate) fault: Option<Box<Fault>>,
}

/// A message that is on the wire at the cut.
#[derive(Clone, Debug)]
pub(crate) struct Birth {
    pub(crate) seq: u64,
    pub(crate) attempts: u32,
    pub(crate) is_taken: bool,
    /// It is not on the wire any more and is written for replay only.
    pub(crate) is_passed: bool,
    /// Its wire retains: it can be read again after it was handled.
    pub(crate) is_retained: bool,
    pub(crate) fault: Option<Box<Fault>>,
    pub(crate) dead: Option<Arc<DeadNote>>,
    pub(crate) body: BirthBody,
}

/// Where the bytes of a birth come from when its group is encoded, or lie once it is decoded.
#[derive(Clone, Debug)]
pub(crate) enum BirthBody {
    Msg(FluxMsg),
    Away(Position),
    At { offset: u32, len: u32 },
}

impl Birth {
    pub(crate) fn of(entry: &Entry, is_retained: bool) -> Self {
        Self {
            seq: entry.seq,
            attempts: if mutants::is(Mutation::AttemptsNotKept) { 0 } else { entry.attempts },
            is_taken: (entry.is_taken || entry.is_maybe_sent) && !mutants::is(Mutation::NoTaken),
            is_passed: false,
            is_retained,
            fault: entry.fault.clone(),
            dead: entry.dead.clone(),
            body: match &entry.body {
                Body::Here(msg) => BirthBody::Msg(msg.clone()),
                Body::There(position) => BirthBody::Away(*position),
                Body::Gone => unreachable!("what is done is not born"),
            },
        }
    }

    pub(crate) fn passed(seq: u64, msg: FluxMsg) -> Self {
        let body = BirthBody::Msg(msg);
        Self { seq, attempts: 0, is_taken: false, is_passed: true, is_retained: true, fault: None, dead: None, body }
    }
}

/// What changed in one gear's durable memory.
#[derive(Clone, Debug)]
pub(crate) struct GearDelta {
    pub(crate) number: u32,
    pub(crate) generation: u64,
    pub(crate) keys: Vec<(SmolStr, Option<Value>)>,
    pub(crate) timers: Vec<(SmolStr, Option<TimerRecord>)>,
}

/// A running timer as the journal keeps it: time left, counted from the clock of its delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerRecord {
    pub(crate) generation: u64,
    pub(crate) left_ns: u64,
}

/// The difference between two cuts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delta {
    pub(crate) clock: Clock,
    pub(crate) names: Vec<NameRecord>,
    pub(crate) wires: Vec<WireDelta>,
    pub(crate) gears: Vec<GearDelta>,
    pub(crate) unclean_starts: Option<u32>,
}

/// Where a birth was put in the body of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Journal number of the wire.
    pub(crate) wire: u32,
    pub(crate) seq: u64,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) is_retained: bool,
}

/// Where every birth of a group was put.
pub(crate) type Placed = Vec<Place>;

#[cfg(test)]
mod tests;
