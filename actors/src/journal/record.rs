//! The body of a group: one or more deltas, each the difference that one cut noted, as deterministic CBOR.
//!
//! ```text
//! body   = delta *                       ; a merged group simply holds several, oldest first
//! delta  = { 0: clock, ? 1: [+ name], ? 2: [+ wire], ? 3: [+ gear], ? 4: unclean starts in a row }
//! clock  = [epoch, wall ns since 1970, boot id, boot ns]
//! name   = [number, kind, scenario, name, variant, incarnation]      ; kind 0 wire, 1 gear
//! wire   = [number, next seq, [* [acked from, acked to (exclusive)]], [* mark], [* birth]]
//! mark   = [seq, attempts, taken, fault]
//! birth  = [seq, attempts, state, fault, dead, bytes of the fluxMsg]  ; state: bit 0 taken, bit 1 passed, bit 2 kept for replay
//! fault  = null / [first error, last error]
//! dead   = null / [gear, wire, reason, attempts, first error, last error, ns since 1970]
//! gear   = [number, generation, [* [key, bytes of the value's CBOR, or null]], [* [key, null / [generation, ns left]]]]
//! ```

use std::sync::Arc;

use bytes::Bytes;
use fluxrig_protocol::{FluxMsg, Limits, Value};
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use smol_str::SmolStr;

use crate::wire::{Body, DeadNote, Entry, Fault, Position};

/// A body of a group that does not say what this version understands.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error(
        "journal group at byte {offset} of its body: found {found}, expected {expected}; remedy: run `fluxrig journal verify`"
    )]
    Shape { offset: usize, found: String, expected: &'static str },
    #[error(
        "journal group at byte {offset} of its body: found key {key}, which this version does not know; remedy: use the version that wrote it"
    )]
    Unknown { offset: usize, key: u64 },
}

/// When a cut was made, by every clock that a restart may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    pub(crate) epoch: u64,
    pub(crate) wall_ns: i64,
    pub(crate) boot_id: u64,
    pub(crate) boot_ns: u64,
}

/// What a number of the journal stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Wire,
    Gear,
}

/// A line of the table of names: numbers are never reused (HEART §6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NameRecord {
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) scenario: SmolStr,
    pub(crate) name: SmolStr,
    /// Gear type and partition of a gear, partition of a wire: another variant is another thing.
    pub(crate) variant: SmolStr,
    pub(crate) incarnation: u64,
}

/// What changed on one queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct WireDelta {
    pub(crate) number: u32,
    pub(crate) next_seq: u64,
    pub(crate) acked: Vec<(u64, u64)>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) births: Vec<Birth>,
}

/// The present attempts and *taken* of a message that was born before.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) seq: u64,
    pub(crate) attempts: u32,
    pub(crate) is_taken: bool,
    pub(crate) fault: Option<Box<Fault>>,
}

/// A message that is on the wire at the cut.
#[derive(Clone, Debug)]
pub(crate) struct Birth {
    pub(crate) seq: u64,
    pub(crate) attempts: u32,
    pub(crate) is_taken: bool,
    /// It is not on the wire any more and is written for replay only.
    pub(crate) is_passed: bool,
    /// Its wire retains: it can be read again after it was handled.
    pub(crate) is_retained: bool,
    pub(crate) fault: Option<Box<Fault>>,
    pub(crate) dead: Option<Arc<DeadNote>>,
    pub(crate) body: BirthBody,
}

/// Where the bytes of a birth come from when its group is encoded, or lie once it is decoded.
#[derive(Clone, Debug)]
pub(crate) enum BirthBody {
    Msg(FluxMsg),
    Away(Position),
    At { offset: u32, len: u32 },
}

impl Birth {
    pub(crate) fn of(entry: &Entry, is_retained: bool) -> Self {
        Self {
            seq: entry.seq,
            attempts: entry.attempts,
            is_taken: entry.is_taken || entry.is_maybe_sent,
            is_passed: false,
            is_retained,
            fault: entry.fault.clone(),
            dead: entry.dead.clone(),
            body: match &entry.body {
                Body::Here(msg) => BirthBody::Msg(msg.clone()),
                Body::There(position) => BirthBody::Away(*position),
                Body::Gone => unreachable!("what is done is not born"),
            },
        }
    }

    pub(crate) fn passed(seq: u64, msg: FluxMsg) -> Self {
        let body = BirthBody::Msg(msg);
        Self { seq, attempts: 0, is_taken: false, is_passed: true, is_retained: true, fault: None, dead: None, body }
    }
}

/// What changed in one gear's durable memory.
#[derive(Clone, Debug)]
pub(crate) struct GearDelta {
    pub(crate) number: u32,
    pub(crate) generation: u64,
    pub(crate) keys: Vec<(SmolStr, Option<Value>)>,
    pub(crate) timers: Vec<(SmolStr, Option<TimerRecord>)>,
}

/// A running timer as the journal keeps it: time left, counted from the clock of its delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerRecord {
    pub(crate) generation: u64,
    pub(crate) left_ns: u64,
}

/// The difference between two cuts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delta {
    pub(crate) clock: Clock,
    pub(crate) names: Vec<NameRecord>,
    pub(crate) wires: Vec<WireDelta>,
    pub(crate) gears: Vec<GearDelta>,
    pub(crate) unclean_starts: Option<u32>,
}

/// Where a birth was put in the body of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Journal number of the wire.
    pub(crate) wire: u32,
    pub(crate) seq: u64,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) is_retained: bool,
}

/// Where every birth of a group was put.
pub(crate) type Placed = Vec<Place>;

/// Appends one delta to a group's body. `read` fetches bodies that are only in the journal.
pub(crate) fn encode<E>(
    delta: &Delta,
    out: &mut Vec<u8>,
    placed: &mut Placed,
    read: &mut dyn FnMut(Position) -> Result<Bytes, E>,
) -> Result<(), E> {
    let parts = 1
        + u64::from(!delta.names.is_empty())
        + u64::from(!delta.wires.is_empty())
        + u64::from(!delta.gears.is_empty())
        + u64::from(delta.unclean_starts.is_some());
    let mut cbor = Cbor { out, scratch: Vec::new() };
    cbor.map(parts);
    cbor.uint(0_u32);
    cbor.array(4);
    cbor.uint(delta.clock.epoch);
    cbor.int(delta.clock.wall_ns);
    cbor.uint(delta.clock.boot_id);
    cbor.uint(delta.clock.boot_ns);
    if !delta.names.is_empty() {
        cbor.uint(1_u32);
        cbor.array(delta.names.len());
        for name in &delta.names {
            cbor.name(name);
        }
    }
    if !delta.wires.is_empty() {
        cbor.uint(2_u32);
        cbor.array(delta.wires.len());
        for wire in &delta.wires {
            cbor.wire(wire, placed, read)?;
        }
    }
    if !delta.gears.is_empty() {
        cbor.uint(3_u32);
        cbor.array(delta.gears.len());
        for gear in &delta.gears {
            cbor.gear(gear);
        }
    }
    if let Some(count) = delta.unclean_starts {
        cbor.uint(4_u32);
        cbor.uint(count);
    }
    Ok(())
}

/// Writes tokens into memory, which cannot fail.
struct Cbor<'a> {
    out: &'a mut Vec<u8>,
    /// One message at a time, since its length stands before it.
    scratch: Vec<u8>,
}

impl Cbor<'_> {
    fn put(
        &mut self,
        write: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Result<(), minicbor::encode::Error<std::convert::Infallible>>,
    ) {
        write(&mut Encoder::new(&mut *self.out)).expect("writing to memory does not fail");
    }

    fn map(&mut self, len: u64) {
        self.put(|e| e.map(len).map(|_| ()));
    }

    fn array(&mut self, len: usize) {
        self.put(|e| e.array(len as u64).map(|_| ()));
    }

    fn uint(&mut self, value: impl Into<u64>) {
        let value: u64 = value.into();
        self.put(|e| e.u64(value).map(|_| ()));
    }

    fn int(&mut self, value: i64) {
        self.put(|e| e.i64(value).map(|_| ()));
    }

    fn text(&mut self, value: &str) {
        self.put(|e| e.str(value).map(|_| ()));
    }

    fn flag(&mut self, value: bool) {
        self.put(|e| e.bool(value).map(|_| ()));
    }

    fn null(&mut self) {
        self.put(|e| e.null().map(|_| ()));
    }

    fn name(&mut self, name: &NameRecord) {
        self.array(6);
        self.uint(name.number);
        self.uint(match name.kind {
            Kind::Wire => 0_u32,
            Kind::Gear => 1,
        });
        self.text(&name.scenario);
        self.text(&name.name);
        self.text(&name.variant);
        self.uint(name.incarnation);
    }

    fn wire<E>(
        &mut self,
        wire: &WireDelta,
        placed: &mut Placed,
        read: &mut dyn FnMut(Position) -> Result<Bytes, E>,
    ) -> Result<(), E> {
        self.array(5);
        self.uint(wire.number);
        self.uint(wire.next_seq);
        self.array(wire.acked.len());
        for &(from, to) in &wire.acked {
            self.array(2);
            self.uint(from);
            self.uint(to);
        }
        self.array(wire.marks.len());
        for mark in &wire.marks {
            self.array(4);
            self.uint(mark.seq);
            self.uint(mark.attempts);
            self.flag(mark.is_taken);
            self.fault(mark.fault.as_deref());
        }
        self.array(wire.births.len());
        for birth in &wire.births {
            let (offset, len) = self.birth(birth, read)?;
            let Birth { seq, is_retained, .. } = *birth;
            placed.push(Place { wire: wire.number, seq, offset, len, is_retained });
        }
        Ok(())
    }

    fn birth<E>(&mut self, birth: &Birth, read: &mut dyn FnMut(Position) -> Result<Bytes, E>) -> Result<(u32, u32), E> {
        self.array(6);
        self.uint(birth.seq);
        self.uint(birth.attempts);
        self.uint(u32::from(birth.is_taken) | u32::from(birth.is_passed) << 1 | u32::from(birth.is_retained) << 2);
        self.fault(birth.fault.as_deref());
        match &birth.dead {
            None => self.null(),
            Some(dead) => self.dead(dead),
        }
        let body = match &birth.body {
            BirthBody::Msg(msg) => {
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear();
                msg.encode_into(&mut scratch);
                let place = self.bytes(&scratch);
                self.scratch = scratch;
                return Ok(place);
            }
            BirthBody::Away(position) => read(*position)?,
            BirthBody::At { .. } => unreachable!("only a decoded birth says so, and it is never encoded"),
        };
        Ok(self.bytes(&body))
    }

    /// Writes a byte string and says where its content begins in the body, and how long it is.
    fn bytes(&mut self, bytes: &[u8]) -> (u32, u32) {
        self.put(|e| e.bytes_len(bytes.len() as u64).map(|_| ()));
        let offset = self.out.len() as u32;
        self.out.extend_from_slice(bytes);
        (offset, bytes.len() as u32)
    }

    fn fault(&mut self, fault: Option<&Fault>) {
        match fault {
            None => self.null(),
            Some(fault) => {
                self.array(2);
                self.text(&fault.first);
                self.text(&fault.last);
            }
        }
    }

    fn dead(&mut self, dead: &DeadNote) {
        self.array(7);
        self.text(&dead.gear);
        self.text(&dead.wire);
        self.text(&dead.reason);
        self.uint(dead.attempts);
        self.text(&dead.first);
        self.text(&dead.last);
        self.int(dead.at_ns);
    }

    fn gear(&mut self, gear: &GearDelta) {
        self.array(4);
        self.uint(gear.number);
        self.uint(gear.generation);
        self.array(gear.keys.len());
        for (key, value) in &gear.keys {
            self.array(2);
            self.text(key);
            match value {
                None => self.null(),
                Some(value) => {
                    let mut scratch = std::mem::take(&mut self.scratch);
                    scratch.clear();
                    value.encode_into(&mut scratch);
                    self.bytes(&scratch);
                    self.scratch = scratch;
                }
            }
        }
        self.array(gear.timers.len());
        for (key, timer) in &gear.timers {
            self.array(2);
            self.text(key);
            match timer {
                None => self.null(),
                Some(timer) => {
                    self.array(2);
                    self.uint(timer.generation);
                    self.uint(timer.left_ns);
                }
            }
        }
    }
}

/// Reads the deltas of a group's body one by one; offsets of births are offsets in that body.
pub(crate) fn decode(body: &[u8], mut each: impl FnMut(Delta)) -> Result<(), RecordError> {
    let mut tokens = Tokens { decoder: Decoder::new(body), body };
    while tokens.decoder.position() < body.len() {
        each(tokens.delta()?);
    }
    Ok(())
}

struct Tokens<'b> {
    decoder: Decoder<'b>,
    body: &'b [u8],
}

impl<'b> Tokens<'b> {
    fn token<T>(
        &mut self,
        expected: &'static str,
        read: impl FnOnce(&mut Decoder<'b>) -> Result<T, minicbor::decode::Error>,
    ) -> Result<T, RecordError> {
        let offset = self.decoder.position();
        read(&mut self.decoder).map_err(|error| RecordError::Shape { offset, found: error.to_string(), expected })
    }

    fn uint(&mut self) -> Result<u64, RecordError> {
        self.token("an unsigned number", |d| d.u64())
    }

    fn uint32(&mut self) -> Result<u32, RecordError> {
        self.token("an unsigned number below 2^32", |d| d.u32())
    }

    fn int(&mut self) -> Result<i64, RecordError> {
        self.token("a number", |d| d.i64())
    }

    fn text(&mut self) -> Result<SmolStr, RecordError> {
        self.token("text", |d| d.str().map(SmolStr::from))
    }

    fn array(&mut self, expected: &'static str, len: Option<u64>) -> Result<u64, RecordError> {
        let offset = self.decoder.position();
        let found = self.token(expected, |d| d.array())?;
        match (found, len) {
            (Some(found), None) => Ok(found),
            (Some(found), Some(len)) if found == len => Ok(found),
            (Some(found), _) => Err(RecordError::Shape { offset, found: format!("an array of {found}"), expected }),
            (None, _) => Err(RecordError::Shape { offset, found: "an indefinite array".into(), expected }),
        }
    }

    /// A list; never allocates by the claimed length, since each item takes at least a byte of what is there.
    fn list<T>(
        &mut self,
        expected: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Vec<T>, RecordError> {
        let len = self.array(expected, None)?;
        let left = self.body.len() - self.decoder.position();
        let mut items = Vec::with_capacity((len as usize).min(left / 4));
        for _ in 0..len {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn is_null(&mut self) -> Result<bool, RecordError> {
        if self.token("an item", |d| d.datatype())? == Type::Null {
            self.token("null", |d| d.null())?;
            return Ok(true);
        }
        Ok(false)
    }

    fn delta(&mut self) -> Result<Delta, RecordError> {
        let mut delta = Delta::default();
        let offset = self.decoder.position();
        let Some(parts) = self.token("a delta (a map)", |d| d.map())? else {
            return Err(RecordError::Shape { offset, found: "an indefinite map".into(), expected: "a delta (a map)" });
        };
        for _ in 0..parts {
            let offset = self.decoder.position();
            match self.uint()? {
                0 => delta.clock = self.clock()?,
                1 => delta.names = self.list("names", Self::name)?,
                2 => delta.wires = self.list("wires", Self::wire)?,
                3 => delta.gears = self.list("gears", Self::gear)?,
                4 => delta.unclean_starts = Some(self.uint32()?),
                key => return Err(RecordError::Unknown { offset, key }),
            }
        }
        Ok(delta)
    }

    fn clock(&mut self) -> Result<Clock, RecordError> {
        self.array("a clock of 4", Some(4))?;
        Ok(Clock { epoch: self.uint()?, wall_ns: self.int()?, boot_id: self.uint()?, boot_ns: self.uint()? })
    }

    fn name(&mut self) -> Result<NameRecord, RecordError> {
        self.array("a name of 6", Some(6))?;
        let number = self.uint32()?;
        let offset = self.decoder.position();
        let kind = match self.uint()? {
            0 => Kind::Wire,
            1 => Kind::Gear,
            kind => {
                return Err(RecordError::Shape { offset, found: format!("kind {kind}"), expected: "kind 0 or 1" });
            }
        };
        Ok(NameRecord {
            number,
            kind,
            scenario: self.text()?,
            name: self.text()?,
            variant: self.text()?,
            incarnation: self.uint()?,
        })
    }

    fn wire(&mut self) -> Result<WireDelta, RecordError> {
        self.array("a wire of 5", Some(5))?;
        Ok(WireDelta {
            number: self.uint32()?,
            next_seq: self.uint()?,
            acked: self.list("acked ranges", Self::range)?,
            marks: self.list("marks", |tokens| {
                tokens.array("a mark of 4", Some(4))?;
                Ok(Mark {
                    seq: tokens.uint()?,
                    attempts: tokens.uint32()?,
                    is_taken: tokens.token("a flag", |d| d.bool())?,
                    fault: tokens.fault()?,
                })
            })?,
            births: self.list("births", Self::birth)?,
        })
    }

    fn range(&mut self) -> Result<(u64, u64), RecordError> {
        self.array("a range of 2", Some(2))?;
        let offset = self.decoder.position();
        let (from, to) = (self.uint()?, self.uint()?);
        if from > to {
            let found = format!("a range from {from} to {to}");
            return Err(RecordError::Shape { offset, found, expected: "a range that does not end before it begins" });
        }
        Ok((from, to))
    }

    fn birth(&mut self) -> Result<Birth, RecordError> {
        self.array("a birth of 6", Some(6))?;
        let seq = self.uint()?;
        let attempts = self.uint32()?;
        let offset = self.decoder.position();
        let state = self.uint()?;
        if state > 7 {
            return Err(RecordError::Shape {
                offset,
                found: format!("state {state}"),
                expected: "a state of three bits",
            });
        }
        let fault = self.fault()?;
        let dead = self.dead()?;
        let bytes = self.token("the bytes of a message", |d| d.bytes())?;
        let offset = (self.decoder.position() - bytes.len()) as u32;
        let body = BirthBody::At { offset, len: bytes.len() as u32 };
        Ok(Birth {
            seq,
            attempts,
            is_taken: state & 1 != 0,
            is_passed: state & 2 != 0,
            is_retained: state & 4 != 0,
            fault,
            dead,
            body,
        })
    }

    fn fault(&mut self) -> Result<Option<Box<Fault>>, RecordError> {
        if self.is_null()? {
            return Ok(None);
        }
        self.array("a fault of 2", Some(2))?;
        Ok(Some(Box::new(Fault { first: self.text()?, last: self.text()? })))
    }

    fn dead(&mut self) -> Result<Option<Arc<DeadNote>>, RecordError> {
        if self.is_null()? {
            return Ok(None);
        }
        self.array("a dead letter of 7", Some(7))?;
        Ok(Some(Arc::new(DeadNote {
            gear: self.text()?,
            wire: self.text()?,
            reason: self.text()?,
            attempts: self.uint32()?,
            first: self.text()?,
            last: self.text()?,
            at_ns: self.int()?,
        })))
    }

    fn gear(&mut self) -> Result<GearDelta, RecordError> {
        self.array("a gear of 4", Some(4))?;
        Ok(GearDelta {
            number: self.uint32()?,
            generation: self.uint()?,
            keys: self.list("keys", |tokens| {
                tokens.array("a key of 2", Some(2))?;
                let key = tokens.text()?;
                if tokens.is_null()? {
                    return Ok((key, None));
                }
                Ok((key, Some(tokens.value()?)))
            })?,
            timers: self.list("timers", |tokens| {
                tokens.array("a timer of 2", Some(2))?;
                let key = tokens.text()?;
                if tokens.is_null()? {
                    return Ok((key, None));
                }
                tokens.array("a time of 2", Some(2))?;
                Ok((key, Some(TimerRecord { generation: tokens.uint()?, left_ns: tokens.uint()? })))
            })?,
        })
    }

    fn value(&mut self) -> Result<Value, RecordError> {
        let offset = self.decoder.position();
        let bytes = self.token("the bytes of a value", |d| d.bytes())?;
        let limits = Limits { map_entries: usize::MAX, ..Limits::default() };
        let value = Value::decode(bytes, &limits).map_err(|error| RecordError::Shape {
            offset,
            found: error.to_string(),
            expected: "a value",
        })?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
