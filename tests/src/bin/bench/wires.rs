//! Wires over JetStream against a bare loop of the same client on such a server: publish with acks, pull with acks, and
//! one message at a time from rack to rack. The bare loop keeps nothing: what ours journals beside it is in the ratio.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::header::{HeaderMap, NATS_MESSAGE_ID};
use async_nats::jetstream::consumer::{self, pull};
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::{self, stream};
use fluxrig_actors::bus::{Bus, BusDurability, BusIn, BusOptions, BusOut};
use fluxrig_actors::prelude::*;
use fluxrig_tests::outside::nats::{Server, program};
use fluxrig_tests::parts::{Asked, Burst, Count, Size, Stopwatch};
use futures_util::StreamExt;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::nats::{self, Consumer, Note, runtime};
use super::row::{Bar, Rows, Scratch, median, micros};
use super::standard::{Bare as BareFile, GROUP_BYTES};

/// Publishes without an ack at a time, on both sides.
const WINDOW: usize = 512;
/// Messages of one pull, on both sides.
const BATCH: usize = 256;
/// Our wire on the server.
const SUBJECT: &str = "flux.msg.edge.source.out";
const STREAM: &str = "FLUX_MSG_edge";
/// The bare one.
const BARE: &str = "bare";
const READER: &str = "reader";
/// Characters of a bare message's name, about those of ours.
const NAME_BYTES: usize = 45;
/// What a stored message takes beside subject, headers and payload.
const STORED_BYTES: u64 = 22;
const PARTS: [&str; 2] = ["publish", "pull"];
const IDLE: &str = "jetstream.wire.idle";
const ROUNDS: usize = 5;
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Until what a message leaves behind is written.
const REST: Duration = Duration::from_millis(10);
const END: Duration = Duration::from_secs(5);

/// Publish, pull, and the idle hop.
pub(crate) fn beside(rows: &mut Rows) {
    let kinds = [(Kind::Flushed, 4_000), (Kind::Lazy, 50_000)];
    let kinds: Vec<_> =
        kinds.into_iter().filter(|(kind, _)| PARTS.iter().any(|part| rows.wants(&kind.row(part)))).collect();
    let is_idle = rows.wants(IDLE);
    if kinds.is_empty() && !is_idle {
        return;
    }
    let Some(program) = program("the rows `jetstream.wire`") else { return };
    for (kind, count) in kinds {
        throughput(rows, &program, kind, count);
    }
    if is_idle {
        idle(rows, &program);
    }
}

/// How the server keeps what it acks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Flushed,
    Lazy,
}

impl Kind {
    fn row(self, part: &str) -> String {
        let suffix = if self == Self::Lazy { "os" } else { "flush" };
        format!("jetstream.wire.{part}.{suffix}")
    }
}

/// A start of a rack beside the server.
struct Racks<'a> {
    server: &'a Server,
    kind: Kind,
    scratch: Scratch,
}

impl Racks<'_> {
    fn bus(&self, rack: &str) -> Arc<Bus> {
        let options =
            BusOptions { monitor_url: Some(self.server.monitor_url()), ..BusOptions::at([self.server.url()]) };
        Bus::start(options, rack)
    }

    /// `source -> out`, on rack `edge`.
    async fn edge(&self, source: impl Endpoint) -> RunningRig {
        let subject = SUBJECT.parse().expect("it is a subject");
        let out = BusOut {
            durability: if self.kind == Kind::Lazy { BusDurability::Os } else { BusDurability::Flush },
            window: WINDOW,
            readers: vec![("core".into(), READER.into())],
            ..BusOut::new(self.bus("edge"), subject)
        };
        let rig = Rig::new("wires").journal(self.scratch.0.join("edge"));
        let rig = rig.endpoint("source", source).endpoint("out", out).wire("source", "out");
        rig.start().await.expect("the rig starts")
    }

    /// `in -> note -> sink`, on rack `core`.
    async fn core(&self, note: impl Gear, sink: impl Endpoint) -> RunningRig {
        let subject = SUBJECT.parse().expect("it is a subject");
        let reader = BusIn { reader: Some(READER.into()), ..BusIn::new(self.bus("core"), subject) };
        let rig = Rig::new("wires").journal(self.scratch.0.join("core"));
        let rig = rig.endpoint("in", reader).gear("note", note).endpoint("sink", sink);
        rig.wire("in", "note").wire("note", "sink").start().await.expect("the rig starts")
    }
}

/// Admits one message, and when it is let go, so many more.
#[derive(Clone, Debug)]
struct Held {
    count: u64,
    gate: Arc<Semaphore>,
}

impl Endpoint for Held {
    const TYPE: &'static str = "held";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let burst = |count| Arc::new(Burst { count, size: Size::Usual });
        burst(1).run(io.clone()).await?;
        drop(self.gate.acquire().await);
        burst(self.count).run(io).await
    }
}

/// Messages a second, of publishes and of a consumer.
type Rates = [f64; 2];

/// What a bare loop does.
#[derive(Clone, Copy)]
struct Bare {
    count: u64,
    /// Of a message, as the server counts them.
    bytes: u64,
    /// Names each message so that the server tells repeats, and flushes each batch that it has pulled before it acks it.
    is_careful: bool,
}

fn throughput(rows: &mut Rows, program: &Path, kind: Kind, count: u64) {
    let (mut ours, mut bare, mut careful, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        // Each with a server and a store of its own, in turns.
        runtime().block_on(async {
            let server = nats::server(program, kind == Kind::Lazy);
            let racks = Racks { server: &server, kind, scratch: Scratch::new("wires") };
            let rates;
            (rates, bytes) = of_ours(&racks, count).await;
            ours.push(rates);
        });
        for (all, is_careful) in [(&mut bare, false), (&mut careful, true)] {
            runtime().block_on(async {
                let server = nats::server(program, kind == Kind::Lazy);
                all.push(of_bare(&server, Bare { count, bytes, is_careful }).await);
            });
        }
    }
    let rate = |all: &[Rates], part: usize| median(all.iter().map(|rates| rates[part]).collect());
    for (part, name) in PARTS.into_iter().enumerate() {
        // Of rounds, not of medians: what the machine does beside us is the same within a round.
        let ratio = median(ours.iter().zip(&bare).map(|(ours, bare)| ours[part] / bare[part]).collect());
        let (ours, bare, careful) = (rate(&ours, part), rate(&bare, part), rate(&careful, part));
        let loops = match name {
            "publish" => format!(
                "a bare loop with as many acks outstanding and no headers {bare:.0}/s, with ids by which the server tells repeats, as ours, {careful:.0}/s"
            ),
            _ => format!(
                "a bare loop that acks each at once and keeps nothing {bare:.0}/s, one that writes and flushes each batch first {careful:.0}/s"
            ),
        };
        let server = match kind {
            Kind::Flushed => "`sync_interval: always`",
            Kind::Lazy => "its default of flushing every two minutes",
        };
        let note = format!(
            "{count} messages of 12 fields, {bytes} bytes each as the server counts, windows of {WINDOW}, pulls of {BATCH}; nats-server with {server}; from a durable wire to a durable wire {ours:.0}/s; {loops}; medians of {ROUNDS} rounds of one run each"
        );
        // What the default durability of a wire asks for is held to the bar.
        let bar = if kind == Kind::Flushed { Bar::AtLeast(90.0) } else { Bar::None };
        let what = format!("{name} with acks over a wire on JetStream against a bare loop");
        rows.add_wanted(&kind.row(name), &what, ratio * 100.0, "%", bar, &note);
    }
}

/// One wire from rack to rack: what the sender publishes with nobody reading, and what the reader takes with nobody
/// publishing. And the bytes of a message as the server counts them.
async fn of_ours(racks: &Racks<'_>, count: u64) -> (Rates, u64) {
    let context = nats::context(racks.server).await;
    let source = Held { count, gate: Arc::new(Semaphore::new(0)) };
    let edge = racks.edge(source.clone()).await;
    until(async || acked(&edge) == 1).await;
    let started = Instant::now();
    source.gate.add_permits(1);
    edge.finished().await;
    let publish = count as f64 / started.elapsed().as_secs_f64();
    edge.stop(END).await;
    let stream = context.get_stream(STREAM).await.expect("the sender has made it");
    let state = &stream.cached_info().state;
    // A machine that stood still for a second has the sender say that all is settled, in messages of their own.
    assert!(state.messages > count, "everything that was acked is there");
    let bytes = state.bytes / state.messages;
    let reader: Consumer = stream.get_consumer(READER).await.expect("the sender has made it");
    let sink = Count::default();
    let core = racks.core(fluxrig_tests::parts::Pass, sink.clone()).await;
    until(async || sink.seen.load(Ordering::Relaxed) > 0).await;
    let started = Instant::now();
    until_acked(&reader).await;
    let pull = count as f64 / started.elapsed().as_secs_f64();
    core.idle().await;
    assert_eq!(sink.seen.load(Ordering::Relaxed), count + 1, "everything arrives once");
    core.stop(END).await;
    ([publish, pull], bytes)
}

fn acked(rig: &RunningRig) -> u64 {
    let acked = |(_, series, label, count): (_, &'static str, String, u64)| {
        (series == "bus_publishes" && label == "acked").then_some(count)
    };
    rig.tallies().into_iter().find_map(acked).unwrap_or(0)
}

/// The same with the client alone.
async fn of_bare(server: &Server, wanted: Bare) -> Rates {
    let Bare { count, bytes, is_careful } = wanted;
    let context = nats::context(server).await;
    let reader = bare_stream(&context).await;
    let payload = bytes::Bytes::from(vec![7; (bytes - STORED_BYTES) as usize - BARE.len()]);
    let named = payload.slice(..payload.len() - NAME_BYTES);
    nats::acked(&context, BARE, &payload).await;
    let started = Instant::now();
    let mut acks = VecDeque::<PublishAckFuture>::with_capacity(WINDOW);
    for number in 0..count {
        if acks.len() >= WINDOW {
            acks.pop_front().expect("there is one").await.expect("it is acked");
        }
        let sent = match is_careful {
            true => context.publish_with_headers(BARE, name(number), named.clone()).await,
            false => context.publish(BARE, payload.clone()).await,
        };
        acks.push_back(sent.expect("it is sent"));
    }
    for ack in acks {
        ack.await.expect("it is acked");
    }
    let publish = count as f64 / started.elapsed().as_secs_f64();
    let scratch = Scratch::new("kept");
    let file = is_careful.then(|| BareFile::new(&scratch));
    let messages = reader.stream().max_messages_per_batch(BATCH).messages().await.expect("the consumer delivers");
    let mut batches = messages.ready_chunks(BATCH);
    let (mut seen, mut started) = (0, None);
    while seen <= count {
        let batch = batches.next().await.expect("the stream goes on");
        started.get_or_insert_with(Instant::now);
        if let Some(file) = &file {
            file.flush_of(seen, batch.len() * payload.len());
        }
        for message in batch {
            message.expect("a message").ack().await.expect("an ack is sent");
            seen += 1;
        }
    }
    until_acked(&reader).await;
    [publish, count as f64 / started.expect("something came").elapsed().as_secs_f64()]
}

/// The header by which the server tells repeats.
fn name(number: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, format!("{number:0width$}", width = NAME_BYTES));
    headers
}

/// A stream and a consumer that are kept as ours are.
async fn bare_stream(context: &jetstream::Context) -> Consumer {
    let config = stream::Config {
        name: BARE.into(),
        subjects: vec![BARE.into()],
        retention: stream::RetentionPolicy::Interest,
        discard: stream::DiscardPolicy::New,
        ..stream::Config::default()
    };
    let stream = context.create_stream(config).await.expect("the server makes a stream");
    let config = pull::Config {
        durable_name: Some(READER.into()),
        ack_policy: consumer::AckPolicy::Explicit,
        max_ack_pending: 4096,
        ..pull::Config::default()
    };
    stream.create_consumer(config).await.expect("the server makes a consumer")
}

/// Waits until the server has given everything and knows that it is done with.
async fn until_acked(reader: &Consumer) {
    until(async || {
        let info = reader.get_info().await.expect("the server knows its consumer");
        info.num_pending == 0 && info.num_ack_pending == 0
    })
    .await;
}

async fn until(mut fact: impl AsyncFnMut() -> bool) {
    while !fact().await {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// One message at a time, from a source on one rack to a gear on another, in turns with the client alone and a flush.
fn idle(rows: &mut Rows, program: &Path) {
    let count = 500;
    let (source, note, watch) = (Asked::new(Size::Usual), Note::default(), Stopwatch::default());
    let (mut asked, mut hops, mut flushes) = (Vec::new(), Vec::new(), Vec::new());
    let scratch = Scratch::new("idle-hop");
    let file = BareFile::new(&scratch);
    runtime().block_on(async {
        let server = nats::server(program, false);
        let racks = Racks { server: &server, kind: Kind::Flushed, scratch: Scratch::new("wires") };
        let core = racks.core(note.clone(), watch.clone()).await;
        let edge = racks.edge(source.clone()).await;
        let context = nats::context(&server).await;
        let mut messages = bare_stream(&context).await.messages().await.expect("the consumer delivers");
        let payload = bytes::Bytes::from(vec![7; GROUP_BYTES / 2]);
        for idx in 0..count {
            flushes.push(file.flush(idx as u64));
            let started = Instant::now();
            let ack = context.publish(BARE, payload.clone()).await.expect("it is sent");
            let message = messages.next().await.expect("the stream goes on").expect("a message");
            hops.push(micros(started.elapsed()));
            ack.await.expect("it is acked");
            message.ack().await.expect("an ack is sent");
            tokio::time::sleep(REST).await;
            asked.push(Instant::now());
            source.ask();
            until(async || watch.len() > idx).await;
            tokio::time::sleep(REST).await;
        }
        source.end();
        edge.finished().await;
        edge.stop(END).await;
        core.stop(END).await;
    });
    let to_gear = median(asked.iter().zip(note.times()).map(|(from, to)| micros(to - *from)).collect());
    let to_sink = median(watch.take().into_iter().map(micros).collect());
    let (hop, flush) = (median(hops), median(flushes));
    let note = format!(
        "{count} messages of 12 fields, one at a time, from a source on one rack to a gear on another {to_gear:.0} µs, to the effect behind it, flushed there as well, {to_sink:.0} µs; in turns with the client alone, published to delivered {hop:.0} µs, and with a bare write of {GROUP_BYTES} bytes + fdatasync {flush:.0} µs; nats-server with `sync_interval: always`"
    );
    let what = "hop over a wire on JetStream, p50 at rest, against a bare hop and a bare flush";
    rows.add(IDLE, what, to_gear / (hop + flush), "×", Bar::AtMost(1.3), &note);
}
