//! Random messages, built as a gear would, then changed: what is within limits survives the way, and copies stay apart.
//! Limits are lowered at random, so that writer and reader must agree on what fits.

#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use fluxrig_protocol::{EntityId, FieldPath, Flags, FluxId, FluxMsg, Hop, Int, Limits, Map, Trace, Value};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Plan {
    id: [u8; 16],
    reference: Option<[u8; 16]>,
    trace_id: [u8; 16],
    src: u64,
    ts: i64,
    meta: Vec<(String, String)>,
    data: Vec<(String, Tree)>,
    raw: Option<Vec<u8>>,
    path: Vec<(u64, i64)>,
    flags: u8,
    expires: Option<i64>,
    return_to: Option<Vec<u8>>,
    edits: Vec<Edit>,
    low: Lowered,
}

#[derive(Arbitrary, Debug)]
enum Tree {
    Null,
    Bool(bool),
    Int(bool, u64),
    Float(f64),
    Single(f32),
    Text(String),
    Bytes(Vec<u8>),
    Array(Vec<Tree>),
    Map(BTreeMap<String, Tree>),
}

#[derive(Arbitrary, Debug)]
enum Edit {
    Set(String, Tree),
    Remove(String),
    Meta(String, String),
    Stamp(u64),
    Encode,
}

#[derive(Arbitrary, Debug)]
struct Lowered {
    spare: u16,
    hops: u8,
    depth: u8,
    map_entries: u8,
    key_bytes: u8,
}

impl Tree {
    fn value(self) -> Value {
        match self {
            Tree::Null => Value::Null,
            Tree::Bool(bool) => bool.into(),
            Tree::Int(false, n) => n.into(),
            Tree::Int(true, n) => Int::try_from(-1 - i128::from(n)).expect("the least is -2^64").into(),
            Tree::Float(float) => float.into(),
            Tree::Single(float) => float.into(),
            Tree::Text(text) => text.into(),
            Tree::Bytes(bytes) => bytes.into(),
            Tree::Array(elements) => elements.into_iter().map(Tree::value).collect::<Vec<_>>().into(),
            Tree::Map(entries) => Value::Map(entries.into_iter().map(|(key, tree)| (key, tree.value())).collect()),
        }
    }
}

impl Lowered {
    fn limits(&self) -> Limits {
        let max = Limits::MAX;
        let mut limits = Limits {
            hops: usize::from(self.hops).clamp(1, max.hops),
            depth: usize::from(self.depth).clamp(1, max.depth),
            map_entries: usize::from(self.map_entries).max(1),
            key_bytes: usize::from(self.key_bytes).max(1),
            ..max
        };
        limits.encoded_bytes = limits.reserved_bytes() + 2 + usize::from(self.spare);
        limits.validate().expect("they were only lowered");
        limits
    }
}

fuzz_target!(|plan: Plan| {
    let max = Limits::MAX;
    let low = plan.low.limits();
    let trace = Trace { trace_id: plan.trace_id, span_id: [1; 8], flags: plan.flags };
    let mut msg = FluxMsg::new(FluxId(plan.id), trace, EntityId(plan.src), plan.ts);
    msg.reference = plan.reference.map(FluxId);
    msg.meta = plan.meta.into_iter().collect();
    msg.data = plan.data.into_iter().map(|(key, tree)| (key, tree.value())).collect::<Map>();
    msg.raw = plan.raw.map(Into::into);
    msg.path = plan.path.into_iter().map(|(gear, ts)| Hop { gear: EntityId(gear), ts }).collect();
    msg.expires = plan.expires;
    msg.return_to = plan.return_to.map(Into::into);
    msg.set_flags(Flags::from_bits(u64::from(plan.flags & 3)).expect("both bits have a name"));
    survives(&msg, &max, &low);

    for edit in plan.edits {
        let before = msg.clone();
        let bytes = before.encoded(&max).map(<[u8]>::to_vec);
        match edit {
            Edit::Set(path, tree) => {
                if let Ok(path) = path.parse::<FieldPath>() {
                    let value = tree.value();
                    if msg.data.set(&path, value.clone()).is_ok() {
                        assert!(msg.data.get(&path) == Some(&value));
                    }
                }
            }
            Edit::Remove(path) => {
                if let Ok(path) = path.parse::<FieldPath>() {
                    msg.data.remove(&path);
                    assert!(msg.data.get(&path).is_none());
                }
            }
            Edit::Meta(key, text) => drop(msg.meta.set(key, text)),
            Edit::Stamp(gear) => msg.stamp(FluxId::NIL, EntityId(gear), Hop { gear: EntityId(gear), ts: 1 }),
            Edit::Encode => drop(msg.encoded(&max).map(<[u8]>::len)),
        }
        if let Ok(bytes) = bytes {
            let mut afresh = Vec::new();
            before.encode_into(&mut afresh);
            assert_eq!(afresh, bytes, "a copy saw the change");
        }
        survives(&msg, &max, &low);
    }
});

/// What a writer lets through a reader of the same limits takes, as the same message.
fn survives(msg: &FluxMsg, max: &Limits, low: &Limits) {
    let Ok(bytes) = msg.encoded(max) else { return };
    let read = FluxMsg::decode(bytes, max).expect("what was written can be read");
    assert!(read == *msg);
    assert_eq!(read.encoded(max).expect("and written"), bytes);
    assert_eq!(FluxMsg::decode(bytes, low).is_ok(), msg.check(low).is_ok());
    assert_eq!(read.check(low), msg.check(low));
}
