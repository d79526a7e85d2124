//! Bytes to a message: one pass, in the order in which a message is written, refusing everything else.
//! Sizes are compared with limits and with what is there before any memory is taken for them.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{Body, Flags, FluxMsg, Hop, Inner, Path, Unknown};
use crate::{
    DecodeError, EntityId, Fault, Field, FluxId, LimitError, Limits, Trace,
    cbor::{self, Measure, Memo, Reader, Step},
};

impl FluxMsg {
    /// Reads one message, with nothing after it. What it accepts it writes again as the same bytes.
    ///
    /// # Errors
    ///
    /// Refuses what is not deterministic CBOR, what is not a message, and what is over `limits`; the error says where.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<FluxMsg, DecodeError> {
        read(Reader::new(bytes, limits), bytes.len(), limits).map_err(|error| *error)
    }

    /// The same for input that can be shared: a `raw` of 256 bytes or more becomes a slice of it and keeps all of it alive.
    ///
    /// # Errors
    ///
    /// As [`FluxMsg::decode`].
    pub fn decode_shared(bytes: &Bytes, limits: &Limits) -> Result<FluxMsg, DecodeError> {
        read(Reader::new_shared(bytes, limits), bytes.len(), limits).map_err(|error| *error)
    }
}

fn read(mut reader: Reader<'_>, input_bytes: usize, limits: &Limits) -> Step<FluxMsg> {
    if input_bytes > limits.encoded_bytes {
        return reader.fail(0, LimitError::EncodedBytes { found: input_bytes, limit: limits.encoded_bytes });
    }
    let head = reader.head()?;
    if head.major != cbor::MAP {
        return reader.wrong_type(head, "a map");
    }
    let count = reader.claimed(head, 2)?;
    let mut body = Body::new(FluxId::NIL, Trace::default(), EntityId::NIL, 0);
    let mut keys = Keys::default();
    let mut content_bytes = 0;
    for idx in 0..count {
        let Some(field) = keys.next(&mut reader)? else {
            read_unknown(&mut reader, &mut keys, &mut body, count - idx, limits)?;
            break;
        };
        let start = reader.at();
        reader.field = field;
        read_field(&mut reader, field, &mut body, limits)?;
        if matches!(field, Field::Meta | Field::Data | Field::Raw | Field::Return) {
            content_bytes += reader.at() - start;
        }
        reader.field = Field::Message;
    }
    reader.end()?;
    if let Some(field) = Field::required().find(|&field| !keys.has(field)) {
        return reader.fail(reader.at(), Fault::MissingKey { field });
    }
    let mut measure = Measure { bytes: content_bytes, ..reader.measure };
    measure.add(body.unknown.measure());
    if !measure.fits(limits) {
        // All but the size was compared while reading.
        let found = measure.bytes.saturating_add(limits.reserved_bytes());
        return reader.fail(0, LimitError::EncodedBytes { found, limit: limits.encoded_bytes });
    }
    // What was read is within the limits: the first check after it need not walk it again.
    Ok(FluxMsg(Arc::new(Inner { body, encoded: OnceLock::new(), measured: Memo::of(measure) })))
}

/// Top-level keys in rising order, and which of the known ones came.
#[derive(Default)]
struct Keys {
    /// Major type and number of the last key.
    last: Option<(u8, u64)>,
    seen: u16,
    /// Offset of the last key.
    at: usize,
}

impl Keys {
    /// Reads the next key; `None` when this version does not know it.
    fn next(&mut self, reader: &mut Reader<'_>) -> Step<Option<Field>> {
        let head = reader.head()?;
        if head.major > 1 {
            return reader.wrong_type(head, "an integer as key");
        }
        let key = (head.major, head.number);
        match self.last {
            Some(last) if last == key => return reader.fail(head.at, Fault::Duplicate),
            Some(last) if last > key => return reader.fail(head.at, Fault::Unordered),
            _ => (self.last, self.at) = (Some(key), head.at),
        }
        let field = if head.major == cbor::UNSIGNED { Field::of_key(head.number) } else { None };
        if let Some(field) = field {
            self.seen |= 1 << field as u8;
        }
        Ok(field)
    }

    fn has(&self, field: Field) -> bool {
        self.seen & 1 << field as u8 != 0
    }
}

fn read_field(reader: &mut Reader<'_>, field: Field, body: &mut Body, limits: &Limits) -> Step<()> {
    match field {
        Field::Id => body.id = FluxId(*reader.fixed()?),
        Field::Ref => body.reference = Some(FluxId(*reader.fixed()?)),
        Field::Trace => body.trace = Trace::from_bytes(reader.fixed()?),
        Field::Src => body.src = EntityId(reader.expect(cbor::UNSIGNED, "an unsigned integer")?),
        Field::Ts => body.ts = reader.int64()?,
        Field::Meta => body.meta = reader.meta()?,
        Field::Data => body.data = reader.map()?,
        Field::Raw => body.raw = Some(reader.bytes()?),
        Field::Path => body.path = read_path(reader, limits)?,
        Field::Flags => body.flags = read_flags(reader)?,
        Field::Expires => body.expires = Some(reader.int64()?),
        Field::Return => body.return_to = Some(reader.bytes()?),
        Field::Unknown | Field::Message => unreachable!("not keys of a message"),
    }
    Ok(())
}

fn read_path(reader: &mut Reader<'_>, limits: &Limits) -> Step<Path> {
    let at = reader.at();
    let count = reader.expect(cbor::ARRAY, "an array")?;
    if count > limits.hops as u64 {
        let found = usize::try_from(count).unwrap_or(usize::MAX);
        return reader.fail(at, LimitError::Hops { found, limit: limits.hops });
    }
    let mut path = Path::new();
    for _ in 0..count {
        let at = reader.at();
        let found = reader.expect(cbor::ARRAY, "an array of entity id and time")?;
        if found != 2 {
            return reader.fail(at, Fault::Length { found, expected: 2 });
        }
        let gear = EntityId(reader.expect(cbor::UNSIGNED, "an unsigned integer")?);
        path.push(Hop { gear, ts: reader.int64()? });
    }
    Ok(path)
}

fn read_flags(reader: &mut Reader<'_>) -> Step<Flags> {
    let at = reader.at();
    let bits = reader.expect(cbor::UNSIGNED, "an unsigned integer")?;
    Flags::from_bits(bits).or_else(|reserved| reader.fail(at, Fault::ReservedFlags { bits: reserved.bits }))
}

/// All fields from the first unknown key on. Its key is read already; known keys cannot follow, they sort before.
fn read_unknown(reader: &mut Reader<'_>, keys: &mut Keys, body: &mut Body, count: usize, limits: &Limits) -> Step<()> {
    let start = keys.at;
    if count > limits.map_entries {
        let at = Field::Unknown.name().into();
        return reader.fail(start, LimitError::MapEntries { at, found: count, limit: limits.map_entries });
    }
    let known = std::mem::take(&mut reader.measure);
    for idx in 0..count {
        if idx > 0 {
            keys.next(reader)?;
        }
        reader.field = Field::Unknown;
        reader.skip(0)?;
        reader.field = Field::Message;
    }
    body.unknown = Unknown::new(count, reader.since(start), reader.measure);
    reader.measure = known;
    Ok(())
}
