//! What the journal on files promises, over the simulated disk and a little over the real one.

use std::sync::Arc;

use super::super::{
    disk::{Disk, sim::SimDisk},
    storage::{Group, GroupAt, Reader, Storage, StorageError},
};
use super::*;

mod damage;
mod golden;
mod model;
mod named;
mod real;
mod reuse;

const RACK: [u8; 16] = *b"rack-under-test!";

fn options() -> OpenOptions {
    OpenOptions { rack: RACK, segment_bytes: SEGMENT_BYTES_MIN, term: 7, ..OpenOptions::default() }
}

type Seen = Vec<RecoveredGroup>;

/// Opens the journal of the process that runs now.
fn reopen(sim: &SimDisk) -> Result<(SegmentStorage, Recovery, Seen), OpenError> {
    open_with(sim.process(), options())
}

fn open_with(disk: Arc<dyn Disk>, options: OpenOptions) -> Result<(SegmentStorage, Recovery, Seen), OpenError> {
    let mut seen = Vec::new();
    let (storage, recovery) = open(disk, options, &mut |group| {
        seen.push(group);
        Ok(())
    })?;
    Ok((storage, recovery, seen))
}

fn put(storage: &mut SegmentStorage, epoch: u64, flushed: u64, oldest: u32, body: &[u8]) -> GroupAt {
    storage.append_now(Group { epoch, flushed, oldest, body }).unwrap()
}

/// A journal with a trimmed front, a replaced segment, several segments in a chain and an unproven last group.
/// Bodies are `[epoch; n]`; a group that merges says so in its length only.
fn rich_journal(seed: u64) -> SimDisk {
    let sim = SimDisk::new(seed);
    let (mut storage, ..) = reopen(&sim).unwrap();
    let mut flushed = 0;
    for epoch in 1..=6u64 {
        let oldest = if epoch > 5 { 2 } else { 1 };
        put(&mut storage, epoch, flushed, oldest, &vec![epoch as u8; 16_000]);
        storage.flush_now().unwrap();
        flushed = epoch;
    }
    assert_eq!(storage.trim(2).unwrap(), 1);
    // Epoch 7 is written and then given up; epoch 8 merges it.
    put(&mut storage, 7, flushed, 2, &[7; 100]);
    storage.replace_now(6).unwrap();
    put(&mut storage, 8, 6, 2, &[8; 300]);
    storage.flush_now().unwrap();
    for epoch in 9..=12u64 {
        put(&mut storage, epoch, epoch - 1, 2, &vec![epoch as u8; 700]);
        storage.flush_now().unwrap();
    }
    drop(storage);
    // A restart: 12 was not proven, so 13 merges it.
    sim.kill();
    let (mut storage, recovery, _) = reopen(&sim).unwrap();
    assert_eq!((recovery.proven_epoch, recovery.last_epoch), (11, 12));
    put(&mut storage, 13, 11, 2, &[13; 900]);
    storage.flush_now().unwrap();
    put(&mut storage, 14, 13, 2, &[14; 600]);
    put(&mut storage, 15, 13, 2, &[15; 600]);
    storage.flush_now().unwrap();
    put(&mut storage, 16, 15, 2, &[16; 600]);
    drop(storage);
    sim.kill();
    sim
}

fn summary(seen: &Seen) -> Vec<(u64, u64, usize)> {
    seen.iter().map(|group| (group.epoch, group.flushed, group.body.len())).collect()
}
