//! `fluxrig journal` for a journal on a stream: what an operator is told while the rack runs and while it does not, of a
//! stream that is whole and of one that is not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::bus::has_server;
use crate::harness::{Daemon, TempDir, done, free_addresses, text};

/// Two racks with their journals on a server that `hub` runs.
fn scenario(dir: &TempDir, bus: SocketAddr) -> PathBuf {
    let gears = |rack: &str| {
        format!(
            "  - {{ name: from-{rack}, type: generator, deploy: {rack}, config: {{ count: 50 }} }}\n  \
             - {{ name: at-{rack}, type: log, deploy: {rack} }}\n"
        )
    };
    let text = format!(
        "meta: {{ name: two, version: 0.1.0 }}\n\
         bus: {{ managed: true, rack: hub, port: {}, token: of-this-test }}\n\
         journal: jetstream\nracks: [{{ name: hub }}, {{ name: lines }}]\n\
         gears:\n{}{}wires:\n  - {{ from: from-hub, to: at-hub }}\n  - {{ from: from-lines, to: at-lines }}\n",
        bus.port(),
        gears("hub"),
        gears("lines"),
    );
    dir.file("two.yaml", &text)
}

struct Asked<'a> {
    scenario: &'a Path,
    rack: &'a str,
    data: &'a Path,
}

impl Asked<'_> {
    fn ask(&self, command: &str, more: &[&str]) -> (Option<i32>, String) {
        let at = ["journal", "--data-dir", self.data.to_str().unwrap(), command];
        let of = [self.scenario.to_str().unwrap(), "--rack", self.rack];
        let output = done(&[&at[..], &of, more].concat());
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    }

    fn json(&self, command: &str) -> (Option<i32>, Value) {
        let (code, said) = self.ask(command, &["--json"]);
        // What is wrong stands behind the JSON, on the other stream.
        let mut values = serde_json::Deserializer::from_str(&said).into_iter();
        (code, values.next().unwrap().unwrap())
    }

    fn refused(&self, code: i32, words: &str) {
        for command in ["verify", "stats", "repair"] {
            let (found, said) = self.ask(command, &[]);
            assert_eq!(found, Some(code), "{command}: {said}");
            assert!(said.contains(words) && said.contains("remedy: "), "{command}: `{words}` is not in: {said}");
        }
    }
}

/// A message from somebody who has no business there.
fn publish(to: SocketAddr, subject: &str, payload: &str) {
    let mut stream = TcpStream::connect(to).unwrap();
    let connect = "CONNECT {\"verbose\":false,\"auth_token\":\"of-this-test\"}";
    write!(stream, "{connect}\r\nPUB {subject} {}\r\n{payload}\r\nPING\r\n", payload.len()).unwrap();
    let mut said = String::new();
    while !said.contains("PONG") {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "{said}");
        said.push_str(&text(&bytes[..count]));
    }
}

#[test]
fn a_stream_is_verified_while_its_rack_runs_and_while_not() {
    if !has_server("a_stream_is_verified") {
        return;
    }
    let dir = TempDir::new();
    let [bus] = free_addresses();
    let (scenario, [hub_data, lines_data]) = (scenario(&dir, bus), ["hub", "lines"].map(|name| dir.0.join(name)));
    let of = |rack, data| Asked { scenario: &scenario, rack, data };
    let (at_hub, at_lines) = (of("hub", &hub_data), of("lines", &lines_data));
    at_lines.refused(73, "name the data directory");

    // While both run, one of them with the server.
    let hub = Daemon::start_with(&scenario, &hub_data, &["--rack", "hub"]);
    let lines = Daemon::start_with(&scenario, &lines_data, &["--rack", "lines"]);
    for (asked, daemon) in [(&at_hub, &hub), (&at_lines, &lines)] {
        let before = daemon.top()["stream"]["term"].clone();
        let (code, found) = asked.json("verify");
        assert_eq!(code, Some(0), "{found}");
        assert!(found["is_whole"] == true && found["places"].as_array().unwrap().is_empty(), "{found}");
        assert!(found["groups"].as_u64() > Some(0) && found["first_seq"] == 1 && found["term"] == 1, "{found}");
        assert!(found["mark"]["seq"].as_u64() <= found["last_seq"].as_u64(), "{found}");
        assert_eq!(asked.ask("repair", &[]), (Some(0), "nothing to repair\n".into()));
        assert_eq!(daemon.top()["stream"]["term"], before, "who only looks begins no term");
    }
    assert_eq!(lines.terminate().0, Some(0));

    // While it does not, the directory knows exactly how far it was acked.
    let (code, whole) = at_lines.json("verify");
    assert_eq!((code, &whole["mark"]["seq"]), (Some(0), &whole["last_seq"]), "{whole}");
    let (code, rows) = at_lines.json("stats");
    assert_eq!(code, Some(0), "{rows}");
    assert!(rows[0]["is_alive"] == true && rows[0]["messages"] == whole["last_seq"], "{rows}");
    let (_, said) = at_lines.ask("verify", &[]);
    assert!(said.contains("FLUX_JOURNAL_lines: sequences 1 to ") && said.contains("\nwhole up to epoch "), "{said}");

    // The form for files does not take it for an empty journal.
    let output = done(&["journal", "--data-dir", lines_data.to_str().unwrap(), "verify"]);
    assert_eq!(output.status.code(), Some(73));
    assert!(text(&output.stderr).contains("`fluxrig journal verify SCENARIO`"), "{}", text(&output.stderr));

    // Another key, and none.
    let key = lines_data.join("journal/rack.key");
    let ours = std::fs::read(&key).unwrap();
    std::fs::write(&key, [7; 32]).unwrap();
    at_lines.refused(65, "sealed under key");
    std::fs::remove_file(&key).unwrap();
    at_lines.refused(65, "rack.key: absent");
    std::fs::write(&key, &ours).unwrap();

    // Somebody else's message: named with its place, not shown.
    publish(bus, "flux.journal.lines", "temperature 21.5");
    at_lines.refused(65, "without our mark");
    let (code, found) = at_lines.json("verify");
    assert_eq!(code, Some(65), "{found}");
    let seq = whole["last_seq"].as_u64().unwrap() + 1;
    assert!(found["is_whole"] == false && found["damage"]["offset"] == seq, "{found}");
    assert_eq!(found["damage"]["last_epoch"], whole["last_epoch"], "{found}");
    assert!(!found.to_string().contains("21.5"), "{found}");

    // Without the hub's server nobody answers, but for the hub itself, which starts it for as long as it takes.
    assert_eq!(hub.terminate().0, Some(0));
    let (code, said) = at_lines.ask("verify", &[]);
    assert!(code == Some(69) && said.contains("bus: found no server"), "{said}");
    let (code, found) = at_hub.json("verify");
    assert_eq!((code, &found["mark"]["seq"]), (Some(0), &found["last_seq"]), "{found}");
    std::fs::remove_dir_all(hub_data.join("bus/store")).unwrap();
    at_hub.refused(65, "`accept_lost_tail`");
    let (_, said) = at_hub.ask("repair", &["--give-up"]);
    assert!(said.contains("`journal: { jetstream: { accept_lost_tail: true } }` for one start"), "{said}");
}
