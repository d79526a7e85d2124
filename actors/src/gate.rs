//! The gate: many commits pass it side by side, a cut passes it alone.
//! It has one slot per worker, so that commits on different cores touch different cache lines.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use crossbeam_utils::CachePadded;

/// Shared side for commits, exclusive side for cuts.
#[derive(Debug)]
pub(crate) struct Gate {
    slots: Box<[CachePadded<Mutex<()>>]>,
}

/// Holds the gate for one commit.
pub(crate) struct Shared<'a> {
    _slot: MutexGuard<'a, ()>,
}

/// Holds the gate against every commit, for one cut.
pub(crate) struct Exclusive<'a> {
    _slots: Vec<MutexGuard<'a, ()>>,
}

static NEXT_THREAD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD: Cell<usize> = Cell::new(NEXT_THREAD.fetch_add(1, Ordering::Relaxed));
}

impl Gate {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        // Twice the cores: the threads beside the workers (writer, blocking pool) seldom share a worker's slot.
        let slots = (2 * cores).next_power_of_two();
        Self { slots: (0..slots).map(|_| CachePadded::new(Mutex::new(()))).collect() }
    }

    /// Enters for one commit. What runs inside must be short: no user code, no waiting, no I/O.
    pub(crate) fn enter(&self) -> Shared<'_> {
        let slot = THREAD.with(Cell::get) & (self.slots.len() - 1);
        Shared { _slot: self.slots[slot].lock().expect("no panic inside the gate: it ends the node") }
    }

    /// Waits for the commits inside to end and holds back the next ones.
    pub(crate) fn close(&self) -> Exclusive<'_> {
        // Always in slot order, so that two closers cannot each hold half of the slots.
        Exclusive {
            _slots: self
                .slots
                .iter()
                .map(|slot| slot.lock().expect("no panic inside the gate: it ends the node"))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests;
