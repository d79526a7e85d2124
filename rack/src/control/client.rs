//! The other end of the control socket: asks a rack, and takes one answer or the lines of many.

use std::io;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::{ANSWER_BYTES_MAX, ANSWER_TIME, Answer, CLIENT_TIME, Request, SOCKET, SocketPath};

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

/// An answer of many lines.
#[derive(Debug)]
pub struct Listening {
    dir: String,
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    /// What has come of the next line.
    line: Vec<u8>,
}

impl Listening {
    /// The next line of the answer; `None` when the rack has ended without a last one.
    ///
    /// Cancel-safe: what was read of a line is kept for the next call.
    ///
    /// # Errors
    /// When what comes is no line of an answer.
    pub async fn next(&mut self) -> Result<Option<Answer>, AskError> {
        let failed = |found: String| AskError::Answer { dir: self.dir.clone(), found };
        let room = ANSWER_BYTES_MAX.saturating_sub(self.line.len() as u64);
        match (&mut self.reader).take(room).read_until(b'\n', &mut self.line).await {
            Ok(_) if self.line.last() == Some(&b'\n') => {}
            // A rack that is killed says nothing more.
            Ok(_) if (self.line.len() as u64) < ANSWER_BYTES_MAX => return Ok(None),
            Ok(_) => return Err(failed("a line without an end".to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        }
        let answer = serde_json::from_slice(&self.line).map_err(|error| failed(error.to_string()));
        self.line.clear();
        answer.map(Some)
    }

    /// Says that enough was heard; the last line still comes.
    pub async fn enough(&mut self) {
        // A rack that has ended hears it no more.
        drop(self.writer.shutdown().await);
    }
}

/// Asks the rack whose data directory this is.
///
/// # Errors
/// When none runs there, or it does not answer.
pub async fn ask(dir: &Path, request: &Request) -> Result<Answer, AskError> {
    let mut listening = listen_to(dir, request).await?;
    let found = match timeout(ANSWER_TIME + CLIENT_TIME, listening.next()).await {
        Ok(Ok(Some(answer @ (Answer::Done(_) | Answer::Refused { .. })))) => return Ok(answer),
        Ok(Err(error)) => return Err(error),
        Ok(Ok(Some(_))) => "an answer of many lines",
        Ok(Ok(None)) => "the connection closed",
        Err(_) => "nothing in time",
    };
    Err(AskError::Answer { dir: dir.display().to_string(), found: found.to_owned() })
}

/// Asks the rack whose data directory this is for an answer of many lines.
///
/// # Errors
/// When none runs there, or it takes no request.
pub async fn listen_to(dir: &Path, request: &Request) -> Result<Listening, AskError> {
    let name = || dir.display().to_string();
    let unavailable = |source| AskError::Unavailable { dir: name(), source };
    let path = SocketPath::new(dir, SOCKET).map_err(unavailable)?;
    let stream = UnixStream::connect(&path.path).await.map_err(unavailable)?;
    let (reader, mut writer) = stream.into_split();
    let talk = async {
        let mut bytes = serde_json::to_vec(request)?;
        bytes.push(b'\n');
        writer.write_all(&bytes).await
    };
    let found = match timeout(CLIENT_TIME, talk).await {
        Ok(Ok(())) => {
            return Ok(Listening { dir: name(), reader: BufReader::new(reader), writer, line: Vec::new() });
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "nobody who takes the request".to_owned(),
    };
    Err(AskError::Answer { dir: name(), found })
}
