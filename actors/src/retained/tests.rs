//! What stays readable after it was handled: by time, by bytes, in order, also when old messages are written again.

use std::time::Duration;

use super::*;
use crate::sample::position;

fn kept(retained: &Retained) -> Vec<u64> {
    retained.all().iter().map(|item| item.seq).collect()
}

/// Adds messages of 10 bytes, one per segment and nanosecond, and says which are kept.
#[track_caller]
fn check(retention: Option<Retention>, seqs: &[u64], expected: &[u64]) {
    let mut retained = Retained::new(retention);
    for &seq in seqs {
        retained.add(seq, position(seq as u32, 0, 10), seq as i64);
    }
    assert_eq!(kept(&retained), expected);
    assert_eq!(retained.oldest(0), expected.first().map(|&seq| seq as u32));
}

#[test]
fn the_newest_bytes_are_kept() {
    check(Some(Retention::Bytes(30)), &[1, 2, 3, 4, 5], &[3, 4, 5]);
    check(Some(Retention::Bytes(39)), &[1, 2, 3, 4, 5], &[3, 4, 5]);
    check(Some(Retention::Bytes(40)), &[1, 2, 3, 4, 5], &[2, 3, 4, 5]);
    check(Some(Retention::Bytes(9)), &[1, 2], &[]);
}

#[test]
fn the_youngest_are_kept() {
    check(Some(Retention::Time(Duration::from_nanos(2))), &[1, 2, 3, 4, 5], &[3, 4, 5]);
    check(Some(Retention::Time(Duration::MAX)), &[1, 2], &[1, 2]);
}

#[test]
fn without_retention_nothing_is_kept() {
    check(None, &[1, 2], &[]);
}

#[test]
fn time_alone_lets_go() {
    let mut retained = Retained::new(Some(Retention::Time(Duration::from_nanos(10))));
    retained.add(1, position(1, 0, 10), 100);
    retained.add(2, position(2, 0, 10), 105);
    assert_eq!(retained.oldest(110), Some(1));
    assert_eq!(retained.oldest(111), Some(2));
    assert_eq!(retained.oldest(116), None);
    // A wall clock that was set back keeps what is there.
    retained.add(3, position(3, 0, 10), 50);
    assert_eq!(retained.oldest(i64::MIN), Some(3));
}

#[test]
fn a_message_written_again_moves_and_keeps_its_time() {
    let mut retained = Retained::new(Some(Retention::Bytes(30)));
    for seq in 1..=3 {
        retained.add(seq, position(1, seq, 10), seq as i64);
    }
    retained.add(2, position(5, 0, 10), 99);
    assert_eq!(kept(&retained), [1, 2, 3]);
    assert_eq!(retained.all()[1], Item { seq: 2, at_ns: 2, position: position(5, 0, 10) });
    assert_eq!(retained.oldest(0), Some(1));
}

/// A message that waits for longer than retention keeps it is carried forward: it must not come back behind younger
/// ones, where it would be out of order and let those that are carried after it be kept twice.
#[test]
fn what_was_let_go_does_not_come_back_when_it_is_carried() {
    let mut retained = Retained::new(Some(Retention::Bytes(20)));
    for seq in 1..=4 {
        retained.add(seq, position(1, seq, 10), seq as i64);
    }
    assert_eq!(kept(&retained), [3, 4]);
    for seq in 1..=4 {
        retained.add(seq, position(2, seq, 10), 10 + seq as i64);
    }
    assert_eq!(kept(&retained), [3, 4]);
    assert_eq!(retained.oldest(0), Some(2));

    let mut retained = Retained::new(Some(Retention::Time(Duration::from_nanos(2))));
    for seq in 1..=4 {
        retained.add(seq, position(1, seq, 10), seq as i64);
    }
    assert_eq!(kept(&retained), [2, 3, 4]);
    retained.add(1, position(2, 1, 10), 4);
    assert_eq!(kept(&retained), [2, 3, 4]);
}

/// A message with sensitive data is kept for replay only once it is handled, as a copy without them: by then younger
/// ones may be kept already.
#[test]
fn one_that_comes_late_takes_its_place() {
    let mut retained = Retained::new(Some(Retention::Bytes(1000)));
    for seq in [2, 4, 1, 3] {
        retained.add(seq, position(1, seq, 10), seq as i64);
    }
    assert_eq!(kept(&retained), [1, 2, 3, 4]);
}

/// A carried copy may be longer or shorter than what was written first.
#[test]
fn bytes_follow_what_is_written_again() {
    let mut retained = Retained::new(Some(Retention::Bytes(30)));
    retained.add(1, position(1, 0, 10), 1);
    retained.add(1, position(2, 0, 25), 2);
    retained.add(2, position(2, 1, 10), 3);
    assert_eq!(kept(&retained), [2]);
    retained.add(3, position(2, 2, 20), 4);
    assert_eq!(kept(&retained), [2, 3]);
    retained.add(4, position(2, 3, 1), 5);
    assert_eq!(kept(&retained), [3, 4]);
}

#[test]
fn a_part_of_it_is_bounded_by_sequences_numbers_and_bytes() {
    let mut retained = Retained::new(Some(Retention::Time(Duration::MAX)));
    assert_eq!(retained.last_seq(), None);
    for seq in [2, 3, 5, 8] {
        retained.add(seq, position(1, seq, 10), seq as i64);
    }
    assert_eq!(retained.last_seq(), Some(8));
    let part = |seqs: std::ops::RangeInclusive<u64>, max, bytes_max| {
        let items = retained.items(&seqs, |item| item.at_ns != 5, max, bytes_max);
        items.iter().map(|item| item.seq).collect::<Vec<_>>()
    };
    assert_eq!(part(0..=u64::MAX, usize::MAX, u64::MAX), [2, 3, 8]);
    assert_eq!(part(3..=7, usize::MAX, u64::MAX), [3]);
    assert_eq!(part(0..=8, 2, u64::MAX), [2, 3]);
    assert_eq!(part(0..=8, usize::MAX, 29), [2, 3]);
    assert_eq!(part(4..=8, usize::MAX, 9), [8], "one that alone is beyond the bound comes alone");
}
