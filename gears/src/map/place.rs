//! Where a step of `map` reads and writes: a path inside `data`, or a key of `meta`.

use std::fmt;
use std::str::FromStr;

use fluxrig_actors::protocol::{FieldPath, FluxMsg, Limits, PathError, SmolStr, Value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::MappingError;

/// A place in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A value in the business fields.
    Data(FieldPath),
    /// A context text. Keys are flat: a dot in one is part of its name.
    Meta(SmolStr),
}

/// A text that names no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// It begins with neither of the two.
    #[error(
        "path `{found}`: found neither `data.` nor `meta.` at its start, expected one of them; remedy: write `data.{found}` for a business field, `meta.{found}` for a context text"
    )]
    Root {
        /// The path, cut after 48 characters.
        found: String,
    },
    /// A path in `data` that is none.
    #[error("path `data.…`: {0}")]
    Data(PathError),
    /// A key of `meta` of no length, or of more than there may be.
    #[error(
        "path `meta.…`: found a key of {found} bytes, expected 1 to {limit}; remedy: name one key, for example `meta.site`"
    )]
    MetaKey {
        /// Length of the key.
        found: usize,
        /// The limit.
        limit: usize,
    },
}

impl Place {
    pub(crate) fn get(&self, msg: &FluxMsg) -> Option<Value> {
        match self {
            Self::Data(path) => msg.data.get(path).cloned(),
            Self::Meta(key) => msg.meta.get(key).map(Value::from),
        }
    }

    pub(crate) fn take(&self, msg: &mut FluxMsg) -> Option<Value> {
        match self {
            Self::Data(path) => msg.data.remove(path),
            Self::Meta(key) => msg.meta.remove(key).map(Value::from),
        }
    }

    pub(crate) fn put(&self, msg: &mut FluxMsg, value: Value) -> Result<(), MappingError> {
        match self {
            Self::Data(path) => msg.data.set(path, value)?,
            Self::Meta(key) => drop(msg.meta.set(key.clone(), self.text(&value)?)),
        }
        Ok(())
    }

    /// Whether a value of this kind can be here.
    pub(crate) fn check(&self, value: &Value) -> Result<(), MappingError> {
        match self {
            Self::Data(_) => Ok(()),
            Self::Meta(_) => self.text(value).map(drop),
        }
    }

    fn text(&self, value: &Value) -> Result<SmolStr, MappingError> {
        match value {
            Value::Text(text) => Ok(text.clone()),
            Value::Int(int) => Ok(SmolStr::from(int.to_string())),
            Value::Bool(is_true) => Ok(SmolStr::new_static(if *is_true { "true" } else { "false" })),
            // A float has more than one text, and the others have none.
            other => Err(MappingError::MetaType { to: self.to_string(), found: other.type_name() }),
        }
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        if let Some(path) = text.strip_prefix("data.") {
            return path.parse().map(Self::Data).map_err(PlaceError::Data);
        }
        let Some(key) = text.strip_prefix("meta.") else {
            return Err(PlaceError::Root { found: text.chars().take(48).collect() });
        };
        let limit = Limits::MAX.key_bytes;
        if key.is_empty() || key.len() > limit {
            return Err(PlaceError::MetaKey { found: key.len(), limit });
        }
        Ok(Self::Meta(key.into()))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(path) => write!(f, "data.{path}"),
            Self::Meta(key) => write!(f, "meta.{key}"),
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Place {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Place".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A place in a message: `data.tank.level` (nested), or `meta.iso8583.mti` (one flat key).",
            "pattern": r"^(data(\.[^.]+)+|meta\..+)$",
        })
    }
}
