//! F6: the journal of a rack that is down is damaged, one damage at a time. Whoever then looks must name the damage, or
//! the journal must hold all that was promised; only a tail that nothing proves to have been flushed may be cut.

mod files;
mod starts;

use std::path::Path;
use std::sync::Arc;

use fluxrig_actors::journal::{Disk, Holder, OpenError, RealDisk, Recovery, verify};
use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::daemon::{RackAt, said};
use fluxrig_tests::outside::place::Place;
use fluxrig_tests::outside::tally::Tally;
use fluxrig_tests::outside::tried;

use super::class::{Ask, Report, Stop};
use files::{Damage, Files};
use starts::Filled;

/// Every so many damages are also shown to `fluxrig journal verify`, and to a start.
const BINARY_EVERY: u64 = 7;
const START_EVERY: u64 = 25;
const GOING_EVERY: u64 = 4;

/// What reading a journal came to.
#[derive(Debug)]
pub(super) enum Read {
    /// Refused, in these words.
    Refused(String),
    /// It goes on, with so much.
    Goes(Recovery),
}

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    Damage::KINDS.iter().for_each(|kind| report.expect(kind));
    let filled = Filled::new(ask, chance)?;
    let place = Place::new()?;
    let journal = place.path().join("data/journal");
    filled.now.write(&journal)?;
    let base = match read(&journal, filled.now.rack())? {
        Read::Goes(recovery) => recovery,
        Read::Refused(why) => return Err(Stop::Broken(format!("the journal that a kill left is refused: {why}"))),
    };
    let sizes = (filled.now.segments().count(), filled.now.bytes(), base.groups);
    report.note(format!(
        "the journal: {} segments, {} bytes, {} groups; {} lines on its wires",
        sizes.0,
        sizes.1,
        sizes.2,
        filled.lines()
    ));
    let mut run = Run { filled, base, journal, counts: Counts::default() };
    let mut outcome = Ok(());
    for round in 0..rounds {
        let damage = Damage::choose(round, &run.filled.now, &run.filled.old, &run.filled.foreign, chance);
        outcome = run.one(round, &damage).map_err(|error| format!("round {round}, {damage}: {error}"));
        if outcome.is_err() {
            break;
        }
        report.fired(damage.kind());
    }
    let ok = run.counts.ran * run.filled.lines() - run.counts.missing;
    report.tally(Tally { ok, ..Tally::default() });
    let Counts { refused, harmless, cut, verified, started, ran, missing } = run.counts;
    report.note(format!("{refused} refused with a name, {cut} cut at a tail that nothing proves, {harmless} harmless"));
    report.note(format!("{verified} of them by `fluxrig journal verify`, {started} by a start, of which {ran} ran; {missing} lines went with what was cut"));
    Ok(outcome?)
}

#[derive(Default)]
struct Counts {
    refused: u64,
    harmless: u64,
    cut: u64,
    verified: u64,
    started: u64,
    ran: u64,
    /// Lines that went with a tail that was cut.
    missing: u64,
}

struct Run {
    filled: Filled,
    /// What the journal holds without damage.
    base: Recovery,
    journal: std::path::PathBuf,
    counts: Counts,
}

impl Run {
    /// One damage, judged and taken back.
    fn one(&mut self, round: u64, damage: &Damage) -> Result<(), String> {
        damage.apply(&self.journal)?;
        let left = Files::load(&self.journal)?;
        let found = read(&self.journal, self.filled.now.rack())?;
        match &found {
            Read::Refused(_) => self.counts.refused += 1,
            Read::Goes(recovery) => match (recovery.last_epoch, self.base.last_epoch) {
                (epoch, base) if epoch == base && recovery.groups == self.base.groups => self.counts.harmless += 1,
                // What nothing proves to have been flushed may go, and must be said to go.
                (epoch, base) if epoch < base && epoch >= self.base.proven_epoch => self.counts.cut += 1,
                // A disk that gives back the end of the newest file as it was before takes the proof along.
                (epoch, base) if epoch < base && damage.takes_tail(&self.filled.now) => self.counts.cut += 1,
                // A kill between the first flush of a segment and the file that is prepared then leaves nobody to miss it.
                (epoch, base)
                    if epoch < base && damage.takes_newest(&self.filled.now) && !self.filled.now.has_next() =>
                {
                    self.counts.cut += 1;
                }
                (epoch, base) => {
                    let proven = self.base.proven_epoch;
                    let groups = (recovery.groups, self.base.groups);
                    return Err(format!("silently wrong: epoch {epoch} of {base}, proven {proven}, groups {groups:?}"));
                }
            },
        }
        if !Files::load(&self.journal)?.is_as(&left) {
            return Err("whoever only looked has changed the journal".to_owned());
        }
        let data_dir = self.journal.parent().unwrap_or(Path::new(".")).to_owned();
        let rack = RackAt { data_dir, ..self.filled.rack().clone() };
        if round.is_multiple_of(BINARY_EVERY) {
            self.counts.verified += 1;
            agrees(&rack, &found, damage)?;
        }
        // Those that go on are rarer, and the more interesting ones to start.
        let goes = self.counts.harmless + self.counts.cut;
        let is_chosen = match &found {
            Read::Goes(_) => goes % GOING_EVERY == 1,
            Read::Refused(_) => self.counts.refused % START_EVERY == 1,
        };
        if is_chosen {
            self.counts.started += 1;
            if let Some(missing) = self.filled.start(rack, &found, &self.base)? {
                self.counts.ran += 1;
                self.counts.missing += missing;
            }
            self.filled.now.write(&self.journal)
        } else {
            damage.take_back(&self.journal, &self.filled.now)
        }
    }
}

/// What a start would make of a journal.
fn read(journal: &Path, rack: [u8; 16]) -> Result<Read, String> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(journal).map_err(tried("the journal"))?);
    let holder = Holder::this_process(&*disk, "the fault suite").map_err(tried("the journal"))?;
    match verify(&disk, rack, &holder).map(|report| report.outcome) {
        Ok(Some(Ok(recovery))) => Ok(Read::Goes(recovery)),
        Ok(Some(Err(error))) | Err(error) => Ok(Read::Refused(named(&error)?)),
        Ok(None) => Err("`verify` says nothing".to_owned()),
    }
}

/// Damage has to be named by file and offset; the choices are said in the words of whoever looks.
fn named(error: &OpenError) -> Result<String, String> {
    let OpenError::Damaged(damage) = error else { return Ok(error.to_string()) };
    let text = damage.to_string();
    match text.contains(&damage.file) && text.contains('+') {
        true => Ok(text),
        false => Err(format!("damage without a place: {text}")),
    }
}

/// The binary says the same as the library, with its exit code.
fn agrees(rack: &RackAt, found: &Read, damage: &Damage) -> Result<(), String> {
    let output = rack.ask("journal", &["verify"])?;
    let text = said(&output);
    match (found, output.status.code()) {
        (Read::Goes(recovery), Some(0)) if recovery.torn.is_none() || text.contains("torn tail") => Ok(()),
        (Read::Refused(why), Some(65 | 73)) if text.contains(why.as_str()) => Ok(()),
        // A file of another rack alone: whose journal it is, the binary reads there.
        (Read::Refused(_), Some(65 | 73)) if damage.is_foreign() => Ok(()),
        (_, code) => Err(format!("`fluxrig journal verify` ends with {code:?} and `{text}`, expected {found:?}")),
    }
}
