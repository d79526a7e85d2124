//! The key `bus`: none, servers that run elsewhere, or a server of the rack's own; and what may be wrong with it.

use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroU16, NonZeroU32};

use fluxrig_actors::bus::{BusOptionError, BusOptions, Secret};
use fluxrig_actors::nearest;
use fluxrig_actors::protocol::subject::Name;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};

use super::RestartBackoff;
use super::attempt::read;
use super::problem::{Fault, Problems};
use super::tree::{Content, Node};

/// The bus between racks.
#[derive(Clone, Debug, Default)]
pub enum Bus {
    /// None: the rack stands alone.
    #[default]
    Embedded,
    /// Servers that somebody else runs.
    Servers(BusOptions),
    /// A server that a rack runs.
    Managed(ManagedBus),
}

/// A `nats-server` that a rack runs itself: found on PATH, in FLUXRIG_NATS_SERVER or in folder `bus` of the data
/// directory, configured, looked after and ended by it. Its store is in the data directory, and each write is flushed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManagedBus {
    /// `true`: the rack runs the server.
    pub managed: True,
    /// The rack that runs it; the others connect to it. Default: every rack runs its own, and no wire leads from one to
    /// another.
    #[serde(default)]
    pub rack: Option<Name>,
    /// Where it listens, and where other racks find it. Default 127.0.0.1.
    #[serde(default = "loopback", deserialize_with = "address")]
    pub host: IpAddr,
    /// Where clients connect. Default: a free port, kept over restarts.
    #[serde(default)]
    pub port: Option<NonZeroU16>,
    /// Where its monitor is, always on 127.0.0.1. Default: a free port, kept over restarts.
    #[serde(default)]
    pub monitor_port: Option<NonZeroU16>,
    /// What clients must know, as `${NAME}` from the environment. Default: a random one, in the data directory.
    #[serde(default)]
    pub token: Option<Secret>,
    /// Bytes that the rack's stream of wires may take. Without it only the disk's limit holds.
    #[serde(default)]
    pub max_bytes: Option<u64>,
    /// More restarts than this within `within_ms`, and it is not started again. Default 5.
    #[serde(default = "max_restarts")]
    pub max_restarts: u32,
    /// See `max_restarts`; milliseconds. Default 60000.
    #[serde(default = "within_ms")]
    pub within_ms: NonZeroU32,
    /// Waits before a restart. Default `{ first: 10, max: 5000 }`.
    #[serde(default)]
    pub backoff_ms: RestartBackoff,
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom(
            "found no IP address, expected one like 127.0.0.1; remedy: write the one of the rack's machine",
        )
    })
}

fn loopback() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

fn max_restarts() -> u32 {
    5
}

fn within_ms() -> NonZeroU32 {
    NonZeroU32::new(60_000).expect("it is not zero")
}

/// The word `true`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct True;

impl<'de> Deserialize<'de> for True {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match bool::deserialize(deserializer)? {
            true => Ok(Self),
            false => Err(D::Error::custom(
                "found false, expected true; remedy: write `true`, or leave it out and name `servers`",
            )),
        }
    }
}

impl JsonSchema for True {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "True".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": true })
    }
}

impl JsonSchema for Bus {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bus".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let servers = generator.subschema_for::<BusOptions>();
        let managed = generator.subschema_for::<ManagedBus>();
        json_schema!({ "oneOf": [
            { "type": "string", "enum": ["embedded"] },
            { "type": "string", "pattern": "^(nats|tls)://" },
            servers,
            managed,
        ] })
    }
}

impl Bus {
    /// Whether there is one.
    #[must_use]
    pub fn is_there(&self) -> bool {
        !matches!(self, Self::Embedded)
    }

    /// The rack's own server, where this rack runs one.
    #[must_use]
    pub fn managed_by(&self, rack: &str) -> Option<&ManagedBus> {
        match self {
            Self::Managed(managed) if managed.rack.as_ref().is_none_or(|name| name.as_str() == rack) => Some(managed),
            _ => None,
        }
    }

    /// Why nothing on it can have `durability: replicated`, if so.
    pub(crate) fn replicated_fault(&self) -> Option<String> {
        match self {
            Self::Servers(options) if options.replicas < 3 => Some(format!(
                "found `replicated` with `bus.replicas` {}, expected at least 3; remedy: write `replicas: 3` at the bus, on a cluster of three servers or more, or use `flush`",
                options.replicas
            )),
            Self::Managed(_) => Some(
                "found `replicated` on the one server that a rack runs, expected three servers or more; remedy: name the `servers` of a cluster at the bus, or use `flush`".to_owned(),
            ),
            // A bus that is missing is said elsewhere.
            Self::Servers(_) | Self::Embedded => None,
        }
    }

    /// How a rack reaches a bus that it does not run itself.
    #[must_use]
    pub fn elsewhere(&self) -> Option<BusOptions> {
        match self {
            Self::Embedded => None,
            Self::Servers(options) => Some(options.clone()),
            Self::Managed(managed) => {
                let port = managed.port?;
                Some(BusOptions {
                    token: managed.token.clone(),
                    max_bytes: managed.max_bytes,
                    // Its configuration is ours, only on another rack.
                    assume_sync: true,
                    ..BusOptions::at([format!("nats://{}", std::net::SocketAddr::new(managed.host, port.get()))])
                })
            }
        }
    }
}

/// Reads what stands at the key: which of the three it is can be seen before it is read.
pub(crate) fn read_bus(node: &Node, problems: &mut Problems) -> Option<Bus> {
    const PATH: &str = "bus";
    match &node.content {
        Content::Map(_) if node.get("managed").is_some() => {
            let managed: ManagedBus = read(node, PATH, problems)?;
            check_managed(node, &managed, problems);
            Some(Bus::Managed(managed))
        }
        Content::Map(_) => {
            let options: BusOptions = read(node, PATH, problems)?;
            check_options(node, &options, problems);
            Some(Bus::Servers(options))
        }
        Content::Scalar(scalar) if scalar.text == "embedded" => Some(Bus::Embedded),
        Content::Scalar(scalar) if scalar.text.contains("://") => {
            let options = BusOptions::at([scalar.text.as_str()]);
            check_options(node, &options, problems);
            Some(Bus::Servers(options))
        }
        content => {
            // What came out of a variable is not shown.
            let near = match content {
                Content::Scalar(scalar) if scalar.source.is_none() => nearest(&scalar.text, ["embedded"].into_iter()),
                _ => None,
            };
            let remedy = near.map_or("write one of these".to_owned(), |word| format!("use `{word}`"));
            let text = format!(
                "found {}, expected `embedded`, an address like `nats://host:4222`, a map with `servers`, or one with \
                 `managed: true`; remedy: {remedy}",
                node.shown()
            );
            problems.add(node.pos, PATH, Fault::Refused { text });
            None
        }
    }
}

fn check_options(node: &Node, options: &BusOptions, problems: &mut Problems) {
    for BusOptionError { key, found, expected, remedy } in options.errors() {
        let at = key.split('.').try_fold(node, |node, key| node.get(key)).unwrap_or(node);
        let path = if std::ptr::eq(at, node) { "bus".to_owned() } else { format!("bus.{key}") };
        let text = format!("found {found}, expected {expected}; remedy: {remedy}");
        problems.add(at.pos, path, Fault::Refused { text });
    }
}

fn check_managed(node: &Node, managed: &ManagedBus, problems: &mut Problems) {
    let mut refuse = |key: &str, text: String| {
        let at = node.get(key).unwrap_or(node);
        problems.add(at.pos, format!("bus.{key}"), Fault::Refused { text });
    };
    if managed.host.is_unspecified() {
        refuse(
            "host",
            format!(
                "found {}, expected an address that other racks can connect to; remedy: write the one of this machine",
                managed.host
            ),
        );
    }
    if managed.port.is_some() && managed.port == managed.monitor_port {
        refuse("monitor_port", "found the port of clients, expected another one; remedy: change one of them".into());
    }
    let backoff = managed.backoff_ms;
    if backoff.first > backoff.max {
        refuse(
            "backoff_ms",
            format!(
                "found `first` {} above `max` {}, expected at most that; remedy: swap them",
                backoff.first, backoff.max
            ),
        );
    }
    let token = managed.token.as_ref();
    if token.is_some_and(|token| token.expose().is_empty() || token.expose().chars().any(char::is_control)) {
        refuse("token", "found no token, expected a text in one line; remedy: set its variable".into());
    }
    for (key, is_missing) in [("port", managed.port.is_none()), ("token", managed.token.is_none())] {
        if managed.rack.is_some() && is_missing {
            refuse(
                key,
                format!(
                    "found `rack` without `{key}`, expected both, since other racks connect to it; remedy: add `{key}`"
                ),
            );
        }
    }
}
