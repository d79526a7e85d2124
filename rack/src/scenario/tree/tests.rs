//! Positions, kinds of scalars and the budgets of the tree.

use super::*;

fn problems_of(text: &str) -> (Option<Node>, Vec<String>) {
    let mut problems = Problems::new("f");
    let node = parse(text, &mut problems);
    (node, problems.into_vec().iter().map(ToString::to_string).collect())
}

fn tree(text: &str) -> Node {
    let (node, problems) = problems_of(text);
    assert!(problems.is_empty(), "{problems:?}");
    node.unwrap()
}

#[test]
fn every_node_knows_its_place() {
    let top = tree("a:\n  b: 1\n  c:\n    - x\n    - { d: y }\ne:\nf: é \"g\"\n");
    let place = |node: &Node| (node.pos.line, node.pos.column);
    let a = top.get("a").unwrap();
    assert_eq!(place(a), (2, 3));
    assert_eq!(place(a.get("b").unwrap()), (2, 6));
    let Content::List(items) = &a.get("c").unwrap().content else { panic!("a list") };
    assert_eq!((place(&items[0]), place(&items[1])), ((4, 7), (5, 7)));
    assert_eq!(place(items[1].get("d").unwrap()), (5, 12));
    assert_eq!(place(top.get("e").unwrap()), (6, 1), "what is not there is at its key");
    assert_eq!(place(top.get("f").unwrap()), (7, 4));
}

#[test]
fn scalars_keep_their_text_and_whether_they_were_quoted() {
    let top = tree("a: 0800\nb: '39'\nc: \"x\\ty\"\nd: |\n  two\n  lines\ne: ~\nf: 1_000\n");
    let scalar = |key: &str| match &top.get(key).unwrap().content {
        Content::Scalar(scalar) => (scalar.text.clone(), scalar.is_plain),
        _ => panic!("a scalar"),
    };
    assert_eq!(scalar("a"), ("0800".into(), true));
    assert_eq!(scalar("b"), ("39".into(), false));
    assert_eq!(scalar("c"), ("x\ty".into(), false));
    assert_eq!(scalar("d"), ("two\nlines\n".into(), false));
    assert_eq!(scalar("e"), ("~".into(), true));
    assert_eq!(scalar("f"), ("1_000".into(), true));
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert!(tree("\u{feff}a: 1\n").get("a").is_some());
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
fn depth_is_bounded_and_nothing_overflows() {
    let deepest = format!("a: {}{}\n", "[".repeat(DEPTH_MAX - 1), "]".repeat(DEPTH_MAX - 1));
    assert!(tree(&deepest).get("a").is_some());
    for text in [
        format!("a: {}{}\n", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX)),
        format!("a:\n{}b\n", "- ".repeat(500_000)),
        format!("{}\n", "- ".repeat(500_000)),
        format!("a: {}\n", "{b: ".repeat(250_000)),
        (0..1000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect(),
    ] {
        let (node, problems) = problems_of(&text);
        assert!(node.is_none());
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("inside each other") || problems[0].contains("recursion"), "{problems:?}");
    }
}
