//! The pipeline's lines over a bus: two racks with a wire between them, or one whose journal is on the servers. The same
//! feeders, ledgers and judge as the pipeline on one rack; here each rack comes and goes by itself.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::chance::Chance;
use super::daemon::{Daemon, RackAt};
use super::pipeline::{self, Pipeline};
use super::session::shown;
use super::tally::Tally;
use super::{Outcome, World, wait};

/// Racks that answer nothing for so long have stopped.
const PROGRESS_MAX: Duration = Duration::from_secs(90);
/// A wire whose connection was lost looks for it again after seconds.
const SETTLE_MAX: Duration = Duration::from_secs(90);

/// `edge` takes the lines and acknowledges what its journal has; `core` has the ledgers.
const TWO: &str = r#"meta: { name: lines, version: 0.1.0 }
bus: @BUS@
journal: { file: { segment_bytes: 131072, max_bytes: 1073741824 } }
racks: [{ name: edge }, { name: core }]
gears:
  - { name: source, type: io_tcp, deploy: edge, config: { mode: server, bind: "${LINES}", framing: { delimiter: "\n" } } }
  - { name: one, type: map, deploy: edge, config: { steps: [{ set: { path: data.one, value: 1 } }] } }
  - { name: ack, type: map, deploy: edge, config: { steps: [] } }
  - { name: two, type: map, deploy: core, config: { steps: [{ set: { path: data.two, value: 2 } }] } }
  - { name: sink, type: file, deploy: core, config: { path: "${OUT}/lines.jsonl", on_maybe_sent: repeat } }
  - name: line
    type: io_tcp
    deploy: core
    config:
      { mode: client, connect: "${LEDGER}", framing: { delimiter: "\n" }, on_maybe_sent: report, backoff_ms: { first: 5, max: 100 } }
  - { name: doubts, type: file, deploy: core, config: { path: "${OUT}/doubts.jsonl", on_maybe_sent: repeat } }
wires:
  - { from: source.out, to: one.in }
  - { from: source.out, to: ack.in }
  - { from: ack.out, to: source.in }
  - { from: one.out, to: two.in, durability: @DURABILITY@, capacity: 2048 }
  - { from: two.out, to: sink.in }
  - { from: two.out, to: line.in }
  - { from: line.out, to: doubts.in }
"#;

/// The journal of the pipeline's scenario, which is replaced.
const ON_FILES: &str = "journal: { file: { segment_bytes: 131072, max_bytes: 1073741824 } }";

/// Small, so that a run trims it.
const STREAM_BYTES: u64 = 16 << 20;

/// The bus of a scenario.
#[derive(Clone, Debug)]
pub struct OnBus {
    /// What stands at `bus`, with `${BUS}` where each rack has an address of its own.
    pub bus: String,
    /// `flush` or `replicated`.
    pub durability: &'static str,
    /// `${BUS}` of each rack.
    pub urls: Vec<String>,
}

/// The racks, with the world around them.
#[derive(Debug)]
pub struct Racks {
    /// Feeders, ledgers and judge.
    pub pipeline: Pipeline,
    racks: Vec<RackAt>,
    daemons: Vec<Option<Daemon>>,
    is_on_files: bool,
    /// What was judged so far.
    pub tally: Tally,
}

impl Racks {
    /// `edge`, which is the first, and `core`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn two(binary: &Path, on: &OnBus, chance: &mut Chance) -> Outcome<Self> {
        let scenario = TWO.replace("@BUS@", &on.bus).replace("@DURABILITY@", on.durability);
        let pipeline = Pipeline::with(&scenario, binary, None, chance)?;
        Ok(Self::of(pipeline, &["edge", "core"], on, true))
    }

    /// One rack with the pipeline, whose journal is on the servers.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn on_stream(binary: &Path, on: &OnBus, chance: &mut Chance) -> Outcome<Self> {
        let journal = format!(
            "bus: {}\njournal: {{ jetstream: {{ durability: {}, max_bytes: {STREAM_BYTES} }} }}",
            on.bus, on.durability
        );
        let scenario = pipeline::SCENARIO.replacen(ON_FILES, &journal, 1);
        let pipeline = Pipeline::with(&scenario, binary, None, chance)?;
        Ok(Self::of(pipeline, &["only"], on, false))
    }

    fn of(pipeline: Pipeline, names: &[&str], on: &OnBus, is_on_files: bool) -> Self {
        let rack = |(idx, name): (usize, &&str)| {
            let mut rack = pipeline.rack().clone();
            rack.data_dir.set_file_name(name);
            let url = on.urls.get(idx).or(on.urls.first()).cloned().unwrap_or_default();
            rack.variables.push(("BUS".to_owned(), url));
            if names.len() > 1 {
                rack.variables.push(("FLUXRIG_RACK".to_owned(), (*name).to_owned()));
            }
            rack
        };
        let racks: Vec<RackAt> = names.iter().enumerate().map(rack).collect();
        let daemons = racks.iter().map(|_| None).collect();
        Self { pipeline, racks, daemons, is_on_files, tally: Tally::default() }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.racks.len()
    }

    /// One of them.
    #[must_use]
    pub fn rack(&self, idx: usize) -> &RackAt {
        &self.racks[idx]
    }

    /// Starts one.
    ///
    /// # Errors
    /// When it does not run.
    pub fn start(&mut self, idx: usize) -> Outcome {
        self.daemons[idx] = None;
        self.daemons[idx] = Some(self.racks[idx].run()?);
        Ok(())
    }

    /// Starts all that do not run, and lets the world ask.
    ///
    /// # Errors
    /// When one does not run.
    pub fn start_all(&mut self) -> Outcome {
        for idx in 0..self.racks.len() {
            if self.daemons[idx].is_none() {
                self.start(idx)?;
            }
        }
        self.pipeline.set_quiet(false);
        Ok(())
    }

    /// `kill -9`.
    pub fn kill(&mut self, idx: usize) {
        if let Some(daemon) = self.daemons[idx].take() {
            daemon.signal(Signal::KILL);
            daemon.kill();
        }
    }

    /// Waits for so many more acknowledgements.
    ///
    /// # Errors
    /// When they do not come, or a rack ends.
    pub fn until_answers(&mut self, more: u64) -> Outcome {
        let enough = self.pipeline.progress() + more;
        self.until("no answer", |racks| racks.pipeline.progress() >= enough)
    }

    /// Waits for a fact while all racks run.
    ///
    /// # Errors
    /// When it is not so in time, or a rack ends.
    pub fn until(&mut self, what: &str, mut fact: impl FnMut(&mut Self) -> bool) -> Outcome {
        let end = Instant::now() + PROGRESS_MAX;
        loop {
            if fact(self) {
                return Ok(());
            }
            let mut daemons = self.daemons.iter_mut().enumerate();
            if let Some((idx, status)) = daemons.find_map(|(idx, daemon)| Some((idx, daemon.as_mut()?.ended()?))) {
                return Err(format!("rack {idx} ended with {status}: {}", self.log(idx)));
            }
            if Instant::now() >= end {
                return Err(format!("{what} for {PROGRESS_MAX:?}: {}", self.seen()));
            }
            wait::pass(wait::LOOK_EVERY);
        }
    }

    /// The end of the log of one that runs.
    #[must_use]
    pub fn log(&self, idx: usize) -> String {
        self.daemons[idx].as_ref().map(Daemon::log).unwrap_or_default()
    }

    /// All that they show of themselves.
    #[must_use]
    pub fn seen(&self) -> String {
        let mut text = String::new();
        for (idx, rack) in self.racks.iter().enumerate().filter(|(idx, _)| self.daemons[*idx].is_some()) {
            let top = rack.top().map_or_else(|error| error, |top| shown(&top));
            let page = rack.metrics().unwrap_or_default();
            let counts: Vec<&str> =
                page.lines().filter(|line| line.contains("bus_") && !line.starts_with('#')).collect();
            text.push_str(&format!("\n  rack {idx}: {top}\n  {}\n  {}", counts.join("\n  "), self.log(idx)));
        }
        text
    }

    /// With racks that run: all that was promised must be there.
    ///
    /// # Errors
    /// What is not, and how the racks see it.
    pub fn settle(&mut self) -> Outcome {
        let tally = self.pipeline.settle_within(SETTLE_MAX);
        let is_clean = tally.is_clean();
        self.tally.add(tally);
        if is_clean {
            self.pipeline.set_quiet(false);
            return Ok(());
        }
        Err(format!("{}\n  {}\n  {}", self.tally, self.tally.findings.join("\n  "), self.seen()))
    }

    /// Settles, and drains every rack.
    ///
    /// # Errors
    /// When anything is not as it was promised.
    pub fn end(&mut self) -> Outcome {
        self.settle()?;
        self.pipeline.set_quiet(true);
        for daemon in self.daemons.iter_mut().filter_map(Option::take) {
            daemon.terminate()?;
        }
        // What a stream holds its own opening checks.
        self.racks.iter().filter(|_| self.is_on_files).try_for_each(RackAt::verify)
    }
}
