//! A stand-by as an operator has it: what it is refused for, what it shows while it follows, how it takes the holder's
//! place, and how the holder that it has fenced ends.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::bus::has_server;
use crate::harness::{Daemon, TempDir, done, free_addresses, get, text};

/// Lines that wait for a peer who never comes; `hub` runs the server of both.
fn scenario(dir: &TempDir) -> PathBuf {
    let [nobody, bus] = free_addresses();
    let text = format!(
        "meta: {{ name: waiting, version: 0.1.0 }}\n\
         bus: {{ managed: true, rack: hub, port: {}, token: of-this-test }}\n\
         journal: {{ jetstream: {{ lease_ms: 4000, max_bytes: 67108864 }} }}\nracks: [{{ name: hub }}, {{ name: lines }}]\n\
         gears:\n  - {{ name: lines, type: io_tcp, deploy: lines, config: {{ mode: server, bind: \"${{LINES}}\", framing: {{ delimiter: \"\\n\" }} }} }}\n  \
         - {{ name: peer, type: io_tcp, deploy: lines, config: {{ mode: client, connect: \"{nobody}\", framing: {{ delimiter: \"\\n\" }} }} }}\n  \
         - {{ name: shown, type: log, deploy: lines }}\n  - {{ name: source, type: generator, deploy: hub, config: {{ count: 1 }} }}\n  \
         - {{ name: said, type: log, deploy: hub }}\n\
         wires:\n  - {{ from: lines, to: peer }}\n  - {{ from: peer, to: shown }}\n  - {{ from: source, to: said }}\n",
        bus.port()
    );
    dir.file("waiting.yaml", &text)
}

fn start(scenario: &Path, data: &Path, lines: SocketAddr, arguments: &[&str]) -> Daemon {
    let arguments = [&["--rack", "lines"], arguments].concat();
    Daemon::start_set_with(scenario, data, &[("LINES", lines)], &arguments)
}

fn waits(top: &Value) -> u64 {
    let wires = top["wires"].as_array().into_iter().flatten();
    wires.filter(|wire| wire["name"] == "lines.out->peer.in").filter_map(|wire| wire["depth"].as_u64()).sum()
}

fn send(to: SocketAddr, count: u32) {
    let mut stream = std::net::TcpStream::connect(to).unwrap();
    (0..count).for_each(|number| writeln!(stream, "line {number}").unwrap());
}

fn has_role(role: &str) -> impl Fn(&Value) -> bool {
    move |top| top["stream"]["role"] == role
}

/// A holder shows its part once its rig runs.
fn until_holder(daemon: &Daemon, count: u64) {
    let top = daemon.until(|top| has_role("holder")(top) && waits(top) == count);
    let metrics = top["metrics"].as_str().unwrap();
    assert_eq!(get(metrics, "/readyz").0, 200);
}

fn signal(daemon: &Daemon, name: &str) {
    let pid = daemon.child.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
}

#[test]
fn what_a_standby_is_refused_for() {
    let dir = TempDir::new();
    let refused = |journal: &str, bus: &str| {
        let text = format!("meta: {{ name: one, version: 0.1.0 }}\nbus: {bus}\njournal: {journal}\ngears: []\n");
        let (file, data) = (dir.file("one.yaml", &text), dir.0.join("data"));
        let output = done(&["run", file.to_str().unwrap(), "--standby", "--data-dir", data.to_str().unwrap()]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (journal, bus, found) in [
        ("file", "embedded", "found the journal on files"),
        ("jetstream", "nats://127.0.0.1:1", "without `lease_ms`"),
        ("{ jetstream: { lease_ms: 5000 } }", "{ managed: true }", "whose server this rack runs itself"),
    ] {
        let (code, text) = refused(journal, bus);
        assert_eq!(code, Some(78), "{text}");
        assert!(text.contains(found) && text.contains("remedy: "), "{text}");
    }
}

#[test]
fn a_standby_follows_takes_over_and_fences() {
    if !has_server("a_standby_follows_takes_over_and_fences") {
        return;
    }
    let dir = TempDir::new();
    let (scenario, [lines, other]) = (scenario(&dir), free_addresses());
    let [hub, one, two] = ["hub", "one", "two"].map(|name| dir.0.join(name));
    let hub = Daemon::start_set_with(&scenario, &hub, &[("LINES", lines)], &["--rack", "hub"]);
    let mut holder = start(&scenario, &one, lines, &[]);
    let top = holder.until(|top| top["stream"]["lease_left_ms"].as_u64().is_some_and(|left| left > 0));
    assert!(has_role("holder")(&top) && top["stream"]["term"] == 1, "{}", top["stream"]);
    let page = get(top["metrics"].as_str().unwrap(), "/metrics").1;
    assert!(page.contains("fluxrig_journal_role{role=\"holder\"} 1\n"), "{page}");

    // Without the key that seals the stream.
    let arguments =
        ["run", scenario.to_str().unwrap(), "--rack", "lines", "--standby", "--data-dir", two.to_str().unwrap()];
    let output = crate::harness::fluxrig(&arguments).env("LINES", lines.to_string()).output().unwrap();
    assert_eq!(output.status.code(), Some(65), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("journal/rack.key: found none"), "{}", text(&output.stderr));
    std::fs::copy(one.join("journal/rack.key"), two.join("journal/rack.key")).unwrap();

    // While it follows it answers, and SIGTERM ends it well.
    let standby = start(&scenario, &two, lines, &["--standby"]);
    shows_that_it_follows(&standby);
    let (code, log) = standby.terminate();
    assert_eq!(code, Some(0), "{log}");
    let standby = start(&scenario, &two, lines, &["--standby"]);

    // The holder is killed: all of it goes on elsewhere, on the same address.
    send(lines, 300);
    holder.until(|top| waits(top) == 300);
    holder.kill();
    until_holder(&standby, 300);
    send(lines, 300);
    standby.until(|top| waits(top) == 600);

    // Back as a stand-by; a clean stop hands over.
    let holder = standby;
    let standby = start(&scenario, &one, lines, &["--standby"]);
    assert_eq!(holder.terminate().0, Some(0));
    until_holder(&standby, 600);

    // It stands still for longer than its lease, and is fenced when it goes on.
    let holder = standby;
    let standby = start(&scenario, &two, other, &["--standby"]);
    signal(&holder, "-STOP");
    until_holder(&standby, 600);
    signal(&holder, "-CONT");
    let (code, log) = holder.ended();
    assert_eq!(code, Some(77), "{log}");
    assert!(log.contains("this rack is fenced") && log.contains("rack: fenced: stream FLUX_JOURNAL_lines"), "{log}");
    assert!(std::net::TcpStream::connect(lines).is_err(), "its sockets are closed");
    send(other, 1);
    standby.until(|top| waits(top) == 601);
    assert_eq!(standby.terminate().0, Some(0));
    assert_eq!(hub.terminate().0, Some(0));
}

fn shows_that_it_follows(standby: &Daemon) {
    let top = standby.until(|top| top["stream"]["lag"] == 0);
    assert!(has_role("stand-by")(&top) && top["stream"]["term"] == 1, "{}", top["stream"]);
    assert!(top["stream"]["lease_left_ms"].is_u64() && top["wires"].is_null(), "{top}");
    let shown = text(&standby.ask(&["top", "--once"]).stdout);
    assert!(shown.contains("\nstream: stand-by  term 1  lag 0  lease left "), "{shown}");
    let metrics = top["metrics"].as_str().unwrap();
    assert_eq!(get(metrics, "/healthz").0, 200);
    assert_eq!(get(metrics, "/readyz"), (503, "stand-by\n".to_owned()));
    let page = get(metrics, "/metrics").1;
    for line in [
        "fluxrig_ready 0\n",
        "fluxrig_journal_role{role=\"holder\"} 0\n",
        "fluxrig_journal_role{role=\"stand-by\"} 1\n",
        "fluxrig_journal_term 1\n",
        "fluxrig_journal_lag 0\n",
        "fluxrig_journal_lease_seconds ",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    assert_eq!(standby.ask(&["dlq", "list"]).status.code(), Some(75));
}

#[test]
fn a_stream_that_lost_its_end_is_gone_on_with_only_on_the_operators_word() {
    if !has_server("a_stream_that_lost_its_end") {
        return;
    }
    let dir = TempDir::new();
    let file = |more: &str| {
        let text = format!(
            "meta: {{ name: lost, version: 0.1.0 }}\nbus: {{ managed: true }}\njournal: {{ jetstream: {{ {more} }} }}\n\
             gears:\n  - {{ name: source, type: generator, config: {{ count: 10 }} }}\n  - {{ name: shown, type: log }}\n\
             wires:\n  - {{ from: source, to: shown }}\n"
        );
        dir.file("lost.yaml", &text)
    };
    let (scenario, data) = (file(""), dir.0.join("data"));
    assert_eq!(Daemon::start(&scenario, &data).terminate().0, Some(0));
    std::fs::remove_dir_all(data.join("bus/store")).unwrap();
    let output = done(&["run", scenario.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(65), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("`accept_lost_tail`"), "{}", text(&output.stderr));
    let daemon = Daemon::start(&file("accept_lost_tail: true"), &data);
    let (code, log) = daemon.terminate();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("an operator has accepted that"), "{log}");
}
