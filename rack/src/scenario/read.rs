//! From the tree to the sections of a scenario, each with the node it came from, however many of them are wrong.

use fluxrig_actors::nearest;
use fluxrig_actors::protocol::subject::Name;

use super::attempt::read;
use super::bus::read_bus;
use super::problem::{Fault, Problems};
use super::tree::{Content, Node};
use super::{Bus, FailedChoice, FileJournal, GearEntry, Journal, Meta, RackEntry, StreamJournal, WireEntry};

/// Keys of the top, in the order in which they are printed.
pub(crate) const TOP: &[&str] = &["meta", "bus", "journal", "on_failed", "racks", "gears", "wires"];

/// A list's item as it was read, and as it stands in the file.
#[derive(Debug)]
pub(crate) struct Item<'t, T> {
    pub(crate) path: String,
    pub(crate) node: &'t Node,
    pub(crate) entry: T,
}

/// Everything that could be read.
#[derive(Debug)]
pub(crate) struct Sections<'t> {
    pub(crate) meta: Option<Meta>,
    pub(crate) bus: Bus,
    /// There is one, which could not be read: what needs one is not said to miss it.
    pub(crate) is_bus_unread: bool,
    pub(crate) journal: Journal,
    pub(crate) on_failed: FailedChoice,
    pub(crate) racks: Vec<Item<'t, RackEntry>>,
    pub(crate) gears: Vec<Item<'t, GearEntry>>,
    pub(crate) wires: Vec<Item<'t, WireEntry>>,
    /// Names of gears that could not be read.
    pub(crate) unread: Vec<String>,
}

/// A smaller file of ours, which is called `name` in errors; or everything that is wrong with it.
#[cfg(feature = "sim")]
pub(crate) fn read_yaml<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<T, String> {
    let mut problems = Problems::new(name);
    let top = super::tree::parse(text, &mut problems);
    let value = top.and_then(|top| read(&top, "", &mut problems));
    match value {
        Some(value) if problems.is_empty() => Ok(value),
        _ => Err(super::ScenarioErrors(problems.into_vec()).to_string()),
    }
}

pub(crate) fn sections<'t>(top: &'t Node, problems: &mut Problems) -> Sections<'t> {
    for entry in top.entries().iter().filter(|entry| !TOP.contains(&entry.key.text.as_str())) {
        let listed = TOP.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let remedy = nearest(&entry.key.text, TOP.iter().copied());
        let remedy = remedy.map_or_else(|| "use one of these".to_owned(), |key| format!("use `{key}`"));
        let text = format!("found an unknown key, expected one of {listed}; remedy: {remedy}, or remove it");
        problems.add(entry.key_pos, super::tree::clipped(&entry.key.text), Fault::Refused { text });
    }
    for key in ["meta", "gears"].into_iter().filter(|key| top.get(key).is_none()) {
        let text = format!("found no key `{key}`, expected one; remedy: add `{key}`");
        problems.add(top.pos, "", Fault::Refused { text });
    }
    let section = |key: &'static str| top.get(key).map(|node| (node, key));
    let meta = section("meta").and_then(|(node, key)| read::<Meta>(node, key, problems));
    let bus = section("bus").and_then(|(node, _)| read_bus(node, problems));
    let is_bus_unread = bus.is_none() && top.get("bus").is_some();
    let bus = bus.unwrap_or_default();
    let journal = section("journal").and_then(|(node, key)| read(node, key, problems)).unwrap_or_default();
    let on_failed = section("on_failed").and_then(|(node, key)| read(node, key, problems)).unwrap_or_default();
    check_journal(top, journal, problems);
    if matches!(journal, Journal::Jetstream(_)) && !bus.is_there() && !is_bus_unread {
        problems.add(journal_key(top, "jetstream").pos, "journal", Fault::NoBusForJournal);
    }
    let (racks, _) = items(top, "racks", problems, read::<RackEntry>);
    let (gears, unread) = items(top, "gears", problems, read::<GearEntry>);
    let (wires, _) = items(top, "wires", problems, read::<WireEntry>);
    let unread = unread.into_iter().filter_map(|node| node.get("name")?.text().map(str::to_owned)).collect();
    Sections { meta, bus, is_bus_unread, journal, on_failed, racks, gears, wires, unread }
}

/// What the journal refuses when it opens.
fn check_journal(top: &Node, journal: Journal, problems: &mut Problems) {
    const SEGMENT_BYTES_MIN: u64 = 64 << 10;
    const LEASE_MS: std::ops::RangeInclusive<u32> = 1000..=3_600_000;
    let mut refuse = |key: &str, path: &str, text: String| {
        problems.add(journal_key(top, key).pos, path, Fault::Refused { text });
    };
    match journal {
        Journal::File(FileJournal { segment_bytes, .. }) if segment_bytes < SEGMENT_BYTES_MIN => {
            let text = format!("found {segment_bytes}, expected at least {SEGMENT_BYTES_MIN}; remedy: raise it");
            refuse("segment_bytes", "journal.file.segment_bytes", text);
        }
        Journal::Jetstream(StreamJournal { lease_ms: Some(lease), .. }) if !LEASE_MS.contains(&lease.get()) => {
            let text = format!(
                "found {lease}, expected {} to {}, since a pause of the machine ends a shorter one; remedy: 5000 suits most",
                LEASE_MS.start(),
                LEASE_MS.end()
            );
            refuse("lease_ms", "journal.jetstream.lease_ms", text);
        }
        _ => {}
    }
}

/// The node of one of the journal's options, or the nearest to it that there is.
pub(crate) fn journal_key<'t>(top: &'t Node, key: &str) -> &'t Node {
    let journal = top.get("journal").unwrap_or(top);
    let file = journal.get("file").or(journal.get("jetstream")).unwrap_or(journal);
    file.get(key).unwrap_or(file)
}

type Read<T> = fn(&Node, &str, &mut Problems) -> Option<T>;

/// Items that could be read, and the nodes of those that could not.
fn items<'t, T>(top: &'t Node, key: &str, problems: &mut Problems, read: Read<T>) -> (Vec<Item<'t, T>>, Vec<&'t Node>) {
    let Some(list) = top.get(key) else { return (Vec::new(), Vec::new()) };
    let nodes = match &list.content {
        Content::List(nodes) => nodes.as_slice(),
        Content::Scalar(scalar) if scalar.is_null() => &[],
        _ => {
            let (found, expected) = (list.shown(), "a list".to_owned());
            problems.add(list.pos, key, Fault::Kind { found, expected });
            &[]
        }
    };
    let (mut items, mut unread) = (Vec::new(), Vec::new());
    for (idx, node) in nodes.iter().enumerate() {
        let path = format!("{key}[{idx}]");
        match read(node, &path, problems) {
            Some(entry) => items.push(Item { path, node, entry }),
            None => unread.push(node),
        }
    }
    (items, unread)
}

impl<T> Item<'_, T> {
    /// Where a key's value stands; the whole item where the key is not written.
    pub(crate) fn pos(&self, key: &str) -> super::Pos {
        self.node.get(key).unwrap_or(self.node).pos
    }

    /// Says that a key's value cannot be.
    pub(crate) fn refuse(&self, key: &str, fault: Fault, problems: &mut Problems) {
        problems.add(self.pos(key), format!("{}.{key}", self.path), fault);
    }
}

/// The names that `deploy` may use, racks before groups.
pub(crate) fn rack_names(racks: &[RackEntry]) -> impl Iterator<Item = &Name> {
    racks.iter().filter_map(|rack| rack.name.as_ref()).chain(racks.iter().filter_map(|rack| rack.group.as_ref()))
}
