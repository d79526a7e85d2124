//! How long a writer may take itself for the only one: counted from the moment a message was sent, on a clock that also
//! counts the time asleep. Knows nothing of streams; whoever holds one renews it with each message that is acked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::mutants::{self, Mutation};

/// The length that the last message of a writer tells when it has stopped in order: as good as none, and no writer's own.
pub(crate) const LEFT_MS: u32 = 1;

type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// The lease of one writer (HEART §10.6).
pub(crate) struct Lease {
    length_ns: u64,
    now_ns: Clock,
    until_ns: AtomicU64,
    term: AtomicU64,
    /// Somebody was told that it is too short, and waits.
    is_waited_for: AtomicBool,
    is_over: AtomicBool,
}

/// A lease as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// The term of the writer.
    pub term: u64,
    /// How long it is when it is new.
    pub length: Duration,
    /// How much of it is left.
    pub left: Duration,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("view", &self.view()).finish_non_exhaustive()
    }
}

impl Lease {
    /// One that nobody holds yet, on a clock of nanoseconds.
    pub(crate) fn new(length: Duration, now_ns: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self {
            length_ns: u64::try_from(length.as_nanos()).unwrap_or(u64::MAX),
            now_ns: Box::new(now_ns),
            until_ns: AtomicU64::new(0),
            term: AtomicU64::new(0),
            is_waited_for: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        }
    }

    /// The moment before a message is sent: what an ack of it renews the lease from.
    pub(crate) fn now_ns(&self) -> u64 {
        (self.now_ns)()
    }

    /// In milliseconds, as every message tells it.
    pub(crate) fn length_ms(&self) -> u32 {
        u32::try_from(self.length_ns / 1_000_000).unwrap_or(u32::MAX)
    }

    /// A message of this term that was sent then is acked.
    pub(crate) fn renew(&self, term: u64, sent_ns: u64) {
        self.term.store(term, Ordering::Relaxed);
        self.until_ns.fetch_max(sent_ns.saturating_add(self.length_ns), Ordering::AcqRel);
    }

    /// There is none of it left, and none comes any more: whoever held it says so to the world next.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    fn left_ns(&self) -> u64 {
        if self.is_over.load(Ordering::SeqCst) {
            return 0;
        }
        self.until_ns.load(Ordering::Acquire).saturating_sub(self.now_ns())
    }

    /// Whether an effect may start: a third of it is left for what lies between this look and the socket.
    pub(crate) fn may_start(&self) -> bool {
        let needed_ns = if mutants::is(Mutation::EffectToTheLeasesEnd) { 1 } else { self.length_ns / 3 };
        let may = self.left_ns() >= needed_ns;
        if !may {
            self.is_waited_for.store(true, Ordering::SeqCst);
        }
        may
    }

    /// Whether somebody waited for it, who may go on now.
    pub(crate) fn take_waiting(&self) -> bool {
        self.is_waited_for.load(Ordering::SeqCst)
            && self.may_start()
            && self.is_waited_for.swap(false, Ordering::SeqCst)
    }

    /// Whether it is time for a message that says nothing but that we are here.
    pub(crate) fn is_due(&self) -> bool {
        self.left_ns() <= self.length_ns / 3 * 2
    }

    pub(crate) fn view(&self) -> LeaseView {
        LeaseView {
            term: self.term.load(Ordering::Relaxed),
            length: Duration::from_nanos(self.length_ns),
            left: Duration::from_nanos(self.left_ns()),
        }
    }
}
