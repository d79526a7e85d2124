//! The writing side of one connection: what can go goes at once, the rest waits in a bounded backlog of its own.
//! So a peer that does not read holds up nobody else, and is closed when it leaves too much or for too long (HEART §3.3).

use std::collections::VecDeque;
use std::io::{Error, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use fluxrig_actors::prelude::*;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::counters::{Counters, Reason};
use super::socket::WriteHalf;

/// One connection, as everybody sees it who writes to it.
#[derive(Debug)]
pub(super) struct Connection {
    /// Never used again within one start of the endpoint.
    pub(super) id: u64,
    half: WriteHalf,
    out: Mutex<Out>,
    /// There is a backlog, or the connection was closed by a writer.
    work: Notify,
    /// Some of the backlog was written.
    progress: Notify,
    unsent_max: usize,
    write_max: Duration,
    counters: Arc<Counters>,
}

/// What was not written yet. Positions count the bytes that ever went through the backlog.
#[derive(Debug, Default)]
struct Out {
    backlog: BytesMut,
    frames: VecDeque<Queued>,
    appended: u64,
    written: u64,
    closed: Option<Reason>,
}

#[derive(Debug)]
struct Queued {
    /// None is a poll.
    effect: Option<Effect>,
    begin: u64,
    end: u64,
    since: Instant,
}

/// An effect whose connection ended before it was written whole.
#[derive(Debug)]
pub(super) struct Leftover {
    pub(super) effect: Effect,
    /// Some of its bytes are on their way.
    pub(super) is_begun: bool,
}

/// What a writer found.
enum Flushed {
    /// No backlog is left.
    All,
    /// The peer has no room; by then the oldest frame must be written.
    Blocked(Instant),
    /// It is over.
    Closed(Reason),
}

impl Connection {
    pub(super) fn new(id: u64, half: WriteHalf, limits: (usize, Duration), counters: Arc<Counters>) -> Self {
        let (unsent_max, write_max) = limits;
        Self {
            id,
            half,
            out: Mutex::default(),
            work: Notify::new(),
            progress: Notify::new(),
            unsent_max,
            write_max,
            counters,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().expect("nothing panics while it is held")
    }

    /// Sends frames; `ends` says where each of them ends in `bytes`. Gives how many are written whole. The rest are kept
    /// here, taken one by one with `effect`, and are ended when they are written or when the connection ends.
    ///
    /// # Errors
    /// When the connection has ended before: then nothing was taken.
    pub(super) fn send(
        &self,
        bytes: &[u8],
        ends: &[usize],
        mut effect: impl FnMut(usize) -> Option<Effect>,
    ) -> Result<usize, Reason> {
        let mut out = self.lock();
        if let Some(reason) = out.closed {
            return Err(reason);
        }
        let (sent, result) = if out.backlog.is_empty() { write(&self.half, bytes) } else { (0, Ok(())) };
        self.counters.bytes_out.add(sent as u64);
        let whole = ends.partition_point(|end| *end <= sent);
        if whole == ends.len() {
            return Ok(whole);
        }
        // As if all had gone through the backlog: what is sent already lies before `written`.
        let base = out.appended;
        let now = Instant::now();
        for idx in whole..ends.len() {
            let begin = base + if idx == 0 { 0 } else { ends[idx - 1] as u64 };
            out.frames.push_back(Queued { effect: effect(idx), begin, end: base + ends[idx] as u64, since: now });
        }
        out.appended += bytes.len() as u64;
        out.written += sent as u64;
        let unsent = &bytes[sent..];
        if result.is_err() {
            out.closed = Some(Reason::Failed);
        } else if out.backlog.len() + unsent.len() > self.unsent_max {
            out.closed = Some(Reason::Unsent);
        } else {
            out.backlog.extend_from_slice(unsent);
        }
        drop(out);
        self.work.notify_one();
        Ok(whole)
    }

    /// How many frames wait here; `None` when it has ended.
    pub(super) fn waiting(&self) -> Option<usize> {
        let out = self.lock();
        out.closed.is_none().then(|| out.frames.len())
    }

    /// Ends it for this reason, unless it has ended.
    pub(super) fn close(&self, reason: Reason) {
        self.lock().closed.get_or_insert(reason);
        self.work.notify_one();
    }

    /// Waits until the backlog is below so many bytes. A connection that ends does not come back from here.
    pub(super) async fn room(&self, below: usize) {
        // One task waits, so the permit of a notification that came first is its own.
        while self.lock().backlog.len() >= below {
            self.progress.notified().await;
        }
    }

    /// Writes the backlog whenever there is one. Ends when the connection must.
    pub(super) async fn write_backlog(&self) -> Reason {
        loop {
            self.work.notified().await;
            loop {
                let deadline = match self.flush() {
                    Flushed::All => break,
                    Flushed::Closed(reason) => return reason,
                    Flushed::Blocked(deadline) => deadline,
                };
                tokio::select! {
                    biased;
                    ready = self.half.writable() => if ready.is_err() { return Reason::Failed },
                    // More came, or too much.
                    () = self.work.notified() => {}
                    () = tokio::time::sleep_until(deadline) => return Reason::Write,
                }
            }
        }
    }

    fn flush(&self) -> Flushed {
        let mut written = Vec::new();
        let mut out = self.lock();
        if let Some(reason) = out.closed {
            return Flushed::Closed(reason);
        }
        let (sent, result) = write(&self.half, &out.backlog);
        out.backlog.advance(sent);
        out.written += sent as u64;
        let until = out.written;
        while let Some(queued) = out.frames.pop_front_if(|queued| queued.end <= until) {
            written.extend(queued.effect);
        }
        let oldest = out.frames.front().map(|queued| queued.since);
        if result.is_err() {
            out.closed = Some(Reason::Failed);
        } else if out.backlog.is_empty() {
            // A backlog is the exception: its memory is not kept for the next one.
            out.backlog = BytesMut::new();
        }
        drop(out);
        self.progress.notify_one();
        self.counters.bytes_out.add(sent as u64);
        self.counters.frames_out.add(written.len() as u64);
        Effect::done_all(written);
        match (result, oldest) {
            (Err(_), _) => Flushed::Closed(Reason::Failed),
            (Ok(()), Some(since)) => Flushed::Blocked(since + self.write_max),
            (Ok(()), None) => Flushed::All,
        }
    }

    /// Nothing is taken from here on. Gives what was taken and not written whole, in order.
    pub(super) fn finish(&self, reason: Reason) -> Vec<Leftover> {
        let mut out = self.lock();
        out.closed.get_or_insert(reason);
        out.backlog = BytesMut::new();
        let written = out.written;
        let frames = std::mem::take(&mut out.frames);
        drop(out);
        let left = |queued: Queued| queued.effect.map(|effect| Leftover { effect, is_begun: queued.begin < written });
        frames.into_iter().filter_map(left).collect()
    }
}

/// Writes as much as goes without waiting.
fn write(half: &WriteHalf, bytes: &[u8]) -> (usize, Result<(), Error>) {
    let mut sent = 0;
    while sent < bytes.len() {
        match half.try_write(&bytes[sent..]) {
            Ok(0) => return (sent, Err(ErrorKind::WriteZero.into())),
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (sent, Err(error)),
        }
    }
    (sent, Ok(()))
}
