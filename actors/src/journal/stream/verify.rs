//! Reading a whole stream without changing anything, not even the data directory: what is whole, what counts for
//! nothing, what is damaged, and whether it ends where this directory knows it to be acked.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::super::disk::Disk;
use super::super::seal::RackKey;
use super::super::segment::{Damage, OpenError, Recovery, Torn, Unused, check_is_journal, list, load_key};
use super::super::storage::SegmentId;
use super::format;
use super::log::{Log, LogError, LogUsage};
use super::mark::Mark;
use super::open::{Behind, check_has_no_files, oldest_alive, purged, shorter, told_broken};
use super::replay::{Broken, Replay, Whole};
use super::{MARK_FILE, StreamOpenError};

/// Most segments that are told of one by one; of more the oldest are left out.
const SEGMENTS_MAX: usize = 65_536;
/// Most places that are told of.
const PLACES_MAX: usize = 100;
/// Segments whose keys are kept while the stream is read: more than any failures in a row.
const KEYS_MAX: usize = 4096;
/// How often the walk begins anew because whoever writes purged what it was about to read.
const WALKS_MAX: u32 = 8;

/// What [`verify_stream`] found.
#[derive(Debug)]
pub struct StreamReport {
    /// The stream.
    pub stream: String,
    /// Sequence of its first message.
    pub first_seq: u64,
    /// Sequence of the last message that was looked at: the last there was when the walk began.
    pub last_seq: u64,
    /// Bytes that the stream takes.
    pub bytes: u64,
    /// The highest term that a message tells.
    pub term: u64,
    /// What the data directory knows to be acked; `None` when it has not written yet.
    pub mark: Option<StreamMark>,
    /// Every segment, from the oldest to the newest.
    pub segments: Vec<StreamSegmentReport>,
    /// Older segments that are not told of, since there are too many.
    pub segments_left_out: u64,
    /// Every place where the stream is not what was written to it, up to a hundred. What lies in segments that are
    /// older than what is alive does not keep the journal from opening, but for messages that are none of ours.
    pub places: Vec<Damage>,
    /// Messages that count for nothing, and are told of only up to a hundred.
    pub skipped: u64,
    /// What opening would recover, or what keeps it from opening.
    pub outcome: Result<Recovery, StreamOpenError>,
}

/// How far a data directory knows its stream to be acked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamMark {
    /// The last sequence.
    pub seq: u64,
    /// The last epoch.
    pub epoch: u64,
}

/// One segment of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamSegmentReport {
    /// Its number.
    pub segment: SegmentId,
    /// Sequence of its first message.
    pub first_seq: u64,
    /// Messages, counting or not.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Groups that count, but for those that only begin a term or renew a lease.
    pub groups: u64,
    /// Epoch of the first and of the last of them.
    pub epochs: Option<(u64, u64)>,
    /// Something in it may be alive.
    pub is_alive: bool,
}

/// Reads the whole stream of a rack, from its first message to the last that its leader has now, and checks all of it.
/// Nothing is locked, made or written, so the rack may run meanwhile.
///
/// # Errors
/// When there is no stream or no key, or the stream does not answer. What is wrong with the stream is in the report.
pub async fn verify_stream(
    disk: Arc<dyn Disk>,
    log: Arc<dyn Log>,
    rack: [u8; 16],
) -> Result<StreamReport, StreamOpenError> {
    let listing = list(&*disk)?;
    check_is_journal(&*disk, &listing)?;
    check_has_no_files(&*disk, &listing)?;
    // Before the end is asked for: a rack that runs only adds to it.
    let mark = Mark::load(&*disk).map_err(|error| OpenError::io(MARK_FILE, "read the mark", error))?;
    let key = load_key(&*disk)?.map(Arc::new);
    for _ in 0..WALKS_MAX {
        let Some(usage) = log.look().await? else {
            let absent = || StreamOpenError::Absent { stream: log.name() };
            return Err(mark.map_or_else(absent, |mark| purged(&*log, 0, Some(mark))));
        };
        if usage.last_seq > 0 && usage.first_seq > usage.last_seq {
            return Err(purged(&*log, usage.last_seq, mark));
        }
        let key = match &key {
            Some(key) => Arc::clone(key),
            None if usage.last_seq > 0 => {
                return Err(StreamOpenError::KeyMissing { dir: disk.label(), stream: log.name() });
            }
            // There is nothing that it would have to open.
            None => Arc::new(RackKey::new([0; 32])),
        };
        let mut walk = Walk::begin(&*log, rack, key, usage).await?;
        if walk.read().await? {
            return Ok(walk.report(mark));
        }
    }
    let (stream, reason) = (log.name(), format!("its front went {WALKS_MAX} times while it was read"));
    Err(LogError::Unreachable { stream, action: "read the whole stream", reason }.into())
}

/// Who met what is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// What opening reads: it would refuse.
    Opening,
    /// What it passes over, or does not come to.
    Walk,
}

/// One reading of a stream.
struct Walk<'l> {
    log: &'l dyn Log,
    rack: [u8; 16],
    key: Arc<RackKey>,
    usage: LogUsage,
    oldest: SegmentId,
    /// The last message that was read.
    seq: u64,
    /// What opening would read, up to the first thing that keeps it from opening.
    sound: Replay,
    refusal: Option<StreamOpenError>,
    /// What opening passes over, and what lies behind damage.
    rest: Replay,
    groups: u64,
    bytes: u64,
    segments: BTreeMap<SegmentId, StreamSegmentReport>,
    segments_left_out: u64,
    places: Vec<Damage>,
}

impl<'l> Walk<'l> {
    async fn begin(
        log: &'l dyn Log,
        rack: [u8; 16],
        key: Arc<RackKey>,
        usage: LogUsage,
    ) -> Result<Walk<'l>, StreamOpenError> {
        let before = usage.first_seq.saturating_sub(1).min(usage.last_seq);
        // A message that does not say it is met again by the walk, with what lies before it.
        let oldest = match oldest_alive(log, usage.first_seq, usage.last_seq).await {
            Err(error @ StreamOpenError::Log(_)) => return Err(error),
            other => other.unwrap_or(0),
        };
        let mut rest = Replay::new(rack, Arc::clone(&key), 0, before).check_only();
        rest.drift_behind(before);
        let mut sound = Replay::new(rack, Arc::clone(&key), oldest, before).check_only();
        if oldest == 0 {
            // Unknown, or the beginning of all: what comes first counts.
            sound.drift_behind(before);
        }
        let (segments, places) = (BTreeMap::new(), Vec::new());
        let (groups, bytes, segments_left_out) = (0, 0, 0);
        let (seq, refusal) = (before, None);
        Ok(Walk {
            log,
            rack,
            key,
            usage,
            oldest,
            seq,
            sound,
            refusal,
            rest,
            groups,
            bytes,
            segments,
            segments_left_out,
            places,
        })
    }

    /// Reads to the end; `false` when what was to be read next has been purged meanwhile.
    async fn read(&mut self) -> Result<bool, StreamOpenError> {
        let to_seq = self.usage.last_seq;
        let mut behind = Behind::default();
        while self.seq < to_seq {
            let before = self.seq;
            let mut range = self.log.range(before + 1, to_seq);
            while let Some((found, payload)) = range.next().await? {
                if found != self.seq + 1 && self.is_purged(self.seq + 1).await? {
                    return Ok(false);
                }
                self.message(found, &payload);
            }
            if self.seq < to_seq {
                behind.wait(self.log, self.seq > before, to_seq).await?;
            }
        }
        Ok(true)
    }

    async fn is_purged(&self, seq: u64) -> Result<bool, StreamOpenError> {
        Ok(self.log.look().await?.is_some_and(|usage| usage.first_seq > seq))
    }

    fn message(&mut self, seq: u64, payload: &Bytes) {
        if seq != self.seq + 1 {
            self.refuse(Broken::gap(self.seq + 1, seq), seq - 1, By::Opening);
        }
        self.seq = seq;
        let segment = format::part(payload).ok().map(|part| part.header.segment);
        if let Some(segment) = segment {
            self.count(segment, seq, payload.len() as u64);
        }
        if self.refusal.is_none() {
            match self.sound.message(seq, payload) {
                Err(broken) => return self.refuse(broken, seq, By::Opening),
                Ok(()) => self.drain_sound(false),
            }
            if segment.is_none_or(|segment| segment >= self.oldest) {
                return;
            }
            // Opening passes over it; it is looked at all the same.
            self.rest.seq = seq - 1;
        }
        match self.rest.message(seq, payload) {
            Err(broken) => self.refuse(broken, seq, By::Walk),
            Ok(()) => self.drain_rest(false),
        }
    }

    // Notes what is wrong, and goes on with the next segment behind it.
    fn refuse(&mut self, broken: Broken, seq: u64, by: By) {
        self.drain_sound(true);
        self.drain_rest(true);
        let is_opening = by == By::Opening && self.refusal.is_none();
        let last = if is_opening { self.sound.last } else { self.rest.last };
        let last_epoch = last.map_or(0, |last| last.link.epoch);
        let error = told_broken(self.log, broken, self.key.id(), self.rack, last_epoch);
        self.place(seq, &error);
        if is_opening {
            self.refusal = Some(error);
        }
        self.rest.drift_behind(seq);
    }

    fn drain_sound(&mut self, is_end: bool) {
        while let Some(whole) = next(&mut self.sound, is_end) {
            self.groups += u64::from(!whole.is_empty);
            self.bytes += whole.body_bytes as u64;
            self.note(&whole);
        }
        self.sound.forget_keys(KEYS_MAX);
    }

    fn drain_rest(&mut self, is_end: bool) {
        while let Some(whole) = next(&mut self.rest, is_end) {
            self.note(&whole);
        }
        self.rest.forget_keys(KEYS_MAX);
    }

    fn count(&mut self, segment: SegmentId, seq: u64, bytes: u64) {
        let is_alive = segment >= self.oldest;
        let fresh = StreamSegmentReport { segment, first_seq: seq, is_alive, ..StreamSegmentReport::default() };
        let found = self.segments.entry(segment).or_insert(fresh);
        found.messages += 1;
        found.bytes += bytes;
        if self.segments.len() > SEGMENTS_MAX {
            self.segments.pop_first();
            self.segments_left_out += 1;
        }
    }

    fn note(&mut self, whole: &Whole) {
        if whole.is_empty {
            return;
        }
        if let Some(segment) = self.segments.get_mut(&whole.at.segment) {
            let epoch = whole.point.link.epoch;
            segment.groups += 1;
            segment.epochs = Some((segment.epochs.map_or(epoch, |(first, _)| first), epoch));
        }
    }

    fn place(&mut self, seq: u64, error: &StreamOpenError) {
        let segment = self.segments.keys().next_back().copied().unwrap_or(0);
        let at = |found: String, expected: String| {
            let file = self.log.name();
            Damage { file, segment, offset: seq, found, expected, last_epoch: 0 }
        };
        let place = match error {
            StreamOpenError::Damaged { seq, found, expected, last_epoch, .. } => {
                Damage { offset: *seq, last_epoch: *last_epoch, ..at(found.clone(), expected.clone()) }
            }
            StreamOpenError::NewerFormat { found, expected, .. } => {
                at(format!("format version {found}"), format!("at most {expected}"))
            }
            StreamOpenError::ForeignRack { found, expected, .. } => {
                at(format!("a message of rack {found}"), format!("one of rack {expected}"))
            }
            StreamOpenError::KeyWrong { found, expected, .. } => {
                at(format!("a segment sealed under key {expected}"), format!("one under rack.key, {found}"))
            }
            other => at(other.to_string(), "what was written there".into()),
        };
        // Of a whole stream of somebody else's the first message says it all.
        let is_same = |last: &Damage| (&last.found, &last.expected) == (&place.found, &place.expected);
        if self.places.len() < PLACES_MAX && !self.places.last().is_some_and(is_same) {
            self.places.push(place);
        }
    }

    fn report(mut self, mark: Option<Mark>) -> StreamReport {
        let torn = self.torn();
        let skipped = self.sound.skipped_count + self.rest.skipped_count;
        self.drain_sound(true);
        self.drain_rest(true);
        let term = self.sound.term.max(self.rest.term);
        let refusal = self.refusal.take().or_else(|| shorter(self.log, &self.sound, mark));
        let stream = self.log.name();
        let unused = self.sound.skipped.iter();
        let unused = unused.map(|skipped| Unused { file: format!("{stream}:{}", skipped.seq), why: skipped.why });
        let last_epoch = self.sound.last.map_or(0, |last| last.link.epoch);
        let recovery = Recovery {
            groups: self.groups,
            bytes: self.bytes,
            last_epoch,
            proven_epoch: last_epoch,
            oldest: self.oldest,
            torn,
            unused: unused.collect(),
        };
        StreamReport {
            first_seq: self.usage.first_seq,
            last_seq: self.usage.last_seq,
            bytes: self.usage.bytes,
            term,
            mark: mark.map(|mark| StreamMark { seq: mark.seq, epoch: mark.epoch }),
            segments: self.segments.into_values().collect(),
            segments_left_out: self.segments_left_out,
            places: self.places,
            skipped,
            outcome: refusal.map_or(Ok(recovery), Err),
            stream,
        }
    }

    // The beginning of a group at the end of the stream: it is being written, or comes to nothing.
    fn torn(&self) -> Option<Torn> {
        let first = self.sound.unfinished.first()?;
        Some(Torn {
            file: self.log.name(),
            offset: first.header.first,
            bytes: self.sound.unfinished.iter().map(|part| part.sealed.len() as u64).sum(),
            why: format!("{} of {} messages of a group", self.sound.unfinished.len(), first.header.parts),
        })
    }
}

fn next(replay: &mut Replay, is_end: bool) -> Option<Whole> {
    if is_end { replay.next_pending() } else { replay.next_sure() }
}
