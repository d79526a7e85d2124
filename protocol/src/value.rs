//! Business values inside a message: what CBOR can say without tags, in 24 bytes, cheap to copy.
//! Decimal amounts are text; floats exist because CBOR has them.

mod blob;
mod int;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use smol_str::SmolStr;

pub use blob::Blob;
pub use int::{Int, OutOfRange};

use crate::map::Map;

/// One value. A copy of any of them costs at most one atomic increment.
///
/// Two values are equal exactly when their encodings are: `0.0` and `-0.0` differ, one NaN equals another.
#[derive(Clone, Default)]
pub enum Value {
    /// Nothing, said explicitly.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// Any integer CBOR can hold without a tag: −2^64 to 2^64 − 1.
    Int(Int),
    /// A binary floating-point number. Never an amount of money.
    Float(f64),
    /// UTF-8 text; up to 23 bytes are kept inline.
    Text(SmolStr),
    /// Bytes; up to 14 are kept inline.
    Bytes(Blob),
    /// Values in order.
    Array(Arc<Vec<Value>>),
    /// Values under text keys.
    Map(Map),
}

impl Value {
    /// The word for the kind of value, as errors and `Debug` use it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
        }
    }

    /// The text, when it is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The bytes, when it is a byte string.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// The integer, when it is one.
    pub fn as_int(&self) -> Option<Int> {
        if let Self::Int(int) = self { Some(*int) } else { None }
    }

    /// The truth value, when it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(bool) = self { Some(*bool) } else { None }
    }

    /// The number, when it is an integer or a float. Integers beyond 2^53 lose their last digits.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Int(int) => Some(int.to_f64()),
            Self::Float(float) => Some(*float),
            _ => None,
        }
    }

    /// The elements, when it is an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        if let Self::Array(array) = self { Some(array) } else { None }
    }

    /// The map, when it is one.
    pub fn as_map(&self) -> Option<&Map> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

/// Type and length, never the value: a message may hold card data, and logs outlive it.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => Extent("text", text.len()).fmt(f),
            Self::Bytes(bytes) => Extent("bytes", bytes.len()).fmt(f),
            Self::Array(array) => f.debug_list().entries(array.iter()).finish(),
            Self::Map(map) => map.fmt(f),
            scalar => f.write_str(scalar.type_name()),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never alternate: `{:#}` of a message is still one line of a log.
        write!(f, "{self:?}")
    }
}

/// A type and a length, printed without quotes: `text(16)`.
pub(crate) struct Extent(pub(crate) &'static str, pub(crate) usize);

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.0, self.1)
    }
}

/// `SmolStr::new` is a call that moves the inline bytes twice; half of decoding was spent waiting for those moves.
#[inline(always)]
pub(crate) fn owned(text: &str) -> SmolStr {
    const INLINE_BYTES: usize = 23;
    if text.len() <= INLINE_BYTES { SmolStr::new_inline(text) } else { SmolStr::new(text) }
}

macro_rules! value_from {
    ($($from:ty, $value:ident => $into:expr;)*) => {$(
        impl From<$from> for Value {
            fn from($value: $from) -> Self {
                $into
            }
        }
    )*};
}

value_from! {
    bool, value => Self::Bool(value);
    Int, value => Self::Int(value);
    u64, value => Self::Int(value.into());
    u32, value => Self::Int(u64::from(value).into());
    u16, value => Self::Int(u64::from(value).into());
    u8, value => Self::Int(u64::from(value).into());
    i64, value => Self::Int(value.into());
    i32, value => Self::Int(i64::from(value).into());
    i16, value => Self::Int(i64::from(value).into());
    i8, value => Self::Int(i64::from(value).into());
    f64, value => Self::Float(value);
    f32, value => Self::Float(value.into());
    &str, value => Self::Text(owned(value));
    String, value => Self::Text(SmolStr::new(value));
    &String, value => Self::Text(SmolStr::new(value));
    SmolStr, value => Self::Text(value);
    Blob, value => Self::Bytes(value);
    &[u8], value => Self::Bytes(value.into());
    Vec<u8>, value => Self::Bytes(value.into());
    Bytes, value => Self::Bytes(value.as_ref().into());
    Map, value => Self::Map(value);
    Vec<Value>, value => Self::Array(Arc::new(value));
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(bytes: &[u8; N]) -> Self {
        Self::Bytes(bytes.as_slice().into())
    }
}

#[cfg(test)]
mod tests;
