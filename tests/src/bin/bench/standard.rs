//! Durable wires: five gears with the journal under them, against one bare write and flush of the same run.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_tests::parts::{Asked, Burst, Count, Size, Stopwatch, pipeline};
use tokio::time::Instant;

use super::row::{Bar, Rows, Scratch, median, micros, runtime};

/// Bytes that the journal writes for one message of the usual size: what the bare write writes, too.
pub(crate) const GROUP_BYTES: usize = 1024;

/// One message at a time: from admission to the effect, everything flushed, against one bare flush.
pub(crate) fn latency(rows: &mut Rows) {
    if !rows.wants("standard.latency") {
        return;
    }
    let scratch = Scratch::new("latency");
    let bare = Bare::new(&scratch);
    let watch = Stopwatch::default();
    let source = Asked::new(Size::Usual);
    let count = 2_000;
    let bare = runtime(2).block_on(async {
        let rig = pipeline(source.clone(), watch.clone(), 5, Lane::Flush).journal(scratch.0.join("journal"));
        let rig = rig.start().await.expect("the rig starts");
        let mut times = Vec::with_capacity(count);
        // In turns, so that both meet the same disk: one bare flush, one message.
        for idx in 0..count {
            times.push(bare.flush(idx as u64));
            source.ask();
            while watch.len() <= idx {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        source.end();
        rig.finished().await;
        rig.stop(Duration::from_secs(5)).await;
        times
    });
    let bare = median(bare);
    let all: Vec<f64> = watch.take().into_iter().map(micros).collect();
    let p50 = median(all);
    let note = format!(
        "{count} messages of 12 fields, one at a time; p50 {p50:.0} µs; in turns with a bare write of {GROUP_BYTES} bytes + fdatasync, p50 {bare:.0} µs"
    );
    rows.add(
        "standard.latency",
        "5 durable gears, p50 at a low rate, against a bare flush",
        p50 / bare,
        "×",
        Bar::AtMost(2.0),
        &note,
    );
}

/// One block after the other into a pre-zeroed file, each flushed.
pub(crate) struct Bare(File);

impl Bare {
    pub(crate) fn new(scratch: &Scratch) -> Self {
        let file = File::create(scratch.0.join("bare")).expect("the temporary folder is writable");
        file.write_all_at(&vec![0; 8 << 20], 0).expect("there is room");
        file.sync_all().expect("the disk flushes");
        Self(file)
    }

    /// Writes so many bytes at position `idx`, and flushes them.
    pub(crate) fn flush_of(&self, idx: u64, bytes: usize) {
        self.0.write_all_at(&vec![7; bytes], idx % 4096 * GROUP_BYTES as u64).expect("there is room");
        self.0.sync_data().expect("the disk flushes");
    }

    /// Microseconds of one, at position `idx`.
    pub(crate) fn flush(&self, idx: u64) -> f64 {
        let started = Instant::now();
        self.0.write_all_at(&[7; GROUP_BYTES], idx * GROUP_BYTES as u64).expect("there is room");
        self.0.sync_data().expect("the disk flushes");
        micros(started.elapsed())
    }
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
    rows.add(
        "standard.throughput.flush",
        "5 durable gears, flush",
        flush_rate / 1e3,
        "k messages/s",
        Bar::AtLeast(250.0),
        note,
    );
    rows.add(
        "standard.throughput.os",
        "5 durable gears, page cache only",
        os_rate / 1e3,
        "k messages/s",
        Bar::None,
        note,
    );
    let cost = (1.0 - flush_rate / os_rate) * 100.0;
    rows.add(
        "standard.throughput.cost",
        "what the flush costs",
        cost,
        "%",
        Bar::AtMost(10.0),
        "flush against page cache only, runs in turns",
    );
    let records = median(flush.iter().map(|run| run.records).collect());
    rows.add(
        "standard.throughput.records",
        "records written per message",
        records,
        "records",
        Bar::AtMost(2.0),
        "under full load, flush",
    );
    let bytes = median(flush.iter().map(|run| run.bytes).collect());
    rows.add(
        "standard.throughput.bytes",
        "bytes written per message",
        bytes,
        "bytes",
        Bar::None,
        "under full load, flush; group bodies",
    );
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
