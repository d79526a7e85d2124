//! The ISO 8583 codec by itself: time for one message of twenty fields, each way.

use std::hint::black_box;

use fluxrig_gears::iso8583::Spec;
use tokio::time::Instant;

use super::message::Purchase;
use super::row::{Bar, Rows, median};

const SPEC: &str = "iso8583-1987-ascii";
const RUNS: usize = 15;
const CALLS: u64 = 50_000;

pub(crate) fn time(rows: &mut Rows) {
    let bytes = Purchase::new().bytes().len();
    let note = format!(
        "{SPEC}, 20 fields, {bytes} bytes, one thread, the result dropped each time; median of {RUNS} runs of {CALLS} calls"
    );
    for (direction, what) in [("decode", "bytes to 20 fields"), ("encode", "20 fields to bytes")] {
        let row = format!("codec.{direction}");
        if rows.wants(&row) {
            rows.add(&row, what, once(direction), "ns", Bar::AtMost(400.0), &note);
        }
    }
}

/// Nanoseconds of one call.
fn once(direction: &str) -> f64 {
    let runs = (0..RUNS).map(|_| {
        let started = Instant::now();
        repeat(direction, CALLS);
        started.elapsed().as_secs_f64() * 1e9 / CALLS as f64
    });
    median(runs.collect())
}

/// Does it so often: the child that callgrind counts.
pub(crate) fn repeat(direction: &str, count: u64) {
    let spec = Spec::built_in(SPEC).expect("it is built in");
    let purchase = Purchase::new();
    let decoded = spec.decode(purchase.bytes()).expect("the spec reads it");
    assert_eq!(
        spec.encode(&decoded.mti, &decoded.fields).expect("the spec writes it"),
        purchase.bytes(),
        "it comes back"
    );
    assert_eq!(decoded.fields.len(), 20, "it has twenty fields");
    for _ in 0..count {
        match direction {
            "decode" => drop(black_box(spec.decode(black_box(purchase.bytes())))),
            _ => drop(black_box(spec.encode(black_box(&decoded.mti), black_box(&decoded.fields)))),
        }
    }
}
