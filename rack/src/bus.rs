//! The bus of a rack as far as it is the rack's own: a `nats-server` that it finds, configures, starts, looks after and
//! ends. How wires and journal use a bus is the runtime's.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub(crate) use fluxrig_actors::bus::BusState;
use fluxrig_actors::bus::{BusOptions, Secret};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::error::exit;
use crate::scenario::ManagedBus;

mod ends;
mod guard;
mod keep;
mod place;
mod process;
mod program;
mod rack;
mod show;
mod store;
mod unused;

pub(crate) use ends::NoBus;
pub use guard::{GUARD, guard};
pub use keep::{ServerState, ServerView};

pub(crate) use place::Place;
pub(crate) use rack::RackBus;
pub(crate) use show::{lines, shown, stream_lines, streams};

use keep::Keeper;
use place::Settings;
use process::{Launch, Starter};

/// Why a rack has no server of its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// There is no program.
    #[error(
        "bus: found no `nats-server` on PATH, in FLUXRIG_NATS_SERVER or in folder `bus` of the data directory, expected {floor} or later; remedy: install it, or use a bus that runs elsewhere: `bus: nats://host:4222`"
    )]
    NoProgram {
        /// The oldest that will do.
        floor: String,
    },
    /// There are only old ones.
    #[error(
        "bus: found `nats-server` too old: {found}, expected {floor} or later, since older ones lose what they acknowledged; remedy: install a newer one, or name it in FLUXRIG_NATS_SERVER"
    )]
    TooOld {
        /// Each with its version.
        found: String,
        /// The oldest that will do.
        floor: String,
    },
    /// Its folder cannot be used.
    #[error("bus: found folder `{dir}` unusable, expected it writable; remedy: mend its rights")]
    Place {
        /// The folder.
        dir: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another rack has it.
    #[error(
        "bus: found folder `{dir}` in use by another rack, expected it free; remedy: stop that rack, or choose another data directory with `--data-dir`"
    )]
    Locked {
        /// The folder.
        dir: String,
    },
    /// A port that was given is not to be had.
    #[error(
        "bus: found address {address} of `{key}` not to be had, expected it free; remedy: end who has it, or change `{key}`"
    )]
    Port {
        /// The key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A server that was left behind does not go.
    #[error("bus: found nats-server {pid} of an earlier rack still running, expected it to end; remedy: end it")]
    Leftover {
        /// Its process.
        pid: i32,
    },
    /// It does not start.
    #[error("bus: found nats-server not starting ({why}), expected it healthy; remedy: see `{log}`")]
    Start {
        /// Why.
        why: String,
        /// Its log.
        log: String,
    },
    /// It ended too often.
    #[error(
        "bus: found nats-server ended too often ({why}), expected it to run; remedy: see its log in the data directory"
    )]
    Failed {
        /// Why it ended last.
        why: String,
    },
}

impl BusError {
    /// The exit code of a process that ends with this.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Place { .. } | Self::Locked { .. } => exit::DATA_DIR,
            Self::Port { source, .. } if source.kind() == io::ErrorKind::AddrInUse => exit::ADDRESS_IN_USE,
            _ => exit::UNAVAILABLE,
        }
    }
}

/// A server that the rack runs, as it is seen.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    settings: Settings,
    /// What it calls its version.
    pub(crate) version: String,
    view: watch::Receiver<ServerView>,
}

/// Keeps that server running. Dropping it kills the server; [`Keeping::stop`] ends it in order.
#[derive(Debug)]
pub(crate) struct Keeping {
    stop: oneshot::Sender<()>,
    task: JoinSet<()>,
}

impl Server {
    /// Starts it, and comes back when it is healthy.
    pub(crate) async fn start(
        wanted: &ManagedBus,
        rack: &str,
        data_dir: &Path,
        guard: Option<PathBuf>,
    ) -> Result<(Self, Keeping), BusError> {
        let place = Place::open_soon(data_dir).await?;
        let program = program::find(place.dir()).await?;
        place.end_leftover().await?;
        let settings = place.prepare(wanted, rack).await?;
        let log = place.log().display().to_string();
        let refuse = |why: String| BusError::Start { why, log: log.clone() };
        let starter = Starter::new().map_err(|error| refuse(error.to_string()))?;
        let launch = Launch {
            starter,
            place,
            program: program.path,
            guard,
            address: settings.address,
            monitor: settings.monitor,
        };
        let (started, is_started) = oneshot::channel();
        let (view, seen) = watch::channel(ServerView { state: ServerState::Up, pid: None, restarts: 0 });
        let (stop, stopped) = oneshot::channel();
        let mut task = JoinSet::new();
        let wanted = wanted.clone();
        task.spawn(async move {
            match launch.run().await {
                Ok(running) => {
                    view.send_modify(|view| view.pid = Some(running.pid()));
                    drop(started.send(Ok(())));
                    Keeper::new(&launch, view, stopped, &wanted).keep(running).await;
                }
                Err(why) => drop(started.send(Err(why))),
            }
        });
        match is_started.await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err(refuse(why)),
            Err(_) => return Err(refuse("it was given up".to_owned())),
        }
        let version = program.version;
        let Settings { address, monitor, .. } = &settings;
        tracing::info!(%address, %monitor, version, "bus: nats-server is up");
        Ok((Self { settings, version, view: seen }, Keeping { stop, task }))
    }

    /// How it is seen now.
    pub(crate) fn view(&self) -> ServerView {
        self.view.borrow().clone()
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.settings.address
    }

    /// How the rack itself reaches it.
    pub(crate) fn options(&self, wanted: &ManagedBus) -> BusOptions {
        BusOptions {
            token: Some(Secret::new(self.settings.token.clone())),
            monitor_url: Some(format!("http://{}", self.settings.monitor)),
            max_bytes: wanted.max_bytes,
            ..BusOptions::at([format!("nats://{}", self.settings.address)])
        }
    }

    /// Waits until it is given up.
    pub(crate) async fn failed(&self) -> BusError {
        let mut view = self.view.clone();
        let found = view.wait_for(|view| matches!(view.state, ServerState::Failed { .. })).await;
        match found.map(|view| view.state.clone()) {
            Ok(ServerState::Failed { why }) => BusError::Failed { why },
            // It was stopped.
            _ => std::future::pending().await,
        }
    }
}

impl Keeping {
    /// Ends the server in order.
    pub(crate) async fn stop(mut self) {
        // It may have been given up already.
        self.stop.send(()).unwrap_or_default();
        while self.task.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests;
