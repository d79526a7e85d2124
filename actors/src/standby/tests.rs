//! Take-overs with time in hand: no interleaving has two racks that start effects, and nothing that was acked is lost.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fluxrig_protocol::FluxMsg;

use super::*;
use crate::clock::SimWorld;
use crate::journal::disk::sim::{SimDisk, SplitMix};
use crate::journal::stream::sim::{SimStream, StreamFaults};
use crate::journal::{Group, Pace, StorageError};
use crate::prelude::*;
use crate::rig::recover::open_journal;
use crate::{Rig, RunningRig};

const LEASE: Duration = Duration::from_secs(3);

fn leased(mut options: JournalOptions, lease: Duration) -> JournalOptions {
    options.lease = Some(lease);
    options
}

enum Rack {
    Down,
    Standby(Box<Standby>),
    Holder { storage: Box<dyn Storage>, lease: Arc<Lease>, epoch: u64, is_failed: bool },
}

/// What was met, so that a run that meets nothing cannot pass for a test.
#[derive(Debug, Default)]
struct Met {
    take_overs: u64,
    refused: u64,
    fenced: u64,
    starts: u64,
    acked: u64,
    renewals: u64,
    left: u64,
}

struct Racks {
    rng: SplitMix,
    stream: SimStream,
    world: Arc<dyn World>,
    disks: Vec<SimDisk>,
    cuts: Vec<Arc<AtomicBool>>,
    racks: Vec<Rack>,
    /// The last epoch that any holder knows to be acked.
    acked: u64,
    is_patient: bool,
    met: Met,
}

impl Racks {
    async fn new(seed: u64, is_patient: bool) -> Self {
        let disks: Vec<_> = (0..3).map(|idx| SimDisk::new(seed ^ (idx << 32))).collect();
        let mut racks = Self {
            rng: SplitMix::new(seed),
            stream: SimStream::new(seed),
            world: Arc::new(SimWorld::new(seed)),
            disks,
            cuts: (0..3).map(|_| Arc::default()).collect(),
            racks: Vec::new(),
            acked: 0,
            is_patient,
            met: Met::default(),
        };
        let world: Arc<dyn crate::node::WorldDebug> = Arc::new(SimWorld::new(seed));
        let opened = open_journal(&racks.options(0), &world).await.unwrap();
        let lease = opened.lease.clone().unwrap();
        let key = racks.disks[0].contents("rack.key").unwrap();
        racks.disks[1..].iter().for_each(|disk| disk.put("rack.key", key.clone()));
        racks.racks.push(Rack::Holder { storage: opened.storage, lease, epoch: 0, is_failed: false });
        racks.racks.extend([Rack::Down, Rack::Down]);
        racks
    }

    fn options(&self, idx: usize) -> JournalOptions {
        let log = self.stream.behind(&self.cuts[idx]);
        leased(JournalOptions::disk(self.disks[idx].process()).on_stream(log), LEASE)
    }

    async fn step(&mut self) {
        if self.rng.chance(300_000) {
            let by_ms = self.rng.below(1_600);
            tokio::time::advance(Duration::from_millis(by_ms)).await;
        }
        let idx = self.rng.below(3) as usize;
        if self.rng.chance(30_000) {
            self.cuts[idx].fetch_xor(true, Ordering::SeqCst);
        }
        let rack = std::mem::replace(&mut self.racks[idx], Rack::Down);
        let next = match rack {
            Rack::Down => self.begin(idx).await,
            Rack::Standby(standby) => self.wait(standby).await,
            holder @ Rack::Holder { .. } => self.hold(holder).await,
        };
        if matches!(next, Rack::Down) {
            self.disks[idx].kill();
        }
        self.racks[idx] = next;
        let holders = self.racks.iter().filter(|rack| match rack {
            Rack::Holder { lease, .. } => lease.may_start(),
            _ => false,
        });
        assert!(holders.count() <= 1, "two racks start effects");
    }

    async fn begin(&mut self, idx: usize) -> Rack {
        match Standby::follow(self.options(idx), Arc::clone(&self.world)).await {
            Ok(standby) => Rack::Standby(Box::new(standby)),
            Err(RigError::Stream(StreamOpenError::Log(_))) => Rack::Down,
            Err(error) => panic!("{error}"),
        }
    }

    async fn wait(&mut self, mut standby: Box<Standby>) -> Rack {
        if self.rng.chance(600_000) {
            drop(standby.look().await);
        }
        if !self.is_patient {
            standby.heard_ns = 0;
        }
        let was_due = standby.may_take_over();
        match standby.take_over().await {
            Ok(Some(options)) => {
                self.met.take_overs += 1;
                let world: Arc<dyn crate::node::WorldDebug> = Arc::new(SimWorld::new(1));
                // The bodies are no records here: what the image made of them is not asked.
                let taken = open_journal(&options, &world).await.unwrap();
                let lease = taken.lease.clone().unwrap();
                let epoch = standby.follower.epoch();
                assert!(epoch >= self.acked, "epoch {} was acked, {epoch} taken over", self.acked);
                Rack::Holder { storage: taken.storage, lease, epoch, is_failed: false }
            }
            Ok(None) => {
                self.met.refused += u64::from(was_due);
                Rack::Standby(standby)
            }
            Err(RigError::Stream(StreamOpenError::Log(_) | StreamOpenError::Storage(_))) => Rack::Down,
            Err(error) => panic!("{error}"),
        }
    }

    async fn hold(&mut self, holder: Rack) -> Rack {
        let Rack::Holder { mut storage, lease, mut epoch, mut is_failed } = holder else { return holder };
        if self.rng.chance(20_000) {
            return Rack::Down;
        }
        if !is_failed && self.rng.chance(10_000) {
            self.met.left += u64::from(storage.leave().await.is_ok());
            assert!(!lease.may_start(), "it has left, and starts effects");
            return Rack::Down;
        }
        self.met.starts += u64::from(lease.may_start());
        let done = if is_failed {
            storage.replace(epoch).await.map(|()| is_failed = false)
        } else if self.rng.chance(500_000) {
            let group = Group { epoch: epoch + 1, flushed: epoch, oldest: 1, body: &[] };
            storage.append(group).await.map(|_| {
                epoch += 1;
                self.acked = self.acked.max(epoch);
                self.met.acked += 1;
            })
        } else if storage.is_renewal_due() {
            self.met.renewals += 1;
            storage.renew().await
        } else {
            Ok(())
        };
        match done {
            Ok(()) => {}
            Err(error) if error.is_fenced() => {
                self.met.fenced += 1;
                assert!(!lease.may_start(), "fenced, and within its lease");
                return Rack::Down;
            }
            Err(StorageError::Unreachable { .. } | StorageError::Final { .. }) => is_failed = true,
            Err(error) => panic!("{error}"),
        }
        Rack::Holder { storage, lease, epoch, is_failed }
    }
}

fn run(seed: u64, is_patient: bool) -> Met {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut racks = Racks::new(seed, is_patient).await;
        let ppm = [0, 5_000, 30_000][(seed % 3) as usize];
        racks.stream.set_faults(StreamFaults::all(ppm));
        for _ in 0..400 {
            racks.step().await;
        }
        racks.met
    })
}

#[test]
fn no_interleaving_has_two_holders() {
    let mut sum = Met::default();
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (from, count) = (number("JOURNAL_SEED", 1), number("JOURNAL_SEEDS", 200));
    for seed in from..from + count {
        let met = std::panic::catch_unwind(|| run(seed, true)).unwrap_or_else(|_| panic!("seed {seed}"));
        sum.take_overs += met.take_overs;
        sum.refused += met.refused;
        sum.fenced += met.fenced;
        sum.starts += met.starts;
        sum.acked += met.acked;
        sum.renewals += met.renewals;
        sum.left += met.left;
    }
    println!("{sum:?}");
    let Met { take_overs, refused, fenced, starts, acked, renewals, left } = sum;
    for met in [take_overs, refused, fenced, starts, acked, renewals, left] {
        assert!(met > 0, "what is never met is not tested: {sum:?}");
    }
}

/// A stand-by that does not wait is noticed.
#[test]
fn the_model_notices_an_impatient_one() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let is_noticed = (1..=20).any(|seed| std::panic::catch_unwind(|| run(seed, false)).is_err());
    std::panic::set_hook(hook);
    assert!(is_noticed);
}

/// Counts what arrives, and sends a number now and then.
struct Ends {
    arrived: Arc<std::sync::Mutex<Vec<u64>>>,
    next: Arc<AtomicU64>,
    is_source: bool,
}

impl crate::Endpoint for Ends {
    const TYPE: &'static str = "ends";

    fn ports(&self) -> Ports {
        if self.is_source { Ports::source() } else { Ports::sink() }
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        if self.is_source {
            loop {
                let mut msg: FluxMsg = io.message();
                msg.data.insert_key("number", i64::try_from(self.next.fetch_add(1, Ordering::SeqCst)).unwrap());
                drop(io.door().admit(msg).await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let mut effects = io.effects();
        while let Some(effect) = effects.take().await {
            let number = effect.msg.data.get_key("number").and_then(Value::as_int).unwrap();
            self.arrived.lock().unwrap().push(u64::try_from(number).unwrap());
            effect.done();
        }
        Ok(())
    }
}

type Arrived = Arc<std::sync::Mutex<Vec<u64>>>;

fn rig(mut options: JournalOptions, world: &Arc<SimWorld>, next: &Arc<AtomicU64>, arrived: &Arrived) -> Rig {
    let end = |is_source| Ends { arrived: Arc::clone(arrived), next: Arc::clone(next), is_source };
    options.pace = Some(Pace { seed: 3, max: Duration::from_micros(300) });
    Rig::new("line")
        .endpoint("source", end(true))
        .endpoint("sink", end(false))
        .wire("source", "sink")
        .journal_with(options)
        .world(Arc::clone(world))
}

async fn start(options: JournalOptions, world: &Arc<SimWorld>, next: &Arc<AtomicU64>, arrived: &Arrived) -> RunningRig {
    rig(options, world, next, arrived).start().await.unwrap()
}

/// The holder is parted from the stream; the stand-by goes on with all of it, and the holder ends when it hears of that.
#[tokio::test(start_paused = true)]
async fn a_rig_is_taken_over_and_its_holder_ends() {
    let (stream, world) = (SimStream::new(1), Arc::new(SimWorld::new(1)));
    let (first, second) = (SimDisk::new(1), SimDisk::new(2));
    let (is_cut, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let options = |disk: &SimDisk, log| leased(JournalOptions::disk(disk.process()).on_stream(log), LEASE);
    let (before, after): (Arrived, Arrived) = Default::default();
    let holder = start(options(&first, stream.behind(&is_cut)), &world, &next, &before).await;
    second.put("rack.key", first.contents("rack.key").unwrap());
    let standby =
        Standby::follow(options(&second, stream.other()), Arc::clone(&world) as Arc<dyn World>).await.unwrap();
    let views = standby.watch();
    let mut following = tokio::spawn(standby.run());
    // As long as it lives, nobody takes over, busy or not.
    let idle = tokio::time::timeout(10 * LEASE, &mut following).await;
    assert!(idle.is_err(), "the holder lives");
    let view = *views.borrow();
    assert!(!view.is_holder && view.lag == 0 && view.lease_left.is_some(), "{view:?}");
    let lease = holder.lease().unwrap();
    assert!(lease.left > LEASE / 3 && lease.term == view.term, "{lease:?}");

    is_cut.store(true, Ordering::SeqCst);
    let since = tokio::time::Instant::now();
    let options = following.await.unwrap().unwrap();
    assert!(since.elapsed() < LEASE + LEASE / 3, "taken over after {:?}", since.elapsed());
    assert!(views.borrow().is_holder);
    let of_holder = before.lock().unwrap().len();
    let taken = start(options, &world, &next, &after).await;
    assert!(taken.lease().unwrap().term > lease.term);
    while after.lock().unwrap().len() < 50 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(before.lock().unwrap().len(), of_holder, "the first one starts nothing any more");
    is_cut.store(false, Ordering::SeqCst);
    let why = holder.ended().await;
    assert!(why.contains("another writer"), "{why}");
    holder.kill().await;
    assert_eq!(before.lock().unwrap().len(), of_holder);
    taken.stop(Duration::from_secs(5)).await;
    // What the parted holder still let in was acknowledged to nobody; all else arrived once.
    let all: Vec<u64> = before.lock().unwrap().iter().chain(after.lock().unwrap().iter()).copied().collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "nothing twice");
}

/// Nobody waits for the lease of a holder that has stopped in order, neither one that follows nor one that comes later.
#[tokio::test(start_paused = true)]
async fn a_clean_stop_is_taken_over_at_once() {
    let (stream, world) = (SimStream::new(1), Arc::new(SimWorld::new(1)));
    let disks = [SimDisk::new(1), SimDisk::new(2), SimDisk::new(3)];
    let options = |disk: &SimDisk| leased(JournalOptions::disk(disk.process()).on_stream(stream.other()), LEASE);
    let (next, arrived): (Arc<AtomicU64>, Arrived) = Default::default();
    let holder = start(options(&disks[0]), &world, &next, &arrived).await;
    disks[1..].iter().for_each(|disk| disk.put("rack.key", disks[0].contents("rack.key").unwrap()));
    let follow = async |disk| Standby::follow(options(disk), Arc::clone(&world) as Arc<dyn World>).await.unwrap();
    let standby = follow(&disks[1]).await;
    let following = tokio::spawn(standby.run());
    while arrived.lock().unwrap().len() < 20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    holder.stop(Duration::from_secs(5)).await;
    let since = tokio::time::Instant::now();
    let taken = start(following.await.unwrap().unwrap(), &world, &next, &arrived).await;
    assert!(since.elapsed() < LEASE / 10, "followed, and took over after {:?}", since.elapsed());
    taken.stop(Duration::from_secs(5)).await;
    let since = tokio::time::Instant::now();
    let taken = start(follow(&disks[2]).await.run().await.unwrap(), &world, &next, &arrived).await;
    assert!(since.elapsed() < LEASE / 10, "came later, and took over after {:?}", since.elapsed());
    taken.stop(Duration::from_secs(5)).await;
    let all = arrived.lock().unwrap();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "nothing twice");
}

/// A second rack that is no stand-by is refused while the first lives, and waits for its lease when it does not.
#[tokio::test(start_paused = true)]
async fn a_second_rack_does_not_fence_one_that_lives() {
    let (stream, world) = (SimStream::new(1), Arc::new(SimWorld::new(1)));
    let (first, second) = (SimDisk::new(1), SimDisk::new(2));
    let options = |disk: &SimDisk| leased(JournalOptions::disk(disk.process()).on_stream(stream.other()), LEASE);
    let (next, arrived) = Default::default();
    let holder = start(options(&first), &world, &next, &arrived).await;
    second.put("rack.key", first.contents("rack.key").unwrap());
    let error = rig(options(&second), &world, &next, &arrived).start().await.unwrap_err();
    assert!(matches!(error, RigError::Stream(StreamOpenError::Held { .. })), "{error}");
    // Its own directory needs no wait, another one a lease.
    holder.kill().await;
    first.kill();
    let since = tokio::time::Instant::now();
    let again = start(options(&first), &world, &next, &arrived).await;
    assert!(since.elapsed() < LEASE / 3, "{:?}", since.elapsed());
    again.kill().await;
    let since = tokio::time::Instant::now();
    let taken = start(options(&second), &world, &next, &arrived).await;
    assert!(since.elapsed() >= LEASE, "{:?}", since.elapsed());
    taken.kill().await;
}

/// Whoever follows slowly finds deleted what it was to read next: that is no damage, since a later group says so.
#[tokio::test(start_paused = true)]
async fn a_standby_that_is_slower_than_the_holder_deletes_reads_anew() {
    let (stream, first, second) = (SimStream::new(1), SimDisk::new(1), SimDisk::new(2));
    let is_cut = Arc::new(AtomicBool::new(false));
    let options = |disk: &SimDisk, log| {
        let mut options = leased(JournalOptions::disk(disk.process()).on_stream(log), LEASE);
        options.segment_bytes = 64 << 10;
        options
    };
    let world: Arc<dyn crate::node::WorldDebug> = Arc::new(SimWorld::new(1));
    let mut storage = open_journal(&options(&first, stream.other()), &world).await.unwrap().storage;
    second.put("rack.key", first.contents("rack.key").unwrap());
    let world: Arc<dyn World> = Arc::new(SimWorld::new(2));
    let mut standby = Standby::follow(options(&second, stream.behind(&is_cut)), world).await.unwrap();
    is_cut.store(true, Ordering::SeqCst);
    for epoch in 1..=2_000u64 {
        let oldest = if epoch > 1_990 { 3 } else { 1 };
        storage.append(Group { epoch, flushed: epoch - 1, oldest, body: &[] }).await.unwrap();
    }
    assert!(storage.trim(3).unwrap() > 0);
    assert!(standby.look().await.is_err(), "it is cut off");
    is_cut.store(false, Ordering::SeqCst);
    let view = standby.look().await.unwrap();
    assert_eq!((view.lag, standby.follower.epoch()), (0, 2_000));
    tokio::time::advance(LEASE).await;
    // Nothing was heard since the look: it takes over with all that is alive.
    assert!(standby.take_over().await.unwrap().is_some());
}

/// Reading may take long: the holder was heard when the leader told of its message, and not when that had been read.
#[tokio::test(start_paused = true)]
async fn slow_reading_does_not_put_off_a_take_over() {
    let stream = SimStream::new(1);
    let [first, second] = [1, 2].map(SimDisk::new);
    let options = |disk: &SimDisk| leased(JournalOptions::disk(disk.process()).on_stream(stream.other()), LEASE);
    let world: Arc<dyn crate::node::WorldDebug> = Arc::new(SimWorld::new(1));
    let mut holder = open_journal(&options(&first), &world).await.unwrap().storage;
    second.put("rack.key", first.contents("rack.key").unwrap());
    let mut standby = Standby::follow(options(&second), world.clone()).await.unwrap();
    holder.append(Group { epoch: 1, flushed: 0, oldest: 1, body: &[] }).await.unwrap();
    // Whoever answers is mostly behind the leader, and is asked again after a while.
    stream.set_faults(StreamFaults { stale_ppm: 950_000, ..StreamFaults::default() });
    let since = tokio::time::Instant::now();
    let view = standby.look().await.unwrap();
    let took = since.elapsed();
    assert!(took >= Duration::from_millis(100), "it took {took:?}");
    assert!(view.lease_left.unwrap() <= LEASE - took, "{:?} after {took:?}", view.lease_left);
}

#[tokio::test]
async fn what_a_standby_needs() {
    let options = JournalOptions::disk(SimDisk::new(1).process());
    let world: Arc<dyn World> = Arc::new(SimWorld::new(1));
    let error = Standby::follow(options.clone(), Arc::clone(&world)).await.unwrap_err();
    assert!(matches!(error, RigError::NoStream), "{error}");
    let keyless = options.clone().on_stream(SimStream::new(1).other());
    let error = Standby::follow(keyless, Arc::clone(&world)).await.unwrap_err();
    assert!(matches!(error, RigError::Stream(StreamOpenError::StandbyKeyMissing { .. })), "{error}");
    let rig = |options| Rig::new("idle").journal_with(options);
    let on_files = leased(options.clone(), LEASE);
    let text = rig(on_files).check().unwrap_err().to_string();
    assert!(text.contains("`lease`") && text.contains("files"), "{text}");
    let short = leased(options.on_stream(SimStream::new(1).other()), Duration::from_millis(10));
    let text = rig(short).check().unwrap_err().to_string();
    assert!(text.contains("`lease` = 10"), "{text}");
}
