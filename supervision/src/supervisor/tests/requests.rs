//! What an operator can ask for.

use super::*;

#[tokio::test(start_paused = true)]
async fn children_come_and_go() {
    let stage = Stage::new();
    let root = root(trio(&stage, Strategy::RestForOne)).await;
    root.add_child(stage.hand("d")).await.unwrap();
    root.restart_child("b").await.unwrap();
    root.terminate_child("b").await.unwrap();
    root.remove_child("c").await.unwrap();
    assert_eq!(stage.notes(12).await, "+a +b +c +d -d -c -b +b +c +d -b -c");
    let tree = root.snapshot().await.unwrap();
    let seen: Vec<_> = tree.children.iter().map(|child| (&*child.name, child.status, child.restarts)).collect();
    assert_eq!(seen, [("a", Status::Running, 0), ("b", Status::Stopped, 1), ("d", Status::Running, 1)]);
    root.restart_child("b").await.unwrap();
    assert_eq!(stage.notes(1).await, "+b", "one that was down binds nobody");
    root.stop().await;
    assert_eq!(stage.notes(3).await, "-d -b -a");
    assert_eq!(stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn paths_lead_down_the_tree() {
    let stage = Stage::new();
    let low = ChildSpec::supervisor("low", trio(&stage, Strategy::OneForOne));
    let spec =
        SupervisorSpec::one_for_one().child(ChildSpec::supervisor("mid", SupervisorSpec::one_for_one().child(low)));
    let root = root(spec).await;
    stage.notes(3).await;
    root.restart_child("mid/low/b").await.unwrap();
    assert_eq!(stage.notes(2).await, "-b +b");

    let low = root.supervisor("mid/low").await.unwrap();
    assert_eq!(&**low.name(), "low");
    low.add_child(stage.hand("d")).await.unwrap();
    assert_eq!(root.snapshot().await.unwrap().find("mid/low").unwrap().children.len(), 4);
    root.restart_child("mid").await.unwrap();
    assert_eq!(low.wait().await, ExitReason::Shutdown, "the handle is of one life");
    assert_eq!(stage.notes(8).await, "+d -d -c -b -a +a +b +c", "what was added is lost");
    root.stop().await;
    assert_eq!(stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_parent_is_not_started_again_by_a_stop_from_its_own_parent() {
    let stage = Stage::new();
    let root =
        root(SupervisorSpec::one_for_all().child(ChildSpec::supervisor("low", trio(&stage, Strategy::OneForOne))))
            .await;
    root.terminate_child("low").await.unwrap();
    assert_eq!(stage.notes(6).await, "+a +b +c -c -b -a");
    assert!(matches!(root.restart_child("low/a").await, Err(ControlError::NotASupervisor { .. })));
    root.stop().await;
    assert_eq!(stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn wrong_requests_say_what_is_wrong() {
    let stage = Stage::new();
    let root = root(trio(&stage, Strategy::OneForOne)).await;
    let told = [
        root.restart_child("x").await,
        root.terminate_child("").await,
        root.remove_child("a/b").await,
        root.add_child(stage.hand("a")).await,
        root.add_child(stage.hand("a/b")).await,
        root.add_child(stage.clumsy("e", 0, 1)).await,
    ]
    .map(|result| chain(&result.unwrap_err()));
    assert_eq!(
        told,
        [
            "root: no child called `x`, expected one; list them with `snapshot`",
            "root: no child called ``, expected one; list them with `snapshot`",
            "root: `a` is no running supervisor, expected one; shorten the path, or restart `a` first",
            "root: the child did not start, expected it to run; see the cause: root: two children called `a`, expected different names; rename one",
            "root: the child did not start, expected it to run; see the cause: root: a child called `a/b`, expected a name that is not empty and has no `/`; rename it",
            "root: the child did not start, expected it to run; see the cause: e: not started, expected to run; see the cause: start function: an error, expected a running actor; see the cause: hand: a failure, expected none; none, it was told to",
        ]
    );
    assert_eq!(root.snapshot().await.unwrap().children.len(), 3, "none of it left a trace");
    root.stop().await;
    assert_eq!(
        chain(&root.restart_child("a").await.unwrap_err()),
        "root: it has ended, expected it to run; ask its parent for the new one"
    );
}

#[tokio::test(start_paused = true)]
async fn names_are_checked_before_anything_starts() {
    let stage = Stage::new();
    let spec = SupervisorSpec::one_for_one().child(stage.hand("a")).child(stage.hand("a"));
    assert!(matches!(SupervisorRef::start_root("root", spec).await, Err(StartError::DuplicateName { .. })));
    let spec = SupervisorSpec::one_for_one().child(stage.hand("a")).child(stage.hand(""));
    assert!(matches!(SupervisorRef::start_root("root", spec).await, Err(StartError::BadName { .. })));
    assert_eq!(stage.notes(0).await, "");
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_a_stop_overtakes_is_not_hidden_and_counts_once() {
    let stage = Stage::new();
    let spec = SupervisorSpec::one_for_all().intensity(1, MINUTE).child(stage.hand("a")).child(stage.hand("b"));
    let root = root(spec).await;
    stage.notes(2).await;
    stage.tell("a", Tell::Fail);
    stage.tell("b", Tell::Panic);
    assert_eq!(stage.notes(2).await, "+a +b");
    let tree = root.snapshot().await.unwrap();
    assert!(matches!(tree.find("a").unwrap().last_exit, Some(ExitReason::Failed(_))), "{tree}");
    assert!(matches!(tree.find("b").unwrap().last_exit, Some(ExitReason::Panic(_))), "{tree}");
    assert_eq!(tree.find("b").unwrap().restarts, 1);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_a_wait_leaves_nothing_behind() {
    let stage = Stage::new();
    let root = root(
        SupervisorSpec::one_for_one().intensity(9, MINUTE).child(stage.hand("a").backoff(Backoff::new(MINUTE, MINUTE))),
    )
    .await;
    stage.tell("a", Tell::Fail);
    stage.all_gone().await;
    let began = Instant::now();
    root.stop().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(stage.notes(1).await, "+a");
}
