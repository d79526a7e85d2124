//! Random senders (windows, publishes that fail, resends, crashes, sequences that are never published) against random
//! receivers (consumers that begin anew): all that was published leaves once, in order.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const WIRE: u64 = 7;

fn stamp(seq: u64, before: u64, settled: u64) -> Stamp {
    Stamp { incarnation: WIRE, seq, before, settled }
}

fn arrive(order: &mut Order<u64>, stamp: Stamp) -> (Arrival, Vec<u64>) {
    let mut out = Vec::new();
    let arrival = order.arrive(stamp, stamp.seq, &mut out, &mut None);
    (arrival, out.into_iter().map(|through| through.item).collect())
}

#[test]
fn waits_for_what_is_before() {
    let mut order = Order::new([]);
    assert_eq!(arrive(&mut order, stamp(1, 0, 1)), (Arrival::Taken, vec![1]));
    assert_eq!(arrive(&mut order, stamp(4, 3, 2)), (Arrival::Taken, vec![]));
    assert_eq!(arrive(&mut order, stamp(4, 3, 2)), (Arrival::Held, vec![]));
    // The second sequence is never published.
    assert_eq!(arrive(&mut order, stamp(3, 1, 3)), (Arrival::Taken, vec![3, 4]));
    assert_eq!(arrive(&mut order, stamp(3, 1, 3)), (Arrival::Repeat, vec![]));
    assert_eq!(order.lost, 0);
}

#[test]
fn goes_on_where_the_floor_says() {
    let mut order = Order::new([(WIRE, 9)]);
    assert_eq!(arrive(&mut order, stamp(9, 8, 9)), (Arrival::Repeat, vec![]));
    assert_eq!(arrive(&mut order, stamp(10, 0, 10)), (Arrival::Taken, vec![10]));
}

/// What was purged off the stream, and acked before, is counted and not waited for.
#[test]
fn counts_what_never_arrives() {
    let mut order = Order::new([(WIRE, 9)]);
    assert_eq!(arrive(&mut order, stamp(21, 20, 21)), (Arrival::Taken, vec![21]));
    assert_eq!(order.lost, 1);
    assert_eq!(arrive(&mut order, stamp(25, 24, 22)), (Arrival::Taken, vec![]));
    assert_eq!(arrive(&mut order, stamp(30, 29, 30)), (Arrival::Taken, vec![25, 30]));
    assert_eq!(order.lost, 3);
}

/// A sender that was started again does not know what it published before: what is missing then may have been lost.
#[test]
fn counts_what_a_new_start_of_the_sender_leaves_out() {
    let mut order = Order::new([(WIRE, 9)]);
    assert_eq!(arrive(&mut order, stamp(10, 0, 10)), (Arrival::Taken, vec![10]));
    assert_eq!((order.lost, order.unexplained), (0, 0));
    assert_eq!(arrive(&mut order, stamp(21, 0, 21)), (Arrival::Taken, vec![21]));
    assert_eq!((order.lost, order.unexplained), (0, 10));
    // What was settled before we came was not for us.
    assert_eq!(arrive(&mut order, Stamp { incarnation: WIRE + 1, ..stamp(30, 0, 30) }), (Arrival::Taken, vec![30]));
    assert_eq!((order.lost, order.unexplained), (0, 10));
}

/// What the server refused after those behind it were published: the sender says that nobody need wait for it.
#[test]
fn is_told_what_is_settled() {
    let mut order = Order::new([(WIRE, 1)]);
    assert_eq!(arrive(&mut order, stamp(3, 2, 2)), (Arrival::Taken, vec![]));
    let mut out = Vec::new();
    order.settle(WIRE, 3, &mut out);
    order.settle(WIRE + 1, 3, &mut out);
    assert_eq!(out.iter().map(|through| through.seq).collect::<Vec<_>>(), [3]);
    assert_eq!(order.lost, 0);
}

/// A reader that begins in the middle takes what is there.
#[test]
fn begins_in_the_middle() {
    let mut order = Order::new([]);
    assert_eq!(arrive(&mut order, stamp(50, 49, 50)), (Arrival::Taken, vec![50]));
    let mut order = Order::new([]);
    // The one before may be sent again, or have been acked before we came: the sender says which.
    assert_eq!(arrive(&mut order, stamp(50, 49, 49)), (Arrival::Taken, vec![]));
    let mut out = Vec::new();
    order.settle(WIRE, 51, &mut out);
    assert_eq!((out.len(), order.lost), (1, 0));
}

#[test]
fn remembers_so_many_wires() {
    let mut order = Order::new([]);
    let mut evicted = None;
    for incarnation in 0..WIRES_MAX as u64 {
        order.arrive(Stamp { incarnation, ..stamp(1, 0, 1) }, 1, &mut Vec::new(), &mut evicted);
        assert_eq!(evicted, None);
    }
    order.arrive(Stamp { incarnation: 0, ..stamp(2, 1, 2) }, 2, &mut Vec::new(), &mut evicted);
    order.arrive(Stamp { incarnation: 9999, ..stamp(1, 0, 1) }, 1, &mut Vec::new(), &mut evicted);
    assert_eq!(evicted, Some(1), "the one unused longest");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Publish {
        is_stored: bool,
    },
    /// Expired, or refused before anything was published.
    Skip,
    Resend {
        is_stored: bool,
    },
    Ack,
    CrashSender,
    Read(usize),
    CrashReceiver,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any::<bool>().prop_map(|is_stored| Step::Publish { is_stored }),
        2 => Just(Step::Skip),
        3 => any::<bool>().prop_map(|is_stored| Step::Resend { is_stored }),
        6 => Just(Step::Ack),
        1 => Just(Step::CrashSender),
        6 => (1..6_usize).prop_map(Step::Read),
        1 => Just(Step::CrashReceiver),
    ]
}

#[derive(Default)]
struct Model {
    next: u64,
    last: u64,
    /// Sequence, the one before, whether the stream holds it.
    window: VecDeque<(u64, u64, bool)>,
    published: Vec<u64>,
    stream: Vec<Stamp>,
    order: Option<Order<u64>>,
    /// What was let through and is durable.
    floor: u64,
    let_through: Vec<u64>,
    /// How far the consumer has read, and what it would be given again.
    cursor: usize,
}

impl Model {
    fn publish(&mut self, idx: usize, is_stored: bool) {
        let settled = self.window.front().unwrap().0;
        let (seq, before, stored) = &mut self.window[idx];
        if is_stored {
            *stored = true;
            self.stream.push(stamp(*seq, *before, settled));
        }
    }

    fn do_step(&mut self, step: Step) {
        match step {
            Step::Publish { is_stored } => {
                self.next += 1;
                self.window.push_back((self.next, self.last, false));
                self.last = self.next;
                self.published.push(self.next);
                self.publish(self.window.len() - 1, is_stored);
            }
            Step::Skip => self.next += 1,
            Step::Resend { is_stored } => {
                (0..self.window.len()).for_each(|idx| self.publish(idx, is_stored || idx % 2 == 0))
            }
            Step::Ack => drop(self.window.pop_front_if(|(_, _, is_stored)| *is_stored)),
            Step::CrashSender => {
                self.last = 0;
                for (seq, before, _) in &mut self.window {
                    *before = std::mem::replace(&mut self.last, *seq);
                }
            }
            Step::Read(count) => (0..count).for_each(|_| self.read()),
            Step::CrashReceiver => {
                self.order = Some(Order::new((self.floor > 0).then_some((WIRE, self.floor))));
                // Whatever was not let through was not acked either.
                let floor = self.floor;
                let first = self.stream.iter().position(|stamp| stamp.seq > floor);
                self.cursor = self.cursor.min(first.unwrap_or(self.cursor));
            }
        }
    }

    fn read(&mut self) {
        let Some(&stamp) = self.stream.get(self.cursor) else { return };
        self.cursor += 1;
        let order = self.order.get_or_insert_with(|| Order::new([]));
        let (_, out) = arrive(order, stamp);
        self.floor = out.last().copied().unwrap_or(self.floor);
        self.let_through.extend(out);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn once_and_in_order(steps in proptest::collection::vec(step(), 1..200)) {
        let mut model = Model::default();
        for step in steps {
            model.do_step(step);
        }
        // In the end everything is stored, acked and read.
        model.do_step(Step::Resend { is_stored: true });
        while !model.window.is_empty() {
            model.do_step(Step::Ack);
        }
        while model.cursor < model.stream.len() {
            model.read();
        }
        prop_assert_eq!(&model.let_through, &model.published);
        prop_assert_eq!(model.order.map_or(0, |order| order.lost), 0);
    }
}
