//! What is printed is read as what it was, whatever stands in a scalar.

use proptest::prelude::*;

use super::super::problem::Problems;
use super::super::tree::parse;
use super::*;

/// Same texts, same meanings; positions and marks of quoting may differ where they mean nothing.
fn is_same(left: &Node, right: &Node) -> bool {
    match (&left.content, &right.content) {
        (Content::Scalar(left), Content::Scalar(right)) => {
            (left.is_null() && right.is_null()) || (meaning(left) == meaning(right) && left.source() == right.source())
        }
        (Content::List(left), Content::List(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| is_same(left, right))
        }
        (Content::Map(left), Content::Map(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| left.key.text == right.key.text && is_same(&left.value, &right.value))
        }
        _ => false,
    }
}

fn check(node: Node) {
    let mut text = String::new();
    write_map(&[entry("top", node.clone())], 0, &mut text);
    let mut problems = Problems::new("f");
    let read = parse(&text, &mut problems);
    assert!(problems.is_empty(), "{text}\n{problems:?}");
    let read = read.unwrap();
    assert!(is_same(&node, read.get("top").unwrap()), "{text}\n{node:?}\n{read:?}");
    let mut again = String::new();
    write_map(&[entry("top", read.get("top").unwrap().clone())], 0, &mut again);
    assert_eq!(text, again, "the normalised form of the normalised form");
}

fn scalar() -> impl Strategy<Value = Node> {
    let plain = "[a-zA-Z0-9_./+-]{1,12}|true|null|~|0800|1\\.50|-3|2\\.5";
    let plain = plain.prop_map(Scalar::plain);
    let quoted = "\\PC{0,20}|[ -~\n\t\u{7f}\u{85}\u{2028}\u{feff}]{0,20}";
    let quoted = quoted.prop_map(|text| Scalar { text, is_plain: false, source: None });
    prop_oneof![plain, quoted].prop_map(|scalar| Node::made(Content::Scalar(scalar)))
}

fn node() -> impl Strategy<Value = Node> {
    scalar().prop_recursive(4, 40, 4, |inner| {
        let key = "[a-z0-9]{1,6}|[ -~]{1,8}|[-?:,\\[\\]{}#&*!|>'\"%@` ]{1,3}";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| Node::made(Content::List(items))),
            prop::collection::btree_map(key, inner, 0..4).prop_map(|entries| {
                let entries = entries.into_iter().map(|(key, value)| Entry {
                    key: Scalar { text: key, is_plain: false, source: None },
                    key_pos: Pos::default(),
                    value,
                });
                Node::made(Content::Map(entries.collect()))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn a_printed_tree_is_read_as_it_was(node in node()) {
        check(node);
    }
}

#[test]
fn variables_stay_as_they_were_written() {
    let node = |source: &str, is_plain| {
        Node::made(Content::Scalar(Scalar { text: "secret".into(), is_plain, source: Some(source.into()) }))
    };
    let text = |node| {
        let mut out = String::new();
        write_map(&[entry("key", node)], 0, &mut out);
        out
    };
    assert_eq!(text(node("${NAME}", true)), "key: ${NAME}\n");
    assert_eq!(text(node("${NAME}", false)), "key: \"${NAME}\"\n");
    assert_eq!(text(node("a ${NAME:-b c}", true)), "key: \"a ${NAME:-b c}\"\n");
}
