//! What of a rack's wires goes over the bus: which ends of the bus it needs, under which names and subjects, and which
//! local wires lead to them. This is the one place where a plan meets the endpoints of the runtime's bus.
//!
//! A wire whose gears run on the same racks stays inside each rack. A wire whose gears run on different racks is, on the
//! rack of its output, a local wire into a *bus out*, of which there is one per output port, however many wires leave it;
//! and on each rack of its input a *bus in* per rack that sends, whose door feeds the input: each of these racks gets
//! each message. `backend: jetstream` on a wire inside a rack does both there.

use std::collections::{BTreeMap, BTreeSet};

use fluxrig_actors::protocol::subject::{MsgSubject, Name};
use fluxrig_actors::{IN, Lane, OUT, Ports, Rig, WireOptions};

use super::plan::gear_of;
use super::{Backend, Durability, WireEntry};

/// An output of this rack that is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutEnd {
    /// Name of the endpoint.
    pub(crate) name: String,
    /// Under which subject.
    pub(crate) subject: MsgSubject,
    /// The local wire into it.
    pub(crate) wire: Local,
    /// Who reads, as rack and endpoint: the bus keeps nothing for readers that it does not know.
    pub(crate) readers: BTreeSet<(Name, String)>,
    /// What the servers' ack must stand for: the strictest of what its wires ask for.
    pub(crate) durability: Durability,
}

/// An output, of another rack or of this one, that this rack takes from the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InEnd {
    /// Name of the endpoint.
    pub(crate) name: String,
    /// From which subject.
    pub(crate) subject: MsgSubject,
    /// The local wires that its door feeds.
    pub(crate) wires: Vec<Local>,
}

/// A wire inside this rack.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) options: WireOptions,
    /// The wire of the scenario that it is, or that it is an end of; of several the first.
    pub(crate) wire_idx: usize,
}

/// By its ends: what it promises comes from its wire of the scenario.
impl PartialEq for Local {
    fn eq(&self, other: &Self) -> bool {
        (&self.from, &self.to, self.wire_idx) == (&other.from, &other.to, other.wire_idx)
    }
}

impl Eq for Local {}

/// The wires of one rack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Crossing {
    pub(crate) local: Vec<Local>,
    pub(crate) outs: Vec<OutEnd>,
    pub(crate) ins: Vec<InEnd>,
}

/// What a plan asks about gears and racks.
pub(crate) struct Where<'w> {
    /// This rack.
    pub(crate) rack: &'w Name,
    /// Whether a gear runs on it.
    pub(crate) is_here: &'w dyn Fn(&str) -> bool,
    /// Which racks run a gear.
    pub(crate) racks_of: &'w dyn Fn(&str) -> Vec<Name>,
    /// The ports of a gear, where they are known.
    pub(crate) ports: &'w dyn Fn(&str) -> Option<&'w Ports>,
}

/// What a rack does with wires of the scenario, in their order.
pub(crate) fn crossing<'w>(wires: impl Iterator<Item = (usize, &'w WireEntry)>, at: &Where<'_>) -> Crossing {
    let mut crossing = Crossing::default();
    let mut outs: BTreeMap<MsgSubject, usize> = BTreeMap::new();
    let mut ins: BTreeMap<MsgSubject, usize> = BTreeMap::new();
    for (wire_idx, wire) in wires {
        let (from, to) = (gear_of(&wire.from), gear_of(&wire.to));
        let (leaves, comes) = ((at.is_here)(from), (at.is_here)(to));
        let is_on_bus = wire.backend == Backend::Jetstream;
        if leaves && comes && !is_on_bus {
            let (from, to) = (wire.from.clone(), wire.to.clone());
            crossing.local.push(Local { from, to, options: wire.options(), wire_idx });
            continue;
        }
        // A port that is none was said before, and its wire goes nowhere.
        let Some((gear, port)) = output(wire, at) else { continue };
        let subject = |rack: &Name| MsgSubject { rack: rack.clone(), gear: gear.clone(), port: port.clone() };
        if leaves {
            let subject = subject(at.rack);
            let readers = if comes { vec![at.rack.clone()] } else { (at.racks_of)(to) };
            let readers = readers.into_iter().map(|rack| (rack, in_name(&subject)));
            let idx = *outs.entry(subject.clone()).or_insert_with(|| {
                crossing.outs.push(out_end(subject.clone(), wire, wire_idx));
                crossing.outs.len() - 1
            });
            crossing.outs[idx].readers.extend(readers);
            widen(&mut crossing.outs[idx].wire.options, &wire.options());
            let durability = &mut crossing.outs[idx].durability;
            *durability = stricter(*durability, wire.durability.unwrap_or_default());
        }
        // Inside a rack it comes back from there alone.
        let racks = if leaves { vec![at.rack.clone()] } else { (at.racks_of)(from) };
        for subject in racks.iter().filter(|_| comes).map(subject) {
            let idx = *ins.entry(subject.clone()).or_insert_with(|| {
                crossing.ins.push(InEnd { name: in_name(&subject), subject, wires: Vec::new() });
                crossing.ins.len() - 1
            });
            let end = &mut crossing.ins[idx];
            let from = format!("{}.{OUT}", end.name);
            end.wires.push(Local { from, to: wire.to.clone(), options: wire.options(), wire_idx });
        }
    }
    crossing
}

/// The output port of a wire, written out.
fn output(wire: &WireEntry, at: &Where<'_>) -> Option<(Name, Name)> {
    let (gear, port) = match wire.from.split_once('.') {
        Some((gear, port)) => (gear, port),
        None => (wire.from.as_str(), (at.ports)(&wire.from)?.outputs.first()?.name.as_str()),
    };
    Some((gear.parse().ok()?, port.parse().ok()?))
}

/// The wire into a bus out promises what the first wire promises; what a copy of it asks beyond is added. Redelivery,
/// partitions and retention are the business of the wire on the other side.
fn out_end(subject: MsgSubject, wire: &WireEntry, wire_idx: usize) -> OutEnd {
    let name = out_name(&subject);
    let asked = wire.options();
    let options = WireOptions { lane: asked.lane, capacity: asked.capacity, ..WireOptions::default() };
    let from = format!("{}.{}", subject.gear, subject.port);
    let wire = Local { from, to: format!("{name}.{IN}"), options, wire_idx };
    OutEnd { name, subject, wire, readers: BTreeSet::new(), durability: Durability::Os }
}

/// That there are three copies is checked with the scenario, so that a flush is what is left to ask the servers for.
fn stricter(one: Durability, other: Durability) -> Durability {
    let strictness = |durability: &Durability| match durability {
        Durability::Os => 0,
        Durability::Replicated => 1,
        Durability::Flush => 2,
    };
    std::cmp::max_by_key(one, other, strictness)
}

fn widen(options: &mut WireOptions, asked: &WireOptions) {
    if asked.lane == Lane::Flush {
        options.lane = Lane::Flush;
    }
    options.capacity = options.capacity.max(asked.capacity);
}

/// First letters of the names of ends, which no gear may have beside a bus.
pub(crate) const RESERVED: [&str; 2] = ["bus-out-", "bus-in-"];

fn out_name(subject: &MsgSubject) -> String {
    named(RESERVED[0], &[&subject.gear, &subject.port])
}

fn in_name(subject: &MsgSubject) -> String {
    named(RESERVED[1], &[&subject.rack, &subject.gear, &subject.port])
}

/// A name of its own for each end, the same over restarts whatever else changes: the journal knows wires by it. Where
/// names could run together, or are too long, a hash keeps them apart.
fn named(start: &str, parts: &[&Name]) -> String {
    const BETWEEN: &str = "--";
    let parts: Vec<&str> = parts.iter().map(|part| part.as_str()).collect();
    let plain = format!("{start}{}", parts.join(BETWEEN));
    let is_clear = |part: &&str| !part.contains(BETWEEN) && !part.starts_with('-') && !part.ends_with('-');
    if parts.iter().all(is_clear) && plain.len() <= Name::BYTES_MAX {
        return plain;
    }
    let hash = format!("{BETWEEN}{:016x}", fnv(parts.join(".").as_bytes()));
    let room = Name::BYTES_MAX - hash.len();
    format!("{}{hash}", &plain[..plain.len().min(room)])
}

/// FNV-1a: it only keeps names apart that nobody chose against it.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Who makes the endpoints of a rack's bus.
pub(crate) trait Ends {
    /// Adds the endpoint that publishes.
    fn add_out(&self, rig: Rig, end: &OutEnd) -> Rig;
    /// Adds the endpoint that takes from the bus.
    fn add_in(&self, rig: Rig, end: &InEnd) -> Rig;
}

impl Crossing {
    /// Adds its ends and wires to a rig that has the gears.
    pub(crate) fn wired(&self, mut rig: Rig, ends: &dyn Ends) -> Rig {
        for end in &self.outs {
            rig = ends.add_out(rig, end);
        }
        for end in &self.ins {
            rig = ends.add_in(rig, end);
        }
        self.wires().fold(rig, |rig, wire| rig.wire_with(&wire.from, &wire.to, wire.options.clone()))
    }

    /// Every wire inside the rack.
    pub(crate) fn wires(&self) -> impl Iterator<Item = &Local> {
        let ins = self.ins.iter().flat_map(|end| &end.wires);
        self.local.iter().chain(self.outs.iter().map(|end| &end.wire)).chain(ins)
    }
}

#[cfg(test)]
mod tests;
