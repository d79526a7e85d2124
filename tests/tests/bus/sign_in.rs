//! Every way to sign in, used by a wire and by a journal; wrong ones are refused with the key to mend.

use std::sync::Arc;

use fluxrig_actors::bus::{Bus, BusDurability, BusIn, BusOptions, BusOut, Secret};
use fluxrig_actors::prelude::*;
use fluxrig_gears::{FileSink, Generator};
use fluxrig_tests::outside::nats::{self, Server, Wanted};
use fluxrig_tests::outside::place::Place;
use nkeys::KeyPair;

use crate::jwt::Operator;
use crate::parts::{options, passes, refused, server, until};

/// Refused, and told which key to mend.
async fn is_refused(options: BusOptions, way: &str, remedy: &str) {
    let why = refused(options).await;
    assert!(why.contains(&format!("expected to be let in with {way}; remedy: {remedy}")), "{why}");
    assert!(!why.contains("s3cret"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_and_password() {
    let config = "authorization { user: rack, password: s3cret }";
    let Some(server) = server("sign_in::user_and_password", config) else { return };
    let with = |user: &str, password: &str| BusOptions {
        user: Some(user.into()),
        password: Some(Secret::new(password)),
        ..options(&server)
    };
    passes(with("rack", "s3cret"), BusDurability::Flush).await;
    for (user, password) in [("rack", "s3cret."), ("other", "s3cret")] {
        is_refused(with(user, password), "`user` and `password`", "mend them, or add the user on the server").await;
    }
    is_refused(options(&server), "nobody's name", "write `user` and `password`, `token`, `nkey` or `credentials`")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token() {
    let Some(server) = server("sign_in::token", "authorization { token: s3cret }") else { return };
    let with = |token: &str| BusOptions { token: Some(Secret::new(token)), ..options(&server) };
    passes(with("s3cret"), BusDurability::Flush).await;
    is_refused(with("s3cret."), "`token`", "mend it, or the server's `authorization`").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nkey() {
    let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
    let config = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", user.public_key());
    let Some(server) = server("sign_in::nkey", &config) else { return };
    let with = |user: &KeyPair| BusOptions { nkey: Some(Secret::new(user.seed().unwrap())), ..options(&server) };
    passes(with(&user), BusDurability::Flush).await;
    is_refused(with(&other), "`nkey`", "add its public key to the server's users").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials() {
    let operator = Operator::new();
    let Some(server) = server("sign_in::credentials", &operator.config) else { return };
    let place = Place::new().unwrap();
    let with =
        |name: &str, text: &str| BusOptions { credentials: Some(place.file(name, text).unwrap()), ..options(&server) };
    passes(with("good.creds", &operator.credentials), BusDurability::Flush).await;
    let strangers = Operator::new();
    for (name, text) in [("forged.creds", &operator.forged), ("stranger.creds", &strangers.credentials)] {
        is_refused(with(name, text), "`credentials`", "write the file anew (`nsc generate creds`)").await;
    }
    let why = refused(with("none.creds", "nothing of the kind")).await;
    assert!(why.contains("bus: `credentials`: found") && why.contains("expected a user's JWT and seed"), "{why}");
    assert!(!why.contains("none.creds") && !why.contains("nothing of the kind"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn domain() {
    let Some(program) = nats::program("sign_in::domain") else { return };
    let wanted = Wanted { jetstream: "domain: edge".into(), ..Wanted::default() };
    let server = Server::start(&program, &wanted).unwrap();
    let with = |domain: &str| BusOptions { domain: Some(domain.into()), ..options(&server) };
    passes(with("edge"), BusDurability::Flush).await;
    let why = refused(with("hub")).await;
    assert!(why.contains("found no JetStream of domain `hub` behind server `single`"), "{why}");
    assert!(why.contains("remedy: write the name that stands in the servers' `jetstream { domain: … }`"), "{why}");
}

/// What a rack needs beside its own subjects, each denied in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_permission_that_is_missing_is_named() {
    let config = r#"authorization { users: [
        { user: "inbox", password: "s3cret", permissions: { subscribe: { deny: ["_INBOX.>"] } } }
        { user: "stream", password: "s3cret", permissions: { publish: { deny: ["$JS.API.STREAM.>"] } } }
        { user: "consumer", password: "s3cret", permissions: { publish: { deny: ["$JS.API.CONSUMER.CREATE.>"] } } }
        { user: "next", password: "s3cret", permissions: { publish: { deny: ["$JS.API.CONSUMER.MSG.NEXT.>"] } } }
        { user: "ack", password: "s3cret", permissions: { publish: { deny: ["$JS.ACK.>"] } } }
    ] }"#;
    let Some(server) = server("sign_in::each_permission", config) else { return };
    let with =
        |user: &str| BusOptions { user: Some(user.into()), password: Some(Secret::new("s3cret")), ..options(&server) };
    let inbox = refused(with("inbox")).await;
    assert!(inbox.contains("found no permission to subscribe to `_INBOX."), "{inbox}");
    assert!(inbox.contains("to the user's `subscribe` permissions on the server"), "{inbox}");
    let cases = [
        ("stream", "out", "$JS.API.STREAM."),
        ("consumer", "out", "$JS.API.CONSUMER.CREATE."),
        ("next", "in", "$JS.API.CONSUMER.MSG.NEXT."),
        ("ack", "in", "$JS.ACK."),
    ];
    for (user, endpoint, subject) in cases {
        let why = waits(with(user), endpoint, subject).await;
        assert!(why.contains(&format!("found no permission to publish to `{subject}")), "{user}: {why}");
        assert!(why.contains("to the user's `publish` permissions on the server"), "{user}: {why}");
    }
}

/// What an endpoint says that it waits for.
async fn waits(options: BusOptions, endpoint: &str, part: &str) -> String {
    let bus = Bus::start(options, "north");
    let place = Place::new().unwrap();
    let subject = || "flux.msg.north.source.out".parse().unwrap();
    let readers = vec![("north".into(), BusIn::reader_name("north", "in"))];
    let out = BusOut { readers, ..BusOut::new(Arc::clone(&bus), subject()) };
    let rig = Rig::new("bus")
        .endpoint("source", Generator::counting(5))
        .endpoint("out", out)
        .endpoint("in", BusIn::new(bus, subject()))
        .endpoint("sink", FileSink::at(place.path().join("lines.jsonl")))
        .turbo("source", "out")
        .turbo("in", "sink");
    let rig = rig.start().await.unwrap();
    let why = until("the endpoint says why it waits", || {
        let links = rig.links();
        match links.iter().find(|link| link.endpoint == endpoint) {
            Some(link) if !link.is_up && link.reason.contains(part) => Ok(link.reason.to_string()),
            other => Err(format!("{part}: {other:?}")),
        }
    })
    .await;
    rig.kill().await;
    why
}
