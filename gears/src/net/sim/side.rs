//! One side of a simulated connection: what comes in to it, and how it has ended.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

/// One side: what comes in to it.
pub(super) struct Side {
    pub(super) owner: u64,
    pub(super) inbound: VecDeque<(Instant, Bytes)>,
    pub(super) inbound_bytes: usize,
    pub(super) last_at: Option<Instant>,
    pub(super) end: Option<(Instant, End)>,
    pub(super) is_reading: bool,
    pub(super) is_writing: bool,
    pub(super) is_broken: bool,
    pub(super) readable: Arc<Notify>,
    pub(super) writable: Arc<Notify>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Reset,
}

impl Side {
    pub(super) fn new(owner: u64) -> Self {
        Self {
            owner,
            inbound: VecDeque::new(),
            inbound_bytes: 0,
            last_at: None,
            end: None,
            is_reading: true,
            is_writing: true,
            is_broken: false,
            readable: Arc::default(),
            writable: Arc::default(),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        !self.is_reading && !self.is_writing
    }

    pub(super) fn wake(&self) {
        self.readable.notify_one();
        self.writable.notify_one();
    }

    pub(super) fn break_off(&mut self) {
        self.is_broken = true;
        self.inbound.clear();
        self.inbound_bytes = 0;
        self.wake();
    }
}
