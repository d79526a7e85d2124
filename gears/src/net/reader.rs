//! The reading side of one connection: whole frames become messages, as many at once as one read brought.
//! It reads nothing while the door is closed, and everything that it keeps is bounded.

use std::collections::VecDeque;
use std::io::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use fluxrig_actors::Closed;
use fluxrig_actors::prelude::*;
use tokio::time::{Instant, Sleep};

use super::connection::Connection;
use super::counters::{Counters, Reason};
use super::framing::BadFrame;
use super::setup::Setup;
use super::socket::ReadHalf;

/// Room for one read. It grows while reads fill it and shrinks again: a message keeps the whole buffer that it was read
/// into, so it is never much larger than what came at once.
const READ_BYTES: (usize, usize) = (4 << 10, 16 << 10);
/// Messages made ahead of one admission: what a connection keeps while the door closes.
const BATCH: usize = 64;
/// Polls are in one row while they follow each other faster than this.
const POLL_ROW: Duration = Duration::from_secs(1);
/// An admission that took longer has waited for its door.
const HARDLY: Duration = Duration::from_millis(1);
/// A timer that is not meant to fire.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// What a reader is made of.
pub(super) struct ReaderParts {
    pub(super) half: ReadHalf,
    pub(super) connection: Arc<Connection>,
    pub(super) setup: Arc<Setup>,
    pub(super) counters: Arc<Counters>,
    pub(super) io: Io,
}

/// Reads one connection to its end.
pub(super) struct Reader {
    half: ReadHalf,
    connection: Arc<Connection>,
    setup: Arc<Setup>,
    counters: Arc<Counters>,
    io: Io,
    door: Admission,
    return_to: Bytes,
    buffer: BytesMut,
    /// Where the search for a delimiter goes on.
    looked: usize,
    read_bytes: usize,
    msgs: VecDeque<FluxMsg>,
    /// The rig drains: what comes in is dropped and counted.
    is_refusing: bool,
    /// Frames that were read, to tell a connection that worked from one that did not.
    seen: u64,
    polls: PollState,
    times: Times,
}

/// Zero-length frames, which keep a connection alive.
#[derive(Default)]
struct PollState {
    /// In a row.
    row: u32,
    last: Option<Instant>,
    /// To be echoed.
    due: usize,
    /// Sent by us and not echoed yet: the next that come are their echoes.
    open: u32,
}

struct Times {
    last_in: Instant,
    last_poll: Instant,
    /// Since when a frame is begun and not whole.
    begun: Option<Instant>,
    /// Fires at the earliest that something may be due; what is due is found out then.
    timer: Pin<Box<Sleep>>,
}

impl Reader {
    pub(super) fn new(parts: ReaderParts) -> Self {
        let ReaderParts { half, connection, setup, counters, io } = parts;
        let now = Instant::now();
        Self {
            half,
            return_to: io.return_address(connection.id),
            door: io.door(),
            connection,
            setup,
            counters,
            io,
            buffer: BytesMut::new(),
            looked: 0,
            read_bytes: READ_BYTES.0,
            msgs: VecDeque::new(),
            is_refusing: false,
            seen: 0,
            polls: PollState::default(),
            times: Times { last_in: now, last_poll: now, begun: None, timer: Box::pin(tokio::time::sleep(NEVER)) },
        }
    }

    /// How many frames came in.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Reads until the connection must end, and says why.
    pub(super) async fn run(&mut self) -> Reason {
        loop {
            let step = async {
                self.wait_for_door().await?;
                self.read().await?;
                self.decode().await
            };
            if let Err(reason) = step.await {
                return reason;
            }
        }
    }

    /// Nothing is read that could not be let in.
    async fn wait_for_door(&mut self) -> Result<(), Reason> {
        if self.is_refusing || self.door.is_open() {
            return Ok(());
        }
        match self.door.open().await {
            Ok(()) => self.times.forgive(),
            Err(Closed::Halted) => return Err(Reason::Ended),
            Err(_) => self.is_refusing = true,
        }
        Ok(())
    }

    /// Waits for bytes, and does what is due meanwhile.
    async fn read(&mut self) -> Result<(), Reason> {
        loop {
            self.arm();
            let Self { half, buffer, read_bytes, times, .. } = &mut *self;
            tokio::select! {
                biased;
                count = read_some(half, buffer, *read_bytes) => {
                    let count = count.map_err(|_| Reason::Failed)?;
                    return self.note_read(count);
                }
                () = times.timer.as_mut() => {}
            }
            self.act_on_time()?;
        }
    }

    fn note_read(&mut self, count: usize) -> Result<(), Reason> {
        if count == 0 {
            return Err(if self.buffer.is_empty() { Reason::Peer } else { Reason::Truncated });
        }
        self.counters.bytes_in.add(count as u64);
        let (least, most) = READ_BYTES;
        if self.buffer.len() == self.buffer.capacity() {
            self.read_bytes = (self.read_bytes * 2).min(most);
        } else if count < self.read_bytes / 4 {
            self.read_bytes = (self.read_bytes / 2).max(least);
        }
        self.times.last_in = Instant::now();
        Ok(())
    }

    /// Takes the whole frames out of the buffer and lets them in.
    async fn decode(&mut self) -> Result<(), Reason> {
        let seen = self.seen;
        loop {
            let result = self.decode_batch();
            self.echo_polls();
            if !self.msgs.is_empty() {
                self.admit().await?;
            }
            // What came before a frame that is none is let in.
            if !result? {
                break;
            }
        }
        if self.buffer.is_empty() {
            self.times.begun = None;
            if self.buffer.capacity() > READ_BYTES.0 {
                // An idle connection keeps no more than the least.
                self.buffer = BytesMut::new();
            }
        } else if self.seen != seen || self.times.begun.is_none() {
            self.times.begun = Some(self.times.last_in);
        }
        Ok(())
    }

    /// At most a batch of messages. True when there may be more in the buffer.
    fn decode_batch(&mut self) -> Result<bool, Reason> {
        let max = self.setup.message_bytes_max;
        while self.msgs.len() < BATCH {
            let frame = self.setup.framing.first(&self.buffer, &mut self.looked, max);
            let frame = frame.map_err(|bad| match bad {
                BadFrame::Oversize => Reason::Oversize,
                BadFrame::Length => Reason::Length,
            })?;
            let Some(frame) = frame else { return Ok(false) };
            self.seen += 1;
            let mut bytes = self.buffer.split_to(frame.head + frame.body + frame.tail);
            if frame.body == 0 && self.setup.framing.has_length() {
                self.note_poll()?;
                continue;
            }
            self.polls.row = 0;
            bytes.truncate(frame.head + frame.body);
            bytes.advance(frame.head);
            let mut msg = self.io.message();
            msg.raw = Some(bytes.freeze());
            msg.return_to = Some(self.return_to.clone());
            msg.meta = self.setup.meta.clone();
            self.msgs.push_back(msg);
        }
        Ok(true)
    }

    async fn admit(&mut self) -> Result<(), Reason> {
        self.counters.frames_in.add(self.msgs.len() as u64);
        if self.is_refusing {
            self.counters.refused_draining.add(self.msgs.len() as u64);
            self.msgs.clear();
            return Ok(());
        }
        let began = Instant::now();
        let admitted = self.door.admit_all(&mut self.msgs).await;
        if began.elapsed() > HARDLY {
            self.times.forgive();
        }
        match admitted {
            Ok(_) => Ok(()),
            Err(Refused::Limit(..)) => {
                self.counters.refused_limit.add(1 + self.msgs.len() as u64);
                Err(Reason::Oversize)
            }
            Err(_) => {
                // The one in the error, and those behind it.
                self.counters.refused_draining.add(1 + self.msgs.len() as u64);
                self.msgs.clear();
                self.is_refusing = true;
                Ok(())
            }
        }
    }

    fn note_poll(&mut self) -> Result<(), Reason> {
        let Some(polls) = &self.setup.polls else { return Err(Reason::Empty) };
        self.counters.polls_in.add(1);
        let state = &mut self.polls;
        let now = self.times.last_in;
        if state.last.replace(now).is_none_or(|last| now.duration_since(last) >= POLL_ROW) {
            state.row = 0;
        }
        state.row += 1;
        if state.row > polls.max {
            return Err(Reason::Polls);
        }
        if state.open > 0 {
            // Echoing an echo would go on for ever between two of us. A peer that polls and never echoes is owed none
            // for as many as were sent, which were few: its polls keep ours from being due.
            state.open -= 1;
        } else {
            state.due += 1;
        }
        Ok(())
    }

    fn echo_polls(&mut self) {
        let count = std::mem::take(&mut self.polls.due);
        self.send_polls(count);
    }

    fn send_polls(&self, count: usize) {
        if count == 0 {
            return;
        }
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..count {
            self.setup.framing.write(&[], &mut bytes);
            ends.push(bytes.len());
        }
        self.counters.polls_out.add(count as u64);
        // On a connection that has ended they have nowhere to go.
        let _ = self.connection.send(&bytes, &ends, |_| None);
    }

    /// Sets the timer, unless it fires early enough as it is: a busy connection hardly ever touches it.
    fn arm(&mut self) {
        if let Some(due) = self.next_due()
            && self.times.timer.deadline() > due
        {
            self.times.timer.as_mut().reset(due);
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let idle = self.setup.idle.map(|idle| self.times.last_in + idle);
        let slow = self.times.begun.map(|begun| begun + self.setup.frame);
        let every = self.setup.polls.as_ref().and_then(|polls| polls.every);
        let poll = every.map(|every| self.times.last_in.max(self.times.last_poll) + every);
        [idle, slow, poll].into_iter().flatten().min()
    }

    fn act_on_time(&mut self) -> Result<(), Reason> {
        let now = Instant::now();
        if self.times.begun.is_some_and(|begun| begun + self.setup.frame <= now) {
            return Err(Reason::Slow);
        }
        if self.setup.idle.is_some_and(|idle| self.times.last_in + idle <= now) {
            return Err(Reason::Idle);
        }
        let every = self.setup.polls.as_ref().and_then(|polls| polls.every);
        if every.is_some_and(|every| self.times.last_in.max(self.times.last_poll) + every <= now) {
            self.times.last_poll = now;
            self.polls.open += 1;
            self.send_polls(1);
        }
        self.times.timer.as_mut().reset(now + NEVER);
        Ok(())
    }
}

impl Times {
    /// While the door was closed nothing was read, which is not the peer's fault.
    fn forgive(&mut self) {
        self.last_in = Instant::now();
        self.begun = self.begun.map(|_| self.last_in);
    }
}

/// Reads once, into room that is made only when there is something to read.
async fn read_some(half: &mut ReadHalf, buffer: &mut BytesMut, room: usize) -> Result<usize, Error> {
    half.readable().await?;
    // Small messages share one buffer until it is used up. One that is longer doubles its buffer as it comes, whatever
    // length it claims.
    if buffer.capacity() - buffer.len() < room / 2 {
        buffer.reserve(room.max(buffer.len()));
    }
    half.read_buf(buffer).await
}
