//! Scenarios in YAML, checked to the end, and the daemon that runs them.
//!
//! ```no_run
//! # async fn run() -> Result<(), fluxrig_rack::RackError> {
//! # let catalog = fluxrig_actors::Catalog::new();
//! let rack = fluxrig_rack::Rack::load("plant.yaml", &catalog)?;
//! rack.run_until(tokio::signal::ctrl_c()).await
//! # }
//! ```

mod rack;

pub mod bus;
pub mod scenario;
#[cfg(feature = "sim")]
pub mod sim;

mod control;
mod error;
mod http;
mod inspect;
mod mask;
mod metrics;
mod operate;
mod panics;
mod standby;
mod stream;
mod view;

pub use control::{Answer, AskError, Listening, Request, SOCKET, ask, listen_to};
pub use error::{RackError, exit, open_code, stream_code, with_causes};
pub use inspect::inspect_stream;
pub use mask::{Form, Mask, Whence, keys_and_lengths};
pub use metrics::{SERIES, Series};
pub use panics::limit_panic_reports;
pub use rack::{JOURNAL_DIR, Rack, RackOptions, RunningRack};
pub use scenario::{Checked, Problem, Scenario, ScenarioErrors};
pub use standby::NoStandby;
pub use view::{bus_text, top_text};
