//! Names of things as numbers: [`FluxId`] names one message, [`EntityId`] one part of a cluster.
//! Both are plain values; where their randomness, time and machine number come from is the caller's business.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Id of one message: a UUID, version 7 where a message enters, version 8 where a gear derived it from another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FluxId(pub [u8; 16]);

impl FluxId {
    /// The id that names no message.
    pub const NIL: FluxId = FluxId([0; 16]);

    /// A UUIDv7: sorts by time of entry, so that journals and stores keep neighbours together.
    ///
    /// `unix_ms` is cut to its lower 48 bits, which last until the year 10889. Six of the random bits make room for
    /// version and variant.
    ///
    /// ```
    /// # use fluxrig_protocol::FluxId;
    /// let id = FluxId::v7(1_700_000_000_000, [0xff; 10]);
    /// assert_eq!(id.to_string(), "018bcfe5-6800-7fff-bfff-ffffffffffff");
    /// assert_eq!(id.unix_ms(), Some(1_700_000_000_000));
    /// ```
    pub fn v7(unix_ms: u64, random: [u8; 10]) -> Self {
        let mut id = [0; 16];
        id[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
        id[6..].copy_from_slice(&random);
        Self::stamped(id, 7)
    }

    /// A UUIDv8 made of a hash of what caused the message, so that a repeat after a crash has the same id.
    pub fn derived(hash: [u8; 16]) -> Self {
        Self::stamped(hash, 8)
    }

    /// UUID version: 7 at ingress, 8 when derived; anything else was made elsewhere.
    pub fn version(self) -> u8 {
        self.0[6] >> 4
    }

    /// Milliseconds since the Unix epoch at which a version 7 id was made; `None` for the other versions.
    pub fn unix_ms(self) -> Option<u64> {
        let ms = self.0[..6].iter().fold(0, |ms, &byte| ms << 8 | u64::from(byte));
        (self.version() == 7).then_some(ms)
    }

    fn stamped(mut id: [u8; 16], version: u8) -> Self {
        id[6] = id[6] & 0x0f | version << 4;
        id[8] = id[8] & 0x3f | 0x80;
        Self(id)
    }
}

impl fmt::Display for FluxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = u128::from_be_bytes(self.0);
        let (a, b, c, d, e) = (n >> 96, n >> 80 & 0xffff, n >> 64 & 0xffff, n >> 48 & 0xffff, n & 0xffff_ffff_ffff);
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }
}

impl fmt::Debug for FluxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for FluxId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let malformed = || IdError::FluxId { found: clipped(text) };
        let hyphens_in_place = text.len() == 36 && [8, 13, 18, 23].iter().all(|&at| text.as_bytes()[at] == b'-');
        if !hyphens_in_place {
            return Err(malformed());
        }
        let digits: Vec<u8> = text.bytes().filter(|&byte| byte != b'-').collect();
        let mut id = [0; 16];
        if !read_hex(&digits, &mut id) {
            return Err(malformed());
        }
        Ok(Self(id))
    }
}

/// What kind of thing an [`EntityId`] names. The numbers travel, so they are never given a second meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum EntityKind {
    /// All mixers and racks under one authority.
    Cluster = 1,
    /// A control-plane node.
    Mixer = 2,
    /// An edge node.
    Rack = 3,
    /// A processing actor of a scenario.
    Gear = 4,
    /// A port through which a gear takes messages.
    InputPort = 5,
    /// A port through which a gear gives messages.
    OutputPort = 6,
    /// A queue from an output port to an input port.
    Wire = 7,
    /// A tunnel from a rack to its mixer.
    Snake = 8,
    /// A topology.
    Scenario = 9,
    /// A connected period of a rack or an operator.
    Session = 10,
    /// One version of a description of an outside protocol.
    SpecVersion = 11,
}

impl EntityKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [EntityKind; 11] = [
        EntityKind::Cluster,
        EntityKind::Mixer,
        EntityKind::Rack,
        EntityKind::Gear,
        EntityKind::InputPort,
        EntityKind::OutputPort,
        EntityKind::Wire,
        EntityKind::Snake,
        EntityKind::Scenario,
        EntityKind::Session,
        EntityKind::SpecVersion,
    ];
}

/// Id of one part of a cluster, 64 bits from the top: kind 8, machine id 16, sequence 40.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntityId(pub u64);

impl EntityId {
    /// The id that names nothing.
    pub const NIL: EntityId = EntityId(0);

    /// Largest sequence that fits its 40 bits.
    pub const SEQUENCE_MAX: u64 = (1 << 40) - 1;

    /// An id from its parts. Machine 0 means that the node is not enrolled.
    ///
    /// # Panics
    ///
    /// When `sequence` is above [`EntityId::SEQUENCE_MAX`]: a sequence comes from our own counter or hash.
    pub const fn new(kind: EntityKind, machine: u16, sequence: u64) -> Self {
        assert!(sequence <= Self::SEQUENCE_MAX, "an entity sequence has 40 bits");
        Self((kind as u64) << 56 | (machine as u64) << 40 | sequence)
    }

    /// The id of a gear, port or wire of a scenario: its sequence is a hash of both names.
    ///
    /// No allocator hands it out, and it survives edits of the scenario. Two names of one scenario that collide in
    /// 40 bits are an error that the scenario check reports.
    ///
    /// ```
    /// # use fluxrig_protocol::{EntityId, EntityKind};
    /// let before = EntityId::from_names(EntityKind::Gear, 0, "depot", "pumps");
    /// let enrolled = EntityId::from_names(EntityKind::Gear, 17, "depot", "pumps");
    /// assert_eq!(before.sequence(), enrolled.sequence());
    /// assert_ne!(before, enrolled);
    /// ```
    pub fn from_names(kind: EntityKind, machine: u16, scenario: &str, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"fluxrig entity 1").update(&[kind as u8]);
        // Each name is preceded by its length: otherwise `ab` + `c` and `a` + `bc` would be one id.
        for text in [scenario, name] {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        let hash = hasher.finalize();
        let sequence = hash.as_bytes()[..5].iter().fold(0, |n, &byte| n << 8 | u64::from(byte));
        Self::new(kind, machine, sequence)
    }

    /// What the id names; `None` for a number that no version of ours has given out.
    pub fn kind(self) -> Option<EntityKind> {
        EntityKind::ALL.into_iter().find(|&kind| kind as u64 == self.0 >> 56)
    }

    /// Number of the machine that owns it; 0 = not enrolled.
    pub const fn machine(self) -> u16 {
        (self.0 >> 40) as u16
    }

    /// The lower 40 bits.
    pub const fn sequence(self) -> u64 {
        self.0 & Self::SEQUENCE_MAX
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EntityId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut id = [0; 8];
        if !read_hex(text.as_bytes(), &mut id) {
            return Err(IdError::EntityId { found: clipped(text) });
        }
        Ok(Self(u64::from_be_bytes(id)))
    }
}

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Not a hyphenated UUID.
    #[error("flux id `{found}` is not a uuid, expected 8-4-4-4-12 hex digits; remedy: copy the whole id")]
    FluxId {
        /// The text, cut after 48 characters.
        found: String,
    },
    /// Not 16 hex digits.
    #[error("entity id `{found}` is not a number, expected 16 hex digits; remedy: copy the whole id")]
    EntityId {
        /// The text, cut after 48 characters.
        found: String,
    },
}

/// Ids stand in JSON and YAML as the text that people see and search for.
macro_rules! as_text {
    ($id:ty) => {
        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

as_text!(FluxId);
as_text!(EntityId);

/// Fills `out` from exactly twice as many hex digits of either case; false when they are not that.
pub(crate) fn read_hex(digits: &[u8], out: &mut [u8]) -> bool {
    let nibble = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    if digits.len() != 2 * out.len() {
        return false;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let (Some(high), Some(low)) = (nibble(pair[0]), nibble(pair[1])) else { return false };
        *byte = high << 4 | low;
    }
    true
}

/// What somebody typed, short enough for an error line.
pub(crate) fn clipped(text: &str) -> String {
    text.chars().take(48).collect()
}

#[cfg(test)]
mod tests;
