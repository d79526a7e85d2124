//! What needs no server: names, and what is wrong with a stream that somebody changed. Servers are met in conformance.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
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

/// Takes a connection as a server does, and then says nothing more.
fn greeted(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    let info = r#"INFO {"server_id":"S","version":"2.12.6","max_payload":1048576,"headers":true}"#;
    stream.write_all(format!("{info}\r\n").as_bytes()).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "PING"), "it signs in");
    stream.write_all(b"PONG\r\n").unwrap();
    stream
}

#[test]
fn a_connection_that_falls_silent_is_given_up_for_a_new_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = vec![format!("nats://{}", listener.local_addr().unwrap())];
    let options = NatsLogOptions { servers, ping_every: Duration::from_millis(50), ..options() };
    let (sender, connections) = std::sync::mpsc::channel();
    // None of them is ended by this side.
    std::thread::spawn(move || while sender.send(greeted(&listener)).is_ok() {});
    let _log = NatsLog::start(options, ConnectOptions::new()).unwrap();
    let patience = Duration::from_secs(20);
    let _first = connections.recv_timeout(patience).expect("it connects");
    let _second = connections.recv_timeout(patience).expect("it connects again");
}
