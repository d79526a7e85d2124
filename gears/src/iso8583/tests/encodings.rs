//! Encodings, padding and prefixes that specs of one's own may use, byte for byte.

use fluxrig_actors::protocol::{Map, Value};

use crate::iso8583::Spec;

/// A spec with one field.
fn spec(field: &str) -> Spec {
    let text = format!("name: x\nversion: \"1\"\nmti: bcd\nbitmap: binary\nfields:\n  2: {{ name: it, {field} }}\n");
    Spec::read("x.yaml", &text).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The field's bytes; they must be read as `read`, or as what was written.
fn check(field: &str, value: impl Into<Value>, read: Option<&str>) -> Vec<u8> {
    let (spec, value) = (spec(field), value.into());
    let fields: Map = [("2", value.clone())].into_iter().collect();
    let bytes = spec.encode("0200", &fields).unwrap();
    let found = spec.decode(&bytes).unwrap();
    assert!(*found.fields.get_key("2").unwrap() == read.map_or(value, Value::from), "{field}");
    bytes[10..].to_vec()
}

/// What is wrong with these bytes of the field.
fn refused(field: &str, bytes: &[u8]) -> String {
    let message = [b"\x02\x00\x40\0\0\0\0\0\0\0".as_slice(), bytes].concat();
    spec(field).decode(&message).unwrap_err().to_string()
}

#[test]
fn a_short_value_of_a_fixed_length_is_filled_up() {
    assert_eq!(check("kind: n, length: 6", "12", Some("000012")), b"000012");
    assert_eq!(check("kind: n, length: 6, pad: right 0", "12", Some("120000")), b"120000");
    assert_eq!(check("kind: ans, length: 6", "AB", Some("AB    ")), b"AB    ");
    assert_eq!(check("kind: an, length: 6, pad: left space", "AB", Some("    AB")), b"    AB");
    assert_eq!(check("kind: n, length: 5, data: bcd", "12", Some("00012")), b"\x00\x00\x12");
}

#[test]
fn digits_are_packed_with_their_filler() {
    assert_eq!(check("kind: n, length: 3, data: bcd", "003", None), b"\x00\x03");
    assert_eq!(check("kind: n, length: 3, data: bcd, pad: right 0", "003", None), b"\x00\x30");
    assert_eq!(check("kind: n, length: 3, data: bcd, pad: right F", "003", None), b"\x00\x3f");
    assert_eq!(check("kind: x+n, length: 8, data: bcd", "C00000012", None), b"C\x00\x00\x00\x12");
    assert_eq!(check("kind: x+n, length: 3, data: bcd", "D123", None), b"D\x01\x23");
    assert_eq!(check("kind: z, length: LL, data: bcd", "12=3", None), b"04\x12\xd3");
    assert_eq!(check("kind: z, length: LL, data: bcd", "12D", Some("12=")), b"03\x12\xdf");
}

#[test]
fn prefixes_are_written_and_count_as_the_spec_says() {
    assert_eq!(check("kind: ans, length: LL", "AB", None), b"02AB");
    assert_eq!(check("kind: ans, length: LLL", "AB", None), b"002AB");
    assert_eq!(check("kind: ans, length: LLLL", "AB", None), b"0002AB");
    assert_eq!(check("kind: ans, length: LL, prefix: bcd", "ABCDEFGHIJKL", None), b"\x12ABCDEFGHIJKL");
    assert_eq!(check("kind: ans, length: LLL, prefix: bcd", "ABCDEFGHIJKL", None), b"\x00\x12ABCDEFGHIJKL");
    assert_eq!(check("kind: ans, length: LL, prefix: binary", "ABCDEFGHIJKL", None), b"\x0cABCDEFGHIJKL");
    assert_eq!(check("kind: ans, length: LLL, prefix: binary", "AB", None), b"\x00\x02AB");
    let long = "A".repeat(300);
    assert_eq!(check("kind: ans, length: LLL, prefix: binary", long.as_str(), None)[..3], *b"\x01\x2cA");
    assert_eq!(check("kind: n, length: LL, prefix: bcd, data: bcd", "123", None), b"\x03\x01\x23");
    assert_eq!(check("kind: n, length: LL, prefix: bcd, data: bcd, counts: bytes", "1234", None), b"\x02\x12\x34");
}

#[test]
fn a_prefix_that_counts_bytes_leaves_it_to_the_filler_to_say_what_is_odd() {
    let right = "kind: n, length: LL, max: 19, data: bcd, counts: bytes, pad: right F";
    assert_eq!(check(right, "123", None), b"02\x12\x3f");
    assert_eq!(check(right, "1234567890123456789", None).len(), 12);
    let left = "kind: n, length: LL, max: 19, data: bcd, counts: bytes";
    // A zero in front does not say that it only fills up, but beyond the longest value it can be nothing else.
    assert_eq!(check(left, "123", Some("0123")), b"02\x01\x23");
    assert_eq!(check(left, "1234567890123456789", None).len(), 12);
}

#[test]
fn byte_strings_are_bytes_or_hex() {
    let bytes = [0_u8, 0xab, 255];
    assert_eq!(check("kind: b, length: 3", &bytes, None), bytes);
    assert_eq!(check("kind: b, length: 3, data: hex", &bytes, None), b"00ABFF");
    assert_eq!(check("kind: b, length: LL, data: hex", &bytes, None), b"0600ABFF");
    assert_eq!(check("kind: b, length: LL, data: hex, counts: bytes", &bytes, None), b"0300ABFF");
    let long = vec![7_u8; 200];
    assert_eq!(check("kind: b, length: LLL, data: binary", long, None).len(), 203);
}

#[test]
fn bytes_that_are_not_as_the_spec_says_are_refused() {
    let errors = [
        refused("kind: n, length: 3, data: bcd", b"\x10\x03"),
        refused("kind: n, length: 3, data: bcd", b"\x00\x0a"),
        refused("kind: n, length: 3, data: bcd, pad: right F", b"\x00\x30"),
        refused("kind: n, length: LL", b"1x2"),
        refused("kind: n, length: LL, prefix: bcd", b"\x1a2"),
        refused("kind: b, length: LL, data: hex", b"03ABC"),
        refused("kind: b, length: 2, data: hex", b"00xx"),
        refused("kind: x+n, length: 2", b"X12"),
        refused("kind: a, length: 2", b"A1"),
        refused("kind: n, length: 2", b"1"),
        refused("kind: n, length: 2, data: bcd", b""),
        refused("kind: ans, length: 2", b"\xc3\xa4"),
    ];
    expect_test::expect![[r#"
        field 2 at byte 10: found another half byte beside an odd number of digits, expected `0`; remedy: set `pad`
        field 2 at byte 10: found a character that is none of kind `n`; remedy: compare the spec with the peer's
        field 2 at byte 11: found another half byte beside an odd number of digits, expected `F`; remedy: set `pad`
        field 2 at byte 10: found a length that is no number, expected digits as text; remedy: compare the spec with the peer's
        field 2 at byte 10: found a length that is no number, expected packed digits; remedy: compare the spec with the peer's
        field 2 at byte 10: found a length of 3 hex characters, expected an even number; remedy: set `counts: bytes`
        field 2 at byte 12: found a character that is none of kind `hex`; remedy: compare the spec with the peer's
        field 2 at byte 10: found a character that is none of kind `x+n`; remedy: compare the spec with the peer's
        field 2 at byte 11: found a character that is none of kind `a`; remedy: compare the spec with the peer's
        field 2 at byte 10: found 1 bytes, expected 2; remedy: compare the spec and the framing with the peer's
        field 2 at byte 10: found 0 bytes, expected 1; remedy: compare the spec and the framing with the peer's
        field 2 at byte 10: found a character that is none of kind `ans`; remedy: compare the spec with the peer's"#]].assert_eq(&errors.join("\n"));
    let text = |bytes: &[u8]| spec("kind: n, length: 2").decode(bytes).unwrap_err().to_string();
    let errors = [
        text(b""),
        text(b"\x02\x0a\x40\0\0\0\0\0\0\0"),
        text(b"\x02\x00\x40"),
        text(b"\x02\x00\xc0\0\0\0\0\0\0\0\x80"),
        text(b"\x02\x00\x80\0\0\0\0\0\0\0\x80\0\0\0\0\0\0\0"),
        text(b"\x02\x00\x20\0\0\0\0\0\0\0"),
        text(b"\x02\x00\0\0\0\0\0\0\0\0\0"),
    ];
    expect_test::expect![[r#"
        message type at byte 0: found 0 bytes, expected 2; remedy: compare the spec and the framing with the peer's
        message type at byte 0: found a character that is none of kind `n`; remedy: compare the spec with the peer's
        bitmap at byte 2: found 1 bytes, expected 8; remedy: compare the spec and the framing with the peer's
        second bitmap at byte 10: found 1 bytes, expected 8; remedy: compare the spec and the framing with the peer's
        field 65 at byte 18: found a third bitmap announced, expected two at most; remedy: leave out the fields above 128
        field 3 at byte 10: found this field announced, expected one of the spec's; remedy: add it to the spec
        end at byte 10: found 1 bytes after the last field, expected none; remedy: compare the spec with the peer's"#]].assert_eq(&errors.join("\n"));
}
