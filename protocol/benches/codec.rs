//! What a message costs at a boundary and on a wire: encode, decode, check, stamp, field access.
//! Prints ns per operation, the best of several rounds; run with `cargo bench -p fluxrig-protocol`.

use std::{hint::black_box, time::Duration};

use fluxrig_protocol::{EntityId, EntityKind, FieldPath, FluxId, FluxMsg, Hop, Limits, Trace};

const ROUNDS: usize = 15;
const PER_ROUND: u32 = 20_000;

fn main() {
    let limits = Limits::default();
    let msg = card_message();
    let bytes = msg.encoded(&limits).expect("the message is within limits").to_vec();
    let shared = bytes::Bytes::from(bytes.clone());
    println!("message: {} bytes", bytes.len());

    let mut out = Vec::with_capacity(4096);
    let uncached = FluxMsg::decode(&bytes, &limits).expect("the bytes are a message");
    report("encode_into, not cached", || {
        out.clear();
        uncached.encode_into(&mut out);
        black_box(&out);
    });
    let path: FieldPath = "iso8583.4".parse().expect("a good path");
    let mut changed = msg.clone();
    report("set one field, check, encode", || {
        changed.data.set(&path, "000000012501").expect("a map is there");
        black_box(changed.encoded(&limits).expect("within limits"));
    });
    report("decode", || {
        black_box(FluxMsg::decode(black_box(&bytes), &limits).expect("good bytes"));
    });
    report("decode_shared", || {
        black_box(FluxMsg::decode_shared(black_box(&shared), &limits).expect("good bytes"));
    });
    report("check, memoised", || {
        black_box(msg.check(&limits)).expect("within limits");
    });
    report("clone and drop", || {
        black_box(msg.clone());
    });
    report("clone, stamp, drop", || {
        let mut copy = msg.clone();
        copy.stamp(FluxId::NIL, EntityId::NIL, Hop { gear: EntityId::NIL, ts: 1 });
        black_box(copy);
    });
    report("read one text field", || {
        black_box(msg.data.text(black_box(&path)).expect("it is there"));
    });
}

/// Twelve short text fields and three of meta, as a card authorisation has.
fn card_message() -> FluxMsg {
    let gear = EntityId::from_names(EntityKind::Gear, 7, "bench", "pumps");
    let ts = 1_700_000_000_000_000_000;
    let trace = Trace { trace_id: [1; 16], span_id: [2; 8], flags: 1 };
    let mut msg = FluxMsg::new(FluxId::v7(1_700_000_000_000, [9; 10]), trace, gear, ts);
    for (key, text) in [("iso8583.mti", "0200"), ("site", "N1"), ("terminal", "00000042")] {
        msg.meta.set(key, text);
    }
    for (field, text) in [
        ("2", "4000001234567899"),
        ("3", "000000"),
        ("4", "000000012500"),
        ("7", "1121093000"),
        ("11", "000042"),
        ("12", "093000"),
        ("13", "1121"),
        ("22", "051"),
        ("37", "325109000042"),
        ("41", "00000042"),
        ("42", "DEPOT-NORTH-001"),
        ("49", "978"),
    ] {
        let path = format!("iso8583.{field}").parse::<FieldPath>().expect("a good path");
        msg.data.set(&path, text).expect("maps are made on the way");
    }
    msg.path.push(Hop { gear, ts });
    msg
}

#[allow(clippy::disallowed_methods, reason = "a bench measures the machine's own clock")]
fn report(name: &str, mut operation: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = std::time::Instant::now();
        for _ in 0..PER_ROUND {
            operation();
        }
        best = best.min(start.elapsed());
    }
    println!("{name:32} {:8.1} ns", best.as_nanos() as f64 / f64::from(PER_ROUND));
}
