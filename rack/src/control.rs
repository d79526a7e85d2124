//! The control socket: one JSON line asks, one answers, or many. Only the owner of the data directory can reach it.
//! Requests, answers, connections and times are bounded; one that is over a bound is refused, not waited for.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::LetterFilter;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::exit;
use crate::mask::Form;
use crate::rack::Shared;
use crate::{operate, stream};

mod client;

pub use client::{AskError, Listening, ask, listen_to};

/// Name of the socket in the data directory.
pub const SOCKET: &str = "control.sock";
/// Longest request.
const REQUEST_BYTES_MAX: u64 = 64 << 10;
/// Longest line of an answer that a client takes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Connections at once; more wait for one of these.
const CONNECTIONS_MAX: usize = 16;
/// Answers of many lines at once, which hold no place of those; more are refused.
pub(crate) const STREAMS_MAX: usize = 16;
/// How long a client may take to ask, and to take its answer.
const CLIENT_TIME: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How long a client may leave a line of many unread before its connection is closed.
const UNREAD_TIME: Duration = Duration::from_secs(60);
/// Longest path that a socket address holds, without its final zero.
const PATH_BYTES_MAX: usize = 107;

/// What can be asked of a running rack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Request {
    /// The tree of actors, the wires, the journal.
    Top,
    /// The bus, and what of the rack is on it.
    BusStatus,
    /// What on the bus nobody needs any more.
    BusUnused,
    /// Removes of that what is named.
    BusPrune {
        /// Names of streams and consumers.
        names: Vec<String>,
    },
    /// The dead letters, newest last.
    DlqList {
        /// Which.
        #[serde(default)]
        letters: LetterFilter,
        /// Of more than so many, the newest.
        limit: Option<usize>,
    },
    /// How many dead letters there are, by gear and reason.
    DlqCount {
        /// Which.
        #[serde(default)]
        letters: LetterFilter,
    },
    /// One dead letter.
    DlqShow {
        /// Its number.
        seq: u64,
    },
    /// Sends dead letters again and says what becomes of each: the answer has many lines.
    DlqReplay {
        /// Which.
        letters: LetterFilter,
        /// Also when they may have been sent.
        #[serde(default)]
        even_maybe_sent: bool,
        /// How long to wait for what becomes of them, in milliseconds.
        #[serde(default)]
        wait_ms: u64,
    },
    /// Forgets dead letters.
    DlqPurge {
        /// Which.
        letters: LetterFilter,
    },
    /// Delivers again what a wire retains, and says how far it is while it waits: the answer has many lines.
    Replay {
        /// `gear.port->gear.port`.
        wire: String,
        /// From this sequence on.
        from_seq: Option<u64>,
        /// From this time on, in nanoseconds since the Unix epoch.
        from_ns: Option<i64>,
    },
    /// Shows what comes onto wires: the answer has many lines, until the client ends it or the rack has ended.
    Tap {
        /// Name of the wires, with `*` for any text.
        pattern: String,
        /// Of each wire the messages whose number this divides.
        every: NonZeroU64,
        /// How messages are shown.
        form: Form,
    },
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Of an answer with many lines the first: what follows.
    Begun(Value),
    /// Of an answer with many lines one.
    Item(Value),
    /// What was asked for, or the last of many lines.
    Done(Value),
    /// Why there is none.
    Refused {
        /// Exit code of a command that ends with this.
        code: u8,
        /// Where, found, expected and remedy.
        text: String,
    },
}

/// A path for a socket in `dir`. A longer one than an address can hold goes through an open directory.
struct SocketPath {
    path: PathBuf,
    _dir: Option<File>,
}

impl SocketPath {
    fn new(dir: &Path, name: &str) -> io::Result<Self> {
        let path = dir.join(name);
        if path.as_os_str().len() <= PATH_BYTES_MAX {
            return Ok(Self { path, _dir: None });
        }
        let open = File::open(dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", open.as_raw_fd()));
        Ok(Self { path, _dir: Some(open) })
    }
}

/// Takes the socket's name away when the rack has ended.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A name that is left leads nowhere, and the next start replaces it.
        drop(std::fs::remove_file(&self.0));
    }
}

/// Listens. Whatever had the name before is replaced: whoever calls this holds the lock of the directory.
pub(crate) fn listen(dir: &Path) -> io::Result<(UnixListener, SocketFile)> {
    const UNFINISHED: &str = "control.sock.new";
    let fresh = SocketPath::new(dir, UNFINISHED)?;
    match std::fs::remove_file(dir.join(UNFINISHED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh.path)?;
    // Its rights are right before anybody can find it.
    std::fs::set_permissions(dir.join(UNFINISHED), std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(dir.join(UNFINISHED), dir.join(SOCKET))?;
    Ok((listener, SocketFile(dir.join(SOCKET))))
}

/// Answers until it is stopped.
pub(crate) async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = Arc::clone(&free).acquire_owned().await.expect("it is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "control socket: a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // A client that went away is no concern of the rack.
            drop(converse(stream, shared, permit).await);
        });
    }
}

async fn converse(stream: UnixStream, shared: Arc<Shared>, permit: OwnedSemaphorePermit) -> io::Result<()> {
    let (reader, writer) = stream.into_split();
    let mut lines = Lines { writer, patience: CLIENT_TIME };
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(REQUEST_BYTES_MAX));
    timeout(CLIENT_TIME, reader.read_until(b'\n', &mut line)).await??;
    let answer = match serde_json::from_slice(&line) {
        Ok(request @ (Request::Tap { .. } | Request::DlqReplay { .. } | Request::Replay { .. })) => {
            drop(permit);
            match shared.streams.try_acquire() {
                Ok(_place) => {
                    lines.patience = UNREAD_TIME;
                    stream::answer(request, &shared, &mut lines, left(&mut reader)).await?
                }
                Err(_) => refused(
                    exit::TRY_AGAIN,
                    &format!(
                        "control socket: found {STREAMS_MAX} taps and replays open, expected fewer; remedy: end one"
                    ),
                ),
            }
        }
        Ok(request) => match timeout(ANSWER_TIME, operate::answer(request, shared)).await {
            Ok(answer) => answer,
            Err(_) => refused(exit::TRY_AGAIN, "found no answer in time, expected one; remedy: try again"),
        },
        Err(error) => {
            let text =
                format!("request: found {error}, expected one JSON line; remedy: use the same version of `fluxrig`");
            refused(exit::USAGE, &text)
        }
    };
    lines.say(&answer).await
}

/// Returns when the client says no more, or has gone. What it says after its request means nothing, and is bounded.
async fn left(reader: &mut (impl AsyncRead + Unpin)) {
    let mut bytes = [0; 64];
    while matches!(reader.read(&mut bytes).await, Ok(1..)) {}
}

/// Where the lines of an answer go.
pub(crate) struct Lines {
    writer: OwnedWriteHalf,
    patience: Duration,
}

impl Lines {
    /// Says one line; fails when the client does not read it in time.
    pub(crate) async fn say(&mut self, answer: &Answer) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(answer)?;
        bytes.push(b'\n');
        timeout(self.patience, self.writer.write_all(&bytes)).await?
    }
}

pub(crate) fn refused(code: u8, text: &str) -> Answer {
    Answer::Refused { code, text: text.to_owned() }
}
