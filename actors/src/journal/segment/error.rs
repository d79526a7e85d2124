//! Why a journal does not open, and what damage looks like.

use std::{fmt, io};

use super::super::{
    lock::Holder,
    storage::{SegmentId, StorageError, is_full},
};

/// One place where the journal is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment's file.
    pub file: String,
    /// The segment; giving up begins with it.
    pub segment: SegmentId,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is there.
    pub found: String,
    /// What should be there.
    pub expected: String,
    /// The last epoch before the damage; what came after it is lost if the damage stays. 0 when that is not known here.
    pub last_epoch: u64,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { file, offset, found, expected, last_epoch, .. } = self;
        write!(f, "{file}+{offset}: found {found}, expected {expected}")?;
        match last_epoch {
            0 => Ok(()),
            epoch => write!(f, "; whole up to epoch {epoch}"),
        }
    }
}

/// Why a journal does not open. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the directory.
    #[error(
        "{dir}: the journal is in use by {holder}, expected to be the only one; remedy: stop that process or use another data directory"
    )]
    Locked {
        /// The directory.
        dir: String,
        /// Who has it.
        holder: Holder,
    },
    /// Another rack's journal.
    #[error(
        "{dir}/{file}: found a journal of rack {found}, expected one of rack {expected}; remedy: name the data directory of rack {expected} with `--data-dir`, each rack has one of its own"
    )]
    ForeignRack {
        /// The directory.
        dir: String,
        /// The segment's file.
        file: String,
        /// The rack it names: by its name where that is known, else by its id in hexadecimal.
        found: String,
        /// Ours.
        expected: String,
    },
    /// A directory with other people's files in it, and no journal.
    #[error(
        "{dir}: found no journal but other files (`{file}`), expected a journal or an empty directory; remedy: name the right data directory with `--data-dir`"
    )]
    NoJournal {
        /// The directory.
        dir: String,
        /// One of them.
        file: String,
    },
    /// A directory whose journal is on a stream.
    #[error(
        "{dir}/stream.mark: found a journal on a stream, expected one on files; remedy: start the rack with its journal on that stream, or name another data directory; `fluxrig journal verify SCENARIO` looks at the stream, what it holds is not in this directory"
    )]
    OnStream {
        /// The directory.
        dir: String,
    },
    /// Written by newer code.
    #[error(
        "{file}: found format version {found}, expected at most {expected}; remedy: start the newer `fluxrig` that wrote it; nothing was changed"
    )]
    NewerFormat {
        /// The segment's file.
        file: String,
        /// Its version.
        found: u32,
        /// The newest this code reads.
        expected: u32,
    },
    /// Segments without the key that opens them.
    #[error(
        "{dir}/rack.key: absent although there are {segments} segments, expected the key that seals them; remedy: put the key file back from a copy; without it nothing of this journal can be read, and a rack can only begin anew in another data directory"
    )]
    KeyMissing {
        /// The directory.
        dir: String,
        /// How many segments there are.
        segments: usize,
    },
    /// A key file that is none.
    #[error(
        "{dir}/rack.key: found {found}, expected 32 bytes; remedy: put the right key file back from a copy; without it nothing of this journal can be read"
    )]
    KeyInvalid {
        /// The directory.
        dir: String,
        /// What it is.
        found: String,
    },
    /// Another key than the one that seals the segments.
    #[error(
        "{file}: found it sealed under key {expected}, but rack.key is key {found}; remedy: put the right key file back from a copy; should other segments fit rack.key, this file is not of this journal: take it away"
    )]
    KeyWrong {
        /// The segment's file.
        file: String,
        /// Id of the key in the key file, in hexadecimal.
        found: String,
        /// Id of the key that the segment names.
        expected: String,
    },
    /// The directory cannot be written.
    #[error(
        "{file}: the directory is read-only, expected to be able to {action}; remedy: mount it writable or give the process the right to write; `fluxrig journal verify` can look at it as it is"
    )]
    ReadOnly {
        /// The file concerned.
        file: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No room on the disk.
    #[error("{file}: no room left while trying to {action}; remedy: free space on the disk of the data directory")]
    Full {
        /// The file concerned.
        file: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system refused.
    #[error(
        "{file}: found the system failing to {action}, expected it to work; remedy: see the system's log about the disk, then try again; nothing was changed"
    )]
    Io {
        /// The file concerned.
        file: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something that was flushed is not there as it was written.
    #[error(
        "{0}; remedy: put the file back from a copy, or give up what is behind the damage: `fluxrig journal verify` says what that is, `fluxrig journal repair` does it"
    )]
    Damaged(Damage),
    /// The one to whom groups are shown refused one.
    #[error(transparent)]
    Visit(#[from] StorageError),
    /// An option that makes no sense.
    #[error("{option}: {found} found, {expected} expected; remedy: change the option")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        found: u64,
        /// What it may be.
        expected: &'static str,
    },
}

impl OpenError {
    /// Wraps what the system said under the name an operator acts upon.
    pub(in crate::journal) fn io(file: &str, action: &'static str, source: io::Error) -> OpenError {
        let file = file.to_owned();
        match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                OpenError::ReadOnly { file, action, source }
            }
            _ if is_full(&source) => OpenError::Full { file, action, source },
            _ => OpenError::Io { file, action, source },
        }
    }
}
