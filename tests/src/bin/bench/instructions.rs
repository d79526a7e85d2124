//! Instructions and allocations of the hot paths, counted by callgrind: the same figures whatever else the machine does.

use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_tests::parts::{Burst, Count, Size, pipeline};

use super::callgrind::{self, Cost};
use super::relay;
use super::row::{Bar, Rows, Scratch, runtime};

/// One hot path: its name, what the child is told, how often it is done in the shorter and in the longer run.
struct Path {
    name: &'static str,
    per: &'static str,
    child: [&'static str; 2],
    times: (u64, u64),
    /// Parts in one time of it.
    parts: f64,
}

const PATHS: [Path; 6] = [
    Path { name: "turbo", per: "turbo hop", child: ["--pipeline-child", "turbo"], times: (10_000, 30_000), parts: 5.0 },
    Path {
        name: "flush",
        per: "message through 5 durable gears",
        child: ["--pipeline-child", "flush"],
        times: (10_000, 30_000),
        parts: 1.0,
    },
    Path {
        name: "codec.decode",
        per: "decode of 20 fields",
        child: ["--codec-child", "decode"],
        times: (1_000, 11_000),
        parts: 1.0,
    },
    Path {
        name: "codec.encode",
        per: "encode of 20 fields",
        child: ["--codec-child", "encode"],
        times: (1_000, 11_000),
        parts: 1.0,
    },
    Path {
        name: "switch.turbo",
        per: "transaction, turbo wires, without sockets",
        child: ["--relay-child", "turbo"],
        times: (4_000, 12_000),
        parts: 1.0,
    },
    Path {
        name: "switch.standard",
        per: "transaction, standard wires, without sockets",
        child: ["--relay-child", "standard"],
        times: (4_000, 12_000),
        parts: 1.0,
    },
];

pub(crate) fn hot_paths(rows: &mut Rows) {
    let note = "difference of two runs under callgrind, one worker thread, source and sink included";
    for path in &PATHS {
        let (instructions, allocations) = (format!("instructions.{}", path.name), format!("allocations.{}", path.name));
        if !rows.wants(&instructions) && !rows.wants(&allocations) {
            continue;
        }
        let is_relay = path.child[0] == "--relay-child";
        if !callgrind::is_here(&instructions) || is_relay && relay::scenario().is_none() {
            continue;
        }
        let Cost { instructions: count, allocations: calls } =
            callgrind::per_time(&path.child, path.times.0, path.times.1);
        let (what, unit) = (format!("instructions per {}", path.per), "instructions");
        rows.add(&instructions, &what, count / path.parts, unit, Bar::None, note);
        let note = format!("{note}; what asks the allocator for memory, or for more of it");
        let (what, unit) = (format!("allocations per {}", path.per), "allocations");
        rows.add(&allocations, &what, calls / path.parts, unit, Bar::None, &note);
    }
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
