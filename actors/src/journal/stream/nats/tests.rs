//! What needs no server: names, and what is wrong with a stream that somebody changed. Servers are met in conformance.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};

use super::*;

fn options() -> NatsLogOptions {
    NatsLogOptions { rack: "plant-7".into(), servers: vec!["nats://127.0.0.1:4222".into()], ..Default::default() }
}

#[test]
fn names_and_numbers_are_checked() {
    assert_eq!(
        (options().stream(), options().subject()),
        ("FLUX_JOURNAL_plant-7".into(), "flux.journal.plant-7".into())
    );
    check(&options()).unwrap();
    for rack in ["", "plant 7", "plant.7", "plant*", "plant>"] {
        let text = check(&NatsLogOptions { rack: rack.into(), ..options() }).unwrap_err().to_string();
        assert!(text.contains("a rack called"), "{text}");
    }
    assert!(check(&NatsLogOptions { servers: Vec::new(), ..options() }).is_err());
    assert!(check(&NatsLogOptions { replicas: 6, ..options() }).is_err());
}

#[test]
fn a_stream_that_somebody_changed_is_refused_or_brought_back() {
    let wanted = config::wanted(&options());
    config::check(&wanted, &options()).unwrap();
    assert!(config::migrated(&wanted, &options()).is_none());
    let changes: [fn(&mut Config); 7] = [
        |config| config.subjects.push("other".into()),
        |config| config.retention = RetentionPolicy::WorkQueue,
        |config| config.storage = StorageType::Memory,
        |config| config.max_age = Duration::from_secs(60),
        |config| config.no_ack = true,
        |config| config.sealed = true,
        |config| config.deny_purge = true,
    ];
    for change in changes {
        let mut changed = wanted.clone();
        change(&mut changed);
        let text = config::check(&changed, &options()).unwrap_err().to_string();
        assert!(text.contains("FLUX_JOURNAL_plant-7") && text.contains("remedy"), "{text}");
    }
    let changes: [fn(&mut Config); 4] = [
        |config| config.allow_direct = true,
        |config| config.discard = DiscardPolicy::Old,
        |config| config.max_bytes = 7,
        |config| config.num_replicas = 3,
    ];
    for change in changes {
        let mut changed = wanted.clone();
        change(&mut changed);
        config::check(&changed, &options()).unwrap();
        assert_eq!(config::migrated(&changed, &options()), Some(wanted.clone()));
    }
}
