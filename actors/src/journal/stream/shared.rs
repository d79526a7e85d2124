//! What readers and trimmers on other threads use: the segments with their keys, and the log.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use futures_util::future::try_join_all;

use super::super::drive::block_on;
use super::super::seal::SegmentKey;
use super::super::storage::{GroupAt, Reader, SegmentId, StorageError};
use super::format::{self, Link, NoPart, Part};
use super::log::Log;
use super::replay::Extent;
use super::told;

/// Messages of one group that are asked for at once.
const READ_AHEAD: usize = 16;

/// A segment of the stream as this process knows it.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) extent: Extent,
    /// Groups that begin here or behind are void.
    pub(super) void_from: u64,
}

/// Shared by writer, readers and trimmers.
pub(super) struct Shared {
    pub(super) log: Arc<dyn Log>,
    segments: RwLock<BTreeMap<SegmentId, Segment>>,
    /// The first segment that this process may write.
    own_from: SegmentId,
}

impl Shared {
    pub(super) fn new(log: Arc<dyn Log>, own_from: SegmentId) -> Shared {
        Shared { log, segments: RwLock::default(), own_from }
    }

    /// Takes over what was read of the stream.
    pub(super) fn learn(&self, extents: &BTreeMap<SegmentId, Extent>) {
        let known = extents.iter().map(|(id, extent)| (*id, Segment { extent: extent.clone(), void_from: u64::MAX }));
        *self.change() = known.collect();
    }

    /// Segments of which nothing was ever stored are none.
    pub(super) fn forget_behind(&self, last_seq: u64) {
        self.change().retain(|_, segment| segment.extent.first <= last_seq);
    }

    pub(super) fn segments(&self) -> RwLockReadGuard<'_, BTreeMap<SegmentId, Segment>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change(&self) -> RwLockWriteGuard<'_, BTreeMap<SegmentId, Segment>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this process wrote behind `link` no longer counts. What it recovered stays readable, since the caller may
    /// need it for the group that merges it.
    pub(super) fn make_void_behind(&self, link: Link) {
        for (id, segment) in self.change().range_mut(link.segment.max(self.own_from)..) {
            let from = if *id == link.segment { link.seq + 1 } else { 0 };
            segment.void_from = segment.void_from.min(from);
        }
    }

    /// Deletes everything before the first message of the oldest segment that is alive.
    pub(super) fn trim(&self, oldest: SegmentId) -> Result<usize, StorageError> {
        let (doomed, before) = {
            let mut segments = self.change();
            let first = segments.range(oldest..).next().map(|(_, segment)| segment.extent.first);
            // Without its key a segment is gone for whoever comes to read in it meanwhile.
            segments.range_mut(..oldest).for_each(|(_, segment)| segment.extent.key = None);
            (segments.range(..oldest).map(|(id, _)| *id).collect::<Vec<_>>(), first)
        };
        let Some(before) = before.filter(|_| !doomed.is_empty()) else { return Ok(0) };
        block_on(self.log.purge(before)).map_err(|error| told(&*self.log, "delete old segments", error))?;
        let mut segments = self.change();
        for id in &doomed {
            segments.remove(id);
        }
        Ok(doomed.len())
    }

    fn key_of(&self, at: GroupAt) -> Result<Arc<SegmentKey>, StorageError> {
        let segments = self.segments();
        let segment = segments.get(&at.segment).ok_or(StorageError::Gone { at })?;
        if at.offset >= segment.void_from {
            return Err(StorageError::Void { at });
        }
        segment.extent.key.clone().ok_or(StorageError::Gone { at })
    }

    async fn message(&self, at: GroupAt, seq: u64) -> Result<Part, StorageError> {
        let payload = self.log.read(seq).await.map_err(|error| told(&*self.log, "read a group", error))?;
        let Some(payload) = payload else { return Err(self.damaged(at, "no message".into())) };
        format::part(&payload).map_err(|no_part| match no_part {
            NoPart::Newer(version) => self.damaged(at, format!("a message of format version {version}")),
            NoPart::Bad { found, .. } => self.damaged(at, found),
        })
    }

    async fn read_group(&self, at: GroupAt) -> Result<Bytes, StorageError> {
        let key = self.key_of(at)?;
        let first = self.message(at, at.offset).await?;
        let header = first.header;
        if header.segment != at.segment || header.first != at.offset || header.part != 0 {
            return Err(self.damaged(at, format!("part {} of a group of segment {:08x}", header.part, header.segment)));
        }
        let mut parts = vec![first];
        let rest: Vec<u64> = (at.offset + 1..at.offset + u64::from(header.parts)).collect();
        for seqs in rest.chunks(READ_AHEAD) {
            for part in try_join_all(seqs.iter().map(|seq| self.message(at, *seq))).await? {
                if part.header.part as usize != parts.len() || !part.header.is_same_group(&header) {
                    return Err(self.damaged(at, "a message of another group".into()));
                }
                parts.push(part);
            }
        }
        match format::open(&parts, &key) {
            Some((body, _)) => Ok(body.into()),
            None => Err(self.damaged(at, "a group that this segment's key did not seal for this place".into())),
        }
    }

    fn damaged(&self, at: GroupAt, found: String) -> StorageError {
        let expected = "the group that was written there".to_owned();
        StorageError::Damaged { file: self.log.name(), offset: at.offset, found, expected }
    }
}

impl Reader for Shared {
    fn read(&self, at: GroupAt) -> Result<Bytes, StorageError> {
        block_on(self.read_group(at))
    }
}
