//! A client whose peer is late, deaf, short-lived or gone, and a whole switch that drains.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fluxrig_actors::Tallies;
use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::Flags;
use serde_json::{Value as Json, json};
use tokio::net::{TcpListener, TcpStream};

use super::super::socket::not_to_itself;
use super::server::lines;
use super::{Peer, Stage, bytes, until};
use crate::IoTcp;

/// Lines to a peer there, with more keys.
fn lines_to(address: std::net::SocketAddr, more: Json) -> Json {
    let mut config = json!({
        "mode": "client", "connect": address.to_string(), "framing": { "delimiter": "\n" },
        "backoff_ms": { "first": 1, "max": 5 },
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

async fn host() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn accept(listener: &TcpListener) -> Peer {
    Peer(listener.accept().await.unwrap().0)
}

impl Stage {
    fn link(&self) -> Option<(bool, String)> {
        self.rig.links().first().map(|link| (link.is_up, link.reason.to_string()))
    }

    async fn linked(&self, is_up: bool) {
        until("the link is said", || self.link().is_some_and(|link| link.0 == is_up)).await;
    }
}

#[tokio::test]
async fn a_connection_of_a_socket_with_itself_is_none_and_leaves_the_port_to_the_peer() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let itself = socket.connect(address).await.unwrap();
    assert_eq!(not_to_itself(itself).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);

    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(address).unwrap();
    let listener = socket.listen(1).unwrap();
    assert!(not_to_itself(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()).is_ok());
}

#[tokio::test]
async fn a_peer_that_appears_later_gets_what_waited() {
    let address = host().await.local_addr().unwrap();
    let stage = Stage::tcp(lines_to(address, json!({}))).await;
    stage.desk.send(bytes(b"first"));
    stage.desk.send(bytes(b"second"));
    stage.linked(false).await;
    until("several attempts", || stage.tally("connection_failures", "all") > 3).await;
    assert_eq!(stage.link().unwrap().1, "cannot connect: connection refused");
    until("both wait on their wire", || stage.rig.wires()[1].depth == 2).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let mut peer = accept(&listener).await;
    peer.expect(b"first\nsecond\n").await;
    stage.linked(true).await;
    peer.send(b"answer\n").await;
    assert_eq!(stage.desk.raws(1).await, [b"answer"]);
    stage.stop().await;
}

#[tokio::test]
async fn a_lost_connection_is_said_and_made_again() {
    let listener = host().await;
    let stage = Stage::tcp(lines_to(listener.local_addr().unwrap(), json!({}))).await;
    for round in 1..=3 {
        let mut peer = accept(&listener).await;
        stage.linked(true).await;
        // What the peer asks over one connection is not answered over another.
        peer.send(b"ask\n").await;
        let asked = stage.desk.seen(round).await;
        if round > 1 {
            stage.desk.answer(&asked[round - 2], b"late");
            assert_eq!(stage.dead(round - 1).await.last().unwrap(), "gone");
        }
        stage.desk.answer(&asked[round - 1], b"now");
        peer.expect(b"now\n").await;
        peer.send(b"torn").await;
        drop(peer);
        stage.closed("truncated", round as u64).await;
    }
    stage.stop().await;
}

#[tokio::test]
async fn keys_of_the_backoff_say_how_long_it_waits() {
    let address = host().await.local_addr().unwrap();
    let patient = Stage::tcp(lines_to(address, json!({ "backoff_ms": { "first": 600_000, "max": 600_000 } }))).await;
    let eager = Stage::tcp(lines_to(address, json!({ "backoff_ms": { "first": 1, "max": 2 } }))).await;
    until("the eager one tries often", || eager.tally("connection_failures", "all") > 20).await;
    assert_eq!(patient.tally("connection_failures", "all"), 1);
    patient.stop().await;
    eager.stop().await;
}

#[tokio::test]
async fn an_attempt_to_connect_has_a_bound() {
    // A listener that accepts nothing, and whose queue is full, leaves attempts without an answer.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        filling.push(stream.unwrap());
    }
    let stage = Stage::tcp(lines_to(address, json!({ "connect_ms": 20 }))).await;
    until("it gives up", || stage.link().is_some_and(|link| link.1 == "cannot connect: no answer in 20 ms")).await;
    stage.stop().await;
}

const LARGE: usize = 1 << 20;

/// Large messages for a peer that reads none of them, so many that some of one is on its way and others wait.
async fn stuck(stage: &Stage, count: usize) {
    for number in 0..count {
        stage.desk.send(bytes(&vec![b'a' + number as u8; LARGE]));
    }
    until("the system takes no more", || {
        let written = stage.tally("frames_out", "all");
        written < count as u64 && stage.tally("bytes_out", "all") > written * (LARGE as u64 + 1)
    })
    .await;
}

fn large_to(address: std::net::SocketAddr, more: Json) -> Json {
    let mut config = lines_to(address, json!({ "message_bytes_max": LARGE, "unsent_max": 1 << 30 }));
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

#[tokio::test]
async fn a_message_cut_in_the_middle_is_reported_and_those_behind_it_go_to_the_next_connection() {
    let listener = host().await;
    let stage = Stage::tcp(large_to(listener.local_addr().unwrap(), json!({}))).await;
    let deaf = accept(&listener).await;
    stuck(&stage, 20).await;
    let done = stage.tally("frames_out", "all") as usize;
    drop(deaf);
    let mut peer = accept(&listener).await;
    for number in done + 1..20 {
        peer.expect(&[vec![b'a' + number as u8; LARGE], vec![b'\n']].concat()).await;
    }
    let reports = stage.desk.seen(1).await;
    assert_eq!(reports.len(), 1);
    assert!(reports[0].flags.contains(Flags::MAYBE_SENT) && reports[0].reference.is_some());
    assert_eq!(reports[0].meta.get("fluxrig.reason"), Some("the connection ended while it was written"));
    stage.counted("frames_out", "all", 19).await;
    stage.stop().await;
}

#[tokio::test]
async fn a_message_cut_in_the_middle_is_sent_again_where_that_is_wanted() {
    let listener = host().await;
    let stage = Stage::tcp(large_to(listener.local_addr().unwrap(), json!({ "on_maybe_sent": "resend" }))).await;
    let deaf = accept(&listener).await;
    stuck(&stage, 20).await;
    let done = stage.tally("frames_out", "all") as usize;
    drop(deaf);
    let mut peer = accept(&listener).await;
    for number in done..20 {
        peer.expect(&[vec![b'a' + number as u8; LARGE], vec![b'\n']].concat()).await;
    }
    stage.counted("frames_out", "all", 20).await;
    assert_eq!(stage.desk.count(), 0);
    stage.stop().await;
}

#[tokio::test]
async fn a_slow_peer_makes_the_wire_wait_and_gets_everything() {
    let listener = host().await;
    let stage = Stage::tcp(large_to(listener.local_addr().unwrap(), json!({ "unsent_max": LARGE + 8 }))).await;
    let mut slow = accept(&listener).await;
    stuck(&stage, 26).await;
    until("the rest waits on its wire or for its turn", || stage.rig.wires()[1].depth > 1).await;
    for number in 0..26 {
        slow.expect(&[vec![b'a' + number as u8; LARGE], vec![b'\n']].concat()).await;
    }
    stage.counted("frames_out", "all", 26).await;
    assert_eq!(stage.tally("connections_opened", "all"), 1);
    stage.stop().await;
}

#[tokio::test]
async fn what_a_crash_left_open_is_reported_and_never_sent_again() {
    let listener = host().await;
    let stage = Stage::tcp(large_to(listener.local_addr().unwrap(), json!({}))).await;
    let deaf = accept(&listener).await;
    stuck(&stage, 20).await;
    let done = stage.tally("frames_out", "all") as usize;
    stage.rig.restart_gear("net").await.unwrap();
    let mut peer = accept(&listener).await;
    let reports = stage.desk.seen(20 - done).await;
    assert!(reports.iter().all(|report| report.flags.contains(Flags::MAYBE_SENT)));
    stage.desk.send(bytes(b"fresh"));
    peer.expect(b"fresh\n").await;
    drop(deaf);
    stage.stop().await;
}

#[tokio::test]
async fn what_was_taken_and_not_begun_is_on_its_wire_again_when_the_connection_is_lost() {
    let listener = host().await;
    let address = listener.local_addr().unwrap();
    let stage = Stage::tcp(large_to(address, json!({ "on_maybe_sent": "report" }))).await;
    let peer = accept(&listener).await;
    stuck(&stage, 24).await;
    let written = stage.tally("frames_out", "all");
    drop((peer, listener));
    stage.linked(false).await;
    assert_eq!(stage.desk.seen(1).await[0].meta.get("fluxrig.outcome"), Some("unknown"));
    // The endpoint ends while it is not connected: of what it had taken it had begun one message only.
    stage.rig.restart_gear("net").await.unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    let mut peer = accept(&listener).await;
    for number in written + 1..24 {
        peer.expect(&[&vec![b'a' + number as u8; LARGE][..], b"\n"].concat()).await;
    }
    assert_eq!(stage.desk.count(), 1, "nothing else is reported");
    stage.stop().await;
}

#[tokio::test]
async fn what_has_expired_meanwhile_is_not_sent() {
    let listener = host().await;
    let stage = Stage::tcp(large_to(listener.local_addr().unwrap(), json!({}))).await;
    let deaf = accept(&listener).await;
    stuck(&stage, 20).await;
    let mut msg = bytes(b"short-lived");
    let soon = stage.rig.dead_letters().map(|_| Duration::from_millis(300)).unwrap();
    #[expect(clippy::disallowed_methods, reason = "an expiry is a wall time, and this rig runs on the real one")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    msg.expires = Some((now + soon).as_nanos() as i64);
    stage.desk.send(msg);
    tokio::time::sleep(soon).await;
    drop(deaf);
    let mut peer = accept(&listener).await;
    stage.desk.send(bytes(b"fresh"));
    assert_eq!(stage.dead(1).await, ["expired"]);
    let rest = async {
        let mut all = Vec::new();
        while !all.ends_with(b"\nfresh\n") {
            let mut part = vec![0; 1 << 16];
            let count = tokio::io::AsyncReadExt::read(&mut peer.0, &mut part).await.unwrap();
            all.extend(&part[..count]);
        }
    };
    rest.await;
    stage.stop().await;
}

/// Asks the host and answers the terminal; a request is open until its reply is there.
struct Switch;

impl Gear for Switch {
    const TYPE: &'static str = "test_switch";
    type State = ();

    fn ports(&self) -> Ports {
        Ports::none().input_feeding("ask", &["host"]).reply("reply", &["back"]).output("host").output("back")
    }

    fn handle(&self, mut msg: FluxMsg, (): &mut (), out: &mut Outlet) -> Result<(), GearError> {
        if out.port() == "ask" {
            out.put("return", Value::from(msg.return_to.as_ref().unwrap().to_vec()));
            out.timer("open", Duration::from_secs(600));
            out.emit_on("host", msg);
            return Ok(());
        }
        let Some(Value::Bytes(way)) = out.get("return") else { return Err(GearError::reject("nobody asked")) };
        out.cancel("open");
        msg.return_to = Some(way.to_vec().into());
        out.emit_on("back", msg);
        Ok(())
    }
}

/// The same endpoint, which leaves its counters where a test finds them when the rig has ended.
struct Counted {
    inner: Arc<IoTcp>,
    tallies: Arc<OnceLock<Tallies>>,
}

impl Endpoint for Counted {
    const TYPE: &'static str = IoTcp::TYPE;

    fn ports(&self) -> Ports {
        self.inner.ports()
    }

    fn opens(&self) -> bool {
        self.inner.opens()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        self.tallies.get_or_init(|| io.tallies().clone());
        Arc::clone(&self.inner).run(io).await
    }
}

#[tokio::test]
async fn a_switch_that_drains_reads_replies_and_answers_and_takes_nothing_more() {
    let listener = host().await;
    let terminals: IoTcp = serde_json::from_value(lines(json!({}))).unwrap();
    let client: IoTcp = serde_json::from_value(lines_to(listener.local_addr().unwrap(), json!({}))).unwrap();
    let bound = terminals.bound();
    let tallies = Arc::new(OnceLock::new());
    let rig = Rig::new("switch")
        .endpoint("terminals", Counted { inner: Arc::new(terminals), tallies: Arc::clone(&tallies) })
        .endpoint("host", client)
        .gear("switch", Switch)
        .turbo("terminals", "switch.ask")
        .turbo("switch.host", "host")
        .turbo("host", "switch.reply")
        .turbo("switch.back", "terminals");
    let rig = rig.start().await.unwrap();
    let address = bound.address().unwrap();
    let mut host = accept(&listener).await;
    let mut terminal = Peer(TcpStream::connect(address).await.unwrap());
    terminal.send(b"ask\n").await;
    host.expect(b"ask\n").await;
    let stop = tokio::spawn(rig.stop(Duration::from_secs(20)));
    // A connection that the system had taken already is closed when the listener is.
    while TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    terminal.send(b"too late\n").await;
    host.send(b"reply\n").await;
    terminal.expect(b"reply\n").await;
    assert!(stop.await.unwrap(), "nothing is left open");
    assert!(terminal.end().await.is_empty());
    assert!(host.end().await.is_empty(), "what came too late went no further");
    let refused = |label| tallies.get().unwrap().tally("refused", label).get();
    assert_eq!((refused("draining"), refused("limit")), (1, 0));
}
