//! A server: takes connections up to a bound, and sends each answer to the connection that its message names.
//! A connection that is gone stays gone: no answer ever goes to another one (HEART §5.5).

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fluxrig_actors::prelude::*;
use tokio::task::JoinSet;

use super::connection::Connection;
use super::counters::{Counters, Reason};
use super::outgoing::{BATCH, Outgoing, unless_probe};
use super::setup::Setup;
use super::socket::{Listener, Network, Stream};
use super::{Line, converse};

/// Wait after the system could not take a connection, for instance for want of file descriptors.
const ACCEPT_WAIT: Duration = Duration::from_millis(50);

/// One start of a server.
struct Server {
    setup: Arc<Setup>,
    io: Io,
    counters: Arc<Counters>,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
}

/// Binds and serves until the rig ends.
pub(super) async fn serve(setup: Arc<Setup>, io: Io, bind: &str, connections_max: usize) -> Result<(), GearError> {
    let listener = Network::of(&io).bind(bind).await.map_err(|error| cannot_bind(bind, &error))?;
    let address = listener.local_addr().map_err(|error| cannot_bind(bind, &error))?;
    setup.bound.send_replace(Some(address));
    io.opened();
    tracing::info!(endpoint = io.name(), %address, "listening");
    let counters = Arc::new(Counters::new(io.tallies()));
    let server = Arc::new(Server { setup, io, counters, connections: Mutex::default() });
    tokio::select! {
        // In this order, so that a simulation repeats itself; neither ends before its endpoint does.
        biased;
        ended = server.accept(listener, connections_max) => ended,
        () = server.answer() => Ok(()),
    }
}

fn cannot_bind(bind: &str, error: &std::io::Error) -> GearError {
    let (what, remedy) = match error.kind() {
        ErrorKind::AddrInUse => ("address in use", "end the process that listens there, or choose another port"),
        ErrorKind::AddrNotAvailable => ("address not of this machine", "bind an address that this machine has"),
        ErrorKind::PermissionDenied => ("permission denied", "choose a port above 1023, or grant the right to bind it"),
        _ => ("cannot bind", "check host and port"),
    };
    GearError::broken(format!(
        "`bind`: {what}: found `{bind}` ({error}), expected an address to listen on; remedy: {remedy}"
    ))
}

impl Server {
    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.connections.lock().expect("nothing panics while it is held")
    }

    /// Takes connections until the rig drains; those that are there go on.
    async fn accept(self: &Arc<Self>, listener: Listener, connections_max: usize) -> Result<(), GearError> {
        let mut tasks = JoinSet::new();
        let mut listener = Some(listener);
        let mut next_id = 0;
        let draining = self.io.draining();
        tokio::pin!(draining);
        loop {
            tokio::select! {
                biased;
                Some(ended) = tasks.join_next() => {
                    // Effects that it had would never end: the whole endpoint starts anew.
                    ended.map_err(|error| GearError::broken(format!("a connection's task failed: {error}")))?;
                }
                () = &mut draining, if listener.is_some() => listener = None,
                accepted = next(listener.as_ref()) => match accepted {
                    Ok(stream) if tasks.len() < connections_max => {
                        next_id += 1;
                        tasks.spawn(Arc::clone(self).connection(stream, next_id));
                    }
                    Ok(_) => self.counters.refused_connections.add(1),
                    Err(error) => {
                        self.counters.failures.add(1);
                        tracing::warn!(endpoint = self.io.name(), %error, "cannot take a connection");
                        tokio::time::sleep(ACCEPT_WAIT).await;
                    }
                },
            }
        }
    }

    /// One connection from its beginning to its end.
    async fn connection(self: Arc<Self>, stream: Stream, id: u64) {
        let line = Line::new(stream, id, &self.setup, &self.counters);
        self.connections().insert(id, Arc::clone(&line.connection));
        let talk = converse(line, self.io.clone()).await;
        self.connections().remove(&id);
        for leftover in talk.leftovers {
            leftover.effect.reject(GONE);
        }
    }

    /// Sends answers until the rig ends.
    async fn answer(&self) {
        let mut effects = self.io.effects();
        let mut outgoing = Outgoing::new(&self.setup, &self.counters);
        let (mut order, mut places) = (Vec::new(), Vec::new());
        loop {
            let batch = effects.take_many(BATCH).await;
            if batch.is_empty() {
                return;
            }
            for effect in batch.into_iter().filter_map(unless_probe) {
                match self.way_of(&effect) {
                    Ok(id) => order.extend(outgoing.add(effect).map(|place| (id, place))),
                    Err(reason) => effect.reject(reason),
                }
            }
            // Places rise with time, so each connection keeps its order.
            order.sort_unstable();
            for run in order.chunk_by(|left, right| left.0 == right.0) {
                places.clear();
                places.extend(run.iter().map(|(_, place)| *place));
                let connection = self.connections().get(&run[0].0).cloned();
                let sent = connection.map_or(0, |connection| send_all(&mut outgoing, &connection, &places));
                outgoing.reject(&places[sent..], GONE);
            }
            order.clear();
            outgoing.finish();
            if outgoing.take_held_up() {
                self.relieve();
            }
        }
    }

    /// Answers that wait for peers which do not read take room on the wire, and a full wire would hold up everybody. With
    /// half of it taken, whoever has most of it is closed, until the rest is less than half or one is left: who is alone
    /// holds up nobody else.
    fn relieve(&self) {
        let connections = self.connections();
        let waiting = |connection: &Arc<Connection>| Some((connection.waiting()?, Arc::clone(connection)));
        let mut waiting: Vec<_> = connections.values().filter_map(waiting).collect();
        drop(connections);
        waiting.sort_unstable_by_key(|(frames, connection)| (*frames, connection.id));
        let mut sum: usize = waiting.iter().map(|(frames, _)| frames).sum();
        while sum > self.io.capacity() / 2
            && waiting.len() > 1
            && let Some((frames, connection)) = waiting.pop()
        {
            sum -= frames;
            connection.close(Reason::Unsent);
        }
    }

    /// The connection that an answer goes to.
    fn way_of(&self, effect: &Effect) -> Result<u64, &'static str> {
        if effect.msg.return_to.is_none() {
            return Err(
                "`return`: found none, expected the connection of a request; remedy: answer only what came in here",
            );
        }
        match self.io.connection(&effect.msg) {
            // What may have been sent went to a connection of an earlier start, if to any.
            Some(id) if !effect.is_maybe_sent() => Ok(id),
            _ => Err(GONE),
        }
    }
}

/// The word of HEART §5.5.
const GONE: &str = "gone";

/// Gives how many the connection took before it ended.
fn send_all(outgoing: &mut Outgoing, connection: &Connection, places: &[usize]) -> usize {
    let mut sent = 0;
    while sent < places.len()
        && let Some(count) = outgoing.send(connection, &places[sent..])
    {
        sent += count;
    }
    sent
}

async fn next(listener: Option<&Listener>) -> std::io::Result<Stream> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}
