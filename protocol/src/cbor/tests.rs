//! Tests of forms: every sixteen-bit float, the edges of every integer width, and memory under hostile claims.
//! The second opinion is another codec's.

use super::*;
use crate::{Limits, Map, Value};

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode_into(&mut out);
    out
}

#[test]
fn every_half_float_is_itself() {
    for half in 0..=u16::MAX {
        let [high, low] = half.to_be_bytes();
        let other: f32 = minicbor::decode::Decoder::new(&[0xf9, high, low]).f16().unwrap();
        match Value::decode(&[0xf9, high, low], &Limits::default()) {
            Ok(value) => {
                let ours = value.as_number().unwrap();
                assert!(ours == f64::from(other) || (ours.is_nan() && other.is_nan()), "{half:04x}");
                assert_eq!(encoded(&value), [0xf9, high, low]);
                // The same value in a longer form is refused.
                let long = [[0xfb].as_slice(), &ours.to_bits().to_be_bytes()].concat();
                assert!(Value::decode(&long, &Limits::default()).is_err());
            }
            Err(error) => {
                assert_eq!(error.fault, Fault::OtherNan);
                assert!(other.is_nan(), "{half:04x}");
            }
        }
    }
}

#[test]
fn floats_are_as_short_as_they_can_be() {
    for (value, width) in [
        (65_504.0, 3),
        (65_505.0, 5),
        (65_536.0, 5),
        (2f64.powi(-24), 3),
        (2f64.powi(-25), 5),
        (3.0 * 2f64.powi(-24), 3),
        (3.0 * 2f64.powi(-25), 5),
        (1.0 + 2f64.powi(-10), 3),
        (1.0 + 2f64.powi(-11), 5),
        (1.0 + 2f64.powi(-23), 5),
        (1.0 + 2f64.powi(-24), 9),
        (2f64.powi(-149), 5),
        (2f64.powi(-150), 9),
        (f64::MAX, 9),
        (f64::NEG_INFINITY, 3),
    ] {
        let bytes = encoded(&value.into());
        assert_eq!(bytes.len(), width, "{value}");
        assert_eq!(minicbor::Decoder::new(&bytes).f64().unwrap().to_bits(), value.to_bits());
    }
}

#[test]
fn head_lengths_are_what_is_written() {
    for number in [0, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX] {
        let mut out = Vec::new();
        head(&mut out, UNSIGNED, number);
        assert_eq!(out.len(), head_len(number));
        assert_eq!(minicbor::decode::<u64>(&out).unwrap(), number);
    }
}

/// Arrays within arrays, each claiming as many elements as bytes are left: 32 times 2 Mi elements, were they believed.
#[test]
fn nested_claims_take_no_memory_on_credit() {
    let mut bytes = Vec::new();
    for _ in 0..Limits::MAX.depth {
        head(&mut bytes, ARRAY, 2_000_000);
    }
    bytes.resize(Limits::MAX.encoded_bytes, 0x9f);
    assert!(matches!(Value::decode(&bytes, &Limits::default()).unwrap_err().fault, Fault::Indefinite { .. }));
}

#[test]
fn a_measure_is_the_size_of_the_encoding() {
    let map: Map =
        [("", Value::Null), ("deep", vec![Value::from(vec![Value::from(1.5)])].into()), ("key", "text".into())]
            .into_iter()
            .collect();
    let mut measure = Measure::default();
    measure.map(&map, 1);
    let bytes = encoded(&map.into());
    assert_eq!(measure, Measure { bytes: bytes.len(), depth: 3, entries: 3, key_bytes: 4 });
}

#[test]
fn a_value_of_any_depth_can_be_measured() {
    let deep = (0..5_000).fold(Value::Null, |inner, _| vec![inner].into());
    let mut measure = Measure::default();
    measure.value(&deep, 0);
    assert_eq!(measure.depth, Limits::MAX.depth + 1);
}
