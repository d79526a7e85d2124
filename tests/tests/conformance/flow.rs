//! Messages on their way: order, copies, joins, sizes, limits, backlogs longer than memory.

use std::num::NonZeroU64;
use std::sync::Arc;

use fluxrig_actors::prelude::*;
use fluxrig_actors::{Refused, RunningRig, TapError};

use crate::parts::{Act, Func, Hand, Pass, Sink, number, numbered, push};
use crate::stage::{End, Stage, settings, tireless, until, until_eq};

/// A source in hand, one gear, a sink.
pub(crate) async fn pipe(stage: &Stage, gear: impl Gear, sink: &Sink) -> (RunningRig, Io) {
    let source = Hand::source();
    let rig = stage
        .rig("pipe")
        .endpoint("source", source.clone())
        .gear("gear", gear)
        .supervised(tireless())
        .endpoint("sink", sink.clone())
        .supervised(tireless())
        .wire_with("source", "gear", stage.wire())
        .wire_with("gear", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    (rig, source.io().await)
}

pub(crate) async fn order(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    let mut rig = stage.rig("order").endpoint("source", source.clone()).endpoint("sink", sink.clone());
    let mut last = "source".to_owned();
    for idx in 0..5 {
        let name = format!("gear{idx}");
        rig = rig.gear(&name, Pass).wire_with(&last, &name, stage.wire());
        last = name;
    }
    let rig = rig.wire_with(&last, "sink", stage.wire()).start().await.unwrap();
    push(&source.io().await, 0..2000).await;
    until_eq("all arrive in order", (0..2000).collect(), || sink.numbers()).await;
    for seen in sink.seen() {
        let gears: Vec<_> = seen.msg.path.iter().map(|hop| hop.gear).collect();
        assert_eq!((gears.len(), gears.last()), (6, Some(&seen.msg.src)), "each gear that passed it on is in its path");
    }
    assert!(rig.idle().await);
    stage.stop(rig).await;
}

pub(crate) async fn fan_out(stage: Arc<Stage>) {
    let (source, sinks) = (Hand::source(), [Sink::new(), Sink::new(), Sink::new()]);
    let mut rig = stage.rig("fan-out").endpoint("source", source.clone()).gear("gear", Pass).wire_with(
        "source",
        "gear",
        stage.wire(),
    );
    for (idx, sink) in sinks.iter().enumerate() {
        let name = format!("sink{idx}");
        rig = rig.endpoint(&name, sink.clone()).wire_with("gear", &name, stage.wire());
    }
    let rig = rig.start().await.unwrap();
    push(&source.io().await, 0..300).await;
    for sink in &sinks {
        until_eq("every wire has its copy", (0..300).collect(), || sink.numbers()).await;
    }
    assert_eq!(sinks[0].ids(), sinks[1].ids(), "copies are one message");
    stage.stop(rig).await;
}

pub(crate) async fn taps(stage: Arc<Stage>) {
    const ALL: NonZeroU64 = NonZeroU64::MIN;
    let (source, sink) = (Hand::source(), Sink::new());
    let rig = stage
        .rig("taps")
        .endpoint("source", source.clone())
        .gear("gear", Pass)
        .endpoint("sink", sink.clone())
        .wire_with("source", "gear", stage.wire())
        .wire_with("gear", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    let near = Some("gear.out->sink.in".to_owned());
    let unknown = TapError::NoWire { pattern: "gear.out->sing.in".into(), near };
    assert_eq!(rig.tap("gear.out->sing.in", ALL).unwrap_err(), unknown);
    let mut all = rig.tap("*->sink.in", ALL).unwrap();
    let mut some = rig.tap("*", NonZeroU64::new(10).unwrap()).unwrap();
    // Nobody looks at this one, and nobody waits for it.
    let lagging = rig.tap("*", ALL).unwrap();
    push(&source.io().await, 0..1000).await;
    let mut seen = Vec::new();
    while seen.len() as u64 + all.missed() < 1000 {
        let tapped = all.next().await.unwrap();
        assert_eq!(tapped.wire, "gear.out->sink.in");
        seen.push(number(&tapped.msg));
    }
    assert!(seen.is_sorted() && !seen.is_empty(), "in the order of the wire");
    for _ in 0..20 {
        assert!(some.next().await.unwrap().seq.is_multiple_of(10));
    }
    until_eq("all arrive", (0..1000).collect(), || sink.numbers()).await;
    assert_eq!(lagging.missed(), 2 * 1000 - 256, "bounded, and counted");
    drop((all, lagging));
    push(&source.io().await, 1000..1001).await;
    stage.stop(rig).await;
    while some.next().await.is_some() {}
}

pub(crate) async fn fan_in(stage: Arc<Stage>) {
    let (even, odd, sink) = (Hand::source(), Hand::source(), Sink::new());
    let rig = stage
        .rig("fan-in")
        .endpoint("even", even.clone())
        .endpoint("odd", odd.clone())
        .gear("gear", Pass)
        .endpoint("sink", sink.clone())
        .wire_with("even", "gear", stage.wire())
        .wire_with("odd", "gear", stage.wire())
        .wire_with("gear", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    let (even, odd) = (even.io().await, odd.io().await);
    tokio::join!(push(&even, (0..600).step_by(2)), push(&odd, (1..600).step_by(2)));
    until_eq("all arrive", 600, || sink.len()).await;
    let of = |rest| sink.numbers().into_iter().filter(|number| number % 2 == rest).collect::<Vec<_>>();
    assert_eq!(of(0), (0..600).step_by(2).collect::<Vec<_>>(), "order of each wire");
    assert_eq!(of(1), (1..600).step_by(2).collect::<Vec<_>>(), "order of each wire");
    stage.stop(rig).await;
}

/// Nearly as large as a message may be: what is missing is the room for its hops and numbers.
const NEARLY: usize = (2 << 20) - 2048;

pub(crate) async fn large_messages(stage: Arc<Stage>) {
    // Larger than a whole segment, too.
    stage.small_segments();
    let sink = Sink::new();
    let (rig, io) = pipe(&stage, Pass, &sink).await;
    let door = io.door();
    let mut sent = Vec::new();
    for number in 0..12 {
        let mut raw = vec![0; if number % 4 == 3 { NEARLY } else { 1 << 20 }];
        io.random(&mut raw);
        let mut msg = numbered(&io, number);
        msg.raw = Some(raw.into());
        sent.push(msg.raw.clone());
        assert!(door.admit(msg).await.unwrap().durable().await);
    }
    until_eq("all arrive", 12, || sink.len()).await;
    assert!(sink.seen().iter().map(|seen| seen.msg.raw.clone()).eq(sent), "byte for byte");
    stage.stop(rig).await;
    // And when they wait over a restart.
    let source = Hand::source();
    let still = sink.then(|_| Act::Keep);
    let build = |sink: &Sink| {
        stage.rig("pipe").endpoint("source", source.clone()).endpoint("sink", sink.clone()).wire_with(
            "source",
            "sink",
            stage.wire(),
        )
    };
    let rig = build(&still).start().await.unwrap();
    let mut msg = numbered(&source.io().await, 12);
    msg.raw = Some(vec![7; NEARLY].into());
    assert!(source.io().await.door().admit(msg).await.unwrap().durable().await);
    until_eq("it is under way", 13, || sink.len()).await;
    stage.end(rig, End::Kill).await;
    let rig = build(&sink).start().await.unwrap();
    if stage.survives(End::Kill) {
        until_eq("it comes again", 14, || sink.len()).await;
        assert_eq!(sink.seen()[13].msg.raw.as_deref(), Some(&vec![7; NEARLY][..]));
    }
    stage.stop(rig).await;
}

pub(crate) async fn too_large_at_the_door(stage: Arc<Stage>) {
    let sink = Sink::new();
    let (rig, io) = pipe(&stage, Pass, &sink).await;
    let mut msg = numbered(&io, 0);
    msg.raw = Some(vec![0; 2 << 20].into());
    let id = msg.id;
    match io.door().admit(msg).await {
        Err(Refused::Limit(msg, error)) => {
            assert_eq!(msg.id, id, "given back");
            assert!(error.to_string().contains("2097152"), "the limit is named: {error}");
        }
        other => panic!("found {other:?}"),
    }
    // Of a run, what came before goes in; what is refused and what follows is given back.
    let mut run: std::collections::VecDeque<FluxMsg> = (1..6).map(|number| numbered(&io, number)).collect();
    run[2].raw = Some(vec![0; 2 << 20].into());
    match io.door().admit_all(&mut run).await {
        Err(Refused::Limit(msg, _)) => assert_eq!(crate::parts::number(&msg), 3),
        other => panic!("found {other:?}"),
    }
    assert_eq!(run.iter().map(crate::parts::number).collect::<Vec<_>>(), [4, 5]);
    io.door().admit_all(&mut run).await.unwrap();
    until_eq("the others arrive", vec![1, 2, 4, 5], || sink.numbers()).await;
    stage.stop(rig).await;
}

pub(crate) async fn too_large_inside(stage: Arc<Stage>) {
    let sink = Sink::new();
    let grow = Func::new(|mut msg, _, out| {
        if crate::parts::number(&msg) == 1 {
            msg.raw = Some(vec![0; 2 << 20].into());
        }
        out.emit(msg);
        Ok(())
    });
    let (rig, io) = pipe(&stage, grow, &sink).await;
    push(&io, 0..3).await;
    until_eq("the others arrive", vec![0, 2], || sink.numbers()).await;
    let letters = rig.dead_letters().unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.contains("2097152"), "the limit is named: {}", letters[0].reason);
    assert_eq!((crate::parts::number(&letters[0].msg), &*letters[0].gear), (1, "gear"));
    stage.stop(rig).await;
}

pub(crate) async fn emit_max(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    let many = Func::new(|msg, _, out| {
        let count = if crate::parts::number(&msg) == 1 { 11 } else { 10 };
        (0..count).for_each(|_| out.emit(msg.clone()));
        Ok(())
    });
    let rig = stage
        .rig("emit-max")
        .settings(settings(|settings| settings.emit_max = 10))
        .endpoint("source", source.clone())
        .gear("gear", many)
        .endpoint("sink", sink.clone())
        .wire_with("source", "gear", stage.wire())
        .wire_with("gear", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    push(&source.io().await, 0..3).await;
    let expected: Vec<u64> = [0; 10].into_iter().chain([2; 10]).collect();
    until_eq("whole or not at all", expected, || sink.numbers()).await;
    let letters = rig.dead_letters().unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.contains("emit_max"), "{}", letters[0].reason);
    let ids: std::collections::HashSet<_> = sink.ids().into_iter().collect();
    assert_eq!(ids.len(), 20, "every emit has an id of its own");
    stage.stop(rig).await;
}

/// One delivery is bounded in bytes as well as in number.
pub(crate) async fn emit_bytes_max(stage: Arc<Stage>) {
    let sink = Sink::new();
    let source = Hand::source();
    let swells = Func::new(|msg, _, out| {
        let count = if crate::parts::number(&msg) == 1 { 11 } else { 10 };
        for _ in 0..count {
            let mut large = msg.clone();
            large.raw = Some(vec![7; 1_000].into());
            out.emit(large);
        }
        Ok(())
    });
    let rig = stage
        .rig("emit-bytes-max")
        .settings(settings(|settings| settings.emit_bytes_max = 10_900))
        .endpoint("source", source.clone())
        .gear("gear", swells)
        .endpoint("sink", sink.clone())
        .wire_with("source", "gear", stage.wire())
        .wire_with("gear", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    push(&source.io().await, 0..3).await;
    let expected: Vec<u64> = [0; 10].into_iter().chain([2; 10]).collect();
    until_eq("whole or not at all", expected, || sink.numbers()).await;
    let letters = rig.dead_letters().unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.contains("emit_bytes_max"), "{}", letters[0].reason);
    stage.stop(rig).await;
}

pub(crate) async fn hops(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    let mut rig = stage
        .rig("hops")
        .settings(settings(|settings| settings.limits.hops = 3))
        .endpoint("source", source.clone())
        .endpoint("sink", sink.clone());
    let mut last = "source".to_owned();
    for idx in 0..3 {
        let name = format!("gear{idx}");
        rig = rig.gear(&name, Pass).wire_with(&last, &name, stage.wire());
        last = name;
    }
    // The door makes the first hop, so the last gear's is the fourth.
    let rig = rig.wire_with(&last, "sink", stage.wire()).start().await.unwrap();
    push(&source.io().await, 0..3).await;
    until_eq("all are dead letters", 3, || rig.dead_letter_count()).await;
    for letter in rig.dead_letters().unwrap() {
        assert_eq!(&*letter.gear, "gear2");
        assert!(letter.reason.contains("hops"), "{}", letter.reason);
    }
    assert_eq!(sink.len(), 0);
    stage.stop(rig).await;
}

fn narrow(stage: &Stage) -> WireOptions {
    WireOptions { memory_window: 512, capacity: 100_000, ..stage.wire() }
}

pub(crate) async fn memory_window(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    let build = |sink: Sink| {
        stage
            .rig("window")
            .endpoint("source", source.clone())
            .gear("gear", Pass)
            .endpoint("sink", sink)
            .wire_with("source", "gear", narrow(&stage))
            .wire_with("gear", "sink", narrow(&stage))
    };
    // Thousands wait at an endpoint that stays with the first; then they go on where they are, and after a restart.
    let rig = build(sink.then(|_| Act::Stay)).start().await.unwrap();
    push(&source.io().await, 0..5000).await;
    until_eq("all wait before the sink", 5000, || rig.wires()[1].depth).await;
    until_eq("one is under way", 1, || sink.len()).await;
    assert!(rig.durable().await);
    rig.restart_gear("sink").await.unwrap();
    until_eq("it comes again", vec![0, 0], || sink.numbers()).await;
    assert!(sink.seen()[1].is_maybe_sent);
    stage.end(rig, End::Kill).await;
    let rig = build(sink.clone()).start().await.unwrap();
    if !stage.survives(End::Kill) {
        push(&source.io().await, 0..5000).await;
    }
    until("all come back in order", || {
        let numbers = sink.numbers();
        if numbers[2..] == (0..5000).collect::<Vec<_>>() { Ok(()) } else { Err(format!("{} seen", numbers.len())) }
    })
    .await;
    stage.stop(rig).await;
    // And without a restart in between: paged out and in while the rig runs.
    let hand = Hand::new(Ports::sink());
    let rig = stage
        .rig("window")
        .endpoint("source", source.clone())
        .gear("gear", Pass)
        .endpoint("sink", hand.clone())
        .wire_with("source", "gear", narrow(&stage))
        .wire_with("gear", "sink", narrow(&stage))
        .start()
        .await
        .unwrap();
    push(&source.io().await, 0..3000).await;
    until_eq("all wait before the sink", 3000, || rig.wires()[1].depth).await;
    assert!(rig.durable().await);
    let mut effects = hand.io().await.effects();
    for expected in 0..3000 {
        let effect = effects.take().await.unwrap();
        assert_eq!(crate::parts::number(&effect.msg), expected);
        effect.done();
    }
    drop(effects);
    stage.stop(rig).await;
}

pub(crate) async fn memory_window_behind_an_effect_that_stays(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    let build = |sink: Sink| {
        stage.rig("window").endpoint("source", source.clone()).endpoint("sink", sink).wire_with(
            "source",
            "sink",
            narrow(&stage),
        )
    };
    let rig = build(sink.then(|_| Act::Stay)).start().await.unwrap();
    push(&source.io().await, 0..3000).await;
    until_eq("one is under way", 1, || sink.len()).await;
    stage.end(rig, End::Kill).await;
    let keeping = |effect: &Effect| if crate::parts::number(&effect.msg) == 0 { Act::Keep } else { Act::Done };
    let rig = build(sink.then(keeping)).start().await.unwrap();
    if !stage.survives(End::Kill) {
        push(&source.io().await, 0..3000).await;
    }
    until("all but the first pass it", || {
        let numbers = sink.numbers();
        if numbers[1..] == (0..3000).collect::<Vec<_>>() { Ok(()) } else { Err(format!("{} seen", numbers.len())) }
    })
    .await;
    assert_eq!(rig.wires()[0].depth, 1, "the first is still under way");
    stage.end(rig, End::Kill).await;
}
