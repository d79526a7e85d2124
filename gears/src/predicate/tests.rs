//! Which conditions hold, and how wrong ones are refused.

use expect_test::expect;

use super::*;
use crate::tests::harness;

fn read(json: &str) -> Result<Predicate, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

fn check(json: &str) -> bool {
    let mut msg = harness::msg(0);
    msg.meta.set("iso8583.mti", "0200");
    msg.data.set(&"iso8583.2".parse().unwrap(), "4111111111111111").unwrap();
    msg.data.set(&"iso8583.4".parse().unwrap(), "000000012345").unwrap();
    msg.data.set(&"count".parse().unwrap(), -7_i64).unwrap();
    msg.data.set(&"is_open".parse().unwrap(), true).unwrap();
    read(json).unwrap().holds(&msg)
}

#[test]
fn each_operator_holds_for_what_it_says_and_for_nothing_else() {
    for (json, expected) in [
        (r#"{"field":"meta.iso8583.mti","equals":"0200"}"#, true),
        (r#"{"field":"meta.iso8583.mti","equals":"200"}"#, false),
        (r#"{"field":"data.iso8583.2","prefix":"41"}"#, true),
        (r#"{"field":"data.iso8583.2","prefix":"5"}"#, false),
        (r#"{"field":"data.iso8583.4","range":{"from":"12345","to":"12345"}}"#, true),
        (r#"{"field":"data.iso8583.4","range":{"from":"12346"}}"#, false),
        (r#"{"field":"data.iso8583.4","range":{"to":"000000000012344"}}"#, false),
        (r#"{"field":"data.count","range":{"from":"-10","to":"-7"}}"#, true),
        (r#"{"field":"data.count","range":{"from":"-6"}}"#, false),
        (r#"{"field":"data.is_open","range":{"from":"0"}}"#, false),
        (r#"{"field":"data.is_open","equals":"true"}"#, true),
        (r#"{"field":"data.iso8583","equals":""}"#, false),
        (r#"{"field":"meta.iso8583.mti","in":["0100","0200"]}"#, true),
        (r#"{"field":"meta.iso8583.mti","in":["0100"]}"#, false),
        (r#"{"field":"data.iso8583","present":true}"#, true),
        (r#"{"field":"data.iso8583.3","present":false}"#, true),
        (r#"{"field":"meta.site","present":true}"#, false),
        (r#"{"all":[{"field":"data.count","equals":"-7"},{"field":"data.count","prefix":"-"}]}"#, true),
        (r#"{"all":[{"field":"data.count","equals":"-7"},{"field":"data.count","prefix":"7"}]}"#, false),
        (r#"{"any":[{"field":"data.count","equals":"-7"},{"field":"data.count","prefix":"7"}]}"#, true),
        (r#"{"any":[{"field":"data.count","equals":"7"}]}"#, false),
        (r#"{"not":{"field":"data.count","equals":"7"}}"#, true),
    ] {
        assert_eq!(check(json), expected, "{json}");
    }
}

#[test]
fn integers_are_compared_as_numbers_of_any_length() {
    let ordered = ["-99999999999999999999999", "-2", "-1", "-0", "1", "009", "10", "99999999999999999999999"];
    for pair in ordered.windows(2) {
        assert!(by_number(pair[0], pair[1]).is_lt() && by_number(pair[1], pair[0]).is_gt(), "{pair:?}");
    }
    assert!(by_number("-0", "000").is_eq() && by_number("-007", "-7").is_eq());
    assert!(!is_integer("1.5") && !is_integer("") && !is_integer("-") && !is_integer("--1"));
}

#[test]
fn what_can_never_hold_is_refused() {
    let deep = format!("{}{}{}", r#"{"not":"#.repeat(17), r#"{"field":"meta.a","present":true}"#, "}".repeat(17));
    let errors = [
        "{}",
        r#"{"equals":"1"}"#,
        r#"{"all":[]}"#,
        r#"{"all":[{"field":"meta.a","present":true}],"equals":"1"}"#,
        r#"{"field":"meta.a"}"#,
        r#"{"field":"meta.a","equals":"1","prefix":"1"}"#,
        r#"{"field":"meta.a","not":{"field":"meta.a","present":true}}"#,
        r#"{"field":"meta.a","in":[]}"#,
        r#"{"field":"meta.a","prefix":""}"#,
        r#"{"field":"meta.a","range":{}}"#,
        r#"{"field":"meta.a","range":{"from":"2","to":"1"}}"#,
        r#"{"field":"meta.a","range":{"from":"a"}}"#,
        r#"{"field":"iso8583.2","present":true}"#,
        r#"{"field":"data.","present":true}"#,
        r#"{"field":"meta.a","equal":"1"}"#,
        &deep,
    ]
    .map(|json| read(json).unwrap_err());
    expect![[r#"
        condition: found 0 of `equals`, `prefix`, `range`, `in`, `present`, `all`, `any`, `not`, expected exactly one; remedy: join several with `all` or `any`
        condition: found `equals` without `field`, expected both; remedy: say which field, for example `data.iso8583.2`
        condition: `all` is empty, expected at least one entry; remedy: add one, or remove the condition
        condition: found 2 of `equals`, `prefix`, `range`, `in`, `present`, `all`, `any`, `not`, expected exactly one; remedy: join several with `all` or `any`
        condition: found 0 of `equals`, `prefix`, `range`, `in`, `present`, `all`, `any`, `not`, expected exactly one; remedy: join several with `all` or `any`
        condition: found 2 of `equals`, `prefix`, `range`, `in`, `present`, `all`, `any`, `not`, expected exactly one; remedy: join several with `all` or `any`
        condition: found `field` beside `not`, expected it inside; remedy: move it into a condition of `not`
        condition: `in` is empty, expected at least one entry; remedy: add one, or remove the condition
        condition: `prefix` is empty, expected at least one entry; remedy: add one, or remove the condition
        condition: `range` is empty, expected at least one entry; remedy: add one, or remove the condition
        condition: `range` has `from` that is above `to`; remedy: write digits, the smaller number in `from`
        condition: `range` has `from` that is not made of digits; remedy: write digits, the smaller number in `from`
        path `iso8583.2`: found neither `data.` nor `meta.` at its start, expected one of them; remedy: write `data.iso8583.2` for a business field, `meta.iso8583.2` for a context text at line 1 column 20
        path `data.…`: the path is empty, expected keys joined by dots; remedy: name a field, for example `tank.level` at line 1 column 16
        unknown field `equal`, expected one of `field`, `equals`, `prefix`, `range`, `in`, `present`, `all`, `any`, `not` at line 1 column 25
        condition: found more than 16 levels of `all`, `any` and `not`, expected fewer; remedy: flatten it"#]].assert_eq(&errors.join("\n"));
}
