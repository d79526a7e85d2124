//! Bits that flip, files that are cut, pieces of older copies: never silently wrong.

use super::*;

/// What must not happen: something that was proven is gone or changed, and nobody is told.
fn check_honest(sim: &SimDisk, whole: &Seen, proven: u64, what: &str) -> bool {
    match reopen(&sim.fork()) {
        Err(OpenError::Visit(error)) => panic!("{what}: {error}"),
        Err(_) => false,
        Ok((_, recovery, seen)) => {
            assert!(recovery.last_epoch >= proven, "{what}: {recovery:?}, {proven} proven");
            check_prefix(&seen, whole, what);
            true
        }
    }
}

// Every group that is shown is one that was written, in order and from the start. The segment that was replaced before
// the head may come back in place of the head: its groups were appended too.
fn check_prefix(seen: &Seen, whole: &Seen, what: &str) {
    for (idx, group) in seen.iter().enumerate() {
        match whole.get(idx) {
            Some(expected) if expected.epoch == group.epoch => assert_eq!(expected.body, group.body, "{what}"),
            // Epoch 12 was merged into 13: it comes back when 13 goes.
            _ => assert!(group.epoch == 12 && group.body[..] == [12; 700], "{what}: {group:?}"),
        }
    }
}

fn segments(sim: &SimDisk) -> Vec<String> {
    sim.names().into_iter().filter(|name| name.ends_with(".seg")).collect()
}

// The places worth damaging: all that is written, and a few of the zeros.
fn places(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let places: Vec<_> =
        bytes.iter().enumerate().filter(|(at, byte)| **byte != 0 || at % 509 == 0).map(|(at, _)| at).collect();
    places.into_iter()
}

#[test]
fn any_flipped_bit_is_noticed_or_harmless() {
    let sim = rich_journal(1);
    let (_, recovery, whole) = reopen(&sim.fork()).unwrap();
    let (mut noticed, mut harmless) = (0, 0);
    for name in segments(&sim).iter().chain([&"rack.key".to_owned()]) {
        let bytes = sim.contents(name).unwrap();
        // Bodies are long and every byte of them is alike: a part of them will do.
        for (count, at) in places(&bytes).enumerate() {
            if count > 2_000 && at % 23 != 0 {
                continue;
            }
            let damaged = sim.fork();
            damaged.flip(name, at, 1 << (at % 8));
            if check_honest(&damaged, &whole, recovery.proven_epoch, &format!("{name}+{at}")) {
                harmless += 1;
            } else {
                noticed += 1;
            }
        }
    }
    println!("{noticed} noticed, {harmless} harmless");
    assert!(noticed > 1_000 && harmless > 100);
}

#[test]
fn any_cut_file_is_noticed() {
    let sim = rich_journal(2);
    let (_, recovery, whole) = reopen(&sim.fork()).unwrap();
    for name in segments(&sim) {
        let bytes = sim.contents(&name).unwrap();
        let is_alive = whole.iter().any(|group| super::name_of(group.at.segment) == name);
        for len in (1..bytes.len()).filter(|len| *len < 9_000 || len % 97 == 0) {
            let damaged = sim.fork();
            damaged.put(&name, bytes[..len].to_vec());
            let is_open = check_honest(&damaged, &whole, recovery.proven_epoch, &format!("{name} cut at {len}"));
            assert!(!is_open || !is_alive, "{name} cut at {len}");
        }
    }
}

#[test]
fn pieces_of_older_copies_are_noticed_or_only_take_the_tail_back() {
    // Copies of every file at every stage, restored in pieces of 4 KiB into the last stage.
    let sim = SimDisk::new(3);
    let (mut storage, ..) = reopen(&sim).unwrap();
    let mut stages = Vec::new();
    for epoch in 1..=20u64 {
        put(&mut storage, epoch, epoch - 1, 1, &vec![epoch as u8; 5_000]);
        storage.flush_now().unwrap();
        stages.push(sim.fork());
    }
    drop(storage);
    let (_, recovery, whole) = reopen(&sim.fork()).unwrap();
    assert_eq!(recovery.last_epoch, 20);
    let mut noticed = 0;
    for (stage, older) in stages.iter().enumerate() {
        for name in segments(&sim) {
            let now = sim.contents(&name).unwrap();
            let Some(then) = older.contents(&name) else { continue };
            for at in (0..now.len()).step_by(4096) {
                let upto = now.len().min(at + 4096);
                let Some(piece) = then.get(at..upto) else { continue };
                if piece == &now[at..upto] {
                    continue;
                }
                let damaged = sim.fork();
                let mut bytes = now.clone();
                bytes[at..upto].copy_from_slice(piece);
                damaged.put(&name, bytes);
                match reopen(&damaged) {
                    Err(OpenError::Damaged(_)) => noticed += 1,
                    Err(error) => panic!("{error}"),
                    Ok((_, recovery, seen)) => {
                        // The piece took the last group, and perhaps the end of the one before together with the
                        // header that proved it: whoever holds nothing newer cannot tell that from a crash.
                        let kept = seen.len();
                        let lost = &whole[kept..];
                        let is_in_piece = |group: &RecoveredGroup| {
                            let end = group.at.offset as usize + group.body.len() + 80;
                            super::name_of(group.at.segment) == name && (group.at.offset as usize) < upto && end > at
                        };
                        let what = format!("stage {stage}, {name}+{at}: {recovery:?}");
                        assert!(lost.len() <= 2 && lost.iter().all(is_in_piece), "{what}");
                        assert_eq!(summary(&seen), summary(&whole)[..seen.len()]);
                    }
                }
            }
        }
    }
    assert!(noticed > 100, "{noticed}");
}

#[test]
fn a_missing_segment_is_damage_unless_nothing_in_it_counts() {
    let sim = rich_journal(4);
    let (_, recovery, whole) = reopen(&sim.fork()).unwrap();
    for name in segments(&sim) {
        let without = sim.fork();
        without.take(&name);
        let is_alive = whole.iter().any(|group| super::name_of(group.at.segment) == name);
        match reopen(&without) {
            Ok((_, found, seen)) => {
                assert!(!is_alive, "{name}");
                assert_eq!((found.last_epoch, &seen), (recovery.last_epoch, &whole));
            }
            Err(OpenError::Damaged(damage)) => assert!(is_alive && damage.file == name, "{name}: {damage}"),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

/// The newest segment that was begun, and the file that was prepared behind it.
fn newest_of(sim: &SimDisk) -> (SegmentId, String, String) {
    let (_, _, whole) = reopen(&sim.fork()).unwrap();
    let id = whole.last().unwrap().at.segment;
    (id, super::name_of(id), super::name_of(id + 1))
}

#[test]
fn the_newest_segment_is_missed_wherever_a_prepared_one_stands_behind_it() {
    let sim = rich_journal(14);
    let (newest, name, prepared) = newest_of(&sim);
    let bytes = sim.contents(&name).unwrap();
    let half = bytes.len() / 2;
    let gone = |damaged: &SimDisk, what: &str| match reopen(damaged) {
        Err(OpenError::Damaged(damage)) => {
            assert_eq!(
                (damage.file.as_str(), damage.segment, damage.last_epoch),
                (name.as_str(), newest, 12),
                "{what}"
            );
            damage
        }
        other => panic!("{what}: {:?}", other.map(|(_, recovery, _)| recovery)),
    };
    let without = sim.fork();
    without.take(&name);
    assert!(gone(&without, "deleted").found.contains("no file"));
    for (what, zeros) in [("blank", bytes.len()), ("without its first half", half), ("without a header", 4096)] {
        let blank = sim.fork();
        blank.put(&name, [vec![0; zeros], bytes[zeros..].to_vec()].concat());
        gone(&blank, what);
    }
    let bad = sim.fork();
    bad.flip(&name, 40, 1);
    assert_eq!(gone(&bad, "a bad header").offset, 12);
    // What stands behind it may have its last name already or not.
    let unfinished = sim.fork();
    let body = unfinished.contents(&prepared).unwrap();
    unfinished.take(&prepared);
    unfinished.put(&format!("{:08x}.next", newest + 1), body);
    unfinished.take(&name);
    gone(&unfinished, "behind it half a file");
    // Given up by an operator, what is older opens, and the journal goes on.
    for damaged in [without, unfinished] {
        let disk = damaged.process();
        quarantine(&disk, newest, &Holder::default()).unwrap();
        drop(disk);
        let (mut storage, recovery, _) = reopen(&damaged).unwrap();
        assert_eq!(recovery.last_epoch, 12);
        put(&mut storage, 13, recovery.proven_epoch, 2, b"goes on");
        storage.flush_now().unwrap();
        drop(storage);
        assert_eq!(reopen(&damaged).unwrap().1.last_epoch, 13);
    }
}

#[test]
fn a_tail_that_a_prepared_segment_has_seen_is_no_torn_one() {
    let sim = SimDisk::new(15);
    let (mut storage, ..) = reopen(&sim).unwrap();
    put(&mut storage, 1, 0, 1, &[1; 600]);
    put(&mut storage, 2, 0, 1, &[2; 600]);
    storage.flush_now().unwrap();
    drop(storage);
    let whole = reopen(&sim.fork()).unwrap().2;
    sim.flip("00000001.seg", whole[1].at.offset as usize + 100, 1);
    let Err(OpenError::Damaged(damage)) = reopen(&sim) else { panic!("cut") };
    assert_eq!((damage.file.as_str(), damage.offset), ("00000001.seg", whole[1].at.offset));
    // Nothing whole is given up with it.
    let disk = sim.process();
    assert_eq!(quarantine(&disk, damage.segment, &Holder::default()).unwrap(), ["00000002.seg.quarantined"]);
    drop(disk);
    assert_eq!(summary(&reopen(&sim).unwrap().2), summary(&whole)[..1]);
}

#[test]
fn a_prepared_segment_alone_is_no_new_journal() {
    let sim = rich_journal(16);
    let (_, _, prepared) = newest_of(&sim);
    for name in segments(&sim).iter().filter(|name| **name != prepared) {
        sim.take(name);
    }
    let zeros = sim.fork();
    zeros.put(&prepared, vec![0; sim.contents(&prepared).unwrap().len()]);
    for left in [&sim, &zeros] {
        match reopen(left) {
            Err(OpenError::Damaged(damage)) => {
                assert!(damage.found.contains("no file") && damage.expected.contains(&prepared), "{damage}");
                assert!(left.names().contains(&prepared));
                let disk = left.process();
                assert_eq!(quarantine(&disk, damage.segment, &Holder::default()).unwrap().len(), 1);
            }
            other => panic!("{:?}", other.map(|(_, recovery, _)| recovery)),
        }
        assert_eq!(reopen(left).unwrap().1.last_epoch, 0);
    }
}

#[test]
fn a_prepared_segment_of_another_rack_is_not_taken_over() {
    let (sim, theirs) = (SimDisk::new(17), SimDisk::new(18));
    drop(reopen(&sim).unwrap());
    drop(open_with(theirs.process(), OpenOptions { rack: *b"another rack....", ..options() }).unwrap());
    sim.put("00000002.seg", theirs.contents("00000001.seg").unwrap());
    assert!(matches!(reopen(&sim), Err(OpenError::ForeignRack { file, .. }) if file == "00000002.seg"));
}

#[test]
fn older_files_are_ignored_whatever_they_hold() {
    let sim = rich_journal(5);
    let (_, recovery, whole) = reopen(&sim.fork()).unwrap();
    assert_eq!(recovery.oldest, 2);
    let mut newer = sim.contents("00000002.seg").unwrap();
    newer[8] = 9;
    let half_deleted = [vec![0; 4096], sim.contents("00000002.seg").unwrap()[4096..].to_vec()].concat();
    for garbage in [vec![], vec![0xff; 9_000], newer, half_deleted, b"FLUXJRNL".to_vec()] {
        let with = sim.fork();
        with.put("00000001.seg", garbage);
        let (mut storage, _, seen) = reopen(&with).unwrap();
        assert_eq!(seen, whole);
        put(&mut storage, 17, 15, 2, b"merged");
        storage.flush_now().unwrap();
        // The next trim takes the garbage along.
        assert_eq!(storage.trim(2).unwrap(), 1);
        assert!(!with.names().contains(&"00000001.seg".to_owned()));
    }
}

#[test]
fn a_torn_tail_is_cut_and_reported() {
    let sim = rich_journal(6);
    let (_, before, whole) = reopen(&sim.fork()).unwrap();
    assert_eq!((before.torn, before.last_epoch), (None, 16));
    let last = whole.last().unwrap().at;
    let name = super::name_of(last.segment);
    sim.flip(&name, last.offset as usize + 100, 1);
    let (mut storage, after, seen) = reopen(&sim).unwrap();
    let torn = after.torn.unwrap();
    assert_eq!((torn.file.as_str(), torn.offset, after.last_epoch), (name.as_str(), last.offset, 15));
    assert!(torn.bytes >= 600 && torn.why.contains("checksum"), "{torn:?}");
    assert_eq!(summary(&seen), summary(&whole)[..whole.len() - 1]);
    // Cut for good: once there is another segment, what lies behind is void even if it turns whole again.
    put(&mut storage, 16, 13, 2, b"another 16");
    storage.flush_now().unwrap();
    drop(storage);
    sim.flip(&name, last.offset as usize + 100, 1);
    let (_, _, seen) = reopen(&sim).unwrap();
    assert_eq!(seen.last().unwrap().body[..], b"another 16"[..]);
}

#[test]
fn a_hole_is_damage_as_soon_as_a_later_mark_proves_it() {
    let sim = rich_journal(7);
    let (_, _, whole) = reopen(&sim.fork()).unwrap();
    // 14 and 15 were written before one flush, 16 says that 15 was flushed.
    let at = whole.iter().find(|group| group.epoch == 14).unwrap().at;
    let name = super::name_of(at.segment);
    let proven = sim.fork();
    proven.flip(&name, at.offset as usize + 70, 1);
    match reopen(&proven) {
        Err(OpenError::Damaged(damage)) => {
            assert_eq!((damage.file.as_str(), damage.offset, damage.last_epoch), (name.as_str(), at.offset, 13));
        }
        other => panic!("{:?}", other.map(|(_, recovery, _)| recovery)),
    }
    // Without 16 nobody says so: 15 stands whole behind the hole and is part of the torn tail.
    let last = whole.last().unwrap().at;
    proven.flip(&name, last.offset as usize, 1);
    let (_, recovery, _) = reopen(&proven).unwrap();
    assert_eq!((recovery.last_epoch, recovery.torn.unwrap().offset), (13, at.offset));
}

#[test]
fn a_whole_segment_of_another_history_does_not_fit_the_chain() {
    let run = |body: u8| {
        // The same key file and the same epochs, offsets and lengths; only what was written differs.
        let sim = SimDisk::new(9);
        let (mut storage, ..) = reopen(&sim).unwrap();
        for epoch in 1..=12u64 {
            let byte = if epoch > 3 { body } else { 0 };
            put(&mut storage, epoch, epoch - 1, 1, &vec![byte; 16_000]);
            storage.flush_now().unwrap();
        }
        sim
    };
    let (ours, theirs) = (run(1), run(2));
    let (_, _, whole) = reopen(&{
        ours.kill();
        ours.fork()
    })
    .unwrap();
    let last = whole.last().unwrap().at.segment;
    assert!(last >= 4);
    for id in 2..last {
        let name = super::name_of(id);
        let mixed = ours.fork();
        mixed.put(&name, theirs.contents(&name).unwrap());
        let found = reopen(&mixed);
        let Err(OpenError::Damaged(damage)) = found else { panic!("{name} passed") };
        // The first group that follows another one than it was written behind: in the segment itself, unless its
        // predecessor is the one that both histories share.
        assert_eq!(damage.segment, if id == 2 { 3 } else { id }, "{damage}");
    }
}
