//! Bytes that must be refused, each with the text a person reads. Every kind of fault has a case.
//! Claims of sizes that are not there are refused before memory is taken, or these tests would not end.

use std::collections::BTreeSet;

use fluxrig_protocol::{Fault, FluxMsg, LimitError, Limits};

use crate::{
    build::{bytes, fields, head, text, whole, with, with_value, without},
    fixture,
};

#[test]
fn hostile_bytes_are_refused_with_reasons() {
    let mut kinds = BTreeSet::new();
    let cases = cases();
    for (case, bytes, limits) in &cases {
        let error = match FluxMsg::decode(bytes, limits) {
            Ok(_) => panic!("{case} was accepted"),
            Err(error) => error,
        };
        kinds.insert(kind(&error.fault));
        fixture::check("hostile", &format!("{case}.cbor"), bytes);
        fixture::check("hostile", &format!("{case}.txt"), format!("{error}\n").as_bytes());
    }
    let names: Vec<&str> = cases.iter().map(|(case, ..)| *case).collect();
    fixture::check_complete("hostile", &names);
    let all = [
        "Truncated",
        "Trailing",
        "NotShortest",
        "FloatNotShortest",
        "OtherNan",
        "Indefinite",
        "Malformed",
        "Unordered",
        "Duplicate",
        "Type",
        "Tag",
        "Simple",
        "Utf8",
        "Length",
        "Range",
        "ReservedFlags",
        "MissingKey",
        "EncodedBytes",
        "Hops",
        "Depth",
        "MapEntries",
        "KeyBytes",
    ];
    assert_eq!(kinds, BTreeSet::from(all), "each kind of fault has a case");
}

fn kind(fault: &Fault) -> &'static str {
    match fault {
        Fault::Truncated { .. } => "Truncated",
        Fault::Trailing { .. } => "Trailing",
        Fault::NotShortest { .. } => "NotShortest",
        Fault::FloatNotShortest { .. } => "FloatNotShortest",
        Fault::OtherNan => "OtherNan",
        Fault::Indefinite { .. } => "Indefinite",
        Fault::Malformed { .. } => "Malformed",
        Fault::Unordered => "Unordered",
        Fault::Duplicate => "Duplicate",
        Fault::Type { .. } => "Type",
        Fault::Tag { .. } => "Tag",
        Fault::Simple { .. } => "Simple",
        Fault::Utf8 { .. } => "Utf8",
        Fault::Length { .. } => "Length",
        Fault::Range { .. } => "Range",
        Fault::ReservedFlags { .. } => "ReservedFlags",
        Fault::MissingKey { .. } => "MissingKey",
        Fault::Limit(LimitError::EncodedBytes { .. }) => "EncodedBytes",
        Fault::Limit(LimitError::Hops { .. }) => "Hops",
        Fault::Limit(LimitError::Depth { .. }) => "Depth",
        Fault::Limit(LimitError::MapEntries { .. }) => "MapEntries",
        Fault::Limit(LimitError::KeyBytes { .. }) => "KeyBytes",
        other => panic!("{other:?} is new; remedy: give it a case and a line here"),
    }
}

fn cases() -> Vec<(&'static str, Vec<u8>, Limits)> {
    let minimal = whole(&fields());
    let two_keys = |first: &str, second: &str| [head(5, 2), text(first), text("x"), text(second), text("x")].concat();
    let unknown = |value: &[u8]| whole(&[fields(), vec![(head(0, 24), value.to_vec())]].concat());
    let swapped = |a: usize, b: usize| {
        let mut fields = fields();
        fields.swap(a, b);
        whole(&fields)
    };
    let huge = |major: u8| head(major, 1 << 62);
    vec![
        ("empty", vec![]),
        ("not_a_map", vec![0x80]),
        ("truncated_in_a_field", minimal[..30].to_vec()),
        ("truncated_in_a_head", with_value([0x19, 0x01])[..minimal.len() - 2].to_vec()),
        ("truncated_after_a_key", minimal[..1].iter().chain(&[0]).copied().collect()),
        ("trailing_byte", [minimal.as_slice(), &[0]].concat()),
        ("two_messages", [minimal.as_slice(), minimal.as_slice()].concat()),
        ("top_level_indefinite", [&[0xbf], &minimal[1..], &[0xff]].concat()),
        ("top_level_unordered", swapped(0, 1)),
        ("top_level_duplicate", whole(&[fields(), vec![(vec![9], vec![0])]].concat())),
        ("top_level_text_key", whole(&[fields(), vec![(text("a"), vec![0])]].concat())),
        ("top_level_key_not_shortest", whole(&[fields(), vec![(vec![0x18, 12], vec![0])]].concat())),
        ("top_level_head_not_shortest", [&[0xb8, 8], &minimal[1..]].concat()),
        ("unknown_before_known", whole(&[vec![(head(0, 12), vec![0])], fields()].concat())),
        ("missing_id", without(0)),
        ("missing_trace", without(2)),
        ("missing_src", without(3)),
        ("missing_ts", without(4)),
        ("missing_meta", without(5)),
        ("missing_data", without(6)),
        ("missing_path", without(8)),
        ("missing_flags", without(9)),
        ("id_of_15_bytes", with(0, bytes(15))),
        ("id_as_text", with(0, text("0123456789abcdef"))),
        ("trace_of_24_bytes", with(2, bytes(24))),
        ("src_negative", with(3, head(1, 0))),
        ("ts_beyond_int64", with(4, head(0, 1 << 63))),
        ("ts_below_int64", with(4, head(1, 1 << 63))),
        ("ts_as_float", with(4, [0xf9, 0x3c, 0x00])),
        ("meta_value_is_int", with(5, [head(5, 1), text("a"), vec![1]].concat())),
        ("meta_key_twice", with(5, two_keys("a", "a"))),
        ("data_is_array", with(6, head(4, 0))),
        ("data_key_is_int", with(6, [head(5, 1), vec![1, 1]].concat())),
        ("data_keys_unordered", with(6, two_keys("aa", "b"))),
        ("data_keys_twice", with(6, two_keys("b", "b"))),
        ("data_key_not_utf8", with(6, [head(5, 1), vec![0x61, 0xff, 0]].concat())),
        ("text_not_utf8", with_value([0x63, b'a', 0xed, 0xa0])),
        ("int_not_shortest", with_value([0x18, 23])),
        ("int_in_nine_bytes", with_value([0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])),
        ("length_not_shortest", with_value([0x78, 1, b'x'])),
        ("double_for_single", with_value([0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0])),
        ("single_for_half", with_value([0xfa, 0x3f, 0xc0, 0, 0])),
        ("nan_with_payload", with_value([0xf9, 0x7e, 0x01])),
        ("nan_as_double", with_value([0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0])),
        ("bytes_indefinite", with_value([0x5f, 0x41, 0, 0xff])),
        ("text_indefinite", with_value([0x7f, 0x61, b'a', 0xff])),
        ("array_indefinite", with_value([0x9f, 0xff])),
        ("map_indefinite", with_value([0xbf, 0xff])),
        ("break_alone", with_value([0xff])),
        ("reserved_info", with_value([0x1c])),
        ("tag_in_data", with_value([0xc1, 0x00])),
        ("bignum_in_data", with_value([0xc2, 0x41, 0x01])),
        ("undefined_in_data", with_value([0xf7])),
        ("simple_16_in_data", with_value([0xf0])),
        ("simple_255_in_data", with_value([0xf8, 0xff])),
        ("simple_24_is_malformed", with_value([0xf8, 0x18])),
        ("hop_of_three", with(8, [0x81, 0x83, 0, 0, 0])),
        ("hop_is_int", with(8, [0x81, 0])),
        ("flags_reserved", with(9, [4])),
        ("unknown_not_shortest", unknown(&[0x18, 1])),
        ("unknown_map_unordered", unknown(&[0xa2, 2, 0, 1, 0])),
        ("unknown_map_duplicate", unknown(&[0xa2, 1, 0, 1, 0])),
        ("unknown_nested_tags", unknown(&[[0xc1; 33].as_slice(), &[0]].concat())),
        ("claims_bytes", with_value(huge(2))),
        ("claims_text", with_value(huge(3))),
        ("claims_array", with_value(huge(4))),
        ("claims_map", with_value(huge(5))),
        ("claims_top_level_fields", huge(5)),
        ("claims_meta", with(5, huge(5))),
        ("claims_path", with(8, huge(4))),
        ("claims_raw", with(7, huge(2))),
        ("claims_unknown_array", unknown(&huge(4))),
        ("claims_unknown_map", unknown(&head(5, u64::MAX))),
        ("hops_65", with(8, [head(4, 65), [0x82, 0, 0].repeat(65)].concat())),
        ("depth_33", with_value([[0x81; 32].as_slice(), &[0]].concat())),
        ("key_of_257_bytes", with(6, [head(5, 1), text(&"k".repeat(257)), vec![0]].concat())),
        ("entries_4097", with(6, many_entries(4097))),
        ("unknown_fields_4097", many_unknown_fields(4097)),
    ]
    .into_iter()
    .map(|(case, bytes)| (case, bytes, Limits::default()))
    .chain([
        // Two mebibytes would make a poor fixture: these are over a limit that was lowered.
        ("over_a_lowered_size", with(7, bytes(1700)), Limits { encoded_bytes: 1600, ..Limits::default() }),
        ("no_room_left_for_hops", with(7, bytes(600)), Limits { encoded_bytes: 1600, ..Limits::default() }),
    ])
    .collect()
}

fn many_entries(count: usize) -> Vec<u8> {
    let mut map = head(5, count as u64);
    for idx in 0..count {
        map.extend_from_slice(&text(&format!("{idx:04}")));
        map.push(0);
    }
    map
}

fn many_unknown_fields(count: u64) -> Vec<u8> {
    let later = (12..12 + count).map(|key| (head(0, key), vec![0]));
    whole(&fields().into_iter().chain(later).collect::<Vec<_>>())
}
