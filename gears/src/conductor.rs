//! `conductor`: the transaction switch. It sends each request to one destination, matches the replies, watches the time,
//! and sees to it that each request has exactly one outcome, across restarts.

mod config;
mod fields;
mod flow;
mod key;
mod record;
mod route;
mod table;

use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::{Flags, SmolStr};
use schemars::{Schema, SchemaGenerator};

use crate::map::place::Place;
use crate::predicate::Predicate;
use config::Config;
use key::{Key, Mti};
use record::{Layouts, Record};
use route::{Peer, Tree};
use table::{Counts, DoneSlot, OpenSlot, Table};

pub use crate::predicate::PredicateError;
pub use config::ConductorError;

/// The transaction switch, as its configuration says.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Config")]
pub struct Conductor {
    mti: Option<Place>,
    /// Types of replies with those of their requests, where they are not the usual pair.
    replies: Vec<(Mti, Mti)>,
    layouts: Layouts,
    open_max: usize,
    destinations: Vec<Destination>,
    routes: Vec<Route>,
    /// How many `round_robin` there are.
    cursors: usize,
    repeats: Repeats,
}

#[derive(Clone, Debug)]
struct Destination {
    name: SmolStr,
    link: Option<SmolStr>,
    open_max: usize,
}

#[derive(Clone, Debug)]
struct Route {
    when: Option<Predicate>,
    timeout: Duration,
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    /// Out of this port, nothing kept.
    Forward(SmolStr),
    Send(Tree),
}

#[derive(Clone, Copy, Debug)]
struct Repeats {
    window_ns: i64,
    max: usize,
    is_durable: bool,
    /// All of an answer is said again, or a list of its fields.
    is_whole: bool,
}

/// Ports that every conductor has.
mod port {
    pub(super) const IN: &str = "in";
    pub(super) const REPLY: &str = "reply";
    pub(super) const OUT: &str = "out";
    pub(super) const ERROR: &str = "error";
    pub(super) const UNMATCHED: &str = "unmatched";
    pub(super) const FIXED: [&str; 5] = [IN, REPLY, OUT, ERROR, UNMATCHED];
}

// The manual and the schema are those of what a scenario writes.
impl JsonSchema for Conductor {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Config::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Config::json_schema(generator)
    }
}

impl Conductor {
    /// Ports of routes that forward, each once.
    fn forwards(&self) -> Vec<&SmolStr> {
        let mut names = Vec::new();
        for route in &self.routes {
            match &route.way {
                Way::Forward(name) if !names.contains(&name) => names.push(name),
                Way::Forward(_) | Way::Send(_) => {}
            }
        }
        names
    }

    /// Takes in one record of the durable state.
    fn recover(&self, name: &SmolStr, value: &Value, table: &mut Table) {
        let key = Key::from_text(name);
        let bytes = if let Value::Bytes(bytes) = value { Some(bytes.clone()) } else { None };
        let read = bytes.and_then(|bytes| Some((key?, self.layouts.read(&bytes)?, bytes)));
        let Some((key, record, bytes)) = read else {
            table.counts.broken_records.add(1);
            table.broken.push(name.clone());
            return;
        };
        match record {
            Record::Open(open) => {
                let destination = self.destinations.iter().position(|one| one.name == open.destination);
                table.insert_open(key, OpenSlot { record: bytes, expires: open.expires, destination });
            }
            Record::Done(done) => {
                table.insert_done(key, DoneSlot { at: done.at, record: bytes, is_durable: true });
            }
        }
    }
}

impl Gear for Conductor {
    const TYPE: &'static str = "conductor";
    type State = Table;

    fn ports(&self) -> Ports {
        let always = [port::OUT, port::ERROR, port::UNMATCHED];
        let mut outputs: Vec<&str> = always.to_vec();
        outputs.extend(self.destinations.iter().map(|destination| destination.name.as_str()));
        outputs.extend(self.forwards().into_iter().map(SmolStr::as_str));
        let ports = Ports::none().input_feeding(port::IN, &outputs).reply(port::REPLY, &always);
        outputs.into_iter().fold(ports, Ports::output)
    }

    fn start(&self, ctx: &StartContext) -> Result<Table, GearError> {
        let names = self.destinations.iter().map(|destination| destination.name.as_str());
        let peer = |one: &Destination| Peer { is_up: one.link.is_none(), open: 0, open_max: one.open_max };
        let peers = self.destinations.iter().map(peer).collect();
        let mut table = Table::new(ctx.name.clone(), peers, self.cursors, Counts::new(&ctx.tallies, names));
        for (name, value) in &ctx.recovered {
            self.recover(name, value, &mut table);
        }
        table.sort_ended();
        Ok(table)
    }

    fn handle(&self, msg: FluxMsg, table: &mut Table, out: &mut Outlet) -> Result<(), GearError> {
        self.settle(table, out);
        if out.port() != port::REPLY {
            self.request(msg, table, out);
        } else if msg.flags.contains(Flags::MAYBE_SENT) {
            self.report(msg, table, out);
        } else {
            self.reply(msg, table, out);
        }
        Ok(())
    }

    fn on_timer(&self, key: &str, table: &mut Table, out: &mut Outlet) -> Result<(), GearError> {
        self.settle(table, out);
        if let Some(key) = Key::from_text(key) {
            self.timed_out(key, table, out);
        }
        Ok(())
    }

    fn on_link(&self, link: &Link, table: &mut Table, out: &mut Outlet) -> Result<(), GearError> {
        self.settle(table, out);
        for (peer, destination) in table.peers.iter_mut().zip(&self.destinations) {
            if destination.link.as_ref() == Some(&link.endpoint) {
                peer.is_up = link.is_up;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
