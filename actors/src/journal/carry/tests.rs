//! Carry-forward over whole rigs on a simulated disk: what it keeps, what it costs, and that it ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Carrying;
use crate::clock::SimWorld;
use crate::journal::Pace;
use crate::journal::disk::sim::SimDisk;
use crate::prelude::*;
use crate::{Orphans, RigError};

/// Sends that many messages one by one, each durable before the next.
struct Source {
    count: usize,
    bytes: usize,
}

impl Endpoint for Source {
    const TYPE: &'static str = "source";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        for _ in 0..self.count {
            let mut msg = io.message();
            msg.raw = Some(Bytes::from(vec![7; self.bytes]));
            let Ok(receipt) = io.door().admit(msg).await else { break };
            receipt.durable().await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        io.draining().await;
        Ok(())
    }
}

/// Keeps that many effects without ending them, and ends all others.
struct Sink(usize);

impl Endpoint for Sink {
    const TYPE: &'static str = "sink";

    fn ports(&self) -> Ports {
        Ports::sink()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let mut effects = io.effects();
        let mut kept = Vec::new();
        while let Some(effect) = effects.take().await {
            if kept.len() < self.0 {
                kept.push(effect);
            } else {
                effect.done();
            }
        }
        Ok(())
    }
}

/// More than any test here writes.
const MAX_BYTES: u64 = 1 << 30;

/// A rig with a wire into a sink of this name, in segments of 64 KiB.
fn rig(disk: &SimDisk, source: Source, name: &str, keeps: usize, max_bytes: u64) -> Rig {
    let mut journal = JournalOptions::disk(disk.process());
    journal.segment_bytes = 64 << 10;
    journal.disk.max_bytes = max_bytes;
    journal.pace = Some(Pace { seed: 3, max: Duration::ZERO });
    Rig::new("carry")
        .world(Arc::new(SimWorld::new(5)))
        .journal_with(journal)
        .endpoint("source", source)
        .endpoint(name, Sink(keeps))
        .wire("source", name)
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{what}");
}

/// The first group of a start may fill its segment, with orphans for instance. The new names are in that segment all the
/// same and must be carried with it; thought to be in the next one, they went with the segment, their numbers were given
/// to other wires, and those wires found the messages of the lost ones.
#[tokio::test(start_paused = true)]
async fn names_outlive_a_segment_that_the_first_group_has_filled() {
    let disk = SimDisk::new(1);
    let first = rig(&disk, Source { count: 10, bytes: 4_000 }, "early", 10, MAX_BYTES).start().await.unwrap();
    until("ten wait", || first.wires()[0].depth == 10).await;
    assert!(first.durable().await);
    first.kill().await;
    disk.kill();

    let second = rig(&disk, Source { count: 400, bytes: 4_000 }, "late", 3, MAX_BYTES).orphans(Orphans::DeadLetter);
    let second = second.start().await.unwrap();
    assert_eq!(second.dead_letter_count(), 10);
    let usage = || second.journal().unwrap().1;
    until("the journal runs", || usage().newest > 0).await;
    let next = usage().newest;
    until("the segment of the first group is deleted", || usage().oldest == next).await;
    assert_eq!(second.wires()[0].depth.min(3), 3);
    second.kill().await;
    disk.kill();

    let third = rig(&disk, Source { count: 0, bytes: 0 }, "last", 0, MAX_BYTES).start().await;
    let Err(RigError::Orphans(text)) = third else { panic!("{:?}", third.map(|rig| rig.wires())) };
    assert!(text.contains("of wire `source.out->late.in`"), "{text}");
}

/// Sends 400 messages of 4 KB, of which the sink keeps some.
async fn churned(keeps: usize, max_bytes: u64) -> RunningRig {
    let disk = SimDisk::new(1);
    let rig = rig(&disk, Source { count: 400, bytes: 4_000 }, "sink", keeps, max_bytes);
    let rig = rig.start().await.unwrap();
    until("all have gone through", || rig.wires()[0].passed == 400 - keeps as u64).await;
    assert!(rig.durable().await);
    rig
}

/// Forty messages that stay fill more than two segments. Carrying them in every cut would copy them hundreds of times.
#[tokio::test(start_paused = true)]
async fn what_stays_is_not_copied_more_than_what_goes() {
    let rig = churned(40, MAX_BYTES).await;
    let (stats, usage) = rig.journal().unwrap();
    // Each message is outlived twice at most: by *taken* and by its ack.
    assert!((40..=3 * 2 * 400).contains(&stats.carried), "{} were carried", stats.carried);
    assert!(usage.segments < 16, "{} segments for forty messages", usage.segments);
    rig.kill().await;
}

/// The door closes at the watermark, the wires run empty, and nothing changes any more: room is made all the same.
#[tokio::test(start_paused = true)]
async fn an_idle_rig_above_a_watermark_makes_room() {
    let rig = churned(0, 256 << 10).await;
    let groups = || rig.journal().unwrap().0.groups;
    tokio::time::sleep(Duration::from_secs(200)).await;
    let before = groups();
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(groups(), before, "a rig without work writes nothing");
    rig.kill().await;
}

#[test]
fn a_pass_is_paid_with_what_was_outlived() {
    let mut carrying = Carrying::new(1, Vec::new(), 10);
    assert!(!carrying.is_in_pass());
    assert!(carrying.is_pass_worth(20, false) && !carrying.is_pass_worth(21, false));
    carrying.begin_pass(5, 12, false);
    assert!(carrying.is_in_pass());
    assert!(carrying.is_pass_worth(8, false) && !carrying.is_pass_worth(9, false), "six of ten were spent");
    carrying.oldest = 5;
    assert!(!carrying.is_in_pass(), "the newest segment is not part of it");
    carrying.begin_pass(9, 8, false);
    assert!(!carrying.is_pass_worth(0, false), "nothing is gained where nothing was outlived");
}

#[test]
fn above_a_watermark_a_pass_may_cost_more_and_one_after_a_start_nothing() {
    let mut carrying = Carrying::new(1, Vec::new(), 10);
    for _ in 0..2 {
        assert!(carrying.is_pass_worth(1_000, true) && !carrying.is_pass_worth(1_000, false));
        carrying.begin_pass(5, 1_000, true);
        assert!(!carrying.is_pass_worth(1_000, true) && carrying.is_pass_worth(160, true), "nothing was spent");
        carrying.note_early_segment();
    }
}
