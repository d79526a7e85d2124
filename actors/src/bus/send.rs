//! `bus_out`: effects leave as publishes, a bounded window of them at a time, and end when the server has acked them.
//! What may have been sent before is sent again under the same place on its wire: the receiver tells repeats by it.
//! A message over the server's limit is a dead letter here, before it is sent: how long it is shows when it is encoded with
//! its place on this wire, and the limit while there is a connection, so that no door before can know either.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::header::{HeaderMap, HeaderName, NATS_EXPECTED_STREAM, NATS_MESSAGE_ID};
use async_nats::{Client, Message, StatusCode, Subject, Subscriber, jetstream::ErrorCode};
use bytes::Bytes;
use fluxrig_protocol::subject::MsgSubject;
use fluxrig_protocol::{Flags, FluxMsg, Limits};
use futures_util::{FutureExt, StreamExt};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::check::backoff;
use super::stamp::{self, Stamp};
use super::streams::stream_name;
use super::{ANSWER_WAIT, Bus, BusError, Link};
use crate::endpoint::{Effect, Effects, Endpoint, Io};
use crate::gear::GearError;
use crate::port::Ports;
use crate::tally::Tally;

/// Publishes under way unless something else is said.
const WINDOW: usize = 512;

/// Most publishes under way: a quarter of what a consumer is given unacked, so that the receiver always gets what a
/// window that was sent again has left out.
const WINDOW_MAX: usize = 1024;

/// A sender that has nothing under way for so long says so, where its last message could not: a reader that came in the
/// middle of a window may wait for what it will never be given.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// Longest wait before what failed is tried again.
const AGAIN_MAX: Duration = Duration::from_secs(5);

const STAMP: HeaderName = HeaderName::from_static(stamp::HEADER);
const SETTLED: HeaderName = HeaderName::from_static(stamp::SETTLED);
const TRACE: HeaderName = HeaderName::from_static("traceparent");

/// What an ack of the servers stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BusDurability {
    /// On disk: the servers sync every write (`sync_interval: always`).
    #[default]
    Flush,
    /// In the page cache of the server: survives a crash of it, not a power cut.
    Os,
    /// In three servers or more: survives the loss of a minority of them.
    Replicated,
}

/// Publishes what comes by its port `in` on one subject.
#[derive(Clone, Debug)]
pub struct BusOut {
    /// The connection.
    pub bus: Arc<Bus>,
    /// Where to: the rack's own stream holds it.
    pub subject: MsgSubject,
    /// What an ack must stand for.
    pub durability: BusDurability,
    /// Publishes under way, at most 1024.
    pub window: usize,
    /// Consumers that must be there before anything is published, as rack and name: a stream keeps nothing for readers
    /// that it does not know.
    pub readers: Vec<(String, String)>,
}

impl BusOut {
    /// With everything else as it usually is.
    #[must_use]
    pub fn new(bus: Arc<Bus>, subject: MsgSubject) -> Self {
        Self { bus, subject, durability: BusDurability::default(), window: WINDOW, readers: Vec::new() }
    }

    /// Makes and looks at everything that has to be there before the first publish. How many bytes a message may have in
    /// the stream, where that is limited.
    async fn prepare(&self, link: &Link) -> Result<Option<usize>, BusError> {
        if self.durability == BusDurability::Flush {
            self.bus.syncs().await?;
        }
        let rack = self.subject.rack.as_str();
        let info = self.bus.ensure_stream(&link.context, rack).await?;
        if self.durability == BusDurability::Replicated {
            BusError::unless_replicated(&info.config.name, info.config.num_replicas)?;
        }
        let subject = self.subject.to_string();
        for (reader_rack, name) in &self.readers {
            self.bus.ensure_consumer(&link.context, &info.config.name, name, &subject, reader_rack).await?;
        }
        Ok(usize::try_from(info.config.max_message_size).ok().filter(|&bytes| bytes > 0))
    }
}

impl Endpoint for BusOut {
    const TYPE: &'static str = "bus_out";

    fn ports(&self) -> Ports {
        Ports::sink()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let mut sender = Sender::new(&self, &io);
        let mut attempt = 0;
        loop {
            sender.effects.set_window(0);
            let link = self.bus.up_or_say(|why| sender.say(&io, why)).await;
            let again = match self.prepare(&link).await {
                Ok(stream_max) => {
                    sender.stream_max = stream_max;
                    sender.said.clear();
                    io.link_up();
                    match sender.publish_on(&link, &mut attempt).await {
                        Ended::Rig => return Ok(()),
                        Ended::Lost => continue,
                        Ended::Again(why) => why,
                    }
                }
                Err(error) => error.to_string(),
            };
            sender.effects.set_window(0);
            sender.say(&io, &again);
            tokio::select! {
                () = tokio::time::sleep(backoff(attempt, AGAIN_MAX)) => attempt += 1,
                () = self.bus.lost(link.number) => {}
            }
        }
    }
}

/// Why a connection is not published on any more.
enum Ended {
    Rig,
    Lost,
    /// Something on the server is in the way.
    Again(String),
}

/// One publish that was not acked yet, or that waits for those before it.
struct Flight {
    /// `None` where only the place is told.
    effect: Option<Effect>,
    incarnation: u64,
    seq: u64,
    before: u64,
    id: String,
    trace: Option<String>,
    payload: Bytes,
    is_acked: bool,
}

/// One connection, while it is published on.
struct Way {
    client: Client,
    /// Where acks come to, with the number of their flight behind.
    inbox: String,
}

struct Sender<'a> {
    config: &'a BusOut,
    effects: Effects,
    flights: VecDeque<Flight>,
    /// Number of the flight at the front.
    first: u64,
    /// The sequence published last, of each wire.
    last: HashMap<u64, u64>,
    /// Wires whose last message did not say that everything before it is settled.
    unsettled: HashSet<u64>,
    subject: Subject,
    stream: String,
    window: usize,
    /// Bytes that a message may have in the stream.
    stream_max: Option<usize>,
    /// When something was last acked, or published with nothing under way.
    progress: Instant,
    said: String,
    acked: Tally,
    repeated: Tally,
    refused: Tally,
}

impl Drop for Sender<'_> {
    fn drop(&mut self) {
        self.config.bus.senders().fetch_sub(1, Ordering::Relaxed);
    }
}

impl<'a> Sender<'a> {
    fn new(config: &'a BusOut, io: &Io) -> Self {
        // Who holds as many as a wire takes would keep the doors closed.
        let window = config.window.clamp(1, WINDOW_MAX).min((io.capacity() / 2).max(1));
        config.bus.senders().fetch_add(1, Ordering::Relaxed);
        Self {
            config,
            effects: io.effects(),
            flights: VecDeque::new(),
            first: 0,
            last: HashMap::new(),
            unsettled: HashSet::new(),
            subject: config.subject.to_string().into(),
            stream: stream_name(config.subject.rack.as_str()),
            window,
            stream_max: None,
            progress: Instant::now(),
            said: String::new(),
            acked: io.tallies().tally("bus_publishes", "acked"),
            repeated: io.tallies().tally("bus_publishes", "repeated"),
            refused: io.tallies().tally("bus_publishes", "refused"),
        }
    }

    /// How many more may be published. A full stream refuses some of a window and takes others behind them, which their
    /// receiver cannot let in before the refused ones: all that is under way in the stream must leave room for those.
    fn room(&self) -> usize {
        let room = self.window.saturating_sub(self.flights.len());
        let Some(max_bytes) = self.config.bus.options().max_bytes else { return room };
        let senders = self.config.bus.senders().load(Ordering::Relaxed).max(1) as u64;
        let under_way = self.flights.iter().map(|flight| flight.payload.len() as u64).sum::<u64>();
        if under_way >= max_bytes / 2 / senders { 0 } else { room.min(1) }
    }

    /// Says once what is waited for.
    fn say(&mut self, io: &Io, why: &str) {
        if self.said != why {
            tracing::warn!(endpoint = %io.label(), subject = %self.subject, %why, "bus_out: waiting");
            io.link_down(why);
            why.clone_into(&mut self.said);
        }
    }

    async fn publish_on(&mut self, link: &Link, attempt: &mut u32) -> Ended {
        let client = link.context.client();
        let way = Way { inbox: client.new_inbox(), client };
        let mut lost = pin!(self.config.bus.lost(link.number));
        let Ok(mut acks) = way.client.subscribe(format!("{}.*", way.inbox)).await else { return Ended::Lost };
        if !self.publish_all(&way).await {
            return Ended::Lost;
        }
        loop {
            let room = self.room();
            self.effects.set_window(self.window);
            let is_idle = self.flights.is_empty();
            let is_silent_from = self.progress + if is_idle { SETTLED_AFTER } else { ANSWER_WAIT };
            let is_published = tokio::select! {
                biased;
                () = &mut lost => return Ended::Lost,
                ack = acks.next() => match self.take_acks(ack, &mut acks, attempt) {
                    Some(why) => return Ended::Again(why),
                    None => true,
                },
                effects = self.effects.take_many(room), if room > 0 => {
                    if effects.is_empty() {
                        return Ended::Rig;
                    }
                    self.publish_effects(&way, effects).await
                }
                () = sleep_until(is_silent_from), if is_idle && !self.unsettled.is_empty() => {
                    self.tell_settled(&way).await
                }
                () = sleep_until(is_silent_from), if !is_idle => {
                    let denied = self.config.bus.denied(&self.subject);
                    let silent = || BusError::Silent { what: format!("publish on `{}`", self.subject) };
                    return Ended::Again(denied.unwrap_or_else(silent).to_string());
                }
            };
            if !is_published {
                return Ended::Lost;
            }
        }
    }

    /// False when the connection is gone.
    async fn publish_effects(&mut self, way: &Way, effects: Vec<Effect>) -> bool {
        for effect in effects {
            if self.flights.is_empty() {
                self.progress = Instant::now();
            }
            if let Some((flight, headers)) = self.flight(effect, way) {
                let settled = self.flights.iter().find(|other| other.incarnation == flight.incarnation);
                match settled {
                    Some(_) => self.unsettled.insert(flight.incarnation),
                    None => self.unsettled.remove(&flight.incarnation),
                };
                self.flights.push_back(flight);
                if !self.send(way, self.flights.len() - 1, headers).await {
                    return false;
                }
            }
        }
        true
    }

    /// Says that everything published so far is settled. False when the connection is gone.
    async fn tell_settled(&mut self, way: &Way) -> bool {
        self.progress = Instant::now();
        for incarnation in std::mem::take(&mut self.unsettled) {
            let seq = self.last.get(&incarnation).copied().unwrap_or(0);
            self.flights.push_back(Flight {
                effect: None,
                incarnation,
                seq,
                before: 0,
                id: format!("{incarnation:016x}-{seq}-settled"),
                trace: None,
                payload: Bytes::new(),
                is_acked: false,
            });
            if !self.publish(way, self.flights.len() - 1).await {
                return false;
            }
        }
        true
    }

    /// What is published for an effect, with its headers; `None` when it cannot be, and is a dead letter.
    fn flight(&mut self, effect: Effect, way: &Way) -> Option<(Flight, HeaderMap)> {
        if effect.msg.flags.contains(Flags::PROBE) {
            // It only tests the way, and this is where the rack ends.
            effect.done();
            return None;
        }
        let (incarnation, seq) = effect.place();
        let msg: FluxMsg = effect.unflagged();
        let payload = match msg.encoded_shared(&Limits::MAX) {
            Ok(payload) => payload,
            Err(error) => {
                self.refused.add(1);
                effect.reject(&format!("bus: {error}"));
                return None;
            }
        };
        let before = self.last.get(&incarnation).copied().unwrap_or(0);
        let id = format!("{}-{}-{seq}", msg.id, self.config.subject.port);
        let trace = msg.trace.is_set().then(|| msg.trace.to_string());
        let flight = Flight { effect: Some(effect), incarnation, seq, before, id, trace, payload, is_acked: false };
        let headers = self.headers(&flight);
        if let Some(reason) = self.too_large(&flight, &headers, way) {
            self.refused.add(1);
            flight.effect.into_iter().for_each(|effect| effect.reject(&reason));
            return None;
        }
        self.last.insert(incarnation, seq);
        Some((flight, headers))
    }

    /// Why it is over a limit of the server or of the stream, which both count its headers.
    fn too_large(&self, flight: &Flight, headers: &HeaderMap, way: &Way) -> Option<String> {
        // Asked each time: a server whose configuration is read again keeps its connections.
        let server_max = way.client.max_payload();
        let Flight { incarnation, seq, before, .. } = *flight;
        // What is settled is told anew when it is sent again, and is never longer than this.
        let longest = Stamp { incarnation, seq, before, settled: seq }.to_string();
        let stamp = headers.get(stamp::HEADER).map_or(0, |stamp| stamp.as_str().len());
        let bytes = header_bytes(headers) + longest.len().saturating_sub(stamp) + flight.payload.len();
        let (limit, remedy) = match self.stream_max.filter(|&max| max < server_max) {
            Some(max) if bytes > max => {
                (format!("`max_msg_size` = {max} of stream `{}`", self.stream), "raise it (`nats stream edit`)")
            }
            None if bytes > server_max => {
                (format!("`max_payload` = {server_max} of the server"), "raise it on the servers and their leaf nodes")
            }
            _ => return None,
        };
        Some(format!(
            "bus: found a message of {bytes} bytes with its headers, expected at most {limit}; remedy: {remedy}, and replay the dead letter, or send less at once"
        ))
    }

    fn headers(&self, flight: &Flight) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let of_wire = |other: &&Flight| other.incarnation == flight.incarnation && other.effect.is_some();
        let settled = self.flights.iter().find(of_wire).map(|first| first.seq);
        let Flight { incarnation, seq, before, .. } = *flight;
        match flight.effect {
            Some(_) => {
                let stamp = Stamp { incarnation, seq, before, settled: settled.map_or(seq, |first| first.min(seq)) };
                headers.insert(STAMP, stamp.to_string());
            }
            None => headers.insert(SETTLED, format!("{incarnation:016x} {}", settled.unwrap_or(seq + 1))),
        }
        headers.insert(NATS_MESSAGE_ID, flight.id.as_str());
        headers.insert(NATS_EXPECTED_STREAM, self.stream.as_str());
        if let Some(trace) = &flight.trace {
            headers.insert(TRACE, trace.as_str());
        }
        headers
    }

    /// Publishes again everything that was not acked, in order. False when the connection is gone.
    async fn publish_all(&mut self, way: &Way) -> bool {
        self.progress = Instant::now();
        for idx in 0..self.flights.len() {
            if !self.flights[idx].is_acked {
                // The servers may take less by now. What only tells a place is as short as it can be.
                if self.flights[idx].effect.is_some()
                    && let Some(reason) = self.too_large(&self.flights[idx], &self.headers(&self.flights[idx]), way)
                {
                    self.refuse(idx, &reason);
                }
                self.repeated.add(1);
                if !self.publish(way, idx).await {
                    return false;
                }
            }
        }
        true
    }

    /// Makes a dead letter of what was published before and will never be stored. Those behind it were published as coming
    /// after it, so that their receiver must be told.
    fn refuse(&mut self, idx: usize, reason: &str) {
        self.refused.add(1);
        let flight = &mut self.flights[idx];
        flight.effect.take().into_iter().for_each(|effect| effect.reject(reason));
        flight.payload = Bytes::new();
        flight.id.push_str("-settled");
    }

    async fn publish(&self, way: &Way, idx: usize) -> bool {
        self.send(way, idx, self.headers(&self.flights[idx])).await
    }

    async fn send(&self, way: &Way, idx: usize, headers: HeaderMap) -> bool {
        let reply = format!("{}.{}", way.inbox, self.first + idx as u64);
        let (subject, payload) = (self.subject.clone(), self.flights[idx].payload.clone());
        way.client.publish_with_reply_and_headers(subject, reply, headers, payload).await.is_ok()
    }

    /// Takes an ack and all that are there with it, and ends what they complete. Says what is in the way, if anything.
    fn take_acks(&mut self, first: Option<Message>, acks: &mut Subscriber, attempt: &mut u32) -> Option<String> {
        let mut in_the_way = None;
        let mut next = first;
        while let Some(ack) = next {
            let why = self.take_ack(&ack);
            in_the_way = in_the_way.or(why);
            next = acks.next().now_or_never().flatten();
        }
        let mut ended = Vec::new();
        let before = self.flights.len();
        while let Some(flight) = self.flights.pop_front_if(|flight| flight.is_acked) {
            self.first += 1;
            ended.extend(flight.effect);
        }
        if self.flights.len() < before {
            self.progress = Instant::now();
            *attempt = 0;
        }
        self.acked.add(ended.len() as u64);
        Effect::done_all(ended);
        in_the_way
    }

    fn take_ack(&mut self, ack: &Message) -> Option<String> {
        let number: u64 = ack.subject.rsplit('.').next()?.parse().ok()?;
        let idx = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let flight = self.flights.get_mut(idx).filter(|flight| !flight.is_acked)?;
        if ack.status == Some(StatusCode::NO_RESPONDERS) {
            return Some(format!(
                "bus: found no stream that takes `{}`, expected `{}`; it is made again",
                self.subject, self.stream
            ));
        }
        match serde_json::from_slice(&ack.payload) {
            Ok(Answer { error: None, stream: Some(stream) }) if stream == self.stream => {
                flight.is_acked = true;
                None
            }
            Ok(Answer { error: Some(error), .. }) if error.is_of_message() => {
                let reason = format!(
                    "bus: found the server refusing the message (`{}`), expected it stored; remedy: raise the limit of stream `{}` that it names",
                    error.description, self.stream
                );
                self.refuse(idx, &reason);
                Some(reason)
            }
            Ok(Answer { error: Some(error), .. }) => Some(
                BusError::Answer { what: format!("publish on `{}`", self.subject), answer: error.description }
                    .to_string(),
            ),
            // Some stranger's answer.
            _ => None,
        }
    }
}

/// What the servers say to a publish.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    error: Option<Fault>,
    #[serde(default)]
    stream: Option<String>,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl Fault {
    /// Whether this message will never be stored, whatever becomes of the stream.
    fn is_of_message(&self) -> bool {
        [ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM, ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM]
            .iter()
            .any(|code| code.0 == self.err_code)
    }
}

/// What headers take on the connection.
fn header_bytes(headers: &HeaderMap) -> usize {
    let lines = headers.iter().flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |value| name.len() + value.as_str().len() + 4)
    });
    "NATS/1.0\r\n".len() + lines.sum::<usize>() + 2
}
