//! Golden messages: what they are in Rust, their bytes, and a listing by another codec. The bytes never change.
//! A change of the format is a new case beside the old ones, which must still decode.

use fluxrig_protocol::{Flags, FluxId, FluxMsg, Hop, Limits, Map, Value};

use crate::{
    build::{fields, gear, head, message, text, whole},
    fixture,
};

#[test]
fn messages_keep_their_bytes() {
    let limits = Limits::default();
    let cases = cases();
    for (case, msg) in &cases {
        let bytes = msg.encoded(&limits).unwrap();
        fixture::check("fluxmsg", &format!("{case}.cbor"), bytes);
        fixture::check("fluxmsg", &format!("{case}.txt"), fixture::listing(bytes).as_bytes());
        let read = FluxMsg::decode(bytes, &limits).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(&read, msg, "{case}");
        assert_eq!(read.encoded(&limits).unwrap(), bytes, "{case}");
    }
    let names: Vec<&str> = cases.iter().map(|(case, _)| *case).collect();
    fixture::check_complete("fluxmsg", &names);
}

fn cases() -> Vec<(&'static str, FluxMsg)> {
    vec![
        ("minimal", message()),
        ("card_request", card_request()),
        ("every_field", every_field()),
        ("numbers", numbers()),
        ("floats", floats()),
        ("strings", strings()),
        ("key_order", key_order()),
        ("nested_to_the_limit", nested_to_the_limit()),
        ("hops_to_the_limit", hops_to_the_limit()),
        ("empty_but_present", empty_but_present()),
        ("before_1970", before_1970()),
        ("later_fields", later_fields()),
        ("later_fields_with_tags", later_fields_with_tags()),
    ]
}

fn card_request() -> FluxMsg {
    let mut msg = message();
    msg.meta.set("iso8583.mti", "0200");
    msg.meta.set("site", "N1");
    // A test number of no issuer; the field numbers are those of ISO 8583.
    for (field, value) in [("2", "4000001234567899"), ("3", "000000"), ("4", "000000012500"), ("11", "000042")] {
        msg.data.set(&format!("iso8583.{field}").parse().unwrap(), value).unwrap();
    }
    msg.data.set(&"iso8583.52".parse().unwrap(), &[0xde, 0xad, 0xbe, 0xef, 0, 1, 2, 3]).unwrap();
    msg.path.push(Hop { gear: gear("pumps"), ts: 1_700_000_000_123_456_789 });
    msg
}

fn every_field() -> FluxMsg {
    let mut msg = card_request();
    msg.id = FluxId::derived([0xee; 16]);
    msg.reference = Some(FluxId::v7(1_700_000_000_000, [0x22; 10]));
    msg.raw = Some(vec![0x30; 40].into());
    msg.expires = Some(1_700_000_030_000_000_000);
    msg.return_to = Some(b"pumps/1/7".as_slice().into());
    msg.path.push(Hop { gear: gear("switch"), ts: 1_700_000_000_123_500_000 });
    msg.with_flags(Flags::PROBE.with(Flags::MAYBE_SENT))
}

fn numbers() -> FluxMsg {
    let mut msg = message();
    let unsigned = [0, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, i64::MAX as u64, u64::MAX];
    let negative = [-1, -24, -25, -256, -257, -65_536, -65_537, i64::MIN];
    let least = fluxrig_protocol::Int::try_from(-(1i128 << 64)).unwrap();
    msg.data.insert_key("unsigned", unsigned.map(Value::from).to_vec());
    msg.data.insert_key("negative", negative.map(Value::from).to_vec());
    msg.data.insert_key("least", least);
    msg.data.insert_key("words", vec![Value::Null, false.into(), true.into()]);
    msg
}

fn floats() -> FluxMsg {
    let mut msg = message();
    let half = [0.0, -0.0, 1.5, 65_504.0, 6.103_515_625e-5, 5.960_464_477_539_063e-8, f64::INFINITY, f64::NEG_INFINITY];
    let single = [
        100_000.0,
        65_505.0,
        65_536.0,
        f64::from(f32::MAX),
        f64::from(f32::MIN_POSITIVE),
        2f64.powi(-149),
        2f64.powi(-25),
    ];
    let double = [0.1, -4.1, 1e300, f64::MIN_POSITIVE, 5e-324, f64::from(f32::MAX) * 2.0];
    msg.data.insert_key("half", half.map(Value::from).to_vec());
    msg.data.insert_key("single", single.map(Value::from).to_vec());
    msg.data.insert_key("double", double.map(Value::from).to_vec());
    // Any NaN is written as the one NaN.
    msg.data.insert_key("nan", f64::from_bits(0xfff8_0000_0000_0001));
    msg
}

fn strings() -> FluxMsg {
    let mut msg = message();
    for len in [0, 14, 15, 22, 23, 24, 255, 256] {
        msg.data.insert_key(format!("text{len}"), "x".repeat(len));
        msg.data.insert_key(format!("bytes{len}"), vec![0x5a; len]);
    }
    msg.data.insert_key("umlaut", "Zähler ½ 水 🚰");
    msg
}

fn key_order() -> FluxMsg {
    let mut msg = message();
    for (idx, key) in ["b", "aa", "", "a", "z", "ab", "ä", "a.b", &"k".repeat(24), &"k".repeat(23), &"k".repeat(256)]
        .into_iter()
        .enumerate()
    {
        msg.data.insert_key(key, idx as i64);
        msg.meta.set(key, idx.to_string());
    }
    msg
}

fn nested_to_the_limit() -> FluxMsg {
    let mut msg = message();
    let path = vec!["m"; Limits::MAX.depth].join(".");
    msg.data.set(&path.parse().unwrap(), "deep").unwrap();
    let arrays = (1..Limits::MAX.depth).fold(Value::Null, |inner, _| vec![inner].into());
    msg.data.insert_key("arrays", arrays);
    msg
}

fn hops_to_the_limit() -> FluxMsg {
    let mut msg = message();
    for idx in 0..Limits::MAX.hops as i64 {
        msg.path.push(Hop { gear: gear(&format!("gear{idx}")), ts: idx * 1000 });
    }
    msg
}

fn empty_but_present() -> FluxMsg {
    let mut msg = message();
    msg.raw = Some(Default::default());
    msg.return_to = Some(Default::default());
    msg.data.insert_key("array", Vec::<Value>::new());
    msg.data.insert_key("map", Map::default());
    msg
}

fn before_1970() -> FluxMsg {
    let mut msg = message();
    msg.ts = i64::MIN;
    msg.expires = Some(-1);
    msg.path.push(Hop { gear: gear("pumps"), ts: -500 });
    msg
}

/// A message of a later version: keys that are not text, a float, and a negative top-level key.
fn later_fields() -> FluxMsg {
    let mut fields = fields();
    fields.push((head(0, 12), head(0, 7)));
    fields.push((head(0, 24), vec![0xa2, 0x01, 0xf9, 0x3c, 0x00, 0x20, 0x80]));
    fields.push((head(0, u64::MAX), text("far")));
    fields.push((head(1, 0), head(5, 0)));
    FluxMsg::decode(&whole(&fields), &Limits::default()).unwrap()
}

/// What our own fields never hold but later ones may: a tag, `undefined`, a simple value, tags around a key.
fn later_fields_with_tags() -> FluxMsg {
    let mut fields = fields();
    fields.push((head(0, 12), [&[0xc1], head(0, 1_700_000_000).as_slice()].concat()));
    fields.push((head(0, 13), vec![0xf7]));
    fields.push((head(0, 14), vec![0xf8, 0xff]));
    fields.push((head(0, 15), vec![0xa1, 0xc1, 0x01, 0xf4]));
    FluxMsg::decode(&whole(&fields), &Limits::default()).unwrap()
}
