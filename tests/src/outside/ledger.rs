//! The TCP ledger: a peer that the rack connects to and that notes each whole line, in the order in which they came.
//! One connection is read to its end before the next, so what an old one still held is not taken for reordered.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::lines::Numbered;
use super::{Outcome, iso, tried};

const LOOK_EVERY: Duration = Duration::from_millis(50);
const READ_BYTES: usize = 64 << 10;

/// The ledger. It closes when it is dropped.
#[derive(Debug)]
pub struct Ledger {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    is_over: AtomicBool,
    connections: AtomicU64,
    lines: Mutex<Vec<Numbered>>,
    foreign: Mutex<Vec<String>>,
}

impl Ledger {
    /// Opens.
    ///
    /// # Errors
    /// When the system has no port.
    pub fn open() -> Outcome<Self> {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Opens at an address.
    ///
    /// # Errors
    /// When it is taken.
    pub fn at(address: SocketAddr) -> Outcome<Self> {
        let listener = TcpListener::bind(address).map_err(tried("the ledger"))?;
        let address = listener.local_addr().map_err(tried("the ledger"))?;
        let state = Arc::new(State::default());
        let inner = Arc::clone(&state);
        std::thread::spawn(move || serve(&listener, &inner));
        Ok(Self { address, state })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Looks at the lines that came since they were last taken.
    pub fn with_lines<T>(&self, look: impl FnOnce(&mut Vec<Numbered>) -> T) -> T {
        look(&mut self.state.lines.lock().expect("nothing panics while it is held"))
    }

    /// Takes what came and was no line of a feeder.
    #[must_use]
    pub fn foreign(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.foreign.lock().expect("nothing panics while it is held"))
    }

    /// How often the rack has connected.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        // The listener hears of it by one more connection.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(listener: &TcpListener, state: &State) {
    while let Ok((stream, _)) = listener.accept() {
        if state.is_over.load(Ordering::Relaxed) {
            return;
        }
        state.connections.fetch_add(1, Ordering::Relaxed);
        read_to_end(stream, state);
    }
}

fn read_to_end(mut stream: TcpStream, state: &State) {
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; READ_BYTES]);
    if stream.set_read_timeout(Some(LOOK_EVERY)).is_err() {
        return;
    }
    while !state.is_over.load(Ordering::Relaxed) {
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if iso::is_silence(&error) => continue,
            Err(_) => return,
        }
        let mut from = 0;
        while let Some(len) = bytes[from..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&bytes[from..from + len]);
            match Numbered::parse(&line) {
                Some(numbered) => state.lines.lock().expect("nothing panics while it is held").push(numbered),
                None => state.foreign.lock().expect("nothing panics while it is held").push(line.into_owned()),
            }
            from += len + 1;
        }
        // What a broken connection cut short was not sent.
        bytes.drain(..from);
    }
}
