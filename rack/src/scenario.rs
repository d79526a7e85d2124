//! A scenario: YAML to a checked plan of gears and wires, or everything that is wrong with it at once.
//! The types here are its keys, their defaults and their manual; `check` is what they must be together.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use fluxrig_actors::journal::DiskOptions;
use fluxrig_actors::protocol::FieldPath;
use fluxrig_actors::protocol::subject::Name;
use fluxrig_actors::supervision::{Backoff, Restart};
use fluxrig_actors::{Lane, OnFailed, Redelivery, WireOptions};
use schemars::JsonSchema;
use serde::Deserialize;

mod attempt;
mod bus;
mod check;
mod choices;
pub(crate) mod cross;
mod de;
mod env;
mod graph;
mod normal;
mod plan;
mod problem;
mod read;
mod schema;
mod tree;
mod units;
mod universe;

pub use bus::{Bus, ManagedBus, True};
pub use check::{Checked, check_file, check_text};
pub use choices::{
    Backend, Durability, FailedChoice, Journal, LaneChoice, RestartChoice, StateChoice, StreamDurability,
};
pub use env::{Lookup, process_env};
pub use graph::GraphFormat;
pub use plan::RackChoice;
pub use problem::{Fault, Location, Problem, ScenarioErrors};
pub use schema::scenario_schema;
pub use tree::{BYTES_MAX, DEPTH_MAX, Pos};
pub use units::{Retained, Version};

pub(crate) use plan::{journal_options, on_stream};
#[cfg(feature = "sim")]
pub(crate) use {plan::asked_of, read::read_yaml};

/// A fluxrig scenario: gears, and the wires between them.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Scenario {
    /// What the scenario is called.
    pub meta: Meta,
    /// The bus between racks. Default `embedded`: none.
    #[schemars(default)]
    pub bus: Bus,
    /// What makes standard wires and state durable. Default `file`.
    #[schemars(default)]
    pub journal: Journal,
    /// What a gear over its restarts means for the rack: `hold`, its wires hold and the others go on; `stop`, the rack
    /// stops. Default `hold`.
    #[schemars(default)]
    pub on_failed: FailedChoice,
    /// Racks and groups of racks that `deploy` may name. Default: none, and every gear runs on the rack that starts.
    #[schemars(default)]
    pub racks: Vec<RackEntry>,
    /// Gears.
    pub gears: Vec<GearEntry>,
    /// Wires, each from an output port to an input port.
    #[schemars(default)]
    pub wires: Vec<WireEntry>,
}

/// What a scenario is called.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// Name: lower-case letters, digits, `_` and `-`. The journal knows wires and gears by it, so what another name left
    /// there has no place.
    pub name: Name,
    /// Version, as in Semantic Versioning.
    pub version: Version,
}

/// The journal on a stream of the bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamJournal {
    /// Bytes that the stream may take. Without it only the account's limit holds.
    pub max_bytes: Option<u64>,
    /// What the servers' ack stands for: `flush`, each write is synced (`sync_interval: always`); `replicated`, the
    /// `replicas` of the bus, three or more, have it, which survives losing a minority of the servers and not a power cut
    /// of all. Default `flush`.
    pub durability: StreamDurability,
    /// How long the rack may take itself for the only one that writes the stream, in milliseconds, 1000 to 3600000. A
    /// stand-by (`fluxrig run --standby`) waits as long for a holder of which it hears nothing; from one that stopped in
    /// order it takes over at once. An idle rack writes a small message each third of it. Default: none, and nobody takes
    /// over.
    pub lease_ms: Option<NonZeroU32>,
    /// `true`: your word that a stream which has lost its end, acked as it was, is to be gone on with. Take it out again
    /// after that start. Default `false`: the rack does not start then.
    pub accept_lost_tail: bool,
}

/// The journal on files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileJournal {
    /// Bytes of one segment, at least 65536. Default 64 MiB.
    pub segment_bytes: u64,
    /// Bytes that the journal may take, at least four segments. Doors close before it is full. Default 16 GiB.
    pub max_bytes: u64,
    /// A segment is left when it is older than this, in milliseconds, however small: what was sensitive in it is
    /// destroyed with it. Default: none.
    pub segment_age_max_ms: Option<NonZeroU32>,
}

impl Default for FileJournal {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, max_bytes: DiskOptions::default().max_bytes, segment_age_max_ms: None }
    }
}

/// A rack by `name` with its `labels`, or a `group` of racks by the labels that they `match`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RackEntry {
    /// Name of one rack.
    #[serde(default)]
    pub name: Option<Name>,
    /// What a group may match. Only with `name`. Default: none.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Name of a group.
    #[serde(default)]
    pub group: Option<Name>,
    /// Labels that a rack must all have to be of the group. Only with `group`, and at least one.
    #[serde(default, rename = "match")]
    pub matches: BTreeMap<String, String>,
}

/// One gear.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GearEntry {
    /// Name, unique in the scenario.
    pub name: Name,
    /// Type; `fluxrig gears list` shows all.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Rack or group that runs it. Default: every rack.
    #[serde(default)]
    pub deploy: Option<Name>,
    /// What its type asks for; `fluxrig gears doc TYPE` is its manual. The path of a file that stands beside the scenario
    /// is written `${SCENARIO_DIR}/file`. Default: nothing.
    #[serde(default)]
    #[expect(dead_code, reason = "it stands here for the schema; each gear reads its own from the tree")]
    pub(crate) config: choices::Unread,
    /// How it is restarted.
    #[serde(default)]
    pub supervision: Supervision,
    /// `durable`: its state is kept in the journal even when none of its wires is standard. Default: it is when one is.
    #[serde(default)]
    pub state: Option<StateChoice>,
}

/// How the supervisor of one gear behaves.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Supervision {
    /// When it is started again. Default `permanent`.
    pub restart: RestartChoice,
    /// More restarts than this within `within_ms`, and the gear is failed. Default 5.
    pub max_restarts: u32,
    /// See `max_restarts`; milliseconds. Default 60000.
    pub within_ms: NonZeroU32,
    /// Waits before a restart. Default `{ first: 10, max: 5000 }`.
    pub backoff_ms: RestartBackoff,
    /// One message that takes longer, in milliseconds, is reported as stuck. Default 1000.
    pub handle_timeout_ms: NonZeroU32,
}

impl Default for Supervision {
    fn default() -> Self {
        let number = |number| NonZeroU32::new(number).expect("a default is not zero");
        Self {
            restart: RestartChoice::default(),
            max_restarts: 5,
            within_ms: number(60_000),
            backoff_ms: RestartBackoff::default(),
            handle_timeout_ms: number(1000),
        }
    }
}

/// Waits before restarts: they double from `first` to `max`, with some chance taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RestartBackoff {
    /// The first wait, milliseconds. Default 10.
    pub first: u32,
    /// The longest wait, milliseconds. Default 5000.
    pub max: u32,
}

impl Default for RestartBackoff {
    fn default() -> Self {
        Self { first: 10, max: 5000 }
    }
}

/// Waits before a failing message is delivered again: they double from `first` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedeliveryBackoff {
    /// The first wait, milliseconds. Default 100.
    pub first: u32,
    /// The longest wait, milliseconds. Default 10000.
    pub max: u32,
}

impl Default for RedeliveryBackoff {
    fn default() -> Self {
        Self { first: 100, max: 10_000 }
    }
}

/// One wire.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WireEntry {
    /// `gear.port`, or `gear` for its first output.
    pub from: String,
    /// `gear.port`, or `gear` for its first input.
    pub to: String,
    /// `standard`: in the journal; `turbo`: in memory. Default `standard`.
    #[serde(default)]
    pub lane: LaneChoice,
    /// Messages on it before the doors that feed it close. Default 4096.
    #[serde(default = "capacity")]
    pub capacity: NonZeroUsize,
    /// What a standard wire survives: `flush`, a power cut; `os`, the end of the process; `replicated`, the loss of a
    /// minority of the servers of the bus, which keep three copies or more. Default `flush`, or `replicated` where the
    /// journal is.
    #[serde(default)]
    pub durability: Option<Durability>,
    /// Deliveries of one message before it goes to the dead letters. Default 5.
    #[serde(default = "max_deliver")]
    pub max_deliver: NonZeroU32,
    /// Waits between these deliveries. Default `{ first: 100, max: 10000 }`.
    #[serde(default)]
    pub backoff_ms: RedeliveryBackoff,
    /// Instances of the gear behind it; order holds per key. Default 1.
    #[serde(default = "one")]
    pub partitions: NonZeroU32,
    /// Dotted path in `data` of the key that chooses the partition. Messages without it share one.
    #[serde(default)]
    pub partition_by: Option<FieldPath>,
    /// How long or how much of what passed stays readable for `fluxrig replay`: a duration like `24h` or a size like
    /// `1GiB`. Only on a standard wire. Default: nothing.
    #[serde(default)]
    pub retention: Option<Retained>,
    /// What keeps a standard wire: the rack's `journal`, or `jetstream`, where other clients of the bus can read it and
    /// write to it. A wire between racks is on the bus whatever it says. Default `journal`.
    #[serde(default)]
    pub backend: Backend,
}

fn capacity() -> NonZeroUsize {
    NonZeroUsize::new(4096).expect("it is not zero")
}

fn max_deliver() -> NonZeroU32 {
    NonZeroU32::new(5).expect("it is not zero")
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

fn ms(number: u32) -> Duration {
    Duration::from_millis(number.into())
}

impl WireEntry {
    /// How the runtime calls it in its errors, before its ports are known.
    pub(crate) fn asked(&self) -> String {
        format!("{}->{}", self.from, self.to)
    }

    /// What the runtime is asked for.
    #[must_use]
    pub fn options(&self) -> WireOptions {
        WireOptions {
            lane: match (self.lane, self.durability.unwrap_or_default()) {
                (LaneChoice::Turbo, _) => Lane::Turbo,
                (LaneChoice::Standard, Durability::Os) => Lane::Os,
                (LaneChoice::Standard, Durability::Flush | Durability::Replicated) => Lane::Flush,
            },
            capacity: self.capacity.get(),
            redelivery: Redelivery {
                max_deliver: self.max_deliver,
                first: ms(self.backoff_ms.first),
                max: ms(self.backoff_ms.max),
            },
            partitions: self.partitions,
            partition_by: self.partition_by.clone(),
            retention: self.retention.as_ref().map(|retained| retained.retention),
            ..WireOptions::default()
        }
    }
}

impl Supervision {
    /// What the runtime is asked for.
    #[must_use]
    pub fn options(&self) -> fluxrig_actors::Supervision {
        fluxrig_actors::Supervision {
            restart: match self.restart {
                RestartChoice::Permanent => Restart::Permanent,
                RestartChoice::Transient => Restart::Transient,
                RestartChoice::Temporary => Restart::Temporary,
            },
            max_restarts: self.max_restarts,
            within: ms(self.within_ms.get()),
            backoff: Backoff::new(ms(self.backoff_ms.first), ms(self.backoff_ms.max)),
            handle_timeout: ms(self.handle_timeout_ms.get()),
        }
    }
}

impl From<FailedChoice> for OnFailed {
    fn from(choice: FailedChoice) -> Self {
        match choice {
            FailedChoice::Hold => Self::Hold,
            FailedChoice::Stop => Self::Stop,
        }
    }
}
