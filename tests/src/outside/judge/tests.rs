//! The judge notices each wrong that a rack could do, and nothing else.

use super::*;

const KEY: Key = Key { feeder: 1, run: 1 };

fn line(number: u64) -> Numbered {
    Numbered { key: KEY, number }
}

fn written(number: u64, is_repeat: bool) -> FileLine {
    FileLine { line: line(number), id: format!("id{number}"), is_repeat }
}

/// Three lines, acknowledged and everywhere.
fn right() -> Evidence {
    let sent = Sent { base: 0, sent: 3, acked: 3, is_over: true };
    Evidence {
        sent: BTreeMap::from([(KEY, sent)]),
        file: (1..=3).map(|number| written(number, false)).collect(),
        ledger: (1..=3).map(line).collect(),
        doubts: HashSet::new(),
    }
}

/// The counts ok, lost, unknown, duplicate, reordered, foreign after a change.
fn counts(change: impl FnOnce(&mut Evidence)) -> [u64; 6] {
    let mut evidence = right();
    change(&mut evidence);
    let tally = evidence.judge();
    [tally.ok, tally.lost, tally.unknown, tally.duplicate, tally.reordered, tally.foreign]
}

#[test]
fn what_is_right_is_clean() {
    assert_eq!(counts(|_| ()), [3, 0, 0, 0, 0, 0]);
    assert!(right().judge().is_clean());
    // Not acknowledged, and not there: nothing was promised.
    assert_eq!(counts(|evidence| evidence.sent.get_mut(&KEY).unwrap().sent = 9), [3, 0, 0, 0, 0, 0]);
    assert_eq!(counts(|evidence| evidence.file.push(written(2, true))), [3, 0, 0, 0, 0, 0]);
    assert_eq!(
        counts(|evidence| {
            evidence.ledger.remove(1);
            evidence.doubts.insert("id2".to_owned());
        }),
        [2, 0, 1, 0, 0, 0]
    );
}

#[test]
fn what_is_missing_is_lost() {
    assert_eq!(counts(|evidence| drop(evidence.file.remove(1))), [2, 1, 0, 0, 0, 0]);
    assert_eq!(counts(|evidence| evidence.ledger.truncate(2)), [2, 1, 0, 0, 0, 0]);
    // Nobody was told of the second line, but the third one is there.
    let gap = |evidence: &mut Evidence| {
        evidence.sent.get_mut(&KEY).unwrap().acked = 1;
        evidence.file.remove(1);
        evidence.ledger.remove(1);
    };
    assert_eq!(counts(gap), [2, 1, 0, 0, 0, 0]);
    let waits = |evidence: &mut Evidence| {
        *evidence.sent.get_mut(&KEY).unwrap() = Sent { base: 0, sent: 4, acked: 3, is_over: false };
    };
    assert_eq!(counts(waits), [3, 1, 0, 0, 0, 0]);
}

#[test]
fn what_is_there_twice_is_a_duplicate() {
    assert_eq!(counts(|evidence| evidence.file.push(written(2, false))), [3, 0, 0, 1, 0, 0]);
    assert_eq!(counts(|evidence| evidence.ledger.push(line(2))), [3, 0, 0, 1, 0, 0]);
    // It was judged before.
    let judged = |evidence: &mut Evidence| evidence.sent.get_mut(&KEY).unwrap().base = 1;
    assert_eq!(counts(judged), [2, 0, 0, 2, 0, 0]);
}

#[test]
fn what_comes_too_early_is_reordered() {
    assert_eq!(counts(|evidence| evidence.ledger.swap(0, 1)), [3, 0, 0, 0, 1, 0]);
    assert_eq!(counts(|evidence| evidence.file.swap(0, 2)), [3, 0, 0, 0, 2, 0]);
}

#[test]
fn what_nobody_sent_is_foreign() {
    assert_eq!(counts(|evidence| evidence.ledger.push(line(4)))[5], 1);
    let other = Numbered { key: Key { feeder: 7, run: 7 }, number: 1 };
    assert_eq!(counts(|evidence| evidence.ledger.push(other)), [3, 0, 0, 0, 0, 1]);
}

#[test]
fn lines_are_read_as_written_and_not_when_cut_short() {
    let text = line(17).to_string();
    assert_eq!(Numbered::parse(&text), Some(line(17)));
    for cut in 0..text.len() {
        assert_eq!(Numbered::parse(&text[..cut]), None);
    }
}
