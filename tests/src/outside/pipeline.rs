//! Numbered lines through five gears into a file and over TCP, around a scenario of its own.
//! Each line is acknowledged to its connection when it is durable; the judge holds the rack to that.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::chance::Chance;
use super::daemon::RackAt;
use super::judge::{Evidence, FileLine};
use super::ledger::Ledger;
use super::lines::{Feeders, Numbered};
use super::place::{self, Place};
use super::tally::Tally;
use super::{Outcome, World, wait};

const FEEDERS: u32 = 4;
const MANY_FEEDERS: u32 = 32;
/// The file sink waits up to five seconds between attempts to write.
const SETTLE_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The scenario; its segments are small, so that a run has many, and trims them.
pub const SCENARIO: &str = r#"meta: { name: lines, version: 0.1.0 }
journal: { file: { segment_bytes: 131072, max_bytes: 1073741824 } }
gears:
  - { name: source, type: io_tcp, config: { mode: server, bind: "${LINES}", framing: { delimiter: "\n" } } }
  - { name: one, type: map, config: { steps: [{ set: { path: data.one, value: 1 } }] } }
  - { name: two, type: map, config: { steps: [{ set: { path: data.two, value: 2 } }] } }
  - { name: three, type: map, config: { steps: [{ copy: { from: data.two, to: data.three } }] } }
  - { name: four, type: map, config: { steps: [{ rename: { from: data.three, to: data.four } }] } }
  - { name: five, type: map, config: { steps: [{ drop: { path: data.four } }] } }
  - { name: sink, type: file, config: { path: "${OUT}/lines.jsonl", on_maybe_sent: repeat } }
  - name: line
    type: io_tcp
    config:
      { mode: client, connect: "${LEDGER}", framing: { delimiter: "\n" }, on_maybe_sent: report, backoff_ms: { first: 5, max: 100 } }
  - { name: doubts, type: file, config: { path: "${OUT}/doubts.jsonl", on_maybe_sent: repeat } }
  - { name: ack, type: map, config: { steps: [] } }
wires:
  - { from: source.out, to: one.in }
  - { from: one.out, to: two.in }
  - { from: two.out, to: three.in }
  - { from: three.out, to: four.in }
  - { from: four.out, to: five.in }
  - { from: five.out, to: sink.in }
  - { from: five.out, to: line.in }
  - { from: line.out, to: doubts.in }
  - { from: source.out, to: ack.in }
  - { from: ack.out, to: source.in }
"#;

/// The pipeline topology.
#[derive(Debug)]
pub struct Pipeline {
    feeders: Feeders,
    ledger: Ledger,
    rack: RackAt,
    file: Tail,
    doubts: Tail,
    evidence: Evidence,
    _place: Place,
}

impl Pipeline {
    /// With a data directory of its own, below `data` where it must be there.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new(binary: &Path, data: Option<&Path>, chance: &mut Chance) -> Outcome<Self> {
        Self::with(SCENARIO, binary, data, chance)
    }

    /// With another scenario that has the same ends.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn with(scenario: &str, binary: &Path, data: Option<&Path>, chance: &mut Chance) -> Outcome<Self> {
        let place = Place::new()?;
        let ledger = Ledger::open()?;
        let address = place::address()?;
        let scenario = place.file("lines.yaml", scenario)?;
        let data_dir = data.unwrap_or(place.path()).join("lines");
        let out = place.path().display().to_string();
        let variables = [("LINES", address.to_string()), ("LEDGER", ledger.address().to_string()), ("OUT", out)];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let rack = RackAt { binary: binary.to_owned(), runner: None, scenario, data_dir, variables };
        let feeders = Feeders::start(FEEDERS, address, chance);
        let (file, doubts) = (Tail::of(place.path().join("lines.jsonl")), Tail::of(place.path().join("doubts.jsonl")));
        Ok(Self { feeders, ledger, rack, file, doubts, evidence: Evidence::default(), _place: place })
    }

    /// With more of them, who together keep many lines under way.
    #[must_use]
    pub fn with_many_feeders(self, chance: &mut Chance) -> Self {
        let address = self.rack.variables.iter().find(|(name, _)| name == "LINES").and_then(|(_, at)| at.parse().ok());
        match address {
            Some(address) => Self { feeders: Feeders::start(MANY_FEEDERS, address, chance), ..self },
            None => self,
        }
    }

    /// Gives a variable of the scenario another value for the next start; what it was.
    pub fn set(&mut self, name: &str, value: &str) -> String {
        let found = self.rack.variables.iter_mut().find(|(known, _)| known == name);
        found.map(|(_, known)| std::mem::replace(known, value.to_owned())).unwrap_or_default()
    }

    /// Its rack, to start it in another way.
    pub fn rack_mut(&mut self) -> &mut RackAt {
        &mut self.rack
    }

    /// Opens its ledger at another address; what came to the old one must have been judged.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn open_ledger_at(&mut self, address: SocketAddr) -> Outcome {
        self.ledger = Ledger::at(address)?;
        Ok(())
    }

    /// Its feeders.
    #[must_use]
    pub fn feeders(&self) -> &Feeders {
        &self.feeders
    }

    /// Everything seen since the last judgement, the newest included.
    ///
    /// # Errors
    /// When a sink holds what is no line of ours.
    pub fn look(&mut self) -> Result<&Evidence, String> {
        for line in self.file.lines() {
            self.evidence.file.push(file_line(&line)?);
        }
        for line in self.doubts.lines() {
            let doubt: Value =
                serde_json::from_str(&line).map_err(|error| format!("the doubts hold `{line}`: {error}"))?;
            let of = doubt["ref"].as_str().ok_or_else(|| format!("a doubt without `ref`: {line}"))?;
            self.evidence.doubts.insert(of.to_owned());
        }
        self.evidence.ledger = self.ledger.with_lines(|lines| lines.clone());
        self.evidence.sent = self.feeders.with_sent(|sent| sent.clone());
        Ok(&self.evidence)
    }

    /// What has been judged is not judged again; should it come back, it is known.
    fn forget(&mut self) {
        let evidence = std::mem::take(&mut self.evidence);
        let mut tops = std::collections::HashMap::new();
        for line in evidence.file.iter().map(|line| line.line).chain(evidence.ledger.iter().copied()) {
            let top = tops.entry(line.key).or_insert(0);
            *top = line.number.max(*top);
        }
        self.feeders.with_sent(|sent| {
            for (key, sent) in sent {
                // As it was judged: what came since then is judged the next time.
                let acked = evidence.sent.get(key).map_or(0, |judged| judged.acked);
                sent.base = sent.base.max(tops.get(key).copied().unwrap_or(0)).max(acked);
            }
        });
        self.ledger.with_lines(|lines| drop(lines.drain(..evidence.ledger.len())));
        self.evidence.doubts = evidence.doubts;
    }
}

/// One line of the file sink's JSON.
fn file_line(line: &str) -> Result<FileLine, String> {
    let found: Value = serde_json::from_str(line).map_err(|error| format!("the file holds `{line}`: {error}"))?;
    let raw = found["raw"].as_str().and_then(unhex).ok_or_else(|| format!("a line without `raw`: {line}"))?;
    let numbered = Numbered::parse(&raw).ok_or_else(|| format!("the file holds `{raw}`, which nobody sent"))?;
    let id = found["id"].as_str().unwrap_or_default().to_owned();
    if found["data"] != serde_json::json!({ "one": 1, "two": 2 }) {
        return Err(format!("`{numbered}` has not passed every gear, or one twice: {line}"));
    }
    Ok(FileLine { line: numbered, id, is_repeat: found["repeat"] == true })
}

fn unhex(text: &str) -> Option<String> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
    String::from_utf8(bytes?).ok()
}

impl World for Pipeline {
    fn name(&self) -> &'static str {
        "pipeline"
    }

    fn rack(&self) -> &RackAt {
        &self.rack
    }

    fn progress(&self) -> u64 {
        self.feeders.acked()
    }

    fn set_quiet(&self, is_quiet: bool) {
        self.feeders.set_quiet(is_quiet);
    }

    fn set_rude(&self, is_rude: bool) {
        self.feeders.set_rude(is_rude);
    }

    fn rudeness(&self) -> u64 {
        self.feeders.broken()
    }

    fn settle(&mut self) -> Tally {
        self.settle_within(SETTLE_MAX)
    }
}

impl Pipeline {
    /// The same, and waits at most so long for what is missing.
    pub fn settle_within(&mut self, at_most: Duration) -> Tally {
        self.set_quiet(true);
        let mut tally = Tally::default();
        let end = tokio::time::Instant::now() + at_most;
        loop {
            match self.look() {
                Ok(evidence) => tally = evidence.judge(),
                Err(what) => tally.foreign(what),
            }
            // Only what is not there yet can still come.
            let is_waiting = tally.lost > 0 && tokio::time::Instant::now() < end;
            if !is_waiting || tally.duplicate + tally.reordered + tally.foreign > 0 {
                break;
            }
            wait::pass(LOOK_EVERY);
        }
        self.feeders.wrongs().into_iter().for_each(|what| tally.foreign(what));
        self.ledger.foreign().into_iter().for_each(|what| tally.foreign(format!("the ledger got `{what}`")));
        self.forget();
        tally
    }
}

/// What was appended to a file since the last look.
#[derive(Debug)]
struct Tail {
    path: PathBuf,
    offset: u64,
}

impl Tail {
    fn of(path: PathBuf) -> Self {
        Self { path, offset: 0 }
    }

    /// The whole lines that are new.
    fn lines(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        // Not there before the first line.
        let read = File::open(&self.path)
            .and_then(|mut file| file.seek(SeekFrom::Start(self.offset)).and_then(|_| file.read_to_end(&mut bytes)));
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if read.is_err() || whole == 0 {
            return Vec::new();
        }
        self.offset += whole as u64;
        String::from_utf8_lossy(&bytes[..whole]).lines().map(str::to_owned).collect()
    }
}
