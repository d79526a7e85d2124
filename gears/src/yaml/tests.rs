//! Positions, kinds of scalars and the budgets of the tree.

use super::*;

const BYTES_MAX: usize = 1 << 20;

fn faults_of(text: &str) -> (Option<Node>, Vec<YamlFault>) {
    let mut faults = Vec::new();
    let node = parse(text, BYTES_MAX, &mut |_, fault| faults.push(fault));
    (node, faults)
}

fn tree(text: &str) -> Node {
    let (node, faults) = faults_of(text);
    assert!(faults.is_empty(), "{faults:?}");
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
        let (node, faults) = faults_of(&text);
        assert!(node.is_none());
        let is_deep = |fault: &YamlFault| match fault {
            YamlFault::TooDeep => true,
            YamlFault::Syntax { found } => found.contains("recursion"),
            _ => false,
        };
        assert!(faults.len() == 1 && is_deep(&faults[0]), "{faults:?}");
    }
}

#[test]
fn what_is_not_read_is_told_and_size_is_bounded() {
    for (text, expected) in [
        ("a: &b 1\nc: *b\n", vec![YamlFault::Anchor, YamlFault::Alias]),
        ("a: *b\n", vec![YamlFault::Alias]),
        ("a: !t x\n", vec![YamlFault::Tag]),
        ("a: 1\n---\nb: 1\n", vec![YamlFault::SecondDocument]),
        ("? [a]\n: b\n", vec![YamlFault::KeyKind]),
        ("a: 1\nb: 2\na: 3\n", vec![YamlFault::DuplicateKey { key: "a".to_owned(), first_line: 1 }]),
        ("- a\n", vec![YamlFault::NoMap { found: "a list".to_owned() }]),
        ("", vec![YamlFault::NoMap { found: "nothing".to_owned() }]),
    ] {
        assert_eq!(faults_of(text).1, expected, "{text}");
    }
    let (node, faults) = faults_of(&format!("a: {}\n", "x".repeat(BYTES_MAX)));
    assert_eq!((node, faults), (None, vec![YamlFault::TooLarge { found: BYTES_MAX + 4, limit: BYTES_MAX }]));
}
