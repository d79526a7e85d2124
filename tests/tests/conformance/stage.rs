//! What a case stands on: one lane, one storage, one runtime; how a process ends, and what survives that.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxrig_actors::clock::SimWorld;
use fluxrig_actors::journal::Pace;
use fluxrig_actors::journal::disk::sim::SimDisk;
use fluxrig_actors::supervision::Backoff;
use fluxrig_actors::{JournalOptions, Lane, Redelivery, Rig, RunningRig, Settings, Supervision, WireOptions};

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
            (Self::Flush | Self::Os | Self::Sim | Self::Paced, _) => true,
        }
    }

    pub(crate) fn lane(self) -> Lane {
        match self {
            Self::Turbo => Lane::Turbo,
            Self::Os => Lane::Os,
            Self::Flush | Self::Sim | Self::Paced => Lane::Flush,
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
}

/// The ground of one case.
pub(crate) struct Stage {
    pub(crate) variant: Variant,
    place: Mutex<Place>,
    world: Option<Arc<SimWorld>>,
    segment_bytes: AtomicU64,
}

/// Longest wait for a fact; under a paused clock it costs nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs one case on one variant, and fails it when it leaves actors running.
pub(crate) fn run<F: Future<Output = ()>>(variant: Variant, case: impl FnOnce(Arc<Stage>) -> F) {
    let mut builder = if variant == Variant::Paced {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2);
        builder
    };
    builder.enable_time().start_paused(variant == Variant::Paced);
    builder.build().unwrap().block_on(async {
        let stage = Arc::new(Stage::new(variant));
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
    fn new(variant: Variant) -> Self {
        let place = match variant {
            Variant::Turbo => Place::Nowhere,
            Variant::Flush | Variant::Os => Place::Dir(TempDir::new()),
            Variant::Sim | Variant::Paced => Place::Disk(SimDisk::new(variant.seed())),
        };
        let world = (variant == Variant::Paced).then(|| Arc::new(SimWorld::new(variant.seed())));
        Self { variant, place: Mutex::new(place), world, segment_bytes: AtomicU64::new(1 << 20) }
    }

    /// Puts the journal of this case on a simulated disk, whatever the variant: for power cuts and faults.
    pub(crate) fn simulate(&self) -> Option<SimDisk> {
        let mut place = self.place.lock().unwrap();
        match &*place {
            Place::Nowhere => None,
            Place::Disk(disk) => Some(disk.clone()),
            Place::Dir(_) => {
                let disk = SimDisk::new(self.variant.seed());
                *place = Place::Disk(disk.clone());
                Some(disk)
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
        let mut options = match &*self.place.lock().unwrap() {
            Place::Nowhere => return None,
            Place::Dir(dir) => JournalOptions::dir(dir.path()),
            Place::Disk(disk) => JournalOptions::disk(disk.process()),
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
            }
        }
    }

    /// The process is killed in this instant: whatever the rig does from here on never happened. End it with
    /// [`Stage::bury`] before the next start.
    pub(crate) fn kill_now(&self) {
        let mut place = self.place.lock().unwrap();
        match &*place {
            Place::Nowhere => {}
            Place::Disk(disk) => disk.kill(),
            Place::Dir(dir) => *place = Place::Dir(dir.copy()),
        }
    }

    /// Clears away a rig whose process was ended by [`Stage::kill_now`].
    pub(crate) async fn bury(&self, rig: RunningRig) {
        rig.kill().await;
    }

    fn free(&self, end: fn(&SimDisk)) {
        if let Place::Disk(disk) = &*self.place.lock().unwrap() {
            end(disk);
        }
    }

    /// Drains and stops; fails when something under way was left.
    pub(crate) async fn stop(&self, rig: RunningRig) {
        assert!(rig.stop(PATIENCE).await, "drained");
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
    fn new() -> Self {
        let number = NEXT_DIR.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fluxrig-conformance-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> &Path {
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
