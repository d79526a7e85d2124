//! The seam between the journal on a stream and whatever keeps the stream: an append-only log with sequences.
//! Knows nothing of groups, keys or terms; a message is bytes to it.

use bytes::Bytes;

use super::super::storage::BoxFuture;

/// What became of a message that was to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored under this sequence, as safely as the log promises.
    Stored(u64),
    /// The log found another last sequence. A retry of a message that is stored gets the same answer, so this does not
    /// say that it is not.
    WrongLast {
        /// The last sequence, where the log says it.
        found: Option<u64>,
    },
    /// It is not stored: there is no room.
    Full {
        /// What the log says.
        reason: String,
    },
    /// It is not stored: it is larger than the log takes.
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// Nobody knows: no answer came, or one that says nothing about it.
    Unknown {
        /// What is known.
        reason: String,
    },
}

/// The last message of a log, as its leader has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Last {
    /// The last sequence that was given; 0 before the first.
    pub seq: u64,
    /// The message; `None` when it was purged, or there was none.
    pub payload: Option<Bytes>,
}

/// What a log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogUsage {
    /// Sequence of the first message there is; above `last_seq` when there is none.
    pub first_seq: u64,
    /// The last sequence that was given; 0 before the first.
    pub last_seq: u64,
    /// Bytes that the log takes.
    pub bytes: u64,
    /// Bytes that it may still take, where that is known.
    pub free_bytes: Option<u64>,
}

/// Messages of a range, in order.
pub trait Range: Send {
    /// The next message and its sequence; `None` at the end of what could be read, which may be before the end of what
    /// was asked for: whoever answers may be behind the leader.
    ///
    /// # Errors
    /// When the log does not answer.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<(u64, Bytes)>, LogError>>;
}

/// An append-only log with one sequence for each message.
pub trait Log: Send + Sync + 'static {
    /// How it is called in messages.
    fn name(&self) -> String;

    /// Longest message that it takes.
    fn payload_bytes_max(&self) -> usize;

    /// Makes the log where there is none, checks it where there is one, and says what its leader has.
    ///
    /// # Errors
    /// When it does not answer, or is not as it should be.
    fn open(&self) -> BoxFuture<'_, Result<LogUsage, LogError>>;

    /// Says what its leader has, and makes and changes nothing; `None` where there is no log.
    ///
    /// # Errors
    /// When it does not answer.
    fn look(&self) -> BoxFuture<'_, Result<Option<LogUsage>, LogError>>;

    /// Appends a message if `expected_last` is the last sequence then. Messages leave in the order of the calls, so
    /// several may be under way at once. Whether or not the future is waited for, the message may be stored, at any
    /// later time too.
    fn append(&self, payload: Bytes, expected_last: u64) -> BoxFuture<'static, Outcome>;

    /// The last message, from the leader and from nobody else.
    ///
    /// # Errors
    /// When there is no leader that answers.
    fn last(&self) -> BoxFuture<'_, Result<Last, LogError>>;

    /// The message of a sequence, from the leader; `None` when there is none.
    ///
    /// # Errors
    /// When there is no leader that answers.
    fn read(&self, seq: u64) -> BoxFuture<'_, Result<Option<Bytes>, LogError>>;

    /// The messages from one sequence to another, both included, from anybody who has them: for reading much at once.
    fn range(&self, from_seq: u64, to_seq: u64) -> Box<dyn Range>;

    /// Deletes every message before a sequence.
    ///
    /// # Errors
    /// When the log does not answer; what is left is deleted by the next call.
    fn purge(&self, before_seq: u64) -> BoxFuture<'_, Result<(), LogError>>;

    /// Another number whenever the servers may have been restarted since: what was acked is then looked for before
    /// anything is appended behind it.
    fn incarnation(&self) -> u64;

    /// What it holds, as was heard last; waits for nothing.
    fn usage(&self) -> LogUsage;
}

/// What a log cannot do.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogError {
    /// No answer, for now.
    #[error(
        "stream {stream}: found no answer while trying to {action} ({reason}), expected one from its leader; remedy: bring the server back, this is tried again"
    )]
    Unreachable {
        /// The stream.
        stream: String,
        /// What was tried.
        action: &'static str,
        /// What is known.
        reason: String,
    },
    /// It is not as it was made.
    #[error("stream {stream}: found {found}, expected {expected}; remedy: {remedy}")]
    Drift {
        /// The stream.
        stream: String,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
        /// What to do.
        remedy: String,
    },
    /// The server does not let us.
    #[error("stream {stream}: found the server refusing to {action} ({reason}), expected it to; remedy: {remedy}")]
    Refused {
        /// The stream.
        stream: String,
        /// What was tried.
        action: &'static str,
        /// What the server says.
        reason: String,
        /// What to do.
        remedy: String,
    },
}
