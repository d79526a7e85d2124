//! A server with peers that are well, slow, silent, hostile or gone.

use std::time::Duration;

use fluxrig_actors::prelude::*;
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;

use super::{Peer, Stage, bytes};
use crate::IoTcp;

/// Lines, with more keys.
pub(super) fn lines(more: Json) -> Json {
    let mut config = json!({ "mode": "server", "bind": "127.0.0.1:0", "framing": { "delimiter": "\n" } });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

#[tokio::test]
async fn answers_go_to_the_connection_that_asked() {
    let stage = Stage::tcp(lines(json!({}))).await;
    let (mut first, mut second) = (stage.connect().await, stage.connect().await);
    first.send(b"one\n").await;
    stage.desk.seen(1).await;
    second.send(b"two\nthr").await;
    stage.desk.seen(2).await;
    second.send(b"ee\n").await;
    let asked = stage.desk.seen(3).await;
    assert_eq!(stage.desk.raws(3).await, [&b"one"[..], b"two", b"three"]);
    assert_ne!(asked[0].return_to, asked[1].return_to);
    assert_eq!(asked[1].return_to, asked[2].return_to);
    for msg in asked.iter().rev() {
        stage.desk.answer(msg, msg.raw.as_ref().unwrap());
    }
    first.expect(b"one\n").await;
    second.expect(b"three\ntwo\n").await;
    assert_eq!((stage.tally("frames_in", "all"), stage.tally("bytes_in", "all")), (3, 14));
    stage.counted("frames_out", "all", 3).await;
    assert_eq!(stage.tally("bytes_out", "all"), 14);
    drop(first);
    stage.closed("peer", 1).await;
    stage.stop().await;
}

#[tokio::test]
async fn every_framing_goes_there_and_back() {
    let cases: [(Json, &[u8]); 6] = [
        (json!({ "delimiter": "\n" }), b"a\n\nbc\n"),
        (json!({ "delimiter": "\r\n" }), b"a\r\n\r\n\r\r\n"),
        (json!({ "length": "be16" }), b"\0\x01a\0\x02bc\0\x01d"),
        (json!({ "length": "be16", "inclusive": true }), b"\0\x03a\0\x04bc\0\x03d"),
        (json!({ "length": "be32" }), b"\0\0\0\x01a\0\0\0\x02bc\0\0\0\x01d"),
        (json!({ "length": "be32", "inclusive": true }), b"\0\0\0\x05a\0\0\0\x06bc\0\0\0\x05d"),
    ];
    for (framing, stream) in cases {
        let stage = Stage::tcp(lines(json!({ "framing": framing }))).await;
        let mut peer = stage.connect().await;
        peer.send(stream).await;
        for msg in stage.desk.seen(3).await {
            stage.desk.answer(&msg, msg.raw.as_ref().unwrap());
        }
        peer.expect(stream).await;
        stage.stop().await;
    }
}

#[tokio::test]
async fn connections_beyond_the_bound_are_refused_and_counted() {
    let stage = Stage::tcp(lines(json!({ "connections_max": 2 }))).await;
    let (mut first, second) = (stage.connect().await, stage.connect().await);
    stage.counted("connections_opened", "all", 2).await;
    assert!(stage.connect().await.end().await.is_empty());
    stage.counted("refused", "connections_max", 1).await;
    first.send(b"still there\n").await;
    stage.desk.seen(1).await;
    drop(second);
    stage.closed("peer", 1).await;
    let mut third = stage.connect().await;
    third.send(b"in its place\n").await;
    stage.desk.seen(2).await;
    stage.stop().await;
}

#[tokio::test]
async fn what_is_too_long_closes_its_connection_and_is_never_sent() {
    let stage = Stage::tcp(lines(json!({ "message_bytes_max": 4 }))).await;
    let (mut good, mut long, mut endless) = (stage.connect().await, stage.connect().await, stage.connect().await);
    long.send(b"1234\n12345\n").await;
    assert!(long.end().await.is_empty());
    endless.send(b"123456").await;
    assert!(endless.end().await.is_empty());
    stage.closed("oversize", 2).await;
    good.send(b"1234\n").await;
    let asked = stage.desk.seen(2).await;
    assert_eq!(stage.desk.raws(2).await, [b"1234", b"1234"]);
    stage.desk.answer(&asked[1], b"12345");
    stage.desk.answer(&asked[1], b"12\n4");
    stage.desk.answer(&asked[1], b"4321");
    good.expect(b"4321\n").await;
    let dead = stage.dead(2).await;
    assert!(dead[0].contains("found more bytes than `message_bytes_max`"), "{dead:?}");
    assert!(dead[1].contains("with the delimiter in it"), "{dead:?}");
    stage.stop().await;
}

#[tokio::test]
async fn lengths_that_lie_close_their_connection() {
    let prefixes: [(Json, &[u8], &str); 5] = [
        (json!({ "length": "be16" }), b"\xff\xff", "oversize"),
        (json!({ "length": "be32" }), b"\xff\xff\xff\xff", "oversize"),
        (json!({ "length": "be16" }), b"\0\0", "empty"),
        (json!({ "length": "be16", "inclusive": true }), b"\0\x01", "length"),
        (json!({ "length": "be32", "inclusive": true }), b"\0\0\0\x03", "length"),
    ];
    for (framing, prefix, reason) in prefixes {
        let stage = Stage::tcp(lines(json!({ "framing": framing, "message_bytes_max": 1000 }))).await;
        let mut peer = stage.connect().await;
        peer.send(prefix).await;
        assert!(peer.end().await.is_empty());
        stage.closed(reason, 1).await;
        stage.stop().await;
    }
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let stage = Stage::tcp(lines(json!({ "idle_ms": 300 }))).await;
    let mut peer = stage.connect().await;
    peer.send(b"x\n").await;
    assert!(peer.end().await.is_empty());
    stage.closed("idle", 1).await;
    assert_eq!(stage.desk.count(), 1);
    stage.stop().await;
}

#[tokio::test]
async fn an_idle_time_of_zero_is_for_ever() {
    let (patient, strict) =
        (Stage::tcp(lines(json!({ "idle_ms": 0 }))).await, Stage::tcp(lines(json!({ "idle_ms": 30 }))).await);
    let (mut silent, mut closed) = (patient.connect().await, strict.connect().await);
    patient.counted("connections_opened", "all", 1).await;
    assert!(closed.end().await.is_empty());
    silent.send(b"after a while\n").await;
    patient.desk.seen(1).await;
    patient.stop().await;
    strict.stop().await;
}

#[tokio::test]
async fn a_message_beyond_a_limit_of_the_rig_closes_its_connection() {
    let limits = fluxrig_actors::protocol::Limits { encoded_bytes: 5_000, ..Default::default() };
    let stage = Stage::limited(lines(json!({})), limits).await;
    let mut peer = stage.connect().await;
    peer.send(b"well\n").await;
    stage.desk.seen(1).await;
    peer.send(&[&[b'x'; 6_000][..], b"\nwell\n"].concat()).await;
    assert!(peer.end().await.is_empty());
    stage.closed("oversize", 1).await;
    assert!(stage.tally("refused", "limit") > 0);
    stage.stop().await;
}

#[tokio::test]
async fn a_message_that_trickles_in_closes_its_connection_and_nobody_waits_for_it() {
    let stage = Stage::tcp(lines(json!({ "frame_ms": 50 }))).await;
    let (mut slow, mut good) = (stage.connect().await, stage.connect().await);
    slow.send(b"whole\n").await;
    stage.desk.seen(1).await;
    let mut count = 1;
    while stage.tally("connections_closed", "slow") == 0 {
        // A byte now and then, and the message never ends.
        drop(tokio::io::AsyncWriteExt::write_all(&mut slow.0, b"x").await);
        good.send(b"quick\n").await;
        count += 1;
        stage.desk.seen(count).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    slow.end().await;
    stage.closed("slow", 1).await;
    assert_eq!(stage.tally("frames_in", "all"), count as u64);
    stage.stop().await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_closed_and_holds_up_nobody() {
    for (keys, reason) in [
        (json!({ "unsent_max": 200_000, "message_bytes_max": 100_000 }), "unsent"),
        (json!({ "unsent_max": 1 << 30, "write_ms": 50, "message_bytes_max": 100_000 }), "write"),
    ] {
        let stage = Stage::tcp(lines(keys)).await;
        let (mut deaf, mut good) = (stage.connect().await, stage.connect().await);
        deaf.send(b"ask\n").await;
        let asked = stage.desk.seen(1).await;
        let answer = vec![b'x'; 100_000];
        let mut count = 1;
        // The system keeps some for it, nobody says how much.
        while stage.tally("connections_closed", reason) == 0 {
            stage.desk.answer(&asked[0], &answer);
            good.send(b"ask\n").await;
            count += 1;
            let asked = stage.desk.seen(count).await;
            stage.desk.answer(asked.last().unwrap(), b"fine");
            good.expect(b"fine\n").await;
        }
        let dead = stage.dead(1).await;
        assert!(dead.iter().all(|reason| reason == "gone"), "{dead:?}");
        assert!(stage.rig.idle().await, "every answer is written or gone");
        stage.stop().await;
    }
}

#[tokio::test]
async fn peers_that_do_not_read_never_take_all_the_room_of_the_wire() {
    // Neither the bytes nor the time of a connection would close it.
    let stage = Stage::narrow(lines(json!({ "unsent_max": 1 << 30, "write_ms": 600_000 })), 64).await;
    let (mut first, mut second, mut good) = (stage.connect().await, stage.connect().await, stage.connect().await);
    first.send(b"ask\n").await;
    let mut asked = stage.desk.seen(1).await;
    second.send(b"ask\n").await;
    asked.extend(stage.desk.seen(2).await.into_iter().skip(1));
    let answer = vec![b'x'; 60_000];
    let mut count = 2;
    while stage.tally("connections_closed", "unsent") < 2 {
        for deaf in &asked {
            stage.desk.answer(deaf, &answer);
        }
        good.send(b"ask\n").await;
        count += 1;
        let asked = stage.desk.seen(count).await;
        stage.desk.answer(asked.last().unwrap(), b"fine");
        good.expect(b"fine\n").await;
    }
    assert!(stage.dead(1).await.iter().all(|reason| reason == "gone"));
    assert!(stage.rig.idle().await, "every answer is written or gone");
    drop((first, second));
    stage.stop().await;
}

#[tokio::test]
async fn who_is_alone_may_take_all_the_room_of_the_wire() {
    let stage = Stage::narrow(lines(json!({ "unsent_max": 1 << 30 })), 8).await;
    let mut peer = stage.connect().await;
    peer.send(b"ask\n").await;
    let asked = stage.desk.seen(1).await;
    let answer = vec![b'x'; 60_000];
    for _ in 0..400 {
        stage.desk.answer(&asked[0], &answer);
    }
    for _ in 0..400 {
        peer.expect(&[&answer[..], b"\n"].concat()).await;
    }
    assert!(stage.rig.dead_letters().unwrap().is_empty());
    stage.stop().await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything_in_order() {
    let stage = Stage::tcp(lines(json!({ "unsent_max": 1 << 30 }))).await;
    let mut peer = stage.connect().await;
    peer.send(b"ask\n").await;
    let asked = stage.desk.seen(1).await;
    let answers: Vec<Vec<u8>> = (0..400).map(|number| vec![b'a' + (number % 26) as u8; 50_000]).collect();
    for answer in &answers {
        stage.desk.answer(&asked[0], answer);
    }
    for answer in &answers {
        peer.expect(&[answer, &b"\n"[..]].concat()).await;
    }
    stage.counted("frames_out", "all", 400).await;
    assert_eq!(stage.tally("bytes_out", "all"), 400 * 50_001);
    assert!(stage.rig.dead_letters().unwrap().is_empty());
    stage.stop().await;
}

#[tokio::test]
async fn an_answer_to_a_connection_that_ended_is_gone() {
    let stage = Stage::tcp(lines(json!({}))).await;
    let mut peer = stage.connect().await;
    peer.send(b"ask\nhalf a mess").await;
    let asked = stage.desk.seen(1).await;
    drop(peer);
    stage.closed("truncated", 1).await;
    let mut other = stage.connect().await;
    other.send(b"me too\n").await;
    let both = stage.desk.seen(2).await;
    stage.desk.answer(&asked[0], b"for the first");
    stage.desk.answer(&both[1], b"for the second");
    other.expect(b"for the second\n").await;
    assert_eq!(stage.dead(1).await, ["gone"]);
    stage.stop().await;
}

#[tokio::test]
async fn a_message_without_a_way_back_or_without_bytes_is_a_dead_letter() {
    let stage = Stage::tcp(lines(json!({ "framing": { "length": "be16" } }))).await;
    let mut peer = stage.connect().await;
    peer.send(b"\0\x01?").await;
    let asked = stage.desk.seen(1).await;
    stage.desk.send(bytes(b"to whom"));
    stage.desk.answer(&asked[0], b"");
    let mut none = bytes(b"");
    none.return_to = asked[0].return_to.clone();
    none.raw = None;
    stage.desk.send(none);
    let dead = stage.dead(3).await;
    for (reason, found) in dead.iter().zip(["`return`: found none", "`raw`: found no bytes", "`raw`: found none"]) {
        assert!(reason.starts_with(found), "{reason}");
    }
    // A probe only tests the way.
    let mut probe = bytes(b"probe");
    probe.set_flags(fluxrig_actors::protocol::Flags::PROBE);
    stage.desk.send(probe);
    stage.desk.answer(&asked[0], b"!");
    peer.expect(b"\0\x01!").await;
    assert_eq!(stage.rig.dead_letters().unwrap().len(), 3);
    stage.stop().await;
}

#[tokio::test]
async fn a_restart_closes_all_connections_and_their_numbers_mean_nothing_any_more() {
    let port = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let stage = Stage::tcp(lines(json!({ "bind": port.to_string() }))).await;
    assert_eq!(stage.address(), port);
    let mut peer = stage.connect().await;
    peer.send(b"ask\n").await;
    let asked = stage.desk.seen(1).await;
    stage.rig.restart_gear("net").await.unwrap();
    assert!(peer.end().await.is_empty());
    stage.closed("ended", 1).await;
    let mut after = loop {
        if let Ok(stream) = TcpStream::connect(port).await {
            break Peer(stream);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    // The first connection of this start, as the other was of the one before.
    after.send(b"ask again\n").await;
    let again = stage.desk.seen(2).await;
    stage.desk.answer(&asked[0], b"old");
    stage.desk.answer(&again[1], b"new");
    after.expect(b"new\n").await;
    assert_eq!(stage.dead(1).await, ["gone"]);
    stage.stop().await;
}

#[tokio::test]
async fn an_address_in_use_keeps_the_rig_from_starting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint: IoTcp =
        serde_json::from_value(lines(json!({ "bind": taken.local_addr().unwrap().to_string() }))).unwrap();
    let rig = Rig::new("twice").endpoint("pumps", endpoint).start().await;
    let error = rig.unwrap_err().to_string();
    assert!(error.starts_with("gear `pumps`: `bind`: address in use: found `127.0.0.1:"), "{error}");
    assert!(error.contains("expected an address to listen on; remedy: end the process"), "{error}");
}

#[tokio::test]
async fn a_flood_waits_in_the_socket_while_the_rig_has_no_room() {
    let stage = Stage::narrow(lines(json!({ "idle_ms": 500, "frame_ms": 400 })), 8).await;
    stage.desk.hold();
    let mut flood = stage.connect().await;
    let line = [b'x'; 999];
    let sent: Vec<u8> = std::iter::repeat_n([&line[..], b"\n"].concat(), 10_000).flatten().collect();
    let (mut reader, mut writer) = flood.0.split();
    let write = tokio::io::AsyncWriteExt::write_all(&mut writer, &sent);
    let watch = async {
        stage.desk.seen(8).await;
        // Long past every limit on time: none of them counts while nothing is read.
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        assert!(stage.tally("bytes_in", "all") < 100_000, "{}", stage.tally("bytes_in", "all"));
        assert!(stage.desk.count() < 80, "{}", stage.desk.count());
        stage.desk.release();
        stage.desk.seen(10_000).await;
    };
    let (written, ()) = tokio::join!(write, watch);
    written.unwrap();
    // Then there is nothing more to read, and that counts.
    stage.closed("idle", 1).await;
    drop(tokio::io::AsyncReadExt::read(&mut reader, &mut [0]).await);
    stage.stop().await;
}
