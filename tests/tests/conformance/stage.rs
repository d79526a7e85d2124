//! What a case stands on: one lane, one storage, one runtime; how a process ends, and what survives that.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::ConnectOptions;
use fluxrig_actors::clock::SimWorld;
use fluxrig_actors::journal::Pace;
use fluxrig_actors::journal::disk::sim::{Faults, SimDisk};
use fluxrig_actors::journal::stream::sim::SimStream;
use fluxrig_actors::journal::stream::{NatsLog, NatsLogOptions};
use fluxrig_actors::supervision::Backoff;
use fluxrig_actors::{JournalOptions, Lane, Redelivery, Rig, RunningRig, Settings, Supervision, WireOptions};

use crate::cord::Cord;
use crate::server::Server;

/// A lane on a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Memory only.
    Turbo,
    /// Files, flushed.
    Flush,
    /// Files, left to the page cache.
    Os,
    /// A simulated disk, flushed, the writer a thread.
    Sim,
    /// A simulated disk, flushed, the writer a task with pauses; one thread, paused clock.
    Paced,
    /// A simulated stream, flushed, the writer a thread.
    Stream,
    /// A stream of a real server that flushes every message.
    JetStream,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It drains and stops.
    Stop,
    /// `kill -9`.
    Kill,
    /// The power goes. On a simulated disk only.
    Power,
}

impl Variant {
    /// The guarantees, declared: whether what is on a wire is there again after an end of the process.
    pub(crate) fn survives(self, end: End) -> bool {
        match (self, end) {
            (Self::Turbo, _) => false,
            (Self::Os, End::Power) => false,
            (Self::Flush | Self::Os | Self::Sim | Self::Paced | Self::Stream | Self::JetStream, _) => true,
        }
    }

    pub(crate) fn lane(self) -> Lane {
        match self {
            Self::Turbo => Lane::Turbo,
            Self::Os => Lane::Os,
            Self::Flush | Self::Sim | Self::Paced | Self::Stream | Self::JetStream => Lane::Flush,
        }
    }

    fn seed(self) -> u64 {
        self as u64 + 7
    }
}

enum Place {
    Nowhere,
    Dir(TempDir),
    Disk(SimDisk),
    Stream(SimDisk, SimStream),
    Server { dir: TempDir, server: Arc<Server>, cords: Vec<Arc<Cord>> },
}

/// What a journal lies on, and what may happen to it:
///
/// | | on a disk | on a simulated stream | on a real server |
/// |---|---|---|---|
/// | no room | the disk is full | the stream's limit is reached | the same |
/// | little room | the disk's free space | what is left up to the stream's limit | the same |
/// | nothing becomes durable | flushes fail | no server answers | the server is stopped (`SIGSTOP`) |
/// | the power goes | what was not flushed is kept, lost or torn | this machine's, and with it the mark beside the stream | the server is killed with the process and started again |
pub(crate) enum Ground {
    Disk(SimDisk),
    Stream(SimStream),
    Server(Arc<Server>),
}

impl Ground {
    pub(crate) fn set_full(&self, is_full: bool) {
        match self {
            Self::Disk(disk) => {
                let write_full_ppm = if is_full { 1_000_000 } else { 0 };
                disk.set_faults(Faults { write_full_ppm, ..Faults::default() });
            }
            Self::Stream(stream) => stream.set_capacity(is_full.then(|| stream.used())),
            Self::Server(server) => server.limit(STREAM, |used| is_full.then_some(used + 1)),
        }
    }

    pub(crate) fn was_full(&self) -> bool {
        match self {
            Self::Disk(disk) => disk.fired().write_full > 0,
            Self::Stream(stream) => stream.fired().full > 0,
            // It keeps no count; what was refused shows in what the rig says.
            Self::Server(_) => true,
        }
    }

    /// Leaves room for little more than there is, or takes the limit away.
    pub(crate) fn set_scarce(&self, is_scarce: bool) {
        match self {
            Self::Disk(disk) => {
                let len = |name: String| disk.contents(&name).map_or(0, |bytes| bytes.len() as u64);
                let used: u64 = disk.names().into_iter().map(len).sum();
                disk.set_capacity(is_scarce.then_some(used + 1000));
            }
            Self::Stream(stream) => stream.set_capacity(is_scarce.then(|| stream.used() / 10 * 11)),
            Self::Server(server) => server.limit(STREAM, |used| is_scarce.then_some(used / 10 * 11)),
        }
    }

    pub(crate) fn fail_flushes(&self, is_failing: bool) {
        match self {
            Self::Disk(disk) => {
                let sync_error_ppm = if is_failing { 1_000_000 } else { 0 };
                disk.set_faults(Faults { sync_error_ppm, ..Faults::default() });
            }
            Self::Stream(stream) => stream.set_down(is_failing),
            Self::Server(server) => server.set_paused(is_failing),
        }
    }

    pub(crate) fn did_flushes_fail(&self) -> bool {
        match self {
            Self::Disk(disk) => disk.fired().sync_errors > 0,
            Self::Stream(stream) => stream.fired().down > 0,
            Self::Server(_) => true,
        }
    }
}

/// The ground of one case.
pub(crate) struct Stage {
    pub(crate) variant: Variant,
    place: Mutex<Place>,
    world: Option<Arc<SimWorld>>,
    segment_bytes: AtomicU64,
}

/// The stream of a rack that is called as it is by default.
const STREAM: &str = "FLUX_JOURNAL_rack";

/// A case that stops its server does not wait long for it, and one on a busy machine waits long enough.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Longest wait for a fact; under a paused clock it costs nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs one case on one variant, and fails it when it leaves actors running.
pub(crate) fn run<F: Future<Output = ()>>(variant: Variant, case: impl FnOnce(Arc<Stage>) -> F) {
    let server = (variant == Variant::JetStream).then(Server::start);
    if let Some(None) = server {
        return;
    }
    let mut builder = if variant == Variant::Paced {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2);
        builder
    };
    builder.enable_time().start_paused(variant == Variant::Paced);
    builder.build().unwrap().block_on(async {
        let stage = Arc::new(Stage::new(variant, server.flatten()));
        tokio::time::timeout(4 * PATIENCE, case(stage)).await.expect("the case ends");
        let metrics = tokio::runtime::Handle::current().metrics();
        until("every actor and task has ended", || match metrics.num_alive_tasks() {
            0 => Ok(()),
            left => Err(format!("{left} tasks")),
        })
        .await;
    });
}

/// Waits for a fact; fails with what was seen last.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut fact: impl FnMut() -> Result<T, String>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            match fact() {
                Ok(value) => return value,
                Err(seen) if tokio::time::Instant::now() > end => panic!("{caller}: {what}: still {seen}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }
}

/// Waits until `look` gives `expected`.
#[track_caller]
pub(crate) fn until_eq<T: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: T,
    mut look: impl FnMut() -> T,
) -> impl Future<Output = ()> {
    until(what, move || {
        let seen = look();
        if seen == expected { Ok(()) } else { Err(format!("{seen:?}, expected {expected:?}")) }
    })
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn until_true(what: &str, mut fact: impl FnMut() -> bool) -> impl Future<Output = ()> {
    until(what, move || if fact() { Ok(()) } else { Err("not so".into()) })
}

impl Stage {
    fn new(variant: Variant, server: Option<Server>) -> Self {
        let place = match variant {
            Variant::JetStream => {
                let server = Arc::new(server.expect("it was started"));
                Place::Server { dir: TempDir::new(), server, cords: Vec::new() }
            }
            Variant::Turbo => Place::Nowhere,
            Variant::Flush | Variant::Os => Place::Dir(TempDir::new()),
            Variant::Sim | Variant::Paced => Place::Disk(SimDisk::new(variant.seed())),
            Variant::Stream => Place::Stream(SimDisk::new(variant.seed()), SimStream::new(variant.seed())),
        };
        let world = (variant == Variant::Paced).then(|| Arc::new(SimWorld::new(variant.seed())));
        Self { variant, place: Mutex::new(place), world, segment_bytes: AtomicU64::new(1 << 20) }
    }

    /// Puts the journal of this case where power cuts and faults can be had: a directory gives way to a simulated disk.
    pub(crate) fn simulate(&self) -> Option<Ground> {
        let mut place = self.place.lock().unwrap();
        match &*place {
            Place::Nowhere => None,
            Place::Disk(disk) => Some(Ground::Disk(disk.clone())),
            Place::Stream(_, stream) => Some(Ground::Stream(stream.clone())),
            Place::Server { server, .. } => Some(Ground::Server(Arc::clone(server))),
            Place::Dir(_) => {
                let disk = SimDisk::new(self.variant.seed());
                *place = Place::Disk(disk.clone());
                Some(Ground::Disk(disk))
            }
        }
    }

    pub(crate) fn is_turbo(&self) -> bool {
        self.variant == Variant::Turbo
    }

    pub(crate) fn is_paced(&self) -> bool {
        self.variant == Variant::Paced
    }

    pub(crate) fn survives(&self, end: End) -> bool {
        self.variant.survives(end)
    }

    /// From now on segments are as small as they may be.
    pub(crate) fn small_segments(&self) {
        self.segment_bytes.store(64 << 10, Ordering::Relaxed);
    }

    pub(crate) fn journal(&self) -> Option<JournalOptions> {
        let mut options = match &mut *self.place.lock().unwrap() {
            Place::Nowhere => return None,
            Place::Dir(dir) => JournalOptions::dir(dir.path()),
            Place::Disk(disk) => JournalOptions::disk(disk.process()),
            Place::Stream(disk, stream) => JournalOptions::disk(disk.process()).on_stream(stream.process()),
            Place::Server { dir, server, cords } => {
                // A process of its own has a connection of its own.
                let servers = vec![server.url()];
                let options = NatsLogOptions { servers, answer_within: ANSWER_WITHIN, ..NatsLogOptions::default() };
                let cord = Cord::new(NatsLog::start(options, ConnectOptions::new()).unwrap());
                cords.push(Arc::clone(&cord));
                JournalOptions::dir(dir.path()).on_stream(cord)
            }
        };
        options.segment_bytes = self.segment_bytes.load(Ordering::Relaxed);
        if self.is_paced() {
            options.pace = Some(Pace { seed: 11, max: Duration::from_micros(400) });
        }
        Some(options)
    }

    /// A rig on this stage, without parts.
    pub(crate) fn rig(&self, name: &str) -> Rig {
        let rig = Rig::new(name);
        let rig = match &self.world {
            Some(world) => rig.world(Arc::clone(world)),
            None => rig,
        };
        match self.journal() {
            Some(journal) => rig.journal_with(journal),
            None => rig,
        }
    }

    /// Wall time of the rig's world.
    pub(crate) fn wall_ns(&self) -> i64 {
        use fluxrig_actors::clock::{Machine, World};
        match &self.world {
            Some(world) => world.wall_ns(),
            None => Machine::new().wall_ns(),
        }
    }

    /// The usual wire of this variant: redelivery is quick.
    pub(crate) fn wire(&self) -> WireOptions {
        let redelivery =
            Redelivery { first: Duration::from_millis(2), max: Duration::from_millis(20), ..Redelivery::default() };
        WireOptions { lane: self.variant.lane(), redelivery, ..WireOptions::default() }
    }

    /// Ends the process in this way.
    pub(crate) async fn end(&self, rig: RunningRig, end: End) {
        match end {
            End::Stop => {
                rig.stop(Duration::from_secs(1)).await;
            }
            End::Kill => {
                rig.kill().await;
                self.free(SimDisk::kill);
            }
            End::Power => {
                self.free(SimDisk::power_loss);
                rig.kill().await;
                if let Place::Server { server, .. } = &*self.place.lock().unwrap() {
                    server.kill_and_restart();
                }
            }
        }
        self.free_directory().await;
    }

    // A server that another case starts is a copy of this process for a moment, and has its files open, locks and all.
    async fn free_directory(&self) {
        let path = match &*self.place.lock().unwrap() {
            Place::Dir(dir) | Place::Server { dir, .. } => dir.path().join("lock"),
            Place::Nowhere | Place::Disk(_) | Place::Stream(..) => return,
        };
        let Ok(file) = std::fs::metadata(path) else { return };
        let inode = format!(":{} ", std::os::unix::fs::MetadataExt::ino(&file));
        let is_free = || !std::fs::read_to_string("/proc/locks").unwrap_or_default().contains(&inode);
        until_true("nobody has the directory", is_free).await;
    }

    /// The process is killed in this instant: whatever the rig does from here on never happened. End it with
    /// [`Stage::bury`] before the next start.
    pub(crate) fn kill_now(&self) {
        let mut place = self.place.lock().unwrap();
        match &*place {
            Place::Nowhere => {}
            Place::Disk(disk) => disk.kill(),
            Place::Stream(disk, stream) => {
                disk.kill();
                stream.kill();
            }
            Place::Dir(dir) => *place = Place::Dir(dir.copy()),
            Place::Server { dir, server, cords } => {
                cords.iter().for_each(|cord| cord.cut());
                *place = Place::Server { dir: dir.copy(), server: Arc::clone(server), cords: Vec::new() };
            }
        }
    }

    /// Clears away a rig whose process was ended by [`Stage::kill_now`].
    pub(crate) async fn bury(&self, rig: RunningRig) {
        rig.kill().await;
        self.free_directory().await;
    }

    fn free(&self, end: fn(&SimDisk)) {
        match &mut *self.place.lock().unwrap() {
            Place::Disk(disk) => end(disk),
            // An ack says that it is stored: the power of this machine takes nothing of the stream.
            Place::Stream(disk, stream) => {
                end(disk);
                stream.kill();
            }
            Place::Server { cords, .. } => cords.drain(..).for_each(|cord| cord.cut()),
            Place::Nowhere | Place::Dir(_) => {}
        }
    }

    /// Drains and stops; fails when something under way was left.
    pub(crate) async fn stop(&self, rig: RunningRig) {
        assert!(rig.stop(PATIENCE).await, "drained");
        self.free_directory().await;
    }
}

/// Restarts as often as it needs to, at once.
pub(crate) fn tireless() -> Supervision {
    Supervision {
        max_restarts: 10_000,
        backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(5)),
        ..Supervision::default()
    }
}

pub(crate) fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings);
    settings
}

/// A directory that goes with the test.
pub(crate) struct TempDir(PathBuf);

static NEXT_DIR: AtomicU64 = AtomicU64::new(0);

impl TempDir {
    pub(crate) fn new() -> Self {
        let number = NEXT_DIR.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fluxrig-conformance-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What `kill -9` in this instant would leave: the page cache as it is.
    fn copy(&self) -> Self {
        let copy = Self::new();
        let mut names: Vec<_> = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            // A file that goes meanwhile was not needed any more.
            drop(std::fs::copy(self.0.join(&name), copy.0.join(&name)));
        }
        copy
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
