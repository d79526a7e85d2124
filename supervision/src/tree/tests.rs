//! The table.

use super::*;

fn node(name: &str, children: Vec<TreeNode>) -> TreeNode {
    TreeNode {
        name: name.into(),
        kind: if children.is_empty() { Kind::Worker } else { Kind::Supervisor },
        status: Status::Running,
        id: Some(ActorId::Local(1)),
        restarts: 0,
        last_exit: None,
        up_for: Some(Duration::from_secs(90)),
        vitals: None,
        rate: None,
        stuck: false,
        answered: true,
        children,
    }
}

fn plant() -> TreeNode {
    let vitals = Vitals { depth: 12, handled: 9_000, oldest_ms: Some(40), busy_ms: Some(5_100) };
    let pump = TreeNode { vitals: Some(vitals), rate: Some(312.54), stuck: true, ..node("pump", vec![]) };
    let valve = TreeNode {
        status: Status::Backoff { remaining: Duration::from_millis(800) },
        restarts: 3,
        last_exit: Some(ExitReason::Panic("no water".into())),
        up_for: None,
        id: None,
        ..node("valve", vec![])
    };
    let lost = TreeNode { kind: Kind::Supervisor, answered: false, ..node("lost", vec![]) };
    node("plant", vec![node("hall", vec![pump, valve]), lost])
}

#[test]
fn prints_an_indented_table() {
    let expected = "\
NAME       STATUS             RESTARTS   UP  RATE/S  DEPTH  OLDEST_MS  BUSY_MS  LAST EXIT
plant      running                   0  90s       -      -          -        -  -
  hall     running                   0  90s       -      -          -        -  -
    pump   running STUCK             0  90s   312.5     12         40     5100  -
    valve  backoff 800ms             3    -       -      -          -        -  panic: no water
  lost     running NO ANSWER         0  90s       -      -          -        -  -
";
    assert_eq!(plant().to_string(), expected);
}

#[test]
fn finds_by_path_and_walks_parents_first() {
    let plant = plant();
    assert_eq!(plant.find("hall/pump").map(|node| node.stuck), Some(true));
    assert_eq!(plant.find("").map(|node| &*node.name), Some("plant"));
    assert!(plant.find("hall/none").is_none());
    let mut names = Vec::new();
    plant.walk(&mut |node| names.push(node.name.to_string()));
    assert_eq!(names, ["plant", "hall", "pump", "valve", "lost"]);
}
