//! Time between a cut and now, over boots with wall clocks that were set.

use super::*;

fn at(boot_id: u64, boot_ns: u64, wall_ns: i64) -> Clock {
    Clock { epoch: 0, wall_ns, boot_id, boot_ns }
}

#[track_caller]
fn check(cuts: &[Clock], now: Clock, expected_ns: u64) {
    let mut boots = Boots::default();
    cuts.iter().chain(cuts).for_each(|cut| boots.note(*cut));
    assert_eq!(boots.passed_ns(&cuts[0], &now), expected_ns);
}

#[test]
fn within_a_boot_nothing_that_was_done_to_the_wall_clock_counts() {
    check(&[at(1, 500, 10_000)], at(1, 700, i64::MAX), 200);
    check(&[at(1, 500, 10_000), at(1, 600, 99_000)], at(1, 700, 0), 200);
}

#[test]
fn the_wall_clock_counts_from_the_last_cut_of_a_boot_to_the_first_of_the_next() {
    // Set ahead by 90,000 between two cuts of the first boot.
    let cuts = [at(1, 500, 10_000), at(1, 600, 100_100)];
    check(&cuts, at(2, 5, 100_150), 100 + 50);
    check(&cuts, at(2, 5, 90_000), 100);
    // A boot in between, in which it was set back.
    let cuts = [cuts[0], cuts[1], at(2, 5, 100_150), at(2, 30, 20)];
    check(&cuts, at(3, 1, 27), 100 + 50 + 25 + 7);
    // A later process of that boot.
    check(&cuts, at(2, 40, i64::MAX), 100 + 50 + 35);
}
