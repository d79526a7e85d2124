//! Gears that reject, break and panic: backoff, savepoints, dead letters, intensity, careful starts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_actors::supervision::{Backoff, Status};
use fluxrig_actors::{LetterError, OnFailed, Redelivery, Supervision};
use tokio::time::Instant;

use crate::flow::pipe;
use crate::parts::{Func, Hand, Pass, Sink, number, push};
use crate::stage::{End, Stage, settings, tireless, until_eq, until_true};

/// How often each number was handled, and when.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<BTreeMap<u64, Vec<Instant>>>>);

impl Calls {
    pub(crate) fn note(&self, number: u64) -> usize {
        let mut calls = self.0.lock().unwrap();
        let times = calls.entry(number).or_default();
        times.push(Instant::now());
        times.len()
    }

    pub(crate) fn count(&self, number: u64) -> usize {
        self.0.lock().unwrap().get(&number).map_or(0, Vec::len)
    }

    fn times(&self, number: u64) -> Vec<Instant> {
        self.0.lock().unwrap().get(&number).cloned().unwrap_or_default()
    }
}

/// Fails at number 5 so many times, by turns as a panic and as an error, after having emitted.
fn fails(calls: &Calls, times: usize) -> Func {
    let calls = calls.clone();
    Func::new(move |msg, _, out| {
        let number = number(&msg);
        let nth = calls.note(number);
        // As it came: it must be there again, unchanged, when the gear is started anew.
        assert_eq!(msg.path.len(), 1);
        out.emit(msg);
        if number == 5 && nth <= times {
            assert!(nth.is_multiple_of(2), "boom {nth}");
            return Err(GearError::broken(format!("boom {nth}")));
        }
        Ok(())
    })
}

pub(crate) async fn redelivery(stage: Arc<Stage>) {
    let (calls, sink, source) = (Calls::default(), Sink::new(), Hand::source());
    let mut wire = stage.wire();
    wire.redelivery.first = Duration::from_millis(10);
    wire.redelivery.max = Duration::from_millis(25);
    let rig = stage
        .rig("redelivery")
        .endpoint("source", source.clone())
        .gear("gear", fails(&calls, 3))
        .supervised(tireless())
        .endpoint("sink", sink.clone())
        .wire_with("source", "gear", wire)
        .wire_with("gear", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    push(&source.io().await, 0..50).await;
    until_eq("each once, in order", (0..50).collect(), || sink.numbers()).await;
    for number in 0..50 {
        // The savepoint: what came before the failing one is not handled again, what comes after it not before it.
        assert_eq!(calls.count(number), if number == 5 { 4 } else { 1 }, "number {number}");
    }
    let waits: Vec<Duration> = calls.times(5).windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (wait, least) in waits.iter().zip([10, 20, 25]) {
        assert!(*wait >= Duration::from_millis(least), "{waits:?}");
    }
    assert_eq!(rig.dead_letter_count(), 0);
    stage.stop(rig).await;
}

pub(crate) async fn dead_letter(stage: Arc<Stage>) {
    let (calls, sink, source) = (Calls::default(), Sink::new(), Hand::source());
    let mut wire = stage.wire();
    wire.redelivery.max_deliver = 3.try_into().unwrap();
    let rig = stage
        .rig("dead-letter")
        .endpoint("source", source.clone())
        .gear("gear", fails(&calls, usize::MAX))
        .supervised(tireless())
        .endpoint("sink", sink.clone())
        .wire_with("source", "gear", wire)
        .wire_with("gear", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    push(&source.io().await, 0..10).await;
    until_eq("the others arrive", vec![0, 1, 2, 3, 4, 6, 7, 8, 9], || sink.numbers()).await;
    assert_eq!(calls.count(5), 3);
    let letters = rig.dead_letters().unwrap();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((number(&letter.msg), letter.attempts), (5, 3));
    assert_eq!((&*letter.gear, &*letter.wire), ("gear", "source.out->gear.in"));
    assert!(letter.first_error.contains("boom 1"), "{letter:?}");
    assert!(letter.last_error.contains("boom 3") && letter.reason.contains("boom 3"), "{letter:?}");
    assert!(letter.at_ns > 0 && letter.at_ns <= stage.wall_ns());
    stage.stop(rig).await;
}

pub(crate) async fn reject(stage: Arc<Stage>) {
    let (calls, sink) = (Calls::default(), Sink::new());
    let noted = calls.clone();
    let gear = Func::new(move |msg, seen, out| {
        *seen += 1;
        let nth = noted.note(number(&msg));
        out.emit(msg.clone());
        match (number(&msg), nth) {
            (3, _) => Err(GearError::reject("not this one")),
            (7, 1 | 2) => Err(GearError::broken("not yet")),
            (7, _) => Err(GearError::reject("not that one")),
            _ => Ok(()),
        }
    });
    let (rig, io) = pipe(&stage, gear, &sink).await;
    push(&io, 0..10).await;
    until_eq("the others arrive", vec![0, 1, 2, 4, 5, 6, 8, 9], || sink.numbers()).await;
    let letters = rig.dead_letters().unwrap();
    assert_eq!(letters.iter().map(|letter| number(&letter.msg)).collect::<Vec<_>>(), [3, 7]);
    assert_eq!((&*letters[0].reason, letters[0].attempts, calls.count(3)), ("not this one", 1, 1));
    // Rejected at the third delivery, after it had broken the gear twice.
    assert_eq!((&*letters[1].reason, letters[1].attempts, calls.count(7)), ("not that one", 3, 3));
    assert_eq!((&*letters[1].first_error, &*letters[1].last_error), ("not yet", "not that one"));
    let snapshot = rig.snapshot().await.unwrap();
    let gear = snapshot.find("core/scenario/gears/gear/gear-0").unwrap();
    assert_eq!(gear.restarts, 2, "a rejection is no restart");
    stage.stop(rig).await;
}

/// Every message panics: all of them end as dead letters, while the pipeline beside it runs on.
pub(crate) async fn poison(stage: Arc<Stage>) {
    drains(stage, tireless(), 2, 20).await;
}

/// The same with what a rig has when nothing is said: more crashes than the intensity allows, and a burial after every
/// fifth of them.
pub(crate) async fn poison_with_defaults(stage: Arc<Stage>) {
    drains(stage, Supervision::default(), Redelivery::default().max_deliver.get(), 4).await;
}

async fn drains(stage: Arc<Stage>, supervision: Supervision, max_deliver: u32, count: u64) {
    let (sink, beside) = (Sink::new(), Sink::new());
    let (source, other) = (Hand::source(), Hand::source());
    let mut wire = stage.wire();
    wire.redelivery.max_deliver = max_deliver.try_into().unwrap();
    let rig = stage
        .rig("poison")
        .endpoint("source", source.clone())
        .endpoint("other", other.clone())
        .gear("poisoned", Func::new(|msg, _, _| panic!("cannot stand {}", number(&msg))))
        .supervised(supervision)
        .gear("healthy", Pass)
        .endpoint("sink", sink.clone())
        .endpoint("beside", beside.clone())
        .wire_with("source", "poisoned", wire)
        .wire_with("poisoned", "sink", stage.wire())
        .wire_with("other", "healthy", stage.wire())
        .wire_with("healthy", "beside", stage.wire())
        .start()
        .await
        .unwrap();
    let poison = source.io().await;
    let other = other.io().await;
    tokio::join!(push(&poison, 0..count), push(&other, 0..500));
    until_eq("the pipeline beside it runs on", (0..500).collect(), || beside.numbers()).await;
    until_eq("all are dead letters", usize::try_from(count).unwrap(), || rig.dead_letter_count()).await;
    for (letter, expected) in rig.dead_letters().unwrap().iter().zip(0..) {
        assert_eq!((number(&letter.msg), letter.attempts), (expected, max_deliver), "in order");
        assert!(letter.reason.contains("panicked: cannot stand"), "{}", letter.reason);
    }
    assert_eq!(sink.len(), 0);
    stage.stop(rig).await;
}

fn brittle() -> Supervision {
    Supervision { max_restarts: 2, backoff: Backoff::NONE, ..Supervision::default() }
}

/// Over its intensity a gear is failed: its wires hold, its siblings go on, and a person can start it again.
pub(crate) async fn over_intensity(stage: Arc<Stage>) {
    let (sink, beside, source, other) = (Sink::new(), Sink::new(), Hand::source(), Hand::source());
    let is_mended = Arc::new(AtomicU64::new(0));
    let mended = Arc::clone(&is_mended);
    let gear = Func::new(move |msg, _, out| {
        assert!(mended.load(Ordering::Relaxed) > 0, "broken");
        out.emit(msg);
        Ok(())
    });
    let mut wire = stage.wire();
    wire.redelivery.max_deliver = 100.try_into().unwrap();
    let rig = stage
        .rig("intensity")
        .endpoint("source", source.clone())
        .endpoint("other", other.clone())
        .gear("gear", gear)
        .supervised(brittle())
        .gear("healthy", Pass)
        .endpoint("sink", sink.clone())
        .endpoint("beside", beside.clone())
        .wire_with("source", "gear", wire)
        .wire_with("gear", "sink", stage.wire())
        .wire_with("other", "healthy", stage.wire())
        .wire_with("healthy", "beside", stage.wire())
        .start()
        .await
        .unwrap();
    push(&source.io().await, 0..10).await;
    loop {
        let snapshot = rig.snapshot().await.unwrap();
        if snapshot.find("core/scenario/gears/gear").unwrap().status == Status::Failed {
            assert_eq!(snapshot.find("core/scenario/gears/healthy").unwrap().status, Status::Running);
            let last = snapshot.find("core/scenario/gears/gear/gear-0").unwrap().last_exit.clone();
            assert!(last.unwrap().to_string().contains("broken"), "the reason is there");
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    push(&other.io().await, 0..100).await;
    until_eq("siblings go on", 100, || beside.len()).await;
    assert_eq!(rig.wires()[0].depth, 10, "its wires hold");
    is_mended.store(1, Ordering::Relaxed);
    rig.restart_gear("gear").await.unwrap();
    until_eq("all come through", (0..10).collect(), || sink.numbers()).await;
    stage.stop(rig).await;
}

/// `OnFailed::Stop`: the rig ends, says why, and nothing on its wires is lost.
pub(crate) async fn over_intensity_stops(stage: Arc<Stage>) {
    let (sink, source) = (Sink::new(), Hand::source());
    let build = |gear: Func| {
        stage
            .rig("stops")
            .on_failed(OnFailed::Stop)
            .endpoint("source", source.clone())
            .gear("gear", gear)
            .supervised(brittle())
            .endpoint("sink", sink.clone())
            .wire_with(
                "source",
                "gear",
                WireOptions {
                    redelivery: Redelivery { max_deliver: 1000.try_into().unwrap(), ..stage.wire().redelivery },
                    ..stage.wire()
                },
            )
            .wire_with("gear", "sink", stage.wire())
    };
    let rig = build(Func::new(|_, _, _| panic!("broken for good"))).start().await.unwrap();
    push(&source.io().await, 0..10).await;
    let reason = tokio::time::timeout(Duration::from_secs(60), rig.ended()).await.expect("the rig ends");
    assert!(!reason.is_empty());
    assert!(!rig.idle().await, "whoever waits is told");
    rig.stop(Duration::from_millis(50)).await;
    let rig = build(Func::new(|msg, _, out| {
        out.emit(msg);
        Ok(())
    }));
    let rig = rig.start().await.unwrap();
    let expected: Vec<u64> = if stage.survives(End::Stop) { (0..10).collect() } else { Vec::new() };
    until_eq("what waited comes through", expected, || sink.numbers()).await;
    stage.stop(rig).await;
}

/// A failing message holds up its own partition, and no other.
pub(crate) async fn one_partition(stage: Arc<Stage>) {
    let (sink, source) = (Sink::new(), Hand::source());
    let is_mended = Arc::new(AtomicU64::new(0));
    let mended = Arc::clone(&is_mended);
    let gear = Func::new(move |msg, _, out| {
        if crate::parts::text(&msg, "key") == "bad" && mended.load(Ordering::Relaxed) == 0 {
            return Err(GearError::broken("not yet"));
        }
        out.emit(msg);
        Ok(())
    });
    let mut wire = stage.wire();
    wire.partitions = 8.try_into().unwrap();
    wire.partition_by = Some("key".parse().unwrap());
    wire.redelivery.max_deliver = 10_000.try_into().unwrap();
    let rig = stage
        .rig("partition")
        .endpoint("source", source.clone())
        .gear("gear", gear)
        .supervised(tireless())
        .endpoint("sink", sink.clone())
        .wire_with("source", "gear", wire)
        .wire_with("gear", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    let io = source.io().await;
    let door = io.door();
    for number in 0..200 {
        let mut msg = crate::parts::numbered(&io, number);
        msg.data.insert_key("key", if number == 0 { "bad".to_owned() } else { format!("key{}", number % 40) });
        door.admit(msg).await.unwrap();
    }
    // One of eight partitions waits, with what else belongs to it.
    until_true("most pass it", || sink.len() >= 120).await;
    assert!(!sink.numbers().contains(&0));
    is_mended.store(1, Ordering::Relaxed);
    until_eq("all arrive", 200, || sink.len()).await;
    let mut by_key: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    sink.numbers().into_iter().filter(|number| *number > 0).for_each(|n| by_key.entry(n % 40).or_default().push(n));
    assert!(by_key.values().all(|numbers| numbers.is_sorted()), "order per key");
    stage.stop(rig).await;
}

/// A gear with two inputs: the one that waits out a failure does not hold up the other.
pub(crate) async fn other_wires_go_on(stage: Arc<Stage>) {
    let (bad, good, sink) = (Hand::source(), Hand::source(), Sink::new());
    let gear = Func::new(|msg, _, out| {
        if number(&msg) == 0 {
            return Err(GearError::broken("not this one"));
        }
        out.emit(msg);
        Ok(())
    });
    let mut wire = stage.wire();
    wire.redelivery = Redelivery {
        max_deliver: 3.try_into().unwrap(),
        first: Duration::from_secs(3600),
        max: Duration::from_secs(3600),
    };
    let rig = stage
        .rig("wires")
        .endpoint("bad", bad.clone())
        .endpoint("good", good.clone())
        .gear("gear", gear)
        .supervised(tireless())
        .endpoint("sink", sink.clone())
        .wire_with("bad", "gear", wire)
        .wire_with("good", "gear", stage.wire())
        .wire_with("gear", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    push(&bad.io().await, [0, 1]).await;
    push(&good.io().await, 2..100).await;
    until_eq("the other wire goes on", (2..100).collect(), || sink.numbers()).await;
    stage.end(rig, End::Kill).await;
}

/// Without a journal dead letters are bounded, the oldest go; purged ones in between do not confuse the count.
pub(crate) async fn letters_are_bounded(stage: Arc<Stage>) {
    let (sink, source) = (Sink::new(), Hand::source());
    let gear = Func::new(|_, _, _| Err(GearError::reject("none of them")));
    let rig = stage
        .rig("bounded")
        .settings(settings(|settings| settings.dead_letters_max = 6))
        .endpoint("source", source.clone())
        .gear("gear", gear)
        .endpoint("sink", sink.clone())
        .wire_with("source", "gear", stage.wire())
        .wire_with("gear", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    let io = source.io().await;
    let numbers = || rig.dead_letters().unwrap().iter().map(|letter| number(&letter.msg)).collect::<Vec<_>>();
    push(&io, 0..6).await;
    until_eq("all are there", (0..6).collect(), numbers).await;
    let seqs: Vec<u64> = rig.dead_letters().unwrap().iter().map(|letter| letter.seq).collect();
    rig.purge_letter(seqs[1]).unwrap();
    rig.purge_letter(seqs[3]).unwrap();
    assert!(matches!(rig.purge_letter(seqs[3]), Err(LetterError::Unknown { .. })));
    assert_eq!(numbers(), [0, 2, 4, 5]);
    for number in 6..20 {
        push(&io, [number]).await;
        until_true("it is handled", || numbers().contains(&number)).await;
    }
    // With a journal they are durable, and only a person takes them away.
    let expected: Vec<u64> =
        if stage.is_turbo() { (14..20).collect() } else { [0, 2, 4, 5].into_iter().chain(6..20).collect() };
    assert_eq!(numbers(), expected);
    stage.stop(rig).await;
}

/// Two processes died while they handled a message: the third counts the attempt before it makes it, so that the message
/// that ends the process is found out.
pub(crate) async fn careful_start(stage: Arc<Stage>) {
    let (sink, source) = (Sink::new(), Hand::source());
    let (calls, is_down) = (Calls::default(), Arc::new(AtomicBool::new(true)));
    let build = || {
        let (calls, is_down, ground) = (calls.clone(), Arc::clone(&is_down), Arc::clone(&stage));
        let gear = Func::new(move |msg, _, out| {
            calls.note(number(&msg));
            if is_down.load(Ordering::SeqCst) {
                return Err(GearError::broken("down for the hour"));
            }
            if number(&msg) == 3 {
                // Nothing that happens after this instant has happened.
                ground.kill_now();
                return Err(GearError::broken("the process is dead"));
            }
            out.emit(msg);
            Ok(())
        });
        let mut wire = stage.wire();
        wire.redelivery.max_deliver = 3.try_into().unwrap();
        stage
            .rig("careful")
            .endpoint("source", source.clone())
            .gear("gear", gear)
            .supervised(Supervision {
                backoff: Backoff::new(Duration::from_secs(3600), Duration::from_secs(3600)),
                ..tireless()
            })
            .endpoint("sink", sink.clone())
            .wire_with("source", "gear", wire)
            .wire_with("gear", "sink", stage.wire())
    };
    // The first process dies with all of it still to come: its gear is down for the hour.
    let rig = build().start().await.unwrap();
    push(&source.io().await, 0..6).await;
    until_eq("its gear is down", 1, || calls.count(0)).await;
    stage.end(rig, End::Kill).await;
    is_down.store(false, Ordering::SeqCst);
    if stage.is_turbo() {
        // Nothing of it is left.
        let rig = build().start().await.unwrap();
        assert!(rig.idle().await);
        return stage.stop(rig).await;
    }
    // The second dies at the deadly one, whose attempt is noted too late; from the third on it is noted before.
    for died in 1..=4 {
        let rig = build().start().await.unwrap();
        until_eq("the process dies", died, || calls.count(3)).await;
        stage.bury(rig).await;
    }
    let rig = build().start().await.unwrap();
    until_eq("the deadly one is found out", 1, || rig.dead_letter_count()).await;
    until_true("the others arrive", || sink.numbers().contains(&5)).await;
    assert_eq!(calls.count(3), 4);
    let letter = rig.dead_letters().unwrap().remove(0);
    assert_eq!((number(&letter.msg), letter.attempts), (3, 3));
    assert!(letter.first_error.contains("the process ended"), "{letter:?}");
    stage.stop(rig).await;
}
