//! A rack: a checked scenario, started with its journal, its control socket and its metrics, and drained at the end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fluxrig_actors::protocol::subject::Name;
use fluxrig_actors::supervision::{ExitReason, TreeNode};
use fluxrig_actors::{Catalog, JournalOptions, Orphans, Redactor, RigError, RunningRig, Settings};
use tokio::net::TcpListener;
use tokio::sync::{RwLock, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bus::{Keeping, RackBus};
use crate::control::{self, SocketFile};
use crate::error::{ADDRESS_IN_USE, RackError};
use crate::http;
use crate::mask::{Mask, keys_and_lengths};
use crate::scenario::{
    Checked, FailedChoice, Journal, Lookup, check_file, check_text, journal_options, on_stream, process_env,
};
use crate::standby::{self, Following, Standing};

/// Folder of the journal inside the data directory.
pub const JOURNAL_DIR: &str = "journal";
/// How long after a start an endpoint's failure to bind ends the rack; later it is its supervisor's business.
const BIND_WATCH: Duration = Duration::from_secs(5);
/// Not more often: every look is also a reading of the rates that `top` shows.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How a rack is run.
#[derive(Clone, Debug)]
pub struct RackOptions {
    /// Where its journal and its control socket are. Made when absent, for its owner only. Default `fluxrig-data`.
    pub data_dir: PathBuf,
    /// Which of the scenario's racks this is. Default: the only one.
    pub rack: Option<String>,
    /// Where `/metrics`, `/healthz` and `/readyz` are served. Default: nowhere.
    pub metrics: Option<SocketAddr>,
    /// It is a stand-by: it follows the journal of this rack, which another process runs, and takes its place when that is
    /// gone. Only for a scenario with `journal: jetstream` and a lease. Default: it runs at once.
    pub standby: bool,
    /// What happens to what the journal holds and the scenario has no place for. Default: the rack does not start.
    pub orphans: Orphans,
    /// How long it may drain. Default 10 s.
    pub drain: Duration,
    /// How messages are shown to an operator. Default: keys, types and lengths.
    pub mask: Mask,
    /// Takes sensitive data out of messages before they are dead-lettered or retained. Default: nothing is taken out.
    pub redactor: Option<Redactor>,
    /// A binary that has the command [`crate::bus::GUARD`], which ties a server that the rack runs to its life: also a
    /// rack that is killed leaves none then. Default: none, and such a server is ended at the next start.
    pub guard: Option<PathBuf>,
}

impl Default for RackOptions {
    fn default() -> Self {
        Self {
            data_dir: "fluxrig-data".into(),
            rack: None,
            metrics: None,
            standby: false,
            orphans: Orphans::default(),
            drain: Duration::from_secs(10),
            mask: keys_and_lengths,
            redactor: None,
            guard: None,
        }
    }
}

/// A scenario in which nothing is wrong, with the gears it may use.
#[derive(Clone, Debug)]
pub struct Rack {
    checked: Checked,
    catalog: Catalog,
}

impl Rack {
    /// Reads and checks a scenario; variables come from the environment.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: impl AsRef<Path>, catalog: &Catalog) -> Result<Self, RackError> {
        Ok(Self { checked: check_file(path.as_ref(), catalog, &process_env)?, catalog: catalog.clone() })
    }

    /// Checks a scenario in memory, called `name` in errors.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(name: &str, text: &str, catalog: &Catalog, lookup: Lookup<'_>) -> Result<Self, RackError> {
        Ok(Self { checked: check_text(name, text, catalog, lookup)?, catalog: catalog.clone() })
    }

    /// The scenario.
    #[must_use]
    pub fn checked(&self) -> &Checked {
        &self.checked
    }

    /// Starts it: journal recovered, gears running, control socket and metrics served. As a stand-by it answers at once,
    /// and is started when it has taken over.
    ///
    /// # Errors
    /// See [`RackError`]; nothing runs then.
    pub async fn start(self, options: RackOptions) -> Result<RunningRack, RackError> {
        let dir = options.data_dir.clone();
        make_dir(&dir)?;
        let name = self.checked.rack(options.rack.as_deref())?;
        let rack = options.rack.as_deref();
        if options.standby {
            standby::check(&self.checked, &self.checked.rack_name(rack)?)?;
        }
        let (bus, keeping) = RackBus::start(&self.checked, rack, &dir, options.guard.clone()).await?;
        let server = Kept(keeping);
        let started = self.start_on(bus, name, &dir, options).await;
        match started {
            Ok(running) => Ok(RunningRack { server, ..running }),
            Err(error) => {
                server.stop().await;
                Err(error)
            }
        }
    }

    async fn start_on(
        self,
        bus: RackBus,
        name: Option<Name>,
        dir: &Path,
        options: RackOptions,
    ) -> Result<RunningRack, RackError> {
        let journal = self.journal(&bus, name.as_ref(), dir).await?;
        let rig = self.checked.rig_on(options.rack.as_deref(), &self.catalog, journal.clone(), bus.maker().as_ref())?;
        let shared = Arc::new(Shared {
            checked: self.checked,
            bus,
            rack: name.map(|name| name.to_string()),
            rig: RwLock::new(None),
            standing: Standing::default(),
            is_draining: AtomicBool::new(false),
            since: Instant::now(),
            metrics: std::sync::OnceLock::new(),
            mask: options.mask,
            streams: Semaphore::new(control::STREAMS_MAX),
        });
        let mut tasks = JoinSet::new();
        if let Some(address) = options.metrics {
            tasks.spawn(http::serve(listen(address, &shared).await?, Arc::clone(&shared)));
        }
        let settings = Settings { redactor: options.redactor, ..Settings::default() };
        let mut rig = rig.settings(settings).orphans(options.orphans);
        // Once the journal's lock is ours, a control socket that is there is nobody's.
        let mut serve = || match control::listen(dir) {
            Ok((listener, socket)) => {
                tasks.spawn(control::serve(listener, Arc::clone(&shared)));
                Ok(socket)
            }
            Err(source) => Err(RackError::Control { dir: dir.display().to_string(), source }),
        };
        let mut socket = None;
        if options.standby {
            // What is wrong with it is said now, and not when the holder is gone.
            rig.check().map_err(RigError::Plan)?;
            let following = Following::begin(journal).await?;
            shared.standing.follows(following.watch());
            socket = Some(serve()?);
            rig = rig.journal_with(following.until_holder().await?);
        }
        let rig = rig.start().await.map_err(not_started)?;
        let socket = match socket.map_or_else(serve, Ok) {
            Ok(socket) => socket,
            Err(error) => {
                rig.stop(options.drain).await;
                return Err(error);
            }
        };
        *shared.rig.write().await = Some(rig);
        let meta = &shared.checked.scenario.meta;
        let threads = tokio::runtime::Handle::current().metrics().num_workers();
        tracing::info!(scenario = %meta.name, version = %meta.version, rack = shared.rack, threads, "rack started");
        Ok(RunningRack { shared, tasks, drain: options.drain, server: Kept(None), _socket: socket })
    }

    /// Where its journal is, as the scenario says.
    async fn journal(&self, bus: &RackBus, name: Option<&Name>, dir: &Path) -> Result<JournalOptions, RackError> {
        let mut journal = journal_options(self.checked.scenario.journal, dir.join(JOURNAL_DIR));
        if let Journal::Jetstream(stream) = self.checked.scenario.journal {
            let log = bus.journal(stream).await.map_err(RackError::StreamJournal)?;
            journal = on_stream(stream, journal, log);
        }
        if let Some(name) = name {
            journal.rack = name.to_string();
        }
        Ok(journal)
    }

    /// Starts it with default options and runs it until `signal`, then drains it.
    ///
    /// # Errors
    /// When it does not start, or ended by itself.
    pub async fn run_until(self, signal: impl Future) -> Result<(), RackError> {
        self.start(RackOptions::default()).await?.run_until(signal).await
    }
}

/// Where metrics are served from now on.
async fn listen(address: SocketAddr, shared: &Shared) -> Result<TcpListener, RackError> {
    let refuse = |source| RackError::Metrics { address, source };
    let listener = TcpListener::bind(address).await.map_err(refuse)?;
    let address = listener.local_addr().map_err(refuse)?;
    shared.metrics.get_or_init(|| address);
    tracing::info!(%address, "metrics are served");
    Ok(listener)
}

/// An endpoint that cannot bind says so in the same words at the start and later.
fn not_started(error: RigError) -> RackError {
    match error {
        RigError::Gear { gear, reason, .. } if reason.contains(ADDRESS_IN_USE) => {
            RackError::AddressInUse { gear, reason }
        }
        other => other.into(),
    }
}

fn make_dir(dir: &Path) -> Result<(), RackError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|source| RackError::DataDir { dir: dir.display().to_string(), source })
}

/// What the tasks of a running rack see of it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) checked: Checked,
    pub(crate) bus: RackBus,
    pub(crate) rack: Option<String>,
    /// `None` before it has started and once it has drained.
    pub(crate) rig: RwLock<Option<RunningRig>>,
    /// Whether it follows, or holds its journal.
    pub(crate) standing: Standing,
    is_draining: AtomicBool,
    pub(crate) since: Instant,
    pub(crate) metrics: std::sync::OnceLock<SocketAddr>,
    pub(crate) mask: Mask,
    /// Places for answers of many lines.
    pub(crate) streams: Semaphore,
}

impl Shared {
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }
}

/// A rack that runs. Dropping it does not drain it: call [`RunningRack::stop`].
#[derive(Debug)]
pub struct RunningRack {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    drain: Duration,
    server: Kept,
    _socket: SocketFile,
}

/// The rack's own server, where it runs one.
#[derive(Debug)]
struct Kept(Option<Keeping>);

impl Kept {
    async fn stop(self) {
        if let Some(keeping) = self.0 {
            keeping.stop().await;
        }
    }
}

impl RunningRack {
    /// Where metrics are served.
    #[must_use]
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.shared.metrics.get().copied()
    }

    /// Waits until it ends by itself: its rig gave up, or an endpoint found its address in use at the start.
    pub async fn ended(&self) -> RackError {
        let rig = self.shared.rig.read().await;
        let is_stopped_by_bus = self.shared.checked.scenario.on_failed == FailedChoice::Stop;
        match rig.as_ref() {
            Some(rig) => tokio::select! {
                error = bind_failure(rig) => error,
                reason = rig.ended() => match rig.is_fenced() {
                    true => RackError::Fenced { reason },
                    false => RackError::Ended { reason },
                },
                error = self.shared.bus.failed(), if is_stopped_by_bus => error.into(),
            },
            None => RackError::Ended { reason: "it was stopped".to_owned() },
        }
    }

    /// Drains and stops it. True when nothing under way was left.
    pub async fn stop(mut self) -> bool {
        self.shared.is_draining.store(true, Ordering::Relaxed);
        // Whoever looks meanwhile sees all of it; only what would change something is refused from here on.
        let is_drained = match self.shared.rig.read().await.as_ref() {
            Some(rig) => rig.drain(self.drain).await,
            None => true,
        };
        let rig = self.shared.rig.write().await.take();
        if let Some(rig) = rig {
            rig.stop(Duration::ZERO).await;
        }
        self.tasks.shutdown().await;
        // What the rig did last may have gone over the bus.
        self.server.stop().await;
        is_drained
    }

    /// Runs it until `signal`, then drains it.
    ///
    /// # Errors
    /// When it ended by itself before.
    pub async fn run_until(self, signal: impl Future) -> Result<(), RackError> {
        let error = tokio::select! {
            _ = signal => None,
            error = self.ended() => Some(error),
        };
        if !self.stop().await {
            tracing::warn!("rack stopped before everything under way was done");
        }
        error.map_or(Ok(()), Err)
    }
}

/// An endpoint that could not bind at the start. Its restarts would only repeat it; a script wants to know.
async fn bind_failure(rig: &RunningRig) -> RackError {
    let until = Instant::now() + BIND_WATCH;
    while Instant::now() < until {
        if let Ok(tree) = rig.snapshot().await
            && let Some((gear, reason)) = unbound(&tree)
        {
            return RackError::AddressInUse { gear, reason };
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    std::future::pending().await
}

fn unbound(tree: &TreeNode) -> Option<(String, String)> {
    let gears = tree.find("core/scenario/gears")?;
    gears.children.iter().find_map(|gear| {
        let reason = gear.children.iter().find_map(|instance| match &instance.last_exit {
            Some(ExitReason::Failed(reason) | ExitReason::GaveUp(reason)) if reason.contains(ADDRESS_IN_USE) => {
                Some(reason.to_string())
            }
            _ => None,
        })?;
        Some((gear.name.to_string(), reason))
    })
}

#[cfg(test)]
mod tests;
