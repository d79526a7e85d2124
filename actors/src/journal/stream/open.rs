//! Opening a journal on a stream: lock, key, everything that counts, and the record that begins our term.
//! Reads everything before it writes anything.

use std::sync::Arc;
use std::time::Duration;

use super::super::disk::Disk;
use super::super::lock::{self, DirLock, Holder};
use super::super::seal::{KEY_FILE, RackKey};
use super::super::segment::{
    Listing, OpenError, RecoveredGroup, Recovery, SEGMENT_BYTES_MIN, Unused, check_is_journal, leave_name, list,
    load_key,
};
use super::super::storage::{Group, SegmentId, StorageError};
use super::format::{self, Identity, NoPart};
use super::log::{Last, Log, LogError, LogUsage};
use super::mark::{Mark, MarkFile};
use super::replay::{Broken, NEWEST, Replay, Whole};
use super::settle::{Me, Tail};
use super::shared::Shared;
use super::{StreamOpenError, StreamStorage};
use crate::lease::Lease;
use crate::mutants::{self, Mutation};

/// How often a new term is tried when something arrives meanwhile.
const TERM_TRIES: u32 = 8;
/// How often whoever is behind the leader is asked again, and after how long.
const BEHIND_TRIES: u32 = 100;
const BEHIND_WAIT: Duration = Duration::from_millis(50);

/// How to open a journal on a stream.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// The rack whose journal this is; see [`rack_id`](super::super::rack_id).
    pub rack: [u8; 16],
    /// How it is called for whoever comes to its directory by mistake; empty when unknown.
    pub rack_name: String,
    /// A segment is left for the next one when the next group would end past this.
    pub segment_bytes: u64,
    /// Written into the lock file.
    pub holder: Holder,
    /// The operator's word that a stream which lost its end is to be gone on with.
    pub accept_lost_tail: bool,
    /// Renewed by every message that is acked; without one no stand-by can take over.
    pub(crate) lease: Option<Arc<Lease>>,
}

impl Default for StreamOptions {
    fn default() -> StreamOptions {
        StreamOptions {
            rack: [0; 16],
            rack_name: String::new(),
            segment_bytes: 64 << 20,
            holder: Holder::default(),
            accept_lost_tail: false,
            lease: None,
        }
    }
}

/// Who is shown the groups that count, in order.
pub(crate) type Visit<'a> = &'a mut (dyn FnMut(RecoveredGroup) -> Result<(), StorageError> + Send);

/// Opens the journal of a rack on a stream, shows every group that counts in order, and is then ready to append.
/// [`Recovery::proven_epoch`] is always the last: the record that begins the term stands behind all that was shown.
///
/// # Errors
/// See [`StreamOpenError`]. Groups shown before the error must be forgotten.
pub async fn open_stream(
    disk: Arc<dyn Disk>,
    log: Arc<dyn Log>,
    options: StreamOptions,
    visit: Visit<'_>,
) -> Result<(StreamStorage, Recovery), StreamOpenError> {
    let place = Place::take(disk, &options)?;
    let mut follower = Follower::new(place, log, options).await?;
    follower.catch_up(visit).await?;
    let claim = match follower.foreign_lease() {
        None => Claim::Insists,
        Some(lease) => {
            tracing::warn!(stream = %follower.log.name(), ?lease, "journal: another data directory wrote the stream last; its lease is waited for");
            let before = follower.seq();
            tokio::time::sleep(lease).await;
            follower.catch_up(visit).await?;
            if follower.seq() > before {
                return Err(follower.held());
            }
            Claim::Yields
        }
    };
    match follower.take_over(claim, visit).await? {
        Some(opened) => Ok(opened),
        None => Err(follower.held()),
    }
}

/// What a new writer does when another one begins a term at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Begins one above it: whoever opens last writes. The other may be an earlier start of this very directory, whose
    /// last message was late.
    Insists,
    /// Lets it have the stream.
    Yields,
}

/// The data directory, ours.
pub(super) struct Place {
    disk: Arc<dyn Disk>,
    lock: Option<DirLock>,
}

impl Place {
    pub(super) fn take(disk: Arc<dyn Disk>, options: &StreamOptions) -> Result<Place, StreamOpenError> {
        if options.segment_bytes < SEGMENT_BYTES_MIN {
            let expected = "at least 65536";
            let (option, found) = ("segment_bytes", options.segment_bytes);
            return Err(OpenError::Option { option, found, expected }.into());
        }
        // Before the lock, which is a file too.
        let listing = list(&*disk)?;
        check_is_journal(&*disk, &listing)?;
        check_has_no_files(&*disk, &listing)?;
        let lock = lock::acquire(&*disk, &options.holder)
            .map_err(|error| OpenError::io(lock::LOCK_FILE, "take the lock", error))?
            .map_err(|holder| OpenError::Locked { dir: disk.label(), holder })?;
        Ok(Place { disk, lock: Some(lock) })
    }
}

pub(super) fn check_has_no_files(disk: &dyn Disk, listing: &Listing) -> Result<(), StreamOpenError> {
    if listing.segments.is_empty() && listing.quarantined.is_empty() {
        return Ok(());
    }
    Err(StreamOpenError::OnFiles { dir: disk.label() })
}

/// Whoever gives ranges may be behind the leader; how often in a row it gave nothing.
#[derive(Default)]
pub(super) struct Behind {
    tries: u32,
}

impl Behind {
    /// Waits before the rest up to `to_seq` is asked for; refuses after too many times in which nothing came.
    pub(super) async fn wait(&mut self, log: &dyn Log, has_come: bool, to_seq: u64) -> Result<(), LogError> {
        self.tries = if has_come { 0 } else { self.tries + 1 };
        if self.tries > BEHIND_TRIES {
            let (stream, reason) = (log.name(), format!("who answers is behind sequence {to_seq}"));
            return Err(LogError::Unreachable { stream, action: "read what was stored", reason });
        }
        tokio::time::sleep(BEHIND_WAIT).await;
        Ok(())
    }
}

/// Reads a stream as it grows, until it becomes its writer.
pub(crate) struct Follower {
    place: Place,
    pub(super) log: Arc<dyn Log>,
    options: StreamOptions,
    key: Arc<RackKey>,
    pub(super) replay: Replay,
    /// The last message read.
    identity: Option<Identity>,
    mark: Option<Mark>,
    pub(super) writer: u64,
    groups: u64,
    bytes: u64,
    last_seq: u64,
}

impl Follower {
    /// Takes the data directory and looks at the stream; reads nothing of it yet.
    pub(crate) async fn follow(
        disk: Arc<dyn Disk>,
        log: Arc<dyn Log>,
        options: StreamOptions,
    ) -> Result<Follower, StreamOpenError> {
        let place = Place::take(disk, &options)?;
        // Also before the holder has written anything: a key of one's own would open nothing of it.
        if load_key(&*place.disk)?.is_none() {
            return Err(StreamOpenError::StandbyKeyMissing { dir: place.disk.label() });
        }
        Follower::new(place, log, options).await
    }

    /// The last message that was read.
    pub(crate) fn seq(&self) -> u64 {
        self.replay.seq
    }

    /// The last message that the leader had when it was asked last.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// The highest term that a message told.
    pub(crate) fn term(&self) -> u64 {
        self.replay.term
    }

    /// The epoch of the last group that counts.
    #[cfg(test)]
    pub(crate) fn epoch(&self) -> u64 {
        self.replay.last.map_or(0, |last| last.link.epoch)
    }

    /// The lease of whoever wrote the last message; `None` when it has none.
    pub(crate) fn lease(&self) -> Option<Duration> {
        let lease_ms = self.replay.lease_ms;
        (lease_ms > 0).then(|| Duration::from_millis(lease_ms.into()))
    }

    // The lease of a writer that is not an earlier start of this directory, whose lock says that it is gone.
    fn foreign_lease(&self) -> Option<Duration> {
        let is_own = self.mark.is_some_and(|mark| mark.writer == self.replay.writer);
        self.lease().filter(|_| !is_own)
    }

    fn held(&self) -> StreamOpenError {
        StreamOpenError::Held { stream: self.log.name(), term: self.replay.term }
    }

    /// Begins a term if nothing has come since the last read; else reads what came, and `None`.
    pub(crate) async fn yielding_take_over(
        &mut self,
        visit: Visit<'_>,
    ) -> Result<Option<(StreamStorage, Recovery)>, StreamOpenError> {
        self.take_over(Claim::Yields, visit).await
    }

    pub(super) async fn new(
        place: Place,
        log: Arc<dyn Log>,
        options: StreamOptions,
    ) -> Result<Follower, StreamOpenError> {
        let Place { disk, .. } = &place;
        let usage = log.open().await?;
        let key = match load_key(&**disk)? {
            Some(key) => key,
            None if usage.last_seq == 0 => {
                RackKey::create(&**disk).map_err(|error| OpenError::io(KEY_FILE, "make the key", error))?
            }
            None => return Err(StreamOpenError::KeyMissing { dir: disk.label(), stream: log.name() }),
        };
        let mark = Mark::load(&**disk).map_err(|error| OpenError::io(super::MARK_FILE, "read the mark", error))?;
        let mut writer = [0; 8];
        disk.random(&mut writer).map_err(|error| OpenError::io(KEY_FILE, "draw a random number", error))?;
        let key = Arc::new(key);
        let replay = begin(&*log, &options, &key, mark, usage).await?;
        let writer = u64::from_le_bytes(writer);
        Ok(Follower {
            place,
            log,
            options,
            key,
            replay,
            identity: None,
            mark,
            writer,
            groups: 0,
            bytes: 0,
            last_seq: usage.last_seq,
        })
    }

    /// Begins to read anew: what came next was purged by whoever writes before it was read here. Groups shown before must
    /// be forgotten.
    pub(crate) async fn begin_anew(&mut self) -> Result<(), StreamOpenError> {
        let usage = self.log.open().await?;
        self.replay = begin(&*self.log, &self.options, &self.key, self.mark, usage).await?;
        (self.identity, self.groups, self.bytes, self.last_seq) = (None, 0, 0, usage.last_seq);
        Ok(())
    }

    async fn check_front(&self, seq: u64) -> Result<(), StreamOpenError> {
        let expected = self.replay.seq + 1;
        if seq == expected {
            return Ok(());
        }
        match self.log.look().await? {
            Some(usage) if usage.first_seq > expected => {
                Err(StreamOpenError::Overtaken { stream: self.log.name(), seq: expected, first_seq: usage.first_seq })
            }
            _ => Ok(()),
        }
    }

    /// Reads everything up to what the leader has now, and shows what nothing can make void any more.
    pub(crate) async fn catch_up(&mut self, visit: Visit<'_>) -> Result<(), StreamOpenError> {
        self.ask().await?;
        self.read(visit).await
    }

    /// Asks what the leader has now. All of that was sent before it answers.
    pub(crate) async fn ask(&mut self) -> Result<(), StreamOpenError> {
        self.last_seq = self.log.last().await?.seq;
        Ok(())
    }

    /// Reads everything up to what the leader had when it was asked.
    pub(crate) async fn read(&mut self, visit: Visit<'_>) -> Result<(), StreamOpenError> {
        let to_seq = self.last_seq;
        let mut behind = Behind::default();
        while self.replay.seq < to_seq {
            let before = self.replay.seq;
            let mut range = self.log.range(before + 1, to_seq);
            while let Some((seq, payload)) = range.next().await? {
                self.check_front(seq).await?;
                self.replay.message(seq, &payload).map_err(|broken| self.broken(broken))?;
                self.identity = Some(Identity::of(&payload));
                while let Some(whole) = self.replay.next_sure() {
                    self.show(whole, visit)?;
                }
            }
            if self.replay.seq < to_seq {
                behind.wait(&*self.log, self.replay.seq > before, to_seq).await?;
            }
        }
        Ok(())
    }

    /// Begins a term of our own behind everything that was read, and becomes the writer.
    pub(super) async fn take_over(
        &mut self,
        claim: Claim,
        visit: Visit<'_>,
    ) -> Result<Option<(StreamStorage, Recovery)>, StreamOpenError> {
        self.check_mark()?;
        let mut storage = self.storage()?;
        for _ in 0..TERM_TRIES {
            if claim == Claim::Yields {
                // Purged by whoever wrote while this one followed.
                let oldest = self.replay.last.map_or(0, |last| last.oldest);
                self.replay.extents = self.replay.extents.split_off(&oldest);
            }
            storage.adopt(&self.replay, self.identity);
            match storage.begin_term().await {
                Ok(()) => return self.finish(storage, visit).map(Some),
                // Something arrived meanwhile, or nobody knows: what the leader has decides.
                Err(StorageError::Unreachable { .. } | StorageError::Fenced { .. }) => {
                    if mutants::is(Mutation::LaggardTakesOver) {
                        self.pass_over().await?;
                        continue;
                    }
                    let before = self.replay.seq;
                    self.catch_up(visit).await?;
                    // Not the record that was just sent, but another writer's message: it lives.
                    if claim == Claim::Yields && self.replay.seq > before && self.replay.writer != self.writer {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        let (stream, reason) = (self.log.name(), format!("tried {TERM_TRIES} times"));
        Err(LogError::Unreachable { stream, action: "begin a term", reason }.into())
    }

    // What a laggard would do.
    async fn pass_over(&mut self) -> Result<(), StreamOpenError> {
        let Last { seq, payload } = self.log.last().await?;
        let term = payload.as_ref().and_then(|payload| format::part(payload).ok()).map_or(0, |part| part.header.term);
        (self.replay.seq, self.replay.term) = (seq, self.replay.term.max(term));
        self.identity = payload.as_deref().map(Identity::of);
        Ok(())
    }

    fn finish(
        &mut self,
        mut storage: StreamStorage,
        visit: Visit<'_>,
    ) -> Result<(StreamStorage, Recovery), StreamOpenError> {
        // Not before the term is ours: until then its end may arrive.
        self.replay.abandon("its group was not completed");
        while let Some(whole) = self.replay.next_pending() {
            self.show(whole, visit)?;
        }
        leave_name(&*storage.disk, &self.options.rack_name);
        let last_epoch = storage.last_epoch;
        let recovery = Recovery {
            groups: self.groups,
            bytes: self.bytes,
            last_epoch,
            proven_epoch: last_epoch,
            oldest: self.replay.last.map_or(0, |last| last.oldest),
            torn: None,
            unused: self.unused(),
        };
        storage.begin_mark().map_err(|error| OpenError::io(super::MARK_FILE, "write the mark", error))?;
        tracing::info!(stream = %self.log.name(), term = storage.me.term, groups = self.groups, "journal: this rack writes the stream");
        storage.lock = self.place.lock.take();
        Ok((storage, recovery))
    }

    fn unused(&self) -> Vec<Unused> {
        let name = self.log.name();
        self.replay
            .skipped
            .iter()
            .map(|skipped| Unused { file: format!("{name}:{}", skipped.seq), why: skipped.why })
            .collect()
    }

    fn storage(&self) -> Result<StreamStorage, StreamOpenError> {
        let disk = Arc::clone(&self.place.disk);
        let mark = MarkFile::open(&*disk).map_err(|error| OpenError::io(super::MARK_FILE, "make the mark", error))?;
        let next = self.replay.next_segment();
        Ok(StreamStorage {
            disk,
            options: self.options.clone(),
            key: Arc::clone(&self.key),
            shared: Arc::new(Shared::new(Arc::clone(&self.log), next)),
            me: Me { term: 0, writer: self.writer },
            tail: Tail::default(),
            // Nothing was seen yet: the first message looks.
            seen_in: 0,
            writing: None,
            is_final: false,
            next,
            base: super::Point::default(),
            above: std::collections::VecDeque::new(),
            last_epoch: 0,
            may_repeat: false,
            durable_epoch: 0,
            wanted_bytes: 0,
            mark,
            has_left: false,
            lock: None,
        })
    }

    fn show(&mut self, whole: Whole, visit: Visit<'_>) -> Result<(), StreamOpenError> {
        if whole.is_empty {
            return Ok(());
        }
        self.groups += 1;
        self.bytes += whole.body_bytes as u64;
        visit(RecoveredGroup {
            epoch: whole.point.link.epoch,
            term: whole.term,
            flushed: whole.flushed,
            oldest: whole.point.oldest,
            at: whole.at,
            body: whole.body,
            proven: true,
        })?;
        Ok(())
    }

    // This directory remembers how far the stream was acked.
    fn check_mark(&self) -> Result<(), StreamOpenError> {
        match shorter(&*self.log, &self.replay, self.mark) {
            Some(StreamOpenError::Shorter { stream, found, found_epoch, acked, acked_epoch })
                if self.options.accept_lost_tail =>
            {
                tracing::error!(%stream, found, acked, found_epoch, acked_epoch, "journal: the stream lost its end, and an operator has accepted that");
                Ok(())
            }
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn broken(&self, broken: Broken) -> StreamOpenError {
        told_broken(
            &*self.log,
            broken,
            self.key.id(),
            self.options.rack,
            self.replay.last.map_or(0, |last| last.link.epoch),
        )
    }
}

impl StreamStorage {
    /// Stands behind everything that was read.
    pub(super) fn adopt(&mut self, replay: &Replay, identity: Option<Identity>) {
        self.me.term = replay.term + 1;
        self.tail = Tail { seq: replay.seq, identity };
        self.base = replay.last.unwrap_or_default();
        self.above.clear();
        self.writing = None;
        self.is_final = false;
        self.last_epoch = self.base.link.epoch;
        self.durable_epoch = self.last_epoch;
        self.next = self.next.max(replay.next_segment());
        self.shared.learn(&replay.extents);
    }

    /// Begins the term with a group without a body, in a segment of its own.
    pub(super) async fn begin_term(&mut self) -> Result<(), StorageError> {
        let (epoch, oldest) = (self.last_epoch, self.base.oldest);
        self.write(Group { epoch, flushed: epoch, oldest, body: &[] }, true).await.map(drop)
    }
}

/// A reader of what is alive, from the front on.
async fn begin(
    log: &dyn Log,
    options: &StreamOptions,
    key: &Arc<RackKey>,
    mark: Option<Mark>,
    usage: LogUsage,
) -> Result<Replay, StreamOpenError> {
    let is_purged = usage.last_seq > 0 && usage.first_seq > usage.last_seq;
    let (oldest, from) = if is_purged {
        // Nobody but an operator purges a whole journal.
        if !options.accept_lost_tail {
            return Err(purged(log, usage.last_seq, mark));
        }
        (0, usage.last_seq)
    } else {
        (oldest_alive(log, usage.first_seq, usage.last_seq).await?, usage.first_seq.saturating_sub(1))
    };
    Ok(Replay::new(options.rack, Arc::clone(key), oldest, from.min(usage.last_seq)))
}

/// A stream that ends before what this directory knows to be acked.
pub(super) fn shorter(log: &dyn Log, replay: &Replay, mark: Option<Mark>) -> Option<StreamOpenError> {
    let Mark { seq: acked, epoch: acked_epoch, .. } = mark?;
    let (found, found_epoch) = (replay.seq, replay.last.map_or(0, |last| last.link.epoch));
    let is_shorter = (acked > found || acked_epoch > found_epoch) && !mutants::is(Mutation::ShorterAccepted);
    is_shorter.then(|| StreamOpenError::Shorter { stream: log.name(), found, found_epoch, acked, acked_epoch })
}

pub(super) fn told_broken(
    log: &dyn Log,
    broken: Broken,
    key: [u8; 16],
    rack: [u8; 16],
    last_epoch: u64,
) -> StreamOpenError {
    let stream = log.name();
    match broken {
        Broken::Newer { seq, found } => StreamOpenError::NewerFormat { stream, seq, found, expected: NEWEST },
        Broken::Rack { found } => StreamOpenError::ForeignRack { stream, found: hex(&found), expected: hex(&rack) },
        Broken::Key { segment, found } => {
            StreamOpenError::KeyWrong { stream, segment, found: hex(&key), expected: hex(&found) }
        }
        Broken::Damaged { seq, found, expected } => {
            StreamOpenError::Damaged { stream, seq, found, expected, last_epoch }
        }
    }
}

/// A stream that nothing is left of.
pub(super) fn purged(log: &dyn Log, last_seq: u64, mark: Option<Mark>) -> StreamOpenError {
    let (acked, acked_epoch) = mark.map_or((last_seq, 0), |mark| (mark.seq, mark.epoch));
    StreamOpenError::Shorter { stream: log.name(), found: 0, found_epoch: 0, acked, acked_epoch }
}

/// What the last whole group names as oldest: read from the end, since what is older is not looked at.
pub(super) async fn oldest_alive(log: &dyn Log, first_seq: u64, last_seq: u64) -> Result<SegmentId, StreamOpenError> {
    for seq in (first_seq..=last_seq).rev() {
        let Some(part) = part_at(log, seq).await? else { continue };
        let header = part.header;
        let is_end = header.part + 1 == header.parts && header.first + u64::from(header.part) == seq;
        if !is_end || header.first < first_seq {
            continue;
        }
        let mut is_whole = true;
        for (idx, seq) in (header.first..seq).enumerate() {
            let part = part_at(log, seq).await?;
            is_whole &= part.is_some_and(|part| part.header.part as usize == idx && part.header.is_same_group(&header));
        }
        if is_whole {
            return Ok(header.oldest);
        }
    }
    Ok(0)
}

async fn part_at(log: &dyn Log, seq: u64) -> Result<Option<format::Part>, StreamOpenError> {
    let Some(payload) = log.read(seq).await? else { return Ok(None) };
    match format::part(&payload) {
        Ok(part) => Ok(Some(part)),
        Err(NoPart::Newer(found)) => {
            Err(StreamOpenError::NewerFormat { stream: log.name(), seq, found, expected: NEWEST })
        }
        Err(NoPart::Bad { found, expected }) => {
            let expected = expected.to_owned();
            Err(StreamOpenError::Damaged { stream: log.name(), seq, found, expected, last_epoch: 0 })
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
