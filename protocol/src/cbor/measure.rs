//! How large a content is: what [`Limits`] compare, taken in one walk without encoding anything.
//! The walk never goes deeper than any limit allows, so a value of any depth can be measured on a small stack.

use std::sync::atomic::{AtomicU64, Ordering};

use smol_str::{SmolStr, format_smolstr};

use super::{
    float::Shortest,
    writer::{head_len, int_len},
};
use crate::{LimitError, Limits, Map, Meta, Value};

/// Extents of one or more parts of a message. Parts add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Measure {
    /// Encoded size.
    pub(crate) bytes: usize,
    /// Levels of maps and arrays; one more than any limit when there are too many.
    pub(crate) depth: usize,
    /// Entries of the largest map.
    pub(crate) entries: usize,
    /// Bytes of the longest key.
    pub(crate) key_bytes: usize,
}

/// A measure that is taken once and then copied with the message: one word, so that copying costs nothing.
///
/// Extents beyond their bits stand for "more than any limit allows", which they are.
#[derive(Debug, Default)]
pub(crate) struct Memo(AtomicU64);

impl Memo {
    const TAKEN: u64 = 1 << 63;
    const BYTES: (u32, u32) = (0, 30);
    const DEPTH: (u32, u32) = (30, 8);
    const ENTRIES: (u32, u32) = (38, 16);
    const KEY_BYTES: (u32, u32) = (54, 9);

    pub(crate) fn of(measure: Measure) -> Self {
        Self(AtomicU64::new(Self::pack(measure)))
    }

    pub(crate) fn get(&self) -> Option<Measure> {
        let word = self.0.load(Ordering::Relaxed);
        (word != 0).then(|| Self::unpack(word))
    }

    pub(crate) fn get_or_init(&self, take: impl FnOnce() -> Measure) -> Measure {
        self.get().unwrap_or_else(|| {
            // Two threads may take it at once; both find the same.
            let word = Self::pack(take());
            self.0.store(word, Ordering::Relaxed);
            Self::unpack(word)
        })
    }

    pub(crate) fn forget(&mut self) {
        *self.0.get_mut() = 0;
    }

    /// A part of the content that took `old` bytes was replaced by one of this measure. The other extents only rise: a
    /// part whose depth, entries or keys may have been the largest is not replaced this way.
    pub(crate) fn replace(&mut self, old: usize, new: Measure) {
        let Some(mut known) = self.get() else { return };
        if known.bytes == (1 << Self::BYTES.1) - 1 {
            // More than can be said, so what is left of it is not known.
            return self.forget();
        }
        known.bytes -= old;
        known.add(new);
        *self = Self::of(known);
    }

    fn pack(measure: Measure) -> u64 {
        let part = |(shift, bits): (u32, u32), extent: usize| (extent as u64).min((1 << bits) - 1) << shift;
        Self::TAKEN
            | part(Self::BYTES, measure.bytes)
            | part(Self::DEPTH, measure.depth)
            | part(Self::ENTRIES, measure.entries)
            | part(Self::KEY_BYTES, measure.key_bytes)
    }

    fn unpack(word: u64) -> Measure {
        let part = |(shift, bits): (u32, u32)| (word >> shift & ((1 << bits) - 1)) as usize;
        Measure {
            bytes: part(Self::BYTES),
            depth: part(Self::DEPTH),
            entries: part(Self::ENTRIES),
            key_bytes: part(Self::KEY_BYTES),
        }
    }
}

impl Clone for Memo {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}

impl Measure {
    /// Adds a string of bytes or text with its head.
    #[inline]
    pub(crate) fn string(&mut self, len: usize) {
        self.bytes += head_len(len as u64) + len;
    }

    pub(crate) fn meta(&mut self, meta: &Meta) {
        self.open_map(meta.len(), 1);
        for (key, text) in meta.entries() {
            self.key(key);
            self.string(text.len());
        }
    }

    pub(crate) fn map(&mut self, map: &Map, depth: usize) {
        self.open_map(map.len(), depth);
        if depth > Limits::MAX.depth {
            return;
        }
        let mut strings = 0;
        for (key, value) in map.entries() {
            strings += Self::of_string(key.len()).bytes;
            // Most values are texts, for which the call would cost more than the count.
            match value {
                Value::Text(text) => strings += Self::of_string(text.len()).bytes,
                other => self.value(other, depth),
            }
        }
        self.bytes += strings;
        // Shorter keys stand first.
        self.key_bytes = self.key_bytes.max(map.entries().last().map_or(0, |(longest, _)| longest.len()));
    }

    /// What a string takes with its head.
    #[inline]
    pub(crate) fn of_string(len: usize) -> Self {
        let mut measure = Self::default();
        measure.string(len);
        measure
    }

    /// The head of a meta, or of the first level of data, of so many entries.
    pub(crate) fn of_meta(entries: usize) -> Self {
        let mut measure = Self::default();
        measure.open_map(entries, 1);
        measure
    }

    /// The same with one of its entries.
    pub(crate) fn of_meta_entry(key_len: usize, text_len: usize, entries: usize) -> Self {
        let mut measure = Self { key_bytes: key_len, ..Self::of_meta(entries) };
        measure.string(key_len);
        measure.string(text_len);
        measure
    }

    /// An entry of a map, without the map's head; `depth` is the map's level.
    pub(crate) fn of_entry(key: &SmolStr, value: &Value, depth: usize) -> Self {
        let mut measure = Self::default();
        measure.key(key);
        measure.value(value, depth);
        measure
    }

    /// `depth` is the number of maps and arrays around the value.
    pub(crate) fn value(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Text(text) => self.string(text.len()),
            Value::Int(int) => self.bytes += int_len(*int),
            Value::Map(map) => self.map(map, depth + 1),
            Value::Bytes(bytes) => self.string(bytes.len()),
            Value::Array(elements) => {
                let depth = depth + 1;
                self.bytes += head_len(elements.len() as u64);
                self.depth = self.depth.max(depth);
                if depth > Limits::MAX.depth {
                    return;
                }
                for element in elements.iter() {
                    self.value(element, depth);
                }
            }
            Value::Bool(_) | Value::Null => self.bytes += 1,
            Value::Float(float) => self.bytes += 1 + Shortest::of(*float).width(),
        }
    }

    /// Adds another part.
    pub(crate) fn add(&mut self, part: Measure) {
        self.bytes += part.bytes;
        self.depth = self.depth.max(part.depth);
        self.entries = self.entries.max(part.entries);
        self.key_bytes = self.key_bytes.max(part.key_bytes);
    }

    /// Whether content of these extents is within the limits, whatever hops and numbers come with it.
    pub(crate) fn fits(&self, limits: &Limits) -> bool {
        self.depth <= limits.levels()
            && self.entries <= limits.map_entries
            && self.key_bytes <= limits.key_bytes
            && self.bytes.saturating_add(limits.reserved_bytes()) <= limits.encoded_bytes
    }

    fn open_map(&mut self, entries: usize, depth: usize) {
        self.bytes += head_len(entries as u64);
        self.entries = self.entries.max(entries);
        self.depth = self.depth.max(depth);
    }

    #[inline]
    fn key(&mut self, key: &SmolStr) {
        self.key_bytes = self.key_bytes.max(key.len());
        self.string(key.len());
    }
}

/// Finds the first place in a map that is over a limit. Slow and thorough: only for the text of an error.
pub(crate) fn blame_map(map: &Map, at: SmolStr, depth: usize, limits: &Limits) -> Option<LimitError> {
    if depth > limits.levels() {
        return Some(LimitError::Depth { at, limit: limits.levels() });
    }
    if map.len() > limits.map_entries {
        return Some(LimitError::MapEntries { at, found: map.len(), limit: limits.map_entries });
    }
    if let Some((key, _)) = map.iter().find(|(key, _)| key.len() > limits.key_bytes) {
        return Some(LimitError::KeyBytes { at, found: key.len(), limit: limits.key_bytes });
    }
    map.iter().find_map(|(key, value)| blame_value(value, format_smolstr!("{at}.{key}"), depth, limits))
}

fn blame_value(value: &Value, at: SmolStr, depth: usize, limits: &Limits) -> Option<LimitError> {
    match value {
        Value::Map(map) => blame_map(map, at, depth + 1, limits),
        Value::Array(_) if depth + 1 > limits.levels() => Some(LimitError::Depth { at, limit: limits.levels() }),
        Value::Array(elements) => {
            elements.iter().find_map(|e| blame_value(e, format_smolstr!("{at}[]"), depth + 1, limits))
        }
        _ => None,
    }
}

/// The same for meta, which has one level.
pub(crate) fn blame_meta(meta: &Meta, limits: &Limits) -> Option<LimitError> {
    let at = SmolStr::new_static("meta");
    if meta.len() > limits.map_entries {
        return Some(LimitError::MapEntries { at, found: meta.len(), limit: limits.map_entries });
    }
    let (key, _) = meta.iter().find(|(key, _)| key.len() > limits.key_bytes)?;
    Some(LimitError::KeyBytes { at, found: key.len(), limit: limits.key_bytes })
}
