//! The node: every queue, memory, mark and clock of one running rig, shared by all its actors.
//! Actors come and go; what is here stays until the rig stops.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use fluxrig_protocol::{FluxId, FluxMsg, Limits};
use tokio::sync::{Notify, watch};

use crate::cell::Cell;
use crate::clock::World;
use crate::door::{Closed, Door, Gauge};
use crate::fate::Fates;
use crate::gate::Gate;
use crate::identity::IdKey;
use crate::journal::Desk;
use crate::lease::Lease;
use crate::marks::{MarkBoard, MarkWatch, Marks};
use crate::plan::PlanError;
use crate::wire::{After, DeadNote, Lane, Queue, Wire};

/// How the runtime behaves, the same for every gear of a rig.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Limits of every message; only downward from the defaults.
    pub limits: Limits,
    /// Messages that one delivery may emit, over all ports.
    pub emit_max: u32,
    /// Messages that a gear takes at once.
    pub batch_max: usize,
    /// Bytes of content that one delivery may emit, over all ports.
    pub emit_bytes_max: usize,
    /// Admitted standard messages above the mark before their door closes.
    pub unflushed_max: usize,
    /// Bytes of content of admitted standard messages above the mark before their door closes.
    pub unflushed_bytes_max: usize,
    /// Effects an endpoint may have taken that wait for the mark. Those that have started stay on their wire until they
    /// end, and count against its capacity.
    pub effects_max: usize,
    /// Dead letters that a rig without a journal keeps; the oldest go first, counted and logged.
    pub dead_letters_max: usize,
    /// Takes sensitive authentication data out of a message before it is dead-lettered or retained (HEART §9.2).
    pub redactor: Option<Redactor>,
}

/// Returns a copy without sensitive data, or `None` where there is none.
pub type Redactor = fn(&FluxMsg) -> Option<FluxMsg>;

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            emit_max: 4096,
            batch_max: 256,
            emit_bytes_max: 16 << 20,
            unflushed_max: 2048,
            unflushed_bytes_max: 32 << 20,
            effects_max: 4096,
            dead_letters_max: 10_000,
            redactor: None,
        }
    }
}

impl Settings {
    /// A copy without sensitive data, where the rig knows of any.
    pub(crate) fn redacted(&self, msg: FluxMsg) -> FluxMsg {
        match self.redactor {
            Some(redact) => redact(&msg).unwrap_or(msg),
            None => msg,
        }
    }

    /// Numbers with which nothing would ever move.
    pub(crate) fn errors(&self) -> Vec<PlanError> {
        let checks = [
            ("emit_max", self.emit_max as usize),
            ("batch_max", self.batch_max),
            ("emit_bytes_max", self.emit_bytes_max),
            ("unflushed_max", self.unflushed_max),
            ("unflushed_bytes_max", self.unflushed_bytes_max),
            ("effects_max", self.effects_max),
        ];
        checks
            .into_iter()
            .filter(|&(_, value)| value == 0)
            .map(|(setting, _)| PlanError::Settings { setting })
            .collect()
    }
}

/// Wakes the journal's writer, be it a thread or a task.
#[derive(Debug, Default)]
pub(crate) struct WriterBell {
    pub(crate) notify: Notify,
    pub(crate) thread: OnceLock<std::thread::Thread>,
    pub(crate) desk: OnceLock<Arc<Desk>>,
}

impl WriterBell {
    pub(crate) fn wake(&self) {
        match self.thread.get() {
            Some(thread) => thread.unpark(),
            None => self.notify.notify_one(),
        }
    }
}

/// What all actors of a rig share.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) settings: Settings,
    pub(crate) world: Arc<dyn WorldDebug>,
    pub(crate) origin: tokio::time::Instant,
    pub(crate) id_key: IdKey,
    pub(crate) gate: Gate,
    /// The epoch that commits belong to now; a cut ends it.
    epoch: AtomicU64,
    marks: Arc<MarkBoard>,
    demanded: AtomicU64,
    /// Something standard changed since the last cut.
    is_dirty: AtomicBool,
    /// The writer sleeps deeply and wants to be told of the first change.
    pub(crate) is_writer_asleep: AtomicBool,
    /// The writer waits for the ripple to end.
    pub(crate) is_writer_waiting: AtomicBool,
    pub(crate) writer: WriterBell,
    /// Messages that a gear, or an endpoint with room, will take by itself soon.
    motion: AtomicI64,
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) queues: Vec<Arc<Queue>>,
    pub(crate) wires: Vec<Arc<Wire>>,
    pub(crate) cells: Vec<Arc<Cell>>,
    pub(crate) doors: Mutex<Vec<Arc<Door>>>,
    /// The dead-letter wire's queue.
    pub(crate) dead: Arc<Queue>,
    /// Dead letters that were sent again, while somebody wants to know what becomes of them.
    pub(crate) fates: Fates,
    /// There is a journal; without one every wire is turbo.
    pub(crate) is_journaled: bool,
    /// Two unclean starts in a row: batches of one, attempts durable before they are made (HEART §7.2).
    pub(crate) is_careful: AtomicBool,
    /// The process before did not end cleanly, and what it left is not all handled yet.
    is_unclean: AtomicBool,
    pub(crate) dead_dropped: AtomicU64,
    pub(crate) halted: watch::Sender<Option<String>>,
    pub(crate) is_degraded: AtomicBool,
    /// Another one has taken over.
    pub(crate) is_fenced: AtomicBool,
    /// Of a journal that a stand-by may take over.
    pub(crate) lease: Option<Arc<Lease>>,
}

/// A [`World`] that can be printed as a name only.
pub(crate) trait WorldDebug: World + std::fmt::Debug {}
impl<W: World + std::fmt::Debug> WorldDebug for W {}

/// What a node is made of; everything else it begins with is zero.
pub(crate) struct NodeParts {
    pub(crate) settings: Settings,
    pub(crate) world: Arc<dyn WorldDebug>,
    pub(crate) id_key: IdKey,
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) epoch: u64,
    pub(crate) queues: Vec<Arc<Queue>>,
    pub(crate) wires: Vec<Arc<Wire>>,
    pub(crate) cells: Vec<Arc<Cell>>,
    pub(crate) dead: Arc<Queue>,
    pub(crate) is_journaled: bool,
    pub(crate) is_careful: bool,
    /// The process before did not end cleanly.
    pub(crate) is_unclean: bool,
    pub(crate) origin: tokio::time::Instant,
    pub(crate) motion: i64,
    pub(crate) lease: Option<Arc<Lease>>,
}

impl Node {
    pub(crate) fn new(parts: NodeParts) -> Arc<Self> {
        let flushed = parts.epoch - 1;
        Arc::new(Self {
            settings: parts.settings,
            world: parts.world,
            origin: parts.origin,
            id_key: parts.id_key,
            gate: Gate::new(),
            epoch: AtomicU64::new(parts.epoch),
            marks: MarkBoard::new(Marks { written: flushed, flushed }),
            demanded: AtomicU64::new(0),
            is_dirty: AtomicBool::new(false),
            is_writer_asleep: AtomicBool::new(false),
            is_writer_waiting: AtomicBool::new(false),
            writer: WriterBell::default(),
            motion: AtomicI64::new(parts.motion),
            gauge: parts.gauge,
            queues: parts.queues,
            wires: parts.wires,
            cells: parts.cells,
            doors: Mutex::default(),
            dead: parts.dead,
            fates: Fates::default(),
            is_journaled: parts.is_journaled,
            is_careful: AtomicBool::new(parts.is_careful),
            is_unclean: AtomicBool::new(parts.is_unclean),
            dead_dropped: AtomicU64::new(0),
            halted: watch::Sender::new(None),
            is_degraded: AtomicBool::new(false),
            is_fenced: AtomicBool::new(false),
            lease: parts.lease,
        })
    }

    /// Monotonic nanoseconds since the node began.
    pub(crate) fn now_ns(&self) -> u64 {
        // Never zero, which stands for "not busy" and "not blocked".
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
    }

    pub(crate) fn wall_ns(&self) -> i64 {
        self.world.wall_ns()
    }

    /// A fresh id, at ingress.
    pub(crate) fn fresh_id(&self) -> FluxId {
        let mut random = [0; 10];
        self.world.random(&mut random);
        FluxId::v7(u64::try_from(self.wall_ns() / 1_000_000).unwrap_or(0), random)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Ends the open epoch and returns it. Only inside the closed gate.
    pub(crate) fn next_epoch(&self) -> u64 {
        self.is_dirty.store(false, Ordering::Relaxed);
        self.epoch.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether anything standard changed since the last cut.
    pub(crate) fn is_dirty(&self) -> bool {
        self.is_dirty.load(Ordering::SeqCst)
    }

    pub(crate) fn note_dirty(&self) {
        if !self.is_dirty.load(Ordering::Relaxed) {
            // In one order with the writer's own two steps (asleep, then a last look), so that neither misses the other.
            self.is_dirty.store(true, Ordering::SeqCst);
            if self.is_writer_asleep.load(Ordering::SeqCst) {
                self.writer.wake();
            }
        }
    }

    pub(crate) fn marks(&self) -> Marks {
        self.marks.get()
    }

    /// Whether an effect may start, as far as the lease says: past it somebody else may be starting the same ones.
    pub(crate) fn may_start_effects(&self) -> bool {
        self.lease.as_ref().is_none_or(|lease| lease.may_start())
    }

    /// The lease may be longer now.
    pub(crate) fn note_renewed(&self) {
        if self.lease.as_ref().is_some_and(|lease| lease.take_waiting()) {
            self.wake_watchers();
        }
    }

    pub(crate) fn watch_marks(&self) -> MarkWatch {
        self.marks.watch()
    }

    pub(crate) fn set_marks(&self, marks: Marks) {
        self.marks.set(marks);
        for door in self.doors.lock().expect("nothing panics while it is held").iter() {
            door.note_marks(marks.written.max(marks.flushed), marks.flushed);
        }
    }

    /// Asks for a cut, once per epoch, unless what is waited for was cut already. When nothing else is under way the
    /// cut is made here, and what was asked for is durable on return: look at the marks before waiting for them.
    pub(crate) fn demand(&self, after: After) {
        let epoch = after.flush.max(after.os);
        if epoch < self.epoch() || self.demanded.fetch_max(epoch, Ordering::AcqRel) >= epoch {
            return;
        }
        let is_alone = self.is_still() && !self.gauge.is_halted();
        let is_served = is_alone && self.writer.desk.get().is_some_and(|desk| desk.serve());
        if !is_served {
            self.writer.wake();
        }
    }

    pub(crate) fn is_demanded(&self) -> bool {
        self.demanded.load(Ordering::Acquire) >= self.epoch()
    }

    /// Waits until everything in `after` is durable. False when the node ended before.
    pub(crate) async fn durable(&self, after: After) -> bool {
        let mut marks = self.watch_marks();
        loop {
            if marks.look().cover(after) {
                return true;
            }
            if self.gauge.is_halted() {
                return false;
            }
            self.demand(after);
            marks.covered(after).await;
        }
    }

    pub(crate) fn move_motion(&self, by: i64) {
        if by == 0 {
            return;
        }
        let left = self.motion.fetch_add(by, Ordering::AcqRel) + by;
        if left <= 0 && self.is_writer_waiting.load(Ordering::Acquire) {
            self.writer.wake();
        }
    }

    pub(crate) fn is_still(&self) -> bool {
        self.motion.load(Ordering::Acquire) <= 0
    }

    /// Waits until the door is open. An error when it stays closed: the node drains or has ended.
    pub(crate) async fn open(&self, door: &Door) -> Result<(), Closed> {
        // Who never has to wait would otherwise keep its worker, and could not be stopped.
        tokio::task::consume_budget().await;
        loop {
            match door.closed() {
                None => return Ok(()),
                Some(closed @ (Closed::Draining | Closed::Halted)) => return Err(closed),
                Some(Closed::Unflushed) => {
                    // A door closed for this is a demand for a cut: nobody else may ask for one.
                    let epoch = self.epoch();
                    self.demand(After { flush: epoch, os: epoch });
                    door.opening().await;
                }
                Some(Closed::Full | Closed::Disk) => door.opening().await,
            }
        }
    }

    /// Something that may have kept doors closed is over.
    pub(crate) fn open_doors(&self) {
        for door in self.doors.lock().expect("nothing panics while it is held").iter() {
            door.open_up();
        }
    }

    /// Ends the node as `kill -9` would: nothing more leaves it, a restart recovers it.
    pub(crate) fn halt(&self, reason: &str) {
        self.gauge.halt();
        self.halted.send_if_modified(|halted| {
            let is_first = halted.is_none();
            halted.get_or_insert_with(|| reason.to_owned());
            is_first
        });
        // Whoever waits for a mark or a door looks again, and sees the end.
        self.wake_watchers();
        self.open_doors();
        self.writer.wake();
        for cell in &self.cells {
            cell.bell.ring();
        }
    }

    /// What everything committed in the open epoch on `lane` must wait for. Only inside the gate.
    pub(crate) fn after_now(&self, lane: Lane) -> After {
        match lane {
            Lane::Turbo => After::NOTHING,
            Lane::Os => After { flush: 0, os: self.epoch() },
            Lane::Flush => After { flush: self.epoch(), os: 0 },
        }
    }

    /// Whether everything that an unclean end left on the wires has been handled by now; true at most once. Whatever
    /// ended the process then was not among it, or is a dead letter.
    pub(crate) fn is_aftermath_over(&self) -> bool {
        if !self.is_unclean.load(Ordering::Relaxed) || self.queues.iter().any(|queue| queue.has_recovered()) {
            return false;
        }
        self.is_unclean.store(false, Ordering::Relaxed);
        self.is_careful.store(false, Ordering::Relaxed);
        true
    }

    /// Whoever waits for a mark looks again.
    pub(crate) fn wake_watchers(&self) {
        self.marks.wake();
    }

    /// A copy without sensitive data, where the rig knows of any.
    pub(crate) fn redacted(&self, msg: FluxMsg) -> FluxMsg {
        self.settings.redacted(msg)
    }

    /// Puts messages on the dead-letter wire. Inside the gate of the commit that takes them off theirs, and before that.
    pub(crate) fn bury(&self, letters: Vec<(FluxMsg, After, Arc<DeadNote>)>, now_ns: u64) {
        let watched = self.fates.watched(&letters);
        let letters = letters.into_iter().map(|(msg, after, note)| (msg, after, Some(note)));
        let (first_seq, _) = self.dead.push_noted(letters, now_ns);
        self.fates.note_dead(watched, first_seq);
        if !self.is_journaled {
            self.drop_old_letters();
        }
    }

    // Without a journal nothing but memory bounds the dead letters, so the oldest go, counted and said.
    fn drop_old_letters(&self) {
        let excess = self.dead.len().saturating_sub(self.settings.dead_letters_max);
        if excess == 0 {
            return;
        }
        // By sequence: between them there may be letters that were purged or replayed.
        let oldest = self.dead.peek(|entry| Some(entry.seq));
        self.dead.ack_effects(&mut oldest.into_iter().take(excess), &mut Vec::new());
        self.dead_dropped.fetch_add(excess as u64, Ordering::Relaxed);
        tracing::warn!(
            dropped = excess,
            max = self.settings.dead_letters_max,
            "oldest dead letters dropped from memory"
        );
    }
}

#[cfg(test)]
mod tests;
