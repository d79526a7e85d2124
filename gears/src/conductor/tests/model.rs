//! Random requests, replies, reports, waits, links, restarts and crashes of a whole rig on a paused clock, each step
//! compared with a ledger of a few lines: what was sent, and the one outcome of each request.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxrig_actors::clock::SimWorld;
use fluxrig_actors::journal::Pace;
use fluxrig_actors::journal::disk::sim::SimDisk;
use fluxrig_actors::prelude::*;
use fluxrig_actors::{JournalOptions, Supervision};
use proptest::prelude::*;
use tokio::sync::{Mutex as Turn, mpsc, watch};
use tokio::time::Instant;

use crate::Conductor;
use crate::tests::harness;

const HOSTS: [&str; 2] = ["host_a", "host_b"];
const OPEN_MAX: usize = 5;
const HOST_OPEN_MAX: usize = 3;
const TIMEOUT_MS: u64 = 100;
const WINDOW_MS: u64 = 400;
const REMEMBERED_MAX: usize = 5;
/// No step is made so near to a limit of time that the ledger could not say on which side of it.
const NEAR_MS: u64 = 15;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// `is_lost`: the host does not know whether it was sent, and reports that.
    Request {
        stan: u8,
        is_repeat: bool,
        is_lost: bool,
    },
    Reply {
        stan: u8,
    },
    Wait {
        ms: u64,
    },
    Link {
        host: usize,
        is_up: bool,
    },
    RestartGear,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stan = 0u8..8;
    let request = (stan.clone(), any::<bool>(), prop::bool::weighted(0.15));
    let step = prop_oneof![
        8 => request.prop_map(|(stan, is_repeat, is_lost)| Step::Request { stan, is_repeat, is_lost }),
        5 => stan.prop_map(|stan| Step::Reply { stan }),
        3 => (1u64..180).prop_map(|ms| Step::Wait { ms }),
        2 => (0usize..2, prop::bool::weighted(0.7)).prop_map(|(host, is_up)| Step::Link { host, is_up }),
        1 => Just(Step::RestartGear),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..60)
}

/// What the world saw: where, which transaction, why not, and to which request it belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    port: &'static str,
    stan: u8,
    error: String,
    reference: Option<u64>,
}

type Seen = Arc<Mutex<Vec<Event>>>;

fn event(port: &'static str, msg: &FluxMsg) -> Event {
    let stan = msg.data.get_str("iso8583.11").and_then(Value::as_text).unwrap().parse().unwrap();
    let error = msg.meta.get("conductor.error").unwrap_or_default().to_owned();
    let reference = msg.reference.and_then(FluxId::unix_ms).map(|ms| ms - 1_700_000_000_000);
    Event { port, stan, error, reference: reference.filter(|_| !HOSTS.contains(&port)) }
}

/// The ledger.
struct Ledger {
    slots: HashMap<u8, Slot>,
    ended: VecDeque<(u64, u8)>,
    links: [bool; 2],
    is_durable: bool,
    expected: Vec<Event>,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    Open { until: u64, host: usize, number: u64 },
    Done { at: u64, is_answered: bool },
}

impl Ledger {
    fn expect(&mut self, port: &'static str, stan: u8, error: &str, reference: Option<u64>) {
        self.expected.push(Event { port, stan, error: error.to_owned(), reference });
    }

    fn open_at(&self, host: Option<usize>) -> usize {
        let is_open = |slot: &&Slot| matches!(slot, Slot::Open { host: at, .. } if host.is_none_or(|host| host == *at));
        self.slots.values().filter(is_open).count()
    }

    fn request(&mut self, now: u64, stan: u8, number: u64, is_lost: bool) {
        match self.slots.get_mut(&stan) {
            Some(Slot::Open { number: last, .. }) => return *last = number,
            Some(Slot::Done { at, is_answered }) if now <= *at + WINDOW_MS => {
                let (port, error) = if *is_answered { ("out", "") } else { ("error", "timeout") };
                return self.expect(port, stan, error, Some(number));
            }
            _ => {}
        }
        let is_full = |host: usize| self.open_at(Some(host)) >= HOST_OPEN_MAX;
        let host = (0..2).find(|&host| self.links[host] && !is_full(host));
        let error = match host {
            _ if self.open_at(None) >= OPEN_MAX => "overload",
            Some(host) => {
                self.expect(HOSTS[host], stan, "", None);
                self.slots.insert(stan, Slot::Open { until: now + TIMEOUT_MS, host, number });
                if is_lost {
                    self.end(now, stan, false);
                    self.expect("error", stan, "timeout", Some(number));
                }
                return;
            }
            None if self.links.contains(&true) => "overload",
            None => "no_destination",
        };
        self.expect("error", stan, error, Some(number));
    }

    fn reply(&mut self, now: u64, stan: u8) {
        if let Some(Slot::Open { number, .. }) = self.slots.get(&stan) {
            self.expect("out", stan, "", Some(*number));
            self.end(now, stan, true);
        } else {
            self.expect("unmatched", stan, "unmatched_reply", None);
        }
    }

    fn expire(&mut self, now: u64) {
        let mut due: Vec<(u64, u8, u64)> = Vec::new();
        for (stan, slot) in &self.slots {
            match slot {
                Slot::Open { until, number, .. } if *until <= now => due.push((*until, *stan, *number)),
                _ => {}
            }
        }
        due.sort_unstable();
        for (until, stan, number) in due {
            self.expect("error", stan, "timeout", Some(number));
            self.end(until, stan, false);
        }
    }

    fn end(&mut self, now: u64, stan: u8, is_answered: bool) {
        self.slots.insert(stan, Slot::Done { at: now, is_answered });
        self.ended.push_back((now, stan));
        while let Some(&(at, stan)) = self.ended.front()
            && (self.ended.len() > REMEMBERED_MAX || at + WINDOW_MS < now)
        {
            self.ended.pop_front();
            if matches!(self.slots.get(&stan), Some(Slot::Done { at: ended, .. }) if *ended == at) {
                self.slots.remove(&stan);
            }
        }
    }

    /// What is left when everything but the durable state is gone.
    fn restart(&mut self) {
        if !self.is_durable {
            self.slots.retain(|_, slot| matches!(slot, Slot::Open { .. }));
        }
        let slots = &self.slots;
        self.ended.retain(|(at, stan)| matches!(slots.get(stan), Some(Slot::Done { at: ended, .. }) if ended == at));
    }

    /// A time that the next step would be too near to.
    fn near(&self, now: u64) -> Option<u64> {
        let limits = self.slots.values().map(|slot| match slot {
            Slot::Open { until, .. } => *until,
            Slot::Done { at, .. } => at + WINDOW_MS,
        });
        limits.chain(self.ended.iter().map(|(at, _)| at + WINDOW_MS)).filter(|at| at.abs_diff(now) <= NEAR_MS).max()
    }
}

/// Lets in what it is handed.
pub(super) struct Feed(pub(super) Turn<mpsc::UnboundedReceiver<FluxMsg>>);

impl Endpoint for Feed {
    const TYPE: &'static str = "test_feed";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let mut msgs = self.0.lock().await;
        while let Some(msg) = msgs.recv().await {
            drop(io.door().admit(msg).await.unwrap());
        }
        Ok(())
    }
}

/// Notes what comes in.
struct Watcher(&'static str, Seen);

impl Endpoint for Watcher {
    const TYPE: &'static str = "test_watcher";

    fn ports(&self) -> Ports {
        Ports::sink()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let mut effects = io.effects();
        while let Some(effect) = effects.take().await {
            self.1.lock().unwrap().push(event(self.0, &effect.msg));
            effect.done();
        }
        Ok(())
    }
}

/// Notes what is sent to it, says at times that it does not know whether it was, and has a link.
struct Host(&'static str, Seen, watch::Receiver<bool>);

impl Endpoint for Host {
    const TYPE: &'static str = "test_host";

    fn ports(&self) -> Ports {
        Ports::pipe()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let mut effects = io.effects();
        let mut link = self.2.clone();
        link.mark_changed();
        loop {
            tokio::select! {
                Ok(()) = link.changed() => {
                    if *link.borrow_and_update() { io.link_up() } else { io.link_down("told so") }
                }
                effect = effects.take() => {
                    let Some(effect) = effect else { return Ok(()) };
                    assert!(!effect.is_maybe_sent(), "what the world saw was durable");
                    self.1.lock().unwrap().push(event(self.0, &effect.msg));
                    if effect.msg.meta.get("lost").is_some() { effect.unknown("lost") } else { effect.done() }
                }
            }
        }
    }
}

/// A process: the rig and the hands that feed it.
struct Process {
    rig: fluxrig_actors::RunningRig,
    requests: mpsc::UnboundedSender<FluxMsg>,
    replies: mpsc::UnboundedSender<FluxMsg>,
}

fn conductor(is_durable: bool) -> Conductor {
    let host = |name: &str| serde_json::json!({ "name": name, "link": name, "open_max": HOST_OPEN_MAX });
    serde_json::from_value(serde_json::json!({
        "key": ["data.iso8583.11"],
        "timeout_ms": TIMEOUT_MS,
        "open_max": OPEN_MAX,
        "destinations": [host("host_a"), host("host_b")],
        "routes": [{ "to": { "failover": HOSTS } }],
        "repeats": { "window_ms": WINDOW_MS, "max": REMEMBERED_MAX, "durable": is_durable },
    }))
    .unwrap()
}

struct Run {
    world: Arc<SimWorld>,
    disk: SimDisk,
    seen: Seen,
    links: [watch::Sender<bool>; 2],
    began: Instant,
    ledger: Ledger,
}

impl Run {
    async fn start(&self) -> Process {
        let mut journal = JournalOptions::disk(self.disk.process());
        journal.segment_bytes = 1 << 20;
        journal.pace = Some(Pace { seed: 1, max: Duration::ZERO });
        let (requests, request) = mpsc::unbounded_channel();
        let (replies, reply) = mpsc::unbounded_channel();
        let calm = Supervision { max_restarts: 1000, ..Supervision::default() };
        let mut rig = Rig::new("model")
            .world(Arc::clone(&self.world))
            .journal_with(journal)
            .gear("switch", conductor(self.ledger.is_durable))
            .supervised(calm)
            .endpoint("requests", Feed(Turn::new(request)))
            .endpoint("replies", Feed(Turn::new(reply)))
            .wire("requests", "switch.in")
            .wire("replies", "switch.reply");
        for (host, link) in HOSTS.into_iter().zip(&self.links) {
            let port = format!("switch.{host}");
            rig =
                rig.endpoint(host, Host(host, self.seen.clone(), link.subscribe())).wire(&port, &format!("{host}.in"));
            rig = rig.wire(&format!("{host}.out"), "switch.reply");
        }
        for port in ["out", "error", "unmatched"] {
            let name = format!("saw-{port}");
            rig = rig.endpoint(&name, Watcher(port, self.seen.clone())).wire(&format!("switch.{port}"), &name);
        }
        Process { rig: rig.start().await.unwrap(), requests, replies }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    /// Waits until everything under way has arrived, and until no limit of time is near.
    async fn quiet(&mut self, process: &Process) {
        loop {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert!(process.rig.idle().await);
            }
            let now = self.now();
            match self.ledger.near(now) {
                Some(at) => {
                    tokio::time::sleep_until(self.began + Duration::from_millis(at + NEAR_MS + 1)).await;
                }
                None => return self.ledger.expire(now),
            }
        }
    }

    fn compare(&mut self, step: &str) {
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.sort();
        self.ledger.expected.sort();
        assert_eq!(std::mem::take(&mut self.ledger.expected), seen, "after {step} at {} ms", self.now());
    }

    async fn take(&mut self, number: u64, step: Step, mut process: Process) -> Process {
        let now = self.now();
        match step {
            Step::Request { stan, is_repeat, is_lost } => {
                let mut msg = harness::msg(number);
                msg.meta.set("iso8583.mti", if is_repeat { "0201" } else { "0200" });
                msg.data.set(&"iso8583.11".parse().unwrap(), stan.to_string().as_str()).unwrap();
                if is_lost {
                    msg.meta.set("lost", "yes");
                }
                self.ledger.request(now, stan, number, is_lost);
                process.requests.send(msg).unwrap();
            }
            Step::Reply { stan } => {
                let mut msg = harness::msg(number);
                msg.meta.set("iso8583.mti", "0210");
                msg.data.set(&"iso8583.11".parse().unwrap(), stan.to_string().as_str()).unwrap();
                self.ledger.reply(now, stan);
                process.replies.send(msg).unwrap();
            }
            Step::Wait { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
            Step::Link { host, is_up } => {
                self.ledger.links[host] = is_up;
                self.links[host].send_replace(is_up);
            }
            Step::RestartGear => {
                process.rig.restart_gear("switch").await.unwrap();
                self.ledger.restart();
            }
            Step::Crash => {
                assert!(process.rig.durable().await);
                process.rig.kill().await;
                self.ledger.restart();
                process = self.start().await;
            }
        }
        self.quiet(&process).await;
        self.compare(&format!("step {number} {step:?}"));
        process
    }
}

async fn run(steps: Vec<Step>, is_durable: bool) {
    let ledger = Ledger {
        slots: HashMap::new(),
        ended: VecDeque::new(),
        links: [true, false],
        is_durable,
        expected: Vec::new(),
    };
    let mut run = Run {
        world: Arc::new(SimWorld::new(7)),
        disk: SimDisk::new(7),
        seen: Seen::default(),
        links: [watch::Sender::new(true), watch::Sender::new(false)],
        began: Instant::now(),
        ledger,
    };
    let mut process = run.start().await;
    run.quiet(&process).await;
    for (number, step) in (0..).zip(steps) {
        process = run.take(number, step, process).await;
    }
    // Whatever is open has its outcome in the end, and then nothing keeps the rig from draining.
    tokio::time::sleep(Duration::from_millis(TIMEOUT_MS + NEAR_MS)).await;
    run.quiet(&process).await;
    run.compare("the end");
    assert_eq!(run.ledger.open_at(None), 0);
    assert!(process.rig.stop(Duration::from_millis(5)).await, "a timer runs with nothing open");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_has_one_outcome_and_nothing_is_sent_twice(steps in steps(), is_durable in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(steps, is_durable));
    }
}
