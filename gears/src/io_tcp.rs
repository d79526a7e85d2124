//! `io_tcp`: messages over TCP, told apart by a delimiter or a length; what is in them is not looked at.
//! Connections themselves are in `net`.

use std::sync::Arc;

use fluxrig_actors::OnMaybeSent;
use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::Meta;

use crate::net::{self, Asked, BackoffMs, Bound, DELIMITER_BYTES_MAX, Framing, LengthPrefix, Mode, NetError, Setup};

/// Messages over TCP connections, as a server or as a client.
///
/// What comes in leaves by `out`: the bytes of one message in `raw`, without what frames them, and in `return` the
/// connection that an answer goes to. What comes to `in` is sent: its `raw`, by a server to the connection in `return`,
/// by a client to its one peer. An answer to a connection that has ended is a dead letter, `gone`; it never goes to
/// another one. A message is acknowledged when the system has all of it.
///
/// A connection that sends what is no frame, too slowly or too much, or that does not read, is closed and counted with
/// its reason; others do not notice. While the rig has no room nothing is read. When the rig drains, a server takes no
/// more connections, and requests that still come are dropped and counted; answers go out. A client that is not
/// connected takes nothing, and says so to the gears next to it.
///
/// It counts, as series and label of `fluxrig_gear_count_total`: `connections_opened`, `connection_failures`, `frames_in`,
/// `frames_out`, `bytes_in`, `bytes_out`, `polls_in` and `polls_out`, all under `all`; `connections_closed` under `peer`,
/// `truncated`, `failed`, `idle`, `slow`, `oversize`, `length`, `empty`, `polls`, `unsent`, `write` and `ended`; and
/// `refused` under `connections_max` (connections), `draining` and `limit` (messages).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(try_from = "TcpConfig")]
#[schemars(with = "TcpConfig")]
pub struct IoTcp {
    setup: Arc<Setup>,
}

/// What [`IoTcp`] is made of.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpConfig {
    /// Whether peers connect to it (`server`) or it connects to a peer (`client`).
    pub mode: Mode,
    /// Server: host and port to listen on. Port 0 lets the system choose.
    #[serde(default)]
    pub bind: Option<String>,
    /// Client: host and port of the peer.
    #[serde(default)]
    pub connect: Option<String>,
    /// How messages are told apart.
    pub framing: TcpFraming,
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
    /// Client: what is done with a message that may have been sent, since the connection or the process ended while it
    /// was. `report`: an unknown outcome leaves by `out`, with the message's id in `ref`. `resend`: it is sent again.
    /// Default `report`.
    #[serde(default)]
    pub on_maybe_sent: Option<OnMaybeSent>,
}

/// How messages are told apart: by a delimiter or by a length.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TcpFraming {
    /// The bytes that end each message, 1 to 8, for example `"\n"`. Two in a row make an empty message.
    pub delimiter: Option<String>,
    /// How the length stands in front of each message. A length of 0 is a mistake.
    pub length: Option<LengthPrefix>,
    /// With `length`: it counts itself, too. Default false.
    pub inclusive: Option<bool>,
}

impl TryFrom<TcpFraming> for Framing {
    type Error = NetError;

    fn try_from(framing: TcpFraming) -> Result<Self, NetError> {
        let wrong = |found, expected| Err(NetError::Framing { found, expected });
        match framing {
            TcpFraming { delimiter: Some(_), length: Some(_), .. } => {
                wrong("both `delimiter` and `length`", "one of them")
            }
            TcpFraming { delimiter: None, length: None, .. } => {
                wrong("neither `delimiter` nor `length`", "one of them")
            }
            TcpFraming { delimiter: Some(_), inclusive: Some(_), .. } => {
                wrong("`inclusive` with a `delimiter`", "it only with `length`")
            }
            TcpFraming { delimiter: Some(text), .. } => match text.len() {
                1..=DELIMITER_BYTES_MAX => Ok(Self::Delimiter(text.into_bytes().into())),
                found => Err(NetError::Delimiter { found, max: DELIMITER_BYTES_MAX }),
            },
            TcpFraming { length: Some(prefix), inclusive, .. } => {
                Ok(Self::Length { prefix, is_inclusive: inclusive.unwrap_or_default() })
            }
        }
    }
}

impl TryFrom<TcpConfig> for IoTcp {
    type Error = NetError;

    fn try_from(config: TcpConfig) -> Result<Self, NetError> {
        let asked = Asked {
            mode: config.mode,
            bind: config.bind,
            connect: config.connect,
            framing: config.framing.try_into()?,
            connections_max: config.connections_max,
            message_bytes_max: config.message_bytes_max,
            idle_ms: config.idle_ms,
            frame_ms: config.frame_ms,
            unsent_max: config.unsent_max,
            write_ms: config.write_ms,
            connect_ms: config.connect_ms,
            backoff_ms: config.backoff_ms,
            on_maybe_sent: config.on_maybe_sent,
            polls: None,
            meta: Meta::default(),
        };
        Ok(Self { setup: Arc::new(asked.check()?) })
    }
}

impl IoTcp {
    /// Where its server listens: a handle to keep when the endpoint goes into a rig.
    #[must_use]
    pub fn bound(&self) -> Bound {
        net::bound(&self.setup)
    }
}

impl Endpoint for IoTcp {
    const TYPE: &'static str = "io_tcp";

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
