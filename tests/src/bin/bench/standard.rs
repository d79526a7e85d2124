//! Durable wires: five gears with the journal under them, against one bare write and flush of the same run.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_tests::parts::{Burst, Count, Paced, Size, Stopwatch, pipeline};
use tokio::time::Instant;

use super::row::{Bar, Rows, Scratch, median, micros, runtime};

/// Bytes that the journal writes for one message of the usual size: what the bare write writes, too.
const GROUP_BYTES: usize = 1024;

/// One message at a time: from admission to the effect, everything flushed, against one bare flush.
pub(crate) fn latency(rows: &mut Rows) {
    if !rows.wants("standard.latency") {
        return;
    }
    let scratch = Scratch::new("latency");
    // In turns with the rig's, so that both meet the same disk.
    let mut bare = bare_flushes(&scratch, 500);
    let watch = runtime(2).block_on(async {
        let watch = Stopwatch::default();
        let source = Paced { count: 2_000, every: Duration::from_millis(2), size: Size::Usual };
        let rig = pipeline(source, watch.clone(), 5, Lane::Flush).journal(scratch.0.join("journal"));
        let rig = rig.start().await.expect("the rig starts");
        rig.finished().await;
        rig.stop(Duration::from_secs(5)).await;
        watch
    });
    bare.extend(bare_flushes(&scratch, 500));
    let bare = median(bare);
    let all: Vec<f64> = watch.take().into_iter().map(micros).collect();
    let p50 = median(all);
    let note = format!("2,000 messages of 12 fields, one each 2 ms; p50 {p50:.0} µs; bare write of {GROUP_BYTES} bytes + fdatasync p50 {bare:.0} µs");
    rows.add("standard.latency", "5 durable gears, p50 at a low rate, against a bare flush", p50 / bare, "×", Bar::AtMost(2.0), &note);
}

fn bare_flushes(scratch: &Scratch, count: u64) -> Vec<f64> {
    let path = scratch.0.join("bare");
    let file = File::create(&path).expect("the temporary folder is writable");
    file.write_all_at(&vec![0; 8 << 20], 0).expect("there is room");
    file.sync_all().expect("the disk flushes");
    let block = vec![7_u8; GROUP_BYTES];
    let flush = |idx: u64| {
        let started = Instant::now();
        file.write_all_at(&block, idx * GROUP_BYTES as u64).expect("there is room");
        file.sync_data().expect("the disk flushes");
        micros(started.elapsed())
    };
    (0..count).map(flush).collect()
}

/// As many as go, with flush and with the page cache only, in turns.
pub(crate) fn throughput(rows: &mut Rows) {
    if !rows.wants("standard.throughput") {
        return;
    }
    let count = 1_000_000;
    let (mut flush, mut os) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        flush.push(run(Lane::Flush, count));
        os.push(run(Lane::Os, count));
    }
    let rate = |runs: &[Run]| median(runs.iter().map(|run| run.rate).collect());
    let (flush_rate, os_rate) = (rate(&flush), rate(&os));
    let note = "5 gears, 12 fields, 2 worker threads and the writer on 2 cores; median of 5 runs of 1 M messages";
    rows.add("standard.throughput.flush", "5 durable gears, flush", flush_rate / 1e3, "k messages/s", Bar::AtLeast(250.0), note);
    rows.add("standard.throughput.os", "5 durable gears, page cache only", os_rate / 1e3, "k messages/s", Bar::None, note);
    let cost = (1.0 - flush_rate / os_rate) * 100.0;
    rows.add("standard.throughput.cost", "what the flush costs", cost, "%", Bar::AtMost(10.0), "flush against page cache only, runs in turns");
    let records = median(flush.iter().map(|run| run.records).collect());
    rows.add("standard.throughput.records", "records written per message", records, "records", Bar::AtMost(2.0), "under full load, flush");
    let bytes = median(flush.iter().map(|run| run.bytes).collect());
    rows.add("standard.throughput.bytes", "bytes written per message", bytes, "bytes", Bar::None, "under full load, flush; group bodies");
}

struct Run {
    rate: f64,
    records: f64,
    bytes: f64,
}

fn run(lane: Lane, count: u64) -> Run {
    let scratch = Scratch::new("throughput");
    runtime(2).block_on(async {
        let sink = Count::default();
        let rig = pipeline(Burst { count, size: Size::Usual }, sink.clone(), 5, lane).journal(&scratch.0);
        let rig = rig.start().await.expect("the rig starts");
        let started = Instant::now();
        rig.finished().await;
        let took = started.elapsed().as_secs_f64();
        assert_eq!(sink.seen.load(Ordering::Relaxed), count, "every message arrives");
        let (stats, _) = rig.journal().expect("the rig has a journal");
        rig.stop(Duration::from_secs(5)).await;
        let per_message = |figure: u64| figure as f64 / count as f64;
        Run { rate: count as f64 / took, records: per_message(stats.records), bytes: per_message(stats.bytes) }
    })
}
