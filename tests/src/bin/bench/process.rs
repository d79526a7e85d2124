//! A whole process: how soon a rig of the embed example's shape is ready, and what it weighs when nothing happens.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_tests::parts::{Burst, Count, Size, pipeline};
use tokio::time::Instant;

use super::daemon::resident_mib;
use super::row::{Bar, Rows, Scratch, median, runtime};

pub(crate) fn start(rows: &mut Rows) {
    if !rows.wants("process") {
        return;
    }
    let (mut ready, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let (ready_ms, resident_mib) = one();
        ready.push(ready_ms);
        resident.push(resident_mib);
    }
    let note = "process start to a running rig of 2 gears, source, sink, durable wires, fresh journal; median of 5";
    rows.add("process.ready", "start to ready", median(ready), "ms", Bar::AtMost(100.0), note);
    rows.add(
        "process.rss",
        "idle resident memory",
        median(resident),
        "MiB",
        Bar::AtMost(20.0),
        "the same rig, one second later",
    );
}

fn one() -> (f64, f64) {
    let started = Instant::now();
    let program = std::env::current_exe().expect("this program has a path");
    let mut child =
        Command::new(program).arg("--idle-child").stdout(Stdio::piped()).spawn().expect("this program starts again");
    let mut lines = BufReader::new(child.stdout.take().expect("its output is a pipe")).lines();
    drop(lines.next());
    let ready = started.elapsed().as_secs_f64() * 1e3;
    let resident = lines.next().and_then(Result::ok).and_then(|line| line.parse().ok()).unwrap_or(f64::NAN);
    drop(child.wait());
    (ready, resident)
}

/// The child: starts a rig, says so, idles, says its weight.
pub(crate) fn idle_child() {
    let scratch = Scratch::new("idle");
    runtime(2).block_on(async {
        let rig = pipeline(Burst { count: 1_000, size: Size::Usual }, Count::default(), 2, Lane::Flush);
        let rig = rig.journal(&scratch.0).start().await.expect("the rig starts");
        println!("ready");
        rig.finished().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        println!("{}", resident_mib("self"));
        rig.stop(Duration::from_secs(1)).await;
    });
}
