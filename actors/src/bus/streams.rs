//! Streams and consumers on the servers: made when they are missing, mended where only a limit differs, refused where
//! someone made something else of them, and removed only when told.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, ReplayPolicy};
use async_nats::jetstream::context::{GetStreamErrorKind, RequestErrorKind};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy, StorageType};
use futures_util::TryStreamExt;
use serde::de::DeserializeOwned;

use super::{Bus, BusError, BusOptions};

/// Messages that a consumer is given before it acks one: more than a sender has under way, so that whatever a sent-again
/// window leaves out can still arrive.
pub(super) const UNACKED_MAX: i64 = 4096;

/// A message that is not acked by then is given again.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(2);

/// How long the server remembers ids of messages.
const DEDUP_WINDOW: Duration = Duration::from_secs(120);

/// Key in the metadata of what is ours: the rack that owns it.
const MARK: &str = "fluxrig.rack";

/// Consumers that a status lists; more are counted only.
const LISTED_MAX: usize = 1024;

const DRIFT_REMEDY: &str =
    "see `fluxrig bus status`; put it back, or remove it with `fluxrig bus prune`, which loses what it holds";

/// Name of a rack's stream of wires.
pub(super) fn stream_name(rack: &str) -> String {
    format!("FLUX_MSG_{rack}")
}

/// A stream as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStatus {
    /// Its name.
    pub name: String,
    /// The rack that owns it, where it says so.
    pub rack: Option<String>,
    /// Messages that it holds.
    pub messages: u64,
    /// Bytes that it holds.
    pub bytes: u64,
    /// Bytes that it may hold; `None` is up to the account.
    pub max_bytes: Option<u64>,
    /// Copies.
    pub replicas: usize,
    /// What is not as we make it.
    pub drift: Option<BusError>,
    /// Who reads it.
    pub consumers: Vec<ConsumerStatus>,
}

/// A consumer as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerStatus {
    /// Its name.
    pub name: String,
    /// The rack that reads, where it says so.
    pub rack: Option<String>,
    /// What it reads.
    pub subject: String,
    /// Messages that it was not given yet.
    pub pending: u64,
    /// Messages that it was given and has not acked.
    pub unacked: u64,
    /// Whether somebody asks for messages at the moment.
    pub is_read: bool,
    /// What is not as we make it.
    pub drift: Option<BusError>,
}

/// What is on the servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusStatus {
    /// Streams of wires, by name.
    pub streams: Vec<StreamStatus>,
}

/// What a prune removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Streams.
    pub streams: Vec<String>,
    /// Consumers, as `stream/consumer`.
    pub consumers: Vec<String>,
}

impl Bus {
    /// What is on the servers for racks, with what is not as we make it.
    ///
    /// # Errors
    /// When the servers do not answer.
    pub async fn status(&self) -> Result<BusStatus, BusError> {
        let link = self.up().await;
        let what = || "list of streams".to_owned();
        let mut names: Vec<String> =
            link.context.stream_names().try_collect().await.map_err(|error| answer(what(), &error.to_string()))?;
        names.retain(|name| name.starts_with("FLUX_"));
        names.sort();
        let mut status = BusStatus::default();
        for name in names {
            let Some(info) = stream_info(&link.context, &name).await? else { continue };
            let drift = name.strip_prefix("FLUX_MSG_").and_then(|rack| {
                let wanted = wanted_stream(rack, &self.shared.options);
                stream_drift(&info.config, &wanted)
            });
            let handle =
                link.context.get_stream_no_info(&name).await.map_err(|error| answer(what(), &error.to_string()))?;
            let consumers: Vec<consumer::Info> = handle
                .consumers()
                .try_collect()
                .await
                .map_err(|error| answer(format!("consumers of stream `{name}`"), &error.to_string()))?;
            let mut consumers: Vec<_> = consumers.iter().take(LISTED_MAX).map(consumer_status).collect();
            consumers.sort_by(|a, b| a.name.cmp(&b.name));
            status.streams.push(StreamStatus {
                rack: info.config.metadata.get(MARK).cloned(),
                messages: info.state.messages,
                bytes: info.state.bytes,
                max_bytes: u64::try_from(info.config.max_bytes).ok(),
                replicas: info.config.num_replicas,
                drift,
                consumers,
                name,
            });
        }
        Ok(status)
    }

    /// Removes the streams and consumers that `is_meant` says yes to: `(stream, None)` for a stream with all its
    /// messages, `(stream, Some(consumer))` for a consumer with its place in it.
    ///
    /// # Errors
    /// When the servers do not answer, or do not let us; what was removed before stays removed.
    pub async fn prune(&self, mut is_meant: impl FnMut(&str, Option<&str>) -> bool) -> Result<Pruned, BusError> {
        let link = self.up().await;
        let mut pruned = Pruned::default();
        for stream in self.status().await?.streams {
            let name = stream.name;
            if is_meant(&name, None) {
                let removed = link.context.delete_stream(&name).await;
                removed.map_err(|error| answer(format!("removal of stream `{name}`"), &error.to_string()))?;
                pruned.streams.push(name);
                continue;
            }
            for consumer in stream.consumers {
                if !is_meant(&name, Some(&consumer.name)) {
                    continue;
                }
                let removed = link.context.delete_consumer_from_stream(&consumer.name, &name).await;
                let what = format!("removal of consumer `{}` of stream `{name}`", consumer.name);
                removed.map_err(|error| answer(what, &error.to_string()))?;
                pruned.consumers.push(format!("{name}/{}", consumer.name));
            }
        }
        Ok(pruned)
    }

    /// The stream of `rack`, as it should be. Only its owner changes its limits.
    pub(crate) async fn ensure_stream(&self, context: &Context, rack: &str) -> Result<stream::Info, BusError> {
        let wanted = wanted_stream(rack, &self.shared.options);
        let Some(info) = stream_info(context, &wanted.name).await.map_err(|error| self.or_denied(error))? else {
            return self.create_stream(context, wanted).await;
        };
        if let Some(drift) = stream_drift(&info.config, &wanted) {
            return Err(drift);
        }
        if rack == self.rack() && limits_differ(&info.config, &wanted) {
            tracing::info!(stream = %wanted.name, "bus: the stream's limits are set anew");
            let mended = stream::Config {
                num_replicas: wanted.num_replicas,
                max_bytes: wanted.max_bytes,
                duplicate_window: wanted.duplicate_window,
                ..info.config.clone()
            };
            let updated: stream::Info =
                ask(context, format!("STREAM.UPDATE.{}", wanted.name), &mended, "change of stream").await?;
            return Ok(updated);
        }
        Ok(info)
    }

    async fn create_stream(&self, context: &Context, wanted: stream::Config) -> Result<stream::Info, BusError> {
        let subject = format!("STREAM.CREATE.{}", wanted.name);
        match ask(context, subject, &wanted, "stream").await {
            Err(BusError::Drift { .. }) => {
                // Another rack was faster; or another stream has our subjects.
                match stream_info(context, &wanted.name).await? {
                    Some(info) => stream_drift(&info.config, &wanted).map_or(Ok(info), Err),
                    None => Err(BusError::Drift {
                        what: "stream",
                        name: wanted.name,
                        found: "another stream with its subjects".into(),
                        expected: format!("`{}` for it alone", wanted.subjects.join(", ")),
                        remedy: "take the subjects off the other stream",
                    }),
                }
            }
            other => other.map_err(|error| self.or_denied(error)),
        }
    }

    /// A durable consumer of one subject of the stream, as it should be.
    pub(crate) async fn ensure_consumer(
        &self,
        context: &Context,
        stream: &str,
        name: &str,
        subject: &str,
        reader_rack: &str,
    ) -> Result<consumer::Info, BusError> {
        let wanted = wanted_consumer(name, subject, reader_rack);
        let found = consumer_info(context, stream, name).await.map_err(|error| self.or_denied(error))?;
        if let Some(info) = found {
            if let Some(drift) = consumer_drift(&info.config, &wanted) {
                return Err(drift);
            }
            if info.config.ack_wait == wanted.ack_wait && info.config.max_ack_pending == wanted.max_ack_pending {
                return Ok(info);
            }
        }
        let request = CreateConsumer { stream_name: stream, config: &wanted };
        let path = format!("CONSUMER.CREATE.{stream}.{name}.{subject}");
        ask(context, path, &request, "consumer").await.map_err(|error| self.or_denied(error))
    }

    /// A request that nobody answers may be one that the server denied.
    fn or_denied(&self, error: BusError) -> BusError {
        match error {
            BusError::Silent { .. } => self.denied_api().unwrap_or(error),
            other => other,
        }
    }
}

#[derive(serde::Serialize)]
struct CreateConsumer<'a> {
    stream_name: &'a str,
    config: &'a consumer::Config,
}

fn wanted_stream(rack: &str, options: &BusOptions) -> stream::Config {
    stream::Config {
        name: stream_name(rack),
        subjects: vec![format!("flux.msg.{rack}.>")],
        retention: RetentionPolicy::Interest,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: options.replicas.into(),
        max_bytes: options.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        max_message_size: -1,
        duplicate_window: DEDUP_WINDOW,
        description: Some(format!("wires out of rack {rack}")),
        metadata: HashMap::from([(MARK.to_owned(), rack.to_owned())]),
        ..stream::Config::default()
    }
}

/// What someone has made of our stream that we do not undo; limits are none of it.
fn stream_drift(found: &stream::Config, wanted: &stream::Config) -> Option<BusError> {
    let mark = |config: &stream::Config| config.metadata.get(MARK).cloned();
    let unlimited = |limit: i64| limit <= 0;
    let checks = [
        (mark(found) != mark(wanted), "owner", format!("{:?}", mark(found)), format!("{:?}", mark(wanted))),
        (found.subjects != wanted.subjects, "subjects", found.subjects.join(", "), wanted.subjects.join(", ")),
        (found.retention != wanted.retention, "retention", format!("{:?}", found.retention), "Interest".into()),
        (found.discard != wanted.discard, "discard", format!("{:?}", found.discard), "New".into()),
        (found.storage != wanted.storage, "storage", format!("{:?}", found.storage), "File".into()),
        (!found.max_age.is_zero(), "max_age", format!("{:?}", found.max_age), "none".into()),
        (!unlimited(found.max_messages), "max_msgs", found.max_messages.to_string(), "none".into()),
        (
            !unlimited(found.max_messages_per_subject),
            "max_msgs_per_subject",
            found.max_messages_per_subject.to_string(),
            "none".into(),
        ),
        (found.no_ack, "no_ack", "true".into(), "false".into()),
        (found.sealed, "sealed", "true".into(), "false".into()),
        (found.mirror.is_some(), "mirror", "one".into(), "none".into()),
        (found.sources.as_ref().is_some_and(|sources| !sources.is_empty()), "sources", "some".into(), "none".into()),
        (found.subject_transform.is_some(), "subject_transform", "one".into(), "none".into()),
    ];
    drift("stream", &wanted.name, checks)
}

fn drift<const N: usize>(
    what: &'static str,
    name: &str,
    checks: [(bool, &'static str, String, String); N],
) -> Option<BusError> {
    let differing: Vec<_> = checks.into_iter().filter(|(differs, ..)| *differs).collect();
    if differing.is_empty() {
        return None;
    }
    let listed = |pick: fn(&(bool, &'static str, String, String)) -> String| {
        differing.iter().map(pick).collect::<Vec<_>>().join(", ")
    };
    Some(BusError::Drift {
        what,
        name: name.to_owned(),
        found: listed(|(_, key, found, _)| format!("`{key}` {found}")),
        expected: listed(|(_, key, _, expected)| format!("`{key}` {expected}")),
        remedy: DRIFT_REMEDY,
    })
}

fn limits_differ(found: &stream::Config, wanted: &stream::Config) -> bool {
    found.num_replicas != wanted.num_replicas
        || found.max_bytes.max(-1) != wanted.max_bytes
        || found.duplicate_window != wanted.duplicate_window
}

fn wanted_consumer(name: &str, subject: &str, reader_rack: &str) -> consumer::Config {
    consumer::Config {
        durable_name: Some(name.to_owned()),
        name: Some(name.to_owned()),
        description: Some(format!("wires into rack {reader_rack}")),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_deliver: -1,
        filter_subject: subject.to_owned(),
        replay_policy: ReplayPolicy::Instant,
        max_ack_pending: UNACKED_MAX,
        metadata: HashMap::from([(MARK.to_owned(), reader_rack.to_owned())]),
        ..consumer::Config::default()
    }
}

fn consumer_drift(found: &consumer::Config, wanted: &consumer::Config) -> Option<BusError> {
    let name = wanted.name.as_deref().unwrap_or_default();
    let mark = |config: &consumer::Config| config.metadata.get(MARK).cloned();
    let checks = [
        (mark(found) != mark(wanted), "reader", format!("{:?}", mark(found)), format!("{:?}", mark(wanted))),
        (found.ack_policy != wanted.ack_policy, "ack_policy", format!("{:?}", found.ack_policy), "Explicit".into()),
        (
            found.deliver_policy != wanted.deliver_policy,
            "deliver_policy",
            format!("{:?}", found.deliver_policy),
            "All".into(),
        ),
        (found.max_deliver > 0, "max_deliver", found.max_deliver.to_string(), "-1".into()),
        (
            found.filter_subject != wanted.filter_subject || !found.filter_subjects.is_empty(),
            "filter_subject",
            format!("{}{}", found.filter_subject, found.filter_subjects.join(", ")),
            wanted.filter_subject.clone(),
        ),
        (
            found.replay_policy != wanted.replay_policy,
            "replay_policy",
            format!("{:?}", found.replay_policy),
            "Instant".into(),
        ),
        (!found.backoff.is_empty(), "backoff", "some".into(), "none".into()),
        (found.headers_only, "headers_only", "true".into(), "false".into()),
        (found.deliver_subject.is_some(), "deliver_subject", "one".into(), "none, it is pulled".into()),
    ];
    drift("consumer", name, checks)
}

fn consumer_status(info: &consumer::Info) -> ConsumerStatus {
    let rack = info.config.metadata.get(MARK).cloned();
    let wanted = wanted_consumer(&info.name, &info.config.filter_subject, rack.as_deref().unwrap_or_default());
    ConsumerStatus {
        name: info.name.clone(),
        subject: info.config.filter_subject.clone(),
        pending: info.num_pending,
        unacked: info.num_ack_pending as u64,
        is_read: info.num_waiting > 0,
        drift: rack.is_some().then(|| consumer_drift(&info.config, &wanted)).flatten(),
        rack,
    }
}

async fn stream_info(context: &Context, name: &str) -> Result<Option<stream::Info>, BusError> {
    let what = || format!("stream `{name}`");
    match context.get_stream(name).await {
        Ok(stream) => Ok(Some(stream.cached_info().clone())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            GetStreamErrorKind::JetStream(error) => Err(answer(what(), &error.to_string())),
            _ => Err(BusError::Silent { what: what() }),
        },
    }
}

pub(super) async fn consumer_info(
    context: &Context,
    stream: &str,
    name: &str,
) -> Result<Option<consumer::Info>, BusError> {
    match ask(context, format!("CONSUMER.INFO.{stream}.{name}"), &serde_json::json!({}), "consumer").await {
        Ok(info) => Ok(Some(info)),
        Err(BusError::Answer { answer, .. }) if answer == NOT_THERE => Ok(None),
        Err(error) => Err(error),
    }
}

/// How [`ask`] says that there is none.
const NOT_THERE: &str = "not there";

/// One request to the servers' API.
async fn ask<T: DeserializeOwned>(
    context: &Context,
    path: String,
    request: &impl serde::Serialize,
    what: &'static str,
) -> Result<T, BusError> {
    let of = || format!("{what} (`{path}`)");
    match context.request::<_, _, Response<T>>(path.clone(), request).await {
        Ok(Response::Ok(value)) => Ok(value),
        Ok(Response::Err { error }) => {
            let code = error.error_code();
            let is_limit = [
                ErrorCode::MAXIMUM_STREAMS_LIMIT,
                ErrorCode::MAXIMUM_CONSUMERS_LIMIT,
                ErrorCode::STORAGE_RESOURCES_EXCEEDED,
                ErrorCode::MEMORY_RESOURCES_EXCEEDED,
                ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
                ErrorCode::INSUFFICIENT_RESOURCES,
                ErrorCode::STREAM_MAX_BYTES_REQUIRED,
                ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED,
                ErrorCode::NO_LIMITS,
            ];
            let is_other = [
                ErrorCode::STREAM_NAME_EXIST,
                ErrorCode::STREAM_SUBJECT_OVERLAP,
                ErrorCode::CONSUMER_NAME_EXIST,
                ErrorCode::CONSUMER_ALREADY_EXISTS,
            ];
            if code == ErrorCode::CONSUMER_NOT_FOUND {
                Err(answer(of(), NOT_THERE))
            } else if is_limit.contains(&code) {
                Err(BusError::Limit { limit: format!("`{error}`"), what: of() })
            } else if is_other.contains(&code) {
                Err(BusError::Drift {
                    what,
                    name: path.clone(),
                    found: error.to_string(),
                    expected: "none, or ours".into(),
                    remedy: DRIFT_REMEDY,
                })
            } else {
                Err(answer(of(), &error.to_string()))
            }
        }
        Err(error) => match error.kind() {
            RequestErrorKind::NoResponders => Err(answer(of(), "nobody serves JetStream here")),
            RequestErrorKind::Other => Err(answer(of(), &error.to_string())),
            _ => Err(BusError::Silent { what: of() }),
        },
    }
}

fn answer(what: String, answer: &str) -> BusError {
    BusError::Answer { what, answer: answer.to_owned() }
}

#[cfg(test)]
mod tests;
