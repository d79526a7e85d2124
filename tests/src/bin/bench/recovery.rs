//! How long a rig takes to be back with a gibibyte of journal under it.

use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_actors::{Settings, protocol};
use fluxrig_tests::parts::{Bulky, Stalled};
use tokio::time::Instant;

use super::row::{Bar, Rows, Scratch, runtime};

const GIB: u64 = 1 << 30;
const RAW_BYTES: usize = 1024;

pub(crate) fn gibibyte(rows: &mut Rows) {
    if !rows.wants("recovery") {
        return;
    }
    let scratch = Scratch::new("recovery");
    let count = GIB / (RAW_BYTES as u64 + 100);
    let rig = || {
        let options = WireOptions { capacity: usize::MAX, ..WireOptions::default() };
        Rig::new("recovery")
            .endpoint("source", Bulky { count, raw_bytes: RAW_BYTES })
            .endpoint("sink", Stalled)
            .wire_with("source", "sink", options)
            .settings(Settings { limits: protocol::Limits::default(), ..Settings::default() })
            .journal(&scratch.0)
    };
    let bytes = runtime(2).block_on(async {
        let rig = rig().start().await.expect("the rig starts");
        while !rig.are_sources_ended() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(rig.durable().await, "the journal takes it");
        let bytes = rig.journal().map_or(0, |(_, usage)| usage.bytes);
        rig.kill().await;
        bytes
    });
    let took = runtime(2).block_on(async {
        let started = Instant::now();
        let rig = rig().start().await.expect("the rig recovers");
        let took = started.elapsed();
        let depth = rig.wires()[0].depth as u64;
        assert!(depth >= count, "everything is there again: {depth} of {count}");
        rig.kill().await;
        took
    });
    let note = format!(
        "{count} waiting messages of {RAW_BYTES} raw bytes, {:.2} GiB on disk, in the page cache",
        bytes as f64 / GIB as f64
    );
    let per_gib = took.as_secs_f64() * GIB as f64 / bytes.max(1) as f64;
    rows.add("recovery", "recovery of 1 GiB of journal", per_gib, "s", Bar::AtMost(5.0), &note);
}
