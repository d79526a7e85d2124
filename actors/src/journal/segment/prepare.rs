//! The segment one ahead, made beside the writer so that beginning a segment waits for nothing: the file of a deleted
//! one, or a new one that is zero-filled and flushed, so that flushing a group need not write metadata.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use super::super::{
    disk::{Disk, DiskFile, read_up_to},
    storage::SegmentId,
};
use super::{
    file::{name_of, spare_name_of, unfinished_name_of},
    format::{HEADER_BYTES, NoHeader, PreparedHeader, SegmentHeader},
};

// A writer that stands waiting gets what is zeroed so far at the end of a step.
const STEP_BYTES: u64 = 1 << 20;
// Shorter segments would make the writer wait again too soon.
const HURRIED_BYTES_MIN: u64 = 4 << 20;

/// A file under its final name that begins with what stands in place of the header, and zeros where its first group
/// will begin; both durably.
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
    // Nothing may begin any more: the directory's lock is about to be given back.
    Closed,
    Busy,
    Ready(SegmentId, Prepared),
}

struct Shared {
    slot: Mutex<Slot>,
    // The newest segment that was taken. Whoever starts late must not touch its file.
    taken: AtomicU32,
    changed: Condvar,
    is_hurried: AtomicBool,
}

/// Prepares one segment at a time.
pub(super) struct Preparer(Starter);

/// Begins to prepare, on whatever thread a flush returns.
#[derive(Clone)]
pub(super) struct Starter {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    rack: [u8; 16],
    spare: Arc<Spare>,
    shared: Arc<Shared>,
}

impl Preparer {
    pub(super) fn new(disk: Arc<dyn Disk>, segment_bytes: u64, rack: [u8; 16], spare: Arc<Spare>) -> Preparer {
        let shared = Shared {
            slot: Mutex::new(Slot::Empty),
            taken: AtomicU32::new(0),
            changed: Condvar::new(),
            is_hurried: AtomicBool::new(false),
        };
        Preparer(Starter { disk, segment_bytes, rack, spare, shared: Arc::new(shared) })
    }

    pub(super) fn starter(&self) -> Starter {
        self.0.clone()
    }

    /// Takes over a prepared file that an earlier process left.
    pub(super) fn adopt(&self, id: SegmentId, prepared: Prepared) {
        *self.0.shared.lock() = Slot::Ready(id, prepared);
    }

    /// Length of the segment that stands ready, if one does.
    pub(super) fn ready_bytes(&self) -> Option<u64> {
        match &*self.0.shared.lock() {
            Slot::Ready(_, prepared) => Some(prepared.bytes),
            Slot::Empty | Slot::Busy | Slot::Closed => None,
        }
    }

    /// As [`Starter::start`].
    pub(super) fn start(&self, id: SegmentId, epoch: u64) {
        self.0.start(id, epoch);
    }

    /// The prepared segment `id`; makes it now when it is not there, and has it say that `epoch` is durable.
    pub(super) fn take(&self, id: SegmentId, epoch: u64) -> io::Result<Prepared> {
        match self.wait(Slot::Empty, id) {
            Slot::Ready(ready, prepared) if ready == id => Ok(prepared),
            // A caller gets here that fills a segment before anything in it is flushed, or that skipped an id; the file
            // which that left is blank and goes at the next start.
            _ => {
                let header = PreparedHeader { rack: self.0.rack, id, epoch };
                make(&*self.0.disk, &header, self.0.segment_bytes, &self.0.spare, &AtomicBool::new(true))
            }
        }
    }

    // What the slot holds once no work is under way; hurries the work. Nobody starts `taken` from here on.
    fn wait(&self, then: Slot, taken: SegmentId) -> Slot {
        let shared = &self.0.shared;
        shared.is_hurried.store(true, Ordering::Release);
        let mut slot = shared.lock();
        while matches!(*slot, Slot::Busy) {
            slot = shared.changed.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
        shared.taken.fetch_max(taken, Ordering::AcqRel);
        std::mem::replace(&mut *slot, then)
    }
}

impl Starter {
    /// Begins to prepare segment `id`, unless one is there or under way. Its file says that `epoch` is durable.
    pub(super) fn start(&self, id: SegmentId, epoch: u64) {
        let mut slot = self.shared.lock();
        if !matches!(*slot, Slot::Empty) || self.shared.taken.load(Ordering::Acquire) >= id {
            return;
        }
        *slot = Slot::Busy;
        drop(slot);
        self.shared.is_hurried.store(false, Ordering::Release);
        let (disk, segment_bytes, shared) = (self.disk.clone(), self.segment_bytes, self.shared.clone());
        let (spare, header) = (self.spare.clone(), PreparedHeader { rack: self.rack, id, epoch });
        let work = move || {
            // Should the work panic, whoever waits must not wait for ever.
            let mut done = Done { shared: &shared, slot: Some(Slot::Empty) };
            match make(&*disk, &header, segment_bytes, &spare, &shared.is_hurried) {
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
}

impl Drop for Preparer {
    // The directory's lock is given back after this: no thread of ours may still write there then.
    fn drop(&mut self) {
        drop(self.wait(Slot::Closed, SegmentId::MAX));
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

fn make(
    disk: &dyn Disk,
    header: &PreparedHeader,
    bytes: u64,
    spare: &Spare,
    is_hurried: &AtomicBool,
) -> io::Result<Prepared> {
    let (name, unfinished) = (name_of(header.id), unfinished_name_of(header.id));
    // What an earlier attempt left. A segment that is not blank stays, for safety, and makes this one fail.
    remove_if_there(disk, &unfinished)?;
    if is_blank(disk, &name)? {
        remove_if_there(disk, &name)?;
    }
    if let Some((older, bytes)) = spare.take() {
        match reuse(disk, &spare_name_of(older), header, bytes) {
            Err(error) => {
                tracing::warn!(segment = header.id, %error, "file of a deleted journal segment not used again");
            }
            reused => return reused,
        }
        remove_if_there(disk, &name)?;
    }
    let file = disk.create_new(&unfinished)?;
    // It gets its name only when its zeros are durable: a flush that failed once cannot be made good by another, so
    // the next process must not take over a file whose flush may have failed.
    let made = fill(&*file, header, bytes, is_hurried).and_then(|bytes| {
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

fn reuse(disk: &dyn Disk, spare: &str, header: &PreparedHeader, bytes: u64) -> io::Result<Prepared> {
    let file = disk.open(spare)?;
    let mut head = vec![0; HEADER_BYTES as usize];
    header.encode(&mut head);
    file.write_at(&head, 0)?;
    file.sync_data()?;
    disk.rename(spare, &name_of(header.id))?;
    disk.sync_dir()?;
    Ok(Prepared { file, bytes })
}

fn remove_if_there(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn fill(file: &dyn DiskFile, header: &PreparedHeader, bytes: u64, is_hurried: &AtomicBool) -> io::Result<u64> {
    let mut zeros = vec![0; STEP_BYTES.min(bytes).max(HEADER_BYTES) as usize];
    header.encode(&mut zeros[..HEADER_BYTES as usize]);
    let mut filled = 0;
    while filled < bytes && !(filled >= HURRIED_BYTES_MIN && is_hurried.load(Ordering::Acquire)) {
        let step = STEP_BYTES.min(bytes - filled);
        file.write_at(&zeros[..step as usize], filled)?;
        // Step by step, so that the flush of a group never queues behind a whole segment of zeros.
        file.sync_data()?;
        if filled == 0 {
            zeros[..HEADER_BYTES as usize].fill(0);
        }
        filled += step;
    }
    Ok(filled)
}

fn is_blank(disk: &dyn Disk, name: &str) -> io::Result<bool> {
    match disk.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
        Ok(file) => {
            let header = SegmentHeader::decode(&read_up_to(&*file, HEADER_BYTES)?);
            Ok(matches!(header, Err(NoHeader::Blank | NoHeader::Prepared(_))))
        }
    }
}
