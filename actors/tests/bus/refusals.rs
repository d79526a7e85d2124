//! Servers that cannot be used, or not for this: each is refused with what was found, what was expected and the remedy,
//! and used as soon as it can be.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, RetentionPolicy};
use fluxrig_actors::bus::{Bus, BusDurability, BusOptions, BusOut, BusTls, Secret};
use fluxrig_actors::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::parts::{Hand, Rack, Sink, push, refused, subject, until, until_true, up, waits};
use crate::server::Server;

const STOP: Duration = Duration::from_secs(20);

const USERS: &str = r#"authorization { users: [
    { user: "rack", password: "right" }
    { user: "mute", password: "right", permissions: { publish: { deny: ["flux.msg.>"] } } }
    { user: "locked", password: "right", permissions: { publish: { deny: ["$JS.API.>"] } } }
] }"#;

fn signed_in(server: &Server, user: &str, password: &str) -> BusOptions {
    BusOptions { user: Some(user.into()), password: Some(Secret::new(password)), ..server.options() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_and_missing_permissions() {
    let Some(mut server) = Server::start(USERS).await else { return };
    let nobody = refused(&Bus::start(server.options(), "north")).await;
    assert!(nobody.contains("expected to be let in with nobody's name; remedy: write `user`"), "{nobody}");
    let bus = Bus::start(signed_in(&server, "rack", "wrong"), "north");
    let wrong = refused(&bus).await;
    assert!(wrong.contains("`user` and `password`; remedy: mend them") && !wrong.contains("right"), "{wrong}");
    server.configure(&format!("jetstream {{ store_dir: \"$STORE\" }}\n{}", USERS.replace("right", "wrong")));
    server.restart();
    up(&bus).await;
    let locked = refused(&Bus::start(signed_in(&server, "locked", "wrong"), "north")).await;
    assert!(locked.contains("found no permission to publish to `$JS.API.INFO`"), "{locked}");
    assert!(locked.contains("remedy: add `$JS.API.INFO` to the user's `publish` permissions"), "{locked}");
    let north = Rack::new("north", signed_in(&server, "mute", "wrong"));
    let hand = Hand::new();
    let sender = north.sender(&hand).await;
    push(&hand.io().await, 0..3).await;
    let mute = waits(&sender, "out", "no permission").await;
    assert!(mute.contains("found no permission to publish to `flux.msg.north.pumps.out`"), "{mute}");
    sender.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_jetstream_until_there_is() {
    let Some(mut server) = Server::start_with("").await else { return };
    let bus = Bus::start(server.options(), "north");
    let why = refused(&bus).await;
    assert!(why.contains("without JetStream for this account") && why.contains("`--jetstream`"), "{why}");
    server.configure("jetstream { store_dir: \"$STORE\" }");
    server.restart();
    up(&bus).await;
}

/// A listener that says what server it is, and nothing more.
async fn said_server(info: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let info = format!(
                    r#"{{"server_id":"S","server_name":"old","max_payload":1048576,"headers":true,"proto":1,{info}}}"#
                );
                drop(stream.write_all(format!("INFO {info}\r\n").as_bytes()).await);
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    if bytes[..count].windows(4).any(|four| four == b"PING") {
                        drop(stream.write_all(b"PONG\r\n").await);
                    }
                }
            });
        }
    });
    let why = refused(&Bus::start(BusOptions::at([url]), "north")).await;
    server.abort();
    why
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_server_is_refused() {
    let floor = |found: &str| {
        format!("bus: found server `old` of version {found}, expected at least 2.12.6; remedy: update it")
    };
    assert_eq!(said_server(r#""version":"2.12.5","jetstream":true"#).await, floor("2.12.5"));
    // Whether it has JetStream is not asked of one that is too old, nor of one that does not say.
    assert_eq!(said_server(r#""version":"2.9.25""#).await, floor("2.9.25"));
    assert_eq!(said_server(r#""version":"mine","jetstream":true"#).await, floor("mine"));
}

/// What others have made of a stream is refused, and used when it is put right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_is_refused_and_limits_are_mended() {
    let Some(server) = Server::start("").await else { return };
    let jetstream = async_nats::jetstream::new(server.stranger().await);
    let foreign = Config {
        name: "FLUX_MSG_north".into(),
        subjects: vec!["flux.msg.north.>".into()],
        retention: RetentionPolicy::Limits,
        ..Config::default()
    };
    jetstream.create_stream(foreign).await.unwrap();
    let (mut north, south) = (Rack::new("north", server.options()), Rack::new("south", server.options()));
    let (hand, sink) = (Hand::new(), Sink::default());
    let sender = north.sender(&hand).await;
    let receiver = south.receiver(&sink).await;
    push(&hand.io().await, 0..3).await;
    for (rig, endpoint) in [(&sender, "out"), (&receiver, "in")] {
        let why = waits(rig, endpoint, "stream `FLUX_MSG_north`").await;
        assert!(why.contains("`retention` Limits") && why.contains("`retention` Interest"), "{why}");
        assert!(why.contains("`owner` None") && why.contains("fluxrig bus prune"), "{why}");
    }
    let bus = north.bus();
    let status = bus.status().await.unwrap();
    assert!(status.streams[0].drift.is_some());
    bus.prune(|stream, _| stream == "FLUX_MSG_north").await.unwrap();
    until_true("they come", || sink.len() == 3).await;
    assert!(sender.stop(STOP).await);
    // Another limit is set at the next start, and nothing else changes.
    north.options.max_bytes = Some(2 << 20);
    let sender = north.sender(&hand).await;
    push(&hand.io().await, 3..5).await;
    until_true("more come", || sink.len() == 5).await;
    assert_eq!(bus.status().await.unwrap().streams[0].max_bytes, Some(2 << 20));
    // A consumer that somebody changed is refused in its turn.
    assert!(receiver.stop(STOP).await);
    bus.prune(|_, consumer| consumer == Some("south_in")).await.unwrap();
    let stream = jetstream.get_stream("FLUX_MSG_north").await.unwrap();
    let other = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some("south_in".into()),
        max_deliver: 3,
        ..Default::default()
    };
    stream.create_consumer(other).await.unwrap();
    let receiver = south.receiver(&sink).await;
    let why = waits(&receiver, "in", "consumer `south_in`").await;
    assert!(why.contains("`max_deliver` 3") && why.contains("`filter_subject`"), "{why}");
    receiver.kill().await;
    assert!(sender.stop(STOP).await);
}

/// Admits a message with a text of so many bytes.
async fn admit(io: &Io, number: i64, text_bytes: usize) {
    let mut msg = io.message();
    msg.data.insert_key("number", number);
    msg.data.insert_key("text", "x".repeat(text_bytes));
    io.door().admit(msg).await.unwrap();
}

/// How long the only dead letter says that it was, with its headers.
async fn refused_bytes(sender: &RunningRig, limit: &str) -> usize {
    let letters = || sender.dead_letters().unwrap();
    until_true("it is a dead letter", || letters().len() == 1).await;
    let letter = letters().remove(0);
    let expected = format!("with its headers, expected at most {limit}; remedy: raise it");
    assert!(letter.reason.contains(&expected), "{}", letter.reason);
    let bytes = letter.reason.strip_prefix("bus: found a message of ").and_then(|rest| rest.split(' ').next()).unwrap();
    sender.purge_letter(letter.seq).unwrap();
    bytes.parse().unwrap()
}

/// One byte too many is refused where it would leave, with limit, size and remedy; the wire goes on.
async fn is_refused_above(sender: &RunningRig, io: &Io, sink: &Sink, max: usize, limit: &str) {
    admit(io, 1, max).await;
    let around = refused_bytes(sender, limit).await - max;
    for (number, bytes) in [(2, max - 1), (3, max), (4, max + 1), (5, max)] {
        admit(io, number, bytes - around).await;
    }
    assert_eq!(refused_bytes(sender, limit).await, max + 1);
    until_true("the others come", || sink.len() == 3).await;
    assert_eq!(sink.numbers(), [2, 3, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_over_the_servers_limit_is_a_dead_letter() {
    let Some(server) = Server::start("max_payload: 4096").await else { return };
    let (north, south) = (Rack::new("north", server.options()), Rack::new("south", server.options()));
    let (hand, sink) = (Hand::new(), Sink::default());
    let sender = north.sender(&hand).await;
    let receiver = south.receiver(&sink).await;
    is_refused_above(&sender, &hand.io().await, &sink, 4096, "`max_payload` = 4096 of the server").await;
    assert!(receiver.stop(STOP).await && sender.stop(STOP).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_over_the_streams_limit_is_a_dead_letter() {
    let Some(server) = Server::start("").await else { return };
    let (north, south) = (Rack::new("north", server.options()), Rack::new("south", server.options()));
    let (hand, sink) = (Hand::new(), Sink::default());
    let sender = north.sender(&hand).await;
    let is_up = || sender.links().iter().any(|link| link.endpoint == "out" && link.is_up);
    until_true("the stream is made", is_up).await;
    assert!(sender.stop(STOP).await);
    let jetstream = async_nats::jetstream::new(server.stranger().await);
    let edit = async |max_message_size| {
        let mut config = jetstream.get_stream("FLUX_MSG_north").await.unwrap().cached_info().config.clone();
        config.max_message_size = max_message_size;
        jetstream.update_stream(config).await.unwrap();
    };
    edit(3000).await;
    let sender = north.sender(&hand).await;
    let receiver = south.receiver(&sink).await;
    let io = hand.io().await;
    is_refused_above(&sender, &io, &sink, 3000, "`max_msg_size` = 3000 of stream `FLUX_MSG_north`").await;
    // An edit while it is connected is told by the server alone.
    edit(1000).await;
    admit(&io, 6, 2000).await;
    admit(&io, 7, 10).await;
    until_true("the others come", || sink.len() == 4).await;
    assert_eq!(sink.numbers(), [2, 3, 5, 7]);
    let letter = sender.dead_letters().unwrap().remove(0);
    assert!(letter.reason.contains("remedy: raise the limit of stream `FLUX_MSG_north`"), "{}", letter.reason);
    assert!(receiver.stop(STOP).await && sender.stop(STOP).await);
}

/// What was published and not acked, and is too large for the server that comes back, holds up nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_was_lowered_makes_dead_letters_of_what_is_under_way() {
    let Some(mut server) = Server::start("").await else { return };
    let (north, south) = (Rack::new("north", server.options()), Rack::new("south", server.options()));
    let (hand, sink) = (Hand::new(), Sink::default());
    let sender = north.sender(&hand).await;
    let receiver = south.receiver(&sink).await;
    let io = hand.io().await;
    push(&io, 0..1).await;
    until_true("the first comes", || sink.len() == 1).await;
    server.pause(true);
    for (number, bytes) in [(1, 10), (2, 5000), (3, 10), (4, 5000)] {
        admit(&io, number, bytes).await;
    }
    waits(&sender, "out", "publish on `flux.msg.north.pumps.out`: found no answer").await;
    server.configure("jetstream { store_dir: \"$STORE\" }\nmax_payload: 4096");
    server.restart();
    admit(&io, 5, 10).await;
    until("the others come", || match sink.numbers() {
        numbers if numbers.len() == 4 => Ok(()),
        numbers => Err(format!("{numbers:?}, {:?}, {:?}", sender.links(), sender.wires())),
    })
    .await;
    assert_eq!(sink.numbers(), [0, 1, 3, 5]);
    let letters = sender.dead_letters().unwrap();
    assert_eq!(letters.len(), 2);
    assert!(letters.iter().all(|letter| letter.reason.contains("`max_payload` = 4096 of the server")));
    assert!(receiver.stop(STOP).await && sender.stop(STOP).await);
}

/// A stream that is full holds up its senders and loses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_holds_up() {
    let Some(server) = Server::start("").await else { return };
    let mut north = Rack::new("north", server.options());
    north.options.max_bytes = Some(1 << 20);
    let south = Rack::new("south", server.options());
    let (hand, sink) = (Hand::new(), Sink::default());
    let sender = north.sender(&hand).await;
    let io = hand.io().await;
    for number in 0..60 {
        let mut msg = io.message();
        msg.data.insert_key("number", i64::from(number));
        msg.data.insert_key("text", "x".repeat(40_000));
        io.door().admit(msg).await.unwrap();
    }
    waits(&sender, "out", "maximum bytes exceeded").await;
    let receiver = south.receiver(&sink).await;
    until("all come", || if sink.len() >= 60 { Ok(()) } else { Err(sink.len().to_string()) }).await;
    assert_eq!(sink.numbers(), (0..60).collect::<Vec<_>>());
    assert!(receiver.stop(STOP).await && sender.stop(STOP).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flush_asks_for_a_server_that_syncs() {
    let lazy = "jetstream { store_dir: \"$STORE\" }";
    let Some(mut server) = Server::start_with(lazy).await else { return };
    let unknown = Bus::start(BusOptions::at([server.url()]), "north");
    assert!(unknown.syncs().await.unwrap_err().to_string().contains("remedy: set `monitor_url`"));
    let options = BusOptions { monitor_url: Some(server.monitor_url()), ..BusOptions::at([server.url()]) };
    let bus = Bus::start(options.clone(), "north");
    let why = bus.syncs().await.unwrap_err().to_string();
    assert!(why.contains("set `sync_interval: always` in its `jetstream` block, or write `durability: os`"), "{why}");
    let north = Rack::new("north", options);
    let hand = Hand::new();
    let sender = north.sender(&hand).await;
    push(&hand.io().await, 0..2).await;
    waits(&sender, "out", "`sync_interval` not `always`").await;
    server.configure("jetstream { store_dir: \"$STORE\", sync_interval: always }");
    server.restart();
    assert!(sender.idle().await, "it goes on by itself");
    assert_eq!(bus.syncs().await, Ok(()));
    assert!(sender.stop(STOP).await);
    let elsewhere = BusOptions { monitor_url: Some("http://127.0.0.1:1".into()), ..BusOptions::at([server.url()]) };
    let why = Bus::start(elsewhere, "north").syncs().await.unwrap_err().to_string();
    assert!(why.contains("found no figures of JetStream at `monitor_url`"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicated_asks_for_three() {
    let Some(server) = Server::start("").await else { return };
    let north = Rack::new("north", server.options());
    let hand = Hand::new();
    let out = BusOut { durability: BusDurability::Replicated, ..BusOut::new(north.bus(), subject()) };
    let rig = Rig::new("wires").endpoint("source", hand.clone()).endpoint("out", out).turbo("source", "out");
    let rig = rig.start().await.unwrap();
    let why = waits(&rig, "out", "`num_replicas` 1").await;
    assert!(why.contains("at least 3 for `durability: replicated`") && why.contains("`replicas: 3`"), "{why}");
    rig.kill().await;
    // A cluster of one cannot keep three.
    let three = Rack::new("north", BusOptions { replicas: 3, ..server.options() });
    let sender = three.sender(&hand).await;
    let why = waits(&sender, "out", "bus: change of stream").await;
    assert!(why.contains("replicas > 1 not supported"), "{why}");
    sender.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_the_account_are_named() {
    let config = r#"accounts { A { jetstream: { max_streams: 1, max_file: 10M }, users: [ { user: "rack", password: "right" } ] } }"#;
    let Some(server) = Server::start(config).await else { return };
    let hand = Hand::new();
    let north = Rack::new("north", signed_in(&server, "rack", "right"));
    let sender = north.sender(&hand).await;
    push(&hand.io().await, 0..1).await;
    assert!(sender.idle().await);
    let receiver = Rack::new("west", signed_in(&server, "rack", "right"));
    let mut other = BusOut::new(receiver.bus(), "flux.msg.west.pumps.out".parse().unwrap());
    other.durability = BusDurability::Os;
    let west = Hand::new();
    let rig = Rig::new("west").endpoint("source", west.clone()).endpoint("out", other).turbo("source", "out");
    let rig = rig.start().await.unwrap();
    let why = waits(&rig, "out", "found the account's limit").await;
    assert!(why.contains("maximum number of streams reached") && why.contains("fluxrig bus prune"), "{why}");
    rig.kill().await;
    assert!(sender.stop(STOP).await);
}

/// Who each side is, by certificates.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_client_certificates() {
    let Some(mut server) = Server::start("").await else { return };
    let dir = server.dir().to_owned();
    let (ca, issuer) = authority();
    let write = |name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
    write("ca.pem", ca);
    let (other_ca, other_issuer) = authority();
    write("other.pem", other_ca);
    for name in ["server", "client", "forged"] {
        let issuer = if name == "forged" { &other_issuer } else { &issuer };
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        write(&format!("{name}.pem"), params.signed_by(&key, issuer).unwrap().pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    let tls =
        "tls { cert_file: \"$DIR/server.pem\", key_file: \"$DIR/server.key\", ca_file: \"$DIR/ca.pem\", verify: true }";
    server.configure(&format!("jetstream {{ store_dir: \"$STORE\" }}\n{tls}"));
    server.restart();
    let options = |ca: &str, cert: Option<&str>| {
        let of = |end: &str| cert.map(|name| dir.join(format!("{name}.{end}")));
        let tls = BusTls { ca: Some(dir.join(ca)), cert: of("pem"), key: of("key") };
        BusOptions { tls: Some(tls), servers: vec![format!("tls://127.0.0.1:{}", server.port)], ..server.options() }
    };
    up(&Bus::start(options("ca.pem", Some("client")), "north")).await;
    let why = refused(&Bus::start(options("other.pem", Some("client")), "north")).await;
    assert!(why.contains("found no encrypted connection") && why.contains("remedy: check `tls.ca`"), "{why}");
    for cert in [None, Some("forged")] {
        let why = refused(&Bus::start(options("ca.pem", cert), "north")).await;
        assert!(why.contains("found no encrypted connection") && why.contains("`tls.cert`"), "{cert:?}: {why}");
    }
    let why = refused(&Bus::start(options("missing.pem", None), "north")).await;
    assert!(why.contains("`tls.ca`: found no such file, expected a PEM file") && !why.contains("missing"), "{why}");
}

fn authority() -> (String, rcgen::Issuer<'static, rcgen::KeyPair>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    (pem, rcgen::Issuer::new(params, key))
}
