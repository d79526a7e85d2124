//! Runs one seed: processes that crash and recover under faults, then calm until everything has drained, then one more.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fluxrig_actors::clock::SimWorld;
use fluxrig_actors::journal::OpenError;
use fluxrig_actors::journal::disk::sim::SplitMix;
use fluxrig_actors::journal::stream::{LogError, StreamOpenError};
use fluxrig_actors::{DeadLetter, Replayed, RigError, RunningRig};
use tokio::time::{Instant, sleep};

use super::check::{Evidence, Letter, check};
use super::draw;
use super::gears::label;
use super::keep::Keep;
use super::ledger::{End, Event, Ledger, Proc};
use super::plan::{self, Graph, Scenario};
use super::report::{Fault, Options, Report, Violation};

/// Everything must have drained after this much virtual time without faults.
const DRAIN_MAX: Duration = Duration::from_secs(300);
/// Seconds in which the journal of a rig that has drained falls still.
const STILL_MAX_S: u64 = 30;
/// A rig that writes more than this to drain writes for nothing.
const DRAIN_OPERATIONS_MAX: u64 = 1_000_000;
/// A whole run has ended after this much virtual time.
const END_MAX: Duration = Duration::from_secs(3_600);
/// An election ends before so many starts are over.
const STARTS_MAX: usize = 20;
/// Longest timer of a gear, and a bit.
const TIMER_MAX: Duration = Duration::from_millis(12_500);

/// Runs one seed to the end.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Report {
    silence_wanted_panics();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime of one thread");
    runtime.block_on(async {
        match tokio::time::timeout(END_MAX, Drive::new(seed, options).run()).await {
            Ok(report) => report,
            Err(_) => {
                let found = format!("still under way after {} s of virtual time", END_MAX.as_secs());
                let violations = vec![Violation { check: "does not end", found }];
                Report { seed, drawn: plan::graph(seed).text, violations, ..Report::default() }
            }
        }
    })
}

/// Panics that gears and endpoints are asked for are not printed; all others are.
fn silence_wanted_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| info.payload().downcast_ref::<&str>().copied()).unwrap_or("");
            if !text.contains(super::gears::WANTED) {
                print(info);
            }
        }));
    });
}

struct Drive<'a> {
    options: &'a Options,
    rng: SplitMix,
    graph: Graph,
    scenario: Scenario,
    world: Arc<SimWorld>,
    keep: Keep,
    ledger: Arc<Ledger>,
    evidence: Evidence,
    report: Report,
    generation: u64,
    origin: Instant,
}

impl<'a> Drive<'a> {
    fn new(seed: u64, options: &'a Options) -> Self {
        let graph = plan::graph(seed);
        let report = Report { seed, drawn: graph.text.clone(), ..Report::default() };
        Self {
            options,
            rng: SplitMix::new(draw(seed, &["drive"], 0)),
            graph,
            scenario: Scenario::default(),
            world: Arc::new(SimWorld::new(draw(seed, &["world"], 0))),
            keep: Keep::new(options.storage, seed),
            ledger: Ledger::new(),
            evidence: Evidence::default(),
            report,
            generation: 0,
            origin: Instant::now(),
        }
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.rng.below(count) == 0
    }

    fn has(&self, fault: Fault) -> bool {
        self.options.has(fault)
    }

    fn fail(&mut self, check: &'static str, found: String) {
        self.evidence.violations.push(Violation { check, found });
    }

    async fn run(mut self) -> Report {
        let processes = 1 + self.rng.below(5);
        for _ in 0..processes {
            self.stormy_process().await;
            self.meanwhile().await;
            if !self.evidence.violations.is_empty() {
                break;
            }
        }
        if self.evidence.violations.is_empty() {
            self.calm_process().await;
        }
        self.finish()
    }

    /// A process under faults.
    async fn stormy_process(&mut self) {
        if self.keep.trouble(&mut self.rng, self.options) {
            self.evidence.troubled.insert(self.generation as usize);
        }
        if self.has(Fault::Kill) && self.one_in(8) {
            // In the middle of recovery, or soon after it.
            let operations = self.rng.below(60);
            self.keep.kill_after(operations);
        }
        let is_calm = !self.has(Fault::Endpoint) || self.one_in(3);
        let Some((rig, proc)) = self.start(is_calm).await else { return };
        let alive_ms = [20, 150, 400, 1500, 5000][self.rng.below(5) as usize];
        let until = Instant::now() + Duration::from_millis(1 + self.rng.below(alive_ms));
        let (gears, endpoints, wires) = plan::names(&self.graph);
        let mut is_full = false;
        while Instant::now() < until && proc.is_alive() {
            sleep(Duration::from_millis(1 + self.rng.below(15))).await;
            if !proc.is_alive() {
                break;
            }
            let used = rig.journal().map_or(0, |(_, usage)| usage.bytes);
            self.report.watermarks += u64::from(used > self.graph.max_bytes / 100 * 80);
            match self.rng.below(60) {
                0 if self.has(Fault::Gear) && !gears.is_empty() => {
                    let gear = &gears[self.rng.below(gears.len() as u64) as usize];
                    self.report.fired.add(Fault::Gear, u64::from(rig.restart_gear(gear).await.is_ok()));
                }
                1 if self.has(Fault::Endpoint) => {
                    let endpoint = &endpoints[self.rng.below(endpoints.len() as u64) as usize];
                    // A source that has ended cannot be restarted.
                    self.report.fired.add(Fault::Endpoint, u64::from(rig.restart_gear(endpoint).await.is_ok()));
                }
                2 if self.has(Fault::Gear) => {
                    let wire = &wires[self.rng.below(wires.len() as u64) as usize];
                    self.report.fired.add(Fault::Gear, u64::from(rig.restart_wire(wire).await.is_ok()));
                }
                3 | 4 if self.has(Fault::Full) && !is_full => {
                    is_full = true;
                    self.evidence.troubled.insert(self.generation as usize - 1);
                    self.keep.set_capacity(Some(used + self.rng.below(100_000)));
                }
                5..9 if is_full => {
                    is_full = false;
                    self.keep.set_capacity(None);
                }
                9 if self.has(Fault::Kill) && self.one_in(3) => {
                    let operations = self.rng.below(20);
                    self.keep.kill_after(operations);
                }
                _ => {}
            }
        }
        for _ in 0..self.rng.below(12) {
            tokio::task::yield_now().await;
        }
        self.end(rig, &proc).await;
        self.keep.set_capacity(None);
    }

    /// Starts a process; `None` when it was killed or its disk failed before it ran.
    async fn start(&mut self, is_calm: bool) -> Option<(RunningRig, Arc<Proc>)> {
        let proc = Proc::new(&self.ledger, &self.keep, self.graph.seed, self.generation, !is_calm);
        self.generation += 1;
        self.report.starts += 1;
        self.ledger.note(Event::Started);
        let rig = plan::rig(&self.graph, &self.scenario, &proc, &self.world, &self.keep);
        match rig.start().await {
            Ok(rig) => Some((rig, proc)),
            Err(error) => {
                let is_troubled = self.evidence.troubled.contains(&(self.generation as usize - 1));
                // Servers that hold an election answer later.
                let is_excused = is_troubled && !is_damage(&error) || is_unreachable(&error);
                if !self.keep.is_killed() && !is_excused {
                    self.fail("journal does not open", chain(&error));
                }
                proc.end();
                let is_power = self.has(Fault::Power) && self.one_in(3);
                self.crash(is_power);
                None
            }
        }
    }

    /// Starts a process that nothing hurts, as often as it takes until all servers answer.
    async fn start_at_last(&mut self) -> Option<(RunningRig, Arc<Proc>)> {
        for _ in 0..STARTS_MAX {
            let started = self.start(true).await;
            if started.is_some() || !self.evidence.violations.is_empty() {
                return started;
            }
        }
        self.fail("journal does not open", format!("in {STARTS_MAX} starts"));
        None
    }

    fn crash(&mut self, is_power: bool) {
        if is_power {
            self.keep.power_loss();
            self.world.reboot();
            self.ledger.note(Event::Ended(End::PowerLost));
        } else {
            self.keep.kill();
            self.ledger.note(Event::Ended(End::Killed));
        }
    }

    /// Ends a process one way or another.
    async fn end(&mut self, rig: RunningRig, proc: &Arc<Proc>) {
        if let Some((stats, _)) = rig.journal() {
            self.report.carried += stats.carried;
            self.report.trimmed += stats.trimmed;
        }
        let is_killed = !proc.is_alive();
        let mut ways = Vec::new();
        if self.has(Fault::Kill) {
            ways.extend([End::Killed; 3]);
        }
        if self.has(Fault::Power) {
            ways.extend([End::PowerLost; 3]);
        }
        if !is_killed {
            ways.push(End::Clean);
        }
        let way = if ways.is_empty() { End::Killed } else { ways[self.rng.below(ways.len() as u64) as usize] };
        if matches!(way, End::Clean) {
            // A kill that was set for one of the next disk operations is called off.
            self.keep.kill_after(u64::MAX - 1);
            let deadline = Duration::from_millis(self.rng.below(3_000));
            let is_drained = rig.stop(deadline).await;
            proc.end();
            self.ledger.note(Event::Ended(if is_drained { End::Clean } else { End::Undrained }));
            self.keep.kill();
            return;
        }
        proc.end();
        self.crash(way == End::PowerLost);
        rig.kill().await;
    }

    /// Between two processes: time passes, clocks jump, the scenario changes.
    async fn meanwhile(&mut self) {
        let ms = [0, 10, 1_000, 9_000][self.rng.below(4) as usize];
        sleep(Duration::from_millis(self.rng.below(ms + 1))).await;
        if self.has(Fault::Clock) && self.one_in(6) {
            self.world.reboot();
            let seconds = i64::try_from(self.rng.below(7_200)).unwrap_or(0) - 3_600;
            self.world.jump(seconds * 1_000_000_000);
            self.evidence.jumps.push(self.ledger.now_ns());
            self.report.fired.add(Fault::Clock, 1);
        }
        if self.has(Fault::Scenario) && self.one_in(3) {
            let open: Vec<usize> = (0..self.graph.wires.len()).filter(|&idx| self.graph.wires[idx].is_open).collect();
            if !open.is_empty() {
                let idx = open[self.rng.below(open.len() as u64) as usize];
                if !self.scenario.inserted.remove(&idx) {
                    self.scenario.inserted.insert(idx);
                }
                self.evidence.has_scenario_changes = true;
                self.report.fired.add(Fault::Scenario, 1);
            }
        }
    }

    /// No faults: everything drains within bounds. Then one more start, which finds nothing to do.
    async fn calm_process(&mut self) {
        self.keep.calm();
        let Some((rig, proc)) = self.start_at_last().await else { return };
        proc.is_calm.store(true, Ordering::Relaxed);
        if !self.drained(&rig).await {
            let depths: Vec<String> = rig
                .wires()
                .iter()
                .filter(|wire| wire.depth > 0)
                .map(|wire| format!("{}: {}", wire.name, wire.depth))
                .collect();
            let degraded = if rig.is_degraded() { ", degraded" } else { "" };
            let sources = if rig.are_sources_ended() { "ended" } else { "not ended" };
            let used = rig.journal().map_or(0, |(_, usage)| usage.bytes) >> 10;
            let found = format!("[{}], sources {sources}{degraded}, journal {used} KiB", depths.join(", "));
            self.fail("does not drain", found);
        } else if tokio::time::timeout(DRAIN_MAX, rig.durable()).await != Ok(true) {
            self.fail("does not become durable", "after everything had drained".to_owned());
        } else if !falls_still(&rig).await {
            self.fail("journal is never still", "groups are written though nothing happens".to_owned());
        }
        self.evidence.letters = self.list_letters(&rig);
        self.read_retained(&rig);
        let until = self.ledger.len();
        self.replay(&rig).await;
        self.evidence.left_out = (until, self.ledger.len());
        let letters = self.list_letters(&rig);
        if let Some((stats, _)) = rig.journal() {
            self.report.carried += stats.carried;
            self.report.trimmed += stats.trimmed;
        }
        proc.end();
        self.crash(false);
        rig.kill().await;
        self.evidence.last_from = self.ledger.len();
        if let Some((rig, proc)) = self.start_at_last().await {
            sleep(Duration::from_millis(200)).await;
            let left: usize = rig.wires().iter().map(|wire| wire.depth).sum();
            if left > 0 {
                self.fail("messages after everything had ended", format!("{left}"));
            }
            let after = self.list_letters(&rig);
            if after != letters {
                self.fail("dead letters after a restart are others", format!("{} and {}", letters.len(), after.len()));
            }
            rig.stop(Duration::from_secs(1)).await;
            proc.end();
            self.ledger.note(Event::Ended(End::Clean));
        }
    }

    async fn drained(&self, rig: &RunningRig) -> bool {
        let until = Instant::now() + DRAIN_MAX;
        let operations_max = self.keep.operations() + DRAIN_OPERATIONS_MAX;
        let is_empty = || rig.are_sources_ended() && rig.wires().iter().all(|wire| wire.depth == 0);
        while Instant::now() < until && self.keep.operations() < operations_max {
            if !is_empty() {
                sleep(Duration::from_millis(5)).await;
                continue;
            }
            // Timers may still run; when nothing happens for longer than any of them, none does.
            let before = self.ledger.len();
            sleep(TIMER_MAX).await;
            if is_empty() && self.ledger.len() == before {
                return true;
            }
        }
        false
    }

    fn list_letters(&mut self, rig: &RunningRig) -> Vec<Letter> {
        let letter = |letter: DeadLetter| Letter {
            label: label(&letter.msg),
            gear: if letter.gear.is_empty() { receiver(&letter.wire) } else { letter.gear.to_string() },
            reason: letter.reason.to_string(),
            attempts: letter.attempts,
        };
        match rig.dead_letters() {
            Ok(letters) => letters.into_iter().map(letter).collect(),
            Err(error) => {
                self.fail("dead letters cannot be read", error.to_string());
                Vec::new()
            }
        }
    }

    /// What a wire retains is sent once more: every effect comes again.
    async fn replay(&mut self, rig: &RunningRig) {
        for (idx, labels) in self.evidence.retained.clone() {
            let wire = self.graph.wires[idx].name();
            let kept: BTreeSet<u64> = labels.iter().map(|label| label.n).collect();
            let path = format!("{}/", receiver(&wire));
            let log = self.ledger.log();
            let expiring = |event: &Event| match event {
                Event::Offered { n, expires: Some(_), .. } => Some(*n),
                _ => None,
            };
            let expiring: BTreeSet<u64> = log.iter().filter_map(|(_, event)| expiring(event)).collect();
            let before = effects_of(&log, &path);
            let replay = match rig.replay(&wire, Replayed::FromSeq(0), 1) {
                Ok(replay) => tokio::time::timeout(DRAIN_MAX, replay.run()).await,
                Err(error) => Ok(Err(error)),
            };
            match replay {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    self.fail("replay refused", error.to_string());
                    continue;
                }
                Err(_) => self.fail("replay does not end", wire.clone()),
            }
            if !self.drained(rig).await {
                self.fail("replay does not drain", wire);
            }
            let after = effects_of(&self.ledger.log()[log.len()..], &path);
            let is_due = |n: &u64| kept.contains(n) && !expiring.contains(n);
            if let Some((place, n)) = before.difference(&after).find(|(_, n)| is_due(n)) {
                self.fail("replay is not whole", format!("{place} n={n}"));
            }
        }
    }

    fn read_retained(&mut self, rig: &RunningRig) {
        for (idx, wire) in self.graph.wires.clone().iter().enumerate().filter(|(_, wire)| wire.is_retained) {
            match rig.retained(&wire.name(), Replayed::FromSeq(0), usize::MAX) {
                Ok(msgs) => {
                    let labels = msgs.iter().map(|retained| label(&retained.msg)).collect();
                    self.evidence.retained.push((idx, labels));
                }
                Err(error) => self.fail("retained messages cannot be read", error.to_string()),
            }
        }
    }

    fn finish(mut self) -> Report {
        self.evidence.log = self.ledger.log();
        // What a replay caused was checked at once, and would only look like duplicates.
        let (from, to) = self.evidence.left_out;
        let replayed: Vec<_> = self.evidence.log.drain(from..to).collect();
        self.evidence.last_from = self.evidence.last_from.saturating_sub(replayed.len());
        let faults = &mut self.report.fired;
        self.keep.count(faults);
        let count =
            |what: &dyn Fn(&Event) -> bool| self.evidence.log.iter().filter(|(_, event)| what(event)).count() as u64;
        faults.add(Fault::Kill, count(&|event| *event == Event::Ended(End::Killed)).saturating_sub(1));
        faults.add(Fault::Gear, count(&|event| matches!(event, Event::Failed { .. })));
        self.report.offered = count(&|event| matches!(event, Event::Offered { .. }));
        if self.evidence.violations.is_empty() {
            (self.report.classes, self.report.violations) = check(&self.graph, &self.evidence);
        } else {
            self.report.violations = std::mem::take(&mut self.evidence.violations);
        }
        if self.options.is_verbose {
            for wire in &self.graph.wires {
                println!("{}->{} {:?}", wire.from, wire.to, wire.lane);
            }
            for (at_ns, event) in &self.evidence.log {
                println!("{:>9} {event:?}", at_ns / 1_000);
            }
            for letter in &self.evidence.letters {
                println!("{letter:?}");
            }
        }
        let mut hasher = DefaultHasher::new();
        format!("{:?}{replayed:?}{:?}", self.evidence.log, self.evidence.letters).hash(&mut hasher);
        self.report.digest = hasher.finish();
        self.report.virtual_ms = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.report
    }
}

/// What is carried forward is carried once: a rig without work soon writes nothing more.
async fn falls_still(rig: &RunningRig) -> bool {
    let groups = || rig.journal().map_or(0, |(stats, _)| stats.groups);
    for _ in 0..STILL_MAX_S {
        let before = groups();
        sleep(Duration::from_secs(1)).await;
        if groups() == before {
            return true;
        }
    }
    false
}

/// Endpoints and numbers of all effects that came this way.
fn effects_of(log: &[(u64, Event)], path: &str) -> BTreeSet<(String, u64)> {
    let of = |event: &Event| match event {
        Event::Effect(effect) if effect.label.path == path && !effect.place.starts_with("reports") => {
            Some((effect.place.clone(), effect.label.n))
        }
        _ => None,
    };
    log.iter().filter_map(|(_, event)| of(event)).collect()
}

/// The part at the end of a wire `a.x->b.y`.
fn receiver(wire: &str) -> String {
    wire.split("->").nth(1).and_then(|to| to.split('.').next()).unwrap_or("").to_owned()
}

fn is_damage(error: &RigError) -> bool {
    matches!(
        error,
        RigError::Open(OpenError::Damaged(_)) | RigError::Record(_) | RigError::Plan(_) | RigError::Orphans(_)
    )
}

fn is_unreachable(error: &RigError) -> bool {
    match error {
        RigError::Stream(StreamOpenError::Log(LogError::Unreachable { .. })) => true,
        RigError::Storage(error) => error.is_unreachable(),
        _ => false,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
