//! Who makes a cut: the one who waits for it, or the writer's own thread.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::clock::SimWorld;
use crate::identity::IdKey;
use crate::journal::disk::sim::SimDisk;
use crate::journal::{DiskOptions, OpenOptions, WriterParts, open};
use crate::node::{Node, NodeParts, Settings};
use crate::sample::{msg, queue, spec};
use crate::wire::{Lane, Queue, QueueSpec};

struct Bench {
    node: Arc<Node>,
    control: Arc<Control>,
    desk: Arc<Desk>,
    wire: Arc<Queue>,
}

/// A node with one wire and its writer on the desk, without a thread that would take it; one group was written, since
/// the first begins a segment.
fn bench() -> Bench {
    let (storage, recovery) = open(SimDisk::new(1).process(), OpenOptions::default(), &mut |_| Ok(())).unwrap();
    let wire = Arc::new(queue(spec()));
    let dead = Arc::new(queue(QueueSpec { idx: 1, number: 8, is_effects: true, ..spec() }));
    let node = Node::new(NodeParts {
        settings: Settings::default(),
        world: Arc::new(SimWorld::new(1)),
        id_key: IdKey::new([1; 16]),
        gauge: Arc::default(),
        epoch: 1,
        queues: vec![Arc::clone(&wire), Arc::clone(&dead)],
        wires: Vec::new(),
        cells: Vec::new(),
        dead,
        is_journaled: true,
        is_careful: false,
        is_unclean: false,
        origin: tokio::time::Instant::now(),
        motion: 0,
        lease: None,
    });
    let writer = Writer::new(WriterParts {
        node: Arc::clone(&node),
        storage: Box::new(storage),
        disk: DiskOptions::default(),
        names: Vec::new(),
        oldest: recovery.oldest.max(1),
        births: BTreeMap::new(),
        segment_age_max: None,
    });
    let control = Control::new();
    let desk = Desk::new(Rounds::new(writer), Arc::clone(&control), None);
    drop(node.writer.desk.set(Arc::clone(&desk)));
    let bench = Bench { node, control, desk, wire };
    assert!(!bench.is_durable_at_once(1), "a segment is not begun by just anybody");
    bench.round();
    bench
}

impl Bench {
    /// What the writer's own thread does.
    fn round(&self) {
        let mut rounds = self.desk.take();
        rounds.round();
        self.desk.put_back(rounds);
    }

    /// Whether a message of so many bytes is durable when the demand for it has returned.
    fn is_durable_at_once(&self, bytes: usize) -> bool {
        let mut msg = msg(1);
        msg.raw = Some(Bytes::from(vec![7; bytes]));
        let after = self.node.after_now(Lane::Flush);
        self.wire.push([(msg, after)].into_iter(), 1);
        self.node.note_dirty();
        self.node.demand(after);
        self.node.marks().cover(after)
    }
}

#[tokio::test]
async fn at_rest_whoever_demands_a_cut_makes_it() {
    let bench = bench();
    for groups in 2..10 {
        assert!(bench.is_durable_at_once(100));
        assert_eq!(bench.control.figures().0.groups, groups);
    }
    bench.desk.clear();
}

#[tokio::test]
async fn a_writer_at_work_is_not_waited_for() {
    let bench = bench();
    let mut rounds = bench.desk.take();
    assert!(!bench.is_durable_at_once(100));
    assert!(bench.node.is_demanded(), "its own thread makes the cut");
    rounds.round();
    assert!(!bench.node.is_demanded());
    bench.desk.put_back(rounds);
    assert!(bench.is_durable_at_once(100));
    bench.desk.clear();
    assert!(!bench.is_durable_at_once(100), "the writer has ended");
}

#[tokio::test]
async fn what_is_on_its_way_is_waited_for_by_the_writer() {
    let bench = bench();
    bench.node.move_motion(1);
    assert!(!bench.is_durable_at_once(100));
    bench.round();
    bench.node.move_motion(-1);
    assert!(bench.is_durable_at_once(100));
    bench.desk.clear();
}

/// The last group tells how large the next will be.
#[tokio::test]
async fn large_groups_are_the_writers_own() {
    let bench = bench();
    assert!(bench.is_durable_at_once(20 << 10));
    assert!(!bench.is_durable_at_once(100));
    bench.round();
    assert!(bench.is_durable_at_once(100));
    bench.desk.clear();
}

#[tokio::test]
async fn nobody_serves_himself_after_the_end() {
    let bench = bench();
    bench.control.finish(&bench.node);
    assert!(!bench.is_durable_at_once(100));
    bench.control.kill(&bench.node);
    assert!(!bench.is_durable_at_once(100));
    bench.desk.clear();
}
