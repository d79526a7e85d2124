//! What a message must come to: a walk over the drawn graph that knows what each kind of part does, and no runtime.

use std::collections::BTreeMap;

use fluxrig_actors::Lane;

use super::ledger::Label;
use super::plan::{Fate, Graph, Kind};

/// One thing that must be seen for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The endpoint, or the gear that buries it.
    pub place: String,
    /// The message there.
    pub label: Label,
    /// It ends as a dead letter of this part, by plan.
    pub dead: Option<Fate>,
    /// Weakest lane on its way.
    pub weakest: Lane,
    /// Lane of the last wire.
    pub last: Lane,
    /// A timer or another message decided when it came: its order says nothing.
    pub is_loose: bool,
}

/// A message that changed the durable state of a gear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The gear.
    pub gear: String,
    /// The key of its state.
    pub state: String,
    /// The message as it came.
    pub label: Label,
    /// Weakest lane on its way.
    pub weakest: Lane,
}

/// Everything that one message must come to.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Effects and planned dead letters.
    pub items: Vec<Item>,
    /// State that it changes for good.
    pub visits: Vec<Visit>,
}

/// What message `n` of `source` must come to.
#[must_use]
pub fn expected(graph: &Graph, source: &str, n: u64, key: u64) -> Expected {
    let mut walk = Walk { graph, key, expected: Expected::default(), joins: BTreeMap::new() };
    let from = format!("{source}.out");
    walk.send(&from, &Step { label: Label { n, path: String::new() }, weakest: Lane::Flush, is_loose: false });
    walk.expected
}

struct Walk<'a> {
    graph: &'a Graph,
    key: u64,
    expected: Expected,
    joins: BTreeMap<String, Lane>,
}

#[derive(Clone)]
struct Step {
    label: Label,
    weakest: Lane,
    is_loose: bool,
}

impl Step {
    fn on(&self, name: &str) -> Self {
        let mut next = self.clone();
        next.label.path = format!("{}{name}/", self.label.path);
        next
    }
}

impl Walk<'_> {
    fn send(&mut self, port: &str, step: &Step) {
        let graph = self.graph;
        for wire in graph.from(port) {
            let step = Step { weakest: step.weakest.min(wire.lane), ..step.clone() };
            let (to, port) = wire.to.split_once('.').expect("wires name ports");
            self.arrive(to, port, wire.lane, &step);
        }
    }

    fn item(&mut self, place: &str, last: Lane, step: &Step, dead: Option<Fate>) {
        let Step { label, weakest, is_loose } = step.clone();
        self.expected.items.push(Item { place: place.to_owned(), label, dead, weakest, last, is_loose });
    }

    fn visit(&mut self, gear: &str, state: String, step: &Step) {
        let visit = Visit { gear: gear.to_owned(), state, label: step.label.clone(), weakest: step.weakest };
        self.expected.visits.push(visit);
    }

    fn arrive(&mut self, name: &str, port: &str, last: Lane, step: &Step) {
        let part = self.graph.part(name);
        let fate = self.graph.fate(name, &step.label);
        if matches!(fate, Fate::Reject | Fate::Poison) {
            return self.item(name, last, step, Some(fate));
        }
        let out = format!("{name}.out");
        match part.kind {
            Kind::Sink { .. } | Kind::Host { .. } => self.item(name, last, step, None),
            Kind::Pass | Kind::Inserted => self.send(&out, &step.on(name)),
            Kind::Split => {
                for idx in 0..super::gears::copies(self.graph.seed, name, step.label.n) {
                    self.send(&out, &step.on(&format!("{name}#{idx}")));
                }
            }
            Kind::Count => {
                self.visit(name, format!("c{}", self.key), step);
                self.send(&out, &step.on(name));
            }
            Kind::Join => match self.joins.remove(name) {
                None => drop(self.joins.insert(name.to_owned(), step.weakest)),
                Some(first) => {
                    let label = Label { n: step.label.n, path: format!("{name}/") };
                    let step = Step { label, weakest: first.min(step.weakest), is_loose: true };
                    self.send(&out, &step);
                }
            },
            Kind::Tap if port == "set" => self.visit(name, format!("v{}", self.key), step),
            Kind::Tap => self.send(&out, &step.on(name)),
            Kind::Alarm => self.send(&out, &Step { is_loose: true, ..step.on(name) }),
            Kind::Conductor => {
                self.send(&format!("{name}.ask"), &step.on(name).on("ask"));
                self.send(&format!("{name}.ans"), &Step { is_loose: true, ..step.on(name).on("ans") });
            }
            Kind::Source { .. } => {}
        }
    }
}
