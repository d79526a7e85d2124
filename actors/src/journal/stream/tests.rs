//! What the journal on a stream promises, over the simulated one.

use std::sync::Arc;

use super::super::disk::sim::SimDisk;
use super::super::drive::block_on;
use super::super::segment::{OpenError, RecoveredGroup, Recovery};
use super::super::storage::{Group, GroupAt, Reader, Storage, StorageError};
use super::sim::{SimStream, StreamFaults, StreamFired};
use super::*;

mod golden;
mod model;
mod named;
mod verify;

const RACK: [u8; 16] = *b"rack-under-test!";

fn options() -> StreamOptions {
    StreamOptions { rack: RACK, segment_bytes: 64 << 10, ..StreamOptions::default() }
}

type Seen = Vec<RecoveredGroup>;
type Opened = Result<(StreamStorage, Recovery, Seen), StreamOpenError>;

/// Runs a future under a paused clock: waiting for a follower costs nothing.
fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

fn open_with(disk: Arc<dyn Disk>, log: Arc<dyn Log>, options: StreamOptions) -> Opened {
    let mut seen = Vec::new();
    let mut visit = |group| {
        seen.push(group);
        Ok(())
    };
    let (storage, recovery) = run(open_stream(disk, log, options, &mut visit))?;
    Ok((storage, recovery, seen))
}

/// One machine and the servers beside it.
struct Ground {
    disk: SimDisk,
    stream: SimStream,
}

impl Ground {
    fn new(seed: u64) -> Ground {
        Ground { disk: SimDisk::new(seed), stream: SimStream::new(seed) }
    }

    /// Opens the journal of the process that runs now.
    fn open(&self) -> Opened {
        open_with(self.disk.process(), self.stream.process(), options())
    }

    fn kill(&self) {
        self.disk.kill();
        self.stream.kill();
    }

    /// Another machine with a copy of the key.
    fn second(&self) -> Ground {
        let disk = SimDisk::new(77);
        disk.put("rack.key", self.disk.contents("rack.key").unwrap());
        Ground { disk, stream: self.stream.clone() }
    }

    fn open_second(&self) -> Opened {
        open_with(self.disk.process(), self.stream.other(), options())
    }
}

fn put(storage: &mut StreamStorage, epoch: u64, flushed: u64, oldest: u32, body: &[u8]) -> GroupAt {
    block_on(storage.append(Group { epoch, flushed, oldest, body })).unwrap()
}

fn try_put(storage: &mut StreamStorage, epoch: u64, flushed: u64, body: &[u8]) -> Result<GroupAt, StorageError> {
    block_on(storage.append(Group { epoch, flushed, oldest: 1, body }))
}

fn replace(storage: &mut StreamStorage, durable: u64) -> Result<(), StorageError> {
    block_on(storage.replace(durable))
}

fn epochs(seen: &Seen) -> Vec<(u64, usize)> {
    seen.iter().map(|group| (group.epoch, group.body.len())).collect()
}
