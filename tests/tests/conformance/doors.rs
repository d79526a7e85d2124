//! Only the entrance waits: doors close when a wire is full, bound what is inside, and open again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_actors::{Admission, Closed, LetterError, Refused, Replayed, Retention, RunningRig};

use crate::parts::{Func, Hand, Pass, Sink, number, numbered, once, push, push_beside};
use crate::stage::{Stage, settings, until_eq, until_true};

fn tiny(stage: &Stage, capacity: usize) -> WireOptions {
    WireOptions { capacity, ..stage.wire() }
}

/// Waits until nothing more gets into the second wire, which holds `capacity` at least. Returns what it holds.
/// A look at depths may fall into a commit, which has acked on one wire and not yet emitted on the next.
async fn until_full(rig: &RunningRig, door: &Admission, capacity: usize) -> usize {
    until_true("the last wire is full, and the door closed", || {
        !door.is_open() && rig.wires()[0].depth == 0 && rig.wires()[1].depth >= capacity
    })
    .await;
    rig.wires()[1].depth
}

pub(crate) async fn capacity(stage: Arc<Stage>) {
    let (source, consumer) = (Hand::source(), Hand::new(Ports::sink()));
    let rig = stage
        .rig("capacity")
        .endpoint("source", source.clone())
        .gear("gear", Pass)
        .endpoint("consumer", consumer.clone())
        .wire_with("source", "gear", tiny(&stage, 8))
        .wire_with("gear", "consumer", tiny(&stage, 8))
        .start()
        .await
        .unwrap();
    let (io, consumer) = (source.io().await, consumer.io().await);
    // Nobody takes: the source stops, and what is inside stays bounded.
    let source = push_beside(&io, 0..500);
    let door = io.door();
    let inside = until_full(&rig, &door, 8).await;
    assert!((8..=16).contains(&inside), "{inside} inside");
    assert!(once(door.open()).await.is_none(), "a source waits");
    assert!(!source.is_finished());
    // One by one: it opens again, and closes again.
    let mut effects = consumer.effects();
    for expected in 0..500 {
        let effect = effects.take().await.unwrap();
        assert_eq!(number(&effect.msg), expected, "in order");
        // Each wire for itself: between two looks a message may pass from one to the next and be counted twice.
        let fullest = rig.wires().iter().map(|wire| wire.depth).max().unwrap_or(0);
        assert!(fullest <= 16, "{fullest} on one wire");
        effect.done();
    }
    assert_eq!(source.await.unwrap(), 500);
    until_true("it is open", || door.is_open()).await;
    drop(effects);
    stage.stop(rig).await;
}

/// What is replayed comes in as from a source: it waits while a wire that it can reach is full.
pub(crate) async fn replayed(stage: Arc<Stage>) {
    if stage.is_turbo() {
        // Declared: what was never written cannot be read again.
        return;
    }
    let (source, consumer) = (Hand::source(), Hand::new(Ports::sink()));
    let retention = Some(Retention::Time(Duration::from_secs(3600)));
    let rig = stage
        .rig("replayed")
        .endpoint("source", source.clone())
        .gear("gear", Pass)
        .endpoint("consumer", consumer.clone())
        .wire_with("source", "gear", WireOptions { retention, ..tiny(&stage, 8) })
        .wire_with("gear", "consumer", tiny(&stage, 8))
        .start()
        .await
        .unwrap();
    let (io, mut effects) = (source.io().await, consumer.io().await.effects());
    let pushed = push_beside(&io, 0..200);
    for expected in 0..200 {
        let effect = effects.take().await.unwrap();
        assert_eq!(number(&effect.msg), expected);
        effect.done();
    }
    assert_eq!(pushed.await.unwrap(), 200);
    let wire = "source.out->gear.in";
    let retained = || rig.retained(wire, Replayed::FromSeq(0), usize::MAX).unwrap().len();
    until_eq("all can be read again", 200, retained).await;

    let replay = tokio::spawn(rig.replay(wire, Replayed::FromSeq(0), 1).unwrap().run());
    let inside = until_full(&rig, &io.door(), 8).await;
    assert!((8..=16).contains(&inside) && !replay.is_finished(), "{inside} inside");
    for expected in 0..200 {
        let effect = effects.take().await.unwrap();
        assert_eq!(number(&effect.msg), expected, "in order");
        let fullest = rig.wires().iter().map(|wire| wire.depth).max().unwrap_or(0);
        assert!(fullest <= 16, "{fullest} on one wire");
        effect.done();
    }
    assert_eq!(replay.await.unwrap().unwrap(), 200);

    // Whoever drops a replay ends it.
    let mut replay = rig.replay(wire, Replayed::FromSeq(101), 2).unwrap();
    replay.room().await.unwrap();
    let count = replay.deliver().unwrap();
    assert!((1..=8).contains(&count) && replay.delivered() == count as u64, "{replay:?}");
    drop(replay);
    for expected in 100..100 + count as u64 {
        let effect = effects.take().await.unwrap();
        assert_eq!(number(&effect.msg), expected);
        effect.done();
    }
    drop(effects);
    let replay = rig.replay(wire, Replayed::FromSeq(0), 3).unwrap();
    stage.stop(rig).await;
    let error = replay.run().await.unwrap_err();
    assert!(matches!(error, LetterError::Stopped { delivered: 0, .. }), "{error}");
}

pub(crate) async fn overshoot(stage: Arc<Stage>) {
    let (source, consumer) = (Hand::source(), Hand::new(Ports::sink()));
    let many = Func::new(|msg, _, out| {
        (0..50).for_each(|_| out.emit(msg.clone()));
        Ok(())
    });
    let rig = stage
        .rig("overshoot")
        .endpoint("source", source.clone())
        .gear("many", many)
        .endpoint("consumer", consumer.clone())
        .wire_with("source", "many", tiny(&stage, 4))
        .wire_with("many", "consumer", tiny(&stage, 10))
        .start()
        .await
        .unwrap();
    let io = source.io().await;
    let pushed = push_beside(&io, 0..100);
    let inside = until_full(&rig, &io.door(), 10).await;
    // Full, and by no more than what was already inside, times what each may emit.
    assert!((10..=10 + 50 * (4 + 1)).contains(&inside), "{inside} inside");
    let mut effects = consumer.io().await.effects();
    for _ in 0..100 * 50 {
        effects.take().await.unwrap().done();
    }
    assert_eq!(pushed.await.unwrap(), 100);
    drop(effects);
    stage.stop(rig).await;
}

pub(crate) async fn slow_consumer(stage: Arc<Stage>) {
    let (source, consumer) = (Hand::source(), Hand::new(Ports::sink()));
    let mut rig = stage.rig("slow").endpoint("source", source.clone()).endpoint("consumer", consumer.clone());
    let mut last = "source".to_owned();
    for idx in 0..3 {
        let name = format!("gear{idx}");
        rig = rig.gear(&name, Pass).wire_with(&last, &name, tiny(&stage, 16));
        last = name;
    }
    let rig = rig.wire_with(&last, "consumer", tiny(&stage, 16)).start().await.unwrap();
    let pushed = push_beside(&source.io().await, 0..300);
    let mut effects = consumer.io().await.effects();
    effects.set_window(1);
    for expected in 0..300 {
        tokio::time::sleep(Duration::from_micros(300)).await;
        let effect = effects.take().await.unwrap();
        assert_eq!(number(&effect.msg), expected);
        let inside: usize = rig.wires().iter().map(|wire| wire.depth).sum();
        assert!(inside <= 4 * 16 + 1, "{inside} inside");
        effect.done();
    }
    assert_eq!(pushed.await.unwrap(), 300);
    drop(effects);
    stage.stop(rig).await;
}

/// A door that is closed since too much above the mark came through it is a demand for a cut.
pub(crate) async fn unflushed(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    let rig = stage
        .rig("unflushed")
        .settings(settings(|settings| settings.unflushed_max = 4))
        .endpoint("source", source.clone())
        .endpoint("sink", sink.clone())
        .wire_with("source", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    push(&source.io().await, 0..200).await;
    until_eq("all arrive", (0..200).collect(), || sink.numbers()).await;
    stage.stop(rig).await;
}

/// The same by bytes: large messages pass one by one.
pub(crate) async fn unflushed_bytes(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    let rig = stage
        .rig("unflushed-bytes")
        .settings(settings(|settings| settings.unflushed_bytes_max = 1))
        .endpoint("source", source.clone())
        .endpoint("sink", sink.clone())
        .wire_with("source", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    let io = source.io().await;
    let door = io.door();
    door.admit(numbered(&io, 0)).await.unwrap();
    if stage.is_paced() {
        // The writer is a task of this thread and has not run yet.
        assert!(!door.is_open(), "one byte would have been enough");
    }
    push(&io, 1..100).await;
    until_eq("all arrive", (0..100).collect(), || sink.numbers()).await;
    stage.stop(rig).await;
}

/// A door no wire leaves lets everything into nothing, counted, and there is nothing to wait for.
pub(crate) async fn unwired(stage: Arc<Stage>) {
    let source = Hand::source();
    let rig = stage.rig("unwired").endpoint("source", source.clone()).start().await.unwrap();
    push(&source.io().await, 0..3).await;
    assert_eq!(rig.unwired("source"), 3);
    stage.stop(rig).await;
}

/// Two doors that reach one wire share its room; a door that does not reach it is not held up.
pub(crate) async fn each_its_own(stage: Arc<Stage>) {
    let (near, far, sink, stalled) = (Hand::source(), Hand::source(), Sink::new(), Hand::new(Ports::sink()));
    let rig = stage
        .rig("two")
        .endpoint("near", near.clone())
        .endpoint("far", far.clone())
        .gear("a", Pass)
        .gear("b", Pass)
        .endpoint("sink", sink.clone())
        .endpoint("stalled", stalled.clone())
        .wire_with("near", "a", tiny(&stage, 4))
        .wire_with("a", "stalled", tiny(&stage, 4))
        .wire_with("far", "b", tiny(&stage, 4))
        .wire_with("b", "sink", tiny(&stage, 4))
        .start()
        .await
        .unwrap();
    let near = near.io().await;
    let pushed = push_beside(&near, 0..100);
    until_true("the near door is closed", || !near.door().is_open()).await;
    push(&far.io().await, 0..300).await;
    until_eq("the other pipeline goes on", 300, || sink.len()).await;
    assert!(!pushed.is_finished());
    let mut effects = stalled.io().await.effects();
    for _ in 0..100 {
        effects.take().await.unwrap().done();
    }
    assert_eq!(pushed.await.unwrap(), 100);
    drop(effects);
    stage.stop(rig).await;
}

/// Draining gives the message back, and ends the wait of a source.
pub(crate) async fn draining(stage: Arc<Stage>) {
    let (source, consumer) = (Hand::source(), Hand::new(Ports::sink()));
    let rig = stage
        .rig("draining")
        .endpoint("source", source.clone())
        .endpoint("consumer", consumer.clone())
        .wire_with("source", "consumer", tiny(&stage, 4))
        .start()
        .await
        .unwrap();
    let io = source.io().await;
    let pushed = push_beside(&io, 0..100);
    until_true("the door is closed", || !io.door().is_open()).await;
    let (late, is_late) = (io.clone(), Arc::new(AtomicBool::new(false)));
    let said = Arc::clone(&is_late);
    let waiting = tokio::spawn(async move {
        let refused = late.door().admit(numbered(&late, 1000)).await;
        said.store(true, Ordering::Relaxed);
        refused
    });
    stage.end(rig, crate::stage::End::Stop).await;
    assert!(pushed.await.unwrap() < 100);
    match waiting.await.unwrap() {
        Err(Refused::Closed(msg, Closed::Draining | Closed::Halted)) => assert_eq!(number(&msg), 1000),
        other => panic!("found {other:?}"),
    }
    assert!(is_late.load(Ordering::Relaxed));
}
