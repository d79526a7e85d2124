//! Every way in which opening or appending fails has a name of its own, and leaves the files as they were.

use super::*;
use crate::{disk::sim::Faults, lock::Holder};

fn fails(sim: &SimDisk, options: OpenOptions) -> OpenError {
    match open_with(sim.process(), options) {
        Err(error) => error,
        Ok((_, recovery, _)) => panic!("opened: {recovery:?}"),
    }
}

#[test]
fn a_second_process_is_refused_and_told_who() {
    let sim = SimDisk::new(1);
    let holder = Holder { pid: 42, host: "plant-7".to_owned(), incarnation: 0xfeed, started: "now".to_owned() };
    let (first, ..) = open_with(sim.process(), OpenOptions { holder: holder.clone(), ..options() }).unwrap();
    let error = fails(&sim, options());
    assert!(matches!(&error, OpenError::Locked { holder: found, .. } if *found == holder), "{error}");
    assert_eq!(
        error.to_string(),
        "simulated: the journal is in use by process 42 on `plant-7`, started now, incarnation 000000000000feed, \
         expected to be the only one; remedy: stop that process or use another data directory"
    );
    drop(first);
    reopen(&sim).unwrap();
}

#[test]
fn foreign_newer_keyless_and_wrongly_keyed_journals_are_refused_untouched() {
    let sim = rich_journal(2);
    let head = sim.names().into_iter().filter(|name| name.ends_with(".seg")).rev().find(|name| {
        sim.contents(name).unwrap()[..8] == *b"FLUXJRNL"
    });
    let head = head.unwrap();
    let untouched = |damaged: &SimDisk, error: &dyn Fn(&OpenError) -> bool, options: OpenOptions| {
        let before: Vec<_> = damaged.names().iter().map(|name| damaged.contents(name)).collect();
        let found = fails(damaged, options);
        assert!(error(&found), "{found}");
        let after: Vec<_> = damaged.names().iter().map(|name| damaged.contents(name)).collect();
        assert_eq!(before, after, "{found}");
    };
    let other_rack = OpenOptions { rack: [9; 16], ..options() };
    untouched(&sim.fork(), &|error| matches!(error, OpenError::ForeignRack { .. }), other_rack);

    let newer = sim.fork();
    let mut bytes = newer.contents(&head).unwrap();
    bytes[8] = 2;
    newer.put(&head, bytes);
    untouched(&newer, &|error| matches!(error, OpenError::NewerFormat { found: 2, expected: 1, .. }), options());

    let keyless = sim.fork();
    keyless.take("rack.key");
    untouched(&keyless, &|error| matches!(error, OpenError::KeyMissing { .. }), options());

    let short = sim.fork();
    short.put("rack.key", vec![1; 31]);
    untouched(&short, &|error| matches!(error, OpenError::KeyInvalid { .. }), options());

    let wrong = sim.fork();
    wrong.put("rack.key", vec![1; 32]);
    untouched(&wrong, &|error| matches!(error, OpenError::KeyWrong { .. }), options());

    let tiny = OpenOptions { segment_bytes: 1000, ..options() };
    untouched(&sim.fork(), &|error| matches!(error, OpenError::Option { .. }), tiny);
}

#[test]
fn full_failing_and_read_only_disks_are_told_apart() {
    let sim = SimDisk::new(3);
    sim.set_read_only(true);
    assert!(matches!(fails(&sim, options()), OpenError::ReadOnly { .. }));
    sim.set_read_only(false);
    sim.set_capacity(Some(10));
    assert!(matches!(fails(&sim, options()), OpenError::Full { .. }));
    sim.set_capacity(None);
    sim.set_faults(Faults { write_error_ppm: 1_000_000, ..Faults::default() });
    assert!(matches!(fails(&sim, options()), OpenError::Io { .. }));
    // Nothing half-made stays behind.
    sim.set_faults(Faults::default());
    let (mut storage, ..) = reopen(&sim).unwrap();

    let reader = storage.reader();
    let at = put(&mut storage, 1, 0, 1, b"one");
    storage.flush_now().unwrap();
    sim.set_faults(Faults { write_full_ppm: 1_000_000, ..Faults::default() });
    let lost = storage.append_now(Group { epoch: 2, flushed: 1, oldest: 1, body: b"two" });
    assert!(lost.unwrap_err().is_full());
    let again = storage.append_now(Group { epoch: 2, flushed: 1, oldest: 1, body: b"two" });
    assert!(matches!(again, Err(StorageError::Final { .. })));
    assert!(matches!(storage.flush_now(), Err(StorageError::Final { .. })));
    // A segment was prepared ahead, so there is room for one more even now; after that there is none.
    storage.replace_now(1).unwrap();
    sim.set_faults(Faults::default());
    sim.set_capacity(Some(1));
    let at_two = put(&mut storage, 2, 1, 1, b"two");
    storage.flush_now().unwrap();
    assert!(storage.replace_now(2).unwrap_err().is_full());
    assert!(storage.append_now(Group { epoch: 3, flushed: 2, oldest: 1, body: b"three" }).unwrap_err().is_full());
    sim.set_capacity(None);
    storage.replace_now(2).unwrap();
    put(&mut storage, 3, 2, 1, b"three");

    assert_eq!(reader.read(at).unwrap()[..], b"one"[..]);
    assert_eq!(reader.read(at_two).unwrap()[..], b"two"[..]);
    let nowhere = GroupAt { segment: 99, offset: 4096 };
    assert!(matches!(reader.read(nowhere), Err(StorageError::Gone { .. })));
    let between = GroupAt { segment: at.segment, offset: at.offset + 512 };
    assert!(matches!(reader.read(between), Err(StorageError::Void { .. } | StorageError::Damaged { .. })));
}

#[test]
fn mistakes_of_the_caller_are_refused_before_anything_is_written() {
    let sim = SimDisk::new(4);
    let (mut storage, ..) = reopen(&sim).unwrap();
    put(&mut storage, 5, 0, 1, b"five");
    let refused = |storage: &mut SegmentStorage, epoch, flushed, oldest| {
        let done = storage.append_now(Group { epoch, flushed, oldest, body: b"" });
        assert!(matches!(done, Err(StorageError::Order { .. })), "{done:?}");
    };
    refused(&mut storage, 5, 0, 1);
    refused(&mut storage, 6, 5, 1);
    refused(&mut storage, 6, 0, 2);
    storage.flush_now().unwrap();
    put(&mut storage, 6, 5, 1, b"six");
    refused(&mut storage, 7, 0, 1);
    refused(&mut storage, 7, 5, 0);
    assert!(matches!(storage.replace_now(6), Err(StorageError::Order { .. })));
    assert!(matches!(storage.trim(2), Err(StorageError::Order { .. })));
    put(&mut storage, 7, 5, 1, b"seven");
}

#[test]
fn a_void_group_is_not_read_and_never_comes_back() {
    let sim = SimDisk::new(5);
    let (mut storage, ..) = reopen(&sim).unwrap();
    let reader = storage.reader();
    put(&mut storage, 1, 0, 1, b"one");
    storage.flush_now().unwrap();
    let void = put(&mut storage, 2, 1, 1, b"two");
    storage.replace_now(1).unwrap();
    assert!(matches!(reader.read(void), Err(StorageError::Void { .. })));
    // Until the merging group is whole, the header of its segment voids nothing.
    sim.kill();
    let (_, recovery, seen) = reopen(&sim.fork()).unwrap();
    assert_eq!((recovery.last_epoch, seen.len()), (2, 2));
    drop(storage);
    let (mut storage, ..) = reopen(&sim).unwrap();
    put(&mut storage, 3, 1, 1, b"two and three");
    drop(storage);
    sim.kill();
    let (_, _, seen) = reopen(&sim).unwrap();
    assert_eq!(seen.iter().map(|group| group.epoch).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn a_flusher_that_comes_late_makes_nothing_durable() {
    let sim = SimDisk::new(6);
    let (mut storage, ..) = reopen(&sim).unwrap();
    put(&mut storage, 1, 0, 1, b"one");
    assert_eq!(storage.flusher()().unwrap(), 1);
    assert_eq!(storage.known_durable(), 1);
    put(&mut storage, 2, 1, 1, b"two");
    let late = storage.flusher();
    storage.replace_now(1).unwrap();
    assert!(matches!(late(), Err(StorageError::Final { .. })));
    assert_eq!(storage.known_durable(), 1);
}

#[test]
fn a_trimmed_segment_loses_its_key_before_its_name() {
    let sim = SimDisk::new(7);
    let (mut storage, ..) = reopen(&sim).unwrap();
    put(&mut storage, 1, 0, 1, &[1; 60_000]);
    storage.flush_now().unwrap();
    put(&mut storage, 2, 1, 2, &[2; 100]);
    storage.flush_now().unwrap();
    // The name comes back with a power cut whenever the directory was not flushed; the key never does.
    let mut came_back = 0;
    let operations = sim.operations();
    for seed in 0..40 {
        for at in 0..6 {
            let fork = sim.fork();
            let mut rest = SimDisk::new(seed);
            std::mem::swap(&mut rest, &mut fork.clone());
            drop(rest);
            fork.kill();
            let (mut storage, _, seen) = reopen(&fork).unwrap();
            put(&mut storage, 3, 1, 2, &vec![3; 10 + seed as usize]);
            storage.flush_now().unwrap();
            fork.kill_after(at);
            let is_done = storage.trim(2).is_ok();
            fork.power_loss();
            if let Some(bytes) = fork.contents("00000001.seg") {
                came_back += 1;
                assert!(!is_done);
                assert!(bytes[..8] == *b"FLUXJRNL" || at > 0);
            }
            let (.., after) = reopen(&fork).unwrap();
            assert_eq!(after.last().unwrap().epoch, 3);
            assert!(seen.len() >= 2);
        }
    }
    assert!(came_back > 0 && operations > 0);
}
