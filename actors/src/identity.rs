//! Identity of what a gear causes: the same cause has the same ids, also when it is handled again after a crash.

use std::hash::Hasher;

use fluxrig_protocol::FluxId;
use siphasher::sip128::{Hasher128, SipHasher13};

/// The key of the hash, random per journal: equal positions in two rigs must not make equal ids.
#[derive(Clone, Copy)]
pub(crate) struct IdKey(u64, u64);

impl std::fmt::Debug for IdKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdKey(..)")
    }
}

/// What a derived id is made of (HEART §6.3).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cause {
    /// The message, or the timer, that was handled.
    pub(crate) input: FluxId,
    /// Journal number of the wire it came on; 0 for a timer.
    pub(crate) wire: u32,
    /// Journal number of the gear.
    pub(crate) gear: u32,
}

impl IdKey {
    pub(crate) fn new(bytes: [u8; 16]) -> Self {
        let word = u128::from_le_bytes(bytes);
        Self(word as u64, (word >> 64) as u64)
    }

    /// The id of the `emit_idx`-th message that one delivery emits, over all ports.
    pub(crate) fn derive(self, cause: Cause, emit_idx: u32) -> FluxId {
        let mut bytes = [0; 28];
        bytes[..16].copy_from_slice(&cause.input.0);
        bytes[16..20].copy_from_slice(&cause.wire.to_le_bytes());
        bytes[20..24].copy_from_slice(&cause.gear.to_le_bytes());
        bytes[24..].copy_from_slice(&emit_idx.to_le_bytes());
        FluxId::derived(self.hash(&bytes))
    }

    /// The id of a timer: gear, key and generation.
    pub(crate) fn timer(self, gear: u32, key: &str, generation: u64) -> FluxId {
        let mut hasher = self.hasher();
        hasher.write(b"timer");
        hasher.write(&gear.to_le_bytes());
        hasher.write(&generation.to_le_bytes());
        hasher.write(key.as_bytes());
        FluxId::derived(hasher.finish128().as_bytes())
    }

    /// The id of a replayed message: its first id, the wire, and which replay it is.
    pub(crate) fn replay(self, first: FluxId, wire: u32, replay: u64) -> FluxId {
        let mut hasher = self.hasher();
        hasher.write(b"replay");
        hasher.write(&first.0);
        hasher.write(&wire.to_le_bytes());
        hasher.write(&replay.to_le_bytes());
        FluxId::derived(hasher.finish128().as_bytes())
    }

    fn hash(self, bytes: &[u8]) -> [u8; 16] {
        // In one go: half the cost of the streaming form for so few bytes.
        self.hasher().hash(bytes).as_bytes()
    }

    fn hasher(self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

#[cfg(test)]
mod tests;
