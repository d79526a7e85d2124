//! The correlation key: what a request and its reply have in common, as 128 bits of a hash.
//! Each part goes in with its type and length, so that no two lists of fields read the same.

use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::SmolStr;

use super::fields::Seen;
use crate::map::place::Place;

/// A message type indicator of ISO 8583: version, class, function, origin, as four digits.
pub(super) type Mti = [u8; 4];

/// Names one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(u128);

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
            buffer.push(tag);
            // A message is far below 4 GiB.
            buffer.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
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
        let bytes = self.0.to_le_bytes();
        let mut text = [0; TEXT_BYTES];
        // Three bytes are four digits; the last byte is two.
        for (digits, bytes) in text.chunks_mut(4).zip(bytes.chunks(3)) {
            let mut bits = bytes.iter().rev().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
            for digit in digits {
                *digit = DIGITS[(bits & 63) as usize];
                bits >>= 6;
            }
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
