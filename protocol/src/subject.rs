//! Subjects on a bus, `flux.msg.{rack}.{gear}.{port}`, and the names that may stand in them.
//! A name has one alphabet everywhere (scenario, bus, file name, metric label), so it never needs escaping.

use std::{fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use smol_str::SmolStr;

use crate::id::clipped;

/// Name of a rack, gear, port or wire: a lower-case letter or digit, then those, `_` or `-`; at most 64 bytes.
///
/// ```
/// # use fluxrig_protocol::subject::Name;
/// assert_eq!("depot-north".parse::<Name>()?.as_str(), "depot-north");
/// assert!("Depot North".parse::<Name>().is_err());
/// # Ok::<(), fluxrig_protocol::subject::NameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(SmolStr);

impl Name {
    /// Longest name, bytes.
    pub const BYTES_MAX: usize = 64;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some(first) = text.chars().next() else { return Err(NameError::Empty) };
        if text.len() > Self::BYTES_MAX {
            return Err(NameError::TooLong { found: text.len(), limit: Self::BYTES_MAX });
        }
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if !is_plain(first) {
            return Err(NameError::Start { name: clipped(text), found: first });
        }
        if let Some(found) = text.chars().find(|&c| !is_plain(c) && c != '_' && c != '-') {
            return Err(NameError::Character { name: clipped(text), found });
        }
        Ok(Self(SmolStr::new(text)))
    }
}

impl TryFrom<&str> for Name {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        text.parse()
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl std::ops::Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Maps keyed by names can be searched by text.
impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Name {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Lower-case letters, digits, `_` and `-`, starting with a letter or digit.",
            "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$",
        })
    }
}

/// A text that is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// No text at all.
    #[error("the name is empty, expected 1 to 64 characters; remedy: give it one, for example `pumps`")]
    Empty,
    /// Too many bytes.
    #[error("the name has {found} bytes, the limit is {limit}; remedy: shorten it")]
    TooLong {
        /// Length of the text.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A first character that is neither lower-case letter nor digit.
    #[error("`{name}` starts with {found:?}, expected a-z or 0-9; remedy: start with a lower-case letter or a digit")]
    Start {
        /// The text, cut after 48 characters.
        name: String,
        /// The character.
        found: char,
    },
    /// A character outside the alphabet.
    #[error("`{name}` holds {found:?}, expected a-z, 0-9, `_` or `-`; remedy: replace it, for example by `-`")]
    Character {
        /// The text, cut after 48 characters.
        name: String,
        /// The character.
        found: char,
    },
}

/// The subject of what one output port emits.
///
/// ```
/// # use fluxrig_protocol::subject::MsgSubject;
/// let subject: MsgSubject = "flux.msg.depot-north.pumps.out".parse()?;
/// assert_eq!(subject.gear.as_str(), "pumps");
/// assert_eq!(subject.to_string(), "flux.msg.depot-north.pumps.out");
/// # Ok::<(), fluxrig_protocol::subject::SubjectError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MsgSubject {
    /// The rack that runs the gear.
    pub rack: Name,
    /// The gear that emits.
    pub gear: Name,
    /// Its output port.
    pub port: Name,
}

impl MsgSubject {
    /// The subject filter for everything one rack emits.
    pub fn filter_of_rack(rack: &Name) -> String {
        format!("flux.msg.{rack}.>")
    }
}

impl fmt::Display for MsgSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flux.msg.{}.{}.{}", self.rack, self.gear, self.port)
    }
}

impl FromStr for MsgSubject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let malformed = || SubjectError::Shape { found: clipped(text) };
        let mut tokens = text.strip_prefix("flux.msg.").ok_or_else(malformed)?.split('.');
        let (Some(rack), Some(gear), Some(port), None) = (tokens.next(), tokens.next(), tokens.next(), tokens.next())
        else {
            return Err(malformed());
        };
        let name = |token: &'static str, text: &str| {
            text.parse::<Name>().map_err(|source| SubjectError::Token { token, source })
        };
        Ok(Self { rack: name("rack", rack)?, gear: name("gear", gear)?, port: name("port", port)? })
    }
}

/// A text that is not a subject of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// Not five tokens that begin with `flux.msg`.
    #[error(
        "subject `{found}` is not ours, expected `flux.msg.{{rack}}.{{gear}}.{{port}}`; remedy: check the stream's subject filter"
    )]
    Shape {
        /// The text, cut after 48 characters.
        found: String,
    },
    /// A token that is not a name; the source says why.
    #[error("the {token} of the subject is not a name; remedy: check who publishes there")]
    Token {
        /// Which token.
        token: &'static str,
        /// What is wrong with it.
        source: NameError,
    },
}

#[cfg(test)]
mod tests;
