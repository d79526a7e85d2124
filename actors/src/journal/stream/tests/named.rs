//! One case for each rule of HEART §10 and for each thing that a stream may have become.

use super::*;
use crate::journal::stream::format::{self, HEADER_BYTES};

fn lost_acks() -> StreamFaults {
    StreamFaults { lost_ack_ppm: 1_000_000, ..StreamFaults::default() }
}

#[test]
fn groups_come_back_in_order_whatever_their_size() {
    let ground = Ground::new(1);
    ground.stream.set_payload_bytes_max(1000);
    let (mut storage, recovery, _) = ground.open().unwrap();
    assert_eq!((recovery.last_epoch, recovery.oldest), (0, 0));
    let mut places = Vec::new();
    let sizes = [0, 1, 767, 768, 769, 871, 872, 873, 5_000, 40_000];
    for (epoch, bytes) in (1..).zip(sizes) {
        places.push(put(&mut storage, epoch, epoch - 1, 1, &vec![epoch as u8; bytes]));
    }
    let reader = storage.reader();
    for ((epoch, bytes), at) in (1..).zip(sizes).zip(&places) {
        assert_eq!(reader.read(*at).unwrap(), vec![epoch as u8; bytes], "epoch {epoch}");
    }
    drop(storage);
    ground.kill();
    let (storage, recovery, seen) = ground.open().unwrap();
    assert_eq!(epochs(&seen), (1..).zip(sizes).collect::<Vec<_>>());
    assert_eq!((recovery.last_epoch, recovery.proven_epoch, recovery.oldest), (10, 10, 1));
    for (group, at) in seen.iter().zip(&places) {
        assert_eq!((group.at, &storage.reader().read(*at).unwrap()), (*at, &group.body));
    }
    let sent: Vec<_> = ground.stream.messages().1;
    assert!(sent.iter().all(|payload| payload.len() <= 1000));
    assert!(!sent.iter().any(|payload| payload.windows(40).any(|bytes| bytes == [10; 40])), "bodies are sealed");
}

#[test]
fn an_ack_that_is_lost_is_found_with_the_leader() {
    let ground = Ground::new(2);
    let (mut storage, ..) = ground.open().unwrap();
    ground.stream.set_faults(lost_acks());
    put(&mut storage, 1, 0, 1, b"one");
    ground.stream.set_faults(StreamFaults { doubled_ppm: 1_000_000, ..StreamFaults::default() });
    put(&mut storage, 2, 1, 1, b"two");
    ground.stream.set_faults(StreamFaults::default());
    put(&mut storage, 3, 2, 1, b"three");
    assert_eq!(ground.stream.fired().lost_acks, 1);
    assert_eq!(ground.stream.messages().1.len(), 4, "the record of the term and three groups, none of them twice");
    drop(storage);
    ground.kill();
    assert_eq!(epochs(&ground.open().unwrap().2), [(1, 3), (2, 3), (3, 5)]);
}

#[test]
fn a_server_that_is_gone_is_waited_for_with_a_new_segment() {
    let ground = Ground::new(3);
    let (mut storage, ..) = ground.open().unwrap();
    let first = put(&mut storage, 1, 0, 1, b"one");
    ground.stream.set_down(true);
    assert!(matches!(try_put(&mut storage, 2, 1, b"two"), Err(StorageError::Unreachable { .. })));
    assert!(matches!(try_put(&mut storage, 2, 1, b"two"), Err(StorageError::Final { .. })));
    assert!(matches!(replace(&mut storage, 1), Err(StorageError::Unreachable { .. })));
    ground.stream.set_down(false);
    replace(&mut storage, 1).unwrap();
    let merged = put(&mut storage, 2, 1, 1, b"two, merged");
    assert!(merged.segment > first.segment);
    drop(storage);
    ground.kill();
    assert_eq!(epochs(&ground.open().unwrap().2), [(1, 3), (2, 11)]);
}

/// The given-up group is stored after all, and void.
#[test]
fn what_was_given_up_and_stored_is_void() {
    let ground = Ground::new(4);
    let (mut storage, ..) = ground.open().unwrap();
    put(&mut storage, 1, 0, 1, b"one");
    put(&mut storage, 2, 1, 1, b"two");
    let given_up = put(&mut storage, 3, 1, 1, b"three");
    replace(&mut storage, 2).unwrap();
    assert!(matches!(storage.reader().read(given_up), Err(StorageError::Void { .. })));
    put(&mut storage, 3, 2, 1, b"three again");
    drop(storage);
    ground.kill();
    let (_, recovery, seen) = ground.open().unwrap();
    assert_eq!(epochs(&seen), [(1, 3), (2, 3), (3, 11)]);
    assert!(recovery.unused.iter().any(|unused| unused.why.starts_with("void")), "{recovery:?}");
}

/// A group of five messages of which three arrived, and a new term behind them.
#[test]
fn a_group_that_was_not_completed_in_its_term_is_skipped() {
    let ground = Ground::new(5);
    ground.stream.set_payload_bytes_max(500);
    let (mut storage, ..) = ground.open().unwrap();
    put(&mut storage, 1, 0, 1, b"one");
    let before = ground.stream.messages().1.len();
    put(&mut storage, 2, 1, 1, &[2; 1800]);
    let (first, mut messages) = ground.stream.messages();
    assert_eq!(messages.len() - before, 5);
    drop(storage);
    ground.kill();
    messages.truncate(before + 3);
    ground.stream.put(first, messages);
    // It was acked in this made-up past, so the mark would accuse the stream.
    ground.disk.take("stream.mark");
    let (mut storage, recovery, seen) = ground.open().unwrap();
    assert_eq!(epochs(&seen), [(1, 3)]);
    assert_eq!(recovery.unused.len(), 3);
    put(&mut storage, 2, 1, 1, b"two");
    drop(storage);
    ground.kill();
    assert_eq!(epochs(&ground.open().unwrap().2), [(1, 3), (2, 3)]);
}

#[test]
fn a_second_writer_fences_the_first() {
    let ground = Ground::new(6);
    let (mut first, ..) = ground.open().unwrap();
    put(&mut first, 1, 0, 1, b"one");
    let other = ground.second();
    let (mut second, _, seen) = other.open_second().unwrap();
    assert_eq!(epochs(&seen), [(1, 3)]);
    let error = try_put(&mut first, 2, 1, b"two").unwrap_err();
    assert!(error.is_fenced(), "{error}");
    assert!(replace(&mut first, 1).unwrap_err().is_fenced(), "for good");
    put(&mut second, 2, 1, 1, b"two of the second");
    assert!(replace(&mut first, 1).unwrap_err().is_fenced(), "for good");
    drop((first, second));
    ground.kill();
    assert_eq!(epochs(&ground.open().unwrap().2), [(1, 3), (2, 17)]);
}

/// The end of the first writer's group arrives behind the second's record, and hides it from nobody.
#[test]
fn the_end_of_an_abandoned_group_does_not_hide_the_record_that_fences() {
    let ground = Ground::new(7);
    ground.stream.set_payload_bytes_max(500);
    let (mut first, ..) = ground.open().unwrap();
    put(&mut first, 1, 0, 1, b"one");
    let tail = first.tail.seq;
    let mut ahead = first.me;
    ahead.term += 0;
    // Its group of two messages: the first is lost, the second is late.
    let header = Header {
        begins: false,
        is_empty: false,
        rack: RACK,
        segment: 1,
        oldest: 1,
        epoch: 2,
        term: ahead.term,
        flushed: 1,
        before: first.above.back().unwrap_or(&first.base).hash,
        part: 0,
        parts: 2,
        body_bytes: 600,
        lease_ms: 0,
        writer: ahead.writer,
        first: tail + 1,
    };
    let sealed = format::seal(&header, &Under::Key(&first.writing.as_ref().unwrap().key), &[2; 600], 500);
    let other = ground.second();
    let (mut second, ..) = other.open_second().unwrap();
    let late = block_on(ground.stream.process().append(sealed.parts[1].clone(), tail + 1));
    assert_eq!(late, Outcome::Stored(tail + 2));
    assert!(try_put(&mut first, 2, 1, &[2; 600]).unwrap_err().is_fenced());
    // The second one finds something before it and begins another segment.
    assert!(matches!(try_put(&mut second, 2, 1, b"two"), Err(StorageError::Unreachable { .. })));
    replace(&mut second, 1).unwrap();
    put(&mut second, 2, 1, 1, b"two");
    drop((first, second));
    ground.kill();
    assert_eq!(epochs(&ground.open().unwrap().2), [(1, 3), (2, 3)]);
}

#[test]
fn a_lost_end_stops_until_it_is_back() {
    let ground = Ground::new(8);
    let (mut storage, ..) = ground.open().unwrap();
    for epoch in 1..=4 {
        put(&mut storage, epoch, epoch - 1, 1, b"body");
    }
    let (first, whole) = ground.stream.messages();
    ground.stream.rewind(2);
    for _ in 0..2 {
        let error = try_put(&mut storage, 5, 4, b"five").unwrap_err();
        assert!(
            matches!(error, StorageError::Rewound { found: 3, acked: 5, .. } | StorageError::Final { .. }),
            "{error}"
        );
    }
    assert!(matches!(replace(&mut storage, 4), Err(StorageError::Rewound { found: 3, acked: 5, .. })));
    ground.stream.put(first, whole);
    replace(&mut storage, 4).unwrap();
    put(&mut storage, 5, 4, 1, b"five");
    // While this rack is down, its directory remembers.
    drop(storage);
    ground.kill();
    ground.stream.rewind(1);
    let error = ground.open().map(drop).unwrap_err();
    assert!(matches!(error, StreamOpenError::Shorter { found_epoch: 4, acked_epoch: 5, .. }), "{error}");
    let accepting = StreamOptions { accept_lost_tail: true, ..options() };
    ground.kill();
    let (mut storage, _, seen) = open_with(ground.disk.process(), ground.stream.process(), accepting).unwrap();
    assert_eq!(seen.last().unwrap().epoch, 4);
    put(&mut storage, 5, 4, 1, b"five");
    drop(storage);
    ground.kill();
    assert_eq!(ground.open().unwrap().1.last_epoch, 5, "once accepted, it is as it is");
}

#[test]
fn a_purged_stream_is_not_begun_anew() {
    let ground = Ground::new(9);
    let (mut storage, ..) = ground.open().unwrap();
    put(&mut storage, 1, 0, 1, b"one");
    block_on(ground.stream.other().purge(3)).unwrap();
    drop(storage);
    ground.kill();
    assert!(matches!(ground.open(), Err(StreamOpenError::Shorter { acked: 2, .. })));
    ground.disk.take("stream.mark");
    ground.kill();
    assert!(matches!(ground.open(), Err(StreamOpenError::Shorter { acked: 2, .. })), "without the mark, too");
}

#[test]
fn full_is_told_and_ends_when_there_is_room() {
    let ground = Ground::new(10);
    let (mut storage, ..) = ground.open().unwrap();
    put(&mut storage, 1, 0, 1, b"one");
    ground.stream.set_capacity(Some(ground.stream.used() + 500));
    let error = try_put(&mut storage, 2, 1, &[2; 3000]).unwrap_err();
    assert!(error.is_full(), "{error}");
    assert!(replace(&mut storage, 1).unwrap_err().is_full());
    ground.stream.set_capacity(None);
    replace(&mut storage, 1).unwrap();
    put(&mut storage, 2, 1, 1, &[2; 3000]);
    assert_eq!(storage.usage().segments, 2, "nothing of the one without room was stored");
}

#[test]
fn segments_are_purged_and_what_is_older_is_not_missed() {
    let ground = Ground::new(11);
    let (mut storage, ..) = ground.open().unwrap();
    let mut places = Vec::new();
    for epoch in 1..=12u64 {
        let oldest = if epoch > 10 { 2 } else { 1 };
        places.push(put(&mut storage, epoch, epoch - 1, oldest, &vec![epoch as u8; 16_000]));
    }
    assert!(places[11].segment >= 3, "{places:?}");
    assert!(matches!(storage.trim(3), Err(StorageError::Order { .. })), "nothing durable names it");
    assert_eq!(storage.trim(2).unwrap(), 1);
    assert!(matches!(storage.reader().read(places[0]), Err(StorageError::Gone { .. })));
    let (first_seq, _) = ground.stream.messages();
    let first_of_two = places.iter().find(|at| at.segment == 2).unwrap().offset;
    assert_eq!(first_seq, first_of_two);
    assert_eq!(storage.usage().oldest, 2);
    drop(storage);
    ground.kill();
    let (_, recovery, seen) = ground.open().unwrap();
    assert_eq!((recovery.oldest, seen[0].at.offset, seen.last().unwrap().epoch), (2, first_of_two, 12));
    // Somebody else purges more.
    block_on(ground.stream.other().purge(first_of_two + 1)).unwrap();
    ground.kill();
    let error = ground.open().map(drop).unwrap_err();
    assert!(matches!(error, StreamOpenError::Damaged { .. }), "{error}");
}

#[test]
fn damage_is_named_and_changes_nothing() {
    let ground = Ground::new(12);
    let (mut storage, ..) = ground.open().unwrap();
    for epoch in 1..=5u64 {
        put(&mut storage, epoch, epoch - 1, 1, b"body");
    }
    drop(storage);
    ground.kill();
    let (first, whole) = ground.stream.messages();
    let refused = |messages: Vec<bytes::Bytes>| {
        ground.stream.put(first, messages.clone());
        ground.kill();
        let error = ground.open().map(drop).unwrap_err();
        assert_eq!(ground.stream.messages().1, messages, "nothing was written");
        error.to_string()
    };
    for idx in 1..whole.len() {
        for offset in [0, 4, 8, 12, 40, 100, HEADER_BYTES, HEADER_BYTES + 5] {
            let mut flipped = whole[idx].to_vec();
            flipped[offset] ^= 0x40;
            let mut messages = whole.clone();
            messages[idx] = flipped.into();
            let text = refused(messages);
            assert!(text.contains(&format!("sequence {}", first + idx as u64)), "{idx}+{offset}: {text}");
        }
        // A message of somebody else, and one that was there before.
        let mut messages = whole.clone();
        messages[idx] = "temperature 21.5".into();
        let text = refused(messages);
        assert!(text.contains("without our mark") && !text.contains("21.5"), "{text}");
        if idx > 1 {
            let mut messages = whole.clone();
            messages[idx] = whole[idx - 1].clone();
            refused(messages);
        }
    }
    ground.stream.put(first, whole);
    ground.kill();
    assert_eq!(ground.open().unwrap().2.len(), 5);
}

#[test]
fn the_directory_is_one_rack_s_and_one_journal_s() {
    let ground = Ground::new(13);
    let (mut storage, ..) = ground.open().unwrap();
    put(&mut storage, 1, 0, 1, b"one");
    let held = ground.open().map(drop).unwrap_err();
    assert!(matches!(held, StreamOpenError::Directory(OpenError::Locked { .. })), "{held}");
    drop(storage);
    ground.kill();
    let other = StreamOptions { rack: [9; 16], ..options() };
    let error = open_with(ground.disk.process(), ground.stream.process(), other).map(drop).unwrap_err();
    assert!(matches!(error, StreamOpenError::ForeignRack { .. }), "{error}");
    ground.kill();
    let files = crate::journal::OpenOptions { rack: RACK, ..crate::journal::OpenOptions::default() };
    let error = crate::journal::open(ground.disk.process(), files, &mut |_| Ok(())).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::OnStream { .. }), "{error}");
    // Without the key, with another one, and with segments beside it.
    let stranger = SimDisk::new(1);
    let error = open_with(stranger.process(), ground.stream.other(), options()).map(drop).unwrap_err();
    assert!(matches!(error, StreamOpenError::KeyMissing { .. }), "{error}");
    stranger.put("rack.key", vec![7; 32]);
    stranger.kill();
    let error = open_with(stranger.process(), ground.stream.other(), options()).map(drop).unwrap_err();
    assert!(matches!(error, StreamOpenError::KeyWrong { .. }), "{error}");
    stranger.put("00000001.seg", vec![0; 10]);
    stranger.kill();
    let error = open_with(stranger.process(), ground.stream.other(), options()).map(drop).unwrap_err();
    assert!(matches!(error, StreamOpenError::OnFiles { .. }), "{error}");
}

#[test]
fn a_newer_format_is_left_alone() {
    let ground = Ground::new(14);
    let (mut storage, ..) = ground.open().unwrap();
    put(&mut storage, 1, 0, 1, b"one");
    let (first, mut messages) = ground.stream.messages();
    let mut newer = messages.pop().unwrap().to_vec();
    newer[4] = 2;
    messages.push(newer.into());
    ground.stream.put(first, messages);
    drop(storage);
    ground.kill();
    let error = ground.open().map(drop).unwrap_err();
    assert!(matches!(error, StreamOpenError::NewerFormat { found: 2, expected: 1, .. }), "{error}");
}

#[test]
fn whoever_is_behind_the_leader_is_asked_again() {
    let ground = Ground::new(15);
    let (mut storage, ..) = ground.open().unwrap();
    for epoch in 1..=30u64 {
        put(&mut storage, epoch, epoch - 1, 1, b"body");
    }
    drop(storage);
    ground.kill();
    ground.stream.set_faults(StreamFaults { stale_ppm: 700_000, ..StreamFaults::default() });
    assert_eq!(ground.open().unwrap().2.len(), 30);
    assert!(ground.stream.fired().stale > 0);
}
