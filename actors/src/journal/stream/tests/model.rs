//! Random runs against a ledger: appends, trims, replacements, faults, kills, lost ends and other writers at every step.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::journal::disk::sim::SplitMix;

/// One epoch's delta as the caller keeps it.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    bytes: Vec<u8>,
    at: Option<GroupAt>,
}

/// What was met in a run, so that one that meets nothing cannot pass for a test.
#[derive(Clone, Copy, Debug, Default)]
struct Met {
    crashes: u64,
    replaced: u64,
    fenced: u64,
    ends_lost: u64,
    ends_back: u64,
}

/// What the caller of the storage would do, and what it must find again.
struct Caller {
    ground: Ground,
    rng: SplitMix,
    storage: Option<StreamStorage>,
    reader: Option<Arc<dyn Reader>>,
    // Every epoch since the floor, durable or not.
    ledger: BTreeMap<u64, Entry>,
    floor: u64,
    last_epoch: u64,
    stated: u64,
    durable: u64,
    // What was durable at any time, given up since or not.
    durable_once: u64,
    faults: StreamFaults,
    met: Met,
    // Appends that failed in a row.
    failures: u32,
    is_over: bool,
}

impl Caller {
    fn new(seed: u64, faults: StreamFaults) -> Caller {
        let mut caller = Caller {
            ground: Ground::new(seed),
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
            met: Met::default(),
            failures: 0,
            is_over: false,
        };
        caller.ground.stream.set_payload_bytes_max(300 + caller.rng.below(6000) as usize);
        caller.recover(false);
        caller
    }

    fn storage(&mut self) -> &mut StreamStorage {
        self.storage.as_mut().unwrap()
    }

    fn stream(&self) -> SimStream {
        self.ground.stream.clone()
    }

    fn is_dead(&self) -> bool {
        self.ground.stream.is_killed()
    }

    fn step(&mut self) {
        if self.rng.chance(60_000) {
            let fuse = self.rng.below(12);
            self.stream().kill_after(fuse);
        }
        match self.rng.below(100) {
            0..55 => self.append(),
            55..65 => self.read_back(),
            65..74 => self.trim(),
            74..79 => self.replace_after(&StorageError::Final { file: String::new() }),
            79..81 => {
                let (used, more) = (self.stream().used(), self.rng.below(100_000));
                self.stream().set_capacity(Some(used + more));
            }
            81..84 => self.stream().set_capacity(None),
            84..86 => self.lose_the_end(),
            86..88 => self.meet_another_writer(),
            88..89 => {
                let bytes = 300 + self.rng.below(6000) as usize;
                self.stream().set_payload_bytes_max(bytes);
            }
            89..96 => self.crash(),
            _ => self.stop_cleanly(),
        }
        if self.is_dead() {
            self.crash();
        }
    }

    fn cut(&mut self) {
        for _ in 0..=self.rng.below(2) {
            self.last_epoch += 1;
            let len = if self.rng.chance(50_000) { self.rng.below(40_000) } else { self.rng.below(3_000) };
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
        let result = self.try_append();
        self.note_durable();
        if let Err(error) = result {
            self.failures += 1;
            if self.failures > 20 {
                // A group of many messages may never come through, or find room.
                self.stream().set_faults(StreamFaults::default());
                self.stream().set_capacity(None);
            }
            return self.replace_after(&error);
        }
        if std::mem::take(&mut self.failures) > 20 {
            self.stream().set_faults(self.faults);
        }
    }

    fn try_append(&mut self) -> Result<(), StorageError> {
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
        let (epoch, flushed) = (self.last_epoch, self.stated);
        let current = self.storage().current();
        let alive = self.ledger.values().filter_map(|entry| entry.at).map(|at| at.segment).min();
        // What was named once stays named: the storage refuses to go back.
        let storage = self.storage();
        let named = storage.above.back().unwrap_or(&storage.base).oldest;
        let oldest = alive.unwrap_or(current).max(named);
        assert!(alive.is_none_or(|alive| alive >= named), "something alive lies before the oldest that was named");
        let at = block_on(self.storage().append(Group { epoch, flushed, oldest, body: &body }))?;
        assert_eq!(at.segment, current, "the segment was known before the append");
        for epoch in covered {
            self.ledger.get_mut(&epoch).unwrap().at = Some(at);
        }
        Ok(())
    }

    fn note_durable(&mut self) {
        self.durable = self.storage().durable_epoch;
        self.durable_once = self.durable_once.max(self.durable);
    }

    fn replace_after(&mut self, error: &StorageError) {
        self.check_is_fault(error);
        self.met.replaced += 1;
        for attempt in 0.. {
            if self.is_dead() {
                return;
            }
            let low = self.storage().base.link.epoch;
            let known = self.storage().durable_epoch;
            // A caller may know less than the storage, but never less than it has stated.
            let durable = low + self.rng.below(known - low + 1);
            match block_on(self.storage().replace(durable)) {
                Ok(()) => {
                    // The storage may count less as durable now; the caller has it in memory and merges it.
                    let upto = self.storage().base.link.epoch;
                    for (_, entry) in self.ledger.range_mut(upto + 1..) {
                        entry.at = None;
                    }
                    (self.stated, self.durable) = (upto, upto);
                    if self.ledger.values().any(|entry| entry.at.is_none()) {
                        return self.append_all();
                    }
                    return;
                }
                Err(error) => {
                    self.check_is_fault(&error);
                    if attempt > 20 {
                        self.ground.stream.set_capacity(None);
                        self.ground.stream.set_faults(StreamFaults::default());
                    }
                }
            }
        }
    }

    fn check_is_fault(&self, error: &StorageError) {
        let is_fault = matches!(
            error,
            StorageError::StreamFull { .. } | StorageError::Unreachable { .. } | StorageError::Final { .. }
        );
        assert!(is_fault, "{error}");
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
            Err(StorageError::Unreachable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn trim(&mut self) {
        let oldest = self.storage().oldest_durable();
        let alive = self.ledger.values().filter_map(|entry| entry.at).map(|at| at.segment).min();
        assert!(alive.is_none_or(|alive| alive >= oldest));
        match self.storage().trim(oldest) {
            Ok(_) => assert!(self.storage().usage().oldest >= oldest),
            Err(error) => assert!(matches!(error, StorageError::Unreachable { .. }), "{error}"),
        }
        if !self.is_dead() {
            let beyond = self.storage().current() + 1;
            assert!(matches!(self.storage().trim(beyond), Err(StorageError::Order { .. })));
        }
    }

    // The last messages are gone, for good or for a while.
    fn lose_the_end(&mut self) {
        let (first, messages) = self.stream().messages();
        let (acked, lost) = (self.storage().tail.seq, 1 + self.rng.below(3));
        if messages.len() as u64 <= lost || self.is_dead() {
            return;
        }
        self.stream().rewind(lost as usize);
        let last = first + messages.len() as u64 - 1;
        if last - lost >= acked {
            return;
        }
        let storage = self.storage();
        if last - lost >= storage.above.back().unwrap_or(&storage.base).link.seq {
            // Nothing but the beginning of a group that was given up.
            return self.stream().put(first, messages);
        }
        self.stream().set_faults(StreamFaults::default());
        self.stream().set_capacity(None);
        self.settle_down();
        let left = self.stream().messages().1;
        if left.len() as u64 + first > acked && left[..] == messages[..left.len()] {
            // What was late was a copy of what was lost.
            return self.stream().set_faults(self.faults);
        }
        self.cut();
        if let Err(error) = self.try_append() {
            let is_noticed = matches!(error, StorageError::Rewound { .. } | StorageError::Final { .. });
            assert!(is_noticed || self.is_dead(), "{error}");
        } else {
            panic!("an append behind a lost end");
        }
        if self.rng.chance(500_000) && !self.is_dead() {
            let stated = self.stated;
            let error = block_on(self.storage().replace(stated)).unwrap_err();
            if self.is_dead() {
                self.stream().put(first, messages);
                return;
            }
            assert!(matches!(error, StorageError::Rewound { .. }), "{error}");
            self.met.ends_back += 1;
            self.stream().put(first, messages);
            self.stream().set_faults(self.faults);
            return self.replace_after(&StorageError::Final { file: String::new() });
        }
        self.met.ends_lost += 1;
        self.note_durable();
        self.ground.kill();
        self.storage = None;
        match self.ground.open() {
            Err(StreamOpenError::Shorter { .. } | StreamOpenError::Damaged { .. }) => {}
            Err(error) => panic!("{error}"),
            // What was late has taken the place of what was lost.
            Ok(_) => assert!(left.len() as u64 + first > acked, "a lost end went unnoticed"),
        }
        self.ground.kill();
        (self.durable, self.durable_once) = (0, 0);
        self.recover(true);
    }

    // An election that is under way is over, and what was late is lost.
    fn settle_down(&mut self) {
        let log = self.stream().other();
        while block_on(log.last()).is_err() {}
        let (first, messages) = self.stream().messages();
        for _ in 0..64 {
            drop(block_on(log.last()));
        }
        self.stream().put(first, messages);
    }

    // Another writer takes over; ours is fenced, whatever it tries.
    fn meet_another_writer(&mut self) {
        self.stream().set_faults(StreamFaults::default());
        self.stream().set_capacity(None);
        if self.is_dead() {
            return;
        }
        self.settle_down();
        let other = self.ground.second();
        let (mut second, ..) = other.open_second().unwrap();
        if self.rng.chance(500_000) {
            let (epoch, flushed) = (second.last_epoch, second.last_epoch);
            let oldest = second.base.oldest;
            // A group that says nothing, as one that renews a lease.
            block_on(second.write(Group { epoch, flushed, oldest, body: &[] }, true)).unwrap();
        }
        self.cut();
        let fenced = self.try_append();
        if !self.is_dead() {
            let error = fenced.unwrap_err();
            assert!(error.is_fenced() || matches!(error, StorageError::Final { .. }), "{error}");
            let stated = self.stated;
            let error = block_on(self.storage().replace(stated)).unwrap_err();
            assert!(error.is_fenced() || self.is_dead(), "{error}");
            self.met.fenced += 1;
        }
        drop(second);
        self.crash();
    }

    fn stop_cleanly(&mut self) {
        self.note_durable();
        self.storage = None;
        self.reader = None;
        self.ground.kill();
        self.recover(false);
    }

    fn crash(&mut self) {
        self.met.crashes += 1;
        self.note_durable();
        if self.rng.chance(500_000) {
            self.ground.disk.power_loss();
        }
        self.ground.kill();
        self.storage = None;
        self.recover(false);
    }

    fn recover(&mut self, accept_lost_tail: bool) {
        let stream = self.stream();
        stream.set_capacity(None);
        // First with faults and perhaps killed in the middle: whatever happens must be named, and harmless.
        stream.set_faults(self.faults);
        let options = StreamOptions { accept_lost_tail, ..options() };
        for _ in 0..self.rng.below(3) {
            if self.rng.chance(300_000) {
                stream.kill_after(self.rng.below(40));
            }
            match open_with(self.ground.disk.process(), stream.process(), options.clone()) {
                Ok((storage, ..)) => drop(storage),
                Err(
                    StreamOpenError::Log(LogError::Unreachable { .. })
                    | StreamOpenError::Storage(StorageError::Unreachable { .. }),
                ) => {}
                Err(StreamOpenError::Damaged { .. }) if accept_lost_tail => {}
                Err(error) => panic!("{error}"),
            }
            self.ground.kill();
        }
        self.ground.kill();
        stream.set_faults(StreamFaults::default());
        let log = stream.other();
        while block_on(log.last()).is_err() {}
        let told = run(verify_stream(self.ground.disk.process(), log, RACK));
        let first = open_with(self.ground.disk.process(), stream.process(), options.clone());
        let (first, once, mut seen) = match first {
            Ok(opened) => opened,
            // The group that named the oldest is lost, and what that one gave up as well.
            Err(StreamOpenError::Damaged { .. }) if accept_lost_tail => {
                self.is_over = true;
                return;
            }
            Err(error) => panic!("{error}"),
        };
        // Before the first opening there is no stream.
        let is_absent = matches!(told, Err(StreamOpenError::Absent { .. }));
        if !(accept_lost_tail || is_absent && self.durable_once == 0) {
            let told = told.unwrap_or_else(|error| panic!("{error}"));
            assert!(told.places.is_empty(), "what no crash explains: {:?}", told.places);
            // Something late may have completed a group since.
            let found = told.outcome.unwrap_or_else(|error| panic!("{error}"));
            assert!(
                found.last_epoch >= self.durable_once && found.last_epoch <= once.last_epoch,
                "{found:?}, {once:?}"
            );
        }
        drop(first);
        let (storage, recovery, again) = self.ground.open().unwrap();
        // Something late may have named another oldest while it was read.
        seen.retain(|group| group.at.segment >= once.oldest);
        assert!(seen == again, "opening twice shows the same");
        assert_eq!((once.last_epoch, once.oldest), (recovery.last_epoch, recovery.oldest));
        assert_eq!(recovery.proven_epoch, recovery.last_epoch);
        self.compare(&recovery, &again, accept_lost_tail);
        self.reader = Some(storage.reader());
        self.storage = Some(storage);
        stream.set_faults(self.faults);
        self.stated = recovery.proven_epoch;
        self.note_durable();
    }

    fn compare(&mut self, recovery: &Recovery, seen: &Seen, is_lossy: bool) {
        assert!(
            recovery.last_epoch >= self.durable_once,
            "{} recovered, {} durable",
            recovery.last_epoch,
            self.durable_once
        );
        assert!(recovery.last_epoch <= self.last_epoch);
        let floor = seen.last().map_or(0, |group| decode(&group.body).0);
        let mut found: BTreeMap<u64, Entry> = BTreeMap::new();
        let mut before = 0;
        for group in seen {
            assert!(group.epoch > before, "groups come in order");
            assert!(group.proven);
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
                assert!(*epoch <= self.floor || is_lossy, "epoch {epoch} was never appended");
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

fn run_model(seed: u64, steps: u64, faults: StreamFaults) -> (StreamFired, Met) {
    let mut caller = Caller::new(seed, faults);
    for _ in 0..steps {
        if caller.is_over {
            return (caller.stream().fired(), caller.met);
        }
        caller.step();
    }
    if !caller.is_over {
        caller.crash();
    }
    (caller.stream().fired(), caller.met)
}

fn faults(ppm: u32) -> StreamFaults {
    StreamFaults { election_ppm: ppm / 2, stale_ppm: 5 * ppm, ..StreamFaults::all(ppm) }
}

/// Many seeds; `JOURNAL_SEEDS` runs more, from `JOURNAL_SEED` on.
#[test]
fn random_runs_lose_nothing_that_was_acked() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (from, count) = (number("JOURNAL_SEED", 1), number("JOURNAL_SEEDS", 300));
    let (mut sum, mut met) = (StreamFired::default(), Met::default());
    for seed in from..from + count {
        let faults = faults([0, 3_000, 20_000, 80_000][(seed % 4) as usize]);
        let done = std::panic::catch_unwind(|| run_model(seed, 120, faults));
        let (fired, run) = done.unwrap_or_else(|_| panic!("seed {seed}"));
        sum.lost_acks += fired.lost_acks;
        sum.lost_publishes += fired.lost_publishes;
        sum.late += fired.late;
        sum.late_stored += fired.late_stored;
        sum.doubled += fired.doubled;
        sum.elections += fired.elections;
        sum.stale += fired.stale;
        sum.full += fired.full;
        sum.rewound += fired.rewound;
        sum.wrong_last += fired.wrong_last;
        sum.kills += fired.kills;
        met.crashes += run.crashes;
        met.replaced += run.replaced;
        met.fenced += run.fenced;
        met.ends_lost += run.ends_lost;
        met.ends_back += run.ends_back;
    }
    println!("{count} seeds from {from}: {met:?}, {sum:?}");
    let StreamFired { lost_acks, lost_publishes, late, late_stored, doubled, elections, .. } = sum;
    let StreamFired { stale, full, rewound, wrong_last, kills, .. } = sum;
    let Met { crashes, replaced, fenced, ends_lost, ends_back } = met;
    let faults = [lost_acks, lost_publishes, late, late_stored, doubled, elections, stale, full, rewound, wrong_last];
    for fired in faults.into_iter().chain([kills, crashes, replaced, fenced, ends_lost, ends_back]) {
        assert!(fired > 0, "a fault that never fires is not tested: {sum:?} {met:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_seed_and_rate(seed: u64, ppm in 0u32..120_000, steps in 1u64..60) {
        run_model(seed, steps, faults(ppm));
    }
}

/// A walk that begins behind what was trimmed finds a segment, and then one that makes all of it void: no damage.
#[test]
fn what_follows_the_trimmed_front_twice_is_whole() {
    run_model(3_910_868_107_011_402_726, 6, faults(90_498));
}

/// One fixed run, killed at every single operation.
#[test]
fn every_operation_may_be_the_last() {
    let scripted = |ground: &Ground| -> (u64, u64) {
        let Ok((mut storage, recovery, _)) = ground.open() else { return (0, 0) };
        assert_eq!(recovery.last_epoch, 0);
        let mut last = 0;
        for epoch in 1..=12u64 {
            let oldest = if epoch > 8 { 2 } else { 1 };
            let (body, flushed) = (vec![epoch as u8; 9_000], storage.durable_epoch);
            if block_on(storage.append(Group { epoch, flushed, oldest, body: &body })).is_err() {
                return (storage.durable_epoch, epoch);
            }
            last = epoch;
            if epoch == 11 {
                drop(storage.trim(2));
            }
        }
        (storage.durable_epoch, last)
    };
    let ground = |seed| {
        let ground = Ground::new(seed);
        ground.stream.set_payload_bytes_max(2000);
        ground
    };
    let whole = ground(5);
    assert_eq!(scripted(&whole), (12, 12));
    let operations = whole.stream.operations();
    assert!(operations > 40, "{operations}");
    for at in 0..operations {
        let ground = ground(5 + at);
        ground.stream.kill_after(at);
        let (durable, last) = scripted(&ground);
        ground.kill();
        let (_, recovery, seen) = ground.open().unwrap_or_else(|error| panic!("killed at {at}: {error}"));
        assert!(recovery.last_epoch >= durable, "killed at {at}: {recovery:?}, {durable} durable");
        assert!(recovery.last_epoch <= last);
        for group in seen {
            assert!(group.body.iter().all(|byte| u64::from(*byte) == group.epoch));
        }
    }
}
