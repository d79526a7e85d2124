//! Message types: which answer belongs to which request, and the field numbers that a configuration names.

use std::collections::BTreeMap;
use std::fmt;

use fluxrig_actors::protocol::SmolStr;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::charset::Kind;
use super::spec::FIELD_MAX;

/// A message type that has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MtiError {
    /// There is none.
    #[error("found no message type in `meta.iso8583.mti`, expected four digits; remedy: decode the message first")]
    Missing,
    /// Not four digits.
    #[error("found a message type of {len} characters that is not four digits; remedy: decode the message first")]
    Digits {
        /// Its length.
        len: usize,
    },
    /// An answer is not answered.
    #[error("found the message type of an answer, expected that of a request; remedy: wire only requests here")]
    Answer,
}

/// The type of the answer to a request: the third digit one more, the fourth without *repeat*.
///
/// ```
/// # use fluxrig_gears::iso8583::response_mti;
/// assert_eq!(response_mti("0201")?, "0210");
/// assert!(response_mti("0810").is_err());
/// # Ok::<(), fluxrig_gears::iso8583::MtiError>(())
/// ```
///
/// # Errors
/// When it is no message type, or that of an answer.
pub fn response_mti(request: &str) -> Result<SmolStr, MtiError> {
    let Ok(mut digits) = <[u8; 4]>::try_from(request.as_bytes()) else {
        return Err(MtiError::Digits { len: request.len() });
    };
    if !Kind::N.accepts(&digits) {
        return Err(MtiError::Digits { len: request.len() });
    }
    if digits[2] % 2 == 1 {
        return Err(MtiError::Answer);
    }
    digits[2] += 1;
    // Odd origins are repeats of the even one before.
    digits[3] &= !1;
    Ok(SmolStr::new(std::str::from_utf8(&digits).expect("digits are text")))
}

/// Message types of answers that differ from the rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub(crate) struct Mtis(BTreeMap<String, String>);

impl Mtis {
    /// The type of the answer.
    pub(crate) fn of_answer(&self, request: Option<&str>) -> Result<SmolStr, MtiError> {
        let request = request.ok_or(MtiError::Missing)?;
        match self.0.get(request) {
            Some(answer) => Ok(answer.as_str().into()),
            None => response_mti(request),
        }
    }
}

impl<'de> Deserialize<'de> for Mtis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let types = BTreeMap::<String, String>::deserialize(deserializer)?;
        for mti in types.iter().flat_map(|(request, answer)| [request, answer]) {
            if mti.len() != 4 || !Kind::N.accepts(mti.as_bytes()) {
                let found: String = mti.chars().take(48).collect();
                return Err(D::Error::custom(format_args!(
                    "found message type `{found}`, expected four digits; remedy: write it in quotes, as in `\"0400\"`"
                )));
            }
        }
        Ok(Self(types))
    }
}

/// A field number, 2 to 128, as the key in `data.iso8583`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FieldNumber(pub(crate) SmolStr);

impl TryFrom<&str> for FieldNumber {
    type Error = String;

    fn try_from(text: &str) -> Result<Self, String> {
        let number = text.parse::<usize>().ok().filter(|number| number.to_string() == text);
        match number.filter(|number| (2..=FIELD_MAX).contains(number)) {
            Some(_) => Ok(Self(text.into())),
            None => {
                let found: String = text.chars().take(48).collect();
                Err(format!("found field `{found}`, expected a number from 2 to 128; remedy: correct it"))
            }
        }
    }
}

impl fmt::Display for FieldNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for FieldNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberReader)
    }
}

/// Takes a number or its text: keys of a map are always texts, elements of a list may be either.
struct NumberReader;

impl serde::de::Visitor<'_> for NumberReader {
    type Value = FieldNumber;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field number from 2 to 128")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<FieldNumber, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<FieldNumber, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<FieldNumber, E> {
        FieldNumber::try_from(text).map_err(E::custom)
    }
}

impl JsonSchema for FieldNumber {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FieldNumber".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 2, "maximum": 128 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_adds_one_to_the_function_and_forgets_the_repeat() {
        for (request, answer) in [
            ("0100", "0110"),
            ("0101", "0110"),
            ("0120", "0130"),
            ("0201", "0210"),
            ("0420", "0430"),
            ("0421", "0430"),
            ("0800", "0810"),
            ("1804", "1814"),
            ("1805", "1814"),
        ] {
            assert_eq!(response_mti(request).unwrap(), answer);
        }
    }

    #[test]
    fn what_has_no_answer_is_refused() {
        for mti in ["0110", "0430", "0810", "020", "02000", "02a0", "", "０２００"] {
            assert!(response_mti(mti).is_err(), "{mti}");
        }
    }
}
