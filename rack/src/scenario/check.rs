//! What the parts of a scenario must be together: names, racks, gears built from their configuration, addresses, and last
//! the plan of every rack. All is checked to the end, whatever was wrong before.

use std::collections::{BTreeSet, HashMap};
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use fluxrig_actors::protocol::subject::Name;
use fluxrig_actors::{Built, Catalog, CatalogError, Ports, nearest};
use serde::de::Error as _;

use super::attempt::attempt;
use super::cross::RESERVED;
use super::de::{De, DeError, Session, root};
use super::env::{Lookup, beside, expand};
use super::plan::check_plans;
use super::problem::{Fault, Problem, Problems, ScenarioErrors};
use super::read::{Item, Sections, journal_key, rack_names, sections};
use super::tree::{BYTES_MAX, Content, Node, Pos, parse};
use super::universe::Universe;
use super::{Bus, Durability, GearEntry, LaneChoice, ManagedBus, RackEntry, Scenario, WireEntry};

/// A scenario in which nothing is wrong.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its keys.
    pub scenario: Scenario,
    /// What may be meant otherwise; it runs all the same.
    pub warnings: Vec<Problem>,
    /// Configuration of each gear.
    pub(crate) configs: Vec<Option<Node>>,
    /// Ports of each gear.
    pub(crate) ports: Vec<Ports>,
    /// The bus as it stands there.
    pub(crate) bus: Option<Node>,
}

/// Checks a file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check_file(path: &Path, catalog: &Catalog, lookup: Lookup<'_>) -> Result<Checked, ScenarioErrors> {
    let name = path.display().to_string();
    let refuse = |pos, fault| {
        let mut problems = Problems::new(&name);
        problems.add(pos, "", fault);
        ScenarioErrors(problems.into_vec())
    };
    let start = Pos { line: 1, column: 1 };
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a longer file is seen as such and not read whole.
    let read = std::fs::File::open(path).and_then(|file| file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Err(refuse(start, Fault::Unreadable { reason: error.to_string() }));
    }
    if bytes.len() > BYTES_MAX {
        return Err(refuse(start, Fault::TooLarge { found: bytes.len(), limit: BYTES_MAX }));
    }
    match String::from_utf8(bytes) {
        Ok(text) => check_text(&name, &text, catalog, &beside(path, lookup)),
        Err(error) => {
            let whole = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let before = String::from_utf8_lossy(whole);
            let line = before.lines().count().max(1);
            let column = before.lines().last().map_or(0, |last| last.chars().count()) + 1;
            Err(refuse(Pos { line, column }, Fault::Encoding))
        }
    }
}

/// Checks a text that is called `name` in errors.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check_text(name: &str, text: &str, catalog: &Catalog, lookup: Lookup<'_>) -> Result<Checked, ScenarioErrors> {
    let mut problems = Problems::new(name);
    let Some(mut top) = parse(text, &mut problems) else { return Err(ScenarioErrors(problems.into_vec())) };
    expand(&mut top, "", lookup, &mut problems);
    let mut sections = sections(&top, &mut problems);
    // A wire whose ends are no names is connected to nothing.
    sections.wires.retain(|wire| has_ends(wire, &mut problems));
    check_racks(&sections.racks, &mut problems);
    check_names(&sections, &mut problems);
    check_bus(&top, &sections, &mut problems);
    check_journal(&top, &mut sections, &mut problems);
    let built = build_all(&sections.gears, catalog, &mut problems);
    let universe = Universe::new(sections.racks.iter().map(|rack| &rack.entry));
    check_deploys(&sections, &universe, &mut problems);
    check_binds(&sections.gears, &universe, &mut problems);
    for wire in &sections.wires {
        check_wire(wire, &mut problems);
    }
    let ports = check_plans(&top, &sections, &universe, built, catalog, &mut problems);
    match sections.meta.clone() {
        Some(meta) if problems.is_empty() => {
            let mut warnings = Problems::new(name);
            warn_of_turbo(&sections, &mut warnings);
            let configs = sections.gears.iter().map(|gear| gear.node.get("config").cloned()).collect();
            let ports = ports.into_iter().flatten().collect();
            let scenario = Scenario {
                meta,
                bus: sections.bus,
                journal: sections.journal,
                on_failed: sections.on_failed,
                racks: sections.racks.into_iter().map(|item| item.entry).collect(),
                gears: sections.gears.into_iter().map(|item| item.entry).collect(),
                wires: sections.wires.into_iter().map(|item| item.entry).collect(),
            };
            let bus = top.get("bus").cloned();
            Ok(Checked { scenario, warnings: warnings.into_vec(), configs, ports, bus })
        }
        _ => Err(ScenarioErrors(problems.into_vec())),
    }
}

/// A rack has a name and labels, a group has a name and what it matches.
fn check_racks(racks: &[Item<'_, RackEntry>], problems: &mut Problems) {
    let mut lines = HashMap::new();
    for rack in racks {
        let RackEntry { name, group, labels, matches } = &rack.entry;
        let mut refuse =
            |text: &str| problems.add(rack.node.pos, rack.path.clone(), Fault::Refused { text: text.into() });
        let (key, name) = match (name, group) {
            (Some(name), None) if matches.is_empty() => ("name", name),
            (None, Some(group)) if labels.is_empty() && !matches.is_empty() => ("group", group),
            (Some(_), None) => {
                refuse("found `match` beside `name`, expected `labels`; remedy: rename it, or make this a `group`");
                continue;
            }
            (None, Some(_)) => {
                refuse(
                    "found a group without `match`, or with `labels`, expected `match` alone; remedy: say what its racks match",
                );
                continue;
            }
            _ => {
                refuse("found both or neither of `name` and `group`, expected one; remedy: name a rack, or a group");
                continue;
            }
        };
        let pos = rack.pos(key);
        match lines.get(name) {
            Some(&first_line) => {
                rack.refuse(key, Fault::DuplicateName { name: name.to_string(), first_line }, problems);
            }
            None => drop(lines.insert(name.clone(), pos.line)),
        }
    }
}

/// The rack that runs the bus is one of the scenario's.
fn check_bus(top: &Node, sections: &Sections<'_>, problems: &mut Problems) {
    let Bus::Managed(ManagedBus { rack: Some(found), .. }) = &sections.bus else { return };
    let racks = sections.racks.iter().filter_map(|rack| rack.entry.name.as_ref());
    if racks.clone().any(|name| name == found) {
        return;
    }
    let remedy = nearest(found, racks.map(|name| name.as_str()));
    let remedy = remedy.map_or_else(|| format!("add `{{ name: {found} }}` to `racks`"), |name| format!("use `{name}`"));
    let pos = top.get("bus").and_then(|bus| bus.get("rack")).unwrap_or(top).pos;
    problems.add(pos, "bus.rack", Fault::UnknownRack { found: found.to_string(), remedy });
}

/// A journal that is replicated is so on three servers or more, and what it keeps is no more durable than that.
fn check_journal(top: &Node, sections: &mut Sections<'_>, problems: &mut Problems) {
    if !sections.journal.is_replicated() {
        return;
    }
    if let Some(text) = sections.bus.replicated_fault() {
        problems.add(journal_key(top, "durability").pos, "journal.jetstream.durability", Fault::Refused { text });
    }
    for wire in sections.wires.iter_mut().filter(|wire| wire.entry.lane == LaneChoice::Standard) {
        wire.entry.durability.get_or_insert(Durability::Replicated);
    }
}

fn check_names(sections: &Sections<'_>, problems: &mut Problems) {
    let mut lines = HashMap::new();
    for gear in &sections.gears {
        let name = &gear.entry.name;
        let reserved = RESERVED.into_iter().find(|start| sections.bus.is_there() && name.starts_with(start));
        if let Some(start) = reserved {
            gear.refuse("name", Fault::Reserved { name: name.to_string(), start }, problems);
        }
        match lines.get(name) {
            Some(&first_line) => {
                gear.refuse("name", Fault::DuplicateName { name: name.to_string(), first_line }, problems);
            }
            None => drop(lines.insert(name, gear.pos("name").line)),
        }
    }
}

fn check_deploys(sections: &Sections<'_>, universe: &Universe, problems: &mut Problems) {
    let racks: Vec<RackEntry> = sections.racks.iter().map(|rack| rack.entry.clone()).collect();
    for gear in &sections.gears {
        let Some(deploy) = &gear.entry.deploy else { continue };
        if universe.knows(deploy) {
            continue;
        }
        let nearest = nearest(deploy, rack_names(&racks).map(|name| name.as_str()));
        let remedy =
            nearest.map_or_else(|| format!("add `{{ name: {deploy} }}` to `racks`"), |name| format!("use `{name}`"));
        gear.refuse("deploy", Fault::UnknownRack { found: deploy.to_string(), remedy }, problems);
    }
}

/// Builds every gear; `None` where it cannot be, or may be another than was meant.
fn build_all(gears: &[Item<'_, GearEntry>], catalog: &Catalog, problems: &mut Problems) -> Vec<Option<Built>> {
    gears.iter().map(|gear| build_checked(gear, catalog, problems)).collect()
}

fn build_checked(gear: &Item<'_, GearEntry>, catalog: &Catalog, problems: &mut Problems) -> Option<Built> {
    let type_name = gear.entry.type_name.as_str();
    if catalog.manifest(type_name).is_none() {
        let names = catalog.manifests().map(|manifest| manifest.type_name);
        let remedy = nearest(type_name, names).map_or_else(
            || "see `fluxrig gears list`, or add yours with `Catalog::with`".to_owned(),
            |name| format!("use `{name}`, or add yours with `Catalog::with`"),
        );
        let found = super::tree::clipped(type_name);
        gear.refuse("type", Fault::UnknownType { found, remedy }, problems);
        return None;
    }
    let empty = Node { pos: gear.node.pos, content: Content::Map(Vec::new()) };
    let config = given(gear.node.get("config")).unwrap_or(&empty);
    let path = format!("{}.config", gear.path);
    let remedy = format!("see `fluxrig gears doc {type_name}`");
    let outcome = attempt(config, &path, &remedy, problems, |de| build(catalog, type_name, de));
    outcome.value.filter(|_| outcome.is_certain)
}

/// Builds a gear from what a deserializer gives; the error without the words around it.
fn build(catalog: &Catalog, type_name: &str, de: De<'_>) -> Result<Built, DeError> {
    catalog.build(type_name, de).map_err(|error| match error {
        CatalogError::Config { source, .. } => DeError::custom(source),
        other => DeError::custom(other),
    })
}

/// Builds a gear whose configuration was checked.
pub(crate) fn rebuild(catalog: &Catalog, type_name: &str, config: Option<&Node>) -> Result<Built, String> {
    let empty = Node::made(Content::Map(Vec::new()));
    let config = given(config).unwrap_or(&empty);
    let mut session = Session::default();
    let built = root(config, &session, |de| build(catalog, type_name, de));
    // What was noted is masked where it came out of variables.
    built.map_err(|error| session.take_trouble().map_or(error.text, |trouble| trouble.error.text))
}

/// A configuration of which there is more than the key.
fn given(config: Option<&Node>) -> Option<&Node> {
    config.filter(|config| !matches!(&config.content, Content::Scalar(scalar) if scalar.is_null()))
}

/// Two gears that run on one rack must not listen on one address.
fn check_binds(gears: &[Item<'_, GearEntry>], universe: &Universe, problems: &mut Problems) {
    // Only addresses of one port, or of one text, can clash.
    let mut by_place: HashMap<Place<'_>, Vec<Bound<'_>>> = HashMap::new();
    for gear in gears {
        let Some(bind) = gear.node.get("config").and_then(|config| config.get("bind")) else { continue };
        let (Content::Scalar(scalar), Some(text)) = (&bind.content, bind.text()) else { continue };
        let (place, host) = match text.parse::<SocketAddr>() {
            // Port 0 is any that is free.
            Ok(address) if address.port() == 0 => continue,
            Ok(address) => (Place::Port(address.port()), Some(address.ip())),
            Err(_) => (Place::Text(text), None),
        };
        let others = by_place.entry(place).or_default();
        let clash = others
            .iter()
            .find(|other| is_one_host(host, other.host) && universe.meet(&gear.entry.deploy, &other.gear.deploy));
        if let Some(other) = clash {
            let (found, other) = (super::tree::clipped(scalar.source()), other.gear.name.to_string());
            problems.add(bind.pos, format!("{}.config.bind", gear.path), Fault::BindClash { found, other });
        }
        others.push(Bound { gear: &gear.entry, host });
    }
}

/// A gear that listens, and on which host where that can be told.
struct Bound<'g> {
    gear: &'g GearEntry,
    host: Option<IpAddr>,
}

/// What two addresses must share to clash.
#[derive(PartialEq, Eq, Hash)]
enum Place<'t> {
    Port(u16),
    Text(&'t str),
}

fn is_one_host(left: Option<IpAddr>, right: Option<IpAddr>) -> bool {
    left == right || left.is_some_and(|ip| ip.is_unspecified()) || right.is_some_and(|ip| ip.is_unspecified())
}

fn check_wire(wire: &Item<'_, WireEntry>, problems: &mut Problems) {
    if wire.entry.lane == LaneChoice::Turbo {
        for key in ["durability", "backend", "retention"].into_iter().filter(|key| wire.node.get(key).is_some()) {
            wire.refuse(key, Fault::Turbo, problems);
        }
    }
    let backoff = wire.entry.backoff_ms;
    if backoff.first > backoff.max {
        let text = format!(
            "found `first` {} above `max` {}, expected at most that; remedy: swap them",
            backoff.first, backoff.max
        );
        wire.refuse("backoff_ms", Fault::Refused { text }, problems);
    }
}

fn has_ends(wire: &Item<'_, WireEntry>, problems: &mut Problems) -> bool {
    let is_end = |end: &str| end.splitn(2, '.').all(|name| name.parse::<Name>().is_ok());
    let mut has_both = true;
    for (key, end) in [("from", &wire.entry.from), ("to", &wire.entry.to)] {
        if !is_end(end) {
            let found = wire.node.get(key).map_or_else(String::new, Node::shown);
            let text = format!(
                "found {found}, expected `gear.port` or `gear`; remedy: write names of lower-case letters, digits, `_` and `-`"
            );
            wire.refuse(key, Fault::Refused { text }, problems);
            has_both = false;
        }
    }
    has_both
}

/// A turbo wire behind a standard one loses in a crash what was durable before it.
fn warn_of_turbo(sections: &Sections<'_>, warnings: &mut Problems) {
    let gear_of = |end: &str| end.split('.').next().unwrap_or_default().to_owned();
    let is_turbo = |wire: &WireEntry| wire.lane == LaneChoice::Turbo;
    let fed: BTreeSet<String> =
        sections.wires.iter().filter(|wire| !is_turbo(&wire.entry)).map(|wire| gear_of(&wire.entry.to)).collect();
    for wire in sections.wires.iter().filter(|wire| is_turbo(&wire.entry) && fed.contains(&gear_of(&wire.entry.from))) {
        warnings.add(wire.pos("lane"), "", Fault::TurboBehindStandard { wire: wire.entry.asked() });
    }
}
