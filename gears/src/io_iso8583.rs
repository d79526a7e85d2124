//! `io_iso8583`: messages of ISO 8583 over TCP, with the lengths and the keep-alive polls that networks use.
//! What is in a message is not looked at: a codec does that.

use std::sync::Arc;

use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::Meta;

use crate::net::{self, Asked, BackoffMs, Bound, Framing, LengthPrefix, Mode, NetError, Polls, Setup};

/// ISO 8583 messages over TCP connections: a server for terminals, or a client of a host.
///
/// What comes in leaves by `out`: the bytes of one message in `raw`, without its length, the text `iso8583` under
/// `meta.content`, and in `return` the connection that an answer goes to. What comes to `in` is sent: its `raw`, by a
/// server to the connection in `return`, by a client to its one peer. An answer to a connection that has ended is a
/// dead letter, `gone`; it never goes to another one. A message is acknowledged when the system has all of it.
///
/// A client never sends a message twice. One that may have been sent, since the connection or the process ended while it
/// was, leaves by `out` as an unknown outcome, with its id in `ref`. A client that is not connected takes nothing, and
/// says so to the gears next to it.
///
/// A message without bytes is a poll: it is echoed, and goes no further. A connection that sends what is no frame, too
/// slowly or too much, or that does not read, is closed and counted with its reason; others do not notice. While the rig
/// has no room nothing is read. When the rig drains, a server takes no more connections, and requests that still come
/// are dropped and counted; answers go out, and a client still reads replies.
///
/// It counts, as series and label of `fluxrig_gear_count_total`: `connections_opened`, `connection_failures`, `frames_in`,
/// `frames_out`, `bytes_in`, `bytes_out`, `polls_in` and `polls_out`, all under `all`; `connections_closed` under `peer`,
/// `truncated`, `failed`, `idle`, `slow`, `oversize`, `length`, `empty`, `polls`, `unsent`, `write` and `ended`; and
/// `refused` under `connections_max` (connections), `draining` and `limit` (messages).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(try_from = "Iso8583Config")]
#[schemars(with = "Iso8583Config")]
pub struct IoIso8583 {
    setup: Arc<Setup>,
}

/// What [`IoIso8583`] is made of.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Iso8583Config {
    /// Whether peers connect to it (`server`) or it connects to a peer (`client`).
    pub mode: Mode,
    /// Server: host and port to listen on. Port 0 lets the system choose.
    #[serde(default)]
    pub bind: Option<String>,
    /// Client: host and port of the peer.
    #[serde(default)]
    pub connect: Option<String>,
    /// How messages are told apart.
    pub framing: Iso8583Framing,
    /// Server: so many connections at once; the next one is closed at once, and counted. Default 1,024.
    #[serde(default)]
    pub connections_max: Option<usize>,
    /// Longest message in either direction, bytes, without what frames it; a connection that sends a longer one is
    /// closed. 1 to 1,048,576. Default 65,536, or what the framing can say.
    #[serde(default)]
    pub message_bytes_max: Option<usize>,
    /// A connection on which nothing came in for so long is closed, milliseconds; 0 never. Default 300,000.
    #[serde(default)]
    pub idle_ms: Option<u64>,
    /// A message that has begun must be whole within this time, milliseconds. Default 10,000.
    #[serde(default)]
    pub frame_ms: Option<u64>,
    /// Bytes that may wait for a peer which does not read, beyond what the system keeps for it. A server closes a
    /// connection with more; a client takes nothing more. At least `message_bytes_max` and 8. Default 1,048,576. A
    /// server also closes the connection with the most messages that wait, while several have half of what the wire into
    /// it holds: a full wire would hold up all of them.
    #[serde(default)]
    pub unsent_max: Option<usize>,
    /// A peer that has not taken a message within this time is disconnected, milliseconds. Default 10,000.
    #[serde(default)]
    pub write_ms: Option<u64>,
    /// Client: how long one attempt to connect may take, milliseconds. Default 15,000.
    #[serde(default)]
    pub connect_ms: Option<u64>,
    /// Client: waits between attempts to connect.
    #[serde(default)]
    pub backoff_ms: Option<BackoffMs>,
    /// When nothing came in for so long, a message without bytes is sent, which the peer is expected to echo,
    /// milliseconds; 0 never. Default 0.
    #[serde(default)]
    pub poll_ms: Option<u64>,
    /// Messages without bytes that a peer may send in a row, less than a second apart; each is echoed, and one more
    /// closes the connection. 0 allows none. Default 100.
    #[serde(default)]
    pub polls_max: Option<u32>,
}

/// How the length of a message stands in front of it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Iso8583Framing {
    /// Its form.
    pub length: LengthPrefix,
    /// It counts itself, too. Default false.
    #[serde(default)]
    pub inclusive: bool,
}

impl From<Iso8583Framing> for Framing {
    fn from(framing: Iso8583Framing) -> Self {
        Self::Length { prefix: framing.length, is_inclusive: framing.inclusive }
    }
}

impl TryFrom<Iso8583Config> for IoIso8583 {
    type Error = NetError;

    fn try_from(config: Iso8583Config) -> Result<Self, NetError> {
        let polls = Polls {
            every: net::or_never("poll_ms", config.poll_ms.unwrap_or(0))?,
            max: config.polls_max.unwrap_or(100),
        };
        let asked = Asked {
            mode: config.mode,
            bind: config.bind,
            connect: config.connect,
            framing: config.framing.into(),
            connections_max: config.connections_max,
            message_bytes_max: config.message_bytes_max,
            idle_ms: config.idle_ms,
            frame_ms: config.frame_ms,
            unsent_max: config.unsent_max,
            write_ms: config.write_ms,
            connect_ms: config.connect_ms,
            backoff_ms: config.backoff_ms,
            on_maybe_sent: None,
            polls: Some(polls),
            meta: Meta::from_iter([("content", "iso8583")]),
        };
        Ok(Self { setup: Arc::new(asked.check()?) })
    }
}

impl IoIso8583 {
    /// Where its server listens: a handle to keep when the endpoint goes into a rig.
    #[must_use]
    pub fn bound(&self) -> Bound {
        net::bound(&self.setup)
    }
}

impl Endpoint for IoIso8583 {
    const TYPE: &'static str = "io_iso8583";

    fn ports(&self) -> Ports {
        net::ports()
    }

    fn opens(&self) -> bool {
        net::opens(&self.setup)
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        net::run(&self.setup, io).await
    }
}

#[cfg(test)]
mod tests;
