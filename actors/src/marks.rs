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
    /// How often all were told to look again.
    told: AtomicU64,
    /// Who waits for what: nobody is woken by a mark that says nothing to him, since waking costs as much as a flush.
    writes: Notify,
    flushes: Notify,
    others: Notify,
}

impl MarkBoard {
    pub(crate) fn new(marks: Marks) -> Arc<Self> {
        Arc::new(Self {
            written: AtomicU64::new(marks.written),
            flushed: AtomicU64::new(marks.flushed),
            told: AtomicU64::new(0),
            writes: Notify::new(),
            flushes: Notify::new(),
            others: Notify::new(),
        })
    }

    pub(crate) fn get(&self) -> Marks {
        Marks { written: self.written.load(Ordering::Acquire), flushed: self.flushed.load(Ordering::Acquire) }
    }

    pub(crate) fn set(&self, marks: Marks) {
        self.written.store(marks.written, Ordering::Release);
        let was_flushed = self.flushed.swap(marks.flushed, Ordering::AcqRel);
        if was_flushed < marks.flushed || mutants::is(Mutation::WrittenMarkForFlush) {
            self.flushes.notify_waiters();
        }
        // What is flushed is written, too.
        self.writes.notify_waiters();
    }

    /// Whoever waits looks again.
    pub(crate) fn wake(&self) {
        self.told.fetch_add(1, Ordering::AcqRel);
        for waiters in [&self.flushes, &self.writes, &self.others] {
            waiters.notify_waiters();
        }
    }

    pub(crate) fn watch(self: &Arc<Self>) -> MarkWatch {
        MarkWatch { board: Arc::clone(self), told: self.told.load(Ordering::Acquire) }
    }

    /// Who is told of what is missing for `after`; those for whom nothing is missing are only told by `wake`.
    fn waiters_for(&self, after: After) -> &Notify {
        let marks = self.get();
        if marks.flushed < after.flush {
            &self.flushes
        } else if marks.written.max(marks.flushed) < after.os {
            &self.writes
        } else {
            &self.others
        }
    }
}

/// One who waits for the marks to move.
#[derive(Debug)]
pub(crate) struct MarkWatch {
    board: Arc<MarkBoard>,
    told: u64,
}

impl MarkWatch {
    pub(crate) fn get(&self) -> Marks {
        self.board.get()
    }

    /// The marks, for one who is about to look at everything else as well: `covered` waits for what is told after this.
    pub(crate) fn look(&mut self) -> Marks {
        self.told = self.board.told.load(Ordering::Acquire);
        self.board.get()
    }

    /// Waits until the marks cover `after`, or all were told to look again since the last look. Where `after` is nothing
    /// there is only the latter to wait for.
    pub(crate) async fn covered(&mut self, after: After) {
        loop {
            // Begun before the look, so that a change in between wakes it.
            let waiters = self.board.waiters_for(after);
            let notified = waiters.notified();
            if after != After::NOTHING && self.board.get().cover(after) {
                return;
            }
            if !std::ptr::eq(waiters, self.board.waiters_for(after)) {
                continue;
            }
            let told = self.board.told.load(Ordering::Acquire);
            if told != self.told {
                self.told = told;
                return;
            }
            notified.await;
        }
    }

    /// Waits until all were told to look again since the last time.
    pub(crate) async fn told(&mut self) {
        self.covered(After::NOTHING).await;
    }
}

#[cfg(test)]
mod tests;
