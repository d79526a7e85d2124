//! Cases of `io_iso8583` are files; polls, its lengths and what it marks are here, the rest is tested beside `net`.

use serde_json::{Value as Json, json};

use crate::net::tests::{Peer, Stage, bytes, until};

#[tokio::test(start_paused = true)]
async fn cases() {
    crate::tests::harness::check_cases("io_iso8583").await;
}

fn server(framing: Json, more: Json) -> Json {
    let mut config = json!({ "mode": "server", "bind": "127.0.0.1:0", "framing": framing });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn be16(more: Json) -> Json {
    server(json!({ "length": "be16" }), more)
}

#[tokio::test]
async fn every_length_goes_there_and_back_and_messages_say_what_they_are() {
    let cases: [(Json, &[u8]); 8] = [
        (json!({ "length": "be16" }), b"\0\x040800\0\x0302x"),
        (json!({ "length": "be16", "inclusive": true }), b"\0\x060800\0\x0502x"),
        (json!({ "length": "be32" }), b"\0\0\0\x040800\0\0\0\x0302x"),
        (json!({ "length": "be32", "inclusive": true }), b"\0\0\0\x080800\0\0\0\x0702x"),
        (json!({ "length": "ascii4" }), b"00040800000302x"),
        (json!({ "length": "ascii4", "inclusive": true }), b"00080800000702x"),
        (json!({ "length": "bcd2" }), b"\0\x040800\0\x0302x"),
        (json!({ "length": "bcd2", "inclusive": true }), b"\0\x060800\0\x0502x"),
    ];
    for (framing, stream) in cases {
        let stage = Stage::iso(server(framing, json!({}))).await;
        let mut peer = stage.connect().await;
        peer.send(stream).await;
        assert_eq!(stage.desk.raws(2).await, [&b"0800"[..], b"02x"]);
        for msg in stage.desk.seen(2).await {
            assert_eq!(msg.meta.get("content"), Some("iso8583"));
            stage.desk.answer(&msg, msg.raw.as_ref().unwrap());
        }
        peer.expect(stream).await;
        stage.stop().await;
    }
}

#[tokio::test]
async fn lengths_that_lie_close_their_connection() {
    let cases: [(Json, &[u8], &str); 6] = [
        (json!({ "length": "ascii4" }), b"00x4", "length"),
        (json!({ "length": "ascii4" }), b"9999", "oversize"),
        (json!({ "length": "ascii4", "inclusive": true }), b"0003", "length"),
        (json!({ "length": "bcd2" }), b"\x0a\x00", "length"),
        (json!({ "length": "bcd2", "inclusive": true }), b"\0\x01", "length"),
        (json!({ "length": "be32" }), b"\xff\xff\xff\xff", "oversize"),
    ];
    for (framing, prefix, reason) in cases {
        let stage = Stage::iso(server(framing, json!({ "message_bytes_max": 1000 }))).await;
        let mut peer = stage.connect().await;
        peer.send(prefix).await;
        assert!(peer.end().await.is_empty());
        stage.closed(reason, 1).await;
        stage.stop().await;
    }
}

#[tokio::test]
async fn a_poll_is_echoed_and_goes_no_further() {
    let stage = Stage::iso(server(json!({ "length": "ascii4", "inclusive": true }), json!({}))).await;
    let mut peer = stage.connect().await;
    peer.send(b"0004000400080800").await;
    peer.expect(b"00040004").await;
    assert_eq!(stage.desk.raws(1).await, [b"0800"]);
    assert_eq!((stage.tally("polls_in", "all"), stage.tally("polls_out", "all")), (2, 2));
    assert_eq!(stage.tally("frames_in", "all"), 1);
    stage.stop().await;
}

#[tokio::test]
async fn a_storm_of_polls_closes_its_connection() {
    for (polls_max, good, storm) in [(3, &b"\0\0\0\0\0\0\0\x01x\0\0\0\0\0\0"[..], &b"\0\0"[..]), (0, b"", b"\0\0")] {
        let stage = Stage::iso(be16(json!({ "polls_max": polls_max }))).await;
        let mut peer = stage.connect().await;
        // A message between them begins a new row.
        peer.send(good).await;
        let echoes = vec![0; 4 * polls_max];
        peer.expect(&echoes).await;
        peer.send(storm).await;
        assert!(peer.end().await.is_empty());
        stage.closed("polls", 1).await;
        stage.stop().await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_polled_and_an_echo_is_not_echoed() {
    let stage = Stage::iso(be16(json!({ "poll_ms": 60, "idle_ms": 800 }))).await;
    let mut peer = stage.connect().await;
    for _ in 0..20 {
        // Beyond `idle_ms` in all: what is echoed is alive.
        peer.expect(b"\0\0").await;
        peer.send(b"\0\0").await;
    }
    assert!(peer.end().await.iter().all(|byte| *byte == 0));
    stage.closed("idle", 1).await;
    assert_eq!(stage.tally("polls_in", "all"), 20);
    stage.stop().await;
}

#[tokio::test]
async fn two_of_ours_poll_each_other_without_end_or_storm() {
    let server = Stage::iso(be16(json!({ "poll_ms": 15, "idle_ms": 1000 }))).await;
    let client = json!({
        "mode": "client", "connect": server.address().to_string(), "framing": { "length": "be16" },
        "poll_ms": 10, "idle_ms": 1000,
    });
    let client = Stage::iso(client).await;
    until("they poll", || server.tally("polls_in", "all") > 20).await;
    client.desk.send(bytes(b"0800"));
    assert_eq!(server.desk.raws(1).await, [b"0800"]);
    assert_eq!(server.tally("connections_opened", "all"), 1);
    let (sent, came) = (client.tally("polls_out", "all"), client.tally("polls_in", "all"));
    assert!(came <= sent + server.tally("polls_out", "all"), "{sent} {came}");
    client.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_reports_what_may_have_been_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = json!({
        "mode": "client", "connect": listener.local_addr().unwrap().to_string(),
        "framing": { "length": "be32" }, "message_bytes_max": 1 << 20, "unsent_max": 1 << 30,
        "backoff_ms": { "first": 1, "max": 5 },
    });
    let stage = Stage::iso(config).await;
    let deaf = listener.accept().await.unwrap();
    for _ in 0..20 {
        stage.desk.send(bytes(&vec![b'x'; 1 << 20]));
    }
    until("one is cut", || {
        let written = stage.tally("frames_out", "all");
        written < 20 && stage.tally("bytes_out", "all") > written * ((1 << 20) + 4)
    })
    .await;
    stage.rig.restart_gear("net").await.unwrap();
    let mut peer = Peer(listener.accept().await.unwrap().0);
    let unsure = 20 - stage.tally("frames_out", "all") as usize;
    let reports = stage.desk.seen(unsure).await;
    assert!(reports.iter().all(|report| report.meta.get("fluxrig.outcome") == Some("unknown")));
    stage.desk.send(bytes(b"0800"));
    peer.expect(b"\0\0\0\x040800").await;
    drop(deaf);
    stage.stop().await;
}
