//! What an endpoint is: an async task that owns sockets, files or subprocesses, and meets the rig at doors and effects.
//! It reads and writes in separate tasks, so that a peer that does not read holds up nobody else (HEART §3.3).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use fluxrig_protocol::{EntityId, FluxId, FluxMsg, Limits, Trace, Value};
use smol_str::SmolStr;
use tokio::sync::Notify;

use crate::cell::Cell;
use crate::gear::{GearError, Link};
use crate::node::Node;
use crate::port::Ports;
use crate::tally::Tallies;

mod admission;
mod effects;

pub use admission::{Admission, Keep, Receipt, Refused};
pub(crate) use admission::{BATCH, BATCH_BYTES};
pub use effects::{Effect, Effects};

/// What an endpoint does with an effect that may have happened before a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMaybeSent {
    /// Starts it again as if it were new: for sinks where a repeat can be told by its id.
    Resend,
    /// Starts it again, marked as a repeat in the protocol's own way.
    Repeat,
    /// Never starts it again: it is handed on as an unknown outcome.
    #[default]
    Report,
}

/// An actor that meets the outside world. `self` is what the scenario says and never changes.
///
/// The future of `run` is the endpoint: when it ends well the endpoint is done, when it fails or panics its supervisor
/// starts it again, and what it had taken and not ended comes back as *maybe sent*.
pub trait Endpoint: Send + Sync + 'static {
    /// Name of the type in scenarios, snake_case; never given a second meaning.
    const TYPE: &'static str;

    /// Its ports, which may depend on the configuration.
    fn ports(&self) -> Ports;

    /// Whether its start is complete only when it calls [`Io::opened`], for instance after it has bound an address. An
    /// end before that is a failed start: at the first start nothing runs, later its supervisor decides.
    fn opens(&self) -> bool {
        false
    }

    /// Lives until it is stopped, or until there is nothing left to do.
    fn run(self: Arc<Self>, io: Io) -> impl Future<Output = Result<(), GearError>> + Send;
}

/// An endpoint behind its type.
pub(crate) trait AnyEndpoint: Send + Sync {
    fn type_name(&self) -> &'static str;
    fn ports(&self) -> Ports;
    fn opens(&self) -> bool;
    fn run(&self, io: Io) -> Pin<Box<dyn Future<Output = Result<(), GearError>> + Send>>;
}

pub(crate) struct TypedEndpoint<E>(pub(crate) Arc<E>);

impl<E: Endpoint> AnyEndpoint for TypedEndpoint<E> {
    fn type_name(&self) -> &'static str {
        E::TYPE
    }

    fn ports(&self) -> Ports {
        self.0.ports()
    }

    fn opens(&self) -> bool {
        self.0.opens()
    }

    fn run(&self, io: Io) -> Pin<Box<dyn Future<Output = Result<(), GearError>> + Send>> {
        Box::pin(Arc::clone(&self.0).run(io))
    }
}

/// An endpoint's side of the rig: its doors, its effects, its link.
#[derive(Clone, Debug)]
pub struct Io {
    node: Arc<Node>,
    cell: Arc<Cell>,
    /// Random per start of the endpoint: an address of an earlier one leads nowhere (HEART §5.5).
    incarnation: [u8; 8],
    opened: Arc<Notify>,
}

impl Io {
    pub(crate) fn new(node: Arc<Node>, cell: Arc<Cell>, opened: Arc<Notify>) -> Self {
        let mut incarnation = [0; 8];
        node.world.random(&mut incarnation);
        Self { node, cell, incarnation, opened }
    }

    /// Name in the scenario.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.cell.name
    }

    /// Entity id that its messages carry as `src`.
    #[must_use]
    pub fn entity(&self) -> EntityId {
        self.cell.entity
    }

    /// Wall time in nanoseconds since the Unix epoch.
    #[must_use]
    pub fn now_ns(&self) -> i64 {
        self.node.wall_ns()
    }

    /// A new message from outside: fresh id and trace, this endpoint as source, now as time.
    #[must_use]
    pub fn message(&self) -> FluxMsg {
        let mut random = [0; 34];
        self.node.world.random(&mut random);
        let mut id = [0; 10];
        id.copy_from_slice(&random[..10]);
        let mut trace = Trace::default();
        trace.trace_id.copy_from_slice(&random[10..26]);
        trace.span_id.copy_from_slice(&random[26..]);
        let wall_ns = self.node.wall_ns();
        let id = FluxId::v7(u64::try_from(wall_ns / 1_000_000).unwrap_or(0), id);
        FluxMsg::new(id, trace, self.cell.entity, wall_ns)
    }

    /// Fills `bytes` with randomness.
    pub fn random(&self, bytes: &mut [u8]) {
        self.node.world.random(bytes);
    }

    /// The door behind the first output port.
    ///
    /// # Panics
    /// When the endpoint has declared no output.
    #[must_use]
    pub fn door(&self) -> Admission {
        let port = self.cell.ports.outputs.first().expect("an endpoint with a door declares an output");
        self.door_on(&port.name).expect("the first output is there")
    }

    /// The door behind the named output port, or `None` where it has not declared one of that name.
    #[must_use]
    pub fn door_on(&self, port: &str) -> Option<Admission> {
        let port_idx = self.cell.ports.output_idx(port)?;
        Some(Admission::new(&self.node, &self.cell, port_idx))
    }

    /// Limits of every message in this rig.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.node.settings.limits
    }

    /// What it has kept with admissions ([`Keep`]), in the order of keys: by an earlier start, of the process as well when
    /// one of its wires is durable.
    #[must_use]
    pub fn recovered(&self) -> Vec<(SmolStr, Value)> {
        self.cell.memory().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// The effects of all its input ports. Taken by one task; ended by any.
    #[must_use]
    pub fn effects(&self) -> Effects {
        Effects::new(&self.node, &self.cell)
    }

    /// Messages that the narrowest wire into this endpoint holds before doors close: who keeps nearly as many effects
    /// holds up everybody else.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.cell.wiring().inlets.iter().map(|inlet| inlet.queue.spec.capacity).min().unwrap_or(usize::MAX)
    }

    /// Tells the gears between this endpoint and the next ones that the peer can be reached.
    pub fn link_up(&self) {
        self.cell.announce_link(Link { endpoint: self.cell.name.clone(), is_up: true, reason: SmolStr::default() });
    }

    /// Tells them that the peer cannot be reached.
    pub fn link_down(&self, reason: &str) {
        self.cell.announce_link(Link { endpoint: self.cell.name.clone(), is_up: false, reason: reason.into() });
    }

    /// What the rig was given in place of the machine's own sockets or files, where that is a `T`: in a simulation.
    #[must_use]
    pub fn outside<T: std::any::Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.node.world.outside()?.downcast().ok()
    }

    /// What it counts for whoever watches the rig.
    #[must_use]
    pub fn tallies(&self) -> &Tallies {
        &self.cell.tallies
    }

    /// It has what it needs to serve: for an endpoint that [opens](Endpoint::opens), its start is complete.
    pub fn opened(&self) {
        self.opened.notify_one();
    }

    /// Where an answer to what came over `connection` goes: this endpoint, this start of it, that connection.
    #[must_use]
    pub fn return_address(&self, connection: u64) -> Bytes {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.cell.entity.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.incarnation);
        bytes[16..].copy_from_slice(&connection.to_be_bytes());
        Bytes::copy_from_slice(&bytes)
    }

    /// The connection that an answer goes to, or `None` when it was not one of this start of this endpoint.
    #[must_use]
    pub fn connection(&self, msg: &FluxMsg) -> Option<u64> {
        // Compared in place: this is asked for every effect.
        let address: &[u8; 24] = msg.return_to.as_deref()?.try_into().ok()?;
        let (entity, rest) = address.split_first_chunk::<8>()?;
        let (incarnation, connection) = rest.split_first_chunk::<8>()?;
        if *entity != self.cell.entity.0.to_be_bytes() || *incarnation != self.incarnation {
            return None;
        }
        Some(u64::from_be_bytes(connection.try_into().ok()?))
    }

    /// Waits until the rig drains: no new requests from here on, answers are still read.
    pub async fn draining(&self) {
        let mut marks = self.node.watch_marks();
        while !self.node.gauge.is_draining() && !self.node.gauge.is_halted() {
            marks.told().await;
        }
    }

    /// Text of this endpoint's position for log lines: name only.
    #[must_use]
    pub fn label(&self) -> SmolStr {
        self.cell.name.clone()
    }
}
