//! Records: what was written is read, and nothing else is, whatever the bytes.

use proptest::prelude::*;

use super::*;
use crate::tests::harness;

fn layouts(keep: &[&str]) -> Layouts {
    let places = |list: &[&str]| list.iter().map(|path| path.parse().unwrap()).collect::<Vec<Place>>();
    let key = places(&["data.iso8583.11"]);
    Layouts { request: Places::new(&key, places(keep)), answer: Places::new(&key, places(&["data.iso8583.39"])) }
}

fn message() -> FluxMsg {
    let mut msg = harness::msg(7);
    msg.trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    msg.return_to = Some(Bytes::from_static(b"conn"));
    let values = [("11", Value::from("000042")), ("39", "00".into()), ("4", 100u64.into()), ("64", b"\x01\x02".into())];
    for (field, value) in values.into_iter().chain([("5", true.into()), ("6", (-1i64).into())]) {
        msg.data.set(&format!("iso8583.{field}").parse().unwrap(), value).unwrap();
    }
    msg
}

fn record(layouts: &Layouts, msg: &FluxMsg) -> Blob {
    let seen = layouts.request.look(msg, &mut Trail::default());
    let opening = Opening { msg, seen: &seen, mti: Some(*b"0200"), expires: 99, destination: "host_a" };
    open(&opening, &layouts.request)
}

#[test]
fn what_was_written_is_read() {
    let keep = ["data.iso8583.4", "data.iso8583.5", "data.iso8583.6", "data.iso8583.64", "data.iso8583.2"];
    let (layouts, msg) = (layouts(&keep), message());
    let bytes = record(&layouts, &msg);
    let Some(Record::Open(open)) = layouts.read(&bytes) else { panic!("an open request") };
    assert_eq!(open.asker, Asker { id: msg.id, trace: msg.trace, return_to: msg.return_to.clone() });
    assert_eq!(asker(&bytes), Some(open.asker));
    assert_eq!((open.expires, open.destination.as_str(), open.kept.mti), (99, "host_a", Some(*b"0200")));
    let mut copy = harness::msg(8);
    layouts.request.restore(&open.kept, &mut copy);
    for path in keep.iter().chain(&["data.iso8583.11"]) {
        let place: Place = path.parse().unwrap();
        assert_eq!(place.get(&copy), place.get(&msg), "{path}");
    }
    assert!(open_in(Some(bytes.into())).is_some());

    let bytes = answered(5, &layouts.answer.look(&msg, &mut Trail::default()), None, &layouts.answer);
    let kept = Kept { mti: None, values: vec![(0, "000042".into()), (1, "00".into())] };
    assert_eq!(layouts.read(&bytes), Some(Record::Done(Done { at: 5, answer: Some(Said::Fields(kept)) })));
    assert!(open_in(Some(bytes.into())).is_none());
    assert_eq!(layouts.read(&timed_out(-5)), Some(Record::Done(Done { at: -5, answer: None })));
}

fn whole(layouts: &Layouts, data: &Map) -> Map {
    let bytes = answered_whole(5, data, Some(*b"0210"));
    assert!(open_in(Some(bytes.clone().into())).is_none());
    match layouts.read(&bytes) {
        Some(Record::Done(Done { at: 5, answer: Some(Said::Whole { mti: Some(mti), data }) })) if mti == *b"0210" => {
            data
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_answer_is_read_but_for_what_is_never_kept() {
    let (layouts, mut msg) = (layouts(&[]), message());
    msg.data.set(&"iso8583.48.01".parse().unwrap(), "inside").unwrap();
    msg.data.set(&"site.name".parse().unwrap(), "N1").unwrap();
    assert_eq!(whole(&layouts, &msg.data), msg.data);
    let mut without = msg.data.clone();
    without.remove(&"iso8583.64".parse().unwrap());
    // Also where it has parts; and then nothing vouches for the rest.
    for secret in ["35", "52", "55.9F26"] {
        let mut data = msg.data.clone();
        data.set(&format!("iso8583.{secret}").parse().unwrap(), "secret").unwrap();
        assert_eq!(whole(&layouts, &data), without, "{secret}");
    }
}

#[test]
fn a_whole_answer_is_bounded() {
    let (layouts, mut msg) = (layouts(&[]), message());
    let small = msg.data.clone();
    for path in ["iso8583.48", "iso8583.62.01.02", "iso8583.63"] {
        msg.data.set(&path.parse().unwrap(), "x".repeat(KEPT_BYTES_MAX / 2)).unwrap();
    }
    assert!(answered_whole(5, &msg.data, None).len() < KEPT_BYTES_MAX + 16);
    let found = whole(&layouts, &msg.data);
    for field in ["4", "5", "6", "11", "39", "48", "64"] {
        let place = format!("iso8583.{field}").parse().unwrap();
        assert_eq!(found.get(&place), msg.data.get(&place), "{field}");
    }
    assert!(small.get_str("iso8583.63").is_none() && found.get_str("iso8583.63").is_none());
    let deep = format!("iso8583.{}", ["a"; DEPTH_MAX + 4].join("."));
    msg.data.set(&deep.parse().unwrap(), "deep").unwrap();
    assert!(whole(&layouts, &msg.data).get_str("iso8583.11").is_some());
}

#[test]
fn fields_of_another_configuration_are_left_out_and_the_rest_is_read() {
    let bytes = record(&layouts(&["data.iso8583.4"]), &message());
    let Some(Record::Open(open)) = layouts(&["data.iso8583.5"]).read(&bytes) else { panic!("an open request") };
    assert_eq!((open.kept.values.len(), open.expires), (0, 99));
    // Of an answer nothing is left to be said, but that the transaction is over.
    let others = Places::new(&[], vec!["data.iso8583.38".parse().unwrap()]);
    let bytes = answered(5, &others.look(&message(), &mut Trail::default()), None, &others);
    assert_eq!(layouts(&[]).read(&bytes), Some(Record::Done(Done { at: 5, answer: None })));
}

#[test]
fn what_is_kept_is_bounded() {
    let layouts = layouts(&["data.iso8583.48", "data.iso8583.49"]);
    let mut msg = message();
    msg.data.set(&"iso8583.48".parse().unwrap(), "x".repeat(KEPT_BYTES_MAX)).unwrap();
    msg.data.set(&"iso8583.49".parse().unwrap(), "978").unwrap();
    let bytes = record(&layouts, &msg);
    assert!(bytes.len() < KEPT_BYTES_MAX);
    let Some(Record::Open(open)) = layouts.read(&bytes) else { panic!("an open request") };
    assert_eq!(open.kept.values.iter().map(|(idx, _)| *idx).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn a_record_cut_short_is_none_or_one_with_fewer_fields() {
    let layouts = layouts(&["data.iso8583.4"]);
    let bytes = record(&layouts, &message());
    let head = bytes.len() - layouts.request.kept_of(&message(), None).values.len();
    for len in 0..bytes.len() {
        match layouts.read(&bytes[..len]) {
            None => {}
            Some(Record::Open(open)) => assert!(open.kept.values.len() < 2 && len < head),
            Some(Record::Done(_)) => panic!("it was open"),
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..5) {
        let layouts = layouts(&["data.iso8583.4"]);
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        drop((layouts.read(&bytes), asker(&bytes)));
    }
}
