//! Effects on their way out: what cannot be a frame is ended here, the rest is written connection by connection,
//! and everything that is written is ended in one commit.

use std::sync::Arc;

use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::Flags;

use super::connection::Connection;
use super::counters::Counters;
use super::setup::Setup;

/// Effects taken at once.
pub(super) const BATCH: usize = 256;
/// Bytes written at once; one more message than that at most.
const CHUNK_BYTES: usize = 64 << 10;

/// Ends a probe, which only tests the way: nothing leaves for it.
pub(super) fn unless_probe(effect: Effect) -> Option<Effect> {
    if !effect.msg.flags.contains(Flags::PROBE) {
        return Some(effect);
    }
    effect.done();
    None
}

/// One batch of effects.
pub(super) struct Outgoing {
    setup: Arc<Setup>,
    counters: Arc<Counters>,
    slots: Vec<Option<Effect>>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// A connection has kept some of what it was given.
    is_held_up: bool,
}

impl Outgoing {
    pub(super) fn new(setup: &Arc<Setup>, counters: &Arc<Counters>) -> Self {
        let (setup, counters) = (Arc::clone(setup), Arc::clone(counters));
        Self { setup, counters, slots: Vec::new(), bytes: Vec::new(), ends: Vec::new(), is_held_up: false }
    }

    /// Adds an effect that can be sent and gives its place; ends one that cannot.
    pub(super) fn add(&mut self, effect: Effect) -> Option<usize> {
        if let Some(misfit) = self.misfit(&effect.msg) {
            effect.reject(misfit);
            return None;
        }
        self.slots.push(Some(effect));
        Some(self.slots.len() - 1)
    }

    /// Why a message can be no frame.
    fn misfit(&self, msg: &FluxMsg) -> Option<&'static str> {
        let Some(raw) = &msg.raw else {
            return Some("`raw`: found none, expected the bytes to send; remedy: wire an encoder in front");
        };
        if raw.len() > self.setup.message_bytes_max {
            return Some("`raw`: found more bytes than `message_bytes_max`; remedy: raise it, or send less");
        }
        if raw.is_empty() && self.setup.framing.has_length() {
            return Some("`raw`: found no bytes, expected some; remedy: wire an encoder in front");
        }
        if !self.setup.framing.carries(raw) {
            return Some(
                "`raw`: found what `framing` cannot carry (too long, or with the delimiter in it); remedy: use another framing",
            );
        }
        None
    }

    /// Writes effects at the first of these places, in this order, and gives how many; what the connection has kept is
    /// not in its place any more. None when the connection has ended: then nothing was taken.
    pub(super) fn send(&mut self, connection: &Connection, places: &[usize]) -> Option<usize> {
        let Self { setup, counters, slots, bytes, ends, is_held_up } = self;
        bytes.clear();
        ends.clear();
        for &place in places {
            if bytes.len() >= CHUNK_BYTES {
                break;
            }
            let raw = slots[place].as_ref().and_then(|effect| effect.msg.raw.as_ref());
            setup.framing.write(raw.map_or(&[], |raw| raw), bytes);
            ends.push(bytes.len());
        }
        let whole = connection.send(bytes, ends, |idx| slots[places[idx]].take()).ok()?;
        counters.frames_out.add(whole as u64);
        *is_held_up |= whole < ends.len();
        Some(ends.len())
    }

    /// Whether a connection has kept something since this was asked last.
    pub(super) fn take_held_up(&mut self) -> bool {
        std::mem::take(&mut self.is_held_up)
    }

    /// What is at these places has been written.
    pub(super) fn done(&mut self, places: &[usize]) {
        let Self { slots, .. } = self;
        Effect::done_all(places.iter().filter_map(|&place| slots[place].take()));
    }

    /// Takes out what was not sent, in order.
    pub(super) fn unsent(&mut self) -> impl Iterator<Item = Effect> {
        self.slots.drain(..).flatten()
    }

    /// Rejects what was not sent.
    pub(super) fn reject(&mut self, places: &[usize], reason: &str) {
        for &place in places {
            if let Some(effect) = self.slots[place].take() {
                effect.reject(reason);
            }
        }
    }

    /// Everything that is still here has been written.
    pub(super) fn finish(&mut self) {
        Effect::done_all(self.slots.drain(..).flatten());
        // Only a large message made it larger.
        self.bytes.shrink_to(2 * CHUNK_BYTES);
    }
}
