//! A rig around one endpoint with real sockets: a desk on the other side of its wires, which a test reads and answers.
//! What both endpoints do alike is tried here, through `io_tcp`.

mod client;
mod many;
mod server;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxrig_actors::Settings;
use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::Limits;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use super::Bound;
use crate::{IoIso8583, IoTcp};

/// The other side of an endpoint's wires. It keeps what comes, and lets in what a test gives it.
#[derive(Clone)]
pub(crate) struct Desk {
    seen: Arc<Mutex<Vec<FluxMsg>>>,
    held: Arc<Mutex<Vec<Effect>>>,
    is_holding: Arc<AtomicBool>,
    give: mpsc::UnboundedSender<FluxMsg>,
    given: Arc<AsyncMutex<mpsc::UnboundedReceiver<FluxMsg>>>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let (give, given) = mpsc::unbounded_channel();
        let given = Arc::new(AsyncMutex::new(given));
        Self { seen: Arc::default(), held: Arc::default(), is_holding: Arc::default(), give, given }
    }

    /// From here on what comes stays on its wire, as if it were being worked on.
    pub(crate) fn hold(&self) {
        self.is_holding.store(true, Ordering::SeqCst);
    }

    /// Ends what it holds.
    pub(crate) fn release(&self) {
        self.is_holding.store(false, Ordering::SeqCst);
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        Effect::done_all(held);
    }

    /// Waits for so many messages since the beginning, and gives them all.
    pub(crate) async fn seen(&self, count: usize) -> Vec<FluxMsg> {
        until("messages come", || self.seen.lock().unwrap().len() >= count).await;
        self.seen.lock().unwrap().clone()
    }

    /// Their bytes.
    pub(crate) async fn raws(&self, count: usize) -> Vec<Vec<u8>> {
        self.seen(count).await.iter().map(|msg| msg.raw.as_ref().unwrap().to_vec()).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Sends a message to the endpoint.
    pub(crate) fn send(&self, msg: FluxMsg) {
        self.give.send(msg).unwrap();
    }

    /// Sends an answer to a message.
    pub(crate) fn answer(&self, to: &FluxMsg, raw: &[u8]) {
        let mut msg = bytes(raw);
        msg.return_to = to.return_to.clone();
        self.send(msg);
    }
}

impl Endpoint for Desk {
    const TYPE: &'static str = "test_desk";

    fn ports(&self) -> Ports {
        Ports::pipe()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let (mut effects, mut given) = (io.effects(), self.given.lock().await);
        loop {
            tokio::select! {
                batch = effects.take_many(64) => {
                    if batch.is_empty() {
                        return Ok(());
                    }
                    self.seen.lock().unwrap().extend(batch.iter().map(|effect| effect.msg.clone()));
                    if self.is_holding.load(Ordering::SeqCst) {
                        self.held.lock().unwrap().extend(batch);
                    } else {
                        Effect::done_all(batch);
                    }
                }
                Some(msg) = given.recv() => drop(io.door().admit(msg).await),
            }
        }
    }
}

/// A message with these bytes.
pub(crate) fn bytes(raw: &[u8]) -> FluxMsg {
    let mut msg = crate::tests::harness::msg(1);
    msg.raw = Some(raw.to_vec().into());
    msg
}

/// Looks until something is so. The bound is only there for a test that fails.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..20_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

/// A rig of one endpoint and a desk.
pub(crate) struct Stage {
    pub(crate) rig: RunningRig,
    pub(crate) desk: Desk,
    bound: Bound,
}

impl Stage {
    pub(crate) async fn tcp(config: Json) -> Self {
        Self::room(config, WireOptions::default().capacity, Settings::default()).await
    }

    /// With wires that hold so few messages.
    pub(crate) async fn narrow(config: Json, capacity: usize) -> Self {
        Self::room(config, capacity, Settings::default()).await
    }

    /// With other limits of a message.
    pub(crate) async fn limited(config: Json, limits: Limits) -> Self {
        Self::room(config, WireOptions::default().capacity, Settings { limits, ..Settings::default() }).await
    }

    async fn room(config: Json, capacity: usize, settings: Settings) -> Self {
        let endpoint: IoTcp = serde_json::from_value(config).unwrap();
        let bound = endpoint.bound();
        Self::start(endpoint, bound, capacity, settings).await
    }

    pub(crate) async fn iso(config: Json) -> Self {
        let endpoint: IoIso8583 = serde_json::from_value(config).unwrap();
        let bound = endpoint.bound();
        Self::start(endpoint, bound, WireOptions::default().capacity, Settings::default()).await
    }

    async fn start(endpoint: impl Endpoint, bound: Bound, capacity: usize, settings: Settings) -> Self {
        let desk = Desk::new();
        let wire = WireOptions { lane: Lane::Turbo, capacity, ..WireOptions::default() };
        let rig = Rig::new("net").settings(settings).endpoint("net", endpoint).endpoint("desk", desk.clone());
        let rig = rig.wire_with("net", "desk", wire.clone()).wire_with("desk", "net", wire);
        Self { rig: rig.start().await.unwrap(), desk, bound }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.bound.address().unwrap()
    }

    pub(crate) async fn connect(&self) -> Peer {
        Peer(TcpStream::connect(self.address()).await.unwrap())
    }

    pub(crate) fn tally(&self, series: &str, label: &str) -> u64 {
        let tallies = self.rig.tallies();
        let found = tallies.iter().find(|(_, name, of, _)| (*name, of.as_str()) == (series, label));
        found.map_or(0, |(_, _, _, count)| *count)
    }

    /// Waits for a count.
    pub(crate) async fn counted(&self, series: &str, label: &str, count: u64) {
        until(&format!("{series} {label} {count}"), || self.tally(series, label) >= count).await;
        assert_eq!(self.tally(series, label), count);
    }

    /// Waits until so many connections have ended for this reason.
    pub(crate) async fn closed(&self, reason: &str, count: u64) {
        self.counted("connections_closed", reason, count).await;
    }

    /// Reasons in the dead letters.
    pub(crate) async fn dead(&self, count: usize) -> Vec<String> {
        until("dead letters come", || self.rig.dead_letters().unwrap().len() >= count).await;
        self.rig.dead_letters().unwrap().into_iter().map(|letter| letter.reason.to_string()).collect()
    }

    pub(crate) async fn stop(self) {
        self.desk.release();
        assert!(self.rig.stop(Duration::from_secs(10)).await);
    }
}

/// What is at the other end of a connection.
pub(crate) struct Peer(pub(crate) TcpStream);

impl Peer {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads exactly these bytes.
    pub(crate) async fn expect(&mut self, bytes: &[u8]) {
        let mut read = vec![0; bytes.len()];
        self.0.read_exact(&mut read).await.unwrap();
        assert_eq!(read, bytes);
    }

    /// Reads to the end, which an answer to nothing and a reset are, too.
    pub(crate) async fn end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        drop(self.0.read_to_end(&mut rest).await);
        rest
    }
}
