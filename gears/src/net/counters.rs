//! What happens to connections, counted: each end has a reason, and each reason a series of its own.
//! The sum of `connections_closed` taken from `connections_opened` is how many there are.

use fluxrig_actors::{Tallies, Tally};

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The peer closed it between two messages.
    Peer,
    /// The peer closed it in the middle of a message.
    Truncated,
    /// The system said that it is broken: reset, unreachable.
    Failed,
    /// Nothing came in for `idle_ms`.
    Idle,
    /// A message took longer than `frame_ms`.
    Slow,
    /// A message longer than allowed.
    Oversize,
    /// A length that is no number, or less than it must be.
    Length,
    /// A message without bytes.
    Empty,
    /// Too many polls in a row.
    Polls,
    /// The peer left too much unread.
    Unsent,
    /// The peer took too long to read a message.
    Write,
    /// The endpoint ended.
    Ended,
}

impl Reason {
    const ALL: [Self; 12] = [
        Self::Peer,
        Self::Truncated,
        Self::Failed,
        Self::Idle,
        Self::Slow,
        Self::Oversize,
        Self::Length,
        Self::Empty,
        Self::Polls,
        Self::Unsent,
        Self::Write,
        Self::Ended,
    ];

    /// The label of its series.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Truncated => "truncated",
            Self::Failed => "failed",
            Self::Idle => "idle",
            Self::Slow => "slow",
            Self::Oversize => "oversize",
            Self::Length => "length",
            Self::Empty => "empty",
            Self::Polls => "polls",
            Self::Unsent => "unsent",
            Self::Write => "write",
            Self::Ended => "ended",
        }
    }
}

impl Reason {
    /// The same for a person.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Peer => "the peer closed the connection",
            Self::Truncated => "the peer closed the connection in the middle of a message",
            Self::Failed => "the connection broke",
            Self::Idle => "nothing came in for `idle_ms`",
            Self::Slow => "a message took longer than `frame_ms`",
            Self::Oversize => "a message was longer than `message_bytes_max`",
            Self::Length => "a length was no number, or less than it must be",
            Self::Empty => "a message had no bytes",
            Self::Polls => "more polls came in a row than `polls_max`",
            Self::Unsent => "the peer left more than `unsent_max` unread",
            Self::Write => "the peer took longer than `write_ms` to read a message",
            Self::Ended => "the endpoint ended",
        }
    }
}

/// The series of one endpoint, looked up once.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) opened: Tally,
    closed: [Tally; Reason::ALL.len()],
    pub(super) frames_in: Tally,
    pub(super) frames_out: Tally,
    pub(super) bytes_in: Tally,
    pub(super) bytes_out: Tally,
    pub(super) polls_in: Tally,
    pub(super) polls_out: Tally,
    /// Connections beyond `connections_max`.
    pub(super) refused_connections: Tally,
    /// Messages that came while the rig drains.
    pub(super) refused_draining: Tally,
    /// Messages beyond a limit of the rig.
    pub(super) refused_limit: Tally,
    /// Connections that the system could not make or take.
    pub(super) failures: Tally,
}

impl Counters {
    pub(super) fn new(tallies: &Tallies) -> Self {
        let all = |series| tallies.tally(series, "all");
        Self {
            opened: all("connections_opened"),
            closed: Reason::ALL.map(|reason| tallies.tally("connections_closed", reason.label())),
            frames_in: all("frames_in"),
            frames_out: all("frames_out"),
            bytes_in: all("bytes_in"),
            bytes_out: all("bytes_out"),
            polls_in: all("polls_in"),
            polls_out: all("polls_out"),
            refused_connections: tallies.tally("refused", "connections_max"),
            refused_draining: tallies.tally("refused", "draining"),
            refused_limit: tallies.tally("refused", "limit"),
            failures: all("connection_failures"),
        }
    }

    pub(super) fn close(&self, reason: Reason) {
        self.closed[reason as usize].add(1);
    }
}
