//! The business fields of a message: values under text keys, nested, reached by dotted paths.
//! Sorted as they are encoded and shared until written, so that a gear that changes one field copies one level.

use std::fmt;

use smol_str::SmolStr;

use crate::{
    field_path::{FieldError, FieldPath},
    sorted::{Sorted, key_order},
    value::{Value, owned},
};

/// Values under text keys. Empty costs nothing, a copy one atomic increment.
///
/// ```
/// # use fluxrig_protocol::{FieldPath, Map};
/// let level: FieldPath = "tank.level".parse()?;
/// let mut data = Map::default();
/// data.set(&level, 12.5)?;
/// let before = data.clone();
/// data.set(&level, data.number(&level)? * 2.0)?;
/// assert_eq!((before.number(&level)?, data.number(&level)?), (12.5, 25.0));
/// assert_eq!(
///     data.text(&level).unwrap_err().to_string(),
///     "`tank.level` is of type float, expected text; remedy: name another field, or convert it before this gear"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Map(Sorted<Value>);

/// Access by dotted path.
impl Map {
    /// The value at a path.
    pub fn get(&self, path: &FieldPath) -> Option<&Value> {
        walk(self, path.segments().iter().map(SmolStr::as_str))
    }

    /// The value at a path that is spelled out in code; nothing is parsed or allocated.
    pub fn get_str(&self, path: &str) -> Option<&Value> {
        walk(self, path.split('.'))
    }

    /// Puts a value at a path, with the maps that are missing on the way.
    ///
    /// # Errors
    ///
    /// [`FieldError::Type`] when something other than a map stands on the way; nothing is changed then.
    pub fn set(&mut self, path: &FieldPath, value: impl Into<Value>) -> Result<(), FieldError> {
        let (last, parents) = path.split_last();
        let mut map = self;
        for (idx, segment) in parents.iter().enumerate() {
            if map.get_key(segment).is_none() {
                map.insert_key(segment.clone(), Map::default());
            }
            map = match map.get_key_mut(segment) {
                Some(Value::Map(inner)) => inner,
                other => {
                    let found = other.map_or("nothing", |value| value.type_name());
                    return Err(FieldError::Type { path: path.prefix(idx + 1), found, expected: "map" });
                }
            };
        }
        map.insert_key(last.clone(), value);
        Ok(())
    }

    /// Takes out the value at a path. The maps around it stay, even when they are empty then.
    pub fn remove(&mut self, path: &FieldPath) -> Option<Value> {
        // Looked up first: removing what is not there must not copy the maps on the way.
        self.get(path)?;
        let (last, parents) = path.split_last();
        let mut map = self;
        for segment in parents {
            map = match map.get_key_mut(segment) {
                Some(Value::Map(inner)) => inner,
                _ => return None,
            };
        }
        map.remove_key(last)
    }

    /// The number at a path, from an integer or a float.
    ///
    /// # Errors
    ///
    /// [`FieldError::Missing`] or [`FieldError::Type`]. A text is not a number, even one made of digits: whoever wants
    /// to calculate with an amount says how it is rounded.
    pub fn number(&self, path: &FieldPath) -> Result<f64, FieldError> {
        self.typed(path, "number", Value::as_number)
    }

    /// The integer at a path.
    ///
    /// # Errors
    ///
    /// [`FieldError::Missing`], [`FieldError::Type`], or [`FieldError::Range`] for one that does not fit 64 signed bits.
    pub fn int(&self, path: &FieldPath) -> Result<i64, FieldError> {
        let int = self.typed(path, "int", Value::as_int)?;
        i64::try_from(int).map_err(|_| FieldError::Range { path: path.clone(), expected: "-2^63 to 2^63 - 1" })
    }

    /// The text at a path.
    ///
    /// # Errors
    ///
    /// [`FieldError::Missing`] or [`FieldError::Type`].
    pub fn text(&self, path: &FieldPath) -> Result<&str, FieldError> {
        self.typed(path, "text", Value::as_text)
    }

    /// The bytes at a path.
    ///
    /// # Errors
    ///
    /// [`FieldError::Missing`] or [`FieldError::Type`].
    pub fn bytes(&self, path: &FieldPath) -> Result<&[u8], FieldError> {
        self.typed(path, "bytes", Value::as_bytes)
    }

    /// The truth value at a path.
    ///
    /// # Errors
    ///
    /// [`FieldError::Missing`] or [`FieldError::Type`].
    pub fn bool(&self, path: &FieldPath) -> Result<bool, FieldError> {
        self.typed(path, "bool", Value::as_bool)
    }

    fn typed<'a, T>(
        &'a self,
        path: &FieldPath,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T, FieldError> {
        let value = self.get(path).ok_or_else(|| FieldError::Missing { path: path.clone() })?;
        read(value).ok_or_else(|| FieldError::Type { path: path.clone(), found: value.type_name(), expected })
    }
}

/// Access to this level alone, where a dot in a key is a dot.
impl Map {
    /// The value under a key.
    pub fn get_key(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// The value under a key, to be changed in place.
    pub fn get_key_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.0.get_mut(key)
    }

    /// Puts a value under a key and gives what stood there.
    pub fn insert_key(&mut self, key: impl Into<SmolStr>, value: impl Into<Value>) -> Option<Value> {
        self.0.insert(key.into(), value.into())
    }

    /// Takes out the value under a key.
    pub fn remove_key(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key)
    }

    /// All entries, in the order in which they are encoded: shorter keys first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Value)> + ExactSizeIterator {
        self.entries().iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Number of entries on this level.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// All entries in that order, for whoever knows at which position a key is likely to stand.
    #[inline]
    pub fn entries(&self) -> &[(SmolStr, Value)] {
        self.0.entries()
    }

    /// The caller vouches for the order and that no key stands twice.
    pub(crate) fn from_sorted(entries: Vec<(SmolStr, Value)>) -> Self {
        Self(Sorted::from_sorted(entries))
    }
}

/// For codecs that know how many entries there will be, and walk them in the order of their keys.
impl Map {
    /// A map of so many entries, each made where it stays, so that it is not moved as one that is pushed.
    ///
    /// The caller vouches for the order of the keys, shorter first; only builds with debug assertions look.
    ///
    /// # Errors
    ///
    /// The first error of `fill`.
    #[inline]
    pub fn try_fill<E>(count: usize, mut fill: impl FnMut(Entry<'_>) -> Result<(), E>) -> Result<Self, E> {
        let mut entries = Vec::with_capacity(count);
        entries.resize_with(count, || (SmolStr::new_static(""), Value::Null));
        for (key, value) in &mut entries {
            fill(Entry { key, value })?;
        }
        Ok(Self::from_sorted(entries))
    }
}

/// The place of one entry while [`Map::try_fill`] makes it.
pub struct Entry<'a> {
    key: &'a mut SmolStr,
    value: &'a mut Value,
}

impl Entry<'_> {
    /// Puts a text under a key that is known when the program is written.
    #[inline(always)]
    pub fn text(self, key: &'static str, text: &str) {
        // A text of a known length is put together in registers and written once, to where it stays. Of an unknown
        // length it would be written in parts and read again at once as a whole, for which the processor waits.
        macro_rules! inline {
            ($($len:literal)*) => {
                match text.len() {
                    $($len => put(self.value, Value::Text(SmolStr::new_inline(text))),)*
                    _ => put(self.value, Value::Text(owned(text))),
                }
            };
        }
        inline!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23);
        put(self.key, SmolStr::new_static(key));
    }

    /// Puts any value under a key that is known when the program is written.
    #[inline]
    pub fn value(self, key: &'static str, value: Value) {
        *self.value = value;
        put(self.key, SmolStr::new_static(key));
    }
}

/// Writes over what needs no drop: an entry that was not filled yet holds nothing on the heap.
#[inline(always)]
fn put<T>(place: &mut T, value: T) {
    std::mem::forget(std::mem::replace(place, value));
}

fn walk<'a, 'k>(map: &'a Map, mut segments: impl Iterator<Item = &'k str>) -> Option<&'a Value> {
    let first = segments.next()?;
    segments.try_fold(map.get_key(first)?, |value, segment| value.as_map()?.get_key(segment))
}

impl<K: Into<SmolStr>, V: Into<Value>> FromIterator<(K, V)> for Map {
    /// Of equal keys the last wins.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = MapBuilder::default();
        for (key, value) in entries {
            map.push(key, value);
        }
        map.build()
    }
}

/// Keys, types and lengths, never values.
impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Fills a map in one go, for codecs: one allocation, and no sorting when the keys come in order.
///
/// A key that is known when the program is written costs nothing as `SmolStr::new_static`.
/// The order is the encoded one, shorter keys first, so the field numbers 2, 3, 11, 41 as text are in order.
///
/// ```
/// # use fluxrig_protocol::MapBuilder;
/// let mut fields = MapBuilder::with_capacity(2);
/// fields.push("4", "000000012500");
/// fields.push("11", "000042");
/// assert_eq!(fields.build().len(), 2);
/// ```
#[derive(Debug, Default)]
pub struct MapBuilder {
    entries: Vec<(SmolStr, Value)>,
    is_unsorted: bool,
}

impl MapBuilder {
    /// A builder with room for so many entries.
    pub fn with_capacity(entries: usize) -> Self {
        Self { entries: Vec::with_capacity(entries), is_unsorted: false }
    }

    /// Adds an entry. Of equal keys the last wins.
    pub fn push(&mut self, key: impl Into<SmolStr>, value: impl Into<Value>) {
        let key = key.into();
        self.is_unsorted |= self.entries.last().is_some_and(|(last, _)| key_order(last, &key).is_ge());
        self.entries.push((key, value.into()));
    }

    /// The map.
    pub fn build(self) -> Map {
        Map(if self.is_unsorted { Sorted::from_unsorted(self.entries) } else { Sorted::from_sorted(self.entries) })
    }
}

#[cfg(test)]
mod tests;
