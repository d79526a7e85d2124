//! The words in which a scenario's file is refused, and how many of them.

use super::*;

fn problems_of(text: &str) -> (Option<Node>, Vec<String>) {
    let mut problems = Problems::new("f");
    let node = parse(text, &mut problems);
    (node, problems.into_vec().iter().map(ToString::to_string).collect())
}

#[test]
fn size_is_bounded() {
    let (node, problems) = problems_of(&format!("a: {}\n", "x".repeat(BYTES_MAX)));
    assert!(node.is_none());
    assert!(problems[0].contains("expected at most 1048576; remedy: "), "{problems:?}");
}

#[test]
fn the_number_of_mistakes_shown_is_bounded() {
    let (_, problems) = problems_of(&"a: 1\n".repeat(1502));
    assert_eq!(problems.len(), 1001);
    assert!(problems[1000].contains("found 501 more mistakes"), "{}", problems[1000]);
}

#[test]
fn depth_is_bounded() {
    let (node, problems) = problems_of(&format!("a: {}{}\n", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX)));
    assert!(node.is_none());
    assert!(problems[0].contains("inside each other"), "{problems:?}");
}
