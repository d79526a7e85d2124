//! A door: where messages enter, and the only place where anything waits (HEART §3).
//! It is open while every wire it can reach has room, and while not too much above the mark came through it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::bell::Bell;
use crate::wire::{Lane, Queue};

/// Why a door is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// A wire it can reach is full.
    Full,
    /// Too much that it admitted is not durable yet.
    Unflushed,
    /// The disk is above a watermark.
    Disk,
    /// The rig drains: no more requests.
    Draining,
    /// The node has ended.
    Halted,
}

impl Closed {
    /// What the rig is, to whoever has to wait or is refused.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Halted => "ended",
            Self::Full | Self::Unflushed | Self::Disk => "busy",
        }
    }
}

/// How full the disk is, as far as doors care.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    level: AtomicU8,
    is_draining: AtomicBool,
    is_settling: AtomicBool,
    is_halted: AtomicBool,
}

impl Gauge {
    pub(crate) fn set_level(&self, level: u8) {
        self.level.store(level, Ordering::Relaxed);
    }

    pub(crate) fn level(&self) -> u8 {
        self.level.load(Ordering::Relaxed)
    }

    pub(crate) fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// No effect is taken any more: those under way end, the rest stays in the journal.
    pub(crate) fn settle(&self) {
        self.is_settling.store(true, Ordering::Release);
    }

    pub(crate) fn is_settling(&self) -> bool {
        self.is_settling.load(Ordering::Acquire)
    }

    pub(crate) fn halt(&self) {
        self.is_halted.store(true, Ordering::Release);
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.is_halted.load(Ordering::Acquire)
    }
}

/// What may have come in through one door and not be durable yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// Messages on standard wires.
    pub(crate) messages: usize,
    /// Bytes of their content.
    pub(crate) bytes: usize,
}

impl Bound {
    pub(crate) const NONE: Self = Self { messages: usize::MAX, bytes: usize::MAX };
}

/// One door of a running rig: an endpoint's output port, or a gear's timers.
#[derive(Debug)]
pub(crate) struct Door {
    /// Queues it can reach through gears.
    pub(crate) reach: Vec<Arc<Queue>>,
    /// All its wires end in reply ports: it stays open for longer when the disk fills or the rig drains.
    pub(crate) is_reply: bool,
    unflushed_max: Bound,
    gauge: Arc<Gauge>,
    opened: Notify,
    gear: Option<Arc<Bell>>,
    unflushed: AtomicUsize,
    unflushed_bytes: AtomicUsize,
    epochs: Mutex<VecDeque<Admitted>>,
}

/// What one epoch let in.
#[derive(Debug)]
struct Admitted {
    epoch: u64,
    lane: Lane,
    messages: usize,
    bytes: usize,
}

impl Door {
    pub(crate) fn new(
        reach: Vec<Arc<Queue>>,
        is_reply: bool,
        unflushed_max: Bound,
        gauge: Arc<Gauge>,
        gear: Option<Arc<Bell>>,
    ) -> Arc<Self> {
        let door = Arc::new(Self {
            reach,
            is_reply,
            unflushed_max,
            gauge,
            opened: Notify::new(),
            gear,
            unflushed: AtomicUsize::new(0),
            unflushed_bytes: AtomicUsize::new(0),
            epochs: Mutex::default(),
        });
        for queue in &door.reach {
            queue.doors.lock().expect("nothing panics while it is held").push(Arc::downgrade(&door));
        }
        door
    }

    /// Why it is closed, or `None` while it is open.
    pub(crate) fn closed(&self) -> Option<Closed> {
        if self.gauge.is_halted() {
            return Some(Closed::Halted);
        }
        if self.gauge.is_draining() && !self.is_reply && self.gear.is_none() {
            return Some(Closed::Draining);
        }
        let level_max = if self.is_reply || self.gear.is_some() { 2 } else { 1 };
        if self.gauge.level() >= level_max {
            return Some(Closed::Disk);
        }
        let Bound { messages, bytes } = self.unflushed_max;
        if self.unflushed.load(Ordering::Relaxed) >= messages || self.unflushed_bytes.load(Ordering::Relaxed) >= bytes {
            return Some(Closed::Unflushed);
        }
        if self.reach.iter().any(|queue| !queue.has_room()) {
            return Some(Closed::Full);
        }
        None
    }

    /// How many more it lets in before it looks again.
    pub(crate) fn room(&self) -> usize {
        let unflushed = self.unflushed_max.messages.saturating_sub(self.unflushed.load(Ordering::Relaxed));
        self.reach.iter().map(|queue| queue.spec.capacity.saturating_sub(queue.len())).fold(unflushed, usize::min)
    }

    /// Something that kept it closed may be over.
    pub(crate) fn open_up(&self) {
        match &self.gear {
            Some(bell) => bell.ring(),
            None => self.opened.notify_waiters(),
        }
    }

    /// Waits until it may be open again. The caller looks again, since others may have come in before.
    pub(crate) async fn opening(&self) {
        let opened = self.opened.notified();
        tokio::pin!(opened);
        // Registered before the last look, so that an opening in between is not missed.
        opened.as_mut().enable();
        if self.closed().is_some() {
            opened.await;
        }
    }

    /// So many standard messages came in during this epoch.
    pub(crate) fn note_admitted(&self, epoch: u64, lane: Lane, messages: usize, bytes: usize) {
        self.unflushed.fetch_add(messages, Ordering::Relaxed);
        self.unflushed_bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut epochs = self.epochs.lock().expect("nothing panics while it is held");
        match epochs.back_mut() {
            Some(back) if (back.epoch, back.lane) == (epoch, lane) => {
                back.messages += messages;
                back.bytes += bytes;
            }
            _ => epochs.push_back(Admitted { epoch, lane, messages, bytes }),
        }
    }

    /// The marks moved.
    pub(crate) fn note_marks(&self, written: u64, flushed: u64) {
        let (mut messages, mut bytes) = (0, 0);
        let mut epochs = self.epochs.lock().expect("nothing panics while it is held");
        while let Some(front) = epochs.front() {
            let mark = if front.lane == Lane::Flush { flushed } else { written };
            if front.epoch > mark {
                break;
            }
            messages += front.messages;
            bytes += front.bytes;
            epochs.pop_front();
        }
        drop(epochs);
        if messages > 0 {
            self.unflushed.fetch_sub(messages, Ordering::Relaxed);
            self.unflushed_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.open_up();
        }
    }
}

#[cfg(test)]
mod tests;
