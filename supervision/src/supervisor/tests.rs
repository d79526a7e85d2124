//! The actor: what its children see, what its parent hears, what its handle tells. Time is paused.

mod requests;
mod sight;
mod stage;

use std::error::Error;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use self::stage::{Stage, Tell};
use super::*;
use crate::Backoff;
use crate::error::ControlError;
use crate::spec::{GiveUp, Restart, Shutdown};
use crate::strategy::Strategy;
use crate::tree::Status;

const MINUTE: Duration = Duration::from_secs(60);

async fn root(spec: SupervisorSpec) -> SupervisorRef {
    SupervisorRef::start_root("root", spec).await.unwrap()
}

/// A supervisor of three hands that forgives a lot.
fn trio(stage: &Stage, strategy: Strategy) -> SupervisorSpec {
    let spec = SupervisorSpec::new(strategy).intensity(100, MINUTE);
    spec.child(stage.hand("a")).child(stage.hand("b")).child(stage.hand("c"))
}

fn chain(error: &(dyn Error + 'static)) -> String {
    crate::exit::chain(error).replace("; remedy: ", "; ")
}

#[tokio::test(start_paused = true)]
async fn starts_in_order_and_stops_in_reverse() {
    let stage = Stage::new();
    let root = root(trio(&stage, Strategy::OneForOne)).await;
    assert_eq!(root.stop().await, ExitReason::Shutdown);
    assert_eq!(stage.notes(6).await, "+a +b +c -c -b -a");
    assert_eq!(stage.alive(), 0);
    assert_eq!(root.stop().await, ExitReason::Shutdown, "stopping twice is stopping once");
    assert!(matches!(root.snapshot().await, Err(ControlError::Gone { .. })));
}

#[tokio::test(start_paused = true)]
async fn each_strategy_restarts_its_own() {
    for (strategy, expected) in
        [(Strategy::OneForOne, "+b"), (Strategy::OneForAll, "-c -a +a +b +c"), (Strategy::RestForOne, "-c +b +c")]
    {
        let stage = Stage::new();
        let root = root(trio(&stage, strategy)).await;
        stage.notes(3).await;
        stage.tell("b", Tell::Fail);
        assert_eq!(stage.notes(expected.split(' ').count()).await, expected, "{strategy:?}");
        root.stop().await;
        assert_eq!(stage.alive(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn restart_types_differ_by_how_a_child_ends() {
    let stage = Stage::new();
    let children = [("p", Restart::Permanent), ("t", Restart::Transient), ("once", Restart::Temporary)];
    let children = children.map(|(name, restart)| stage.hand(name).restart(restart)).to_vec();
    let root = root(SupervisorSpec { children, ..SupervisorSpec::one_for_one().intensity(100, MINUTE) }).await;
    stage.notes(3).await;

    for end in [|| Tell::Finish, || Tell::ShutDown] {
        stage.tell("p", end());
        assert_eq!(stage.notes(2).await, "-p +p");
    }
    stage.tell("t", Tell::Fail);
    assert_eq!(stage.notes(1).await, "+t");
    stage.get("t").kill();
    assert_eq!(stage.notes(1).await, "+t");
    stage.tell("t", Tell::ShutDown);
    stage.tell("once", Tell::Panic);
    assert_eq!(stage.notes(1).await, "-t");

    let tree = root.snapshot().await.unwrap();
    assert_eq!(tree.find("p").unwrap().last_exit, Some(ExitReason::Shutdown));
    assert_eq!(tree.find("t").unwrap().status, Status::Stopped);
    assert_eq!(tree.find("t").unwrap().last_exit, Some(ExitReason::Shutdown));
    assert!(tree.find("once").is_none(), "a temporary child is forgotten");
    root.stop().await;
    assert_eq!(stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failure_climbs_level_by_level() {
    let stage = Stage::new();
    let low = SupervisorSpec::one_for_one().intensity(0, MINUTE).child(stage.hand("x")).child(stage.hand("y"));
    let low = ChildSpec::supervisor("low", low).backoff(Backoff::NONE);
    let root = root(SupervisorSpec::one_for_one().intensity(1, MINUTE).child(stage.hand("s")).child(low)).await;
    assert_eq!(stage.notes(3).await, "+s +x +y");

    stage.tell("x", Tell::Fail);
    assert_eq!(stage.notes(3).await, "-y +x +y", "the lower one gives up, the upper one restarts it");
    let tree = root.snapshot().await.unwrap();
    let low = tree.find("low").unwrap();
    assert_eq!((low.restarts, low.find("x").unwrap().restarts), (1, 0));
    assert!(matches!(&low.last_exit, Some(ExitReason::GaveUp(why)) if why.contains("`x`")), "{:?}", low.last_exit);

    stage.tell("y", Tell::Panic);
    let reason = root.wait().await;
    assert_eq!(stage.notes(2).await, "-x -s");
    assert!(
        matches!(&reason, ExitReason::GaveUp(why) if why.contains("`low`") && why.contains("hand y slipped")),
        "{reason}"
    );
    assert_eq!(stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_holds_spares_its_siblings_until_it_is_woken() {
    let stage = Stage::new();
    let gear = SupervisorSpec::one_for_one().intensity(1, MINUTE).on_give_up(GiveUp::Hold);
    let gear = ChildSpec::supervisor("gear", gear.child(stage.hand("x")).child(stage.hand("y")));
    let root = root(SupervisorSpec::one_for_one().child(stage.hand("s")).child(gear)).await;
    stage.notes(3).await;
    stage.tell("x", Tell::Fail);
    assert_eq!(stage.notes(1).await, "+x");
    stage.tell("x", Tell::Fail);
    assert_eq!(stage.notes(1).await, "-y");

    let tree = root.snapshot().await.unwrap();
    let status = |path| tree.find(path).unwrap().status;
    assert_eq!(status("gear"), Status::Failed);
    assert_eq!(status("gear/x"), Status::Failed);
    assert_eq!(status("gear/y"), Status::Stopped);
    assert_eq!((status("s"), tree.find("gear").unwrap().restarts), (Status::Running, 0));
    assert_eq!(stage.alive(), 1);
    let gear = root.supervisor("gear").await.unwrap();
    assert!(matches!(gear.add_child(stage.hand("z")).await, Err(ControlError::Held { .. })));

    root.restart_child("gear/x").await.unwrap();
    assert_eq!(stage.notes(2).await, "+x +y");
    assert_eq!(root.snapshot().await.unwrap().find("gear").unwrap().status, Status::Running);
    root.stop().await;
    assert_eq!(stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn backoff_grows_and_begins_again() {
    let stage = Stage::new();
    let backoff = Backoff { jitter: 0.0, ..Backoff::new(Duration::from_secs(1), Duration::from_secs(8)) };
    let spec = SupervisorSpec::one_for_one().intensity(100, Duration::from_secs(5));
    let root = root(spec.child(stage.hand("a").backoff(backoff)).child(stage.hand("b"))).await;
    stage.notes(2).await;
    for (ran, waited) in [(0, 1), (0, 2), (0, 4), (7, 8), (0, 8), (8, 1), (0, 2)] {
        tokio::time::sleep(Duration::from_secs(ran)).await;
        let began = Instant::now();
        stage.tell("a", Tell::Fail);
        // A sibling is not kept waiting.
        stage.tell("b", Tell::Fail);
        assert_eq!(stage.notes(1).await, "+b");
        let tree = root.snapshot().await.unwrap();
        assert_eq!(tree.find("a").unwrap().status, Status::Backoff { remaining: Duration::from_secs(waited) });
        assert_eq!(tree.find("a").unwrap().id, None);
        assert_eq!(stage.notes(1).await, "+a");
        // Timers of tokio tick in milliseconds.
        assert_eq!((began.elapsed().as_secs_f64()).round() as u64, waited);
    }
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn progress_forgives() {
    let stage = Stage::new();
    let progress = Arc::new(AtomicU64::new(0));
    let hand = stage.hand("a").progress(progress.clone());
    let root = root(SupervisorSpec::one_for_one().intensity(0, MINUTE).child(hand)).await;
    stage.notes(1).await;
    for _ in 0..50 {
        progress.fetch_add(1, Relaxed);
        stage.tell("a", Tell::Panic);
        assert_eq!(stage.notes(1).await, "+a");
    }
    stage.tell("a", Tell::Panic);
    assert!(matches!(root.wait().await, ExitReason::GaveUp(_)));
    assert_eq!(stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_takes_back_what_was_started() {
    let stage = Stage::new();
    let low = SupervisorSpec::one_for_one().child(stage.hand("x")).child(stage.clumsy("y", 0, 1));
    let spec = SupervisorSpec::one_for_one().child(stage.hand("a")).child(ChildSpec::supervisor("low", low));
    let error = SupervisorRef::start_root("root", spec.child(stage.hand("never"))).await.unwrap_err();
    assert_eq!(stage.notes(5).await, "+a +x !y -x -a");
    assert_eq!(stage.alive(), 0);
    assert_eq!(
        chain(&error),
        "low: not started, expected to run; see the cause: y: not started, expected to run; see the cause: \
         start function: an error, expected a running actor; see the cause: hand: a failure, expected none; none, it was told to"
    );
    assert_eq!(error.path().collect::<Vec<_>>(), ["low", "y"]);
    assert_eq!(error.root_cause(), "hand: a failure, expected none; remedy: none, it was told to");
}

#[tokio::test(start_paused = true)]
async fn a_failed_restart_is_tried_again_and_counts() {
    let stage = Stage::new();
    let spec =
        || SupervisorSpec::rest_for_one().child(stage.hand("a")).child(stage.clumsy("b", 1, 3)).child(stage.hand("c"));
    let patient = root(spec().intensity(3, MINUTE)).await;
    stage.notes(3).await;
    stage.tell("b", Tell::Fail);
    assert_eq!(stage.notes(5).await, "-c !b !b +b +c");
    assert_eq!(patient.snapshot().await.unwrap().find("b").unwrap().restarts, 3);
    patient.stop().await;
    stage.notes(3).await;

    let strict = root(spec().intensity(2, MINUTE)).await;
    stage.notes(3).await;
    stage.tell("b", Tell::Fail);
    assert!(matches!(strict.wait().await, ExitReason::GaveUp(_)));
    assert_eq!(stage.notes(4).await, "-c !b !b -a");
    assert_eq!(stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_start_function_cannot_harm_its_supervisor() {
    let stage = Stage::new();
    let root = root(SupervisorSpec::one_for_one().child(stage.hand("a"))).await;
    let started = |stage: &Stage| {
        let stage = stage.clone();
        move |start: crate::Start| {
            let stage = stage.clone();
            async move { stage.enter(&start).await.map(|actor| (actor, start)) }
        }
    };

    let inner = started(&stage);
    let panics = ChildSpec::worker("panics", move |start| {
        let begun = inner(start);
        async move {
            begun.await?;
            panic!("after the actor was spawned")
        }
    });
    let error = root.add_child(panics).await.unwrap_err();
    assert!(chain(&error).ends_with("start function: panic `after the actor was spawned`, expected a running actor; return an error instead of panicking"), "{}", chain(&error));

    let hangs = ChildSpec::worker("hangs", |_| std::future::pending()).start_timeout(MINUTE);
    let began = Instant::now();
    let error = root.add_child(hangs).await.unwrap_err();
    assert!(chain(&error).contains("not done after 60s"), "{}", chain(&error));
    assert_eq!(began.elapsed().as_secs(), 60);

    let inner = started(&stage);
    let strays = ChildSpec::worker("strays", move |start| {
        let begun = inner(start);
        async move {
            let (actor, start) = begun.await?;
            actor.unlink(start.supervisor);
            Ok(actor)
        }
    });
    let error = root.add_child(strays).await.unwrap_err();
    assert!(chain(&error).contains("an actor that is not linked"), "{}", chain(&error));

    assert_eq!(stage.alive(), 1, "what those start functions spawned is gone");
    assert_eq!(root.snapshot().await.unwrap().children.len(), 1);
    root.stop().await;
    assert_eq!(stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_stop_in_time_is_killed() {
    let stage = Stage::new();
    let deaf = stage.hand("deaf").shutdown(Shutdown::Timeout(MINUTE));
    let root =
        root(SupervisorSpec::one_for_one().child(deaf).child(stage.hand("doomed").shutdown(Shutdown::Kill))).await;
    stage.tell("deaf", Tell::Hang);
    let began = Instant::now();
    root.terminate_child("deaf").await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 60);
    assert_eq!(stage.alive(), 1);
    root.terminate_child("doomed").await.unwrap();
    assert_eq!(stage.alive(), 0);
    assert_eq!(stage.notes(2).await, "+deaf +doomed", "neither came to say goodbye");
    for child in root.snapshot().await.unwrap().children {
        assert_eq!((child.status, child.last_exit), (Status::Stopped, Some(ExitReason::Killed)));
    }
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_takes_the_whole_tree() {
    let stage = Stage::new();
    let low = ChildSpec::supervisor("low", trio(&stage, Strategy::OneForAll)).shutdown(Shutdown::Kill);
    let root = root(SupervisorSpec::one_for_one().child(low).child(stage.hand("s"))).await;
    assert_eq!(stage.alive(), 4);
    root.restart_child("low").await.unwrap();
    assert_eq!(stage.alive(), 4, "those below a killed supervisor are gone before it starts again");
    root.cell().kill();
    assert_eq!(root.wait().await, ExitReason::Killed);
    stage.all_gone().await;
}

/// On several threads, because only there events can overtake each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_failures_loses_none() {
    const CHILDREN: usize = 40;
    const CRASHES: u64 = 50;
    let stage = Stage::new();
    let children = (0..CHILDREN).map(|idx| stage.hand(&format!("h{idx}"))).collect();
    let spec = SupervisorSpec { children, ..SupervisorSpec::one_for_one().intensity(u32::MAX, MINUTE) };
    let root = root(spec).await;
    let (mut started, mut told) = (0, HashMap::<String, u64>::new());
    while started < CHILDREN * (CRASHES as usize + 1) {
        for note in stage.notes(1).await.split(' ') {
            started += 1;
            let name = note.trim_start_matches('+');
            let crashes = told.entry(name.to_owned()).or_default();
            if *crashes < CRASHES {
                *crashes += 1;
                stage.tell(name, if *crashes % 2 == 0 { Tell::Fail } else { Tell::Panic });
            }
        }
    }
    let tree = root.snapshot().await.unwrap();
    assert!(tree.children.iter().all(|child| child.restarts == CRASHES && child.status == Status::Running), "{tree}");
    assert_eq!(stage.alive(), CHILDREN);
    root.stop().await;
    assert_eq!(stage.alive(), 0);
}

/// A hand refuses to start while its predecessor's state lives, as a listener does with its port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_finds_all_of_its_predecessor_gone() {
    let stage = Stage::new();
    let low = ChildSpec::supervisor("low", trio(&stage, Strategy::OneForAll));
    let root = root(SupervisorSpec::one_for_one().intensity(u32::MAX, MINUTE).child(low)).await;
    stage.notes(3).await;
    for turn in 0..300 {
        match turn % 6 {
            0 => stage.tell("a", Tell::Fail),
            1 => stage.tell("b", Tell::Panic),
            2 => stage.tell("c", Tell::Finish),
            3 => stage.get("b").kill(),
            4 => root.restart_child("low/b").await.unwrap(),
            _ => root.restart_child("low").await.unwrap(),
        }
        let mut notes = String::new();
        while notes.matches('+').count() < 3 {
            notes += &stage.notes(1).await;
        }
        assert!(!notes.contains('?'), "turn {turn}: {notes}");
    }
    root.stop().await;
    assert_eq!(stage.alive(), 0);
}
