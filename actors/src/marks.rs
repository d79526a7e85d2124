//! The two marks and who waits for them. Waiters wake in the order in which they began to wait, so that a simulation
//! repeats itself; a `watch` of tokio wakes them in an order of its own chance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::mutants::{self, Mutation};
use crate::wire::After;

/// Up to which epoch everything is written, and flushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) written: u64,
    pub(crate) flushed: u64,
}

impl Marks {
    pub(crate) fn cover(self, after: After) -> bool {
        let is_mutant = mutants::is(Mutation::WrittenMarkForFlush);
        let flushed = if is_mutant { self.written.max(self.flushed) } else { self.flushed };
        flushed >= after.flush && self.written.max(self.flushed) >= after.os
    }
}

/// Where the writer puts the marks. Each of them only rises, so they may be read one after the other.
#[derive(Debug)]
pub(crate) struct MarkBoard {
    written: AtomicU64,
    flushed: AtomicU64,
    version: AtomicU64,
    changed: Notify,
}

impl MarkBoard {
    pub(crate) fn new(marks: Marks) -> Arc<Self> {
        Arc::new(Self {
            written: AtomicU64::new(marks.written),
            flushed: AtomicU64::new(marks.flushed),
            version: AtomicU64::new(0),
            changed: Notify::new(),
        })
    }

    pub(crate) fn get(&self) -> Marks {
        Marks { written: self.written.load(Ordering::Acquire), flushed: self.flushed.load(Ordering::Acquire) }
    }

    pub(crate) fn set(&self, marks: Marks) {
        self.written.store(marks.written, Ordering::Release);
        self.flushed.store(marks.flushed, Ordering::Release);
        self.wake();
    }

    /// Whoever waits looks again.
    pub(crate) fn wake(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    pub(crate) fn watch(self: &Arc<Self>) -> MarkWatch {
        MarkWatch { board: Arc::clone(self), seen: self.version.load(Ordering::Acquire) }
    }
}

/// One who waits for the marks to move.
#[derive(Debug)]
pub(crate) struct MarkWatch {
    board: Arc<MarkBoard>,
    seen: u64,
}

impl MarkWatch {
    pub(crate) fn get(&self) -> Marks {
        self.board.get()
    }

    /// The marks; `changed` waits for what comes after them.
    pub(crate) fn look(&mut self) -> Marks {
        self.seen = self.board.version.load(Ordering::Acquire);
        self.board.get()
    }

    /// Waits until something changed since the last look. Whatever was seen is lost when this is dropped: look again.
    pub(crate) async fn changed(&mut self) {
        loop {
            // Begun before the look, so that a change in between wakes it.
            let notified = self.board.changed.notified();
            let version = self.board.version.load(Ordering::Acquire);
            if version != self.seen {
                self.seen = version;
                return;
            }
            notified.await;
        }
    }
}
