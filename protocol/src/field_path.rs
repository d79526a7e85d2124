//! Where a value stands inside `data`: a dotted path such as `iso8583.4` or `tank.level`.
//! Parsed once, when a configuration is read; walking it afterwards allocates nothing.

use std::{fmt, str::FromStr, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use smol_str::SmolStr;

use crate::limits::Limits;

/// A dotted path of at least one key. A copy costs one atomic increment.
///
/// ```
/// # use fluxrig_protocol::FieldPath;
/// let path: FieldPath = "iso8583.48.3".parse()?;
/// assert_eq!(path.segments().len(), 3);
/// assert!("iso8583..3".parse::<FieldPath>().is_err());
/// # Ok::<(), fluxrig_protocol::PathError>(())
/// ```
// The text of a path is its segments joined by dots, so comparing segments compares texts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Arc<[SmolStr]>);

impl FieldPath {
    /// The keys, outermost first.
    pub fn segments(&self) -> &[SmolStr] {
        &self.0
    }

    pub(crate) fn split_last(&self) -> (&SmolStr, &[SmolStr]) {
        self.0.split_last().expect("the parser refuses an empty path")
    }

    pub(crate) fn prefix(&self, len: usize) -> Self {
        Self(self.0[..len].into())
    }
}

impl FromStr for FieldPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let limits = Limits::MAX;
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        let found = text.split('.').count();
        if found > limits.depth {
            return Err(PathError::TooDeep { found, limit: limits.depth });
        }
        for (idx, segment) in text.split('.').enumerate() {
            if segment.is_empty() {
                return Err(PathError::EmptySegment { path: crate::id::clipped(text), position: idx + 1 });
            }
            if segment.len() > limits.key_bytes {
                return Err(PathError::KeyTooLong { position: idx + 1, found: segment.len(), limit: limits.key_bytes });
            }
        }
        Ok(Self(text.split('.').map(SmolStr::new).collect()))
    }
}

impl TryFrom<&str> for FieldPath {
    type Error = PathError;

    fn try_from(text: &str) -> Result<Self, PathError> {
        text.parse()
    }
}

impl TryFrom<String> for FieldPath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        text.parse()
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, segment) in self.0.iter().enumerate() {
            if idx > 0 {
                f.write_str(".")?;
            }
            f.write_str(segment)?;
        }
        Ok(())
    }
}

impl fmt::Debug for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for FieldPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FieldPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for FieldPath {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FieldPath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Dotted path of a field inside `data`, for example `tank.level`.",
            "pattern": r"^[^.]+(\.[^.]+)*$",
        })
    }
}

/// A text that is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// No text at all.
    #[error("the path is empty, expected keys joined by dots; remedy: name a field, for example `tank.level`")]
    Empty,
    /// Two dots in a row, or one at an end.
    #[error("`{path}`: key {position} is empty, expected keys joined by single dots; remedy: remove the extra dot")]
    EmptySegment {
        /// The path, cut after 48 characters.
        path: String,
        /// Which key, counted from 1.
        position: usize,
    },
    /// More keys than `data` may have levels.
    #[error("the path has {found} keys, the limit is {limit} levels; remedy: shorten it")]
    TooDeep {
        /// Number of keys.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A key longer than one in a message may be.
    #[error("key {position} of the path has {found} bytes, the limit is {limit}; remedy: shorten it")]
    KeyTooLong {
        /// Which key, counted from 1.
        position: usize,
        /// Its length.
        found: usize,
        /// The limit.
        limit: usize,
    },
}

/// A field that is not as a gear needs it. Never holds the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// Nothing there.
    #[error("`{path}` is missing; remedy: name another field, or let an earlier gear set it")]
    Missing {
        /// The place.
        path: FieldPath,
    },
    /// Something of another type.
    #[error(
        "`{path}` is of type {found}, expected {expected}; remedy: name another field, or convert it before this gear"
    )]
    Type {
        /// The place.
        path: FieldPath,
        /// The type that stands there.
        found: &'static str,
        /// The type that was asked for.
        expected: &'static str,
    },
    /// An integer that does not fit.
    #[error("`{path}` is an int outside {expected}; remedy: read it as a number, or carry it as text")]
    Range {
        /// The place.
        path: FieldPath,
        /// The range that was asked for.
        expected: &'static str,
    },
}

#[cfg(test)]
mod tests;
