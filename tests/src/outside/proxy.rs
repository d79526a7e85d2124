//! What lies between a rack and a server: a TCP proxy that passes everything on, stands still like a network that drops
//! packets, or cuts every connection and refuses new ones. Portable, and for one rack alone.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use super::{Outcome, iso, tried, wait};

const LOOK_EVERY: Duration = Duration::from_millis(20);
const CHUNK_BYTES: usize = 64 << 10;

/// What it does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Passes it on.
    Open,
    /// Keeps connections, takes new ones, and passes nothing on: nobody hears that anything is wrong.
    Still,
    /// Ends connections, and new ones at once.
    Cut,
}

/// The proxy. It closes when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    is_over: AtomicBool,
    way: AtomicU8,
    connections: AtomicU64,
    bytes: AtomicU64,
}

impl State {
    fn way(&self) -> Way {
        match self.way.load(Ordering::SeqCst) {
            0 => Way::Open,
            1 => Way::Still,
            _ => Way::Cut,
        }
    }

    fn is_ended(&self) -> bool {
        self.is_over.load(Ordering::SeqCst) || self.way() == Way::Cut
    }
}

impl Proxy {
    /// Listens for who wants to go to `target`.
    ///
    /// # Errors
    /// When the system has no port.
    pub fn to(target: SocketAddr) -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(tried("the proxy"))?;
        let address = listener.local_addr().map_err(tried("the proxy"))?;
        let state = Arc::new(State::default());
        let inner = Arc::clone(&state);
        std::thread::spawn(move || serve(&listener, target, &inner));
        Ok(Self { address, state })
    }

    /// What a client connects to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does so from now on.
    pub fn set(&self, way: Way) {
        let number = match way {
            Way::Open => 0,
            Way::Still => 1,
            Way::Cut => 2,
        };
        self.state.way.store(number, Ordering::SeqCst);
    }

    /// How many connections there were.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// How many bytes went through.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        // The listener hears of it by one more connection.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(listener: &TcpListener, target: SocketAddr, state: &Arc<State>) {
    while let Ok((client, _)) = listener.accept() {
        if state.is_over.load(Ordering::SeqCst) {
            return;
        }
        if state.way() == Way::Cut {
            continue;
        }
        state.connections.fetch_add(1, Ordering::Relaxed);
        let state = Arc::clone(state);
        std::thread::spawn(move || {
            // Through a network that stands still nobody connects.
            wait_while_still(&state);
            let Ok(server) = TcpStream::connect(target) else { return };
            let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else { return };
            let inner = Arc::clone(&state);
            std::thread::spawn(move || pump(from_server, client, &inner));
            pump(from_client, server, &state);
        });
    }
}

fn wait_while_still(state: &State) {
    while state.way() == Way::Still && !state.is_over.load(Ordering::SeqCst) {
        wait::pass(LOOK_EVERY);
    }
}

/// Passes bytes on until either side ends, or both are cut.
fn pump(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut chunk = vec![0; CHUNK_BYTES];
    let limits = from.set_read_timeout(Some(LOOK_EVERY)).and_then(|()| to.set_nodelay(true));
    while limits.is_ok() && !state.is_ended() {
        wait_while_still(state);
        match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => {
                // What was on its way when it stopped is under way until it goes on, or gone.
                wait_while_still(state);
                if state.is_ended() || to.write_all(&chunk[..count]).is_err() {
                    break;
                }
                state.bytes.fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(error) if iso::is_silence(&error) => {}
            Err(_) => break,
        }
    }
    // Whoever is gone already has heard.
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_on_stands_still_and_cuts() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let proxy = Proxy::to(server.local_addr().expect("its address")).expect("it listens");
        let mut client = TcpStream::connect(proxy.address()).expect("it is taken");
        let (mut far, _) = server.accept().expect("it is passed on");
        let mut byte = [0];
        client.write_all(b"a").expect("it is written");
        far.read_exact(&mut byte).expect("it arrives");
        proxy.set(Way::Still);
        client.write_all(b"b").expect("it is written");
        far.set_read_timeout(Some(Duration::from_millis(200))).expect("a limit");
        assert!(iso::is_silence(&far.read(&mut byte).expect_err("nothing arrives")));
        proxy.set(Way::Open);
        far.set_read_timeout(None).expect("no limit");
        far.read_exact(&mut byte).expect("it arrives later");
        // It is counted behind the writing.
        assert!(wait::until(Duration::from_secs(20), || proxy.bytes() == 2));
        assert_eq!((byte, proxy.connections()), (*b"b", 1));
        proxy.set(Way::Cut);
        assert_eq!(far.read(&mut byte).unwrap_or(0), 0);
        assert_eq!(client.read(&mut byte).unwrap_or(0), 0);
        let mut refused = TcpStream::connect(proxy.address()).expect("the system takes it");
        assert_eq!(refused.read(&mut byte).unwrap_or(0), 0);
    }
}
