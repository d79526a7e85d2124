//! What of a scenario the world outside meets: servers that nobody in it dials, clients that it does not serve itself,
//! what is spoken there, and what may be expected of the gears in between.

mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fluxrig_actors::{Lane, OnMaybeSent};
use fluxrig_gears::iso8583::Spec;
use fluxrig_gears::sim::Frames;
use fluxrig_gears::{Iso8583Config, Mode, TcpConfig};

use super::SimError;
use crate::scenario::{Checked, WireEntry};
use look::Look;

/// What there is to play with.
#[derive(Clone, Debug, Default)]
pub(super) struct Stage {
    pub(super) entrances: Vec<Entrance>,
    pub(super) exits: Vec<Exit>,
    /// The weakest delivery contract of all wires.
    pub(super) lane: Lane,
}

/// A server to which terminals connect.
#[derive(Clone, Debug)]
pub(super) struct Entrance {
    pub(super) gear: String,
    pub(super) address: String,
    pub(super) frames: Frames,
    pub(super) speech: Speech,
    pub(super) promise: Promise,
}

/// A client, and whoever it dials.
#[derive(Clone, Debug)]
pub(super) struct Exit {
    pub(super) gear: String,
    pub(super) address: String,
    pub(super) frames: Frames,
    pub(super) speech: Speech,
    /// A server of the same scenario listens there.
    pub(super) is_served: bool,
    /// What was sent once is not sent again within this time, however often it is asked for.
    pub(super) once_within: Option<Duration>,
    /// The endpoint from which all comes one way, one by one: what its connections ask for arrives, and in this order.
    pub(super) behind: Option<String>,
    /// What may have been sent is sent again, as its configuration asks.
    pub(super) may_resend: bool,
}

/// What is said on a connection.
#[derive(Clone, Debug)]
pub(super) enum Speech {
    Iso8583(Spec),
    /// Texts with a number of their own.
    Lines,
}

/// What becomes of a request whose connection lives and whose process is not killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// No wire leads back to where it came from.
    Silence,
    /// Whatever the gears make of it.
    Nothing,
    /// It has an answer within this time.
    Outcome(Duration),
}

/// A gear on the stage.
struct Part<'c> {
    name: &'c str,
    kind: &'c str,
    idx: usize,
}

/// A socket of the scenario.
struct Socket {
    mode: Mode,
    address: String,
    frames: Frames,
    may_resend: bool,
}

impl Stage {
    pub(super) fn of(checked: &Checked, rack: Option<&str>) -> Result<Self, SimError> {
        let here = checked.here(rack)?;
        let part = |&idx: &usize| {
            let gear = &checked.scenario.gears[idx];
            Part { name: gear.name.as_str(), kind: &gear.type_name, idx }
        };
        let parts: Vec<Part<'_>> = here.iter().map(part).collect();
        let wires: Vec<&WireEntry> = checked.scenario.wires.iter().collect();
        if let Some(wire) = wires.iter().find(|wire| checked.is_on_bus(wire)) {
            return Err(SimError::Bus { wire: checked.wire_name(wire) });
        }
        if let Some(file) = parts.iter().find(|part| part.kind == "file") {
            return Err(SimError::File { gear: file.name.to_owned() });
        }
        let mut sockets = BTreeMap::new();
        for part in &parts {
            if let Some(socket) = socket(checked, part)? {
                sockets.insert(part.name, socket);
            }
        }
        let look = Look { checked, parts: &parts, wires: &wires, sockets: &sockets };
        let mut stage = Self { lane: look.lane(), ..Self::default() };
        for (name, socket) in &sockets {
            match socket.mode {
                Mode::Server if !look.is_dialed(&socket.address) => stage.entrances.push(look.entrance(name, socket)),
                Mode::Server => {}
                Mode::Client => stage.exits.push(look.exit(name, socket)),
            }
        }
        if stage.entrances.is_empty() {
            return Err(SimError::NoEntrance);
        }
        Ok(stage)
    }

    /// Every address to which a line leads, once.
    pub(super) fn lines(&self) -> Vec<&str> {
        let of_exits = self.exits.iter().map(|exit| exit.address.as_str());
        let all: BTreeSet<&str> =
            self.entrances.iter().map(|entrance| entrance.address.as_str()).chain(of_exits).collect();
        all.into_iter().collect()
    }
}

fn socket(checked: &Checked, part: &Part<'_>) -> Result<Option<Socket>, SimError> {
    let (mode, bind, connect, frames, may_resend) = match part.kind {
        "io_iso8583" => {
            let Some(config) = checked.config::<Iso8583Config>(part.idx) else { return Ok(None) };
            let frames = Frames::of_iso8583(&config);
            (config.mode, config.bind, config.connect, frames, false)
        }
        "io_tcp" => {
            let Some(config) = checked.config::<TcpConfig>(part.idx) else { return Ok(None) };
            let Ok(frames) = Frames::of_tcp(&config) else { return Ok(None) };
            let may_resend = config.on_maybe_sent == Some(OnMaybeSent::Resend);
            (config.mode, config.bind, config.connect, frames, may_resend)
        }
        _ => return Ok(None),
    };
    let address = bind.or(connect).unwrap_or_default();
    if address.ends_with(":0") {
        return Err(SimError::Port { gear: part.name.to_owned() });
    }
    Ok(Some(Socket { mode, address, frames, may_resend }))
}
