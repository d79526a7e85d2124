//! The actor runtime people embed: gears and endpoints joined by wires, commits in memory, a journal under them.
//! Put a [`Rig`] together in code, start it, and every gear, wire and node in it is a supervised actor.

mod rig;

mod catalog;
mod endpoint;
mod gear;
mod outlet;
mod port;

mod plan;

mod wire;

mod bell;
mod cell;
mod commit;
mod door;
mod fate;
mod gate;
mod identity;
mod lease;
mod marks;
mod memory;
mod node;
mod retained;
mod standby;
mod tally;
mod tap;

mod endpoint_actor;
mod gear_actor;
mod journal_actor;
mod wire_actor;

#[cfg(feature = "jetstream")]
pub mod bus;

pub mod clock;
pub mod journal;
#[doc(hidden)]
pub mod mutants;
pub mod prelude;

#[cfg(test)]
mod sample;

pub use catalog::{About, Built, Catalog, CatalogError, Category, Manifest, Maturity};
pub use door::Closed;
pub use endpoint::{Admission, Effect, Effects, Endpoint, Io, Keep, OnMaybeSent, Receipt, Refused};
pub use fate::{Outcome, SentAgain};
pub use gear::{Gear, GearError, Link, StartContext};
pub use lease::LeaseView;
pub use node::{Redactor, Settings};
pub use outlet::Outlet;
pub use plan::{PlanError, PlanErrors, Supervision, nearest};
pub use port::{IN, Input, OUT, Output, Ports};
pub use rig::{
    DeadLetter, DoorView, JournalOptions, LetterCount, LetterError, LetterFilter, OnFailed, Orphans, Replay, Replayed,
    RetainedMsg, Rig, RigError, RunningRig, Waiting, WaitsFor, WireView,
};
pub use standby::{Standby, StandbyView};
pub use tally::{Tallies, Tally};
pub use tap::{Tap, TapError, Tapped};
pub use wire::{Lane, Redelivery, Retention, WireOptions};

pub use fluxrig_protocol as protocol;
pub use fluxrig_supervision as supervision;
