//! The decider against an oracle that follows OTP's manual step by step, and against its own promises.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;
use proptest::strategy::Strategy as _;

use super::*;
// Named, because proptest's prelude has a `Strategy`, too.
use super::Strategy;

const SECOND: Duration = Duration::from_secs(1);
const WITHIN: Duration = Duration::from_secs(5);
const ASKED: Shutdown = Shutdown::Timeout(Duration::from_secs(5));

/// What can be seen of a supervisor from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Did {
    Start(u64),
    FailToStart(u64),
    Stop(u64),
    Abort,
    Escalate,
    Hold,
}

/// Carries out actions on actors that are only names, and checks that each makes sense.
struct World {
    decider: Decider,
    now: Duration,
    up: BTreeSet<u64>,
    did: Vec<Did>,
    later: Vec<(Duration, u64)>,
    starts_that_fail: VecDeque<bool>,
}

impl World {
    fn new(strategy: Strategy, intensity: Intensity, on_give_up: GiveUp, children: &[Rules]) -> Self {
        let mut decider = Decider::new(strategy, intensity, on_give_up, 7);
        for rules in children {
            decider.add(*rules);
        }
        let starts_that_fail = VecDeque::new();
        Self { decider, now: Duration::ZERO, up: BTreeSet::new(), did: Vec::new(), later: Vec::new(), starts_that_fail }
    }

    fn booted(strategy: Strategy, max_restarts: u32, children: &[Rules]) -> Self {
        let mut world = Self::new(strategy, Intensity::new(max_restarts, WITHIN), GiveUp::Escalate, children);
        world.tell(Event::Boot);
        world
    }

    fn tell(&mut self, event: Event) -> Vec<Did> {
        self.did.clear();
        let mut actions = VecDeque::from(self.decider.decide(event, self.now));
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Start(child) => {
                    assert!(actions.is_empty(), "a start is the last of its list");
                    assert!(!self.up.contains(&child.0), "a running child is not started");
                    let event = if self.starts_that_fail.pop_front().unwrap_or(false) {
                        self.did.push(Did::FailToStart(child.0));
                        Event::StartFailed(child)
                    } else {
                        self.did.push(Did::Start(child.0));
                        self.up.insert(child.0);
                        Event::Started(child)
                    };
                    actions.extend(self.decider.decide(event, self.now));
                }
                Action::Stop(child, _) => {
                    assert!(self.up.remove(&child.0), "only a running child is stopped");
                    self.did.push(Did::Stop(child.0));
                }
                Action::Later { generation, after, .. } if after.is_zero() => {
                    actions.extend(self.decider.decide(Event::Due { generation }, self.now));
                }
                Action::Later { generation, after, .. } => self.later.push((self.now + after, generation)),
                Action::Forget(child) => assert!(!self.up.contains(&child.0), "a running child is not forgotten"),
                Action::Abort(_) => self.did.push(Did::Abort),
                Action::Escalate(_) => self.did.push(Did::Escalate),
                Action::Hold(_) => self.did.push(Did::Hold),
            }
        }
        std::mem::take(&mut self.did)
    }

    fn exit(&mut self, child: u64, is_abnormal: bool, has_progressed: bool) -> Vec<Did> {
        self.up.remove(&child);
        self.tell(Event::Exited { child: ChildId(child), is_abnormal, has_progressed })
    }

    fn crash(&mut self, child: u64) -> Vec<Did> {
        self.exit(child, true, false)
    }

    /// Lets the wait that ends first end.
    fn wait(&mut self) -> Vec<Did> {
        let first = (0..self.later.len()).min_by_key(|idx| self.later[*idx]).expect("something waits");
        let (at, generation) = self.later.remove(first);
        self.now = self.now.max(at);
        self.tell(Event::Due { generation })
    }

    fn up(&self) -> Vec<u64> {
        self.up.iter().copied().collect()
    }
}

fn permanent() -> Rules {
    Rules { restart: Restart::Permanent, shutdown: ASKED, backoff: Backoff::NONE }
}

fn rules(restart: Restart) -> Rules {
    Rules { restart, ..permanent() }
}

fn slow(first: u64) -> Rules {
    let backoff = Backoff { jitter: 0.0, ..Backoff::new(SECOND * first as u32, SECOND * 60) };
    Rules { backoff, ..permanent() }
}

// ---- The oracle: a list of children and OTP's text, no phases, no generations, no queue.

struct Oracle {
    strategy: Strategy,
    max_restarts: usize,
    children: Vec<(u64, Restart, bool)>,
    restarts: Vec<(Duration, u64)>,
    starts_that_fail: VecDeque<bool>,
    did: Vec<Did>,
    has_ended: bool,
}

impl Oracle {
    fn is_up(&self, id: u64) -> Option<bool> {
        self.children.iter().find(|child| child.0 == id).map(|child| child.2)
    }

    fn mark(&mut self, id: u64, is_up: bool) {
        self.children.iter_mut().filter(|child| child.0 == id).for_each(|child| child.2 = is_up);
    }

    fn remove(&mut self, id: u64) {
        self.children.retain(|child| child.0 != id);
    }

    fn start(&mut self, id: u64) -> bool {
        let fails = self.starts_that_fail.pop_front().unwrap_or(false);
        self.did.push(if fails { Did::FailToStart(id) } else { Did::Start(id) });
        self.mark(id, !fails);
        !fails
    }

    fn stop(&mut self, id: u64) {
        if self.is_up(id) == Some(true) {
            self.did.push(Did::Stop(id));
            self.mark(id, false);
        }
    }

    fn stop_all(&mut self) {
        for (id, _, _) in self.children.clone().into_iter().rev() {
            self.stop(id);
        }
        self.has_ended = true;
    }

    fn boot(&mut self) {
        for (id, _, _) in self.children.clone() {
            if !self.start(id) {
                self.stop_all();
                self.did.push(Did::Abort);
                return;
            }
        }
    }

    fn exit(&mut self, id: u64, is_abnormal: bool, has_progressed: bool, now: Duration) {
        if self.is_up(id) != Some(true) {
            return;
        }
        self.mark(id, false);
        if has_progressed {
            self.restarts.retain(|(_, other)| *other != id);
        }
        let restart = self.children.iter().find(|child| child.0 == id).expect("just found").1;
        match restart {
            Restart::Temporary => self.remove(id),
            Restart::Transient if !is_abnormal => {}
            _ => self.fail(id, has_progressed, now),
        }
    }

    fn fail(&mut self, id: u64, is_forgiven: bool, now: Duration) {
        if !is_forgiven {
            self.restarts.push((now, id));
            // The manual: "if more than MaxR restarts occur within MaxT seconds".
            if self.restarts.iter().filter(|(at, _)| now - *at <= WITHIN).count() > self.max_restarts {
                self.stop_all();
                self.did.push(Did::Escalate);
                return;
            }
        }
        self.begin_again(id, now);
    }

    fn begin_again(&mut self, id: u64, now: Duration) {
        let bound: Vec<_> = match self.strategy {
            Strategy::OneForOne => self.children.iter().copied().filter(|child| child.0 == id).collect(),
            Strategy::OneForAll => self.children.clone(),
            Strategy::RestForOne => self.children.iter().copied().filter(|child| child.0 >= id).collect(),
        };
        for (other, restart, _) in bound.iter().rev() {
            self.stop(*other);
            if *restart == Restart::Temporary && *other != id {
                self.remove(*other);
            }
        }
        for (other, restart, _) in bound {
            if self.is_up(other).is_none() || self.start(other) {
                continue;
            }
            if restart != Restart::Temporary {
                // Nothing after it is started before it runs.
                return self.fail(other, false, now);
            }
            self.remove(other);
        }
    }

    fn terminate(&mut self, id: u64) {
        self.stop(id);
        if self.children.iter().any(|child| child.0 == id && child.1 == Restart::Temporary) {
            self.remove(id);
        }
    }

    fn restart(&mut self, id: u64, now: Duration) {
        match self.is_up(id) {
            None => {}
            Some(true) => self.begin_again(id, now),
            Some(false) => {
                let runs = self.start(id);
                let restart = self.children.iter().find(|child| child.0 == id).expect("just found").1;
                match restart {
                    _ if runs => {}
                    Restart::Temporary => self.remove(id),
                    _ => self.fail(id, false, now),
                }
            }
        }
    }

    fn add(&mut self, id: u64, restart: Restart) {
        self.children.push((id, restart, false));
        if !self.start(id) {
            self.remove(id);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Exit { child: usize, is_abnormal: bool, has_progressed: bool },
    Terminate(usize),
    Restart(usize),
    Remove(usize),
    Add(Restart),
    Pass(u64),
}

fn any_strategy() -> impl proptest::strategy::Strategy<Value = Strategy> {
    prop_oneof![Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)]
}

fn any_restart() -> impl proptest::strategy::Strategy<Value = Restart> {
    prop_oneof![4 => Just(Restart::Permanent), 2 => Just(Restart::Transient), 1 => Just(Restart::Temporary)]
}

fn any_step() -> impl proptest::strategy::Strategy<Value = Step> {
    prop_oneof![
        8 => (0..8usize, any::<bool>(), prop::bool::weighted(0.3))
            .prop_map(|(child, is_abnormal, has_progressed)| Step::Exit { child, is_abnormal, has_progressed }),
        1 => (0..8usize).prop_map(Step::Terminate),
        1 => (0..8usize).prop_map(Step::Restart),
        1 => (0..8usize).prop_map(Step::Remove),
        1 => any_restart().prop_map(Step::Add),
        // Whole seconds around the window's length, so that its ends are hit exactly.
        6 => (0..7u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn without_backoff_it_does_what_otp_does(
        strategy in any_strategy(),
        max_restarts in 0..5u32,
        children in prop::collection::vec(any_restart(), 0..6),
        starts_that_fail in prop::collection::vec(prop::bool::weighted(0.08), 0..60),
        steps in prop::collection::vec(any_step(), 0..60),
    ) {
        let all: Vec<_> = children.iter().copied().map(rules).collect();
        let mut world = World::new(strategy, Intensity::new(max_restarts, WITHIN), GiveUp::Escalate, &all);
        world.starts_that_fail = starts_that_fail.iter().copied().collect();
        let mut oracle = Oracle {
            strategy,
            max_restarts: max_restarts as usize,
            children: (0..).zip(children).map(|(id, restart)| (id, restart, false)).collect(),
            restarts: Vec::new(),
            starts_that_fail: starts_that_fail.iter().copied().collect(),
            did: Vec::new(),
            has_ended: false,
        };
        let mut next_id = oracle.children.len() as u64;
        let did = world.tell(Event::Boot);
        oracle.boot();
        prop_assert_eq!(did, std::mem::take(&mut oracle.did));

        for step in steps {
            if oracle.has_ended {
                prop_assert!(world.up.is_empty());
                break;
            }
            let pick = |idx: usize| ChildId(idx as u64 % next_id.max(1));
            let did = match step {
                Step::Pass(seconds) => {
                    world.now += SECOND * seconds as u32;
                    Vec::new()
                }
                Step::Exit { child, is_abnormal, has_progressed } => {
                    oracle.exit(pick(child).0, is_abnormal, has_progressed, world.now);
                    world.exit(pick(child).0, is_abnormal, has_progressed)
                }
                Step::Terminate(child) => {
                    oracle.terminate(pick(child).0);
                    world.tell(Event::Terminate(pick(child)))
                }
                Step::Restart(child) => {
                    oracle.restart(pick(child).0, world.now);
                    world.tell(Event::Restart(pick(child)))
                }
                Step::Remove(child) => {
                    oracle.stop(pick(child).0);
                    oracle.remove(pick(child).0);
                    world.tell(Event::Remove(pick(child)))
                }
                Step::Add(restart) => {
                    oracle.add(next_id, restart);
                    next_id += 1;
                    let child = world.decider.add(rules(restart));
                    world.tell(Event::Add(child))
                }
            };
            prop_assert_eq!(did, std::mem::take(&mut oracle.did));
            let known: Vec<_> = world.decider.children().map(|child| child.0).collect();
            prop_assert_eq!(known, oracle.children.iter().map(|child| child.0).collect::<Vec<_>>());
            let up: Vec<_> = oracle.children.iter().filter(|child| child.2).map(|child| child.0).collect();
            prop_assert_eq!(world.up(), up);
        }
    }

    #[test]
    fn with_backoff_everything_comes_back_in_order(
        strategy in any_strategy(),
        children in prop::collection::vec((any_restart(), 0..4u64), 1..6),
        crashes in prop::collection::vec((0..6usize, prop::bool::weighted(0.4)), 1..40),
        starts_that_fail in prop::collection::vec(prop::bool::weighted(0.2), 0..40),
    ) {
        let all: Vec<_> = children.iter().map(|(restart, first)| Rules { restart: *restart, ..slow(*first) }).collect();
        let mut world = World::booted(strategy, u32::MAX, &all);
        world.starts_that_fail = starts_that_fail.into();
        for (child, waits) in crashes {
            let child = (child % all.len()) as u64;
            if world.up.contains(&child) {
                world.crash(child);
            }
            if waits && !world.later.is_empty() {
                let did = world.wait();
                // A failed start without a wait begins the turn again.
                for turn in did.split(|did| matches!(did, Did::FailToStart(_))) {
                    let started = turn.iter().filter_map(|did| match did { Did::Start(child) => Some(child), _ => None });
                    prop_assert!(started.is_sorted(), "starts in list order: {turn:?}");
                }
            }
            // Whoever is neither up nor forgotten waits, and something will wake it.
            for id in world.decider.children() {
                match world.decider.phase(id).expect("it is listed") {
                    Phase::Running { .. } => prop_assert!(world.up.contains(&id.0)),
                    Phase::Waiting { generation } => prop_assert!(world.later.iter().any(|later| later.1 == generation)),
                    other => prop_assert!(false, "{id:?} is {other:?}"),
                }
            }
            if let (Strategy::RestForOne, Some(first)) =
                (strategy, world.decider.children().find(|id| !world.up.contains(&id.0)))
            {
                prop_assert!(world.up.iter().all(|up| *up < first.0), "nobody runs after one that waits");
            }
            if strategy == Strategy::OneForAll {
                prop_assert!(world.up.is_empty() || world.up.len() == world.decider.children().count());
            }
        }
        while !world.later.is_empty() {
            world.wait();
        }
        prop_assert_eq!(world.up.len(), world.decider.children().count());
    }
}

// ---- Single rules, readable one by one.

use Did::{Abort, Escalate, FailToStart, Hold, Start, Stop};

#[test]
fn starts_in_order_and_stops_in_reverse() {
    let mut world = World::new(Strategy::OneForOne, Intensity::default(), GiveUp::Escalate, &[permanent(); 3]);
    assert_eq!(world.tell(Event::Boot), [Start(0), Start(1), Start(2)]);
    assert_eq!(world.tell(Event::StopAll), [Stop(2), Stop(1), Stop(0)]);
}

#[test]
fn a_failed_first_start_takes_back_those_before_it() {
    let mut world = World::new(Strategy::OneForOne, Intensity::default(), GiveUp::Hold, &[permanent(); 4]);
    world.starts_that_fail = [false, false, true].into();
    assert_eq!(world.tell(Event::Boot), [Start(0), Start(1), FailToStart(2), Stop(1), Stop(0), Abort]);
}

#[test]
fn each_strategy_binds_its_own() {
    for (strategy, expected) in [
        (Strategy::OneForOne, vec![Start(1)]),
        (Strategy::OneForAll, vec![Stop(3), Stop(2), Stop(0), Start(0), Start(1), Start(2), Start(3)]),
        (Strategy::RestForOne, vec![Stop(3), Stop(2), Start(1), Start(2), Start(3)]),
    ] {
        let mut world = World::booted(strategy, 1, &[permanent(); 4]);
        assert_eq!(world.crash(1), expected, "{strategy:?}");
    }
}

#[test]
fn the_window_includes_both_ends() {
    let mut world = World::booted(Strategy::OneForOne, 1, &[permanent(); 2]);
    assert_eq!(world.crash(0), [Start(0)]);
    world.now += WITHIN;
    assert_eq!(world.crash(1), [Stop(0), Escalate], "another child's failure counts, too");

    let mut world = World::booted(Strategy::OneForOne, 1, &[permanent(); 2]);
    world.crash(0);
    world.now += WITHIN + Duration::from_nanos(1);
    assert_eq!(world.crash(1), [Start(1)]);
}

#[test]
fn a_failed_restart_counts_as_another() {
    let mut world = World::booted(Strategy::OneForOne, 2, &[permanent(); 2]);
    world.starts_that_fail = [true, true].into();
    assert_eq!(world.crash(1), [FailToStart(1), FailToStart(1), Stop(0), Escalate]);
}

#[test]
fn progress_forgives() {
    let mut world = World::booted(Strategy::OneForOne, 0, &[permanent()]);
    for _ in 0..1_000 {
        assert_eq!(world.exit(0, true, true), [Start(0)]);
    }
    assert_eq!(world.exit(0, true, false), [Escalate]);
    // What came before the progress is forgiven too, and nobody else's failures are.
    let mut world = World::booted(Strategy::OneForOne, 2, &[permanent(), permanent()]);
    assert_eq!(world.exit(1, true, false), [Start(1)]);
    for _ in 0..10 {
        assert_eq!(world.exit(0, true, false), [Start(0)]);
        assert_eq!(world.exit(0, true, true), [Start(0)]);
    }
    assert_eq!(world.exit(0, true, false), [Start(0)]);
    assert_eq!(world.exit(1, true, false), [Stop(0), Escalate]);
}

#[test]
fn backoff_grows_is_bounded_and_begins_again_after_a_steady_run() {
    let mut world = World::booted(Strategy::OneForOne, u32::MAX, &[slow(1)]);
    for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
        let before = world.now;
        assert_eq!(world.crash(0), []);
        assert_eq!(world.wait(), [Start(0)]);
        assert_eq!(world.now - before, SECOND * expected);
    }
    // Just short of the longest wait it is not steady yet.
    world.now += SECOND * 60 - Duration::from_nanos(1);
    world.crash(0);
    assert_eq!(world.later[0].0 - world.now, SECOND * 60);
    world.wait();
    world.now += SECOND * 60;
    world.crash(0);
    assert_eq!(world.later[0].0 - world.now, SECOND);
}

#[test]
fn a_run_shorter_than_the_window_is_not_steady() {
    let mut world = World::booted(Strategy::OneForOne, u32::MAX, &[permanent()]);
    let backoff = Backoff { jitter: 0.0, ..Backoff::new(Duration::from_millis(1), Duration::from_millis(2)) };
    let child = world.decider.add(Rules { backoff, ..permanent() });
    world.tell(Event::Add(child));
    for (ran, expected) in [(Duration::ZERO, 1), (WITHIN - Duration::from_nanos(1), 2), (WITHIN, 1)] {
        world.now += ran;
        world.crash(1);
        assert_eq!(world.later[0].0 - world.now, Duration::from_millis(expected));
        world.wait();
    }
}

#[test]
fn each_waits_for_its_own_time() {
    let mut world = World::booted(Strategy::OneForOne, 9, &[slow(5), slow(1), slow(3)]);
    (0..3).for_each(|child| assert_eq!(world.crash(child), []));
    assert_eq!(world.wait(), [Start(1)]);
    assert_eq!(world.wait(), [Start(2)]);
    assert_eq!(world.wait(), [Start(0)]);
}

#[test]
fn progress_begins_the_backoff_again() {
    let mut world = World::booted(Strategy::OneForOne, u32::MAX, &[slow(1)]);
    for _ in 0..3 {
        world.crash(0);
        world.wait();
    }
    world.exit(0, true, true);
    assert_eq!(world.later[0].0 - world.now, SECOND);
}

#[test]
fn an_earlier_failure_takes_over_a_wait() {
    let mut world = World::booted(Strategy::RestForOne, 9, &[permanent(), slow(5), slow(1)]);
    assert_eq!(world.crash(1), [Stop(2)]);
    assert_eq!(world.crash(0), [Start(0), Start(1), Start(2)], "the first restarts at once and brings the rest along");
    assert_eq!(world.wait(), [], "the wait of the second is void");
    assert_eq!(world.up(), [0, 1, 2]);
}

#[test]
fn one_that_was_terminated_while_it_waited_stays_down_and_the_rest_comes_back() {
    let mut world = World::booted(Strategy::OneForAll, 9, &[slow(1); 3]);
    assert_eq!(world.crash(1), [Stop(2), Stop(0)]);
    assert_eq!(world.tell(Event::Terminate(ChildId(1))), []);
    assert_eq!(world.wait(), [Start(0), Start(2)]);
    assert_eq!(world.tell(Event::Restart(ChildId(1))), [Start(1)], "and comes back alone");
}

#[test]
fn hold_stops_all_and_a_restart_wakes_them() {
    let mut world = World::new(Strategy::OneForOne, Intensity::new(1, WITHIN), GiveUp::Hold, &[permanent(); 3]);
    world.tell(Event::Boot);
    world.tell(Event::Terminate(ChildId(0)));
    world.crash(1);
    assert_eq!(world.crash(1), [Stop(2), Hold]);
    assert!(world.decider.is_held());
    assert_eq!(world.decider.phase(ChildId(1)), Some(Phase::Held { is_culprit: true }));
    let added = world.decider.add(permanent());
    assert_eq!(world.tell(Event::Add(added)), [], "a held supervisor starts nothing by itself");
    assert_eq!(world.tell(Event::Restart(ChildId(1))), [Start(1), Start(2)], "the first was down on purpose");
    assert_eq!(world.crash(1), [Start(1)], "the window begins again");
    assert_eq!(world.crash(1), [Stop(2), Hold]);
}

#[test]
fn a_restart_by_hand_does_not_count() {
    let mut world = World::booted(Strategy::RestForOne, 0, &[permanent(); 3]);
    for _ in 0..10 {
        assert_eq!(world.tell(Event::Restart(ChildId(1))), [Stop(2), Stop(1), Start(1), Start(2)]);
    }
    assert_eq!(world.decider.restarts(ChildId(0)), 0);
    assert_eq!(world.decider.restarts(ChildId(2)), 10);
}

#[test]
fn equal_seeds_wait_equally() {
    let jittered = Rules { backoff: Backoff::new(SECOND, SECOND * 60), ..permanent() };
    let waits = |seed| {
        let mut decider = Decider::new(Strategy::OneForOne, Intensity::new(9, WITHIN), GiveUp::Escalate, seed);
        let child = decider.add(jittered);
        decider.decide(Event::Boot, Duration::ZERO);
        decider.decide(Event::Started(child), Duration::ZERO);
        decider.decide(Event::Exited { child, is_abnormal: true, has_progressed: false }, Duration::ZERO)
    };
    assert_eq!(waits(1), waits(1));
    assert_ne!(waits(1), waits(2));
}
