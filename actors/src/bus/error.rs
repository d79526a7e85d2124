//! Why a bus, a stream or a consumer cannot be used: each text says what was found, what was expected and the remedy.

use super::VERSION_FLOOR;

/// What is wrong with a bus, or with what a rack needs on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The servers were not there in time.
    #[error("{why}")]
    Absent {
        /// What the connection said last.
        why: String,
    },
    /// No server answers.
    #[error(
        "bus: found no server at {servers} ({why}), expected one that answers; remedy: start it, or mend `servers`"
    )]
    Unreachable {
        /// The servers that were tried.
        servers: String,
        /// What was seen.
        why: String,
    },
    /// The server does not know who we are.
    #[error("bus: found {servers} refusing us ({why}), expected to be let in with {way}; remedy: {remedy}")]
    Credentials {
        /// The servers that were tried.
        servers: String,
        /// What was seen.
        why: String,
        /// How we sign in.
        way: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A file cannot be read, or holds something else.
    #[error("bus: `{key}`: found {why}, expected {expected}; remedy: mend the file, or name another")]
    File {
        /// The key that names it.
        key: &'static str,
        /// What was seen.
        why: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// The encrypted connection is not made.
    #[error(
        "bus: found no encrypted connection with {servers} ({why}), expected certificates that both sides trust; remedy: check `tls.ca`, `tls.cert` and `tls.key` against those of the server"
    )]
    Tls {
        /// The servers that were tried.
        servers: String,
        /// What was seen.
        why: String,
    },
    /// The server is too old.
    #[error("bus: found server `{server}` of version {found}, expected at least {}.{}.{}; remedy: update it", VERSION_FLOOR.0, VERSION_FLOOR.1, VERSION_FLOOR.2)]
    Version {
        /// Its name.
        server: String,
        /// Its version.
        found: String,
    },
    /// The server has no JetStream, for us at least.
    #[error(
        "bus: found server `{server}` without JetStream for this account, expected it enabled; remedy: start the server with `--jetstream` or a `jetstream {{}}` block, and enable it for the account"
    )]
    NoJetStream {
        /// Its name.
        server: String,
    },
    /// There may be JetStream, and not under this name.
    #[error(
        "bus: found no JetStream of domain `{domain}` behind server `{server}`, expected one for this account; remedy: write the name that stands in the servers' `jetstream {{ domain: … }}`, or leave `domain` out"
    )]
    NoDomain {
        /// Its name.
        server: String,
        /// The domain.
        domain: String,
    },
    /// The server acks before it syncs.
    #[error(
        "bus: found `sync_interval` not `always` on the server, expected it for `durability: flush`; remedy: set `sync_interval: always` in its `jetstream` block, or write `durability: os` at the wire, or `replicated` on three servers"
    )]
    LazySync,
    /// Nobody says whether the server syncs.
    #[error(
        "bus: found nobody to ask whether the server syncs every write, expected `monitor_url` for `durability: flush`; remedy: set `monitor_url`, or `assume_sync: true` where you know it, or write `durability: os` at the wire"
    )]
    UnknownSync,
    /// The monitor does not answer, or with something else.
    #[error(
        "bus: found no figures of JetStream at `monitor_url` ({why}), expected those of the server; remedy: check the address and the server's `http_port`"
    )]
    Monitor {
        /// What was seen.
        why: String,
    },
    /// An account's limit.
    #[error(
        "bus: found the account's limit {limit} reached, expected room for {what}; remedy: raise it, or remove what is not needed (`fluxrig bus prune`)"
    )]
    Limit {
        /// The limit, with its number.
        limit: String,
        /// What there is no room for.
        what: String,
    },
    /// The server does not let us do that.
    #[error(
        "bus: found no permission to {what} to `{subject}`, expected it for this user; remedy: add `{subject}` to the user's `{what}` permissions on the server"
    )]
    Denied {
        /// `publish` or `subscribe`.
        what: &'static str,
        /// The subject.
        subject: String,
    },
    /// Something of this name is not as we make it.
    #[error("bus: {what} `{name}`: found {found}, expected {expected}; remedy: {remedy}")]
    Drift {
        /// `stream` or `consumer`.
        what: &'static str,
        /// Its name.
        name: String,
        /// What was seen.
        found: String,
        /// What we make.
        expected: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The server answered with an error of its own.
    #[error(
        "bus: {what}: found the server's answer `{answer}`, expected it done; remedy: see the server's log, `fluxrig bus status` shows what is there"
    )]
    Answer {
        /// What was asked for.
        what: String,
        /// Its answer.
        answer: String,
    },
    /// The server did not answer in time.
    #[error(
        "bus: {what}: found no answer, expected one within 5 seconds; remedy: check that the servers have a majority and permit this user `$JS.API.>` and `_INBOX.>`"
    )]
    Silent {
        /// What was asked for.
        what: String,
    },
    /// The bus has ended.
    #[error("bus: found it ended, expected it running; remedy: start the rack again")]
    Ended,
}

/// Fewest copies of a stream that survive losing one server and still tell a stale one apart.
const REPLICATED_MIN: usize = 3;

impl BusError {
    /// Refuses a stream that has too few copies for `durability: replicated`.
    pub(super) fn unless_replicated(name: &str, replicas: usize) -> Result<(), Self> {
        if replicas >= REPLICATED_MIN {
            return Ok(());
        }
        Err(Self::Drift {
            what: "stream",
            name: name.to_owned(),
            found: format!("`num_replicas` {replicas}"),
            expected: format!("at least {REPLICATED_MIN} for `durability: replicated`"),
            remedy: "write `replicas: 3` at the bus, on a cluster of three servers or more",
        })
    }

    /// Whether an operator has to do something: nothing changes by waiting.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Unreachable { .. } | Self::Silent { .. } | Self::Monitor { .. } | Self::Answer { .. })
    }
}
