//! The seam for sockets: this machine's own, or simulated ones where the rig's world brings a network.
//! A match on two kinds is all that a byte pays for it.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use fluxrig_actors::prelude::*;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::sim;

/// Where addresses lead.
pub(super) enum Network {
    Tcp,
    Sim(Arc<sim::Process>),
}

/// Takes connections.
pub(super) enum Listener {
    Tcp(TcpListener),
    Sim(sim::Listener),
}

/// A connection that was made.
pub(super) enum Stream {
    Tcp(TcpStream),
    Sim(sim::Stream),
}

/// What comes in over a connection.
pub(super) enum ReadHalf {
    Tcp(OwnedReadHalf),
    Sim(sim::ReadHalf),
}

/// What goes out over it.
#[derive(Debug)]
pub(super) enum WriteHalf {
    Tcp(OwnedWriteHalf),
    Sim(sim::WriteHalf),
}

impl Network {
    /// The network of an endpoint's rig.
    pub(super) fn of(io: &Io) -> Self {
        io.outside().map_or(Self::Tcp, Self::Sim)
    }

    pub(super) async fn bind(&self, address: &str) -> Result<Listener> {
        match self {
            Self::Tcp => TcpListener::bind(address).await.map(Listener::Tcp),
            Self::Sim(process) => process.bind(address).map(Listener::Sim),
        }
    }

    pub(super) async fn connect(&self, address: &str) -> Result<Stream> {
        match self {
            Self::Tcp => not_to_itself(TcpStream::connect(address).await?).map(Stream::Tcp),
            Self::Sim(process) => process.connect(address).await.map(Stream::Sim),
        }
    }
}

/// Refuses a connection of a socket with itself. Whoever dials a port of this machine that nobody listens on may get that
/// very port for its own end, and be connected: it would read what it has written, and keep the peer from its port.
pub(super) fn not_to_itself(stream: TcpStream) -> Result<TcpStream> {
    if stream.local_addr()? != stream.peer_addr()? {
        return Ok(stream);
    }
    // Reset, so that nothing of it lingers on the port.
    stream.set_zero_linger()?;
    Err(ErrorKind::ConnectionRefused.into())
}

impl Listener {
    pub(super) fn local_addr(&self) -> Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Sim(listener) => Ok(listener.local_addr()),
        }
    }

    pub(super) async fn accept(&self) -> Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Self::Sim(listener) => listener.accept().await.map(Stream::Sim),
        }
    }
}

impl Stream {
    /// Where it cannot be set, it is slower.
    pub(super) fn set_nodelay(&self) {
        if let Self::Tcp(stream) = self {
            drop(stream.set_nodelay(true));
        }
    }

    pub(super) fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            Self::Sim(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Sim(read), WriteHalf::Sim(write))
            }
        }
    }
}

impl ReadHalf {
    /// Waits until a read would not have to.
    pub(super) async fn readable(&self) -> Result<()> {
        match self {
            Self::Tcp(half) => half.readable().await,
            Self::Sim(half) => {
                half.readable().await;
                Ok(())
            }
        }
    }

    /// Reads once into the room that the buffer has; 0 is the end.
    pub(super) async fn read_buf(&mut self, buffer: &mut BytesMut) -> Result<usize> {
        match self {
            Self::Tcp(half) => half.read_buf(buffer).await,
            Self::Sim(half) => half.read(buffer).await,
        }
    }
}

impl WriteHalf {
    /// Waits until a write would take some, or fail.
    pub(super) async fn writable(&self) -> Result<()> {
        match self {
            Self::Tcp(half) => half.writable().await,
            Self::Sim(half) => {
                half.writable().await;
                Ok(())
            }
        }
    }

    /// Writes what goes without waiting.
    pub(super) fn try_write(&self, bytes: &[u8]) -> std::result::Result<usize, Error> {
        match self {
            Self::Tcp(half) => half.try_write(bytes),
            Self::Sim(half) => half.try_write(bytes),
        }
    }
}
