//! Series: counted together under one key, bounded in number.

use super::*;

#[test]
fn the_same_series_is_counted_together() {
    let tallies = Tallies::default();
    tallies.tally("connections_closed", "idle").add(2);
    tallies.clone().tally("connections_closed", "idle").add(1);
    tallies.tally("connections_closed", "oversize").add(1);
    let expected = [("connections_closed", "idle".to_owned(), 3), ("connections_closed", "oversize".to_owned(), 1)];
    assert_eq!(tallies.list(), expected);
}

#[test]
fn labels_without_end_do_not_grow_it() {
    let tallies = Tallies::default();
    for label in 0..1_000 {
        tallies.tally("refused", &label.to_string()).add(1);
    }
    let list = tallies.list();
    assert_eq!(list.len(), SERIES_MAX + 1);
    assert_eq!(list.iter().map(|(_, _, count)| count).sum::<u64>(), 1_000);
    assert!(list.iter().any(|(_, label, count)| label == "other" && *count == 744));
}
