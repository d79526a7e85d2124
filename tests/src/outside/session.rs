//! One world and its rack through many starts: how long it was away, and whether it kept its word.

use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::daemon::{Daemon, RackAt, Started, Wrap};
use super::tally::Tally;
use super::{Outcome, World, wait};

/// A rack that answers nothing for so long has stopped.
const PROGRESS_MAX: Duration = Duration::from_secs(60);

/// A world with a rack that comes and goes.
pub struct Session<W: World> {
    /// Who asks.
    pub world: W,
    daemon: Option<Daemon>,
    away_since: Option<Instant>,
    /// Longest from the end of a rack to the next answer.
    pub longest_away: Duration,
    /// Longest from a start to its first answer.
    pub longest_start: Duration,
    /// What was judged so far.
    pub tally: Tally,
}

impl<W: World> Session<W> {
    /// Before the first start.
    pub fn new(world: W) -> Self {
        let zero = Duration::ZERO;
        Self { world, daemon: None, away_since: None, longest_away: zero, longest_start: zero, tally: Tally::default() }
    }

    /// The rack.
    pub fn rack(&self) -> &RackAt {
        self.world.rack()
    }

    /// The process that runs.
    ///
    /// # Errors
    /// When none does.
    pub fn daemon(&mut self) -> Outcome<&mut Daemon> {
        self.daemon.as_mut().ok_or_else(|| "no rack runs".to_owned())
    }

    /// Starts the rack and lets the world ask. What it says when it ended at once.
    ///
    /// # Errors
    /// When it neither runs nor ends.
    pub fn start_under(&mut self, wrap: &Wrap) -> Outcome<Option<(ExitStatus, String)>> {
        self.world.set_quiet(false);
        match self.world.rack().start(wrap)? {
            Started::Ready(daemon) => {
                self.daemon = Some(daemon);
                // Only a start that is waited for is measured.
                self.away_since = None;
                Ok(None)
            }
            Started::Ended(status, log) => Ok(Some((status, log))),
        }
    }

    /// Starts the rack bare, and waits for so many answers.
    ///
    /// # Errors
    /// When it does not run, or does not answer.
    pub fn start(&mut self, answers: u64) -> Outcome {
        let away_since = self.away_since;
        if let Some((status, log)) = self.start_under(&Wrap::default())? {
            return Err(format!("{}: the rack ended at its start with {status}: {log}", self.world.name()));
        }
        self.until_answers(1)?;
        let age = self.daemon()?.age();
        self.longest_start = self.longest_start.max(age);
        if let Some(since) = away_since {
            self.longest_away = self.longest_away.max(since.elapsed());
        }
        self.until_answers(answers)
    }

    /// Starts it without waiting for anything, and kills it after a while.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_and_kill(&mut self, after: Duration) -> Outcome {
        let daemon = self.world.rack().spawn(&Wrap::default())?;
        wait::pass(after);
        daemon.kill();
        Ok(())
    }

    /// Waits for so many more answers.
    ///
    /// # Errors
    /// When they do not come, or the rack ends.
    pub fn until_answers(&mut self, more: u64) -> Outcome {
        let enough = self.world.progress() + more;
        let mut ended = None;
        let (world, daemon) = (&self.world, &mut self.daemon);
        let is_there = wait::until(PROGRESS_MAX, || {
            ended = daemon.as_mut().and_then(Daemon::ended);
            ended.is_some() || world.progress() >= enough
        });
        match ended {
            Some(status) => Err(format!("{}: the rack ended with {status}: {}", self.world.name(), self.log())),
            None if is_there => Ok(()),
            None => Err(format!("{}: no answer for {PROGRESS_MAX:?}: {}", self.world.name(), self.log())),
        }
    }

    /// The rack is away on purpose: for how long says nothing.
    pub fn stay_away(&mut self) {
        self.away_since = None;
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        // The moment of the signal counts, not that of the wait.
        self.away_since.get_or_insert_with(Instant::now);
        if let Some(daemon) = self.daemon.take() {
            daemon.signal(Signal::KILL);
            daemon.kill();
        }
    }

    /// The end of the log of the rack that runs.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Daemon::log).unwrap_or_default()
    }

    /// With a rack that runs: all that was promised must be there.
    ///
    /// # Errors
    /// What is not, and how the rack sees it.
    pub fn settle(&mut self) -> Outcome {
        let tally = self.world.settle();
        let is_clean = tally.is_clean();
        self.tally.add(tally);
        if is_clean {
            return Ok(());
        }
        let top = self.rack().top().map_or_else(|error| error, |top| shown(&top));
        let findings = self.tally.findings.join("\n  ");
        Err(format!("{}: {}\n  {findings}\n  {top}\n  {}", self.world.name(), self.tally, self.log()))
    }

    /// Settles, drains the rack and looks at its journal once more.
    ///
    /// # Errors
    /// When anything is not as it was promised.
    pub fn end(&mut self) -> Outcome {
        self.settle()?;
        if let Some(daemon) = self.daemon.take() {
            daemon.terminate()?;
        }
        self.rack().verify()
    }
}

/// What matters of what a rack shows: everything that is not as in a quiet one.
#[must_use]
pub fn shown(top: &serde_json::Value) -> String {
    let wires = top["wires"].as_array().into_iter().flatten();
    let waiting: Vec<String> = wires
        .filter(|wire| wire["depth"] != 0)
        .map(|wire| format!("{} on {}", wire["depth"], wire["name"].as_str().unwrap_or_default()))
        .collect();
    let [letters, degraded, doors, links] = ["dead_letters", "is_degraded", "doors", "links"].map(|key| &top[key]);
    format!("waiting: {waiting:?}; dead letters {letters}, degraded {degraded}, doors {doors}, links {links}")
}
