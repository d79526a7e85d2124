//! The gears we ship, one file each; [`standard`] is the catalog that a scenario chooses from.
//! A gear's configuration struct is its schema and its manual page.

mod catalog;

mod codec_iso8583;
mod conductor;
mod file;
mod generator;
mod io_iso8583;
mod io_tcp;
mod iso8583_host;
mod iso8583_reply;
mod log;
mod map;

pub mod iso8583;

mod literal;
mod net;
pub mod predicate;
pub mod yaml;

#[cfg(test)]
mod tests;

pub use catalog::standard;
pub use codec_iso8583::{Codec, Direction};
pub use conductor::{Conductor, ConductorError, PredicateError};
pub use file::{FileSink, Flush};
pub use generator::{Generator, Rate, RateError};
pub use io_iso8583::{IoIso8583, Iso8583Config, Iso8583Framing};
pub use io_tcp::{IoTcp, TcpConfig, TcpFraming};
pub use iso8583_host::Host;
pub use iso8583_reply::Reply;
pub use log::{Level, Log};
pub use map::{Mapping, MappingError, Missing, PlaceError};
pub use net::{BackoffMs, Bound, LengthPrefix, Mode, NetError, sim};
