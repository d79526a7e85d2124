//! What can be wrong with bytes from outside: where, what was found, what was expected, what to do.
//! Texts hold offsets, keys, types and lengths, never values.

use std::fmt;

use crate::limits::LimitError;

/// Bytes that are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}, {field}: {fault}")]
pub struct DecodeError {
    /// Offset from the start of the message, bytes.
    pub at: usize,
    /// The part of the message the offset lies in.
    pub field: Field,
    /// What is wrong there.
    pub fault: Fault,
}

/// A step of the decoder. The error is boxed so that the good path moves few bytes.
pub(crate) type Step<T> = Result<T, Box<DecodeError>>;

#[cold]
pub(crate) fn stop<T>(at: usize, field: Field, fault: Fault) -> Step<T> {
    Err(Box::new(DecodeError { at, field, fault }))
}

/// A part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Field {
    /// Key 0.
    Id = 0,
    /// Key 1.
    Ref = 1,
    /// Key 2.
    Trace = 2,
    /// Key 3.
    Src = 3,
    /// Key 4.
    Ts = 4,
    /// Key 5.
    Meta = 5,
    /// Key 6.
    Data = 6,
    /// Key 7.
    Raw = 7,
    /// Key 8.
    Path = 8,
    /// Key 9.
    Flags = 9,
    /// Key 10.
    Expires = 10,
    /// Key 11.
    Return = 11,
    /// A key that this version has no name for.
    Unknown = 254,
    /// The map around all fields.
    Message = 255,
}

impl Field {
    const KNOWN: [Field; 12] = [
        Field::Id,
        Field::Ref,
        Field::Trace,
        Field::Src,
        Field::Ts,
        Field::Meta,
        Field::Data,
        Field::Raw,
        Field::Path,
        Field::Flags,
        Field::Expires,
        Field::Return,
    ];

    /// The field under a top-level key, when this version knows it.
    pub(crate) fn of_key(key: u64) -> Option<Self> {
        Self::KNOWN.get(usize::try_from(key).ok()?).copied()
    }

    /// The fields every message has.
    pub(crate) fn required() -> impl Iterator<Item = Field> {
        use Field::{Data, Flags, Id, Meta, Path, Src, Trace, Ts};
        [Id, Trace, Src, Ts, Meta, Data, Path, Flags].into_iter()
    }

    /// The field's name as the documentation writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Ref => "ref",
            Self::Trace => "trace",
            Self::Src => "src",
            Self::Ts => "ts",
            Self::Meta => "meta",
            Self::Data => "data",
            Self::Raw => "raw",
            Self::Path => "path",
            Self::Flags => "flags",
            Self::Expires => "expires",
            Self::Return => "return",
            Self::Unknown => "unknown",
            Self::Message => "message",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("an unknown key"),
            Self::Message => f.write_str("the message"),
            known => write!(f, "`{}` (key {})", known.name(), *known as u8),
        }
    }
}

/// What is wrong with the bytes at one place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The input ends too early, or a length claims more than there is.
    #[error("found the end after {left} of {needed} bytes; remedy: send the message whole")]
    Truncated {
        /// What the head before it claims, bytes (for arrays and maps the least it can take).
        needed: u64,
        /// What is there.
        left: usize,
    },
    /// Something follows the message.
    #[error("found more bytes after the end ({left}), expected none; remedy: frame messages one by one")]
    Trailing {
        /// What is left, bytes.
        left: usize,
    },
    /// An integer, length or simple value in more bytes than it needs.
    #[error("found a number in {found} bytes, expected {expected}; remedy: encode deterministically (RFC 8949 §4.2.1)")]
    NotShortest {
        /// Bytes it takes.
        found: usize,
        /// Bytes it needs.
        expected: usize,
    },
    /// A float that a shorter one could say.
    #[error("found a float in {found} bytes, expected {expected}; remedy: use the shortest float that keeps the value")]
    FloatNotShortest {
        /// Bytes it takes.
        found: usize,
        /// Bytes it needs.
        expected: usize,
    },
    /// A NaN that is not the one NaN.
    #[error(
        "found a NaN that is not f97e00, expected only that one; remedy: encode deterministically (RFC 8949 §4.2.2)"
    )]
    OtherNan,
    /// A string, array or map without a length.
    #[error(
        "found {found} of indefinite length, expected a definite one; remedy: encode deterministically (RFC 8949 §4.2.1)"
    )]
    Indefinite {
        /// The type.
        found: &'static str,
    },
    /// A first byte that begins nothing.
    #[error(
        "found byte {byte:02x}, which begins no well-formed item here; remedy: check the framing before the message"
    )]
    Malformed {
        /// The byte.
        byte: u8,
    },
    /// A key that sorts before the one in front of it.
    #[error(
        "found a key that sorts before the one in front of it, expected rising order; remedy: sort keys by their encoded bytes"
    )]
    Unordered,
    /// A key that stands twice.
    #[error("found a key that stands there already, expected each once; remedy: keep one of the two")]
    Duplicate,
    /// A value of the wrong type.
    #[error("found {found}, expected {expected}; remedy: encode what fluxmsg.cddl says for this field")]
    Type {
        /// The type that stands there.
        found: &'static str,
        /// The type that belongs there.
        expected: &'static str,
    },
    /// A tag, which `data` does not have.
    #[error("found tag {number}, expected a value without tags; remedy: carry dates and decimals as text")]
    Tag {
        /// The tag's number.
        number: u64,
    },
    /// A simple value other than false, true and null.
    #[error("found simple value {number}, expected false, true or null; remedy: use null, or leave the key out")]
    Simple {
        /// The simple value's number; 23 is *undefined*.
        number: u8,
    },
    /// Text that is not UTF-8.
    #[error("found text that is not UTF-8 after its first {valid_bytes} bytes; remedy: carry it as bytes")]
    Utf8 {
        /// How far the text is good.
        valid_bytes: usize,
    },
    /// A string or array of a fixed size that has another.
    #[error("found a length of {found}, expected {expected}; remedy: encode what fluxmsg.cddl says for this field")]
    Length {
        /// The length that stands there.
        found: u64,
        /// The length that belongs there.
        expected: u64,
    },
    /// An integer that does not fit its field.
    #[error("found an integer outside {expected}; remedy: count nanoseconds since the Unix epoch in 64 signed bits")]
    Range {
        /// The range that fits.
        expected: &'static str,
    },
    /// Flags that this version gives no meaning.
    #[error("found reserved flags {bits:#x}, expected only bits 0 and 1; remedy: update this node, or clear them")]
    ReservedFlags {
        /// The reserved bits that are set.
        bits: u64,
    },
    /// A required key that is not there.
    #[error("found the end of the message without key {} (`{}`), which is required; remedy: send it, empty if need be", *.field as u8, .field.name())]
    MissingKey {
        /// The missing field.
        field: Field,
    },
    /// Over one of the limits.
    #[error(transparent)]
    Limit(#[from] LimitError),
}
