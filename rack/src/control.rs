//! The control socket: one JSON line asks, one answers. Only the owner of the data directory can reach it.
//! Requests, answers, connections and times are bounded; one that is over a bound is refused, not waited for.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::error::exit;
use crate::operate;
use crate::rack::Shared;

/// Name of the socket in the data directory.
pub const SOCKET: &str = "control.sock";
/// Longest request.
const REQUEST_BYTES_MAX: u64 = 64 << 10;
/// Longest answer that a client takes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Connections at once; more wait for one of these.
const CONNECTIONS_MAX: usize = 16;
/// How long a client may take to ask, and to take its answer.
const CLIENT_TIME: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Longest path that a socket address holds, without its final zero.
const PATH_BYTES_MAX: usize = 107;

/// What can be asked of a running rack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Request {
    /// The tree of actors, the wires, the journal.
    Top,
    /// The dead letters, newest last.
    DlqList,
    /// One dead letter.
    DlqShow {
        /// Its number.
        seq: u64,
    },
    /// Sends one again.
    DlqReplay {
        /// Its number.
        seq: u64,
        /// Also when it may have been sent.
        #[serde(default)]
        even_maybe_sent: bool,
    },
    /// Forgets one.
    DlqPurge {
        /// Its number; none is all of them.
        seq: Option<u64>,
    },
    /// Delivers again what a wire retains.
    Replay {
        /// `gear.port->gear.port`.
        wire: String,
        /// From this sequence on.
        from_seq: Option<u64>,
        /// From this time on, in nanoseconds since the Unix epoch.
        from_ns: Option<i64>,
    },
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What was asked for.
    Done(Value),
    /// Why there is none.
    Refused {
        /// Exit code of a command that ends with this.
        code: u8,
        /// Where, found, expected and remedy.
        text: String,
    },
}

/// Why a daemon cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "control socket in `{dir}`: found nobody listening, expected a running rack; remedy: start it, or name its data directory with `--data-dir`"
    )]
    Unavailable {
        /// The data directory.
        dir: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The answer does not come, or is none.
    #[error(
        "control socket in `{dir}`: found {found}, expected an answer; remedy: try again, and see the log of the rack"
    )]
    Answer {
        /// The data directory.
        dir: String,
        /// What came.
        found: String,
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
            drop(converse(stream, shared).await);
            drop(permit);
        });
    }
}

async fn converse(stream: UnixStream, shared: Arc<Shared>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(REQUEST_BYTES_MAX));
    timeout(CLIENT_TIME, reader.read_until(b'\n', &mut line)).await??;
    let answer = match serde_json::from_slice(&line) {
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
    let mut bytes = serde_json::to_vec(&answer)?;
    bytes.push(b'\n');
    timeout(CLIENT_TIME, writer.write_all(&bytes)).await?
}

pub(crate) fn refused(code: u8, text: &str) -> Answer {
    Answer::Refused { code, text: text.to_owned() }
}

/// Asks the rack whose data directory this is.
///
/// # Errors
/// When none runs there, or it does not answer.
pub async fn ask(dir: &Path, request: &Request) -> Result<Answer, AskError> {
    let name = || dir.display().to_string();
    let unavailable = |source| AskError::Unavailable { dir: name(), source };
    let path = SocketPath::new(dir, SOCKET).map_err(unavailable)?;
    let mut stream = UnixStream::connect(&path.path).await.map_err(unavailable)?;
    let talk = async {
        let mut bytes = serde_json::to_vec(request)?;
        bytes.push(b'\n');
        stream.write_all(&bytes).await?;
        let mut line = Vec::new();
        BufReader::new((&mut stream).take(ANSWER_BYTES_MAX)).read_until(b'\n', &mut line).await?;
        Ok::<_, io::Error>(serde_json::from_slice(&line)?)
    };
    match timeout(ANSWER_TIME + CLIENT_TIME, talk).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(AskError::Answer { dir: name(), found: error.to_string() }),
        Err(_) => Err(AskError::Answer { dir: name(), found: "nothing in time".to_owned() }),
    }
}
