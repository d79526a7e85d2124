//! Fields to bytes: one pass that checks and measures, one that writes into exactly as much room.

use fluxrig_actors::protocol::{Map, Value};

use super::charset::Kind;
use super::error::{EncodeError, EncodeFault, Part};
use super::spec::{
    BitmapEncoding, Counts, DataEncoding, FIELD_MAX, FieldSpec, Length, MtiEncoding, Pad, Prefix, PrefixEncoding, Spec,
    Table,
};

impl Spec {
    /// Writes one message. Fields of a fixed length are filled up as the spec says; a third bitmap is never written.
    ///
    /// # Errors
    /// Names the first field that cannot be written, and why; never what it holds.
    pub fn encode(&self, mti: &str, fields: &Map) -> Result<Vec<u8>, EncodeError> {
        let table = self.table();
        if mti.len() != 4 || !Kind::N.accepts(mti.as_bytes()) {
            return Err(EncodeError { part: Part::Mti, fault: EncodeFault::Mti });
        }
        let plan = Plan::make(table, fields)?;
        let mut out = Vec::with_capacity(plan.bytes);
        match table.mti {
            MtiEncoding::Ascii => out.extend_from_slice(mti.as_bytes()),
            MtiEncoding::Bcd => pack(&mut out, mti.bytes()),
        }
        for bits in plan.bitmaps.into_iter().take(if plan.bitmaps[1] == 0 { 1 } else { 2 }) {
            match table.bitmap {
                BitmapEncoding::Binary => out.extend_from_slice(&bits.to_be_bytes()),
                BitmapEncoding::Hex => out.extend_from_slice(&hex(bits)),
            }
        }
        for ((_, value), number) in fields.iter().zip(plan.numbers) {
            let field = table.field(number).expect("the plan looked at every field");
            write(&mut out, field, value);
        }
        debug_assert_eq!(out.len(), plan.bytes, "measured and written alike");
        Ok(out)
    }
}

/// What the first pass finds out.
struct Plan {
    bitmaps: [u64; 2],
    bytes: usize,
    /// Numbers of the fields, in the order of their keys.
    numbers: [u8; FIELD_MAX],
}

impl Plan {
    fn make(table: &Table, fields: &Map) -> Result<Self, EncodeError> {
        let (mut bitmaps, mut bytes, mut numbers) = ([0_u64; 2], 0, [0; FIELD_MAX]);
        for (idx, (key, value)) in fields.iter().enumerate() {
            let number = number(key).ok_or(EncodeError { part: Part::Fields, fault: EncodeFault::Unknown })?;
            let fault = |fault| EncodeError { part: Part::Field(number), fault };
            let field = table.field(number).ok_or_else(|| fault(EncodeFault::Unknown))?;
            bytes += measure(field, value).map_err(fault)?;
            numbers[idx] = number;
            let bit = usize::from(number - 1);
            bitmaps[bit / 64] |= 1 << (63 - bit % 64);
        }
        if bitmaps[1] != 0 {
            bitmaps[0] |= 1 << 63;
        }
        let bitmap = if table.bitmap == BitmapEncoding::Hex { 16 } else { 8 };
        bytes += if table.mti == MtiEncoding::Ascii { 4 } else { 2 };
        bytes += if bitmaps[1] == 0 { bitmap } else { 2 * bitmap };
        Ok(Self { bitmaps, bytes, numbers })
    }
}

/// The field number that a key says: no sign, no zeros in front.
#[inline]
fn number(key: &str) -> Option<u8> {
    let digit = |c: u8| c - b'0';
    let number = match *key.as_bytes() {
        [a @ b'2'..=b'9'] => digit(a),
        [a @ b'1'..=b'9', b @ b'0'..=b'9'] => digit(a) * 10 + digit(b),
        [b'1', b @ b'0'..=b'2', c @ b'0'..=b'9'] => 100 + digit(b) * 10 + digit(c),
        _ => return None,
    };
    (usize::from(number) <= FIELD_MAX).then_some(number)
}

/// Bytes that a field will take, prefix included; or why it cannot be written.
#[inline]
fn measure(field: &FieldSpec, value: &Value) -> Result<usize, EncodeFault> {
    let content = match (value, field.kind) {
        (Value::Text(text), kind) if kind != Kind::B => text.as_bytes(),
        (Value::Bytes(bytes), Kind::B) => bytes,
        (other, kind) => {
            let expected = if kind == Kind::B { "bytes" } else { "text" };
            return Err(EncodeFault::Type { found: other.type_name(), expected });
        }
    };
    let (found, max) = (content.len(), field.units);
    if !field.kind.accepts(content) {
        let position = field.kind.stranger(content).unwrap_or_default();
        return Err(EncodeFault::Character { position, kind: field.kind.name() });
    }
    match field.length {
        Length::Fixed if found == max => Ok(field.wire_bytes(max)),
        Length::Fixed if found < max && fills(field) => Ok(field.wire_bytes(max)),
        Length::Prefixed(prefix) if found <= max => Ok(usize::from(prefix.bytes) + field.wire_bytes(found)),
        Length::Fixed => Err(EncodeFault::Length { found, max, is_exact: !fills(field) }),
        Length::Prefixed(_) => Err(EncodeFault::Length { found, max, is_exact: false }),
    }
}

/// Whether a short value is filled up. The filler of half a byte only is none for whole digits.
fn fills(field: &FieldSpec) -> bool {
    match field.pad {
        Pad::None => false,
        Pad::Left(with) | Pad::Right(with) => field.kind != Kind::Xn && field.kind.accepts(&[with]),
    }
}

/// Writes a field that was measured.
#[inline]
fn write(out: &mut Vec<u8>, field: &FieldSpec, value: &Value) {
    let content = match value {
        Value::Text(text) => text.as_bytes(),
        Value::Bytes(bytes) => bytes,
        _ => &[],
    };
    if let Length::Prefixed(prefix) = field.length {
        let units = content.len();
        let count = match prefix.counts {
            Counts::Units => units,
            Counts::Pairs => units.div_ceil(2),
            Counts::Halves => units * 2,
        };
        write_prefix(out, prefix, count);
    } else if content.len() < field.units {
        return write_filled(out, field, content);
    }
    write_content(out, field, content);
}

#[inline]
fn write_prefix(out: &mut Vec<u8>, prefix: Prefix, count: usize) {
    let digit = |unit: usize| (count / unit % 10) as u8;
    match (prefix.encoding, prefix.bytes) {
        (PrefixEncoding::Ascii, 2) => out.extend_from_slice(&[b'0' + digit(10), b'0' + digit(1)]),
        (PrefixEncoding::Ascii, 3) => {
            out.extend_from_slice(&[b'0' + digit(100), b'0' + digit(10), b'0' + digit(1)]);
        }
        (PrefixEncoding::Ascii, _) => out.extend_from_slice(&[1000, 100, 10, 1].map(|unit| b'0' + digit(unit))),
        (PrefixEncoding::Bcd, 1) => out.push(digit(10) << 4 | digit(1)),
        (PrefixEncoding::Bcd, _) => {
            out.extend_from_slice(&[digit(1000) << 4 | digit(100), digit(10) << 4 | digit(1)]);
        }
        (PrefixEncoding::Binary, 1) => out.push(count as u8),
        (PrefixEncoding::Binary, _) => out.extend_from_slice(&(count as u16).to_be_bytes()),
    }
}

#[inline]
fn write_content(out: &mut Vec<u8>, field: &FieldSpec, content: &[u8]) {
    match field.data {
        DataEncoding::Ascii | DataEncoding::Binary => out.extend_from_slice(content),
        DataEncoding::Hex => {
            for byte in content {
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        DataEncoding::Bcd => {
            let digits = match content.split_first() {
                Some((sign, digits)) if field.kind == Kind::Xn => {
                    out.push(*sign);
                    digits
                }
                _ => content,
            };
            let odd = digits.len() % 2 == 1;
            let left = if let (Pad::Left(with), true) = (field.pad, odd) { Some(with) } else { None };
            let right = if let (Pad::Right(with), true) = (field.pad, odd) { Some(with) } else { None };
            pack(out, left.into_iter().chain(digits.iter().copied()).chain(right));
        }
    }
}

#[cold]
fn write_filled(out: &mut Vec<u8>, field: &FieldSpec, content: &[u8]) {
    let missing = field.units - content.len();
    let mut filled = Vec::with_capacity(field.units);
    match field.pad {
        Pad::Left(with) => {
            filled.resize(missing, with);
            filled.extend_from_slice(content);
        }
        Pad::Right(with) => {
            filled.extend_from_slice(content);
            filled.resize(field.units, with);
        }
        Pad::None => filled.extend_from_slice(content),
    }
    write_content(out, field, &filled);
}

/// Two characters per byte. Characters of a track stand for the low half of their code, `D` and `F` for what they say.
fn pack(out: &mut Vec<u8>, mut chars: impl Iterator<Item = u8>) {
    let half = |c: u8| if c.is_ascii_alphabetic() { (c & 15) + 9 } else { c & 15 };
    while let Some(high) = chars.next() {
        let low = chars.next().unwrap_or(b'0');
        out.push(half(high) << 4 | half(low));
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// A bitmap as hex characters.
fn hex(bits: u64) -> [u8; 16] {
    let mut chars = [0; 16];
    for (idx, c) in chars.iter_mut().enumerate() {
        *c = HEX[(bits >> (60 - 4 * idx) & 15) as usize];
    }
    chars
}
