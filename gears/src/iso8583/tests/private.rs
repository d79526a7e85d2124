//! No text that leaves a rig shows a card number: errors, `Debug`, dead letters and listings.

use fluxrig_actors::protocol::{Map, Value};

use super::{built_in, fields, purchase};
use crate::iso8583::{ALWAYS_SENSITIVE, Spec, mask, masked_pan, redact, redacted};
use crate::tests::harness;

/// Digits in no order, so that they stand nowhere by chance.
const MARKER: &str = "4929716208473519";

/// No run of five digits of the marker.
fn assert_silent(text: &str) {
    for part in MARKER.as_bytes().windows(5) {
        let part = std::str::from_utf8(part).unwrap();
        assert!(!text.contains(part), "found `{part}` in: {text}");
    }
}

fn marked() -> Map {
    let mut fields = purchase();
    fields.insert_key("2", MARKER);
    fields.insert_key("35", format!("{MARKER}=2812").as_str());
    fields.insert_key("48", MARKER);
    fields.insert_key("102", MARKER);
    fields
}

#[test]
fn no_error_of_the_decoder_shows_what_stands_in_a_message() {
    for spec in built_in() {
        let bytes = spec.encode("0200", &marked()).unwrap();
        assert_silent(&format!("{:?}", spec.decode(&bytes).unwrap()));
        for at in 0..bytes.len() {
            for changed in [0, b'9', b'A', 255] {
                let mut broken = bytes.clone();
                broken[at] = changed;
                if let Err(error) = spec.decode(&broken) {
                    assert_silent(&format!("{error} {error:?}"));
                }
            }
            let error = spec.decode(&bytes[..at]).unwrap_err();
            assert_silent(&format!("{error} {error:?}"));
        }
    }
}

#[test]
fn no_error_of_the_encoder_shows_what_stands_in_a_message() {
    for spec in built_in() {
        assert_silent(&spec.encode(MARKER, &Map::default()).unwrap_err().to_string());
        let keys = (2..=128).map(|number| number.to_string()).chain([MARKER.to_owned()]);
        for key in keys {
            for text in [MARKER.repeat(70), format!("{MARKER}\u{e4}"), MARKER[..7].to_owned()] {
                let fields: Map = [(key.as_str(), text.as_str())].into_iter().collect();
                if let Err(error) = spec.encode("0200", &fields) {
                    assert_silent(&format!("{error} {error:?}"));
                }
            }
        }
    }
}

#[test]
fn a_card_number_shows_its_ends_only_when_enough_stays_hidden() {
    for (pan, masked) in [
        ("4929716208473519", "492971******3519"),
        ("4929716208473519012", "492971*********9012"),
        ("4929716208473", "492971***8473"),
        ("492971620847", "************"),
        ("", ""),
        ("4929716208473519=2", "******************"),
    ] {
        assert_eq!(masked_pan(pan), masked);
    }
}

#[test]
fn a_message_that_is_kept_has_lost_what_may_not_be_kept() {
    let mut msg = harness::msg(0);
    msg.raw = Some(vec![1, 2, 3].into());
    let other = msg.clone();
    assert!(redacted(&other).is_none(), "nothing says that it is ours");
    redact(&mut msg);
    assert!(msg == other);

    let mut undecoded = other.clone();
    undecoded.meta.set("content", "iso8583");
    assert_eq!(redacted(&undecoded).unwrap().raw, None);

    let mut decoded = other.clone();
    let mut all = marked();
    for number in ALWAYS_SENSITIVE {
        all.insert_key(number.to_string(), MARKER);
    }
    all.insert_key("61", MARKER);
    decoded.meta.set("iso8583.mti", "0200");
    decoded.meta.set("iso8583.sensitive", "48,61");
    decoded.data.insert_key("iso8583", all);
    decoded.data.insert_key("kept", 1_u64);
    let kept = redacted(&decoded).unwrap();
    assert_eq!(kept.raw, None);
    assert_eq!(kept.data.get_str("kept"), Some(&1_u64.into()));
    let fields = kept.data.get_str("iso8583").and_then(Value::as_map).unwrap();
    assert_eq!(fields.get_key("2"), Some(&"492971******3519".into()));
    for number in ALWAYS_SENSITIVE.iter().filter(|number| **number != 2).map(u8::to_string) {
        assert_eq!(fields.get_key(&number), None, "field {number}");
    }
    assert_eq!((fields.get_key("48"), fields.get_key("61")), (None, None));
    assert_eq!(fields.get_key("41"), Some(&"TERM0001".into()));
    assert!(decoded.raw.is_some(), "the original stays as it is");

    // A card number of a wrong type has no ends to show, and fields that are no map are nothing one could look into.
    let mut strange = harness::msg(1);
    strange.data.insert_key("iso8583", [("2", Value::from(MARKER.as_bytes()))].into_iter().collect::<Map>());
    assert!(redacted(&strange).unwrap().data.get_str("iso8583.2").is_none());
    strange.data.insert_key("iso8583", MARKER);
    assert!(redacted(&strange).unwrap().data.get_str("iso8583").is_none());
}

#[test]
fn a_listing_shows_names_and_masked_values() {
    let spec = Spec::built_in("iso8583-1987-ascii").unwrap();
    let mut msg = harness::msg(0);
    assert!(mask(&msg, &spec).is_empty());
    let mut all = fields(&[(2, MARKER), (4, "000000012345"), (35, "4929716208473519=2812"), (43, "BAR\u{1b}[2J")]);
    all.insert_key("52", vec![1_u8; 8]);
    all.insert_key("64", vec![1_u8; 8]);
    all.insert_key("999", MARKER);
    msg.data.insert_key("iso8583", all);
    let listed: Vec<String> =
        mask(&msg, &spec).iter().map(|line| format!("{} {}: {}", line.field, line.name, line.text)).collect();
    expect_test::expect![[r#"
        2 primary account number: 492971******3519
        4 amount, transaction: 000000012345
        35 track 2 data: text(21)
        43 card acceptor name and location: BAR\u{1b}[2J
        52 personal identification number data: bytes(8)
        64 message authentication code: bytes(8)
        999 : text(16)"#]]
    .assert_eq(&listed.join("\n"));
}
