//! Tests of the message as a shared value: what is remembered, what is forgotten, and what a change copies.
//! `msg` is a message with content; the wire format is tested in `tests/it`.

use expect_test::expect;

use super::*;
use crate::{DecodeError, Fault, Value};

fn msg() -> FluxMsg {
    let mut msg = FluxMsg::new(FluxId::v7(1_700_000_000_000, [1; 10]), Trace::default(), EntityId(4 << 56), 7);
    msg.data.set(&"card.pan".parse().unwrap(), "4000001234567899").unwrap();
    msg.meta.set("site", "N1");
    msg
}

fn hop() -> Hop {
    Hop { gear: EntityId(4 << 56), ts: 8 }
}

fn pointer(msg: &FluxMsg) -> *const u8 {
    msg.encoded(&Limits::default()).unwrap().as_ptr()
}

#[test]
fn a_version_is_encoded_once() {
    let mut msg = msg();
    let copy = msg.clone();
    assert_eq!(pointer(&msg), pointer(&copy), "copies share the encoding");
    let shared = msg.encoded_shared(&Limits::default()).unwrap();
    assert_eq!(shared.as_ptr(), pointer(&msg));
    msg.ts += 1;
    assert_ne!(shared, msg.encoded_shared(&Limits::default()).unwrap());
    assert_eq!(shared.as_ptr(), pointer(&copy), "the old version keeps its own");
}

#[test]
fn an_encoding_takes_exactly_its_bytes() {
    let mut msg = msg();
    for step in 0..20u64 {
        msg.stamp(FluxId::NIL, EntityId(step << (3 * step)), Hop { gear: EntityId(1 << (3 * step)), ts: -(1 << step) });
        msg.expires = (step % 2 == 0).then_some(1 << (3 * step));
        msg.reference = (step % 3 == 0).then_some(FluxId::NIL);
        msg.raw = (step % 4 == 0).then(|| vec![0; step as usize * 20].into());
        msg.return_to = (step % 5 == 0).then(Bytes::new);
        let content = msg.measure().bytes;
        assert_eq!(msg.encoded(&Limits::default()).unwrap().len(), content + msg.envelope_len());
    }
}

#[test]
fn a_stamp_shares_the_content_and_keeps_its_check() {
    let msg = msg();
    assert_eq!(msg.check(&Limits::default()), Ok(()));
    let mut stamped = msg.clone();
    stamped.stamp(FluxId::derived([9; 16]), EntityId(5), hop());
    assert!(!stamped.ptr_eq(&msg));
    assert_eq!((stamped.path.len(), msg.path.len()), (1, 0));
    assert_eq!((stamped.id, stamped.src), (FluxId::derived([9; 16]), EntityId(5)));
    assert!(stamped.0.measured.get().is_some() && stamped.0.encoded.get().is_none());
    assert_eq!(stamped.data.entries().as_ptr(), msg.data.entries().as_ptr());
    // A message nobody else holds is stamped in place.
    let before = Arc::as_ptr(&stamped.0);
    stamped.stamp(FluxId::NIL, EntityId(6), hop());
    assert_eq!(Arc::as_ptr(&stamped.0), before);
}

#[test]
fn a_change_of_content_forgets_the_check() {
    let mut msg = msg();
    let limits = Limits { key_bytes: 8, ..Limits::default() };
    assert_eq!(msg.check(&limits), Ok(()));
    msg.data.insert_key("a_long_key", 1);
    assert!(msg.check(&limits).is_err());
}

#[test]
fn flags_are_set_without_a_copy_when_they_are_set_already() {
    let msg = msg().with_flags(Flags::PROBE);
    let mut copy = msg.clone();
    copy.set_flags(Flags::PROBE);
    assert!(copy.ptr_eq(&msg));
    copy.set_flags(copy.flags.with(Flags::MAYBE_SENT).without(Flags::PROBE));
    assert_eq!((copy.flags, msg.flags), (Flags::MAYBE_SENT, Flags::PROBE));
    assert_eq!(Flags::from_bits(6), Err(ReservedFlags { bits: 4 }));
}

#[test]
fn no_stamp_can_break_a_checked_size() {
    let limits = Limits { encoded_bytes: 4096, hops: 20, ..Limits::default() };
    let mut msg = msg();
    let room = limits.encoded_bytes - limits.reserved_bytes() - msg.measure().bytes;
    msg.raw = Some(vec![0; room - 3].into());
    assert_eq!(msg.check(&limits), Ok(()));
    msg.expires = Some(i64::MIN);
    msg.reference = Some(FluxId::NIL);
    assert_eq!(msg.check(&limits), Ok(()));
    for _ in 0..limits.hops {
        msg.stamp(FluxId::NIL, EntityId(u64::MAX), Hop { gear: EntityId(u64::MAX), ts: i64::MIN });
        assert_eq!(msg.check(&limits), Ok(()));
    }
    assert!(msg.encoded(&limits).unwrap().len() <= limits.encoded_bytes);
    msg.stamp(FluxId::NIL, EntityId(0), hop());
    assert_eq!(msg.check(&limits), Err(LimitError::Hops { found: 21, limit: 20 }));
    msg.path.clear();
    msg.raw = Some(vec![0; room].into());
    assert!(matches!(msg.check(&limits), Err(LimitError::EncodedBytes { .. })));
}

#[test]
fn the_largest_message_is_read_and_one_byte_more_refused() {
    let limits = Limits::default();
    let mut msg = FluxMsg::new(FluxId::NIL, Trace::default(), EntityId::NIL, 0);
    let room = limits.encoded_bytes - limits.reserved_bytes() - msg.measure().bytes - 5;
    msg.raw = Some(vec![0; room].into());
    let bytes = msg.encoded(&limits).unwrap();
    assert!(FluxMsg::decode(bytes, &limits).is_ok());
    msg.raw = Some(vec![0; room + 1].into());
    assert!(msg.encoded(&limits).is_err());
    let mut bytes = Vec::new();
    msg.encode_into(&mut bytes);
    let refused = FluxMsg::decode(&bytes, &limits).unwrap_err();
    assert!(matches!(refused.fault, Fault::Limit(LimitError::EncodedBytes { .. })), "{refused}");
    let over = vec![0xa0; limits.encoded_bytes + 1];
    assert!(matches!(FluxMsg::decode(&over, &limits), Err(DecodeError { at: 0, .. })));
}

#[test]
fn limits_that_were_never_validated_cannot_exhaust_the_stack() {
    let wild = Limits {
        encoded_bytes: usize::MAX,
        hops: usize::MAX,
        depth: usize::MAX,
        map_entries: usize::MAX,
        key_bytes: usize::MAX,
    };
    assert!(wild.validate().is_err());
    assert_eq!(msg().check(&wild), Ok(()));
    let mut deep = msg();
    deep.data.insert_key("deep", (0..5_000).fold(Value::Null, |inner, _| vec![inner].into()));
    assert!(matches!(deep.check(&wild), Err(LimitError::Depth { limit: 32, .. })));
    let mut bytes = Vec::new();
    Value::from(vec![0x81; 100_000]).encode_into(&mut bytes);
    assert!(matches!(Value::decode(&bytes[5..], &wild).unwrap_err().fault, Fault::Limit(LimitError::Depth { .. })));
}

#[test]
fn limits_name_the_place() {
    let low = Limits { depth: 2, map_entries: 2, key_bytes: 8, ..Limits::default() };
    let error = |change: &dyn Fn(&mut FluxMsg)| {
        let mut msg = msg();
        change(&mut msg);
        msg.encoded(&low).unwrap_err().to_string()
    };
    expect!["`data.card.list` is nested deeper than the limit of 2 levels; remedy: flatten the value"]
        .assert_eq(&error(&|msg| msg.data.set(&"card.list".parse().unwrap(), Vec::<Value>::new()).unwrap()));
    expect!["`data.card.more` is nested deeper than the limit of 2 levels; remedy: flatten the value"]
        .assert_eq(&error(&|msg| msg.data.set(&"card.more.yet".parse().unwrap(), 1).unwrap()));
    expect!["`data.card` has 3 entries, the limit is 2; remedy: use an array, or several messages"].assert_eq(&error(
        &|msg| {
            for key in ["card.a", "card.b"] {
                msg.data.set(&key.parse().unwrap(), 1).unwrap();
            }
        },
    ));
    expect!["`meta` has a key of 10 bytes, the limit is 8; remedy: put long texts into values"]
        .assert_eq(&error(&|msg| drop(msg.meta.set("a_long_key", ""))));
    expect!["`data` has a key of 10 bytes, the limit is 8; remedy: put long texts into values"]
        .assert_eq(&error(&|msg| drop(msg.data.insert_key("a_long_key", 1))));
    expect!["`meta` has 3 entries, the limit is 2; remedy: use an array, or several messages"].assert_eq(&error(
        &|msg| {
            msg.meta.set("a", "");
            msg.meta.set("b", "");
        },
    ));
    expect!["`path` has 65 hops, the limit is 64; remedy: look for a loop in the wires"]
        .assert_eq(&error(&|msg| msg.path = std::iter::repeat_n(hop(), 65).collect()));
    expect!["flags 0x4 are reserved, expected only bits 0 and 1; remedy: update this node, or clear them"]
        .assert_eq(&Flags::from_bits(4).unwrap_err().to_string());
}

#[test]
fn a_long_raw_of_shared_input_is_a_slice_of_it() {
    let mut msg = msg();
    msg.raw = Some(vec![7; 300].into());
    msg.return_to = Some(vec![8; 10].into());
    let input = msg.encoded_shared(&Limits::default()).unwrap();
    let read = FluxMsg::decode_shared(&input, &Limits::default()).unwrap();
    let raw = read.raw.as_ref().unwrap();
    assert!(input.as_ptr_range().contains(&raw.as_ptr()));
    let short = read.return_to.as_ref().unwrap();
    assert!(!input.as_ptr_range().contains(&short.as_ptr()), "ten bytes must not keep all the input");
    assert_eq!(read, msg);
}

#[test]
fn what_is_printed_holds_no_value() {
    let mut msg = msg();
    msg.raw = Some(b"4000001234567899".as_slice().into());
    msg.set_flags(Flags::MAYBE_SENT);
    expect![[r#"FluxMsg { id: 018bcfe5-6800-7101-8101-010101010101, src: 0400000000000000, ts: 7, meta: {"site": text(2)}, data: {"card": {"pan": text(16)}}, raw: bytes(16), path: hops(0), flags: ["maybe sent"] }"#]]
    .assert_eq(&format!("{msg}"));
    assert!(!format!("{msg:#?}").contains("4000001234"));
}

#[test]
fn messages_travel_between_threads() {
    fn travels<T: Send + Sync + 'static>() {}
    travels::<FluxMsg>();
    travels::<Body>();
    travels::<Value>();
}

#[test]
fn a_stamp_in_place_forgets_the_encoding() {
    let mut msg = msg();
    let before = msg.encoded(&Limits::default()).unwrap().to_vec();
    msg.stamp(FluxId::NIL, EntityId(6), hop());
    let after = msg.encoded(&Limits::default()).unwrap();
    assert_ne!(after, before);
    assert_eq!(FluxMsg::decode(after, &Limits::default()).unwrap(), msg);
    msg.set_flags(Flags::PROBE);
    assert_eq!(FluxMsg::decode(msg.encoded(&Limits::default()).unwrap(), &Limits::default()).unwrap(), msg);
}

/// Fields of later versions count like our own, whether a message was just read or measured afresh.
#[test]
fn fields_of_later_versions_are_within_limits_too() {
    let mut bytes = Vec::new();
    FluxMsg::new(FluxId::NIL, Trace::default(), EntityId::NIL, 0).encode_into(&mut bytes);
    // Three fields more: {"a_long_key": [[1]], 5: 0} and two numbers.
    bytes[0] += 3;
    bytes.extend_from_slice(b"\x0c\xa2\x05\x00\x6aa_long_key\x81\x81\x01\x0d\x00\x0e\x00");
    let read = FluxMsg::decode(&bytes, &Limits::default()).unwrap();
    assert_eq!((read.unknown.len(), read.unknown.is_empty()), (3, false));
    assert_eq!(format!("{:?}", read.unknown), "fields(3) bytes(22)");
    let mut afresh = read.clone();
    afresh.ts += 1;
    let check = |low: Limits, expected: expect_test::Expect| {
        let error = read.check(&low).unwrap_err();
        assert_eq!(afresh.check(&low), Err(error.clone()));
        assert!(FluxMsg::decode(&bytes, &low).is_err());
        expected.assert_eq(&error.to_string());
    };
    let max = Limits::MAX;
    check(
        Limits { depth: 2, ..max },
        expect!["`unknown` is nested deeper than the limit of 2 levels; remedy: flatten the value"],
    );
    check(
        Limits { map_entries: 2, ..max },
        expect!["`unknown` has 3 entries, the limit is 2; remedy: use an array, or several messages"],
    );
    check(
        Limits { key_bytes: 10, ..max },
        expect!["`unknown` has a key of 11 bytes, the limit is 10; remedy: put long texts into values"],
    );
    let (fits, over) = (max.reserved_bytes() + 24, max.reserved_bytes() + 23);
    assert_eq!(read.check(&Limits { encoded_bytes: fits, ..max }), Ok(()));
    assert_eq!(afresh.check(&Limits { encoded_bytes: fits, ..max }), Ok(()));
    check(
        Limits { encoded_bytes: over, ..max },
        expect![
            "the message takes 1364 bytes (hops and numbers at full size), the limit is 1363; remedy: send bulk data by reference"
        ],
    );
    // What our own fields measured is not lost over it.
    let mut bytes = Vec::new();
    let mut own = FluxMsg::new(FluxId::NIL, Trace::default(), EntityId::NIL, 0);
    own.data.insert_key("a_key_that_is_longer", 1);
    own.encode_into(&mut bytes);
    bytes[0] += 1;
    bytes.extend_from_slice(b"\x0c\x00");
    let read = FluxMsg::decode(&bytes, &max).unwrap();
    assert_eq!(
        read.check(&Limits { key_bytes: 15, ..max }),
        Err(LimitError::KeyBytes { at: "data".into(), found: 20, limit: 15 })
    );
}

/// What a hop costs is mostly the copy of this: a field more is a decision.
#[test]
fn a_message_stays_small() {
    assert!(size_of::<super::Inner>() <= 416, "{} bytes", size_of::<super::Inner>());
}

/// Each setter leaves behind what a walk over the whole content would find.
/// A map of so many texts, in a map.
fn wide(entries: usize) -> Map {
    let inner: Map = (0..entries).map(|idx| (format!("f{idx}"), "text")).collect();
    Map::from_iter([("inner", inner)])
}

#[test]
fn setters_keep_the_measure_as_a_walk_would_take_it() {
    type Step = (&'static str, fn(&mut FluxMsg));
    let long = || SmolStr::from("x".repeat(300));
    let steps: [Step; 18] = [
        ("reference", |msg| msg.set_reference(Some(FluxId([7; 16])))),
        ("trace", |msg| msg.set_trace(Trace { flags: 1, ..Trace::default() })),
        ("expires", |msg| msg.set_expires(Some(i64::MAX))),
        ("return", |msg| msg.set_return_to(Some(Bytes::from_static(&[1; 24])))),
        ("another return", |msg| msg.set_return_to(Some(Bytes::from_static(&[1; 23])))),
        ("no return", |msg| msg.set_return_to(None)),
        ("meta", |msg| msg.set_meta("a key that is longer than any other", "")),
        ("meta again", |msg| msg.set_meta("a key that is longer than any other", "x".repeat(300))),
        ("meta once more", |msg| msg.set_meta("a key that is longer than any other", "y")),
        ("many", |msg| (0..30).for_each(|idx| msg.set_meta(format!("k{idx}"), "text"))),
        ("raw", |msg| msg.set_raw(Some(Bytes::from_static(&[1; 300])))),
        ("other raw", |msg| msg.set_raw(Some(Bytes::from_static(&[1; 23])))),
        ("no raw", |msg| msg.set_raw(None)),
        ("data", |msg| msg.set_data("a number", 7)),
        ("data again", |msg| msg.set_data("a number", "a text that is longer than a number")),
        ("a map", |msg| msg.set_data("a map", wide(40))),
        ("a smaller map", |msg| msg.set_data("a map", wide(2))),
        ("much data", |msg| (0..30).for_each(|idx| msg.set_data(format!("k{idx}"), vec![Value::Null]))),
    ];
    let empty = || FluxMsg::new(FluxId::NIL, Trace::default(), EntityId::NIL, 0);
    for (mut msg, is_shared) in [(msg(), false), (msg(), true), (empty(), false), (empty(), true)] {
        msg.data.insert_key("long", long());
        msg.content_bytes();
        for (name, step) in steps {
            let before = FluxMsg::from((*msg).clone());
            msg.encoded(&Limits::default()).unwrap();
            let held = is_shared.then(|| msg.clone());
            step(&mut msg);
            assert!(held.is_none_or(|held| held == before), "{name}");
            // A map that is replaced is the one case in which nothing is known afterwards.
            assert_eq!(msg.0.measured.get().is_none(), name == "a smaller map", "{name}");
            msg.content_bytes();
            assert_eq!(msg.0.measured.get(), Some(msg.0.body.measure()), "{name}");
            assert!(msg != before && msg.0.encoded.get().is_none(), "{name}");
        }
    }
}
