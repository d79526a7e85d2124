//! Backoff, routing by key, and how strong the lanes are.

use fluxrig_protocol::Value;

use super::*;
use crate::sample::{self, msg};

#[test]
fn the_wait_doubles_up_to_its_maximum() {
    let redelivery = Redelivery::default();
    let waits = |redelivery: &Redelivery, attempts: &[u32]| -> Vec<u128> {
        attempts.iter().map(|&attempts| redelivery.wait(attempts).as_millis()).collect()
    };
    assert_eq!(
        waits(&redelivery, &[0, 1, 2, 3, 4, 7, 8, 9, u32::MAX]),
        [100, 100, 200, 400, 800, 6_400, 10_000, 10_000, 10_000]
    );
    let without_end = Redelivery { first: Duration::MAX, max: Duration::MAX, ..redelivery };
    assert_eq!(without_end.wait(u32::MAX), Duration::MAX);
    let none = Redelivery { first: Duration::ZERO, ..redelivery };
    assert_eq!(none.wait(9), Duration::ZERO);
}

fn wire(partitions: u32) -> Wire {
    let options = WireOptions {
        partitions: NonZeroU32::new(partitions).unwrap(),
        partition_by: Some("card.pan".parse().unwrap()),
        ..WireOptions::default()
    };
    let queues = (0..partitions as usize).map(|idx| Arc::new(sample::queue(QueueSpec { idx, ..sample::spec() })));
    Wire { name: "a.out->b.in".into(), options, queues: queues.collect(), replay_door: OnceLock::new() }
}

/// The partition that a message with this key goes to.
fn check(wire: &Wire, key: impl Into<Value>) -> usize {
    let mut msg = msg(1);
    msg.data.set(&"card.pan".parse().unwrap(), key).unwrap();
    wire.route(&msg).spec.idx
}

/// Part of what a journal means: a key must find its messages and its state again, also after an update.
#[test]
fn a_key_has_its_partition_for_good() {
    let wire = wire(8);
    let texts = ["", "a", "4111111111111111", "5500000000000004", "340000000000009", "München"];
    let by_text: Vec<usize> = texts.iter().map(|&key| check(&wire, key)).collect();
    let by_number: Vec<usize> = [0_u64, 1, 2, 3, u64::MAX].iter().map(|&key| check(&wire, key)).collect();
    let by_kind =
        [check(&wire, -1_i64), check(&wire, 1.5), check(&wire, true), check(&wire, &b"a"[..]), check(&wire, "1")];
    expect_test::expect!["[3, 7, 1, 7, 5, 4] [1, 0, 6, 4, 0] [7, 0, 0, 2, 5]"]
        .assert_eq(&format!("{by_text:?} {by_number:?} {by_kind:?}"));
}

#[test]
fn equal_keys_share_a_partition_and_all_are_used() {
    let wire = wire(5);
    let mut counts = [0; 5];
    for key in 0..1_000_u64 {
        let partition = check(&wire, key);
        assert_eq!(partition, check(&wire, key));
        counts[partition] += 1;
    }
    assert!(counts.iter().all(|&count| count > 120), "{counts:?}");
}

#[test]
fn messages_without_the_key_share_the_first() {
    assert_eq!(wire(8).route(&msg(3)).spec.idx, 0);
    assert_eq!(check(&wire(1), "anything"), 0);
}

#[test]
fn the_strongest_lane_is_the_one_that_survives_most() {
    assert!(Lane::Turbo < Lane::Os && Lane::Os < Lane::Flush);
    assert_eq!([Lane::Turbo, Lane::Os, Lane::Flush].map(Lane::is_standard), [false, true, true]);
    assert_eq!(Lane::default(), Lane::Flush);
}
