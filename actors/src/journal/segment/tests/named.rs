//! Every way in which opening or appending fails has a name of its own, and leaves the files as they were.

use super::*;
use crate::journal::{disk::sim::Faults, lock::Holder};

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
    let head = sim
        .names()
        .into_iter()
        .filter(|name| name.ends_with(".seg"))
        .rev()
        .find(|name| sim.contents(name).unwrap()[..8] == *b"FLUXJRNL");
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
    let early = storage.append_now(Group { epoch: 3, flushed: 2, oldest: 1, body: b"three" });
    assert!(matches!(early, Err(StorageError::Final { .. })));
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
fn a_flush_elsewhere_prepares_the_next_segment_and_a_late_one_does_not_touch_it() {
    let sim = SimDisk::new(16);
    let (mut storage, ..) = reopen(&sim).unwrap();
    put(&mut storage, 1, 0, 1, &[1; 60_000]);
    let (one, other) = (storage.flusher(), storage.flusher());
    assert!(!sim.names().contains(&"00000002.seg".to_owned()), "nothing is claimed before it is durable");
    assert_eq!(one().unwrap(), 1);
    assert!(sim.contents("00000002.seg").unwrap().starts_with(b"FLUXNEXT"));
    // The next group begins that segment; whoever comes back from a flush only now has nothing to prepare.
    put(&mut storage, 2, 1, 1, &[2; 100]);
    let before = (sim.names(), sim.contents("00000002.seg"));
    assert!(before.1.as_ref().unwrap().starts_with(b"FLUXJRNL"));
    assert_eq!(other().unwrap(), 1);
    assert_eq!((sim.names(), sim.contents("00000002.seg")), before);
}

#[test]
fn a_directory_that_is_no_journal_is_refused_and_one_of_a_fresh_file_system_is_not() {
    let sim = SimDisk::new(17);
    sim.put("lost+found", Vec::new());
    sim.put(".snapshot", Vec::new());
    let named = OpenOptions { rack: rack_id("north"), rack_name: "north".to_owned(), ..options() };
    drop(open_with(sim.process(), named).unwrap());
    assert_eq!(owner(&*sim.process()).unwrap(), Some(rack_id("north")));
    // Once it is a journal, whoever leaves something there is of no concern.
    sim.put("notes.txt", Vec::new());
    let error = fails(&sim, OpenOptions { rack: rack_id("south"), rack_name: "south".to_owned(), ..options() });
    assert_eq!(
        error.to_string(),
        "simulated/00000001.seg: found a journal of rack `north`, expected one of rack `south`; remedy: name the data \
         directory of rack `south` with `--data-dir`, each rack has one of its own"
    );
    let strange = SimDisk::new(18);
    strange.put("letter.txt", b"dear all".to_vec());
    strange.put("lock", b"keep out".to_vec());
    for error in [fails(&strange, options()), verify(&strange.process(), RACK, &Holder::default()).unwrap_err()] {
        assert!(matches!(&error, OpenError::NoJournal { file, .. } if file == "letter.txt"), "{error}");
    }
    assert_eq!(strange.contents("lock").unwrap(), b"keep out");
    assert_eq!(strange.names().len(), 2);
}

#[test]
fn a_journal_on_a_read_only_or_failing_disk_is_looked_at_or_refused_and_never_changed() {
    let sim = rich_journal(19);
    let contents = |sim: &SimDisk| sim.names().iter().map(|name| sim.contents(name)).collect::<Vec<_>>();
    let before = contents(&sim);
    sim.set_read_only(true);
    let error = fails(&sim, options());
    assert!(matches!(error, OpenError::ReadOnly { .. }) && error.to_string().contains("mount it writable"), "{error}");
    let report = verify(&sim.process(), RACK, &Holder::default()).unwrap();
    assert_eq!(report.outcome.unwrap().unwrap().last_epoch, 16);
    let aside = quarantine(&sim.process(), 2, &Holder::default());
    assert!(matches!(aside, Err(OpenError::ReadOnly { .. })), "{aside:?}");
    sim.set_read_only(false);
    // A disk that fails a read now and then: never taken for damage or for a torn tail, whichever read it was.
    let lock = |sim: &SimDisk| sim.names().iter().position(|name| name == "lock").unwrap();
    let mut refused = 0;
    for seed in 0..60 {
        let failing = sim.fork();
        failing.kill();
        failing.reseed(seed);
        failing.set_faults(Faults { read_error_ppm: 60_000, ..Faults::default() });
        let opened = open_with(failing.process(), options());
        let looked = verify(&failing.process(), RACK, &Holder::default());
        failing.set_faults(Faults::default());
        match opened {
            Err(error @ OpenError::Io { .. }) => {
                refused += 1;
                let text = error.to_string();
                assert!(text.contains("found the system failing to") && text.contains("then try again"), "{text}");
                let mut after = contents(&failing);
                after[lock(&failing)] = before[lock(&sim)].clone();
                assert_eq!(after, before);
                assert_eq!(reopen(&failing).unwrap().1.last_epoch, 16);
            }
            Err(error) => panic!("{error}"),
            Ok((_, recovery, _)) => assert_eq!(recovery.last_epoch, 16),
        }
        match looked.map(|report| report.outcome) {
            Ok(Some(Ok(recovery))) => assert_eq!(recovery.last_epoch, 16),
            Ok(Some(Err(OpenError::Io { .. }))) | Err(OpenError::Io { .. } | OpenError::Locked { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(refused > 10, "{refused}");
}

#[test]
fn a_trimmed_segment_loses_its_key_before_its_name() {
    let sim = SimDisk::new(7);
    let (mut storage, ..) = reopen(&sim).unwrap();
    put(&mut storage, 1, 0, 1, &[1; 60_000]);
    storage.flush_now().unwrap();
    put(&mut storage, 2, 1, 2, &[2; 100]);
    storage.flush_now().unwrap();
    // The name may come back with a power cut as long as the directory is not flushed; the key never does.
    let mut came_back = 0;
    for seed in 0..40 {
        for at in 0..6 {
            let fork = sim.fork();
            fork.kill();
            let (mut storage, _, seen) = reopen(&fork).unwrap();
            assert_eq!(seen.last().unwrap().epoch, 2);
            fork.reseed(seed);
            put(&mut storage, 3, 1, 2, b"three");
            storage.flush_now().unwrap();
            fork.kill_after(at);
            drop(storage.trim(2));
            let is_removed = !fork.names().contains(&"00000001.seg".to_owned());
            fork.power_loss();
            if let (true, Some(bytes)) = (is_removed, fork.contents("00000001.seg")) {
                came_back += 1;
                assert!(bytes[..4096].iter().all(|byte| *byte == 0), "the key outlived the name");
            }
            let (.., after) = reopen(&fork).unwrap();
            assert_eq!(after.last().unwrap().epoch, 3);
        }
    }
    assert!(came_back > 10, "{came_back}");
}

#[test]
fn an_operator_sees_every_damage_and_puts_segments_aside() {
    let sim = rich_journal(8);
    let holder = Holder::default();
    let whole = verify(&sim.process(), RACK, &holder).unwrap();
    assert_eq!((whole.damages.len(), whole.segments.iter().map(|segment| segment.groups).sum::<u64>()), (0, 13));
    assert_eq!(whole.outcome.unwrap().unwrap().last_epoch, 16);

    sim.flip("00000002.seg", 5_000, 4);
    sim.flip("00000004.seg", 20, 4);
    let report = verify(&sim.process(), RACK, &holder).unwrap();
    let places: Vec<_> = report.damages.iter().map(|damage| (damage.file.as_str(), damage.offset)).collect();
    assert_eq!(places, [("00000002.seg", 4096), ("00000004.seg", 12)]);
    let error = report.outcome.unwrap().unwrap_err();
    assert_eq!(error.to_string().split(": found").next().unwrap().split('+').next().unwrap(), "00000004.seg");

    sim.flip("00000002.seg", 5_000, 4);
    assert!(matches!(reopen(&sim), Err(OpenError::Damaged(_))));
    let aside = quarantine(&sim.process(), 4, &holder).unwrap();
    assert!(aside.contains(&"00000004.seg.quarantined".to_owned()));
    let (mut storage, recovery, seen) = reopen(&sim).unwrap();
    assert_eq!((recovery.last_epoch, seen.last().unwrap().epoch), (7, 7));
    // The number of a segment in quarantine is not given away.
    assert!(storage.current() > 5);
    put(&mut storage, 8, recovery.proven_epoch, recovery.oldest, b"on with what is left");
}

#[test]
fn what_was_recovered_stays_readable_while_its_merging_fails() {
    let sim = SimDisk::new(9);
    let (mut storage, ..) = reopen(&sim).unwrap();
    put(&mut storage, 1, 0, 1, b"one");
    let at = put(&mut storage, 2, 0, 1, b"two");
    drop(storage);
    let (mut storage, recovery, _) = reopen(&sim).unwrap();
    assert_eq!((recovery.proven_epoch, recovery.last_epoch), (0, 2));
    let reader = storage.reader();
    sim.set_faults(Faults { write_error_ppm: 1_000_000, ..Faults::default() });
    let failed = storage.append_now(Group { epoch: 3, flushed: 0, oldest: 1, body: b"one, two and three" });
    assert!(matches!(failed, Err(StorageError::Io { .. })), "{failed:?}");
    sim.set_faults(Faults::default());
    storage.replace_now(0).unwrap();
    assert_eq!(reader.read(at).unwrap()[..], b"two"[..]);
    put(&mut storage, 3, 0, 1, b"one, two and three");
    storage.flush_now().unwrap();
    put(&mut storage, 4, 3, 1, b"four");
    drop(storage);
    let (_, _, seen) = reopen(&sim).unwrap();
    assert_eq!(summary(&seen), [(3, 0, 18), (4, 3, 4)]);
}

#[test]
fn a_failed_flush_is_final_whoever_asks_again() {
    let sim = SimDisk::new(10);
    let (mut storage, ..) = reopen(&sim).unwrap();
    put(&mut storage, 1, 0, 1, b"one");
    let other = storage.flusher();
    sim.set_faults(Faults { sync_error_ppm: 1_000_000, ..Faults::default() });
    assert!(matches!(storage.flush_now(), Err(StorageError::Io { .. })));
    // The system would say yes now, to anybody.
    sim.set_faults(Faults::default());
    assert!(matches!(other(), Err(StorageError::Final { .. })));
    assert!(matches!(storage.flush_now(), Err(StorageError::Final { .. })));
    let more = storage.append_now(Group { epoch: 2, flushed: 0, oldest: 1, body: b"two" });
    assert!(matches!(more, Err(StorageError::Final { .. })));
    assert_eq!(storage.known_durable(), 0);
    storage.replace_now(0).unwrap();
    put(&mut storage, 1, 0, 1, b"one again");
    storage.flush_now().unwrap();
}
