//! The normalised form of a scenario: every key in one order, defaults written out, block style.
//! It can be read again, and its own normalised form is the same text.

use std::fmt::Display;

use super::de::{Meaning, meaning};
use super::tree::{Content, Entry, Node, Pos, Scalar};
use super::{
    Bus, Checked, FileJournal, GearEntry, Journal, ManagedBus, RackEntry, StateChoice, StreamJournal, Supervision,
    WireEntry,
};

impl Checked {
    /// The scenario as text. Configurations keep their `${…}` as they were written; elsewhere variables are replaced.
    #[must_use]
    pub fn normal_form(&self) -> String {
        let scenario = &self.scenario;
        let gears = scenario.gears.iter().zip(&self.configs).map(|(gear, config)| gear_node(gear, config.as_ref()));
        let mut top = vec![
            entry("meta", map([word("name", &scenario.meta.name), word("version", &scenario.meta.version)])),
            entry("bus", bus_node(&scenario.bus, self.bus.as_ref())),
            entry("journal", journal_node(scenario.journal)),
            word("on_failed", scenario.on_failed.word()),
        ];
        if !scenario.racks.is_empty() {
            top.push(entry("racks", list(scenario.racks.iter().map(rack_node))));
        }
        top.push(entry("gears", list(gears)));
        top.push(entry("wires", list(scenario.wires.iter().map(wire_node))));
        let mut out = String::new();
        write_map(&top, 0, &mut out);
        out
    }
}

/// What stands there, `${…}` as it was written, since secrets come from variables; and the defaults of what does not.
fn bus_node(bus: &Bus, written: Option<&Node>) -> Node {
    let given = match written.map(|node| &node.content) {
        Some(Content::Map(entries)) => entries.clone(),
        Some(Content::Scalar(scalar)) if bus.is_there() => {
            let server = Node::made(Content::Scalar(Scalar { is_plain: false, ..scalar.clone() }));
            vec![entry("servers", list([server].into_iter()))]
        }
        _ => return word("bus", "embedded").value,
    };
    let defaults = match bus {
        Bus::Embedded => Vec::new(),
        Bus::Servers(options) => vec![word("replicas", options.replicas), word("assume_sync", options.assume_sync)],
        Bus::Managed(ManagedBus { host, max_restarts, within_ms, backoff_ms, .. }) => vec![
            quoted("host", &host.to_string()),
            word("max_restarts", max_restarts),
            word("within_ms", within_ms),
            entry("backoff_ms", map([word("first", backoff_ms.first), word("max", backoff_ms.max)])),
        ],
    };
    let is_given = |key: &str| given.iter().any(|entry| entry.key.text == key && key != "backoff_ms");
    let missing: Vec<Entry> = defaults.into_iter().filter(|default| !is_given(&default.key.text)).collect();
    map(given.into_iter().filter(|entry| entry.key.text != "backoff_ms").chain(missing))
}

fn journal_node(journal: Journal) -> Node {
    let (key, entries) = match journal {
        Journal::File(FileJournal { segment_bytes, max_bytes, segment_age_max_ms }) => {
            let mut entries = vec![word("segment_bytes", segment_bytes), word("max_bytes", max_bytes)];
            entries.extend(segment_age_max_ms.map(|age| word("segment_age_max_ms", age)));
            ("file", entries)
        }
        Journal::Jetstream(StreamJournal { max_bytes, durability, lease_ms, accept_lost_tail }) => {
            let mut entries: Vec<Entry> = max_bytes.map(|bytes| word("max_bytes", bytes)).into_iter().collect();
            entries.push(word("durability", durability.word()));
            entries.extend(lease_ms.map(|lease| word("lease_ms", lease)));
            entries.push(word("accept_lost_tail", accept_lost_tail));
            ("jetstream", entries)
        }
    };
    map([entry(key, map(entries))])
}

fn rack_node(rack: &RackEntry) -> Node {
    let texts = |key, texts: &std::collections::BTreeMap<String, String>| {
        (!texts.is_empty()).then(|| entry(key, map(texts.iter().map(|(key, text)| quoted(key, text)))))
    };
    let mut entries = Vec::new();
    entries.extend(rack.name.as_ref().map(|name| word("name", name)));
    entries.extend(texts("labels", &rack.labels));
    entries.extend(rack.group.as_ref().map(|name| word("group", name)));
    entries.extend(texts("match", &rack.matches));
    map(entries)
}

fn gear_node(gear: &GearEntry, config: Option<&Node>) -> Node {
    let mut entries = vec![word("name", &gear.name), word("type", &gear.type_name)];
    entries.extend(gear.deploy.as_ref().map(|deploy| word("deploy", deploy)));
    let has_config = |config: &&Node| match &config.content {
        Content::Scalar(scalar) => !scalar.is_null(),
        Content::List(_) => true,
        Content::Map(entries) => !entries.is_empty(),
    };
    entries.extend(config.filter(has_config).map(|config| entry("config", config.clone())));
    let Supervision { restart, max_restarts, within_ms, backoff_ms, handle_timeout_ms } = gear.supervision;
    entries.push(entry(
        "supervision",
        map([
            word("restart", restart.word()),
            word("max_restarts", max_restarts),
            word("within_ms", within_ms),
            entry("backoff_ms", map([word("first", backoff_ms.first), word("max", backoff_ms.max)])),
            word("handle_timeout_ms", handle_timeout_ms),
        ]),
    ));
    entries.extend(gear.state.map(|state: StateChoice| word("state", state.word())));
    map(entries)
}

fn wire_node(wire: &WireEntry) -> Node {
    let mut entries = vec![
        word("from", &wire.from),
        word("to", &wire.to),
        word("lane", wire.lane.word()),
        word("capacity", wire.capacity),
    ];
    let is_standard = wire.lane == super::LaneChoice::Standard;
    entries.extend(is_standard.then(|| word("durability", wire.durability.unwrap_or_default().word())));
    entries.push(word("max_deliver", wire.max_deliver));
    let backoff = wire.backoff_ms;
    entries.push(entry("backoff_ms", map([word("first", backoff.first), word("max", backoff.max)])));
    entries.push(word("partitions", wire.partitions));
    entries.extend(wire.partition_by.as_ref().map(|path| word("partition_by", path)));
    entries.extend(wire.retention.as_ref().map(|retention| word("retention", retention)));
    entries.extend(is_standard.then(|| word("backend", wire.backend.word())));
    map(entries)
}

fn word(key: &str, value: impl Display) -> Entry {
    let scalar = Scalar::plain(value.to_string());
    // A gear may be called `null`.
    let is_plain = !scalar.is_null();
    entry(key, Node::made(Content::Scalar(Scalar { is_plain, ..scalar })))
}

fn quoted(key: &str, text: &str) -> Entry {
    let scalar = Scalar { text: text.to_owned(), is_plain: false, source: None };
    // What was replaced once must not be looked into again.
    let scalar = Scalar { source: text.contains("${").then(|| text.replace("${", "$${")), ..scalar };
    entry(key, Node::made(Content::Scalar(scalar)))
}

fn entry(key: &str, value: Node) -> Entry {
    Entry { key: Scalar::plain(key), key_pos: Pos::default(), value }
}

fn map(entries: impl IntoIterator<Item = Entry>) -> Node {
    Node::made(Content::Map(entries.into_iter().collect()))
}

fn list(items: impl Iterator<Item = Node>) -> Node {
    Node::made(Content::List(items.collect()))
}

/// Writes entries, each on a line of its own; the caller has written the indent of the first.
pub(crate) fn write_map(entries: &[Entry], indent: usize, out: &mut String) {
    for (idx, entry) in entries.iter().enumerate() {
        if idx > 0 {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(&scalar_text(&entry.key));
        out.push(':');
        write_value(&entry.value, indent, out);
    }
}

/// Writes what stands behind a key.
fn write_value(value: &Node, indent: usize, out: &mut String) {
    match &value.content {
        Content::Scalar(scalar) => {
            out.push(' ');
            out.push_str(&scalar_text(scalar));
            out.push('\n');
        }
        Content::Map(entries) if entries.is_empty() => out.push_str(" {}\n"),
        Content::List(items) if items.is_empty() => out.push_str(" []\n"),
        Content::Map(entries) => {
            out.push('\n');
            out.push_str(&" ".repeat(indent + 2));
            write_map(entries, indent + 2, out);
        }
        Content::List(items) => {
            out.push('\n');
            write_list(items, indent + 2, out);
        }
    }
}

fn write_list(items: &[Node], indent: usize, out: &mut String) {
    for item in items {
        out.push_str(&" ".repeat(indent));
        out.push('-');
        match &item.content {
            Content::Map(entries) if !entries.is_empty() => {
                out.push(' ');
                write_map(entries, indent + 2, out);
            }
            _ => write_value(item, indent, out),
        }
    }
}

/// A scalar so that it is read again as the same text of the same kind.
fn scalar_text(scalar: &Scalar) -> String {
    let text = scalar.source();
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '+' | '$' | '>' | '~');
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.'));
    let is_variable = scalar.is_plain && scalar.source.is_some() && is_plain_variable(text);
    let is_word = scalar.is_plain && starts_well && text.chars().all(is_safe);
    let has_meaning = scalar.is_plain && !matches!(meaning(scalar), Meaning::Text(_));
    if is_word || is_variable || (has_meaning && scalar.source.is_none()) {
        // Nothing at all is written as a word, so that it can be seen.
        return if text.is_empty() { "null".to_owned() } else { text.to_owned() };
    }
    serde_json::to_string(text).expect("a text is JSON")
}

/// `${NAME}` alone, whose value may be a number: without quotes it stays one.
fn is_plain_variable(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '{' | '}' | ':' | '-' | '.' | '/');
    text.starts_with("${") && text.chars().all(is_plain) && !text.contains(": ") && !text.ends_with(':')
}

#[cfg(test)]
mod tests;
