//! The record format: what is encoded is read again, places point at the messages, hostile bytes are refused.

use bytes::Bytes;
use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::journal::{GroupAt, Image};
use crate::sample::{decode as message, msg, position};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/journal/delta-1.txt");
const AT: GroupAt = GroupAt { segment: 4, offset: 4096 };

fn encoded(deltas: &[Delta]) -> (Vec<u8>, Placed) {
    let (mut body, mut placed) = (Vec::new(), Placed::new());
    for delta in deltas {
        // A body that is away is the encoded message whose number its position carries.
        let mut read = |position: Position| {
            let mut bytes = Vec::new();
            msg(position.at.offset).encode_into(&mut bytes);
            Ok::<_, std::convert::Infallible>(Bytes::from(bytes))
        };
        encode(delta, &mut body, &mut placed, &mut read).unwrap();
    }
    (body, placed)
}

fn decoded(body: &[u8]) -> Result<Vec<Delta>, RecordError> {
    let mut deltas = Vec::new();
    decode(body, |delta| deltas.push(delta)).map(|()| deltas)
}

/// Encodes and reads again; everything must be as it was, and every place must be where its message is.
fn check(deltas: &[Delta]) {
    let (body, placed) = encoded(deltas);
    let found = decoded(&body).unwrap();
    assert_eq!(found.len(), deltas.len());
    let mut places = placed.iter();
    for (found, delta) in found.iter().zip(deltas) {
        assert_eq!((found.clock, &found.names), (delta.clock, &delta.names));
        assert_eq!(found.unclean_starts, delta.unclean_starts);
        assert_eq!(found.wires.len(), delta.wires.len());
        for (found, wire) in found.wires.iter().zip(&delta.wires) {
            assert_eq!((found.number, found.next_seq, &found.acked), (wire.number, wire.next_seq, &wire.acked));
            assert_eq!(format!("{:?}", found.marks), format!("{:?}", wire.marks));
            assert_eq!(found.births.len(), wire.births.len());
            for (found, birth) in found.births.iter().zip(&wire.births) {
                let place = places.next().unwrap();
                assert_eq!((place.wire, place.seq), (wire.number, birth.seq));
                assert_eq!(place.is_retained, birth.is_retained);
                compare_birth(&body, found, birth);
                let BirthBody::At { offset, len } = found.body else { panic!("{:?}", found.body) };
                assert_eq!((place.offset, place.len), (offset, len));
            }
        }
        for (found, gear) in found.gears.iter().zip(&delta.gears) {
            assert_eq!((found.number, found.generation), (gear.number, gear.generation));
            assert_eq!((&found.keys, &found.timers), (&gear.keys, &gear.timers));
        }
        assert_eq!(found.gears.len(), delta.gears.len());
    }
    assert!(places.next().is_none());
    Image::default().apply(&body, AT).unwrap();
}

fn compare_birth(body: &[u8], found: &Birth, birth: &Birth) {
    let state = |birth: &Birth| (birth.seq, birth.attempts, birth.is_taken, birth.is_passed, birth.is_retained);
    assert_eq!(state(found), state(birth));
    assert_eq!((&found.fault, &found.dead), (&birth.fault, &birth.dead));
    let BirthBody::At { offset, len } = found.body else { panic!("{:?}", found.body) };
    let found = message(&body[offset as usize..(offset + len) as usize]);
    match &birth.body {
        BirthBody::Msg(msg) => assert_eq!(found, *msg),
        BirthBody::Away(position) => assert_eq!(found, msg(position.at.offset)),
        BirthBody::At { .. } => panic!("not encoded"),
    }
}

fn text() -> impl Strategy<Value = SmolStr> {
    prop_oneof![Just(SmolStr::default()), "[a-z]{1,8}".prop_map(SmolStr::from), ".{0,40}".prop_map(SmolStr::from)]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        text().prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Value::from))
}

fn fault() -> impl Strategy<Value = Option<Box<Fault>>> {
    prop::option::of((text(), text()).prop_map(|(first, last)| Box::new(Fault { first, last })))
}

fn dead() -> impl Strategy<Value = Option<Arc<DeadNote>>> {
    let note = (text(), text(), text(), any::<u32>(), text(), text(), any::<i64>());
    prop::option::of(note.prop_map(|(gear, wire, reason, attempts, first, last, at_ns)| {
        Arc::new(DeadNote { gear, wire, reason, attempts, first, last, at_ns })
    }))
}

fn birth() -> impl Strategy<Value = Birth> {
    let body = prop_oneof![
        (0..1_u64 << 40).prop_map(|number| BirthBody::Msg(msg(number))),
        (0..1_u64 << 40).prop_map(|number| BirthBody::Away(position(1, number, 1))),
    ];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (any::<u64>(), any::<u32>(), flags, fault(), dead(), body).prop_map(
        |(seq, attempts, (is_taken, is_passed, is_retained), fault, dead, body)| Birth {
            seq,
            attempts,
            is_taken,
            is_passed,
            is_retained,
            fault,
            dead,
            body,
        },
    )
}

fn wire() -> impl Strategy<Value = WireDelta> {
    let acked =
        (any::<u32>(), any::<u32>()).prop_map(|(from, len)| (u64::from(from), u64::from(from) + u64::from(len)));
    let mark = (any::<u64>(), any::<u32>(), any::<bool>(), fault()).prop_map(|(seq, attempts, is_taken, fault)| Mark {
        seq,
        attempts,
        is_taken,
        fault,
    });
    (
        any::<u32>(),
        any::<u64>(),
        prop::collection::vec(acked, 0..4),
        prop::collection::vec(mark, 0..4),
        prop::collection::vec(birth(), 0..4),
    )
        .prop_map(|(number, next_seq, acked, marks, births)| WireDelta { number, next_seq, acked, marks, births })
}

fn gear() -> impl Strategy<Value = GearDelta> {
    let timer = (any::<u64>(), any::<u64>()).prop_map(|(generation, left_ns)| TimerRecord { generation, left_ns });
    (
        any::<u32>(),
        any::<u64>(),
        prop::collection::vec((text(), prop::option::of(value())), 0..4),
        prop::collection::vec((text(), prop::option::of(timer)), 0..4),
    )
        .prop_map(|(number, generation, keys, timers)| GearDelta { number, generation, keys, timers })
}

fn delta() -> impl Strategy<Value = Delta> {
    let clock = (any::<u64>(), any::<i64>(), any::<u64>(), any::<u64>())
        .prop_map(|(epoch, wall_ns, boot_id, boot_ns)| Clock { epoch, wall_ns, boot_id, boot_ns });
    let kind = prop_oneof![Just(Kind::Wire), Just(Kind::Gear)];
    let name = (any::<u32>(), kind, text(), text(), text(), any::<u64>()).prop_map(
        |(number, kind, scenario, name, variant, incarnation)| NameRecord {
            number,
            kind,
            scenario,
            name,
            variant,
            incarnation,
        },
    );
    (
        clock,
        prop::collection::vec(name, 0..3),
        prop::collection::vec(wire(), 0..3),
        prop::collection::vec(gear(), 0..3),
        prop::option::of(any::<u32>()),
    )
        .prop_map(|(clock, names, wires, gears, unclean_starts)| Delta {
            clock,
            names,
            wires,
            gears,
            unclean_starts,
        })
}

proptest! {
    #[test]
    fn what_is_encoded_is_read_again(deltas in prop::collection::vec(delta(), 0..3)) {
        check(&deltas);
    }

    #[test]
    fn hostile_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(Image::default().apply(&bytes, AT));
    }

    /// Bytes that are nearly right reach deeper than noise.
    #[test]
    fn damaged_deltas_are_refused_or_read(delta in delta(), at in any::<prop::sample::Index>(), byte in any::<u8>(), is_cut in any::<bool>()) {
        let (mut body, _) = encoded(&[delta]);
        let at = at.index(body.len());
        if is_cut {
            body.truncate(at);
            prop_assert!(at == 0 || decoded(&body).is_err(), "a delta without its end");
        } else {
            body[at] = byte;
        }
        drop(Image::default().apply(&body, AT));
    }
}

#[test]
fn what_is_not_understood_is_refused_with_its_place() {
    let bodies: [&[u8]; 11] = [
        &[0xa1, 5, 0],
        &[0x80],
        &[0xbf, 0xff],
        &[0xa1],
        &[0xa1, 0, 0x83, 1, 2, 3],
        &[0xa1, 1, 0x81, 0x86, 1, 2],
        &[0xa1, 1, 0x9f, 0xff],
        &[0xa1, 2, 0x81, 0x85, 1, 9, 0x81, 0x82, 5, 4, 0x80, 0x80],
        &[0xa1, 2, 0x81, 0x85, 1, 9, 0x80, 0x80, 0x81, 0x86, 1, 0, 8],
        &[0xa1, 3, 0x81, 0x84, 1, 9, 0x81, 0x82, 0x61, b'k', 0x41, 0xff, 0x80],
        &[0xa1, 4, 0x1b, 1, 0, 0, 0, 0, 0, 0, 0],
    ];
    let texts = bodies.map(|body| Image::default().apply(body, AT).unwrap_err().to_string());
    expect![[r#"
        journal group at byte 1 of its body: found key 5, which this version does not know; remedy: use the version that wrote it
        journal group at byte 0 of its body: found unexpected type array at position 0: expected map, expected a delta (a map); remedy: run `fluxrig journal verify`
        journal group at byte 0 of its body: found an indefinite map, expected a delta (a map); remedy: run `fluxrig journal verify`
        journal group at byte 1 of its body: found end of input bytes, expected an unsigned number; remedy: run `fluxrig journal verify`
        journal group at byte 2 of its body: found an array of 3, expected a clock of 4; remedy: run `fluxrig journal verify`
        journal group at byte 5 of its body: found kind 2, expected kind 0 or 1; remedy: run `fluxrig journal verify`
        journal group at byte 2 of its body: found an indefinite array, expected names; remedy: run `fluxrig journal verify`
        journal group at byte 8 of its body: found a range from 5 to 4, expected a range that does not end before it begins; remedy: run `fluxrig journal verify`
        journal group at byte 12 of its body: found state 8, expected a state of three bits; remedy: run `fluxrig journal verify`
        journal group at byte 10 of its body: found byte 0, the message: found byte ff, which begins no well-formed item here; remedy: check the framing before the message, expected a value; remedy: run `fluxrig journal verify`
        journal group at byte 2 of its body: found 72057594037927936 overflows target type at position 2: when converting u64 to u32, expected an unsigned number below 2^32; remedy: run `fluxrig journal verify`"#]].assert_eq(&texts.join("\n"));
}

/// Each list claims more than memory could hold; what is there is a few bytes.
#[test]
fn claims_are_not_believed() {
    let huge = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let clock: &[u8] = &[0xa2, 0, 0x84, 1, 2, 3, 4];
    let before: [&[u8]; 7] = [
        &[1],
        &[2],
        &[3],
        &[2, 0x81, 0x85, 1, 9],
        &[2, 0x81, 0x85, 1, 9, 0x80],
        &[2, 0x81, 0x85, 1, 9, 0x80, 0x80],
        &[3, 0x81, 0x84, 1, 9],
    ];
    for before in before {
        let body = [clock, before, &huge].concat();
        assert!(matches!(decoded(&body), Err(RecordError::Shape { .. })), "{before:?}");
    }
    let map = [0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert!(decoded(&map).is_err());
}

/// One of everything.
fn golden() -> Delta {
    let fault = || Some(Box::new(Fault { first: "once".into(), last: "again".into() }));
    let birth = |seq, body| Birth {
        seq,
        attempts: 0,
        is_taken: false,
        is_passed: false,
        is_retained: false,
        fault: None,
        dead: None,
        body,
    };
    let note = DeadNote {
        gear: "scale".into(),
        wire: "in.out->scale.in".into(),
        reason: "no number".into(),
        attempts: 5,
        first: "once".into(),
        last: "again".into(),
        at_ns: 1_750_000_000_000_000_001,
    };
    let name = |number, kind, name: &str, variant: &str| NameRecord {
        number,
        kind,
        scenario: "plant".into(),
        name: name.into(),
        variant: variant.into(),
        incarnation: 0x1122_3344_5566_7788,
    };
    Delta {
        clock: Clock { epoch: 300, wall_ns: 1_750_000_000_000_000_000, boot_id: 77, boot_ns: 5_000_000_000 },
        names: vec![name(1, Kind::Wire, "in.out->scale.in", "0/1"), name(2, Kind::Gear, "scale", "scale 0/1")],
        wires: vec![WireDelta {
            number: 1,
            next_seq: 9,
            acked: vec![(1, 3), (4, 5)],
            marks: vec![
                Mark { seq: 3, attempts: 2, is_taken: true, fault: fault() },
                Mark { seq: 5, attempts: 0, is_taken: false, fault: None },
            ],
            births: vec![
                Birth { is_taken: true, attempts: 1, fault: fault(), ..birth(6, BirthBody::Msg(msg(60))) },
                Birth { is_retained: true, is_passed: true, ..birth(7, BirthBody::Msg(msg(70))) },
                Birth { dead: Some(Arc::new(note)), ..birth(8, BirthBody::Away(position(1, 80, 1))) },
            ],
        }],
        gears: vec![GearDelta {
            number: 2,
            generation: 12,
            keys: vec![("sum".into(), Some(Value::from(41_u64))), ("gone".into(), None)],
            timers: vec![
                ("tick".into(), Some(TimerRecord { generation: 12, left_ns: 250_000_000 })),
                ("tock".into(), None),
            ],
        }],
        unclean_starts: Some(1),
    }
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    bytes.chunks(32).map(line).collect::<Vec<_>>().join("\n")
}

/// A change of the record format shows here: it then needs another key, and the old fixture must still be read.
#[test]
fn the_format_does_not_change_by_itself() {
    let (body, placed) = encoded(&[golden()]);
    let found = format!("{}\n\n{:#?}\n\n{placed:#?}\n", hex(&body), decoded(&body).unwrap());
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(PATH, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(PATH).unwrap());
}

#[test]
fn the_recorded_delta_is_read() {
    let text = include_str!("../../../fixtures/journal/delta-1.txt");
    let (hex, _) = text.split_once("\n\n").unwrap();
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let bytes = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let body: Vec<u8> = digits.chunks(2).map(bytes).collect();
    let found = decoded(&body).unwrap();
    let golden = golden();
    for (found, birth) in found[0].wires[0].births.iter().zip(&golden.wires[0].births) {
        compare_birth(&body, found, birth);
    }
    assert_eq!(found[0].gears[0].keys, golden.gears[0].keys);
    check(&[golden]);
}
