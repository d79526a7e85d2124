//! Bytes to fields, in one pass over the bitmap. Nothing is allocated by a length that was only claimed: a value is
//! made when its bytes are there.

use fluxrig_actors::protocol::{Entry, Map, SmolStr, Value};

use super::charset::Kind;
use super::error::{DecodeError, DecodeFault, Part};
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
    /// The same as text, when all of it is: then no field has to be looked at a second time.
    text: &'a str,
    at: usize,
    part: Part,
    fault: Option<DecodeFault>,
}

/// The fault stands in the input: a result that carries it through every function costs more than the fields do.
struct Failed;

/// The fields that are announced and not read yet.
struct Bits {
    first: u64,
    second: u64,
}

impl Bits {
    /// The least number; asked only as often as there are bits.
    #[inline]
    fn next(&mut self) -> u8 {
        let (bits, base) = if self.first != 0 { (&mut self.first, 1) } else { (&mut self.second, 65) };
        let bit = bits.leading_zeros() as u8;
        *bits &= !(MORE >> (bit & 63));
        base + bit
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
        let table = self.table();
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let mut input = Input { bytes, text, at: 0, part: Part::Mti, fault: None };
        input.message(table).map_err(|Failed| {
            let fault = input.fault.take().expect("whoever fails says why");
            DecodeError { part: input.part, at: input.at, fault }
        })
    }
}

impl<'a> Input<'a> {
    fn message(&mut self, table: &Table) -> Result<Decoded, Failed> {
        let mti = self.mti(table.mti)?;
        self.part = Part::Bitmap;
        let first = self.bitmap(table.bitmap)?;
        let mut second = 0;
        if first & MORE != 0 {
            self.part = Part::SecondBitmap;
            second = self.bitmap(table.bitmap)?;
        }
        let count = (first & !MORE).count_ones() + second.count_ones();
        let mut bits = Bits { first: first & !MORE, second };
        let fields = Map::try_fill(count as usize, |place| {
            let number = bits.next();
            self.part = Part::Field(number);
            match table.field(number) {
                Some(field) => self.field(field, place),
                None if number == 65 => Err(self.fault(DecodeFault::ThirdBitmap)),
                None => Err(self.fault(DecodeFault::Unknown)),
            }
        })?;
        let left = self.bytes.len() - self.at;
        if left > 0 {
            self.part = Part::End;
            return Err(self.fault(DecodeFault::Trailing { left }));
        }
        Ok(Decoded { mti, fields })
    }

    /// Reads one field into its place: a value of 24 bytes that is handed up is moved at every step.
    #[inline]
    fn field(&mut self, field: &FieldSpec, place: Entry<'_>) -> Result<(), Failed> {
        let units = match field.length {
            Length::Fixed => field.units,
            Length::Prefixed(prefix) => {
                let start = self.at;
                let units = self.prefix(prefix)?;
                if units > field.claim_max {
                    self.at = start;
                    return Err(self.fault(DecodeFault::Length { found: units, max: field.units }));
                }
                units
            }
        };
        let start = self.at;
        let bytes = self.take(field.wire_bytes(units))?;
        let value = match field.data {
            DataEncoding::Ascii => {
                if !field.kind.accepts(bytes) {
                    return Err(self.stranger(field.kind, bytes, start));
                }
                let text = self.text.get(start..self.at).unwrap_or_else(|| ascii(bytes));
                place.text(field.key, text);
                return Ok(());
            }
            DataEncoding::Binary => Value::from(bytes),
            DataEncoding::Hex => self.unhex(bytes, start)?,
            DataEncoding::Bcd => self.unpack(field, units, bytes, start)?,
        };
        place.value(field.key, value);
        Ok(())
    }

    #[inline]
    fn take(&mut self, expected: usize) -> Result<&'a [u8], Failed> {
        let rest = &self.bytes[self.at..];
        match rest.get(..expected) {
            Some(bytes) => {
                self.at += expected;
                Ok(bytes)
            }
            None => {
                let left = rest.len();
                Err(self.fault(DecodeFault::Truncated { left, expected }))
            }
        }
    }

    fn mti(&mut self, encoding: MtiEncoding) -> Result<SmolStr, Failed> {
        let digits = match encoding {
            MtiEncoding::Ascii => {
                let bytes = self.take(4)?;
                [bytes[0], bytes[1], bytes[2], bytes[3]]
            }
            MtiEncoding::Bcd => {
                let bytes = self.take(2)?;
                [bytes[0] >> 4, bytes[0] & 15, bytes[1] >> 4, bytes[1] & 15].map(|digit| b'0' + digit)
            }
        };
        match std::str::from_utf8(&digits) {
            Ok(text) if Kind::N.accepts(&digits) => Ok(SmolStr::new_inline(text)),
            _ => {
                self.at = 0;
                Err(self.fault(DecodeFault::Character { kind: Kind::N.name() }))
            }
        }
    }

    fn bitmap(&mut self, encoding: BitmapEncoding) -> Result<u64, Failed> {
        let start = self.at;
        match encoding {
            BitmapEncoding::Binary => {
                let bytes = self.take(8)?.first_chunk::<8>().expect("eight were taken");
                Ok(u64::from_be_bytes(*bytes))
            }
            BitmapEncoding::Hex => {
                let (mut bits, mut strange) = (0_u64, 0);
                for &c in self.take(16)? {
                    let nibble = NIBBLES[usize::from(c)];
                    strange |= nibble;
                    bits = bits << 4 | u64::from(nibble & 15);
                }
                if strange & NO_NIBBLE != 0 {
                    self.at = start;
                    return Err(self.fault(DecodeFault::Character { kind: "hex" }));
                }
                Ok(bits)
            }
        }
    }

    /// The length that a prefix claims, in units.
    #[inline]
    fn prefix(&mut self, prefix: Prefix) -> Result<usize, Failed> {
        let start = self.at;
        let bytes = self.take(usize::from(prefix.bytes))?;
        // What most messages have, without the loop.
        if let (PrefixEncoding::Ascii, Counts::Units, &[tens, ones]) = (prefix.encoding, prefix.counts, bytes) {
            let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
            if tens < 10 && ones < 10 {
                return Ok(usize::from(tens) * 10 + usize::from(ones));
            }
        }
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
        let fault = match prefix.counts {
            _ if !is_number => DecodeFault::Prefix { expected: prefix.encoding.digits() },
            Counts::Units => return Ok(count),
            Counts::Pairs => return Ok(count * 2),
            Counts::Halves if found % 2 == 0 => return Ok(count / 2),
            Counts::Halves => DecodeFault::Odd { found },
        };
        self.at = start;
        Err(self.fault(fault))
    }

    fn unhex(&mut self, chars: &[u8], start: usize) -> Result<Value, Failed> {
        let mut bytes = Vec::with_capacity(chars.len() / 2);
        for (idx, pair) in chars.chunks_exact(2).enumerate() {
            let (high, low) = (NIBBLES[usize::from(pair[0])], NIBBLES[usize::from(pair[1])]);
            if (high | low) & NO_NIBBLE != 0 {
                self.at = start + idx * 2;
                return Err(self.fault(DecodeFault::Character { kind: "hex" }));
            }
            bytes.push(high << 4 | low);
        }
        Ok(Value::from(bytes))
    }

    /// Packed digits to text.
    fn unpack(&mut self, field: &FieldSpec, units: usize, bytes: &[u8], start: usize) -> Result<Value, Failed> {
        let (sign, packed, digits) = match (field.kind, bytes.split_first()) {
            (Kind::Xn, Some((sign, packed))) => (Some(*sign), packed, units - 1),
            _ => (None, bytes, units),
        };
        let (mut inline, mut long) = ([0; 24], Vec::new());
        let room = packed.len() * 2 + 1;
        let chars = if room <= inline.len() {
            &mut inline[..room]
        } else {
            long.resize(room, 0);
            &mut long[..]
        };
        chars[0] = sign.unwrap_or_default();
        let (pairs, _) = chars[1..].as_chunks_mut::<2>();
        for (pair, byte) in pairs.iter_mut().zip(packed) {
            *pair = [b'0' | byte >> 4, b'0' | byte & 15];
        }
        let (mut from, mut to) = (1, room);
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
        if sign.is_some() {
            from -= 1;
            chars[from] = sign.unwrap_or_default();
        }
        let chars = &chars[from..to];
        if !field.kind.accepts(chars) {
            return Err(self.stranger_packed(field.kind, start));
        }
        Ok(Value::from(ascii(chars)))
    }

    fn filler(&mut self, found: u8, with: u8, at: usize) -> Result<(), Failed> {
        if nibble(found) == nibble(with) {
            return Ok(());
        }
        self.at = at;
        Err(self.fault(DecodeFault::Pad { expected: char::from(with) }))
    }

    #[cold]
    fn stranger(&mut self, kind: Kind, bytes: &[u8], start: usize) -> Failed {
        self.at = start + kind.stranger(bytes).unwrap_or_default();
        self.fault(DecodeFault::Character { kind: kind.name() })
    }

    #[cold]
    fn stranger_packed(&mut self, kind: Kind, start: usize) -> Failed {
        self.at = start;
        self.fault(DecodeFault::Character { kind: kind.name() })
    }

    #[cold]
    fn fault(&mut self, fault: DecodeFault) -> Failed {
        self.fault = Some(fault);
        Failed
    }
}

/// Characters of a kind in a message that is not all text.
#[cold]
fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("every kind of character is ASCII")
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

const NO_NIBBLE: u8 = 0x80;

/// The number behind each hex character.
const NIBBLES: [u8; 256] = {
    let mut nibbles = [NO_NIBBLE; 256];
    let mut nibble = 0;
    while nibble < 16 {
        nibbles[b"0123456789ABCDEF"[nibble] as usize] = nibble as u8;
        nibbles[b"0123456789abcdef"[nibble] as usize] = nibble as u8;
        nibble += 1;
    }
    nibbles
};
