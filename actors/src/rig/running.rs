//! A rig that runs: seen, drained, stopped, killed.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxrig_supervision::{ControlError, SupervisorRef, TreeNode};
use smol_str::SmolStr;

use crate::door::Closed;
use crate::gear::Link;
use crate::journal::{Control, JournalStats, Reader, Usage};
use crate::lease::LeaseView;
use crate::node::Node;
use crate::wire::{Lane, Queue};

/// How often a fact that nobody announces is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A running rig. Dropping it does not stop it: call [`RunningRig::stop`].
pub struct RunningRig {
    pub(super) name: SmolStr,
    pub(crate) node: Arc<Node>,
    root: SupervisorRef,
    control: Option<Arc<Control>>,
    pub(super) reader: Option<Arc<dyn Reader>>,
    /// Held by the operator who sends letters again or purges them.
    pub(super) hand: Mutex<()>,
}

impl std::fmt::Debug for RunningRig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningRig").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a running rig is made of.
pub(super) struct RunningParts {
    pub(super) name: SmolStr,
    pub(super) node: Arc<Node>,
    pub(super) root: SupervisorRef,
    pub(super) control: Option<Arc<Control>>,
    pub(super) reader: Option<Arc<dyn Reader>>,
}

/// One wire as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireView {
    /// `gear.port->gear.port`.
    pub name: SmolStr,
    /// Delivery contract.
    pub lane: Lane,
    /// Messages on it.
    pub depth: usize,
    /// Messages that left it, since the start.
    pub passed: u64,
    /// Messages on it, over all partitions, before the doors that feed it close.
    pub capacity: usize,
    /// Age of the oldest message on it.
    pub oldest: Option<Duration>,
}

/// One door as it is now: an output port of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorView {
    /// The endpoint.
    pub endpoint: SmolStr,
    /// Its output port.
    pub port: SmolStr,
    /// Why it is closed; `None` while it is open.
    pub closed: Option<Closed>,
}

impl RunningRig {
    pub(super) fn new(parts: RunningParts) -> Self {
        let RunningParts { name, node, root, control, reader } = parts;
        Self { name, node, root, control, reader, hand: Mutex::default() }
    }

    /// Name of the scenario.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tree of supervisors and actors with restarts, last exit reasons, depth, rate and age.
    ///
    /// # Errors
    /// When the rig has ended.
    pub async fn snapshot(&self) -> Result<TreeNode, ControlError> {
        self.root.snapshot().await
    }

    /// Ends one gear, as its own failure would, and starts it again: `pumps`, or `pumps-1` for one partition of it.
    ///
    /// # Errors
    /// When there is no such gear.
    pub async fn restart_gear(&self, gear: &str) -> Result<(), ControlError> {
        let (part, instance) = match self.node.cells.iter().find(|cell| cell.name == gear) {
            Some(cell) => (cell.name.as_str(), format!("{}-{}", cell.name, cell.partition)),
            None => (gear.rsplit_once('-').map_or(gear, |(part, _)| part), gear.to_owned()),
        };
        self.root.restart_child(&format!("core/scenario/gears/{part}/{instance}")).await
    }

    /// Ends the actor of one wire and starts it again; what is on the wire stays.
    ///
    /// # Errors
    /// When there is no such wire.
    pub async fn restart_wire(&self, wire: &str) -> Result<(), ControlError> {
        self.root.restart_child(&format!("core/scenario/wires/{wire}")).await
    }

    /// Every wire as it is now.
    #[must_use]
    pub fn wires(&self) -> Vec<WireView> {
        let view = |wire: &Arc<crate::wire::Wire>| WireView {
            name: wire.name.clone(),
            lane: wire.options.lane,
            depth: wire.queues.iter().map(|queue| queue.len()).sum(),
            passed: wire.queues.iter().map(|queue| queue.passed()).sum(),
            capacity: wire.queues.iter().map(|queue| queue.spec.capacity).sum(),
            oldest: wire
                .queues
                .iter()
                .filter_map(|queue| queue.oldest_since_ns())
                .min()
                .map(|since_ns| Duration::from_nanos(self.node.now_ns().saturating_sub(since_ns))),
        };
        self.node.wires.iter().map(view).collect()
    }

    /// Every door as it is now, in the order of endpoints and their output ports.
    #[must_use]
    pub fn doors(&self) -> Vec<DoorView> {
        let endpoints = self.node.cells.iter().filter(|cell| cell.is_endpoint());
        let doors = endpoints.flat_map(|cell| {
            cell.ports.outputs.iter().zip(&cell.wiring().doors).map(|(port, door)| DoorView {
                endpoint: cell.name.clone(),
                port: port.name.clone(),
                closed: door.closed(),
            })
        });
        doors.collect()
    }

    /// The epochs up to which everything is written, and up to which everything is flushed.
    #[must_use]
    pub fn marks(&self) -> (u64, u64) {
        let marks = self.node.marks();
        (marks.written, marks.flushed)
    }

    /// Deliveries that this gear rejected, and deliveries in which it failed, over all its partitions.
    #[must_use]
    pub fn refusals(&self, gear: &str) -> (u64, u64) {
        let cells = self.node.cells.iter().filter(|cell| cell.name == gear);
        let counts = cells.map(|cell| (&cell.counters.rejected, &cell.counters.failed));
        counts.fold((0, 0), |(rejected, failed), (more_rejected, more_failed)| {
            (rejected + more_rejected.load(Ordering::Relaxed), failed + more_failed.load(Ordering::Relaxed))
        })
    }

    /// What gears and endpoints count by themselves, over all partitions: gear, series, label, count.
    #[must_use]
    pub fn tallies(&self) -> Vec<(SmolStr, &'static str, String, u64)> {
        let mut sums = BTreeMap::new();
        for cell in &self.node.cells {
            for (series, label, count) in cell.tallies.list() {
                *sums.entry((cell.name.clone(), series, label)).or_insert(0) += count;
            }
        }
        sums.into_iter().map(|((gear, series, label), count)| (gear, series, label, count)).collect()
    }

    /// The links of endpoints that have one, as they last told.
    #[must_use]
    pub fn links(&self) -> Vec<Link> {
        self.node.cells.iter().filter_map(|cell| cell.own_link()).collect()
    }

    /// Figures of the journal; `None` without one.
    #[must_use]
    pub fn journal(&self) -> Option<(JournalStats, Usage)> {
        self.control.as_ref().map(|control| control.figures())
    }

    /// The lease under which this rig writes its stream; `None` where no stand-by may take over.
    #[must_use]
    pub fn lease(&self) -> Option<LeaseView> {
        self.node.lease.as_ref().map(|lease| lease.view())
    }

    /// Another rack has taken over the stream: this one has ended, and starts nothing any more.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.node.is_fenced.load(Ordering::SeqCst)
    }

    /// No effect leaves at the moment, since the journal cannot be written.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.node.is_degraded.load(Ordering::Relaxed)
    }

    /// Messages that the outputs of this gear sent into nothing, since no wire leaves there.
    #[must_use]
    pub fn unwired(&self, gear: &str) -> u64 {
        let cells = self.node.cells.iter().filter(|cell| cell.name == gear);
        cells.map(|cell| cell.counters.unwired.load(Ordering::Relaxed)).sum()
    }

    /// Whether every source has nothing left to admit.
    #[must_use]
    pub fn are_sources_ended(&self) -> bool {
        self.node.are_sources_ended()
    }

    /// Waits until every source has ended and every wire is empty. False when the rig ended before.
    pub async fn finished(&self) -> bool {
        self.wait_for(|node| node.are_sources_ended() && node.work_queues().all(|queue| queue.len() == 0)).await
    }

    /// Waits until every wire is empty. False when the rig ended before.
    pub async fn idle(&self) -> bool {
        self.wait_for(|node| node.work_queues().all(|queue| queue.len() == 0)).await
    }

    async fn wait_for(&self, fact: impl Fn(&Node) -> bool) -> bool {
        loop {
            if self.node.gauge.is_halted() {
                return false;
            }
            if fact(&self.node) {
                return true;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until everything committed up to now is durable.
    pub async fn durable(&self) -> bool {
        if !self.node.is_journaled {
            return true;
        }
        let epoch = {
            // No cut comes between the two. What was cut already is not durable yet either.
            let _gate = self.node.gate.enter();
            self.node.epoch() - u64::from(!self.node.is_dirty())
        };
        self.node.durable(crate::wire::After { flush: epoch, os: epoch }).await
    }

    /// Waits for the end of the rig and says why it ended.
    pub async fn ended(&self) -> String {
        let mut halted = self.node.halted.subscribe();
        tokio::select! {
            biased;
            reason = halted.wait_for(Option::is_some) => {
                reason.ok().and_then(|reason| reason.clone()).unwrap_or_default()
            }
            reason = self.root.wait() => reason.to_string(),
        }
    }

    /// Drains as [`RunningRig::drain`] does, then the last flush; the tree stops in reverse. What is left on standard
    /// wires stays in the journal. True when nothing under way was left, and the journal is on disk to its end.
    pub async fn stop(self, deadline: Duration) -> bool {
        let is_done = self.drain(deadline).await;
        self.root.stop().await;
        self.end();
        is_done && self.control.as_ref().is_none_or(|control| control.is_kept())
    }

    /// Runs until `signal`, then drains for at most `deadline`.
    pub async fn run_until(self, signal: impl Future, deadline: Duration) -> bool {
        tokio::select! {
            _ = signal => {}
            reason = self.ended() => tracing::error!(%reason, "rig ended by itself"),
        }
        self.stop(deadline).await
    }

    /// Ends at once, as `kill -9` would: no last cut, nothing drained. The journal recovers at the next start.
    pub async fn kill(self) {
        if let Some(control) = &self.control {
            control.kill(&self.node);
        }
        self.node.halt("killed");
        self.root.stop().await;
        self.end();
    }

    fn end(&self) {
        self.node.halt("stopped");
        for cell in &self.node.cells {
            cell.silence();
        }
        self.node.queues.iter().for_each(|queue| queue.untap());
    }
}

impl Node {
    /// Every queue but the dead letters'.
    pub(crate) fn work_queues(&self) -> impl Iterator<Item = &Arc<Queue>> {
        self.queues.iter().filter(|queue| !Arc::ptr_eq(queue, &self.dead))
    }

    fn are_sources_ended(&self) -> bool {
        let sources = self.cells.iter().filter(|cell| cell.is_endpoint() && cell.ports.inputs.is_empty());
        sources.into_iter().all(|cell| cell.has_ended())
    }
}
