//! One terminal of the world outside: it makes its planned requests over one connection after the other, repeats what it
//! has no patience for, and notes all it sees. When faults have stopped it asks again for what has no answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use fluxrig_gears::sim::Stream;
use tokio::time::{Instant, sleep_until, timeout};

use super::draw;
use super::ledger::Event;
use super::message::{self, Told};
use super::plan::{Act, PlannedRequest};
use super::stage::{Entrance, Promise};
use super::world::{Phase, Post, World};

/// One attempt to connect may take so long.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Waits between attempts.
const CONNECT_AGAIN: Duration = Duration::from_millis(250);
/// In the end, a request is made again when it has no answer after so long, and so often.
const AGAIN_EVERY: Duration = Duration::from_secs(45);
const AGAIN_MAX: u32 = 4;
/// How long a terminal keeps a connection on which it said nothing that has a meaning.
const GARBAGE_MAX: Duration = Duration::from_secs(15);
const NEVER: Duration = Duration::from_secs(30 * 86_400);

/// A terminal.
pub(super) struct Terminal {
    pub(super) world: Arc<World>,
    pub(super) idx: usize,
    pub(super) entrance: Arc<Entrance>,
    pub(super) plan: Vec<PlannedRequest>,
    pub(super) post: Arc<Post>,
    pub(super) line: Line,
}

/// Its connection, and what it has asked.
#[derive(Default)]
pub(super) struct Line {
    stream: Option<Stream>,
    buffer: BytesMut,
    connect_at: Option<Instant>,
    next: usize,
    asked: BTreeMap<usize, Asked>,
    /// It knows that the last phase has begun.
    is_asking_again: bool,
}

/// A request that was to be made.
struct Asked {
    /// The patience of its terminal, which repeats it once.
    repeat_after: Option<Duration>,
    /// The connection it was made over last; none while it could not be made.
    connection: Option<u64>,
    /// It was made, as far as it was, while faults happened.
    is_of_storm: bool,
    is_answered: bool,
    repeat_at: Option<Instant>,
    times: u32,
}

impl Terminal {
    /// Lives until it has asked again for everything.
    pub(super) async fn run(mut self) {
        let origin = Instant::now();
        loop {
            self.count();
            if self.line.is_asking_again && self.is_done() {
                return;
            }
            let due = self.due(origin);
            let Self { post, line, .. } = &mut self;
            let Line { stream, buffer, .. } = line;
            tokio::select! {
                biased;
                () = post.bell.notified() => self.turn(),
                read = read(stream, buffer) => self.note_read(read),
                () = sleep_until(due) => self.act(origin).await,
            }
        }
    }

    fn phase(&self) -> Phase {
        self.post.phase()
    }

    fn count(&self) {
        let here = self.line.stream.as_ref().map(Stream::id);
        let waits = |asked: &&Asked| !asked.is_answered && asked.connection.is_some() && asked.connection == here;
        self.post.waiting.store(self.line.asked.values().filter(waits).count(), Ordering::Relaxed);
    }

    fn is_done(&self) -> bool {
        let is_silent = self.entrance.promise == Promise::Silence;
        let is_over = |asked: &Asked| {
            asked.is_answered || is_silent && asked.times > 0 || asked.times >= AGAIN_MAX && asked.repeat_at.is_none()
        };
        self.line.next >= self.plan.len() && self.line.asked.values().all(is_over)
    }

    /// The next time that something is to be done.
    fn due(&self, origin: Instant) -> Instant {
        let never = Instant::now() + NEVER;
        let Line { stream, connect_at, next, asked, .. } = &self.line;
        if self.phase() == Phase::Calm {
            return never;
        }
        let planned = self.plan.get(*next).map(|planned| origin + planned.at);
        let repeats = asked.values().filter(|asked| !asked.is_answered).filter_map(|asked| asked.repeat_at);
        let at = planned.into_iter().chain(repeats).min().unwrap_or(never);
        match stream {
            Some(_) => at,
            None => connect_at.map_or(at, |connect_at| at.max(connect_at)),
        }
    }

    async fn act(&mut self, origin: Instant) {
        let now = Instant::now();
        if let Some(planned) = self.plan.get(self.line.next).filter(|planned| origin + planned.at <= now).cloned() {
            self.line.next += 1;
            match planned.act {
                Act::HangUp => return self.hang_up("hung up"),
                Act::Garbage => return self.babble(planned.idx),
                Act::Ask { repeat_after } => {
                    let asked = Asked {
                        repeat_after,
                        connection: None,
                        is_of_storm: false,
                        is_answered: false,
                        repeat_at: None,
                        times: 0,
                    };
                    self.line.asked.insert(planned.idx, asked);
                    return self.ask(planned.idx).await;
                }
            }
        }
        let due = |asked: &Asked| !asked.is_answered && asked.repeat_at.is_some_and(|at| at <= now);
        let is_again = self.phase() == Phase::Again;
        let Some((number, asked)) = self.line.asked.iter_mut().find(|(_, asked)| due(asked)) else { return };
        if is_again && asked.times >= AGAIN_MAX {
            asked.repeat_at = None;
            return;
        }
        let number = *number;
        self.ask(number).await;
    }

    /// Sends a request, over a new connection when there is none.
    async fn ask(&mut self, number: usize) {
        if self.line.stream.is_none() && !self.connect().await {
            // It stays due, and is tried again with the next connection.
            if let Some(asked) = self.line.asked.get_mut(&number) {
                asked.repeat_at = Some(Instant::now());
            }
            return;
        }
        let (Some(stream), Some(request)) = (&self.line.stream, self.world.request(number)) else { return };
        let (id, phase) = (stream.id(), self.phase());
        let sent = stream.send(&self.entrance.frames.frame(&request.body));
        self.world.ledger.note(Event::Sent { request: number, terminal: self.idx, connection: id });
        if let Some(asked) = self.line.asked.get_mut(&number) {
            (asked.connection, asked.is_of_storm) = (Some(id), phase == Phase::Storm);
            asked.times += 1;
            // Most terminals repeat nothing while faults happen: what they are owed comes without a second word.
            let after = if phase == Phase::Again { Some(AGAIN_EVERY) } else { asked.repeat_after.take() };
            asked.repeat_at = after.map(|after| Instant::now() + after);
        }
        if sent.is_err() {
            self.hang_up("broke");
        }
    }

    async fn connect(&mut self) -> bool {
        let connected = timeout(CONNECT_MAX, self.world.network.connect(&self.entrance.address)).await;
        self.line.buffer.clear();
        self.line.stream = connected.ok().and_then(Result::ok);
        self.line.connect_at = Some(Instant::now() + CONNECT_AGAIN);
        self.line.stream.is_some()
    }

    fn hang_up(&mut self, why: &'static str) {
        let Some(stream) = self.line.stream.take() else { return };
        self.world.ledger.note(Event::Ended { connection: stream.id(), why });
        if self.phase() == Phase::Calm {
            return;
        }
        // Half of the terminals repeat what they have no answer to as soon as they can.
        let is_again = self.phase() == Phase::Again;
        for (number, asked) in self.line.asked.iter_mut().filter(|(_, asked)| !asked.is_answered) {
            if draw(self.world.seed, "eager", *number as u64).is_multiple_of(2) || is_again {
                asked.repeat_at = Some(Instant::now());
            }
        }
    }

    /// Says what is no message, over a connection of its own.
    fn babble(&self, number: usize) {
        let (world, entrance) = (Arc::clone(&self.world), Arc::clone(&self.entrance));
        let bytes = message::garbage(world.seed, number);
        world.ledger.note(Event::Garbage { request: number });
        tokio::spawn(async move {
            let connected = timeout(CONNECT_MAX, world.network.connect(&entrance.address)).await;
            let Ok(Ok(mut stream)) = connected else { return };
            let is_framed = draw(world.seed, "framed", number as u64).is_multiple_of(2);
            let bytes = if is_framed { entrance.frames.frame(&bytes) } else { bytes };
            if stream.send(&bytes).is_ok() {
                drop(timeout(GARBAGE_MAX, read_all(&mut stream)).await);
            }
        });
    }

    /// Another phase has begun.
    fn turn(&mut self) {
        if self.line.stream.as_ref().is_some_and(Stream::is_lost) {
            self.hang_up("led nowhere");
        }
        if self.phase() != Phase::Again {
            return;
        }
        self.line.is_asking_again = true;
        let here = self.line.stream.as_ref().map(Stream::id);
        for (number, asked) in self.line.asked.iter_mut().filter(|(_, asked)| !asked.is_answered) {
            if let Some(connection) =
                asked.connection.filter(|connection| asked.is_of_storm && Some(*connection) == here)
            {
                self.world.ledger.note(Event::Silent { request: *number, connection });
            }
            (asked.times, asked.repeat_at) = (0, Some(Instant::now()));
        }
    }

    fn note_read(&mut self, read: std::io::Result<usize>) {
        match read {
            Ok(0) => return self.hang_up("closed by the server"),
            Err(_) => return self.hang_up("broke"),
            Ok(_) => {}
        }
        let connection = self.line.stream.as_ref().map_or(0, Stream::id);
        loop {
            match self.entrance.frames.take(&mut self.line.buffer) {
                Ok(Some(body)) if body.is_empty() && self.entrance.frames.has_polls() => self.echo(),
                Ok(Some(body)) => self.note_answer(&body, connection),
                Ok(None) => return,
                Err(_) => {
                    let what = "bytes that are no frame".to_owned();
                    self.world.ledger.note(Event::Wrong { connection, what });
                    return self.hang_up("no frames");
                }
            }
        }
    }

    /// A message without bytes asks whether somebody is there.
    fn echo(&self) {
        if let Some(stream) = &self.line.stream {
            // On a connection that has ended it has nowhere to go, which the next read tells.
            drop(stream.send(&self.entrance.frames.frame(&[])));
        }
    }

    fn note_answer(&mut self, body: &[u8], connection: u64) {
        let request = |number| self.world.request(number);
        let echoed = self.world.traffic.echoed.as_deref();
        let event = match message::told(&self.entrance.speech, body, &request, echoed) {
            Told::Answer { request, code } => {
                if let Some(asked) = self.line.asked.get_mut(&request) {
                    asked.is_answered = true;
                }
                Event::Answer { request, connection, code }
            }
            Told::Wrong(what) => Event::Wrong { connection, what },
        };
        self.world.ledger.note(event);
    }
}

async fn read(stream: &mut Option<Stream>, buffer: &mut BytesMut) -> std::io::Result<usize> {
    match stream {
        Some(stream) => stream.read(buffer).await,
        None => std::future::pending().await,
    }
}

async fn read_all(stream: &mut Stream) {
    let mut buffer = BytesMut::new();
    while matches!(stream.read(&mut buffer).await, Ok(1..)) {
        buffer.clear();
    }
}
