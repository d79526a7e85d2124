//! Where one message ends and the next begins in a stream of bytes: pure functions, which read no socket.
//! A length that was claimed is checked here, before anything is allocated for it.

use fluxrig_actors::prelude::*;

/// How the length of a message stands in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LengthPrefix {
    /// Two bytes, big-endian: at most 65,535.
    Be16,
    /// Four bytes, big-endian.
    Be32,
    /// Four ASCII digits: at most 9,999.
    Ascii4,
    /// Two bytes of two decimal digits each: at most 9,999.
    Bcd2,
}

/// How messages are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// These bytes end each message.
    Delimiter(Box<[u8]>),
    /// Its length stands in front of each message.
    Length {
        prefix: LengthPrefix,
        /// The length counts itself, too.
        is_inclusive: bool,
    },
}

/// A whole frame at the beginning of a buffer, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) head: usize,
    pub(super) body: usize,
    pub(super) tail: usize,
}

/// Bytes that are no frame. The stream cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadFrame {
    /// Longer than a message may be.
    Oversize,
    /// Not a number, or less than the prefix that it counts.
    Length,
}

impl LengthPrefix {
    /// Bytes that it takes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Be16 | Self::Bcd2 => 2,
            Self::Be32 | Self::Ascii4 => 4,
        }
    }

    /// The greatest number that it can say.
    #[must_use]
    pub const fn max(self) -> usize {
        match self {
            Self::Be16 => u16::MAX as usize,
            Self::Be32 => u32::MAX as usize,
            Self::Ascii4 | Self::Bcd2 => 9_999,
        }
    }

    /// The number in a whole prefix, or `None` where it has a digit that is none.
    #[must_use]
    pub fn read(self, prefix: &[u8]) -> Option<usize> {
        match self {
            Self::Be16 | Self::Be32 => Some(prefix.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte))),
            Self::Ascii4 => decimal(prefix.iter().map(|byte| byte.wrapping_sub(b'0'))),
            Self::Bcd2 => decimal(prefix.iter().flat_map(|byte| [byte >> 4, byte & 15])),
        }
    }

    /// Appends a number, which must be at most [`max`](Self::max).
    pub fn write(self, number: usize, out: &mut Vec<u8>) {
        let digit = |place: usize| (number / place % 10) as u8;
        match self {
            Self::Be16 => out.extend((number as u16).to_be_bytes()),
            Self::Be32 => out.extend((number as u32).to_be_bytes()),
            Self::Ascii4 => out.extend([1000, 100, 10, 1].map(|place| b'0' + digit(place))),
            Self::Bcd2 => out.extend([100, 1].map(|place| digit(place * 10) << 4 | digit(place))),
        }
    }
}

fn decimal(digits: impl Iterator<Item = u8>) -> Option<usize> {
    let mut number = 0;
    for digit in digits {
        if digit > 9 {
            return None;
        }
        number = number * 10 + usize::from(digit);
    }
    Some(number)
}

impl Framing {
    /// The longest message that it can say.
    pub(super) fn body_max(&self) -> usize {
        match self {
            Self::Delimiter(_) => usize::MAX,
            Self::Length { prefix, is_inclusive } => prefix.max() - if *is_inclusive { prefix.bytes() } else { 0 },
        }
    }

    /// Whether a message of no bytes has a meaning of its own here.
    pub(super) fn has_length(&self) -> bool {
        matches!(self, Self::Length { .. })
    }

    /// The first frame in `bytes`, `None` while it is not whole. `looked` is where the search for a delimiter goes on,
    /// so that bytes that come one by one are not searched again; it begins at 0 with each frame.
    pub(super) fn first(&self, bytes: &[u8], looked: &mut usize, max: usize) -> Result<Option<Frame>, BadFrame> {
        match self {
            Self::Delimiter(delimiter) => delimited(bytes, delimiter, looked, max),
            Self::Length { prefix, is_inclusive } => {
                let head = prefix.bytes();
                let Some(claim) = bytes.get(..head) else { return Ok(None) };
                let claim = prefix.read(claim).ok_or(BadFrame::Length)?;
                let counted = if *is_inclusive { head } else { 0 };
                let body = claim.checked_sub(counted).ok_or(BadFrame::Length)?;
                if body > max {
                    return Err(BadFrame::Oversize);
                }
                Ok((bytes.len() - head >= body).then_some(Frame { head, body, tail: 0 }))
            }
        }
    }

    /// Whether `body` can be sent as one frame that is read back as itself.
    pub(super) fn carries(&self, body: &[u8]) -> bool {
        match self {
            // Also where the end of the body and the delimiter together make an earlier one.
            Self::Delimiter(delimiter) => {
                let overlaps = (1..delimiter.len()).any(|len| {
                    body.ends_with(&delimiter[..len])
                        && delimiter[len..].starts_with(&delimiter[..delimiter.len() - len])
                });
                !overlaps && find(body, delimiter).is_none()
            }
            Self::Length { .. } => body.len() <= self.body_max(),
        }
    }

    /// Appends `body` as a frame. It must be one that this framing [carries](Self::carries).
    pub(super) fn write(&self, body: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Delimiter(delimiter) => {
                out.extend_from_slice(body);
                out.extend_from_slice(delimiter);
            }
            Self::Length { prefix, is_inclusive } => {
                prefix.write(body.len() + if *is_inclusive { prefix.bytes() } else { 0 }, out);
                out.extend_from_slice(body);
            }
        }
    }
}

fn delimited(bytes: &[u8], delimiter: &[u8], looked: &mut usize, max: usize) -> Result<Option<Frame>, BadFrame> {
    // Beyond this no delimiter can make a message that is short enough.
    let end = bytes.len().min(max.saturating_add(delimiter.len()));
    if let Some(at) = find(&bytes[*looked..end], delimiter) {
        let body = *looked + at;
        *looked = 0;
        return Ok(Some(Frame { head: 0, body, tail: delimiter.len() }));
    }
    if bytes.len() >= max.saturating_add(delimiter.len()) {
        return Err(BadFrame::Oversize);
    }
    // The last bytes may be the beginning of a delimiter.
    *looked = bytes.len().saturating_sub(delimiter.len() - 1);
    Ok(None)
}

fn find(bytes: &[u8], delimiter: &[u8]) -> Option<usize> {
    match delimiter {
        [byte] => bytes.iter().position(|other| other == byte),
        _ => bytes.windows(delimiter.len()).position(|window| window == delimiter),
    }
}

#[cfg(test)]
mod tests;
