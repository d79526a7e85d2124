//! The ledger outside the rig: what the world saw, in the order it saw it. It survives every simulated crash.
//! It knows message numbers and names, and nothing of the runtime.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use fluxrig_actors::prelude::*;
use tokio::time::Instant;

use super::keep::Keep;

/// Which message: the number its source gave it, and the way it took.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// Unique over all sources of a seed.
    pub n: u64,
    /// Names of the gears it passed, each with a slash behind it.
    pub path: String,
}

/// One thing that happened outside, or that a gear did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process of the rig runs.
    Started,
    /// Its disk does nothing for it any more: from here on nobody sees what it does, though its end comes later.
    Died,
    /// It ended.
    Ended(End),
    /// A source offers a message to its door.
    Offered {
        /// The source.
        source: String,
        /// Its number.
        n: u64,
        /// Its key.
        key: u64,
        /// Wall time past which no effect of it may start.
        expires: Option<i64>,
    },
    /// The door gave it back.
    Refused(u64),
    /// Its receipt became durable: the source forgets it.
    Acked(u64),
    /// An endpoint begins, again or for the first time.
    EndpointStarted(String),
    /// An effect happened.
    Effect(Effect),
    /// The endpoint said `done`.
    Done {
        /// The endpoint.
        place: String,
        /// The effect's message.
        label: Label,
    },
    /// The endpoint reported an unknown outcome.
    Unknown {
        /// The endpoint.
        place: String,
        /// The effect's message.
        label: Label,
    },
    /// A gear tried a message and failed.
    Failed {
        /// The gear.
        gear: String,
        /// The message.
        label: Label,
    },
    /// A gear set a timer.
    TimerSet {
        /// The gear.
        gear: String,
        /// The timer.
        key: String,
        /// How long.
        ns: u64,
    },
    /// A timer fired.
    TimerFired {
        /// The gear.
        gear: String,
        /// The timer.
        key: String,
    },
    /// A gear started and found this state.
    Recovered {
        /// The gear.
        gear: String,
        /// Keys and values.
        keys: Vec<(String, String)>,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Stopped and drained.
    Clean,
    /// Stopped before it was drained, or before its last group was written.
    Undrained,
    /// `kill -9`.
    Killed,
    /// The power went.
    PowerLost,
}

/// An effect as the world saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// The endpoint.
    pub place: String,
    /// The message.
    pub label: Label,
    /// The message's id.
    pub id: FluxId,
    /// It was handed over as maybe sent.
    pub is_flagged: bool,
    /// Counters it met: `gear=value;` each.
    pub counts: String,
    /// What it read: `key:value:last`.
    pub read: String,
    /// How the conductor answered.
    pub outcome: String,
    /// Id of what this reports about.
    pub reference: Option<FluxId>,
    /// It is a replay.
    pub wall_ns: i64,
}

/// Everything that the world remembers.
#[derive(Debug)]
pub struct Ledger {
    origin: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    log: Vec<(u64, Event)>,
    offered: BTreeMap<String, u64>,
    failures: BTreeMap<(String, Label), u32>,
}

impl Ledger {
    /// An empty one that begins now.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { origin: Instant::now(), inner: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it is held")
    }

    /// Nanoseconds since it began.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Writes a line.
    pub fn note(&self, event: Event) {
        let now_ns = self.now_ns();
        self.lock().log.push((now_ns, event));
    }

    /// Lines so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().log.len()
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The whole log.
    #[must_use]
    pub fn log(&self) -> Vec<(u64, Event)> {
        self.lock().log.clone()
    }

    /// Number of the next message of a source, or `None` when it has offered `count`.
    pub fn next(&self, source: &str, count: u64) -> Option<u64> {
        let mut inner = self.lock();
        let offered = inner.offered.entry(source.to_owned()).or_default();
        (*offered < count).then(|| {
            *offered += 1;
            *offered - 1
        })
    }

    /// Failures of a message at a gear so far, this one included.
    pub fn fail(&self, gear: &str, label: &Label) -> u32 {
        let mut inner = self.lock();
        let failures = inner.failures.entry((gear.to_owned(), label.clone())).or_default();
        *failures += 1;
        *failures
    }
}

/// One simulated process: what its endpoints do counts only while it lives.
#[derive(Debug)]
pub struct Proc {
    /// The world's memory.
    pub ledger: Arc<Ledger>,
    /// Seed of the run.
    pub seed: u64,
    /// Which process of the run this is.
    pub generation: u64,
    /// Endpoints do not fail by themselves any more.
    pub is_calm: AtomicBool,
    /// Endpoint failures are wanted.
    pub fails: bool,
    is_alive: AtomicBool,
    keep: Keep,
}

impl Proc {
    /// A living one.
    #[must_use]
    pub fn new(ledger: &Arc<Ledger>, keep: &Keep, seed: u64, generation: u64, fails: bool) -> Arc<Self> {
        Arc::new(Self {
            ledger: Arc::clone(ledger),
            seed,
            generation,
            is_calm: AtomicBool::new(false),
            fails,
            is_alive: AtomicBool::new(true),
            keep: keep.clone(),
        })
    }

    /// Whether it lives: neither ended nor killed in the middle of a disk operation.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        if self.keep.is_killed() && self.is_alive.swap(false, Ordering::Relaxed) {
            self.ledger.note(Event::Died);
        }
        self.is_alive.load(Ordering::Relaxed)
    }

    /// It is dead from here on.
    pub fn end(&self) {
        self.is_alive.store(false, Ordering::Relaxed);
    }

    /// Writes a line, if it lives.
    pub fn note(&self, event: Event) {
        if self.is_alive() {
            self.ledger.note(event);
        }
    }

    /// Whether endpoints may fail by themselves now.
    #[must_use]
    pub fn may_fail(&self) -> bool {
        self.fails && !self.is_calm.load(Ordering::Relaxed)
    }
}
