//! What strangers publish on a subject of ours, as messages: a JSON object or a CBOR map with text keys becomes `data`.
//! Anything else is refused with a reason that never shows what stands in it.

use std::sync::Arc;

use fluxrig_protocol::{Limits, Map, Value};
use serde_json::Value as Json;

/// Levels of JSON that are looked at; the limits of the rig are lower.
const DEPTH_MAX: usize = 128;

const EXPECTED: &str =
    "expected a JSON object or a CBOR map with text keys, or a message of ours with its `Flux-Wire` header";
const REMEDY: &str = "remedy: mend what publishes there";

/// The business fields of a stranger's payload.
pub(super) fn read(payload: &[u8], limits: &Limits) -> Result<Map, String> {
    if payload.len() > limits.encoded_bytes {
        let (found, most) = (payload.len(), limits.encoded_bytes);
        return Err(format!(
            "bus: found a payload of {found} bytes, expected at most {most}; remedy: publish less at once"
        ));
    }
    let value = match payload.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => return Err(format!("bus: found an empty payload, {EXPECTED}; {REMEDY}")),
        Some(b'{') => {
            let json = serde_json::from_slice(payload).map_err(|error| {
                let (line, column) = (error.line(), error.column());
                format!(
                    "bus: found JSON that breaks off or is wrong at line {line}, column {column}, {EXPECTED}; {REMEDY}"
                )
            })?;
            from_json(json, 0).ok_or_else(|| {
                format!("bus: found JSON with a number or a depth that no message holds, {EXPECTED}; {REMEDY}")
            })?
        }
        Some(0xa0..=0xbf) => Value::decode(payload, limits)
            .map_err(|error| format!("bus: found CBOR that is refused ({error}), {EXPECTED}; {REMEDY}"))?,
        Some(_) => return Err(format!("bus: found a payload of another kind, {EXPECTED}; {REMEDY}")),
    };
    match value {
        Value::Map(map) => Ok(map),
        other => Err(format!("bus: found {}, {EXPECTED}; {REMEDY}", other.type_name())),
    }
}

fn from_json(json: Json, depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    Some(match json {
        Json::Null => Value::Null,
        Json::Bool(bool) => bool.into(),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(int), ..) => int.into(),
            (_, Some(int), _) => int.into(),
            (.., Some(float)) => float.into(),
            _ => return None,
        },
        Json::String(text) => Value::Text(text.into()),
        Json::Array(values) => {
            let values: Option<Vec<Value>> = values.into_iter().map(|value| from_json(value, depth + 1)).collect();
            Value::Array(Arc::new(values?))
        }
        Json::Object(entries) => {
            let entries: Option<Vec<_>> =
                entries.into_iter().map(|(key, value)| Some((key, from_json(value, depth + 1)?))).collect();
            Value::Map(entries?.into_iter().collect())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_cbor_become_fields() {
        let limits = Limits::default();
        let map =
            read(br#" {"site":"N1","level":3,"ratio":0.5,"on":true,"none":null,"list":[1,{"deep":"x"}]}"#, &limits);
        let map = map.unwrap();
        assert_eq!(map.get_str("site").and_then(Value::as_text), Some("N1"));
        assert_eq!(map.get_key("level"), Some(&Value::from(3_i64)));
        assert_eq!(map.get_key("ratio"), Some(&Value::Float(0.5)));
        assert_eq!(map.get_key("list").and_then(Value::as_array).map(<[Value]>::len), Some(2));
        // { "a": 1 }
        let map = read(&[0xa1, 0x61, b'a', 0x01], &limits).unwrap();
        assert_eq!(map.get_key("a"), Some(&Value::from(1_i64)));
    }

    #[test]
    fn anything_else_is_refused_without_showing_it() {
        let limits = Limits { encoded_bytes: 4096, ..Limits::default() };
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(5000));
        let others: [&[u8]; 8] = [
            b"",
            b"secret",
            b"[\"secret\"]",
            b"{\"secret\":",
            b"\"secret\"",
            // { 1: 1 }, with a key that is no text
            &[0xa1, 0x01, 0x01],
            // a map that claims more than there is
            &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            long.as_bytes(),
        ];
        for payload in others {
            let reason = read(payload, &limits).unwrap_err();
            assert!(reason.contains("found") && reason.contains("expected") && reason.contains("remedy"), "{reason}");
            assert!(!reason.contains("secret"), "{reason}");
        }
    }
}
