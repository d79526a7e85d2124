//! The plan of every rack: what the runtime says of its gears and their wires together.
//! The runtime's errors know names only; here each finds its place in the file again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use fluxrig_actors::journal::DiskOptions;
use fluxrig_actors::journal::stream::Log;
use fluxrig_actors::protocol::SmolStr;
use fluxrig_actors::protocol::subject::Name;
use fluxrig_actors::{Built, Catalog, JournalOptions, PlanError, PlanErrors, Ports, Rig, nearest};

use super::check::rebuild;
use super::cross::{Crossing, Ends as BusEnds, Local, Where, crossing};
use super::problem::{Fault, Problems};
use super::read::{Item, Sections, journal_key};
use super::tree::{Content, Node, Pos, clipped};
use super::universe::{Relation, Universe};
use super::{
    Backend, Bus, Checked, Durability, FileJournal, GearEntry, Journal, LaneChoice, StateChoice, StreamJournal,
    WireEntry, ms,
};
use crate::bus::NoBus;

/// The rack of a scenario that names none, as its journal calls it, too.
fn only_rack() -> Name {
    "rack".parse().expect("it is a name")
}

/// Checks the plan of each rack that differs from the others. Gives back the ports of every gear that could be built.
pub(crate) fn check_plans(
    top: &Node,
    sections: &Sections<'_>,
    universe: &Universe,
    mut built: Vec<Option<Built>>,
    catalog: &Catalog,
    problems: &mut Problems,
) -> Vec<Option<Ports>> {
    let ports: Vec<Option<Ports>> = built.iter().map(|built| built.as_ref().map(Built::ports)).collect();
    let known: HashMap<&str, usize> =
        sections.gears.iter().enumerate().map(|(idx, gear)| (gear.entry.name.as_str(), idx)).collect();
    let is_broken = |name: &str| match known.get(name) {
        Some(&idx) => ports[idx].is_none(),
        None => sections.unread.iter().any(|unread| unread == name),
    };
    let ends = Ends { known: &known, ports: &ports };
    let deploys: Vec<&Option<Name>> = sections.gears.iter().map(|gear| &gear.entry.deploy).collect();
    let mut wires = Vec::new();
    let mut beside_broken = BTreeSet::new();
    for wire in &sections.wires {
        let (from, to) = (gear_of(&wire.entry.from), gear_of(&wire.entry.to));
        if is_broken(from) || is_broken(to) {
            beside_broken.extend([from, to]);
            // The other end may be wrong all the same, and the runtime is not asked about this wire.
            for (end, side) in [(&wire.entry.from, Side::From), (&wire.entry.to, Side::To)] {
                if !is_broken(gear_of(end))
                    && let Some(fault) = ends.fault(wire, end, side)
                {
                    problems.add(wire.pos(side.key()), "", fault);
                }
            }
            continue;
        }
        let faults = match (known.get(from), known.get(to)) {
            (Some(&left), Some(&right)) => {
                ends.bus_faults(wire, universe.relation(deploys[left], deploys[right]), sections)
            }
            _ => Vec::new(),
        };
        match faults.is_empty() {
            true => wires.push(wire),
            false => beside_broken.extend([from, to]),
        }
        for (key, fault) in faults {
            problems.add(wire.pos(key), "", fault);
        }
    }
    let mut places = Places { top, sections, ends, beside_broken: &beside_broken, crossing: Crossing::default() };
    let racks_of = |gear: &str| {
        let names = known.get(gear).map(|&idx| universe.names(deploys[idx])).unwrap_or_default();
        // A group of racks that have no names yet still sends.
        if names.is_empty() { vec![only_rack()] } else { names }
    };
    let entries = sections.wires.iter().map(|wire| &wire.entry);
    let asked: BTreeSet<usize> = wires.iter().map(|wire| idx_of(sections, wire)).collect();
    for (subset, rack) in universe.subsets(&deploys) {
        let name = sections.meta.as_ref().map_or("scenario", |meta| meta.name.as_str());
        let mut rig = Rig::new(name).journal_with(journal_options(sections.journal, "unopened"));
        let is_here = |end: &str| known.get(gear_of(end)).is_none_or(|idx| subset.binary_search(idx).is_ok());
        let mut names = BTreeSet::new();
        for &idx in &subset {
            let gear = &sections.gears[idx];
            let config = gear.node.get("config");
            let Some(built) = ports[idx]
                .as_ref()
                .and_then(|_| built[idx].take().or_else(|| rebuild(catalog, &gear.entry.type_name, config).ok()))
            else {
                continue;
            };
            if names.insert(gear.entry.name.clone()) {
                rig = add_gear(rig, &gear.entry, built);
            }
        }
        let is_asked = |(idx, wire): &(usize, &WireEntry)| {
            let is_known = [&wire.from, &wire.to].iter().all(|end| known.contains_key(gear_of(end)));
            let (leaves, comes) = (is_here(&wire.from), is_here(&wire.to));
            asked.contains(idx) && if is_known { leaves || comes } else { leaves && comes }
        };
        let rack = rack.unwrap_or_else(only_rack);
        let at = Where { rack: &rack, is_here: &is_here, racks_of: &racks_of, ports: &|gear| ends.ports(gear) };
        places.crossing = crossing(entries.clone().enumerate().filter(is_asked), &at);
        rig = places.crossing.wired(rig, &NoBus);
        if let Err(PlanErrors(errors)) = rig.check() {
            errors.iter().for_each(|error| places.add(error, problems));
        }
    }
    ports
}

fn add_gear(rig: Rig, gear: &GearEntry, built: Built) -> Rig {
    let rig = rig.built(&gear.name, built).supervised(gear.supervision.options());
    match gear.state {
        Some(StateChoice::Durable) => rig.durable_state(),
        None => rig,
    }
}

/// The position of a wire among all that could be read.
fn idx_of(sections: &Sections<'_>, wire: &Item<'_, WireEntry>) -> usize {
    sections.wires.iter().position(|other| std::ptr::eq(other, wire)).unwrap_or(usize::MAX)
}

pub(crate) fn gear_of(end: &str) -> &str {
    end.split_once('.').map_or(end, |(gear, _)| gear)
}

pub(crate) fn journal_options(journal: Journal, dir: impl Into<std::path::PathBuf>) -> JournalOptions {
    asked_of(journal, JournalOptions::dir(dir))
}

/// A stream with a limit is written in so many parts that can be purged one by one.
const STREAM_SEGMENTS: u64 = 16;
/// And none is shorter than the shortest of files.
const STREAM_SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// The same with its groups on a stream, which only one that runs has.
pub(crate) fn on_stream(journal: StreamJournal, options: JournalOptions, log: Arc<dyn Log>) -> JournalOptions {
    let mut options = options.on_stream(log);
    options.lease = journal.lease_ms.map(|lease| ms(lease.get()));
    options
}

/// What a scenario asks of its journal, wherever that is.
pub(crate) fn asked_of(journal: Journal, mut options: JournalOptions) -> JournalOptions {
    match journal {
        Journal::File(FileJournal { segment_bytes, max_bytes, segment_age_max_ms }) => {
            options.segment_bytes = segment_bytes;
            options.segment_age_max = segment_age_max_ms.map(|age| ms(age.get()));
            options.disk = DiskOptions { max_bytes, ..DiskOptions::default() };
        }
        // The lease goes with the stream: see `on_stream`.
        Journal::Jetstream(StreamJournal { max_bytes, accept_lost_tail, .. }) => {
            options.accept_lost_tail = accept_lost_tail;
            if let Some(max_bytes) = max_bytes {
                // Doors close before the stream is full, and what is old is purged long before.
                options.segment_bytes =
                    options.segment_bytes.min(max_bytes / STREAM_SEGMENTS).max(STREAM_SEGMENT_BYTES_MIN);
                options.disk = DiskOptions { max_bytes, ..DiskOptions::default() };
            }
        }
    }
    options
}

/// Where what the runtime names stands in the file.
struct Places<'c> {
    top: &'c Node,
    sections: &'c Sections<'c>,
    ends: Ends<'c>,
    /// Gears next to one that could not be built: whether they are wired cannot be said.
    beside_broken: &'c BTreeSet<&'c str>,
    /// What became of the wires on the rack that is looked at.
    crossing: Crossing,
}

impl Places<'_> {
    fn add(&self, error: &PlanError, problems: &mut Problems) {
        let pos = match error {
            // Said before, with the place of the first.
            PlanError::DuplicateName { .. } => return,
            PlanError::Unwired { gear, .. } | PlanError::UnwiredOutput { gear, .. }
                if self.beside_broken.contains(gear.as_str()) =>
            {
                return;
            }
            PlanError::BadName { name: gear, .. }
            | PlanError::Unwired { gear, .. }
            | PlanError::UnwiredOutput { gear, .. }
            | PlanError::UnknownFeed { gear, .. }
            | PlanError::Partitions { gear, .. }
            | PlanError::NoJournalForState { gear }
            | PlanError::Feeds { gear, .. }
            | PlanError::Cycle { gear } => self.gear(gear),
            PlanError::UnknownGear { wire, .. } | PlanError::UnknownPort { wire, .. } => {
                if self.unknown(wire, problems) {
                    return;
                }
                self.top.pos
            }
            // Said before, at the key.
            PlanError::Setting { wire, setting: "retention", .. } if self.is_turbo(wire) => return,
            PlanError::DuplicateWire { wire } => self.duplicate(wire),
            PlanError::PartitionedEndpoint { wire } => self.wire(wire, |_| "partitions"),
            PlanError::NoJournal { wire } => self.wire(wire, |_| "lane"),
            PlanError::Setting { wire, setting, .. } => self.wire(wire, |_| setting),
            PlanError::Journal { setting, .. } => journal_key(self.top, setting).pos,
            _ => self.top.pos,
        };
        problems.add(pos, "", Fault::Plan { text: self.in_names_of_the_file(error.to_string()) });
    }

    /// What is wrong with one end of a wire on the bus is said of the wire.
    fn in_names_of_the_file(&self, mut text: String) -> String {
        let wires = self.crossing.outs.iter().map(|end| &end.wire);
        for local in wires.chain(self.crossing.ins.iter().flat_map(|end| &end.wires)) {
            let Some(wire) = self.sections.wires.get(local.wire_idx) else { continue };
            for name in [self.resolved(local), format!("{}->{}", local.from, local.to)] {
                text = text.replace(&format!("`{name}`"), &format!("`{}`", wire.entry.asked()));
            }
        }
        text
    }

    /// How the runtime calls a local wire.
    fn resolved(&self, wire: &Local) -> String {
        let first = self.ends.ports(&wire.to).and_then(|ports| ports.inputs.first());
        match first.filter(|_| !wire.to.contains('.')) {
            Some(first) => format!("{}->{}.{}", wire.from, wire.to, first.name),
            None => format!("{}->{}", wire.from, wire.to),
        }
    }

    /// Says what is wrong with the ends of a wire. False when nothing is found, though the runtime has said so.
    fn unknown(&self, name: &str, problems: &mut Problems) -> bool {
        let mut is_said = false;
        for wire in self.sections.wires.iter().filter(|wire| wire.entry.asked() == name) {
            for (end, side) in [(&wire.entry.from, Side::From), (&wire.entry.to, Side::To)] {
                if let Some(fault) = self.ends.fault(wire, end, side) {
                    problems.add(wire.pos(side.key()), "", fault);
                    is_said = true;
                }
            }
        }
        is_said
    }

    fn is_turbo(&self, name: &str) -> bool {
        self.called(name).is_some_and(|wire| wire.entry.lane == LaneChoice::Turbo)
    }

    fn gear(&self, name: &str) -> Pos {
        self.ends.known.get(name).map_or(self.top.pos, |&idx| self.sections.gears[idx].pos("name"))
    }

    fn wire<'k>(&self, name: &str, key: impl Fn(&Item<'_, WireEntry>) -> &'k str) -> Pos {
        self.called(name).map_or(self.top.pos, |wire| wire.pos(key(wire)))
    }

    fn duplicate(&self, name: &str) -> Pos {
        let wire = self.sections.wires.iter().rev().find(|wire| self.is_called(&wire.entry, name));
        wire.or_else(|| self.crossed(self.crossing.wires(), name)).map_or(self.top.pos, |wire| wire.node.pos)
    }

    /// The wire of the scenario that the runtime calls so, also where it only is one end of it.
    fn called(&self, name: &str) -> Option<&Item<'_, WireEntry>> {
        let wire = self.sections.wires.iter().find(|wire| self.is_called(&wire.entry, name));
        wire.or_else(|| self.crossed(self.crossing.wires(), name))
    }

    fn crossed<'l>(&self, mut wires: impl Iterator<Item = &'l Local>, name: &str) -> Option<&Item<'_, WireEntry>> {
        let is_called = |wire: &&Local| format!("{}->{}", wire.from, wire.to) == name || self.resolved(wire) == name;
        self.sections.wires.get(wires.find(is_called)?.wire_idx)
    }

    fn is_called(&self, wire: &WireEntry, name: &str) -> bool {
        wire.asked() == name || resolved(wire, |end| self.ends.ports(end)).as_deref() == Some(name)
    }
}

/// What a wire may not promise, given what keeps it.
fn durability_fault(wire: &Item<'_, WireEntry>, is_on_bus: bool, sections: &Sections<'_>) -> Option<Fault> {
    let is_replicated = sections.journal.is_replicated();
    // What it does not say itself is said at the journal.
    let asked = wire.entry.durability.filter(|_| wire.node.get("durability").is_some())?;
    let text = match asked {
        Durability::Replicated if is_on_bus => {
            return sections.bus.replicated_fault().map(|text| Fault::Refused { text });
        }
        Durability::Replicated if !is_replicated => {
            "found `replicated` on a wire that the rack's journal keeps, which is not replicated, expected `flush` or `os`; remedy: write `journal: { jetstream: { durability: replicated } }`, or `backend: jetstream` at the wire"
        }
        Durability::Flush if is_replicated => {
            "found `flush` with a journal of `durability: replicated`, whose servers need not sync, expected `replicated` or `os`; remedy: leave it out, or write `durability: flush` at the journal"
        }
        _ => return None,
    };
    Some(Fault::Refused { text: text.to_owned() })
}

/// Which end of a wire.
#[derive(Clone, Copy)]
enum Side {
    From,
    To,
}

impl Side {
    fn key(self) -> &'static str {
        match self {
            Self::From => "from",
            Self::To => "to",
        }
    }
}

/// What an end of a wire may be: gears by name, and their ports where they could be built.
#[derive(Clone, Copy)]
struct Ends<'c> {
    known: &'c HashMap<&'c str, usize>,
    ports: &'c [Option<Ports>],
}

impl<'c> Ends<'c> {
    fn ports(&self, end: &str) -> Option<&'c Ports> {
        self.known.get(gear_of(end)).and_then(|&idx| self.ports[idx].as_ref())
    }

    /// What a wire may not be, given where its gears run, with the keys to point at.
    fn bus_faults(
        &self,
        wire: &Item<'_, WireEntry>,
        relation: Relation,
        sections: &Sections<'_>,
    ) -> Vec<(&'static str, Fault)> {
        let (bus, is_there) = (&sections.bus, sections.bus.is_there() || sections.is_bus_unread);
        let name = || wire.entry.asked();
        let is_jetstream = wire.entry.backend == Backend::Jetstream;
        let fault = match relation {
            Relation::Partly => Some(("to", Fault::PartlyTogether { wire: name() })),
            Relation::Apart if !is_there => Some(("to", Fault::NoBus { wire: name() })),
            Relation::Apart if matches!(bus, Bus::Managed(managed) if managed.rack.is_none()) => {
                Some(("to", Fault::BusOfEach { wire: name() }))
            }
            Relation::Apart if wire.entry.lane == LaneChoice::Turbo => {
                Some(("lane", Fault::TurboAcross { wire: name() }))
            }
            Relation::Together if is_jetstream && !is_there => Some(("backend", Fault::NoBusForWire { wire: name() })),
            Relation::Together | Relation::Apart => None,
        };
        let is_on_bus = relation == Relation::Apart || is_jetstream;
        // The runtime is asked about its ends only, so that what is wrong with them is said here.
        let sides = [(&wire.entry.from, Side::From), (&wire.entry.to, Side::To)];
        let of_ends = sides.into_iter().filter(|_| is_on_bus);
        let of_ends = of_ends.filter_map(|(end, side)| Some((side.key(), self.fault(wire, end, side)?)));
        let of_durability = durability_fault(wire, is_on_bus, sections).map(|fault| ("durability", fault));
        fault.into_iter().chain(of_ends).chain(of_durability).collect()
    }

    /// What is wrong with one end, said with the nearest name.
    fn fault(&self, wire: &Item<'_, WireEntry>, end: &str, side: Side) -> Option<Fault> {
        let as_written = written(wire, side.key());
        // What came out of a variable is not shown.
        let is_plain = as_written == end;
        let shown = |part: &str| if is_plain { part.to_owned() } else { as_written.clone() };
        let wire = format!("{}->{}", written(wire, "from"), written(wire, "to"));
        let gear = gear_of(end);
        let Some(&idx) = self.known.get(gear) else {
            let nearest = nearest(gear, self.known.keys().copied());
            let remedy = nearest.map_or_else(|| "add a gear of that name".to_owned(), |name| format!("use `{name}`"));
            return Some(Fault::UnknownGear { wire, found: shown(gear), remedy });
        };
        let ports = self.ports[idx].as_ref()?;
        let names: Vec<&SmolStr> = match side {
            Side::From => ports.outputs.iter().map(|port| &port.name).collect(),
            Side::To => ports.inputs.iter().map(|port| &port.name).collect(),
        };
        if names.is_empty() {
            let (what, remedy) = match side {
                Side::From => ("outputs", "wire from another gear"),
                Side::To => ("inputs", "wire to another gear"),
            };
            return Some(Fault::NoPorts { wire, gear: shown(gear), what, remedy });
        }
        let (_, found) = end.split_once('.')?;
        if names.iter().any(|name| *name == found) {
            return None;
        }
        let listed: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let nearest = nearest(found, names.iter().map(|name| name.as_str()));
        let nearest = nearest.or((names.len() == 1).then(|| names[0].as_str()));
        let remedy = nearest.map_or_else(|| "use one of these".to_owned(), |name| format!("use `{gear}.{name}`"));
        let expected = listed.join(", ");
        Some(Fault::UnknownPort { wire, gear: gear.to_owned(), found: shown(found), expected, remedy })
    }
}

/// An end of a wire as it stands in the file.
fn written(wire: &Item<'_, WireEntry>, key: &str) -> String {
    match wire.node.get(key).map(|node| &node.content) {
        Some(Content::Scalar(scalar)) => clipped(scalar.source()),
        _ => String::new(),
    }
}

/// How the runtime calls a wire once its ports are known.
fn resolved<'p>(wire: &WireEntry, ports: impl Fn(&str) -> Option<&'p Ports>) -> Option<String> {
    let port = |end: &str, is_output: bool| {
        if end.contains('.') {
            return Some(end.to_owned());
        }
        let ports = ports(end)?;
        let first = match is_output {
            true => ports.outputs.first().map(|port| &port.name),
            false => ports.inputs.first().map(|port| &port.name),
        };
        Some(format!("{end}.{}", first?))
    };
    Some(format!("{}->{}", port(&wire.from, true)?, port(&wire.to, false)?))
}

/// Why the rig of a rack cannot be put together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RackChoice {
    /// No such rack.
    #[error("rack `{found}`: found none of this name in the scenario, expected one of {listed}; remedy: {remedy}")]
    Unknown {
        /// What was asked for.
        found: String,
        /// What there is.
        listed: String,
        /// The nearest name, or how to see all.
        remedy: String,
    },
    /// More than one, and none was named.
    #[error(
        "rack: found none named and several in the scenario ({listed}), expected one; remedy: name it with `--rack`"
    )]
    Unnamed {
        /// What there is.
        listed: String,
    },
    /// A gear that could be built when the scenario was checked, and not now.
    #[error("gear `{gear}`: {reason}")]
    Gear {
        /// The gear.
        gear: String,
        /// In its own words.
        reason: String,
    },
}

impl Checked {
    /// The rack of this name; without a name, the only one.
    ///
    /// # Errors
    /// When there is none, or more than one to choose from.
    pub fn rack(&self, name: Option<&str>) -> Result<Option<Name>, RackChoice> {
        let racks = &self.scenario.racks;
        let listed =
            || racks.iter().filter_map(|rack| rack.name.as_ref()).map(|name| format!("`{name}`")).collect::<Vec<_>>();
        let unknown = |found: &str| {
            let listed = if listed().is_empty() { "none (it has groups only)".to_owned() } else { listed().join(", ") };
            let names = racks.iter().filter_map(|rack| rack.name.as_ref()).map(Name::as_str);
            let remedy =
                nearest(found, names).map_or_else(|| "name one of these".to_owned(), |name| format!("use `{name}`"));
            RackChoice::Unknown { found: found.to_owned(), listed, remedy }
        };
        let mut named = racks.iter().filter_map(|rack| rack.name.as_ref());
        match name {
            Some(found) if racks.is_empty() => found.parse().map(Some).map_err(|_| unknown(found)),
            Some(found) => named.find(|name| name.as_str() == found).cloned().map(Some).ok_or_else(|| unknown(found)),
            None if racks.is_empty() => Ok(None),
            None => match (named.next(), named.next()) {
                (Some(only), None) => Ok(Some(only.clone())),
                _ => Err(RackChoice::Unnamed { listed: listed().join(", ") }),
            },
        }
    }

    /// The gears and wires of one rack as a rig, with its journal in `dir` and without a bus: what goes over one waits.
    ///
    /// # Errors
    /// When the rack cannot be chosen, or a gear cannot be built any more.
    pub fn rig(&self, rack: Option<&str>, catalog: &Catalog, dir: &std::path::Path) -> Result<Rig, RackChoice> {
        self.rig_on(rack, catalog, journal_options(self.scenario.journal, dir), &NoBus)
    }

    /// The same with its journal anywhere, and with a bus.
    ///
    /// # Errors
    /// As for `rig`.
    pub(crate) fn rig_on(
        &self,
        rack: Option<&str>,
        catalog: &Catalog,
        mut journal: JournalOptions,
        ends: &dyn BusEnds,
    ) -> Result<Rig, RackChoice> {
        if let Some(name) = self.rack(rack)? {
            journal.rack = name.to_string();
        }
        let mut rig =
            Rig::new(&self.scenario.meta.name).journal_with(journal).on_failed(self.scenario.on_failed.into());
        for idx in self.here(rack)? {
            let (gear, config) = (&self.scenario.gears[idx], &self.configs[idx]);
            // It was built once when it was checked; what it reads besides may be gone by now.
            let built = rebuild(catalog, &gear.type_name, config.as_ref())
                .map_err(|reason| RackChoice::Gear { gear: gear.name.to_string(), reason })?;
            rig = add_gear(rig, gear, built);
        }
        Ok(self.crossing(rack)?.wired(rig, ends))
    }

    /// How a rack is called on the bus and in its journal.
    ///
    /// # Errors
    /// When the rack cannot be chosen.
    pub(crate) fn rack_name(&self, rack: Option<&str>) -> Result<Name, RackChoice> {
        Ok(self.rack(rack)?.unwrap_or_else(only_rack))
    }

    /// What one rack does with its wires: which stay inside it, and which go over the bus.
    ///
    /// # Errors
    /// When the rack cannot be chosen.
    pub(crate) fn crossing(&self, rack: Option<&str>) -> Result<Crossing, RackChoice> {
        let gears = &self.scenario.gears;
        let idx_of = |gear: &str| gears.iter().position(|entry| entry.name.as_str() == gear);
        let (universe, here) = (Universe::new(self.scenario.racks.iter()), self.here(rack)?);
        let is_here = |end: &str| idx_of(gear_of(end)).is_some_and(|idx| here.binary_search(&idx).is_ok());
        let at = Where {
            rack: &self.rack_name(rack)?,
            is_here: &is_here,
            racks_of: &|gear| idx_of(gear).map(|idx| universe.names(&gears[idx].deploy)).unwrap_or_default(),
            ports: &|end| self.ports.get(idx_of(gear_of(end))?),
        };
        let wires = self.scenario.wires.iter().enumerate();
        Ok(crossing(wires.filter(|(_, wire)| is_here(&wire.from) || is_here(&wire.to)), &at))
    }

    /// Whether a wire goes over the bus.
    pub(crate) fn is_on_bus(&self, wire: &WireEntry) -> bool {
        let deploy = |end: &str| {
            let gear = self.scenario.gears.iter().find(|gear| gear.name.as_str() == gear_of(end));
            gear.map_or(&None, |gear| &gear.deploy)
        };
        let universe = Universe::new(self.scenario.racks.iter());
        wire.backend == Backend::Jetstream || universe.relation(deploy(&wire.from), deploy(&wire.to)) == Relation::Apart
    }

    /// The gears that run on one rack, by position.
    pub(crate) fn here(&self, rack: Option<&str>) -> Result<Vec<usize>, RackChoice> {
        let name = self.rack(rack)?;
        let universe = Universe::new(self.scenario.racks.iter());
        let rack_idx = universe.racks.iter().position(|place| place.name == name);
        let is_here = |gear: &GearEntry| {
            let members = universe.members(&gear.deploy);
            members.is_none_or(|members| rack_idx.is_some_and(|idx| members.contains(&idx)))
        };
        Ok((0..self.scenario.gears.len()).filter(|&idx| is_here(&self.scenario.gears[idx])).collect())
    }

    /// The configuration of a gear as what its type reads, where it is that.
    #[cfg(feature = "sim")]
    pub(crate) fn config<T: serde::de::DeserializeOwned>(&self, idx: usize) -> Option<T> {
        let config = self.configs.get(idx)?.as_ref()?;
        let session = super::de::Session::default();
        super::de::root(config, &session, |de| T::deserialize(de)).ok()
    }

    /// What stands at one key of a gear's configuration, variables put in. Nothing where it is a map or a list.
    #[must_use]
    pub fn setting(&self, gear: &str, key: &str) -> Option<&str> {
        let idx = self.scenario.gears.iter().position(|entry| entry.name.as_str() == gear)?;
        self.configs.get(idx)?.as_ref()?.get(key)?.text()
    }

    /// How the running rig calls a wire.
    pub(crate) fn wire_name(&self, wire: &WireEntry) -> String {
        let ports = |end: &str| {
            let idx = self.scenario.gears.iter().position(|gear| gear.name.as_str() == gear_of(end))?;
            self.ports.get(idx)
        };
        resolved(wire, ports).unwrap_or_else(|| wire.asked())
    }
}

#[cfg(test)]
mod tests;
