//! Tests of paths: what is one, what is not, and the texts that say so.
//! `error` is the text for a path that is refused.

use expect_test::expect;
use proptest::prelude::*;

use super::*;

fn error(text: &str) -> String {
    text.parse::<FieldPath>().unwrap_err().to_string()
}

#[test]
fn bad_paths_say_why() {
    expect!["the path is empty, expected keys joined by dots; remedy: name a field, for example `tank.level`"]
        .assert_eq(&error(""));
    expect!["`a..b`: key 2 is empty, expected keys joined by single dots; remedy: remove the extra dot"]
        .assert_eq(&error("a..b"));
    expect!["`.`: key 1 is empty, expected keys joined by single dots; remedy: remove the extra dot"]
        .assert_eq(&error("."));
    expect!["the path has 33 keys, the limit is 32 levels; remedy: shorten it"].assert_eq(&error(&["a"; 33].join(".")));
    expect!["key 2 of the path has 257 bytes, the limit is 256; remedy: shorten it"]
        .assert_eq(&error(&format!("a.{}", "k".repeat(257))));
}

#[test]
fn a_path_is_read_from_configuration() {
    let path: FieldPath = serde_json::from_str(r#""tank.level""#).unwrap();
    assert_eq!(path.segments(), ["tank", "level"]);
    assert_eq!(serde_json::to_string(&path).unwrap(), r#""tank.level""#);
    assert!(serde_json::from_str::<FieldPath>(r#""tank.""#).unwrap_err().to_string().contains("key 2 is empty"));
    let schema = schemars::schema_for!(FieldPath);
    assert_eq!(schema.get("type"), Some(&"string".into()));
}

proptest! {
    #[test]
    fn paths_survive_the_way(text in "\\PC{0,60}") {
        if let Ok(path) = FieldPath::try_from(text.clone()) {
            prop_assert_eq!(path.to_string(), text.as_str());
            prop_assert_eq!(FieldPath::try_from(text.as_str()), Ok(path));
        }
    }
}
