//! The journal on JetStream: the five durable gears of `standard`, with every group on a server that flushes each write,
//! on the same cores, against one publish of the same size on the same server.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fluxrig_actors::bus::{Bus, BusOptions};
use fluxrig_actors::prelude::*;
use fluxrig_tests::outside::nats::{Server, program};
use fluxrig_tests::parts::{Asked, Burst, Count, Size, Stopwatch, pipeline};
use tokio::time::Instant;

use super::nats::{self, runtime};
use super::row::{Bar, Rows, Scratch, median, micros};

/// What stands in front of a group's body and behind it in its message.
const AROUND_BYTES: u64 = 112 + 16;
const PATIENCE: Duration = Duration::from_secs(20);
const END: Duration = Duration::from_secs(5);

pub(crate) fn beside(rows: &mut Rows) {
    let wants = ["latency", "throughput"].map(|row| rows.wants_any_of(&format!("jetstream.journal.{row}")));
    if !wants.contains(&true) {
        return;
    }
    let Some(program) = program("the rows `jetstream.journal`") else { return };
    if wants[0] {
        latency(rows, &program);
    }
    if wants[1] {
        throughput(rows, &program);
    }
}

async fn journal(server: &Server, scratch: &Scratch) -> JournalOptions {
    let options = BusOptions { monitor_url: Some(server.monitor_url()), ..BusOptions::at([server.url()]) };
    let bus = Bus::start(options, "bench");
    let log = bus.journal(None, PATIENCE).await.expect("the server takes a journal");
    JournalOptions::dir(&scratch.0).on_stream(log)
}

fn latency(rows: &mut Rows, program: &Path) {
    let count = 1_000;
    let (watch, source) = (Stopwatch::default(), Asked::new(Size::Usual));
    let scratch = Scratch::new("stream");
    let (publishes, bytes) = runtime().block_on(async {
        let server = nats::server(program, false);
        let context = nats::context(&server).await;
        drop(nats::stream(&context, "beside").await);
        let rig = pipeline(source.clone(), watch.clone(), 5, Lane::Flush);
        let rig = rig.journal_with(journal(&server, &scratch).await).start().await.expect("the rig starts");
        let one = async |idx| {
            source.ask();
            while watch.len() <= idx {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        // The first say how large a group is.
        for idx in 0..count / 10 {
            one(idx).await;
        }
        watch.take();
        let (stats, _) = rig.journal().expect("the rig has a journal");
        let bytes = stats.bytes / stats.groups + AROUND_BYTES;
        let payload = bytes::Bytes::from(vec![7; bytes as usize]);
        let mut publishes = Vec::with_capacity(count);
        for idx in 0..count {
            let started = Instant::now();
            nats::acked(&context, "beside", &payload).await;
            publishes.push(micros(started.elapsed()));
            one(idx).await;
        }
        source.end();
        rig.finished().await;
        rig.stop(END).await;
        (publishes, bytes)
    });
    let (p50, publish) = (median(watch.take().into_iter().map(micros).collect()), median(publishes));
    let note = format!(
        "{count} messages of 12 fields, one at a time, from admission to effect; p50 {p50:.0} µs; in turns with a publish of {bytes} bytes, as large as a group, that the server has flushed and acked, p50 {publish:.0} µs"
    );
    let what = "5 durable gears, journal on JetStream, p50 at a low rate, against one acked publish";
    rows.add("jetstream.journal.latency", what, p50 / publish, "×", Bar::AtMost(2.0), &note);
}

fn throughput(rows: &mut Rows, program: &Path) {
    let count = 500_000;
    let runs = (0..3).map(|_| {
        let scratch = Scratch::new("stream");
        let sink = Count::default();
        runtime().block_on(async {
            let server = nats::server(program, false);
            let rig = pipeline(Burst { count, size: Size::Usual }, sink.clone(), 5, Lane::Flush);
            let rig = rig.journal_with(journal(&server, &scratch).await).start().await.expect("the rig starts");
            let started = Instant::now();
            assert!(rig.finished().await, "the rig runs to the end");
            let took = started.elapsed().as_secs_f64();
            assert_eq!(sink.seen.load(Ordering::Relaxed), count, "every message arrives");
            let (stats, _) = rig.journal().expect("the rig has a journal");
            rig.stop(END).await;
            (count as f64 / took, stats.bytes as f64 / stats.groups as f64)
        })
    });
    let (rates, bytes): (Vec<f64>, Vec<f64>) = runs.unzip();
    let note = format!(
        "5 gears, 12 fields, {count} messages, median of 3 runs; nats-server with `sync_interval: always` on the same two cores; groups of {:.0} KB on average",
        median(bytes) / 1e3
    );
    let what = "5 durable gears, journal on JetStream";
    rows.add("jetstream.journal.throughput", what, median(rates) / 1e3, "k messages/s", Bar::AtLeast(100.0), &note);
}
