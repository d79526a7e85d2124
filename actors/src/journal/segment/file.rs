//! One segment's file while the process runs: what may still be done with it, shared by writer, flushers and readers.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;

use super::super::{
    disk::DiskFile,
    seal::SegmentKey,
    storage::{GroupAt, SegmentId, StorageError},
};
use super::format::{self, GROUP_HEADER_BYTES, HEADER_BYTES, NoGroup};

const NAME_SUFFIX: &str = ".seg";
pub(super) const UNFINISHED_SUFFIX: &str = ".next";
pub(super) const SPARE_SUFFIX: &str = ".spare";
pub(super) const QUARANTINE_SUFFIX: &str = ".quarantined";

/// Name of a segment's file.
pub(super) fn name_of(id: SegmentId) -> String {
    format!("{id:08x}{NAME_SUFFIX}")
}

/// Name of a segment's file until its zeros are durable.
pub(super) fn unfinished_name_of(id: SegmentId) -> String {
    format!("{id:08x}{UNFINISHED_SUFFIX}")
}

/// Name of the file of a deleted segment, kept for the next one.
pub(super) fn spare_name_of(id: SegmentId) -> String {
    format!("{id:08x}{SPARE_SUFFIX}")
}

/// The segment a file name means.
pub(super) fn id_of(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(NAME_SUFFIX)?;
    // One segment, one name: capitals or a sign would be a second one.
    let id = SegmentId::from_str_radix(digits, 16).ok().filter(|id| *id > 0)?;
    (name == name_of(id)).then_some(id)
}

/// A segment that can be read, and perhaps written.
pub(super) struct SegmentFile {
    pub(super) id: SegmentId,
    pub(super) name: String,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) key: SegmentKey,
    // Nothing from here on counts; only `replace` lowers it.
    void_from: AtomicU64,
    is_final: AtomicBool,
    durable_epoch: AtomicU64,
    // Flushes of one file run one after the other: the system reports a failure to one caller only, so a flush beside
    // the one that failed would wrongly succeed.
    flushing: Mutex<()>,
}

impl SegmentFile {
    pub(super) fn new(id: SegmentId, file: Arc<dyn DiskFile>, key: SegmentKey) -> SegmentFile {
        SegmentFile {
            id,
            name: name_of(id),
            file,
            key,
            void_from: AtomicU64::new(u64::MAX),
            is_final: AtomicBool::new(false),
            durable_epoch: AtomicU64::new(0),
            flushing: Mutex::new(()),
        }
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), StorageError> {
        self.check_writable()?;
        self.file.write_at(bytes, offset).map_err(|error| {
            self.give_up();
            StorageError::io(&self.name, "write a group", error)
        })
    }

    /// Makes everything written so far durable, which is known to reach up to `epoch` at least.
    pub(super) fn flush(&self, epoch: u64) -> Result<(), StorageError> {
        let _alone = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_writable()?;
        self.file.sync_data().map_err(|error| {
            self.give_up();
            StorageError::io(&self.name, "flush", error)
        })?;
        self.durable_epoch.fetch_max(epoch, Ordering::AcqRel);
        Ok(())
    }

    /// The last epoch a flush of this file covered; 0 for none.
    pub(super) fn durable_epoch(&self) -> u64 {
        self.durable_epoch.load(Ordering::Acquire)
    }

    /// Nothing more is written or flushed.
    pub(super) fn give_up(&self) {
        self.is_final.store(true, Ordering::Release);
    }

    pub(super) fn make_void_from(&self, offset: u64) {
        self.void_from.fetch_min(offset, Ordering::AcqRel);
    }

    /// A write or flush of it failed, or it was given up.
    pub(super) fn is_final(&self) -> bool {
        self.is_final.load(Ordering::Acquire)
    }

    pub(super) fn check_writable(&self) -> Result<(), StorageError> {
        if self.is_final() {
            return Err(StorageError::Final { file: self.name.clone() });
        }
        Ok(())
    }

    pub(super) fn read(&self, at: GroupAt) -> Result<Bytes, StorageError> {
        if at.offset >= self.void_from.load(Ordering::Acquire) {
            return Err(StorageError::Void { at });
        }
        let read = |buf: &mut [u8], offset| {
            self.file.read_at(buf, offset).map_err(|error| StorageError::io(&self.name, "read a group", error))
        };
        let mut raw = vec![0; FIRST_READ_BYTES];
        let got = read(&mut raw, at.offset)?;
        let len = match format::group_len(&raw[..got]) {
            Ok(len) if at.offset >= HEADER_BYTES => len,
            Ok(_) | Err(NoGroup::End) => return Err(self.damaged(at, "no group")),
            Err(no_group) => return Err(self.damaged(at, &describe(&no_group))),
        };
        if len > got {
            raw.resize(len, 0);
            let more = read(&mut raw[got..], at.offset + got as u64)?;
            raw.truncate(got + more);
        } else {
            raw.truncate(len);
        }
        match format::open_group(&mut raw, self.id, &self.key, at.offset) {
            Ok((header, _)) => {
                let body = GROUP_HEADER_BYTES..GROUP_HEADER_BYTES + header.body_bytes as usize;
                Ok(Bytes::from(raw).slice(body))
            }
            Err(no_group) => Err(self.damaged(at, &describe(&no_group))),
        }
    }

    fn damaged(&self, at: GroupAt, found: &str) -> StorageError {
        StorageError::Damaged {
            file: self.name.clone(),
            offset: at.offset,
            found: found.to_owned(),
            expected: "the group that was written there".to_owned(),
        }
    }
}

// Most groups at a low rate fit, and a page read costs the same as its first line.
const FIRST_READ_BYTES: usize = 4096;

pub(super) fn describe(no_group: &NoGroup) -> String {
    match no_group {
        NoGroup::End => "zeros".to_owned(),
        NoGroup::Torn(found) => found.clone(),
        NoGroup::Older(id) => format!("a group of segment {id:08x}, whose file this was"),
        NoGroup::Forged => "a group that this segment's key did not seal for this place".to_owned(),
    }
}
