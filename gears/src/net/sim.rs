//! A simulated network on tokio's clock: addresses, connections with latency and chopped reads, and what goes wrong with
//! lines. The same seed gives the same run; everything is in memory, and nothing leaves this process.

mod address;
mod frames;
mod half;
mod link;
mod side;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fluxrig_actors::journal::disk::sim::SplitMix;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use address::{place, socket};

pub use address::is_same_place;
pub use frames::{BadFrames, Frames};
use half::Gate;
pub use half::{Listener, Stream};
pub(crate) use half::{ReadHalf, WriteHalf};
use link::{DIALER, Ends, Link, SERVER};

/// Who is not of the simulated process.
const OUTSIDE: u64 = 0;
/// Connections that wait to be accepted; the next one is refused.
const BACKLOG_MAX: usize = 1024;
/// Who connects over a line that stalls looks again after so long.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The first port that is given to whoever binds port 0.
const FIRST_PORT: u16 = 49_152;

/// The network: whoever holds it plays the world outside. Its process gets a [`Process`].
#[derive(Clone)]
pub struct Network(Arc<Mutex<Net>>);

/// The network as one simulated process sees it: to be found by its endpoints in their rig's world.
pub struct Process {
    network: Network,
    gate: Gate,
}

/// What a server has read from a connection that the process had dialed.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Connections count from 1 in the order in which they were made.
    pub connection: u64,
    /// Where it was dialed to.
    pub address: Arc<str>,
    /// When it was read.
    pub at: Instant,
    /// The bytes.
    pub bytes: Bytes,
}

/// What happens to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Its connections break at once.
    Reset,
    /// New connections are refused until then.
    Refuse(Instant),
    /// Nothing arrives until then; nothing is lost.
    Stall(Instant),
    /// Its connections lead nowhere any more, and neither side is told; new ones can be made from then on.
    Blackhole(Instant),
}

#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    refused_until: Option<Instant>,
    stalled_until: Option<Instant>,
}

struct Net {
    rng: SplitMix,
    process: u64,
    next_link: u64,
    next_port: u16,
    listeners: BTreeMap<Arc<str>, Waiting>,
    links: BTreeMap<u64, Link>,
    weather: BTreeMap<Arc<str>, Weather>,
    heard: Vec<Heard>,
    refused: u64,
}

/// A listener, and who waits for it.
struct Waiting {
    owner: u64,
    backlog: VecDeque<u64>,
    came: Arc<Notify>,
}

impl Network {
    /// A network without anybody; equal seeds give equal latencies.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let net = Net {
            rng: SplitMix::new(seed),
            process: OUTSIDE,
            next_link: 0,
            next_port: FIRST_PORT,
            listeners: BTreeMap::new(),
            links: BTreeMap::new(),
            weather: BTreeMap::new(),
            heard: Vec::new(),
            refused: 0,
        };
        Self(Arc::new(Mutex::new(net)))
    }

    /// The process that runs from now on; `is_alive` is asked at each of its steps.
    #[must_use]
    pub fn process(&self, is_alive: impl Fn() -> bool + Send + Sync + 'static) -> Process {
        let mut net = self.lock();
        net.process += 1;
        let gate = Gate { process: net.process, is_alive: Arc::new(is_alive) };
        // Whoever writes to what the power cut left is told so by the machine that is there again.
        let now = Instant::now();
        net.links.values_mut().for_each(|link| link.found_again(now));
        drop(net);
        Process { network: self.clone(), gate }
    }

    /// The process ends in this instant. What it had written still arrives, unless the power went: then nobody is told.
    pub fn end_process(&self, is_power: bool) {
        let mut net = self.lock();
        let Net { process, listeners, links, rng, .. } = &mut *net;
        let ended = std::mem::replace(process, *process + 1);
        listeners.retain(|_, waiting| waiting.owner == OUTSIDE);
        links.retain(|_, link| link.process_ended(ended, is_power, rng));
    }

    /// Connects from outside.
    ///
    /// # Errors
    /// As a socket does: nobody listens, or the line refuses.
    pub async fn connect(&self, address: &str) -> Result<Stream> {
        self.dial(address, Gate::outside()).await
    }

    /// Listens outside.
    ///
    /// # Errors
    /// When somebody does already.
    pub fn bind(&self, address: &str) -> Result<Listener> {
        self.listen(address, Gate::outside())
    }

    /// Lets something happen to every line to an address. Gives how many connections noticed.
    pub fn trouble(&self, address: &str, trouble: Trouble) -> usize {
        let address = place(address);
        let mut net = self.lock();
        let Net { links, weather, .. } = &mut *net;
        let weather = weather.entry(Arc::clone(&address)).or_default();
        let affected = links.values_mut().filter(|link| link.address == address);
        match trouble {
            Trouble::Reset => affected.map(Link::reset).count(),
            Trouble::Refuse(until) => {
                weather.refused_until = Some(until);
                0
            }
            Trouble::Stall(until) => {
                weather.stalled_until = Some(until);
                affected.map(|link| link.stall(until)).count()
            }
            Trouble::Blackhole(until) => {
                weather.stalled_until = Some(until);
                affected.map(|link| link.lose(Some(until))).count()
            }
        }
    }

    /// Ends all trouble, also for connections that lead nowhere: they break.
    pub fn calm(&self) {
        let mut net = self.lock();
        net.weather.clear();
        for link in net.links.values_mut().filter(|link| link.is_lost()) {
            link.reset();
        }
    }

    /// How many connections were refused by trouble.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.lock().refused
    }

    /// What servers have read from the process so far, in order.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        self.lock().heard.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Net> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn dial(&self, address: &str, gate: Gate) -> Result<Stream> {
        let address = place(address);
        let latency = self.lock().latency();
        sleep(latency).await;
        loop {
            let stalled = {
                let mut net = self.lock();
                let now = Instant::now();
                let weather = net.weather.get(&address).copied().unwrap_or_default();
                if weather.refused_until.is_some_and(|until| until > now) {
                    net.refused += 1;
                    return Err(ErrorKind::ConnectionRefused.into());
                }
                weather.stalled_until.filter(|until| *until > now)
            };
            match stalled {
                // In steps, since it may be called off.
                Some(until) => sleep_until(until.min(Instant::now() + LOOK_EVERY)).await,
                None => break,
            }
        }
        gate.check()?;
        let mut net = self.lock();
        let latency = net.latency();
        let Net { listeners, links, next_link, process, .. } = &mut *net;
        if gate.process != OUTSIDE && gate.process != *process {
            return Err(half::ended());
        }
        let waiting = listeners.get_mut(&address).filter(|waiting| waiting.backlog.len() < BACKLOG_MAX);
        let Some(waiting) = waiting else { return Err(ErrorKind::ConnectionRefused.into()) };
        *next_link += 1;
        let id = *next_link;
        links.insert(id, Link::new(address, Ends { dialer: gate.process, server: waiting.owner }, latency));
        waiting.backlog.push_back(id);
        waiting.came.notify_one();
        drop(net);
        Ok(Stream::new(self, id, DIALER, gate))
    }

    fn listen(&self, address: &str, gate: Gate) -> Result<Listener> {
        gate.check()?;
        let mut net = self.lock();
        let mut socket = socket(address);
        if socket.port() == 0 {
            socket.set_port(net.next_port);
            net.next_port += 1;
        }
        let address = place(&socket.to_string());
        if net.listeners.contains_key(&address) {
            return Err(ErrorKind::AddrInUse.into());
        }
        let came = Arc::new(Notify::new());
        let waiting = Waiting { owner: gate.process, backlog: VecDeque::new(), came: Arc::clone(&came) };
        net.listeners.insert(Arc::clone(&address), waiting);
        drop(net);
        Ok(Listener { network: self.clone(), address, socket, came, gate })
    }
}

impl Net {
    /// Mostly that of a town, sometimes that of a country. Timers fire at whole milliseconds.
    fn latency(&mut self) -> Duration {
        let most_us = if self.rng.chance(200_000) { 20_000 } else { 3_000 };
        Duration::from_micros(20 + self.rng.below(most_us))
    }
}

impl Process {
    pub(super) fn bind(&self, address: &str) -> Result<Listener> {
        self.network.listen(address, self.gate.clone())
    }

    pub(super) async fn connect(&self, address: &str) -> Result<Stream> {
        self.network.dial(address, self.gate.clone()).await
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({})", self.gate.process)
    }
}

#[cfg(test)]
mod tests;
