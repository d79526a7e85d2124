//! Runs one seed: processes that die and start again while terminals and hosts play around them, then calm until every
//! request has its outcome and no wire holds anything, then one more start, which finds nothing to do.

mod faults;
mod process;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::RunningRig;
use fluxrig_actors::clock::SimWorld;
use fluxrig_actors::journal::disk::sim::SimDisk;
use fluxrig_gears::sim::Network;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::check::{Evidence, check};
use super::ledger::{Event, Ledger, written};
use super::plan::{Act, Fault, Plan, What};
use super::report::{Report, Violation};
use super::stage::Promise;
use super::terminal::{Line, Terminal};
use super::world::{Phase, Post, World};
use super::{Options, Subject, draw, host};

/// A process that does not start under faults is started again after so long, as a service manager would.
const START_AGAIN: Duration = Duration::from_millis(500);
/// Without faults, what has not settled by then never will.
const SETTLE_MAX: Duration = Duration::from_secs(300);
/// Nothing is under way when nothing was for so long: longer than an idle line polls and a backoff lasts.
const STILL: Duration = Duration::from_secs(12);
/// A whole run has ended after so much virtual time.
const END_MAX: Duration = Duration::from_secs(7_200);

pub(super) fn run(subject: &Subject, seed: u64, options: &Options) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime of one thread and no sockets needs nothing of the system");
    runtime.block_on(async {
        let drive = Drive::new(subject, seed, options);
        let ledger = Arc::clone(&drive.ledger);
        match timeout(END_MAX, drive.run()).await {
            Ok(report) => report,
            Err(_) => {
                let violation = Violation::new("does not end", format!("after {} s", END_MAX.as_secs()));
                Report { seed, violations: vec![violation], log: written(&ledger.events()), ..Report::default() }
            }
        }
    })
}

struct Drive<'a> {
    subject: &'a Subject,
    plan: Plan,
    ledger: Arc<Ledger>,
    network: Network,
    disk: SimDisk,
    world: Arc<SimWorld>,
    rig: Option<RunningRig>,
    /// Disk faults that last, by number, and when they end.
    disk_until: BTreeMap<usize, (Instant, What)>,
    evidence: Evidence,
    fired: BTreeMap<Fault, u64>,
    origin: Instant,
    starts: u64,
}

impl<'a> Drive<'a> {
    fn new(subject: &'a Subject, seed: u64, options: &Options) -> Self {
        let plan = Plan::draw(seed, &subject.stage, options);
        Self {
            subject,
            ledger: Ledger::new(),
            network: Network::new(draw(seed, "network", 0)),
            disk: SimDisk::new(draw(seed, "disk", 0)),
            world: Arc::new(SimWorld::new(draw(seed, "world", 0))),
            rig: None,
            disk_until: BTreeMap::new(),
            evidence: Evidence::default(),
            plan,
            fired: BTreeMap::new(),
            origin: Instant::now(),
            starts: 0,
        }
    }

    async fn run(mut self) -> Report {
        let mut hosts = JoinSet::new();
        for exit in self.subject.stage.exits.iter().filter(|exit| !exit.is_served) {
            hosts.spawn(host::serve(self.network.clone(), Arc::new(exit.clone()), self.plan.seed));
        }
        self.start().await;
        let (posts, mut terminals) = self.terminals();
        self.storm().await;
        self.ledger.note(Event::Calm);
        posts.iter().for_each(|post| post.tell(Phase::Calm));
        self.calm().await;
        self.patience(&posts).await;
        self.ledger.note(Event::Again);
        posts.iter().for_each(|post| post.tell(Phase::Again));
        let done = async { while terminals.join_next().await.is_some() {} };
        if timeout(SETTLE_MAX, done).await.is_err() {
            self.fail("terminals are never done", format!("after {} s without faults", SETTLE_MAX.as_secs()));
        }
        self.settle().await;
        self.last_start().await;
        self.report()
    }

    fn fail(&mut self, check: &'static str, found: String) {
        self.evidence.violations.push(Violation::new(check, found));
    }

    fn terminals(&self) -> (Vec<Arc<Post>>, JoinSet<()>) {
        let entrances: Vec<_> = self.subject.stage.entrances.iter().cloned().map(Arc::new).collect();
        let asks = self.plan.requests.iter().filter(|request| matches!(request.act, Act::Ask { .. }));
        let makers = asks.map(|request| (request.idx, (request.terminal, self.plan.terminals[request.terminal])));
        let world = Arc::new(World {
            network: self.network.clone(),
            ledger: Arc::clone(&self.ledger),
            traffic: self.subject.traffic.clone(),
            seed: self.plan.seed,
            entrances: entrances.clone(),
            makers: makers.collect(),
        });
        let mut tasks = JoinSet::new();
        let mut posts = Vec::new();
        for (idx, &entrance) in self.plan.terminals.iter().enumerate() {
            let post = Arc::new(Post::default());
            posts.push(Arc::clone(&post));
            let mut plan: Vec<_> =
                self.plan.requests.iter().filter(|request| request.terminal == idx).cloned().collect();
            plan.sort_by_key(|request| (request.at, request.idx));
            let entrance = Arc::clone(&entrances[entrance]);
            let (world, line) = (Arc::clone(&world), Line::default());
            tasks.spawn(Terminal { world, idx, entrance, plan, post, line }.run());
        }
        (posts, tasks)
    }

    /// No more faults: what runs goes on, what does not is started, which must succeed.
    async fn calm(&mut self) {
        for (at, _) in self.disk_until.values_mut() {
            *at = Instant::now();
        }
        self.end_disk_faults();
        self.network.calm();
        if self.rig.is_none() {
            self.start().await;
        }
        if self.rig.is_none() {
            self.fail("a process does not start", "though no faults happen any more".to_owned());
        }
    }

    /// Whoever is connected and waits has his answer within the time that is promised.
    async fn patience(&mut self, posts: &[Arc<Post>]) {
        let promise = |promise| if let Promise::Outcome(within) = promise { within } else { Duration::ZERO };
        let longest = self.subject.stage.entrances.iter().map(|entrance| promise(entrance.promise)).max();
        let until = Instant::now() + longest.unwrap_or_default() + Duration::from_secs(1);
        // One look even where nobody waits: terminals have to notice the calm.
        sleep(Duration::from_secs(1)).await;
        while Instant::now() < until && posts.iter().any(|post| post.is_waiting()) {
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Without faults and requests, soon nothing is left on any wire.
    async fn settle(&mut self) {
        let Some(rig) = &self.rig else { return };
        let depth = || -> usize { rig.wires().iter().map(|wire| wire.depth).sum() };
        let until = Instant::now() + SETTLE_MAX;
        let mut still_since = Instant::now();
        while Instant::now() < until && still_since.elapsed() < STILL {
            sleep(Duration::from_millis(100)).await;
            if depth() > 0 {
                still_since = Instant::now();
            }
        }
        let held: Vec<String> = rig
            .wires()
            .iter()
            .filter(|wire| wire.depth > 0)
            .map(|wire| format!("{}: {}", wire.name, wire.depth))
            .collect();
        let is_durable = timeout(SETTLE_MAX, rig.durable()).await == Ok(true);
        if !held.is_empty() {
            let degraded = if rig.is_degraded() { ", degraded" } else { "" };
            self.fail("wires hold messages", format!("[{}]{degraded}", held.join(", ")));
        } else if !is_durable {
            self.fail("nothing becomes durable", "after everything had settled".to_owned());
        }
    }

    /// One more kill and start: nothing comes back that had ended.
    async fn last_start(&mut self) {
        self.evidence.letters = self.letters();
        let Some(rig) = self.rig.take() else { return };
        self.vanish(rig, false).await;
        self.start().await;
        sleep(Duration::from_secs(1)).await;
        let Some(rig) = self.rig.take() else { return };
        let left: usize = rig.wires().iter().map(|wire| wire.depth).sum();
        if left > 0 {
            self.fail("messages come back that had ended", format!("{left} on wires after one more start"));
        }
        rig.stop(Duration::from_secs(60)).await;
    }

    fn report(mut self) -> Report {
        let disk = self.disk.fired();
        let of_disk = disk.sync_errors + disk.write_errors + disk.write_full;
        if of_disk > 0 {
            self.fired.insert(Fault::Disk, of_disk);
        }
        if self.network.refused() > 0 {
            *self.fired.entry(Fault::Link).or_default() += self.network.refused();
        }
        self.evidence.events = self.ledger.events();
        let heard = self.network.heard();
        self.evidence.heard = heard.into_iter().map(|heard| (self.ledger.us(heard.at), heard)).collect();
        let mut report = check(self.subject, &self.plan, &self.evidence);
        report.seed = self.plan.seed;
        report.fired = self.fired;
        report.starts = self.starts;
        report.virtual_ms = self.ledger.now_us() / 1000;
        report.log = written(&self.evidence.events);
        report
    }
}
