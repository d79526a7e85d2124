//! A bank that outlives every fault of the rack: it notes each request that it sees, and approves it.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::chance::Chance;
use super::iso::{self, Line, Received};
use super::{Outcome, tried};

/// How often a line looks whether the bank closes.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A rude bank breaks its line after up to so many requests.
const RUDE_AFTER: u64 = 150;

/// The bank. It closes when it is dropped.
#[derive(Debug)]
pub struct Bank {
    address: SocketAddr,
    state: Arc<State>,
    chance: Mutex<Chance>,
}

/// An address of the bank that only one client is told: what comes there is that client's.
#[derive(Debug)]
pub struct Entrance {
    address: SocketAddr,
    heard: Arc<Heard>,
}

/// What came to an entrance.
#[derive(Debug)]
struct Heard {
    times: AtomicU64,
    last: Mutex<Instant>,
}

impl Entrance {
    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests came there.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.heard.times.load(Ordering::SeqCst)
    }

    /// For how long none came; since the entrance is there, if none ever did.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.heard.last.lock().expect("nothing panics while it is held").elapsed()
    }
}

#[derive(Debug, Default)]
struct State {
    seen: Mutex<HashMap<String, u32>>,
    is_over: AtomicBool,
    is_rude: AtomicBool,
    is_mute: AtomicBool,
    broken: AtomicU64,
    nonsense: Mutex<Vec<String>>,
    entrances: Mutex<Vec<SocketAddr>>,
}

impl Bank {
    /// Opens.
    ///
    /// # Errors
    /// When the system has no port.
    pub fn open(chance: Chance) -> Outcome<Self> {
        let (state, chance) = (Arc::new(State::default()), Mutex::new(chance));
        let Entrance { address, .. } = entrance(&state, &chance)?;
        Ok(Self { address, state, chance })
    }

    /// One more address for somebody whose requests are to be told from those of others.
    ///
    /// # Errors
    /// When the system has no port.
    pub fn entrance(&self) -> Outcome<Entrance> {
        entrance(&self.state, &self.chance)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often it has seen a request.
    #[must_use]
    pub fn times(&self, name: &str) -> u32 {
        self.state.seen.lock().expect("nothing panics while it is held").get(name).copied().unwrap_or(0)
    }

    /// Takes out what it has seen of these requests.
    pub fn forget(&self, is_done: impl Fn(&str) -> bool) {
        self.state.seen.lock().expect("nothing panics while it is held").retain(|name, _| !is_done(name));
    }

    /// Every request that it knows.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.state.seen.lock().expect("nothing panics while it is held").keys().cloned().collect()
    }

    /// What came that was no request.
    #[must_use]
    pub fn nonsense(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.nonsense.lock().expect("nothing panics while it is held"))
    }

    /// Whether it breaks its lines now and then, with requests open.
    pub fn set_rude(&self, is_rude: bool) {
        self.state.is_rude.store(is_rude, Ordering::Relaxed);
    }

    /// While it is mute it keeps its answers back.
    pub fn set_mute(&self, is_mute: bool) {
        self.state.is_mute.store(is_mute, Ordering::SeqCst);
    }

    /// How many lines it broke.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.state.broken.load(Ordering::Relaxed)
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        // Each listener hears of it by one more connection.
        for address in &*self.state.entrances.lock().expect("nothing panics while it is held") {
            drop(TcpStream::connect(address));
        }
    }
}

fn entrance(state: &Arc<State>, chance: &Mutex<Chance>) -> Outcome<Entrance> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(tried("the bank"))?;
    let address = listener.local_addr().map_err(tried("the bank"))?;
    state.entrances.lock().expect("nothing panics while it is held").push(address);
    let heard = Arc::new(Heard { times: AtomicU64::new(0), last: Mutex::new(Instant::now()) });
    let chance = Chance::new(chance.lock().expect("nothing panics while it is held").number());
    let (inner, inner_heard) = (Arc::clone(state), Arc::clone(&heard));
    std::thread::spawn(move || serve(&listener, &inner, &inner_heard, chance));
    Ok(Entrance { address, heard })
}

fn serve(listener: &TcpListener, state: &Arc<State>, heard: &Arc<Heard>, mut chance: Chance) {
    while let Ok((stream, _)) = listener.accept() {
        if state.is_over.load(Ordering::Relaxed) {
            return;
        }
        let (state, heard, chance) = (Arc::clone(state), Arc::clone(heard), Chance::new(chance.number()));
        std::thread::spawn(move || talk(Line::new(stream), &state, &heard, chance));
    }
}

fn talk(mut line: Line, state: &State, heard: &Heard, mut chance: Chance) {
    let mut patience = chance.below(RUDE_AFTER);
    let mut kept = Vec::new();
    while !state.is_over.load(Ordering::Relaxed) {
        let request = match line.receive(LOOK_EVERY) {
            Received::Message(request) => request,
            Received::Silence => {
                if !state.is_mute.load(Ordering::SeqCst) && !kept.drain(..).all(|answer| line.send(&answer)) {
                    return;
                }
                continue;
            }
            Received::End => return,
            Received::Nonsense(error) => {
                state.nonsense.lock().expect("nothing panics while it is held").push(error);
                return;
            }
        };
        heard.times.fetch_add(1, Ordering::SeqCst);
        *heard.last.lock().expect("nothing panics while it is held") = Instant::now();
        *state.seen.lock().expect("nothing panics while it is held").entry(iso::name(&request)).or_default() += 1;
        let Some(answer) = iso::answer(&request, "00") else {
            let error = "a message that is no request".to_owned();
            state.nonsense.lock().expect("nothing panics while it is held").push(error);
            return;
        };
        if state.is_rude.load(Ordering::Relaxed) && patience == 0 {
            // This request and those behind it stay without an answer; half of the time it is begun.
            state.broken.fetch_add(1, Ordering::Relaxed);
            return if chance.percent(50) { line.break_within(&answer, 40) } else { line.reset() };
        }
        patience = patience.saturating_sub(1);
        kept.push(answer);
        if !state.is_mute.load(Ordering::SeqCst) && !kept.drain(..).all(|answer| line.send(&answer)) {
            return;
        }
    }
}
