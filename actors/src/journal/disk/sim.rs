//! A simulated disk: page cache and durable content apart, seeded faults, kills and power cuts at any step.
//! Survives the simulated processes that use it; the same seed gives the same run.

// tidy: whole because one mutex holds the disk's pages, names, faults and locks, and every crash touches them all

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Disk, DiskFile, Lock};

/// A sector is kept, lost or torn by itself.
pub const SECTOR_BYTES: usize = 512;

/// The splitmix64 generator: one word of state, good enough to choose faults.
#[derive(Clone, Debug)]
pub struct SplitMix(u64);

impl SplitMix {
    /// From a seed.
    pub fn new(seed: u64) -> SplitMix {
        SplitMix(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// True in `ppm` of a million cases.
    pub fn chance(&mut self, ppm: u32) -> bool {
        self.below(1_000_000) < u64::from(ppm)
    }
}

/// How often each operation fails, in parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A write fails with EIO; half of the time a part of it was written.
    pub write_error_ppm: u32,
    /// A write fails with ENOSPC; half of the time a part of it was written.
    pub write_full_ppm: u32,
    /// A flush fails; what it should have written may be gone, and the next flush succeeds.
    pub sync_error_ppm: u32,
    /// A read fails with EIO.
    pub read_error_ppm: u32,
    /// Creating, removing, renaming or flushing the directory fails.
    pub dir_error_ppm: u32,
}

/// How many faults were met, so that a run without any cannot pass for a test of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fired {
    /// Writes that failed with EIO.
    pub write_errors: u64,
    /// Writes that failed with ENOSPC, by chance or for want of capacity.
    pub write_full: u64,
    /// Failed writes of which a part was written.
    pub short_writes: u64,
    /// Failed flushes.
    pub sync_errors: u64,
    /// Failed reads.
    pub read_errors: u64,
    /// Failed directory operations.
    pub dir_errors: u64,
    /// Kills.
    pub kills: u64,
    /// Power cuts.
    pub power_losses: u64,
    /// Sectors that a power cut left as they were before.
    pub sectors_lost: u64,
    /// Sectors that a power cut left half written.
    pub sectors_torn: u64,
    /// Directory operations that a power cut undid.
    pub names_lost: u64,
}

#[derive(Clone, Debug, Default)]
struct Node {
    cache: Vec<u8>,
    durable: Vec<u8>,
    // In order; a sector written twice may come back in its first version.
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum NameOp {
    Create(String, u64),
    Remove(String),
    Rename(String, String, u64),
}

#[derive(Clone, Debug)]
struct World {
    rng: SplitMix,
    // Keys do not depend on how many faults were thrown for, so that the bytes of a fixture stay the same.
    key_rng: SplitMix,
    faults: Faults,
    fired: Fired,
    capacity: Option<u64>,
    is_read_only: bool,
    process: u64,
    // Operations left until the process is killed.
    fuse: Option<u64>,
    operations: u64,
    nodes: BTreeMap<u64, Node>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending_names: Vec<NameOp>,
    locks: BTreeSet<String>,
}

/// The machine: hands out a [`Disk`] per simulated process and does to it what happens to machines.
#[derive(Clone)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> SimDisk {
        let world = World {
            rng: SplitMix::new(seed),
            key_rng: SplitMix::new(!seed),
            faults: Faults::default(),
            fired: Fired::default(),
            capacity: None,
            is_read_only: false,
            process: 1,
            fuse: None,
            operations: 0,
            nodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            locks: BTreeSet::new(),
        };
        SimDisk { world: Arc::new(Mutex::new(world)) }
    }

    /// The disk as the process that runs now sees it. After [`SimDisk::kill`] it only fails.
    pub fn process(&self) -> Arc<dyn Disk> {
        let process = self.lock().process;
        Arc::new(SimProcess { world: self.world.clone(), process })
    }

    /// An independent copy of the whole machine.
    pub fn fork(&self) -> SimDisk {
        SimDisk { world: Arc::new(Mutex::new(self.lock().clone())) }
    }

    /// From now on fates are drawn from another seed, so that copies of one machine meet different ones.
    pub fn reseed(&self, seed: u64) {
        self.lock().rng = SplitMix::new(seed);
    }

    /// From now on faults fire with these probabilities.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// The faults met so far.
    pub fn fired(&self) -> Fired {
        self.lock().fired
    }

    /// Sets or lifts the limit for the sum of all file lengths.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Makes every change fail as on a read-only file system.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.lock().is_read_only = is_read_only;
    }

    /// Kills the process in the middle of its operation number `operations` from now, counted from 0.
    pub fn kill_after(&self, operations: u64) {
        self.lock().fuse = Some(operations + 1);
    }

    /// Number of operations so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Whether the fuse of [`SimDisk::kill_after`] has blown.
    pub fn is_killed(&self) -> bool {
        self.lock().fuse == Some(0)
    }

    /// `kill -9`: locks are free, the page cache stays.
    pub fn kill(&self) {
        let mut world = self.lock();
        world.fired.kills += 1;
        world.end_process();
    }

    /// The power goes: of what was not flushed every sector and every name is kept, lost or torn by itself.
    pub fn power_loss(&self) {
        let mut world = self.lock();
        world.fired.power_losses += 1;
        world.end_process();
        world.lose_power();
    }

    /// The files, by name.
    pub fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    /// What a file holds, as the page cache has it.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let world = self.lock();
        world.names.get(name).and_then(|node| world.nodes.get(node)).map(|node| node.cache.clone())
    }

    /// Puts a file there, durably, or replaces what it holds: damage, restored copies, fixtures.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut world = self.lock();
        let id = world.node_for(name);
        world.nodes.insert(id, Node { cache: bytes.clone(), durable: bytes, pending: Vec::new() });
        world.names.insert(name.to_owned(), id);
        world.durable_names.insert(name.to_owned(), id);
    }

    /// Takes a file away, durably.
    pub fn take(&self, name: &str) {
        let mut world = self.lock();
        world.names.remove(name);
        world.durable_names.remove(name);
    }

    /// Flips bits of one byte of a file.
    pub fn flip(&self, name: &str, offset: usize, mask: u8) {
        if let Some(mut bytes) = self.contents(name)
            && let Some(byte) = bytes.get_mut(offset)
        {
            *byte ^= mask;
            self.put(name, bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    fn end_process(&mut self) {
        self.process += 1;
        self.fuse = None;
        self.locks.clear();
    }

    fn node_for(&mut self, name: &str) -> u64 {
        let fresh = self.nodes.keys().next_back().map_or(1, |id| id + 1);
        self.names.get(name).copied().unwrap_or(fresh)
    }

    fn lose_power(&mut self) {
        let World { rng, fired, nodes, durable_names, pending_names, .. } = self;
        for node in nodes.values_mut() {
            for (offset, bytes) in std::mem::take(&mut node.pending) {
                for (at, sector) in sectors(offset, &bytes) {
                    keep_or_lose(rng, fired, &mut node.durable, at, sector);
                }
            }
            node.cache = node.durable.clone();
        }
        for op in std::mem::take(pending_names) {
            if rng.chance(500_000) {
                fired.names_lost += 1;
                continue;
            }
            match op {
                NameOp::Create(name, node) => drop(durable_names.insert(name, node)),
                NameOp::Remove(name) => drop(durable_names.remove(&name)),
                NameOp::Rename(from, to, node) => {
                    durable_names.remove(&from);
                    durable_names.insert(to, node);
                }
            }
        }
        self.names = self.durable_names.clone();
    }

    // Every operation of a process passes here.
    fn step(&mut self, process: u64) -> io::Result<Option<Killed>> {
        if process != self.process || self.fuse == Some(0) {
            return Err(io::Error::other("the process was killed"));
        }
        self.operations += 1;
        if let Some(left) = &mut self.fuse {
            *left -= 1;
            if *left == 0 {
                return Ok(Some(Killed));
            }
        }
        Ok(None)
    }

    fn change(&mut self, process: u64) -> io::Result<()> {
        if self.step(process)?.is_some() {
            return Err(io::Error::other("the process was killed"));
        }
        if self.is_read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(())
    }

    fn change_names(&mut self, process: u64) -> io::Result<()> {
        self.change(process)?;
        if self.rng.chance(self.faults.dir_error_ppm) {
            self.fired.dir_errors += 1;
            return Err(eio());
        }
        Ok(())
    }

    fn write(&mut self, id: u64, bytes: &[u8], offset: usize) {
        let node = self.nodes.entry(id).or_default();
        put_at(&mut node.cache, offset, bytes);
        node.pending.push((offset, bytes.to_vec()));
    }

    fn has_room(&self, id: u64, end: u64) -> bool {
        let Some(capacity) = self.capacity else { return true };
        let len = |node: &Node| node.cache.len() as u64;
        let used: u64 = self.names.values().filter_map(|id| self.nodes.get(id)).map(len).sum();
        let grown = end.saturating_sub(self.nodes.get(&id).map_or(0, len));
        grown == 0 || used + grown <= capacity
    }

    fn used(&self) -> u64 {
        self.names.values().filter_map(|id| self.nodes.get(id)).map(|node| node.cache.len() as u64).sum()
    }
}

/// The process dies in this very operation.
struct Killed;

fn eio() -> io::Error {
    // EIO has no kind of its own that is stable; 5 is its number on every Unix.
    io::Error::from_raw_os_error(5)
}

fn put_at(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

// The parts of a write that lie in different sectors of the file.
fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = (SECTOR_BYTES - offset % SECTOR_BYTES).min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    let rest = rest.chunks(SECTOR_BYTES).enumerate();
    std::iter::once((offset, head)).chain(rest.map(move |(idx, part)| (offset + first + idx * SECTOR_BYTES, part)))
}

fn keep_or_lose(rng: &mut SplitMix, fired: &mut Fired, durable: &mut Vec<u8>, at: usize, sector: &[u8]) {
    match rng.below(8) {
        0..4 => put_at(durable, at, sector),
        4..7 => fired.sectors_lost += 1,
        _ => {
            fired.sectors_torn += 1;
            let cut = rng.below(sector.len() as u64) as usize;
            put_at(durable, at, &sector[..cut]);
        }
    }
}

struct SimProcess {
    world: Arc<Mutex<World>>,
    process: u64,
}

impl SimProcess {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, id: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { world: self.world.clone(), process: self.process, id })
    }
}

impl Disk for SimProcess {
    fn create_new(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.lock();
        world.change_names(self.process)?;
        if world.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = world.node_for(name);
        world.nodes.insert(id, Node::default());
        world.names.insert(name.to_owned(), id);
        world.pending_names.push(NameOp::Create(name.to_owned(), id));
        Ok(self.file(id))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.lock();
        world.step(self.process)?;
        let id = *world.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(id))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.lock();
        world.change_names(self.process)?;
        if world.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = world.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        world.names.insert(to.to_owned(), id);
        world.pending_names.push(NameOp::Rename(from.to_owned(), to.to_owned(), id));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.lock();
        world.change_names(self.process)?;
        world.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        world.pending_names.push(NameOp::Remove(name.to_owned()));
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut world = self.lock();
        world.step(self.process)?;
        Ok(world.names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut world = self.lock();
        world.change_names(self.process)?;
        world.pending_names.clear();
        world.durable_names = world.names.clone();
        Ok(())
    }

    fn try_lock(&self, name: &str, holder: &[u8]) -> io::Result<Lock> {
        let mut world = self.lock();
        world.step(self.process)?;
        if world.locks.contains(name) {
            let found = world.names.get(name).and_then(|id| world.nodes.get(id)).map(|node| node.cache.clone());
            return Ok(Lock::Taken(found.unwrap_or_default()));
        }
        if world.is_read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let id = world.node_for(name);
        let node = Node { cache: holder.to_vec(), ..Node::default() };
        world.nodes.insert(id, node);
        world.names.insert(name.to_owned(), id);
        world.locks.insert(name.to_owned());
        Ok(Lock::Held(Box::new(Held { world: self.world.clone(), process: self.process, name: name.to_owned() })))
    }

    fn free_bytes(&self) -> Option<u64> {
        let world = self.lock();
        world.capacity.map(|capacity| capacity.saturating_sub(world.used()))
    }

    fn random(&self, buf: &mut [u8]) -> io::Result<()> {
        let mut world = self.lock();
        for chunk in buf.chunks_mut(8) {
            let word = world.key_rng.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }

    fn spawn(&self, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        work();
        Ok(())
    }

    fn has_threads(&self) -> bool {
        false
    }

    fn label(&self) -> String {
        "simulated".to_owned()
    }
}

struct Held {
    world: Arc<Mutex<World>>,
    process: u64,
    name: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        // The lock of a killed process is gone already, and may be another's by now.
        if world.process == self.process {
            world.locks.remove(&self.name);
        }
    }
}

struct SimFile {
    world: Arc<Mutex<World>>,
    process: u64,
    id: u64,
}

impl SimFile {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.lock();
        world.step(self.process)?;
        let Faults { read_error_ppm, .. } = world.faults;
        if world.rng.chance(read_error_ppm) {
            world.fired.read_errors += 1;
            return Err(eio());
        }
        let Some(rest) = world.nodes.get(&self.id).and_then(|node| node.cache.get(offset as usize..)) else {
            return Ok(0);
        };
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.lock();
        let offset = offset as usize;
        if world.step(self.process)?.is_some() {
            let cut = world.rng.below(bytes.len() as u64 + 1) as usize;
            world.write(self.id, &bytes[..cut], offset);
            return Err(io::Error::other("the process was killed"));
        }
        if world.is_read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let Faults { write_full_ppm, write_error_ppm, .. } = world.faults;
        let is_full = world.rng.chance(write_full_ppm) || !world.has_room(self.id, (offset + bytes.len()) as u64);
        let is_broken = world.rng.chance(write_error_ppm);
        if !is_full && !is_broken {
            world.write(self.id, bytes, offset);
            return Ok(());
        }
        if world.rng.chance(500_000) {
            let cut = world.rng.below(bytes.len() as u64 + 1);
            if world.has_room(self.id, offset as u64 + cut) {
                world.fired.short_writes += 1;
                world.write(self.id, &bytes[..cut as usize], offset);
            }
        }
        if is_full {
            world.fired.write_full += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        world.fired.write_errors += 1;
        Err(eio())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.lock();
        world.change(self.process)?;
        let World { rng, faults, fired, nodes, .. } = &mut *world;
        let Some(node) = nodes.get_mut(&self.id) else { return Ok(()) };
        if !rng.chance(faults.sync_error_ppm) {
            // Only what is still dirty: pages that a failed flush gave up are not written by a later one.
            for (offset, bytes) in std::mem::take(&mut node.pending) {
                put_at(&mut node.durable, offset, &bytes);
            }
            return Ok(());
        }
        fired.sync_errors += 1;
        // The system takes the pages for clean now. Some were written, some were not; the page cache may still show
        // them or may already have dropped them, and no later flush will say so.
        for (offset, bytes) in std::mem::take(&mut node.pending) {
            for (at, sector) in sectors(offset, &bytes) {
                if rng.chance(500_000) {
                    put_at(&mut node.durable, at, sector);
                }
            }
        }
        if rng.chance(500_000) {
            node.cache.clone_from(&node.durable);
        }
        Err(eio())
    }

    fn len(&self) -> io::Result<u64> {
        let mut world = self.lock();
        world.step(self.process)?;
        Ok(world.nodes.get(&self.id).map_or(0, |node| node.cache.len() as u64))
    }
}
