//! What a gear is: its configuration, its state, and one plain function from a message to what it causes.
//! A gear has no clock, no I/O and no await; what must wait for the outside world is an [`Endpoint`](crate::Endpoint).

use std::sync::Arc;

use fluxrig_protocol::{EntityId, FieldError, FluxMsg, LimitError, Value};
use smol_str::SmolStr;

use crate::outlet::Outlet;
use crate::port::Ports;
use crate::tally::Tallies;

/// Why a gear does not go on with a message, or at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GearError {
    /// The message cannot be accepted: it goes to the dead-letter wire with this reason, the gear goes on.
    #[error("{0}")]
    Reject(SmolStr),
    /// The gear cannot go on: it is restarted, and the message is delivered again after a backoff.
    #[error("{0}")]
    Broken(SmolStr),
}

impl GearError {
    /// The message cannot be accepted. Say where, what was found, what was expected and the remedy; never a value.
    pub fn reject(reason: impl AsRef<str>) -> Self {
        Self::Reject(reason.as_ref().into())
    }

    /// The gear cannot go on.
    pub fn broken(reason: impl AsRef<str>) -> Self {
        Self::Broken(reason.as_ref().into())
    }
}

impl From<FieldError> for GearError {
    fn from(error: FieldError) -> Self {
        Self::reject(error.to_string())
    }
}

impl From<LimitError> for GearError {
    fn from(error: LimitError) -> Self {
        Self::reject(error.to_string())
    }
}

/// What a gear is given when it starts, and starts again.
#[derive(Clone, Debug)]
pub struct StartContext {
    /// Name in the scenario.
    pub name: SmolStr,
    /// Entity id that its messages carry as `src`.
    pub entity: EntityId,
    /// Which partition of the gear this is; 0 when it is not partitioned.
    pub partition: u32,
    /// Durable state that was recovered: what `put` left there before.
    pub recovered: Vec<(SmolStr, Value)>,
    /// What it counts for whoever watches the rig.
    pub tallies: Tallies,
}

/// Whether an endpoint can reach its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Name of the endpoint.
    pub endpoint: SmolStr,
    /// Up or down.
    pub is_up: bool,
    /// Why it is down; empty when it is up.
    pub reason: SmolStr,
}

/// A processing actor. `self` is what the scenario says and never changes; `State` is what it remembers, built by
/// `start` and lost at every restart, so never the only copy: what must last goes through [`Outlet::put`].
///
/// ```
/// use fluxrig_actors::prelude::*;
///
/// /// Passes on every second message.
/// struct EverySecond;
///
/// impl Gear for EverySecond {
///     const TYPE: &'static str = "every_second";
///     type State = u64;
///
///     fn handle(&self, msg: FluxMsg, seen: &mut u64, out: &mut Outlet) -> Result<(), GearError> {
///         *seen += 1;
///         if *seen % 2 == 0 {
///             out.emit(msg);
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Gear: Send + Sync + 'static {
    /// Name of the type in scenarios, snake_case; never given a second meaning.
    const TYPE: &'static str;
    /// What it remembers between messages.
    type State: Default + Send + Sync + 'static;

    /// Its ports, which may depend on the configuration.
    fn ports(&self) -> Ports {
        Ports::pipe()
    }

    /// Builds the state, at the first start and after every restart.
    ///
    /// # Errors
    /// An error counts as a failed start; the supervisor decides what follows.
    fn start(&self, _ctx: &StartContext) -> Result<Self::State, GearError> {
        Ok(Self::State::default())
    }

    /// Handles one message. Same message, same state, same output.
    ///
    /// # Errors
    /// See [`GearError`]. What was emitted or put before the error is as if it had not been.
    fn handle(&self, msg: FluxMsg, state: &mut Self::State, out: &mut Outlet) -> Result<(), GearError>;

    /// A timer that it set has run out.
    ///
    /// # Errors
    /// As for `handle`; a rejected timer is gone.
    fn on_timer(&self, _key: &str, _state: &mut Self::State, _out: &mut Outlet) -> Result<(), GearError> {
        Ok(())
    }

    /// An endpoint got or lost its link: one that this gear reaches, or is reached by, through gears only.
    ///
    /// # Errors
    /// As for `handle`.
    fn on_link(&self, _link: &Link, _state: &mut Self::State, _out: &mut Outlet) -> Result<(), GearError> {
        Ok(())
    }
}

/// A gear behind its type: what the runtime holds of it.
pub(crate) trait AnyGear: Send + Sync {
    fn type_name(&self) -> &'static str;
    fn ports(&self) -> Ports;
    fn start(&self, ctx: &StartContext) -> Result<Box<dyn AnyRunning>, GearError>;
}

/// A started gear: configuration and state together.
pub(crate) trait AnyRunning: Send + Sync {
    fn handle(&mut self, msg: FluxMsg, out: &mut Outlet) -> Result<(), GearError>;
    fn on_timer(&mut self, key: &str, out: &mut Outlet) -> Result<(), GearError>;
    fn on_link(&mut self, link: &Link, out: &mut Outlet) -> Result<(), GearError>;
    /// Whether anything but the message itself can reach its outputs.
    fn is_stateful(&self) -> bool;
}

pub(crate) struct Typed<G>(pub(crate) Arc<G>);

struct Running<G: Gear> {
    gear: Arc<G>,
    state: G::State,
}

impl<G: Gear> AnyGear for Typed<G> {
    fn type_name(&self) -> &'static str {
        G::TYPE
    }

    fn ports(&self) -> Ports {
        self.0.ports()
    }

    fn start(&self, ctx: &StartContext) -> Result<Box<dyn AnyRunning>, GearError> {
        let state = self.0.start(ctx)?;
        Ok(Box::new(Running { gear: Arc::clone(&self.0), state }))
    }
}

impl<G: Gear> AnyRunning for Running<G> {
    fn handle(&mut self, msg: FluxMsg, out: &mut Outlet) -> Result<(), GearError> {
        self.gear.handle(msg, &mut self.state, out)
    }

    fn on_timer(&mut self, key: &str, out: &mut Outlet) -> Result<(), GearError> {
        self.gear.on_timer(key, &mut self.state, out)
    }

    fn on_link(&mut self, link: &Link, out: &mut Outlet) -> Result<(), GearError> {
        self.gear.on_link(link, &mut self.state, out)
    }

    fn is_stateful(&self) -> bool {
        size_of::<G::State>() > 0
    }
}
