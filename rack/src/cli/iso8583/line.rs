//! One terminal under load: a writer that keeps the pace, a reader that matches answers to requests, and between them
//! the requests that are open. Who sends has a permit for it; the reader gives it back. A lost connection is made again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fluxrig_actors::protocol::{Map, SmolStr, Value};
use fluxrig_gears::iso8583::{Decoded, Spec, response_mti};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::connect;
use super::frame::{Frames, Messages};
use super::report::Report;
use super::request::{Run, Stamp, Terminal};

/// Requests that go out with one write.
const BATCH: usize = 64;
/// How often the reader looks for requests whose time is over.
const SWEEP: Duration = Duration::from_millis(50);
/// Waits before a lost connection is made again: they double from the first to the longest.
const RECONNECT_FIRST: Duration = Duration::from_millis(50);
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// When requests are due.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// As soon as an answer makes room.
    Closed,
    /// At fixed times, whatever the answers do.
    Open {
        /// Of the first one.
        first: Instant,
        /// Between two of one connection.
        every: Duration,
    },
}

/// What all connections have in common.
pub(super) struct Plan {
    pub(super) run: Run,
    pub(super) spec: Spec,
    pub(super) frames: Frames,
    pub(super) mti: String,
    /// Fields that every request has.
    pub(super) fields: Map,
    /// Where the peer listens.
    pub(super) target: String,
    /// For a connection, and for an answer.
    pub(super) timeout: Duration,
    /// No request is sent after this. Whoever wants to stop early makes it earlier.
    pub(super) end: watch::Sender<Instant>,
    /// Open requests of one connection.
    pub(super) open_max: usize,
    /// For the bar.
    pub(super) answered: AtomicU64,
}

impl Plan {
    pub(super) fn end(&self) -> Instant {
        *self.end.borrow()
    }

    /// Waits for the end, also when it is made earlier.
    async fn ended(&self) {
        let mut end = self.end.subscribe();
        loop {
            let until = *end.borrow_and_update();
            tokio::select! {
                () = sleep_until(until) => return,
                // The plan has the other half, so it is never closed.
                _ = end.changed() => {}
            }
        }
    }
}

/// A request that waits for its answer.
struct Open {
    stamp: Stamp,
    amount: Option<SmolStr>,
    due: Instant,
    sent: Instant,
}

struct Line {
    plan: Arc<Plan>,
    terminal: SmolStr,
    open: Mutex<HashMap<u32, Open>>,
    permits: Semaphore,
    has_sent_all: AtomicBool,
}

impl Line {
    fn open(&self) -> MutexGuard<'_, HashMap<u32, Open>> {
        self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Sends requests until the plan ends, over one connection after the other when they are lost, and waits for the answers.
pub(super) async fn drive(plan: Arc<Plan>, stream: TcpStream, terminal: Terminal, pace: Pace) -> Report {
    let mut report = Report::new();
    let mut sender = Sender { terminal, pace, next: 0 };
    let mut stream = Some(stream);
    while let Some(connected) = stream {
        let lost = talk(&plan, connected, &mut sender, &mut report).await;
        stream = match lost {
            None => None,
            Some(reason) => {
                *report.lost.entry(reason).or_default() += 1;
                reconnected(&plan, &mut report).await
            }
        };
        // What was due without a connection was not sent, and is not sent in one burst now.
        sender.skip(Instant::now());
    }
    let due = due_until(pace, plan.end());
    report.unsent = due.map_or(0, |due| due.saturating_sub(report.sent));
    report
}

/// One connection to its end. Gives why it was lost, or nothing when all was sent and answered or given up.
async fn talk(plan: &Arc<Plan>, stream: TcpStream, sender: &mut Sender, report: &mut Report) -> Option<String> {
    let (read, write) = stream.into_split();
    let line = Arc::new(Line {
        plan: Arc::clone(plan),
        terminal: sender.terminal.id.clone(),
        open: Mutex::new(HashMap::new()),
        permits: Semaphore::new(plan.open_max),
        has_sent_all: AtomicBool::new(false),
    });
    let mut reader = Reader { line: Arc::clone(&line), report };
    let mut writer = Writer { line: Arc::clone(&line), sender, sent: 0 };
    let lost = {
        let (reading, writing) = (reader.read(read), writer.write(write));
        tokio::pin!(reading, writing);
        tokio::select! {
            read = &mut reading => read.err(),
            written = &mut writing => match written {
                Ok(half) => {
                    line.has_sent_all.store(true, Ordering::Release);
                    let read = reading.await;
                    // Open until the last answer is there: a peer may take its end for the end of all.
                    drop(half);
                    read.err()
                }
                Err(reason) => Some(reason),
            }
        }
    };
    let sent = writer.sent;
    report.sent += sent;
    report.unanswered += line.open().len() as u64;
    lost
}

/// The next connection; nothing when there is none before the end.
async fn reconnected(plan: &Plan, report: &mut Report) -> Option<TcpStream> {
    let mut wait = RECONNECT_FIRST;
    loop {
        tokio::select! {
            biased;
            () = plan.ended() => return None,
            () = tokio::time::sleep(wait) => {}
        }
        let attempt = tokio::select! {
            biased;
            () = plan.ended() => return None,
            attempt = connect(&plan.target, plan.timeout) => attempt,
        };
        match attempt {
            Ok(stream) => {
                report.reconnected += 1;
                return Some(stream);
            }
            Err(_) => report.refused += 1,
        }
        wait = RECONNECT_MAX.min(wait * 2);
    }
}

/// Requests that the pace has due before the end; `None` when it follows the answers.
fn due_until(pace: Pace, end: Instant) -> Option<u64> {
    match pace {
        Pace::Closed => None,
        Pace::Open { first, every } => {
            let nanos = end.saturating_duration_since(first).as_nanos();
            u64::try_from(nanos.div_ceil(every.as_nanos().max(1))).ok()
        }
    }
}

/// Who sends, whatever the connection.
struct Sender {
    terminal: Terminal,
    pace: Pace,
    /// Number of the next request in the pace.
    next: u64,
}

impl Sender {
    fn due(&self) -> Instant {
        match self.pace {
            Pace::Closed => Instant::now(),
            Pace::Open { first, every } => {
                first + Duration::from_nanos((every.as_nanos() as u64).saturating_mul(self.next))
            }
        }
    }

    /// Leaves out what was due before.
    fn skip(&mut self, until: Instant) {
        self.next = self.next.max(due_until(self.pace, until).unwrap_or(0));
    }
}

struct Writer<'a> {
    line: Arc<Line>,
    sender: &'a mut Sender,
    /// Over this connection.
    sent: u64,
}

impl Writer<'_> {
    async fn write(&mut self, mut stream: OwnedWriteHalf) -> Result<OwnedWriteHalf, String> {
        let line = Arc::clone(&self.line);
        let mut bytes = Vec::new();
        loop {
            let mut due = self.sender.due();
            let end = line.plan.end();
            if due >= end {
                break;
            }
            if !self.may_send(due).await {
                break;
            }
            bytes.clear();
            for count in 1.. {
                self.request(due.min(Instant::now()), &mut bytes);
                due = self.sender.due();
                if count == BATCH || due > Instant::now() || due >= end {
                    break;
                }
                match line.permits.try_acquire() {
                    Ok(permit) => permit.forget(),
                    Err(_) => break,
                }
            }
            stream.write_all(&bytes).await.map_err(|error| error.kind().to_string())?;
        }
        Ok(stream)
    }

    /// Waits until a request is due and has a permit. False when the plan has ended before.
    async fn may_send(&self, due: Instant) -> bool {
        let Line { plan, permits, .. } = &*self.line;
        // A timer that is over already still takes until the next tick of a millisecond.
        if due > Instant::now() {
            tokio::select! {
                // What was due before the end is sent, also when both are only noticed after it.
                biased;
                () = sleep_until(due) => {}
                () = plan.ended() => return false,
            }
        }
        if let Ok(permit) = permits.try_acquire() {
            permit.forget();
            return true;
        }
        tokio::select! {
            permit = permits.acquire() => permit.map(|permit| permit.forget()).is_ok(),
            () = plan.ended() => false,
        }
    }

    fn request(&mut self, due: Instant, bytes: &mut Vec<u8>) {
        let plan = &self.line.plan;
        let now = Instant::now();
        let mut open = self.line.open();
        let Sender { terminal, pace, next } = &mut *self.sender;
        let stamp = plan.run.stamp(terminal, |stan| open.contains_key(&stan));
        let mut fields = plan.fields.clone();
        stamp.fill(terminal, &plan.spec, &mut fields);
        stamp.fill_purchase(&plan.spec, &mut fields);
        let body = plan.spec.encode(&plan.mti, &fields).expect("the first request was tried before");
        assert!(plan.frames.write(&body, bytes), "all requests are as long as the first");
        let due = if matches!(pace, Pace::Closed) { now } else { due };
        let amount = text(&fields, "4").map(SmolStr::from);
        open.insert(stamp.stan, Open { stamp, amount, due, sent: now });
        *next += 1;
        self.sent += 1;
    }
}

struct Reader<'a> {
    line: Arc<Line>,
    report: &'a mut Report,
}

impl Reader<'_> {
    async fn read(&mut self, stream: OwnedReadHalf) -> Result<(), String> {
        let mut messages = Messages::new(stream, self.line.plan.frames);
        let mut sweep = Instant::now() + SWEEP;
        loop {
            match timeout_at(sweep, messages.fill()).await {
                Err(_) => {}
                Ok(Ok(true)) => {
                    let now = Instant::now();
                    while let Some(message) = messages.next().map_err(|error| error.to_string())? {
                        self.message(message, now);
                    }
                }
                Ok(Ok(false)) => return Err("the peer closed it".to_owned()),
                Ok(Err(error)) => return Err(error.kind().to_string()),
            }
            if Instant::now() >= sweep {
                self.give_up();
                sweep = Instant::now() + SWEEP;
            }
            // In this order: what was sent last is among the open ones before the writer says that it was the last.
            if self.line.has_sent_all.load(Ordering::Acquire) && self.line.open().is_empty() {
                return Ok(());
            }
        }
    }

    fn give_up(&mut self) {
        let now = Instant::now();
        let mut open = self.line.open();
        let before = open.len();
        open.retain(|_, request| now.duration_since(request.sent) < self.line.plan.timeout);
        let given_up = before - open.len();
        self.report.unanswered += given_up as u64;
        self.line.permits.add_permits(given_up);
    }

    fn message(&mut self, message: &[u8], now: Instant) {
        let Ok(answer) = self.line.plan.spec.decode(message) else {
            self.report.unreadable += 1;
            return;
        };
        let is_of_type = response_mti(&self.line.plan.mti).map_or(true, |expected| expected == answer.mti);
        let stan = text(&answer.fields, "11").and_then(|stan| stan.parse::<u32>().ok());
        let (true, Some(stan)) = (is_of_type, stan) else {
            self.report.unreadable += 1;
            return;
        };
        if !is_same(&answer, "41", &self.line.terminal) {
            self.report.crossed += 1;
            return;
        }
        let mut open = self.line.open();
        match open.get(&stan) {
            Some(request) if request.is_answered_by(&answer) => {
                let request = open.remove(&stan).expect("it was there");
                drop(open);
                self.report.answer(text(&answer.fields, "39"), now.saturating_duration_since(request.due));
                self.line.plan.answered.fetch_add(1, Ordering::Relaxed);
                self.line.permits.add_permits(1);
            }
            // Whose number was given again since is late; what no request of this run was called is somebody else's.
            Some(_) | None => {
                let head = self.line.plan.run.reference_head();
                let is_ours = text(&answer.fields, "37").is_none_or(|reference| reference.starts_with(&head));
                let is_late = open.get(&stan).is_none() && is_ours;
                *(if is_late { &mut self.report.late } else { &mut self.report.crossed }) += 1;
            }
        }
    }
}

impl Open {
    fn is_answered_by(&self, answer: &Decoded) -> bool {
        is_same(answer, "7", &self.stamp.time)
            && is_same(answer, "37", &self.stamp.reference)
            && self.amount.as_ref().is_none_or(|amount| is_same(answer, "4", amount))
    }
}

/// A field that the answer does not have says nothing against it.
fn is_same(answer: &Decoded, key: &str, expected: &str) -> bool {
    text(&answer.fields, key).is_none_or(|found| found.trim_end() == expected.trim_end())
}

fn text<'f>(fields: &'f Map, key: &str) -> Option<&'f str> {
    fields.get_key(key).and_then(Value::as_text)
}
