//! The processes of a run: each with the disk, the network and the world of its machine; how one starts, how it is gone,
//! and what it leaves in its dead letters.

use std::any::Any;
use std::sync::Arc;

use fluxrig_actors::clock::{self, SimWorld};
use fluxrig_actors::journal::Pace;
use fluxrig_actors::protocol::Value;
use fluxrig_actors::{DeadLetter, JournalOptions, RunningRig};
use fluxrig_gears::iso8583::FIELDS;
use fluxrig_gears::sim::Process;

use super::Drive;
use crate::scenario::asked_of;
use crate::sim::check::Letter;
use crate::sim::ledger::Event;
use crate::sim::{draw, message};

/// Small segments, so that a short run sees many of them.
const SEGMENT_BYTES: u64 = 256 << 10;

/// Time and chance of a process, and its network.
#[derive(Debug)]
struct Outside {
    world: Arc<SimWorld>,
    process: Arc<Process>,
}

impl clock::World for Outside {
    fn wall_ns(&self) -> i64 {
        self.world.wall_ns()
    }

    fn boot_ns(&self) -> u64 {
        self.world.boot_ns()
    }

    fn boot_id(&self) -> u64 {
        self.world.boot_id()
    }

    fn random(&self, bytes: &mut [u8]) {
        self.world.random(bytes);
    }

    fn outside(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(Arc::clone(&self.process) as Arc<dyn Any + Send + Sync>)
    }
}

impl Drive<'_> {
    pub(super) async fn vanish(&mut self, rig: RunningRig, is_power: bool) {
        self.network.end_process(is_power);
        if is_power {
            self.disk.power_loss();
            self.world.reboot();
        } else {
            self.disk.kill();
        }
        self.ledger.note(Event::Stopped { how: if is_power { "power" } else { "kill" } });
        // Nothing of what it still does reaches a disk or a line.
        rig.kill().await;
    }

    pub(super) async fn ended_by_itself(&mut self, reason: String) {
        self.ledger.note(Event::Failed { reason: reason.clone() });
        if self.disk_until.is_empty() && !self.disk.is_killed() {
            self.fail("the rig ended by itself", reason);
        }
        if let Some(rig) = self.rig.take() {
            self.vanish(rig, false).await;
        }
    }

    /// Starts a process. Under faults it may fail.
    pub(super) async fn start(&mut self) {
        let disk = self.disk.clone();
        let process = Arc::new(self.network.process(move || !disk.is_killed()));
        let world = Arc::new(Outside { world: Arc::clone(&self.world), process });
        self.starts += 1;
        let checked = &self.subject.checked;
        let mut journal = asked_of(checked.scenario.journal, JournalOptions::disk(self.disk.process()));
        journal.segment_bytes = journal.segment_bytes.min(SEGMENT_BYTES);
        journal.pace = Some(Pace { seed: draw(self.plan.seed, "writer", self.starts), max: self.plan.pace });
        let rig = match checked.rig_on(self.subject.rack.as_deref(), &self.subject.catalog, journal, &crate::bus::NoBus)
        {
            Ok(rig) => rig.world(world),
            Err(error) => return self.fail("the scenario cannot be built", error.to_string()),
        };
        match rig.start().await {
            Ok(rig) => {
                self.ledger.note(Event::Started);
                self.rig = Some(rig);
            }
            Err(error) => {
                let reason = crate::with_causes(&error);
                self.ledger.note(Event::Failed { reason: reason.clone() });
                if self.disk_until.is_empty() {
                    self.fail("a process does not start", reason);
                }
                self.network.end_process(false);
                self.disk.kill();
            }
        }
    }

    pub(super) fn letters(&mut self) -> Vec<Letter> {
        let letters = match self.rig.as_ref().map(RunningRig::dead_letters) {
            Some(Ok(letters)) => letters,
            Some(Err(error)) => {
                self.fail("dead letters cannot be read", error.to_string());
                Vec::new()
            }
            None => Vec::new(),
        };
        letters.iter().map(|letter| self.letter(letter)).collect()
    }

    fn letter(&self, letter: &DeadLetter) -> Letter {
        let speeches = self.subject.stage.entrances.iter().map(|entrance| &entrance.speech);
        let fields = letter.msg.data.get_key(FIELDS);
        let of_fields = match fields {
            Some(Value::Map(fields)) => message::of_fields(fields),
            _ => None,
        };
        let raw = letter.msg.raw.as_ref();
        let of_raw = || speeches.clone().find_map(|speech| Some(message::number(speech, raw?)?.0));
        let place = if letter.gear.is_empty() { &letter.wire } else { &letter.gear };
        Letter { request: of_fields.or_else(of_raw), place: place.to_string(), reason: letter.reason.to_string() }
    }
}
