//! What text becomes by the type that reads it, and that it stays what it was where no type asks for anything else.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::attempt::read;
use super::super::problem::Problems;
use super::super::tree::parse;
use super::*;

fn try_read<T: DeserializeOwned>(yaml: &str) -> Result<T, String> {
    let mut problems = Problems::new("f");
    let node = parse(&format!("value: {yaml}\n"), &mut problems).ok_or("no tree")?;
    let value = read(node.get("value").unwrap(), "value", &mut problems);
    let texts: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
    value.filter(|_| texts.is_empty()).ok_or_else(|| texts.join("\n"))
}

fn check<T: DeserializeOwned + PartialEq + std::fmt::Debug>(yaml: &str, expected: T) {
    assert_eq!(try_read::<T>(yaml), Ok(expected), "{yaml}");
}

fn refused<T: DeserializeOwned + std::fmt::Debug>(yaml: &str, part: &str) {
    let error = try_read::<T>(yaml).unwrap_err();
    assert!(error.contains(part), "{yaml}: {error}");
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shape {
    Point,
    Circle(u8),
    Line(u8, u8),
    Box { width: u8 },
}

#[derive(Debug, PartialEq, Deserialize)]
struct Wrapped(u16);

#[test]
fn a_type_that_asks_for_a_number_gets_one() {
    check("39", 39u8);
    check("\"39\"", 39u8);
    check("-5", -5i64);
    check("18446744073709551615", u64::MAX);
    check("170141183460469231731687303715884105727", i128::MAX);
    check("1", 1.0f64);
    check("1e3", 1000.0f64);
    check("true", true);
    check("7", Wrapped(7));
    refused::<u8>("256", "f:1:8: `value`: found `256`, expected an integer from 0 to 255");
    refused::<u16>("0800", "found `0800`");
    refused::<u16>("+8", "found `+8`");
    refused::<f64>(".nan", "expected a number");
    refused::<f64>("NaN", "expected a number");
    refused::<bool>("yes", "expected `true` or `false`");
}

#[test]
fn a_type_that_asks_for_text_gets_what_stands_there() {
    for text in ["0800", "39", "1.50", "true", "yes", "1e3", "12:30", "2026-01-31", "0x1f"] {
        check(text, text.to_owned());
    }
    check("x", 'x');
    refused::<String>("~", "found nothing, expected a text");
    refused::<String>("", "found nothing, expected a text");
    check("\"\"", String::new());
    refused::<String>("[a]", "found a list, expected a text");
}

#[test]
fn options_lists_tuples_and_maps() {
    check("~", None::<u8>);
    check("", None::<u8>);
    check("3", Some(3u8));
    check("\"~\"", Some("~".to_owned()));
    check("[1, \"2\", 03]", vec!["1".to_owned(), "2".into(), "03".into()]);
    check("[1, a]", (1u8, "a".to_owned()));
    refused::<(u8, u8)>("[1]", "found a list of 1, expected 2");
    check("{ 39: \"00\", 2: b }", BTreeMap::from([(39u8, "00".to_owned()), (2, "b".into())]));
    refused::<BTreeMap<u8, String>>("{ x: y }", "f:1:10: `value.x`: found `x`, expected an integer");
    refused::<BTreeMap<u8, String>>("{ 300: y }", "expected");
    check("~", ());
}

#[test]
fn enums_are_tagged_by_their_name() {
    check("point", Shape::Point);
    check("{ circle: 3 }", Shape::Circle(3));
    check("{ line: [3, 4] }", Shape::Line(3, 4));
    check("{ box: { width: 3 } }", Shape::Box { width: 3 });
    refused::<Shape>("pont", "found `pont`, expected one of `point`, `circle`, `line`, `box`; remedy: use `point`");
    refused::<Shape>("circle", "found `circle` alone, expected a value behind it");
    refused::<Shape>("{ circle: x }", "f:1:18: `value.circle`: found `x`");
    refused::<Shape>("{ circle: 1, point: ~ }", "found a map, expected one of");
}

#[test]
fn all_mistakes_of_a_part_are_found() {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its errors are looked at")]
    struct Inner {
        first: u8,
        #[serde(default)]
        second: u8,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its errors are looked at")]
    struct Outer {
        inner: Inner,
        list: Vec<u8>,
        last: bool,
    }
    let error = try_read::<Outer>("{ inner: { first: a, second: b, third: c }, list: [1, x, y], lst: 1, last: z }");
    let error = error.unwrap_err();
    let lines: Vec<&str> = error.lines().collect();
    let places: Vec<&str> = lines.iter().map(|line| line.split('`').nth(1).unwrap()).collect();
    let expected =
        ["value.inner.first", "value.inner.second", "value.inner.third", "value.list[1]", "value.lst", "value.last"];
    assert_eq!(places, expected, "{error}");
}

proptest! {
    /// Whoever takes anything gets the text back by printing what it got: nothing is lost by guessing.
    #[test]
    fn what_a_plain_scalar_means_prints_as_it_was(text in "[-+]?[0-9]{0,24}(\\.[0-9]{0,6})?(e[0-9]{1,3})?|[a-z]{1,6}|true|false|0[0-9]{3}") {
        let scalar = Scalar::plain(text.clone());
        let printed = match meaning(&scalar) {
            Meaning::Null => return Ok(()),
            Meaning::Bool(value) => value.to_string(),
            Meaning::Int(value) => value.to_string(),
            Meaning::Float(value) => format!("{value:?}"),
            Meaning::Text(value) => value.to_owned(),
        };
        prop_assert_eq!(printed, text);
    }

    /// Text read as text is the same, whatever it looks like.
    #[test]
    fn text_stays_text(text in "[0-9a-z:._+-]{1,20}") {
        let node = Node::made(Content::Scalar(Scalar::plain(text.clone())));
        prop_assume!(!matches!(text.as_str(), "null" | "~"));
        let session = Session::default();
        prop_assert_eq!(root(&node, &session, |de| String::deserialize(de)).unwrap(), text);
    }

    /// No text makes the reader of the tree panic, and nothing takes long.
    #[test]
    fn any_text_is_read_or_refused(text in "[ \\-:{}\\[\\],&*!|>'\"#%@`?a-b0\n]{0,60}") {
        drop(parse(&text, &mut Problems::new("f")));
    }
}
