//! Feeders: each sends numbered lines over one connection after the other and notes which were acknowledged.
//! What was acknowledged is promised; a line that lost its connection before that is not sent again.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::chance::Chance;
use super::{iso, wait};

/// Lines of one feeder without an acknowledgement at a time.
const OPEN_MAX: u64 = 16;
const STROKE: Duration = Duration::from_millis(4);
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// One connection of one feeder: lines keep their order within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The feeder.
    pub feeder: u32,
    /// Which of its connections.
    pub run: u32,
}

/// One line: its connection, and its place there from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Numbered {
    /// The connection.
    pub key: Key,
    /// The place.
    pub number: u64,
}

impl fmt::Display for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Ends with a mark of its own: a line that was cut short is none.
        write!(f, "line {}.{}.{} end", self.key.feeder, self.key.run, self.number)
    }
}

impl Numbered {
    /// Reads a line, without its end; `None` for what no feeder sent.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut parts = line.strip_prefix("line ")?.strip_suffix(" end")?.split('.');
        let key = Key { feeder: parts.next()?.parse().ok()?, run: parts.next()?.parse().ok()? };
        let number = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Self { key, number })
    }
}

/// What was sent over one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Up to here everything was judged before.
    pub base: u64,
    /// Lines written, the last one perhaps in part.
    pub sent: u64,
    /// Lines acknowledged: the first so many.
    pub acked: u64,
    /// Whether the connection is there no more.
    pub is_over: bool,
}

/// All feeders of a run. They end when they are dropped.
#[derive(Debug)]
pub struct Feeders {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    is_quiet: AtomicBool,
    is_rude: AtomicBool,
    broken: AtomicU64,
    acked: AtomicU64,
    sent: Mutex<BTreeMap<Key, Sent>>,
    wrongs: Mutex<Vec<String>>,
}

impl Feeders {
    /// So many of them, who dial this address. They are quiet at first.
    #[must_use]
    pub fn start(count: u32, address: SocketAddr, chance: &mut Chance) -> Self {
        let shared = Arc::new(Shared::default());
        shared.is_quiet.store(true, Ordering::SeqCst);
        let thread = |feeder| {
            let (shared, chance) = (Arc::clone(&shared), Chance::new(chance.number()));
            std::thread::spawn(move || Feeder { key: Key { feeder, run: 0 }, shared, chance }.live(address))
        };
        let threads = (1..=count).map(thread).collect();
        Self { shared, threads }
    }

    /// Lines acknowledged so far.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.shared.acked.load(Ordering::Relaxed)
    }

    /// Whether no line waits for its acknowledgement on a connection that is still there.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.with_sent(|sent| sent.values().all(|sent| sent.is_over || sent.sent == sent.acked))
    }

    /// Whether they send nothing new.
    pub fn set_quiet(&self, is_quiet: bool) {
        self.shared.is_quiet.store(is_quiet, Ordering::SeqCst);
    }

    /// Whether they break their connections now and then, in the middle of a line.
    pub fn set_rude(&self, is_rude: bool) {
        self.shared.is_rude.store(is_rude, Ordering::Relaxed);
    }

    /// How many connections they broke.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.shared.broken.load(Ordering::Relaxed)
    }

    /// Looks at what was sent.
    pub fn with_sent<T>(&self, look: impl FnOnce(&mut BTreeMap<Key, Sent>) -> T) -> T {
        look(&mut self.shared.sent.lock().expect("nothing panics while it is held"))
    }

    /// Takes what no feeder ought to see.
    #[must_use]
    pub fn wrongs(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.wrongs.lock().expect("nothing panics while it is held"))
    }
}

impl Drop for Feeders {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

struct Feeder {
    key: Key,
    shared: Arc<Shared>,
    chance: Chance,
}

impl Feeder {
    fn live(mut self, address: SocketAddr) {
        while !self.shared.is_over.load(Ordering::SeqCst) {
            if !self.shared.is_quiet.load(Ordering::SeqCst)
                && let Ok(stream) = TcpStream::connect_timeout(&address, CONNECT_MAX)
            {
                self.key.run += 1;
                self.note(|_| ());
                self.talk(stream);
                self.note(|sent| sent.is_over = true);
            }
            wait::pass(wait::LOOK_EVERY);
        }
    }

    fn talk(&mut self, mut stream: TcpStream) {
        let limits = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(STROKE)))
            .and_then(|()| stream.set_write_timeout(Some(Duration::from_secs(5))));
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        let mut here = Sent::default();
        if limits.is_err() {
            return;
        }
        while !self.shared.is_over.load(Ordering::SeqCst) {
            let mut text = String::new();
            while here.sent - here.acked < OPEN_MAX && !self.shared.is_quiet.load(Ordering::SeqCst) {
                here.sent += 1;
                text.push_str(&format!("{}\n", Numbered { key: self.key, number: here.sent }));
            }
            // Noted first: from here on any of it may arrive.
            self.note(|sent| sent.sent = here.sent);
            if !text.is_empty() && self.shared.is_rude.load(Ordering::Relaxed) && self.chance.below(40) == 0 {
                self.shared.broken.fetch_add(1, Ordering::Relaxed);
                drop(stream.write_all(&text.as_bytes()[..self.chance.below(text.len() as u64) as usize]));
                return iso::reset(stream);
            }
            if stream.write_all(text.as_bytes()).is_err() {
                return;
            }
            match stream.read(&mut chunk) {
                Ok(0) => return,
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(error) if iso::is_silence(&error) => {}
                Err(_) => return,
            }
            while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                self.take(&String::from_utf8_lossy(&bytes[..end]), &mut here);
                bytes.drain(..=end);
            }
            // Whoever is quiet for long loses no time, but does not spin either.
            if text.is_empty() {
                wait::pass(Duration::from_millis(1));
            }
        }
    }

    /// Acknowledgements come in the order of the lines, one for each, to the connection that sent them.
    fn take(&self, line: &str, here: &mut Sent) {
        let expected = Numbered { key: self.key, number: here.acked + 1 };
        if Numbered::parse(line) != Some(expected) || here.acked == here.sent {
            let what = format!("acknowledged to {:?}: `{line}`, expected `{expected}`", self.key);
            self.shared.wrongs.lock().expect("nothing panics while it is held").push(what);
        }
        here.acked += 1;
        self.note(|sent| sent.acked = here.acked);
        self.shared.acked.fetch_add(1, Ordering::Relaxed);
    }

    fn note(&self, note: impl FnOnce(&mut Sent)) {
        note(self.shared.sent.lock().expect("nothing panics while it is held").entry(self.key).or_default());
    }
}
