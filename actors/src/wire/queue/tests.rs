//! The queue against a dumb list of records: whatever is done to it, it holds the same, says the same motion, and what
//! its cuts noted amounts to the same after reading it back.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::Position;
use super::*;
use crate::journal::{Birth, BirthBody, Clock, Delta, GroupAt, Image, Placed, encode};
use crate::rig::recover;
use crate::sample::{decode, msg, number, queue, spec};

/// What is done to a queue.
#[derive(Clone, Debug)]
enum Op {
    Push { count: usize, is_dead: bool },
    AckFront { max: usize },
    FailFront { wait: u64 },
    Attempt,
    Take { room: usize },
    Untake { picks: Vec<usize> },
    Ack { picks: Vec<usize> },
    Rewind,
    Idle(bool),
    Cut,
    Rotate,
    Carry { look: usize, max: usize },
    Written,
    Page,
    Crash,
}

#[derive(Clone, Debug)]
struct Setup {
    lane: Lane,
    is_effects: bool,
    is_retained: bool,
    window: usize,
}

/// One message on the queue, in so many words.
#[derive(Clone, Debug, PartialEq)]
struct Record {
    seq: u64,
    msg: u64,
    since: u64,
    attempts: u32,
    is_taken: bool,
    is_maybe: bool,
    is_out: bool,
    first: Option<&'static str>,
    last: Option<&'static str>,
    home: u32,
    is_dead: bool,
}

/// What outlives a crash of one record.
type Durable = (u64, u64, u32, bool, Option<(String, String)>, bool);

impl Record {
    fn durable(&self) -> Durable {
        let fault = self.first.zip(self.last).map(|(first, last)| (first.to_owned(), last.to_owned()));
        (self.seq, self.msg, self.attempts, self.is_taken, fault, self.is_dead)
    }
}

/// The list, and everything that was written so far.
struct Model {
    setup: Setup,
    records: VecDeque<Record>,
    /// Messages by sequence - 1, since the beginning.
    born: Vec<u64>,
    next_msg: u64,
    is_idle: bool,
    blocked_until: u64,
    now: u64,
    motion: Motion,
    passed: u64,
    /// What the last cut noted.
    durable: (Vec<Record>, usize),
    segment: u32,
    carry: Option<(u32, u64)>,
    groups: Vec<(GroupAt, Vec<u8>)>,
    image: Image,
    unwritten: Vec<Vec<Written>>,
    /// Segments up to here are to be deleted as soon as everything is flushed.
    trim: u32,
}

impl Model {
    fn new(setup: Setup) -> Self {
        Self {
            records: VecDeque::new(),
            born: Vec::new(),
            next_msg: 1,
            is_idle: setup.is_effects,
            blocked_until: 0,
            now: 1,
            motion: 0,
            passed: 0,
            durable: (Vec::new(), 0),
            segment: 1,
            carry: None,
            groups: Vec::new(),
            image: Image::default(),
            unwritten: Vec::new(),
            trim: 0,
            setup,
        }
    }

    fn spec(&self) -> QueueSpec {
        QueueSpec {
            lane: self.setup.lane,
            is_effects: self.setup.is_effects,
            memory_window: self.setup.window,
            retention: self.setup.is_retained.then_some(Retention::Bytes(u64::MAX)),
            ..spec()
        }
    }

    fn waiting(&self) -> usize {
        self.records.iter().filter(|record| !record.is_out).count()
    }

    fn pick(&self, picks: &[usize], is_eligible: impl Fn(&Record) -> bool) -> Vec<u64> {
        let eligible: Vec<u64> =
            self.records.iter().filter(|record| is_eligible(record)).map(|record| record.seq).collect();
        if eligible.is_empty() {
            return Vec::new();
        }
        picks.iter().map(|pick| eligible[pick % eligible.len()]).collect()
    }

    fn find(&mut self, seq: u64) -> Option<&mut Record> {
        self.records.iter_mut().find(|record| record.seq == seq)
    }

    fn body(&self, position: Position) -> &[u8] {
        let (_, body) = self.groups.iter().find(|(at, _)| *at == position.at).expect("a position names a group");
        &body[position.offset as usize..(position.offset + position.len) as usize]
    }

    fn step(&mut self, queue: &mut Queue, op: &Op) {
        self.now += 1;
        let is_standard = self.setup.lane.is_standard();
        match op {
            Op::Push { count, is_dead } => self.push(queue, *count, *is_dead),
            Op::AckFront { max } if !self.setup.is_effects => self.ack_front(queue, *max),
            Op::FailFront { wait } if !self.setup.is_effects => self.fail_front(queue, *wait),
            Op::Attempt if !self.setup.is_effects => self.attempt(queue),
            Op::Take { room } if self.setup.is_effects => self.take(queue, *room),
            Op::Untake { picks } if self.setup.is_effects => self.untake(queue, picks),
            Op::Ack { picks } if self.setup.is_effects => self.ack(queue, picks),
            Op::Rewind if self.setup.is_effects => self.rewind(queue),
            Op::Idle(is_idle) => {
                self.motion += queue.set_idle(*is_idle);
                self.is_idle = *is_idle;
            }
            Op::Cut if is_standard => self.cut(queue, 5, 3),
            Op::Rotate => self.segment += 1,
            Op::Carry { look, max } if is_standard => {
                let target = self.segment - 1;
                self.carry.get_or_insert((target, 0));
                self.cut(queue, *look, *max);
            }
            Op::Written if is_standard => self.written(queue),
            Op::Page => self.page(queue),
            Op::Crash if is_standard => self.crash(queue),
            _ => {}
        }
    }

    fn push(&mut self, queue: &Queue, count: usize, is_dead: bool) {
        let mut births = Vec::new();
        for _ in 0..count {
            births.push((msg(self.next_msg), After::NOTHING, is_dead.then(|| Arc::new(note()))));
            self.born.push(self.next_msg);
            self.records.push_back(Record {
                seq: self.born.len() as u64,
                msg: self.next_msg,
                since: self.now,
                attempts: 0,
                is_taken: false,
                is_maybe: false,
                is_out: false,
                first: None,
                last: None,
                home: 0,
                is_dead,
            });
            self.next_msg += 1;
        }
        self.motion += queue.push_noted(births.into_iter(), self.now).1;
    }

    /// What a gear would be given: a run from the front, at least one when there is one and its body is here.
    fn front(&mut self, queue: &Queue, max: usize) -> Vec<Taken> {
        let mut taken = Vec::new();
        let mut found = queue.front(max, self.now, &mut taken);
        if found == Front::Away {
            self.page(queue);
            found = queue.front(max, self.now, &mut taken);
        }
        if self.blocked_until > self.now {
            assert_eq!(found, Front::BlockedUntil(self.blocked_until));
        } else if self.records.is_empty() {
            assert_eq!(found, Front::Empty);
        } else {
            assert_eq!(found, Front::Given, "what is at the front is given, read back if need be");
        }
        for (record, taken) in self.records.iter().zip(&taken) {
            assert_eq!((record.seq, record.msg, record.attempts), (taken.seq, number(&taken.msg), taken.attempts));
        }
        assert!(taken.len() <= max);
        taken
    }

    fn ack_front(&mut self, queue: &Queue, max: usize) {
        let taken = self.front(queue, max);
        let Some(first) = taken.first() else { return };
        let mut gone = Vec::new();
        self.motion += queue.ack_front(first.seq, taken.len(), &mut gone);
        assert_eq!(
            gone.iter().map(number).collect::<Vec<_>>(),
            taken.iter().map(|t| number(&t.msg)).collect::<Vec<_>>()
        );
        self.records.drain(..taken.len());
        self.passed += taken.len() as u64;
        self.is_idle = false;
        self.blocked_until = 0;
    }

    fn fail_front(&mut self, queue: &Queue, wait: u64) {
        let until = self.now + wait;
        let seq = self.records.front().map_or(1, |record| record.seq);
        self.motion += queue.fail_front(seq, "failed", until, false);
        // An ack or a failure of another message than the one at the front changes nothing.
        self.motion += queue.fail_front(seq + 1, "another", until + 9, false);
        if let Some(record) = self.records.front_mut() {
            record.attempts += 1;
            record.first.get_or_insert("failed");
            record.last = Some("failed");
            self.blocked_until = until;
            self.is_idle = true;
        }
    }

    fn attempt(&mut self, queue: &Queue) {
        const TEXT: &str = "the process ended while this message was handled";
        let seq = self.records.front().map_or(1, |record| record.seq);
        let attempts = queue.attempt_front(seq);
        if let Some(record) = self.records.front_mut() {
            record.attempts += 1;
            record.first.get_or_insert(TEXT);
            record.last = Some(TEXT);
            assert_eq!(attempts, record.attempts);
            // Made, failed, and not counted twice.
            let until = self.now;
            self.motion += queue.fail_front(seq, "failed", until, true);
            record.last = Some("failed");
            self.blocked_until = until;
            self.is_idle = true;
        }
    }

    fn take(&mut self, queue: &Queue, room: usize) {
        let mut taken = Vec::new();
        self.motion += queue.take_effects(room, &mut taken);
        if taken.is_empty() && self.waiting() > 0 && room > 0 {
            self.page(queue);
            self.motion += queue.take_effects(room, &mut taken);
            // Bodies of what is in flight count against the window as well.
            let in_flight = self.records.len() - self.waiting();
            assert!(!taken.is_empty() || in_flight >= self.setup.window, "what waits is taken, read back if need be");
        }
        assert!(taken.len() <= room);
        let waiting = self.records.iter_mut().filter(|record| !record.is_out);
        for (record, effect) in waiting.zip(&taken) {
            assert_eq!(
                (record.seq, record.msg, record.is_maybe),
                (effect.seq, number(&effect.msg), effect.is_maybe_sent)
            );
            record.is_out = true;
            record.is_taken = true;
        }
    }

    fn untake(&mut self, queue: &Queue, picks: &[usize]) {
        let mut seqs = self.pick(picks, |_| true);
        seqs.push(self.born.len() as u64 + 5);
        self.motion += queue.untake(seqs.iter().copied());
        for seq in seqs {
            let Some(record) = self.find(seq).filter(|record| record.is_out) else { continue };
            record.is_out = false;
            record.is_taken = record.is_maybe;
        }
    }

    fn ack(&mut self, queue: &Queue, picks: &[usize]) {
        // Also what is not out: an endpoint that was replaced may end late what it had taken.
        let mut seqs = self.pick(picks, |_| true);
        seqs.push(self.born.len() as u64 + 5);
        let mut gone = Vec::new();
        self.motion += queue.ack_effects(&mut seqs.iter().copied(), &mut gone);
        let before = self.records.len();
        self.records.retain(|record| !seqs.contains(&record.seq));
        assert_eq!(gone.len(), before - self.records.len());
        self.passed += gone.len() as u64;
    }

    fn rewind(&mut self, queue: &Queue) {
        self.motion += queue.rewind_effects();
        for record in self.records.iter_mut().filter(|record| record.is_out) {
            record.is_out = false;
            record.is_maybe |= record.is_taken;
        }
    }

    /// One cut with a step of a carry behind it, as the writer makes them; encoded, read back and compared.
    fn cut(&mut self, queue: &Queue, look: usize, max: usize) {
        let mut delta = Delta { clock: Clock { wall_ns: self.now as i64, ..Clock::default() }, ..Delta::default() };
        delta.wires.extend(queue.cut(self.segment));
        for record in self.records.iter_mut().filter(|record| record.home == 0) {
            record.home = self.segment;
        }
        let mut ended = None;
        let cut = delta.wires.len();
        if let Some((target, cursor)) = self.carry.take() {
            let (segment, wall_ns) = (self.segment, self.now as i64);
            let mut step = Carry { cursor, oldest: target, segment, look, max, wall_ns, into: &mut delta.wires };
            match queue.carry(&mut step) {
                Some(next) => self.carry = Some((target, next)),
                None => ended = Some(target),
            }
            // What outlives the segment beside messages: the next sequence.
            delta.wires.push(queue.identity());
            for seq in delta.wires.iter().skip(cut).flat_map(|wire| &wire.births).map(|birth| birth.seq) {
                if let Some(record) = self.records.iter_mut().find(|record| record.seq == seq) {
                    record.home = self.segment;
                }
            }
        }
        self.store(queue, &delta);
        self.durable = (self.records.iter().cloned().collect(), self.born.len());
        self.compare_image(&self.image, queue.spec.number);
        if let Some(target) = ended {
            self.compare_trimmed(queue, target);
            // What replay still needs is not deleted.
            self.trim = if self.setup.is_retained { 0 } else { target };
        }
    }

    fn store(&mut self, queue: &Queue, delta: &Delta) {
        let mut body = Vec::new();
        let mut placed = Placed::new();
        encode(delta, &mut body, &mut placed, &mut |position| {
            Ok::<_, std::convert::Infallible>(Bytes::copy_from_slice(self.body(position)))
        })
        .unwrap();
        let at = GroupAt { segment: self.segment, offset: self.now };
        self.image.apply(&body, at).unwrap();
        // Twice is once: a group that is merged after a failed write was perhaps durable already.
        self.image.apply(&body, at).unwrap();
        self.groups.push((at, body));
        let written = placed.into_iter().map(|place| {
            assert_eq!(place.wire, queue.spec.number);
            let position = Position { at, offset: place.offset, len: place.len };
            Written { seq: place.seq, position, is_retained: place.is_retained }
        });
        self.unwritten.push(written.collect());
    }

    fn durable_in(&self, image: &Image, wire: u32) -> Vec<Durable> {
        let Some(wire) = image.wires.get(&wire) else { return Vec::new() };
        let live = wire.live.iter().map(|(&seq, live)| {
            let fault = live.fault.as_ref().map(|fault| (fault.first.to_string(), fault.last.to_string()));
            let msg = number(&decode(self.body(live.position)));
            (seq, msg, live.attempts, live.is_taken, fault, live.dead.is_some())
        });
        live.collect()
    }

    fn compare_image(&self, image: &Image, wire: u32) {
        let expected: Vec<Durable> = self.durable.0.iter().map(Record::durable).collect();
        assert_eq!(self.durable_in(image, wire), expected);
        let found = image.wires.get(&wire);
        assert_eq!(found.map_or(0, |wire| wire.next_seq.max(1) - 1), self.durable.1 as u64, "sequences go on");
        if self.setup.is_retained {
            let passed: Vec<u64> = found.map_or(Vec::new(), |wire| wire.passed.keys().copied().collect());
            assert_eq!(passed, (1..=self.durable.1 as u64).collect::<Vec<_>>(), "retention writes every message");
        }
    }

    /// A carry has ended: what lies in its segments is not needed any more.
    fn compare_trimmed(&self, queue: &Queue, target: u32) {
        assert_eq!(queue.count_homed(target), 0);
        let mut image = Image::default();
        for (at, body) in self.groups.iter().filter(|(at, _)| at.segment > target) {
            image.apply(body, *at).unwrap();
        }
        let expected: Vec<Durable> = self.durable.0.iter().map(Record::durable).collect();
        assert_eq!(self.durable_in(&image, queue.spec.number), expected);
        assert_eq!(image.wires[&queue.spec.number].next_seq, self.durable.1 as u64 + 1);
    }

    fn written(&mut self, queue: &Queue) {
        let wants = queue.wants_positions();
        for births in std::mem::take(&mut self.unwritten).iter().filter(|_| wants) {
            queue.written(births, self.now as i64);
        }
        let trim = self.trim;
        self.groups.retain(|(at, _)| at.segment > trim);
        let here = queue.peek(|entry| matches!(entry.body, Body::Here(_)).then_some(())).len();
        if !self.setup.is_effects && self.durable.1 == self.born.len() {
            assert!(here <= self.setup.window, "{here} bodies in a window of {}", self.setup.window);
        }
        if self.setup.is_retained {
            let items = queue.retained(Retained::all);
            let seqs: Vec<u64> = items.iter().map(|item| item.seq).collect();
            assert_eq!(seqs, (1..=self.durable.1 as u64).collect::<Vec<_>>());
            for item in items {
                assert_eq!(number(&decode(self.body(item.position))), self.born[item.seq as usize - 1]);
            }
        }
    }

    fn page(&self, queue: &Queue) {
        let wanted = queue.wanted();
        let read = wanted.iter().map(|&(seq, position)| (seq, decode(self.body(position)))).collect();
        queue.restore(read);
    }

    /// `kill -9`: what the last cut noted is there again, what was taken is maybe sent.
    fn crash(&mut self, queue: &mut Queue) {
        *queue = crate::sample::queue(self.spec());
        let (entries, next_seq) = recover::entries(&self.image, queue.spec.number);
        let retained = recover::retained(&self.image, queue.spec.number, queue.spec.retention);
        self.motion = queue.recover(entries, next_seq, retained);
        self.page(queue);
        self.records = self.durable.0.iter().cloned().collect();
        self.born.truncate(self.durable.1);
        for record in &mut self.records {
            record.is_out = false;
            record.is_maybe = record.is_taken;
            record.since = 1;
            record.home = self.image.wires[&queue.spec.number].live[&record.seq].position.at.segment;
        }
        (self.trim, self.is_idle) = (0, self.setup.is_effects);
        (self.blocked_until, self.passed, self.carry) = (0, 0, None);
        self.unwritten.clear();
    }

    fn compare(&self, queue: &Queue) {
        assert_eq!(queue.len(), self.records.len());
        assert_eq!(queue.passed(), self.passed);
        assert_eq!(queue.has_room(), self.records.len() < queue.spec.capacity);
        let out = self.records.len() - self.waiting();
        assert_eq!(queue.in_flight(), out);
        let motion = if self.is_idle { 0 } else { self.waiting() as Motion };
        assert_eq!(self.motion, motion, "the sum of what was returned is what is in motion");
        let found: Vec<Record> = queue.peek(|entry| {
            Some(Record {
                seq: entry.seq,
                msg: self.number_of(&entry.body),
                since: entry.since_ns,
                attempts: entry.attempts,
                is_taken: entry.is_taken,
                is_maybe: entry.is_maybe_sent,
                is_out: entry.is_out,
                first: entry.fault.as_ref().map(|fault| intern(&fault.first)),
                last: entry.fault.as_ref().map(|fault| intern(&fault.last)),
                home: entry.home,
                is_dead: entry.dead.is_some(),
            })
        });
        assert_eq!(found, self.records.iter().cloned().collect::<Vec<_>>());
        assert!(found.windows(2).all(|pair| pair[0].seq < pair[1].seq));
        if self.setup.is_effects && self.waiting() > 0 {
            assert!(queue.has_effects());
        }
    }

    fn number_of(&self, body: &Body) -> u64 {
        match body {
            Body::Here(msg) => number(msg),
            Body::There(position) => number(&decode(self.body(*position))),
            Body::Gone => panic!("what is done is not peeked at"),
        }
    }
}

fn intern(text: &str) -> &'static str {
    ["failed", "the process ended while this message was handled"].into_iter().find(|known| *known == text).unwrap()
}

fn note() -> DeadNote {
    DeadNote {
        gear: "g".into(),
        wire: "w".into(),
        reason: "r".into(),
        attempts: 1,
        first: "f".into(),
        last: "l".into(),
        at_ns: 3,
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let picks = || prop::collection::vec(any::<usize>(), 1..6);
    let op = prop_oneof![
        6 => (0..5_usize, any::<bool>()).prop_map(|(count, is_dead)| Op::Push { count, is_dead }),
        4 => (1..6_usize).prop_map(|max| Op::AckFront { max }),
        2 => (0..4_u64).prop_map(|wait| Op::FailFront { wait }),
        1 => Just(Op::Attempt),
        4 => (0..6_usize).prop_map(|room| Op::Take { room }),
        2 => picks().prop_map(|picks| Op::Untake { picks }),
        4 => picks().prop_map(|picks| Op::Ack { picks }),
        1 => Just(Op::Rewind),
        1 => any::<bool>().prop_map(Op::Idle),
        4 => Just(Op::Cut),
        1 => Just(Op::Rotate),
        2 => (1..5_usize, 1..4_usize).prop_map(|(look, max)| Op::Carry { look, max }),
        2 => Just(Op::Written),
        1 => Just(Op::Page),
        1 => Just(Op::Crash),
    ];
    prop::collection::vec(op, 1..120)
}

fn setups() -> impl Strategy<Value = Setup> {
    let lane = prop_oneof![1 => Just(Lane::Turbo), 2 => Just(Lane::Os), 4 => Just(Lane::Flush)];
    (lane, any::<bool>(), any::<bool>(), 2..8_usize).prop_map(|(lane, is_effects, is_retained, window)| Setup {
        lane,
        is_effects,
        is_retained: is_retained && lane.is_standard(),
        window,
    })
}

/// Does all of it to a queue and to the list.
fn check(setup: Setup, ops: &[Op]) {
    let mut model = Model::new(setup);
    let mut queue = queue(model.spec());
    for op in ops {
        model.step(&mut queue, op);
        model.compare(&queue);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn a_queue_is_a_list(setup in setups(), ops in ops()) {
        check(setup, &ops);
    }
}

/// A message without its raw bytes, where it has any.
fn without_raw(msg: &FluxMsg) -> Option<FluxMsg> {
    msg.raw.as_ref()?;
    let mut msg = msg.clone();
    msg.raw = None;
    Some(msg)
}

fn secret(number: u64, expires: i64) -> FluxMsg {
    let mut msg = msg(number);
    msg.raw = Some(Bytes::from_static(b"secret"));
    msg.expires = Some(expires);
    msg
}

/// Sensitive messages are written as they are, since they must be delivered; they are neither retained nor carried past
/// their expiry.
#[test]
fn sensitive_data_is_not_retained_and_not_carried_past_its_expiry() {
    let retention = Some(Retention::Bytes(u64::MAX));
    let queue = queue(QueueSpec { redactor: Some(without_raw), retention, ..spec() });
    let msgs = [secret(1, 100), secret(2, 300), msg(3)];
    queue.push(msgs.into_iter().map(|msg| (msg, After::NOTHING)), 1);
    let births = queue.cut(1).unwrap().births;
    let raw = |birth: &Birth| match &birth.body {
        BirthBody::Msg(msg) => msg.raw.is_some(),
        _ => panic!("all is in memory"),
    };
    assert_eq!(births.iter().map(raw).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(births.iter().map(|birth| birth.is_retained).collect::<Vec<_>>(), [false, false, true]);
    let mut into = Vec::new();
    let mut carry = Carry { cursor: 0, oldest: 1, segment: 2, look: 100, max: 100, wall_ns: 200, into: &mut into };
    assert_eq!(queue.carry(&mut carry), None);
    assert_eq!(into[0].births.iter().map(raw).collect::<Vec<_>>(), [false, true, false]);
}

/// What a gear passes on is held by its commit alone from then on; everything else stays with the queue.
#[test]
fn a_queue_lets_go_of_what_is_passed_on_and_acked_and_of_nothing_else() {
    let queue = queue(spec());
    queue.push((1..=4).map(|number| (msg(number), After::NOTHING)), 1);
    let mut taken = Vec::new();
    queue.front(4, 1, &mut taken);
    let msgs: Vec<FluxMsg> = taken.into_iter().map(|taken| taken.msg).collect();
    // The second is passed on as another message, the fourth is not acked.
    let passed = [(1, &msgs[0]), (2, &msgs[0]), (4, &msgs[3]), (9, &msgs[0])];
    queue.let_go(1, 3, passed.into_iter());
    assert_eq!(msgs.iter().map(FluxMsg::holders).collect::<Vec<_>>(), [1, 2, 2, 2]);
    assert_eq!(queue.len(), 4, "until they are acked they take their room");
    let mut gone = Vec::new();
    queue.ack_front(1, 3, &mut gone);
    assert_eq!((gone.iter().map(number).collect::<Vec<_>>(), queue.len()), (vec![2, 3], 1));
    assert_eq!(queue.msg_at(4).as_ref().map(number), Some(4));
}
