//! The writer over a whole rig: what bounds a group, and what it does beyond.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::redact_expired;
use crate::clock::SimWorld;
use crate::journal::Pace;
use crate::journal::disk::sim::{Faults, SimDisk};
use crate::prelude::*;
use crate::{Receipt, Settings};

/// Hands its side of the rig to the test.
struct Hand(watch::Sender<Option<Io>>);

impl Endpoint for Hand {
    const TYPE: &'static str = "hand";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        self.0.send_replace(Some(io));
        std::future::pending().await
    }
}

struct Stalled;

impl Endpoint for Stalled {
    const TYPE: &'static str = "stalled";

    fn ports(&self) -> Ports {
        Ports::sink()
    }

    async fn run(self: Arc<Self>, _io: Io) -> Result<(), GearError> {
        std::future::pending().await
    }
}

async fn start(disk: &SimDisk, settings: Settings) -> (RunningRig, Io) {
    let (hand, mut io) = watch::channel(None);
    let mut journal = JournalOptions::disk(disk.process());
    journal.pace = Some(Pace { seed: 3, max: Duration::from_micros(100) });
    let rig = Rig::new("large")
        .world(Arc::new(SimWorld::new(5)))
        .settings(settings)
        .journal_with(journal)
        .endpoint("hand", Hand(hand))
        .endpoint("stalled", Stalled)
        .wire("hand", "stalled");
    let rig = rig.start().await.unwrap();
    let io = io.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    (rig, io)
}

fn large(io: &Io) -> FluxMsg {
    let mut msg = io.message();
    msg.raw = Some(Bytes::from(vec![7; 1_500_000]));
    msg
}

async fn admit(io: &Io, count: usize) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for _ in 0..count {
        receipts.push(io.door().admit(large(io)).await.unwrap());
    }
    receipts
}

/// While nothing can be flushed the door closes by bytes, so that a group can hold all of it once the disk is back.
#[tokio::test(start_paused = true)]
async fn what_waits_for_the_disk_fits_into_a_group() {
    let disk = SimDisk::new(1);
    let (rig, io) = start(&disk, Settings { unflushed_bytes_max: 2 << 20, ..Settings::default() }).await;
    disk.set_faults(Faults { sync_error_ppm: 1_000_000, ..Faults::default() });
    let receipts = admit(&io, 2).await;
    let door = io.door();
    assert!(!door.is_open(), "3 MB came in");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(rig.is_degraded() && !door.is_open());
    disk.set_faults(Faults::default());
    for receipt in receipts {
        assert!(receipt.durable().await);
    }
    assert!(door.is_open());
    rig.kill().await;
    disk.kill();
    let (rig, _) = start(&disk, Settings::default()).await;
    assert_eq!(rig.wires()[0].depth, 2);
    rig.kill().await;
}

/// More in one cut than a group holds, with a door that is open too wide: the rig ends and says so, instead of trying
/// the same group for ever. Nobody was told that it was durable.
#[tokio::test(start_paused = true)]
async fn a_cut_beyond_a_group_ends_the_rig() {
    let disk = SimDisk::new(1);
    let (rig, io) = start(&disk, Settings { unflushed_bytes_max: usize::MAX, ..Settings::default() }).await;
    let receipts = admit(&io, 6).await;
    for receipt in receipts {
        assert!(!receipt.durable().await);
    }
    assert!(rig.ended().await.contains("cannot hold what came in between two cuts"));
    rig.kill().await;
}

/// Without its raw bytes.
fn without_raw(msg: &FluxMsg) -> Option<FluxMsg> {
    msg.raw.as_ref()?;
    let mut msg = msg.clone();
    msg.raw = None;
    Some(msg)
}

#[test]
fn what_is_read_back_to_be_carried_loses_its_secrets_when_it_has_expired() {
    let settings = Settings { redactor: Some(without_raw), ..Settings::default() };
    let mut msg = crate::sample::msg(1);
    msg.raw = Some(Bytes::from_static(b"secret"));
    msg.expires = Some(1_000);
    let bytes = msg.encoded_shared(&settings.limits).unwrap();
    assert_eq!(redact_expired(bytes.clone(), &settings, 1_000), bytes, "not expired yet");
    assert_eq!(redact_expired(bytes.clone(), &Settings::default(), 2_000), bytes, "no redactor");
    let carried = crate::sample::decode(&redact_expired(bytes, &settings, 1_001));
    assert_eq!((carried.id, carried.expires, &carried.raw), (msg.id, msg.expires, &None));
}

/// What was written and promised is in the page cache only; a flush that fails at the end would take it along.
#[tokio::test(start_paused = true)]
async fn a_flush_that_fails_at_the_end_is_not_the_end() {
    let (mut kept, mut failed) = (0, 0);
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let rig = |hand| {
            let mut journal = JournalOptions::disk(disk.process());
            journal.pace = Some(Pace { seed, max: Duration::from_micros(100) });
            journal.segment_bytes = 64 << 10;
            let options = WireOptions { lane: Lane::Os, ..WireOptions::default() };
            Rig::new("end")
                .world(Arc::new(SimWorld::new(seed)))
                .journal_with(journal)
                .endpoint("hand", Hand(hand))
                .endpoint("stalled", Stalled)
                .wire_with("hand", "stalled", options)
        };
        let (hand, mut io) = watch::channel(None);
        let running = rig(hand).start().await.unwrap();
        let io = io.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert!(io.door().admit(io.message()).await.unwrap().durable().await);
        let before = disk.fired().sync_errors;
        disk.set_faults(Faults { sync_error_ppm: 300_000, ..Faults::default() });
        assert!(running.stop(Duration::from_millis(10)).await);
        disk.set_faults(Faults::default());
        failed += u64::from(disk.fired().sync_errors > before);
        disk.kill();
        let running = rig(watch::channel(None).0).start().await.unwrap();
        kept += running.wires()[0].depth;
        running.kill().await;
        disk.kill();
    }
    assert!(failed >= 10 && kept == 40, "{failed} failed, {kept} of 40 kept");
}

/// A disk that refuses for good is given up on after a while, and whoever stops the rig learns of it.
#[tokio::test(start_paused = true)]
async fn a_stop_says_when_the_last_group_was_not_written() {
    let disk = SimDisk::new(1);
    let (rig, io) = start(&disk, Settings::default()).await;
    drop(io.door().admit(io.message()).await.unwrap());
    disk.set_faults(Faults { sync_error_ppm: 1_000_000, ..Faults::default() });
    let since = tokio::time::Instant::now();
    assert!(!rig.stop(Duration::from_millis(10)).await);
    assert!((4..=6).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
}
