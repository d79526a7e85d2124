//! Every key changes the plan, and what only a rack with addresses of its own can show: clashes of `bind`.

use std::collections::BTreeSet;
use std::sync::Arc;

use fluxrig_actors::prelude::*;
use fluxrig_actors::{About, Category, Maturity};
use serde_json::Value;

use super::super::check::{Checked, check_text};
use super::super::normal::write_map;
use super::super::problem::Problems;
use super::super::tree::{Content, Node, parse};
use super::*;

/// Listens, as far as a scenario is concerned.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Listener {
    #[serde(default)]
    #[expect(dead_code, reason = "only the scenario looks at it")]
    bind: Option<String>,
}

impl Endpoint for Listener {
    const TYPE: &'static str = "listener";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        io.draining().await;
        Ok(())
    }
}

fn catalog() -> Catalog {
    fluxrig_gears::standard().with_endpoint::<Listener>(About { category: Category::Io, maturity: Maturity::Preview })
}

fn check(text: &str) -> Result<Checked, String> {
    check_text("f", text, &catalog(), &|name| (name == "SITE").then(|| "site".to_owned()))
        .map_err(|errors| errors.to_string())
}

/// Everything that the runtime is told.
fn told(checked: &Checked) -> String {
    let scenario = &checked.scenario;
    let journal = journal_options(scenario.journal, "d");
    let universe = Universe::new(scenario.racks.iter());
    let mut told = format!(
        "{} {:?} {:?} {:?} {:?} {:?} {:?} {:?}\n",
        scenario.meta.name,
        scenario.bus,
        scenario.journal,
        journal.segment_bytes,
        journal.segment_age_max,
        journal.disk,
        scenario.on_failed,
        universe
    );
    for (gear, config) in scenario.gears.iter().zip(&checked.configs) {
        let (members, supervision) = (universe.members(&gear.deploy), gear.supervision.options());
        let config = config.as_ref().map(printed);
        told.push_str(&format!(
            "{} {} {members:?} {supervision:?} {:?} {config:?}\n",
            gear.name, gear.type_name, gear.state
        ));
    }
    for wire in &scenario.wires {
        told.push_str(&format!("{} {:?} {:?}\n", wire.asked(), wire.backend, wire.options()));
    }
    told
}

/// What is under way, what waits to be carried and what waits to be purged all have to fit.
#[test]
fn a_stream_with_a_limit_is_written_in_parts_of_it() {
    let asked = |max_bytes| {
        let journal = journal_options(Journal::Jetstream(StreamJournal { max_bytes, ..StreamJournal::default() }), "d");
        (journal.segment_bytes, journal.disk.max_bytes)
    };
    let usual = asked(None);
    assert_eq!(asked(Some(64 << 20)), (4 << 20, 64 << 20));
    assert_eq!(asked(Some(1 << 40)), (usual.0, 1 << 40), "no longer than those of files");
    assert_eq!(asked(Some(1 << 10)), (64 << 10, 1 << 10), "too short for four of these, which the start refuses");
}

/// Every key below a node, as steps.
fn keys(node: &Node, before: &[String], found: &mut Vec<Vec<String>>) {
    let mut step = |key: &str, value: &Node| {
        let path: Vec<String> = before.iter().cloned().chain([key.to_owned()]).collect();
        // What is inside a configuration is its gear's business.
        if key != "config" {
            keys(value, &path, found);
        }
        path
    };
    match &node.content {
        Content::Map(entries) => {
            let paths: Vec<Vec<String>> = entries.iter().map(|entry| step(&entry.key.text, &entry.value)).collect();
            found.extend(paths);
        }
        Content::List(items) => items.iter().enumerate().for_each(|(idx, item)| {
            step(&idx.to_string(), item);
        }),
        Content::Scalar(_) => {}
    }
}

fn without(node: &Node, path: &[String]) -> Node {
    let (step, rest) = path.split_first().unwrap();
    let mut node = node.clone();
    match &mut node.content {
        Content::Map(entries) if rest.is_empty() => entries.retain(|entry| entry.key.text != *step),
        Content::Map(entries) => {
            let entry = entries.iter_mut().find(|entry| entry.key.text == *step).unwrap();
            entry.value = without(&entry.value, rest);
        }
        Content::List(items) => {
            let idx: usize = step.parse().unwrap();
            items[idx] = without(&items[idx], rest);
        }
        Content::Scalar(_) => unreachable!("a scalar has no keys"),
    }
    node
}

fn printed(node: &Node) -> String {
    let mut text = String::new();
    write_map(node.entries(), 0, &mut text);
    text
}

macro_rules! good {
    ($($name:literal)*) => { &[$(($name, include_str!(concat!("../../../fixtures/good/", $name, ".yaml")))),*] };
}

/// Fixtures that together set every key: a scenario has one bus.
const EVERY_KEY: &[(&str, &str)] =
    good!["every-key" "bus-managed" "bus-servers" "bus-nkey" "bus-credentials" "bus-address"];

#[test]
fn every_key_changes_the_plan_or_is_needed() {
    let mut count = 0;
    for (name, text) in EVERY_KEY {
        // These only name the scenario, or stand at their default there and not elsewhere.
        let silent: &[&str] = match *name {
            "every-key" => &["bus", "version", "lane", "backend", "site"],
            _ => &["version", "managed"],
        };
        let top = parse(text, &mut Problems::new("f")).unwrap();
        let whole = told(&check(&printed(&top)).unwrap());
        let mut paths = Vec::new();
        keys(&top, &[], &mut paths);
        count += paths.len();
        for path in paths.iter().filter(|path| !silent.contains(&path.last().unwrap().as_str())) {
            if let Ok(checked) = check(&printed(&without(&top, path))) {
                assert!(told(&checked) != whole, "{name}: {path:?} changes nothing");
            }
        }
    }
    assert!(count > 100, "{count}");
}

#[test]
fn the_fixtures_of_every_key_have_every_key() {
    let mut paths = Vec::new();
    for (_, text) in EVERY_KEY {
        keys(&parse(text, &mut Problems::new("f")).unwrap(), &[], &mut paths);
    }
    let written: BTreeSet<&str> = paths.iter().map(|path| path.last().unwrap().as_str()).collect();
    let schema = super::super::scenario_schema(&Catalog::new());
    let mut left = vec![&schema];
    let mut count = 0;
    while let Some(value) = left.pop() {
        if let Some(properties) = value["properties"].as_object() {
            for (key, about) in properties {
                assert!(written.contains(key.as_str()), "no fixture sets `{key}`");
                let is_said = about["description"].is_string() || about["$ref"].is_string();
                assert!(is_said, "`{key}` has no manual");
                count += 1;
            }
        }
        match value {
            Value::Object(map) => left.extend(map.values()),
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    assert!(count > 35, "{count}");
}

#[test]
fn a_turbo_wire_is_told_as_one() {
    let text = |lane: &str| {
        format!(
            "meta: {{ name: lane, version: 0.1.0 }}\ngears:\n  - {{ name: a, type: generator }}\n  \
             - {{ name: b, type: file, config: {{ path: x }} }}\nwires: [{{ from: a, to: b, lane: {lane} }}]\n"
        )
    };
    let lane = |word: &str| check(&text(word)).unwrap().scenario.wires[0].options().lane;
    assert_eq!((lane("turbo"), lane("standard")), (Lane::Turbo, Lane::Flush));
}

fn binds(racks: &str, first: &str, second: &str) -> Result<Checked, String> {
    check(&format!(
        "meta: {{ name: binds, version: 0.1.0 }}\nracks: {racks}\ngears:\n  \
         - {{ name: first, type: listener, {first} }}\n  - {{ name: second, type: listener, {second} }}\n"
    ))
}

#[test]
fn two_gears_do_not_listen_on_one_address() {
    let config = |bind: &str| format!("config: {{ bind: \"{bind}\" }}");
    let clash = |first: &str, second: &str| binds("[]", &config(first), &config(second)).err();
    let error = clash("127.0.0.1:8583", "127.0.0.1:8583").unwrap();
    assert_eq!(
        error,
        "f:5:53: `gears[1].config.bind`: found `127.0.0.1:8583`, on which gear `first` listens already, expected an \
         address of its own; remedy: change one of them"
    );
    assert!(clash("0.0.0.0:8583", "127.0.0.1:8583").is_some());
    assert!(clash("[::]:8583", "[::1]:8583").is_some());
    assert!(clash("pipe", "pipe").is_some());
    assert!(clash("127.0.0.1:0", "127.0.0.1:0").is_none());
    assert!(clash("127.0.0.1:1", "127.0.0.2:1").is_none());
    assert!(clash("127.0.0.1:1", "127.0.0.1:2").is_none());
}

#[test]
fn gears_of_different_racks_may_listen_on_one_address() {
    let gear = |rack: &str| format!("deploy: {rack}, config: {{ bind: \"127.0.0.1:1\" }}");
    let racks =
        "[{ name: north, labels: { kind: kiosk } }, { name: south }, { group: kiosks, match: { kind: kiosk } }]";
    assert!(binds(racks, &gear("north"), &gear("south")).is_ok());
    assert!(binds(racks, &gear("north"), &gear("kiosks")).is_err());
    assert!(binds(racks, &gear("kiosks"), &gear("south")).is_ok());
}

#[test]
fn a_rack_runs_its_own_gears() {
    let text = "meta: { name: split, version: 0.1.0 }\nracks: [{ name: north }, { name: south }]\ngears:\n  \
        - { name: a, type: listener, deploy: north }\n  - { name: b, type: listener, deploy: south }\n  \
        - { name: c, type: listener }\n";
    let checked = check(text).unwrap();
    let universe = Universe::new(checked.scenario.racks.iter());
    let deploys: Vec<&Option<Name>> = checked.scenario.gears.iter().map(|gear| &gear.deploy).collect();
    assert_eq!(universe.subsets(&deploys).into_keys().collect::<Vec<_>>(), [vec![0, 2], vec![1, 2]]);
    assert!(checked.rig(Some("north"), &catalog(), "d".as_ref()).unwrap().check().is_ok());
    assert!(checked.rig(None, &catalog(), "d".as_ref()).is_err());
}
