//! A client: one connection to one peer, made again whenever it ends, with a backoff.
//! While there is none, nothing is taken that could not be sent (HEART §5.1).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::OnMaybeSent;
use fluxrig_actors::prelude::*;

use super::connection::Connection;
use super::counters::{Counters, Reason};
use super::outgoing::{BATCH, Outgoing, unless_probe};
use super::setup::{Dial, Setup};
use super::socket::{Network, Stream};
use super::{Line, converse};

/// One start of a client.
struct Client<'a> {
    dial: &'a Dial,
    io: Io,
    network: Network,
    counters: Arc<Counters>,
    outgoing: Outgoing,
    unsent_max: usize,
    /// Begun, and to be sent again whole: they go first when there is a connection again.
    kept: VecDeque<Effect>,
}

/// Connects, and connects again, until the rig ends.
pub(super) async fn dial(setup: &Arc<Setup>, io: Io, dial: &Dial) -> Result<(), GearError> {
    let counters = Arc::new(Counters::new(io.tallies()));
    let outgoing = Outgoing::new(setup, &counters);
    let mut effects = io.effects();
    effects.set_window(0);
    let (mut failures, mut next_id) = (0, 0);
    io.link_down("not connected yet");
    let unsent_max = setup.unsent_max;
    let network = Network::of(&io);
    let mut client = Client { dial, io, network, counters, outgoing, unsent_max, kept: VecDeque::new() };
    loop {
        match client.connect().await {
            Ok(stream) => {
                next_id += 1;
                let line = Line::new(stream, next_id, setup, &client.counters);
                client.io.link_up();
                tracing::info!(endpoint = client.io.name(), "connected");
                effects.set_window(usize::MAX);
                let Some(has_worked) = client.talk(line, &mut effects).await? else { return Ok(()) };
                effects.set_window(0);
                if has_worked {
                    failures = 0;
                }
            }
            Err(reason) => {
                client.counters.failures.add(1);
                client.io.link_down(&reason);
                if failures == 0 {
                    tracing::warn!(endpoint = client.io.name(), %reason, "cannot connect, trying on");
                }
            }
        }
        tokio::time::sleep(client.wait_after(failures)).await;
        failures = failures.saturating_add(1);
    }
}

impl Client<'_> {
    /// The wait after so many failures in a row: a fifth of it is chance, so that clients that lost one peer together do
    /// not all come back together.
    fn wait_after(&self, failures: u32) -> Duration {
        let (first, max) = self.dial.backoff;
        let full = first.saturating_mul(1 << failures.min(31)).min(max);
        let mut chance = [0; 2];
        self.io.random(&mut chance);
        full.mul_f64(1.0 - 0.2 * f64::from(u16::from_be_bytes(chance)) / f64::from(u16::MAX))
    }

    async fn connect(&self) -> Result<Stream, String> {
        match tokio::time::timeout(self.dial.connect, self.network.connect(&self.dial.address)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(format!("cannot connect: {}", error.kind())),
            Err(_) => Err(format!("cannot connect: no answer in {} ms", self.dial.connect.as_millis())),
        }
    }

    /// Serves one connection to its end, and says whether anything came in. None when the rig has ended.
    async fn talk(&mut self, line: Line, effects: &mut Effects) -> Result<Option<bool>, GearError> {
        let connection = Arc::clone(&line.connection);
        // In a set, so that it ends with this future.
        let mut task = tokio::task::JoinSet::new();
        task.spawn(converse(line, self.io.clone()));
        let talk = tokio::select! {
            biased;
            ended = task.join_next() => ended.transpose(),
            () = self.send_all(&connection, effects) => return Ok(None),
        };
        let talk = talk.map_err(|error| GearError::broken(format!("the connection's task failed: {error}")))?;
        let Some(talk) = talk else { return Ok(None) };
        self.io.link_down(talk.reason.text());
        tracing::warn!(endpoint = self.io.name(), reason = talk.reason.text(), "connection lost");
        // Before the rest is given back, so that nothing is taken again meanwhile.
        effects.set_window(0);
        let (begun, fresh): (Vec<_>, Vec<_>) = talk.leftovers.into_iter().partition(|leftover| leftover.is_begun);
        begun.into_iter().for_each(|leftover| self.keep(leftover.effect));
        let fresh = fresh.into_iter().map(|leftover| leftover.effect);
        // Of these no byte was written. While there is no connection they wait on their wires, where they expire, are
        // drained and outlive a crash as what they are: not sent.
        Effect::give_back_all(fresh.chain(self.outgoing.unsent()));
        Ok((talk.reason != Reason::Ended).then_some(talk.seen > 0))
    }

    /// What becomes of an effect of which some was written.
    fn keep(&mut self, effect: Effect) {
        match self.dial.on_maybe_sent {
            OnMaybeSent::Report => effect.unknown("the connection ended while it was written"),
            _ => self.kept.push_back(effect),
        }
    }

    /// Sends effects until the rig ends; stands still when the connection has ended.
    async fn send_all(&mut self, connection: &Connection, effects: &mut Effects) {
        let now_ns = self.io.now_ns();
        let mut batch = Vec::with_capacity(self.kept.len());
        for effect in self.kept.drain(..) {
            match effect.msg.expires {
                Some(expires) if expires < now_ns => effect.reject("expired"),
                _ => batch.push(effect),
            }
        }
        let mut places = Vec::new();
        loop {
            for effect in batch.into_iter().filter_map(unless_probe) {
                if let Some(effect) = self.fresh(effect, connection) {
                    places.extend(self.outgoing.add(effect));
                }
            }
            let mut sent = 0;
            while sent < places.len() {
                // A peer that is slow makes the wires wait, not the connection end.
                connection.room(self.unsent_max).await;
                match self.outgoing.send(connection, &places[sent..]) {
                    Some(count) => {
                        self.outgoing.done(&places[sent..sent + count]);
                        sent += count;
                    }
                    None => std::future::pending().await,
                }
            }
            places.clear();
            self.outgoing.finish();
            batch = effects.take_many(BATCH).await;
            if batch.is_empty() {
                return;
            }
        }
    }

    /// Ends what must not be sent, or not here.
    fn fresh(&self, effect: Effect, connection: &Connection) -> Option<Effect> {
        if effect.is_maybe_sent() && self.dial.on_maybe_sent == OnMaybeSent::Report {
            effect.unknown("the endpoint ended before it knew whether it was sent");
            return None;
        }
        // An answer to what the peer itself had asked over an earlier connection.
        if self.io.connection(&effect.msg).is_some_and(|id| id != connection.id) {
            effect.reject("gone");
            return None;
        }
        Some(effect)
    }
}
