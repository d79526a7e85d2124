//! What the world outside notes: every request, answer and end of a connection, with its virtual time. It knows nothing of
//! the runtime and judges nothing.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Something that the world outside saw or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A terminal has sent a request over a connection.
    Sent { request: usize, terminal: usize, connection: u64 },
    /// A terminal has read an answer to a request; `code` is what it says of how it went.
    Answer { request: usize, connection: u64, code: String },
    /// An answer that belongs to no request, holds what its request did not, or is none.
    Wrong { connection: u64, what: String },
    /// A connection of a terminal has ended.
    Ended { connection: u64, why: &'static str },
    /// A terminal has sent what is no message.
    Garbage { request: usize },
    /// When faults had long stopped, a request was without an answer though its connection lived.
    Silent { request: usize, connection: u64 },
    /// A fault.
    Fault { idx: usize },
    /// A process runs.
    Started,
    /// It ended: `how` says it.
    Stopped { how: &'static str },
    /// A process did not start, or ended by itself, for this reason.
    Failed { reason: String },
    /// Faults have stopped.
    Calm,
    /// Terminals ask again for what has no answer.
    Again,
}

/// The notes of one run.
#[derive(Debug)]
pub(super) struct Ledger {
    origin: Instant,
    events: Mutex<Vec<(u64, Event)>>,
}

impl Ledger {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { origin: Instant::now(), events: Mutex::default() })
    }

    pub(super) fn note(&self, event: Event) {
        let at = self.now_us();
        self.lock().push((at, event));
    }

    pub(super) fn now_us(&self) -> u64 {
        self.us(Instant::now())
    }

    pub(super) fn us(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn events(&self) -> Vec<(u64, Event)> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Event)>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The notes as text, one line each.
pub(super) fn written(events: &[(u64, Event)]) -> String {
    let mut text = String::new();
    for (at, event) in events {
        let (s, us) = (at / 1_000_000, at % 1_000_000);
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{s:>5}.{us:06} {event:?}");
    }
    text
}
