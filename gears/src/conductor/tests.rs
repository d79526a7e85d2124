//! Cases of `conductor` are files; what they cannot show is here.

mod model;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::clock::SimWorld;
use fluxrig_actors::journal::Pace;
use fluxrig_actors::journal::disk::sim::SimDisk;
use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::{EntityId, Hop, Limits};
use serde_json::json;
use tokio::sync::{Mutex, mpsc};

use super::*;
use crate::tests::harness::{self, Collected};
use model::Feed;

#[tokio::test(start_paused = true)]
async fn cases() {
    harness::check_cases("conductor").await;
}

fn conductor(config: serde_json::Value) -> Conductor {
    let mut all = json!({ "key": ["data.iso8583.11"], "timeout_ms": 100, "destinations": [{ "name": "host" }] });
    all["routes"] = json!([{ "to": "host" }]);
    all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

fn msg(number: u64, mti: &str) -> FluxMsg {
    let mut msg = harness::msg(number);
    msg.meta.set("iso8583.mti", mti);
    msg.data.set(&"iso8583.11".parse().unwrap(), number.to_string().as_str()).unwrap();
    msg
}

/// A rig of one gear with the ports of a conductor, which is fed by hand.
struct Bench {
    rig: RunningRig,
    feeds: HashMap<&'static str, mpsc::UnboundedSender<FluxMsg>>,
    sinks: HashMap<&'static str, Collected>,
}

impl Bench {
    async fn start(gear: impl Gear, disk: &SimDisk) -> Self {
        Self::start_in(Arc::new(SimWorld::new(1)), gear, disk).await
    }

    async fn start_in(world: Arc<SimWorld>, gear: impl Gear, disk: &SimDisk) -> Self {
        let mut journal = JournalOptions::disk(disk.process());
        (journal.segment_bytes, journal.pace) = (1 << 20, Some(Pace { seed: 1, max: Duration::ZERO }));
        let mut rig = Rig::new("bench").world(world).journal_with(journal).gear("switch", gear);
        let (mut feeds, mut sinks) = (HashMap::new(), HashMap::new());
        for port in ["in", "reply"] {
            let (feed, fed) = mpsc::unbounded_channel();
            let name = format!("feed-{port}");
            rig = rig.endpoint(&name, Feed(Mutex::new(fed))).wire(&name, &format!("switch.{port}"));
            feeds.insert(port, feed);
        }
        for port in ["out", "error", "unmatched", "host"] {
            let (name, sink) = (format!("sink-{port}"), Collected::default());
            rig = rig.endpoint(&name, sink.clone()).wire(&format!("switch.{port}"), &name);
            sinks.insert(port, sink);
        }
        Self { rig: rig.start().await.unwrap(), feeds, sinks }
    }

    async fn feed(&self, port: &str, msg: FluxMsg) {
        self.feeds[port].send(msg).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(self.rig.idle().await);
    }

    fn counts(&self) -> [usize; 4] {
        ["host", "out", "error", "unmatched"].map(|port| self.sinks[port].len())
    }

    fn tally(&self, label: &str) -> u64 {
        self.rig.tallies().iter().filter(|(_, _, found, _)| found == label).map(|(_, _, _, count)| count).sum()
    }

    async fn crash(self) {
        assert!(self.rig.durable().await);
        self.rig.kill().await;
    }
}

/// With as many hops as a message may have, once it is admitted.
fn far_travelled(mut msg: FluxMsg) -> FluxMsg {
    let hop = Hop { gear: EntityId::NIL, ts: 0 };
    msg.path.extend(std::iter::repeat_n(hop, Limits::MAX.hops - 1));
    msg
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_sent_is_not_open() {
    let bench = Bench::start(conductor(json!({ "open_max": 1 })), &SimDisk::new(1)).await;
    bench.feed("in", far_travelled(msg(1, "0200"))).await;
    assert_eq!((bench.counts(), bench.rig.dead_letters().unwrap().len()), ([0, 0, 0, 0], 1));
    // Neither is it in the way of others, nor is its own repeat taken for one of something that is open.
    bench.feed("in", msg(1, "0201")).await;
    bench.feed("reply", msg(1, "0210")).await;
    assert_eq!(bench.counts(), [1, 1, 0, 0]);
    assert!(bench.rig.stop(Duration::from_millis(5)).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_before_its_window_is_over_is_counted_and_told_once_a_window() {
    let logged = harness::Logged::default();
    let guard = logged.start();
    let repeats = json!({ "repeats": { "max": 2, "window_ms": 60_000 } });
    let bench = Bench::start(conductor(repeats), &SimDisk::new(1)).await;
    let transactions = async |numbers: std::ops::Range<u64>| {
        for number in numbers {
            bench.feed("in", msg(number, "0200")).await;
            bench.feed("reply", msg(number, "0210")).await;
        }
        let told = logged.lines_of("conductor::flow");
        (bench.tally("forgotten_early"), told.iter().filter(|line| line.starts_with("WARN")).count())
    };
    assert_eq!(transactions(0..2).await, (0, 0));
    assert_eq!(transactions(2..5).await, (3, 1));
    tokio::time::sleep(Duration::from_secs(61)).await;
    // Those in between were remembered for as long as they had to be. What was not told before is told now.
    assert_eq!(transactions(5..7).await, (3, 2));
    assert_eq!(transactions(7..9).await, (5, 2));
    drop(guard);
    let text = logged.text();
    assert!(text.contains("remedy: raise `repeats.max`") && text.contains("gear=switch count=1 "), "{text}");
    assert!(bench.rig.stop(Duration::from_millis(5)).await);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_cannot_go_on_leaves_its_request_to_the_deadline() {
    let bench = Bench::start(conductor(json!({})), &SimDisk::new(1)).await;
    bench.feed("in", msg(1, "0200")).await;
    bench.feed("reply", far_travelled(msg(1, "0210"))).await;
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
    tokio::time::sleep(Duration::from_millis(110)).await;
    bench.feed("in", msg(1, "0201")).await;
    assert_eq!(bench.counts(), [1, 0, 2, 0]);
    let errors = bench.sinks["error"].msgs();
    assert!(errors.iter().all(|error| error.meta.get("conductor.error") == Some("timeout")));
    assert!(bench.rig.stop(Duration::from_millis(5)).await);
}

#[tokio::test(start_paused = true)]
async fn an_answer_and_an_error_have_the_trace_of_their_request() {
    let bench = Bench::start(conductor(json!({})), &SimDisk::new(1)).await;
    for number in 1..3 {
        let mut request = msg(number, "0200");
        request.trace.trace_id = [u8::try_from(number).unwrap(); 16];
        bench.feed("in", request).await;
    }
    bench.feed("reply", msg(1, "0210")).await;
    tokio::time::sleep(Duration::from_millis(110)).await;
    let trace = |port: &str| bench.sinks[port].msgs()[0].trace.trace_id;
    assert_eq!((trace("out"), trace("error")), ([1; 16], [2; 16]));
    bench.crash().await;
}

/// What a damaged or foreign state would be: under the same type and name, records that are none.
struct Scribbler;

impl Gear for Scribbler {
    const TYPE: &'static str = "conductor";
    type State = ();

    fn ports(&self) -> Ports {
        conductor(json!({})).ports()
    }

    fn handle(&self, msg: FluxMsg, (): &mut (), out: &mut Outlet) -> Result<(), GearError> {
        out.put("no name of a key", "no record");
        out.put("AAAAAAAAAAAAAAAAAAAAAA", vec![1u8, 2, 3]);
        out.put("BAAAAAAAAAAAAAAAAAAAAA", 7u64);
        out.timer("no name of a key", Duration::from_millis(1));
        out.timer("AAAAAAAAAAAAAAAAAAAAAA", Duration::from_millis(1));
        out.emit(msg);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn records_that_are_none_are_counted_and_dropped() {
    let disk = SimDisk::new(1);
    let bench = Bench::start(Scribbler, &disk).await;
    bench.feed("in", msg(1, "0200")).await;
    bench.crash().await;
    let bench = Bench::start(conductor(json!({})), &disk).await;
    assert_eq!(bench.tally("broken_record"), 3);
    bench.feed("in", msg(1, "0200")).await;
    bench.feed("reply", msg(1, "0210")).await;
    assert_eq!(bench.counts(), [1, 1, 0, 0]);
    bench.crash().await;
    // They were removed with the first commit.
    let bench = Bench::start(conductor(json!({})), &disk).await;
    assert_eq!(bench.tally("broken_record"), 0);
    bench.crash().await;
}

/// Says how many records a conductor has left.
struct Counter(Arc<std::sync::atomic::AtomicUsize>);

impl Gear for Counter {
    const TYPE: &'static str = "conductor";
    type State = ();

    fn ports(&self) -> Ports {
        conductor(json!({})).ports()
    }

    fn start(&self, ctx: &StartContext) -> Result<(), GearError> {
        self.0.store(ctx.recovered.len(), std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    fn handle(&self, _: FluxMsg, (): &mut (), _: &mut Outlet) -> Result<(), GearError> {
        Ok(())
    }
}

const HOUR_NS: i64 = 3_600_000_000_000;

/// How many of the requests reached the host: all of them have one key.
async fn asked(bench: &Bench) -> usize {
    bench.feed("in", msg(1, "0200")).await;
    bench.feed("reply", msg(1, "0210")).await;
    bench.counts()[0]
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_neither_ends_a_window_nor_makes_it_longer() {
    for jump in [HOUR_NS, -HOUR_NS] {
        let (world, disk) = (Arc::new(SimWorld::new(1)), SimDisk::new(1));
        let config = || conductor(json!({ "repeats": { "window_ms": 10_000 } }));
        let bench = Bench::start_in(Arc::clone(&world), config(), &disk).await;
        assert_eq!(asked(&bench).await, 1);
        world.jump(jump);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(asked(&bench).await, 1, "within the window");
        bench.crash().await;
        // The time that nothing runs counts.
        world.jump(jump);
        tokio::time::sleep(Duration::from_secs(4)).await;
        let bench = Bench::start_in(Arc::clone(&world), config(), &disk).await;
        world.jump(jump);
        assert_eq!(asked(&bench).await, 0, "within the window, in a new process");
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(asked(&bench).await, 1, "after the window");
        // The clock of the window is no open request: nothing waits for it.
        assert!(bench.rig.stop(Duration::from_millis(5)).await);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_a_window_is_time_of_the_wall_clock() {
    let (world, disk) = (Arc::new(SimWorld::new(1)), SimDisk::new(1));
    let config = || conductor(json!({ "repeats": { "window_ms": 10_000 } }));
    let bench = Bench::start_in(Arc::clone(&world), config(), &disk).await;
    assert_eq!(asked(&bench).await, 1);
    // Before the reboot it does not count.
    world.jump(HOUR_NS);
    bench.feed("in", msg(2, "0200")).await;
    bench.crash().await;
    world.reboot();
    tokio::time::sleep(Duration::from_secs(8)).await;
    let bench = Bench::start_in(Arc::clone(&world), config(), &disk).await;
    assert_eq!(asked(&bench).await, 0);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(asked(&bench).await, 1);
    bench.crash().await;
}

#[tokio::test(start_paused = true)]
async fn the_durable_state_is_bounded_by_count_and_by_time() {
    let left = async |repeats: serde_json::Value, pause_ms| {
        let disk = SimDisk::new(1);
        let bench = Bench::start(conductor(json!({ "repeats": repeats })), &disk).await;
        for number in 0..40 {
            tokio::time::sleep(Duration::from_millis(if number == 39 { pause_ms } else { 0 })).await;
            bench.feed("in", msg(number, "0200")).await;
            bench.feed("reply", msg(number, "0210")).await;
        }
        assert_eq!(bench.counts(), [40, 40, 0, 0]);
        bench.crash().await;
        let count = Arc::default();
        Bench::start(Counter(Arc::clone(&count)), &disk).await.crash().await;
        count.load(std::sync::atomic::Ordering::Relaxed)
    };
    assert_eq!(left(json!({}), 0).await, 40);
    assert_eq!(left(json!({ "max": 7 }), 0).await, 7);
    // One transaction forgets up to sixteen that are over.
    assert_eq!(left(json!({ "window_ms": 1000 }), 1100).await, 24);
    assert_eq!(left(json!({ "durable": false }), 0).await, 0);
}
