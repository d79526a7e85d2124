//! The segment one ahead, made beside the writer so that beginning a segment waits for nothing: the file of a deleted
//! one, or a new one that is zero-filled and flushed, so that flushing a group need not write metadata.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::super::{
    disk::{Disk, DiskFile, read_up_to},
    storage::SegmentId,
};
use super::{
    file::{name_of, spare_name_of, unfinished_name_of},
    format::HEADER_BYTES,
};

// A writer that stands waiting gets what is zeroed so far at the end of a step.
const STEP_BYTES: u64 = 1 << 20;
// Shorter segments would make the writer wait again too soon.
const HURRIED_BYTES_MIN: u64 = 4 << 20;

/// A file under its final name whose first places are zeros, durably: that is no segment yet.
pub(super) struct Prepared {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) bytes: u64,
}

/// The file of a deleted segment, which saves the disk from writing zeros, and from freeing what they lie on: both hold
/// up the flushes beside them. One is kept, for the segment after the one that stands ready.
#[derive(Default)]
pub(super) struct Spare(Mutex<Option<(SegmentId, u64)>>);

impl Spare {
    /// Bytes that it takes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().map_or(0, |(_, bytes)| bytes)
    }

    pub(super) fn is_there(&self) -> bool {
        self.lock().is_some()
    }

    /// Keeps a file. Its first places are zeros, and nothing else has its name; both durably.
    pub(super) fn keep(&self, id: SegmentId, bytes: u64) {
        *self.lock() = Some((id, bytes));
    }

    /// Removes it.
    pub(super) fn give_back(&self, disk: &dyn Disk) -> io::Result<()> {
        self.take().map_or(Ok(()), |(id, _)| disk.remove(&spare_name_of(id)))
    }

    fn take(&self) -> Option<(SegmentId, u64)> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<(SegmentId, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Slot {
    Empty,
    Busy,
    Ready(SegmentId, Prepared),
}

struct Shared {
    slot: Mutex<Slot>,
    changed: Condvar,
    is_hurried: AtomicBool,
}

/// Prepares one segment at a time.
pub(super) struct Preparer {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    spare: Arc<Spare>,
    shared: Arc<Shared>,
}

impl Preparer {
    pub(super) fn new(disk: Arc<dyn Disk>, segment_bytes: u64, spare: Arc<Spare>) -> Preparer {
        let shared =
            Shared { slot: Mutex::new(Slot::Empty), changed: Condvar::new(), is_hurried: AtomicBool::new(false) };
        Preparer { disk, segment_bytes, spare, shared: Arc::new(shared) }
    }

    /// Takes over a zeroed file that an earlier process left.
    pub(super) fn adopt(&self, id: SegmentId, prepared: Prepared) {
        *self.shared.lock() = Slot::Ready(id, prepared);
    }

    /// Length of the segment that stands ready, if one does.
    pub(super) fn ready_bytes(&self) -> Option<u64> {
        match &*self.shared.lock() {
            Slot::Ready(_, prepared) => Some(prepared.bytes),
            Slot::Empty | Slot::Busy => None,
        }
    }

    /// Begins to prepare segment `id`, unless one is there or under way.
    pub(super) fn start(&self, id: SegmentId) {
        let mut slot = self.shared.lock();
        if !matches!(*slot, Slot::Empty) {
            return;
        }
        *slot = Slot::Busy;
        drop(slot);
        self.shared.is_hurried.store(false, Ordering::Release);
        let (disk, segment_bytes, shared) = (self.disk.clone(), self.segment_bytes, self.shared.clone());
        let spare = self.spare.clone();
        let work = move || {
            // Should the work panic, whoever waits must not wait for ever.
            let mut done = Done { shared: &shared, slot: Some(Slot::Empty) };
            match make(&*disk, id, segment_bytes, &spare, &shared.is_hurried) {
                Ok(prepared) => done.slot = Some(Slot::Ready(id, prepared)),
                // The writer tries again by itself when it needs the segment, and reports what it meets.
                Err(error) => tracing::warn!(segment = id, %error, "next journal segment not prepared"),
            }
        };
        if let Err(error) = self.disk.spawn(Box::new(work)) {
            tracing::warn!(segment = id, %error, "no thread to prepare the next journal segment");
            *self.shared.lock() = Slot::Empty;
        }
    }

    /// The prepared segment `id`; makes it now when it is not there.
    pub(super) fn take(&self, id: SegmentId) -> io::Result<Prepared> {
        match self.wait() {
            Slot::Ready(ready, prepared) if ready == id => Ok(prepared),
            // Only a caller that skipped an id gets here; the file it left is blank and goes at the next start.
            _ => make(&*self.disk, id, self.segment_bytes, &self.spare, &AtomicBool::new(true)),
        }
    }

    // What the slot holds once no work is under way; hurries the work.
    fn wait(&self) -> Slot {
        self.shared.is_hurried.store(true, Ordering::Release);
        let mut slot = self.shared.lock();
        while matches!(*slot, Slot::Busy) {
            slot = self.shared.changed.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::replace(&mut *slot, Slot::Empty)
    }
}

impl Drop for Preparer {
    // The directory's lock is given back after this: no thread of ours may still write there then.
    fn drop(&mut self) {
        drop(self.wait());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Done<'a> {
    shared: &'a Shared,
    slot: Option<Slot>,
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            *self.shared.lock() = slot;
            self.shared.changed.notify_all();
        }
    }
}

fn make(disk: &dyn Disk, id: SegmentId, bytes: u64, spare: &Spare, is_hurried: &AtomicBool) -> io::Result<Prepared> {
    let (name, unfinished) = (name_of(id), unfinished_name_of(id));
    // What an earlier attempt left. A segment that is not blank stays, for safety, and makes this one fail.
    remove_if_there(disk, &unfinished)?;
    if is_blank(disk, &name)? {
        remove_if_there(disk, &name)?;
    }
    if let Some((older, bytes)) = spare.take() {
        match reuse(disk, &spare_name_of(older), &name, bytes) {
            Err(error) => tracing::warn!(segment = id, %error, "file of a deleted journal segment not used again"),
            reused => return reused,
        }
        remove_if_there(disk, &name)?;
    }
    let file = disk.create_new(&unfinished)?;
    // It gets its name only when its zeros are durable: a flush that failed once cannot be made good by another, so
    // the next process must not take over a file whose flush may have failed.
    let made = fill(&*file, bytes, is_hurried).and_then(|bytes| {
        disk.rename(&unfinished, &name)?;
        disk.sync_dir()?;
        Ok(bytes)
    });
    if made.is_err() {
        // A disk that is full must not stay full because of half a blank file.
        drop(disk.remove(&unfinished));
    }
    Ok(Prepared { file, bytes: made? })
}

fn reuse(disk: &dyn Disk, spare: &str, name: &str, bytes: u64) -> io::Result<Prepared> {
    disk.rename(spare, name)?;
    disk.sync_dir()?;
    Ok(Prepared { file: disk.open(name)?, bytes })
}

fn remove_if_there(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn fill(file: &dyn DiskFile, bytes: u64, is_hurried: &AtomicBool) -> io::Result<u64> {
    let zeros = vec![0; STEP_BYTES.min(bytes) as usize];
    let mut filled = 0;
    while filled < bytes && !(filled >= HURRIED_BYTES_MIN && is_hurried.load(Ordering::Acquire)) {
        let step = STEP_BYTES.min(bytes - filled);
        file.write_at(&zeros[..step as usize], filled)?;
        // Step by step, so that the flush of a group never queues behind a whole segment of zeros.
        file.sync_data()?;
        filled += step;
    }
    Ok(filled)
}

fn is_blank(disk: &dyn Disk, name: &str) -> io::Result<bool> {
    match disk.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
        Ok(file) => Ok(read_up_to(&*file, HEADER_BYTES)?.iter().all(|byte| *byte == 0)),
    }
}
