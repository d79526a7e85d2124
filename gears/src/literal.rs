//! Values written in a configuration, read from any format into what travels in `data`.
//! Nothing is guessed: a text stays text, and a key that stands twice is refused.

use std::fmt;

use fluxrig_actors::protocol::{Int, Map, Value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// One value of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Literal(pub(crate) Value);

impl JsonSchema for Literal {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Literal".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["null", "boolean", "integer", "number", "string", "array", "object"],
        })
    }
}

/// A field of type [`Map`], for `deserialize_with`.
pub(crate) fn map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map, D::Error> {
    match Literal::deserialize(deserializer)?.0 {
        Value::Map(map) => Ok(map),
        other => Err(Error::custom(format_args!(
            "found {}, expected a map of fields; remedy: write keys and values",
            other.type_name()
        ))),
    }
}

impl<'de> Deserialize<'de> for Literal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Literal;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null, a bool, a number, a text, a list or a map with text keys")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Literal, E> {
        Ok(Literal(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Literal, E> {
        Ok(Literal(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Literal, E> {
        Ok(Literal(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Literal, E> {
        let int = Int::try_from(value).map_err(|_| {
            E::custom("found an integer outside -2^64 to 2^64 - 1, expected one inside; remedy: write it as a text")
        })?;
        Ok(Literal(int.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Literal, E> {
        Ok(Literal(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Literal, E> {
        Ok(Literal(value.into()))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Literal, E> {
        Ok(Literal(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Literal, E> {
        Ok(Literal(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Literal, E> {
        Ok(Literal(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Literal, D::Error> {
        Literal::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Literal, D::Error> {
        Literal::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Literal, A::Error> {
        // No room is made ahead: the length that a format claims is not to be trusted.
        let mut values = Vec::new();
        while let Some(Literal(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Literal(values.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Literal, A::Error> {
        let mut map = Map::default();
        while let Some((key, Literal(value))) = entries.next_entry::<String, Literal>()? {
            if map.insert_key(key.as_str(), value).is_some() {
                return Err(Error::custom(format_args!(
                    "found key `{key}` twice, expected each key once; remedy: remove one of them"
                )));
            }
        }
        Ok(Literal(map.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Literal, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn every_kind_of_value_is_read_as_what_it_is() {
        let Value::Map(map) =
            read(r#"{"n":null,"b":true,"i":-7,"u":18446744073709551615,"f":1.0,"t":"0800","l":[1,"1"]}"#).unwrap().0
        else {
            panic!("a map");
        };
        assert_eq!(map.get_str("n"), Some(&Value::Null));
        assert_eq!(map.get_str("b"), Some(&true.into()));
        assert_eq!(map.get_str("i"), Some(&(-7i64).into()));
        assert_eq!(map.get_str("u"), Some(&u64::MAX.into()));
        assert_eq!(map.get_str("f"), Some(&1.0.into()));
        assert_eq!(map.get_str("t"), Some(&"0800".into()));
        assert_eq!(map.get_str("l"), Some(&vec![Value::from(1u64), Value::from("1")].into()));
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        let error = read(r#"{"a":1,"a":2}"#).unwrap_err();
        assert!(error.contains("found key `a` twice, expected each key once"), "{error}");
    }
}
