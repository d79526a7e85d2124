//! What a snapshot shows, and who is reported as stuck.

use std::sync::Mutex;

use super::stage::Log;
use super::*;
use crate::vitals::Vitals;

fn gauged(stage: &Stage, name: &str) -> (ChildSpec, Arc<Mutex<Vitals>>) {
    let vitals = Arc::new(Mutex::new(Vitals::default()));
    let reader = vitals.clone();
    (stage.hand(name).vitals(move || *reader.lock().unwrap()), vitals)
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_tells_what_happened_and_what_is() {
    let stage = Stage::new();
    let (hand, vitals) = gauged(&stage, "x");
    let low = SupervisorSpec::one_for_one().intensity(9, MINUTE).child(hand).child(stage.hand("y"));
    let root = root(SupervisorSpec::one_for_one().child(ChildSpec::supervisor("low", low))).await;
    stage.notes(2).await;
    for (name, tell, expected) in [
        ("x", Tell::Fail, ExitReason::Failed(stage::Told.to_string().into())),
        ("y", Tell::Panic, ExitReason::Panic("hand y slipped".into())),
    ] {
        stage.tell(name, tell);
        stage.notes(1).await;
        let tree = root.snapshot().await.unwrap();
        let node = tree.find(&format!("low/{name}")).unwrap();
        assert_eq!((node.restarts, &node.last_exit), (1, &Some(expected)));
        assert_eq!(node.id, Some(stage.get(name).get_id()));
    }

    tokio::time::sleep(Duration::from_secs(10)).await;
    *vitals.lock().unwrap() = Vitals { depth: 3, handled: 1_000, oldest_ms: Some(20), busy_ms: None };
    let tree = root.snapshot().await.unwrap();
    let node = tree.find("low/x").unwrap();
    assert_eq!(node.up_for, Some(Duration::from_secs(10)));
    assert_eq!(node.vitals, Some(Vitals { depth: 3, handled: 1_000, oldest_ms: Some(20), busy_ms: None }));
    assert_eq!(node.rate.map(f64::round), Some(100.0), "1,000 messages in 10 s");
    assert_eq!(tree.find("low/y").unwrap().rate, None, "no vitals, no rate");

    // Idle for long, the rate fades; it does not fall to nothing at once.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let rate = root.snapshot().await.unwrap().find("low/x").unwrap().rate.unwrap();
    assert!((30.0..45.0).contains(&rate), "a third is left after 5 s: {rate}");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panicking_reader_harms_nobody() {
    let stage = Stage::new();
    let root = root(SupervisorSpec::one_for_one().child(stage.hand("a").vitals(|| panic!("no vitals")))).await;
    assert_eq!(root.snapshot().await.unwrap().find("a").unwrap().vitals, None);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stuck_child_is_reported_once_per_episode() {
    let log = Log::default();
    let _guard = log.start();
    let stage = Stage::new();
    let (hand, vitals) = gauged(&stage, "a");
    let hand = hand.stuck_after(Duration::from_secs(10));
    let root = root(SupervisorSpec::one_for_one().intensity(9, MINUTE).child(hand).child(stage.hand("b"))).await;
    let busy = |busy_ms| vitals.lock().unwrap().busy_ms = busy_ms;
    let pass = || tokio::time::sleep(MINUTE);

    busy(Some(9_999));
    pass().await;
    assert_eq!(log.count("child is stuck"), 0);
    for episode in 1..4 {
        busy(Some(10_000));
        pass().await;
        // Without a snapshot, and once although it is looked at many times.
        assert_eq!(log.count("child is stuck"), episode);
        let tree = root.snapshot().await.unwrap();
        assert!(tree.find("a").unwrap().stuck && !tree.find("b").unwrap().stuck);
        busy(None);
        pass().await;
        assert_eq!(log.count("child is no longer stuck"), episode);
        assert!(!root.snapshot().await.unwrap().find("a").unwrap().stuck);
    }
    // An end is the end of an episode, too, even if the counters stay behind.
    busy(Some(10_000));
    pass().await;
    root.terminate_child("a").await.unwrap();
    assert!(!root.snapshot().await.unwrap().find("a").unwrap().stuck);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_start_is_told_once_however_deep() {
    let log = Log::default();
    let _guard = log.start();
    let stage = Stage::new();
    let low = SupervisorSpec::one_for_one().child(stage.clumsy("e", 0, 1));
    let middle = SupervisorSpec::one_for_one().child(ChildSpec::supervisor("low", low));
    let spec = SupervisorSpec::one_for_one().child(ChildSpec::supervisor("middle", middle));
    assert!(SupervisorRef::start_root("root", spec).await.is_err());
    assert_eq!((log.count("child did not start"), log.count("supervisor did not start")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_silent_supervisor_is_shown_as_such() {
    let stage = Stage::new();
    // Its second start hangs, and with it its supervisor.
    let starts = Arc::new(AtomicU64::new(0));
    let inner = stage.clone();
    let slow = ChildSpec::worker("slow", move |start| {
        let (stage, is_first) = (inner.clone(), starts.fetch_add(1, Relaxed) == 0);
        async move { if is_first { stage.enter(&start).await } else { std::future::pending().await } }
    });
    let silent = SupervisorSpec::one_for_one().intensity(9, MINUTE).child(slow.start_timeout(MINUTE));
    let middle = SupervisorSpec::one_for_one().child(ChildSpec::supervisor("silent", silent)).child(stage.hand("m"));
    let spec = SupervisorSpec::one_for_one().child(ChildSpec::supervisor("middle", middle)).child(stage.hand("s"));
    let root = root(spec).await;
    let before = root.snapshot().await.unwrap();
    assert!(before.find("middle/silent/slow").is_some());

    stage.notes(3).await;
    stage.tell("slow", Tell::Fail);
    let tree = root.snapshot().await.unwrap();
    let silent = tree.find("middle/silent").unwrap();
    assert!(!silent.answered && silent.children.is_empty() && silent.status == Status::Running, "{tree}");
    assert!(tree.find("middle").unwrap().answered, "the one above it answers in time");
    assert_eq!(tree.find("middle/m").unwrap().status, Status::Running);
    // Who asks it directly hears that there is no answer.
    let middle = root.supervisor("middle").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(1), middle.supervisor("silent")).await.is_err());
    root.stop().await;
    assert_eq!(stage.alive(), 0);
}
