//! Why a message cannot be read or written. Names the part and the byte, lengths and kinds; never what stands there.

use std::fmt;

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The message type.
    Mti,
    /// The bitmap of fields 2 to 64.
    Bitmap,
    /// The bitmap of fields 66 to 128.
    SecondBitmap,
    /// A field.
    Field(u8),
    /// What follows the last field.
    End,
    /// The fields as a whole, for a key that is no number.
    Fields,
}

/// Bytes that are no message of the spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part} at byte {at}: {fault}")]
pub struct DecodeError {
    /// The part.
    pub part: Part,
    /// Where in the bytes, counted from 0.
    pub at: usize,
    /// What is wrong.
    pub fault: DecodeFault,
}

/// What is wrong with bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeFault {
    /// They end too early.
    #[error("found {left} bytes, expected {expected}; remedy: compare the spec and the framing with the peer's")]
    Truncated {
        /// Bytes that are left.
        left: usize,
        /// Bytes that this part takes.
        expected: usize,
    },
    /// A character of another kind.
    #[error("found a character that is none of kind `{kind}`; remedy: compare the spec with the peer's")]
    Character {
        /// The kind.
        kind: &'static str,
    },
    /// A length prefix without digits.
    #[error("found a length that is no number, expected {expected}; remedy: compare the spec with the peer's")]
    Prefix {
        /// How it should be written.
        expected: &'static str,
    },
    /// A length beyond what the spec allows.
    #[error("found a length of {found}, expected at most {max}; remedy: compare the spec with the peer's")]
    Length {
        /// The length that is claimed.
        found: usize,
        /// The most there may be.
        max: usize,
    },
    /// A length in hex characters that is odd.
    #[error("found a length of {found} hex characters, expected an even number; remedy: set `counts: bytes`")]
    Odd {
        /// The length that is claimed.
        found: usize,
    },
    /// Half a byte that should only fill up.
    #[error("found another half byte beside an odd number of digits, expected `{expected}`; remedy: set `pad`")]
    Pad {
        /// The filler of the spec.
        expected: char,
    },
    /// A field that the spec does not have.
    #[error("found this field announced, expected one of the spec's; remedy: add it to the spec")]
    Unknown,
    /// A third bitmap.
    #[error("found a third bitmap announced, expected two at most; remedy: leave out the fields above 128")]
    ThirdBitmap,
    /// Bytes behind the last field.
    #[error("found {left} bytes after the last field, expected none; remedy: compare the spec with the peer's")]
    Trailing {
        /// How many.
        left: usize,
    },
}

/// Fields that cannot be written as the spec says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {fault}")]
pub struct EncodeError {
    /// The part.
    pub part: Part,
    /// What is wrong.
    pub fault: EncodeFault,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeFault {
    /// Not four digits.
    #[error("found no four digits, expected them in `meta.iso8583.mti`; remedy: let an earlier gear set it")]
    Mti,
    /// A key that is no field of the spec.
    #[error("found a key that is no field of the spec; remedy: add it to the spec, or let an earlier gear drop it")]
    Unknown,
    /// A value of a wrong type.
    #[error("found a value of type {found}, expected {expected}; remedy: convert it before this gear")]
    Type {
        /// The type that stands there.
        found: &'static str,
        /// The type that the kind needs.
        expected: &'static str,
    },
    /// A character of another kind.
    #[error("found at position {position} a character that is none of kind `{kind}`; remedy: correct the value")]
    Character {
        /// Which character, counted from 0.
        position: usize,
        /// The kind.
        kind: &'static str,
    },
    /// Too long, or too short for a field that nothing fills up.
    #[error("found a length of {found}, expected {}{max}; remedy: correct the value", if *is_exact { "" } else { "at most " })]
    Length {
        /// The value's length.
        found: usize,
        /// The length of the spec.
        max: usize,
        /// Nothing shorter is filled up.
        is_exact: bool,
    },
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mti => f.write_str("message type"),
            Self::Bitmap => f.write_str("bitmap"),
            Self::SecondBitmap => f.write_str("second bitmap"),
            Self::Field(number) => write!(f, "field {number}"),
            Self::End => f.write_str("end"),
            Self::Fields => f.write_str("`data.iso8583`"),
        }
    }
}
