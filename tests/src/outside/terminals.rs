//! Terminals: each asks for payments over one connection, and asks again over the next whatever has no answer yet.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use fluxrig_gears::iso8583::Decoded;
use tokio::time::Instant;

use super::chance::Chance;
use super::iso::{self, Line, Received};
use super::wait;

/// How a terminal asks.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Requests without an answer at a time.
    pub open_max: usize,
    /// New requests are asked in strokes, this far apart at least.
    pub stroke: Duration,
}

impl Default for Manner {
    fn default() -> Self {
        Self { open_max: 12, stroke: Duration::from_millis(4) }
    }
}

/// A terminal that hears nothing for so long hangs up and dials again. Longer than the switch's own deadline.
const PATIENCE: Duration = Duration::from_secs(5);
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// One request and what came to it.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Whose.
    pub terminal: u32,
    /// Which of its requests.
    pub number: u32,
    /// The outcome codes of all answers.
    pub codes: Vec<String>,
    /// On how many connections it was asked.
    pub times: u32,
}

/// All terminals of a run. They end when they are dropped.
#[derive(Debug)]
pub struct Terminals {
    count: u32,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    is_quiet: AtomicBool,
    is_rude: AtomicBool,
    broken: AtomicU64,
    answered: AtomicU64,
    open: AtomicU64,
    /// Requests a second of each terminal; 0 for as many as it can.
    rate: AtomicU64,
    slowest_us: AtomicU64,
    asked: Mutex<HashMap<String, Asked>>,
    wrongs: Mutex<Vec<String>>,
}

impl Terminals {
    /// So many of them, who dial this address. They are quiet at first.
    #[must_use]
    pub fn start(count: u32, manner: Manner, address: SocketAddr, chance: &mut Chance) -> Self {
        let shared = Arc::new(Shared::default());
        shared.is_quiet.store(true, Ordering::Relaxed);
        let thread = |number| {
            let (shared, chance) = (Arc::clone(&shared), Chance::new(chance.number()));
            let terminal =
                Terminal { number, next: 0, open: Vec::new(), manner, since: Instant::now(), shared, chance };
            std::thread::spawn(move || terminal.live(address))
        };
        let threads = (1..=count).map(thread).collect();
        Self { count, shared, threads }
    }

    /// How many they are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Answers so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Requests without an answer.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Whether they ask for nothing new.
    pub fn set_quiet(&self, is_quiet: bool) {
        // Under the same lock as every new request: once this returns, there is none that nobody knows of.
        self.with_asked(|_| self.shared.is_quiet.store(is_quiet, Ordering::SeqCst));
    }

    /// Whether they break their connections now and then.
    pub fn set_rude(&self, is_rude: bool) {
        self.shared.is_rude.store(is_rude, Ordering::Relaxed);
    }

    /// How many connections they broke.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.shared.broken.load(Ordering::Relaxed)
    }

    /// Lets each ask so much a second, and no faster than its manner; 0 sets it free.
    pub fn set_rate(&self, per_second: u64) {
        self.shared.rate.store(per_second, Ordering::Relaxed);
    }

    /// The longest that an answer took since this was last asked, on the connection that got it.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        Duration::from_micros(self.shared.slowest_us.swap(0, Ordering::Relaxed))
    }

    /// Looks at everything asked since it was last taken.
    pub fn with_asked<T>(&self, look: impl FnOnce(&mut HashMap<String, Asked>) -> T) -> T {
        look(&mut self.shared.asked.lock().expect("nothing panics while it is held"))
    }

    /// Takes what no terminal ought to see.
    #[must_use]
    pub fn wrongs(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.wrongs.lock().expect("nothing panics while it is held"))
    }
}

impl Drop for Terminals {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

struct Terminal {
    number: u32,
    next: u32,
    open: Vec<Decoded>,
    manner: Manner,
    /// Until here it has asked at its rate.
    since: Instant,
    shared: Arc<Shared>,
    chance: Chance,
}

impl Terminal {
    fn live(mut self, address: SocketAddr) {
        while !self.shared.is_over.load(Ordering::SeqCst) {
            let is_idle = self.shared.is_quiet.load(Ordering::SeqCst) && self.open.is_empty();
            if !is_idle && let Ok(stream) = TcpStream::connect_timeout(&address, CONNECT_MAX) {
                self.talk(Line::new(stream));
            }
            wait::pass(wait::LOOK_EVERY);
        }
    }

    /// One connection to its end. Each request is asked once on it, and has at most one answer there.
    fn talk(&mut self, mut line: Line) {
        let mut here = HashMap::new();
        let Manner { stroke: every, .. } = self.manner;
        let mut unsent = self.open.clone();
        let (mut stroke, mut heard) = (Instant::now(), Instant::now());
        while !self.shared.is_over.load(Ordering::SeqCst) && heard.elapsed() < PATIENCE {
            if stroke <= Instant::now() {
                stroke = Instant::now() + every;
                self.top_up(&mut unsent);
            }
            for request in unsent.drain(..) {
                here.insert(iso::name(&request), Instant::now());
                self.note(&request, |asked| asked.times += 1);
                if self.shared.is_rude.load(Ordering::Relaxed) && self.chance.below(400) == 0 {
                    self.shared.broken.fetch_add(1, Ordering::Relaxed);
                    // Inside the length, between it and the message, or inside the message.
                    return line.break_within(&request, self.chance.zipf(60) as usize);
                }
                if !line.send(&request) {
                    return;
                }
            }
            match line.receive(every) {
                Received::Message(answer) => {
                    heard = Instant::now();
                    self.take(&answer, &mut here);
                }
                Received::Silence if self.open.is_empty() => heard = Instant::now(),
                Received::Silence => {}
                Received::End => return,
                Received::Nonsense(error) => return self.wrong(format!("no answer but nonsense: {error}")),
            }
        }
    }

    fn top_up(&mut self, unsent: &mut Vec<Decoded>) {
        let mut allowed = self.allowed();
        let mut all = self.shared.asked.lock().expect("nothing panics while it is held");
        while self.open.len() < self.manner.open_max && allowed > 0 && !self.shared.is_quiet.load(Ordering::SeqCst) {
            allowed -= 1;
            self.next += 1;
            let request = iso::payment(self.number, self.next);
            self.shared.open.fetch_add(1, Ordering::SeqCst);
            let asked = Asked { terminal: self.number, number: self.next, ..Asked::default() };
            all.insert(iso::name(&request), asked);
            self.open.push(request.clone());
            unsent.push(request);
        }
    }

    /// How many new requests its rate allows by now.
    fn allowed(&mut self) -> u64 {
        let rate = self.shared.rate.load(Ordering::Relaxed);
        if rate == 0 {
            self.since = Instant::now();
            return u64::MAX;
        }
        let due = (self.since.elapsed().as_secs_f64() * rate as f64) as u64;
        self.since += Duration::from_secs_f64(due as f64 / rate as f64);
        due
    }

    fn take(&mut self, answer: &Decoded, here: &mut HashMap<String, Instant>) {
        let of = iso::name(answer);
        let Some(asked) = here.remove(&of) else {
            return self.wrong(format!("a second answer on one connection, or one to no request of it: {of}"));
        };
        let took = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shared.slowest_us.fetch_max(took, Ordering::Relaxed);
        let code = iso::text(answer, "39").to_owned();
        self.note(answer, |asked| asked.codes.push(code));
        if &*answer.mti != "0110" {
            self.wrong(format!("{of}: an answer of type {}", answer.mti));
        }
        let before = self.open.len();
        self.open.retain(|request| iso::name(request) != of);
        self.shared.open.fetch_sub((before - self.open.len()) as u64, Ordering::SeqCst);
        self.shared.answered.fetch_add(1, Ordering::Relaxed);
    }

    fn note(&self, message: &Decoded, note: impl FnOnce(&mut Asked)) {
        let mut asked = self.shared.asked.lock().expect("nothing panics while it is held");
        if let Some(asked) = asked.get_mut(&iso::name(message)) {
            note(asked);
        }
    }

    fn wrong(&self, what: String) {
        let what = format!("terminal {}: {what}", self.number);
        self.shared.wrongs.lock().expect("nothing panics while it is held").push(what);
    }
}
