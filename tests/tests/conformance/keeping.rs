//! What a journal keeps, and what it does when it cannot: dead letters, orphans, segments, locks, full and failing disks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::Flags;
use fluxrig_actors::{Effect, LetterError, LetterFilter, Orphans, Outcome, Redelivery, Rig, RunningRig, WireOptions};

use crate::parts::{Act, Func, Hand, Pass, Sink, number, numbered, once, push, push_beside, text};
use crate::stage::{End, Stage, Variant, tireless, until, until_eq, until_true};

fn letters(rig: &RunningRig) -> Vec<u64> {
    rig.dead_letters().unwrap().iter().map(|letter| number(&letter.msg)).collect()
}

pub(crate) async fn dead_letters(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    let build = |is_mended: bool| {
        let gear = Func::new(move |msg, _, out| {
            if !is_mended && number(&msg) >= 10 {
                return Err(GearError::reject("ten or more"));
            }
            out.emit(msg);
            Ok(())
        });
        stage
            .rig("letters")
            .endpoint("source", source.clone())
            .gear("gear", gear)
            .endpoint("sink", sink.clone())
            .wire_with("source", "gear", stage.wire())
            .wire_with("gear", "sink", stage.wire())
    };
    let rig = build(false).start().await.unwrap();
    push(&source.io().await, 8..14).await;
    until_eq("four are dead letters", vec![10, 11, 12, 13], || letters(&rig)).await;
    let before = rig.dead_letters().unwrap();
    assert!(rig.idle().await && rig.durable().await);
    stage.end(rig, End::Kill).await;
    let rig = build(true).start().await.unwrap();
    if !stage.survives(End::Kill) {
        assert_eq!(rig.dead_letter_count(), 0);
        return stage.stop(rig).await;
    }
    let after = rig.dead_letters().unwrap();
    assert_eq!(format!("{before:?}"), format!("{after:?}"), "reason, attempts, errors and time, too");
    rig.replay_letter(after[1].seq, false).unwrap();
    rig.purge_letter(after[2].seq).unwrap();
    assert!(matches!(rig.purge_letter(after[2].seq), Err(LetterError::Unknown { .. })));
    assert!(matches!(rig.replay_letter(after[1].seq, false), Err(LetterError::Unknown { .. })));
    until_eq("the replayed one arrives", vec![8, 9, 11], || sink.numbers()).await;
    assert_eq!(letters(&rig), [10, 13]);
    assert!(rig.idle().await && rig.durable().await);
    stage.end(rig, End::Kill).await;
    let rig = build(true).start().await.unwrap();
    assert_eq!(letters(&rig), [10, 13], "what was taken off stays off");
    assert!(rig.idle().await);
    assert_eq!(sink.numbers(), [8, 9, 11]);
    stage.stop(rig).await;
}

/// Nothing of these takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn letters_sent_again(stage: Arc<Stage>) {
    let (source, mended) = (Hand::source(), Arc::new(AtomicBool::new(false)));
    let is_mended = Arc::clone(&mended);
    let gear = Func::new(move |msg, _, out| {
        if !is_mended.load(Ordering::SeqCst) {
            return Err(GearError::reject("not yet"));
        }
        out.emit(msg);
        Ok(())
    });
    let sink = Sink::new();
    let rig = stage
        .rig("again")
        .endpoint("source", source.clone())
        .gear("gear", gear)
        .endpoint("sink", sink.clone())
        .wire_with("source", "gear", stage.wire())
        .wire_with("gear", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    push(&source.io().await, 0..3).await;
    until_eq("all are dead letters", vec![0, 1, 2], || letters(&rig)).await;
    let first = rig.dead_letters().unwrap().remove(0);

    let sent = rig.replay_letter(first.seq, false).unwrap();
    assert_eq!((sent.letter(), sent.wire()), (first.seq, "source.out->gear.in"));
    assert_ne!(sent.id(), first.msg.id);
    let again = sent.settled(PATIENCE).await;
    let Outcome::DeadAgain { seq, reason } = again else { panic!("{again:?}") };
    assert!(seq > first.seq && reason == "not yet", "{seq} {reason}");
    assert_eq!(rig.dead_letter(seq).unwrap().msg.id, sent.id());
    // It was so, whatever becomes of that letter.
    rig.purge_letter(seq).unwrap();
    assert!(matches!(sent.outcome(), Outcome::DeadAgain { .. }));

    mended.store(true, Ordering::SeqCst);
    let seqs = rig.letter_seqs(&LetterFilter::default()).unwrap();
    let sent: Vec<_> = seqs.iter().map(|&seq| rig.replay_letter(seq, false).unwrap()).collect();
    for sent in &sent {
        assert_eq!(sent.settled(PATIENCE).await, Outcome::Handled);
    }
    assert_eq!(rig.dead_letter_count(), 0);
    until_eq("the gear let them through", vec![1, 2], || sink.numbers()).await;
    stage.stop(rig).await;
}

pub(crate) async fn letters_chosen(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    let even = Func::new(|msg, _, out| match number(&msg) % 2 {
        0 => Err(GearError::reject("is even")),
        _ => {
            out.emit(msg);
            Ok(())
        }
    });
    let all = Func::new(|_, _, _| Err(GearError::reject("is odd")));
    let rig = stage
        .rig("chosen")
        .endpoint("source", source.clone())
        .gear("even", even)
        .gear("odd", all)
        .endpoint("sink", sink.clone())
        .wire_with("source", "even", WireOptions { capacity: 2, ..stage.wire() })
        .wire_with("even", "odd", stage.wire())
        .wire_with("odd", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    push(&source.io().await, 0..5).await;
    until_eq("all are dead letters", 5, || rig.dead_letter_count()).await;
    let filter = LetterFilter::default;
    let counts = rig.count_letters(&filter()).unwrap();
    let counted: Vec<_> = counts.iter().map(|count| (count.gear.as_str(), count.reason.as_str(), count.count)).collect();
    assert_eq!(counted, [("even", "is even", 3), ("odd", "is odd", 2)]);
    let gear = |name: &str| LetterFilter { gear: Some(name.into()), ..filter() };
    let reason = |text: &str| LetterFilter { reason: Some(text.into()), ..filter() };
    let wire = |name: &str| LetterFilter { wire: Some(name.into()), ..filter() };
    let count = |filter: &LetterFilter| rig.letter_seqs(filter).map(|seqs| seqs.len());
    let last = rig.dead_letters().unwrap().pop().unwrap();
    for (filter, expected) in [
        (gear("odd"), 2),
        (gear("*"), 5),
        (gear("sink"), 0),
        (reason("even"), 3),
        (reason("is*n"), 3),
        (wire("source*"), 3),
        (LetterFilter { reason: Some("odd".into()), ..gear("even") }, 0),
        (LetterFilter::seq(last.seq), 1),
        (LetterFilter { to_seq: Some(last.seq - 1), ..filter() }, 4),
        (LetterFilter { since_ns: Some(last.at_ns + 3_600_000_000_000), ..filter() }, 0),
    ] {
        assert_eq!(count(&filter).unwrap(), expected, "{filter:?}");
    }
    assert_eq!(rig.find_letters(&filter(), 1).unwrap()[0].seq, last.seq, "the newest");
    let text = |filter: &LetterFilter| count(filter).unwrap_err().to_string();
    assert!(text(&gear("evn")).contains("no gear that matches `evn`") && text(&gear("evn")).contains("nearest: `even`"));
    assert!(text(&wire("even.out->od.in")).contains("nearest: `even.out->odd.in`"));
    assert!(text(&reason("is evn")).contains("nearest: `is even`"));
    assert!(matches!(count(&LetterFilter::seq(77)), Err(LetterError::Unknown { seq: 77 })));
    let mixed = LetterFilter { seqs: vec![last.seq, 77], ..filter() };
    assert!(matches!(rig.purge_letters(&mixed), Err(LetterError::Unknown { seq: 77 })));
    assert_eq!(rig.dead_letter_count(), 5, "nothing is forgotten by half");
    assert_eq!(rig.purge_letters(&reason("odd")).unwrap(), 2);
    assert_eq!(rig.purge_letters(&filter()).unwrap(), 3);
    assert_eq!(count(&reason("whatever")).unwrap(), 0, "where there is no letter, no reason is wrong");
    stage.stop(rig).await;
}

pub(crate) async fn maybe_sent_letters(stage: Arc<Stage>) {
    let source = Hand::source();
    let sink =
        Sink::acting(|effect: &Effect| match effect.is_maybe_sent() || effect.msg.flags.contains(Flags::MAYBE_SENT) {
            true => Act::Reject,
            false => Act::Crash,
        });
    let rig = stage
        .rig("maybe")
        .endpoint("source", source.clone())
        .endpoint("sink", sink.clone())
        .supervised(tireless())
        .wire_with("source", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    push(&source.io().await, [0]).await;
    until_eq("begun, crashed, rejected", vec![0], || letters(&rig)).await;
    let letter = rig.dead_letters().unwrap().remove(0);
    assert!(letter.msg.flags.contains(Flags::MAYBE_SENT), "it keeps the flag");
    assert!(matches!(rig.replay_letter(letter.seq, false), Err(LetterError::MaybeSent { .. })));
    assert_eq!(letters(&rig), [0], "it stays");
    rig.replay_letter(letter.seq, true).unwrap();
    until_eq("it is sent again, with the operator's word", 3, || sink.len()).await;
    until_true("and is a letter again", || rig.dead_letters().unwrap().iter().any(|again| again.seq > letter.seq))
        .await;
    stage.stop(rig).await;
}

pub(crate) async fn orphans(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    let whole = |sink: Sink| {
        let gear = Func::new(|msg, _, out| {
            out.put("last", number(&msg).to_string());
            out.emit(msg);
            Ok(())
        });
        stage
            .rig("orphans")
            .endpoint("source", source.clone())
            .gear("gear", gear)
            .endpoint("sink", sink)
            .wire_with("source", "gear", stage.wire())
            .wire_with("gear", "sink", stage.wire())
    };
    let without = |sink: Sink| {
        stage.rig("orphans").endpoint("source", source.clone()).endpoint("sink", sink).wire_with(
            "source",
            "sink",
            stage.wire(),
        )
    };
    let rig = whole(sink.then(|_| Act::Stay)).start().await.unwrap();
    push(&source.io().await, 0..5).await;
    until_eq("all wait at the sink", 5, || rig.wires()[1].depth).await;
    until_eq("one is begun", 1, || sink.len()).await;
    assert!(rig.durable().await);
    stage.end(rig, End::Kill).await;
    if !stage.survives(End::Kill) {
        let rig = without(sink.clone()).start().await.unwrap();
        return stage.stop(rig).await;
    }
    for _ in 0..2 {
        let error = without(sink.clone()).start().await.unwrap_err().to_string();
        assert!(error.contains("5 messages of wire `gear.out->sink.in`"), "{error}");
        assert!(error.contains("1 key and 0 timers of gear `gear`"), "{error}");
    }
    let rig = without(sink.clone()).orphans(Orphans::DeadLetter).start().await.unwrap();
    let found = rig.dead_letters().unwrap();
    assert_eq!(found.iter().filter(|letter| &*letter.wire == "gear.out->sink.in").count(), 5);
    let begun: Vec<u64> =
        found.iter().filter(|letter| letter.msg.flags.contains(Flags::MAYBE_SENT)).map(|l| number(&l.msg)).collect();
    assert!(begun.contains(&0), "the one that was begun is flagged: {begun:?}");
    let state = found.iter().find(|letter| &*letter.gear == "gear").unwrap();
    assert_eq!(text(&state.msg, "last"), "4");
    stage.end(rig, End::Kill).await;
    // Nothing of it comes back, neither as orphans nor on the wire.
    let rig = whole(sink.clone()).start().await.unwrap();
    assert!(rig.idle().await);
    assert_eq!((sink.len(), rig.dead_letter_count()), (1, 6));
    stage.stop(rig).await;
}

pub(crate) async fn second_process(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    let (rig, io) = crate::flow::pipe(&stage, Pass, &sink).await;
    if !stage.is_turbo() {
        let second = stage.rig("pipe").endpoint("source", source.clone()).endpoint("sink", Sink::new()).wire_with(
            "source",
            "sink",
            stage.wire(),
        );
        let error = second.start().await.unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "the holder is named: {error}");
    }
    push(&io, 0..10).await;
    until_eq("the first goes on", (0..10).collect(), || sink.numbers()).await;
    stage.stop(rig).await;
}

/// Many segments: old ones are deleted, what lives in them is carried forward.
pub(crate) async fn segments(stage: Arc<Stage>) {
    stage.small_segments();
    let (source, pins, sink, pinned) = (Hand::source(), Hand::source(), Sink::new(), Sink::new());
    let build = |hold: bool| {
        let gear = Func::new(|msg, _, out| {
            match number(&msg) {
                0 => {
                    out.put("kept", "since the first segment");
                    out.timer("late", Duration::from_secs(3600));
                }
                1 => return Err(GearError::reject("kept as well")),
                u64::MAX => {}
                _ => {}
            }
            let mut said = msg.clone();
            if let Some(kept) = out.get("kept") {
                said.data.insert_key("kept", kept);
            }
            out.emit(said);
            Ok(())
        });
        let rig: Rig = stage
            .rig("segments")
            .endpoint("source", source.clone())
            .gear("gear", gear)
            .endpoint("sink", sink.clone())
            .endpoint("pins", pins.clone())
            .wire_with("source", "gear", stage.wire())
            .wire_with("gear", "sink", stage.wire())
            .wire_with("pins", "pinned", stage.wire());
        if hold { rig.endpoint("pinned", Hand::new(Ports::sink())) } else { rig.endpoint("pinned", pinned.clone()) }
    };
    let rig = build(true).start().await.unwrap();
    let io = source.io().await;
    push(&pins.io().await, 0..3).await;
    let door = io.door();
    let mut next = 0;
    let count = if stage.is_turbo() { 100 } else { 20_000 };
    while next < count && rig.journal().is_none_or(|(stats, usage)| stats.trimmed < 2 || usage.oldest < 8) {
        let mut msg = numbered(&io, next);
        let mut raw = vec![0; 3000];
        io.random(&mut raw);
        msg.raw = Some(raw.into());
        assert!(door.admit(msg).await.unwrap().durable().await);
        next += 1;
    }
    if let Some((stats, usage)) = rig.journal() {
        assert!(stats.trimmed >= 2 && stats.carried >= 3 && usage.oldest >= 8, "{stats:?} {usage:?}");
        // Declared: with `os` a segment goes after a flush in the background, so there are as many as half a second fills.
        assert!(usage.segments <= 12 || stage.variant == Variant::Os, "{usage:?}");
    }
    let expected: Vec<u64> = (0..next).filter(|number| *number != 1).collect();
    until("all arrive", || if sink.numbers() == expected { Ok(()) } else { Err(format!("{}", sink.len())) }).await;
    assert!(rig.durable().await);
    stage.end(rig, End::Kill).await;
    // The pinned wire has another consumer type now; its messages stay its own.
    let rig = build(false).start().await.unwrap();
    let survives = stage.survives(End::Kill);
    until_eq("the pinned ones come", if survives { vec![0, 1, 2] } else { Vec::new() }, || pinned.numbers()).await;
    assert!(pinned.seen().iter().all(|seen| !seen.is_maybe_sent));
    assert_eq!(letters(&rig), if survives { vec![1] } else { Vec::new() });
    push(&source.io().await, [next]).await;
    until_eq("one more", Some(next), || sink.numbers().last().copied()).await;
    let kept = sink.seen().last().map(|seen| text(&seen.msg, "kept")).unwrap();
    assert_eq!(kept, if survives { "since the first segment" } else { "" });
    // An open timer is no open request here, so the rig drains.
    stage.stop(rig).await;
}

fn plain(stage: &Stage, source: &Hand, sink: &Sink) -> Rig {
    stage.rig("disk").endpoint("source", source.clone()).endpoint("sink", sink.clone()).wire_with(
        "source",
        "sink",
        stage.wire(),
    )
}

fn bulky(io: &Io, number: u64) -> FluxMsg {
    let mut msg = numbered(io, number);
    let mut raw = vec![0; 4000];
    io.random(&mut raw);
    msg.raw = Some(raw.into());
    msg
}

/// A segment is left when it is older than it may be, however little is in it, and then deleted with its key.
pub(crate) async fn segment_age(stage: Arc<Stage>) {
    // Declared: a rig without a journal has no segments.
    let Some(mut journal) = stage.journal() else { return };
    journal.segment_age_max = Some(Duration::from_millis(20));
    let (source, sink) = (Hand::source(), Sink::new());
    let rig = plain(&stage, &source, &sink).journal_with(journal).start().await.unwrap();
    let io = source.io().await;
    let mut count = 0;
    while rig.journal().unwrap().0.trimmed < 3 {
        push(&io, [count]).await;
        count += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (stats, _) = rig.journal().unwrap();
    assert!(stats.bytes < 1 << 20, "less than one segment was written: {stats:?}");
    until_eq("all arrive", (0..count).collect(), || sink.numbers()).await;
    stage.stop(rig).await;
}

/// No room: nothing is acknowledged, no effect leaves, the rig says so; with room it goes on by itself.
pub(crate) async fn disk_full(stage: Arc<Stage>) {
    // Declared: a rig without a journal has no disk.
    let Some(ground) = stage.simulate() else { return };
    stage.small_segments();
    let (source, sink) = (Hand::source(), Sink::new());
    let rig = plain(&stage, &source, &sink).start().await.unwrap();
    let io = source.io().await;
    let door = io.door();
    push(&io, 0..10).await;
    until_eq("all arrive", 10, || sink.len()).await;
    // Nothing is left to be written but what comes now.
    assert!(rig.idle().await && rig.durable().await);
    // Suddenly, by somebody else's doing: no watermark was passed before.
    ground.set_full(true);
    let (mut next, mut acked, mut pending) = (10, 10, Vec::new());
    while !rig.is_degraded() {
        pending.push(door.admit(bulky(&io, next)).await.unwrap());
        next += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
        while pending.len() > acked - 10 && once(pending[acked - 10].durable()).await.is_some() {
            acked += 1;
        }
    }
    let last = door.admit(bulky(&io, next)).await.unwrap();
    assert!(once(last.durable()).await.is_none(), "no acknowledgement");
    let seen = sink.len();
    assert!(seen < next as usize, "effects stop");
    assert!(ground.was_full(), "there was no room");
    ground.set_full(false);
    until_true("it goes on", || !rig.is_degraded()).await;
    assert!(last.durable().await);
    until_eq("all arrive, in order, once", (0..=next).collect(), || sink.numbers()).await;
    stage.end(rig, End::Kill).await;
    let rig = plain(&stage, &source, &sink).start().await.unwrap();
    push(&source.io().await, [next + 1]).await;
    until_true("and after a restart", || sink.numbers().contains(&(next + 1))).await;
    stage.stop(rig).await;
}

/// Before the disk is full, doors close; they open when there is room.
pub(crate) async fn watermark(stage: Arc<Stage>) {
    let Some(ground) = stage.simulate() else { return };
    stage.small_segments();
    let (source, sink) = (Hand::source(), Sink::new());
    let rig = plain(&stage, &source, &sink).start().await.unwrap();
    let io = source.io().await;
    push(&io, 0..10).await;
    ground.set_scarce(true);
    until_true("the door closes", || !io.door().is_open()).await;
    let pushed = push_beside(&io, 10..20);
    assert!(once(io.door().open()).await.is_none());
    ground.set_scarce(false);
    assert_eq!(pushed.await.unwrap(), 10);
    until_eq("all arrive", (0..20).collect(), || sink.numbers()).await;
    stage.stop(rig).await;
}

pub(crate) async fn failed_flush(stage: Arc<Stage>) {
    let Some(ground) = stage.simulate() else { return };
    let (source, sink) = (Hand::source(), Sink::new());
    let rig = plain(&stage, &source, &sink).start().await.unwrap();
    let io = source.io().await;
    push(&io, 0..10).await;
    until_eq("all arrive", 10, || sink.len()).await;
    ground.fail_flushes(true);
    let receipt = io.door().admit(numbered(&io, 10)).await.unwrap();
    until_true("it is degraded", || rig.is_degraded()).await;
    let late = io.door().admit(numbered(&io, 11)).await.unwrap();
    if stage.survives(End::Power) {
        assert!(once(receipt.durable()).await.is_none(), "no acknowledgement");
        assert_eq!(sink.len(), 10, "no effect leaves");
    }
    ground.fail_flushes(false);
    assert!(ground.did_flushes_fail());
    assert!(receipt.durable().await && late.durable().await);
    until_eq("it goes on", (0..12).collect(), || sink.numbers()).await;
    assert!(!rig.is_degraded());
    assert!(rig.idle().await && rig.durable().await);
    // What was given up and what took over: the power may go now.
    stage.end(rig, End::Power).await;
    let rig = plain(&stage, &source, &sink).start().await.unwrap();
    assert!(rig.idle().await);
    assert_eq!(sink.numbers(), (0..12).collect::<Vec<_>>());
    stage.stop(rig).await;
}

/// Draining completes what is under way; a standard backlog stays in the journal, a turbo one is completed.
pub(crate) async fn drain(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    let build = |consumer: Option<Hand>| {
        let rig = stage.rig("drain").endpoint("source", source.clone()).gear("gear", Pass);
        let rig = match consumer {
            Some(hand) => rig.endpoint("sink", hand),
            None => rig.endpoint("sink", sink.clone()),
        };
        rig.wire_with("source", "gear", stage.wire()).wire_with("gear", "sink", stage.wire())
    };
    let rig = build(Some(Hand::new(Ports::sink()))).start().await.unwrap();
    push(&source.io().await, 0..50).await;
    let is_drained = rig.stop(Duration::from_millis(100)).await;
    // Nobody takes: a turbo wire cannot be completed, and the caller is told.
    assert_eq!(is_drained, !stage.is_turbo());
    let rig = build(None).start().await.unwrap();
    let kept: Vec<u64> = if stage.survives(End::Stop) { (0..50).collect() } else { Vec::new() };
    until_eq("the backlog was kept", kept.clone(), || sink.numbers()).await;
    assert!(sink.seen().iter().all(|seen| !seen.is_maybe_sent), "none of it was begun");
    push(&source.io().await, 50..250).await;
    stage.stop(rig).await;
    let rig = build(None).start().await.unwrap();
    assert!(rig.idle().await);
    let all: Vec<u64> = kept.into_iter().chain(50..250).collect();
    assert_eq!(sink.numbers(), all, "completed, or kept");
    assert!(sink.seen().iter().all(|seen| !seen.is_maybe_sent), "no effect was cut off");
    stage.stop(rig).await;
}

/// State that is to be durable needs a journal; a turbo gear may have one.
pub(crate) async fn durable_state(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    let build = || {
        let gear = Func::new(|mut msg, _, out| {
            let count =
                out.get("count").and_then(|value| value.as_int()).map_or(0, |int| i64::try_from(int).unwrap()) + 1;
            out.put("count", count);
            msg.data.insert_key("count", count);
            out.emit(msg);
            Ok(())
        });
        let turbo = || WireOptions { lane: Lane::Turbo, redelivery: Redelivery::default(), ..WireOptions::default() };
        stage
            .rig("state")
            .endpoint("source", source.clone())
            .gear("gear", gear)
            .durable_state()
            .endpoint("sink", sink.clone())
            .wire_with("source", "gear", turbo())
            .wire_with("gear", "sink", turbo())
    };
    if stage.is_turbo() {
        let error = build().start().await.unwrap_err().to_string();
        assert!(error.contains("gear `gear`") && error.contains("journal"), "{error}");
        return;
    }
    for round in 1..=3 {
        let rig = build().start().await.unwrap();
        push(&source.io().await, [round]).await;
        until_eq("it arrives", round as usize, || sink.len()).await;
        let count = sink.seen().last().unwrap().msg.data.get_key("count").and_then(Value::as_int).unwrap();
        assert_eq!(u64::try_from(count).unwrap(), round, "durable before the effect left");
        assert!(rig.idle().await && rig.durable().await);
        stage.end(rig, End::Kill).await;
    }
}
