//! Dead letters as an operator meets them: chosen, counted, sent again through new code, and purged when it is confirmed.

use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{Daemon, TempDir, passed, text};

const PAN: &str = "4111111111111111";
const REJECTS: &str = "type: map, config: { steps: [{ copy: { from: data.absent, to: data.there } }] }";
const PASSES: &str = "type: map, config: { steps: [{ set: { path: meta.site, value: N1 } }] }";

/// Two gears, of which each gets so many messages with a card number.
fn two(dir: &TempDir, pick: &str, take: &str, counts: (u64, u64)) -> PathBuf {
    let source = |name: &str, count: u64| {
        format!("  - {{ name: {name}, type: generator, config: {{ count: {count}, data: {{ card: '{PAN}' }} }} }}\n")
    };
    let scenario = format!(
        "meta: {{ name: letters, version: 0.1.0 }}\ngears:\n{}{}  - {{ name: pick, {pick} }}\n  - {{ name: take, {take} }}\n  \
         - {{ name: sink, type: file, config: {{ path: {} }} }}\nwires:\n  - {{ from: first, to: pick }}\n  \
         - {{ from: second, to: take }}\n  - {{ from: pick, to: sink }}\n  - {{ from: take, to: sink }}\n",
        source("first", counts.0),
        source("second", counts.1),
        dir.0.join("out.jsonl").display()
    );
    dir.file("letters.yaml", &scenario)
}

/// What a command says, and its exit code.
fn asked(daemon: &Daemon, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = daemon.ask(&[&["dlq"], arguments].concat());
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert!(!out.contains(&PAN[..8]) && !error.contains(&PAN[..8]), "{out}{error}");
    (output.status.code(), out, error)
}

fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn letters_are_listed_and_counted_by_what_is_asked() {
    let dir = TempDir::new();
    let other = REJECTS.replace("absent", "missing");
    let daemon = Daemon::start(&two(&dir, REJECTS, &other, (3, 2)), &dir.0.join("data"));
    daemon.until(|top| top["dead_letters"] == 5);
    let listed = |arguments: &[&str]| {
        let (code, out, error) = asked(&daemon, &[&["list", "--json"], arguments].concat());
        assert_eq!(code, Some(0), "{error}");
        let list: Value = serde_json::from_str(&out).unwrap();
        (list["count"].as_u64().unwrap(), list["letters"].as_array().unwrap().len())
    };
    for (arguments, expected) in [
        (["--gear", "pick"].as_slice(), (3, 3)),
        (&["--gear", "*"], (5, 5)),
        (&["--gear", "*", "--limit", "4"], (5, 4)),
        (&["--gear", "sink"], (0, 0)),
        (&["--reason", "data.missing"], (2, 2)),
        (&["--reason", "data.*is missing"], (5, 5)),
        (&["--wire", "first.out->pick.in"], (3, 3)),
        (&["--wire", "*->take.in", "--reason", "absent"], (0, 0)),
        (&["--since", "1h"], (5, 5)),
        (&["--since", "2100-01-01T00:00:00Z"], (0, 0)),
    ] {
        assert_eq!(listed(arguments), expected, "{arguments:?}");
    }
    assert!(asked(&daemon, &["list", "--limit", "2"]).1.starts_with("5 dead letters, the newest 2\n"));

    let (_, table, _) = asked(&daemon, &["count"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!((lines[0], lines.len()), ("5 dead letters", 5), "{table}");
    assert!(lines[2].contains("COUNT  GEAR") && lines[2].ends_with("REASON"), "{table}");
    assert!(lines[3].starts_with("       3  pick  ") && lines[3].contains("data.absent"), "{table}");
    assert!(lines[4].starts_with("       2  take  ") && lines[4].contains("data.missing"), "{table}");
    let (_, counts, _) = asked(&daemon, &["count", "--gear", "take", "--json"]);
    let counts: Value = serde_json::from_str(&counts).unwrap();
    assert_eq!((&counts["count"], &counts["counts"][0]["gear"]), (&2.into(), &"take".into()));

    for (arguments, near) in [
        (["list", "--gear", "pik"].as_slice(), "nearest: `pick`"),
        (&["count", "--wire", "first.out->pick.inn"], "nearest: `first.out->pick.in`"),
        (&["replay", "--reason", "expired"], "nearest: `"),
        (&["purge", "--yes", "--gear", "taken"], "nearest: `take`"),
        (&["list", "--since", "soon"], "like `10m`"),
        (&["list", "--limit", "0"], "1..=10000"),
        (&["replay"], "or `--all`"),
        (&["purge", "--yes"], "or `--all`"),
        (&["replay", "--wait", "2h", "--all"], "up to `1h`"),
    ] {
        let (code, _, error) = asked(&daemon, arguments);
        assert!(code == Some(2) && error.contains(near), "{arguments:?}: {error}");
    }
    assert_eq!(daemon.top()["dead_letters"], 5);
    assert_eq!(daemon.terminate().0, Some(0));
}

#[test]
fn letters_are_forgotten_only_when_it_is_confirmed() {
    let dir = TempDir::new();
    let daemon = Daemon::start(&two(&dir, REJECTS, REJECTS, (3, 2)), &dir.0.join("data"));
    daemon.until(|top| top["dead_letters"] == 5);
    let last = daemon.letters().into_iter().rfind(|letter| letter["gear"] == "take").unwrap()["seq"].to_string();
    for arguments in [["purge", "--all"].as_slice(), &["purge", &last], &["purge", "--gear", "pick"]] {
        let (code, _, error) = asked(&daemon, arguments);
        assert!(code == Some(2) && error.contains("found no terminal") && error.contains("`--yes`"), "{error}");
    }
    let (code, _, error) = asked(&daemon, &["purge", "--yes", &last, "77"]);
    assert!(code == Some(1) && error.contains("dead letter 77: found none"), "{error}");
    assert_eq!(daemon.top()["dead_letters"], 5, "nothing is forgotten by half");
    assert_eq!(asked(&daemon, &["purge", "--yes", &last]).1, "1 purged\n");
    assert_eq!(asked(&daemon, &["purge", "--yes", "--gear", "pick"]).1, "3 purged\n");
    let (_, done, _) = asked(&daemon, &["purge", "--yes", "--all", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&done).unwrap()["purged"], 1);
    assert_eq!(asked(&daemon, &["purge", "--yes", "--all"]).1, "0 purged\n");
    assert_eq!(daemon.terminate().0, Some(0));
}

#[test]
fn letters_go_through_new_code_and_each_outcome_is_told() {
    let dir = TempDir::new();
    let data_dir = dir.0.join("data");
    let daemon = Daemon::start(&two(&dir, REJECTS, REJECTS, (3, 2)), &data_dir);
    daemon.until(|top| top["dead_letters"] == 5);
    let (code, told, _) = asked(&daemon, &["replay", "--gear", "pick", "--wait", "1h"]);
    assert_eq!(code, Some(1), "{told}");
    assert_eq!(told.matches("  dead again as ").count(), 3, "{told}");
    assert!(told.ends_with("\n3 sent again: 3 dead again\n"), "{told}");
    assert_eq!(daemon.terminate().0, Some(0));

    // The same scenario, with one of its gears mended.
    let daemon = Daemon::start(&two(&dir, PASSES, REJECTS, (0, 0)), &data_dir);
    assert_eq!(daemon.top()["dead_letters"], 5);
    let (code, told, error) = asked(&daemon, &["replay", "--gear", "pick", "--wait", "1h", "--json"]);
    assert_eq!(code, Some(0), "{told}{error}");
    let told = objects(&told);
    assert!(told.len() == 3 && told.iter().all(|item| item["outcome"] == "handled"), "{told:?}");
    assert_eq!(told[0]["wire"], "first.out->pick.in");
    let (code, told, _) = asked(&daemon, &["replay", "--all", "--wait", "1h", "--json"]);
    assert_eq!(code, Some(1), "{told}");
    let told = objects(&told);
    assert!(told.len() == 2 && told.iter().all(|item| item["outcome"] == "dead_again"), "{told:?}");
    let again: Vec<&Value> = told.iter().map(|item| &item["again_seq"]).collect();
    let letters = daemon.letters();
    assert!(letters.iter().all(|letter| again.contains(&&letter["seq"])), "{letters:?} {told:?}");
    assert!(told.iter().all(|item| letters.iter().any(|letter| letter["id"] == item["id"])), "{letters:?} {told:?}");

    let (code, _, error) = asked(&daemon, &["replay", "77"]);
    assert!(code == Some(1) && error.contains("dead letter 77: found none of this number"), "{error}");
    daemon.until(|top| passed(top, "pick.out->sink.in") == 3);
    assert_eq!(daemon.terminate().0, Some(0));
    let lines = std::fs::read_to_string(dir.0.join("out.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 3, "{lines}");
}

#[test]
fn letters_that_nobody_takes_wait_on_their_wire_as_far_as_it_has_room() {
    let dir = TempDir::new();
    let data_dir = dir.0.join("data");
    let line = |count: u64, sink: &str, wire: &str| {
        let text = format!(
            "meta: {{ name: line, version: 0.1.0 }}\ngears:\n  - {{ name: source, type: generator, config: {{ count: {count} }} }}\n  \
             - {{ name: sink, {sink} }}\nwires:\n  - {{ from: source, to: sink{wire} }}\n"
        );
        dir.file("line.yaml", &text)
    };
    let daemon = Daemon::start(&line(3, REJECTS, ""), &data_dir);
    daemon.until(|top| top["dead_letters"] == 3);
    assert_eq!(daemon.terminate().0, Some(0));
    let stuck = "type: file, config: { path: no/such/folder/out }, supervision: { max_restarts: 0 }";
    let daemon = Daemon::start(&line(0, stuck, ", capacity: 2"), &data_dir);
    let (code, told, _) = asked(&daemon, &["replay", &daemon.letters()[0]["seq"].to_string(), "--wait", "0"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.ends_with("  still waiting on source.out->sink.in\n1 sent again: 1 still waiting\n"), "{told}");
    let (code, told, _) = asked(&daemon, &["replay", "--all", "--wait", "100ms"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("  refused: ") && told.contains("found wire `source.out->sink.in` full"), "{told}");
    assert!(told.ends_with("\n1 sent again: 1 still waiting, 1 refused\n"), "{told}");
    assert_eq!((&daemon.top()["dead_letters"], &daemon.top()["wires"][0]["depth"]), (&1.into(), &2.into()));
    drop(daemon);
}
