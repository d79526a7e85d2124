//! Why a journal on a stream does not open.

use super::super::segment::OpenError;
use super::super::storage::StorageError;
use super::log::LogError;

/// Why a journal on a stream does not open. Nothing was changed in the stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamOpenError {
    /// The data directory, which holds lock and key, does not open.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// The stream does not answer, or is not as it should be.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The directory holds a journal on files.
    #[error(
        "{dir}: found a journal on files, expected none beside one on a stream; remedy: drain the rack with its journal on files and give the stream another data directory, or keep the journal on files"
    )]
    OnFiles {
        /// The directory.
        dir: String,
    },
    /// The stream is another rack's.
    #[error(
        "stream {stream}: found a journal of rack {found}, expected one of rack {expected}; remedy: name this rack as the stream's, each rack has one of its own"
    )]
    ForeignRack {
        /// The stream.
        stream: String,
        /// The id it names, in hexadecimal.
        found: String,
        /// Ours.
        expected: String,
    },
    /// Written by newer code.
    #[error(
        "stream {stream}: found format version {found} at sequence {seq}, expected at most {expected}; remedy: start the newer `fluxrig` that wrote it; nothing was changed"
    )]
    NewerFormat {
        /// The stream.
        stream: String,
        /// Where in it.
        seq: u64,
        /// Its version.
        found: u32,
        /// The newest this code reads.
        expected: u32,
    },
    /// A stream without the key that opens it.
    #[error(
        "{dir}/rack.key: absent although stream {stream} holds groups, expected the key that seals them; remedy: copy the key file from the data directory of the rack that wrote them, or from a backup; without it nothing of this journal can be read"
    )]
    KeyMissing {
        /// The directory.
        dir: String,
        /// The stream.
        stream: String,
    },
    /// A stand-by without the key of the rack whose place it is to take.
    #[error(
        "{dir}/rack.key: found none, expected the key of the rack whose place this stand-by takes; remedy: copy `rack.key` from the folder of the holder's journal into this one, readable by its owner only"
    )]
    StandbyKeyMissing {
        /// The directory.
        dir: String,
    },
    /// Another key than the one that seals the groups.
    #[error(
        "stream {stream}: found segment {segment:08x} sealed under key {expected}, but rack.key is key {found}; remedy: copy the key file from the data directory of the rack that wrote it"
    )]
    KeyWrong {
        /// The stream.
        stream: String,
        /// The segment.
        segment: u32,
        /// Id of the key in the key file, in hexadecimal.
        found: String,
        /// Id of the key that the segment names.
        expected: String,
    },
    /// The stream is not what was written to it.
    #[error(
        "stream {stream}: found {found} at sequence {seq}, expected {expected}; remedy: bring the stream back from a backup or another replica; what is whole ends at epoch {last_epoch}, and nothing was changed"
    )]
    Damaged {
        /// The stream.
        stream: String,
        /// Where in it.
        seq: u64,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
        /// The last epoch before it.
        last_epoch: u64,
    },
    /// The stream has lost its end.
    #[error(
        "stream {stream}: found it to end at sequence {found} and epoch {found_epoch}, expected sequence {acked} and epoch {acked_epoch}, which were acked; remedy: bring the server back with its whole store, or accept the loss of what is missing (`accept_lost_tail`)"
    )]
    Shorter {
        /// The stream.
        stream: String,
        /// Its last sequence.
        found: u64,
        /// Its last epoch.
        found_epoch: u64,
        /// The last sequence that was acked.
        acked: u64,
        /// The last epoch that was acked.
        acked_epoch: u64,
    },
    /// Whoever writes it deleted what was to be read next, as it may: a later group says that nothing in it is alive.
    #[error(
        "stream {stream}: found its front to be sequence {first_seq} now, expected sequence {seq}, which was to be read next; remedy: start again, the rack that writes it is alive"
    )]
    Overtaken {
        /// The stream.
        stream: String,
        /// What was to be read.
        seq: u64,
        /// The first that is there.
        first_seq: u64,
    },
    /// There is no stream, and this directory knows of none.
    #[error(
        "stream {stream}: found none on the servers, expected the journal of this rack; remedy: name the scenario, the rack (`--rack`) and the data directory of a rack that has run"
    )]
    Absent {
        /// The stream.
        stream: String,
    },
    /// Another process writes it at this moment.
    #[error(
        "stream {stream}: found another writer with term {term}, expected none; remedy: stop the other rack, or start this one as its stand-by (`fluxrig run --standby`)"
    )]
    Held {
        /// The stream.
        stream: String,
        /// The other's term.
        term: u64,
    },
    /// The first message could not be written, or a group was refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
