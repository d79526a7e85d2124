//! One message as one line of JSON: the same message makes the same bytes, and no digit is lost.

use std::io::Write as _;

use fluxrig_actors::protocol::{FluxMsg, Map, Meta, Value};

/// Adds the line of `msg`, its end included.
pub(super) fn write(into: &mut Vec<u8>, msg: &FluxMsg, is_repeat: bool) {
    put(into, format_args!(r#"{{"id":"{}","ts":{}"#, msg.id, msg.ts));
    if let Some(reference) = &msg.reference {
        put(into, format_args!(r#","ref":"{reference}""#));
    }
    into.extend(br#","meta":"#);
    write_meta(into, &msg.meta);
    into.extend(br#","data":"#);
    write_map(into, &msg.data);
    if let Some(raw) = &msg.raw {
        into.extend(br#","raw":"#);
        write_hex(into, raw);
    }
    if is_repeat {
        into.extend(br#","repeat":true"#);
    }
    into.extend(b"}\n");
}

fn write_meta(into: &mut Vec<u8>, meta: &Meta) {
    into.push(b'{');
    for (idx, (key, text)) in meta.iter().enumerate() {
        write_key(into, idx, key);
        write_text(into, text);
    }
    into.push(b'}');
}

/// Adds a map as a JSON object. As deep as `data` may be at most, so recursion fits the stack.
pub(crate) fn write_map(into: &mut Vec<u8>, map: &Map) {
    into.push(b'{');
    for (idx, (key, value)) in map.iter().enumerate() {
        write_key(into, idx, key);
        write_value(into, value);
    }
    into.push(b'}');
}

fn write_value(into: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => into.extend(b"null"),
        Value::Bool(is_true) => put(into, format_args!("{is_true}")),
        Value::Int(int) => put(into, format_args!("{int}")),
        Value::Float(float) => write_float(into, *float),
        Value::Text(text) => write_text(into, text),
        Value::Bytes(bytes) => write_hex(into, bytes),
        Value::Array(values) => {
            into.push(b'[');
            for (idx, value) in values.iter().enumerate() {
                write_comma(into, idx);
                write_value(into, value);
            }
            into.push(b']');
        }
        Value::Map(map) => write_map(into, map),
    }
}

fn write_float(into: &mut Vec<u8>, float: f64) {
    if float.is_finite() {
        // The shortest text that reads back as the same float.
        serde_json::to_writer(into, &float).expect("a vector takes every byte");
    } else if float.is_nan() {
        into.extend(br#""NaN""#);
    } else {
        into.extend(if float > 0.0 { br#""Infinity""#.as_slice() } else { br#""-Infinity""# });
    }
}

fn write_key(into: &mut Vec<u8>, idx: usize, key: &str) {
    write_comma(into, idx);
    write_text(into, key);
    into.push(b':');
}

fn write_comma(into: &mut Vec<u8>, idx: usize) {
    if idx > 0 {
        into.push(b',');
    }
}

fn write_text(into: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(into, text).expect("a vector takes every byte, and a text is a JSON string");
}

fn write_hex(into: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    into.push(b'"');
    into.extend(bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]));
    into.push(b'"');
}

fn put(into: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    into.write_fmt(text).expect("a vector takes every byte");
}

#[cfg(test)]
mod tests {
    use fluxrig_actors::protocol::{EntityId, FluxId, Int, Trace};

    use super::*;

    fn line(change: impl FnOnce(&mut FluxMsg)) -> String {
        let mut msg = FluxMsg::new(FluxId::NIL, Trace::default(), EntityId::NIL, -1);
        change(&mut msg);
        let mut line = Vec::new();
        write(&mut line, &msg, false);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn an_empty_message_has_its_four_keys() {
        let nil = "00000000-0000-0000-0000-000000000000";
        assert_eq!(line(|_| ()), format!("{{\"id\":\"{nil}\",\"ts\":-1,\"meta\":{{}},\"data\":{{}}}}\n"));
    }

    #[test]
    fn every_kind_of_value_has_one_text() {
        let least = Int::try_from(-(1i128 << 64)).unwrap();
        let values: Vec<Value> = vec![
            Value::Null,
            true.into(),
            least.into(),
            u64::MAX.into(),
            1.0.into(),
            0.1.into(),
            (-0.0).into(),
            f64::NAN.into(),
            f64::INFINITY.into(),
            f64::NEG_INFINITY.into(),
            "a\"\n\u{1f980}".into(),
            (&[0x00, 0xab, 0xff]).into(),
            vec![Value::Null].into(),
            Map::default().into(),
        ];
        let line = line(|msg| drop(msg.data.insert_key("all", values)));
        let all = r#"[null,true,-18446744073709551616,18446744073709551615,1.0,0.1,-0.0,"NaN","Infinity","-Infinity","a\"\n🦀","00abff",[null],{}]"#;
        assert!(line.contains(&format!(r#""data":{{"all":{all}}}"#)), "{line}");
        assert_eq!(line.matches('\n').count(), 1, "a line end inside a text is escaped");
    }

    #[test]
    fn keys_stand_in_one_order_whoever_set_them_first() {
        let keys = ["b", "aa", "a"];
        let one = line(|msg| keys.iter().for_each(|&key| drop(msg.data.insert_key(key, key))));
        let other = line(|msg| keys.iter().rev().for_each(|&key| drop(msg.data.insert_key(key, key))));
        assert!(one.contains(r#""data":{"a":"a","b":"b","aa":"aa"}"#), "{one}");
        assert_eq!(one, other);
    }

    #[test]
    fn optional_keys_stand_in_their_places() {
        let mut msg = FluxMsg::new(FluxId::NIL, Trace::default(), EntityId::NIL, 7);
        msg.reference = Some(FluxId::NIL);
        msg.raw = Some(vec![1, 2].into());
        let mut line = Vec::new();
        write(&mut line, &msg, true);
        let line = String::from_utf8(line).unwrap();
        let keys: Vec<usize> =
            ["\"id\":", "\"ts\":", "\"ref\":", "\"meta\":", "\"data\":", "\"raw\":\"0102\"", "\"repeat\":true"]
                .iter()
                .map(|key| line.find(key).unwrap())
                .collect();
        assert!(keys.is_sorted(), "{line}");
    }
}
