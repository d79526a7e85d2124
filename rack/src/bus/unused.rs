//! What on the bus a rack has made, or could have, and its scenario has no place for any more. It is removed only when
//! somebody says so: what it still holds is then gone.

use std::collections::BTreeSet;

use fluxrig_actors::protocol::subject::Name;
use serde::Serialize;

use crate::scenario::cross::Crossing;

/// A stream of the bus as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its name.
    pub(crate) name: String,
    /// Messages on it.
    pub(crate) messages: u64,
    /// Who reads it.
    pub(crate) consumers: Vec<FoundConsumer>,
}

/// A consumer of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundConsumer {
    /// Its name.
    pub(crate) name: String,
    /// The rack that reads, where one of ours made it.
    pub(crate) rack: Option<String>,
    /// Messages that it has not handled.
    pub(crate) pending: u64,
}

/// Something that nobody needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Unused {
    /// `stream` or `consumer`.
    pub(crate) kind: &'static str,
    /// `STREAM`, or `STREAM/CONSUMER`.
    pub(crate) name: String,
    /// What is still on it, or waits for it.
    pub(crate) messages: u64,
}

/// What a rack needs on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    rack: String,
    /// It publishes.
    has_outs: bool,
    /// `STREAM/CONSUMER` of everybody who reads what it publishes, and of itself.
    consumers: BTreeSet<String>,
}

fn stream_of(rack: &Name) -> String {
    format!("FLUX_MSG_{rack}")
}

fn consumer_of(rack: &Name, endpoint: &str) -> String {
    format!("{rack}_{endpoint}")
}

impl Expected {
    /// Of a rack with these ends.
    pub(crate) fn of(rack: &Name, crossing: &Crossing) -> Self {
        let read = crossing.outs.iter().flat_map(|end| {
            let stream = stream_of(rack);
            end.readers.iter().map(move |(reader, name)| format!("{stream}/{}", consumer_of(reader, name)))
        });
        let reads = crossing.ins.iter();
        let reads = reads.map(|end| format!("{}/{}", stream_of(&end.subject.rack), consumer_of(rack, &end.name)));
        Self { rack: rack.to_string(), has_outs: !crossing.outs.is_empty(), consumers: read.chain(reads).collect() }
    }

    fn is_own(&self, stream: &str) -> bool {
        stream.strip_prefix("FLUX_MSG_") == Some(&self.rack)
    }
}

/// Of what was found, that which the rack answers for and does not need: its own stream when it publishes nothing,
/// readers of it that the scenario does not know, and its own consumers of other racks' streams. What strangers made,
/// and journals, are none of its business.
pub(crate) fn unused(expected: &Expected, found: &[Found]) -> Vec<Unused> {
    let mut unused = Vec::new();
    for stream in found.iter().filter(|stream| stream.name.starts_with("FLUX_MSG_")) {
        let is_own = expected.is_own(&stream.name);
        if is_own && !expected.has_outs {
            unused.push(Unused { kind: "stream", name: stream.name.clone(), messages: stream.messages });
            continue;
        }
        for consumer in &stream.consumers {
            let name = format!("{}/{}", stream.name, consumer.name);
            let is_ours = match consumer.rack.as_deref() {
                None => false,
                Some(rack) => is_own || rack == expected.rack,
            };
            if is_ours && !expected.consumers.contains(&name) {
                unused.push(Unused { kind: "consumer", name, messages: consumer.pending });
            }
        }
    }
    unused
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::check_text;

    fn expected(rack: &str) -> Expected {
        let text = "meta: { name: f, version: 0.1.0 }\nbus: nats://h:4222\nracks: [{ name: north }, { name: south }, { name: west }]\n\
                    gears:\n  - { name: source, type: generator, deploy: north }\n  - { name: shown, type: log, deploy: south }\n\
                    wires: [{ from: source, to: shown }]\n";
        let checked = check_text("f", text, &fluxrig_gears::standard(), &|_| None).unwrap();
        Expected::of(&rack.parse().unwrap(), &checked.crossing(Some(rack)).unwrap())
    }

    fn stream(name: &str, consumers: &[(&str, Option<&str>)]) -> Found {
        let consumers = consumers.iter().map(|(name, rack)| FoundConsumer {
            name: (*name).to_owned(),
            rack: rack.map(str::to_owned),
            pending: 3,
        });
        Found { name: name.to_owned(), messages: 7, consumers: consumers.collect() }
    }

    #[test]
    fn only_what_is_the_racks_own_and_not_in_its_scenario_is_unused() {
        let reader = "south_bus-in-north--source--out";
        let found = [
            stream("FLUX_JOURNAL_north", &[]),
            stream("FLUX_MSG_north", &[(reader, Some("south")), ("west_bus-in-x", Some("west")), ("auditor", None)]),
            stream("FLUX_MSG_south", &[("north_bus-in-y", Some("north"))]),
        ];
        let names = |rack: &str| -> Vec<String> {
            unused(&expected(rack), &found)
                .into_iter()
                .map(|one| format!("{} {} {}", one.kind, one.name, one.messages))
                .collect()
        };
        assert_eq!(
            names("north"),
            ["consumer FLUX_MSG_north/west_bus-in-x 3", "consumer FLUX_MSG_south/north_bus-in-y 3"]
        );
        // It publishes nothing any more.
        assert_eq!(names("south"), ["stream FLUX_MSG_south 7"]);
        assert_eq!(names("west"), ["consumer FLUX_MSG_north/west_bus-in-x 3"]);
    }
}
