//! When a door is closed and why, what opens it, and how much it lets in.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::sample::{msg, queue, spec};
use crate::wire::{After, QueueSpec};

struct Rack {
    gauge: Arc<Gauge>,
    queues: Vec<Arc<Queue>>,
}

impl Rack {
    /// Wires that hold 2 and 4 messages.
    fn new() -> Self {
        let queues = [2, 4].map(|capacity| Arc::new(queue(QueueSpec { capacity, ..spec() }))).into();
        Self { gauge: Arc::default(), queues }
    }

    fn door(&self, is_reply: bool, messages: usize) -> Arc<Door> {
        self.bounded(is_reply, Bound { messages, ..Bound::NONE })
    }

    fn bounded(&self, is_reply: bool, bound: Bound) -> Arc<Door> {
        Door::new(self.queues.clone(), is_reply, bound, Arc::clone(&self.gauge), None)
    }

    fn push(&self, queue: usize, count: u64) {
        self.queues[queue].push((0..count).map(|number| (msg(number), After::NOTHING)), 1);
    }

    fn ack(&self, queue: usize, count: usize) {
        let mut taken = Vec::new();
        self.queues[queue].front(count, 1, &mut taken);
        self.queues[queue].ack_front(taken[0].seq, count, &mut Vec::new());
    }
}

#[track_caller]
fn check(door: &Door, closed: Option<Closed>, room: usize) {
    assert_eq!((door.closed(), door.room()), (closed, room));
}

#[test]
fn every_wire_in_reach_must_have_room() {
    let rack = Rack::new();
    let door = rack.door(false, 100);
    check(&door, None, 2);
    rack.push(1, 3);
    check(&door, None, 1);
    rack.push(1, 1);
    check(&door, Some(Closed::Full), 0);
    // Inside nobody waits, so a wire may overshoot.
    rack.push(1, 3);
    check(&door, Some(Closed::Full), 0);
    rack.ack(1, 3);
    check(&door, Some(Closed::Full), 0);
    rack.ack(1, 1);
    check(&door, None, 1);
}

#[test]
fn a_wire_that_gets_room_opens_the_doors_that_feed_it() {
    let rack = Rack::new();
    let door = rack.door(false, 100);
    rack.push(0, 3);
    let mut context = Context::from_waker(Waker::noop());
    let mut opening = pin!(door.opening());
    assert_eq!(opening.as_mut().poll(&mut context), Poll::Pending);
    rack.ack(0, 1);
    assert_eq!(opening.as_mut().poll(&mut context), Poll::Pending, "it is full still");
    rack.ack(0, 1);
    assert_eq!(opening.as_mut().poll(&mut context), Poll::Ready(()));
    assert_eq!(pin!(door.opening()).poll(&mut context), Poll::Ready(()), "an open door is not waited for");
}

#[test]
fn what_is_above_its_mark_counts_until_the_mark_is_past_it() {
    let rack = Rack::new();
    let door = rack.door(false, 3);
    door.note_admitted(5, Lane::Flush, 2, 0);
    check(&door, None, 1);
    door.note_admitted(6, Lane::Os, 1, 0);
    check(&door, Some(Closed::Unflushed), 0);
    // Written is enough for `os`, but what came before it is not flushed.
    door.note_marks(6, 4);
    check(&door, Some(Closed::Unflushed), 0);
    door.note_marks(6, 5);
    check(&door, None, 2);
    door.note_admitted(7, Lane::Os, 1, 0);
    door.note_admitted(7, Lane::Os, 1, 0);
    door.note_marks(7, 5);
    check(&door, None, 2);
}

#[test]
fn large_messages_close_it_before_they_are_many() {
    let rack = Rack::new();
    let door = rack.bounded(false, Bound { messages: 100, bytes: 1_000 });
    door.note_admitted(5, Lane::Flush, 1, 600);
    check(&door, None, 2);
    door.note_admitted(6, Lane::Os, 1, 600);
    check(&door, Some(Closed::Unflushed), 2);
    door.note_marks(6, 4);
    check(&door, Some(Closed::Unflushed), 2);
    door.note_marks(6, 5);
    check(&door, None, 2);
}

#[test]
fn a_full_disk_and_a_drain_close_doors_for_requests_first() {
    let rack = Rack::new();
    let (request, reply) = (rack.door(false, 100), rack.door(true, 100));
    let timers =
        Door::new(rack.queues.clone(), false, Bound::NONE, Arc::clone(&rack.gauge), Some(Arc::new(Bell::default())));
    let closed = || [request.closed(), reply.closed(), timers.closed()];
    rack.gauge.set_level(1);
    assert_eq!(closed(), [Some(Closed::Disk), None, None]);
    rack.gauge.set_level(2);
    assert_eq!(closed(), [Some(Closed::Disk); 3]);
    rack.gauge.set_level(0);
    rack.gauge.drain();
    assert_eq!(closed(), [Some(Closed::Draining), None, None]);
    rack.gauge.halt();
    assert_eq!(closed(), [Some(Closed::Halted); 3]);
}
