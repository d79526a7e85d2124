//! Writes a delta as CBOR tokens and notes where each message's bytes came to lie.

use bytes::Bytes;
use minicbor::Encoder;

use super::{Birth, BirthBody, Delta, GearDelta, Kind, NameRecord, Place, Placed, WireDelta};
use crate::wire::{DeadNote, Fault, Position};

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
