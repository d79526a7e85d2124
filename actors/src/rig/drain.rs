//! The end of a rig, step by step (HEART §12): what has to be done before it may stop, and what of it is still open.
//! Everything that can be asked of a running rig can be asked meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;
use tokio::time::Instant;

use super::running::{LOOK_EVERY, RunningRig};
use crate::cell::Cell;
use crate::node::Node;
use crate::wire::{Lane, Queue};

/// Why a rig is not drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum WaitsFor {
    /// Replies to what a gear has asked, each under a timer.
    Requests,
    /// Answers on their way on a standard wire: after a restart nobody would take them.
    Answers,
    /// Messages on a turbo wire, which no restart would bring back.
    Turbo,
    /// Deliveries that were taken from a wire and not ended.
    Deliveries,
}

/// One thing that a drain waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What it is.
    pub what: WaitsFor,
    /// The gear, for requests; else the wire.
    pub name: SmolStr,
    /// How many.
    pub count: usize,
}

impl RunningRig {
    /// Drains (HEART §12): no more requests come in, replies are still read, until open requests, turbo wires and
    /// effects under way are done or `deadline` has passed. Then no effect begins any more, and [`RunningRig::stop`] is
    /// what is left to do. True when nothing under way was left.
    pub async fn drain(&self, deadline: Duration) -> bool {
        let until = Instant::now() + deadline;
        self.node.drain();
        let is_drained = self.until(until, Node::is_drained).await;
        self.node.settle();
        let is_settled = self.until(until, Node::is_settled).await;
        is_drained && is_settled
    }

    /// What a drain would wait for now, or waits for.
    #[must_use]
    pub fn waiting(&self) -> Vec<Waiting> {
        let node = &self.node;
        let askers = || node.cells.iter().filter(|cell| is_asker(cell));
        let mut requests = BTreeMap::new();
        for cell in askers() {
            *requests.entry(cell.name.clone()).or_default() += cell.memory().timers();
        }
        let mut found: Vec<(WaitsFor, SmolStr, usize)> =
            requests.into_iter().map(|(name, count)| (WaitsFor::Requests, name, count)).collect();
        for wire in node.wires.iter().filter(|wire| !wire.queues.iter().any(|queue| Arc::ptr_eq(queue, &node.dead))) {
            let sum = |count: &dyn Fn(&Arc<Queue>) -> usize| wire.queues.iter().map(count).sum::<usize>();
            let (what, waiting) = match wire.options.lane {
                Lane::Turbo => (WaitsFor::Turbo, sum(&|queue| queue.len())),
                _ => {
                    let is_on_its_way = |queue: &Arc<Queue>| askers().any(|cell| node.has_answer_on(cell, Some(queue)));
                    (WaitsFor::Answers, sum(&|queue| if is_on_its_way(queue) { queue.len() } else { 0 }))
                }
            };
            found.push((what, wire.name.clone(), waiting));
            found.push((WaitsFor::Deliveries, wire.name.clone(), sum(&|queue| queue.in_flight())));
        }
        found.retain(|(_, _, count)| *count > 0);
        found.sort();
        found.into_iter().map(|(what, name, count)| Waiting { what, name, count }).collect()
    }

    async fn until(&self, until: Instant, fact: impl Fn(&Node) -> bool) -> bool {
        while !fact(&self.node) {
            if Instant::now() >= until || self.node.gauge.is_halted() {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        true
    }
}

fn is_asker(cell: &Arc<Cell>) -> bool {
    cell.ports.inputs.iter().any(|port| port.is_reply)
}

impl Node {
    /// No request is open, and nothing is where it would be lost.
    fn is_drained(&self) -> bool {
        // An open request is one whose gear still waits for the reply, under a timer; or whose answer is still on its way,
        // since after a restart its connection would be gone. What waits for a link that is down goes nowhere.
        let is_open = |cell: &&Arc<Cell>| cell.memory().timers() > 0 || self.has_answer_on(cell, None);
        let mut turbo = self.work_queues().filter(|queue| queue.spec.lane == Lane::Turbo);
        turbo.all(|queue| queue.len() == 0)
            && !self.cells.iter().filter(|cell| is_asker(cell)).any(|cell| is_open(&cell))
    }

    /// Whether an answer of this gear is on its way, on that queue or on any.
    fn has_answer_on(&self, cell: &Cell, queue: Option<&Arc<Queue>>) -> bool {
        let is_meant = |found: &&Arc<Queue>| queue.is_none_or(|queue| Arc::ptr_eq(queue, found));
        let mut reached = cell.wiring().timer_door.iter().flat_map(|door| &door.reach).filter(is_meant);
        reached.any(|queue| queue.len() > 0 && !self.is_without_link(queue))
    }

    /// Its endpoint has said that it cannot reach its peer.
    fn is_without_link(&self, queue: &Arc<Queue>) -> bool {
        let is_down = |cell: &&Arc<Cell>| cell.own_link().is_some_and(|link| !link.is_up);
        let mut inlets = self.cells.iter().filter(is_down).flat_map(|cell| &cell.wiring().inlets);
        inlets.any(|inlet| Arc::ptr_eq(&inlet.queue, queue))
    }

    /// No effect is under way.
    fn is_settled(&self) -> bool {
        self.work_queues().all(|queue| queue.in_flight() == 0)
    }

    /// Endpoints take no more effects.
    fn settle(&self) {
        self.gauge.settle();
        self.wake_watchers();
    }

    /// Doors for requests close.
    fn drain(&self) {
        self.gauge.drain();
        self.open_doors();
        self.wake_watchers();
    }
}
