//! The journal on a stream: groups as messages of an append-only log, sealed, chained, fenced by terms (HEART §10).
//! Owns the format below; knows nothing of what a body means, nor of the server that keeps the stream.
//!
//! The data directory keeps `lock`, `rack.name` and `rack.key` as for a journal on files, and `stream.mark`: how far this
//! directory knows the stream to be acked. The stream holds the rest, one message after the other.
//!
//! # Message, format version 1; all integers little-endian
//!
//! | offset | bytes | |
//! |---:|---:|---|
//! | 0 | 4 | magic `FLXS` |
//! | 4 | 4 | format version |
//! | 8 | 4 | CRC32C of everything behind it |
//! | 12 | 4 | flags: 1 a segment begins here, 2 a group without a body |
//! | 16 | 16 | rack |
//! | 32 | 4 | segment |
//! | 36 | 4 | oldest: segments before it hold nothing alive |
//! | 40 | 8 | epoch: the last one the group covers |
//! | 48 | 8 | term |
//! | 56 | 8 | flushed mark at the moment of writing |
//! | 64 | 16 | hash of the group before: BLAKE3 of its first message's headers from offset 12 on and its tag, first 16 bytes |
//! | 80 | 4 | which message of the group this is, from 0 |
//! | 84 | 4 | how many messages the group has |
//! | 88 | 4 | length of the group's body |
//! | 92 | 4 | lease of the writer in milliseconds, 0 for none, 1 in the last message of one that stopped in order |
//! | 96 | 8 | writer: random number of its opening |
//! | 104 | 8 | sequence of the group's first message |
//! | 112 | 104 | header of the segment, if one begins here |
//! | | | this message's share of the body, AES-256-GCM under the segment key; the tag (16) ends the last message |
//!
//! | offset | bytes | header of a segment |
//! |---:|---:|---|
//! | 0 | 4 | segment of the last group that counts before it, 0 for none |
//! | 4 | 4 | zeros |
//! | 8 | 8 | sequence of that group's last message: what lies between it and this segment is void |
//! | 16 | 8 | epoch of that group; it was durable when this was written |
//! | 24 | 16 | id of the rack key |
//! | 40 | 12 | nonce of the wrapping |
//! | 52 | 32 | segment key, AES-256-GCM under the rack key; associated data: this message from offset 12 to the nonce |
//! | 84 | 16 | tag of the wrapping |
//! | 100 | 4 | zeros |
//!
//! The body is sealed whole, before it is cut: nonce the sequence of the first message and four zero bytes, associated
//! data the headers of the first message from offset 12 on. What is sent again is the same bytes; whatever else may take
//! the same sequence is sealed under another segment's key, since a segment ends with the first failure.
//!
//! # Rules
//!
//! - Every message is appended with the expected last sequence, so a message stands where its writer thought, or nowhere.
//!   **Only an ack counts, or the same bytes read from the leader.** An append returns when its group is acked, so what is
//!   written is durable as well, and a flush has nothing left to do.
//! - Opening reads everything from the oldest segment on and then writes a group without a body, which begins a segment and
//!   a term above all before. Its ack says that what was read is all there is, and that no writer before it will ever
//!   append again: such a one finds another last sequence, looks, sees the term, and is fenced.
//! - A group that was not completed counts for nothing, and so does what a later segment names as void. The end of a group
//!   may arrive when its beginning was rejected, even behind a new term's record; it is skipped.
//! - A flushed mark, or the link of a segment, makes what lies before it irrevocable. All whole groups that count are
//!   taken for durable at a start, since the record that begins the term stands behind them.
//! - A gap between two sequences, a chain that does not fit, a message of somebody else: damage, nothing starts.
//! - A stream that ends before what was acked stops all effects. Should it be whole again, the journal goes on.
//! - A segment is trimmed by purging what lies before the oldest one that is alive; its key goes with its first message.

use std::collections::VecDeque;
use std::sync::Arc;

use super::disk::Disk;
use super::lock::DirLock;
use super::seal::{RackKey, SegmentKey};
use super::storage::{BoxFuture, Group, GroupAt, Reader, SegmentId, Storage, StorageError, Task, Usage};
use crate::lease::LEFT_MS;
use crate::mutants::{self, Mutation};

mod error;
mod format;
mod log;
mod mark;
#[cfg(feature = "jetstream")]
mod nats;
mod open;
mod replay;
mod settle;
mod shared;
pub mod sim;
#[cfg(test)]
mod tests;
mod verify;

pub use error::StreamOpenError;
pub use log::{Last, Log, LogError, LogUsage, Outcome, Range};
#[cfg(feature = "jetstream")]
pub use nats::{NatsLog, NatsLogOptions};
pub(crate) use open::Follower;
pub use open::{StreamOptions, open_stream};
pub use verify::{StreamMark, StreamReport, StreamSegmentReport, verify_stream};

pub(super) use mark::MARK_FILE;

use format::{BODY_BYTES_MAX, Header, Link, SegmentHeader, Under};
use mark::{Mark, MarkFile};
use replay::{Extent, Point};
use settle::{Me, Tail, Unsettled, look, settle};
use shared::{Segment, Shared};

/// The segment that is being written.
struct Writing {
    id: SegmentId,
    key: Arc<SegmentKey>,
    bytes: u64,
    // The size of the last group stands for that of the next.
    last_bytes: u64,
}

/// The journal on a stream.
pub struct StreamStorage {
    disk: Arc<dyn Disk>,
    options: StreamOptions,
    key: Arc<RackKey>,
    shared: Arc<Shared>,
    me: Me,
    /// The last message that is known to be stored.
    tail: Tail,
    /// The log's incarnation in which that was seen.
    seen_in: u64,
    writing: Option<Writing>,
    /// The segment's last append failed: it is final.
    is_final: bool,
    next: SegmentId,
    // The last group at or below the mark that the caller has stated, and every one above it.
    base: Point,
    above: VecDeque<Point>,
    last_epoch: u64,
    // After `replace` the merging group may repeat the last epoch, since it stands for it.
    may_repeat: bool,
    durable_epoch: u64,
    // Bytes for which there was no room.
    wanted_bytes: u64,
    mark: MarkFile,
    // Its last message says so, and its lease is over.
    has_left: bool,
    // Taken with the term; given back last.
    lock: Option<DirLock>,
}

impl StreamStorage {
    fn is_full(&self, writing: &Writing) -> bool {
        writing.bytes + writing.last_bytes > self.options.segment_bytes
    }

    // Refuses what the caller must not do, before anything is sent.
    fn check(&self, group: &Group<'_>) -> Result<(), StorageError> {
        let order = |what, found, expected| Err(StorageError::Order { what, found, expected });
        if group.body.len() > BODY_BYTES_MAX {
            return Err(StorageError::TooLarge { bytes: group.body.len(), bytes_max: BODY_BYTES_MAX });
        }
        let least = if self.may_repeat { self.last_epoch } else { self.last_epoch + 1 };
        let least = least.max(self.durable_epoch + 1);
        if group.epoch < least {
            return order("epoch", group.epoch, format!("at least {least}"));
        }
        let known = self.durable_epoch;
        if group.flushed > known || group.flushed < self.base.link.epoch.min(known) {
            let expected = format!("{} to {known}", self.base.link.epoch);
            return order("flushed mark", group.flushed, expected);
        }
        let named = self.above.back().unwrap_or(&self.base).oldest;
        if group.oldest < named || group.oldest > self.current() {
            return order("oldest", group.oldest.into(), format!("{named} to {}", self.current()));
        }
        Ok(())
    }

    fn advance_base(&mut self, epoch: u64) {
        while let Some(point) = self.above.pop_front_if(|point| point.link.epoch <= epoch) {
            self.base = point;
        }
    }

    // A server that came back without its end takes another message for the one that we know, by its sequence.
    async fn look_again(&mut self) -> Result<(), StorageError> {
        let incarnation = self.shared.log.incarnation();
        if incarnation == self.seen_in {
            return Ok(());
        }
        let found = match look(&*self.shared.log, self.me, &self.tail).await {
            Ok(found) if found.is_empty() => Ok(()),
            Ok(_) => Err(self.failed(Unsettled::Crossed)),
            Err(unsettled) => Err(self.failed(unsettled)),
        };
        match &found {
            Ok(()) => self.seen_in = incarnation,
            Err(_) => self.is_final = true,
        }
        found
    }

    async fn write(&mut self, group: Group<'_>, is_empty: bool) -> Result<GroupAt, StorageError> {
        self.look_again().await?;
        let payload_max = self.shared.log.payload_bytes_max();
        let begins = self.writing.as_ref().is_none_or(|writing| self.is_full(writing));
        let Some(parts) = format::parts_of(group.body.len(), begins, payload_max) else {
            let bytes_max = payload_max.saturating_mul(format::PARTS_MAX).min(BODY_BYTES_MAX);
            return Err(StorageError::TooLarge { bytes: group.body.len(), bytes_max });
        };
        // Rounded down to the end of a group, so that a mark always means a group that is there.
        let durable = self.above.iter().take_while(|point| point.link.epoch <= group.flushed).last();
        let flushed = durable.unwrap_or(&self.base).link.epoch;
        let last = *self.above.back().unwrap_or(&self.base);
        let header = Header {
            begins,
            is_empty,
            rack: self.options.rack,
            segment: self.writing.as_ref().filter(|_| !begins).map_or(self.next, |writing| writing.id),
            oldest: group.oldest,
            epoch: group.epoch,
            term: self.me.term,
            flushed,
            before: last.hash,
            part: 0,
            parts,
            body_bytes: group.body.len() as u32,
            lease_ms: match &self.options.lease {
                Some(_) if self.has_left => LEFT_MS,
                Some(lease) => lease.length_ms(),
                None => 0,
            },
            writer: self.me.writer,
            first: self.tail.seq + 1,
        };
        let sealed = if begins {
            let (key, segment) = self.new_segment(&header, last.link)?;
            let sealed = format::seal(&header, &Under::New(&key, &segment), group.body, payload_max);
            self.begin(key, header.first);
            sealed
        } else {
            let writing =
                self.writing.as_ref().expect("a group that begins no segment goes into the one that is there");
            format::seal(&header, &Under::Key(&writing.key), group.body, payload_max)
        };
        // Said with the first message that is sent, whatever becomes of it.
        self.advance_base(group.flushed);
        let sent_ns = self.options.lease.as_ref().map_or(0, |lease| lease.now_ns());
        let result = settle(&*self.shared.log, self.me, &mut self.tail, &sealed.parts).await;
        self.count(header.segment, sealed.bytes);
        if let Err(unsettled) = result {
            self.is_final = true;
            self.wanted_bytes = if matches!(unsettled, Unsettled::Full(_)) { sealed.bytes } else { 0 };
            return Err(self.failed(unsettled));
        }
        let link = Link { segment: header.segment, seq: self.tail.seq, epoch: group.epoch };
        if is_empty {
            // It stands for the one of its epoch before it, or an idle rack would keep each.
            self.above.pop_back_if(|point| point.link.epoch == group.epoch);
        }
        self.above.push_back(Point { link, hash: sealed.hash, oldest: group.oldest });
        if let Some(lease) = &self.options.lease {
            let from_ns = if mutants::is(Mutation::LeaseFromAnswer) { lease.now_ns() } else { sent_ns };
            lease.renew(self.me.term, from_ns);
        }
        (self.last_epoch, self.durable_epoch) = (group.epoch, group.epoch);
        self.may_repeat = false;
        // A term that is not ours yet says nothing about this directory.
        if self.lock.is_some() {
            self.note_mark();
        }
        Ok(GroupAt { segment: header.segment, offset: header.first })
    }

    /// The term that this writer began.
    pub(crate) fn term(&self) -> u64 {
        self.me.term
    }

    fn note_mark(&mut self) {
        self.mark.note(self.acked());
    }

    fn begin_mark(&mut self) -> std::io::Result<()> {
        self.mark.begin(self.acked())
    }

    fn acked(&self) -> Mark {
        Mark { writer: self.me.writer, seq: self.tail.seq, epoch: self.last_epoch }
    }

    fn new_segment(&self, header: &Header, link: Link) -> Result<(Arc<SegmentKey>, SegmentHeader), StorageError> {
        let context = format::key_context(header, link, self.key.id());
        let (key, wrapped) = self
            .key
            .new_segment_key(&*self.disk, &context)
            .map_err(|error| StorageError::io(&self.shared.log.name(), "draw a segment's key", error))?;
        Ok((Arc::new(key), SegmentHeader { link, key_id: self.key.id(), key: wrapped }))
    }

    fn begin(&mut self, key: Arc<SegmentKey>, first: u64) {
        let id = self.next;
        self.next += 1;
        let extent = Extent { first, bytes: 0, key: Some(Arc::clone(&key)) };
        self.shared.change().insert(id, Segment { extent, void_from: u64::MAX });
        self.writing = Some(Writing { id, key, bytes: 0, last_bytes: 0 });
    }

    fn count(&mut self, id: SegmentId, bytes: u64) {
        if let Some(writing) = &mut self.writing {
            writing.bytes += bytes;
            writing.last_bytes = bytes;
        }
        if let Some(segment) = self.shared.change().get_mut(&id) {
            segment.extent.bytes += bytes;
        }
    }

    fn failed(&self, unsettled: Unsettled) -> StorageError {
        let stream = self.shared.log.name();
        let unreachable =
            |reason| StorageError::Unreachable { stream: stream.clone(), action: "append a group", reason };
        match unsettled {
            Unsettled::Full(reason) => StorageError::StreamFull { stream, reason },
            // The limit was lowered since the group was cut: the next one is cut to it.
            Unsettled::TooLarge(bytes_max) => {
                unreachable(format!("the server takes messages of at most {bytes_max} bytes now"))
            }
            Unsettled::Unreachable(error) => told(&*self.shared.log, "append a group", error),
            Unsettled::Rewound { found } => StorageError::Rewound { stream, found, acked: self.tail.seq },
            Unsettled::Fenced { term } => StorageError::Fenced { stream, found: term, term: self.me.term },
            Unsettled::Foreign { seq, found } => {
                let expected = "nothing but what this rack wrote".to_owned();
                StorageError::Damaged { file: stream, offset: seq, found, expected }
            }
            Unsettled::Crossed => unreachable("a message that had been given up arrived late".to_owned()),
            Unsettled::Unknown(reason) => unreachable(reason),
        }
    }

    async fn replace_now(&mut self, durable_epoch: u64) -> Result<(), StorageError> {
        let known = self.durable_epoch;
        if durable_epoch > known || durable_epoch < self.base.link.epoch {
            let expected = format!("{} to {known}", self.base.link.epoch);
            return Err(StorageError::Order { what: "durable epoch", found: durable_epoch, expected });
        }
        self.is_final = true;
        // Nothing else has changed yet, so the same call may be made again.
        let incarnation = self.shared.log.incarnation();
        let found = look(&*self.shared.log, self.me, &self.tail).await.map_err(|unsettled| self.failed(unsettled))?;
        let free = self.shared.log.usage().free_bytes;
        if self.wanted_bytes > 0 && free.is_some_and(|free| free < self.wanted_bytes) {
            let reason = format!("{} bytes are free", free.unwrap_or(0));
            return Err(StorageError::StreamFull { stream: self.shared.log.name(), reason });
        }
        if let Some((seq, payload)) = found.last() {
            self.tail = Tail { seq: *seq, identity: Some(format::Identity::of(payload)) };
        }
        self.seen_in = incarnation;
        self.shared.forget_behind(self.tail.seq);
        self.advance_base(durable_epoch);
        self.durable_epoch = durable_epoch;
        self.may_repeat |= self.writing.take().is_some();
        self.shared.make_void_behind(self.base.link);
        self.above.clear();
        self.is_final = false;
        self.wanted_bytes = 0;
        Ok(())
    }

    async fn leave_now(&mut self) -> Result<(), StorageError> {
        let Some(lease) = &self.options.lease else { return Ok(()) };
        // Before it is said: whoever reads it may begin at once.
        lease.end();
        self.has_left = true;
        if self.is_final || self.may_repeat {
            return Err(StorageError::Final { file: self.shared.log.name() });
        }
        self.renew().await
    }

    async fn append_now(&mut self, group: Group<'_>) -> Result<GroupAt, StorageError> {
        self.check(&group)?;
        if self.is_final {
            return Err(StorageError::Final { file: self.shared.log.name() });
        }
        self.write(group, false).await
    }

    // The oldest segment that a durable group names.
    fn oldest_durable(&self) -> SegmentId {
        let durable = self.above.iter().take_while(|point| point.link.epoch <= self.durable_epoch).last();
        durable.unwrap_or(&self.base).oldest
    }
}

impl Storage for StreamStorage {
    fn current(&self) -> SegmentId {
        match &self.writing {
            Some(writing) if !self.is_full(writing) => writing.id,
            _ => self.next,
        }
    }

    fn append<'a>(&'a mut self, group: Group<'a>) -> BoxFuture<'a, Result<GroupAt, StorageError>> {
        Box::pin(self.append_now(group))
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<(), StorageError>> {
        let is_final = self.is_final;
        let file = self.shared.log.name();
        Box::pin(async move { if is_final { Err(StorageError::Final { file }) } else { Ok(()) } })
    }

    fn flusher(&self) -> Task<u64> {
        let epoch = self.durable_epoch;
        Box::new(move || Ok(epoch))
    }

    fn replace(&mut self, durable_epoch: u64) -> BoxFuture<'_, Result<(), StorageError>> {
        Box::pin(self.replace_now(durable_epoch))
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.shared.clone()
    }

    fn trimmer(&self, oldest: SegmentId) -> Task<usize> {
        let named = self.oldest_durable();
        let shared = self.shared.clone();
        Box::new(move || {
            if oldest > named {
                let expected = format!("at most {named}, which a durable group names");
                return Err(StorageError::Order { what: "oldest", found: oldest.into(), expected });
            }
            shared.trim(oldest)
        })
    }

    fn is_renewal_due(&self) -> bool {
        // After `replace` the group that merges what was kept comes first, and renews as well.
        let is_possible = !self.is_final && !self.may_repeat && !mutants::is(Mutation::IdleWithoutRenewal);
        is_possible && self.options.lease.as_ref().is_some_and(|lease| lease.is_due())
    }

    fn renew(&mut self) -> BoxFuture<'_, Result<(), StorageError>> {
        let (epoch, flushed) = (self.last_epoch, self.base.link.epoch);
        let oldest = self.above.back().unwrap_or(&self.base).oldest;
        Box::pin(async move { self.write(Group { epoch, flushed, oldest, body: &[] }, true).await.map(drop) })
    }

    fn leave(&mut self) -> BoxFuture<'_, Result<(), StorageError>> {
        Box::pin(self.leave_now())
    }

    fn usage(&self) -> Usage {
        let segments = self.shared.segments();
        Usage {
            bytes: segments.values().map(|segment| segment.extent.bytes).sum(),
            segments: segments.len(),
            oldest: segments.keys().next().copied().unwrap_or_else(|| self.current()),
            newest: self.current(),
            free_bytes: self.shared.log.usage().free_bytes,
        }
    }
}

/// What a log could not do, as the journal tells it.
fn told(log: &dyn Log, action: &'static str, error: LogError) -> StorageError {
    let reason = match error {
        LogError::Unreachable { reason, .. } => reason,
        other => other.to_string(),
    };
    StorageError::Unreachable { stream: log.name(), action, reason }
}
