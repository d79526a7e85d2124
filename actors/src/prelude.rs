//! What a gear author needs, in one line: `use fluxrig_actors::prelude::*;`.

pub use crate::{
    About, Admission, Catalog, Category, Effect, Effects, Endpoint, Gear, GearError, Io, JournalOptions, Lane, Link,
    Maturity, OnMaybeSent, Outlet, Ports, Refused, Rig, RunningRig, StartContext, WireOptions,
};
pub use fluxrig_protocol::{FieldPath, FluxId, FluxMsg, Map, Value};
pub use schemars::JsonSchema;
pub use serde::Deserialize;
