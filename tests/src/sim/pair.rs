//! Two racks over one simulated stream: a holder and its stand-by, each on a clock of its own, so that one can stand still
//! while the other goes on. They are paused beyond the lease, cut off, killed and stopped, and take over from each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fluxrig_actors::clock::SimWorld;
use fluxrig_actors::journal::Pace;
use fluxrig_actors::journal::disk::sim::{SimDisk, SplitMix};
use fluxrig_actors::journal::stream::sim::{SimStream, StreamFaults};
use fluxrig_actors::journal::stream::{LogError, StreamOpenError};
use fluxrig_actors::{JournalOptions, Rig, RigError, Standby};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::draw;
use super::report::{Fault, Options, Report};
use world::{Count, Ends, Numbers, Proc, Seen, Writes};

mod world;

const LEASE_MS: u64 = 1_200;
/// How long one rack runs before the other does: far below what of the lease is kept back.
const STEP_MS: u64 = 5;
/// So long after whatever has happened a stand-by may take over: it is started, waits for a lease, and for another one
/// when something was still under way.
const HURT_MS: u64 = 3 * LEASE_MS;
const STORM_MS_MAX: u64 = 40_000;
const CALM_MS_MAX: u64 = 90_000;

/// What two racks meet: of the servers all that a stream does, of each rack kills, cuts (`endpoint`), clean stops
/// (`scenario`) and times in which it stands still (`clock`).
pub const FAULTS: [Fault; 5] = [Fault::Kill, Fault::Flush, Fault::Endpoint, Fault::Scenario, Fault::Clock];

/// Runs one seed to the end.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Report {
    let mut pair = Pair::new(seed, options);
    pair.storm();
    if pair.is_clean() {
        pair.calm();
    }
    pair.report()
}

/// One machine.
struct Rack {
    disk: SimDisk,
    is_cut: Arc<AtomicBool>,
    cut_until: u64,
    /// Its process; none while it is down.
    process: Option<Process>,
    starts_at: u64,
}

struct Process {
    runtime: Runtime,
    origin: Instant,
    /// When its clock began, and until when it has run, on the clock of all.
    began: u64,
    ran_until: u64,
    paused_until: u64,
    proc: Arc<Proc>,
    life: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

struct Pair {
    seed: u64,
    rng: SplitMix,
    stream: SimStream,
    /// How often something goes wrong with the servers.
    ppm: u32,
    racks: [Rack; 2],
    now: u64,
    ends: Ends,
    seen: Arc<Mutex<Seen>>,
    /// Until then a holder may be gone without being gone.
    hurt_until: Arc<AtomicU64>,
    /// `now`, for those who live in it.
    clock: Arc<AtomicU64>,
    processes: u64,
    report: Report,
}

impl Pair {
    fn new(seed: u64, options: &Options) -> Self {
        let mut rng = SplitMix::new(draw(seed, &["pair"], 0));
        let stream = SimStream::new(draw(seed, &["stream"], 0));
        let ppm = if options.has(Fault::Flush) { [0, 0, 4_000, 20_000][rng.below(4) as usize] } else { 0 };
        stream.set_payload_bytes_max([600, 1 << 20][rng.below(2) as usize]);
        let delay_ms = [0, 2, 10, 30, 150][rng.below(5) as usize];
        stream.set_delay(Duration::from_millis(delay_ms));
        let is_slow = rng.below(3) > 0;
        let latency = Duration::from_millis(if is_slow { LEASE_MS / 4 } else { 3 });
        let is_serial = rng.below(2) == 0;
        let count = if is_slow && is_serial { 60 } else { 150 };
        let rack = |idx: u64| Rack {
            disk: SimDisk::new(draw(seed, &["disk"], idx)),
            is_cut: Arc::default(),
            cut_until: 0,
            process: None,
            starts_at: 10 * idx,
        };
        let drawn = format!("pair faults={ppm}ppm delay={delay_ms}ms latency={latency:?} serial={is_serial}");
        Self {
            seed,
            rng,
            stream,
            ppm,
            racks: [rack(0), rack(1)],
            now: 0,
            ends: Ends { seed, count, latency, is_serial },
            seen: Arc::default(),
            hurt_until: Arc::default(),
            clock: Arc::default(),
            processes: 0,
            report: Report { seed, drawn, ..Report::default() },
        }
    }

    fn is_clean(&self) -> bool {
        self.seen().violations.is_empty()
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn storm(&mut self) {
        // There is a holder before anything happens, and one that follows it.
        while self.now < 2 * LEASE_MS {
            self.step();
        }
        self.stream.set_faults(faults(self.ppm));
        while self.now < STORM_MS_MAX && self.is_clean() && self.seen().next < self.ends.count {
            if self.rng.below(200) == 0 {
                self.trouble();
            }
            self.step();
        }
    }

    /// Something happens to a rack.
    fn trouble(&mut self) {
        let holder = self.seen().holder;
        let is_holder = |rack: &Rack| rack.process.as_ref().is_some_and(|process| process.proc.id == holder);
        let holder = self.racks.iter().position(is_holder);
        let idx = match holder {
            Some(idx) if self.rng.below(4) > 0 => idx,
            Some(idx) => 1 - idx,
            None => return,
        };
        let long_ms = LEASE_MS * 9 / 10 + self.rng.below(LEASE_MS / 2);
        let ms = if self.rng.below(4) == 0 { self.rng.below(long_ms) } else { long_ms };
        let what = self.rng.below(8);
        // The other one may have been taking over, and hears of it late.
        self.hurt_until.fetch_max(self.now + ms + HURT_MS, Ordering::SeqCst);
        match what {
            0..4 => {
                if let Some(process) = &mut self.racks[idx].process {
                    process.proc.pauses.fetch_add(1, Ordering::SeqCst);
                    process.paused_until = process.paused_until.max(self.now + ms);
                    self.report.fired.add(Fault::Clock, 1);
                }
            }
            4 | 5 => {
                self.racks[idx].is_cut.store(true, Ordering::SeqCst);
                self.racks[idx].cut_until = self.now + ms;
                self.report.fired.add(Fault::Endpoint, 1);
            }
            6 => {
                self.end(idx);
                self.report.fired.add(Fault::Kill, 1);
            }
            _ => {
                let stop = self.racks[idx].process.as_mut().and_then(|process| process.stop.take());
                self.report.fired.add(Fault::Scenario, u64::from(stop.is_some_and(|stop| stop.send(()).is_ok())));
            }
        }
    }

    /// The process is gone at once, with all it had in memory.
    fn end(&mut self, idx: usize) {
        let after = self.rng.below(1_500);
        self.hurt_until.fetch_max(self.now + after + HURT_MS, Ordering::SeqCst);
        let rack = &mut self.racks[idx];
        drop(rack.process.take());
        rack.disk.kill();
        rack.starts_at = self.now + 20 + after;
    }

    /// Both go on for a moment, the one and then the other.
    fn step(&mut self) {
        self.now += STEP_MS;
        self.clock.store(self.now, Ordering::SeqCst);
        let first = self.rng.below(2) as usize;
        for idx in [first, 1 - first] {
            if self.racks[idx].cut_until <= self.now {
                self.racks[idx].is_cut.store(false, Ordering::SeqCst);
            }
            if self.racks[idx].process.as_ref().is_some_and(|process| process.life.is_finished()) {
                self.end(idx);
            }
            if self.racks[idx].process.is_none() && self.racks[idx].starts_at <= self.now {
                self.start(idx);
            }
            let now = self.now;
            if let Some(process) = self.racks[idx].process.as_mut().filter(|process| process.paused_until <= now) {
                process.run_until(now);
            }
        }
    }

    fn start(&mut self, idx: usize) {
        self.processes += 1;
        self.report.starts += 1;
        let id = self.processes;
        if id > 1 && self.racks[idx].disk.contents("rack.key").is_none() {
            let Some(key) = self.racks[1 - idx].disk.contents("rack.key") else { return };
            self.racks[idx].disk.put("rack.key", key);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime of one thread");
        let proc = Arc::new(Proc { id, ends: self.ends, pauses: AtomicU64::new(0), seen: Arc::clone(&self.seen) });
        let (stop, stopped) = oneshot::channel();
        let life = Life {
            proc: Arc::clone(&proc),
            journal: self.journal(idx),
            is_first: id == 1,
            is_sound: self.ppm == 0,
            hurt_until: Arc::clone(&self.hurt_until),
            clock: Arc::clone(&self.clock),
        };
        let (origin, life) = runtime.block_on(async { (Instant::now(), tokio::spawn(life.live(stopped))) });
        let (began, stop) = (self.now, Some(stop));
        self.racks[idx].process =
            Some(Process { runtime, origin, began, ran_until: began, paused_until: 0, proc, life, stop });
    }

    fn journal(&self, idx: usize) -> JournalOptions {
        let rack = &self.racks[idx];
        let mut journal = JournalOptions::disk(rack.disk.process()).on_stream(self.stream.behind(&rack.is_cut));
        journal.lease = Some(Duration::from_millis(LEASE_MS));
        journal.segment_bytes = 64 << 10;
        let seed = draw(self.seed, &["pace"], self.processes);
        journal.pace = Some(Pace { seed, max: Duration::from_millis(2) });
        journal
    }

    /// Nothing goes wrong any more: all that was acknowledged comes out, and the stream is what it should be.
    fn calm(&mut self) {
        self.stream.set_faults(StreamFaults::default());
        self.stream.set_delay(Duration::ZERO);
        self.racks.iter_mut().for_each(|rack| rack.cut_until = self.now);
        let until = self.now + CALM_MS_MAX;
        let is_done = |seen: &Seen, count| seen.next == count && seen.missing().is_none();
        while self.now < until && self.is_clean() && !is_done(&self.seen(), self.ends.count) {
            self.step();
        }
        let missing = self.seen().missing();
        if self.is_clean() && self.now >= until {
            let found = missing.map_or_else(|| "messages".to_owned(), |number| format!("n={number}, acknowledged"));
            self.seen().fail("lost", found);
        }
        // Nobody has anything to do, and nothing that looks like it is sent.
        for _ in 0..3 * LEASE_MS / STEP_MS {
            self.step();
        }
        self.judge_stream();
        if self.is_clean() {
            self.lose_the_end();
        }
    }

    /// What the format promises to whoever reads it (`actors/src/journal/stream.rs`).
    fn judge_stream(&mut self) {
        let (first, messages) = self.stream.messages();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut term, mut writer) = (0, 0);
        for (seq, payload) in (first..).zip(&messages) {
            let word = |at: usize| payload[at..at + 8].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            let (its_term, its_writer, part) = (word(48), word(96), word(80) & 0xffff_ffff);
            if word(104) + part != seq {
                seen.fail("a message is not where its writer thought", format!("sequence {seq}"));
            }
            if part == 0 && its_term < term {
                seen.fail("a group of an older term", format!("{its_term} behind {term} at {seq}"));
            }
            if its_term == term && its_writer != writer {
                seen.fail("two writers with one term", format!("{term} at {seq}"));
            }
            if its_term > term {
                (term, writer) = (its_term, its_writer);
            }
        }
    }

    /// The servers come back without what the last holder knows to be acked: it does not start on that.
    fn lose_the_end(&mut self) {
        let holder = self.seen().holder;
        let is_holder = |rack: &Rack| rack.process.as_ref().is_some_and(|process| process.proc.id == holder);
        let Some(idx) = self.racks.iter().position(is_holder) else { return };
        (0..2).for_each(|idx| self.end(idx));
        let mark = self.racks[idx].disk.contents("stream.mark").unwrap_or_default();
        let acked = mark.get(24..32).map_or(0, |raw| raw.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        let (first, messages) = self.stream.messages();
        let last = first + messages.len() as u64 - 1;
        if acked <= first || acked > last {
            return self.seen().fail("the mark is not what is acked", format!("{acked} of {first} to {last}"));
        }
        self.stream.rewind((last - acked + 1) as usize);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let journal = self.journal(idx);
        let runtime = runtime.expect("a runtime of one thread");
        let proc = Arc::new(Proc { id: 0, ends: self.ends, pauses: AtomicU64::new(0), seen: Arc::clone(&self.seen) });
        let started = runtime.block_on(async { rig(&proc, journal).start().await.map(drop) });
        // What is missing may also be the group that says from where on the stream is alive.
        if !matches!(started, Err(RigError::Stream(StreamOpenError::Shorter { .. } | StreamOpenError::Damaged { .. })))
        {
            let found = started.map_or_else(|error| error.to_string(), |()| "it starts".to_owned());
            self.seen().fail("a lost end is accepted", found);
        }
    }

    fn report(mut self) -> Report {
        self.racks.iter_mut().for_each(|rack| drop(rack.process.take()));
        let fired = self.stream.fired();
        let unheard = fired.lost_acks + fired.lost_publishes + fired.late;
        self.report.fired.add(Fault::Flush, unheard + fired.doubled + fired.elections + fired.stale);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.report.violations = std::mem::take(&mut seen.violations);
        self.report.offered = seen.next;
        self.report.classes.ok = seen.effects();
        self.report.classes.unknown = seen.unknown;
        self.report.take_overs = seen.take_overs;
        self.report.virtual_ms = self.now;
        self.report.digest = draw(seen.effects(), &["digest"], self.now ^ fired.wrong_last << 32 ^ seen.edge << 48);
        drop(seen);
        self.report
    }
}

impl Process {
    /// Up to this moment; a process that stood still finds that time has passed.
    fn run_until(&mut self, now: u64) {
        let (origin, began, jump) = (self.origin, self.began, now - self.ran_until - STEP_MS.min(now - self.ran_until));
        self.ran_until = now;
        self.runtime.block_on(async move {
            if jump > 0 {
                tokio::time::advance(Duration::from_millis(jump)).await;
            }
            tokio::time::sleep_until(origin + Duration::from_millis(now - began)).await;
        });
    }
}

/// What a process does from its start to its end.
struct Life {
    proc: Arc<Proc>,
    journal: JournalOptions,
    is_first: bool,
    is_sound: bool,
    hurt_until: Arc<AtomicU64>,
    clock: Arc<AtomicU64>,
}

impl Life {
    async fn live(self, stopped: oneshot::Receiver<()>) {
        if let Err(error) = self.hold(stopped).await
            && !is_excused(&error)
        {
            self.proc.seen().fail("a rack ends", error.to_string());
        }
    }

    async fn hold(&self, stopped: oneshot::Receiver<()>) -> Result<(), RigError> {
        let journal = match self.is_first {
            true => self.journal.clone(),
            false => {
                let world = Arc::new(SimWorld::new(self.proc.ends.seed ^ self.proc.id << 8));
                Standby::follow(self.journal.clone(), world).await?.run().await?
            }
        };
        self.begins();
        let rig = rig(&self.proc, journal).start().await?;
        tokio::select! {
            _ = rig.ended() => {}
            // A process that is killed drops it.
            Ok(()) = stopped => drop(rig.stop(Duration::from_secs(2)).await),
        }
        Ok(())
    }

    /// It holds the journal from now on.
    fn begins(&self) {
        let mut seen = self.proc.seen();
        if self.is_sound && !self.is_first && self.clock.load(Ordering::SeqCst) > self.hurt_until.load(Ordering::SeqCst)
        {
            seen.fail("taken over from a rack that lives", format!("by process {}", self.proc.id));
        }
        seen.holder = self.proc.id;
        seen.take_overs += u64::from(!self.is_first);
    }
}

fn rig(proc: &Arc<Proc>, journal: JournalOptions) -> Rig {
    Rig::new("pair")
        .endpoint("numbers", Numbers(Arc::clone(proc)))
        .gear("count", Count)
        .endpoint("writes", Writes(Arc::clone(proc)))
        .wire("numbers", "count")
        .wire("count", "writes")
        .journal_with(journal)
        .world(Arc::new(SimWorld::new(proc.ends.seed ^ proc.id)))
}

fn is_excused(error: &RigError) -> bool {
    match error {
        RigError::Stream(StreamOpenError::Log(LogError::Unreachable { .. })) => true,
        RigError::Stream(StreamOpenError::Storage(error)) | RigError::Storage(error) => {
            error.is_unreachable() || error.is_fenced()
        }
        _ => false,
    }
}

fn faults(ppm: u32) -> StreamFaults {
    StreamFaults { election_ppm: ppm / 4, ..StreamFaults::all(ppm) }
}
