//! A cut is alone: it never sees half of a commit, however many threads commit and cut.

use std::sync::atomic::AtomicU64;

use super::*;

const COMMITTERS: usize = 6;
const CUTTERS: usize = 2;
const COMMITS: u64 = 3_000;

/// Two counters per thread that a commit moves together, and that only the gate holds together.
struct Pairs {
    gate: Gate,
    pairs: [(AtomicU64, AtomicU64); COMMITTERS],
    inside: AtomicUsize,
}

impl Pairs {
    fn commit(&self, idx: usize) {
        let _gate = self.gate.enter();
        self.inside.fetch_add(1, Ordering::Relaxed);
        self.pairs[idx].0.fetch_add(1, Ordering::Relaxed);
        // The other side gets every chance to look in between.
        std::thread::yield_now();
        self.pairs[idx].1.fetch_add(1, Ordering::Relaxed);
        self.inside.fetch_sub(1, Ordering::Relaxed);
    }

    fn cut(&self) -> u64 {
        let _gate = self.gate.close();
        let read =
            || self.pairs.iter().map(|(left, right)| (left.load(Ordering::Relaxed), right.load(Ordering::Relaxed)));
        assert_eq!(self.inside.load(Ordering::Relaxed), 0, "a commit is inside a closed gate");
        for (left, right) in read() {
            assert_eq!(left, right, "half a commit");
        }
        std::thread::yield_now();
        read().map(|(left, _)| left).sum()
    }
}

fn check(pairs: &Pairs) {
    let all = COMMITS * COMMITTERS as u64;
    std::thread::scope(|scope| {
        for idx in 0..COMMITTERS {
            scope.spawn(move || (0..COMMITS).for_each(|_| pairs.commit(idx)));
        }
        for _ in 0..CUTTERS {
            // Goes on until it has seen every commit, so that it cuts for as long as anything commits.
            scope.spawn(move || while pairs.cut() < all {});
        }
    });
    assert_eq!(pairs.cut(), all);
}

#[test]
fn a_cut_never_sees_half_a_commit() {
    check(&Pairs { gate: Gate::new(), pairs: Default::default(), inside: AtomicUsize::new(0) });
}

/// All threads in one slot, as on a machine with more threads than slots.
#[test]
fn threads_that_share_a_slot_only_take_turns() {
    let gate = Gate { slots: [CachePadded::new(Mutex::new(()))].into() };
    check(&Pairs { gate, pairs: Default::default(), inside: AtomicUsize::new(0) });
}

#[test]
fn commits_of_different_slots_pass_side_by_side() {
    let gate = Gate::new();
    assert!(gate.slots.len().is_power_of_two() && gate.slots.len() >= 2);
    let first = THREAD.with(Cell::get) & (gate.slots.len() - 1);
    let _inside = gate.enter();
    let slots: Vec<bool> = gate.slots.iter().map(|slot| slot.try_lock().is_ok()).collect();
    assert_eq!(slots.iter().filter(|is_free| !**is_free).count(), 1);
    assert!(!slots[first]);
}
