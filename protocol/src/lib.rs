//! Pure data that travels: the message ([`FluxMsg`]) and its CBOR, ids, trace context, subjects and limits.
//! Nothing here does I/O, reads a clock or knows a runtime; a released key, bit or number never gets a second meaning.
//!
//! ```
//! use fluxrig_protocol::{EntityId, EntityKind, FieldPath, FluxId, FluxMsg, Limits, Trace};
//!
//! let gear = EntityId::from_names(EntityKind::Gear, 0, "depot-fuel-cards", "pumps");
//! let mut msg = FluxMsg::new(FluxId::v7(1_700_000_000_000, [7; 10]), Trace::default(), gear, 1_700_000_000_000_000_000);
//! msg.meta.set("iso8583.mti", "0200");
//! msg.data.set(&"iso8583.4".parse::<FieldPath>()?, "000000012500")?;
//!
//! let limits = Limits::default();
//! let bytes = msg.encoded(&limits)?;
//! let same = FluxMsg::decode(bytes, &limits)?;
//! assert_eq!(same.data.text(&"iso8583.4".parse()?)?, "000000012500");
//! assert_eq!(same, msg);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod msg;

mod field_path;
mod map;
mod meta;
mod sorted;
mod value;

mod id;
mod limits;
mod trace;

pub mod subject;

mod cbor;

/// The text type of keys and values: inline up to 23 bytes, shared beyond.
pub use smol_str::SmolStr;

pub use cbor::{DecodeError, Fault, Field};
pub use field_path::{FieldError, FieldPath, PathError};
pub use id::{EntityId, EntityKind, FluxId, IdError};
pub use limits::{LimitError, Limits, LimitsError};
pub use map::{Entry, Map, MapBuilder};
pub use meta::Meta;
pub use msg::{Body, EncodeError, Flags, FluxMsg, Hop, Path, ReservedFlags, Unknown};
pub use trace::{Trace, TraceError};
pub use value::{Blob, Int, OutOfRange, Value};
