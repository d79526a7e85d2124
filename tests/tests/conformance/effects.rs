//! The edge: how effects end, what is *maybe sent*, what has expired, where an answer goes, when a source is told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::Flags;
use fluxrig_actors::{Effect, Keep, LetterError};

use crate::parts::{Act, Hand, Sink, number, numbered, once, push};
use crate::stage::{End, Stage, settings, tireless, until_eq, until_true};

/// Where a client of an outside service has its answers.
fn client_ports() -> Ports {
    Ports::none().input("in").output("answers")
}

pub(crate) async fn ends(stage: Arc<Stage>) {
    let (source, reports) = (Hand::source(), Sink::new());
    let client = Sink::acting(|effect: &Effect| match number(&effect.msg) {
        1 => Act::Unknown,
        2 => Act::Reject,
        _ => Act::Done,
    });
    let rig = stage
        .rig("ends")
        .endpoint("source", source.clone())
        .endpoint("client", client.clone().ports(client_ports()))
        .endpoint("reports", reports.clone())
        .wire_with("source", "client", stage.wire())
        .wire_with("client", "reports", stage.wire())
        .start()
        .await
        .unwrap();
    let io = source.io().await;
    let door = io.door();
    for number in 0..4 {
        let mut msg = numbered(&io, number);
        msg.return_to = Some(io.return_address(number));
        door.admit(msg).await.unwrap();
    }
    until_eq("all are begun", (0..4).collect(), || client.numbers()).await;
    until_eq("one is unknown", 1, || reports.len()).await;
    let (asked, report) = (client.seen()[1].msg.clone(), reports.seen()[0].msg.clone());
    assert_eq!(report.reference, Some(asked.id));
    assert!(report.flags.contains(Flags::MAYBE_SENT));
    assert_eq!(report.meta.get("fluxrig.reason"), Some("no answer"));
    assert_eq!((io.connection(&report), report.trace), (Some(1), asked.trace));
    until_eq("one is a dead letter", 1, || rig.dead_letter_count()).await;
    let letter = rig.dead_letters().unwrap().remove(0);
    assert_eq!((number(&letter.msg), &*letter.reason, letter.attempts), (2, "not wanted", 1));
    assert_eq!((&*letter.gear, &*letter.wire), ("client", "source.out->client.in"));
    assert!(rig.idle().await, "each has ended");
    stage.stop(rig).await;
}

/// An unknown outcome is never dropped: where no wire takes the report, it is a dead letter that keeps the flag.
pub(crate) async fn unknown_without_a_wire(stage: Arc<Stage>) {
    let (source, client) = (Hand::source(), Sink::acting(|_| Act::Unknown));
    let rig = stage
        .rig("unknown")
        .endpoint("source", source.clone())
        .endpoint("client", client.clone())
        .wire_with("source", "client", stage.wire())
        .start()
        .await
        .unwrap();
    push(&source.io().await, [0]).await;
    until_eq("it is a dead letter", 1, || rig.dead_letter_count()).await;
    let letter = rig.dead_letters().unwrap().remove(0);
    assert!(letter.msg.flags.contains(Flags::MAYBE_SENT) && letter.reason.contains("no answer"), "{letter:?}");
    assert!(matches!(rig.replay_letter(letter.seq, false), Err(LetterError::MaybeSent { .. })));
    stage.stop(rig).await;
}

/// What a crashed endpoint had begun comes back as *maybe sent*, the rest as it was.
pub(crate) async fn maybe_sent_after_a_crash(stage: Arc<Stage>) {
    let (source, is_first) = (Hand::source(), Arc::new(AtomicBool::new(true)));
    let first = Arc::clone(&is_first);
    let sink = Sink::acting(move |effect: &Effect| {
        if number(&effect.msg) == 5 && first.swap(false, Ordering::Relaxed) { Act::Crash } else { Act::Done }
    });
    let rig = stage
        .rig("crash")
        .endpoint("source", source.clone())
        .endpoint("sink", sink.clone())
        .supervised(tireless())
        .wire_with("source", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    push(&source.io().await, 0..20).await;
    let expected: Vec<u64> = (0..=5).chain(5..20).collect();
    until_eq("one is repeated", expected, || sink.numbers()).await;
    let flags: Vec<u64> = sink.seen().iter().filter(|seen| seen.is_maybe_sent).map(|seen| seen.number).collect();
    assert_eq!(flags, [5], "and nothing else is flagged");
    assert!(sink.seen()[6].msg.flags.contains(Flags::MAYBE_SENT));
    stage.stop(rig).await;
}

async fn after_an_end(stage: Arc<Stage>, end: End) {
    let (source, sink) = (Hand::source(), Sink::new());
    let build = |sink: Sink| {
        stage.rig("killed").endpoint("source", source.clone()).endpoint("sink", sink).wire_with(
            "source",
            "sink",
            stage.wire(),
        )
    };
    let keeping = |effect: &Effect| if number(&effect.msg) == 2 { Act::Stay } else { Act::Done };
    let rig = build(sink.then(keeping)).start().await.unwrap();
    push(&source.io().await, 0..3).await;
    until_eq("the third is begun", 3, || sink.len()).await;
    // Admitted behind it; the sink has its hands full, and takes them at most into its own queue.
    push(&source.io().await, 3..6).await;
    assert!(rig.durable().await);
    stage.end(rig, end).await;
    let rig = build(sink.clone()).start().await.unwrap();
    // It was durable, which is more than written: that survives the power with `os` as well.
    if !stage.is_turbo() {
        until_eq("all come", vec![0, 1, 2, 2, 3, 4, 5], || sink.numbers()).await;
        let flags: Vec<u64> = sink.seen().iter().filter(|seen| seen.is_maybe_sent).map(|seen| seen.number).collect();
        assert_eq!(flags.first(), Some(&2));
    } else {
        assert!(rig.idle().await);
        assert_eq!(sink.numbers(), [0, 1, 2]);
    }
    stage.stop(rig).await;
}

pub(crate) async fn maybe_sent_after_kill(stage: Arc<Stage>) {
    after_an_end(stage, End::Kill).await;
}

pub(crate) async fn maybe_sent_after_power(stage: Arc<Stage>) {
    stage.simulate();
    after_an_end(stage, End::Power).await;
}

/// A link that goes down gives back what was not started: it is not *maybe sent*.
pub(crate) async fn link_down(stage: Arc<Stage>) {
    let (source, hand) = (Hand::source(), Hand::new(Ports::sink()));
    let rig = stage
        .rig("link")
        .endpoint("source", source.clone())
        .endpoint("hand", hand.clone())
        .supervised(tireless())
        .wire_with("source", "hand", stage.wire())
        .start()
        .await
        .unwrap();
    push(&source.io().await, 0..10).await;
    let mut effects = hand.io().await.effects();
    let begun = effects.take().await.unwrap();
    assert_eq!(number(&begun.msg), 0);
    effects.set_window(0);
    assert!(once(effects.take()).await.is_none(), "nothing is taken while it is down");
    // The connection is lost with the one that was begun.
    drop((begun, effects));
    let mut effects = hand.crash().await.effects();
    for expected in 0..10 {
        let effect = effects.take().await.unwrap();
        assert_eq!((number(&effect.msg), effect.is_maybe_sent()), (expected, expected == 0));
        effect.done();
    }
    drop(effects);
    stage.stop(rig).await;
}

pub(crate) async fn expired(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    let build = |sink: Sink| {
        stage
            .rig("expired")
            .settings(settings(|settings| settings.effects_max = 1))
            .endpoint("source", source.clone())
            .endpoint("sink", sink)
            .wire_with("source", "sink", stage.wire())
    };
    let rig = build(sink.then(|_| Act::Stay)).start().await.unwrap();
    let io = source.io().await;
    // The first is begun, and stays; those behind it are past their time before it is their turn.
    for idx in 0..3 {
        let mut msg = numbered(&io, idx);
        msg.expires = Some(if idx < 2 { stage.wall_ns() + 300_000_000 } else { i64::MAX });
        assert!(io.door().admit(msg).await.unwrap().durable().await);
        until_eq("the first is begun", 1, || sink.len()).await;
    }
    let until = stage.wall_ns() + 300_000_000;
    assert!(rig.durable().await);
    rig.restart_gear("sink").await.unwrap();
    until_eq("the first is begun again", 2, || sink.len()).await;
    until_true("its time is over", || stage.wall_ns() > until).await;
    drop(io);
    stage.end(rig, End::Kill).await;
    let rig = build(sink.clone()).start().await.unwrap();
    if stage.survives(End::Kill) {
        // Maybe sent comes first: it is handed on even past its time.
        until_eq("the maybe sent and the one in time", vec![0, 0, 0, 2], || sink.numbers()).await;
        assert!(sink.seen()[2].is_maybe_sent);
        let letters = rig.dead_letters().unwrap();
        assert_eq!(letters.iter().map(|letter| number(&letter.msg)).collect::<Vec<_>>(), [1]);
        assert_eq!(&*letters[0].reason, "expired");
    } else {
        // The same without a restart.
        let mut msg = numbered(&source.io().await, 1);
        msg.expires = Some(stage.wall_ns() - 1);
        source.io().await.door().admit(msg).await.unwrap();
        until_eq("it is a dead letter", 1, || rig.dead_letter_count()).await;
        assert_eq!(&*rig.dead_letters().unwrap()[0].reason, "expired");
        assert_eq!(sink.len(), 2);
    }
    stage.stop(rig).await;
}

/// An address of an earlier start leads nowhere; what is derived keeps it.
pub(crate) async fn return_address(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    let rig = stage
        .rig("return")
        .endpoint("source", source.clone())
        .supervised(tireless())
        .gear("gear", crate::parts::Pass)
        .endpoint("sink", sink.clone())
        .wire_with("source", "gear", stage.wire())
        .wire_with("gear", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    let before = source.io().await;
    let mut msg = numbered(&before, 0);
    msg.return_to = Some(before.return_address(42));
    before.door().admit(msg).await.unwrap();
    until_eq("it arrives", 1, || sink.len()).await;
    let arrived = sink.seen()[0].msg.clone();
    assert_eq!(before.connection(&arrived), Some(42));
    let after = source.crash().await;
    assert_eq!(after.connection(&arrived), None, "of an earlier start");
    let mut forged = arrived.clone();
    forged.return_to = Some(b"short".as_slice().into());
    assert_eq!(after.connection(&forged), None);
    forged.return_to = None;
    assert_eq!(after.connection(&forged), None);
    drop(before);
    stage.stop(rig).await;
}

/// What a receipt said is durable is there after the crash that follows at once.
pub(crate) async fn receipts(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    stage.simulate();
    let end = if stage.survives(End::Power) { End::Power } else { End::Kill };
    let build = |sink: Sink| {
        stage.rig("receipts").endpoint("source", source.clone()).endpoint("sink", sink).wire_with(
            "source",
            "sink",
            stage.wire(),
        )
    };
    let blocked = Sink::acting(|_| Act::Stay);
    for number in 0..10 {
        let rig = build(blocked.clone()).start().await.unwrap();
        let io = source.io().await;
        let receipt = io.door().admit(numbered(&io, number)).await.unwrap();
        if stage.is_paced() {
            assert!(once(receipt.durable()).await.is_none(), "not before the mark");
        }
        assert!(receipt.durable().await);
        stage.end(rig, end).await;
    }
    let rig = build(sink.clone()).start().await.unwrap();
    let expected: Vec<u64> = if stage.survives(end) { (0..10).collect() } else { Vec::new() };
    until_eq("what was acknowledged is there", expected, || sink.numbers()).await;
    stage.stop(rig).await;
}

/// What [`fluxrig_actors::RunningRig::durable`] waited for is there after the crash that follows at once.
pub(crate) async fn durable(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    stage.simulate();
    let end = if stage.is_turbo() { End::Kill } else { End::Power };
    let build = |sink: Sink| {
        stage.rig("durable").endpoint("source", source.clone()).endpoint("sink", sink).wire_with(
            "source",
            "sink",
            stage.wire(),
        )
    };
    let blocked = Sink::acting(|_| Act::Stay);
    for number in 0..60 {
        let mut rig = build(blocked.clone());
        if let Some(mut journal) = stage.journal() {
            // Other pauses of the writer each time, where it makes any.
            if let Some(pace) = &mut journal.pace {
                pace.seed = number;
            }
            rig = rig.journal_with(journal);
        }
        let rig = rig.start().await.unwrap();
        let io = source.io().await;
        io.door().admit(numbered(&io, number)).await.unwrap();
        // The writer is somewhere between the cut and the flush by now.
        tokio::time::sleep(Duration::from_millis(number / 6)).await;
        for _ in 0..number % 6 {
            tokio::task::yield_now().await;
        }
        assert!(rig.durable().await);
        stage.end(rig, end).await;
    }
    let rig = build(sink.clone()).start().await.unwrap();
    let expected: Vec<u64> = if !stage.is_turbo() { (0..60).collect() } else { Vec::new() };
    until_eq("what was durable is there", expected, || sink.numbers()).await;
    stage.stop(rig).await;
}

/// What an endpoint keeps is true exactly when what it was admitted with is: after every end of the process.
pub(crate) async fn endpoint_state(stage: Arc<Stage>) {
    stage.simulate();
    let end = if stage.survives(End::Power) { End::Power } else { End::Kill };
    let (source, sink) = (Hand::source(), Sink::new());
    let build = |sink: Sink| {
        stage.rig("kept").endpoint("source", source.clone()).endpoint("sink", sink).wire_with(
            "source",
            "sink",
            stage.wire(),
        )
    };
    let floor = |io: &Io| {
        let kept = io.recovered();
        let floor = kept.iter().find(|(key, _)| key == "floor").and_then(|(_, value)| value.as_int());
        floor.and_then(|floor| u64::try_from(floor).ok()).unwrap_or(0)
    };
    let blocked = Sink::acting(|_| Act::Stay);
    let mut next = 1;
    for round in 0..30_u64 {
        let rig = build(blocked.clone()).start().await.unwrap();
        let io = source.io().await;
        if stage.survives(end) {
            next = floor(&io) + 1;
        }
        let keep = |number: u64| Keep::default().put("floor", i64::try_from(number).unwrap()).put("round", 1_i64);
        let receipt = io.door().admit_with(numbered(&io, next), keep(next)).await.unwrap();
        let mut run: VecDeque<_> = (next + 1..next + 4).map(|number| (numbered(&io, number), keep(number))).collect();
        assert!(io.door().admit_all_with(&mut run).await.unwrap().is_some() && run.is_empty());
        assert_eq!(floor(&io), next + 3, "at once");
        io.door().keep(Keep::default().remove("round"));
        if round % 3 == 0 {
            assert!(receipt.durable().await);
        }
        next += 4;
        // The writer is somewhere.
        tokio::time::sleep(Duration::from_micros(300 * (round % 5))).await;
        stage.end(rig, end).await;
    }
    let rig = build(sink.clone()).start().await.unwrap();
    let floor = floor(&source.io().await);
    let expected: Vec<u64> = if stage.survives(end) { (1..=floor).collect() } else { Vec::new() };
    until_eq("what it kept is what came in", expected, || sink.numbers()).await;
    assert_eq!(floor >= 10, stage.survives(end), "what a receipt was given for is there");
    stage.stop(rig).await;
}

/// It is there at the endpoint's next start, and what it buries comes with what it keeps.
pub(crate) async fn endpoint_state_over_crashes(stage: Arc<Stage>) {
    let (source, sink) = (Hand::source(), Sink::new());
    let rig = stage
        .rig("kept")
        .endpoint("source", source.clone())
        .supervised(tireless())
        .endpoint("sink", sink.clone())
        .wire_with("source", "sink", stage.wire())
        .start()
        .await
        .unwrap();
    let io = source.io().await;
    assert_eq!(io.recovered(), []);
    io.door().admit_with(numbered(&io, 0), Keep::default().put("b", "two").put("a", 1_i64)).await.unwrap();
    let receipt = io.door().bury(numbered(&io, 1), "from outside: found nonsense", Keep::default().put("c", true));
    assert!(receipt.durable().await);
    let io = source.crash().await;
    let expected = [("a", Value::from(1_i64)), ("b", Value::from("two")), ("c", Value::from(true))];
    assert_eq!(io.recovered(), expected.map(|(key, value)| (key.into(), value)));
    let letter = rig.dead_letters().unwrap().remove(0);
    assert_eq!((number(&letter.msg), &*letter.gear, &*letter.reason), (1, "source", "from outside: found nonsense"));
    assert!(matches!(rig.replay_letter(letter.seq, false), Err(LetterError::Wireless { .. })));
    until_eq("the other came in", vec![0], || sink.numbers()).await;
    drop(io);
    stage.stop(rig).await;
}
