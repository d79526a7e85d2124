//! The file of a deleted segment becomes a younger one: nothing of what it held comes back.

use super::*;

/// Rotates until a segment lies in a file that two others had before. Returns the last epoch.
fn reused(sim: &SimDisk) -> (SegmentStorage, u64) {
    let (mut storage, ..) = reopen(sim).unwrap();
    let mut epoch = 0;
    for oldest in 1..8u32 {
        for _ in 0..4 {
            epoch += 1;
            put(&mut storage, epoch, epoch - 1, oldest, &vec![epoch as u8; 15_000]);
            storage.flush_now().unwrap();
        }
        storage.trim(oldest).unwrap();
    }
    (storage, epoch)
}

fn whole_of(sim: &SimDisk, last: u64) {
    let (_, recovery, seen) = reopen(sim).unwrap();
    assert_eq!((recovery.last_epoch, &recovery.torn), (last, &None));
    assert!(seen.iter().all(|group| group.body.iter().all(|byte| u64::from(*byte) == group.epoch)));
}

#[test]
fn what_the_file_held_before_is_neither_shown_nor_called_torn() {
    let sim = SimDisk::new(1);
    let (mut storage, last) = reused(&sim);
    // A short group at the front of the newest segment: all behind it is what an older one left.
    put(&mut storage, last + 1, last, 7, &[last as u8 + 1; 10]);
    storage.flush_now().unwrap();
    let newest = name_of(storage.current());
    drop(storage);
    let bytes = sim.contents(&newest).unwrap();
    let older = bytes.windows(4).filter(|word| word == b"FLXG").count();
    assert!(older >= 2, "{newest} was made of an older file: {older}");
    sim.kill();
    whole_of(&sim.fork(), last + 1);
    let report = verify(&sim.process(), RACK, &Default::default()).unwrap();
    assert!(report.damages.is_empty(), "{:?}", report.damages);
}

#[test]
fn no_more_than_one_file_is_kept_and_none_that_failed_or_is_shorter() {
    let sim = SimDisk::new(2);
    let (mut storage, last) = reused(&sim);
    let spares = |sim: &SimDisk| sim.names().iter().filter(|name| name.ends_with(".spare")).count();
    assert!(spares(&sim) <= 1);
    // What was written last cannot be flushed any more.
    put(&mut storage, last + 1, last, 7, &[1; 10]);
    storage.replace_now(last).unwrap();
    put(&mut storage, last + 2, last, 8, &[2; 60_000]);
    storage.flush_now().unwrap();
    let oldest = storage.current();
    put(&mut storage, last + 3, last + 2, oldest, &[3; 60_000]);
    storage.flush_now().unwrap();
    storage.trim(oldest).unwrap();
    assert!(spares(&sim) <= 1);
    drop(storage);
    // Another process begins without it.
    sim.kill();
    let (storage, ..) = reopen(&sim).unwrap();
    assert_eq!(spares(&sim), 0);
    drop(storage);
}

#[test]
fn a_power_cut_at_any_step_of_a_reuse_loses_nothing() {
    let mut cut = 0;
    for seed in 0..60 {
        for at in 0..24 {
            let sim = SimDisk::new(seed);
            let (mut storage, last) = reused(&sim);
            sim.reseed(seed);
            sim.kill_after(at);
            let mut durable = last;
            for step in 1..=4u64 {
                let group =
                    Group { epoch: last + step, flushed: durable, oldest: 7, body: &[(last + step) as u8; 15_000] };
                if storage.append_now(group).is_err() || storage.flush_now().is_err() {
                    cut += 1;
                    break;
                }
                durable = last + step;
                drop(storage.trim(7));
            }
            drop(storage);
            sim.power_loss();
            let (mut storage, recovery, seen) = reopen(&sim).unwrap();
            assert!(recovery.last_epoch >= durable, "seed {seed}, step {at}: {recovery:?}");
            assert!(seen.iter().all(|group| group.body.iter().all(|byte| u64::from(*byte) == group.epoch)));
            // And it goes on.
            let next = recovery.last_epoch + 1;
            put(&mut storage, next, recovery.proven_epoch, 7, &[next as u8; 15_000]);
            storage.flush_now().unwrap();
            drop(storage);
            sim.kill();
            let (_, recovery, _) = reopen(&sim).unwrap();
            assert_eq!(recovery.last_epoch, next);
        }
    }
    assert!(cut > 300, "{cut}");
}

#[test]
fn a_torn_group_over_an_older_one_is_cut_and_reported() {
    let mut torn = 0;
    for seed in 0..200 {
        let sim = SimDisk::new(seed);
        let (mut storage, last) = reused(&sim);
        put(&mut storage, last + 1, last, 7, &[last as u8 + 1; 3_000]);
        storage.flush_now().unwrap();
        put(&mut storage, last + 2, last + 1, 7, &[last as u8 + 2; 9_000]);
        drop(storage);
        sim.power_loss();
        let (_, recovery, seen) = reopen(&sim).unwrap();
        assert!((last + 1..=last + 2).contains(&recovery.last_epoch), "seed {seed}: {recovery:?}");
        assert!(seen.iter().all(|group| group.body.iter().all(|byte| u64::from(*byte) == group.epoch)));
        torn += usize::from(recovery.torn.is_some());
    }
    // The first place is zeros where it was lost: then nothing of the group is known.
    assert!(torn > 50, "{torn}");
}
