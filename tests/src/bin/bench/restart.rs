//! From the crash of a gear to the next message handled, without a backoff.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_actors::supervision::Backoff;
use fluxrig_actors::{Redelivery, Supervision};
use fluxrig_tests::parts::{Count, Paced, Size, number};
use tokio::time::Instant;

use super::row::{Bar, Rows, median, micros, runtime};

/// Crashes at every tenth message and notes how long it was away.
#[derive(Clone, Default)]
struct Fragile {
    crashed: Arc<Mutex<Option<Instant>>>,
    away: Arc<Mutex<Vec<Duration>>>,
}

impl Gear for Fragile {
    const TYPE: &'static str = "fragile";
    type State = ();

    fn handle(&self, msg: FluxMsg, (): &mut (), out: &mut Outlet) -> Result<(), GearError> {
        if number(&msg).is_multiple_of(10) {
            *self.crashed.lock().expect("not poisoned") = Some(Instant::now());
            return Err(GearError::broken("as asked"));
        }
        if let Some(crashed) = self.crashed.lock().expect("not poisoned").take() {
            self.away.lock().expect("not poisoned").push(crashed.elapsed());
        }
        out.emit(msg);
        Ok(())
    }
}

pub(crate) fn crash(rows: &mut Rows) {
    if !rows.wants("restart") {
        return;
    }
    let gear = Fragile::default();
    runtime(2).block_on(async {
        let once = Redelivery { max_deliver: std::num::NonZeroU32::MIN, ..Redelivery::default() };
        let options = WireOptions { lane: Lane::Turbo, redelivery: once, ..WireOptions::default() };
        let source = Paced { count: 20_000, every: Duration::ZERO, size: Size::Small };
        let supervision =
            Supervision { backoff: Backoff::new(Duration::ZERO, Duration::ZERO), ..Supervision::default() };
        let rig = Rig::new("restart")
            .endpoint("source", source)
            .gear("fragile", gear.clone())
            .supervised(supervision)
            .endpoint("sink", Count::default())
            .wire_with("source", "fragile", options)
            .turbo("fragile", "sink");
        let rig = rig.start().await.expect("the rig starts");
        rig.finished().await;
        rig.stop(Duration::from_secs(5)).await;
    });
    let away: Vec<f64> = gear.away.lock().expect("not poisoned").iter().copied().map(micros).collect();
    let note = format!("{} crashes, the crashing message to the dead-letter wire, no backoff", away.len());
    rows.add("restart", "gear crash → next message handled, p50", median(away), "µs", Bar::AtMost(100.0), &note);
}
