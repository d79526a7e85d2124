//! A cell: what the node keeps of one gear, one partition of a gear, or one endpoint, whether its actor runs or not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use fluxrig_protocol::EntityId;
use smol_str::SmolStr;
use tokio::task::AbortHandle;

use crate::bell::Bell;
use crate::door::Door;
use crate::gear::Link;
use crate::memory::Memory;
use crate::node::Node;
use crate::port::Ports;
use crate::tally::Tallies;
use crate::wire::{Lane, Queue, Wire};

/// A queue that ends in this cell, and the port it ends in.
#[derive(Debug)]
pub(crate) struct Inlet {
    pub(crate) port_idx: usize,
    pub(crate) is_reply: bool,
    pub(crate) queue: Arc<Queue>,
}

/// What the wiring makes of a cell; set once, when the rig is built.
#[derive(Debug, Default)]
pub(crate) struct Wiring {
    /// Reply ports first: they are served first.
    pub(crate) inlets: Vec<Inlet>,
    /// Wires of each output port.
    pub(crate) outs: Vec<Vec<Arc<Wire>>>,
    /// Door behind each output port of an endpoint; empty for a gear.
    pub(crate) doors: Vec<Arc<Door>>,
    /// Lets timers fire: a timer that re-arms itself is an entrance too.
    pub(crate) timer_door: Option<Arc<Door>>,
    /// Gears between this endpoint and the next ones, which are told about its link.
    pub(crate) neighbours: Vec<Arc<Cell>>,
}

/// Counters of a cell, read by snapshots and metrics.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) handled: Arc<AtomicU64>,
    pub(crate) unwired: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Monotonic time at which the message that is being handled began; 0 between messages.
    pub(crate) busy_since_ns: AtomicU64,
}

/// One gear (partition) or endpoint of a running rig.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) name: SmolStr,
    pub(crate) partition: u32,
    /// The journal's number for it, never reused.
    pub(crate) number: u32,
    pub(crate) entity: EntityId,
    pub(crate) ports: Ports,
    is_endpoint: bool,
    has_ended: AtomicBool,
    /// Strongest durability of its wires: that of its state and timers.
    pub(crate) lane: Lane,
    pub(crate) bell: Arc<Bell>,
    pub(crate) counters: Counters,
    /// What the gear or endpoint counts by itself.
    pub(crate) tallies: Tallies,
    memory: Mutex<Memory>,
    wiring: OnceLock<Wiring>,
    links: Mutex<Links>,
    /// The link that this endpoint has told of, if it has one.
    own_link: Mutex<Option<Link>>,
    alarm: Mutex<Option<Alarm>>,
}

/// The next time at which the bell rings by itself.
#[derive(Debug)]
struct Alarm {
    at_ns: u64,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct Links {
    /// The present link of each neighbouring endpoint, told again after every restart of the gear.
    known: Vec<Link>,
    /// Not told yet.
    news: Vec<Link>,
}

impl Cell {
    pub(crate) fn new(identity: CellIdentity, ports: Ports, lane: Lane, memory: Memory, bell: Arc<Bell>) -> Self {
        Self {
            name: identity.name,
            partition: identity.partition,
            number: identity.number,
            entity: identity.entity,
            ports,
            is_endpoint: identity.is_endpoint,
            has_ended: AtomicBool::new(false),
            lane,
            bell,
            counters: Counters::default(),
            tallies: Tallies::default(),
            memory: Mutex::new(memory),
            wiring: OnceLock::new(),
            links: Mutex::default(),
            own_link: Mutex::default(),
            alarm: Mutex::default(),
        }
    }

    pub(crate) fn wire_up(&self, wiring: Wiring) {
        assert!(self.wiring.set(wiring).is_ok(), "a cell is wired once");
    }

    pub(crate) fn wiring(&self) -> &Wiring {
        self.wiring.get().expect("a cell is wired before anything runs")
    }

    pub(crate) fn outs(&self, port_idx: usize) -> &[Arc<Wire>] {
        self.wiring().outs.get(port_idx).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("no panic inside the gate: it ends the node")
    }

    pub(crate) fn count_unwired(&self) {
        self.counters.unwired.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_endpoint(&self) -> bool {
        self.is_endpoint
    }

    /// Whether the endpoint has nothing left to do.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    pub(crate) fn note_started(&self) {
        self.has_ended.store(false, Ordering::Release);
    }

    pub(crate) fn note_ended(&self) {
        self.has_ended.store(true, Ordering::Release);
    }

    pub(crate) fn count_handled(&self, count: u64) {
        self.counters.handled.fetch_add(count, Ordering::Relaxed);
    }

    /// Rings the bell at this monotonic time of the node, or earlier when it was to ring earlier.
    pub(crate) fn alarm(self: &Arc<Self>, node: &Node, at_ns: u64) {
        let mut alarm = self.alarm.lock().expect("nothing panics while it is held");
        if alarm.as_ref().is_some_and(|alarm| alarm.at_ns <= at_ns) {
            return;
        }
        // The tick after: tokio's timers count whole milliseconds, and a bell before the time would ring for nothing.
        let at = node.origin + Duration::from_nanos(at_ns);
        let cell = Arc::clone(self);
        let task = tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            cell.alarm.lock().expect("nothing panics while it is held").take();
            cell.bell.ring();
        });
        if let Some(later) = alarm.replace(Alarm { at_ns, task: task.abort_handle() }) {
            later.task.abort();
        }
    }

    /// No bell rings by itself any more: the rig ends.
    pub(crate) fn silence(&self) {
        if let Some(alarm) = self.alarm.lock().expect("nothing panics while it is held").take() {
            alarm.task.abort();
        }
    }

    /// This endpoint's link changed: every gear that it can reach or that can reach it hears of it.
    pub(crate) fn announce_link(&self, link: Link) {
        for neighbour in &self.wiring().neighbours {
            neighbour.tell_link(&link);
        }
        *self.own_link.lock().expect("nothing panics while it is held") = Some(link);
    }

    /// The endpoint ended without a word: whoever counted on its link must not go on doing so.
    pub(crate) fn lose_link(&self, reason: &str) {
        if self.own_link().is_some_and(|link| link.is_up) {
            self.announce_link(Link { endpoint: self.name.clone(), is_up: false, reason: reason.into() });
        }
    }

    pub(crate) fn own_link(&self) -> Option<Link> {
        self.own_link.lock().expect("nothing panics while it is held").clone()
    }

    /// An endpoint's link changed. Of news that nobody has heard yet only the last of each endpoint counts.
    fn tell_link(&self, link: &Link) {
        let mut links = self.links.lock().expect("nothing panics while it is held");
        let Links { known, news } = &mut *links;
        for list in [known, news] {
            list.retain(|other| other.endpoint != link.endpoint);
            list.push(link.clone());
        }
        drop(links);
        self.bell.ring();
    }

    pub(crate) fn link_news(&self) -> Vec<Link> {
        std::mem::take(&mut self.links.lock().expect("nothing panics while it is held").news)
    }

    /// A gear starts anew: it is told every link again.
    pub(crate) fn repeat_links(&self) {
        let mut links = self.links.lock().expect("nothing panics while it is held");
        links.news = links.known.clone();
    }

    /// Messages waiting for it, over all its queues.
    pub(crate) fn depth(&self) -> usize {
        self.wiring().inlets.iter().map(|inlet| inlet.queue.len()).sum()
    }
}

/// Who a cell is.
#[derive(Clone, Debug)]
pub(crate) struct CellIdentity {
    pub(crate) name: SmolStr,
    pub(crate) partition: u32,
    pub(crate) number: u32,
    pub(crate) entity: EntityId,
    pub(crate) is_endpoint: bool,
}
