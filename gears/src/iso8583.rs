//! ISO 8583: message specifications as data, the codec they drive, message types, and what no output may show.
//! A message carries its type in `meta["iso8583.mti"]` and its fields in `data.iso8583.<number>`.

mod answer;
mod charset;
mod decode;
mod encode;
mod error;
mod hex;
mod mti;
mod privacy;
mod read;
mod spec;
mod spec_error;

#[cfg(test)]
mod tests;

pub use charset::Kind;
pub use decode::Decoded;
pub use error::{DecodeError, DecodeFault, EncodeError, EncodeFault, Part};
pub use mti::{MtiError, response_mti};
pub use privacy::{ALWAYS_SENSITIVE, Masked, mask, masked_pan, redact, redacted};
pub use spec::{FieldSpec, Spec};
pub use spec_error::{SpecError, SpecErrors, SpecFault};

pub(crate) use answer::{Answer, Code, Echo, Set};
pub(crate) use mti::Mtis;

/// Key in `meta` of the message type: four digits.
pub const MTI: &str = "iso8583.mti";
/// Key in `data` of the fields.
pub const FIELDS: &str = "iso8583";
/// Key in `meta` under which a listener says what `raw` holds.
pub const CONTENT: &str = "content";
/// Key in `meta` of the fields that only the message's own spec calls sensitive.
pub const SENSITIVE: &str = "iso8583.sensitive";
