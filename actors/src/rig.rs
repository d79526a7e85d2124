//! A rig in code: gears and endpoints, wires between them, a journal under them. Checked whole, then started whole.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smol_str::SmolStr;

use crate::clock::{Machine, World};
use crate::endpoint::{Endpoint, TypedEndpoint};
use crate::gear::{Gear, Typed};
use crate::journal::stream::{Log, StreamOpenError};
use crate::journal::{Disk, DiskOptions, OpenError, Pace, RealDisk, RecordError, StorageError};
use crate::lease::Lease;
use crate::node::{Settings, WorldDebug};
use crate::plan::{Part, Plan, PlanError, PlanErrors, Role, Supervision, WireAsk};
use crate::standby::TakenOver;
use crate::wire::{Lane, WireOptions};
use crate::wire_actor::PageError;

mod build;
mod drain;
mod filter;
mod letters;
pub(crate) mod recover;
mod replay;
mod running;

pub use drain::{Waiting, WaitsFor};
pub use filter::{LetterCount, LetterFilter};
pub use letters::{DeadLetter, LetterError};
pub use replay::{Replay, Replayed, RetainedMsg};
pub use running::{DoorView, RunningRig, WireView};

/// Where a rig's journal is, and how it behaves.
#[derive(Clone)]
pub struct JournalOptions {
    place: Place,
    /// Name of the rack that owns it: another one is refused. Not that of the scenario, which may change. Default `rack`.
    pub rack: String,
    /// Bytes of one segment; at least 64 KiB.
    pub segment_bytes: u64,
    /// A segment is left when it is older than this, however small: what was sensitive in it is destroyed with it.
    pub segment_age_max: Option<Duration>,
    /// What the journal may take, and when doors close.
    pub disk: DiskOptions,
    /// Runs the writer as a task with pauses, for simulations; `None` is a thread of its own.
    pub pace: Option<Pace>,
    /// The operator's word that a stream which lost its end, acked as it was, is to be gone on with.
    pub accept_lost_tail: bool,
    /// How long this rack may take itself for the only one that writes its stream, at least a second; the stand-by that
    /// follows it waits as long, unless this one stops in order. `None`: no stand-by takes over by itself. Only for a journal on a stream.
    pub lease: Option<Duration>,
    stream: Option<Arc<dyn Log>>,
    /// What a stand-by has read and holds by now, for the one start that follows.
    taken: Option<Arc<Mutex<Option<TakenOver>>>>,
}

/// Shorter, and a pause of the machine ends it.
const LEASE_MIN: Duration = Duration::from_secs(1);
/// Longer, and nobody waits for it.
const LEASE_MAX: Duration = Duration::from_secs(3600);

#[derive(Clone)]
enum Place {
    Dir(PathBuf),
    Disk(Arc<dyn Disk>),
}

impl JournalOptions {
    /// A journal in a directory of a real disk, made when absent.
    #[must_use]
    pub fn dir(path: impl Into<PathBuf>) -> Self {
        Self::at(Place::Dir(path.into()))
    }

    /// A journal on any disk, a simulated one for instance.
    #[must_use]
    pub fn disk(disk: Arc<dyn Disk>) -> Self {
        Self::at(Place::Disk(disk))
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            rack: "rack".into(),
            segment_bytes: 64 << 20,
            segment_age_max: None,
            disk: DiskOptions::default(),
            pace: None,
            accept_lost_tail: false,
            lease: None,
            stream: None,
            taken: None,
        }
    }

    /// Keeps the groups on a stream (HEART §10). The directory or disk keeps the lock, the key that seals them, and how
    /// far the stream is known to be acked.
    #[must_use]
    pub fn on_stream(self, log: Arc<dyn Log>) -> Self {
        Self { stream: Some(log), ..self }
    }

    /// Numbers with which its doors would never open.
    fn errors(&self) -> Vec<PlanError> {
        let DiskOptions { max_bytes, first_percent, second_percent } = self.disk;
        let mut errors = Vec::new();
        let mut error =
            |setting, found: u64, expected: String| errors.push(PlanError::Journal { setting, found, expected });
        // One is written, one is prepared, one may be waiting to be carried, and the doors close before the last is full.
        let least = self.segment_bytes.saturating_mul(4);
        if max_bytes < least {
            error("max_bytes", max_bytes, format!("at least four segments ({least})"));
        }
        if first_percent >= second_percent {
            error("first_percent", first_percent.into(), format!("less than `second_percent` ({second_percent})"));
        }
        if let Some(lease) = self.lease {
            if lease < LEASE_MIN || lease > LEASE_MAX {
                let found = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
                error("lease", found, "1,000 to 3,600,000 milliseconds".into());
            }
            if self.stream.is_none() {
                error("lease", 1, "none for a journal on files, which no stand-by can follow".into());
            }
        }
        if second_percent > 100 {
            error("second_percent", second_percent.into(), "at most 100".into());
        }
        errors
    }

    /// What a stand-by has read and holds by now, for the start that follows.
    pub(crate) fn taken_over(&self, taken: TakenOver) -> Self {
        Self { taken: Some(Arc::new(Mutex::new(Some(taken)))), ..self.clone() }
    }

    pub(crate) fn new_lease(&self, world: &Arc<dyn World>) -> Option<Arc<Lease>> {
        let world = Arc::clone(world);
        self.lease.map(|length| Arc::new(Lease::new(length, move || world.boot_ns())))
    }

    fn open_disk(&self) -> Result<Arc<dyn Disk>, std::io::Error> {
        match &self.place {
            Place::Dir(path) => Ok(Arc::new(RealDisk::open(path)?)),
            Place::Disk(disk) => Ok(Arc::clone(disk)),
        }
    }
}

/// What happens to messages and state that the journal holds and this rig has no place for (HEART §6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orphans {
    /// The rig does not start.
    #[default]
    Refuse,
    /// They go to the dead-letter wire.
    DeadLetter,
}

/// What a gear over its intensity means for the rig.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailed {
    /// It is failed, its wires hold, its siblings go on.
    #[default]
    Hold,
    /// The rig stops.
    Stop,
}

/// A rig that is being put together.
///
/// ```
/// use fluxrig_actors::prelude::*;
///
/// struct Pass;
///
/// impl Gear for Pass {
///     const TYPE: &'static str = "pass";
///     type State = ();
///
///     fn handle(&self, msg: FluxMsg, _: &mut (), out: &mut Outlet) -> Result<(), GearError> {
///         out.emit(msg);
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let rig = Rig::new("two-in-a-row").gear("first", Pass).gear("second", Pass).turbo("first", "second");
/// // Nothing feeds `first`: everything that is wrong is said at once, and nothing has started.
/// assert!(rig.start().await.unwrap_err().to_string().contains("gear `first`: found input `in` without a wire"));
/// # Ok(())
/// # }
/// ```
pub struct Rig {
    name: SmolStr,
    settings: Settings,
    parts: Vec<Part>,
    asks: Vec<WireAsk>,
    journal: Option<JournalOptions>,
    world: Arc<dyn WorldDebug>,
    orphans: Orphans,
    on_failed: OnFailed,
    machine: u16,
}

/// Why a rig does not start. Nothing runs then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RigError {
    /// What is wrong with its gears and wires.
    #[error(transparent)]
    Plan(#[from] PlanErrors),
    /// The journal's directory cannot be used.
    #[error(
        "journal directory: found it unusable ({0}), expected a writable directory; remedy: mend its permissions or choose another"
    )]
    Directory(#[source] std::io::Error),
    /// The journal does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The journal on a stream does not open.
    #[error(transparent)]
    Stream(#[from] StreamOpenError),
    /// A stand-by without a stream to follow.
    #[error(
        "journal: found it on files, expected it on a stream that a stand-by can follow; remedy: put the journal of the rack on JetStream"
    )]
    NoStream,
    /// The journal opens, and cannot be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A group was written by something that this version does not understand.
    #[error("journal: {0}")]
    Record(String),
    /// Messages or state under a number that no record names.
    #[error(
        "journal: found messages or state under number {0}, which no record names, expected a name for each number; remedy: nothing was taken away; `fluxrig journal verify` shows what is there, start from a copy of the journal that is whole"
    )]
    Nameless(u32),
    /// Messages or state of gears that this rig does not have.
    #[error(
        "journal: found {0}, expected only what this rig has; remedy: bring those gears back, or start with orphans sent to the dead-letter wire (`--orphans dlq`)"
    )]
    Orphans(String),
    /// A gear or endpoint did not start.
    #[error("gear `{gear}`: {reason}")]
    Gear {
        /// Its name.
        gear: String,
        /// What it said, with its remedy.
        reason: String,
        /// The way down the tree to it.
        #[source]
        source: fluxrig_supervision::StartError,
    },
    /// Another actor did not start.
    #[error(transparent)]
    Start(fluxrig_supervision::StartError),
}

impl From<PageError> for RigError {
    fn from(error: PageError) -> Self {
        match error {
            PageError::Storage { source, .. } => Self::Storage(source),
            PageError::Decode { .. } => Self::Record(error.to_string()),
        }
    }
}

impl From<fluxrig_supervision::StartError> for RigError {
    fn from(error: fluxrig_supervision::StartError) -> Self {
        let names: Vec<&str> = error.path().collect();
        match names[..] {
            // The names of the tree are ours; below `gears` come the gear's own.
            [_, _, "gears", gear, ..] => {
                Self::Gear { gear: gear.to_owned(), reason: error.root_cause(), source: error }
            }
            _ => Self::Start(error),
        }
    }
}

impl From<RecordError> for RigError {
    fn from(error: RecordError) -> Self {
        Self::Record(error.to_string())
    }
}

impl Rig {
    /// A rig without gears, wires or journal. `name` is the scenario's name: with it the journal knows its own.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            settings: Settings::default(),
            parts: Vec::new(),
            asks: Vec::new(),
            journal: None,
            world: Arc::new(Machine::new()),
            orphans: Orphans::default(),
            on_failed: OnFailed::default(),
            machine: 0,
        }
    }

    /// Adds a gear.
    #[must_use]
    pub fn gear(mut self, name: &str, gear: impl Gear) -> Self {
        self.push(name, Role::Gear(Arc::new(Typed(Arc::new(gear)))));
        self
    }

    /// Adds an endpoint.
    #[must_use]
    pub fn endpoint(mut self, name: &str, endpoint: impl Endpoint) -> Self {
        self.push(name, Role::Endpoint(Arc::new(TypedEndpoint(Arc::new(endpoint)))));
        self
    }

    /// Adds a gear or an endpoint that a catalog has built.
    #[must_use]
    pub fn built(mut self, name: &str, built: crate::catalog::Built) -> Self {
        self.push(name, built.0);
        self
    }

    fn push(&mut self, name: &str, role: Role) {
        let ports = match &role {
            Role::Gear(gear) => gear.ports(),
            Role::Endpoint(endpoint) => endpoint.ports(),
        };
        let supervision = Supervision::default();
        self.parts.push(Part { name: name.into(), role, ports, supervision, is_state_durable: false });
    }

    /// Changes how the part added last is supervised.
    #[must_use]
    pub fn supervised(mut self, supervision: Supervision) -> Self {
        if let Some(part) = self.parts.last_mut() {
            part.supervision = supervision;
        }
        self
    }

    /// Makes the state of the part added last durable, also when none of its wires is standard.
    #[must_use]
    pub fn durable_state(mut self) -> Self {
        if let Some(part) = self.parts.last_mut() {
            part.is_state_durable = true;
        }
        self
    }

    /// A durable wire (`durability: flush`) from `gear.port` to `gear.port`; without a port, the first one.
    #[must_use]
    pub fn wire(self, from: &str, to: &str) -> Self {
        self.wire_with(from, to, WireOptions::default())
    }

    /// A wire in memory.
    #[must_use]
    pub fn turbo(self, from: &str, to: &str) -> Self {
        self.wire_with(from, to, WireOptions { lane: Lane::Turbo, ..WireOptions::default() })
    }

    /// A wire with options of its own.
    #[must_use]
    pub fn wire_with(mut self, from: &str, to: &str, options: WireOptions) -> Self {
        self.asks.push(WireAsk { from: from.to_owned(), to: to.to_owned(), options });
        self
    }

    /// A journal in this directory, with defaults.
    #[must_use]
    pub fn journal(self, dir: impl Into<PathBuf>) -> Self {
        self.journal_with(JournalOptions::dir(dir))
    }

    /// A journal with options of its own.
    #[must_use]
    pub fn journal_with(mut self, journal: JournalOptions) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Changes what all gears share.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Another source of time and chance, for simulations.
    #[must_use]
    pub fn world(mut self, world: Arc<impl World + std::fmt::Debug>) -> Self {
        self.world = world;
        self
    }

    /// What happens to what an old journal holds and this rig has no place for.
    #[must_use]
    pub fn orphans(mut self, orphans: Orphans) -> Self {
        self.orphans = orphans;
        self
    }

    /// What a gear over its intensity means for the rig.
    #[must_use]
    pub fn on_failed(mut self, on_failed: OnFailed) -> Self {
        self.on_failed = on_failed;
        self
    }

    /// Machine id in the entity ids of its gears, as the registry gave it; 0 is not enrolled.
    #[must_use]
    pub fn machine(mut self, machine: u16) -> Self {
        self.machine = machine;
        self
    }

    /// Checks the rig to the end and starts nothing.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(&self) -> Result<(), PlanErrors> {
        self.plan().map(drop)
    }

    fn plan(&self) -> Result<Plan, PlanErrors> {
        let mut errors = Vec::new();
        if let Err(error) = self.settings.limits.validate() {
            errors.push(PlanError::Limits { reason: error.to_string() });
        }
        errors.extend(self.settings.errors());
        errors.extend(self.journal.iter().flat_map(JournalOptions::errors));
        // A body must not leave memory while it is handled.
        for ask in self.asks.iter().filter(|ask| ask.options.memory_window < self.settings.batch_max) {
            errors.push(PlanError::Setting {
                wire: format!("{}->{}", ask.from, ask.to),
                setting: "memory_window",
                found: ask.options.memory_window.to_string(),
                expected: "at least `batch_max`",
            });
        }
        match Plan::check(self.parts.clone(), self.asks.clone(), self.journal.is_some()) {
            Ok(plan) if errors.is_empty() => Ok(plan),
            Ok(_) => Err(PlanErrors(errors)),
            Err(PlanErrors(mut more)) => {
                errors.append(&mut more);
                Err(PlanErrors(errors))
            }
        }
    }

    /// Checks the rig to the end, recovers its journal and starts it.
    ///
    /// # Errors
    /// See [`RigError`]; nothing runs then, and the journal is as it was.
    pub async fn start(self) -> Result<RunningRig, RigError> {
        let plan = self.plan()?;
        build::Build {
            name: self.name,
            settings: self.settings,
            plan,
            journal: self.journal,
            world: self.world,
            orphans: self.orphans,
            on_failed: self.on_failed,
            machine: self.machine,
        }
        .start()
        .await
    }
}

#[cfg(test)]
mod tests;
