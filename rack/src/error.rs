//! Why a rack does not start or did not go on, and the exit code that says so to scripts and service managers.

use std::io;
use std::net::SocketAddr;

use fluxrig_actors::RigError;
use fluxrig_actors::journal::stream::StreamOpenError;
use fluxrig_actors::journal::{OpenError, StorageError};

use crate::bus::BusError;
use crate::scenario::{RackChoice, ScenarioErrors};
use crate::standby::NoStandby;

/// Exit codes of `fluxrig`; they follow `sysexits.h` where it has one.
pub mod exit {
    /// Done.
    pub const DONE: u8 = 0;
    /// Failed.
    pub const FAILED: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 2;
    /// The journal is damaged.
    pub const DAMAGED: u8 = 65;
    /// A peer, bus or daemon is not there.
    pub const UNAVAILABLE: u8 = 69;
    /// The data directory is locked or cannot be written.
    pub const DATA_DIR: u8 = 73;
    /// It may work later.
    pub const TRY_AGAIN: u8 = 75;
    /// Another one has taken this rack's place.
    pub const FENCED: u8 = 77;
    /// The scenario is wrong.
    pub const BAD_CONFIG: u8 = 78;
    /// An address is in use.
    pub const ADDRESS_IN_USE: u8 = 98;
}

/// What an endpoint that cannot bind says in its error.
pub(crate) const ADDRESS_IN_USE: &str = "address in use";

/// Why a rack does not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RackError {
    /// The scenario is wrong.
    #[error(transparent)]
    Scenario(#[from] ScenarioErrors),
    /// Which rack it is cannot be said.
    #[error(transparent)]
    Choice(#[from] RackChoice),
    /// The data directory cannot be used.
    #[error(
        "data directory `{dir}`: found it unusable, expected a writable directory; remedy: mend its rights, or choose another with `--data-dir`"
    )]
    DataDir {
        /// The directory.
        dir: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The servers that are to keep the journal.
    #[error("`journal: jetstream`: {0}")]
    StreamJournal(#[source] fluxrig_actors::bus::BusError),
    /// The rack's own server cannot be had.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The rig does not start.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// The address for metrics cannot be had.
    #[error(
        "metrics on {address}: found an address that cannot be listened on, expected a free one of this machine; remedy: choose another with `--metrics`"
    )]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The control socket cannot be made.
    #[error(
        "control socket in `{dir}`: found it unusable, expected to be able to make it; remedy: check the rights of the directory"
    )]
    Control {
        /// The data directory.
        dir: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An endpoint found its address taken.
    #[error("gear `{gear}`: {reason}")]
    AddressInUse {
        /// The gear.
        gear: String,
        /// In its own words.
        reason: String,
    },
    /// It cannot be a stand-by of this scenario.
    #[error(transparent)]
    NoStandby(#[from] NoStandby),
    /// Another one has taken its place: it starts no effect any more.
    #[error("rack: fenced: {reason}")]
    Fenced {
        /// In the journal's words.
        reason: String,
    },
    /// It ended by itself.
    #[error(
        "rack: found it ended by itself ({reason}), expected it to run until a signal; remedy: see its log for the gear that failed"
    )]
    Ended {
        /// Why.
        reason: String,
    },
}

impl RackError {
    /// The exit code of a process that ends with this.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let of_io = |error: &io::Error, other| match error.kind() {
            io::ErrorKind::AddrInUse => exit::ADDRESS_IN_USE,
            _ => other,
        };
        match self {
            Self::Scenario(_) => exit::BAD_CONFIG,
            Self::StreamJournal(_) => exit::UNAVAILABLE,
            Self::Choice(RackChoice::Gear { .. }) => exit::BAD_CONFIG,
            Self::Choice(_) => exit::USAGE,
            Self::DataDir { .. } | Self::Control { .. } => exit::DATA_DIR,
            Self::Rig(error) => rig_code(error),
            Self::Bus(error) => error.exit_code(),
            Self::Metrics { source, .. } => of_io(source, exit::FAILED),
            Self::AddressInUse { .. } => exit::ADDRESS_IN_USE,
            Self::NoStandby(_) => exit::BAD_CONFIG,
            Self::Fenced { .. } => exit::FENCED,
            Self::Ended { .. } => exit::FAILED,
        }
    }
}

fn rig_code(error: &RigError) -> u8 {
    match error {
        RigError::Plan(_) | RigError::Orphans(_) => exit::BAD_CONFIG,
        RigError::Directory(_) => exit::DATA_DIR,
        RigError::Open(error) => open_code(error),
        RigError::Stream(error) => stream_code(error),
        RigError::NoStream => exit::BAD_CONFIG,
        RigError::Storage(error) => storage_code(error),
        RigError::Record(_) | RigError::Nameless(_) => exit::DAMAGED,
        RigError::Start(error) if with_causes(error).contains(ADDRESS_IN_USE) => exit::ADDRESS_IN_USE,
        _ => exit::FAILED,
    }
}

/// The exit code for a journal that does not open.
#[must_use]
pub fn open_code(error: &OpenError) -> u8 {
    match error {
        OpenError::Locked { .. }
        | OpenError::ReadOnly { .. }
        | OpenError::ForeignRack { .. }
        | OpenError::OnStream { .. }
        | OpenError::NoJournal { .. } => exit::DATA_DIR,
        OpenError::NewerFormat { .. }
        | OpenError::KeyMissing { .. }
        | OpenError::KeyInvalid { .. }
        | OpenError::KeyWrong { .. }
        | OpenError::Damaged(_) => exit::DAMAGED,
        OpenError::Full { .. } => exit::TRY_AGAIN,
        OpenError::Visit(error) => storage_code(error),
        OpenError::Option { .. } => exit::BAD_CONFIG,
        _ => exit::FAILED,
    }
}

/// The exit code for a journal on a stream that does not open.
#[must_use]
pub fn stream_code(error: &StreamOpenError) -> u8 {
    match error {
        StreamOpenError::Directory(error) => open_code(error),
        StreamOpenError::Log(_) => exit::UNAVAILABLE,
        StreamOpenError::OnFiles { .. } | StreamOpenError::ForeignRack { .. } | StreamOpenError::Absent { .. } => {
            exit::DATA_DIR
        }
        StreamOpenError::NewerFormat { .. }
        | StreamOpenError::KeyMissing { .. }
        | StreamOpenError::StandbyKeyMissing { .. }
        | StreamOpenError::KeyWrong { .. }
        | StreamOpenError::Damaged { .. }
        | StreamOpenError::Shorter { .. } => exit::DAMAGED,
        StreamOpenError::Held { .. } | StreamOpenError::Overtaken { .. } => exit::TRY_AGAIN,
        StreamOpenError::Storage(error) => storage_code(error),
        _ => exit::FAILED,
    }
}

fn storage_code(error: &StorageError) -> u8 {
    match error {
        error if error.is_full() => exit::TRY_AGAIN,
        error if error.is_unreachable() => exit::UNAVAILABLE,
        StorageError::Damaged { .. } | StorageError::Refused { .. } => exit::DAMAGED,
        _ => exit::FAILED,
    }
}

/// An error and its causes on one line: the causes in brackets before the remedy, which is what a reader should end with.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // A transparent error says the same as its cause.
        if !text.contains(&inner_text) {
            match text.find("; remedy: ") {
                Some(at) => text.insert_str(at, &format!(" ({inner_text})")),
                None => text.push_str(&format!(": {inner_text}")),
            }
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests;
