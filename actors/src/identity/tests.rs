//! Ids of what is caused: equal for equal causes, different in every component, of version 8.

use std::collections::HashSet;

use super::*;

fn key(seed: u8) -> IdKey {
    let mut bytes = [seed; 16];
    bytes[8..].fill(seed + 1);
    IdKey::new(bytes)
}

const CAUSE: Cause = Cause { input: FluxId([3; 16]), wire: 1, gear: 2 };

/// All different, all version 8, all the same the next time.
fn check(ids: impl Fn() -> Vec<FluxId>) {
    let found = ids();
    let different: HashSet<FluxId> = found.iter().copied().collect();
    assert_eq!(different.len(), found.len(), "{found:?}");
    assert!(found.iter().all(|id| id.version() == 8));
    assert_eq!(found, ids());
}

#[test]
fn every_component_makes_another_id() {
    check(|| {
        vec![
            key(1).derive(CAUSE, 0),
            key(3).derive(CAUSE, 0),
            IdKey::new([1; 16]).derive(CAUSE, 0),
            key(1).derive(CAUSE, 1),
            key(1).derive(CAUSE, u32::MAX),
            key(1).derive(Cause { input: FluxId([4; 16]), ..CAUSE }, 0),
            key(1).derive(Cause { wire: 2, ..CAUSE }, 0),
            // Wire and gear must not stand for each other.
            key(1).derive(Cause { wire: 2, gear: 1, ..CAUSE }, 0),
            key(1).derive(Cause { gear: 3, ..CAUSE }, 0),
        ]
    });
}

#[test]
fn a_timer_is_its_gear_key_and_generation() {
    check(|| {
        vec![
            key(1).timer(1, "t", 1),
            key(1).timer(1, "t", 2),
            key(1).timer(2, "t", 1),
            key(1).timer(1, "u", 1),
            key(1).timer(1, "", 1),
            key(3).timer(1, "t", 1),
        ]
    });
}

#[test]
fn a_replay_is_its_first_id_wire_and_number() {
    check(|| {
        let first = FluxId([3; 16]);
        vec![
            key(1).replay(first, 1, 1),
            key(1).replay(first, 1, 2),
            key(1).replay(first, 2, 1),
            key(1).replay(FluxId([4; 16]), 1, 1),
            key(3).replay(first, 1, 1),
            // Replayed once more, from what a replay made.
            key(1).replay(key(1).replay(first, 1, 1), 1, 1),
        ]
    });
}

#[test]
fn many_emits_of_many_messages_never_meet() {
    let ids: HashSet<FluxId> = (0..100_u8)
        .flat_map(|input| (0..100).map(move |idx| key(1).derive(Cause { input: FluxId([input; 16]), ..CAUSE }, idx)))
        .collect();
    assert_eq!(ids.len(), 10_000);
}

/// Part of what a journal means: after an update of the program a repeat must make the ids of before.
#[test]
fn the_hash_does_not_change_by_itself() {
    let found = [key(1).derive(CAUSE, 5), key(1).timer(2, "t", 3), key(1).replay(CAUSE.input, 1, 4)];
    expect_test::expect![[r#"
        bd579135-d4c6-8363-bd68-6bc69068a5da
        33649cab-a052-8f3d-8fba-cf5a778082b2
        70a52baa-06f5-8e5d-ace1-13b73260257c"#]]
    .assert_eq(&found.map(|id| id.to_string()).join("\n"));
}

#[test]
fn the_key_is_not_printed() {
    assert_eq!(format!("{:?}", key(7)), "IdKey(..)");
}
