//! Connections over TCP, shared by the endpoints that speak over them: framing, reading, writing, server, client.
//! What bytes mean is not known here.

mod client;
mod connection;
mod counters;
mod framing;
mod outgoing;
mod reader;
mod server;
mod setup;
pub mod sim;
mod socket;

use std::net::SocketAddr;
use std::sync::Arc;

use fluxrig_actors::prelude::*;
use fluxrig_actors::{IN, Input, OUT};
use tokio::sync::watch;

use connection::{Connection, Leftover};
use counters::{Counters, Reason};
use reader::{Reader, ReaderParts};
use socket::{ReadHalf, Stream};

pub(crate) use framing::Framing;
pub use framing::LengthPrefix;
pub(crate) use setup::{Asked, DELIMITER_BYTES_MAX, Polls, Role, Setup, or_never};
pub use setup::{BackoffMs, Mode, NetError};

/// Where a server listens. With port 0 the system chooses, and this says what.
#[derive(Clone, Debug)]
pub struct Bound(watch::Receiver<Option<SocketAddr>>);

impl Bound {
    /// The address, once the server listens; at the latest when its rig has started.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        *self.0.borrow()
    }
}

pub(crate) fn bound(setup: &Setup) -> Bound {
    Bound(setup.bound.subscribe())
}

/// Bytes in, bytes out; an endpoint that only listens needs no wire into it.
pub(crate) fn ports() -> Ports {
    let mut ports = Ports::none().output(OUT);
    ports.inputs.push(Input { name: IN.into(), is_reply: false, feeds: None, is_required: false });
    ports
}

/// Whether a start is complete only when something is bound.
pub(crate) fn opens(setup: &Setup) -> bool {
    matches!(setup.role, Role::Server { .. })
}

/// Runs until the rig ends.
pub(crate) async fn run(setup: &Arc<Setup>, io: Io) -> Result<(), GearError> {
    match &setup.role {
        Role::Server { bind, connections_max } => server::serve(Arc::clone(setup), io, bind, *connections_max).await,
        Role::Client(dial) => client::dial(setup, io, dial).await,
    }
}

/// A connection that was made and is not served yet.
struct Line {
    connection: Arc<Connection>,
    half: ReadHalf,
    setup: Arc<Setup>,
    end: End,
}

/// What is left of a connection.
struct Talk {
    reason: Reason,
    /// Frames that came in.
    seen: u64,
    leftovers: Vec<Leftover>,
}

/// Counts the end of a connection, whatever it ends by.
struct End {
    counters: Arc<Counters>,
    reason: Reason,
}

impl Drop for End {
    fn drop(&mut self) {
        self.counters.close(self.reason);
    }
}

impl Line {
    fn new(stream: Stream, id: u64, setup: &Arc<Setup>, counters: &Arc<Counters>) -> Self {
        // Answers are written whole and at once: there is nothing to wait for. Where it cannot be set, it is slower.
        stream.set_nodelay();
        counters.opened.add(1);
        let end = End { counters: Arc::clone(counters), reason: Reason::Ended };
        let (half, writer) = stream.into_split();
        // A client stops taking effects before there is too much; the answers of a server do not wait for anybody.
        let unsent_max = if opens(setup) { setup.unsent_max } else { usize::MAX };
        let connection = Connection::new(id, writer, (unsent_max, setup.write), Arc::clone(counters));
        Self { connection: Arc::new(connection), half, setup: Arc::clone(setup), end }
    }
}

/// Reads and writes one connection, neither waiting for the other, until it must end.
async fn converse(line: Line, io: Io) -> Talk {
    let Line { connection, half, setup, mut end } = line;
    let counters = Arc::clone(&end.counters);
    let name = io.label();
    let mut reader = Reader::new(ReaderParts { half, connection: Arc::clone(&connection), setup, counters, io });
    let reason = tokio::select! {
        biased;
        reason = reader.run() => reason,
        reason = connection.write_backlog() => reason,
    };
    end.reason = reason;
    tracing::debug!(endpoint = %name, connection = connection.id, reason = reason.label(), "connection ended");
    Talk { reason, seen: reader.seen(), leftovers: connection.finish(reason) }
}

#[cfg(test)]
pub(crate) mod tests;
