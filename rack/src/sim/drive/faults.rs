//! The storm of a run: every planned fault at its time, faults that last ended when theirs has come, and a process that
//! ended started again.

use std::time::Duration;

use fluxrig_actors::journal::disk::sim::Faults as DiskFaults;
use fluxrig_gears::sim::Trouble;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Drive, START_AGAIN};
use crate::sim::ledger::Event;
use crate::sim::plan::{Fault, PlannedFault, What};

/// A kill in the middle of a disk operation comes after so long at the latest.
const FUSE_MAX: Duration = Duration::from_secs(2);

impl Drive<'_> {
    /// Every fault at its time.
    pub(super) async fn storm(&mut self) {
        for fault in self.plan.faults.clone() {
            self.sleep_until(self.origin + fault.at).await;
            self.ledger.note(Event::Fault { idx: fault.idx });
            self.strike(&fault).await;
        }
        let last_request = self.plan.requests.iter().map(|request| request.at).max().unwrap_or_default();
        // The last one is still made as planned.
        self.sleep_until(self.origin + last_request + Duration::from_millis(10)).await;
    }

    /// Waits, ends what lasts when its time has come, and starts again what ended by itself.
    pub(super) async fn sleep_until(&mut self, until: Instant) {
        loop {
            let next = self.disk_until.values().map(|(at, _)| *at).min().map_or(until, |at| at.min(until));
            let ended = match &self.rig {
                Some(rig) => tokio::select! {
                    biased;
                    reason = rig.ended() => Some(reason),
                    () = sleep_until(next) => None,
                },
                None => {
                    sleep_until(next.min(Instant::now() + START_AGAIN)).await;
                    self.start().await;
                    None
                }
            };
            if let Some(reason) = ended {
                self.ended_by_itself(reason).await;
            }
            self.end_disk_faults();
            if Instant::now() >= until {
                return;
            }
        }
    }

    pub(super) fn end_disk_faults(&mut self) {
        let now = Instant::now();
        let before = self.disk_until.len();
        self.disk_until.retain(|_, (at, _)| *at > now);
        if self.disk_until.len() != before {
            self.set_disk();
        }
    }

    /// The disk is as the faults that last make it.
    fn set_disk(&self) {
        let mut faults = DiskFaults::default();
        let mut room = None;
        for (_, what) in self.disk_until.values() {
            match what {
                What::FailingFlushes { ppm, .. } => {
                    faults.sync_error_ppm = faults.sync_error_ppm.max(*ppm);
                    faults.write_error_ppm = faults.write_error_ppm.max(ppm / 8);
                }
                What::FullDisk { room: left, .. } => room = Some(room.map_or(*left, |other: u64| other.min(*left))),
                _ => {}
            }
        }
        self.disk.set_faults(faults);
        let used = || -> u64 {
            self.disk.names().iter().filter_map(|name| self.disk.contents(name)).map(|bytes| bytes.len() as u64).sum()
        };
        self.disk.set_capacity(room.map(|room| used() + room));
    }

    async fn strike(&mut self, fault: &PlannedFault) {
        let now = Instant::now();
        match &fault.what {
            What::Kill { down } => self.kill(false, *down).await,
            What::KillWriting { operations, down } => {
                self.disk.kill_after(*operations);
                let until = now + FUSE_MAX;
                while !self.disk.is_killed() && Instant::now() < until {
                    sleep(Duration::from_millis(1)).await;
                }
                self.kill(false, *down).await;
            }
            What::Power { down } => self.kill(true, *down).await,
            What::FailingFlushes { lasts, .. } | What::FullDisk { lasts, .. } => {
                self.disk_until.insert(fault.idx, (now + *lasts, fault.what.clone()));
                self.set_disk();
            }
            What::Reset { address } => self.trouble(address, &[Trouble::Reset]),
            // Whoever had a connection would not notice otherwise.
            What::Refuse { address, lasts } => self.trouble(address, &[Trouble::Refuse(now + *lasts), Trouble::Reset]),
            What::Stall { address, lasts } => self.trouble(address, &[Trouble::Stall(now + *lasts)]),
            What::Blackhole { address, lasts } => self.trouble(address, &[Trouble::Blackhole(now + *lasts)]),
        }
    }

    fn trouble(&mut self, address: &str, troubles: &[Trouble]) {
        let noticed: usize = troubles.iter().map(|trouble| self.network.trouble(address, *trouble)).sum();
        *self.fired.entry(Fault::Link).or_default() += noticed as u64;
    }

    /// The process is gone in this instant, and there again after a while.
    pub(super) async fn kill(&mut self, is_power: bool, down: Duration) {
        let Some(rig) = self.rig.take() else { return };
        *self.fired.entry(if is_power { Fault::Power } else { Fault::Kill }).or_default() += 1;
        self.vanish(rig, is_power).await;
        let until = Instant::now() + down;
        while Instant::now() < until {
            let next = self.disk_until.values().map(|(at, _)| *at).min().map_or(until, |at| at.min(until));
            sleep_until(next).await;
            self.end_disk_faults();
        }
        self.start().await;
    }
}
