//! The journal on files: groups appended to pre-zeroed segments, sealed, chained, recovered after any crash.
//! Owns the format below; knows nothing of what a body means.
//!
//! # Files of a data directory
//!
//! | name | content |
//! |---|---|
//! | `lock` | locked while a process has the journal; who that is, as text |
//! | `rack.name` | name of the rack, for whoever comes here by mistake; never trusted |
//! | `rack.key` | 32 random bytes, mode 0600; wraps segment keys |
//! | `0000000a.seg` | segment 10, eight hexadecimal digits; prepared until its first group is written |
//! | `0000000a.next` | segment 10 while it is being prepared |
//! | `0000000a.spare` | the file of segment 10, which was deleted, for a segment to come |
//! | `0000000a.seg.quarantined`, `0000000a.next.quarantined` | put aside by an operator, never read |
//!
//! # Segment, format version 1; all integers little-endian
//!
//! | offset | bytes | header of the segment, 4096 bytes |
//! |---:|---:|---|
//! | 0 | 8 | magic `FLUXJRNL` |
//! | 8 | 4 | format version |
//! | 12 | 4 | CRC32C of bytes 16 … 4095 |
//! | 16 | 16 | rack |
//! | 32 | 4 | segment id, as in the file name |
//! | 36 | 4 | predecessor, 0 for none |
//! | 40 | 8 | offset in the predecessor behind which everything is void |
//! | 48 | 8 | epoch of the last group before that offset; it was durable when this header was written |
//! | 56 | 4 | the `oldest` which that group named |
//! | 60 | 4 | zeros |
//! | 64 | 8 | length of the file when the segment was begun; a shorter file was cut |
//! | 72 | 8 | zeros |
//! | 80 | 16 | id of the rack key: BLAKE3 `derive_key("fluxrig journal 2026 rack key id", key)`, first 16 bytes |
//! | 96 | 12 | nonce of the wrapping |
//! | 108 | 4 | zeros |
//! | 112 | 32 | segment key, AES-256-GCM under the rack key; associated data: bytes 16 … 95 |
//! | 144 | 16 | tag of the wrapping |
//! | 160 | 3936 | zeros |
//!
//! | offset | bytes | in place of that header while the segment is prepared and not begun; zeros behind it |
//! |---:|---:|---|
//! | 0 | 8 | magic `FLUXNEXT` |
//! | 8 | 4 | format version |
//! | 12 | 4 | CRC32C of bytes 0 … 7 and 16 … 4095 |
//! | 16 | 16 | rack |
//! | 32 | 4 | segment id, as in the file name |
//! | 36 | 4 | zeros |
//! | 40 | 8 | epoch: it was durable when the file was prepared |
//! | 48 | 4048 | zeros |
//!
//! | offset | bytes | group; begins at a multiple of 512, the first one at 4096 |
//! |---:|---:|---|
//! | 0 | 4 | magic `FLXG` |
//! | 4 | 4 | CRC32C of everything behind it: header, sealed body, tag |
//! | 8 | 4 | length of the body |
//! | 12 | 4 | segment id |
//! | 16 | 8 | epoch: the last one the group covers |
//! | 24 | 8 | term |
//! | 32 | 8 | flushed mark at the moment of writing |
//! | 40 | 4 | oldest: segments before it hold nothing alive |
//! | 44 | 4 | zeros |
//! | 48 | 16 | hash of the group before: BLAKE3 of its header and tag (64 + 16 bytes), first 16 bytes; zeros for the first group of all; chained across segments along the predecessor links |
//! | 64 | n | body, AES-256-GCM under the segment key; associated data: bytes 8 … 63 of this header; nonce: the group's offset in the segment (u64) and four zero bytes |
//! | 64 + n | 16 | tag |
//! | | | zeros up to the next multiple of 512, and 512 more unless the file ends there |
//!
//! The nonce is a counter with gaps: an offset only rises within a segment and is written once, since a failed segment
//! is final and none is appended to after a restart. It also binds a group to its place.
//!
//! # Rules of recovery
//!
//! - A segment exists once its first group is whole. The newest one that exists is the *head*; predecessor links lead
//!   from it to the segment that its last whole group names as oldest. Segments off that path are void, older ones are
//!   ignored, whatever they hold.
//! - A predecessor must be whole up to the offset its successor names. The head is whole up to its first group that is
//!   not.
//! - A flushed mark, or the epoch in a header, is a *claim*: that epoch was durable. **A claim above the last epoch that
//!   is recovered means that something flushed is gone: damage.** Claims are looked for behind the hole and in files
//!   without a whole first group too. Without such a claim what is behind a hole is a torn tail.
//! - The file of segment 11 is prepared when a flush of segment 10 has returned, and claims the epoch which that covered:
//!   segment 10 can neither vanish nor turn blank unnoticed. A file prepared since a flush failed claims what was durable
//!   before. These claims only accuse; they prove nothing, since the file that makes them may go.
//! - The largest other claim proves groups. The rest is shown as unproven, and the next segment names the end of the proven
//!   part as what counts, so the first group appended after opening must merge everything above it.
//! - Nothing is written to a segment of an earlier process, except zeros over the header (hence over the key) of one
//!   that is trimmed.
//! - A file may have been an older segment's. What that one left is nothing: its groups bear a lower id, their epochs are
//!   lower than any of the new one, and the zeros that follow each write stand between it and the end of the groups.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use bytes::Bytes;

use super::{
    disk::Disk,
    lock::{DirLock, Holder},
    seal::RackKey,
    storage::{BoxFuture, Group, GroupAt, Reader, SegmentId, Storage, StorageError, Task, Usage},
};

mod error;
mod file;
mod format;
mod owner;
mod prepare;
mod recover;
mod repair;

mod scan;
mod survey;
#[cfg(test)]
mod tests;

pub use error::{Damage, OpenError};
pub use format::FORMAT_VERSION;
use format::{ALIGN_BYTES, BODY_BYTES_MAX, HEADER_BYTES, Link};
pub use owner::owner;
pub(super) use owner::{check_is_journal, leave_name};
pub use recover::{RecoveredGroup, Recovery, Torn, Unused, open};
pub use repair::{GivenUp, Report, SegmentReport, quarantine, verify};
pub(super) use survey::{Listing, list, load_key};

use file::{SegmentFile, name_of, spare_name_of};
use format::{GroupHeader, Hash, SegmentHeader, group_bytes};
use prepare::{Preparer, Spare};

/// Smallest segment.
pub(super) const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// How to open a journal.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The rack whose journal this is; see [`rack_id`].
    pub rack: [u8; 16],
    /// How it is called in errors, here and for whoever comes to its directory by mistake; empty when unknown.
    pub rack_name: String,
    /// A segment is left for the next one when the next group would end past this.
    pub segment_bytes: u64,
    /// The term written into every group.
    pub term: u64,
    /// Written into the lock file.
    pub holder: Holder,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions {
            rack: [0; 16],
            rack_name: String::new(),
            segment_bytes: 64 << 20,
            term: 0,
            holder: Holder::default(),
        }
    }
}

/// The id of a rack in segment headers, from its name.
pub fn rack_id(name: &str) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::derive_key("fluxrig journal 2026 rack id", name.as_bytes())[..16]);
    id
}

/// The end of a group: where a new segment may say that its predecessor stops counting.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    link: Link,
    hash: Hash,
    oldest: SegmentId,
}

/// The segment that is being written.
struct Writing {
    segment: Arc<SegmentFile>,
    // Where the next group goes.
    end: u64,
    bytes_max: u64,
    file_bytes: u64,
    // The size of the last group stands for that of the next.
    last_bytes: u64,
}

impl Writing {
    fn is_full(&self) -> bool {
        self.end + self.last_bytes > self.bytes_max
    }
}

/// The journal on files.
pub struct SegmentStorage {
    disk: Arc<dyn Disk>,
    options: OpenOptions,
    key: RackKey,
    shared: Arc<Shared>,
    preparer: Preparer,
    writing: Option<Writing>,
    // Whether the segment after the one being written has been asked for.
    is_next_begun: bool,
    // The id of the segment after the one being written.
    next: SegmentId,
    // The last group at or below the mark that the caller has stated, and every one above it.
    base: Point,
    above: VecDeque<Point>,
    last_epoch: u64,
    // After `replace` the merging group may repeat the last epoch, since it stands for it.
    may_repeat: bool,
    durable_epoch: u64,
    scratch: Vec<u8>,
    // Last, so that it is given back after the preparing thread has ended.
    _lock: DirLock,
}

/// What readers and trimmers on other threads use.
struct Shared {
    disk: Arc<dyn Disk>,
    readable: RwLock<BTreeMap<SegmentId, Arc<SegmentFile>>>,
    // The first segment that this process may write.
    own_from: SegmentId,
    // Every segment file on disk, readable or not, with its length.
    files: Mutex<BTreeMap<SegmentId, u64>>,
    spare: Arc<Spare>,
    // The length of a file that is worth keeping.
    spare_bytes: u64,
}

// A group larger than this does not leave its buffer behind.
const SCRATCH_BYTES_MAX: usize = 8 << 20;

impl SegmentStorage {
    /// [`Storage::append`] without a future.
    ///
    /// # Errors
    /// As there.
    pub fn append_now(&mut self, group: Group<'_>) -> Result<GroupAt, StorageError> {
        self.check(&group)?;
        self.prepare_next();
        if let Some(writing) = &self.writing {
            writing.segment.check_writable()?;
            if writing.is_full() {
                self.leave()?;
            }
        }
        match self.writing.take() {
            Some(mut writing) => {
                let done = self.write(&mut writing, None, &group);
                self.writing = Some(writing);
                done
            }
            None => self.begin(&group),
        }
    }

    /// [`Storage::flush`] without a future.
    ///
    /// # Errors
    /// As there.
    pub fn flush_now(&mut self) -> Result<(), StorageError> {
        if let Some(writing) = &self.writing {
            writing.segment.flush(self.last_epoch)?;
            self.durable_epoch = self.last_epoch;
            self.prepare_next();
        }
        Ok(())
    }

    /// [`Storage::replace`] without a future.
    ///
    /// # Errors
    /// As there.
    pub fn replace_now(&mut self, durable_epoch: u64) -> Result<(), StorageError> {
        let known = self.known_durable();
        if durable_epoch > known || durable_epoch < self.base.link.epoch {
            let expected = format!("{} to {known}", self.base.link.epoch);
            return Err(StorageError::Order { what: "durable epoch", found: durable_epoch, expected });
        }
        if let Some(writing) = &self.writing {
            writing.segment.give_up();
        }
        // The file is taken now, so that a caller without room learns it here and not with its merged group in hand;
        // nothing else has changed then, so the same call may be made again.
        let prepared = self
            .preparer
            .take(self.next, known)
            .map_err(|error| StorageError::io(&name_of(self.next), "prepare a segment", error))?;
        self.preparer.adopt(self.next, prepared);
        self.advance_base(durable_epoch);
        self.durable_epoch = durable_epoch;
        self.may_repeat |= self.writing.take().is_some();
        self.shared.make_void_behind(self.base.link);
        self.above.clear();
        Ok(())
    }

    // Refuses what the caller must not do, before anything is written.
    fn check(&self, group: &Group<'_>) -> Result<(), StorageError> {
        let order = |what, found, expected| Err(StorageError::Order { what, found, expected });
        if group.body.len() > BODY_BYTES_MAX {
            return Err(StorageError::TooLarge { bytes: group.body.len(), bytes_max: BODY_BYTES_MAX });
        }
        let least = if self.may_repeat { self.last_epoch } else { self.last_epoch + 1 };
        if group.epoch < least.max(self.durable_epoch + 1) {
            return order("epoch", group.epoch, format!("at least {}", least.max(self.durable_epoch + 1)));
        }
        // A mark that is not true would make recovery trust what may be lost, or refuse what is merely torn.
        let known = self.known_durable();
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

    /// The last epoch known to be durable, whoever flushed it.
    fn known_durable(&self) -> u64 {
        let flushed = self.writing.as_ref().map_or(0, |writing| writing.segment.durable_epoch());
        self.durable_epoch.max(flushed)
    }

    // Not before something in this segment is durable: the prepared file says so, and what says so cannot stand there
    // when this segment is gone without being noticed.
    fn prepare_next(&mut self) {
        if let Some(writing) = self.writing.as_ref().filter(|_| !self.is_next_begun)
            && writing.segment.durable_epoch() > 0
        {
            self.is_next_begun = true;
            self.preparer.start(self.next, self.known_durable());
        }
    }

    // Leaves a full segment: its successor's header says that all of it counts, so all of it must be durable.
    fn leave(&mut self) -> Result<(), StorageError> {
        if self.known_durable() < self.last_epoch {
            self.flush_now()?;
        }
        self.durable_epoch = self.last_epoch;
        self.writing = None;
        Ok(())
    }

    // Begins the next segment with its first group; both go in one write, since one without the other is nothing.
    fn begin(&mut self, group: &Group<'_>) -> Result<GroupAt, StorageError> {
        let id = self.next;
        let failed = |error| StorageError::io(&name_of(id), "begin a segment", error);
        let last = *self.above.back().unwrap_or(&self.base);
        let prepared = self.preparer.take(id, self.known_durable()).map_err(failed)?;
        let mut header = SegmentHeader {
            rack: self.options.rack,
            id,
            link: last.link,
            oldest: last.oldest,
            file_bytes: prepared.bytes,
            key_id: self.key.id(),
            key: super::seal::WrappedKey { nonce: [0; 12], sealed: [0; 32], tag: [0; 16] },
        };
        let (key, wrapped) = self.key.new_segment_key(&*self.disk, &header.context()).map_err(failed)?;
        header.key = wrapped;
        self.next = id + 1;
        self.shared.files().insert(id, prepared.bytes);
        let segment = Arc::new(SegmentFile::new(id, prepared.file, key));
        self.shared.readable.write().unwrap_or_else(PoisonError::into_inner).insert(id, segment.clone());
        let mut writing = Writing {
            segment,
            end: HEADER_BYTES,
            bytes_max: prepared.bytes.min(self.options.segment_bytes),
            file_bytes: prepared.bytes,
            last_bytes: 0,
        };
        let done = self.write(&mut writing, Some(&header), group);
        self.writing = Some(writing);
        self.is_next_begun = false;
        done
    }

    fn write(
        &mut self,
        writing: &mut Writing,
        segment_header: Option<&SegmentHeader>,
        group: &Group<'_>,
    ) -> Result<GroupAt, StorageError> {
        // Rounded down to the end of a group, so that a mark in a header always means a group that is there.
        let durable = self.above.iter().take_while(|point| point.link.epoch <= group.flushed).last();
        let flushed = durable.unwrap_or(&self.base).link.epoch;
        let last = self.above.back().unwrap_or(&self.base);
        let header = GroupHeader {
            body_bytes: group.body.len() as u32,
            segment: writing.segment.id,
            epoch: group.epoch,
            term: self.options.term,
            flushed,
            oldest: group.oldest,
            before: last.hash,
        };
        let bytes = group_bytes(group.body.len());
        let lead = if segment_header.is_some() { HEADER_BYTES as usize } else { 0 };
        // Zeros behind it, so that what the file held before does not look like more of it.
        let gap = if writing.end + bytes < writing.file_bytes { ALIGN_BYTES as usize } else { 0 };
        let group_end = lead + bytes as usize;
        let total = group_end + gap;
        if self.scratch.len() < total {
            self.scratch.resize(total, 0);
        }
        let out = &mut self.scratch[..total];
        if let Some(segment_header) = segment_header {
            segment_header.encode(&mut out[..lead]);
        }
        out[group_end..].fill(0);
        let hash = header.seal(&writing.segment.key, writing.end, group.body, &mut out[lead..group_end]);
        writing.segment.write(out, writing.end - lead as u64)?;
        if self.scratch.len() > SCRATCH_BYTES_MAX {
            self.scratch = Vec::new();
        }

        let at = GroupAt { segment: writing.segment.id, offset: writing.end };
        writing.end += bytes;
        writing.last_bytes = bytes;
        let link = Link { segment: at.segment, offset: writing.end, epoch: group.epoch };
        self.above.push_back(Point { link, hash, oldest: group.oldest });
        self.advance_base(group.flushed);
        self.last_epoch = group.epoch;
        self.may_repeat = false;
        let mut files = self.shared.files();
        let len = files.entry(at.segment).or_default();
        *len = (*len).max(writing.end);
        Ok(at)
    }

    fn advance_base(&mut self, epoch: u64) {
        while let Some(point) = self.above.pop_front() {
            if point.link.epoch > epoch {
                self.above.push_front(point);
                break;
            }
            self.base = point;
        }
    }

    // The oldest segment that a durable group names.
    fn oldest_durable(&self) -> SegmentId {
        let known = self.known_durable();
        let durable = self.above.iter().take_while(|point| point.link.epoch <= known).last();
        durable.unwrap_or(&self.base).oldest
    }
}

impl Storage for SegmentStorage {
    fn current(&self) -> SegmentId {
        match &self.writing {
            Some(writing) if !writing.is_full() => writing.segment.id,
            _ => self.next,
        }
    }

    fn append<'a>(&'a mut self, group: Group<'a>) -> BoxFuture<'a, Result<GroupAt, StorageError>> {
        Box::pin(async move { self.append_now(group) })
    }

    fn is_prompt(&self) -> bool {
        self.writing.as_ref().is_some_and(|writing| !writing.is_full())
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<(), StorageError>> {
        Box::pin(async move { self.flush_now() })
    }

    fn flusher(&self) -> Task<u64> {
        let epoch = self.last_epoch;
        match &self.writing {
            Some(writing) => {
                let segment = writing.segment.clone();
                let next = (!self.is_next_begun).then(|| (self.preparer.starter(), self.next));
                Box::new(move || {
                    segment.flush(epoch)?;
                    if let Some((starter, id)) = next {
                        starter.start(id, epoch);
                    }
                    Ok(epoch)
                })
            }
            None => {
                let epoch = self.durable_epoch;
                Box::new(move || Ok(epoch))
            }
        }
    }

    fn replace(&mut self, durable_epoch: u64) -> BoxFuture<'_, Result<(), StorageError>> {
        Box::pin(async move { self.replace_now(durable_epoch) })
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

    fn usage(&self) -> Usage {
        let prepared = self.preparer.ready_bytes();
        let files = self.shared.files();
        Usage {
            bytes: files.values().sum::<u64>() + prepared.unwrap_or(0) + self.shared.spare.bytes(),
            segments: files.len() + usize::from(prepared.is_some()),
            oldest: files.keys().next().copied().unwrap_or_else(|| self.current()),
            newest: self.current(),
            free_bytes: self.disk.free_bytes(),
        }
    }

    fn release(&mut self) {
        if let Err(error) = self.shared.spare.give_back(&*self.disk) {
            tracing::warn!(%error, "journal: the file of a deleted segment could not be removed");
        }
    }
}

impl Shared {
    fn files(&self) -> MutexGuard<'_, BTreeMap<SegmentId, u64>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What this process wrote behind `link` no longer counts. What it recovered stays readable, since the caller may
    // need it for the group that merges it.
    fn make_void_behind(&self, link: Link) {
        let readable = self.readable.read().unwrap_or_else(PoisonError::into_inner);
        for (id, segment) in readable.range(link.segment.max(self.own_from)..) {
            segment.make_void_from(if *id == link.segment { link.offset } else { 0 });
        }
    }

    fn trim(&self, oldest: SegmentId) -> Result<usize, StorageError> {
        let doomed: Vec<SegmentId> = self.files().range(..oldest).map(|(id, _)| *id).collect();
        let mut kept = None;
        for id in &doomed {
            let segment = self.readable.write().unwrap_or_else(PoisonError::into_inner).remove(id);
            let is_kept = kept.is_none() && !self.spare.is_there() && self.is_reusable(*id, segment);
            let name = name_of(*id);
            let spare = is_kept.then(|| spare_name_of(*id));
            destroy(&*self.disk, &name, spare.as_deref())
                .map_err(|error| StorageError::io(&name, "destroy a segment", error))?;
            let bytes = self.files().remove(id);
            kept = kept.or(bytes.filter(|_| is_kept).map(|bytes| (*id, bytes)));
        }
        if !doomed.is_empty() {
            self.disk.sync_dir().map_err(|error| StorageError::io(".", "flush the directory", error))?;
        }
        // Only now: with the old name still there as well, deleting that would take the new segment's key.
        if let Some((id, bytes)) = kept {
            self.spare.keep(id, bytes);
        }
        Ok(doomed.len())
    }

    // Whether a segment's file can be another's: all of it is there, no flush of it failed, and nobody reads in it.
    fn is_reusable(&self, id: SegmentId, segment: Option<Arc<SegmentFile>>) -> bool {
        let Some(segment) = segment.and_then(Arc::into_inner) else { return false };
        let is_whole = segment.file.len().is_ok_and(|bytes| bytes == self.spare_bytes);
        is_whole && id >= self.own_from && !segment.is_final()
    }
}

// The key first, and durably: once the name is gone nobody can erase it any more.
fn destroy(disk: &dyn Disk, name: &str, spare: Option<&str>) -> std::io::Result<()> {
    let gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match disk.open(name) {
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) => {
            // With the place of the first group: a file that was never begun has neither.
            file.write_at(&[0; (HEADER_BYTES + ALIGN_BYTES) as usize], 0)?;
            file.sync_data()?;
        }
    }
    match spare.map_or_else(|| disk.remove(name), |spare| disk.rename(name, spare)) {
        Err(error) if gone(&error) => Ok(()),
        other => other,
    }
}

impl Reader for Shared {
    fn read(&self, at: GroupAt) -> Result<Bytes, StorageError> {
        let segment = self.readable.read().unwrap_or_else(PoisonError::into_inner).get(&at.segment).cloned();
        segment.ok_or(StorageError::Gone { at })?.read(at)
    }
}
