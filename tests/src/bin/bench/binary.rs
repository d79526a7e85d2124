//! The binary `fluxrig` by itself: its size, how soon it is ready, what it weighs idle, how soon it has checked a file.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::time::Instant;

use super::daemon::{self, Relay, free_address};
use super::relay;
use super::row::{Bar, Rows, Scratch, median, pause};

const RUNS: usize = 5;
const GEARS: usize = 1_000;

pub(crate) fn itself(rows: &mut Rows) {
    if !["rack.size", "rack.ready", "rack.rss", "rack.lint"].iter().any(|row| rows.wants(row)) {
        return;
    }
    let Some(program) = daemon::program() else { return };
    size(rows, &program);
    lint(rows, &program);
    idle(rows, &program);
}

fn size(rows: &mut Rows, program: &Path) {
    if !rows.wants("rack.size") {
        return;
    }
    let scratch = Scratch::new("size");
    let copy = scratch.0.join("fluxrig");
    let stripped = Command::new("strip").arg("-o").arg(&copy).arg(program).status();
    if !stripped.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: rack.size: it needs `strip`, which is not installed");
        return;
    }
    let bytes = std::fs::metadata(&copy).expect("`strip` wrote it").len();
    let note = "release profile, a copy stripped of its symbols; a MB is 1,000,000 bytes";
    rows.add("rack.size", "`fluxrig`, stripped", bytes as f64 / 1e6, "MB", Bar::AtMost(15.0), note);
}

fn lint(rows: &mut Rows, program: &Path) {
    if !rows.wants("rack.lint") {
        return;
    }
    let scratch = Scratch::new("lint");
    let file = scratch.0.join("scenario.yaml");
    let text = chain(GEARS);
    std::fs::write(&file, &text).expect("the temporary folder is writable");
    let run = || {
        let started = Instant::now();
        let output = Command::new(program).arg("lint").arg(&file).output().expect("the binary starts");
        assert!(output.status.success(), "nothing is wrong in it: {}", String::from_utf8_lossy(&output.stdout));
        started.elapsed().as_secs_f64() * 1e3
    };
    let note = format!(
        "a process from start to end; {GEARS} gears in a row with a source in front, {} KiB of YAML; median of {RUNS}",
        text.len() / 1024
    );
    let took = median((0..RUNS).map(|_| run()).collect());
    rows.add("rack.lint", "`fluxrig lint`, 1,000 gears", took, "ms", Bar::AtMost(100.0), &note);
}

/// So many gears, the first of them a source, each wired to the next.
fn chain(gears: usize) -> String {
    let mut text = "meta: { name: chain, version: 0.1.0 }\ngears:\n".to_owned();
    text += "  - { name: gear0, type: generator, config: { count: 1 } }\n";
    for idx in 1..gears {
        let config = format!("{{ steps: [{{ set: {{ path: data.place, value: \"gear {idx}\" }} }}] }}");
        writeln!(text, "  - {{ name: gear{idx}, type: map, config: {config} }}").expect("a text takes it");
    }
    text += "wires:\n";
    for idx in 1..gears {
        writeln!(text, "  - {{ from: gear{}.out, to: gear{idx}.in }}", idx - 1).expect("a text takes it");
    }
    text
}

fn idle(rows: &mut Rows, program: &Path) {
    if !rows.wants("rack.ready") && !rows.wants("rack.rss") {
        return;
    }
    let Some(scenario) = relay::scenario() else { return };
    let (mut ready, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let scratch = Scratch::new("idle");
        let (terminals, host) = (free_address(), free_address());
        let relay =
            Relay { program: program.to_owned(), scenario: scenario.clone(), lane: "standard", terminals, host };
        let started = Instant::now();
        let mut daemon = relay.start(&scratch.0.join("data"));
        daemon.ready();
        ready.push(started.elapsed().as_secs_f64() * 1e3);
        pause(Duration::from_secs(1));
        resident.push(daemon.resident_mib());
        daemon.terminate();
    }
    let note = format!(
        "relay of the payments example, standard wires, fresh data directory, its host absent; start of the process until the control socket answers; median of {RUNS}"
    );
    rows.add_wanted("rack.ready", "`fluxrig run` to ready", median(ready), "ms", Bar::AtMost(100.0), &note);
    let note = "the same rack a second later, 1 MiB is 1,048,576 bytes";
    rows.add_wanted(
        "rack.rss",
        "`fluxrig run`, idle resident memory",
        median(resident),
        "MiB",
        Bar::AtMost(20.0),
        note,
    );
}
