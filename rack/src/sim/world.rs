//! What terminals share: the phase of the run, how they are told of it, and every request that is planned, to know what
//! was never made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use fluxrig_gears::sim::Network;
use tokio::sync::Notify;

use super::Traffic;
use super::ledger::Ledger;
use super::message::{self, Request};
use super::stage::Entrance;

/// What the whole world outside does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Requests as planned, while faults happen.
    Storm,
    /// No more of both; answers are waited for.
    Calm,
    /// What has no answer is asked for again.
    Again,
}

/// How one terminal is told of the phase, and tells how it stands. A bell of its own, since a channel with many receivers
/// wakes them in an order that no seed knows.
#[derive(Debug, Default)]
pub(super) struct Post {
    phase: AtomicU8,
    pub(super) bell: Notify,
    /// Requests that wait for an answer on a connection that lives.
    pub(super) waiting: AtomicUsize,
}

impl Post {
    pub(super) fn tell(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.bell.notify_one();
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Storm,
            1 => Phase::Calm,
            _ => Phase::Again,
        }
    }
}

/// What all terminals of a run share.
pub(super) struct World {
    pub(super) network: Network,
    pub(super) ledger: Arc<Ledger>,
    pub(super) traffic: Traffic,
    pub(super) seed: u64,
    /// Every request that is planned, to know what was never made; shared by all.
    pub(super) entrances: Vec<Arc<Entrance>>,
    /// Which terminal makes which request.
    pub(super) makers: BTreeMap<usize, (usize, usize)>,
}

impl World {
    /// A request by its number, made anew whenever it is needed.
    pub(super) fn request(&self, number: usize) -> Option<Request> {
        let (terminal, entrance) = *self.makers.get(&number)?;
        let entrance = &self.entrances[entrance];
        let template = self.traffic.template(self.seed, number, &entrance.gear);
        Some(message::request(&entrance.speech, self.seed, number, terminal, template))
    }
}
