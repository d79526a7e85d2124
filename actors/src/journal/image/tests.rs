//! What a journal amounts to: twice is once, the newest word counts, what is gone stays gone.

use super::super::record::{Birth, GearDelta, Kind, Mark, Placed, WireDelta, encode};
use super::*;
use crate::sample::msg;

const WIRE: u32 = 3;
const GEAR: u32 = 4;

fn birth(seq: u64) -> Birth {
    Birth {
        seq,
        attempts: 0,
        is_taken: false,
        is_passed: false,
        is_retained: false,
        fault: None,
        dead: None,
        body: BirthBody::Msg(msg(seq)),
    }
}

fn wire(births: Vec<Birth>) -> Delta {
    let wires = vec![WireDelta { number: WIRE, births, ..WireDelta::default() }];
    Delta { wires, ..Delta::default() }
}

fn acks(acked: Vec<(u64, u64)>) -> Delta {
    Delta { wires: vec![WireDelta { number: WIRE, acked, ..WireDelta::default() }], ..Delta::default() }
}

fn gear(epoch: u64, timers: Vec<(SmolStr, Option<TimerRecord>)>) -> Delta {
    let gears = vec![GearDelta { number: GEAR, generation: epoch, keys: Vec::new(), timers }];
    Delta { clock: Clock { epoch, ..Clock::default() }, gears, ..Delta::default() }
}

/// The image of these deltas, each in a group and segment of its own, numbered from 1.
fn check(deltas: &[Delta]) -> Image {
    let mut image = Image::default();
    apply(&mut image, 1, deltas);
    image
}

fn apply(image: &mut Image, first: SegmentId, deltas: &[Delta]) {
    for (segment, delta) in (first..).zip(deltas) {
        let mut body = Vec::new();
        encode(delta, &mut body, &mut Placed::new(), &mut |_| Err(())).unwrap();
        image.apply(&body, GroupAt { segment, offset: 0 }).unwrap();
    }
}

fn live(image: &Image) -> Vec<(u64, SegmentId)> {
    image.wires[&WIRE].live.iter().map(|(&seq, live)| (seq, live.position.at.segment)).collect()
}

#[test]
fn a_message_lives_from_its_birth_to_its_ack() {
    let image = check(&[wire(vec![birth(1), birth(2), birth(3)]), acks(vec![(1, 3)])]);
    assert_eq!(live(&image), [(3, 1)]);
}

#[test]
fn a_message_that_is_born_again_only_moves() {
    let mut image = check(&[wire(vec![birth(1), birth(2)])]);
    let again = wire(vec![Birth { attempts: 2, is_taken: true, ..birth(1) }]);
    apply(&mut image, 5, &[again]);
    assert_eq!(live(&image), [(1, 5), (2, 1)]);
    let moved = &image.wires[&WIRE].live[&1];
    assert_eq!((moved.attempts, moved.is_taken), (2, true));
}

#[test]
fn an_ack_of_what_was_never_born_is_nothing() {
    let image = check(&[acks(vec![(1, u64::MAX)]), wire(vec![birth(1)]), acks(vec![(7, 9), (2, 2)])]);
    assert_eq!(live(&image), [(1, 2)]);
}

/// A group that failed is merged into the next file, and may have been durable in the old one as well.
#[test]
fn deltas_that_are_read_twice_in_order_amount_to_the_same() {
    let mark = Mark { seq: 2, attempts: 3, is_taken: true, fault: None };
    let marks = Delta {
        wires: vec![WireDelta { number: WIRE, marks: vec![mark], ..WireDelta::default() }],
        ..Delta::default()
    };
    let deltas = [wire(vec![birth(1), birth(2)]), marks, acks(vec![(1, 2)])];
    let mut image = check(&deltas);
    apply(&mut image, 9, &deltas);
    assert_eq!(live(&image), [(2, 9)]);
    assert_eq!((image.wires[&WIRE].live[&2].attempts, image.wires[&WIRE].live[&2].is_taken), (3, true));
}

#[test]
fn a_mark_of_what_is_gone_is_nothing() {
    let marks = vec![Mark { seq: 1, attempts: 3, is_taken: true, fault: None }];
    let marks = Delta { wires: vec![WireDelta { number: WIRE, marks, ..WireDelta::default() }], ..Delta::default() };
    let image = check(&[wire(vec![birth(1)]), acks(vec![(1, 2)]), marks]);
    assert!(live(&image).is_empty());
}

#[test]
fn sequences_never_go_back() {
    let next = |next_seq| Delta {
        wires: vec![WireDelta { number: WIRE, next_seq, ..WireDelta::default() }],
        ..Delta::default()
    };
    assert_eq!(check(&[next(9), next(4)]).wires[&WIRE].next_seq, 9);
}

#[test]
fn what_passed_is_for_replay_only_and_keeps_its_time() {
    let at = |wall_ns, births| Delta { clock: Clock { wall_ns, ..Clock::default() }, ..wire(births) };
    let passed = || Birth::passed(1, msg(1));
    let kept = || Birth { is_retained: true, ..birth(2) };
    let image = check(&[at(100, vec![passed(), kept()]), at(200, vec![kept()]), acks(vec![(2, 3)])]);
    assert!(live(&image).is_empty());
    let passed: Vec<_> =
        image.wires[&WIRE].passed.values().map(|item| (item.seq, item.at_ns, item.position.at.segment)).collect();
    assert_eq!(passed, [(1, 100, 1), (2, 100, 2)]);
}

#[test]
fn timers_keep_the_clock_they_were_noted_by() {
    let timer = |generation| Some(TimerRecord { generation, left_ns: 50 });
    let image = check(&[
        gear(1, vec![("a".into(), timer(1)), ("b".into(), timer(2)), ("c".into(), timer(3))]),
        gear(2, vec![("b".into(), timer(4)), ("c".into(), None)]),
        gear(1, vec![]),
    ]);
    let gear = &image.gears[&GEAR];
    let timers: Vec<_> = gear
        .timers
        .iter()
        .map(|(key, (timer, clock, segment))| (key.as_str(), timer.generation, clock.epoch, *segment))
        .collect();
    assert_eq!(timers, [("a", 1, 1, 1), ("b", 4, 2, 2)]);
    assert_eq!((gear.generation, image.epoch), (2, 2), "neither goes back");
}

#[test]
fn keys_are_put_and_removed() {
    let keys = |keys: Vec<(SmolStr, Option<Value>)>| Delta {
        gears: vec![GearDelta { number: GEAR, generation: 0, keys, timers: Vec::new() }],
        ..Delta::default()
    };
    let image = check(&[
        keys(vec![("a".into(), Some(1_u64.into())), ("b".into(), Some(2_u64.into()))]),
        keys(vec![("a".into(), None), ("b".into(), Some(3_u64.into())), ("none".into(), None)]),
    ]);
    let found: Vec<_> = image.gears[&GEAR].keys.iter().collect();
    assert_eq!(found, [(&SmolStr::from("b"), &(Value::from(3_u64), 2))]);
}

#[test]
fn names_stand_for_their_numbers_and_move_when_carried() {
    let name = |number, name: &str| NameRecord {
        number,
        kind: Kind::Wire,
        scenario: "s".into(),
        name: name.into(),
        variant: "0/1".into(),
        incarnation: 7,
    };
    let names = |names| Delta { names, ..Delta::default() };
    let image = check(&[names(vec![name(1, "a"), name(2, "b")]), names(vec![name(1, "a")])]);
    assert_eq!(image.names[&1], (name(1, "a"), 2));
    assert_eq!(image.names[&2], (name(2, "b"), 1));
}

#[test]
fn the_last_count_of_unclean_starts_counts() {
    let starts = |unclean_starts| Delta { unclean_starts, ..Delta::default() };
    assert_eq!(check(&[starts(Some(2)), starts(None)]).unclean_starts, 2);
    assert_eq!(check(&[starts(Some(2)), starts(Some(0))]).unclean_starts, 0);
}

#[test]
fn what_owns_something_has_a_name() {
    let name = NameRecord {
        number: WIRE,
        kind: Kind::Wire,
        scenario: "s".into(),
        name: "a.out->b.in".into(),
        variant: "".into(),
        incarnation: 1,
    };
    let named = Delta { names: vec![name], ..Delta::default() };
    let timer = TimerRecord { generation: 1, left_ns: 5 };
    assert_eq!(check(&[wire(vec![birth(1)])]).nameless(), Some(WIRE));
    assert_eq!(check(&[named.clone(), wire(vec![birth(1)])]).nameless(), None);
    assert_eq!(check(&[wire(vec![birth(1)]), acks(vec![(1, 2)])]).nameless(), None, "nothing is left that needs one");
    assert_eq!(check(&[named, gear(1, vec![("t".into(), Some(timer))])]).nameless(), Some(GEAR));
}
