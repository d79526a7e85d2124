//! What a configuration comes to: checked once, for both endpoints, with every key that does not fit its mode refused.

use std::net::SocketAddr;
use std::time::Duration;

use fluxrig_actors::OnMaybeSent;
use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::Meta;
use tokio::sync::watch;

use super::framing::Framing;

/// Who makes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Peers connect to `bind`.
    Server,
    /// It connects to `connect`.
    Client,
}

/// Waits between attempts to connect, each twice as long as the one before, a fifth of it left to chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BackoffMs {
    /// The first wait, milliseconds, 1 to 604,800,000. Default 100.
    pub first: u64,
    /// The longest, milliseconds, at least `first`. Default 10,000.
    pub max: u64,
}

impl Default for BackoffMs {
    fn default() -> Self {
        Self { first: 100, max: 10_000 }
    }
}

/// A configuration of connections that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// A key that the mode needs.
    #[error("`{key}`: found none with `mode: {mode}`, expected one; remedy: say host and port")]
    Missing {
        /// The key.
        key: &'static str,
        /// The mode.
        mode: &'static str,
    },
    /// A key of the other mode.
    #[error(
        "`{key}`: found it with `mode: {mode}`, expected it only with `mode: {other}`; remedy: leave it out, or change the mode"
    )]
    Misplaced {
        /// The key.
        key: &'static str,
        /// The mode.
        mode: &'static str,
        /// The mode that has it.
        other: &'static str,
    },
    /// No address.
    #[error(
        "`{key}`: found `{found}`, expected host:port with a port from {port_min} to 65535; remedy: say both, an IPv6 host in brackets"
    )]
    Address {
        /// The key.
        key: &'static str,
        /// What stands there.
        found: String,
        /// The lowest port.
        port_min: u16,
    },
    /// A number out of its range.
    #[error("`{key}`: found {found}, expected {min} to {max}; remedy: choose one in between")]
    Range {
        /// The key.
        key: &'static str,
        /// What stands there.
        found: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// Framing that is none, or two.
    #[error("`framing`: found {found}, expected {expected}; remedy: say `delimiter` alone, or `length`")]
    Framing {
        /// What stands there.
        found: &'static str,
        /// What may stand there.
        expected: &'static str,
    },
    /// A delimiter that cannot be.
    #[error("`framing.delimiter`: found {found} bytes, expected 1 to {max}; remedy: use a short one")]
    Delimiter {
        /// Its length.
        found: usize,
        /// The most.
        max: usize,
    },
    /// A repeat that the protocol cannot say.
    #[error(
        "`on_maybe_sent`: found `repeat`, expected `resend` or `report`, since plain TCP cannot mark a repeat; remedy: use one of them"
    )]
    Repeat,
}

/// What both endpoints are asked for. Absent is the default.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) mode: Mode,
    pub(crate) bind: Option<String>,
    pub(crate) connect: Option<String>,
    pub(crate) framing: Framing,
    pub(crate) connections_max: Option<usize>,
    pub(crate) message_bytes_max: Option<usize>,
    pub(crate) idle_ms: Option<u64>,
    pub(crate) frame_ms: Option<u64>,
    pub(crate) unsent_max: Option<usize>,
    pub(crate) write_ms: Option<u64>,
    pub(crate) connect_ms: Option<u64>,
    pub(crate) backoff_ms: Option<BackoffMs>,
    pub(crate) on_maybe_sent: Option<OnMaybeSent>,
    pub(crate) polls: Option<Polls>,
    pub(crate) meta: Meta,
}

/// A checked configuration.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) role: Role,
    pub(crate) framing: Framing,
    pub(crate) message_bytes_max: usize,
    /// None is never.
    pub(crate) idle: Option<Duration>,
    pub(crate) frame: Duration,
    pub(crate) unsent_max: usize,
    pub(crate) write: Duration,
    /// None: a frame without bytes is a mistake.
    pub(crate) polls: Option<Polls>,
    /// What every message has.
    pub(crate) meta: Meta,
    pub(crate) bound: watch::Sender<Option<SocketAddr>>,
}

/// Zero-length frames.
#[derive(Debug)]
pub(crate) struct Polls {
    /// None is never.
    pub(crate) every: Option<Duration>,
    /// In a row.
    pub(crate) max: u32,
}

#[derive(Debug)]
pub(crate) enum Role {
    Server { bind: String, connections_max: usize },
    Client(Dial),
}

/// How a client connects.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) address: String,
    pub(crate) connect: Duration,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) on_maybe_sent: OnMaybeSent,
}

/// A week: no wait is longer.
const MS_MAX: u64 = 604_800_000;
/// Half of what a message may have by the limits of the runtime.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
const UNSENT_MAX: u64 = 1 << 30;
const CONNECTIONS_MAX: u64 = 1 << 20;
pub(crate) const DELIMITER_BYTES_MAX: usize = 8;

impl Asked {
    /// Checks everything but the framing, which each endpoint has of its own kind.
    pub(crate) fn check(self) -> Result<Setup, NetError> {
        let message_bytes_max =
            in_range("message_bytes_max", self.message_bytes_max.unwrap_or(64 << 10), 1, MESSAGE_BYTES_MAX)?;
        // At least one message must go in, with what the framing adds.
        let unsent_min = (message_bytes_max + DELIMITER_BYTES_MAX) as u64;
        let unsent_max = self.unsent_max.unwrap_or((1 << 20).max(unsent_min as usize));
        Ok(Setup {
            role: self.role()?,
            message_bytes_max: message_bytes_max.min(self.framing.body_max()),
            framing: self.framing,
            idle: or_never("idle_ms", self.idle_ms.unwrap_or(300_000))?,
            frame: ms("frame_ms", self.frame_ms.unwrap_or(10_000))?,
            unsent_max: in_range("unsent_max", unsent_max, unsent_min, UNSENT_MAX)?,
            write: ms("write_ms", self.write_ms.unwrap_or(10_000))?,
            polls: self.polls,
            meta: self.meta,
            bound: watch::Sender::new(None),
        })
    }

    fn role(&self) -> Result<Role, NetError> {
        match self.mode {
            Mode::Server => {
                let misplaced = [
                    ("connect", self.connect.is_some()),
                    ("connect_ms", self.connect_ms.is_some()),
                    ("backoff_ms", self.backoff_ms.is_some()),
                    ("on_maybe_sent", self.on_maybe_sent.is_some()),
                ];
                refuse(&misplaced, "server", "client")?;
                let connections_max = self.connections_max.unwrap_or(1024);
                Ok(Role::Server {
                    bind: address("bind", self.bind.as_ref(), "server", 0)?,
                    connections_max: in_range("connections_max", connections_max, 1, CONNECTIONS_MAX)?,
                })
            }
            Mode::Client => {
                let misplaced = [("bind", self.bind.is_some()), ("connections_max", self.connections_max.is_some())];
                refuse(&misplaced, "client", "server")?;
                self.dial().map(Role::Client)
            }
        }
    }

    fn dial(&self) -> Result<Dial, NetError> {
        let BackoffMs { first, max } = self.backoff_ms.unwrap_or_default();
        let first_wait = ms("backoff_ms.first", first)?;
        if max < first {
            return Err(NetError::Range { key: "backoff_ms.max", found: max, min: first, max: MS_MAX });
        }
        let on_maybe_sent = self.on_maybe_sent.unwrap_or(OnMaybeSent::Report);
        if on_maybe_sent == OnMaybeSent::Repeat {
            return Err(NetError::Repeat);
        }
        Ok(Dial {
            address: address("connect", self.connect.as_ref(), "client", 1)?,
            connect: ms("connect_ms", self.connect_ms.unwrap_or(15_000))?,
            backoff: (first_wait, ms("backoff_ms.max", max)?),
            on_maybe_sent,
        })
    }
}

fn refuse(keys: &[(&'static str, bool)], mode: &'static str, other: &'static str) -> Result<(), NetError> {
    match keys.iter().find(|(_, is_there)| *is_there) {
        Some(&(key, _)) => Err(NetError::Misplaced { key, mode, other }),
        None => Ok(()),
    }
}

fn address(key: &'static str, text: Option<&String>, mode: &'static str, port_min: u16) -> Result<String, NetError> {
    let text = text.ok_or(NetError::Missing { key, mode })?;
    let (host, port) = text.rsplit_once(':').unwrap_or_default();
    let is_host = !host.is_empty() && (!host.contains(':') || host.starts_with('[') && host.ends_with(']'));
    if !is_host || port.parse::<u16>().is_ok_and(|port| port < port_min) || port.parse::<u16>().is_err() {
        return Err(NetError::Address { key, found: text.clone(), port_min });
    }
    Ok(text.clone())
}

fn in_range(key: &'static str, found: usize, min: u64, max: u64) -> Result<usize, NetError> {
    let number = found as u64;
    if (min..=max).contains(&number) { Ok(found) } else { Err(NetError::Range { key, found: number, min, max }) }
}

pub(crate) fn ms(key: &'static str, found: u64) -> Result<Duration, NetError> {
    if (1..=MS_MAX).contains(&found) {
        return Ok(Duration::from_millis(found));
    }
    Err(NetError::Range { key, found, min: 1, max: MS_MAX })
}

/// 0 is never.
pub(crate) fn or_never(key: &'static str, found: u64) -> Result<Option<Duration>, NetError> {
    if found == 0 { Ok(None) } else { ms(key, found).map(Some) }
}
