//! Reads CBOR and refuses every form but the one deterministic one. One pass; memory only for bytes that are there.
//! Values come back as [`Value`]; parts that this version cannot name are walked and left as bytes.

mod skip;

use std::cmp::Ordering;

use bytes::Bytes;
use smol_str::SmolStr;

use super::{
    error::{DecodeError, Fault, Field, Step, stop},
    float::{self, Shortest},
    measure::Measure,
    writer::head_len,
};
use crate::{
    LimitError, Limits, Map, Meta, Value,
    sorted::key_order,
    value::{Int, owned},
};

/// Array elements for which memory is taken on the strength of a claim; further ones must arrive first.
const CLAIMED_ELEMENTS_MAX: usize = 256;

/// A shorter string is copied: it must not keep a whole journal group in memory.
const SHARED_BYTES_MIN: usize = 256;

/// A head that was read: major type, the five low bits, and the number they or the bytes after them hold.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    pub(crate) at: usize,
    pub(crate) major: u8,
    pub(crate) info: u8,
    pub(crate) number: u64,
}

impl Head {
    /// The type for an error text, with its article.
    fn found(&self) -> &'static str {
        match (self.major, self.info) {
            (0, _) => "an unsigned integer",
            (1, _) => "a negative integer",
            (2, _) => "a byte string",
            (3, _) => "a text",
            (4, _) => "an array",
            (5, _) => "a map",
            (6, _) => "a tag",
            (_, 20 | 21) => "a bool",
            (_, 22) => "null",
            (_, 25..=27) => "a float",
            _ => "a simple value",
        }
    }
}

pub(crate) struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    /// The owner of `input`, when long strings may share it.
    shared: Option<&'a Bytes>,
    limits: &'a Limits,
    /// Where we are, for error texts.
    pub(crate) field: Field,
    /// Extents of what was read; its `bytes` is left to the caller.
    pub(crate) measure: Measure,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(input: &'a [u8], limits: &'a Limits) -> Self {
        Self { input, at: 0, shared: None, limits, field: Field::Message, measure: Measure::default() }
    }

    pub(crate) fn new_shared(input: &'a Bytes, limits: &'a Limits) -> Self {
        Self { shared: Some(input), ..Self::new(input, limits) }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn since(&self, start: usize) -> &'a [u8] {
        &self.input[start..self.at]
    }

    pub(crate) fn fail<T>(&self, at: usize, fault: impl Into<Fault>) -> Step<T> {
        stop(at, self.field, fault.into())
    }

    /// Nothing may follow.
    pub(crate) fn end(&self) -> Step<()> {
        match self.left() {
            0 => Ok(()),
            left => self.fail(self.at, Fault::Trailing { left }),
        }
    }

    #[inline(always)]
    pub(crate) fn head(&mut self) -> Step<Head> {
        let at = self.at;
        let Some(&first) = self.input.get(at) else {
            return self.fail(at, Fault::Truncated { needed: 1, left: 0 });
        };
        let (major, info) = (first >> 5, first & 31);
        if info < 24 {
            self.at = at + 1;
            return Ok(Head { at, major, info, number: info.into() });
        }
        self.wide_head(at, major, info)
    }

    fn wide_head(&mut self, at: usize, major: u8, info: u8) -> Step<Head> {
        let width = match (info, major) {
            (24..=27, _) => 1usize << (info - 24),
            (31, 2..=5) => {
                let found = ["a byte string", "a text", "an array", "a map"][usize::from(major) - 2];
                return self.fail(at, Fault::Indefinite { found });
            }
            _ => return self.fail(at, Fault::Malformed { byte: major << 5 | info }),
        };
        let Some(bytes) = self.input.get(at + 1..at + 1 + width) else {
            return self.fail(at, Fault::Truncated { needed: 1 + width as u64, left: self.left() });
        };
        let number = bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        match (major, info) {
            // Simple values below 32 have no form of two bytes.
            (7, 24) if number < 32 => return self.fail(at, Fault::Malformed { byte: 0xf8 }),
            (7, _) => {}
            _ if head_len(number) != 1 + width => {
                return self.fail(at, Fault::NotShortest { found: 1 + width, expected: head_len(number) });
            }
            _ => {}
        }
        self.at = at + 1 + width;
        Ok(Head { at, major, info, number })
    }

    /// A head of one major type; gives its number.
    #[inline(always)]
    pub(crate) fn expect(&mut self, major: u8, expected: &'static str) -> Step<u64> {
        let head = self.head()?;
        if head.major != major { self.wrong_type(head, expected) } else { Ok(head.number) }
    }

    pub(crate) fn wrong_type<T>(&self, head: Head, expected: &'static str) -> Step<T> {
        self.fail(head.at, Fault::Type { found: head.found(), expected })
    }

    /// So many bytes, which must be there.
    #[inline(always)]
    fn take(&mut self, len: u64) -> Step<&'a [u8]> {
        let left = self.left();
        if len > left as u64 {
            return self.fail(self.at, Fault::Truncated { needed: len, left });
        }
        let bytes = &self.input[self.at..self.at + len as usize];
        self.at += len as usize;
        Ok(bytes)
    }

    #[inline(always)]
    fn text(&mut self, len: u64) -> Step<&'a str> {
        let at = self.at;
        let bytes = self.take(len)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(error) => self.fail(at, Fault::Utf8 { valid_bytes: error.valid_up_to() }),
        }
    }

    /// A byte string of a fixed length.
    pub(crate) fn fixed<const N: usize>(&mut self) -> Step<&'a [u8; N]> {
        let at = self.at;
        let found = self.expect(super::BYTES, "a byte string")?;
        if found != N as u64 {
            return self.fail(at, Fault::Length { found, expected: N as u64 });
        }
        let bytes = self.take(found)?;
        Ok(bytes.try_into().expect("just as many bytes were taken"))
    }

    /// A byte string; a long one shares the input where that can be shared.
    pub(crate) fn bytes(&mut self) -> Step<Bytes> {
        let len = self.expect(super::BYTES, "a byte string")?;
        let start = self.at;
        let bytes = self.take(len)?;
        Ok(match self.shared {
            Some(owner) if bytes.len() >= SHARED_BYTES_MIN => owner.slice(start..self.at),
            _ => Bytes::copy_from_slice(bytes),
        })
    }

    pub(crate) fn int64(&mut self) -> Step<i64> {
        let head = self.head()?;
        match (head.major, i64::try_from(head.number)) {
            (0, Ok(number)) => Ok(number),
            (1, Ok(number)) => Ok(!number),
            (0 | 1, Err(_)) => self.fail(head.at, Fault::Range { expected: "-2^63 to 2^63 - 1" }),
            _ => self.wrong_type(head, "an integer"),
        }
    }

    /// The number of entries of a map, checked against the limit and against what can follow.
    fn open_map(&mut self, head: Head, depth: usize) -> Step<usize> {
        let entries = self.claimed(head, 2)?;
        self.enter(head.at, depth)?;
        if entries > self.limits.map_entries {
            let (at, limit) = (self.place(), self.limits.map_entries);
            return self.fail(head.at, LimitError::MapEntries { at, found: entries, limit });
        }
        self.measure.entries = self.measure.entries.max(entries);
        Ok(entries)
    }

    /// The count an array or map claims; refused when even the shortest items would not fit the input.
    pub(crate) fn claimed(&self, head: Head, item_bytes_min: u64) -> Step<usize> {
        let left = self.left();
        let needed = head.number.saturating_mul(item_bytes_min);
        if needed > left as u64 {
            return self.fail(head.at, Fault::Truncated { needed, left });
        }
        Ok(head.number as usize)
    }

    fn enter(&mut self, at: usize, depth: usize) -> Step<()> {
        if depth > self.limits.levels() {
            return self.fail(at, LimitError::Depth { at: self.place(), limit: self.limits.levels() });
        }
        self.measure.depth = self.measure.depth.max(depth);
        Ok(())
    }

    /// A text key, which must sort after `last`. Both stay slices of the input: comparing them waits for no copy.
    #[inline(always)]
    fn key(&mut self, last: Option<&'a str>) -> Step<&'a str> {
        let at = self.at;
        let len = self.expect(super::TEXT, "a text as key")?;
        self.key_len(at, len)?;
        let key = self.text(len)?;
        match last.map_or(Ordering::Less, |last| key_order(last, key)) {
            Ordering::Less => Ok(key),
            Ordering::Equal => self.fail(at, Fault::Duplicate),
            Ordering::Greater => self.fail(at, Fault::Unordered),
        }
    }

    fn key_len(&mut self, at: usize, len: u64) -> Step<()> {
        if len > self.limits.key_bytes as u64 {
            let found = usize::try_from(len).unwrap_or(usize::MAX);
            return self.fail(at, LimitError::KeyBytes { at: self.place(), found, limit: self.limits.key_bytes });
        }
        self.measure.key_bytes = self.measure.key_bytes.max(len as usize);
        Ok(())
    }

    pub(crate) fn meta(&mut self) -> Step<Meta> {
        let head = self.map_head()?;
        let count = self.open_map(head, 1)?;
        let mut entries: Vec<(SmolStr, SmolStr)> = Vec::with_capacity(count.min(Limits::MAX.map_entries));
        let mut last = None;
        for _ in 0..count {
            let key = self.key(last)?;
            let len = self.expect(super::TEXT, "a text")?;
            entries.push((owned(key), owned(self.text(len)?)));
            last = Some(key);
        }
        Ok(Meta::from_sorted(entries))
    }

    pub(crate) fn map(&mut self) -> Step<Map> {
        let head = self.map_head()?;
        self.map_after(head, 1)
    }

    fn map_head(&mut self) -> Step<Head> {
        let head = self.head()?;
        if head.major != super::MAP { self.wrong_type(head, "a map") } else { Ok(head) }
    }

    fn map_after(&mut self, head: Head, depth: usize) -> Step<Map> {
        let count = self.open_map(head, depth)?;
        let mut entries: Vec<(SmolStr, Value)> = Vec::with_capacity(count.min(Limits::MAX.map_entries));
        let mut last = None;
        for _ in 0..count {
            let key = self.key(last)?;
            let head = self.head()?;
            if head.major == super::TEXT {
                // By far the most frequent value takes the short way, which moves it once less.
                let text = self.text(head.number)?;
                entries.push((owned(key), Value::Text(owned(text))));
            } else {
                entries.push((owned(key), self.value_after(head, depth)?));
            }
            last = Some(key);
        }
        Ok(Map::from_sorted(entries))
    }

    /// `depth` is the number of maps and arrays around the value.
    pub(crate) fn value(&mut self, depth: usize) -> Step<Value> {
        let head = self.head()?;
        self.value_after(head, depth)
    }

    fn value_after(&mut self, head: Head, depth: usize) -> Step<Value> {
        Ok(match (head.major, head.info) {
            (3, _) => Value::Text(owned(self.text(head.number)?)),
            (0, _) => Value::Int(Int::from_cbor(false, head.number)),
            (1, _) => Value::Int(Int::from_cbor(true, head.number)),
            (2, _) => Value::Bytes(self.take(head.number)?.into()),
            (5, _) => Value::Map(self.map_after(head, depth + 1)?),
            (4, _) => self.array(head, depth + 1)?,
            (6, _) => return self.fail(head.at, Fault::Tag { number: head.number }),
            (_, 20) => Value::Bool(false),
            (_, 21) => Value::Bool(true),
            (_, 22) => Value::Null,
            (_, 25..=27) => Value::Float(self.float(head)?),
            _ => return self.fail(head.at, Fault::Simple { number: head.number as u8 }),
        })
    }

    fn array(&mut self, head: Head, depth: usize) -> Step<Value> {
        let count = self.claimed(head, 1)?;
        self.enter(head.at, depth)?;
        let mut elements = Vec::with_capacity(count.min(CLAIMED_ELEMENTS_MAX));
        for _ in 0..count {
            elements.push(self.value(depth)?);
        }
        Ok(elements.into())
    }

    fn float(&self, head: Head) -> Step<f64> {
        let value = match head.info {
            25 => float::from_half(head.number as u16),
            26 => f32::from_bits(head.number as u32).into(),
            _ => f64::from_bits(head.number),
        };
        if value.is_nan() && head.number != u64::from(float::NAN) {
            return self.fail(head.at, Fault::OtherNan);
        }
        let (found, expected) = (self.at - head.at, 1 + Shortest::of(value).width());
        if found != expected {
            return self.fail(head.at, Fault::FloatNotShortest { found, expected });
        }
        Ok(value)
    }

    fn left(&self) -> usize {
        self.input.len() - self.at
    }

    fn place(&self) -> SmolStr {
        SmolStr::new_static(self.field.name())
    }
}

impl Value {
    /// Reads one value that was written by [`Value::encode_into`], with nothing after it.
    ///
    /// # Errors
    ///
    /// Refuses what is not deterministic CBOR, what a message could not hold, and what is over `limits`.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Value, DecodeError> {
        read_whole(bytes, limits).map_err(|error| *error)
    }
}

fn read_whole(bytes: &[u8], limits: &Limits) -> Step<Value> {
    let mut reader = Reader::new(bytes, limits);
    if bytes.len() > limits.encoded_bytes {
        return reader.fail(0, LimitError::EncodedBytes { found: bytes.len(), limit: limits.encoded_bytes });
    }
    let value = reader.value(0)?;
    reader.end()?;
    Ok(value)
}
