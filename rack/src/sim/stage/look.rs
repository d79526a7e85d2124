//! Follows the wires of a scenario from one socket to the next: what is spoken behind it, what may be expected there, and
//! whether all comes one way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use fluxrig_actors::Lane;
use fluxrig_gears::Mode;
use fluxrig_gears::iso8583::Spec;
use fluxrig_gears::sim::is_same_place;
use fluxrig_gears::yaml::{Content, Node};

use super::{Entrance, Exit, Part, Promise, Socket, Speech};
use crate::scenario::{Checked, WireEntry};

/// Beyond the time that a switch may take by itself, so much is allowed for lines and flushes.
const SLACK: Duration = Duration::from_secs(15);

/// Defaults of a `conductor`.
const TIMEOUT_MS: u64 = 30_000;
const WINDOW_MS: u64 = 60_000;

/// The rules of a `conductor`, as far as they can be seen from outside.
struct Switch {
    timeout: Duration,
    window: Duration,
    is_durable: bool,
}

/// A scenario's gears and wires, to be followed.
pub(super) struct Look<'c> {
    pub(super) checked: &'c Checked,
    pub(super) parts: &'c [Part<'c>],
    pub(super) wires: &'c [&'c WireEntry],
    pub(super) sockets: &'c BTreeMap<&'c str, Socket>,
}

impl<'c> Look<'c> {
    pub(super) fn is_dialed(&self, address: &str) -> bool {
        self.sockets.values().any(|other| matches!(other.mode, Mode::Client) && is_same_place(&other.address, address))
    }

    pub(super) fn entrance(&self, name: &str, socket: &Socket) -> Entrance {
        let inside = self.inside(name);
        Entrance {
            gear: name.to_owned(),
            address: socket.address.clone(),
            frames: socket.frames.clone(),
            speech: self.speech(&inside),
            promise: self.promise(name, &inside),
        }
    }

    /// A switch in front of a client sends nothing twice; without one every repeat of a terminal is sent.
    pub(super) fn exit(&self, name: &str, socket: &Socket) -> Exit {
        let is_served = self
            .sockets
            .values()
            .any(|other| matches!(other.mode, Mode::Server) && is_same_place(&other.address, &socket.address));
        let before = self.follow(name, |wire| gear_of(&wire.to), |wire| gear_of(&wire.from));
        let switches: Vec<Switch> = before.iter().filter_map(|part| self.switch(part)).collect();
        let once_within = switches.iter().filter(|switch| switch.is_durable).map(|switch| switch.window).min();
        let behind = self.follow(name, |wire| gear_of(&wire.from), |wire| gear_of(&wire.to));
        let speech = match self.speech(&behind) {
            // What only goes out is written by an encoder in front.
            Speech::Lines => self.speech(&before),
            speech => speech,
        };
        Exit {
            gear: name.to_owned(),
            address: socket.address.clone(),
            frames: socket.frames.clone(),
            speech,
            is_served,
            once_within,
            behind: self.single_file(name),
            may_resend: socket.may_resend,
        }
    }

    /// The gears that a message meets behind an endpoint, before it comes to the next one.
    fn inside(&self, name: &str) -> Vec<&'c Part<'c>> {
        self.follow(name, |wire| gear_of(&wire.from), |wire| gear_of(&wire.to))
    }

    fn follow(
        &self,
        name: &str,
        here: impl Fn(&'c WireEntry) -> &'c str,
        there: impl Fn(&'c WireEntry) -> &'c str,
    ) -> Vec<&'c Part<'c>> {
        let mut seen = BTreeSet::new();
        let mut open = VecDeque::from([name.to_owned()]);
        let mut found = Vec::new();
        while let Some(from) = open.pop_front() {
            for next in self.wires.iter().filter(|wire| here(wire) == from).map(|wire| there(wire)) {
                if seen.insert(next)
                    && let Some(part) = self.parts.iter().find(|part| part.name == next)
                {
                    found.push(part);
                    if !self.sockets.contains_key(next) {
                        open.push_back(next.to_owned());
                    }
                }
            }
        }
        found
    }

    fn speech(&self, parts: &[&Part<'_>]) -> Speech {
        let spec = parts
            .iter()
            .filter(|part| part.kind == "codec_iso8583")
            .find_map(|part| Spec::load(self.checked.setting(part.name, "spec")?).ok());
        spec.map_or(Speech::Lines, Speech::Iso8583)
    }

    fn promise(&self, name: &str, inside: &[&Part<'_>]) -> Promise {
        if !self.leads_back(name) {
            return Promise::Silence;
        }
        if let Some(switch) = inside.iter().find_map(|part| self.switch(part)) {
            return Promise::Outcome(switch.timeout + SLACK);
        }
        // A host may be silent, and so may whoever a client dials.
        let may_be_silent =
            |part: &&Part<'_>| part.kind == "iso8583_host" || part.name != name && self.sockets.contains_key(part.name);
        if inside.iter().any(may_be_silent) { Promise::Nothing } else { Promise::Outcome(SLACK) }
    }

    /// Whether anything that comes in may go out there again, also by way of other endpoints.
    fn leads_back(&self, name: &str) -> bool {
        let mut seen = BTreeSet::from([name]);
        let mut open = vec![name];
        while let Some(from) = open.pop() {
            for to in self.wires.iter().filter(|wire| gear_of(&wire.from) == from).map(|wire| gear_of(&wire.to)) {
                if to == name {
                    return true;
                }
                if seen.insert(to) {
                    open.push(to);
                }
            }
        }
        false
    }

    fn switch(&self, part: &Part<'_>) -> Option<Switch> {
        if part.kind != "conductor" {
            return None;
        }
        let config = self.checked.configs.get(part.idx)?.as_ref()?;
        let repeats = config.get("repeats");
        let of_repeats = |key| repeats.and_then(|repeats| repeats.get(key)).and_then(|node| node.text());
        let of_routes = match config.get("routes").map(|routes| &routes.content) {
            Some(Content::List(routes)) => routes.as_slice(),
            _ => &[],
        };
        let timeout = |node: &Node| node.get("timeout_ms").and_then(Node::text).and_then(|text| text.parse().ok());
        let of_gear = timeout(config).unwrap_or(TIMEOUT_MS);
        let longest = of_routes.iter().filter_map(timeout).max().map_or(of_gear, |of_route: u64| of_route.max(of_gear));
        Some(Switch {
            timeout: Duration::from_millis(longest),
            window: Duration::from_millis(
                of_repeats("window_ms").and_then(|text| text.parse().ok()).unwrap_or(WINDOW_MS),
            ),
            is_durable: of_repeats("durable") != Some("false"),
        })
    }

    /// The endpoint from which all that comes to this one has come one way, one by one.
    fn single_file(&self, name: &str) -> Option<String> {
        let mut at = name.to_owned();
        for _ in 0..self.parts.len() {
            let mut before = self.wires.iter().filter(|wire| gear_of(&wire.to) == at);
            let (Some(wire), None) = (before.next(), before.next()) else { return None };
            if wire.partitions.get() > 1 {
                return None;
            }
            gear_of(&wire.from).clone_into(&mut at);
            if self.sockets.contains_key(at.as_str()) {
                return Some(at);
            }
            // What decides or holds back may let one pass another.
            let kind = self.parts.iter().find(|part| part.name == at).map(|part| part.kind);
            if !matches!(kind, Some("codec_iso8583" | "map")) {
                return None;
            }
        }
        None
    }

    pub(super) fn lane(&self) -> Lane {
        self.wires.iter().map(|wire| wire.options().lane).min().unwrap_or_default()
    }
}

fn gear_of(end: &str) -> &str {
    end.split('.').next().unwrap_or(end)
}
