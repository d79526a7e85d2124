//! Carry-forward over whole rigs on a simulated disk: what it keeps, what it costs, and that it ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Carrying, KEYS_MAX};
use crate::clock::SimWorld;
use crate::journal::disk::sim::{Faults, SimDisk};
use crate::journal::record::decode;
use crate::journal::{OpenOptions, Pace, open, rack_id};
use crate::prelude::*;
use crate::{Orphans, Retention, RigError};

/// Sends that many messages one by one, each durable before the next.
struct Source {
    count: usize,
    bytes: usize,
    every: Duration,
}

impl Source {
    fn new(count: usize, bytes: usize) -> Self {
        Self { count, bytes, every: Duration::from_millis(2) }
    }
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
            tokio::time::sleep(self.every).await;
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
    bare(disk, source, name, keeps, max_bytes).wire("source", name)
}

fn bare(disk: &SimDisk, source: Source, name: &str, keeps: usize, max_bytes: u64) -> Rig {
    let mut journal = JournalOptions::disk(disk.process());
    journal.segment_bytes = 64 << 10;
    journal.disk.max_bytes = max_bytes;
    journal.pace = Some(Pace { seed: 3, max: Duration::ZERO });
    Rig::new("carry")
        .world(Arc::new(SimWorld::new(5)))
        .journal_with(journal)
        .endpoint("source", source)
        .endpoint(name, Sink(keeps))
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
    let first = rig(&disk, Source::new(10, 4_000), "early", 10, MAX_BYTES).start().await.unwrap();
    until("ten wait", || first.wires()[0].depth == 10).await;
    assert!(first.durable().await);
    first.kill().await;
    disk.kill();

    let second = rig(&disk, Source::new(400, 4_000), "late", 3, MAX_BYTES).orphans(Orphans::DeadLetter);
    let second = second.start().await.unwrap();
    assert_eq!(second.dead_letter_count(), 10);
    let usage = || second.journal().unwrap().1;
    until("the journal runs", || usage().newest > 0).await;
    let next = usage().newest;
    until("the segment of the first group is deleted", || usage().oldest == next).await;
    assert_eq!(second.wires()[0].depth.min(3), 3);
    second.kill().await;
    disk.kill();

    let third = rig(&disk, Source::new(0, 0), "last", 0, MAX_BYTES).start().await;
    let Err(RigError::Orphans(text)) = third else { panic!("{:?}", third.map(|rig| rig.wires())) };
    assert!(text.contains("of wire `source.out->late.in`"), "{text}");
}

/// Sends 400 messages of 4 KB, of which the sink keeps some.
async fn churned(keeps: usize, max_bytes: u64) -> RunningRig {
    let disk = SimDisk::new(1);
    let rig = rig(&disk, Source::new(400, 4_000), "sink", keeps, max_bytes);
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

/// A long group makes its segment long: with a quota of four segments, the one before the one being written is then what
/// holds the doors closed, and it goes as well.
#[tokio::test(start_paused = true)]
async fn long_messages_under_a_small_quota_do_not_close_the_doors_for_good() {
    let disk = SimDisk::new(1);
    let rig = rig(&disk, Source::new(5, 150_000), "sink", 0, 256 << 10).start().await.unwrap();
    until("all five have gone through", || rig.wires()[0].passed == 5).await;
    until("the doors are open", || rig.doors()[0].closed.is_none()).await;
    rig.kill().await;
}

/// Two messages that their sink keeps lie in front of six hours of traffic, under a quota of four segments. Their
/// segments go all the same, the doors stay open, and a crash finds both of them, once.
#[tokio::test(start_paused = true)]
async fn a_pinned_message_holds_nothing_back_for_hours() {
    const COUNT: usize = 3_600;
    const QUOTA: u64 = 256 << 10;
    let disk = SimDisk::new(1);
    let source = Source { count: COUNT, bytes: 4_000, every: Duration::from_secs(6) };
    let rig = rig(&disk, source, "sink", 2, QUOTA).start().await.unwrap();
    let since = tokio::time::Instant::now();
    let (mut most, mut closed) = (0, 0);
    while rig.wires()[0].passed < COUNT as u64 - 2 {
        let usage = rig.journal().unwrap().1;
        most = most.max(usage.bytes);
        closed += usize::from(rig.doors()[0].closed.is_some());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(since.elapsed() < Duration::from_secs(12 * 3600), "{:?}", rig.wires());
    }
    assert!(since.elapsed() >= Duration::from_secs(5 * 3600), "{:?}", since.elapsed());
    assert!(rig.durable().await);
    let (stats, usage) = rig.journal().unwrap();
    assert!(stats.trimmed > 200, "{} segments went", stats.trimmed);
    assert!(usage.newest - usage.oldest < 6, "{usage:?}");
    assert!(most <= QUOTA, "{most} bytes under a quota of {QUOTA}");
    assert!(closed < 10, "the door was closed at {closed} of the looks");
    // Two in each segment that went, and not many more.
    assert!((100..=3 * 2 * COUNT as u64).contains(&stats.carried), "{} were carried", stats.carried);
    rig.kill().await;
    disk.kill();
    let rig = rig_of_two(&disk).await;
    assert_eq!(rig.wires()[0].depth, 2);
    rig.kill().await;
}

/// The same wire again, whose sink takes nothing.
async fn rig_of_two(disk: &SimDisk) -> RunningRig {
    rig(disk, Source::new(0, 0), "sink", 2, MAX_BYTES).start().await.unwrap()
}

/// Messages are kept for an hour after they were handled, then their segments go: ten hours of traffic never fill more
/// than what an hour takes.
#[tokio::test(start_paused = true)]
async fn retention_gives_its_segments_back_when_its_time_is_over() {
    const COUNT: usize = 1_800;
    let disk = SimDisk::new(1);
    let source = Source { count: COUNT, bytes: 4_000, every: Duration::from_secs(20) };
    let retention = Some(Retention::Time(Duration::from_secs(3600)));
    let rig = bare(&disk, source, "sink", 0, MAX_BYTES)
        .wire_with("source", "sink", WireOptions { retention, ..WireOptions::default() })
        .start()
        .await
        .unwrap();
    let mut most = 0;
    while rig.wires()[0].passed < COUNT as u64 {
        most = most.max(rig.journal().unwrap().1.bytes);
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let (stats, _) = rig.journal().unwrap();
    // 180 messages of an hour are some 740 KB; a segment goes as a whole, two are left alone, and a file is kept.
    assert!((700 << 10..=1_152 << 10).contains(&most), "{most} bytes");
    assert!(stats.trimmed > 80, "{} segments went", stats.trimmed);
    rig.kill().await;
}

/// Holds that many keys and never changes them again.
#[derive(Debug)]
struct Hoard(u32);

impl Gear for Hoard {
    const TYPE: &'static str = "hoard";
    type State = bool;

    fn handle(&self, msg: FluxMsg, is_full: &mut bool, out: &mut Outlet) -> Result<(), GearError> {
        if !std::mem::replace(is_full, true) {
            for key in 0..self.0 {
                out.put(format!("key-{key:05}"), i64::from(key));
            }
        }
        out.emit(msg);
        Ok(())
    }
}

/// Three thousand keys that nobody changes are said again in steps, so that no cut closes the gate for all of them.
#[tokio::test(start_paused = true)]
async fn keys_are_carried_in_steps_and_none_is_lost() {
    const KEYS: u32 = 3 * KEYS_MAX as u32 + 10;
    let disk = SimDisk::new(1);
    let rig = bare(&disk, Source::new(2_500, 1_000), "sink", 0, MAX_BYTES)
        .gear("hoard", Hoard(KEYS))
        .wire("source", "hoard")
        .wire("hoard", "sink");
    let rig = rig.start().await.unwrap();
    let usage = || rig.journal().unwrap().1;
    until("the journal runs", || usage().newest > 0).await;
    let first = usage().newest;
    until("all have gone through", || rig.wires()[1].passed == 2_500).await;
    assert!(rig.durable().await && usage().oldest > first + 1, "{:?}", usage());
    rig.kill().await;
    disk.kill();

    let (mut most, mut found) = (0, BTreeSet::new());
    let options = OpenOptions { rack: rack_id("rack"), segment_bytes: 64 << 10, ..OpenOptions::default() };
    let (storage, _) = open(disk.process(), options, &mut |group| {
        decode(&group.body, |delta| {
            let keys = || delta.gears.iter().flat_map(|gear| &gear.keys);
            most = most.max(keys().count());
            found.extend(keys().map(|(key, _)| key.clone()));
        })
        .unwrap();
        Ok(())
    })
    .unwrap();
    drop(storage);
    assert_eq!((most, found.len()), (KEYS_MAX, KEYS as usize));
}

/// A disk that refuses is asked four times a second, and no oftener; once it gives room, the rig goes on by itself.
#[tokio::test(start_paused = true)]
async fn a_degraded_rig_tries_again_at_its_pace() {
    let disk = SimDisk::new(1);
    let source = Source { count: 1_000, bytes: 100, every: Duration::from_millis(20) };
    let rig = rig(&disk, source, "sink", 0, MAX_BYTES).start().await.unwrap();
    until("it runs", || rig.wires()[0].passed > 10).await;
    disk.set_faults(Faults { write_full_ppm: 1_000_000, ..Faults::default() });
    until("it is degraded", || rig.is_degraded()).await;
    let failures = || rig.journal().unwrap().0.failures;
    let before = failures();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let tried = failures() - before;
    assert!((230..=241).contains(&tried), "{tried} tries in a minute");
    disk.set_faults(Faults::default());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!rig.is_degraded());
    until("all have gone through", || rig.wires()[0].passed == 1_000).await;
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
