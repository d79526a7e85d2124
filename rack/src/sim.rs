//! A user's own scenario in a simulation: simulated sockets, disk and clock in one thread, seeded terminals and hosts
//! around it, seeded faults under it, and a ledger outside that judges what came of each request.

mod check;
mod drive;
mod host;
mod ledger;
mod message;
mod plan;
mod report;
mod shrink;
mod stage;
mod terminal;
mod traffic;
mod world;

use std::time::Duration;

use fluxrig_actors::Catalog;

use crate::scenario::{Checked, RackChoice};
use stage::Stage;

pub use plan::Fault;
pub use report::{Report, Totals, Violation};
pub use shrink::{Shrunk, shrink};
pub use traffic::Traffic;

/// A scenario, to be simulated.
#[derive(Clone, Debug)]
pub struct Subject {
    checked: Checked,
    catalog: Catalog,
    rack: Option<String>,
    stage: Stage,
    traffic: Traffic,
}

/// What a run is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Kinds of faults. Default: all.
    pub faults: Vec<Fault>,
    /// Requests that terminals make.
    pub requests: usize,
    /// Virtual time in which they are made.
    pub span: Duration,
    /// Of the faults that the seed plans only these.
    pub only_faults: Option<Vec<usize>>,
    /// Of the requests that the seed plans only these.
    pub only_requests: Option<Vec<usize>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            faults: Fault::ALL.to_vec(),
            requests: 60,
            span: Duration::from_secs(20),
            only_faults: None,
            only_requests: None,
        }
    }
}

/// Why a scenario cannot be simulated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// Which rack is meant cannot be said.
    #[error(transparent)]
    Rack(#[from] RackChoice),
    /// No server for terminals.
    #[error(
        "scenario: found no server that terminals could connect to, expected an `io_iso8583` or `io_tcp` with `mode: server` that no client of the scenario dials; remedy: simulate the scenario that has it"
    )]
    NoEntrance,
    /// A gear that writes to real files.
    #[error(
        "gear `{gear}`: found type `file`, which writes to the files of this machine, expected endpoints with sockets only; remedy: simulate a copy of the scenario with a `log` there"
    )]
    File {
        /// The gear.
        gear: String,
    },
    /// A wire over a bus, which is not simulated.
    #[error(
        "wire `{wire}`: found it on the bus, expected wires inside one rack; remedy: simulate a copy of the scenario whose gears run on one rack"
    )]
    Bus {
        /// The wire.
        wire: String,
    },
    /// An address that the system chooses.
    #[error("gear `{gear}`: found port 0, expected a port that terminals can know; remedy: give it one")]
    Port {
        /// The gear.
        gear: String,
    },
    /// Traffic that says nothing.
    #[error("traffic: {text}")]
    Traffic {
        /// Where, what was found, what was expected, and the remedy.
        text: String,
    },
}

impl Subject {
    /// Looks at a scenario: where terminals connect, whom it dials, what is spoken there.
    ///
    /// # Errors
    /// When there is nothing to simulate, or something that cannot be.
    pub fn new(checked: &Checked, catalog: &Catalog, rack: Option<&str>, traffic: Traffic) -> Result<Self, SimError> {
        let stage = Stage::of(checked, rack)?;
        traffic.check(&stage)?;
        Ok(Self { checked: checked.clone(), catalog: catalog.clone(), rack: rack.map(str::to_owned), stage, traffic })
    }

    /// Runs one seed to its end, on a thread and a clock of its own.
    #[must_use]
    pub fn run(&self, seed: u64, options: &Options) -> Report {
        drive::run(self, seed, options)
    }
}

/// A number drawn from words: the same everywhere for the same arguments, whatever else is drawn.
fn draw(seed: u64, word: &str, number: u64) -> u64 {
    let mut hash = seed ^ 0xcbf2_9ce4_8422_2325;
    for byte in word.bytes().chain([0]).chain(number.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The low bits of a product of bytes are poor; mixing spreads them.
    hash = (hash ^ (hash >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests;
