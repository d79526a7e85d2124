//! Reads deltas from CBOR tokens; whatever is not understood is refused with its place, no claim of a length is believed.

use std::sync::Arc;

use fluxrig_protocol::{Limits, Value};
use minicbor::Decoder;
use minicbor::data::Type;
use smol_str::SmolStr;

use super::{Birth, BirthBody, Clock, Delta, GearDelta, Kind, Mark, NameRecord, RecordError, TimerRecord, WireDelta};
use crate::wire::{DeadNote, Fault};

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
