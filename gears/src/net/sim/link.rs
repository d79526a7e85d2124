//! One simulated connection as plain state: what is under way in each direction, and how it ends. Knows no waiting.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use fluxrig_actors::journal::disk::sim::SplitMix;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::OUTSIDE;
use super::side::{End, Side};

/// The side that connected.
pub(super) const DIALER: usize = 0;
/// The side that accepted.
pub(super) const SERVER: usize = 1;
/// Bytes under way in one direction before the process that writes has to wait.
const WINDOW_BYTES: usize = 64 << 10;
/// Pieces into which one write comes apart at most.
const PIECES_MAX: u64 = 4;
/// Longest pause between two of them, microseconds.
const PIECE_GAP_US: u64 = 3000;

/// Which process each side belongs to.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) dialer: u64,
    pub(super) server: u64,
}

/// A connection.
pub(super) struct Link {
    pub(super) address: Arc<str>,
    sides: [Side; 2],
    latency: Duration,
    lost: Lost,
}

/// Whether it still leads from one side to the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lost {
    No,
    /// Nothing arrives, and nobody is told while nobody knows of it.
    Silent,
    /// From then on whoever writes is told.
    Until(Instant),
}

/// What a look at one side gives.
pub(super) enum Look {
    /// There is something, or it is over.
    Now,
    /// Not before then, as far as is known.
    At(Option<Instant>),
}

/// What a write comes to.
pub(super) enum Wrote {
    Some(usize),
    Full,
    Broken,
}

/// What a read comes to.
pub(super) enum Read {
    Bytes(Bytes),
    Nothing,
    Closed,
    Broken,
}

impl Link {
    pub(super) fn new(address: Arc<str>, ends: Ends, latency: Duration) -> Self {
        Self { address, sides: [Side::new(ends.dialer), Side::new(ends.server)], latency, lost: Lost::No }
    }

    pub(super) fn dialer(&self) -> u64 {
        self.sides[DIALER].owner
    }

    /// Rings when there may be something to read, or room to write.
    pub(super) fn bells(&self, side: usize) -> (Arc<Notify>, Arc<Notify>) {
        (Arc::clone(&self.sides[side].readable), Arc::clone(&self.sides[side].writable))
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost != Lost::No
    }

    /// Takes bytes from one side. Nothing arrives before `stalled`.
    pub(super) fn write(&mut self, side: usize, bytes: &[u8], stalled: Option<Instant>, rng: &mut SplitMix) -> Wrote {
        let now = Instant::now();
        let is_told = match self.lost {
            Lost::No => self.sides[1 - side].is_closed(),
            Lost::Silent => false,
            Lost::Until(until) => until <= now,
        };
        if self.sides[side].is_broken || is_told || !self.sides[side].is_writing {
            self.sides[side].break_off();
            return Wrote::Broken;
        }
        let is_outside = self.sides[side].owner == OUTSIDE;
        let latency = self.latency;
        let peer = &mut self.sides[1 - side];
        let room = if is_outside { usize::MAX } else { WINDOW_BYTES.saturating_sub(peer.inbound_bytes) };
        let count = bytes.len().min(room);
        if count == 0 && !bytes.is_empty() {
            return Wrote::Full;
        }
        peer.inbound_bytes += count;
        if self.lost != Lost::No {
            // It fills the window and is never read.
            return Wrote::Some(count);
        }
        let mut at = (now + latency).max(peer.last_at.unwrap_or(now)).max(stalled.unwrap_or(now));
        let mut rest = Bytes::copy_from_slice(&bytes[..count]);
        let pieces = if rng.chance(250_000) { 1 + rng.below(PIECES_MAX) } else { 1 };
        for _ in 1..pieces {
            let cut = rng.below(rest.len() as u64 + 1) as usize;
            if cut > 0 {
                peer.inbound.push_back((at, rest.split_to(cut)));
            }
            at += Duration::from_micros(rng.below(PIECE_GAP_US));
        }
        if !rest.is_empty() {
            peer.inbound.push_back((at, rest));
        }
        peer.last_at = Some(at);
        peer.readable.notify_one();
        Wrote::Some(count)
    }

    pub(super) fn look(&self, side: usize) -> Look {
        let (now, me) = (Instant::now(), &self.sides[side]);
        if me.is_broken {
            return Look::Now;
        }
        if self.lost != Lost::No {
            return Look::At(None);
        }
        let next = me.inbound.front().map(|(at, _)| *at).or(me.end.map(|(at, _)| at));
        match next {
            Some(at) if at <= now => Look::Now,
            at => Look::At(at),
        }
    }

    /// Gives at most `room` bytes of what has arrived.
    pub(super) fn read(&mut self, side: usize, room: usize) -> Read {
        if !matches!(self.look(side), Look::Now) {
            return Read::Nothing;
        }
        let [left, right] = &mut self.sides;
        let (me, peer) = if side == DIALER { (left, right) } else { (right, left) };
        if me.is_broken {
            return Read::Broken;
        }
        let now = Instant::now();
        let mut got = BytesMut::new();
        while let Some((at, bytes)) = me.inbound.front_mut()
            && *at <= now
            && got.len() < room
        {
            let count = bytes.len().min(room - got.len());
            got.extend_from_slice(&bytes[..count]);
            bytes.advance(count);
            if bytes.is_empty() {
                me.inbound.pop_front();
            }
        }
        if !got.is_empty() {
            me.inbound_bytes = me.inbound_bytes.saturating_sub(got.len());
            peer.writable.notify_one();
            return Read::Bytes(got.freeze());
        }
        match me.end {
            Some((_, End::Reset)) => {
                me.break_off();
                Read::Broken
            }
            _ => Read::Closed,
        }
    }

    /// One side reads no more. What has come and was not read is a reset for the other, as with real sockets.
    pub(super) fn close_reading(&mut self, side: usize) {
        self.sides[side].is_reading = false;
        self.close(side);
    }

    pub(super) fn close_writing(&mut self, side: usize) {
        self.sides[side].is_writing = false;
        self.close(side);
    }

    fn close(&mut self, side: usize) {
        let now = Instant::now();
        let me = &self.sides[side];
        let is_rude = me.is_closed() && !me.inbound.is_empty();
        if me.is_writing && !is_rude {
            return;
        }
        let peer = &mut self.sides[1 - side];
        let at = (now + self.latency).max(peer.last_at.unwrap_or(now));
        match peer.end {
            _ if is_rude => peer.end = Some((at, End::Reset)),
            None => peer.end = Some((at, End::Closed)),
            Some(_) => {}
        }
        peer.wake();
    }

    /// Nobody is there any more.
    pub(super) fn is_over(&self) -> bool {
        self.sides.iter().all(Side::is_closed)
    }

    pub(super) fn reset(&mut self) {
        self.sides.iter_mut().for_each(Side::break_off);
    }

    pub(super) fn stall(&mut self, until: Instant) {
        for side in &mut self.sides {
            side.inbound.iter_mut().for_each(|(at, _)| *at = (*at).max(until));
            side.last_at = Some(side.last_at.unwrap_or(until).max(until));
            if let Some((at, _)) = &mut side.end {
                *at = (*at).max(until);
            }
        }
    }

    /// From here on it leads nowhere.
    pub(super) fn lose(&mut self, until: Option<Instant>) {
        self.lost = until.map_or(Lost::Silent, Lost::Until);
        self.sides.iter_mut().for_each(|side| side.inbound.clear());
    }

    /// The machine that lost power is there again, and knows nothing of it.
    pub(super) fn found_again(&mut self, now: Instant) {
        if self.lost == Lost::Silent {
            self.lost = Lost::Until(now);
        }
    }

    /// A process has ended. False when nobody is left on it.
    pub(super) fn process_ended(&mut self, process: u64, is_power: bool, rng: &mut SplitMix) -> bool {
        for side in [DIALER, SERVER] {
            if self.sides[side].owner != process {
                continue;
            }
            self.sides[side].break_off();
            (self.sides[side].is_reading, self.sides[side].is_writing) = (false, false);
            if is_power {
                self.lose(None);
                continue;
            }
            let how = if rng.chance(500_000) { End::Reset } else { End::Closed };
            let peer = &mut self.sides[1 - side];
            let at = Instant::now() + self.latency;
            peer.end = Some((at.max(peer.last_at.unwrap_or(at)), how));
            peer.wake();
        }
        !self.is_over()
    }
}
