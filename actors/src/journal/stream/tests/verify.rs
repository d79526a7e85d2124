//! What is said of a stream that nobody opens, and that nothing is changed by saying it.

use super::*;
use crate::journal::stream::format::HEADER_BYTES;
use crate::journal::stream::replay::Replay;

fn verify_at(ground: &Ground, disk: &SimDisk) -> Result<StreamReport, StreamOpenError> {
    let (disk, log) = (disk.process(), ground.stream.other());
    run(verify_stream(disk, log, RACK))
}

/// Verifies, and shows that stream and directory stay as they are.
fn verify(ground: &Ground) -> Result<StreamReport, StreamOpenError> {
    let files = || ["lock", "rack.key", "stream.mark", "rack.name"].map(|name| ground.disk.contents(name));
    let before = (ground.stream.messages(), files());
    let report = verify_at(ground, &ground.disk);
    assert!(before == (ground.stream.messages(), files()), "who only looks changes nothing");
    report
}

/// Three segments of groups of four messages, the first of them older than what is alive.
fn filled(seed: u64) -> Ground {
    let ground = Ground::new(seed);
    ground.stream.set_payload_bytes_max(5_000);
    let (mut storage, ..) = ground.open().unwrap();
    for epoch in 1..=12u64 {
        put(&mut storage, epoch, epoch - 1, if epoch > 10 { 2 } else { 1 }, &vec![epoch as u8; 16_000]);
    }
    ground
}

fn place(report: &StreamReport) -> (u64, String) {
    let place = &report.places[0];
    (place.offset, place.to_string())
}

#[test]
fn a_healthy_stream_is_counted_while_its_rack_runs() {
    let ground = filled(1);
    let report = verify(&ground).unwrap();
    let recovery = report.outcome.as_ref().unwrap();
    assert_eq!((recovery.groups, recovery.bytes, recovery.last_epoch), (9, 9 * 16_000, 12), "what is alive");
    assert_eq!((recovery.oldest, recovery.torn.as_ref(), report.skipped), (2, None, 0));
    assert_eq!((report.places.len(), report.term, report.first_seq), (0, 1, 1));
    assert_eq!(report.mark, Some(StreamMark { seq: report.last_seq, epoch: 12 }));
    let rows: Vec<_> = report.segments.iter().map(|row| (row.segment, row.groups, row.epochs, row.is_alive)).collect();
    assert_eq!(rows[0], (1, 3, Some((1, 3)), false), "what is dead is read as well: {rows:?}");
    assert_eq!(rows.last().unwrap().2.unwrap().1, 12);
    assert_eq!(report.segments.iter().map(|row| row.messages).sum::<u64>(), report.last_seq);
    // What it says is what a start finds.
    ground.kill();
    let (_, opened, seen) = ground.open().unwrap();
    assert_eq!((opened.groups, opened.bytes, opened.oldest), (recovery.groups, recovery.bytes, recovery.oldest));
    assert_eq!(seen.len() as u64, recovery.groups);
}

#[test]
fn what_was_not_completed_is_skipped_and_told() {
    let ground = Ground::new(2);
    ground.stream.set_payload_bytes_max(500);
    let (mut storage, ..) = ground.open().unwrap();
    put(&mut storage, 1, 0, 1, b"one");
    let before = ground.stream.messages().1.len() as u64;
    put(&mut storage, 2, 1, 1, &[2; 1800]);
    drop(storage);
    ground.kill();
    let (first, mut messages) = ground.stream.messages();
    messages.truncate(before as usize + 3);
    ground.stream.put(first, messages);
    let report = verify(&ground).unwrap();
    let Err(StreamOpenError::Shorter { found, found_epoch: 1, acked_epoch: 2, .. }) = &report.outcome else {
        panic!("{report:?}")
    };
    assert_eq!((*found, report.mark.unwrap().epoch), (before + 3, 2), "the mark knows of more");
    ground.disk.take("stream.mark");
    let report = verify(&ground).unwrap();
    let torn = report.outcome.unwrap().torn.unwrap();
    assert_eq!((torn.offset, torn.why.as_str()), (before + 1, "3 of 5 messages of a group"));
    // With another term behind it, it is no end any more.
    let (mut storage, ..) = ground.open().unwrap();
    put(&mut storage, 2, 1, 1, b"two");
    let report = verify(&ground).unwrap();
    let recovery = report.outcome.unwrap();
    assert_eq!((recovery.last_epoch, recovery.torn, recovery.unused.len(), report.term), (2, None, 3, 2));
}

#[test]
fn every_flipped_byte_is_told_with_its_place() {
    let ground = filled(3);
    ground.kill();
    let (first, whole) = ground.stream.messages();
    let alive = verify(&ground).unwrap().segments[1].first_seq;
    for idx in [0, 1, 5, alive as usize - 1, alive as usize, whole.len() - 1] {
        for offset in [0, 4, 8, 12, 40, 100, HEADER_BYTES + 5] {
            let mut flipped = whole[idx].to_vec();
            flipped[offset] ^= 0x40;
            let mut messages = whole.clone();
            messages[idx] = flipped.into();
            ground.stream.put(first, messages);
            let report = verify(&ground).unwrap();
            let (seq, text) = place(&report);
            assert_eq!(seq, first + idx as u64, "{idx}+{offset}: {text}");
            assert_eq!(report.places.len(), 1, "what lies behind is whole: {:?}", report.places);
            let error = report.outcome.unwrap_err();
            let is_named = matches!(error, StreamOpenError::Damaged { .. } | StreamOpenError::NewerFormat { .. });
            assert!(is_named, "{error}");
            ground.kill();
            let refused = ground.open().map(drop).unwrap_err();
            assert!(matches!(refused, StreamOpenError::Damaged { .. } | StreamOpenError::NewerFormat { .. }));
        }
    }
}

#[test]
fn a_group_under_another_key_in_its_place_is_told_wherever_it_is() {
    let ground = filled(4);
    ground.kill();
    let (first, whole) = ground.stream.messages();
    let alive = verify(&ground).unwrap().segments[1].first_seq;
    for (idx, opens) in [(3, true), (alive as usize + 3, false)] {
        let mut foreign = whole[idx].to_vec();
        *foreign.last_mut().unwrap() ^= 1;
        let crc = crc32c::crc32c(&foreign[12..]);
        foreign[8..12].copy_from_slice(&crc.to_le_bytes());
        let mut messages = whole.clone();
        messages[idx] = foreign.into();
        ground.stream.put(first, messages);
        let report = verify(&ground).unwrap();
        assert!(place(&report).1.contains("key did not seal"), "{:?}", report.places);
        assert_eq!(report.outcome.is_ok(), opens, "what is dead does not matter: {:?}", report.outcome);
        ground.kill();
        assert_eq!(ground.open().is_ok(), opens);
    }
}

#[test]
fn what_is_not_ours_and_what_is_missing_is_told() {
    let ground = filled(5);
    ground.kill();
    let (first, whole) = ground.stream.messages();
    let put = |messages: &[bytes::Bytes]| ground.stream.put(first, messages.to_vec());
    // Somebody else's words are not shown.
    let mut messages = whole.clone();
    messages[9] = "temperature 21.5".into();
    put(&messages);
    let (seq, text) = place(&verify(&ground).unwrap());
    assert!(seq == first + 9 && text.contains("without our mark") && !text.contains("21.5"), "{text}");
    // A message from the middle, and the whole of another rack's stream.
    put(&whole);
    ground.stream.delete(first + 9);
    let report = verify(&ground).unwrap();
    assert!(place(&report).1.contains("no message before sequence"), "{report:?}");
    assert!(matches!(report.outcome, Err(StreamOpenError::Damaged { seq: 10, .. })), "{report:?}");
    put(&whole);
    let report = run(verify_stream(ground.disk.process(), ground.stream.other(), [7; 16])).unwrap();
    assert!(matches!(report.outcome, Err(StreamOpenError::ForeignRack { .. })), "{report:?}");
    assert_eq!(report.places.len(), 1, "said once: {:?}", report.places);
    // Another key, none, and nothing.
    let stranger = SimDisk::new(99);
    let error = verify_at(&ground, &stranger).unwrap_err();
    assert!(matches!(error, StreamOpenError::KeyMissing { .. }), "{error}");
    stranger.put("rack.key", vec![9; 32]);
    let report = verify_at(&ground, &stranger).unwrap();
    assert!(matches!(report.outcome, Err(StreamOpenError::KeyWrong { .. })), "{report:?}");
    let error = verify(&Ground::new(6)).unwrap_err();
    assert!(matches!(error, StreamOpenError::Absent { .. }), "{error}");
}

#[test]
fn a_stream_that_was_purged_or_is_gone_is_shorter() {
    let ground = filled(7);
    let empty = Ground { disk: ground.disk.clone(), stream: SimStream::new(1) };
    let error = verify(&empty).unwrap_err();
    assert!(matches!(error, StreamOpenError::Shorter { found: 0, acked_epoch: 12, .. }), "{error}");
    let last = ground.stream.messages().1.len() as u64;
    block_on(ground.stream.other().purge(last + 1)).unwrap();
    let error = verify(&ground).unwrap_err();
    assert!(matches!(error, StreamOpenError::Shorter { found: 0, acked_epoch: 12, .. }), "{error}");
}

/// A rack that is idle for long renews its lease, and neither it nor who follows it keeps a note of each.
#[test]
fn renewals_are_not_kept() {
    let ground = Ground::new(8);
    let (mut storage, ..) = ground.open().unwrap();
    put(&mut storage, 1, 0, 1, b"one");
    for _ in 0..5_000 {
        block_on(storage.renew()).unwrap();
    }
    assert_eq!(storage.above.len(), 1);
    let (rack, key) = (RACK, Arc::clone(&storage.key));
    let mut replay = Replay::new(rack, key, 0, 0);
    for (seq, payload) in (1..).zip(ground.stream.messages().1) {
        replay.message(seq, &payload).unwrap();
        while replay.next_sure().is_some() {}
        assert!(replay.pending_len() <= 4, "{} at {seq}", replay.pending_len());
    }
    // What is acked counts, and one that was not is void, wherever in a row of renewals it ends.
    ground.stream.set_faults(StreamFaults { lost_publish_ppm: 1_000_000, ..StreamFaults::default() });
    drop(block_on(storage.renew()).unwrap_err());
    ground.stream.set_faults(StreamFaults::default());
    replace(&mut storage, 1).unwrap();
    put(&mut storage, 2, 1, 1, b"two");
    let report = verify(&ground).unwrap();
    assert_eq!(report.outcome.unwrap().last_epoch, 2);
    drop(storage);
    ground.kill();
    assert_eq!(epochs(&ground.open().unwrap().2), [(1, 3), (2, 3)]);
}
