//! Properties that hold for every message and for every run of bytes.
//! A case that proptest finds becomes a fixture.

use bytes::Bytes;
use fluxrig_protocol::{EntityId, FieldPath, Flags, FluxId, FluxMsg, Hop, Int, Limits, Map, Meta, Trace, Value};
use proptest::{collection::vec, option, prelude::*};

/// Any value a message can hold, a few levels deep.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (any::<bool>(), any::<u64>()).prop_map(|(negative, n)| {
            let n = i128::from(n);
            Value::Int(Int::try_from(if negative { -1 - n } else { n }).unwrap())
        }),
        (0u64..300).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        (-2048i16..2048).prop_map(|n| Value::from(f64::from(n) / 8.0)),
        text().prop_map(Value::from),
        vec(any::<u8>(), 0..40).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((key(), inner), 0..6).prop_map(|entries| Value::Map(entries.into_iter().collect())),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[0-9]{0,30}", "\\PC{0,12}"]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]{0,3}", "[a-z]{20,30}", "\\PC{1,4}"]
}

fn entries() -> impl Strategy<Value = Vec<(String, Value)>> {
    vec((key(), value()), 0..8)
}

/// Any message within limits, without fields of later versions.
pub(crate) fn message() -> impl Strategy<Value = FluxMsg> {
    let fixed = (any::<[u8; 16]>(), option::of(any::<[u8; 16]>()), any::<[u8; 25]>(), any::<u64>(), any::<i64>());
    let content = (vec((key(), text()), 0..6), entries(), option::of(vec(any::<u8>(), 0..300)));
    let rest = (
        vec((any::<u64>(), any::<i64>()), 0..12),
        0u64..4,
        option::of(any::<i64>()),
        option::of(vec(any::<u8>(), 0..30)),
    );
    (fixed, content, rest).prop_map(
        |((id, reference, trace, src, ts), (meta, data, raw), (path, flags, expires, to))| {
            let trace = Trace {
                trace_id: trace[..16].try_into().unwrap(),
                span_id: trace[16..24].try_into().unwrap(),
                flags: trace[24],
            };
            let mut msg = FluxMsg::new(FluxId(id), trace, EntityId(src), ts);
            msg.reference = reference.map(FluxId);
            msg.meta = meta.into_iter().collect::<Meta>();
            msg.data = data.into_iter().collect::<Map>();
            msg.raw = raw.map(Bytes::from);
            msg.path = path.into_iter().map(|(gear, ts)| Hop { gear: EntityId(gear), ts }).collect();
            msg.expires = expires;
            msg.return_to = to.map(Bytes::from);
            msg.with_flags(Flags::from_bits(flags).unwrap())
        },
    )
}

fn limits() -> Limits {
    Limits::default()
}

/// The promise of the decoder: an error with a place inside the input, or a message that is exactly these bytes.
fn decode_is_canonical(bytes: &[u8]) -> Result<(), TestCaseError> {
    match FluxMsg::decode(bytes, &limits()) {
        Ok(msg) => {
            prop_assert_eq!(msg.check(&limits()), Ok(()));
            prop_assert_eq!(msg.encoded(&limits()).unwrap(), bytes);
            // A second opinion: to another codec it is well-formed from end to end.
            let mut other = minicbor::Decoder::new(bytes);
            prop_assert!(other.skip().is_ok());
            prop_assert_eq!(other.position(), bytes.len());
        }
        Err(error) => prop_assert!(error.at <= bytes.len()),
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_message_survives_the_way(msg in message()) {
        let bytes = msg.encoded(&limits()).unwrap();
        let read = FluxMsg::decode(bytes, &limits()).unwrap();
        prop_assert!(read == msg);
        prop_assert_eq!(read.encoded(&limits()).unwrap(), bytes);
        let shared = FluxMsg::decode_shared(&Bytes::copy_from_slice(bytes), &limits()).unwrap();
        prop_assert!(shared == msg);
        let mut appended = vec![1, 2, 3];
        read.encode_into(&mut appended);
        prop_assert_eq!(&appended[3..], bytes);
    }

    #[test]
    fn equal_messages_have_equal_bytes(msg in message(), entries in entries(), seed in any::<u64>()) {
        let mut shuffled = entries.clone();
        // Of equal keys the last wins, so only distinct keys may change places.
        shuffled.reverse();
        shuffled.dedup_by(|a, b| a.0 == b.0);
        let distinct: Vec<(String, Value)> = entries.iter().cloned().collect::<Map>().iter()
            .map(|(key, value)| (key.to_owned(), value.clone())).collect();
        let mut other = distinct.clone();
        let len = other.len();
        if len > 0 {
            other.rotate_left(seed as usize % len);
            other.swap(0, seed as usize / 7 % len);
        }
        let (mut a, mut b) = (msg.clone(), msg);
        a.data = Map::default();
        for (key, value) in distinct { a.data.insert_key(key, value); }
        b.data = other.into_iter().collect();
        prop_assert!(a == b);
        prop_assert_eq!(a.encoded(&limits()).unwrap(), b.encoded(&limits()).unwrap());
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(bytes in vec(any::<u8>(), 0..200)) {
        decode_is_canonical(&bytes)?;
    }

    #[test]
    fn any_bytes_in_data_are_refused_or_canonical(bytes in vec(any::<u8>(), 0..60)) {
        decode_is_canonical(&crate::build::with_value(&bytes))?;
        decode_is_canonical(&crate::build::with(5, bytes.clone()))?;
        decode_is_canonical(&crate::build::with(24, bytes))?;
    }

    #[test]
    fn one_changed_byte_is_refused_or_canonical(msg in message(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = msg.encoded(&limits()).unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        decode_is_canonical(&bytes)?;
    }

    #[test]
    fn every_cut_is_refused(msg in message(), at in any::<prop::sample::Index>()) {
        let bytes = msg.encoded(&limits()).unwrap();
        prop_assert!(FluxMsg::decode(&bytes[..at.index(bytes.len())], &limits()).is_err());
    }

    #[test]
    fn values_survive_the_way(value in value()) {
        let mut bytes = Vec::new();
        value.encode_into(&mut bytes);
        prop_assert!(Value::decode(&bytes, &limits()).unwrap() == value);
    }

    /// Lower limits: what `check` lets through every decoder of the same limits takes, and nothing else.
    #[test]
    fn check_and_decode_agree(
        msg in message(), hops in 1usize..14, depth in 1usize..5, map_entries in 1usize..6, key_bytes in 1usize..30,
        spare in 0usize..600,
    ) {
        let mut low = Limits { hops, depth, map_entries, key_bytes, ..limits() };
        low.encoded_bytes = low.reserved_bytes() + 2 + spare;
        prop_assert_eq!(low.validate(), Ok(()));
        let bytes = msg.encoded(&limits()).unwrap();
        let decoded = FluxMsg::decode(bytes, &low);
        prop_assert_eq!(msg.check(&low).is_ok(), decoded.is_ok(), "{:?} {:?}", msg.check(&low), decoded.err());
        // A message that was built afresh is measured by walking, one that was read by reading: the same numbers.
        let read = FluxMsg::decode(bytes, &limits()).unwrap();
        prop_assert_eq!(msg.check(&low), read.check(&low));
    }

    #[test]
    fn a_copy_does_not_see_changes(msg in message(), path in "[a-c]{1,2}(\\.[a-c]{1,2}){0,2}", value in value()) {
        let path: FieldPath = path.parse().unwrap();
        let before = msg.encoded(&limits()).unwrap().to_vec();
        let mut changed = msg.clone();
        let outcome = changed.data.set(&path, value.clone());
        changed.meta.set("changed", "yes");
        changed.stamp(FluxId::NIL, EntityId(1), Hop { gear: EntityId(1), ts: 1 });
        prop_assert_eq!(msg.encoded(&limits()).unwrap(), before.as_slice());
        let mut afresh = Vec::new();
        msg.encode_into(&mut afresh);
        prop_assert_eq!(afresh, before);
        if outcome.is_ok() {
            prop_assert!(changed.data.get(&path) == Some(&value));
            prop_assert!(changed.data.get_str(&path.to_string()) == Some(&value));
            prop_assert!(changed.data.remove(&path) == Some(value));
            prop_assert!(changed.data.get(&path).is_none());
        } else {
            prop_assert!(changed.data == msg.data);
        }
        // The encoding of the old version was forgotten, not changed.
        prop_assert!(FluxMsg::decode(changed.encoded(&limits()).unwrap(), &limits()).unwrap() == changed);
    }

    #[test]
    fn nothing_printed_holds_a_value(secret in "[0-9]{13,19}", path in "[a-c]{1,2}(\\.[a-c]{1,2}){0,2}") {
        let path: FieldPath = path.parse().unwrap();
        let mut msg = crate::build::message();
        msg.data.set(&path, secret.as_str()).unwrap();
        msg.data.insert_key("list", vec![Value::from(secret.as_str()), secret.as_bytes().into()]);
        msg.data.insert_key("number", secret.parse::<u64>().unwrap());
        msg.meta.set("pan", secret.as_str());
        msg.raw = Some(secret.clone().into());
        msg.return_to = Some(secret.clone().into());
        for shown in [
            format!("{msg}"), format!("{msg:?}"), format!("{msg:#?}"), format!("{:?}", *msg), format!("{}", msg.data),
            format!("{:?}", msg.data), format!("{:?}", msg.meta), format!("{:?}", msg.data.get_key("list")),
            msg.data.number(&path).unwrap_err().to_string(), format!("{:?}", msg.data.number(&path)),
        ] {
            prop_assert!(!shown.contains(&secret), "{shown}");
        }
    }
}
