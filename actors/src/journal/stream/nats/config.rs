//! How the server is to keep a journal's stream, and what is wrong with one that it keeps otherwise.

use async_nats::jetstream::stream::{Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType};

use super::super::log::LogError;
use super::NatsLogOptions;

/// The stream as it is made. Nothing is ever deleted but by a purge from the front, and what does not fit is refused.
pub(super) fn wanted(options: &NatsLogOptions) -> Config {
    Config {
        name: options.stream(),
        subjects: vec![options.subject()],
        description: Some(format!("journal of fluxrig rack `{}`; nobody else writes here", options.rack)),
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: options.replicas,
        max_bytes: max_bytes(options),
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        deny_delete: true,
        // A follower that answers may be behind; reads go to the leader.
        allow_direct: false,
        ..Config::default()
    }
}

fn max_bytes(options: &NatsLogOptions) -> i64 {
    options.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// What must be changed by an update that loses nothing.
pub(super) fn migrated(found: &Config, options: &NatsLogOptions) -> Option<Config> {
    let is_same = found.num_replicas == options.replicas
        && found.max_bytes == max_bytes(options)
        && !found.allow_direct
        && found.discard == DiscardPolicy::New
        && found.max_messages <= 0
        && found.max_messages_per_subject <= 0;
    (!is_same).then(|| Config {
        num_replicas: options.replicas,
        max_bytes: max_bytes(options),
        allow_direct: false,
        discard: DiscardPolicy::New,
        max_messages: -1,
        max_messages_per_subject: -1,
        ..found.clone()
    })
}

/// Refuses a stream in which a journal would not be safe, and that no update mends.
pub(super) fn check(found: &Config, options: &NatsLogOptions) -> Result<(), LogError> {
    let is_async = matches!(found.persist_mode, Some(PersistenceMode::Async));
    let has_sources = found.mirror.is_some() || found.sources.as_ref().is_some_and(|sources| !sources.is_empty());
    let is_changing = found.subject_transform.is_some() || found.republish.is_some();
    let checks = [
        (found.subjects != [options.subject()], format!("subjects {:?}", found.subjects), options.subject()),
        (found.retention != RetentionPolicy::Limits, format!("retention {:?}", found.retention), "Limits".into()),
        (found.storage != StorageType::File, format!("storage {:?}", found.storage), "File".into()),
        (!found.max_age.is_zero(), format!("max_age {:?}", found.max_age), "none: a journal does not age".into()),
        (found.no_ack, "no_ack".into(), "acks".into()),
        (found.sealed, "a sealed stream".into(), "one that can be written".into()),
        (found.deny_purge, "deny_purge".into(), "the right to purge what is trimmed".into()),
        (has_sources, "a mirror or sources".into(), "a stream that this rack alone writes".into()),
        (is_changing, "a transform or republish".into(), "messages that stay as they are".into()),
        (is_async, "persist_mode async".into(), "acks for what is stored".into()),
    ];
    match checks.into_iter().find(|(is_wrong, ..)| *is_wrong) {
        None => Ok(()),
        Some((_, found, expected)) => Err(LogError::Drift {
            stream: options.stream(),
            found,
            expected,
            remedy: "somebody else changed or made this stream: change it back, or give the rack another name".into(),
        }),
    }
}
