//! `bus_in`: a named durable consumer of one subject, whose messages are let in once, in the order of their wire.
//! What was let in is kept with the admission; the server is acked when that is durable.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::consumer::{FromConsumer, PullConsumer, pull::Config};
use async_nats::{Client, HeaderName, Subject, jetstream};
use bytes::Bytes;
use fluxrig_protocol::subject::MsgSubject;
use fluxrig_protocol::{FluxMsg, Limits, Value};
use futures_util::FutureExt;
use smol_str::{SmolStr, format_smolstr};
use tokio::sync::{mpsc, watch};

use super::check::backoff;
use super::order::{Arrival, Order, Through};
use super::stamp::{self, Stamp};
use super::streams::consumer_info;
use super::{Bus, BusError, Link};
use crate::endpoint::{Admission, Endpoint, Io, Keep, Receipt, Refused};
use crate::gear::GearError;
use crate::port::Ports;
use crate::tally::Tally;

mod acks;
mod pull;
mod settling;
mod stranger;

use acks::{Job, Strangers, ack_all};
use pull::Pull;
use settling::{Settling, knows_less};
use stranger::STRANGER;

/// Messages asked for at once, and let in at once.
const BATCH: usize = 256;

/// A server that says nothing for two of these is asked anew.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long one request for messages stands.
const EXPIRES: Duration = Duration::from_secs(30);

/// How often a consumer is asked whether everything it had given before has come again.
const SETTLING_EVERY: Duration = Duration::from_millis(100);

/// Longest wait before what failed is tried again.
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// Batches that were let in and wait to be acked.
const UNACKED_BATCHES: usize = 64;

/// Key of a wire's floor, with its incarnation behind.
const FLOOR: &str = "bus.floor.";

const STAMP: HeaderName = HeaderName::from_static(stamp::HEADER);
const SETTLED: HeaderName = HeaderName::from_static(stamp::SETTLED);

/// Lets in what is published on one subject, through its door `out`.
#[derive(Clone, Debug)]
pub struct BusIn {
    /// The connection.
    pub bus: Arc<Bus>,
    /// Where from: the stream of the rack in it.
    pub subject: MsgSubject,
    /// Name of the consumer on the servers, which is its place in the stream. Without one, this rack's and the endpoint's.
    pub reader: Option<String>,
}

impl BusIn {
    /// With everything else as it usually is.
    #[must_use]
    pub fn new(bus: Arc<Bus>, subject: MsgSubject) -> Self {
        Self { bus, subject, reader: None }
    }

    /// The consumer that an endpoint of this name has, unless it is told another.
    #[must_use]
    pub fn reader_name(rack: &str, endpoint: &str) -> String {
        let token = |byte: char| if byte.is_ascii_alphanumeric() || byte == '-' { byte } else { '_' };
        format!("{rack}_{endpoint}").chars().map(token).collect()
    }

    async fn attach(&self, io: &Io, link: &Link) -> Result<Attached, BusError> {
        let stream = self.bus.ensure_stream(&link.context, self.subject.rack.as_str()).await?;
        let name = self.reader.clone().unwrap_or_else(|| Self::reader_name(self.bus.rack(), io.name()));
        let subject = self.subject.to_string();
        let context = &link.context;
        let info = self.bus.ensure_consumer(context, &stream.config.name, &name, &subject, self.bus.rack()).await?;
        let answer = |answer: String| BusError::Answer { what: format!("consumer `{name}`"), answer };
        let config =
            Config::try_from_consumer_config(info.config.clone()).map_err(|error| answer(error.to_string()))?;
        let (acked, delivered) = (info.ack_floor.stream_sequence, info.delivered.consumer_sequence);
        let settling = (info.num_ack_pending > 0).then(Settling::default);
        let consumer = PullConsumer::new(config, info, context.clone());
        let messages = Pull::new(context, consumer).await.map_err(answer)?;
        Ok(Attached { messages, stream: stream.config.name, name, acked, delivered, settling })
    }
}

/// A consumer that is being read.
struct Attached {
    messages: Pull,
    stream: String,
    name: String,
    /// Everything in the stream up to here is acked.
    acked: u64,
    /// The consumer's last delivery.
    delivered: u64,
    /// What came, while something given before may still come again.
    settling: Option<Settling>,
}

impl Attached {
    /// One more message came. False when a delivery before it did not: it comes again later, behind newer ones.
    fn come(&mut self, message: jetstream::Message, ready: &mut Vec<jetstream::Message>) -> bool {
        let Ok(info) = message.info() else { return false };
        let (place, delivery) = (info.stream_sequence, info.consumer_sequence);
        let is_next = delivery == self.delivered + 1;
        self.delivered = delivery;
        match &mut self.settling {
            Some(settling) => settling.add(place, delivery, message),
            None if is_next => ready.push(message),
            None => return false,
        }
        true
    }

    /// Takes what is there, at most a batch of it; says what ended the consumer, if anything did.
    fn take_more(&mut self, first: Option<Next>, ready: &mut Vec<jetstream::Message>) -> Option<String> {
        let mut next = match first {
            Some(next) => next,
            None => self.messages.next().now_or_never()?,
        };
        loop {
            let problem = match next {
                Ok(message) => (!self.come(message, ready)).then(|| MISSED.to_owned()),
                Err(error) => Some(format!(
                    "bus: found the consumer not answering ({error}), expected messages or heartbeats; it is asked anew"
                )),
            };
            if problem.is_some() || ready.len() >= BATCH {
                return problem;
            }
            next = self.messages.next().now_or_never()?;
        }
    }

    /// Asks whether everything has come again, and gives it in the order of the stream if so.
    async fn settle(&mut self, link: &Link, ready: &mut Vec<jetstream::Message>) -> Option<String> {
        let delivered = self.delivered;
        let info = match consumer_info(&link.context, &self.stream, &self.name).await {
            Ok(Some(info)) => info,
            Ok(None) => return Some(GONE.to_owned()),
            Err(error) => return Some(error.to_string()),
        };
        if knows_less(&info, delivered) {
            return Some(KNOWS_LESS.to_owned());
        }
        // What was given before that answer is here by now.
        if let Some(error) = self.take_more(None, ready) {
            return Some(error);
        }
        if let Some(settling) = self.settling.take_if(|settling| settling.is_whole(&info)) {
            ready.extend(settling.into_messages());
        }
        None
    }
}

/// What a consumer's messages give next.
type Next = Result<jetstream::Message, String>;

const MISSED: &str = "bus: found deliveries of the consumer missing, expected all of them; it is asked anew";
const KNOWS_LESS: &str = "bus: found a server that knows of fewer deliveries of the consumer than have come, expected all of them; it is asked anew";
const GONE: &str = "bus: found the consumer gone, expected it there; it is made again";

impl Endpoint for BusIn {
    const TYPE: &'static str = "bus_in";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let (jobs, acks) = mpsc::channel(UNACKED_BATCHES);
        let done = watch::Sender::new(0);
        let (this, io) = (&*self, &io);
        let mut receiver = Receiver::new(this, io, jobs, done.subscribe());
        let acking = ack_all(acks, io.door(), Arc::clone(&receiver.strangers), done);
        let reading = async move {
            let mut attempt = 0;
            loop {
                let link = this.bus.up_or_say(|why| receiver.say(io, why)).await;
                // What was let in is acked first: it would be waited for otherwise.
                receiver.acked_all().await;
                let why = match this.attach(io, &link).await {
                    Ok(attached) => {
                        receiver.said.clear();
                        io.link_up();
                        match receiver.read(io, &link, attached, &mut attempt).await {
                            Ended::Rig => return,
                            Ended::Lost => continue,
                            Ended::Again(why) => why,
                        }
                    }
                    Err(error) => error.to_string(),
                };
                receiver.say(io, &why);
                tokio::select! {
                    () = tokio::time::sleep(backoff(attempt, AGAIN_MAX)) => attempt += 1,
                    () = this.bus.lost(link.number) => {}
                }
            }
        };
        // What was let in is acked also when nothing more comes in.
        futures_util::future::join(reading, acking).await;
        Ok(())
    }
}

/// Why a connection is not read any more.
enum Ended {
    Rig,
    Lost,
    Again(String),
}

/// A message, or what is no message, and why.
type Body = Result<FluxMsg, (Bytes, String)>;

/// Something that was read, and is let in when its turn comes.
struct Item {
    body: Body,
    reply: Option<Subject>,
}

struct Receiver<'a> {
    config: &'a BusIn,
    door: Admission,
    limits: Limits,
    order: Order<Item>,
    /// The wire whose floor was kept last, with its key: runs of one wire are the rule.
    floor: (u64, SmolStr),
    strangers: Arc<Mutex<Strangers>>,
    last: Option<Receipt>,
    jobs: mpsc::Sender<Job>,
    /// Jobs given, and jobs done.
    sent: u64,
    done: watch::Receiver<u64>,
    said: String,
    let_in: Tally,
    repeats: Tally,
    refused: Tally,
    lost: Tally,
    unexplained: Tally,
}

impl<'a> Receiver<'a> {
    fn new(config: &'a BusIn, io: &Io, jobs: mpsc::Sender<Job>, done: watch::Receiver<u64>) -> Self {
        let recovered = io.recovered();
        let floor = |(key, value): &(SmolStr, Value)| {
            let incarnation = u64::from_str_radix(key.strip_prefix(FLOOR)?, 16).ok()?;
            Some((incarnation, u64::try_from(value.as_int()?).ok()?))
        };
        let strangers = recovered.iter().filter(|(key, _)| key.starts_with(STRANGER));
        let tally = |label| io.tallies().tally("bus_arrivals", label);
        Self {
            config,
            door: io.door(),
            limits: io.limits(),
            order: Order::new(recovered.iter().filter_map(floor)),
            floor: (0, floor_key(0)),
            strangers: Arc::new(Mutex::new(Strangers {
                known: strangers.map(|(key, _)| key.clone()).collect(),
                confirmed: VecDeque::new(),
            })),
            last: None,
            jobs,
            sent: 0,
            done,
            said: String::new(),
            let_in: tally("let in"),
            repeats: tally("repeats"),
            refused: tally("refused"),
            lost: tally("never arrived"),
            unexplained: tally("unexplained"),
        }
    }

    /// Says once what is waited for.
    fn say(&mut self, io: &Io, why: &str) {
        if self.said != why {
            tracing::warn!(endpoint = %io.label(), subject = %self.config.subject, %why, "bus_in: waiting");
            io.link_down(why);
            why.clone_into(&mut self.said);
        }
    }

    async fn read(&mut self, io: &Io, link: &Link, mut attached: Attached, attempt: &mut u32) -> Ended {
        self.forget_acked(attached.acked);
        // The server gives again what was not acked, and the consumer begins with it.
        self.order.forget_held();
        let client = link.context.client();
        let mut lost = pin!(self.config.bus.lost(link.number));
        let mut draining = pin!(io.draining().fuse());
        loop {
            tokio::select! {
                biased;
                () = &mut lost => return Ended::Lost,
                open = self.door.open() => {
                    if open.is_err() {
                        return Ended::Rig;
                    }
                }
            }
            let mut ready = Vec::new();
            let is_settling = attached.settling.is_some();
            let mut error = tokio::select! {
                biased;
                () = &mut lost => return Ended::Lost,
                // The door knows whether it takes something all the same: answers come in to the last.
                () = &mut draining => continue,
                next = attached.messages.next() => attached.take_more(Some(next), &mut ready),
                () = tokio::time::sleep(SETTLING_EVERY), if is_settling => None,
            };
            if is_settling && error.is_none() {
                error = attached.settle(link, &mut ready).await;
            }
            if !ready.is_empty() {
                *attempt = 0;
                let repeats = self.repeats.get();
                let mut batch = Batch::new(&client);
                for message in ready {
                    self.take(io, message, &mut batch);
                }
                if !self.let_in(io, batch).await {
                    return Ended::Rig;
                }
                // The server says nothing to an ack, and gives again what it was not let ack.
                if self.repeats.get() > repeats
                    && let Some(denied) = self.config.bus.denied_ack()
                {
                    return Ended::Again(denied.to_string());
                }
            }
            if let Some(why) = error {
                let denied = self.config.bus.denied_api();
                return Ended::Again(denied.map_or(why, |denied| denied.to_string()));
            }
        }
    }

    /// Waits until what was let in is acked, or nobody acks any more.
    async fn acked_all(&mut self) {
        let sent = self.sent;
        drop(self.done.wait_for(|done| *done >= sent).await);
    }

    /// Forgets strangers' messages that cannot come again.
    fn forget_acked(&mut self, acked: u64) {
        let can_come = |key: &SmolStr| {
            let place = key.strip_prefix(STRANGER).and_then(|place| place.split('.').next());
            place.and_then(|seq| seq.parse::<u64>().ok()).is_some_and(|seq| seq > acked)
        };
        let mut strangers = self.strangers.lock().expect("nothing panics while it is held");
        let mut keep = Keep::default();
        for key in strangers.known.iter().filter(|key| !can_come(key)) {
            keep = keep.remove(key.clone());
        }
        strangers.known.retain(can_come);
        strangers.confirmed.retain(can_come);
        drop(strangers);
        self.door.keep(keep);
    }

    /// Reads one message and puts what may be let in because of it into the batch.
    fn take(&mut self, io: &Io, message: jetstream::Message, batch: &mut Batch) {
        let reply = message.message.reply.clone();
        if let Some(text) = header(&message, SETTLED) {
            if let Some((incarnation, settled)) = stamp::settled(text) {
                self.order.settle(incarnation, settled, &mut batch.through);
                self.collect(batch);
            }
            batch.replies.extend(reply);
            return;
        }
        let Some(stamp) = header(&message, STAMP).and_then(|text| text.parse::<Stamp>().ok()) else {
            return self.take_stranger(io, &message, batch);
        };
        let body = self.decode(&message.payload);
        let mut evicted = None;
        let arrival = self.order.arrive(stamp, Item { body, reply: reply.clone() }, &mut batch.through, &mut evicted);
        if let Some(evicted) = evicted {
            batch.evicted.push(floor_key(evicted));
        }
        self.collect(batch);
        match arrival {
            Arrival::Taken => {}
            Arrival::Repeat => {
                self.repeats.add(1);
                batch.replies.extend(reply);
            }
            // The copy that waits is acked in its turn, or this one when it comes again.
            Arrival::Held => self.repeats.add(1),
        }
    }

    /// Says what never arrived, and puts what may go on behind what the batch holds already.
    fn collect(&mut self, batch: &mut Batch) {
        let lost = std::mem::take(&mut self.order.lost);
        if lost > 0 {
            self.lost.add(lost);
            tracing::error!(
                subject = %self.config.subject,
                at_least = lost,
                "bus_in: found messages missing that the server had acked, expected all of them; remedy: see who purged the stream or cut its store, `fluxrig bus status` shows what is there"
            );
        }
        let unexplained = std::mem::take(&mut self.order.unexplained);
        if unexplained > 0 {
            self.unexplained.add(unexplained);
            tracing::error!(
                subject = %self.config.subject,
                at_most = unexplained,
                "bus_in: found messages missing from before the last start of their sender, expected those that are not among its dead letters; remedy: look there, and see who purged the stream or cut its store"
            );
        }
        for Through { incarnation, seq, item } in batch.through.drain(..) {
            let Item { body, reply } = item;
            batch.replies.extend(reply);
            let seq = i64::try_from(seq).unwrap_or(i64::MAX);
            if self.floor.0 != incarnation {
                self.floor = (incarnation, floor_key(incarnation));
            }
            let keep = Keep::default().put(self.floor.1.clone(), seq);
            batch.ready.push_back((body, keep));
        }
    }

    fn decode(&self, payload: &Bytes) -> Body {
        let refused = |reason: String| Err((payload.clone(), reason));
        match FluxMsg::decode_shared(payload, &self.limits) {
            Ok(msg) if msg.path.len() < self.limits.hops => Ok(msg),
            Ok(msg) => {
                let (found, most) = (msg.path.len() + 1, self.limits.hops);
                refused(format!(
                    "bus: found a message with {found} hops, expected at most {most}; remedy: look for a loop over the bus"
                ))
            }
            Err(error) => refused(format!("bus: {error}")),
        }
    }

    /// Lets in what is ready, in order, and has it acked when that is durable. False when the rig takes nothing any more.
    async fn let_in(&mut self, io: &Io, batch: Batch) -> bool {
        let Batch { mut ready, client, replies, strangers, evicted, .. } = batch;
        let mut run = VecDeque::with_capacity(ready.len());
        let mut count = 0;
        while let Some((body, keep)) = ready.pop_front() {
            match body {
                Ok(msg) => {
                    count += 1;
                    run.push_back((msg, keep));
                }
                Err((payload, reason)) => {
                    if !self.admit(io, &mut run).await {
                        return false;
                    }
                    self.refused.add(1);
                    tracing::warn!(subject = %self.config.subject, %reason, "bus_in: refused");
                    self.last = Some(self.door.bury(self.stand_in(io, payload), &reason, keep));
                }
            }
        }
        if !self.admit(io, &mut run).await {
            return false;
        }
        self.let_in.add(count);
        if !evicted.is_empty() {
            self.door.keep(evicted.into_iter().fold(Keep::default(), Keep::remove));
        }
        if replies.is_empty() && strangers.is_empty() {
            return true;
        }
        // A repeat may be of something that was let in and is not durable yet, so that it waits as well.
        let job = Job { receipt: self.last.clone(), client, replies, strangers };
        self.sent += 1;
        self.jobs.send(job).await.is_ok()
    }

    async fn admit(&mut self, io: &Io, run: &mut VecDeque<(FluxMsg, Keep)>) -> bool {
        while !run.is_empty() {
            match self.door.admit_all_with(run).await {
                Ok(receipt) => self.last = receipt.or(self.last.take()),
                Err(Refused::Closed(..)) => return false,
                // It was looked at before, so that this is a limit which it meets only in here.
                Err(Refused::Limit(msg, error)) => {
                    self.refused.add(1);
                    let mut stand_in = io.message();
                    stand_in.id = msg.id;
                    self.last = Some(self.door.bury(stand_in, &error.to_string(), Keep::default()));
                }
            }
        }
        true
    }

    /// A dead letter's message for a payload that is none.
    fn stand_in(&self, io: &Io, payload: Bytes) -> FluxMsg {
        let mut msg = io.message();
        msg.set_meta("bus.subject", self.config.subject.to_string());
        msg.set_meta("bus.bytes", payload.len().to_string());
        let bare = msg.clone();
        msg.set_raw(Some(payload));
        if msg.check(&self.limits).is_ok() { msg } else { bare }
    }
}

/// What one look at the consumer gave.
struct Batch {
    through: Vec<Through<Item>>,
    ready: VecDeque<(Body, Keep)>,
    client: Client,
    replies: Vec<Subject>,
    strangers: Vec<(SmolStr, Subject, &'static [u8])>,
    evicted: Vec<SmolStr>,
}

impl Batch {
    fn new(client: &Client) -> Self {
        Self {
            through: Vec::new(),
            ready: VecDeque::new(),
            client: client.clone(),
            replies: Vec::new(),
            strangers: Vec::new(),
            evicted: Vec::new(),
        }
    }
}

fn header(message: &jetstream::Message, name: HeaderName) -> Option<&str> {
    message.headers.as_ref()?.get(name).map(|value| value.as_str())
}

const BAD_STAMP: &str = "bus: found a `Flux-Wire` header that is none, expected one of ours; remedy: use the same version on both sides, and let no stranger write that header";

const ACK: &[u8] = b"+ACK";
const TERM: &[u8] = b"+TERM";

fn floor_key(incarnation: u64) -> SmolStr {
    format_smolstr!("{FLOOR}{incarnation:016x}")
}
