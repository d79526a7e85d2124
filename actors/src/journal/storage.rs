//! The seam between the journal and whatever keeps its groups: append, flush, replace, read back, trim.
//! Knows nothing of files, wires or encodings; a group's body is bytes to it.

use std::{fmt, future::Future, io, pin::Pin, sync::Arc};

use bytes::Bytes;

/// Number of a segment: from 1 upwards, never reused. 0 means "none".
pub type SegmentId = u32;

/// A future boxed once per group, never per message.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Work that another thread may do on behalf of a storage.
pub type Task<T> = Box<dyn FnOnce() -> Result<T, StorageError> + Send>;

/// Where a group begins, for reading its body back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupAt {
    /// The segment that holds the group.
    pub segment: SegmentId,
    /// Offset of the group's header in that segment, in bytes.
    pub offset: u64,
}

impl fmt::Display for GroupAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}+{}", self.segment, self.offset)
    }
}

/// One group to append: the delta of the wires of one or more epochs, valid whole or not at all.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// The last epoch the group covers; strictly rising from group to group. The first group after `replace` may
    /// repeat the last epoch that was appended before, since it merges the same deltas.
    pub epoch: u64,
    /// The flushed mark at the moment of writing: every epoch up to it is durable in this storage.
    pub flushed: u64,
    /// Segments before this one hold nothing alive once this group is durable.
    pub oldest: SegmentId,
    /// The encoded delta. It is sealed into a buffer of the storage's own, so the caller still has it if that fails.
    pub body: &'a [u8],
}

/// What a storage holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of every segment on disk, the one prepared ahead included.
    pub bytes: u64,
    /// Number of segments on disk, the one prepared ahead included.
    pub segments: usize,
    /// The oldest segment still on disk.
    pub oldest: SegmentId,
    /// The segment into which the next append goes.
    pub newest: SegmentId,
    /// Bytes free on the file system, where that is known.
    pub free_bytes: Option<u64>,
}

/// Keeps groups. One writer owns it; readers and background work are handed out as values of their own.
pub trait Storage: Send {
    /// The segment into which the next append goes. Known before the append, because the caller notes it inside its
    /// cut.
    fn current(&self) -> SegmentId;

    /// Writes one group and returns where it begins. It is then *written* (page cache), not durable.
    ///
    /// # Errors
    /// After any error but [`StorageError::Order`] and [`StorageError::TooLarge`] the segment is final: call `replace`.
    fn append<'a>(&'a mut self, group: Group<'a>) -> BoxFuture<'a, Result<GroupAt, StorageError>>;

    /// Whether the next `append` and `flush` take no more than a write and a flush of the disk: they begin no segment,
    /// and their futures are ready when they are first polled. Only then may they be called where nobody may wait.
    fn is_prompt(&self) -> bool {
        false
    }

    /// Whether it is time to say that the writer is still here; never where nobody listens.
    fn is_renewal_due(&self) -> bool {
        false
    }

    /// Says so.
    ///
    /// # Errors
    /// As for `append`.
    fn renew(&mut self) -> BoxFuture<'_, Result<(), StorageError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Says that the writer goes and starts nothing any more, so that nobody waits for its lease. Nothing may be written
    /// afterwards.
    ///
    /// # Errors
    /// As for `append`; whoever follows then waits, and nothing else is lost.
    fn leave(&mut self) -> BoxFuture<'_, Result<(), StorageError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// Any error makes the segment final: call `replace`.
    fn flush(&mut self) -> BoxFuture<'_, Result<(), StorageError>>;

    /// The same as `flush` for everything appended up to now, for another thread; yields the epoch that is durable.
    /// An error makes the segment final, whichever thread meets it.
    fn flusher(&self) -> Task<u64>;

    /// Gives up the current segment after a failed append or flush, without ever reading it back, and begins another.
    /// What lies behind `durable_epoch` is void once the first group of the new segment is whole; that group must merge
    /// every delta above `durable_epoch`.
    ///
    /// # Errors
    /// When there is no room for a new segment, or the disk still fails: call it again later.
    fn replace(&mut self, durable_epoch: u64) -> BoxFuture<'_, Result<(), StorageError>>;

    /// A handle that reads bodies back from any thread.
    fn reader(&self) -> Arc<dyn Reader>;

    /// Destroys every segment below `oldest` and returns how many; refused unless a durable group names that oldest.
    ///
    /// # Errors
    /// When a file cannot be destroyed; what is left is tried again by the next call.
    fn trim(&mut self, oldest: SegmentId) -> Result<usize, StorageError> {
        self.trimmer(oldest)()
    }

    /// The same as `trim`, for another thread, since destroying a file waits for the disk several times.
    fn trimmer(&self, oldest: SegmentId) -> Task<usize>;

    /// What is on disk now.
    fn usage(&self) -> Usage;

    /// Gives back what is on disk only to be faster later: room has become scarce.
    fn release(&mut self) {}
}

/// Reads bodies back.
pub trait Reader: Send + Sync {
    /// The body of the group that begins at `at`, checked and opened.
    ///
    /// # Errors
    /// When the segment is gone or void, cannot be read, or does not hold a whole group there.
    fn read(&self, at: GroupAt) -> Result<Bytes, StorageError>;
}

/// What a storage cannot do, and what to do then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// No room on the disk.
    #[error(
        "{file}: no room left while trying to {action}; remedy: free space on the disk of the data directory, the journal goes on by itself"
    )]
    Full {
        /// The file concerned.
        file: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system refused a read, write or flush.
    #[error("{file}: the system failed to {action}; remedy: check the disk, the journal goes on in a new segment")]
    Io {
        /// The file concerned.
        file: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An earlier failure made the segment final.
    #[error(
        "{file}: an earlier write or flush failed, so nothing more is written to it; remedy: begin a new segment with `replace`"
    )]
    Final {
        /// The file concerned.
        file: String,
    },
    /// What was read is not what was written.
    #[error("{file}+{offset}: found {found}, expected {expected}; remedy: run `fluxrig journal verify`")]
    Damaged {
        /// The file concerned.
        file: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
    },
    /// The group was given up by `replace`.
    #[error(
        "{at}: the group is void since its segment was replaced, expected one that counts; remedy: take the body from the group that merged it"
    )]
    Void {
        /// The group asked for.
        at: GroupAt,
    },
    /// The segment was trimmed, or never was.
    #[error("{at}: there is no segment {}, expected one between the oldest and the newest; remedy: carry bodies forward before trimming", at.segment)]
    Gone {
        /// The group asked for.
        at: GroupAt,
    },
    /// A body beyond the limit.
    #[error("group: {bytes} bytes found, at most {bytes_max} expected; remedy: lower `unflushed_bytes_max`")]
    TooLarge {
        /// Size of the body.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The caller broke the order of epochs, marks or segments. Nothing was written.
    #[error("{what}: {found} found, {expected} expected; remedy: this is a mistake in the caller, report it")]
    Order {
        /// Which number is wrong.
        what: &'static str,
        /// Its value.
        found: u64,
        /// What it may be.
        expected: String,
    },
    /// A stream does not answer. What was sent to it may be stored or not.
    #[error(
        "stream {stream}: found no answer while trying to {action} ({reason}), expected one; remedy: bring the server back, the journal goes on by itself"
    )]
    Unreachable {
        /// The stream.
        stream: String,
        /// What was tried.
        action: &'static str,
        /// What is known.
        reason: String,
    },
    /// No room in a stream.
    #[error(
        "stream {stream}: found no room for a group ({reason}), expected some; remedy: raise the stream's or the account's limit, or free the server's disk; the journal goes on by itself"
    )]
    StreamFull {
        /// The stream.
        stream: String,
        /// What the server says.
        reason: String,
    },
    /// A stream has lost what it had acked.
    #[error(
        "stream {stream}: found it to end at sequence {found}, expected {acked} at least, which was acked; remedy: bring the server back with its whole store, the journal goes on by itself; or stop the rack and start it with the loss accepted"
    )]
    Rewound {
        /// The stream.
        stream: String,
        /// Its last sequence.
        found: u64,
        /// The last that was acked.
        acked: u64,
    },
    /// Another process writes this journal.
    #[error(
        "stream {stream}: found another writer with term {found}, expected to be the only one with term {term}; remedy: none, this rack has been taken over and stops; start it again as a stand-by"
    )]
    Fenced {
        /// The stream.
        stream: String,
        /// The term of the other.
        found: u64,
        /// Ours.
        term: u64,
    },
    /// The one to whom recovered groups are shown refused one.
    #[error("{at}: the recovered group was refused: {reason}; remedy: run `fluxrig journal verify` and report it")]
    Refused {
        /// The group that was shown.
        at: GroupAt,
        /// What the visitor says.
        reason: String,
    },
}

impl StorageError {
    /// Wraps what the system said, telling a full disk from a broken one.
    pub(super) fn io(file: &str, action: &'static str, source: io::Error) -> StorageError {
        let file = file.to_owned();
        if is_full(&source) {
            StorageError::Full { file, action, source }
        } else {
            StorageError::Io { file, action, source }
        }
    }

    /// Whether there is merely no room, so that trying again later makes sense.
    pub fn is_full(&self) -> bool {
        matches!(self, StorageError::Full { .. } | StorageError::StreamFull { .. })
    }

    /// Whether nobody answers, so that trying again later makes sense.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, StorageError::Unreachable { .. })
    }

    /// Whether another process writes this journal, so that nothing of this one counts any more.
    pub fn is_fenced(&self) -> bool {
        matches!(self, StorageError::Fenced { .. })
    }
}

/// Whether the system says that there is no room, on the file system or for this user.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}
