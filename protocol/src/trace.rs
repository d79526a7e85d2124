//! Trace context of a message: 25 bytes, read from and written to the W3C `traceparent` header.
//! Strict where the header is version 00, forgiving towards later versions exactly as the recommendation asks.

use std::{fmt, str::FromStr};

use crate::id::read_hex;

/// Trace id, id of the span that caused the message, and flags. All zero: the message belongs to no trace.
///
/// ```
/// # use fluxrig_protocol::Trace;
/// let trace: Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// assert!(trace.sampled());
/// let inner = trace.child([1; 8]);
/// assert_eq!(inner.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0101010101010101-01");
/// # Ok::<(), fluxrig_protocol::TraceError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Trace {
    /// Names the whole trace.
    pub trace_id: [u8; 16],
    /// Names the span that caused the message.
    pub span_id: [u8; 8],
    /// Bit 0: sampled. Bit 1: the trace id is random. The others are kept as they travel but never sent in a header.
    pub flags: u8,
}

impl Trace {
    /// Size in a message, bytes.
    pub const BYTES: usize = 25;

    const SAMPLED: u8 = 1;
    const RANDOM: u8 = 2;

    /// The same trace seen from inside the span `span_id`.
    pub fn child(self, span_id: [u8; 8]) -> Self {
        Self { span_id, ..self }
    }

    /// Whether the caller recorded the trace.
    pub fn sampled(self) -> bool {
        self.flags & Self::SAMPLED != 0
    }

    /// Whether the message belongs to a trace at all.
    pub fn is_set(self) -> bool {
        self.trace_id != [0; 16] && self.span_id != [0; 8]
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..24].copy_from_slice(&self.span_id);
        bytes[24] = self.flags;
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let mut trace = Self { flags: bytes[24], ..Self::default() };
        trace.trace_id.copy_from_slice(&bytes[..16]);
        trace.span_id.copy_from_slice(&bytes[16..24]);
        trace
    }
}

/// The `traceparent` header, version 00.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trace_id = u128::from_be_bytes(self.trace_id);
        let span_id = u64::from_be_bytes(self.span_id);
        // Bits without a meaning must leave as zero, whatever came in.
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", self.flags & (Self::SAMPLED | Self::RANDOM))
    }
}

impl FromStr for Trace {
    type Err = TraceError;

    fn from_str(header: &str) -> Result<Self, TraceError> {
        let bytes = header.as_bytes();
        if bytes.len() < 55 {
            return Err(TraceError::Length { found: bytes.len() });
        }
        if [2, 35, 52].iter().any(|&at| bytes[at] != b'-') {
            return Err(TraceError::Separator);
        }
        let version = field::<1>(bytes, 0, "version")?[0];
        match version {
            0xff => return Err(TraceError::Version),
            0 if bytes.len() != 55 => return Err(TraceError::Length { found: bytes.len() }),
            // A later version may add fields, each behind a dash; what it means by them is not ours to guess.
            _ if bytes.len() > 55 && bytes[55] != b'-' => return Err(TraceError::Separator),
            _ => {}
        }
        let known = if version == 0 { Self::SAMPLED | Self::RANDOM } else { Self::SAMPLED };
        let trace = Self {
            trace_id: field(bytes, 3, "trace id")?,
            span_id: field(bytes, 36, "span id")?,
            flags: field::<1>(bytes, 53, "flags")?[0] & known,
        };
        if trace.trace_id == [0; 16] {
            return Err(TraceError::Zero { field: "trace id" });
        }
        if trace.span_id == [0; 8] {
            return Err(TraceError::Zero { field: "span id" });
        }
        Ok(trace)
    }
}

fn field<const N: usize>(header: &[u8], at: usize, field: &'static str) -> Result<[u8; N], TraceError> {
    let digits = &header[at..at + 2 * N];
    let mut out = [0; N];
    // The recommendation allows lower case only, so that equal contexts are equal texts.
    if digits.iter().any(u8::is_ascii_uppercase) || !read_hex(digits, &mut out) {
        return Err(TraceError::Hex { field });
    }
    Ok(out)
}

/// A `traceparent` header that must be ignored: the receiver starts a trace of its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Not as long as its version says.
    #[error("traceparent has {found} bytes, expected 55; remedy: send `00-<32 hex>-<16 hex>-<2 hex>`")]
    Length {
        /// Length of the header.
        found: usize,
    },
    /// No dash where one belongs.
    #[error("traceparent lacks a dash between its fields; remedy: send `00-<32 hex>-<16 hex>-<2 hex>`")]
    Separator,
    /// Version ff, which is reserved as invalid.
    #[error("traceparent has version ff, which is forbidden; remedy: send version 00")]
    Version,
    /// Something other than lower-case hex digits.
    #[error("traceparent: `{field}` is not lower-case hex; remedy: send only the digits 0-9 and a-f")]
    Hex {
        /// The field of the header.
        field: &'static str,
    },
    /// An id of zeros, which names nothing.
    #[error("traceparent: `{field}` is all zeros, which names nothing; remedy: send no header instead")]
    Zero {
        /// The field of the header.
        field: &'static str,
    },
}

#[cfg(test)]
mod tests;
