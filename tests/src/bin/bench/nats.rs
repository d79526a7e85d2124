//! JetStream beside our wires: its hop, and its durable throughput with every write flushed, on the same machine in the
//! same run. Rows are left out, and it is said, where no `nats-server` is found.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{self, consumer, stream};
use fluxrig_actors::prelude::*;
use fluxrig_tests::outside::nats::{Server, Wanted, program};
use fluxrig_tests::parts::{Asked, Burst, Count, Size, Stopwatch, pipeline};
use futures_util::StreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use super::row::{Bar, Rows, Scratch, median, micros};

/// Bytes of a message on JetStream.
const PAYLOAD_BYTES: usize = 512;
/// Publishes without an ack at a time, and messages of one pull.
const WINDOW: usize = 1024;
/// A window of flushed messages takes its time on a busy machine.
const ACK_MAX: Duration = Duration::from_secs(60);

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts")
}

/// A server, or nothing where there is none.
pub(crate) fn server(program: &Path, is_lazy: bool) -> Server {
    let wanted = Wanted { is_lazy, ..Wanted::default() };
    Server::start(program, &wanted).expect("nats-server starts")
}

/// A connection to it.
pub(crate) async fn context(server: &Server) -> jetstream::Context {
    let client = async_nats::connect(server.url()).await.expect("the server takes a connection");
    let builder = jetstream::context::ContextBuilder::new().ack_timeout(ACK_MAX);
    builder.max_ack_inflight(2 * WINDOW).backpressure_on_inflight(true).build(client)
}

pub(crate) type Consumer = consumer::Consumer<pull::Config>;

/// A stream on files with one durable consumer that acks each message.
pub(crate) async fn stream(context: &jetstream::Context, name: &str) -> Consumer {
    let config = stream::Config { name: name.into(), subjects: vec![name.into()], ..stream::Config::default() };
    let stream = context.create_stream(config).await.expect("the server makes a stream");
    let config = pull::Config {
        durable_name: Some("reader".into()),
        ack_policy: consumer::AckPolicy::Explicit,
        max_ack_pending: 4 * WINDOW as i64,
        ..pull::Config::default()
    };
    stream.create_consumer(config).await.expect("the server makes a consumer")
}

/// What a wire inside a rack is against a hop over JetStream, and groups against writes that are flushed one by one.
pub(crate) fn beside(rows: &mut Rows) {
    if !rows.wants_any_of("jetstream.hop") && !rows.wants_any_of("jetstream.throughput") {
        return;
    }
    let Some(program) = program("the rows `jetstream`") else { return };
    if rows.wants_any_of("jetstream.hop") {
        hop(rows, &program);
    }
    if rows.wants_any_of("jetstream.throughput") {
        throughput(rows, &program);
    }
}

fn hop(rows: &mut Rows, program: &Path) {
    let count = 2_000;
    let (theirs, publish) = runtime().block_on(async {
        let server = server(program, true);
        let context = context(&server).await;
        let mut messages = stream(&context, "hop").await.messages().await.expect("the consumer delivers");
        let payload = bytes::Bytes::from(vec![7; PAYLOAD_BYTES]);
        let (mut hops, mut publishes) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let started = Instant::now();
            acked(&context, "hop", &payload).await;
            publishes.push(micros(started.elapsed()));
            let message = messages.next().await.expect("the stream goes on").expect("a message");
            hops.push(micros(started.elapsed()));
            message.ack().await.expect("an ack is sent");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        (median(hops), median(publishes))
    });
    let ours = hop_of_ours(count);
    let note = format!(
        "{count} messages of {PAYLOAD_BYTES} bytes, one at a time; JetStream with its default of flushing every two minutes: published and acked {publish:.1} µs, at its consumer {theirs:.1} µs; a hop between two gears of a durable pipeline {ours:.2} µs"
    );
    let what = "JetStream hop against a durable hop inside a rack, p50";
    rows.add("jetstream.hop", what, theirs / ours, "×", Bar::AtLeast(20.0), &note);
}

pub(crate) async fn acked(context: &jetstream::Context, subject: &'static str, payload: &bytes::Bytes) {
    let ack = context.publish(subject, payload.clone()).await.expect("it is sent");
    ack.await.expect("it is acked");
}

/// Notes when it handles a message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Note(Arc<Mutex<Vec<Instant>>>);

impl Note {
    /// When it handled each.
    pub(crate) fn times(&self) -> Vec<Instant> {
        self.0.lock().expect("nothing panics while it is held").clone()
    }
}

impl Gear for Note {
    const TYPE: &'static str = "note";
    type State = ();

    fn handle(&self, msg: FluxMsg, (): &mut (), out: &mut Outlet) -> Result<(), GearError> {
        self.0.lock().expect("nothing panics while it is held").push(Instant::now());
        out.emit(msg);
        Ok(())
    }
}

/// Microseconds from a gear to the fifth behind it, over five, where every wire is flushed.
fn hop_of_ours(count: usize) -> f64 {
    const HOPS: usize = 5;
    let scratch = Scratch::new("hop");
    let (first, last, watch, source) =
        (Note::default(), Note::default(), Stopwatch::default(), Asked::new(Size::Usual));
    let (seen_first, seen_last) = (first.clone(), last.clone());
    runtime().block_on(async {
        let mut rig = Rig::new("hops")
            .journal(scratch.0.join("journal"))
            .endpoint("source", source.clone())
            .endpoint("sink", watch.clone())
            .gear("first", first)
            .gear("last", last)
            .wire("source", "first");
        let mut before = "first".to_owned();
        for idx in 1..HOPS {
            let name = format!("gear{idx}");
            rig = rig.gear(&name, fluxrig_tests::parts::Pass).wire(&before, &name);
            before = name;
        }
        let rig = rig.wire(&before, "last").wire("last", "sink").start().await.expect("the rig starts");
        for idx in 0..count {
            source.ask();
            while watch.len() <= idx {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        source.end();
        rig.finished().await;
        rig.stop(Duration::from_secs(5)).await;
    });
    let hops = seen_first.times().into_iter().zip(seen_last.times());
    median(hops.map(|(from, to)| micros(to - from) / HOPS as f64).collect())
}

fn throughput(rows: &mut Rows, program: &Path) {
    let one = runtime().block_on(async {
        let server = server(program, false);
        series(&server, 1, 4_000).await
    });
    let five = runtime().block_on(async {
        let server = server(program, false);
        series(&server, 5, 1_500).await
    });
    let (ours_one, ours_five) = (ours(1, 1_000_000), ours(5, 1_000_000));
    let note = |gears: usize, ours: f64, theirs: f64| {
        format!(
            "{gears} durable gear(s), {:.0} k/s; JetStream with `sync_interval: always`, {gears} stream(s) in series, published with {WINDOW} acks outstanding and pulled with acks, {theirs:.0} /s",
            ours / 1e3
        )
    };
    let what = "one durable gear against one stream of JetStream, each flushed";
    let (ratio, text) = (ours_one / one, note(1, ours_one, one));
    rows.add("jetstream.throughput.one", what, ratio, "×", Bar::AtLeast(70.0), &text);
    let what = "five durable gears against five hops in series over JetStream, each flushed";
    let (ratio, text) = (ours_five / five, note(5, ours_five, five));
    rows.add("jetstream.throughput.five", what, ratio, "×", Bar::AtLeast(300.0), &text);
}

/// Messages a second through so many streams, one after the other.
async fn series(server: &Server, streams: usize, count: usize) -> f64 {
    let mut consumers = Vec::new();
    let made = context(server).await;
    for idx in 0..streams {
        consumers.push(stream(&made, &format!("hop{idx}")).await);
    }
    let started = Instant::now();
    let mut tasks = Vec::new();
    for (idx, consumer) in consumers.into_iter().enumerate() {
        let context = context(server).await;
        tasks.push(tokio::spawn(async move {
            relay(context, consumer, count, (idx + 1 < streams).then_some(idx + 1)).await
        }));
    }
    let first = context(server).await;
    let payload = bytes::Bytes::from(vec![7; PAYLOAD_BYTES]);
    let mut acks = VecDeque::new();
    for _ in 0..count {
        acks.push_back(first.publish("hop0", payload.clone()).await.expect("it is sent"));
        if acks.len() >= WINDOW {
            acks.pop_front().expect("there is one").await.expect("it is acked");
        }
    }
    for ack in acks {
        ack.await.expect("it is acked");
    }
    for task in tasks {
        task.await.expect("no task panics");
    }
    count as f64 / started.elapsed().as_secs_f64()
}

/// Takes so many messages off one stream and puts them onto the next; each is acked when the next has it.
async fn relay(context: jetstream::Context, consumer: Consumer, count: usize, to: Option<usize>) {
    let mut messages =
        consumer.stream().max_messages_per_batch(WINDOW).messages().await.expect("the consumer delivers");
    let mut under_way = VecDeque::new();
    for _ in 0..count {
        let message = messages.next().await.expect("the stream goes on").expect("a message");
        match to {
            Some(to) => {
                let ack = context.publish(format!("hop{to}"), message.payload.clone()).await.expect("it is sent");
                under_way.push_back((ack, message));
                if under_way.len() >= WINDOW {
                    let (ack, message) = under_way.pop_front().expect("there is one");
                    ack.await.expect("it is acked");
                    message.ack().await.expect("an ack is sent");
                }
            }
            None => message.ack().await.expect("an ack is sent"),
        }
    }
    for (ack, message) in under_way {
        ack.await.expect("it is acked");
        message.ack().await.expect("an ack is sent");
    }
}

fn ours(gears: usize, count: u64) -> f64 {
    let runs = (0..3).map(|_| {
        let scratch = Scratch::new("beside");
        runtime().block_on(async {
            let burst = Burst { count, size: Size::Usual };
            let rig = pipeline(burst, Count::default(), gears, Lane::Flush).journal(&scratch.0);
            let rig = rig.start().await.expect("the rig starts");
            let started = Instant::now();
            rig.finished().await;
            let took = started.elapsed().as_secs_f64();
            rig.stop(Duration::from_secs(5)).await;
            count as f64 / took
        })
    });
    median(runs.collect())
}
