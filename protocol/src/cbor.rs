//! CBOR in its one deterministic form (RFC 8949 §4.2.1): heads, floats, values, and what can be wrong with bytes.
//! Written by hand: general codecs hide how long a head was, and that is exactly what must be checked here.

mod error;
mod float;
mod measure;
mod reader;
mod writer;

pub(crate) use error::Step;
pub use error::{DecodeError, Fault, Field};
pub(crate) use measure::{Measure, Memo, blame_map, blame_meta};
pub(crate) use reader::Reader;
pub(crate) use writer::{ARRAY, BYTES, MAP, TEXT, UNSIGNED, head, head_len, int, int_len, map, meta};

#[cfg(test)]
mod tests;
