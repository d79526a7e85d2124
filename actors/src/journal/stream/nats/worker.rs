//! The thread of a journal's connection: takes questions in order, sends each at once, and answers when the server has.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind, PublishError, PublishErrorKind};
use async_nats::jetstream::stream::{Info, RawMessageErrorKind, Stream};
use async_nats::jetstream::{self, Context, ErrorCode, context::ContextBuilder};
use async_nats::{Client, ConnectOptions, Event, HeaderMap, header};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};

use super::super::log::{Last, LogError, LogUsage, Outcome};
use super::{NatsLogOptions, config};

/// Messages of a range that are read ahead of whoever takes them.
pub(super) const RANGE_AHEAD: usize = 16;
/// How often the server is asked what the stream takes.
const USAGE_EVERY: Duration = Duration::from_millis(500);
/// How often a connection that is awaited is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Silence in a range for so long is its end: who reads it knows whether it was.
const RANGE_SILENCE_MAX: Duration = Duration::from_secs(3);
/// An opening waits so many times as long as any other answer for the connection.
const CONNECT_PATIENCE: u32 = 5;
/// What a server takes before it has said what it takes.
const PAYLOAD_BYTES_DEFAULT: usize = 1 << 20;

type Answer<T> = oneshot::Sender<Result<T, LogError>>;

/// A question to the thread.
pub(super) enum Ask {
    Open(Answer<LogUsage>),
    Look(Answer<Option<LogUsage>>),
    Append { payload: Bytes, expected_last: u64, sender: oneshot::Sender<Outcome> },
    Last(Answer<Last>),
    Read { seq: u64, sender: Answer<Option<Bytes>> },
    Range { from_seq: u64, to_seq: u64, sender: mpsc::Sender<Result<(u64, Bytes), LogError>> },
    Purge { before_seq: u64, sender: Answer<()> },
}

/// What is known without asking.
#[derive(Default)]
pub(super) struct Shared {
    client: OnceLock<Client>,
    usage: Mutex<LogUsage>,
    stream_bytes_max: AtomicUsize,
    /// What went wrong with the connection last.
    trouble: Mutex<String>,
}

impl Shared {
    pub(super) fn payload_bytes_max(&self) -> usize {
        let server = self.client.get().and_then(Client::try_server_info).map(|info| info.max_payload);
        let server = server.filter(|bytes| *bytes > 0).unwrap_or(PAYLOAD_BYTES_DEFAULT);
        match self.stream_bytes_max.load(Ordering::Relaxed) {
            0 => server,
            stream => server.min(stream),
        }
    }

    pub(super) fn connects(&self) -> u64 {
        self.client.get().map_or(0, |client| client.statistics().connects.load(Ordering::Relaxed))
    }

    pub(super) fn usage(&self) -> LogUsage {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, info: &Info) -> LogUsage {
        let max = u64::try_from(info.config.max_bytes).ok().filter(|max| *max > 0);
        let usage = LogUsage {
            first_seq: info.state.first_sequence.max(1),
            last_seq: info.state.last_sequence,
            bytes: info.state.bytes,
            free_bytes: max.map(|max| max.saturating_sub(info.state.bytes)),
        };
        let stream_max = usize::try_from(info.config.max_message_size).unwrap_or(0);
        self.stream_bytes_max.store(stream_max, Ordering::Relaxed);
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner) = usage;
        usage
    }

    fn trouble(&self) -> String {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_trouble(&self, text: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

/// What runs on the thread.
#[derive(Clone)]
pub(super) struct Worker {
    options: Arc<NatsLogOptions>,
    shared: Arc<Shared>,
}

impl Worker {
    pub(super) fn new(options: Arc<NatsLogOptions>, shared: Arc<Shared>) -> Worker {
        Worker { options, shared }
    }

    pub(super) fn run(self, connect: ConnectOptions, asks: mpsc::Receiver<Ask>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.serve(connect, asks)),
            Err(error) => tracing::error!(%error, "journal: no runtime for the connection to its stream"),
        }
    }

    async fn serve(self, connect: ConnectOptions, mut asks: mpsc::Receiver<Ask>) {
        let shared = Arc::clone(&self.shared);
        let connect = connect
            .name(format!("fluxrig journal of {}", self.options.rack))
            .ping_interval(self.options.ping_every)
            .event_callback(move |event| {
                let shared = Arc::clone(&shared);
                async move { note_event(&shared, &event) }
            })
            .retry_on_initial_connect();
        let client = match connect.connect(self.options.servers.clone()).await {
            Ok(client) => client,
            Err(error) => {
                // Told to each who asks: such a connection will never be.
                self.shared.set_trouble(error.to_string());
                while let Some(ask) = asks.recv().await {
                    self.refuse(ask);
                }
                return;
            }
        };
        drop(self.shared.client.set(client.clone()));
        let context = self.context(client);
        let mut usage = tokio::time::interval(USAGE_EVERY);
        usage.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                ask = asks.recv() => match ask {
                    Some(ask) => self.answer(&context, ask).await,
                    None => return,
                },
                _ = usage.tick() => self.refresh(&context),
            }
        }
    }

    fn context(&self, client: Client) -> Context {
        let builder = ContextBuilder::new();
        let within = self.options.answer_within;
        // Every message of a group is under way at once; none is refused for those before it.
        let acks_max = super::ASKS_MAX;
        match &self.options.domain {
            Some(domain) => {
                let builder = builder.domain(domain.clone()).timeout(within).ack_timeout(within);
                builder.max_ack_inflight(acks_max).backpressure_on_inflight(true).build(client)
            }
            None => {
                let builder = builder.timeout(within).ack_timeout(within);
                builder.max_ack_inflight(acks_max).backpressure_on_inflight(true).build(client)
            }
        }
    }

    // Answers that are awaited are awaited elsewhere: the next question is sent meanwhile. Only a message is sent here,
    // so that messages leave in order.
    async fn answer(&self, context: &Context, ask: Ask) {
        let (worker, context) = (self.clone(), context.clone());
        match ask {
            Ask::Append { payload, expected_last, sender } => {
                worker.append(&context, payload, expected_last, sender).await
            }
            Ask::Open(sender) => spawn(async move { drop(sender.send(worker.open(&context).await)) }),
            Ask::Look(sender) => spawn(async move { drop(sender.send(worker.look(&context).await)) }),
            Ask::Last(sender) => spawn(async move { drop(sender.send(worker.last(&context).await)) }),
            Ask::Read { seq, sender } => spawn(async move { drop(sender.send(worker.read(&context, seq).await)) }),
            Ask::Purge { before_seq, sender } => {
                spawn(async move { drop(sender.send(worker.purge(&context, before_seq).await)) });
            }
            Ask::Range { from_seq, to_seq, sender } => {
                spawn(async move { worker.range(&context, from_seq, to_seq, &sender).await });
            }
        }
    }

    fn refuse(&self, ask: Ask) {
        let reason = self.shared.trouble();
        let refused = || LogError::Refused {
            stream: self.options.stream(),
            action: "connect",
            reason: reason.clone(),
            remedy: "mend the servers, credentials or certificates that the bus names".into(),
        };
        match ask {
            Ask::Open(sender) => drop(sender.send(Err(refused()))),
            Ask::Look(sender) => drop(sender.send(Err(refused()))),
            Ask::Append { sender, .. } => drop(sender.send(Outcome::Unknown { reason })),
            Ask::Last(sender) => drop(sender.send(Err(refused()))),
            Ask::Read { sender, .. } => drop(sender.send(Err(refused()))),
            Ask::Purge { sender, .. } => drop(sender.send(Err(refused()))),
            Ask::Range { sender, .. } => drop(sender.try_send(Err(refused()))),
        }
    }

    async fn append(&self, context: &Context, payload: Bytes, expected_last: u64, sender: oneshot::Sender<Outcome>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_EXPECTED_LAST_SEQUENCE, expected_last.to_string());
        headers.insert(header::NATS_EXPECTED_STREAM, self.options.stream());
        let sent = context.publish_with_headers(self.options.subject(), headers, payload).await;
        let shared = Arc::clone(&self.shared);
        match sent {
            Err(error) => drop(sender.send(outcome_of(&shared, &error))),
            Ok(ack) => spawn(async move {
                let outcome = match ack.await {
                    Ok(ack) => Outcome::Stored(ack.sequence),
                    Err(error) => outcome_of(&shared, &error),
                };
                drop(sender.send(outcome));
            }),
        }
    }

    // What the server has; `None` where there is no such stream.
    async fn found(&self, context: &Context) -> Result<Option<Stream>, LogError> {
        self.connected().await?;
        match context.get_stream(self.options.stream()).await {
            Ok(stream) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
                GetStreamErrorKind::JetStream(error) => Err(self.refused("read its state", &error)),
                _ => Err(self.unreachable("read its state", &error)),
            },
        }
    }

    async fn look(&self, context: &Context) -> Result<Option<LogUsage>, LogError> {
        Ok(self.found(context).await?.map(|stream| self.shared.note(stream.cached_info())))
    }

    async fn open(&self, context: &Context) -> Result<LogUsage, LogError> {
        let stream = match self.found(context).await? {
            Some(stream) => stream,
            None => self.create(context).await?,
        };
        let found = stream.cached_info();
        config::check(&found.config, &self.options)?;
        let Some(migrated) = config::migrated(&found.config, &self.options) else { return Ok(self.shared.note(found)) };
        tracing::info!(stream = %self.options.stream(), "journal: the stream's configuration is brought up to what this rack wants");
        let info = context.update_stream(migrated).await.map_err(|error| match error.kind() {
            CreateStreamErrorKind::JetStream(error) => self.refused("change its configuration", &error),
            _ => self.unreachable("change its configuration", &error),
        })?;
        Ok(self.shared.note(&info))
    }

    async fn create(&self, context: &Context) -> Result<Stream, LogError> {
        let created = context.create_stream(config::wanted(&self.options)).await;
        created.map_err(|error| match error.kind() {
            CreateStreamErrorKind::JetStream(error) => self.refused("make it", &error),
            _ => self.unreachable("make it", &error),
        })
    }

    // The first connection is made in the background; what keeps it from being made is known from its events.
    async fn connected(&self) -> Result<(), LogError> {
        let Some(client) = self.shared.client.get() else { return Ok(()) };
        let until = tokio::time::Instant::now() + self.options.answer_within * CONNECT_PATIENCE;
        while client.connection_state() != State::Connected {
            if tokio::time::Instant::now() > until {
                return Err(self.unreachable("connect", &self.shared.trouble()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn last(&self, context: &Context) -> Result<Last, LogError> {
        let action = "read the last message";
        let stream = self.stream(context).await?;
        match stream.get_last_raw_message_by_subject(&self.options.subject()).await {
            Ok(message) => Ok(Last { seq: message.sequence, payload: Some(message.payload) }),
            Err(error) => match error.kind() {
                // Perhaps all was purged; the sequence goes on.
                RawMessageErrorKind::NoMessageFound => {
                    let info = stream.get_info().await.map_err(|error| self.unreachable(action, &error))?;
                    match info.state.messages {
                        0 => Ok(Last { seq: info.state.last_sequence, payload: None }),
                        _ => Err(self.unreachable(action, &"a message came in between")),
                    }
                }
                RawMessageErrorKind::JetStream(error) => Err(self.refused(action, &error)),
                _ => Err(self.unreachable(action, &error)),
            },
        }
    }

    async fn read(&self, context: &Context, seq: u64) -> Result<Option<Bytes>, LogError> {
        let action = "read a message";
        match self.stream(context).await?.get_raw_message(seq).await {
            Ok(message) => Ok(Some(message.payload)),
            Err(error) => match error.kind() {
                RawMessageErrorKind::NoMessageFound => Ok(None),
                RawMessageErrorKind::JetStream(error) => Err(self.refused(action, &error)),
                _ => Err(self.unreachable(action, &error)),
            },
        }
    }

    async fn purge(&self, context: &Context, before_seq: u64) -> Result<(), LogError> {
        let stream = self.stream(context).await?;
        let purged = stream.purge().sequence(before_seq).await;
        purged.map(drop).map_err(|error| self.unreachable("delete old messages", &error))?;
        self.refresh(context);
        Ok(())
    }

    async fn range(
        &self,
        context: &Context,
        from_seq: u64,
        to_seq: u64,
        sender: &mpsc::Sender<Result<(u64, Bytes), LogError>>,
    ) {
        if let Err(error) = self.read_range(context, from_seq, to_seq, sender).await {
            drop(sender.send(Err(error)).await);
        }
    }

    // A consumer reads from whoever has the messages, many at once. It may be behind the leader, and is then asked again.
    async fn read_range(
        &self,
        context: &Context,
        from_seq: u64,
        to_seq: u64,
        sender: &mpsc::Sender<Result<(u64, Bytes), LogError>>,
    ) -> Result<(), LogError> {
        let action = "read a range of messages";
        let stream = self.stream(context).await?;
        let deliver_policy = DeliverPolicy::ByStartSequence { start_sequence: from_seq };
        let ordered = OrderedConfig { deliver_policy, ..OrderedConfig::default() };
        let consumer = stream.create_consumer(ordered).await.map_err(|error| self.unreachable(action, &error))?;
        let mut messages = consumer.messages().await.map_err(|error| self.unreachable(action, &error))?;
        loop {
            let Ok(Some(message)) = tokio::time::timeout(RANGE_SILENCE_MAX, messages.next()).await else {
                return Ok(());
            };
            let message = message.map_err(|error| self.unreachable(action, &error))?;
            let seq = message.info().map_err(|error| self.unreachable(action, &error))?.stream_sequence;
            if sender.send(Ok((seq, message.payload.clone()))).await.is_err() || seq >= to_seq {
                return Ok(());
            }
        }
    }

    async fn stream(&self, context: &Context) -> Result<Stream<()>, LogError> {
        let stream = context.get_stream_no_info(self.options.stream()).await;
        stream.map_err(|error| self.unreachable("name it", &error))
    }

    fn refresh(&self, context: &Context) {
        let (worker, context) = (self.clone(), context.clone());
        spawn(async move {
            if let Ok(stream) = worker.stream(&context).await
                && let Ok(info) = stream.get_info().await
            {
                worker.shared.note(&info);
            }
        });
    }

    fn unreachable(&self, action: &'static str, error: &dyn std::fmt::Display) -> LogError {
        let (error, trouble) = (error.to_string(), self.shared.trouble());
        let reason = match (error.is_empty(), trouble.is_empty() || error == trouble) {
            (false, true) => error,
            (true, _) => trouble,
            (false, false) => format!("{error}; {trouble}"),
        };
        LogError::Unreachable { stream: self.options.stream(), action, reason }
    }

    fn refused(&self, action: &'static str, error: &jetstream::Error) -> LogError {
        LogError::Refused {
            stream: self.options.stream(),
            action,
            reason: error.to_string(),
            remedy: "look at the server's log, its JetStream limits and the rights of this user".into(),
        }
    }
}

fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    // On the thread's own runtime; it ends with that.
    drop(tokio::spawn(future));
}

fn note_event(shared: &Shared, event: &Event) {
    match event {
        Event::Connected => shared.set_trouble(String::new()),
        Event::Disconnected => shared.set_trouble("no connection to a server".into()),
        Event::ServerError(error) => shared.set_trouble(error.to_string()),
        Event::ClientError(error) => shared.set_trouble(error.to_string()),
        _ => {}
    }
}

// What the server says of a message, as far as it says whether it is stored.
fn outcome_of(shared: &Shared, error: &PublishError) -> Outcome {
    let source = std::error::Error::source(error);
    let jetstream = source.and_then(|source| source.downcast_ref::<jetstream::Error>());
    let reason = || jetstream.map_or_else(|| error.to_string(), ToString::to_string);
    match error.kind() {
        PublishErrorKind::WrongLastSequence => Outcome::WrongLast { found: None },
        PublishErrorKind::MaxPayloadExceeded => Outcome::TooLarge { bytes_max: shared.payload_bytes_max() },
        _ => match jetstream.map(jetstream::Error::error_code) {
            Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT) => Outcome::WrongLast { found: None },
            Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM) => {
                Outcome::TooLarge { bytes_max: shared.payload_bytes_max() }
            }
            // The limits of stream, account and server. Anything else says nothing about the message.
            Some(
                ErrorCode::STREAM_STORE_FAILED
                | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
                | ErrorCode::STORAGE_RESOURCES_EXCEEDED
                | ErrorCode::INSUFFICIENT_RESOURCES,
            ) => Outcome::Full { reason: reason() },
            _ => Outcome::Unknown { reason: reason() },
        },
    }
}
