//! `fluxrig sim` as its user meets it: what it prints, the exit codes, and a replay that fails as the whole run did.

use serde_json::Value;

use crate::harness::{TempDir, done, text};

fn relay() -> String {
    format!("{}/../examples/payments/relay.yaml", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_seed_says_the_same_twice() {
    let run = || done(&["sim", &relay(), "--seed", "3", "--json", "--requests", "20", "--faults", "kill,power"]);
    let (first, second) = (run(), run());
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stdout));
    assert_eq!(text(&first.stdout), text(&second.stdout));
    let report: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!(report["seed"], 3);
    assert!(
        report["fired"]["kill"].as_u64().unwrap() > 0 && report["fired"]["power"].as_u64().unwrap() > 0,
        "{report}"
    );
    assert!(report["again"].as_str().unwrap().ends_with("relay.yaml --seed 3 --faults kill,power --requests 20"));
    assert_eq!(report["violations"], serde_json::json!([]));
}

#[test]
fn what_failed_is_shrunk_to_a_command_that_fails() {
    let dir = TempDir::new();
    let traffic = dir.file("traffic.yaml", "messages: [{ mti: \"0100\", expect: [\"77\"] }]\n");
    let traffic = traffic.to_str().unwrap();
    let run = done(&["sim", &relay(), "--seeds", "2", "--requests", "10", "--faults", "link", "--traffic", traffic]);
    let said = text(&run.stdout);
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(said.contains("seeds that broke a rule: 2"), "{said}");
    let (_, replay) = said.split_once("shortest replay of seed 0").unwrap();
    let (_, again) = replay.split_once("again: fluxrig ").unwrap();
    let arguments: Vec<&str> = again.split_whitespace().collect();
    assert!(arguments.windows(2).any(|pair| pair == ["--only-faults", "none"]), "{again}");
    let once_more = done(&arguments);
    assert_eq!(once_more.status.code(), Some(1));
    let said = text(&once_more.stdout);
    assert!(said.contains("1 requests of") && said.contains("broken: unexpected answer: request "), "{said}");
}

#[test]
fn a_run_that_met_no_fault_fails_and_says_so() {
    let dir = TempDir::new();
    // Nothing of it is ever written, so that no disk can fail it.
    let scenario = "meta: { name: f, version: 0.1.0 }\ngears: [{ name: door, type: io_tcp, config: { mode: server, bind: \"127.0.0.1:7000\", framing: { delimiter: \";\" } } }]\nwires: [{ from: door, to: door, lane: turbo }]\n";
    let run = done(&["sim", dir.file("f.yaml", scenario).to_str().unwrap(), "--seed", "1", "--faults", "disk"]);
    assert_eq!(run.status.code(), Some(1), "{}", text(&run.stdout));
    assert!(text(&run.stdout).contains("vacuous: no fault `disk` had an effect"), "{}", text(&run.stdout));
    let run = done(&["sim", &relay(), "--seed", "1", "--faults", "none"]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stdout));
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let run = done(&["sim", &relay(), "--faults", "earthquake"]);
    assert_eq!(run.status.code(), Some(2));
    assert!(text(&run.stderr).starts_with("--faults: found `earthquake`, expected"), "{}", text(&run.stderr));
    let dir = TempDir::new();
    let scenario = "meta: { name: f, version: 0.1.0 }\ngears: [{ name: source, type: generator, config: { count: 1 } }, { name: seen, type: log }]\nwires: [{ from: source, to: seen }]\n";
    let run = done(&["sim", dir.file("f.yaml", scenario).to_str().unwrap()]);
    assert_eq!(run.status.code(), Some(78));
    assert!(text(&run.stderr).starts_with("scenario: found no server that terminals could connect to"));
}
