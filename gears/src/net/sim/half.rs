//! The ends of simulated connections, with the waiting that plain state does not know: what endpoints and the world
//! outside hold. Dropping one closes it.

use std::fmt;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::link::{Look, Read, Wrote};
use super::{DIALER, Heard, Network, OUTSIDE, SERVER};

/// Least room for one read.
const READ_BYTES: usize = 4 << 10;

/// Whether whoever holds something still runs.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) process: u64,
    pub(super) is_alive: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Gate {
    pub(super) fn outside() -> Self {
        Self { process: OUTSIDE, is_alive: Arc::new(|| true) }
    }

    pub(super) fn check(&self) -> Result<()> {
        if (self.is_alive)() { Ok(()) } else { Err(ended()) }
    }
}

pub(super) fn ended() -> Error {
    Error::other("the process has ended")
}

/// A socket that listens.
pub struct Listener {
    pub(super) network: Network,
    pub(super) address: Arc<str>,
    pub(super) socket: SocketAddr,
    pub(super) came: Arc<Notify>,
    pub(super) gate: Gate,
}

impl Listener {
    pub(in crate::net) fn local_addr(&self) -> SocketAddr {
        self.socket
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// When its process has ended.
    pub async fn accept(&self) -> Result<Stream> {
        loop {
            self.gate.check()?;
            {
                let mut net = self.network.lock();
                let Some(waiting) = net.listeners.get_mut(&self.address) else { return Err(ended()) };
                if waiting.owner != self.gate.process {
                    return Err(ended());
                }
                let next = waiting.backlog.pop_front();
                drop(net);
                if let Some(id) = next {
                    return Ok(Stream::new(&self.network, id, SERVER, self.gate.clone()));
                }
            }
            self.came.notified().await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut net = self.network.lock();
        if net.listeners.get(&self.address).is_some_and(|waiting| waiting.owner == self.gate.process)
            && let Some(waiting) = net.listeners.remove(&self.address)
        {
            for id in waiting.backlog {
                net.links.get_mut(&id).into_iter().for_each(|link| link.reset());
            }
        }
    }
}

/// A connection, both directions.
pub struct Stream {
    read: ReadHalf,
    write: WriteHalf,
}

impl Stream {
    pub(super) fn new(network: &Network, id: u64, side: usize, gate: Gate) -> Self {
        let end = || Half { network: network.clone(), id, side, gate: gate.clone() };
        Self { read: ReadHalf(end()), write: WriteHalf(end()) }
    }

    pub(in crate::net) fn into_split(self) -> (ReadHalf, WriteHalf) {
        (self.read, self.write)
    }

    /// Its number, as [`Heard::connection`].
    #[must_use]
    pub fn id(&self) -> u64 {
        self.read.0.id
    }

    /// Whether it leads nowhere, which only a simulation can know.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.read.0.network.lock().links.get(&self.id()).is_none_or(|link| link.is_lost())
    }

    /// Waits for bytes and appends them; 0 is the end.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn read(&mut self, buffer: &mut BytesMut) -> Result<usize> {
        buffer.reserve(READ_BYTES);
        self.read.read(buffer).await
    }

    /// Sends all of it: the world outside has room for everything.
    ///
    /// # Errors
    /// When the connection is known to have broken.
    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        self.write.try_write(bytes).map(drop)
    }
}

/// One end of one direction.
struct Half {
    network: Network,
    id: u64,
    side: usize,
    gate: Gate,
}

/// What comes in.
pub(crate) struct ReadHalf(Half);

/// What goes out.
pub(crate) struct WriteHalf(Half);

impl ReadHalf {
    pub(crate) async fn readable(&self) {
        let Half { network, id, side, .. } = &self.0;
        loop {
            let (look, bell) = match network.lock().links.get(id) {
                Some(link) => (link.look(*side), link.bells(*side).0),
                None => return,
            };
            match look {
                Look::Now => return,
                Look::At(None) => bell.notified().await,
                Look::At(Some(at)) => {
                    tokio::select! {
                        biased;
                        () = bell.notified() => {}
                        () = sleep_until(at) => {}
                    }
                }
            }
        }
    }

    /// Reads once into the room that the buffer has.
    pub(crate) async fn read(&mut self, buffer: &mut BytesMut) -> Result<usize> {
        loop {
            self.readable().await;
            let Half { network, id, side, gate } = &self.0;
            gate.check()?;
            let room = buffer.capacity() - buffer.len();
            let mut net = network.lock();
            let Some(link) = net.links.get_mut(id) else { return Err(ErrorKind::ConnectionReset.into()) };
            match link.read(*side, room) {
                Read::Bytes(bytes) => {
                    buffer.extend_from_slice(&bytes);
                    let count = bytes.len();
                    if *side == SERVER && link.dialer() != OUTSIDE {
                        let address = Arc::clone(&link.address);
                        net.heard.push(Heard { connection: *id, address, at: tokio::time::Instant::now(), bytes });
                    }
                    return Ok(count);
                }
                Read::Closed => return Ok(0),
                Read::Broken => return Err(ErrorKind::ConnectionReset.into()),
                Read::Nothing => {}
            }
        }
    }
}

impl WriteHalf {
    /// Waits for room. The connection's writer tries again whenever this says so, so that it may say so once too often.
    pub(crate) async fn writable(&self) {
        let Half { network, id, side, .. } = &self.0;
        let bell = network.lock().links.get(id).map(|link| link.bells(*side).1);
        if let Some(bell) = bell {
            bell.notified().await;
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> Result<usize> {
        let Half { network, id, side, gate } = &self.0;
        gate.check()?;
        let mut net = network.lock();
        if gate.process != OUTSIDE && gate.process != net.process {
            return Err(ended());
        }
        let super::Net { links, rng, weather, .. } = &mut *net;
        let Some(link) = links.get_mut(id) else { return Err(ErrorKind::ConnectionReset.into()) };
        let stalled = weather.get(&link.address).and_then(|weather| weather.stalled_until);
        match link.write(*side, bytes, stalled, rng) {
            Wrote::Some(count) => Ok(count),
            Wrote::Full => Err(ErrorKind::WouldBlock.into()),
            Wrote::Broken => Err(ErrorKind::ConnectionReset.into()),
        }
    }
}

impl Half {
    fn close(&self, how: impl FnOnce(&mut super::Link)) {
        let mut net = self.network.lock();
        // The ends of a process that has ended were closed with it, and in its own way.
        let is_over = match net.links.get_mut(&self.id) {
            Some(link) => {
                how(link);
                link.is_over()
            }
            None => false,
        };
        if is_over {
            net.links.remove(&self.id);
        }
    }
}

impl Drop for ReadHalf {
    fn drop(&mut self) {
        self.0.close(|link| link.close_reading(self.0.side));
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        self.0.close(|link| link.close_writing(self.0.side));
    }
}

impl fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteHalf({}, {})", self.0.id, if self.0.side == DIALER { "dialer" } else { "server" })
    }
}
