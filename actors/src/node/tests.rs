//! Marks, demands, and dead letters that only memory holds.

use super::*;
use crate::clock::SimWorld;
use crate::sample::{msg, number, queue, spec};
use crate::wire::QueueSpec;

fn node(settings: Settings) -> Arc<Node> {
    let dead = Arc::new(queue(QueueSpec { lane: Lane::Turbo, is_effects: true, capacity: usize::MAX, ..spec() }));
    dead.set_idle(true);
    Node::new(NodeParts {
        settings,
        world: Arc::new(SimWorld::new(1)),
        id_key: IdKey::new([1; 16]),
        gauge: Arc::default(),
        epoch: 5,
        queues: vec![Arc::clone(&dead)],
        wires: Vec::new(),
        cells: Vec::new(),
        dead,
        is_journaled: false,
        is_careful: false,
        is_unclean: false,
        origin: tokio::time::Instant::now(),
        motion: 0,
        lease: None,
    })
}

fn bury(node: &Node, seq: u64) {
    let note = DeadNote {
        gear: "g".into(),
        wire: "w".into(),
        reason: "r".into(),
        attempts: 1,
        first: "f".into(),
        last: "l".into(),
        at_ns: 1,
    };
    node.bury(vec![(msg(seq), After::NOTHING, Arc::new(note))], 1);
}

/// Which letters are there, by number of their message.
#[track_caller]
fn check(node: &Node, expected: &[u64]) {
    let found = node.dead.peek(|entry| match &entry.body {
        crate::wire::Body::Here(msg) => Some(number(msg)),
        _ => None,
    });
    assert_eq!((&found[..], node.dead.len()), (expected, expected.len()));
}

#[test]
fn without_a_journal_the_oldest_letters_go() {
    let node = node(Settings { dead_letters_max: 2, ..Settings::default() });
    (1..=4).for_each(|seq| bury(&node, seq));
    check(&node, &[3, 4]);
    assert_eq!(node.dead_dropped.load(Ordering::Relaxed), 2);
}

/// One in the middle was purged: it stays as done until those before it have gone, and must not count as one of them.
#[test]
fn a_purged_letter_is_not_dropped_once_more() {
    let node = node(Settings { dead_letters_max: 3, ..Settings::default() });
    (1..=3).for_each(|seq| bury(&node, seq));
    node.dead.ack_effects(&mut [2].into_iter(), &mut Vec::new());
    check(&node, &[1, 3]);
    (4..=5).for_each(|seq| bury(&node, seq));
    check(&node, &[3, 4, 5]);
    (6..=7).for_each(|seq| bury(&node, seq));
    check(&node, &[5, 6, 7]);
}

#[test]
fn dead_letters_are_never_in_motion() {
    let node = node(Settings { dead_letters_max: 1, ..Settings::default() });
    (1..=3).for_each(|seq| bury(&node, seq));
    assert_eq!(node.dead.push([(msg(9), After::NOTHING)].into_iter(), 1), 0);
    assert_eq!(node.dead.ack_effects(&mut [4].into_iter(), &mut Vec::new()), 0);
}

#[test]
fn marks_cover_each_lane_by_its_own() {
    let marks = Marks { written: 7, flushed: 5 };
    let cover = |flush, os| marks.cover(After { flush, os });
    assert!(cover(0, 0) && cover(5, 7) && cover(5, 0) && cover(0, 7));
    assert!(!cover(6, 0) && !cover(0, 8) && !cover(6, 7));
    // What is flushed is written, whatever the other mark says.
    assert!(Marks { written: 0, flushed: 5 }.cover(After { flush: 0, os: 5 }));
}

#[test]
fn a_cut_is_demanded_once_per_epoch_and_only_for_what_is_not_cut() {
    let node = node(Settings::default());
    node.demand(After { flush: 4, os: 0 });
    assert!(!node.is_demanded(), "that epoch was cut");
    node.demand(After { flush: 5, os: 0 });
    assert!(node.is_demanded());
    assert_eq!(node.next_epoch(), 5);
    assert!(!node.is_demanded());
    node.demand(After { flush: 0, os: 6 });
    assert!(node.is_demanded());
}

#[test]
fn what_is_committed_now_waits_for_the_open_epoch() {
    let node = node(Settings::default());
    assert_eq!(node.after_now(Lane::Turbo), After::NOTHING);
    assert_eq!(node.after_now(Lane::Os), After { flush: 0, os: 5 });
    assert_eq!(node.after_now(Lane::Flush), After { flush: 5, os: 0 });
}

#[test]
fn the_first_reason_of_an_end_is_the_one_that_is_told() {
    let node = node(Settings::default());
    node.halt("first");
    node.halt("second");
    assert!(node.gauge.is_halted());
    assert_eq!(node.halted.borrow().as_deref(), Some("first"));
}
