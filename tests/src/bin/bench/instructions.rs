//! Instructions per hop and per durable message, counted by callgrind: the same figure whatever else the machine does.

use std::process::Command;
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_tests::parts::{Burst, Count, Size, pipeline};

use super::row::{Bar, Rows, Scratch, runtime};

const FEW: u64 = 10_000;
const MANY: u64 = 30_000;

pub(crate) fn per_hop(rows: &mut Rows) {
    if !rows.wants("instructions") {
        return;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("SKIPPED: instructions per hop need valgrind, which is not installed");
        return;
    }
    let note = "difference of two runs under callgrind, one worker thread, source and sink included";
    let turbo = per_message("turbo") / 5.0;
    rows.add("instructions.turbo", "instructions per turbo hop", turbo, "instructions", Bar::None, note);
    let flush = per_message("flush");
    rows.add(
        "instructions.flush",
        "instructions per message through 5 durable gears",
        flush,
        "instructions",
        Bar::None,
        note,
    );
}

fn per_message(lane: &str) -> f64 {
    (counted(lane, MANY) - counted(lane, FEW)) / (MANY - FEW) as f64
}

/// What callgrind says it collected, for this program passing so many messages.
fn counted(lane: &str, count: u64) -> f64 {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--pipeline-child", lane, &count.to_string()])
        .output()
        .expect("valgrind starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let collected =
        text.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, count)| count.trim().to_owned());
    collected.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("callgrind ends well: {text}"))
}

/// The child: passes so many messages and ends.
pub(crate) fn child(lane: &str, count: u64) {
    let scratch = Scratch::new("instructions");
    runtime(1).block_on(async {
        let lane = if lane == "flush" { Lane::Flush } else { Lane::Turbo };
        let size = if lane == Lane::Flush { Size::Usual } else { Size::Small };
        let rig = pipeline(Burst { count, size }, Count::default(), 5, lane);
        let rig = if lane == Lane::Flush { rig.journal(&scratch.0) } else { rig };
        let rig = rig.start().await.expect("the rig starts");
        rig.finished().await;
        rig.stop(Duration::from_secs(5)).await;
    });
}
