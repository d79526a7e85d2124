//! What a start makes of an image: numbers that stay, entries that come back, timers with what is left of them.

use expect_test::expect;
use fluxrig_protocol::Value;

use super::*;
use crate::clock::SimWorld;
use crate::journal::GroupAt;
use crate::journal::disk::sim::SimDisk;
use crate::journal::stream::sim::SimStream;
use crate::sample::{msg, position};

/// A world that stands still.
#[derive(Clone, Copy, Debug)]
struct Still {
    wall_ns: i64,
    boot_id: u64,
    boot_ns: u64,
}

impl World for Still {
    fn wall_ns(&self) -> i64 {
        self.wall_ns
    }

    fn boot_ns(&self) -> u64 {
        self.boot_ns
    }

    fn boot_id(&self) -> u64 {
        self.boot_id
    }

    fn random(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

/// When the timers were noted.
const NOTED: Still = Still { wall_ns: 10_000, boot_id: 1, boot_ns: 500 };
const GEAR: u32 = 4;
const LEFT_NS: u64 = 1_000;

fn apply(image: &mut Image, segment: SegmentId, delta: &Delta) {
    let mut body = Vec::new();
    encode(delta, &mut body, &mut Placed::new(), &mut |_| Err(())).unwrap();
    image.apply(&body, GroupAt { segment, offset: 0 }).unwrap();
}

/// What is left at a restart of a timer that had 1,000 ns when it was noted.
#[track_caller]
fn check(now: Still, expected_ns: u64) {
    let timers = vec![("t".into(), Some(TimerRecord { generation: 3, left_ns: LEFT_NS }))];
    let gears = vec![GearDelta { number: GEAR, generation: 3, keys: Vec::new(), timers }];
    let mut image = Image::default();
    apply(&mut image, 2, &Delta { clock: Clock::now(&NOTED, 9), gears, ..Delta::default() });
    let found = timers_of(&image, &now);
    assert_eq!(found, [("t".to_owned(), 3, expected_ns, 2)]);
}

fn timers_of(image: &Image, now: &Still) -> Vec<(String, u64, u64, SegmentId)> {
    let found = timers(image, GEAR, now);
    found.into_iter().map(|timer| (timer.key.to_string(), timer.generation, timer.due_ns, timer.home)).collect()
}

#[test]
fn within_one_boot_the_boot_clock_counts() {
    check(NOTED, LEFT_NS);
    check(Still { boot_ns: 700, ..NOTED }, 800);
    check(Still { boot_ns: 1_500, ..NOTED }, 0);
    check(Still { boot_ns: 999_999, ..NOTED }, 0);
    // Whatever was done to the wall clock meanwhile.
    check(Still { boot_ns: 700, wall_ns: 0, ..NOTED }, 800);
    check(Still { boot_ns: 700, wall_ns: i64::MAX, ..NOTED }, 800);
    check(Still { boot_ns: 0, ..NOTED }, LEFT_NS);
}

#[test]
fn across_boots_the_wall_clock_counts() {
    let reboot = Still { boot_id: 2, boot_ns: 3, ..NOTED };
    check(reboot, LEFT_NS);
    check(Still { wall_ns: 10_400, ..reboot }, 600);
    check(Still { wall_ns: 11_000, ..reboot }, 0);
    check(Still { wall_ns: i64::MAX, ..reboot }, 0);
    // Set back, it makes no timer longer than it was.
    check(Still { wall_ns: 9_000, ..reboot }, LEFT_NS);
    check(Still { wall_ns: i64::MIN, ..reboot }, LEFT_NS);
}

#[test]
fn a_gear_without_memory_has_no_timers() {
    assert!(timers_of(&Image::default(), &NOTED).is_empty());
}

fn numbers(image: &Image) -> Numbers {
    Numbers::new(&"plant".into(), image)
}

/// Takes what a first start makes into an image, as its first delta does.
fn started(image: &mut Image, names: &[(Kind, &str, &str)]) -> Vec<u32> {
    let mut numbers = numbers(image);
    let found = names.iter().map(|(kind, name, variant)| numbers.of(*kind, name, variant, &NOTED).number).collect();
    apply(image, 1, &Delta { names: numbers.new, ..Delta::default() });
    found
}

#[test]
fn a_name_keeps_its_number_and_a_number_is_never_used_again() {
    let mut image = Image::default();
    let (wire, gear) = ((Kind::Wire, "a->b", "0/1"), (Kind::Gear, "a", "scale 0/1"));
    assert_eq!(started(&mut image, &[wire, gear]), [1, 2]);
    // Another order, one in between: attached to nothing else.
    assert_eq!(started(&mut image, &[(Kind::Gear, "new", "scale 0/1"), gear, wire]), [3, 2, 1]);
    // Another type, partition or kind is another thing.
    let others = [(Kind::Gear, "a", "clip 0/1"), (Kind::Gear, "a", "scale 0/2"), (Kind::Wire, "a", "scale 0/1")];
    assert_eq!(started(&mut image, &others), [4, 5, 6]);
    // What is left out for a while finds its number again; a new one gets none of before.
    assert!(started(&mut image, &[]).is_empty());
    assert_eq!(started(&mut image, &[(Kind::Wire, "c->d", "0/1"), wire]), [7, 1]);
    // Another scenario of the same rack shares nothing.
    let mut other = Numbers::new(&"other".into(), &image);
    assert_eq!(other.of(Kind::Wire, "a->b", "0/1", &NOTED).number, 8);
    let incarnation = u64::from_le_bytes([7; 8]);
    assert_eq!(numbers(&image).of(Kind::Wire, "a->b", "0/1", &NOTED).incarnation, incarnation);
}

/// An image with two messages on a wire, two keys and a timer of a gear.
fn image() -> Image {
    let mut image = Image::default();
    started(&mut image, &[(Kind::Wire, "a->b", "0/1"), (Kind::Gear, "b", "sum 0/1"), (Kind::Gear, "idle", "sum 0/1")]);
    let births =
        [1, 2].map(|seq| crate::journal::Birth { is_passed: false, ..crate::journal::Birth::passed(seq, msg(seq)) });
    let wires = vec![WireDelta { number: 1, next_seq: 6, births: births.into(), ..WireDelta::default() }];
    let keys = vec![("k".into(), Some(Value::from(1_u64))), ("l".into(), Some(Value::from(2_u64)))];
    let timers = vec![("t".into(), Some(TimerRecord { generation: 3, left_ns: LEFT_NS }))];
    let gears = vec![GearDelta { number: 2, generation: 3, keys, timers }];
    apply(&mut image, 2, &Delta { wires, gears, ..Delta::default() });
    image
}

#[test]
fn orphans_are_refused_by_name() {
    let image = image();
    let mut numbers = numbers(&image);
    let mut delta = Delta::default();
    let error = settle_orphans(&numbers.orphans(&image), Orphans::Refuse, &image, &mut delta).unwrap_err();
    expect!["journal: found 2 messages of wire `a->b` (0/1) of scenario `plant`, 2 keys and 1 timer of gear `b` (sum 0/1) of scenario `plant`, expected only what this rig has; remedy: bring those gears back, or start with orphans sent to the dead-letter wire (`--orphans dlq`)"].assert_eq(&error.to_string());
    assert!(delta.wires.is_empty() && delta.gears.is_empty());
    numbers.of(Kind::Wire, "a->b", "0/1", &NOTED);
    numbers.of(Kind::Gear, "b", "sum 0/1", &NOTED);
    assert!(numbers.orphans(&image).is_empty(), "who owns nothing is nobody's orphan");
    assert!(settle_orphans(&[], Orphans::Refuse, &image, &mut delta).is_ok());
}

#[test]
fn orphans_that_went_are_gone_from_the_journal() {
    let mut image = image();
    let mut delta = Delta::default();
    settle_orphans(&numbers(&image).orphans(&image), Orphans::DeadLetter, &image, &mut delta).unwrap();
    apply(&mut image, 3, &delta);
    assert!(numbers(&image).orphans(&image).is_empty());
    // Both go on where they were, should they come back.
    assert_eq!((image.wires[&1].next_seq, image.gears[&2].generation), (6, 3));
}

#[test]
fn entries_come_back_with_what_is_known_of_them() {
    let mut image = image();
    let marks = vec![crate::journal::Mark { seq: 2, attempts: 4, is_taken: true, fault: None }];
    apply(
        &mut image,
        5,
        &Delta { wires: vec![WireDelta { number: 1, marks, ..WireDelta::default() }], ..Delta::default() },
    );
    let (entries, next_seq) = entries(&image, 1);
    assert_eq!(next_seq, 6);
    let found: Vec<_> = entries
        .iter()
        .map(|entry| (entry.seq, entry.attempts, entry.is_taken, entry.is_maybe_sent, entry.is_out, entry.home))
        .collect();
    assert_eq!(found, [(1, 0, false, false, false, 2), (2, 4, true, true, false, 2)]);
    assert!(entries.iter().all(|entry| entry.after == After::NOTHING), "what is read from the journal is durable");
    assert_eq!(super::entries(&image, 99).1, 1, "a new wire begins with 1");
}

#[test]
fn what_passed_comes_back_only_where_the_wire_still_retains() {
    let mut image = Image::default();
    let births = [1, 2, 3].map(|seq| crate::journal::Birth::passed(seq, msg(seq))).into();
    apply(
        &mut image,
        1,
        &Delta { wires: vec![WireDelta { number: 1, births, ..WireDelta::default() }], ..Delta::default() },
    );
    assert!(retained(&image, 1, None).all().is_empty());
    let all = retained(&image, 1, Some(Retention::Bytes(u64::MAX))).all();
    assert_eq!(all.iter().map(|item| item.seq).collect::<Vec<_>>(), [1, 2, 3]);
    let len = u64::from(all[0].position.len);
    let newest = retained(&image, 1, Some(Retention::Bytes(2 * len))).all();
    assert_eq!(newest.iter().map(|item| item.seq).collect::<Vec<_>>(), [2, 3]);
    assert_ne!(all[0].position, position(1, 0, 0));
}

/// A stream whose servers hold an election, and what a start needs of it.
struct Elections {
    stream: SimStream,
    world: Arc<dyn WorldDebug>,
    options: JournalOptions,
}

impl Elections {
    fn new() -> Self {
        let stream = SimStream::new(1);
        let options = JournalOptions::disk(SimDisk::new(1).process()).on_stream(stream.process());
        Self { stream, world: Arc::new(SimWorld::new(1)), options }
    }

    fn begin(&self, length: Duration) {
        self.stream.set_down(true);
        let stream = self.stream.clone();
        tokio::spawn(async move {
            tokio::time::sleep(length).await;
            stream.set_down(false);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn an_election_while_a_rack_starts_is_waited_out() {
    let of = Elections::new();
    of.begin(START_FOR / 2);
    let mut opened = open_journal(&of.options, &of.world).await.unwrap();
    of.begin(START_FOR / 2);
    let epoch = opened.begin(Delta::default(), &*of.world).await.unwrap();
    assert_eq!(epoch, 2);
}

#[tokio::test(start_paused = true)]
async fn servers_that_stay_away_end_a_start() {
    let of = Elections::new();
    of.stream.set_down(true);
    let error = open_journal(&of.options, &of.world).await.err().unwrap();
    assert!(is_unreachable(&error), "{error}");
    of.stream.set_down(false);
    let mut opened = open_journal(&of.options, &of.world).await.unwrap();
    of.stream.set_down(true);
    let error = opened.begin(Delta::default(), &*of.world).await.unwrap_err();
    assert!(is_unreachable(&error), "{error}");
}
