//! The ends of a rig that two racks run in turn, and what the world sees of both: which number had which effect, whose it
//! was, and whether that rack was still the holder.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fluxrig_actors::journal::disk::sim::SplitMix;
use fluxrig_actors::prelude::*;

use super::super::report::Violation;

/// What a seed draws for the ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) seed: u64,
    /// Messages that the source admits, over all processes.
    pub(super) count: u64,
    /// How long an effect takes between its start and the write.
    pub(super) latency: Duration,
    /// Effects are written one after the other.
    pub(super) is_serial: bool,
}

/// What is seen from outside; it survives every process.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The process that began the last term.
    pub(super) holder: u64,
    pub(super) take_overs: u64,
    pub(super) next: u64,
    pub(super) acked: BTreeSet<u64>,
    /// Which count of the gear each number bears.
    effects: BTreeMap<u64, u64>,
    numbers: BTreeMap<u64, u64>,
    pub(super) unknown: u64,
    pub(super) edge: u64,
    pub(super) violations: Vec<Violation>,
}

impl Seen {
    pub(super) fn fail(&mut self, check: &'static str, found: String) {
        self.violations.push(Violation { check, found });
    }

    /// The first number that was acknowledged and had no effect.
    pub(super) fn missing(&self) -> Option<u64> {
        self.acked.iter().copied().find(|number| !self.effects.contains_key(number))
    }

    pub(super) fn effects(&self) -> u64 {
        self.effects.len() as u64
    }

    fn effect(&mut self, by: u64, number: u64, count: u64, how: How) {
        if self.holder != by && !how.is_edge {
            self.fail("effect of a fenced rack", format!("n={number} by process {by}, {} holds", self.holder));
        }
        self.edge += u64::from(how.is_edge);
        self.unknown += u64::from(how.is_flagged);
        if let Some(before) = self.effects.insert(number, count) {
            if !how.is_flagged && !how.is_edge {
                self.fail("duplicate", format!("n={number}"));
            }
            if before != count {
                self.fail("state is not what it was", format!("n={number} is {before} and {count}"));
            }
        }
        let other = self.numbers.insert(count, number);
        if other.is_some_and(|other| other != number) {
            self.fail("state went back", format!("{count} is n={number} and n={}", other.unwrap_or_default()));
        }
    }
}

/// How an effect came about.
#[derive(Clone, Copy, Debug)]
struct How {
    /// Handed over as maybe sent.
    is_flagged: bool,
    /// Its process stood still between the start and the write: the declared edge.
    is_edge: bool,
}

/// A process of one of the racks.
#[derive(Debug)]
pub(super) struct Proc {
    pub(super) id: u64,
    pub(super) ends: Ends,
    /// How often it stood still.
    pub(super) pauses: AtomicU64,
    pub(super) seen: Arc<Mutex<Seen>>,
}

impl Proc {
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(value: &Value) -> u64 {
    value.as_int().and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

/// Admits numbers, now and then after a long silence.
pub(super) struct Numbers(pub(super) Arc<Proc>);

impl Endpoint for Numbers {
    const TYPE: &'static str = "pair_numbers";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let mut rng = SplitMix::new(self.0.ends.seed ^ self.0.id);
        let door = io.door();
        loop {
            let gap_ms = if rng.below(15) == 0 { 2_500 } else { rng.below(60) };
            tokio::time::sleep(Duration::from_millis(gap_ms)).await;
            let number = {
                let mut seen = self.0.seen();
                if seen.next == self.0.ends.count {
                    return Ok(());
                }
                seen.next += 1;
                seen.next
            };
            let mut msg = io.message();
            msg.data.insert_key("n", number);
            // Long enough for groups of several messages.
            msg.data.insert_key("pad", "x".repeat(rng.below(900) as usize));
            if let Ok(receipt) = door.admit(msg).await {
                let proc = Arc::clone(&self.0);
                tokio::spawn(async move {
                    if receipt.durable().await {
                        proc.seen().acked.insert(number);
                    }
                });
            }
        }
    }
}

/// Counts what passes, as durable state.
pub(super) struct Count;

impl Gear for Count {
    const TYPE: &'static str = "pair_count";
    type State = ();

    fn handle(&self, mut msg: FluxMsg, (): &mut (), out: &mut Outlet) -> Result<(), GearError> {
        let count = out.get("count").as_ref().map_or(0, number) + 1;
        out.put("count", count);
        msg.data.insert_key("c", count);
        out.emit(msg);
        Ok(())
    }
}

/// Writes what comes, some time after it may.
pub(super) struct Writes(pub(super) Arc<Proc>);

impl Endpoint for Writes {
    const TYPE: &'static str = "pair_writes";

    fn ports(&self) -> Ports {
        Ports::sink()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let mut effects = io.effects();
        while let Some(effect) = effects.take().await {
            let pauses = self.0.pauses.load(Ordering::SeqCst);
            let proc = Arc::clone(&self.0);
            let write = async move {
                tokio::time::sleep(proc.ends.latency).await;
                let is_edge = proc.pauses.load(Ordering::SeqCst) != pauses;
                let field = |key| effect.msg.data.get_key(key).map_or(0, number);
                let (number, count) = (field("n"), field("c"));
                let how = How { is_flagged: effect.is_maybe_sent(), is_edge };
                proc.seen().effect(proc.id, number, count, how);
                effect.done();
            };
            match self.0.ends.is_serial {
                true => write.await,
                false => drop(tokio::spawn(write)),
            }
        }
        Ok(())
    }
}
