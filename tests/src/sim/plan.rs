//! The rig that a seed draws: parts, wires, lanes, sizes; and what a scenario change makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::clock::SimWorld;
use fluxrig_actors::journal::Pace;
use fluxrig_actors::journal::disk::sim::SplitMix;
use fluxrig_actors::prelude::*;
use fluxrig_actors::supervision::Backoff;
use fluxrig_actors::{Orphans, Redelivery, Retention, Settings, Supervision};

use super::draw;
use super::ends::{Host, Sink, Source};
use super::gears::{Conductor, Worker};
use super::keep::Keep;
use super::ledger::{Label, Proc};

/// What a part does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Admits so many numbered messages.
    Source {
        /// How many.
        count: u64,
        /// Different keys.
        keys: u64,
        /// Longest wait between two, in milliseconds.
        gap_ms: u64,
        /// Most messages offered at once.
        burst: u64,
        /// One in so many has an expiry; 0 for none.
        expires: u64,
    },
    /// Passes on.
    Pass,
    /// Passes on without leaving a trace: what a scenario change inserts.
    Inserted,
    /// Passes on one to three.
    Split,
    /// Numbers the messages of each key by durable state.
    Count,
    /// Waits for both halves of a message.
    Join,
    /// Counts what comes in by `set`, tells it to what comes in by `ask`.
    Tap,
    /// Passes on when a timer fires.
    Alarm,
    /// Asks a host, waits for the reply or a timer, answers.
    Conductor,
    /// Ends messages.
    Sink {
        /// Reports unknown outcomes on `report` in place of sending again.
        is_reporting: bool,
        /// Effects under way at once.
        wide: u64,
        /// Longest pause before and after an effect, in milliseconds.
        pause_ms: u64,
    },
    /// Answers a conductor.
    Host {
        /// Longest pause, in milliseconds.
        pause_ms: u64,
    },
}

impl Kind {
    /// Whether it is an endpoint.
    #[must_use]
    pub fn is_endpoint(self) -> bool {
        matches!(self, Self::Source { .. } | Self::Sink { .. } | Self::Host { .. })
    }
}

/// A gear or an endpoint.
#[derive(Clone, Debug)]
pub struct PartSpec {
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// It fails and rejects some messages.
    pub is_moody: bool,
}

/// A wire.
#[derive(Clone, Debug)]
pub struct WireSpec {
    /// `part.port`.
    pub from: String,
    /// `part.port`.
    pub to: String,
    /// Delivery contract.
    pub lane: Lane,
    /// Messages before doors close.
    pub capacity: usize,
    /// Bodies in memory.
    pub window: usize,
    /// Partitions by key.
    pub partitions: u32,
    /// Keeps everything for replay.
    pub is_retained: bool,
    /// Deliveries before the dead letters.
    pub max_deliver: u32,
    /// A scenario change may put a gear into it.
    pub is_open: bool,
}

impl WireSpec {
    /// Its name in the rig.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}->{}", self.from, self.to)
    }
}

/// What a seed draws.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Seed of the fates.
    pub seed: u64,
    /// Gears and endpoints.
    pub parts: Vec<PartSpec>,
    /// Wires.
    pub wires: Vec<WireSpec>,
    /// What all share.
    pub batch_max: usize,
    /// See [`Settings`].
    pub unflushed_max: usize,
    /// See [`Settings`].
    pub effects_max: usize,
    /// Longest pause of the writer between two steps, in milliseconds.
    pub pace_ms: u64,
    /// Bytes that the journal may take; doors close before that.
    pub max_bytes: u64,
    /// One line.
    pub text: String,
}

/// What a gear makes of a message, before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Handles it.
    Fine,
    /// Rejects it.
    Reject,
    /// Breaks at every attempt.
    Poison,
    /// Breaks at so many attempts, then handles it.
    Flaky(u32),
}

impl Graph {
    /// The part of this name.
    #[must_use]
    pub fn part(&self, name: &str) -> &PartSpec {
        self.parts.iter().find(|part| part.name == name).expect("wires name parts of the graph")
    }

    /// Wires from a port.
    pub fn from<'a>(&'a self, port: &'a str) -> impl Iterator<Item = &'a WireSpec> {
        self.wires.iter().filter(move |wire| wire.from == port)
    }

    /// Strongest lane of a part's wires: that of its state.
    #[must_use]
    pub fn lane_of(&self, name: &str) -> Lane {
        let of = |port: &str| port.split('.').next() == Some(name);
        self.wires.iter().filter(|wire| of(&wire.from) || of(&wire.to)).map(|wire| wire.lane).max().unwrap_or_default()
    }

    /// What `gear` makes of a message.
    #[must_use]
    pub fn fate(&self, gear: &str, label: &Label) -> Fate {
        fate(self.seed, self.part(gear), label)
    }
}

/// What a part makes of a message: the same at every attempt and in every process.
#[must_use]
pub fn fate(seed: u64, part: &PartSpec, label: &Label) -> Fate {
    if !part.is_moody {
        return Fate::Fine;
    }
    let word = draw(seed, &["fate", &part.name, &label.path], label.n);
    // In some rigs many messages are poison.
    let poison = if draw(seed, &["poisonous"], 0).is_multiple_of(4) { 20 } else { 5 };
    match word % 100 {
        0..3 => Fate::Reject,
        20..28 if !part.kind.is_endpoint() => Fate::Flaky((word >> 32) as u32 % 2 + 1),
        3.. if word % 100 < poison && !part.kind.is_endpoint() => Fate::Poison,
        _ => Fate::Fine,
    }
}

struct Drawing {
    rng: SplitMix,
    lanes: Vec<Lane>,
    capacity: usize,
    window: usize,
    max_deliver: u32,
    graph: Graph,
    count: usize,
    is_moody: bool,
    is_flood: bool,
}

impl Drawing {
    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.rng.below(of.len() as u64) as usize].clone()
    }

    fn part(&mut self, word: &str, kind: Kind) -> String {
        self.count += 1;
        let name = format!("{word}{}", self.count);
        let is_moody = self.is_moody
            && !matches!(kind, Kind::Join | Kind::Tap | Kind::Alarm | Kind::Conductor | Kind::Host { .. });
        self.graph.parts.push(PartSpec { name: name.clone(), kind, is_moody });
        name
    }

    fn source(&mut self) -> String {
        let count = if self.is_flood { 900 } else { 15 + self.rng.below(45) };
        let keys = 1 + self.rng.below(4);
        let gap_ms = if self.is_flood { 0 } else { self.pick(&[0, 1, 3, 8, 20]) };
        let burst = self.pick(&[1, 1, 6]);
        let expires = self.pick(&[0, 0, 0, 12]);
        self.part("source", Kind::Source { count, keys, gap_ms, burst, expires })
    }

    fn sink(&mut self) -> String {
        let is_reporting = self.rng.below(3) == 0;
        let wide = self.pick(&[1, 1, 3, 8]);
        let pause_ms = self.pick(&[0, 2, 10]);
        let name = self.part("sink", Kind::Sink { is_reporting, wide, pause_ms });
        if is_reporting {
            let reports = self.part("reports", Kind::Sink { is_reporting: false, wide: 1, pause_ms: 1 });
            if let Some(part) = self.graph.parts.last_mut() {
                part.is_moody = false;
            }
            self.wire(&format!("{name}.report"), &format!("{reports}.in"));
        }
        name
    }

    fn wire(&mut self, from: &str, to: &str) -> usize {
        let lanes = self.lanes.clone();
        let lane = self.pick(&lanes);
        let spec = WireSpec {
            from: from.to_owned(),
            to: to.to_owned(),
            lane,
            capacity: self.capacity,
            window: self.window,
            partitions: 1,
            is_retained: false,
            max_deliver: self.max_deliver,
            is_open: false,
        };
        self.graph.wires.push(spec);
        self.graph.wires.len() - 1
    }

    fn open_wire(&mut self, from: &str, to: &str) -> usize {
        let idx = self.wire(from, to);
        self.graph.wires[idx].is_open = true;
        idx
    }

    fn pipeline(&mut self) {
        let mut last = format!("{}.out", self.source());
        for _ in 0..1 + self.rng.below(4) {
            let kind = self.pick(&[Kind::Pass, Kind::Count, Kind::Count, Kind::Split]);
            let word = match kind {
                Kind::Pass => "pass",
                Kind::Count => "count",
                _ => "split",
            };
            let gear = self.part(word, kind);
            self.open_wire(&last, &format!("{gear}.in"));
            last = format!("{gear}.out");
        }
        let sink = self.sink();
        self.open_wire(&last, &format!("{sink}.in"));
    }

    fn fan(&mut self) {
        let source = self.source();
        let (left, right) = (self.part("pass", Kind::Pass), self.part("count", Kind::Count));
        self.wire(&format!("{source}.out"), &format!("{left}.in"));
        self.wire(&format!("{source}.out"), &format!("{right}.in"));
        let (join, sink) = (self.part("join", Kind::Join), self.sink());
        self.wire(&format!("{left}.out"), &format!("{join}.in"));
        self.wire(&format!("{right}.out"), &format!("{join}.other"));
        self.wire(&format!("{join}.out"), &format!("{sink}.in"));
        if self.rng.below(2) == 0 {
            let (merge, other) = (self.part("count", Kind::Count), self.sink());
            self.open_wire(&format!("{left}.out"), &format!("{merge}.in"));
            self.open_wire(&format!("{right}.out"), &format!("{merge}.in"));
            self.open_wire(&format!("{merge}.out"), &format!("{other}.in"));
        }
    }

    fn partitions(&mut self) {
        let (source, count, sink) = (self.source(), self.part("count", Kind::Count), self.sink());
        let partitions = 2 + self.rng.below(3) as u32;
        let into = self.wire(&format!("{source}.out"), &format!("{count}.in"));
        self.graph.wires[into].partitions = partitions;
        if self.rng.below(2) == 0 {
            let second = self.part("count", Kind::Count);
            let into = self.wire(&format!("{count}.out"), &format!("{second}.in"));
            self.graph.wires[into].partitions = partitions;
            self.open_wire(&format!("{second}.out"), &format!("{sink}.in"));
        } else {
            self.open_wire(&format!("{count}.out"), &format!("{sink}.in"));
        }
    }

    fn conductor(&mut self) {
        let (source, conductor) = (self.source(), self.part("conductor", Kind::Conductor));
        let pause_ms = self.pick(&[0, 3, 15]);
        let (host, sink) = (self.part("host", Kind::Host { pause_ms }), self.sink());
        self.wire(&format!("{source}.out"), &format!("{conductor}.req"));
        self.wire(&format!("{conductor}.ask"), &format!("{host}.ask"));
        self.wire(&format!("{host}.rep"), &format!("{conductor}.rep"));
        self.wire(&format!("{conductor}.ans"), &format!("{sink}.in"));
    }

    fn retained(&mut self) {
        let (source, pass, sink) = (self.source(), self.part("pass", Kind::Pass), self.sink());
        let into = self.wire(&format!("{source}.out"), &format!("{pass}.in"));
        self.graph.wires[into].is_retained = self.graph.wires[into].lane.is_standard();
        self.open_wire(&format!("{pass}.out"), &format!("{sink}.in"));
    }

    fn tap(&mut self) {
        let (setter, asker) = (self.source(), self.source());
        let (tap, sink) = (self.part("tap", Kind::Tap), self.sink());
        if self.rng.below(2) == 0 {
            let pass = self.part("pass", Kind::Pass);
            self.open_wire(&format!("{setter}.out"), &format!("{pass}.in"));
            self.wire(&format!("{pass}.out"), &format!("{tap}.set"));
        } else {
            self.open_wire(&format!("{setter}.out"), &format!("{tap}.set"));
        }
        let ask = self.wire(&format!("{asker}.out"), &format!("{tap}.ask"));
        let tell = self.wire(&format!("{tap}.out"), &format!("{sink}.in"));
        if self.rng.below(2) == 0 {
            // Nothing but the state itself makes the answer wait.
            (self.graph.wires[ask].lane, self.graph.wires[tell].lane) = (Lane::Turbo, Lane::Turbo);
        }
    }

    fn alarm(&mut self) {
        let (source, alarm, sink) = (self.source(), self.part("alarm", Kind::Alarm), self.sink());
        self.open_wire(&format!("{source}.out"), &format!("{alarm}.in"));
        self.wire(&format!("{alarm}.out"), &format!("{sink}.in"));
    }
}

/// Draws a rig.
#[must_use]
pub fn graph(seed: u64) -> Graph {
    let mut rng = SplitMix::new(draw(seed, &["graph"], 0));
    let (mode, lanes) = match rng.below(10) {
        0..5 => ("flush", vec![Lane::Flush]),
        5 => ("os", vec![Lane::Os]),
        6..8 => ("os+flush", vec![Lane::Os, Lane::Flush]),
        _ => ("mixed", vec![Lane::Turbo, Lane::Os, Lane::Flush, Lane::Flush]),
    };
    let is_moody = rng.below(4) > 0;
    let graph = Graph {
        seed,
        parts: Vec::new(),
        wires: Vec::new(),
        batch_max: 0,
        unflushed_max: 0,
        effects_max: 0,
        pace_ms: 0,
        max_bytes: 16 << 30,
        text: String::new(),
    };
    let mut drawing =
        Drawing { rng, lanes, capacity: 0, window: 0, max_deliver: 0, graph, count: 0, is_moody, is_flood: false };
    drawing.capacity = drawing.pick(&[1, 2, 4, 16, 64, 256]);
    drawing.window = drawing.pick(&[512, 16_384]);
    drawing.is_flood = drawing.rng.below(30) == 0;
    if drawing.is_flood {
        // A backlog longer than the memory window: bodies go to the journal and come back.
        (drawing.capacity, drawing.window) = (4096, 512);
    }
    drawing.max_deliver = drawing.pick(&[3, 4, 5]);
    drawing.graph.batch_max = drawing.pick(&[1, 4, 256]);
    drawing.graph.unflushed_max = drawing.pick(&[1, 4, 64, 4096]);
    drawing.graph.effects_max = drawing.pick(&[1, 4, 64]);
    drawing.graph.pace_ms = drawing.pick(&[0, 1, 3]);
    let is_small = !drawing.is_flood && drawing.rng.below(8) == 0;
    let mut words = Vec::new();
    for _ in 0..1 + drawing.rng.below(2) {
        let (word, add): (&str, fn(&mut Drawing)) = drawing.pick(&[
            ("pipeline", Drawing::pipeline as fn(&mut Drawing)),
            ("fan", Drawing::fan),
            ("partitions", Drawing::partitions),
            ("conductor", Drawing::conductor),
            ("retained", Drawing::retained),
            ("tap", Drawing::tap),
            ("alarm", Drawing::alarm),
        ]);
        words.push(word);
        add(&mut drawing);
    }
    let Drawing { capacity, window, max_deliver, mut graph, .. } = drawing;
    // What is retained for ever fills a small disk for ever. Four segments are the least that is allowed.
    if is_small && !graph.wires.iter().any(|wire| wire.is_retained) {
        graph.max_bytes = 256 << 10;
    }
    graph.text = format!(
        "{} lanes={mode} moody={is_moody} capacity={capacity} window={window} max_deliver={max_deliver} batch={} unflushed={} effects={} pace={}ms max={}KiB",
        words.join("+"),
        graph.batch_max,
        graph.unflushed_max,
        graph.effects_max,
        graph.pace_ms,
        graph.max_bytes >> 10
    );
    graph
}

/// What of a graph is another in one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scenario {
    /// Wires with a gear put into them, by index.
    pub inserted: BTreeSet<usize>,
}

/// Puts a rig together for one process.
#[must_use]
pub fn rig(graph: &Graph, scenario: &Scenario, proc: &Arc<Proc>, world: &Arc<SimWorld>, keep: &Keep) -> Rig {
    let settings = Settings {
        batch_max: graph.batch_max,
        unflushed_max: graph.unflushed_max,
        effects_max: graph.effects_max,
        ..Settings::default()
    };
    let mut journal = keep.journal();
    journal.segment_bytes = 64 << 10;
    journal.disk.max_bytes = graph.max_bytes;
    let seed = draw(graph.seed, &["pace"], proc.generation);
    journal.pace = Some(Pace { seed, max: Duration::from_millis(graph.pace_ms) });
    let mut rig = Rig::new("simulated")
        .settings(settings)
        .world(Arc::clone(world))
        .orphans(Orphans::DeadLetter)
        .journal_with(journal);
    let supervision = Supervision {
        max_restarts: 1_000_000,
        backoff: Backoff::new(Duration::from_millis(5), Duration::from_millis(100)),
        ..Supervision::default()
    };
    // Inserted gears come first, so that they shift the place of everything that was there before.
    for idx in &scenario.inserted {
        let spec = PartSpec { name: format!("inserted{idx}"), kind: Kind::Inserted, is_moody: false };
        rig = rig.gear(&spec.name.clone(), Worker { spec, proc: Arc::clone(proc) }).supervised(supervision.clone());
    }
    for spec in &graph.parts {
        let (name, spec, proc) = (spec.name.clone(), spec.clone(), Arc::clone(proc));
        rig = match spec.kind {
            Kind::Source { .. } => rig.endpoint(&name, Source { spec, proc }),
            Kind::Sink { .. } => rig.endpoint(&name, Sink { spec, proc }),
            Kind::Host { .. } => rig.endpoint(&name, Host { spec, proc }),
            Kind::Conductor => rig.gear(&name, Conductor { spec, proc }),
            _ => rig.gear(&name, Worker { spec, proc }),
        };
        rig = rig.supervised(supervision.clone());
    }
    for (idx, wire) in graph.wires.iter().enumerate() {
        let options = options(wire);
        if scenario.inserted.contains(&idx) {
            let first = WireOptions { partitions: NonZeroU32::MIN, ..options.clone() };
            rig = rig.wire_with(&wire.from, &format!("inserted{idx}.in"), first).wire_with(
                &format!("inserted{idx}.out"),
                &wire.to,
                options,
            );
        } else {
            rig = rig.wire_with(&wire.from, &wire.to, options);
        }
    }
    rig
}

fn options(wire: &WireSpec) -> WireOptions {
    WireOptions {
        lane: wire.lane,
        capacity: wire.capacity,
        redelivery: Redelivery {
            max_deliver: NonZeroU32::new(wire.max_deliver).unwrap_or(NonZeroU32::MIN),
            first: Duration::from_millis(60),
            max: Duration::from_millis(200),
        },
        partitions: NonZeroU32::new(wire.partitions).unwrap_or(NonZeroU32::MIN),
        partition_by: (wire.partitions > 1).then(|| "k".parse().expect("a path of one word")),
        retention: wire.is_retained.then_some(Retention::Time(Duration::from_secs(1_000_000))),
        memory_window: wire.window,
    }
}

/// Names of the parts that can be restarted, and of the wires.
#[must_use]
pub fn names(graph: &Graph) -> (Vec<String>, Vec<String>, Vec<String>) {
    let mut by_kind: BTreeMap<bool, Vec<String>> = BTreeMap::new();
    for part in &graph.parts {
        by_kind.entry(part.kind.is_endpoint()).or_default().push(part.name.clone());
    }
    let wires = graph.wires.iter().map(WireSpec::name).collect();
    (by_kind.remove(&false).unwrap_or_default(), by_kind.remove(&true).unwrap_or_default(), wires)
}
