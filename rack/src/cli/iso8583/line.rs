//! One connection under load: a writer that keeps the pace, a reader that matches answers to requests, and between them
//! the requests that are open. Who sends has a permit for it; the reader gives it back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fluxrig_actors::protocol::{Map, SmolStr, Value};
use fluxrig_gears::iso8583::{Decoded, Spec, response_mti};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::frame::{Frames, Messages};
use super::report::Report;
use super::request::{Run, Stamp, Terminal};

/// Requests that go out with one write.
const BATCH: usize = 64;
/// How often the reader looks for requests whose time is over.
const SWEEP: Duration = Duration::from_millis(50);

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
    pub(super) timeout: Duration,
    /// No request is sent after this.
    pub(super) end: Instant,
    /// Open requests of one connection.
    pub(super) open_max: usize,
    /// For the bar.
    pub(super) answered: AtomicU64,
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

/// Sends requests until the plan ends, and waits for the answers.
pub(super) async fn drive(plan: Arc<Plan>, stream: TcpStream, terminal: Terminal, pace: Pace) -> Report {
    let (read, write) = stream.into_split();
    let line = Arc::new(Line {
        terminal: terminal.id.clone(),
        open: Mutex::new(HashMap::new()),
        permits: Semaphore::new(plan.open_max),
        has_sent_all: AtomicBool::new(false),
        plan,
    });
    let mut writer = Writer { line: Arc::clone(&line), terminal, sent: 0 };
    // The half that writes stays open until the last answer is there: a peer may take its end for the end of all.
    let writing = tokio::spawn(async move {
        let half = writer.write(write, pace).await;
        writer.line.has_sent_all.store(true, Ordering::Release);
        (half, writer.sent)
    });
    let mut reader = Reader { line: Arc::clone(&line), report: Report::new() };
    if let Err(reason) = reader.read(read).await {
        *reader.report.broken.entry(reason).or_default() += 1;
    }
    // A writer that waits learns that nobody reads any more.
    line.permits.close();
    if let Ok((_, sent)) = writing.await {
        reader.report.sent = sent;
    }
    reader.report.unanswered += line.open().len() as u64;
    let due = due_until(pace, line.plan.end);
    reader.report.unsent = due.map_or(0, |due| due.saturating_sub(reader.report.sent));
    reader.report
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

struct Writer {
    line: Arc<Line>,
    terminal: Terminal,
    sent: u64,
}

impl Writer {
    async fn write(&mut self, mut stream: OwnedWriteHalf, pace: Pace) -> OwnedWriteHalf {
        let line = Arc::clone(&self.line);
        let mut bytes = Vec::new();
        loop {
            let mut due = self.due(pace);
            if due >= line.plan.end {
                break;
            }
            // A timer that is over already still takes until the next tick of a millisecond.
            if due > Instant::now() {
                sleep_until(due).await;
            }
            match timeout_at(line.plan.end, line.permits.acquire()).await {
                Ok(Ok(permit)) => permit.forget(),
                Ok(Err(_)) | Err(_) => break,
            }
            bytes.clear();
            for count in 1.. {
                self.request(due.min(Instant::now()), pace, &mut bytes);
                due = self.due(pace);
                if count == BATCH || due > Instant::now() || due >= line.plan.end {
                    break;
                }
                match line.permits.try_acquire() {
                    Ok(permit) => permit.forget(),
                    Err(_) => break,
                }
            }
            // The reader meets the same fault, and says it.
            if stream.write_all(&bytes).await.is_err() {
                break;
            }
        }
        stream
    }

    fn due(&self, pace: Pace) -> Instant {
        match pace {
            Pace::Closed => Instant::now(),
            Pace::Open { first, every } => {
                first + Duration::from_nanos((every.as_nanos() as u64).saturating_mul(self.sent))
            }
        }
    }

    fn request(&mut self, due: Instant, pace: Pace, bytes: &mut Vec<u8>) {
        let plan = &self.line.plan;
        let now = Instant::now();
        let mut open = self.line.open();
        let stamp = plan.run.stamp(&mut self.terminal, |stan| open.contains_key(&stan));
        let mut fields = plan.fields.clone();
        stamp.fill(&self.terminal, &plan.spec, &mut fields);
        stamp.fill_purchase(&plan.spec, &mut fields);
        let body = plan.spec.encode(&plan.mti, &fields).expect("the first request was tried before");
        assert!(plan.frames.write(&body, bytes), "all requests are as long as the first");
        let due = if matches!(pace, Pace::Closed) { now } else { due };
        let amount = text(&fields, "4").map(SmolStr::from);
        open.insert(stamp.stan, Open { stamp, amount, due, sent: now });
        self.sent += 1;
    }
}

struct Reader {
    line: Arc<Line>,
    report: Report,
}

impl Reader {
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
