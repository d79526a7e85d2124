//! What one thread cannot show: a cut between the parts of a commit. A counting pipeline on real threads with the
//! journal's own writer thread is killed in the middle of a disk operation and recovered; no number may be given twice.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fluxrig_actors::Settings;
use fluxrig_actors::prelude::*;
use tokio::time::sleep;

use super::draw;
use super::ends::{Sink, Source};
use super::gears::Worker;
use super::keep::{Keep, Storage};
use super::ledger::{Event, Ledger, Proc};
use super::plan::{Kind, PartSpec};
use super::report::Violation;

const COUNT: u64 = 300;

/// Runs one seed. Real threads do not repeat themselves, but what is checked holds for every run.
///
/// # Panics
/// When the system gives no threads.
#[must_use]
pub fn run(seed: u64) -> Vec<Violation> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_time().build().expect("the system gives threads");
    let ledger = runtime.block_on(async { threaded(seed).await });
    check(&ledger)
}

async fn threaded(seed: u64) -> std::sync::Arc<Ledger> {
    let keep = Keep::new(Storage::Disk, seed);
    let ledger = Ledger::new();
    for generation in 0..3 {
        let proc = Proc::new(&ledger, &keep, seed, generation, false);
        proc.is_calm.store(true, Ordering::Relaxed);
        let is_last = generation == 2;
        let part = |name: &str, kind| PartSpec { name: name.into(), kind, is_moody: false };
        let source = Kind::Source { count: COUNT, keys: 1, gap_ms: 0, burst: 1, expires: 0 };
        let sink = Kind::Sink { is_reporting: false, wide: 8, pause_ms: 0 };
        let mut journal = keep.journal();
        journal.segment_bytes = 1 << 20;
        let rig = Rig::new("threaded")
            .settings(Settings { batch_max: 1, ..Settings::default() })
            .journal_with(journal)
            .endpoint("source1", Source { spec: part("source1", source), proc: proc.clone() })
            .gear("count2", Worker { spec: part("count2", Kind::Count), proc: proc.clone() })
            .endpoint("sink3", Sink { spec: part("sink3", sink), proc: proc.clone() })
            .wire("source1", "count2")
            .wire("count2", "sink3");
        let Ok(rig) = rig.start().await else { break };
        if is_last {
            drop(tokio::time::timeout(Duration::from_secs(20), rig.finished()).await);
        } else {
            keep.kill_after(draw(seed, &["fuse"], generation) % 40);
            while proc.is_alive() && !rig.are_sources_ended() {
                sleep(Duration::from_millis(1)).await;
            }
        }
        proc.end();
        keep.kill();
        rig.kill().await;
    }
    ledger
}

fn check(ledger: &Ledger) -> Vec<Violation> {
    let mut given: BTreeMap<String, u64> = BTreeMap::new();
    let mut violations = Vec::new();
    for (_, event) in ledger.log() {
        let Event::Effect(effect) = event else { continue };
        let n = effect.label.n;
        if let Some(other) = given.insert(effect.counts.clone(), n).filter(|other| *other != n) {
            let found = format!("{} for n={other} and n={n}", effect.counts);
            violations.push(Violation { check: "counter went back (threads)", found });
        }
    }
    violations
}
