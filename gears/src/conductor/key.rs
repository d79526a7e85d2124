//! The correlation key: what a request and its reply have in common, as 128 bits of a hash.
//! Each part goes in with its type and length, so that no two lists of fields read the same.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::SmolStr;

use super::fields::Seen;
use crate::map::place::Place;

/// A message type indicator of ISO 8583: version, class, function, origin, as four digits.
pub(super) type Mti = [u8; 4];

/// Names one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key(u128);

/// One word of it, all that a table mixes in: the bits of a hash are as good as any that could be made of them.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0 as u64);
    }
}

/// Places keys in a table: multiplied with a number of its own, so that nobody outside can choose keys of one place.
#[derive(Clone, Debug)]
pub(super) struct KeyHash {
    seed: u64,
}

/// The place of one key.
pub(super) struct KeyHasher {
    seed: u64,
    place: u64,
}

impl Default for KeyHash {
    fn default() -> Self {
        // Odd, so never zero, with which all places would be one.
        Self { seed: RandomState::new().hash_one(0_u64) | 1 }
    }
}

impl BuildHasher for KeyHash {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher { seed: self.seed, place: 0 }
    }
}

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // Both halves of the product: a table looks at the lowest bits and at the highest.
        let product = u128::from(self.place ^ word) * u128::from(self.seed);
        self.place = product as u64 ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.place
    }
}

/// The digits of [`Key::text`]: six bits each.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Characters that 128 bits take, six bits each. A `SmolStr` keeps 23 inline.
const TEXT_BYTES: usize = 22;

impl Key {
    /// The key of a message with these fields, or `None` where one is missing or has no one form. Fields of a reply
    /// must be of the same types as those of the request; what is optional is absent in both or in none.
    pub(super) fn of(mti: Option<Mti>, fields: &[Seen<'_>], buffer: &mut Vec<u8>) -> Option<Self> {
        buffer.clear();
        buffer.extend_from_slice(&mti.map_or([0; 4], folded));
        for field in fields {
            let (tag, bytes) = match field {
                Seen::Text(text) => (b't', text.as_bytes()),
                Seen::Value(Value::Bytes(bytes)) => (b'b', bytes.as_slice()),
                Seen::Absent => (b'-', [].as_slice()),
                Seen::Value(_) | Seen::Nothing => return None,
            };
            // A message is far below 4 GiB.
            let [a, b, c, d] = (bytes.len() as u32).to_le_bytes();
            buffer.extend_from_slice(&[tag, a, b, c, d]);
            buffer.extend_from_slice(bytes);
        }
        Some(Self::hashed(buffer))
    }

    /// The key that the message whose parts are in `buffer` would have with another type.
    pub(super) fn with_mti(mti: Mti, buffer: &mut [u8]) -> Self {
        if let Some(head) = buffer.first_chunk_mut() {
            *head = folded(mti);
        }
        Self::hashed(buffer)
    }

    // Not a keyed quick hash: its key would have to outlive the process, and whoever finds two requests of one key
    // gets the answer of the other.
    fn hashed(buffer: &[u8]) -> Self {
        let hash = blake3::hash(buffer);
        let mut half = [0; 16];
        half.copy_from_slice(&hash.as_bytes()[..16]);
        Self(u128::from_le_bytes(half))
    }

    /// Its name in the durable state, for timers and in `meta["conductor.key"]`.
    pub(super) fn text(self) -> SmolStr {
        // Ten digits are sixty bits, which one register holds; the last two are what is left over.
        let mut text = [0; TEXT_BYTES];
        let mut left = self.0;
        for digits in text.chunks_mut(10) {
            let mut bits = left as u64;
            for digit in digits {
                *digit = DIGITS[(bits & 63) as usize];
                bits >>= 6;
            }
            left >>= 60;
        }
        SmolStr::new_inline(std::str::from_utf8(&text).expect("the digits are ASCII"))
    }

    /// The key of this name, if it is one.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        if text.len() != TEXT_BYTES {
            return None;
        }
        let mut bits = 0u128;
        for (idx, byte) in text.bytes().enumerate() {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return None,
            };
            // The last digit stands for two bits.
            if idx == TEXT_BYTES - 1 && digit > 3 {
                return None;
            }
            bits |= u128::from(digit) << (6 * idx);
        }
        Some(Self(bits))
    }
}

/// A reply counts as its request, a repeat as its original.
fn folded([version, class, function, origin]: Mti) -> Mti {
    // The last bit of an ASCII digit is that of its number.
    let repeat = if origin < b'6' { 1 } else { 0 };
    [version, class, function & !1, origin & !repeat]
}

/// Whether a message of this type answers another one.
pub(super) fn is_reply(mti: Mti) -> bool {
    mti[2] & 1 == 1
}

/// The type that answers a request of this type: the function one up, the origin without its repeat.
pub(super) fn answering(mti: Mti) -> Mti {
    let [version, class, function, origin] = folded(mti);
    [version, class, function | 1, origin]
}

/// Four digits from a text.
pub(super) fn mti(text: &str) -> Option<Mti> {
    let digits: Mti = text.as_bytes().try_into().ok()?;
    digits.iter().all(u8::is_ascii_digit).then_some(digits)
}

pub(super) fn mti_at(place: &Place, msg: &FluxMsg) -> Option<Mti> {
    match place {
        Place::Meta(key) => mti(msg.meta.get(key)?),
        Place::Data(path) => mti(msg.data.get(path)?.as_text()?),
    }
}

pub(super) fn mti_text(mti: Mti) -> SmolStr {
    SmolStr::new_inline(std::str::from_utf8(&mti).unwrap_or_default())
}

#[cfg(test)]
mod tests;
