//! The log on a JetStream server: one stream of a rack, on a connection and a thread of its own.
//! Whoever waits here may be any thread: the answers come from that one, which waits for nobody.

use std::sync::Arc;
use std::time::Duration;

use async_nats::ConnectOptions;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::super::storage::BoxFuture;
use super::log::{Last, Log, LogError, LogUsage, Outcome, Range};

mod config;
mod worker;

use worker::{Ask, Shared, Worker};

/// Questions that may wait for the thread: more than the messages of one group.
const ASKS_MAX: usize = 2 * super::format::PARTS_MAX;
/// What the headers of a message take of the server's limit.
const HEADERS_BYTES_MAX: usize = 256;

/// Which stream, and how the server is to keep it.
#[derive(Clone, Debug)]
pub struct NatsLogOptions {
    /// The rack whose journal it is; the stream is called `FLUX_JOURNAL_{rack}`.
    pub rack: String,
    /// URLs of servers, `nats://` or `tls://`; all are tried.
    pub servers: Vec<String>,
    /// JetStream domain, for a server behind a leaf node.
    pub domain: Option<String>,
    /// Replicas of the stream.
    pub replicas: usize,
    /// Most bytes of the stream; `None` leaves it to the account's limits.
    pub max_bytes: Option<u64>,
    /// How long an answer may take before a message's fate is unknown.
    pub answer_within: Duration,
    /// How often the connection is tried: one that leaves three in a row without an answer is given up for a new one,
    /// since the system sends ever more seldom over one that lost packets.
    pub ping_every: Duration,
}

impl Default for NatsLogOptions {
    fn default() -> Self {
        Self {
            rack: "rack".into(),
            servers: Vec::new(),
            domain: None,
            replicas: 1,
            max_bytes: None,
            answer_within: Duration::from_secs(2),
            ping_every: Duration::from_secs(5),
        }
    }
}

impl NatsLogOptions {
    /// Name of the rack's stream.
    #[must_use]
    pub fn stream(&self) -> String {
        format!("FLUX_JOURNAL_{}", self.rack)
    }

    /// Its only subject.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("flux.journal.{}", self.rack)
    }
}

/// The log of one rack on a JetStream server. The connection ends with the last handle.
pub struct NatsLog {
    options: Arc<NatsLogOptions>,
    asks: mpsc::Sender<Ask>,
    shared: Arc<Shared>,
}

impl NatsLog {
    /// Starts the thread and connects in the background; [`Log::open`] waits for the connection. Credentials and TLS are
    /// in `connect`; its event callback is taken, since what goes wrong is told in the errors of this log.
    ///
    /// # Errors
    /// When the rack's name cannot be a stream's, no server is named, or the system has no thread.
    pub fn start(options: NatsLogOptions, connect: ConnectOptions) -> Result<Arc<NatsLog>, LogError> {
        check(&options)?;
        let options = Arc::new(options);
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let shared = Arc::new(Shared::default());
        let worker = Worker::new(Arc::clone(&options), Arc::clone(&shared));
        std::thread::Builder::new().name("journal-nats".into()).spawn(move || worker.run(connect, asked)).map_err(
            |error| LogError::Unreachable {
                stream: options.stream(),
                action: "start a thread",
                reason: error.to_string(),
            },
        )?;
        Ok(Arc::new(NatsLog { options, asks, shared }))
    }

    // Asks the thread; whoever gets no answer is told why.
    fn ask<T: Send + 'static>(
        &self,
        action: &'static str,
        ask: impl FnOnce(oneshot::Sender<Result<T, LogError>>) -> Ask,
    ) -> BoxFuture<'static, Result<T, LogError>> {
        let (sender, receiver) = oneshot::channel();
        let stream = self.options.stream();
        let is_asked = self.asks.try_send(ask(sender)).is_ok();
        Box::pin(async move {
            let gone = |reason: &str| LogError::Unreachable { stream, action, reason: reason.into() };
            if !is_asked {
                return Err(gone("too many questions wait"));
            }
            receiver.await.unwrap_or_else(|_| Err(gone("the connection has ended")))
        })
    }
}

fn check(options: &NatsLogOptions) -> Result<(), LogError> {
    let drift = |found: String, expected: &str, remedy: &str| LogError::Drift {
        stream: options.stream(),
        found,
        expected: expected.into(),
        remedy: remedy.into(),
    };
    let is_token = |name: &str| {
        !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-'))
    };
    if !is_token(&options.rack) {
        let found = format!("a rack called `{}`", options.rack);
        return Err(drift(found, "letters, digits, `-` and `_`", "call the rack so that a stream can have its name"));
    }
    if options.servers.is_empty() {
        return Err(drift("no server".into(), "the URL of one at least", "name the servers of the bus"));
    }
    if !(1..=5).contains(&options.replicas) {
        return Err(drift(format!("{} replicas", options.replicas), "1 to 5", "change `replicas`"));
    }
    Ok(())
}

impl Log for NatsLog {
    fn name(&self) -> String {
        self.options.stream()
    }

    fn payload_bytes_max(&self) -> usize {
        self.shared.payload_bytes_max().saturating_sub(HEADERS_BYTES_MAX)
    }

    fn open(&self) -> BoxFuture<'_, Result<LogUsage, LogError>> {
        self.ask("open it", Ask::Open)
    }

    fn look(&self) -> BoxFuture<'_, Result<Option<LogUsage>, LogError>> {
        self.ask("look at it", Ask::Look)
    }

    fn append(&self, payload: Bytes, expected_last: u64) -> BoxFuture<'static, Outcome> {
        let (sender, receiver) = oneshot::channel();
        let is_asked = self.asks.try_send(Ask::Append { payload, expected_last, sender }).is_ok();
        Box::pin(async move {
            if !is_asked {
                return Outcome::Unknown { reason: "too many messages are under way".into() };
            }
            let ended = |_| Outcome::Unknown { reason: "the connection has ended".into() };
            receiver.await.unwrap_or_else(ended)
        })
    }

    fn last(&self) -> BoxFuture<'_, Result<Last, LogError>> {
        self.ask("read the last message", Ask::Last)
    }

    fn read(&self, seq: u64) -> BoxFuture<'_, Result<Option<Bytes>, LogError>> {
        self.ask("read a message", |sender| Ask::Read { seq, sender })
    }

    fn range(&self, from_seq: u64, to_seq: u64) -> Box<dyn Range> {
        let (sender, messages) = mpsc::channel(worker::RANGE_AHEAD);
        // Without room for the question the sender goes, and the range is empty.
        drop(self.asks.try_send(Ask::Range { from_seq, to_seq, sender }));
        Box::new(NatsRange { messages })
    }

    fn purge(&self, before_seq: u64) -> BoxFuture<'_, Result<(), LogError>> {
        self.ask("delete old messages", |sender| Ask::Purge { before_seq, sender })
    }

    fn incarnation(&self) -> u64 {
        self.shared.connects()
    }

    fn usage(&self) -> LogUsage {
        self.shared.usage()
    }
}

struct NatsRange {
    messages: mpsc::Receiver<Result<(u64, Bytes), LogError>>,
}

impl Range for NatsRange {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<(u64, Bytes)>, LogError>> {
        Box::pin(async move { self.messages.recv().await.transpose() })
    }
}

#[cfg(test)]
mod tests;
