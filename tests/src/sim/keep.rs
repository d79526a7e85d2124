//! Where a simulated rig keeps its journal: a disk, or a stream with a disk for the key; and what happens to both.
//! It outlives the simulated processes.

use fluxrig_actors::JournalOptions;
use fluxrig_actors::journal::disk::sim::{Faults as DiskFaults, SimDisk, SplitMix};
use fluxrig_actors::journal::stream::sim::{SimStream, StreamFaults};

use super::draw;
use super::report::{Fault, Faults, Options};

/// What a journal is kept on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// Files.
    #[default]
    Disk,
    /// Messages of a stream, on servers that are not the rig's machine.
    Stream,
    /// The same, with a stand-by that follows it: two racks, and a rig that is always the same.
    Pair,
}

/// The disk, and the stream where there is one.
#[derive(Clone)]
pub struct Keep {
    disk: SimDisk,
    stream: Option<SimStream>,
}

impl std::fmt::Debug for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keep").field("is_stream", &self.stream.is_some()).finish_non_exhaustive()
    }
}

impl Keep {
    /// An empty one.
    #[must_use]
    pub fn new(storage: Storage, seed: u64) -> Self {
        let stream = (storage != Storage::Disk).then(|| SimStream::new(draw(seed, &["stream"], 0)));
        Self { disk: SimDisk::new(draw(seed, &["disk"], 0)), stream }
    }

    /// As the process that starts now sees it.
    #[must_use]
    pub fn journal(&self) -> JournalOptions {
        let options = JournalOptions::disk(self.disk.process());
        match &self.stream {
            Some(stream) => options.on_stream(stream.process()),
            None => options,
        }
    }

    /// Draws what goes wrong in the next process. Whether anything does.
    pub fn trouble(&self, rng: &mut SplitMix, options: &Options) -> bool {
        let is_flaky = options.has(Fault::Flush) && rng.below(4) == 0;
        let ppm = if is_flaky { [2_000, 20_000, 100_000][rng.below(3) as usize] } else { 0 };
        let full = if options.has(Fault::Full) && rng.below(8) == 0 { 20_000 } else { 0 };
        match &self.stream {
            None => self.disk.set_faults(DiskFaults {
                sync_error_ppm: ppm,
                write_error_ppm: ppm / 2,
                dir_error_ppm: ppm / 4,
                write_full_ppm: full,
                ..DiskFaults::default()
            }),
            Some(stream) => stream.set_faults(StreamFaults {
                lost_publish_ppm: ppm / 2,
                late_ppm: ppm / 2,
                election_ppm: ppm / 10,
                ..StreamFaults::all(ppm)
            }),
        }
        ppm > 0 || full > 0
    }

    /// Nothing goes wrong from now on.
    pub fn calm(&self) {
        self.disk.set_faults(DiskFaults::default());
        if let Some(stream) = &self.stream {
            stream.set_faults(StreamFaults::default());
        }
        self.set_capacity(None);
    }

    /// Sets or lifts the limit of all bytes of the journal.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        match &self.stream {
            Some(stream) => stream.set_capacity(bytes),
            None => self.disk.set_capacity(bytes),
        }
    }

    /// Kills the process in the middle of its operation number `operations` from now.
    pub fn kill_after(&self, operations: u64) {
        match &self.stream {
            Some(stream) => stream.kill_after(operations),
            None => self.disk.kill_after(operations),
        }
    }

    /// Whether that has happened.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.disk.is_killed() || self.stream.as_ref().is_some_and(SimStream::is_killed)
    }

    /// `kill -9`.
    pub fn kill(&self) {
        self.disk.kill();
        self.end_of_process();
    }

    /// The power of the rig's machine goes. An ack says that a message is stored, which that takes nothing of.
    pub fn power_loss(&self) {
        self.disk.power_loss();
        self.end_of_process();
    }

    fn end_of_process(&self) {
        if let Some(stream) = &self.stream {
            stream.kill();
        }
    }

    /// Operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.disk.operations() + self.stream.as_ref().map_or(0, SimStream::operations)
    }

    /// Adds what has gone wrong.
    pub fn count(&self, faults: &mut Faults) {
        let disk = self.disk.fired();
        faults.add(Fault::Power, disk.power_losses);
        faults.add(Fault::Flush, disk.sync_errors + disk.write_errors + disk.dir_errors);
        faults.add(Fault::Full, disk.write_full);
        if let Some(stream) = &self.stream {
            let fired = stream.fired();
            let unheard = fired.lost_acks + fired.lost_publishes + fired.late;
            faults.add(Fault::Flush, unheard + fired.doubled + fired.elections + fired.stale);
            faults.add(Fault::Full, fired.full);
        }
    }
}
