//! What a case is made of: a source in the test's hand, a sink with a ledger, racks that are killed and started again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxrig_actors::RigError;
use fluxrig_actors::bus::{Bus, BusIn, BusOptions, BusOut, BusState};
use fluxrig_actors::prelude::*;
use tokio::sync::watch;

/// Longest wait for a fact: the machine may have other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a fact; fails with what was seen last.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut fact: impl FnMut() -> Result<T, String>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            match fact() {
                Ok(value) => return value,
                Err(seen) if tokio::time::Instant::now() > end => panic!("{caller}: {what}: still {seen}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

#[track_caller]
pub(crate) fn until_true(what: &str, mut fact: impl FnMut() -> bool) -> impl Future<Output = ()> {
    until(what, move || if fact() { Ok(()) } else { Err("not so".into()) })
}

/// A source whose side of the rig is in the test's hand.
#[derive(Clone)]
pub(crate) struct Hand(Arc<watch::Sender<Option<Io>>>);

impl Hand {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    pub(crate) async fn io(&self) -> Io {
        let mut io = self.0.subscribe();
        io.wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }
}

impl Endpoint for Hand {
    const TYPE: &'static str = "hand";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let _leaving = Leaving(Arc::clone(&self.0));
        self.0.send_replace(Some(io));
        std::future::pending().await
    }
}

struct Leaving(Arc<watch::Sender<Option<Io>>>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

/// A sink that keeps a ledger over every start of it and of its rig.
#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<(u64, bool, FluxMsg)>>>);

impl Sink {
    /// What came: an effect that may have been taken before counts once.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let ledger = self.0.lock().unwrap();
        let mut numbers: Vec<u64> = Vec::with_capacity(ledger.len());
        for (number, is_maybe_sent, _) in ledger.iter() {
            if !(*is_maybe_sent && numbers.iter().rev().take(5000).any(|seen| seen == number)) {
                numbers.push(*number);
            }
        }
        numbers
    }

    pub(crate) fn msgs(&self) -> Vec<FluxMsg> {
        self.0.lock().unwrap().iter().map(|(_, _, msg)| msg.clone()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Endpoint for Sink {
    const TYPE: &'static str = "ledger";

    fn ports(&self) -> Ports {
        Ports::sink()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let mut effects = io.effects();
        while let Some(effect) = effects.take().await {
            self.0.lock().unwrap().push((number(&effect.msg), effect.is_maybe_sent(), effect.msg.clone()));
            effect.done();
        }
        Ok(())
    }
}

pub(crate) fn number(msg: &FluxMsg) -> u64 {
    msg.data.get_key("number").and_then(Value::as_int).and_then(|int| u64::try_from(int).ok()).unwrap_or(u64::MAX)
}

/// Admits these numbers, in order, until the last is durable. Says how many were let in before the rig ended.
pub(crate) async fn push(io: &Io, numbers: std::ops::Range<u64>) -> u64 {
    let door = io.door();
    let mut last = None;
    let mut count = 0;
    for number in numbers {
        let mut msg = io.message();
        msg.data.insert_key("number", i64::try_from(number).unwrap());
        match door.admit(msg).await {
            Ok(receipt) => (last, count) = (Some(receipt), count + 1),
            Err(_) => break,
        }
    }
    if let Some(receipt) = last {
        receipt.durable().await;
    }
    count
}

/// One side of a wire: a rack with its journal, that can be started again and again.
pub(crate) struct Rack {
    name: &'static str,
    dir: PathBuf,
    pub(crate) options: BusOptions,
    lane: Lane,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Rack {
    pub(crate) fn new(name: &'static str, options: BusOptions) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("fluxrig-bus-rack-{}-{number}", std::process::id()));
        Self { name, dir, options, lane: Lane::Flush }
    }

    pub(crate) fn bus(&self) -> Arc<Bus> {
        Bus::start(self.options.clone(), self.name)
    }

    fn rig(&self) -> Rig {
        let mut journal = JournalOptions::dir(&self.dir);
        journal.segment_bytes = 1 << 20;
        Rig::new("wires").journal_with(journal)
    }

    fn wire(&self) -> WireOptions {
        WireOptions { lane: self.lane, ..WireOptions::default() }
    }

    /// `source -> out`, where `out` publishes for the reader `sink` of rack `south`.
    pub(crate) async fn sender(&self, hand: &Hand) -> RunningRig {
        self.sender_on(self.bus(), hand).await
    }

    pub(crate) async fn sender_on(&self, bus: Arc<Bus>, hand: &Hand) -> RunningRig {
        let mut out = BusOut::new(bus, subject());
        out.readers.push(("south".into(), "south_in".into()));
        let rig = || {
            let rig = self.rig().endpoint("source", hand.clone()).endpoint("out", out.clone());
            rig.wire_with("source", "out", self.wire())
        };
        start(rig).await
    }

    /// `in -> sink`.
    pub(crate) async fn receiver(&self, sink: &Sink) -> RunningRig {
        self.receiver_on(self.bus(), sink).await
    }

    pub(crate) async fn receiver_on(&self, bus: Arc<Bus>, sink: &Sink) -> RunningRig {
        let rig = || {
            let rig = self.rig().endpoint("in", BusIn::new(Arc::clone(&bus), subject()));
            rig.endpoint("sink", sink.clone()).wire_with("in", "sink", self.wire())
        };
        start(rig).await
    }
}

/// Starts a rig whose last process may still be letting go of its directory.
async fn start(rig: impl Fn() -> Rig) -> RunningRig {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        match rig().start().await {
            Ok(rig) => return rig,
            Err(RigError::Open(_)) if tokio::time::Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl Drop for Rack {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

pub(crate) fn subject() -> fluxrig_actors::protocol::subject::MsgSubject {
    "flux.msg.north.pumps.out".parse().unwrap()
}

/// Waits until the bus is up.
pub(crate) async fn up(bus: &Bus) {
    let state = bus.state();
    until("the bus is up", || match &*state.borrow() {
        BusState::Up { .. } => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// Waits until the bus is refused, and says why.
pub(crate) async fn refused(bus: &Bus) -> String {
    let state = bus.state();
    until("the bus is refused", || match &*state.borrow() {
        BusState::Refused { why } => Ok(why.clone()),
        other => Err(format!("{other:?}")),
    })
    .await
}

/// Waits until the endpoint says why it waits, with a text that holds `part`.
pub(crate) async fn waits(rig: &RunningRig, endpoint: &str, part: &str) -> String {
    until("the endpoint says why it waits", || {
        let links = rig.links();
        let link = links.iter().find(|link| link.endpoint == endpoint);
        match link {
            Some(link) if !link.is_up && link.reason.contains(part) => Ok(link.reason.to_string()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}
