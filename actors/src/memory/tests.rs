//! State and timers against dumb maps, through cuts, carries and recoveries.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const NUMBER: u32 = 9;

#[derive(Clone, Debug)]
enum Op {
    Put(u8, u64),
    Remove(u8),
    Timer(u8, u64),
    Cancel(u8),
    Fire { is_stale: bool },
    Postpone(u8, u64),
    Fail(u8),
    Cut,
    Rotate,
    Carry { look: usize },
    Recover,
}

fn name(key: u8) -> SmolStr {
    format!("k{key}").into()
}

/// What one change of a memory may be seen as, from outside.
#[derive(Clone, Debug, Default, PartialEq)]
struct View {
    keys: BTreeMap<SmolStr, u64>,
    /// Generation and due time.
    timers: BTreeMap<SmolStr, (u64, u64)>,
}

#[derive(Default)]
struct Model {
    view: View,
    /// What the journal makes of every delta so far: what is left of a timer is counted from its cut.
    durable: View,
    durable_generation: u64,
    homes: BTreeMap<SmolStr, SegmentId>,
    generations: BTreeSet<u64>,
    now: u64,
    segment: SegmentId,
    carry: Option<(SegmentId, SmolStr)>,
}

impl Model {
    fn step(&mut self, memory: &mut Memory, op: Op) {
        match op {
            Op::Put(key, value) => {
                memory.apply([Change::Put(name(key), value.into())].into_iter(), true);
                self.view.keys.insert(name(key), value);
            }
            Op::Remove(key) => {
                memory.apply([Change::Remove(name(key))].into_iter(), true);
                self.view.keys.remove(&name(key));
            }
            Op::Timer(key, after) => {
                let due = self.now + after;
                memory.apply([Change::Timer(name(key), due)].into_iter(), true);
                let generation = timer_of(memory, &name(key)).unwrap().generation;
                assert!(self.generations.insert(generation), "generation {generation} comes twice");
                self.view.timers.insert(name(key), (generation, due));
            }
            Op::Cancel(key) => {
                memory.apply([Change::Cancel(name(key))].into_iter(), true);
                self.view.timers.remove(&name(key));
            }
            Op::Fire { is_stale } => self.fire(memory, is_stale),
            Op::Postpone(key, wait) => {
                memory.postpone(&name(key), self.now + wait);
                if let Some((_, due)) = self.view.timers.get_mut(&name(key)) {
                    *due = self.now + wait;
                }
            }
            Op::Fail(key) => {
                let before = timer_of(memory, &name(key)).map(|timer| timer.attempts);
                let expected = before.map_or(u32::MAX, |before| before + 1);
                assert_eq!(memory.note_timer_failure(&name(key)), expected);
            }
            Op::Cut => self.cut(memory, 2),
            Op::Rotate => self.segment += 1,
            Op::Carry { look } => {
                self.carry.get_or_insert((self.segment - 1, SmolStr::default()));
                self.cut(memory, look);
            }
            Op::Recover => self.recover(memory),
        }
    }

    fn fire(&mut self, memory: &mut Memory, is_stale: bool) {
        let mut due = Vec::new();
        memory.due(self.now, usize::MAX, &mut due);
        let mut expected: Vec<(u64, u64, SmolStr)> =
            self.view.timers.iter().map(|(key, timer)| (timer.1, timer.0, key.clone())).collect();
        expected.retain(|(at, ..)| *at <= self.now);
        expected.sort();
        let expected: Vec<(SmolStr, u64)> =
            expected.into_iter().map(|(_, generation, key)| (key, generation)).collect();
        assert_eq!(due, expected, "due timers, earliest first");
        let Some((key, generation)) = due.first() else { return };
        if is_stale {
            assert!(!memory.fire(key, generation + 1_000_000, true));
        } else {
            assert!(memory.fire(key, *generation, true));
            assert!(!memory.fire(key, *generation, true), "once");
            self.view.timers.remove(key);
        }
    }

    fn cut(&mut self, memory: &mut Memory, look: usize) {
        let mut deltas: Vec<GearDelta> = memory.cut(NUMBER, self.now, self.segment).into_iter().collect();
        let mut ended = None;
        if let Some((target, cursor)) = self.carry.take() {
            let mut step = MemoryCarry { cursor, oldest: target, segment: self.segment, look, into: &mut deltas };
            match memory.carry(NUMBER, self.now, &mut step) {
                Some(next) => self.carry = Some((target, next)),
                None => ended = Some(target),
            }
        }
        for delta in deltas {
            assert_eq!(delta.number, NUMBER);
            self.durable_generation = self.durable_generation.max(delta.generation);
            for (key, value) in delta.keys {
                self.homes.insert(key.clone(), self.segment);
                match value {
                    Some(value) => drop(self.durable.keys.insert(key, int(&value))),
                    None => drop(self.durable.keys.remove(&key)),
                }
            }
            for (key, timer) in delta.timers {
                self.homes.insert(format!("timer {key}").into(), self.segment);
                match timer {
                    Some(timer) => {
                        self.durable.timers.insert(key, (timer.generation, self.now + timer.left_ns));
                    }
                    None => {
                        self.durable.timers.remove(&key);
                    }
                }
            }
        }
        self.compare_durable(memory);
        if let Some(target) = ended {
            let live = self.durable.keys.keys().cloned();
            let live = live.chain(self.durable.timers.keys().map(|key| format!("timer {key}").into()));
            for key in live {
                assert!(self.homes[&key] > target, "`{key}` lives in a segment that is to be deleted");
            }
            assert!(memory.generation_home == 0 || memory.generation_home > target);
        }
    }

    fn compare_durable(&self, memory: &Memory) {
        assert_eq!(self.durable.keys, self.view.keys);
        let generations =
            |view: &View| view.timers.iter().map(|(key, timer)| (key.clone(), timer.0)).collect::<Vec<_>>();
        assert_eq!(generations(&self.durable), generations(&self.view));
        assert!(self.durable_generation >= self.view.timers.values().map(|timer| timer.0).max().unwrap_or(0));
        assert!(self.durable_generation <= memory.generation);
    }

    fn recover(&mut self, memory: &mut Memory) {
        let keys = self.durable.keys.iter().map(|(key, &value)| (key.clone(), value.into(), self.homes[key]));
        let timers = self.durable.timers.iter().map(|(key, &(generation, due_ns))| RecoveredTimer {
            key: key.clone(),
            generation,
            due_ns,
            home: self.homes[&SmolStr::from(format!("timer {key}"))],
        });
        *memory = Memory::default();
        memory.recover(keys.collect(), timers.collect(), self.durable_generation);
        self.view = self.durable.clone();
        self.generations.retain(|&generation| generation <= self.durable_generation);
        self.carry = None;
    }

    fn compare(&self, memory: &Memory) {
        let keys: BTreeMap<SmolStr, u64> = memory.iter().map(|(key, value)| (key.clone(), int(value))).collect();
        let timers = memory.slots.iter().flatten().filter_map(|slot| Some((slot.key.clone(), slot.timer?)));
        let timers = timers.map(|(key, timer)| (key, (timer.generation, timer.due_ns))).collect();
        assert_eq!(View { keys, timers }, self.view);
        for (key, &value) in &self.view.keys {
            assert_eq!(memory.get(key), Some(&value.into()));
        }
        assert_eq!(memory.next_due_ns(), self.view.timers.values().map(|timer| timer.1).min());
        assert_eq!(memory.due.len(), self.view.timers.len());
        assert_eq!(memory.index.len() + memory.free.len(), memory.slots.len());
        let spent = memory.slots.iter().flatten().filter(|slot| slot.is_spent()).count();
        assert_eq!(spent, 0, "what is empty is given back");
    }
}

fn timer_of(memory: &Memory, key: &str) -> Option<Timer> {
    memory.slot(memory.find(key)?)?.timer
}

fn int(value: &Value) -> u64 {
    value.as_number().unwrap() as u64
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = || 0..6_u8;
    let op = prop_oneof![
        4 => (key(), 0..1000_u64).prop_map(|(key, value)| Op::Put(key, value)),
        2 => key().prop_map(Op::Remove),
        4 => (key(), 0..30_u64).prop_map(|(key, after)| Op::Timer(key, after)),
        2 => key().prop_map(Op::Cancel),
        3 => any::<bool>().prop_map(|is_stale| Op::Fire { is_stale }),
        2 => (key(), 0..30_u64).prop_map(|(key, wait)| Op::Postpone(key, wait)),
        1 => key().prop_map(Op::Fail),
        4 => Just(Op::Cut),
        1 => Just(Op::Rotate),
        2 => (1..4_usize).prop_map(|look| Op::Carry { look }),
        1 => Just(Op::Recover),
    ];
    prop::collection::vec(op, 1..100)
}

fn check(ops: Vec<Op>) {
    let mut memory = Memory::default();
    let mut model = Model { now: 1, segment: 1, ..Model::default() };
    for op in ops {
        model.now += 1;
        model.step(&mut memory, op);
        model.compare(&memory);
    }
}

proptest! {
    #[test]
    fn a_memory_is_two_maps(ops in ops()) {
        check(ops);
    }
}

/// Something else of a gear is due while an earlier timer of it fires: the commit applies changes before it fires.
#[test]
fn a_timer_set_again_by_its_own_firing_stays() {
    let mut memory = Memory::default();
    memory.apply([Change::Timer("t".into(), 5)].into_iter(), true);
    memory.apply([Change::Timer("t".into(), 9)].into_iter(), true);
    assert!(!memory.fire(&"t".into(), 1, true));
    assert_eq!(memory.next_due_ns(), Some(9));
}

#[test]
fn a_clock_is_kept_as_a_timer_and_never_fires() {
    let mut memory = Memory::default();
    memory.apply([Change::Timer(CLOCK.into(), 50), Change::Timer("t".into(), 90)].into_iter(), true);
    let (mut due, delta) = (Vec::new(), memory.cut(NUMBER, 20, 1).unwrap());
    memory.due(u64::MAX, 9, &mut due);
    assert_eq!((memory.next_due_ns(), due.len(), memory.clock_end_ns()), (Some(90), 1, Some(50)));
    let timers = delta.timers.into_iter().map(|(key, timer)| (key, timer.unwrap()));
    let recovered = timers.map(|(key, TimerRecord { generation, left_ns: due_ns })| RecoveredTimer {
        key,
        generation,
        due_ns,
        home: 1,
    });
    let mut again = Memory::default();
    again.recover(Vec::new(), recovered.collect(), delta.generation);
    assert_eq!((again.next_due_ns(), again.clock_end_ns()), (Some(70), Some(30)));
}

#[test]
fn without_a_journal_generations_begin_anywhere() {
    let mut memory = Memory::default();
    memory.start_generations(1 << 40);
    memory.apply(
        [Change::Timer("t".into(), 5), Change::Cancel("t".into()), Change::Timer("t".into(), 5)].into_iter(),
        true,
    );
    assert_eq!(timer_of(&memory, "t").unwrap().generation, (1 << 40) + 2);
    memory.start_generations(3);
    memory.apply([Change::Timer("t".into(), 5)].into_iter(), true);
    assert_eq!(timer_of(&memory, "t").unwrap().generation, (1 << 40) + 3, "never back");
}

#[test]
fn nothing_changed_is_no_delta() {
    let mut memory = Memory::default();
    assert!(memory.cut(NUMBER, 1, 1).is_none());
    memory.apply([Change::Put("k".into(), 1_u64.into())].into_iter(), true);
    assert!(memory.cut(NUMBER, 1, 1).is_some());
    assert!(memory.cut(NUMBER, 1, 1).is_none());
    memory.postpone(&"none".into(), 7);
    assert!(!memory.fire(&"none".into(), 1, true));
    assert!(memory.cut(NUMBER, 1, 1).is_none());
}

/// In a rig without a journal nobody ever asks what changed.
#[test]
fn without_a_journal_nothing_is_kept_of_what_has_gone() {
    let mut memory = Memory::default();
    for round in 0..1000_u64 {
        let key = SmolStr::from(format!("key {round}"));
        memory.apply([Change::Put(key.clone(), round.into()), Change::Timer(key.clone(), round)].into_iter(), false);
        memory.apply([Change::Remove(key.clone())].into_iter(), false);
        match round % 2 {
            0 => memory.apply([Change::Cancel(key)].into_iter(), false),
            _ => assert!(memory.fire(&key, round + 1, false)),
        }
    }
    assert_eq!((memory.slots.len(), memory.index.len(), memory.due.len(), memory.changed.len()), (1, 0, 0, 0));
}

/// The journal is told the end of what it knows, and of nothing else.
#[test]
fn what_comes_and_goes_between_two_cuts_is_not_said() {
    let mut memory = Memory::default();
    let put = || Change::Put("k".into(), 1_u64.into());
    memory.apply([put(), Change::Timer("k".into(), 5)].into_iter(), true);
    memory.apply([Change::Remove("k".into()), Change::Cancel("k".into())].into_iter(), true);
    let delta = memory.cut(NUMBER, 1, 1).unwrap();
    assert_eq!((delta.keys, delta.timers, delta.generation), (vec![], vec![], 1));
    memory.apply([put()].into_iter(), true);
    assert_eq!(memory.cut(NUMBER, 1, 1).unwrap().keys.len(), 1);
    // It is gone, there again and gone: the journal knew one.
    memory.apply([Change::Remove("k".into()), put(), Change::Remove("k".into())].into_iter(), true);
    assert_eq!(memory.cut(NUMBER, 1, 1).unwrap().keys, [("k".into(), None)]);
    memory.apply([Change::Remove("k".into())].into_iter(), true);
    assert_eq!(memory.cut(NUMBER, 1, 1).unwrap().keys, []);
}
