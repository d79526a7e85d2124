//! Turbo wires: messages in memory through five gears, as many as go and one at a time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_tests::parts::{Burst, Count, Paced, Size, Stopwatch, pipeline};
use tokio::time::Instant;

use super::row::{Bar, Rows, median, micros, runtime};

/// Hops per second and core: one worker thread does everything, source and sink included.
pub(crate) fn throughput(rows: &mut Rows) {
    if !rows.wants("turbo.throughput") {
        return;
    }
    let count = 2_000_000;
    let runs: Vec<f64> = (0..5)
        .map(|_| {
            runtime(1).block_on(async {
                let sink = Count::default();
                let rig = pipeline(Burst { count, size: Size::Small }, sink.clone(), 5, Lane::Turbo);
                let started = Instant::now();
                let rig = rig.start().await.expect("the rig starts");
                rig.finished().await;
                let took = started.elapsed().as_secs_f64();
                assert_eq!(sink.seen.load(Ordering::Relaxed), count, "every message arrives");
                rig.stop(Duration::from_secs(5)).await;
                5.0 * count as f64 / took / 1e6
            })
        })
        .collect();
    let note =
        "5 gears, 1 worker thread, messages of one field; median of 5 runs of 2 M messages; 5 hops counted per message";
    rows.add(
        "turbo.throughput",
        "turbo pipeline of 5 gears, per core",
        median(runs),
        "M hops/s",
        Bar::AtLeast(5.0),
        note,
    );
}

/// Five gears at a thousand messages a second.
pub(crate) fn latency(rows: &mut Rows) {
    if !rows.wants("turbo.latency") {
        return;
    }
    let watch = runtime(2).block_on(async {
        let watch = Stopwatch::default();
        let source = Paced { count: 3_000, every: Duration::from_millis(1), size: Size::Small };
        let rig = pipeline(source, watch.clone(), 5, Lane::Turbo).start().await.expect("the rig starts");
        rig.finished().await;
        rig.stop(Duration::from_secs(5)).await;
        watch
    });
    let all: Vec<f64> = watch.take().into_iter().map(micros).collect();
    let note = "3,000 messages, one each millisecond, from admission to the sink, 2 worker threads";
    rows.add("turbo.latency", "turbo: 5 hops at 1 k/s, p50", median(all), "µs", Bar::AtMost(30.0), note);
}
