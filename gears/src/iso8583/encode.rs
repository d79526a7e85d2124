//! Fields to bytes, in one pass: each field is checked and then written behind those before. The bitmap, which stands in
//! front, is filled in at the end.

use fluxrig_actors::protocol::{Map, Value};

use super::charset::Kind;
use super::error::{EncodeError, EncodeFault, Part};
use super::hex;
use super::spec::{
    BitmapEncoding, Counts, DataEncoding, FIELD_MAX, FieldSpec, Length, MtiEncoding, Pad, Prefix, PrefixEncoding, Spec,
};

impl Spec {
    /// Writes one message. Fields of a fixed length are filled up as the spec says; a third bitmap is never written.
    ///
    /// # Errors
    /// Names the first field that cannot be written, and why; never what it holds.
    pub fn encode(&self, mti: &str, fields: &Map) -> Result<Vec<u8>, EncodeError> {
        let table = self.table();
        if mti.len() != 4 || !Kind::N.usual().holds(mti.as_bytes()) {
            return Err(EncodeError { part: Part::Mti, fault: EncodeFault::Mti });
        }
        // A guess that most messages keep to; the vector grows for the others.
        const HEAD_BYTES: usize = 4 + 2 * 16;
        const FIELD_BYTES: usize = 16;
        let mut out = Vec::with_capacity(HEAD_BYTES + fields.len().min(FIELD_MAX) * FIELD_BYTES);
        match table.mti {
            MtiEncoding::Ascii => out.extend_from_slice(mti.as_bytes()),
            MtiEncoding::Bcd => pack(&mut out, mti.as_bytes()),
        }
        let bitmaps_at = out.len();
        let width = if table.bitmap == BitmapEncoding::Hex { 16 } else { 8 };
        // Shorter keys stand first, so the last one says the greatest number.
        let has_second = fields.iter().next_back().and_then(|(key, _)| number(key)).is_some_and(|last| last > 64);
        out.extend_from_slice(&[0; 2 * 16][..if has_second { 2 * width } else { width }]);
        let (mut first, mut second) = (if has_second { MORE } else { 0 }, 0);
        for (key, value) in fields.iter() {
            let number = number(key).ok_or(EncodeError { part: Part::Fields, fault: EncodeFault::Unknown })?;
            let fault = |fault| EncodeError { part: Part::Field(number), fault };
            let field = table.field(number).ok_or_else(|| fault(EncodeFault::Unknown))?;
            write(&mut out, field, value).map_err(fault)?;
            let bit = MORE >> ((number - 1) % 64);
            if number <= 64 { first |= bit } else { second |= bit }
        }
        let bitmaps = [first, second].into_iter().take(1 + usize::from(has_second));
        for (place, bits) in out[bitmaps_at..].chunks_exact_mut(width).zip(bitmaps) {
            match table.bitmap {
                BitmapEncoding::Binary => place.copy_from_slice(&bits.to_be_bytes()),
                BitmapEncoding::Hex => place.copy_from_slice(&hex::write_bitmap(bits)),
            }
        }
        // The bytes are shared as they are then, without a block that says how much of them is used.
        out.shrink_to_fit();
        Ok(out)
    }
}

/// The first bit of a bitmap says that another bitmap follows.
const MORE: u64 = 1 << 63;

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

/// Writes a field, or says why it cannot be written.
#[inline(always)]
fn write(out: &mut Vec<u8>, field: &FieldSpec, value: &Value) -> Result<(), EncodeFault> {
    let content = match value {
        Value::Text(text) if field.kind != Kind::B => text.as_bytes(),
        other => bytes(other, field.kind)?,
    };
    if !field.accepts(content) {
        return Err(stranger(field, content));
    }
    let found = content.len();
    match field.length {
        Length::Fixed if found == field.units => {}
        Length::Prefixed(prefix) if found <= field.units => write_prefix(out, prefix, found),
        Length::Fixed if found < field.units && fills(field) => {
            write_filled(out, field, content);
            return Ok(());
        }
        length => return Err(wrong_length(field, length, found)),
    }
    if field.data == DataEncoding::Ascii {
        out.extend_from_slice(content);
    } else {
        write_coded(out, field, content);
    }
    Ok(())
}

#[inline(never)]
fn bytes(value: &Value, kind: Kind) -> Result<&[u8], EncodeFault> {
    match (value, kind) {
        (Value::Bytes(bytes), Kind::B) => Ok(bytes),
        (other, Kind::B) => Err(EncodeFault::Type { found: other.type_name(), expected: "bytes" }),
        (other, _) => Err(EncodeFault::Type { found: other.type_name(), expected: "text" }),
    }
}

#[cold]
fn stranger(field: &FieldSpec, content: &[u8]) -> EncodeFault {
    EncodeFault::Character { position: field.kind.stranger(content).unwrap_or_default(), kind: field.kind.name() }
}

#[cold]
fn wrong_length(field: &FieldSpec, length: Length, found: usize) -> EncodeFault {
    EncodeFault::Length { found, max: field.units, is_exact: length == Length::Fixed && !fills(field) }
}

/// Whether a short value is filled up. The filler of half a byte only is none for whole digits.
fn fills(field: &FieldSpec) -> bool {
    match field.pad {
        Pad::None => false,
        Pad::Left(with) | Pad::Right(with) => field.kind != Kind::Xn && field.kind.accepts(&[with]),
    }
}

#[inline(always)]
fn write_prefix(out: &mut Vec<u8>, prefix: Prefix, units: usize) {
    // What most messages have, without asking how each digit is written.
    if let (PrefixEncoding::Ascii, 2 | 3, Counts::Units) = (prefix.encoding, prefix.bytes, prefix.counts) {
        let [hundreds, tens, ones] = [units / 100, units / 10 % 10, units % 10].map(|digit| b'0' + digit as u8);
        if prefix.bytes == 2 {
            return out.extend_from_slice(&[tens, ones]);
        }
        return out.extend_from_slice(&[hundreds, tens, ones]);
    }
    write_any_prefix(out, prefix, units);
}

#[inline(never)]
fn write_any_prefix(out: &mut Vec<u8>, prefix: Prefix, units: usize) {
    let count = match prefix.counts {
        Counts::Units => units,
        Counts::Pairs => units.div_ceil(2),
        Counts::Halves => units * 2,
    };
    let digits = [count / 1000, count / 100 % 10, count / 10 % 10, count % 10].map(|digit| digit as u8);
    let [thousands, hundreds, tens, ones] = digits;
    let packed = [thousands << 4 | hundreds, tens << 4 | ones];
    let bytes = usize::from(prefix.bytes);
    match prefix.encoding {
        PrefixEncoding::Ascii => out.extend_from_slice(&digits.map(|digit| b'0' + digit)[4 - bytes..]),
        PrefixEncoding::Bcd => out.extend_from_slice(&packed[2 - bytes..]),
        PrefixEncoding::Binary => out.extend_from_slice(&(count as u16).to_be_bytes()[2 - bytes..]),
    }
}

#[inline(never)]
fn write_coded(out: &mut Vec<u8>, field: &FieldSpec, content: &[u8]) {
    match field.data {
        DataEncoding::Ascii | DataEncoding::Binary => out.extend_from_slice(content),
        DataEncoding::Hex => {
            for byte in content {
                out.extend_from_slice(&hex::chars(*byte));
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
            match field.pad {
                Pad::Left(with) if digits.len() % 2 == 1 => {
                    out.push(half(with) << 4 | half(digits[0]));
                    pack(out, &digits[1..]);
                }
                Pad::Right(with) if digits.len() % 2 == 1 => {
                    let (last, digits) = digits.split_last().expect("their number is odd");
                    pack(out, digits);
                    out.push(half(*last) << 4 | half(with));
                }
                _ => pack(out, digits),
            }
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
    write_coded(out, field, &filled);
}

/// Two characters per byte; a `0` behind an odd number of them.
fn pack(out: &mut Vec<u8>, chars: &[u8]) {
    let (eights, rest) = chars.as_chunks::<8>();
    for eight in eights {
        match hex::pack(*eight) {
            Some(four) => out.extend_from_slice(&four),
            None => pack_pairs(out, eight),
        }
    }
    pack_pairs(out, rest);
}

fn pack_pairs(out: &mut Vec<u8>, chars: &[u8]) {
    for pair in chars.chunks(2) {
        out.push(half(pair[0]) << 4 | half(pair.get(1).copied().unwrap_or(b'0')));
    }
}

/// Characters of a track stand for the low half of their code, `D` and `F` for what they say.
fn half(c: u8) -> u8 {
    if c.is_ascii_alphabetic() { (c & 15) + 9 } else { c & 15 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_prefix_is_written_the_short_way_as_the_long_way() {
        for (bytes, units) in (0..100).map(|units| (2, units)).chain((0..1000).map(|units| (3, units))) {
            let prefix = Prefix { encoding: PrefixEncoding::Ascii, bytes, counts: Counts::Units };
            let (mut short, mut long) = (Vec::new(), Vec::new());
            write_prefix(&mut short, prefix, units);
            write_any_prefix(&mut long, prefix, units);
            assert_eq!(
                (&short, String::from_utf8_lossy(&long)),
                (&long, format!("{units:0w$}", w = bytes.into()).into())
            );
        }
    }

    proptest! {
        #[test]
        fn eight_characters_are_packed_at_once_as_two_by_two(chars in "[0-9=?DF]{0,40}") {
            let (mut eights, mut pairs) = (Vec::new(), Vec::new());
            pack(&mut eights, chars.as_bytes());
            pack_pairs(&mut pairs, chars.as_bytes());
            prop_assert_eq!(eights, pairs);
        }
    }
}
