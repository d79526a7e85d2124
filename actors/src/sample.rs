//! Small things that many unit tests of this crate share: messages that can be told apart, queues, positions.

use std::sync::Arc;

use fluxrig_protocol::{EntityId, FluxId, FluxMsg, Limits, Trace};

use crate::bell::Bell;
use crate::journal::GroupAt;
use crate::wire::{Lane, Position, Queue, QueueSpec, Redelivery};

/// The message with this number; [`number`] reads it again.
pub(crate) fn msg(number: u64) -> FluxMsg {
    let mut msg = FluxMsg::new(FluxId::v7(number, [7; 10]), Trace::default(), EntityId::NIL, number as i64);
    msg.data.insert_key("number", number);
    msg
}

pub(crate) fn number(msg: &FluxMsg) -> u64 {
    msg.ts as u64
}

pub(crate) fn decode(bytes: &[u8]) -> FluxMsg {
    FluxMsg::decode(bytes, &Limits::default()).unwrap()
}

/// A queue of a standard wire into a gear.
pub(crate) fn spec() -> QueueSpec {
    QueueSpec {
        idx: 0,
        wire: "a.out->b.in".into(),
        number: 7,
        incarnation: 1,
        lane: Lane::Flush,
        capacity: 8,
        memory_window: 512,
        redelivery: Redelivery::default(),
        retention: None,
        is_effects: false,
        redactor: None,
    }
}

pub(crate) fn queue(spec: QueueSpec) -> Queue {
    Queue::new(spec, Arc::new(Bell::default()), Arc::new(Bell::default()))
}

pub(crate) fn position(segment: u32, offset: u64, len: u32) -> Position {
    Position { at: GroupAt { segment, offset }, offset: 0, len }
}
