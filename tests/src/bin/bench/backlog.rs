//! How soon a rack goes on after `kill -9` with many messages waiting: from the kill to the first of them outside.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::daemon::{self, Daemon, Relay, free_address};
use super::row::{Bar, Rows, Scratch, median, pause};

const WAITING: u64 = 100_000;
const LINE_BYTES: usize = 200;
const RUNS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Lines in, lines out, and room for all of them between.
const SCENARIO: &str = r#"meta: { name: backlog, version: 0.1.0 }
gears:
  - { name: source, type: io_tcp, config: { mode: server, bind: "${TERMINALS}", framing: { delimiter: "\n" } } }
  - name: line
    type: io_tcp
    config: { mode: client, connect: "${HOST}", framing: { delimiter: "\n" }, backoff_ms: { first: 5, max: 50 } }
wires:
  - { from: source.out, to: line.in, capacity: 200000 }
"#;

pub(crate) fn resume(rows: &mut Rows) {
    if !rows.wants("rack.resume") {
        return;
    }
    let Some(program) = daemon::program() else { return };
    let times = (0..RUNS).map(|_| once(&program).as_secs_f64() * 1e3).collect();
    let note = format!(
        "{WAITING} lines of {LINE_BYTES} bytes wait on one durable wire for a peer that is not there, `kill -9`, peer and rack start; until the peer has the first line; all came, in order; median of {RUNS}"
    );
    let what = "`kill -9` with 100,000 messages waiting, to the first one outside";
    rows.add("rack.resume", what, median(times), "ms", Bar::AtMost(1000.0), &note);
}

fn once(program: &Path) -> Duration {
    let scratch = Scratch::new("backlog");
    let scenario = scratch.0.join("backlog.yaml");
    std::fs::write(&scenario, SCENARIO).expect("the temporary folder is writable");
    let (terminals, host) = (free_address(), free_address());
    let rack = Relay { program: program.to_owned(), scenario, lane: "standard", terminals, host };
    let data_dir = scratch.0.join("data");
    let mut daemon = rack.start(&data_dir);
    daemon.ready();
    // Kept: its end would be nothing to the rack, but the lines are written before it.
    let _source = feed(&daemon, terminals);
    let killed = Instant::now();
    daemon.kill();
    let listener = TcpListener::bind(host).expect("nobody took it meanwhile");
    let _daemon = rack.start(&data_dir);
    let (stream, _) = listener.accept().expect("the rack dials");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes it");
    let mut lines = BufReader::new(stream).lines();
    let mut took = None;
    for number in 0..WAITING {
        let line = lines.next().expect("all lines come").expect("in time");
        took.get_or_insert_with(|| killed.elapsed());
        assert!(line.starts_with(&format!("{number:09} ")), "in order: line {number}");
    }
    took.expect("there was a first line")
}

/// Writes all lines, and waits until the rack has them on disk.
fn feed(daemon: &Daemon, address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the rack listens");
    let filling = "x".repeat(LINE_BYTES - 11);
    let text: String = (0..WAITING).map(|number| format!("{number:09} {filling}\n")).collect();
    stream.write_all(text.as_bytes()).expect("the rack reads");
    let began = Instant::now();
    while daemon.waiting() < WAITING {
        assert!(began.elapsed() < PATIENCE, "the rack takes all lines: {} wait", daemon.waiting());
        pause(LOOK_EVERY);
    }
    // Without a demand a cut comes every 5 ms.
    pause(Duration::from_millis(500));
    stream
}
