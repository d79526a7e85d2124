//! The checker: compares the ledger with the model, rule by rule. It is dumb on purpose and knows nothing of the runtime.

use std::collections::{BTreeMap, BTreeSet};

use fluxrig_actors::Lane;
use fluxrig_actors::prelude::FluxId;

use super::ends::SOURCE_STEP;
use super::ledger::{Effect, End, Event, Label};
use super::model::{self, Item, Visit};
use super::plan::{Fate, Graph, Kind};
use super::report::{Classes, Violation};

// tidy: whole because it is one list of rules over one ledger, read from top to bottom

/// What is kept in order together: sink, source, key and the way through the graph.
type OrderKey = (String, u64, u64, String);

/// A dead letter as the rig lists it in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The message.
    pub label: Label,
    /// The part that buried it.
    pub gear: String,
    /// Why.
    pub reason: String,
    /// Deliveries.
    pub attempts: u32,
}

/// What a run left behind.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The ledger.
    pub log: Vec<(u64, Event)>,
    /// Dead letters in the end.
    pub letters: Vec<Letter>,
    /// What each retaining wire kept: index of the wire, messages in order.
    pub retained: Vec<(usize, Vec<Label>)>,
    /// Numbers of processes whose disk failed or was full.
    pub troubled: BTreeSet<usize>,
    /// The wall clock jumped while no process ran, at these times.
    pub jumps: Vec<u64>,
    /// Gears were inserted or removed.
    pub has_scenario_changes: bool,
    /// Line of the log at which the last process began, which must do nothing.
    pub last_from: usize,
    /// Lines of a replay, which were checked when it ran.
    pub left_out: (usize, usize),
    /// Found while it ran.
    pub violations: Vec<Violation>,
}

const MS: u64 = 1_000_000;
/// An ack is durable after this long, on a disk without trouble.
const ACK_SETTLED_NS: u64 = 300 * MS;
/// The same on lanes that are flushed in the background.
const OS_SETTLED_NS: u64 = 1_500 * MS;
/// A due timer fires within this, on a disk without trouble.
const LATE_NS: u64 = 600 * MS;
/// The same where small wires keep the doors of timers closed.
const LATE_CLOSED_NS: u64 = 6_000 * MS;

#[derive(Clone, Debug)]
struct Offer {
    source: String,
    key: u64,
    line: usize,
    at_ns: u64,
    expires: Option<i64>,
    acked_ns: Option<u64>,
    is_refused: bool,
}

#[derive(Clone, Copy, Debug)]
struct Process {
    // Two processes may meet in one instant; lines of the ledger tell them apart.
    start_line: usize,
    end_line: usize,
    start_ns: u64,
    end_ns: u64,
    end: Option<End>,
    is_troubled: bool,
}

struct Sighting<'a> {
    line: usize,
    at_ns: u64,
    effect: &'a Effect,
    done_ns: Option<u64>,
}

/// Checks everything.
#[must_use]
pub fn check(graph: &Graph, evidence: &Evidence) -> (Classes, Vec<Violation>) {
    let mut checker = Checker::new(graph, evidence);
    checker.run();
    (checker.classes, checker.violations)
}

struct Checker<'a> {
    graph: &'a Graph,
    evidence: &'a Evidence,
    offers: BTreeMap<u64, Offer>,
    processes: Vec<Process>,
    /// Every effect, by place and message.
    seen: BTreeMap<(&'a str, &'a Label), Vec<Sighting<'a>>>,
    unknown: BTreeSet<(&'a str, &'a Label)>,
    starts: BTreeMap<&'a str, Vec<u64>>,
    letters: BTreeMap<u64, Vec<&'a Letter>>,
    items: BTreeMap<(String, Label), Item>,
    visits: Vec<Visit>,
    classes: Classes,
    violations: Vec<Violation>,
}

impl<'a> Checker<'a> {
    fn new(graph: &'a Graph, evidence: &'a Evidence) -> Self {
        let mut checker = Self {
            graph,
            evidence,
            offers: BTreeMap::new(),
            processes: Vec::new(),
            seen: BTreeMap::new(),
            unknown: BTreeSet::new(),
            starts: BTreeMap::new(),
            letters: BTreeMap::new(),
            items: BTreeMap::new(),
            visits: Vec::new(),
            classes: Classes::default(),
            violations: evidence.violations.clone(),
        };
        for (line, (at_ns, event)) in evidence.log.iter().enumerate() {
            checker.read(line, *at_ns, event);
        }
        for letter in &evidence.letters {
            checker.letters.entry(letter.label.n).or_default().push(letter);
        }
        for (&n, offer) in &checker.offers {
            let expected = model::expected(graph, &offer.source, n, offer.key);
            let items = expected.items.into_iter().map(|item| ((item.place.clone(), item.label.clone()), item));
            checker.items.extend(items);
            checker.visits.extend(expected.visits);
        }
        checker
    }

    fn read(&mut self, line: usize, at_ns: u64, event: &'a Event) {
        match event {
            Event::Started => {
                let is_troubled = self.evidence.troubled.contains(&self.processes.len());
                let process = Process {
                    start_line: line,
                    end_line: usize::MAX,
                    start_ns: at_ns,
                    end_ns: u64::MAX,
                    end: None,
                    is_troubled,
                };
                self.processes.push(process);
            }
            Event::Died => {
                if let Some(process) = self.processes.last_mut() {
                    process.end_ns = at_ns;
                }
            }
            Event::Ended(end) => {
                if let Some(process) = self.processes.last_mut() {
                    (process.end_line, process.end) = (line, Some(*end));
                    process.end_ns = process.end_ns.min(at_ns);
                }
            }
            Event::Offered { source, n, key, expires } => {
                let (source, key, expires) = (source.clone(), *key, *expires);
                self.offers.insert(*n, Offer { source, key, line, at_ns, expires, acked_ns: None, is_refused: false });
            }
            Event::Refused(n) => {
                if let Some(offer) = self.offers.get_mut(n) {
                    offer.is_refused = true;
                }
            }
            Event::Acked(n) => {
                if let Some(offer) = self.offers.get_mut(n) {
                    offer.acked_ns = Some(at_ns);
                }
            }
            Event::EndpointStarted(name) => self.starts.entry(name).or_default().push(at_ns),
            Event::Effect(effect) => {
                let sighting = Sighting { line, at_ns, effect, done_ns: None };
                self.seen.entry((&effect.place, &effect.label)).or_default().push(sighting);
            }
            Event::Done { place, label } => {
                if let Some(sighting) = self.seen.get_mut(&(place.as_str(), label)).and_then(|seen| seen.last_mut()) {
                    sighting.done_ns = Some(at_ns);
                }
            }
            Event::Unknown { place, label } => drop(self.unknown.insert((place, label))),
            Event::Failed { .. } | Event::TimerSet { .. } | Event::TimerFired { .. } | Event::Recovered { .. } => {}
        }
    }

    fn fail(&mut self, check: &'static str, found: String) {
        self.violations.push(Violation { check, found });
    }

    fn run(&mut self) {
        self.effects();
        self.losses();
        self.letters();
        self.order();
        self.counts();
        self.reads();
        self.attempts();
        self.timers();
        self.states();
        self.retained();
        self.silence();
    }

    /// Ends of processes after which something on a lane may be gone, or may come again.
    fn forgets(&self, lane: Lane) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(move |process| match (lane, process.end) {
            (_, None) | (Lane::Flush, _) => false,
            (Lane::Turbo, Some(_)) => true,
            // A failed flush may have thrown away what was only written; a stop that cannot write it anew says so.
            (Lane::Os, Some(End::Killed | End::Undrained)) => process.is_troubled,
            (Lane::Os, Some(end)) => end == End::PowerLost,
        })
    }

    fn is_excused(&self, lane: Lane, since_line: usize) -> bool {
        self.forgets(lane).any(|process| process.end_line >= since_line)
    }

    fn era(&self, lane: Lane, line: usize) -> usize {
        self.forgets(lane).filter(|process| process.end_line <= line).count()
    }

    fn process_of(&self, line: usize) -> Option<&Process> {
        self.processes.iter().rfind(|process| process.start_line <= line)
    }

    fn is_calm(&self, from: usize, to: usize) -> bool {
        !self
            .processes
            .iter()
            .any(|process| process.is_troubled && process.start_line <= to && process.end_line >= from)
    }

    /// Each effect: is it one that its cause explains, is it the first of its kind, was it let out in time.
    fn effects(&mut self) {
        let mut violations = Vec::new();
        let mut fail = |check: &'static str, found: String| violations.push(Violation { check, found });
        let mut ids: BTreeMap<FluxId, (&str, &Label)> = BTreeMap::new();
        for (&(place, label), sightings) in &self.seen {
            let is_report = place.starts_with("reports");
            let what = format!("{place} n={} `{}`", label.n, label.path);
            if is_report {
                continue;
            }
            let Some(item) = self.items.get(&(place.to_owned(), label.clone())).filter(|item| item.dead.is_none())
            else {
                fail("effect without a cause", what);
                continue;
            };
            let offer = &self.offers[&label.n];
            if offer.is_refused {
                fail("effect of a refused message", what.clone());
            }
            self.classes.ok += 1;
            self.classes.duplicate += sightings.len() as u64 - 1;
            let first = &sightings[0];
            if let Some((place, label)) = ids.insert(first.effect.id, (place, label)) {
                // One message on two wires keeps its id.
                if label.n != first.effect.label.n || label.path != first.effect.label.path {
                    fail("one id for two", format!("{what} and {place} n={} `{}`", label.n, label.path));
                }
            }
            self.classes.false_maybe_sent += u64::from(first.effect.is_flagged);
            for sighting in sightings {
                let starts = self
                    .starts
                    .get(place)
                    .map_or(0, |starts| starts.iter().filter(|&&at| at <= sighting.at_ns).count());
                if sighting.effect.is_flagged && starts < 2 {
                    fail("maybe sent without a restart", what.clone());
                }
                let is_expired = offer.expires.is_some_and(|expires| expires < sighting.effect.wall_ns);
                let keeps_expiry = !item.is_loose || item.label.path.ends_with("/ask/");
                if is_expired && keeps_expiry && !sighting.effect.is_flagged {
                    fail("effect past its expiry", what.clone());
                }
                self.let_out(sighting, offer, &what, &mut fail);
            }
            for pair in sightings.windows(2) {
                let (before, after) = (&pair[0], &pair[1]);
                let is_excused = self
                    .forgets(item.weakest)
                    .any(|process| process.end_line >= before.line && process.end_line <= after.line);
                if is_excused {
                    continue;
                }
                if !after.effect.is_flagged {
                    fail("duplicate", format!("{what} at {} and {} ms", before.at_ns / MS, after.at_ns / MS));
                }
                if after.effect.id != before.effect.id {
                    fail("another id for the same", what.clone());
                }
                let facts = |effect: &Effect| (effect.counts.clone(), effect.outcome.clone(), effect.read.clone());
                if facts(after.effect) != facts(before.effect) {
                    let (old, new) = (facts(before.effect), facts(after.effect));
                    fail("another content for the same", format!("{what}: {old:?} and {new:?}"));
                }
                if let Some(done_ns) = before.done_ns
                    && let Some(process) = self.process_of(before.line)
                {
                    let settled_ns = match (item.last, process.end) {
                        (Lane::Os, Some(End::PowerLost)) => OS_SETTLED_NS,
                        _ => ACK_SETTLED_NS,
                    };
                    let is_same = after.line <= process.end_line;
                    let is_settled = !process.is_troubled && process.end_ns.saturating_sub(done_ns) > settled_ns;
                    if is_same || is_settled {
                        fail(
                            "ended effect came back",
                            format!("{what}: done at {} ms, process end at {} ms", done_ns / MS, process.end_ns / MS),
                        );
                    }
                }
            }
        }
        self.violations.extend(violations);
    }

    /// An effect is let out once its cause is durable, and then so is its source's receipt.
    fn let_out(&self, sighting: &Sighting<'_>, offer: &Offer, what: &str, fail: &mut dyn FnMut(&'static str, String)) {
        let Kind::Source { burst: 1, .. } = self.graph.part(&offer.source).kind else { return };
        let is_standard = self.graph.from(&format!("{}.out", offer.source)).any(|wire| wire.lane.is_standard());
        let until_ns = sighting.at_ns + 2 * MS;
        let process = self.process_of(sighting.line);
        let is_over = process.is_some_and(|process| process.end_ns <= until_ns);
        // A message of an earlier process was let in by its journal.
        let is_of_this = process.is_some_and(|process| process.start_line <= offer.line);
        if is_standard && is_of_this && !is_over && offer.acked_ns.is_none_or(|acked_ns| acked_ns > until_ns) {
            let acked = offer.acked_ns.map(|acked_ns| acked_ns / MS);
            fail(
                "effect before its cause is durable",
                format!("{what} at {} ms, receipt at {acked:?} ms", sighting.at_ns / MS),
            );
        }
    }

    fn is_buried(&self, place: &str, label: &Label) -> bool {
        let Some(letters) = self.letters.get(&label.n) else { return false };
        // What joined two ways is missed when either was buried.
        letters.iter().any(|letter| self.is_on_way(letter, place, label) || label.path.starts_with("join"))
    }

    /// Whether a buried message would have become this one.
    fn is_on_way(&self, letter: &Letter, place: &str, label: &Label) -> bool {
        let gear = match letter.gear.strip_prefix("inserted").and_then(|idx| idx.parse::<usize>().ok()) {
            Some(idx) => self.graph.wires[idx].to.split('.').next().unwrap_or(""),
            None => &letter.gear,
        };
        match label.path.strip_prefix(letter.label.path.as_str()) {
            None => false,
            Some("") => place == gear,
            Some(rest) => rest.split(['/', '#']).next() == Some(gear),
        }
    }

    fn is_known(&self, n: u64) -> bool {
        let place_seen = self.seen.keys().any(|(place, label)| label.n == n && !place.starts_with("reports"));
        place_seen || self.letters.contains_key(&n)
    }

    /// Everything whose receipt was durable, or of which anything was seen, is seen whole.
    fn losses(&mut self) {
        let mut known: BTreeSet<u64> = self.seen.keys().map(|(_, label)| label.n).collect();
        known.extend(self.letters.keys().copied());
        known.extend(self.unknown.iter().map(|(_, label)| label.n));
        let mut violations = Vec::new();
        let mut classes = self.classes;
        for ((place, label), item) in &self.items {
            let offer = &self.offers[&label.n];
            let is_seen = match item.dead {
                None => self.seen.contains_key(&(place.as_str(), label)),
                Some(_) => false,
            };
            if is_seen || self.is_buried(place, label) {
                continue;
            }
            if self.unknown.contains(&(place.as_str(), label)) {
                classes.unknown += 1;
                continue;
            }
            if self.is_excused(item.weakest, offer.line) {
                classes.lost += 1;
                continue;
            }
            if offer.acked_ns.is_some() || known.contains(&label.n) {
                let why = if offer.acked_ns.is_some() { "acked" } else { "partly seen" };
                let found =
                    format!("{place} n={} `{}` ({why}, offered at {} ms)", label.n, label.path, offer.at_ns / MS);
                violations.push(Violation { check: "lost", found });
            } else {
                classes.unknown += 1;
            }
        }
        self.classes = classes;
        self.violations.extend(violations);
    }

    /// Every dead letter is there for a reason, and once.
    fn letters(&mut self) {
        let crashes = self.processes.len() as u32;
        let mut once = BTreeSet::new();
        let mut violations = Vec::new();
        for letter in &self.evidence.letters {
            let Letter { label, gear, reason, attempts } = letter;
            self.classes.dead += 1;
            let what = format!("n={} `{}` at {gear}: {reason} after {attempts}", label.n, label.path);
            let mut fail = |check, found| violations.push(Violation { check, found });
            if label.n == u64::MAX {
                // A report, or the state of a gear that is no more.
                continue;
            }
            let Some(offer) = self.offers.get(&label.n) else {
                fail("dead letter without a cause", what);
                continue;
            };
            let is_orphan = reason.starts_with("orphan");
            let planned = self.items.get(&(gear.clone(), label.clone())).and_then(|item| item.dead);
            if !is_orphan && !once.insert((gear, label)) {
                fail("dead letter twice", what.clone());
            }
            let max = self.graph.wires.first().map_or(5, |wire| wire.max_deliver);
            let is_fine = match reason.as_str() {
                "expired" => offer.expires.is_some(),
                _ if is_orphan => self.evidence.has_scenario_changes,
                "delivered too often" => crashes > 2,
                "planned" if planned == Some(Fate::Reject) => true,
                _ if *attempts >= max => {
                    planned == Some(Fate::Poison) || crashes > 2 && matches!(self.fate_at(gear, label), Fate::Flaky(_))
                }
                _ => false,
            };
            if !is_fine {
                fail("dead letter without a reason", what);
            }
        }
        self.violations.extend(violations);
    }

    fn fate_at(&self, gear: &str, label: &Label) -> Fate {
        if self.graph.parts.iter().any(|part| part.name == gear) { self.graph.fate(gear, label) } else { Fate::Fine }
    }

    /// First sightings of one source and key on one way come in the order in which they were offered.
    fn order(&mut self) {
        let mut firsts: Vec<(usize, &str, &Label, &Item)> = Vec::new();
        for (&(place, label), sightings) in &self.seen {
            if let Some(item) = self.items.get(&(place.to_owned(), label.clone())).filter(|item| !item.is_loose) {
                firsts.push((sightings[0].line, place, label, item));
            }
        }
        firsts.sort_unstable_by_key(|first| first.0);
        let mut last: BTreeMap<(&str, u64, u64, &str, usize), u64> = BTreeMap::new();
        for (line, place, label, item) in firsts {
            let Offer { key, expires, .. } = self.offers[&label.n];
            if expires.is_some() {
                // Expired in its turn, which a crash undid: then it comes back as maybe sent, or the clock was set back.
                continue;
            }
            let era = self.era(item.weakest, line);
            let group = (place, label.n / SOURCE_STEP, key, label.path.as_str(), era);
            let before = last.entry(group).or_default();
            if *before > label.n {
                let found = format!("{place} `{}` key {key}: n={} after n={before}", label.path, label.n);
                self.violations.push(Violation { check: "reordered", found });
            }
            *before = (*before).max(label.n);
        }
    }

    /// A durable counter never gives one number twice, and counts in order.
    fn counts(&mut self) {
        let mut given: BTreeMap<(String, usize, u64, u64), (u64, String)> = BTreeMap::new();
        let mut violations = Vec::new();
        let mut all: Vec<&Sighting<'_>> = self.seen.values().flatten().collect();
        all.sort_unstable_by_key(|sighting| sighting.line);
        for sighting in all {
            let label = &sighting.effect.label;
            let Some(offer) = self.offers.get(&label.n) else { continue };
            for part in sighting.effect.counts.split_terminator(';') {
                let Some((gear, count)) = part.split_once('=') else { continue };
                let count: u64 = count.parse().unwrap_or(0);
                // The message as it came to the counter.
                let way: String =
                    label.path.split_inclusive('/').take_while(|step| *step != format!("{gear}/")).collect();
                let lane = self.graph.lane_of(gear);
                // A way that forgets may count a message again in another life of the counter.
                let era = self.era(lane.min(self.weakest_to(sighting.effect)), sighting.line);
                let is_sharp = self.era(lane.min(self.weakest_to(sighting.effect)), usize::MAX) == 0;
                let slot = (gear.to_owned(), if is_sharp { 0 } else { era }, offer.key, count);
                if !is_sharp {
                    continue;
                }
                let mine = (label.n, way);
                if let Some(other) = given.insert(slot, mine.clone()).filter(|other| *other != mine) {
                    let found = format!("{gear} key {}: {count} for n={} and n={}", offer.key, other.0, mine.0);
                    violations.push(Violation { check: "counter went back", found });
                }
            }
        }
        // In order: of one source and way the later message has the larger count.
        let mut ordered: BTreeMap<OrderKey, Vec<(u64, u64)>> = BTreeMap::new();
        for ((gear, _, key, count), (n, way)) in given {
            ordered.entry((gear, key, n / SOURCE_STEP, way)).or_default().push((n, count));
        }
        for ((gear, key, ..), mut pairs) in ordered {
            pairs.sort_unstable();
            if pairs.windows(2).any(|pair| pair[0].1 >= pair[1].1) {
                violations.push(Violation { check: "counted out of order", found: format!("{gear} key {key}") });
            }
        }
        self.violations.extend(violations);
    }

    fn weakest_to(&self, effect: &Effect) -> Lane {
        self.items.get(&(effect.place.clone(), effect.label.clone())).map_or(Lane::Turbo, |item| item.weakest)
    }

    /// What a tap told the world never goes back, and came from something that is durable.
    fn reads(&mut self) {
        let mut last: BTreeMap<(String, u64), u64> = BTreeMap::new();
        let mut violations = Vec::new();
        let mut all: Vec<&Sighting<'_>> = self.seen.values().flatten().collect();
        all.sort_unstable_by_key(|sighting| sighting.line);
        for sighting in all {
            let effect = sighting.effect;
            let mut words = effect.read.split(':').map(|word| word.parse::<u64>().unwrap_or(0));
            let (Some(key), Some(count), Some(setter)) = (words.next(), words.next(), words.next()) else { continue };
            let tap = effect.label.path.trim_end_matches('/').to_owned();
            let lane = self.graph.lane_of(&tap);
            if effect.is_flagged {
                continue;
            }
            if let Some(offer) = self.offers.get(&setter).filter(|_| count > 0) {
                self.let_out(sighting, offer, &format!("tap told n={setter}:"), &mut |check, found| {
                    violations.push(Violation { check, found });
                });
            }
            // What was only written may be told again after a power cut; the first telling is what counts.
            let is_first = self.seen[&(effect.place.as_str(), &effect.label)][0].line == sighting.line;
            if !is_first || self.forgets(lane).next().is_some() {
                continue;
            }
            // What was read before a crash may be told after it, in its turn on the wire; so it never goes back.
            let before = last.entry((format!("{}>{}", tap, effect.place), key)).or_default();
            if count < *before {
                let found = format!("{tap} key {key}: told {count} after {before} (n={})", effect.label.n);
                violations.push(Violation { check: "state went back", found });
            }
            *before = (*before).max(count);
        }
        self.violations.extend(violations);
    }

    /// A message that always fails is tried as often as it may be, plus once for each crash.
    fn attempts(&mut self) {
        let mut made: BTreeMap<(&str, &Label), (u32, usize, usize)> = BTreeMap::new();
        for (line, (_, event)) in self.evidence.log.iter().enumerate() {
            if let Event::Failed { gear, label } = event {
                let made = made.entry((gear, label)).or_insert((0, line, line));
                (made.0, made.2) = (made.0 + 1, line);
            }
        }
        let max = self.graph.wires.first().map_or(5, |wire| wire.max_deliver);
        for ((gear, label), (count, since, until)) in made {
            let ends = self.processes.iter().filter(|process| process.end_line >= since && process.end_line <= until);
            let crashes = ends.count();
            let into = self.graph.wires.iter().filter(|wire| wire.to.split('.').next() == Some(gear));
            let weakest = into.map(|wire| wire.lane).min().unwrap_or_default();
            let is_excused = !self.is_calm(since, until) || self.is_excused(weakest, since);
            if !is_excused && count > max + crashes as u32 {
                let found = format!(
                    "{gear} n={} `{}`: {count} attempts, {max} allowed, {crashes} crashes",
                    label.n, label.path
                );
                self.violations.push(Violation { check: "too many attempts", found });
            }
        }
    }

    fn has_weak_wires(&self) -> bool {
        self.graph.wires.iter().any(|wire| wire.lane != Lane::Flush)
    }

    /// No timer fires early; none is late because of a restart.
    fn timers(&mut self) {
        let is_roomy = self.graph.wires.iter().all(|wire| (64..1024).contains(&wire.capacity));
        let late_max_ns = if is_roomy { LATE_NS } else { LATE_CLOSED_NS };
        let mut set: BTreeMap<(&str, &str), (u64, u64, u64, usize)> = BTreeMap::new();
        let mut violations = Vec::new();
        for (line, (at_ns, event)) in self.evidence.log.iter().enumerate() {
            match event {
                Event::TimerSet { gear, key, ns } => {
                    let due_ns = at_ns + ns;
                    set.entry((gear, key))
                        .and_modify(|times| (times.1, times.3) = (due_ns, line))
                        .or_insert((due_ns, due_ns, *at_ns, line));
                }
                Event::TimerFired { gear, key } => {
                    let Some(&(early_ns, late_ns, set_ns, set_line)) = set.get(&(gear.as_str(), key.as_str())) else {
                        violations.push(Violation { check: "timer from nowhere", found: format!("{gear} {key}") });
                        continue;
                    };
                    let jumped = self.evidence.jumps.iter().any(|jump| (set_ns..=*at_ns).contains(jump));
                    if at_ns + 2 * MS < early_ns && !jumped {
                        let found = format!("{gear} {key}: at {} ms, due at {} ms", at_ns / MS, early_ns / MS);
                        violations.push(Violation { check: "timer too early", found });
                    }
                    let start_ns = self.process_of(line).map_or(0, |process| process.start_ns);
                    let is_calm = self.is_calm(set_line, line) && !jumped;
                    if is_calm && *at_ns > late_ns.max(start_ns) + late_max_ns {
                        let found = format!(
                            "{gear} {key}: at {} ms, due at {} ms, process since {} ms",
                            at_ns / MS,
                            late_ns / MS,
                            start_ns / MS
                        );
                        violations.push(Violation { check: "timer too late", found });
                    }
                }
                _ => {}
            }
        }
        self.violations.extend(violations);
    }

    /// In the end a gear's state is what the ledger says.
    fn states(&mut self) {
        let mut last: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        for (_, event) in &self.evidence.log[self.evidence.last_from..] {
            if let Event::Recovered { gear, keys } = event {
                last.extend(keys.iter().map(|(key, value)| ((gear.as_str(), key.as_str()), value.as_str())));
            }
        }
        let mut bounds: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
        let mut blurred: BTreeSet<(&str, &str)> = BTreeSet::new();
        for visit in &self.visits {
            let slot = (visit.gear.as_str(), visit.state.as_str());
            let offer = &self.offers[&visit.label.n];
            let lane = self.graph.lane_of(&visit.gear);
            if self.is_excused(visit.weakest, offer.line) || self.is_excused(lane, 0) || lane == Lane::Turbo {
                blurred.insert(slot);
            }
            let is_buried = self
                .letters
                .get(&visit.label.n)
                .is_some_and(|letters| letters.iter().any(|letter| self.is_on_way(letter, &visit.gear, &visit.label)));
            let is_sure = offer.acked_ns.is_some() || self.is_known(visit.label.n);
            let (low, high) = bounds.entry(slot).or_default();
            if !is_buried {
                *low += u64::from(is_sure);
                *high += 1;
            }
        }
        let mut violations = Vec::new();
        for (slot, (low, high)) in bounds.into_iter().filter(|(slot, _)| !blurred.contains(slot)) {
            let found: u64 = last.get(&slot).and_then(|text| text.parse().ok()).unwrap_or(0);
            if found < low || found > high {
                let found = format!("{} {}: {found}, the ledger says {low} to {high}", slot.0, slot.1);
                violations.push(Violation { check: "state is not what the ledger says", found });
            }
        }
        // Everything was answered and fired: nothing waits in a gear that nothing was buried before.
        let kinds = |gear: &str| self.graph.parts.iter().find(|part| part.name == gear).map(|part| part.kind);
        for (gear, key) in last.keys() {
            let waits = match kinds(gear) {
                Some(Kind::Conductor | Kind::Alarm) => true,
                Some(Kind::Join) => {
                    let n: u64 = key[1..].parse().unwrap_or(0);
                    !self.letters.contains_key(&n)
                        && self.items.keys().any(|(_, label)| label.n == n && label.path.starts_with("join"))
                }
                _ => false,
            };
            if waits && !self.has_weak_wires() {
                violations.push(Violation { check: "state waits for ever", found: format!("{gear} {key}") });
            }
        }
        self.violations.extend(violations);
    }

    /// A wire that retains has every message once, in order.
    fn retained(&mut self) {
        for (wire_idx, labels) in &self.evidence.retained {
            let wire = &self.graph.wires[*wire_idx];
            let (source, _) = wire.from.split_once('.').expect("wires name ports");
            let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
            for label in labels {
                *counts.entry(label.n).or_default() += 1;
            }
            let mut violations = Vec::new();
            let mut fail = |check, found| violations.push(Violation { check, found });
            if let Some((n, count)) = counts.iter().find(|(_, count)| **count > 1) {
                fail("retained twice", format!("{} n={n}: {count} times", wire.from));
            }
            if labels.windows(2).any(|pair| pair[0].n >= pair[1].n) && !self.is_excused(wire.lane, 0) {
                fail("retained out of order", wire.from.clone());
            }
            for (&n, offer) in self.offers.iter().filter(|(_, offer)| offer.source == source) {
                let is_due = offer.acked_ns.is_some() || self.is_known(n);
                if is_due && !counts.contains_key(&n) && !self.is_excused(wire.lane, offer.line) {
                    fail("not retained", format!("{} n={n}", wire.from));
                }
            }
            self.violations.extend(violations);
        }
    }

    /// A rig that had drained does nothing when it starts once more.
    fn silence(&mut self) {
        let last = &self.evidence.log[self.evidence.last_from..];
        if let Some((_, event)) =
            last.iter().find(|(_, event)| matches!(event, Event::Effect(_) | Event::Unknown { .. }))
        {
            self.fail("effect after everything had ended", format!("{event:?}"));
        }
    }
}
