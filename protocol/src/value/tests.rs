//! Tests of values: their size, their conversions, and that equality is the equality of encodings.
//! Sizes are part of the design: an entry of a map is 48 bytes because a value is 24.

use super::*;

#[test]
fn a_value_takes_24_bytes() {
    assert_eq!(size_of::<Value>(), 24);
    assert_eq!(size_of::<Blob>(), 16);
    assert_eq!(size_of::<Map>(), 8);
    assert_eq!(size_of::<(SmolStr, Value)>(), 48);
    assert_eq!(size_of::<crate::FluxMsg>(), 8);
}

#[test]
fn integers_keep_their_value_in_every_type() {
    for n in [0, 1, -1, i64::MAX, i64::MIN] {
        let int = Int::from(n);
        assert_eq!(i64::try_from(int), Ok(n));
        assert_eq!(i128::from(int), i128::from(n));
        assert_eq!(Int::try_from(i128::from(n)), Ok(int));
    }
    let (least, most) = (-(1i128 << 64), (1i128 << 64) - 1);
    assert_eq!(Int::try_from(least).map(i128::from), Ok(least));
    assert_eq!(Int::try_from(most).map(i128::from), Ok(most));
    assert_eq!(Int::try_from(least - 1), Err(OutOfRange));
    assert_eq!(Int::try_from(most + 1), Err(OutOfRange));
    assert_eq!(i64::try_from(Int::from(u64::MAX)), Err(OutOfRange));
    assert_eq!(i64::try_from(Int::try_from(least).unwrap()), Err(OutOfRange));
    assert_eq!(u64::try_from(Int::from(-1i64)), Err(OutOfRange));
    assert_eq!(u64::try_from(Int::from(u64::MAX)), Ok(u64::MAX));
    assert!(Int::try_from(least).unwrap() < Int::from(-1i64) && Int::from(-1i64) < Int::from(0u64));
    assert_eq!(Int::from(-7i64).to_string(), "-7");
}

#[test]
fn equal_values_have_equal_bytes_and_the_other_way_round() {
    let values: Vec<Value> = vec![
        Value::Null,
        false.into(),
        true.into(),
        0.into(),
        (-1).into(),
        0.0.into(),
        (-0.0).into(),
        f64::NAN.into(),
        f64::INFINITY.into(),
        1.into(),
        1.0.into(),
        "".into(),
        "1".into(),
        Vec::<u8>::new().into(),
        b"1".into(),
        Vec::<Value>::new().into(),
        vec![Value::Null].into(),
        Map::default().into(),
    ];
    let encoded = |value: &Value| {
        let mut out = Vec::new();
        value.encode_into(&mut out);
        out
    };
    for (i, a) in values.iter().enumerate() {
        for (k, b) in values.iter().enumerate() {
            assert_eq!(a == b, i == k, "{i} {k}");
            assert_eq!(encoded(a) == encoded(b), i == k, "{i} {k}");
        }
    }
    assert!(Value::from(f64::from_bits(0xfff8_0000_0000_0001)) == Value::from(f64::NAN));
}

#[test]
fn blobs_are_the_same_inline_and_shared() {
    for len in 0..40 {
        let bytes: Vec<u8> = (0..len).collect();
        let (copied, moved) = (Blob::from(bytes.as_slice()), Blob::from(bytes.clone()));
        assert_eq!(copied.as_slice(), bytes);
        assert_eq!(copied, moved);
        assert_eq!(format!("{copied:?}"), format!("bytes({len})"));
    }
    assert_eq!(Blob::default().as_slice(), b"");
}

#[test]
fn each_reader_reads_its_own_type() {
    let read = |value: Value| {
        (
            value.as_text().is_some(),
            value.as_bytes().is_some(),
            value.as_int().is_some(),
            value.as_bool().is_some(),
            value.as_number().is_some(),
            value.as_array().is_some(),
            value.as_map().is_some(),
        )
    };
    assert_eq!(read("a".into()), (true, false, false, false, false, false, false));
    assert_eq!(read(b"a".into()), (false, true, false, false, false, false, false));
    assert_eq!(read(1u8.into()), (false, false, true, false, true, false, false));
    assert_eq!(read(true.into()), (false, false, false, true, false, false, false));
    assert_eq!(read(1.5f32.into()), (false, false, false, false, true, false, false));
    assert_eq!(read(Vec::<Value>::new().into()), (false, false, false, false, false, true, false));
    assert_eq!(read(Map::default().into()), (false, false, false, false, false, false, true));
    assert_eq!(read(Value::Null), (false, false, false, false, false, false, false));
    assert_eq!(Value::from(-3i8).as_number(), Some(-3.0));
}
