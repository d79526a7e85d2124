//! Other NATS clients on a wire's subject: what they publish comes in once, what they cannot mean is refused, what they
//! purge or cut is said.

use std::time::Duration;

use async_nats::HeaderMap;
use fluxrig_actors::RunningRig;
use fluxrig_actors::prelude::*;

use crate::parts::{Hand, Rack, Sink, number, push, subject, until, until_true};
use crate::server::Server;

const STOP: Duration = Duration::from_secs(20);

fn arrivals(rig: &RunningRig, label: &str) -> u64 {
    let tallies = rig.tallies();
    let of_label = tallies.iter().filter(|(_, series, of, _)| *series == "bus_arrivals" && of == label);
    of_label.map(|(.., count)| count).sum()
}

/// JSON and CBOR become fields, in the order of the stream, once each over restarts of the reader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_let_in_once() {
    let Some(server) = Server::start("").await else { return };
    let south = Rack::new("south", server.options());
    let sink = Sink::default();
    let receiver = south.receiver(&sink).await;
    until_true("it reads", || receiver.links().iter().any(|link| link.is_up)).await;
    let jetstream = async_nats::jetstream::new(server.stranger().await);
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    headers.insert("Nats-Msg-Id", "order-1");
    let json = r#"{"number": 0, "site": {"name": "N1"}}"#;
    let ack = jetstream.publish_with_headers(subject().to_string(), headers, json.into()).await.unwrap().await.unwrap();
    assert_eq!(ack.stream, "FLUX_MSG_north");
    // { "number": 1 }
    let cbor: &'static [u8] = b"\xa1\x66number\x01";
    jetstream.publish(subject().to_string(), cbor.into()).await.unwrap().await.unwrap();
    for payload in ["nonsense", "[1, 2]", "", "{\"number\": "] {
        jetstream.publish(subject().to_string(), payload.into()).await.unwrap().await.unwrap();
    }
    let mut forged = HeaderMap::new();
    forged.insert("Flux-Wire", "1 2 3");
    jetstream.publish_with_headers(subject().to_string(), forged, json.into()).await.unwrap().await.unwrap();
    until_true("two come in", || sink.len() == 2).await;
    until_true("five are refused", || receiver.dead_letter_count() == 5).await;
    let msgs = sink.msgs();
    assert_eq!(msgs[0].trace.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    assert_eq!(msgs[0].meta.get("nats.msg_id"), Some("order-1"));
    assert_eq!(msgs[0].data.get_str("site.name").and_then(Value::as_text), Some("N1"));
    let letters = receiver.dead_letters().unwrap();
    assert!(letters.iter().all(|letter| letter.reason.contains("expected") && letter.gear == "in"), "{letters:?}");
    assert_eq!(letters[0].msg.raw.as_deref(), Some(&b"nonsense"[..]));
    assert_eq!(arrivals(&receiver, "refused"), 5);
    receiver.kill().await;
    for number in 2..200 {
        let json = format!("{{\"number\": {number}}}");
        jetstream.publish(subject().to_string(), json.into()).await.unwrap().await.unwrap();
    }
    for _ in 0..3 {
        let before = sink.len();
        let receiver = south.receiver(&sink).await;
        until_true("more come", || sink.len() > before || sink.len() >= 200).await;
        receiver.kill().await;
    }
    let receiver = south.receiver(&sink).await;
    let all = || {
        let mut numbers = sink.numbers();
        numbers.sort_unstable();
        numbers
    };
    until("all come once", || {
        let numbers = all();
        if numbers.len() >= 200 { Ok(()) } else { Err(numbers.len().to_string()) }
    })
    .await;
    assert_eq!(all(), (0..200).collect::<Vec<_>>());
    assert_eq!(receiver.dead_letter_count(), 5);
    // All is acked, so that the stream holds nothing any more.
    let mut stream = jetstream.get_stream("FLUX_MSG_north").await.unwrap();
    for left in (0..2000).rev() {
        if stream.info().await.unwrap().state.messages == 0 {
            break;
        }
        assert!(left > 0, "still {} messages", stream.cached_info().state.messages);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(receiver.stop(STOP).await);
}

/// Other clients read what a rack publishes: with the trace beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_read_along() {
    use futures_util::StreamExt;
    let Some(server) = Server::start("").await else { return };
    let north = Rack::new("north", server.options());
    let client = server.stranger().await;
    let mut reader = client.subscribe(subject().to_string()).await.unwrap();
    client.flush().await.unwrap();
    let hand = Hand::new();
    let sender = north.sender(&hand).await;
    push(&hand.io().await, 7..8).await;
    let message = tokio::time::timeout(STOP, reader.next()).await.unwrap().unwrap();
    let headers = message.headers.unwrap();
    let msg = FluxMsg::decode(&message.payload, &Default::default()).unwrap();
    assert_eq!((number(&msg), headers.get("traceparent").unwrap().as_str()), (7, &*msg.trace.to_string()));
    let id = headers.get("Nats-Msg-Id").unwrap().as_str().to_owned();
    assert!(id.starts_with(&msg.id.to_string()) && id.contains("-out-"), "{id}");
    assert_eq!(headers.get("Flux-Wire").unwrap().as_str().split(' ').count(), 4);
    assert!(sender.stop(STOP).await);
}

/// Somebody purges what was acked: it is said, and what comes after it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_stream_is_noticed() {
    let Some(server) = Server::start("").await else { return };
    let (north, south) = (Rack::new("north", server.options()), Rack::new("south", server.options()));
    let (hand, sink) = (Hand::new(), Sink::default());
    let sender = north.sender(&hand).await;
    let receiver = south.receiver(&sink).await;
    push(&hand.io().await, 0..10).await;
    until_true("ten come", || sink.len() == 10).await;
    assert!(receiver.stop(STOP).await);
    push(&hand.io().await, 10..20).await;
    assert!(sender.idle().await);
    let jetstream = async_nats::jetstream::new(server.stranger().await);
    jetstream.get_stream("FLUX_MSG_north").await.unwrap().purge().await.unwrap();
    push(&hand.io().await, 20..30).await;
    let receiver = south.receiver(&sink).await;
    until_true("ten more come", || sink.len() == 20).await;
    assert_eq!(sink.numbers(), (0..10).chain(20..30).collect::<Vec<_>>());
    assert!(arrivals(&receiver, "never arrived") >= 1);
    assert!(receiver.stop(STOP).await && sender.stop(STOP).await);
}

/// The server's store loses its tail while it is down: it is said, and what comes after it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_tail_is_noticed() {
    lost_tail(false, "never arrived").await;
}

/// The sender is started again as well, and knows no more what it had published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_tail_is_noticed_when_its_sender_was_started_again() {
    lost_tail(true, "unexplained").await;
}

async fn lost_tail(is_sender_new: bool, counted: &str) {
    let Some(mut server) = Server::start("").await else { return };
    let (north, south) = (Rack::new("north", server.options()), Rack::new("south", server.options()));
    let (hand, sink) = (Hand::new(), Sink::default());
    let mut sender = north.sender(&hand).await;
    let receiver = south.receiver(&sink).await;
    push(&hand.io().await, 0..10).await;
    until_true("ten come", || sink.len() == 10).await;
    assert!(receiver.stop(STOP).await);
    push(&hand.io().await, 10..200).await;
    // What it does not durably know to be acked it would publish once more.
    assert!(sender.idle().await && sender.durable().await);
    server.kill();
    let messages = server.dir().join("store/jetstream/$G/streams/FLUX_MSG_north/msgs");
    drop(std::fs::remove_file(messages.join("index.db")));
    let blocks = std::fs::read_dir(&messages).unwrap().map(|entry| entry.unwrap().path());
    let block = blocks.filter(|path| path.extension().is_some_and(|end| end == "blk")).max().unwrap();
    let bytes = std::fs::metadata(&block).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&block).unwrap().set_len(bytes / 2).unwrap();
    server.restart();
    if is_sender_new {
        sender.kill().await;
        sender = north.sender(&hand).await;
    }
    push(&hand.io().await, 200..210).await;
    let receiver = south.receiver(&sink).await;
    until("the last comes", || match sink.numbers().last() {
        Some(209) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let numbers = sink.numbers();
    assert!(numbers.is_sorted() && numbers.len() < 210 && numbers.contains(&200), "{numbers:?}");
    assert!(arrivals(&receiver, counted) >= 1, "{numbers:?}");
    assert!(receiver.stop(STOP).await && sender.stop(STOP).await);
}
