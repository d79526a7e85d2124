//! A rack that was killed with a full wire, and starts over what is left of its journal.

use std::collections::BTreeMap;
use std::time::Duration;

use fluxrig_actors::journal::Recovery;
use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::daemon::{RackAt, Started, Wrap};
use fluxrig_tests::outside::ledger::Ledger;
use fluxrig_tests::outside::lines::{Key, Numbered, Sent};
use fluxrig_tests::outside::pipeline::{Pipeline, SCENARIO};
use fluxrig_tests::outside::place::{self, Place};
use fluxrig_tests::outside::session::Session;
use fluxrig_tests::outside::{World, wait};
use rustix::process::Signal;

use super::super::class::Ask;
use super::Read;
use super::files::Files;

/// Lines on the wire to a ledger that is not there.
const LINES: u64 = 2500;
/// From many segments with few groups to few with many.
const SEGMENT_BYTES: [&str; 3] = ["131072", "262144", "1048576"];
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// What a kill left, and what it owes.
pub(super) struct Filled {
    session: Session<Pipeline>,
    /// The journal.
    pub(super) now: Files,
    /// The journal some time before.
    pub(super) old: Files,
    /// Another rack's journal.
    pub(super) foreign: Files,
    sent: BTreeMap<Key, Sent>,
}

impl Filled {
    pub(super) fn new(ask: &Ask, chance: &mut Chance) -> Result<Self, String> {
        let foreign = fill(ask, LINES / 10, chance)?.now;
        Ok(Self { foreign, ..fill(ask, LINES, chance)? })
    }

    pub(super) fn rack(&self) -> &RackAt {
        self.session.rack()
    }

    /// How many it owes.
    pub(super) fn lines(&self) -> u64 {
        self.sent.values().map(|sent| sent.acked).sum()
    }

    /// Starts the binary on a journal. When it runs each line that was promised comes to the ledger once, in order;
    /// where a tail was cut, so many of the last ones may be missing. None when it is refused, as it has to be.
    pub(super) fn start(&self, mut rack: RackAt, found: &Read, base: &Recovery) -> Result<Option<u64>, String> {
        let (ledger, out) = (Ledger::open()?, Place::new()?);
        for (name, value) in &mut rack.variables {
            match name.as_str() {
                "LEDGER" => *value = ledger.address().to_string(),
                "OUT" => *value = out.path().display().to_string(),
                _ => {}
            }
        }
        let daemon = match (rack.start(&Wrap::default())?, found) {
            (Started::Ready(daemon), Read::Goes(_)) => daemon,
            (Started::Ended(status, log), Read::Refused(_)) => {
                return match status.code() {
                    Some(65 | 73) => Ok(None),
                    _ => Err(format!("the start ended with {status}, expected 65 or 73: {log}")),
                };
            }
            (started, found) => return Err(format!("the start went otherwise: {started:?}, expected {found:?}")),
        };
        let is_cut = matches!(found, Read::Goes(recovery) if recovery.last_epoch < base.last_epoch);
        let owed = self.lines();
        let count = || ledger.with_lines(|lines| lines.len() as u64);
        let is_drained = wait::until(DRAIN_MAX, || count() >= owed || is_cut && is_empty(&rack));
        daemon.terminate()?;
        rack.verify()?;
        let missing = self.compare(&ledger.with_lines(std::mem::take))?;
        if !is_drained || missing > 0 && !is_cut {
            return Err(format!("{missing} of {owed} lines are lost: {found:?}, expected {base:?}"));
        }
        Ok(Some(missing))
    }

    /// How many are missing; anything else that is wrong is an error.
    fn compare(&self, lines: &[Numbered]) -> Result<u64, String> {
        let mut next: BTreeMap<Key, u64> = BTreeMap::new();
        for line in lines {
            let next = next.entry(line.key).or_insert(1);
            if line.number != *next {
                return Err(format!("`{line}` came where number {next} was next"));
            }
            *next += 1;
        }
        let missing = |(key, sent): (&Key, &Sent)| (sent.acked + 1).saturating_sub(next.get(key).copied().unwrap_or(1));
        Ok(self.sent.iter().map(missing).sum())
    }
}

/// Whether no wire of a running rack holds anything.
fn is_empty(rack: &RackAt) -> bool {
    let Ok(top) = rack.top() else { return false };
    top["wires"].as_array().is_some_and(|wires| wires.iter().all(|wire| wire["depth"] == 0))
}

/// A rack whose ledger is not there, killed when so many lines wait for it; its journal then, and half way. The foreign
/// one is left empty.
fn fill(ask: &Ask, lines: u64, chance: &mut Chance) -> Result<Filled, String> {
    let segment_bytes = SEGMENT_BYTES[chance.below(3) as usize];
    let nobody = place::address()?.to_string();
    let mut pipeline = Pipeline::with(&SCENARIO.replace("131072", segment_bytes), &ask.daemon, None, chance)?;
    let dialled = pipeline.set("LEDGER", &nobody);
    let mut session = Session::new(pipeline);
    session.start(lines / 2)?;
    session.daemon()?.signal(Signal::STOP);
    let journal = session.rack().data_dir.join("journal");
    let old = Files::load(&journal);
    session.daemon()?.signal(Signal::CONT);
    session.until_answers(lines / 2)?;
    session.kill();
    session.world.set_quiet(true);
    if !wait::until(DRAIN_MAX, || session.world.feeders().is_idle()) {
        return Err("feeders do not notice that the rack is gone".to_owned());
    }
    let sent = session.world.feeders().with_sent(|sent| sent.clone());
    session.world.set("LEDGER", &dialled);
    Ok(Filled { session, now: Files::load(&journal)?, old: old?, foreign: Files::default(), sent })
}
