//! Random runs against a ledger: appends, flushes, trims, replacements, faults, kills and power cuts at every step.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::journal::disk::sim::{Faults, Fired, SplitMix};

/// One epoch's delta as the caller keeps it.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    bytes: Vec<u8>,
    at: Option<GroupAt>,
}

/// What the caller of the storage would do, and what it must find again.
struct Caller {
    sim: SimDisk,
    rng: SplitMix,
    storage: Option<SegmentStorage>,
    reader: Option<Arc<dyn Reader>>,
    // Every epoch since the floor, durable or not.
    ledger: BTreeMap<u64, Entry>,
    floor: u64,
    last_epoch: u64,
    stated: u64,
    durable: u64,
    // What was durable at any time. A caller that knows less may have given part of it up, but until its merged group
    // is durable that part may come back, and is proven then.
    durable_once: u64,
    faults: Faults,
    crashes: u64,
    recovered_tail: u64,
}

impl Caller {
    fn new(seed: u64, faults: Faults) -> Caller {
        let sim = SimDisk::new(seed);
        let mut caller = Caller {
            sim,
            rng: SplitMix::new(seed ^ 0xABCD),
            storage: None,
            reader: None,
            ledger: BTreeMap::new(),
            floor: 0,
            last_epoch: 0,
            stated: 0,
            durable: 0,
            durable_once: 0,
            faults,
            crashes: 0,
            recovered_tail: 0,
        };
        caller.recover();
        caller
    }

    fn storage(&mut self) -> &mut SegmentStorage {
        self.storage.as_mut().unwrap()
    }

    fn is_dead(&self) -> bool {
        self.sim.is_killed()
    }

    fn step(&mut self) {
        if self.rng.chance(60_000) {
            let fuse = self.rng.below(12);
            self.sim.kill_after(fuse);
        }
        match self.rng.below(100) {
            0..45 => self.append(),
            45..65 => self.flush(),
            65..72 => self.flush_elsewhere(),
            72..77 => self.read_back(),
            77..84 => self.trim(),
            84..87 => self.give_up_segment(),
            87..89 => {
                // Nothing but blank files is lost by a disk that is full for a while.
                let used: u64 = self.storage().usage().bytes;
                let more = self.rng.below(100_000);
                self.sim.set_capacity(Some(used + more));
            }
            89..92 => self.sim.set_capacity(None),
            92..96 => self.crash(),
            _ => self.stop_cleanly(),
        }
        if self.is_dead() {
            self.crash();
        }
    }

    fn cut(&mut self) {
        for _ in 0..=self.rng.below(2) {
            self.last_epoch += 1;
            let len = if self.rng.chance(50_000) { self.rng.below(70_000) } else { self.rng.below(3_000) };
            let salt = self.rng.next_u64();
            let bytes = (0..len).map(|idx| (salt >> (idx % 57)) as u8 ^ idx as u8).collect();
            self.ledger.insert(self.last_epoch, Entry { bytes, at: None });
        }
        if self.rng.chance(150_000) {
            let alive = self.last_epoch - self.floor;
            self.floor += self.rng.below(alive + 1);
            self.ledger = self.ledger.split_off(&(self.floor + 1));
        }
    }

    fn append(&mut self) {
        self.cut();
        self.append_all();
    }

    // Appends every epoch that is in no group yet.
    fn append_all(&mut self) {
        let mut body = self.floor.to_le_bytes().to_vec();
        let mut covered = Vec::new();
        for (epoch, entry) in self.ledger.iter().filter(|(_, entry)| entry.at.is_none()) {
            body.extend_from_slice(&epoch.to_le_bytes());
            body.extend_from_slice(&(entry.bytes.len() as u32).to_le_bytes());
            body.extend_from_slice(&entry.bytes);
            covered.push(*epoch);
        }
        if self.rng.chance(500_000) {
            self.stated = self.durable;
        }
        let (epoch, stated) = (self.last_epoch, self.stated);
        let current = self.storage().current();
        let alive = self.ledger.values().filter_map(|entry| entry.at).map(|at| at.segment).min();
        // What was named once stays named: the storage refuses to go back.
        let storage = self.storage();
        let named = storage.above.back().unwrap_or(&storage.base).oldest;
        let oldest = alive.unwrap_or(current).max(named);
        assert!(alive.is_none_or(|alive| alive >= named), "something alive lies before the oldest that was named");
        match self.storage().append_now(Group { epoch, flushed: stated, oldest, body: &body }) {
            Ok(at) => {
                assert_eq!(at.segment, current, "the segment was known before the append");
                for epoch in covered {
                    self.ledger.get_mut(&epoch).unwrap().at = Some(at);
                }
            }
            Err(error) => self.replace_after(&error),
        }
        self.durable = self.durable.max(self.storage().known_durable());
    }

    fn note_once(&mut self) {
        self.durable_once = self.durable_once.max(self.storage().known_durable());
    }

    fn flush(&mut self) {
        match self.storage().flush_now() {
            Ok(()) => self.note_durable(),
            Err(error) => self.replace_after(&error),
        }
    }

    fn note_durable(&mut self) {
        self.durable = self.storage().known_durable();
    }

    fn flush_elsewhere(&mut self) {
        let flusher = self.storage().flusher();
        let is_late = self.rng.chance(300_000);
        if is_late {
            self.append();
            if self.is_dead() {
                return;
            }
        }
        match flusher() {
            Ok(epoch) => {
                assert!(epoch <= self.last_epoch);
                // A flusher of a segment that was given up meanwhile succeeds only for what was durable before.
                self.note_durable();
            }
            Err(StorageError::Final { .. }) if is_late => {}
            Err(error) => self.replace_after(&error),
        }
    }

    fn replace_after(&mut self, error: &StorageError) {
        assert!(
            matches!(error, StorageError::Full { .. } | StorageError::Io { .. } | StorageError::Final { .. }),
            "{error}"
        );
        for attempt in 0.. {
            if self.is_dead() {
                return;
            }
            self.note_once();
            let low = self.storage().base.link.epoch;
            let known = self.storage().known_durable();
            assert!(known >= self.durable, "what was durable stays durable");
            self.durable = known;
            // A caller may know less than the storage, but never less than it has stated.
            let span = known - low;
            let durable = low + self.rng.below(span + 1);
            // Only a whole group can be durable.
            match self.storage().replace_now(durable) {
                Ok(()) => {
                    let upto = self.storage().base.link.epoch;
                    self.durable = self.durable.min(known);
                    self.stated = upto;
                    for (_, entry) in self.ledger.range_mut(upto + 1..) {
                        entry.at = None;
                    }
                    // The storage may count less as durable now; the caller has it in memory and merges it.
                    self.durable = upto;
                    if self.ledger.values().any(|entry| entry.at.is_none()) {
                        return self.append_all();
                    }
                    return;
                }
                Err(error) if attempt > 20 => {
                    assert!(matches!(error, StorageError::Full { .. } | StorageError::Io { .. }), "{error}");
                    self.sim.set_capacity(None);
                    self.sim.set_faults(Faults::default());
                }
                Err(error) => {
                    assert!(matches!(error, StorageError::Full { .. } | StorageError::Io { .. }), "{error}");
                }
            }
        }
    }

    fn give_up_segment(&mut self) {
        let error = StorageError::Final { file: String::new() };
        self.replace_after(&error);
    }

    fn read_back(&mut self) {
        let alive: Vec<GroupAt> = self.ledger.values().filter_map(|entry| entry.at).collect();
        if alive.is_empty() {
            return;
        }
        let at = alive[self.rng.below(alive.len() as u64) as usize];
        match self.reader.as_ref().unwrap().read(at) {
            Ok(body) => {
                for (epoch, bytes) in decode(&body).1 {
                    if let Some(entry) = self.ledger.get(&epoch).filter(|entry| entry.at == Some(at)) {
                        assert_eq!(entry.bytes, bytes, "epoch {epoch} read back at {at}");
                    }
                }
            }
            Err(StorageError::Io { .. }) => {}
            // A page that a failed flush dropped: its group is above the mark, so the caller has it in memory.
            Err(StorageError::Damaged { .. }) => {
                let epoch = self.ledger.iter().find(|(_, entry)| entry.at == Some(at)).map(|(epoch, _)| *epoch);
                assert!(epoch.unwrap() > self.durable, "damage below the mark at {at}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn trim(&mut self) {
        let oldest = self.storage().oldest_durable();
        let alive = self.ledger.values().filter_map(|entry| entry.at).map(|at| at.segment).min();
        assert!(alive.is_none_or(|alive| alive >= oldest));
        match self.storage().trim(oldest) {
            Ok(_) => assert!(self.storage().usage().oldest >= oldest),
            Err(error) => assert!(matches!(error, StorageError::Io { .. } | StorageError::Full { .. }), "{error}"),
        }
        if !self.is_dead() {
            let beyond = self.storage().current() + 1;
            assert!(matches!(self.storage().trim(beyond), Err(StorageError::Order { .. })));
        }
    }

    fn stop_cleanly(&mut self) {
        self.durable = self.durable.max(self.storage().known_durable());
        self.note_once();
        self.storage = None;
        self.reader = None;
        self.recover();
    }

    fn crash(&mut self) {
        self.crashes += 1;
        self.durable = self.durable.max(self.storage().known_durable());
        self.note_once();
        if self.rng.chance(500_000) {
            self.sim.power_loss();
        } else {
            self.sim.kill();
        }
        self.storage = None;
        self.recover();
    }

    fn recover(&mut self) {
        self.sim.set_capacity(None);
        // First with faults and perhaps killed in the middle: whatever happens must be named, and harmless.
        self.sim.set_faults(self.faults);
        let mut tries = self.rng.below(3);
        while tries > 0 {
            tries -= 1;
            if self.rng.chance(300_000) {
                let fuse = self.rng.below(40);
                self.sim.kill_after(fuse);
            }
            match reopen(&self.sim) {
                Ok((storage, ..)) => drop(storage),
                Err(OpenError::Io { .. } | OpenError::Full { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            if self.is_dead() {
                if self.rng.chance(500_000) {
                    self.sim.power_loss();
                } else {
                    self.sim.kill();
                }
            }
        }
        self.sim.kill();
        self.sim.set_faults(Faults::default());
        let (first, once, seen) = reopen(&self.sim).unwrap();
        drop(first);
        let (storage, recovery, again) = reopen(&self.sim).unwrap();
        assert_eq!(seen, again, "opening twice shows the same");
        assert_eq!(
            (once.last_epoch, once.proven_epoch, &once.torn, once.oldest),
            (recovery.last_epoch, recovery.proven_epoch, &recovery.torn, recovery.oldest)
        );
        self.compare(&recovery, &again);
        self.reader = Some(storage.reader());
        self.storage = Some(storage);
        self.sim.set_faults(self.faults);
        // An attempt that was killed has written nothing that could raise it.
        self.durable = recovery.proven_epoch;
        self.durable_once = self.durable_once.max(recovery.proven_epoch);
        self.stated = recovery.proven_epoch;
        if recovery.last_epoch > recovery.proven_epoch {
            // The rest is merged into the first group of a new segment, under an epoch of its own.
            self.recovered_tail += 1;
            for (_, entry) in self.ledger.range_mut(recovery.proven_epoch + 1..) {
                entry.at = None;
            }
            self.append();
        }
    }

    fn compare(&mut self, recovery: &Recovery, seen: &Seen) {
        let once = self.durable_once.max(self.durable);
        assert!(recovery.last_epoch >= once, "{} recovered, {once} durable", recovery.last_epoch);
        assert!(
            recovery.proven_epoch <= self.durable_once,
            "{} proven, {} durable",
            recovery.proven_epoch,
            self.durable_once
        );
        assert!(recovery.last_epoch <= self.last_epoch);
        let floor = seen.last().map_or(0, |group| decode(&group.body).0);
        let mut found: BTreeMap<u64, Entry> = BTreeMap::new();
        let mut before = 0;
        for group in seen {
            assert!(group.epoch > before, "groups come in order");
            assert_eq!(group.proven, group.epoch <= recovery.proven_epoch);
            before = group.epoch;
            for (epoch, bytes) in decode(&group.body).1 {
                assert!(epoch <= group.epoch);
                let twice = found.insert(epoch, Entry { bytes, at: Some(group.at) });
                assert!(twice.is_none(), "epoch {epoch} came twice");
            }
        }
        found = found.split_off(&(floor + 1));
        // No gap from the floor to the last epoch, and every byte as it was appended.
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), (floor + 1..=recovery.last_epoch).collect::<Vec<_>>());
        for (epoch, entry) in &found {
            if let Some(written) = self.ledger.get(epoch) {
                assert_eq!(written.bytes, entry.bytes, "epoch {epoch}");
            } else {
                assert!(*epoch <= self.floor, "epoch {epoch} was never appended");
            }
        }
        self.ledger = found;
        self.floor = floor;
        self.last_epoch = recovery.last_epoch;
    }
}

fn decode(body: &[u8]) -> (u64, Vec<(u64, Vec<u8>)>) {
    let floor = u64::from_le_bytes(body[..8].try_into().unwrap());
    let mut rest = &body[8..];
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let epoch = u64::from_le_bytes(rest[..8].try_into().unwrap());
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        entries.push((epoch, rest[12..12 + len].to_vec()));
        rest = &rest[12 + len..];
    }
    (floor, entries)
}

fn run(seed: u64, steps: u64, faults: Faults) -> (Fired, u64, u64) {
    let mut caller = Caller::new(seed, faults);
    for _ in 0..steps {
        caller.step();
    }
    caller.crash();
    (caller.sim.fired(), caller.crashes, caller.recovered_tail)
}

fn faults(ppm: u32) -> Faults {
    Faults {
        write_error_ppm: ppm,
        write_full_ppm: ppm,
        sync_error_ppm: 2 * ppm,
        read_error_ppm: ppm / 4,
        dir_error_ppm: ppm,
    }
}

/// Many seeds; `JOURNAL_SEEDS` runs more, from `JOURNAL_SEED` on.
#[test]
fn random_runs_lose_nothing_that_was_flushed() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (from, count) = (number("JOURNAL_SEED", 1), number("JOURNAL_SEEDS", 300));
    let mut sum = Fired::default();
    let (mut crashes, mut tails) = (0, 0);
    for seed in from..from + count {
        let faults = faults([0, 3_000, 20_000, 80_000][(seed % 4) as usize]);
        let done = std::panic::catch_unwind(|| run(seed, 120, faults));
        let (fired, crashed, tail) = done.unwrap_or_else(|_| panic!("seed {seed}"));
        sum.write_errors += fired.write_errors;
        sum.write_full += fired.write_full;
        sum.short_writes += fired.short_writes;
        sum.sync_errors += fired.sync_errors;
        sum.read_errors += fired.read_errors;
        sum.dir_errors += fired.dir_errors;
        sum.power_losses += fired.power_losses;
        sum.kills += fired.kills;
        sum.sectors_lost += fired.sectors_lost;
        sum.sectors_torn += fired.sectors_torn;
        sum.names_lost += fired.names_lost;
        crashes += crashed;
        tails += tail;
    }
    println!("{count} seeds from {from}: {crashes} crashes, {tails} unproven tails, {sum:?}");
    let Fired { write_errors, write_full, short_writes, sync_errors, read_errors, dir_errors, .. } = sum;
    let Fired { power_losses, kills, sectors_lost, sectors_torn, .. } = sum;
    for fired in [
        write_errors,
        write_full,
        short_writes,
        sync_errors,
        read_errors,
        dir_errors,
        power_losses,
        kills,
        sectors_lost,
        sectors_torn,
        tails,
    ] {
        assert!(fired > 0, "a fault that never fires is not tested: {sum:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_seed_and_rate(seed: u64, ppm in 0u32..120_000, steps in 1u64..60) {
        run(seed, steps, faults(ppm));
    }
}

/// One fixed run, killed or cut from power at every single operation.
#[test]
fn every_operation_may_be_the_last() {
    let scripted = |sim: &SimDisk| -> (u64, u64) {
        let mut durable = 0;
        let mut last = 0;
        let Ok((mut storage, recovery, _)) = reopen(sim) else { return (0, 0) };
        assert_eq!(recovery.last_epoch, 0);
        for epoch in 1..=12u64 {
            let oldest = if epoch > 8 { 2 } else { 1 };
            let body = vec![epoch as u8; 9_000];
            if storage.append_now(Group { epoch, flushed: durable, oldest, body: &body }).is_err() {
                return (storage.known_durable(), last);
            }
            last = epoch;
            if epoch % 3 != 0 {
                drop(storage.flush_now());
            }
            durable = storage.known_durable();
            if epoch == 11 {
                drop(storage.trim(2));
            }
        }
        (storage.known_durable(), last)
    };
    let whole = SimDisk::new(5);
    assert_eq!(scripted(&whole), (11, 12));
    let operations = whole.operations();
    assert!(operations > 40, "{operations}");
    for at in 0..operations {
        for cuts_power in [false, true] {
            let sim = SimDisk::new(5 + at);
            sim.kill_after(at);
            let (durable, last) = scripted(&sim);
            if cuts_power {
                sim.power_loss();
            } else {
                sim.kill();
            }
            let (_, recovery, seen) = reopen(&sim).unwrap_or_else(|error| panic!("killed at {at}: {error}"));
            assert!(recovery.last_epoch >= durable, "killed at {at}: {recovery:?}, {durable} durable");
            assert!(recovery.last_epoch <= last + 1 && recovery.proven_epoch <= recovery.last_epoch);
            for group in seen {
                assert!(group.body.iter().all(|byte| u64::from(*byte) == group.epoch));
            }
        }
    }
}
