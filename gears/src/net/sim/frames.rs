//! Framing for the world outside: what a peer of one of our endpoints has to write and to take apart.

use bytes::{Buf, Bytes, BytesMut};

use crate::net::framing::Framing;
use crate::{Iso8583Config, NetError, TcpConfig};

/// Longest body that is taken apart: what endpoints themselves allow.
const BODY_BYTES_MAX: usize = 1 << 20;

/// How the messages of one endpoint stand on its connections.
#[derive(Clone, Debug)]
pub struct Frames(Framing);

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFrames;

impl Frames {
    /// Those of an `io_iso8583`.
    #[must_use]
    pub fn of_iso8583(config: &Iso8583Config) -> Self {
        Self(config.framing.clone().into())
    }

    /// Those of an `io_tcp`.
    ///
    /// # Errors
    /// When its framing is none.
    pub fn of_tcp(config: &TcpConfig) -> Result<Self, NetError> {
        config.framing.clone().try_into().map(Self)
    }

    /// Takes the first body out of a buffer, when it is whole.
    ///
    /// # Errors
    /// When there is no frame: the stream cannot be followed any further.
    pub fn take(&self, buffer: &mut BytesMut) -> Result<Option<Bytes>, BadFrames> {
        let Some(frame) = self.0.first(buffer, &mut 0, BODY_BYTES_MAX).map_err(|_| BadFrames)? else {
            return Ok(None);
        };
        let mut bytes = buffer.split_to(frame.head + frame.body + frame.tail);
        bytes.truncate(frame.head + frame.body);
        bytes.advance(frame.head);
        Ok(Some(bytes.freeze()))
    }

    /// A body as a frame.
    #[must_use]
    pub fn frame(&self, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.write(body, &mut bytes);
        bytes
    }

    /// Whether a message of no bytes keeps a connection alive here.
    #[must_use]
    pub fn has_polls(&self) -> bool {
        self.0.has_length()
    }
}
