//! A simulated stream: lost and late acks, doubled publishes, elections, slow followers, lost ends, seeded.
//! Survives the simulated processes that use it; the same seed gives the same run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::super::disk::sim::SplitMix;
use super::super::storage::BoxFuture;
use super::log::{Last, Log, LogError, LogUsage, Outcome, Range};
use super::settle::ANY_SEQ;

/// What a server needs beside each message.
const OVERHEAD_BYTES: u64 = 64;
/// Outcomes that are kept for those who sent: more than two racks have under way.
const ARRIVED_MAX: usize = 1024;
/// Most operations that an election lasts.
const ELECTION_MAX: u64 = 6;

/// How often each fault happens, in parts per million of the operations that can meet it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamFaults {
    /// A message is stored, and its ack is lost.
    pub lost_ack_ppm: u32,
    /// A message is lost.
    pub lost_publish_ppm: u32,
    /// A message is under way for longer than anybody waits, and may arrive at any time.
    pub late_ppm: u32,
    /// A message arrives twice, and the answer to the second is heard.
    pub doubled_ppm: u32,
    /// The leader is gone: for a while nobody answers.
    pub election_ppm: u32,
    /// Whoever is asked for a range is behind the leader.
    pub stale_ppm: u32,
}

impl StreamFaults {
    /// Each of them as often as the others.
    #[must_use]
    pub fn all(ppm: u32) -> Self {
        Self {
            lost_ack_ppm: ppm,
            lost_publish_ppm: ppm,
            late_ppm: ppm,
            doubled_ppm: ppm,
            election_ppm: ppm,
            stale_ppm: ppm,
        }
    }
}

/// How many faults were met, so that a run without any cannot pass for a test of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamFired {
    /// Messages that were stored without an ack.
    pub lost_acks: u64,
    /// Messages that were lost.
    pub lost_publishes: u64,
    /// Messages that were late.
    pub late: u64,
    /// Late messages that were stored in the end.
    pub late_stored: u64,
    /// Messages that arrived twice.
    pub doubled: u64,
    /// Elections.
    pub elections: u64,
    /// Ranges that ended before the leader's end.
    pub stale: u64,
    /// Messages for which there was no room.
    pub full: u64,
    /// Messages that a lost end took with it.
    pub rewound: u64,
    /// Appends that were refused for their expected last sequence.
    pub wrong_last: u64,
    /// Operations that no server answered.
    pub down: u64,
    /// Kills.
    pub kills: u64,
}

struct World {
    rng: SplitMix,
    faults: StreamFaults,
    fired: StreamFired,
    first_seq: u64,
    messages: VecDeque<Bytes>,
    late: Vec<(Bytes, u64)>,
    capacity: Option<u64>,
    payload_bytes_max: usize,
    // Messages that have left and not arrived, with the tickets of their futures, and what became of those that have.
    under_way: VecDeque<(u64, Option<u64>, Bytes, u64)>,
    arrived: BTreeMap<u64, Outcome>,
    ticket: u64,
    delay: Duration,
    process: u64,
    // Operations left until the process is killed.
    fuse: Option<u64>,
    operations: u64,
    // Operations left until there is a leader again.
    election: u64,
    is_down: bool,
    // Nobody has opened it yet.
    is_absent: bool,
    // Deleted from the middle.
    hidden: BTreeSet<u64>,
    incarnation: u64,
}

/// The servers: hands out a [`Log`] per simulated process and does to it what happens to servers and networks.
#[derive(Clone)]
pub struct SimStream {
    world: Arc<Mutex<World>>,
}

impl SimStream {
    /// An empty stream.
    pub fn new(seed: u64) -> SimStream {
        let world = World {
            rng: SplitMix::new(seed),
            faults: StreamFaults::default(),
            fired: StreamFired::default(),
            first_seq: 1,
            messages: VecDeque::new(),
            late: Vec::new(),
            capacity: None,
            payload_bytes_max: 1 << 20,
            under_way: VecDeque::new(),
            arrived: BTreeMap::new(),
            ticket: 0,
            delay: Duration::ZERO,
            process: 1,
            fuse: None,
            operations: 0,
            election: 0,
            is_down: false,
            is_absent: true,
            hidden: BTreeSet::new(),
            incarnation: 1,
        };
        SimStream { world: Arc::new(Mutex::new(world)) }
    }

    /// The stream as the process that runs now sees it. After [`SimStream::kill`] it only fails.
    pub fn process(&self) -> Arc<dyn Log> {
        let process = self.lock().process;
        Arc::new(SimLog { world: self.world.clone(), process: Some(process), is_cut: Arc::default() })
    }

    /// The stream as somebody else sees it, whose life nothing here ends: a stand-by, an operator.
    pub fn other(&self) -> Arc<dyn Log> {
        self.behind(&Arc::default())
    }

    /// The stream as somebody else sees it while `is_cut` is not set: behind a network that can be parted.
    pub fn behind(&self, is_cut: &Arc<AtomicBool>) -> Arc<dyn Log> {
        Arc::new(SimLog { world: self.world.clone(), process: None, is_cut: Arc::clone(is_cut) })
    }

    /// From now on faults happen with these probabilities.
    pub fn set_faults(&self, faults: StreamFaults) {
        self.lock().faults = faults;
    }

    /// The faults met so far.
    pub fn fired(&self) -> StreamFired {
        self.lock().fired
    }

    /// Sets or lifts the limit of all bytes.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Bytes that all messages take.
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Longest message from now on.
    pub fn set_payload_bytes_max(&self, bytes: usize) {
        self.lock().payload_bytes_max = bytes;
    }

    /// How long a message is under way, and its ack back, on the clock of whoever sends it.
    pub fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Nobody answers until this is taken back. What is sent meanwhile may arrive later.
    pub fn set_down(&self, is_down: bool) {
        self.lock().is_down = is_down;
    }

    /// `kill -9` of the process that writes; what it had sent may still arrive.
    pub fn kill(&self) {
        let mut world = self.lock();
        world.fired.kills += 1;
        world.process += 1;
        world.fuse = None;
    }

    /// Kills the process in the middle of its operation number `operations` from now, counted from 0.
    pub fn kill_after(&self, operations: u64) {
        self.lock().fuse = Some(operations + 1);
    }

    /// Whether the fuse of [`SimStream::kill_after`] has blown.
    pub fn is_killed(&self) -> bool {
        self.lock().fuse == Some(0)
    }

    /// Number of operations so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// The servers are restarted, and the end of the stream is lost: its last messages, acked or not.
    pub fn rewind(&self, messages: usize) {
        let mut world = self.lock();
        let left = world.messages.len().saturating_sub(messages);
        let lost = world.messages.split_off(left).len();
        world.fired.rewound += lost as u64;
        world.incarnation += 1;
    }

    /// The messages there are, with the sequence of the first.
    pub fn messages(&self) -> (u64, Vec<Bytes>) {
        let world = self.lock();
        (world.first_seq, world.messages.iter().cloned().collect())
    }

    /// Puts messages in place of those there are: damage, restored copies, fixtures.
    pub fn put(&self, first_seq: u64, messages: Vec<Bytes>) {
        let mut world = self.lock();
        (world.first_seq, world.messages) = (first_seq, messages.into());
        world.hidden.clear();
        world.is_absent = false;
        world.incarnation += 1;
    }

    /// Somebody deletes a message from the middle.
    pub fn delete(&self, seq: u64) {
        self.lock().hidden.insert(seq);
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    fn last_seq(&self) -> u64 {
        self.first_seq + self.messages.len() as u64 - 1
    }

    fn used(&self) -> u64 {
        self.messages.iter().map(|payload| payload.len() as u64 + OVERHEAD_BYTES).sum()
    }

    fn at(&self, seq: u64) -> Option<Bytes> {
        let idx = seq.checked_sub(self.first_seq).filter(|_| !self.hidden.contains(&seq))?;
        self.messages.get(usize::try_from(idx).ok()?).cloned()
    }

    // What is dead sends nothing.
    fn is_over(&self, process: Option<u64>) -> bool {
        process.is_some_and(|process| process != self.process || self.fuse == Some(0))
    }

    // Every operation of a process passes here; `Err` says why there is no answer.
    fn step(&mut self, process: Option<u64>) -> Result<(), String> {
        if self.is_over(process) {
            return Err("the process was killed".into());
        }
        self.operations += 1;
        self.let_late_ones_arrive();
        if let (Some(left), true) = (&mut self.fuse, process.is_some()) {
            *left -= 1;
            if *left == 0 {
                return Err("the process was killed".into());
            }
        }
        if self.is_down {
            self.fired.down += 1;
            return Err("no server answers".into());
        }
        if self.election == 0 && self.rng.chance(self.faults.election_ppm) {
            self.fired.elections += 1;
            self.election = 1 + self.rng.below(ELECTION_MAX);
        }
        if self.election > 0 {
            self.election -= 1;
            return Err("there is no leader".into());
        }
        Ok(())
    }

    fn let_late_ones_arrive(&mut self) {
        if self.is_down {
            return;
        }
        for (payload, expected) in std::mem::take(&mut self.late) {
            match self.rng.below(4) {
                0 => {
                    if matches!(self.store(payload, expected), Outcome::Stored(_)) {
                        self.fired.late_stored += 1;
                    }
                }
                1 => {}
                _ => self.late.push((payload, expected)),
            }
        }
    }

    fn store(&mut self, payload: Bytes, expected_last: u64) -> Outcome {
        let last = self.last_seq();
        if last != expected_last && expected_last != ANY_SEQ {
            self.fired.wrong_last += 1;
            return Outcome::WrongLast { found: Some(last) };
        }
        if payload.len() > self.payload_bytes_max {
            return Outcome::TooLarge { bytes_max: self.payload_bytes_max };
        }
        let bytes = payload.len() as u64 + OVERHEAD_BYTES;
        if self.capacity.is_some_and(|capacity| self.used() + bytes > capacity) {
            self.fired.full += 1;
            return Outcome::Full { reason: "maximum bytes exceeded".into() };
        }
        self.messages.push_back(payload);
        Outcome::Stored(last + 1)
    }

    // In the order in which they left, whoever is woken first.
    fn arrive(&mut self, ticket: u64) -> Option<Outcome> {
        while self.under_way.front().is_some_and(|(other, ..)| *other <= ticket) {
            let (other, process, payload, expected) = self.under_way.pop_front()?;
            let outcome = self.append(process, payload, expected);
            self.arrived.insert(other, outcome);
        }
        let outcome = self.arrived.remove(&ticket);
        // Whoever has gone does not ask.
        while self.arrived.len() > ARRIVED_MAX {
            self.arrived.pop_first();
        }
        outcome
    }

    fn append(&mut self, process: Option<u64>, payload: Bytes, expected_last: u64) -> Outcome {
        if self.is_over(process) {
            return Outcome::Unknown { reason: "the process was killed".into() };
        }
        if let Err(reason) = self.step(process) {
            // Nobody knows how far it came.
            match self.rng.below(3) {
                0 if !self.is_down => drop(self.store(payload, expected_last)),
                1 => self.late.push((payload, expected_last)),
                _ => {}
            }
            return Outcome::Unknown { reason };
        }
        let StreamFaults { lost_ack_ppm, lost_publish_ppm, late_ppm, doubled_ppm, .. } = self.faults;
        let unknown = || Outcome::Unknown { reason: "no ack in time".into() };
        if self.rng.chance(lost_publish_ppm) {
            self.fired.lost_publishes += 1;
            return unknown();
        }
        if self.rng.chance(late_ppm) {
            self.fired.late += 1;
            self.late.push((payload, expected_last));
            return unknown();
        }
        let is_doubled = self.rng.chance(doubled_ppm);
        let outcome = self.store(payload.clone(), expected_last);
        if is_doubled {
            self.fired.doubled += 1;
            return self.store(payload, expected_last);
        }
        if self.rng.chance(lost_ack_ppm) {
            self.fired.lost_acks += 1;
            return unknown();
        }
        outcome
    }
}

#[derive(Clone)]
struct SimLog {
    world: Arc<Mutex<World>>,
    process: Option<u64>,
    is_cut: Arc<AtomicBool>,
}

impl SimLog {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // One operation that only reads or purges.
    fn ask<T>(&self, action: &'static str, answer: impl FnOnce(&mut World) -> T) -> Result<T, LogError> {
        let mut world = self.lock();
        let unreachable = |reason| LogError::Unreachable { stream: self.name(), action, reason };
        if self.is_cut.load(Ordering::SeqCst) {
            return Err(unreachable("the network is parted".into()));
        }
        world.step(self.process).map_err(unreachable)?;
        Ok(answer(&mut world))
    }

    fn usage_of(world: &World) -> LogUsage {
        LogUsage {
            first_seq: world.first_seq,
            last_seq: world.last_seq(),
            bytes: world.used(),
            free_bytes: world.capacity.map(|capacity| capacity.saturating_sub(world.used())),
        }
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Log for SimLog {
    fn name(&self) -> String {
        "simulated".to_owned()
    }

    fn payload_bytes_max(&self) -> usize {
        self.lock().payload_bytes_max
    }

    fn open(&self) -> BoxFuture<'_, Result<LogUsage, LogError>> {
        ready(self.ask("open it", |world| {
            world.is_absent = false;
            Self::usage_of(world)
        }))
    }

    fn look(&self) -> BoxFuture<'_, Result<Option<LogUsage>, LogError>> {
        ready(self.ask("look at it", |world| (!world.is_absent).then(|| Self::usage_of(world))))
    }

    fn append(&self, payload: Bytes, expected_last: u64) -> BoxFuture<'static, Outcome> {
        if self.is_cut.load(Ordering::SeqCst) {
            return ready(Outcome::Unknown { reason: "the network is parted".into() });
        }
        let mut world = self.lock();
        if world.delay.is_zero() {
            return ready(world.append(self.process, payload, expected_last));
        }
        let (ticket, delay) = (world.ticket, world.delay);
        world.ticket += 1;
        world.under_way.push_back((ticket, self.process, payload, expected_last));
        drop(world);
        let log = self.clone();
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            let outcome = log.lock().arrive(ticket);
            tokio::time::sleep(delay).await;
            let is_cut = log.is_cut.load(Ordering::SeqCst);
            outcome.filter(|_| !is_cut).unwrap_or(Outcome::Unknown { reason: "no ack in time".into() })
        })
    }

    fn last(&self) -> BoxFuture<'_, Result<Last, LogError>> {
        ready(self.ask("read the last message", |world| {
            let seq = world.last_seq();
            Last { seq, payload: world.at(seq) }
        }))
    }

    fn read(&self, seq: u64) -> BoxFuture<'_, Result<Option<Bytes>, LogError>> {
        ready(self.ask("read a message", |world| world.at(seq)))
    }

    fn range(&self, from_seq: u64, to_seq: u64) -> Box<dyn Range> {
        let mut world = self.lock();
        let mut to_seq = to_seq;
        let StreamFaults { stale_ppm, .. } = world.faults;
        if world.rng.chance(stale_ppm) && to_seq >= from_seq {
            world.fired.stale += 1;
            to_seq = from_seq + world.rng.below(to_seq - from_seq + 1) - 1;
        }
        Box::new(SimRange { log: self.clone(), next: from_seq, to_seq })
    }

    fn purge(&self, before_seq: u64) -> BoxFuture<'_, Result<(), LogError>> {
        ready(self.ask("purge", |world| {
            while world.first_seq < before_seq && world.messages.pop_front().is_some() {
                world.first_seq += 1;
            }
        }))
    }

    fn incarnation(&self) -> u64 {
        self.lock().incarnation
    }

    fn usage(&self) -> LogUsage {
        Self::usage_of(&self.lock())
    }
}

struct SimRange {
    log: SimLog,
    next: u64,
    to_seq: u64,
}

impl Range for SimRange {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<(u64, Bytes)>, LogError>> {
        if self.next > self.to_seq {
            return ready(Ok(None));
        }
        let answer = self.log.ask("read a range", |world| {
            // A reader of a range is given what there is from there on.
            let mut seq = self.next.max(world.first_seq);
            while world.hidden.contains(&seq) {
                seq += 1;
            }
            (seq, world.at(seq))
        });
        ready(answer.map(|(seq, payload)| {
            self.next = seq + 1;
            payload.map(|payload| (seq, payload))
        }))
    }
}
