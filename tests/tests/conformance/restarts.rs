//! What ends and begins again: a gear, a wire's actor, an endpoint, the node, the process, the power.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_actors::{Redelivery, Replayed, Retention, Rig};

use crate::flow::pipe;
use crate::parts::{Act, Func, Hand, Pass, Seen, Sink, number, numbered, push, text};
use crate::stage::{End, Stage, tireless, until_eq, until_true};

/// Counts in its state, which a restart loses, and durably, which it does not.
fn counting() -> Func {
    Func::new(|mut msg, seen, out| {
        *seen += 1;
        let kept = out.get("kept").and_then(|value| value.as_int()).map_or(0, |int| i64::try_from(int).unwrap());
        out.put("kept", kept + 1);
        msg.data.insert_key("seen", i64::try_from(*seen).unwrap());
        msg.data.insert_key("kept", kept + 1);
        out.emit(msg);
        Ok(())
    })
}

fn int(msg: &FluxMsg, key: &str) -> i64 {
    msg.data.get_key(key).and_then(Value::as_int).and_then(|int| i64::try_from(int).ok()).unwrap_or(-1)
}

pub(crate) async fn gear(stage: Arc<Stage>) {
    let sink = Sink::new();
    let (rig, io) = pipe(&stage, counting(), &sink).await;
    push(&io, 0..100).await;
    until_eq("the first hundred", 100, || sink.len()).await;
    rig.restart_gear("gear").await.unwrap();
    push(&io, 100..200).await;
    until_eq("nothing lost, nothing doubled", (0..200).collect(), || sink.numbers()).await;
    let last = sink.seen()[199].msg.clone();
    assert_eq!((int(&last, "seen"), int(&last, "kept")), (100, 200), "state lost, durable state kept");
    // Again and again, while messages are on their way.
    let pushed = crate::parts::push_beside(&io, 200..1200);
    while !pushed.is_finished() {
        rig.restart_gear("gear").await.unwrap();
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    assert_eq!(pushed.await.unwrap(), 1000);
    until_eq("nothing lost, nothing doubled", (0..1200).collect(), || sink.numbers()).await;
    assert_eq!(int(&sink.seen()[1199].msg, "kept"), 1200);
    stage.stop(rig).await;
}

pub(crate) async fn wire(stage: Arc<Stage>) {
    let sink = Sink::new();
    let (rig, io) = pipe(&stage, Pass, &sink).await;
    let pushed = crate::parts::push_beside(&io, 0..1000);
    while !pushed.is_finished() {
        rig.restart_wire("source.out->gear.in").await.unwrap();
        rig.restart_wire("gear.out->sink.in").await.unwrap();
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    until_eq("nothing lost, nothing doubled", (0..1000).collect(), || sink.numbers()).await;
    stage.stop(rig).await;
}

/// Handled exactly once inside; at the edge, once or as *maybe sent*. `sent` admissions had a receipt.
fn check(seen: &[Seen], sent: &HashSet<u64>, admitted: u64) {
    let mut by_number: BTreeMap<u64, Vec<&Seen>> = BTreeMap::new();
    for seen in seen {
        by_number.entry(seen.number).or_default().push(seen);
    }
    for number in sent {
        assert!(by_number.contains_key(number), "{number} lost");
    }
    let mut kept = 0;
    for (number, seen) in by_number {
        assert!(number < admitted, "{number} invented");
        assert!(seen[1..].iter().all(|seen| seen.is_maybe_sent), "{number} doubled silently");
        assert!(seen.iter().all(|one| one.id == seen[0].id), "a repeat has another id");
        // The gear's own count is one for one with the messages it handled, whatever ended in between.
        let count = int(&seen[0].msg, "kept");
        assert!(seen.iter().all(|one| int(&one.msg, "kept") == count), "handled again: {number}");
        assert!(count > kept, "order of {number}");
        kept = count;
    }
}

/// A process that ends again and again, while messages come in.
async fn process(stage: Arc<Stage>, ends: &[End]) {
    let (sink, source) = (Sink::new(), Hand::source());
    // After two unclean ends the message under way counts as a suspect; here none is, however often it dies.
    let wire = || {
        let redelivery = Redelivery { max_deliver: 1000.try_into().unwrap(), ..stage.wire().redelivery };
        WireOptions { redelivery, ..stage.wire() }
    };
    let build = || {
        stage
            .rig("process")
            .endpoint("source", source.clone())
            .gear("first", counting())
            .gear("second", Pass)
            .endpoint("sink", sink.clone())
            .wire_with("source", "first", wire())
            .wire_with("first", "second", wire())
            .wire_with("second", "sink", wire())
    };
    let (mut next, mut sent) = (0, HashSet::new());
    for round in 0..8 {
        let rig = build().start().await.unwrap();
        let io = source.io().await;
        let door = io.door();
        let (began, mut receipt) = (next, None);
        for idx in 0..60 + 37 * round {
            let admitted = door.admit(numbered(&io, next)).await.unwrap();
            next += 1;
            if idx == 40 {
                receipt = Some((admitted, next));
            }
        }
        let (receipt, covered) = receipt.unwrap();
        assert!(receipt.durable().await);
        let end = ends[round as usize % ends.len()];
        // What had no receipt yet may go with the process; a drained one has none such.
        sent.extend(began..if end == End::Stop { next } else { covered });
        stage.end(rig, end).await;
    }
    let rig = build().start().await.unwrap();
    push(&source.io().await, [next]).await;
    until_true("all arrive", || sink.numbers().contains(&next)).await;
    assert!(rig.idle().await);
    if ends.iter().all(|end| stage.survives(*end)) {
        check(&sink.seen(), &sent, next + 1);
    } else {
        // Declared: without a journal, or with `os` and a power cut, messages and state may go; no effect comes twice
        // without being told as such, as long as the ledger of takes is not lost with them.
        let numbers = sink.numbers();
        assert!(numbers.iter().all(|number| *number <= next));
        if stage.is_turbo() {
            assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), numbers.len(), "never twice");
        }
    }
    stage.stop(rig).await;
}

pub(crate) async fn node(stage: Arc<Stage>) {
    process(stage, &[End::Stop]).await;
}

pub(crate) async fn kill(stage: Arc<Stage>) {
    process(stage, &[End::Kill]).await;
}

pub(crate) async fn kill_and_stop(stage: Arc<Stage>) {
    process(stage, &[End::Kill, End::Stop, End::Kill, End::Kill]).await;
}

pub(crate) async fn power(stage: Arc<Stage>) {
    stage.simulate();
    process(stage, &[End::Power, End::Power, End::Kill]).await;
}

/// The effects of a message have the same ids, however often its handling is repeated.
pub(crate) async fn identity(stage: Arc<Stage>) {
    let (sink, source) = (Sink::new(), Hand::source());
    let tries = Arc::new(AtomicU64::new(0));
    let first_ids: Arc<Mutex<Vec<FluxId>>> = Arc::default();
    let build = |act: Act| {
        let tries = Arc::clone(&tries);
        let gear = Func::new(move |msg, _, out| {
            out.emit(msg.clone());
            out.emit(msg.clone());
            // Handled twice over a crash of the gear as well.
            if tries.fetch_add(1, Ordering::Relaxed) == 0 {
                return Err(GearError::broken("once"));
            }
            Ok(())
        });
        // One emit over two wires into one gear: the ids derived from the two copies differ.
        let both = Ports::none().input("left").input("right").output("out");
        let join = Func::new(|mut msg, _, out| {
            let port = out.port().to_owned();
            msg.data.insert_key("port", port);
            out.emit(msg);
            Ok(())
        });
        stage
            .rig("identity")
            .endpoint("source", source.clone())
            .gear("gear", gear)
            .supervised(tireless())
            .gear("join", join.ports(both))
            .endpoint("sink", sink.then(move |_| act))
            .wire_with("source", "gear", stage.wire())
            .wire_with("gear", "join.left", stage.wire())
            .wire_with("gear", "join.right", stage.wire())
            .wire_with("join", "sink", stage.wire())
    };
    let rig = build(Act::Keep).start().await.unwrap();
    push(&source.io().await, [0]).await;
    until_eq("four of them", 4, || sink.len()).await;
    let key = |seen: &Seen| (text(&seen.msg, "port"), seen.id);
    let first: Vec<_> = sink.seen().iter().map(key).collect();
    assert_eq!(first.iter().map(|(_, id)| *id).collect::<HashSet<_>>().len(), 4, "twins: {first:?}");
    first_ids.lock().unwrap().extend(first.iter().map(|(_, id)| *id));
    stage.end(rig, End::Kill).await;
    let rig = build(Act::Done).start().await.unwrap();
    if stage.survives(End::Kill) {
        until_eq("the same again", 8, || sink.len()).await;
        let again: Vec<_> = sink.seen()[4..].iter().map(key).collect();
        assert_eq!(again, first, "the same ids after the crash");
        assert!(sink.seen()[4..].iter().all(|seen| seen.is_maybe_sent));
    }
    stage.stop(rig).await;
}

/// Emitted before the process died and handled again after it: one id per cause, wherever the crash was.
pub(crate) async fn identity_when_handled_again(stage: Arc<Stage>) {
    let (sink, source) = (Sink::new(), Hand::source());
    let ids: Arc<Mutex<Vec<FluxId>>> = Arc::default();
    let build = |is_last: bool| {
        let (ids, ground) = (Arc::clone(&ids), Arc::clone(&stage));
        let first = Func::new(|msg, _, out| {
            out.emit(msg);
            Ok(())
        });
        let second = Func::new(move |msg, _, out| {
            ids.lock().unwrap().push(msg.id);
            if !is_last {
                ground.kill_now();
                return Err(GearError::broken("the process is dead"));
            }
            out.emit(msg);
            Ok(())
        });
        stage
            .rig("again")
            .endpoint("source", source.clone())
            .gear("first", first)
            .gear("second", second)
            .endpoint("sink", sink.clone())
            .wire_with("source", "first", stage.wire())
            .wire_with("first", "second", stage.wire())
            .wire_with("second", "sink", stage.wire())
    };
    if stage.is_turbo() {
        // Declared: nothing of a message outlives its process, so nothing is handled again.
        return;
    }
    // Durable, and not handled yet.
    let rig = stage
        .rig("again")
        .endpoint("source", source.clone())
        .gear("first", Func::new(|_, _, _| Err(GearError::broken("down for the hour"))))
        .gear("second", Func::new(|_, _, _| Ok(())))
        .endpoint("sink", sink.clone())
        .wire_with("source", "first", stage.wire())
        .wire_with("first", "second", stage.wire())
        .wire_with("second", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    push(&source.io().await, [0]).await;
    stage.end(rig, End::Kill).await;
    for died in 1..=3 {
        let rig = build(false).start().await.unwrap();
        until_true("the process dies", || ids.lock().unwrap().len() >= died).await;
        stage.bury(rig).await;
    }
    let rig = build(true).start().await.unwrap();
    until_eq("it arrives", 1, || sink.len()).await;
    let ids: HashSet<FluxId> = ids.lock().unwrap().iter().copied().collect();
    assert_eq!(ids.len(), 1, "every time the same message");
    stage.stop(rig).await;
}

/// State: put, get, remove, savepoints; over a crash of the gear, of the process, of the power.
pub(crate) async fn state(stage: Arc<Stage>) {
    let (sink, source) = (Sink::new(), Hand::source());
    let gear = || {
        let tries = AtomicU64::new(0);
        Func::new(move |mut msg, _, out| {
            let sum = |value: Option<Value>| {
                value.and_then(|value| value.as_int()).map_or(0, |int| i64::try_from(int).unwrap())
            };
            let before = sum(out.get("sum"));
            out.put("sum", before + i64::try_from(number(&msg)).unwrap());
            out.put("gone", "soon");
            assert!(out.get("gone").is_some(), "what was put is there within the delivery");
            out.remove("gone");
            assert!(out.get("gone").is_none());
            if number(&msg) == 7 && tries.fetch_add(1, Ordering::Relaxed) < 2 {
                return Err(GearError::broken("after the put"));
            }
            if number(&msg) == 8 {
                return Err(GearError::reject("after the put"));
            }
            msg.data.insert_key("sum", sum(out.get("sum")));
            out.emit(msg);
            Ok(())
        })
        .on_start(|ctx| ctx.recovered.len() as u64)
    };
    let build = || {
        stage
            .rig("state")
            .endpoint("source", source.clone())
            .gear("gear", gear())
            .supervised(tireless())
            .endpoint("sink", sink.clone())
            .wire_with("source", "gear", stage.wire())
            .wire_with("gear", "sink", stage.wire())
    };
    let rig = build().start().await.unwrap();
    push(&source.io().await, 1..=10).await;
    until_eq("all but the rejected", 9, || sink.len()).await;
    // 8 was rejected: what it had put is as if it had not been; what 7 had put before it failed, too.
    assert_eq!(int(&sink.seen()[8].msg, "sum"), 55 - 8);
    assert!(rig.idle().await && rig.durable().await);
    stage.end(rig, End::Kill).await;
    let rig = build().start().await.unwrap();
    push(&source.io().await, [100]).await;
    until_eq("one more", 10, || sink.len()).await;
    let expected = if stage.survives(End::Kill) { 147 } else { 100 };
    assert_eq!(int(&sink.seen()[9].msg, "sum"), expected);
    stage.stop(rig).await;
}

/// The state of a partitioned gear belongs to the partition, and a key finds its own again.
pub(crate) async fn state_of_partitions(stage: Arc<Stage>) {
    let (sink, source) = (Sink::new(), Hand::source());
    let build = || {
        let mut wire = stage.wire();
        wire.partitions = 4.try_into().unwrap();
        wire.partition_by = Some("key".parse().unwrap());
        let gear = Func::new(|mut msg, partition, out| {
            let key = text(&msg, "key");
            let count = out.get(&key).and_then(|value| value.as_int()).map_or(0, |int| i64::try_from(int).unwrap()) + 1;
            out.put(key, count);
            msg.data.insert_key("count", count);
            msg.data.insert_key("partition", i64::try_from(*partition).unwrap());
            out.emit(msg);
            Ok(())
        })
        .on_start(|ctx| ctx.partition.into());
        stage
            .rig("partitions")
            .endpoint("source", source.clone())
            .gear("gear", gear)
            .endpoint("sink", sink.clone())
            .wire_with("source", "gear", wire)
            .wire_with("gear", "sink", stage.wire())
    };
    let feed = async |io: Io, numbers: std::ops::Range<u64>| {
        let door = io.door();
        let mut last = None;
        for number in numbers {
            let mut msg = numbered(&io, number);
            msg.data.insert_key("key", format!("key{}", number % 20));
            last = Some(door.admit(msg).await.unwrap());
        }
        assert!(last.unwrap().durable().await);
    };
    let rig = build().start().await.unwrap();
    feed(source.io().await, 0..200).await;
    until_eq("all arrive", 200, || sink.len()).await;
    assert!(rig.idle().await && rig.durable().await);
    stage.end(rig, End::Kill).await;
    let rig = build().start().await.unwrap();
    feed(source.io().await, 200..400).await;
    until_eq("all arrive", 400, || sink.len()).await;
    let mut by_key: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    sink.seen().into_iter().for_each(|seen| by_key.entry(text(&seen.msg, "key")).or_default().push(seen));
    assert_eq!(by_key.len(), 20);
    let mut partitions = HashSet::new();
    for (key, seen) in by_key {
        assert!(seen.iter().map(|seen| seen.number).is_sorted(), "order of {key}");
        let of: HashSet<i64> = seen.iter().map(|seen| int(&seen.msg, "partition")).collect();
        assert_eq!(of.len(), 1, "a key has one partition");
        partitions.extend(of);
        let counts: Vec<i64> = seen.iter().map(|seen| int(&seen.msg, "count")).collect();
        let expected: Vec<i64> =
            if stage.survives(End::Kill) { (1..=20).collect() } else { (1..=10).chain(1..=10).collect() };
        assert_eq!(counts, expected, "{key}");
    }
    assert_eq!(partitions.len(), 4);
    stage.stop(rig).await;
}

/// Partitions run side by side: one that is busy does not hold up another.
pub(crate) async fn partitions_side_by_side(stage: Arc<Stage>) {
    if stage.is_paced() {
        // Declared: one thread.
        return;
    }
    let (sink, source) = (Sink::new(), Hand::source());
    let meeting = Arc::new((Mutex::new(HashSet::new()), std::sync::Condvar::new()));
    let met = Arc::clone(&meeting);
    let gear = Func::new(move |msg, partition, out| {
        let (seen, changed) = &*met;
        let mut seen = seen.lock().unwrap();
        seen.insert(*partition);
        changed.notify_all();
        let (seen, wait) = changed.wait_timeout_while(seen, Duration::from_secs(20), |seen| seen.len() < 2).unwrap();
        drop(seen);
        assert!(!wait.timed_out(), "the other partition waits for this one");
        out.emit(msg);
        Ok(())
    })
    .on_start(|ctx| ctx.partition.into());
    let mut wire = stage.wire();
    wire.partitions = 2.try_into().unwrap();
    wire.partition_by = Some("number".parse().unwrap());
    let rig = stage
        .rig("side")
        .endpoint("source", source.clone())
        .gear("gear", gear)
        .endpoint("sink", sink.clone())
        .wire_with("source", "gear", wire)
        .wire_with("gear", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    push(&source.io().await, 0..20).await;
    until_eq("all arrive", 20, || sink.len()).await;
    assert_eq!(rig.dead_letter_count(), 0);
    stage.stop(rig).await;
}

/// Sets a timer per message and says when it fires.
fn clockwork() -> Func {
    Func::new(|msg, _, out| {
        match number(&msg) {
            // Replaced: the first never fires.
            0 => {
                out.timer("replaced", Duration::from_millis(1));
                out.timer("replaced", Duration::from_millis(30));
            }
            1 => out.timer("cancelled", Duration::from_millis(20)),
            2 => out.cancel("cancelled"),
            // Two that are due together, one of which stops the other and moves a third.
            3 => {
                out.timer("a", Duration::from_millis(5));
                out.timer("b", Duration::from_millis(5));
                out.timer("c", Duration::from_millis(5));
            }
            // A failed delivery leaves no timer behind.
            4 => {
                out.timer("failed", Duration::from_millis(1));
                return Err(GearError::reject("after the timer"));
            }
            _ => out.timer(format!("t{}", number(&msg)), Duration::from_millis(150)),
        }
        out.emit(msg);
        Ok(())
    })
    .on_timer(|key, _, out| {
        if key == "a" {
            out.cancel("b");
            out.timer("c", Duration::from_millis(25));
        }
        let mut msg = FluxMsg::new(
            FluxId::NIL,
            fluxrig_actors::protocol::Trace::default(),
            fluxrig_actors::protocol::EntityId::NIL,
            out.now_ns(),
        );
        msg.data.insert_key("key", key.to_owned());
        out.emit(msg);
        Ok(())
    })
}

fn fired(sink: &Sink) -> Vec<String> {
    let mut keys: Vec<_> =
        sink.seen().iter().map(|seen| text(&seen.msg, "key")).filter(|key| !key.is_empty()).collect();
    keys.sort();
    keys
}

pub(crate) async fn timers(stage: Arc<Stage>) {
    let sink = Sink::new();
    let (rig, io) = pipe(&stage, clockwork(), &sink).await;
    push(&io, 0..6).await;
    let expected: Vec<String> = ["a", "c", "replaced", "t5"].map(str::to_owned).to_vec();
    until_eq("each fires once", expected, || fired(&sink)).await;
    let ids: HashSet<FluxId> = sink.ids().into_iter().collect();
    assert_eq!(ids.len(), sink.len(), "ids of their own");
    push(&io, [0]).await;
    until_eq("again", 2, || fired(&sink).iter().filter(|key| *key == "replaced").count()).await;
    let ids: HashSet<FluxId> = sink.ids().into_iter().collect();
    assert_eq!(ids.len(), sink.len(), "a generation never repeats an id");
    stage.stop(rig).await;
}

pub(crate) async fn timers_over_a_restart(stage: Arc<Stage>) {
    let (sink, source) = (Sink::new(), Hand::source());
    let build = || {
        stage
            .rig("timers")
            .endpoint("source", source.clone())
            .gear("gear", clockwork())
            .endpoint("sink", sink.clone())
            .wire_with("source", "gear", stage.wire())
            .wire_with("gear", "sink", stage.wire())
    };
    let rig = build().start().await.unwrap();
    let began = tokio::time::Instant::now();
    push(&source.io().await, [1, 2, 5]).await;
    until_eq("all set", 3, || sink.len()).await;
    rig.restart_gear("gear").await.unwrap();
    assert!(rig.idle().await && rig.durable().await);
    stage.end(rig, End::Kill).await;
    let rig = build().start().await.unwrap();
    if stage.survives(End::Kill) {
        until_eq("it fires", vec!["t5".to_owned()], || fired(&sink)).await;
        let took = began.elapsed();
        // What was left, not all of it again, and not before its time. Boot time is kept in hundredths.
        assert!(took >= Duration::from_millis(135), "{took:?}");
    }
    push(&source.io().await, [6, 7]).await;
    let expected = if stage.survives(End::Kill) { 3 } else { 2 };
    until_eq("the others too", expected, || fired(&sink).len()).await;
    let ids: HashSet<FluxId> = sink.ids().into_iter().collect();
    assert_eq!(ids.len(), sink.len(), "a generation never repeats an id");
    stage.stop(rig).await;
}

/// Many timers due behind a closed door: they wait, and the rig stays awake for others.
pub(crate) async fn timers_behind_a_closed_door(stage: Arc<Stage>) {
    let (source, consumer) = (Hand::source(), Hand::new(Ports::sink()));
    let gear = Func::new(|msg, _, out| {
        for idx in 0..600 {
            out.timer(format!("{}-{idx}", number(&msg)), Duration::from_millis(1));
        }
        out.emit(msg);
        Ok(())
    })
    .on_timer(|key, _, out| {
        let mut msg = FluxMsg::new(
            FluxId::NIL,
            fluxrig_actors::protocol::Trace::default(),
            fluxrig_actors::protocol::EntityId::NIL,
            0,
        );
        msg.data.insert_key("key", key.to_owned());
        out.emit(msg);
        Ok(())
    });
    let rig = stage
        .rig("timers")
        .endpoint("source", source.clone())
        .gear("gear", gear)
        .endpoint("consumer", consumer.clone())
        .wire_with("source", "gear", stage.wire())
        .wire_with("gear", "consumer", WireOptions { capacity: 1, ..stage.wire() })
        .start()
        .await
        .unwrap();
    push(&source.io().await, [0]).await;
    until_eq("the door of the timers is closed", 1, || rig.wires()[1].depth).await;
    let due_ns = stage.wall_ns() + 5_000_000;
    until_true("their time has come", || stage.wall_ns() > due_ns).await;
    assert_eq!(rig.wires()[1].depth, 1, "they wait");
    let mut effects = consumer.io().await.effects();
    for _ in 0..601 {
        effects.take().await.unwrap().done();
    }
    drop(effects);
    stage.stop(rig).await;
}

fn retaining(stage: &Stage, source: &Hand, sink: &Sink) -> Rig {
    let retention = Some(Retention::Time(Duration::from_secs(3600)));
    stage
        .rig("retention")
        .endpoint("source", source.clone())
        .gear("gear", Pass)
        .endpoint("sink", sink.clone())
        .wire_with("source", "gear", WireOptions { retention, ..stage.wire() })
        .wire_with("gear", "sink", stage.wire())
}

pub(crate) async fn retention(stage: Arc<Stage>) {
    let (sink, source) = (Sink::new(), Hand::source());
    if stage.is_turbo() {
        // Declared: what was never written cannot be read again, and a rig that asks for it is refused.
        let error = retaining(&stage, &source, &sink).start().await.unwrap_err().to_string();
        assert!(error.contains("retention"), "{error}");
        return;
    }
    let rig = retaining(&stage, &source, &sink).start().await.unwrap();
    let wire = "source.out->gear.in";
    push(&source.io().await, 0..50).await;
    until_eq("all arrive", 50, || sink.len()).await;
    let retained = |rig: &fluxrig_actors::RunningRig, from| {
        rig.retained(wire, from, usize::MAX).unwrap().iter().map(|item| number(&item.msg)).collect::<Vec<_>>()
    };
    until_eq("all can be read again", (0..50).collect(), || retained(&rig, Replayed::FromSeq(0))).await;
    let some = rig.retained(wire, Replayed::FromSeq(0), 30).unwrap();
    assert_eq!(some.iter().map(|item| number(&item.msg)).collect::<Vec<_>>(), (0..30).collect::<Vec<_>>());
    let all = rig.retained(wire, Replayed::FromSeq(0), usize::MAX).unwrap();
    let first_ns = all.iter().map(|item| item.at_ns).max().unwrap();
    until_true("the clock has moved on", || stage.wall_ns() > first_ns).await;
    let half = stage.wall_ns();
    until_true("and once more", || stage.wall_ns() > half).await;
    push(&source.io().await, 50..80).await;
    until_eq("all arrive", 80, || sink.len()).await;
    until_eq("all can be read again", (0..80).collect(), || retained(&rig, Replayed::FromSeq(0))).await;
    assert_eq!(retained(&rig, Replayed::FromNs(half)), (50..80).collect::<Vec<_>>(), "from a time");
    assert!(rig.retained("gear.out->sink.in", Replayed::FromSeq(0), usize::MAX).is_err());
    assert!(rig.replay("gear.out->sink.in", Replayed::FromSeq(0), 1).is_err());
    assert_eq!(rig.replay(wire, Replayed::FromSeq(71), 1).unwrap().run().await.unwrap(), 10);
    until_eq("they are delivered again", 90, || sink.len()).await;
    assert_eq!(sink.numbers()[80..], (70..80).collect::<Vec<_>>());
    assert!(sink.ids()[80..].iter().all(|id| !sink.ids()[..80].contains(id)), "with ids of their own");
    // What is replayed is retained as well; a restart of any kind keeps it.
    until_eq("the replayed ones as well", 90, || retained(&rig, Replayed::FromSeq(0)).len()).await;
    assert!(rig.idle().await && rig.durable().await);
    let mut rig = rig;
    for end in [End::Kill, End::Stop] {
        stage.end(rig, end).await;
        rig = retaining(&stage, &source, &sink).start().await.unwrap();
        let expected: Vec<u64> = (0..80).chain(70..80).collect();
        assert_eq!(retained(&rig, Replayed::FromSeq(0)), expected, "after {end:?}");
        assert_eq!(retained(&rig, Replayed::FromNs(half)).len(), 40);
    }
    stage.stop(rig).await;
}
