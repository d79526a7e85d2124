//! A message to bytes: a map under the keys 0 to 11 in order, then the unknown fields.
//! Limits are checked before, so that what this node writes every node reads.

use bytes::Bytes;
use smol_str::SmolStr;

use super::{Body, FluxMsg};
use crate::{
    LimitError, Limits,
    cbor::{self, ARRAY, BYTES, MAP, Measure, UNSIGNED},
    trace::Trace,
    value::Int,
};

/// A message that cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// It is over a limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

impl FluxMsg {
    /// The bytes of this version of the message; made once, then kept until it is changed.
    ///
    /// # Errors
    ///
    /// When the message is over a limit.
    pub fn encoded(&self, limits: &Limits) -> Result<&[u8], EncodeError> {
        self.cached(limits).map(|bytes| bytes.as_ref())
    }

    /// The same bytes, shared: for clients that keep them longer than the message.
    ///
    /// # Errors
    ///
    /// When the message is over a limit.
    pub fn encoded_shared(&self, limits: &Limits) -> Result<Bytes, EncodeError> {
        self.cached(limits).cloned()
    }

    /// Appends the bytes of a message that passed [`FluxMsg::check`], without checking it again or keeping them.
    ///
    /// Made for the journal, which writes many messages into one buffer. A message that never passed may hold values
    /// so deep that writing them exhausts the stack.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self.0.encoded.get() {
            Some(bytes) => out.extend_from_slice(bytes),
            None => self.0.body.write(out),
        }
    }

    fn cached(&self, limits: &Limits) -> Result<&Bytes, EncodeError> {
        self.check(limits)?;
        Ok(self.0.encoded.get_or_init(|| {
            let content = self.0.measured.get().map_or(0, |measure| measure.bytes);
            let mut out = Vec::with_capacity(content + self.0.body.envelope_len());
            self.0.body.write(&mut out);
            out.into()
        }))
    }
}

impl Body {
    /// Fields that are present.
    fn field_count(&self) -> usize {
        let optional = [self.reference.is_some(), self.raw.is_some(), self.expires.is_some(), self.return_to.is_some()];
        8 + optional.into_iter().filter(|&is_present| is_present).count() + self.unknown.len()
    }

    /// Exact size of everything that [`Body::measure`] leaves out: an exact vector becomes `Bytes` without a copy.
    pub(super) fn envelope_len(&self) -> usize {
        let id = 1 + 1 + 16;
        let keys_of_measured = 2 + usize::from(self.raw.is_some()) + usize::from(self.return_to.is_some());
        let int = |n: i64| cbor::int_len(n.into());
        let hops: usize = self.path.iter().map(|hop| 1 + cbor::head_len(hop.gear.0) + int(hop.ts)).sum();
        cbor::head_len(self.field_count() as u64)
            + id
            + self.reference.map_or(0, |_| id)
            + (1 + 2 + Trace::BYTES)
            + (1 + cbor::head_len(self.src.0))
            + (1 + int(self.ts))
            + keys_of_measured
            + (1 + cbor::head_len(self.path.len() as u64) + hops)
            + (1 + cbor::head_len(self.flags.bits()))
            + self.expires.map_or(0, |expires| 1 + int(expires))
    }

    fn write(&self, out: &mut Vec<u8>) {
        cbor::head(out, MAP, self.field_count() as u64);
        out.push(0);
        bytes(out, &self.id.0);
        if let Some(reference) = &self.reference {
            out.push(1);
            bytes(out, &reference.0);
        }
        out.push(2);
        bytes(out, &self.trace.to_bytes());
        out.push(3);
        cbor::head(out, UNSIGNED, self.src.0);
        out.push(4);
        cbor::int(out, Int::from(self.ts));
        out.push(5);
        cbor::meta(out, &self.meta);
        out.push(6);
        cbor::map(out, &self.data);
        if let Some(raw) = &self.raw {
            out.push(7);
            bytes(out, raw);
        }
        out.push(8);
        cbor::head(out, ARRAY, self.path.len() as u64);
        for hop in &self.path {
            cbor::head(out, ARRAY, 2);
            cbor::head(out, UNSIGNED, hop.gear.0);
            cbor::int(out, Int::from(hop.ts));
        }
        out.push(9);
        cbor::head(out, UNSIGNED, self.flags.bits());
        if let Some(expires) = self.expires {
            out.push(10);
            cbor::int(out, Int::from(expires));
        }
        if let Some(return_to) = &self.return_to {
            out.push(11);
            bytes(out, return_to);
        }
        out.extend_from_slice(self.unknown.as_bytes());
    }
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    cbor::head(out, BYTES, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The first limit that a message is over, with its place.
#[cold]
pub(super) fn blame(body: &Body, measure: &Measure, limits: &Limits) -> LimitError {
    let in_unknown = || body.unknown.blame(limits);
    cbor::blame_meta(&body.meta, limits)
        .or_else(|| cbor::blame_map(&body.data, SmolStr::new_static("data"), 1, limits))
        .or_else(in_unknown)
        .unwrap_or(LimitError::EncodedBytes {
            found: measure.bytes.saturating_add(limits.reserved_bytes()),
            limit: limits.encoded_bytes,
        })
}
