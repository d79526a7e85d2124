//! What is kept of one transaction, as bytes: in the table and, the same bytes, in the durable state.
//! Read defensively: a record of another layout, or a broken one, is told and never a panic.

use bytes::Bytes;
use fluxrig_actors::protocol::{Blob, FluxId, FluxMsg, Int, Map, SmolStr, Trace, Value};

use super::config::is_secret;
use super::fields::{Fields, Seen, Trail};
use super::key::Mti;
use crate::map::place::Place;

/// Of one transaction at most so many bytes of fields are kept; further fields are left out.
const KEPT_BYTES_MAX: usize = 4096;
/// Maps inside each other in a record; what is deeper is left out.
const DEPTH_MAX: usize = 8;

/// Where the fields of ISO 8583 stand in `data`.
const FIELDS: &str = "iso8583";

/// First byte of a record. A number is never given a second meaning.
const OPEN: u8 = 1;
const ANSWERED: u8 = 2;
const TIMED_OUT: u8 = 3;
const ANSWERED_WHOLE: u8 = 4;

/// A request that waits for its reply.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Open {
    pub(super) asker: Asker,
    /// Past it nothing is sent any more; a report names it.
    pub(super) expires: i64,
    /// Where it was sent.
    pub(super) destination: SmolStr,
    pub(super) kept: Kept,
}

/// The request as it came last, and where its answer goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asker {
    pub(super) id: FluxId,
    pub(super) trace: Trace,
    pub(super) return_to: Option<Bytes>,
}

/// A transaction that has ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Done {
    /// When, by the gear's own clock ([`fluxrig_actors::Outlet::steady_ns`]): a wall clock that is set ends no window.
    pub(super) at: i64,
    /// What is said again; `None` when there was no answer in time.
    pub(super) answer: Option<Said>,
}

/// What is remembered of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    /// Some of its fields.
    Fields(Kept),
    /// All of its `data`, but for what is never kept.
    Whole { mti: Option<Mti>, data: Map },
}

/// Fields of a message by the position of their place in a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Kept {
    pub(super) mti: Option<Mti>,
    pub(super) values: Vec<(u8, Value)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record {
    Open(Open),
    Done(Done),
}

/// A list of places, and a number that tells it from other lists.
#[derive(Clone, Debug)]
pub(super) struct Places {
    list: Vec<Place>,
    fields: Fields,
    /// The first ones are those of the key.
    keys: usize,
    layout: u32,
}

impl Places {
    /// Places of the key, and the others.
    pub(super) fn new(key: &[Place], others: Vec<Place>) -> Self {
        let mut list = key.to_vec();
        list.extend(others);
        let mut hasher = blake3::Hasher::new();
        for place in &list {
            hasher.update(place.to_string().as_bytes());
            hasher.update(&[0]);
        }
        let mut layout = [0; 4];
        layout.copy_from_slice(&hasher.finalize().as_bytes()[..4]);
        Self { fields: Fields::new(&list), list, keys: key.len(), layout: u32::from_le_bytes(layout) }
    }

    /// The last ones of the key need not be there.
    pub(super) fn with_optional(self, count: usize) -> Self {
        let optional = self.keys.saturating_sub(count)..self.keys;
        Self { fields: self.fields.with_optional(optional), ..self }
    }

    /// What a message has at these places.
    pub(super) fn look<'a>(&self, msg: &'a FluxMsg, trail: &mut Trail) -> Vec<Seen<'a>> {
        self.fields.look(msg, trail)
    }

    /// Of that, what the key is made of.
    pub(super) fn key<'a, 'm>(&self, seen: &'a [Seen<'m>]) -> &'a [Seen<'m>] {
        &seen[..self.keys]
    }

    /// Writes what was seen at these places.
    fn write(&self, seen: &[Seen<'_>], mti: Option<Mti>, into: &mut Vec<u8>) {
        let [l0, l1, l2, l3] = self.layout.to_le_bytes();
        let [m0, m1, m2, m3] = mti.unwrap_or_default();
        into.extend_from_slice(&[l0, l1, l2, l3, m0, m1, m2, m3]);
        let limit = into.len() + KEPT_BYTES_MAX;
        for (idx, field) in (0u8..).zip(seen) {
            match field {
                Seen::Text(text) => write_named(&[idx], b't', text.as_bytes(), limit, into),
                Seen::Value(value) => write_value(&[idx], value, limit, into),
                Seen::Nothing | Seen::Absent => {}
            }
        }
    }

    /// What a message that is at hand has at these places, as if it had been kept.
    pub(super) fn kept_of(&self, msg: &FluxMsg, mti: Option<Mti>) -> Kept {
        let mut bytes = Vec::new();
        self.write(&self.look(msg, &mut Trail::default()), mti, &mut bytes);
        Reader(&bytes).kept(self).unwrap_or_default()
    }

    /// Puts what was kept into a message.
    pub(super) fn restore(&self, kept: &Kept, msg: &mut FluxMsg) {
        for (idx, value) in &kept.values {
            if let Some(place) = self.list.get(usize::from(*idx)) {
                // The value stood there before, so nothing but a map is on the way in a message of the same shape;
                // where the shape is another one, the field is left out.
                drop(place.put(msg, value.clone()));
            }
        }
    }
}

/// Writes a value that is no list and no map.
fn write_value(name: &[u8], value: &Value, limit: usize, into: &mut Vec<u8>) {
    match value {
        Value::Text(text) => write_named(name, b't', text.as_bytes(), limit, into),
        Value::Bytes(bytes) => write_named(name, b'b', bytes, limit, into),
        Value::Int(int) => write_named(name, b'i', &i128::from(*int).to_le_bytes(), limit, into),
        Value::Bool(is_true) => write_named(name, b'?', &[u8::from(*is_true)], limit, into),
        Value::Null | Value::Float(_) | Value::Array(_) | Value::Map(_) => {}
    }
}

fn write_named(name: &[u8], tag: u8, bytes: &[u8], limit: usize, into: &mut Vec<u8>) {
    if into.len() + name.len() + bytes.len() + 3 > limit {
        return;
    }
    let [low, high] = (bytes.len() as u16).to_le_bytes();
    into.extend_from_slice(name);
    into.extend_from_slice(&[tag, low, high]);
    into.extend_from_slice(bytes);
}

/// Writes the entries of a map; those of the map in which ISO 8583 stands without what is never kept. Each entry is its
/// key behind a length, and a value; a map inside is a value of its own entries.
fn write_map(map: &Map, depth: usize, is_iso8583: bool, limit: usize, into: &mut Vec<u8>) {
    let mut has_left_out = false;
    for (key, value) in map.iter() {
        // A MAC vouches for all of a message, so it says nothing of one that lacks something.
        if is_iso8583 && is_secret(key, has_left_out) {
            has_left_out = true;
            continue;
        }
        let Ok(len) = u8::try_from(key.len()) else { continue };
        let at = into.len();
        into.push(len);
        into.extend_from_slice(key.as_bytes());
        let named = into.len();
        match value {
            Value::Map(inner) if depth < DEPTH_MAX && named + 3 <= limit => {
                into.extend_from_slice(&[b'm', 0, 0]);
                write_map(inner, depth + 1, depth == 0 && key == FIELDS, limit, into);
                let len = (into.len() - named - 3) as u16;
                into[named + 1..named + 3].copy_from_slice(&len.to_le_bytes());
            }
            value => write_value(&[], value, limit, into),
        }
        if into.len() == named {
            into.truncate(at);
        }
    }
}

/// What an open request is written from.
pub(super) struct Opening<'a> {
    pub(super) msg: &'a FluxMsg,
    pub(super) seen: &'a [Seen<'a>],
    pub(super) mti: Option<Mti>,
    pub(super) expires: i64,
    pub(super) destination: &'a str,
}

/// The bytes of an open request.
pub(super) fn open(opening: &Opening<'_>, places: &Places) -> Blob {
    let Opening { msg, seen, mti, expires, destination } = opening;
    // What the usual request keeps; it lives until the answer.
    let mut bytes = Vec::with_capacity(384);
    bytes.push(OPEN);
    bytes.extend_from_slice(&msg.id.0);
    bytes.extend_from_slice(&msg.trace.trace_id);
    bytes.extend_from_slice(&msg.trace.span_id);
    bytes.push(msg.trace.flags);
    bytes.push(u8::from(msg.return_to.is_some()));
    write_short(msg.return_to.as_deref().unwrap_or_default(), &mut bytes);
    bytes.extend_from_slice(&expires.to_le_bytes());
    write_short(destination.as_bytes(), &mut bytes);
    places.write(seen, *mti, &mut bytes);
    bytes.into()
}

/// The bytes of a transaction that was answered with these fields.
pub(super) fn answered(at: i64, seen: &[Seen<'_>], mti: Option<Mti>, places: &Places) -> Blob {
    let mut bytes = Vec::with_capacity(64);
    bytes.push(ANSWERED);
    bytes.extend_from_slice(&at.to_le_bytes());
    places.write(seen, mti, &mut bytes);
    bytes.into()
}

/// The bytes of a transaction that was answered with this message.
pub(super) fn answered_whole(at: i64, data: &Map, mti: Option<Mti>) -> Blob {
    let mut bytes = Vec::with_capacity(256);
    bytes.push(ANSWERED_WHOLE);
    bytes.extend_from_slice(&at.to_le_bytes());
    bytes.extend_from_slice(&mti.unwrap_or_default());
    let limit = bytes.len() + KEPT_BYTES_MAX;
    write_map(data, 0, false, limit, &mut bytes);
    bytes.into()
}

/// The bytes of a transaction that got no answer.
pub(super) fn timed_out(at: i64) -> Blob {
    let mut bytes = [0; 9];
    bytes[0] = TIMED_OUT;
    bytes[1..].copy_from_slice(&at.to_le_bytes());
    Blob::from(bytes.as_slice())
}

fn write_short(bytes: &[u8], into: &mut Vec<u8>) {
    let len = bytes.len().min(usize::from(u16::MAX));
    into.extend_from_slice(&(len as u16).to_le_bytes());
    into.extend_from_slice(&bytes[..len]);
}

/// Whether a value of the durable state is that of an open request.
pub(super) fn open_in(value: Option<Value>) -> Option<Blob> {
    match value {
        Some(Value::Bytes(bytes)) if bytes.first() == Some(&OPEN) => Some(bytes),
        _ => None,
    }
}

/// Who asked, from the bytes of an open request: what a reply needs, and no more is read.
pub(super) fn asker(bytes: &[u8]) -> Option<Asker> {
    let mut reader = Reader(bytes);
    if reader.array::<1>()?[0] == OPEN { reader.asker() } else { None }
}

/// The places of requests and of answers.
#[derive(Clone, Debug)]
pub(super) struct Layouts {
    pub(super) request: Places,
    pub(super) answer: Places,
}

impl Layouts {
    /// What the bytes say, or `None` when they are no record.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<Record> {
        let mut reader = Reader(bytes);
        match reader.array::<1>()?[0] {
            OPEN => {
                let asker = reader.asker()?;
                let expires = i64::from_le_bytes(reader.array()?);
                let destination = SmolStr::new(std::str::from_utf8(reader.short()?).ok()?);
                let kept = reader.kept(&self.request)?;
                Some(Record::Open(Open { asker, expires, destination, kept }))
            }
            ANSWERED => {
                let at = i64::from_le_bytes(reader.array()?);
                let kept = reader.kept(&self.answer)?;
                // One that was kept for other places says nothing any more; that it is over it does say.
                let answer = (!kept.values.is_empty()).then_some(Said::Fields(kept));
                Some(Record::Done(Done { at, answer }))
            }
            ANSWERED_WHOLE => {
                let at = i64::from_le_bytes(reader.array()?);
                let mti: Mti = reader.array()?;
                let data = reader.map(0)?;
                let answer = Some(Said::Whole { mti: (mti != [0; 4]).then_some(mti), data });
                Some(Record::Done(Done { at, answer }))
            }
            TIMED_OUT => {
                let at = i64::from_le_bytes(reader.array()?);
                reader.0.is_empty().then_some(Record::Done(Done { at, answer: None }))
            }
            _ => None,
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let len = u16::from_le_bytes(self.array()?);
        self.slice(len.into())
    }

    fn asker(&mut self) -> Option<Asker> {
        let id = FluxId(self.array()?);
        let (trace_id, span_id) = (self.array()?, self.array()?);
        let mut trace = Trace::default();
        (trace.trace_id, trace.span_id, trace.flags) = (trace_id, span_id, self.array::<1>()?[0]);
        let has_return = self.array::<1>()?[0] == 1;
        let address = self.short()?;
        Some(Asker { id, trace, return_to: has_return.then(|| Bytes::copy_from_slice(address)) })
    }

    /// The rest of the record. Fields that were kept for another list of places are read and left out.
    fn kept(&mut self, places: &Places) -> Option<Kept> {
        let layout = u32::from_le_bytes(self.array()?);
        let mti: Mti = self.array()?;
        let mut kept = Kept { mti: (mti != [0; 4]).then_some(mti), values: Vec::new() };
        while !self.0.is_empty() {
            let [idx, tag] = self.array()?;
            let value = self.value(tag)?;
            if layout == places.layout {
                kept.values.push((idx, value));
            }
        }
        Some(kept)
    }

    fn value(&mut self, tag: u8) -> Option<Value> {
        let bytes = self.short()?;
        Some(match tag {
            b't' => Value::from(std::str::from_utf8(bytes).ok()?),
            b'b' => Value::from(bytes),
            b'i' => Int::try_from(i128::from_le_bytes(bytes.try_into().ok()?)).ok()?.into(),
            b'?' => Value::from(bytes == [1]),
            _ => return None,
        })
    }

    /// The entries of a map, up to the end.
    fn map(&mut self, depth: usize) -> Option<Map> {
        let mut map = Map::default();
        while !self.0.is_empty() {
            let len = self.array::<1>()?[0];
            let key = SmolStr::new(std::str::from_utf8(self.slice(len.into())?).ok()?);
            let value = match self.array::<1>()?[0] {
                b'm' if depth < DEPTH_MAX => Reader(self.short()?).map(depth + 1)?.into(),
                tag => self.value(tag)?,
            };
            map.insert_key(key, value);
        }
        Some(map)
    }
}

#[cfg(test)]
mod tests;
