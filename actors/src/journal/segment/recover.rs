//! Opening a journal: lock, key, everything that counts, and where the next segment begins.
//! Reads everything before it changes anything.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, RwLock},
};

use bytes::Bytes;

use super::super::{
    disk::Disk,
    lock,
    seal::{KEY_FILE, RackKey},
    storage::{GroupAt, SegmentId, StorageError},
};
use super::{
    OpenError, OpenOptions, SEGMENT_BYTES_MIN, SegmentStorage, Shared,
    file::name_of,
    owner::{check_is_journal, leave_name},
    prepare::{Prepared, Preparer, Spare},
    survey::{Found, Listing, Survey, list, load_key},
};

/// A group that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredGroup {
    /// The last epoch it covers.
    pub epoch: u64,
    /// The term in which it was written.
    pub term: u64,
    /// The flushed mark when it was written.
    pub flushed: u64,
    /// The oldest segment it names.
    pub oldest: SegmentId,
    /// Where it begins. Of an unproven group this place stays readable while this process lives, and is void for the
    /// next one as soon as the group that merges it is whole: take the body's place from that group.
    pub at: GroupAt,
    /// Its body; a slice of the segment as it was read, so keeping it keeps the whole segment in memory.
    pub body: Bytes,
    /// A later group's mark or a later segment's header proves that it was durable.
    pub proven: bool,
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Groups shown.
    pub groups: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// The last group's epoch; the next group's must be above it.
    pub last_epoch: u64,
    /// Every epoch up to this one is proven to be durable: the flushed mark of the first group to append.
    pub proven_epoch: u64,
    /// The segment that the last group names as the oldest with anything alive; 0 when there is no group.
    pub oldest: SegmentId,
    /// The tail that was cut, if any.
    pub torn: Option<Torn>,
    /// Segment files that do not count. They go with the next trim beyond them.
    pub unused: Vec<Unused>,
}

/// A tail that a crash left, which nothing claims to have been durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment's file.
    pub file: String,
    /// Where the tail begins.
    pub offset: u64,
    /// How far it reaches, in bytes.
    pub bytes: u64,
    /// What is wrong with its first group.
    pub why: String,
}

/// A segment file that does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    /// The file.
    pub file: String,
    /// Why it does not count.
    pub why: &'static str,
}

/// Opens the journal of a directory, shows every group that counts in order, and is then ready to append.
///
/// The first group appended afterwards begins a new segment and must merge everything above
/// [`Recovery::proven_epoch`]; only when that is flushed may what was unproven be trusted.
///
/// # Errors
/// See [`OpenError`]. Nothing was changed then; groups shown before the error must be forgotten.
pub fn open(
    disk: Arc<dyn Disk>,
    options: OpenOptions,
    visit: &mut dyn FnMut(RecoveredGroup) -> Result<(), StorageError>,
) -> Result<(SegmentStorage, Recovery), OpenError> {
    if options.segment_bytes < SEGMENT_BYTES_MIN {
        let expected = "at least 65536";
        return Err(OpenError::Option { option: "segment_bytes", found: options.segment_bytes, expected });
    }
    // Before the lock, which is a file too.
    check_is_journal(&*disk, &list(&*disk)?)?;
    let lock = lock::acquire(&*disk, &options.holder)
        .map_err(|error| OpenError::io(lock::LOCK_FILE, "take the lock", error))?
        .map_err(|holder| OpenError::Locked { dir: disk.label(), holder })?;
    let listing = list(&*disk)?;
    if listing.is_on_stream {
        return Err(OpenError::OnStream { dir: disk.label() });
    }
    let key = match load_key(&*disk)? {
        Some(key) => key,
        None if listing.segments.is_empty() && listing.quarantined.is_empty() => {
            RackKey::create(&*disk).map_err(|error| OpenError::io(KEY_FILE, "make the key", error))?
        }
        None => {
            let segments = listing.segments.len() + listing.quarantined.len();
            return Err(OpenError::KeyMissing { dir: disk.label(), segments });
        }
    };
    let mut survey =
        Survey { disk: &disk, rack: options.rack, rack_name: &options.rack_name, key: &key, listing: &listing };
    let found = survey.run(visit)?;
    let ready = Ready { lock, key, listing };
    finish(disk, options, ready, found)
}

struct Ready {
    lock: lock::DirLock,
    key: RackKey,
    listing: Listing,
}

fn finish(
    disk: Arc<dyn Disk>,
    options: OpenOptions,
    ready: Ready,
    found: Found,
) -> Result<(SegmentStorage, Recovery), OpenError> {
    let Ready { lock, key, listing } = ready;
    let Found { recovery, base, readable, mut blank } = found;
    let newest = listing.segments.iter().chain(&listing.quarantined).copied().max().unwrap_or(0);
    leave_name(&*disk, &options.rack_name);
    let spare = Arc::new(Spare::default());
    let preparer = Preparer::new(disk.clone(), options.segment_bytes, options.rack, spare.clone());
    // The newest file, if blank, was prepared for the next segment; nothing was ever sealed under its number.
    let mut next = newest + 1;
    if blank.first() == Some(&newest) && newest > 0 {
        let name = name_of(newest);
        let file = disk.open(&name).map_err(|error| OpenError::io(&name, "open a segment", error))?;
        let bytes = file.len().map_err(|error| OpenError::io(&name, "measure a segment", error))?;
        if bytes >= SEGMENT_BYTES_MIN.min(options.segment_bytes) {
            // It has its name, so its zeros are durable; the name itself perhaps not yet. What stands behind them, if
            // it was an older segment's file, is nobody's.
            disk.sync_dir().map_err(|error| OpenError::io(&name, "flush the directory", error))?;
            next = newest;
            preparer.adopt(newest, Prepared { file, bytes });
            blank.remove(0);
        }
    }
    for name in blank.iter().map(|id| name_of(*id)).chain(listing.unfinished.iter().cloned()) {
        disk.remove(&name).map_err(|error| OpenError::io(&name, "remove a blank segment", error))?;
    }
    let mut files = BTreeMap::new();
    for id in listing.segments.iter().filter(|id| **id != next && !blank.contains(id)) {
        let name = name_of(*id);
        let len = disk.open(&name).and_then(|file| file.len());
        files.insert(*id, len.map_err(|error| OpenError::io(&name, "measure a segment", error))?);
    }
    // Begun now, so that the first append finds it.
    preparer.start(next, recovery.proven_epoch);
    let shared = Shared {
        disk: disk.clone(),
        readable: RwLock::new(readable),
        own_from: next,
        files: Mutex::new(files),
        spare,
        spare_bytes: options.segment_bytes,
    };
    let storage = SegmentStorage {
        disk,
        options,
        key,
        shared: Arc::new(shared),
        preparer,
        writing: None,
        is_next_begun: true,
        next,
        base,
        above: VecDeque::new(),
        last_epoch: recovery.last_epoch,
        may_repeat: false,
        durable_epoch: recovery.proven_epoch,
        scratch: Vec::new(),
        _lock: lock,
    };
    Ok((storage, recovery))
}
