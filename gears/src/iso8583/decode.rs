//! Bytes to fields, in one pass over the bitmap. Nothing is allocated by a length that was only claimed: a value is
//! made when its bytes are there.

use std::num::NonZeroU64;

use fluxrig_actors::protocol::{Entry, Map, SmolStr, Value};

use super::charset::{Kind, Span};
use super::error::{DecodeError, DecodeFault, Part};
use super::hex;
use super::spec::{
    BitmapEncoding, Counts, DataEncoding, FieldSpec, Length, MtiEncoding, Pad, Prefix, PrefixEncoding, Spec, Table,
};

/// A message as fields.
#[derive(Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The message type: four digits.
    pub mti: SmolStr,
    /// The fields under their numbers: text, and bytes for fields of kind `b`.
    pub fields: Map,
}

/// The type of message and the extents of the fields, never what they hold.
impl std::fmt::Debug for Decoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Decoded({:?})", self.fields)
    }
}

/// What is known while a message is read.
struct Input<'a> {
    bytes: &'a [u8],
    /// What is left of them as text of the same length, so that what is found to be characters of a kind need not be
    /// found to be UTF-8 as well. In place of what is no ASCII stands what is of no kind.
    rest: &'a str,
    part: Part,
    fault: Option<(usize, DecodeFault)>,
}

/// The fault stands in the input: a result that carries it through every function costs more than the fields do.
struct Failed;

/// The fields that are announced and not read yet.
struct Bits {
    /// The least number in the lowest bit.
    now: u64,
    /// Of the second bitmap.
    later: u64,
    base: u8,
}

impl Bits {
    fn new(first: u64, second: u64) -> Self {
        Self { now: first.reverse_bits(), later: second.reverse_bits(), base: 1 }
    }

    /// The least number; asked only as often as there are bits.
    #[inline(always)]
    fn next(&mut self) -> u8 {
        let now = NonZeroU64::new(self.now).unwrap_or_else(|| self.turn());
        self.now = now.get() & (now.get() - 1);
        self.base + now.trailing_zeros() as u8
    }

    #[cold]
    fn turn(&mut self) -> NonZeroU64 {
        self.base = 65;
        NonZeroU64::new(self.later).expect("asked only as often as there are bits")
    }
}

/// The first bit of a bitmap says that another bitmap follows.
const MORE: u64 = 1 << 63;

impl Spec {
    /// Reads one whole message.
    ///
    /// # Errors
    /// Names the first part that is not as the spec says, and its byte; never what stands there.
    pub fn decode(&self, bytes: &[u8]) -> Result<Decoded, DecodeError> {
        let copy;
        let rest = match std::str::from_utf8(bytes) {
            Ok(text) if Span::ASCII.holds(bytes) => text,
            _ => {
                copy = readable(bytes);
                &copy
            }
        };
        let mut input = Input { bytes, rest, part: Part::Mti, fault: None };
        input.message(self.table()).map_err(|Failed| {
            let (at, fault) = input.fault.take().expect("whoever fails says why");
            DecodeError { part: input.part, at, fault }
        })
    }
}

impl<'a> Input<'a> {
    fn message(&mut self, table: &Table) -> Result<Decoded, Failed> {
        let mti = self.mti(table.mti)?;
        self.part = Part::Bitmap;
        let first = self.bitmap(table.bitmap)?;
        let mut count = (first & !MORE).count_ones();
        let mut second = 0;
        if first & MORE != 0 {
            self.part = Part::SecondBitmap;
            second = self.bitmap(table.bitmap)?;
            count += second.count_ones();
        }
        let mut bits = Bits::new(first & !MORE, second);
        let fields = Map::try_fill(count as usize, |place| {
            let number = bits.next();
            let read = match table.field(number) {
                Some(field) => self.field(field, place),
                None => Err(self.unknown(number)),
            };
            // Here and not before each field, of which nearly all are well.
            read.inspect_err(|Failed| self.part = Part::Field(number))
        })?;
        let left = self.rest.len();
        if left > 0 {
            self.part = Part::End;
            return Err(self.fail(self.at(), DecodeFault::Trailing { left }));
        }
        Ok(Decoded { mti, fields })
    }

    /// Reads one field into its place: a value of 24 bytes that is handed up is moved at every step.
    #[inline(always)]
    fn field(&mut self, field: &FieldSpec, place: Entry<'_>) -> Result<(), Failed> {
        let units = match field.length {
            Length::Fixed => field.units,
            Length::Prefixed(prefix) => self.prefix(prefix, field)?,
        };
        if field.data != DataEncoding::Ascii {
            return self.coded(field, units, place);
        }
        match self.rest.split_at_checked(units) {
            Some((text, rest)) if field.accepts(text.as_bytes()) => {
                self.rest = rest;
                place.text(field.key, text);
                Ok(())
            }
            _ => Err(self.no_characters(field.kind, units)),
        }
    }

    /// Says why they are none.
    #[cold]
    fn no_characters(&mut self, kind: Kind, units: usize) -> Failed {
        let start = self.at();
        let Ok(bytes) = self.take(units) else { return Failed };
        let at = start + kind.stranger(bytes).unwrap_or_default();
        self.fail(at, DecodeFault::Character { kind: kind.name() })
    }

    /// Apart from the text, so that the loop over the fields keeps its registers for that.
    #[inline(never)]
    fn coded(&mut self, field: &FieldSpec, units: usize, place: Entry<'_>) -> Result<(), Failed> {
        match field.data {
            DataEncoding::Bcd => return self.unpack(field, units, place),
            DataEncoding::Hex => place.value(field.key, self.unhex(units)?),
            DataEncoding::Ascii | DataEncoding::Binary => place.value(field.key, Value::from(self.take(units)?)),
        }
        Ok(())
    }

    /// Where the rest begins.
    #[inline]
    fn at(&self) -> usize {
        self.bytes.len() - self.rest.len()
    }

    #[inline]
    fn take(&mut self, expected: usize) -> Result<&'a [u8], Failed> {
        let at = self.at();
        match self.rest.split_at_checked(expected) {
            Some((_, rest)) => {
                self.rest = rest;
                Ok(&self.bytes[at..at + expected])
            }
            None => Err(self.fail(at, DecodeFault::Truncated { left: self.rest.len(), expected })),
        }
    }

    fn mti(&mut self, encoding: MtiEncoding) -> Result<SmolStr, Failed> {
        let packed;
        let text = match encoding {
            MtiEncoding::Ascii => {
                let text = self.rest;
                self.take(4)?;
                &text[..4]
            }
            MtiEncoding::Bcd => {
                let bytes = self.take(2)?;
                packed = [bytes[0] >> 4, bytes[0] & 15, bytes[1] >> 4, bytes[1] & 15].map(|digit| b'0' + digit);
                std::str::from_utf8(&packed).expect("all of it is below 0x40")
            }
        };
        if text.len() != 4 || !Kind::N.usual().holds(text.as_bytes()) {
            return Err(self.fail(0, DecodeFault::Character { kind: Kind::N.name() }));
        }
        Ok(SmolStr::new_inline(text))
    }

    fn bitmap(&mut self, encoding: BitmapEncoding) -> Result<u64, Failed> {
        let start = self.at();
        match encoding {
            BitmapEncoding::Binary => {
                let bytes = self.take(8)?.first_chunk::<8>().expect("eight were taken");
                Ok(u64::from_be_bytes(*bytes))
            }
            BitmapEncoding::Hex => {
                let chars = self.take(16)?.first_chunk::<16>().expect("sixteen were taken");
                hex::read_bitmap(chars).ok_or_else(|| self.fail(start, DecodeFault::Character { kind: "hex" }))
            }
        }
    }

    /// The length that a prefix claims, in units.
    #[inline(always)]
    fn prefix(&mut self, prefix: Prefix, field: &FieldSpec) -> Result<usize, Failed> {
        // What most messages have, without the loop. What is not as it should be falls through to where it is told.
        if let (PrefixEncoding::Ascii, 2 | 3, Counts::Units, Some((&[first, second, third], _))) =
            (prefix.encoding, prefix.bytes, prefix.counts, self.rest.as_bytes().split_first_chunk())
        {
            let digits = [first, second, third].map(|c| usize::from(c.wrapping_sub(b'0')));
            let two = digits[0] * 10 + digits[1];
            let (units, last) = if prefix.bytes == 2 { (two, 0) } else { (two * 10 + digits[2], digits[2]) };
            let is_number = digits[0] < 10 && digits[1] < 10 && last < 10;
            if let (true, Some(rest)) = (is_number && units <= field.claim_max, self.rest.get(prefix.bytes.into()..)) {
                self.rest = rest;
                return Ok(units);
            }
        }
        self.any_prefix(prefix, field)
    }

    #[inline(never)]
    fn any_prefix(&mut self, prefix: Prefix, field: &FieldSpec) -> Result<usize, Failed> {
        let start = self.at();
        let bytes = self.take(usize::from(prefix.bytes))?;
        let (mut count, mut is_number) = (0, true);
        for &byte in bytes {
            match prefix.encoding {
                PrefixEncoding::Ascii => {
                    let digit = byte.wrapping_sub(b'0');
                    is_number &= digit < 10;
                    count = count * 10 + usize::from(digit);
                }
                PrefixEncoding::Bcd => {
                    is_number &= byte >> 4 < 10 && byte & 15 < 10;
                    count = count * 100 + usize::from(byte >> 4) * 10 + usize::from(byte & 15);
                }
                PrefixEncoding::Binary => count = count << 8 | usize::from(byte),
            }
        }
        let found = count;
        let units = match prefix.counts {
            _ if !is_number => Err(DecodeFault::Prefix { expected: prefix.encoding.digits() }),
            Counts::Units => Ok(count),
            Counts::Pairs => Ok(count * 2),
            Counts::Halves if found % 2 == 0 => Ok(count / 2),
            Counts::Halves => Err(DecodeFault::Odd { found }),
        };
        let units = match units {
            Ok(units) if units > field.claim_max => Err(DecodeFault::Length { found: units, max: field.units }),
            other => other,
        };
        units.map_err(|fault| self.fail(start, fault))
    }

    fn unhex(&mut self, units: usize) -> Result<Value, Failed> {
        let start = self.at();
        let (pairs, _) = self.take(units * 2)?.as_chunks::<2>();
        let mut bytes = Vec::with_capacity(units);
        for (idx, pair) in pairs.iter().enumerate() {
            let Some(byte) = hex::byte(*pair) else {
                return Err(self.fail(start + idx * 2, DecodeFault::Character { kind: "hex" }));
            };
            bytes.push(byte);
        }
        Ok(Value::from(bytes))
    }

    /// Packed digits to text.
    fn unpack(&mut self, field: &FieldSpec, units: usize, place: Entry<'_>) -> Result<(), Failed> {
        let start = self.at();
        let bytes = self.take(field.wire_bytes(units))?;
        let (sign, packed, digits) = match (field.kind, bytes.split_first()) {
            (Kind::Xn, Some((sign, packed))) => (Some(*sign), packed, units - 1),
            _ => (None, bytes, units),
        };
        // Room for the digits of every usual field, and before them for the sign, so that eight stand on a line of eight.
        const FRONT: usize = 8;
        let (mut inline, mut long) = ([0; 48], Vec::new());
        let room = FRONT + packed.len() * 2;
        let chars = if room <= inline.len() {
            &mut inline[..room]
        } else {
            long.resize(room, 0);
            &mut long[..]
        };
        hex::unpack(packed, &mut chars[FRONT..]);
        let (mut from, mut to) = (FRONT, room);
        // A prefix that counts bytes leaves it to the filler to say that the digits are odd; a 0 does not say it.
        let is_counted = !matches!(field.length, Length::Prefixed(Prefix { counts: Counts::Pairs, .. }));
        let is_odd = digits % 2 == 1 || digits > field.units;
        match field.pad {
            Pad::Left(with) if is_odd || (!is_counted && is_filler(chars.get(from), with)) => {
                self.filler(chars[from], with, start)?;
                from += 1;
            }
            Pad::Right(with) if is_odd || (!is_counted && is_filler(chars[from..].last(), with)) => {
                self.filler(chars[to - 1], with, start + packed.len() - 1)?;
                to -= 1;
            }
            _ => {}
        }
        if let Some(sign) = sign {
            from -= 1;
            chars[from] = sign;
        }
        let chars = &chars[from..to];
        if !field.accepts(chars) {
            return Err(self.fail(start, DecodeFault::Character { kind: field.kind.name() }));
        }
        place.text(field.key, std::str::from_utf8(chars).expect("every kind of character is ASCII"));
        Ok(())
    }

    fn filler(&mut self, found: u8, with: u8, at: usize) -> Result<(), Failed> {
        if nibble(found) == nibble(with) {
            return Ok(());
        }
        Err(self.fail(at, DecodeFault::Pad { expected: char::from(with) }))
    }

    #[cold]
    fn unknown(&mut self, number: u8) -> Failed {
        self.fail(self.at(), if number == 65 { DecodeFault::ThirdBitmap } else { DecodeFault::Unknown })
    }

    #[cold]
    fn fail(&mut self, at: usize, fault: DecodeFault) -> Failed {
        self.fault = Some((at, fault));
        Failed
    }
}

/// The text of a message that is not all text: `DEL`, which is of no kind, in place of what is no ASCII. A field that is
/// found to be well is as it came.
#[cold]
fn readable(bytes: &[u8]) -> String {
    const DELETE: u8 = 0x7f;
    let ascii = bytes.iter().map(|&byte| if byte.is_ascii() { byte } else { DELETE }).collect();
    String::from_utf8(ascii).expect("all of it is ASCII")
}

/// Whether a half byte is a filler that no digit can be.
fn is_filler(found: Option<&u8>, with: u8) -> bool {
    with == b'F' && found.is_some_and(|found| nibble(*found) == 15)
}

/// The half byte behind a hex digit, or behind one that was unpacked by setting the bits of `0`.
fn nibble(c: u8) -> u8 {
    if c.is_ascii_alphabetic() { (c & 15) + 9 } else { c & 15 }
}

impl PrefixEncoding {
    fn digits(self) -> &'static str {
        match self {
            Self::Ascii => "digits as text",
            Self::Bcd => "packed digits",
            Self::Binary => "a binary number",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_prefix_is_read_the_short_way_as_the_long_way(bytes in "[0-9/:A\u{80}]{0,4}") {
            let spec = Spec::built_in("iso8583-1987-ascii").unwrap();
            let text = readable(bytes.as_bytes());
            for number in [2, 48, 60] {
                let field = spec.field(number).unwrap();
                let Length::Prefixed(prefix) = field.length else { panic!("it has a prefix") };
                let input = || Input { bytes: text.as_bytes(), rest: &text, part: Part::Mti, fault: None };
                let (mut short, mut long) = (input(), input());
                let read = (short.prefix(prefix, field).ok(), long.any_prefix(prefix, field).ok());
                prop_assert_eq!(read.0, read.1);
                prop_assert_eq!((short.rest, short.fault), (long.rest, long.fault));
            }
        }
    }
}
