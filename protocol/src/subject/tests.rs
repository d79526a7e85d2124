//! Tests of names and subjects: the alphabet, the lengths, the texts.
//! A name that gets through here stands unescaped in subjects, files and metrics.

use expect_test::expect;
use proptest::prelude::*;

use super::*;

#[test]
fn bad_names_say_why() {
    let error = |text: &str| text.parse::<Name>().unwrap_err().to_string();
    expect!["the name is empty, expected 1 to 64 characters; remedy: give it one, for example `pumps`"]
        .assert_eq(&error(""));
    expect!["the name has 65 bytes, the limit is 64; remedy: shorten it"].assert_eq(&error(&"n".repeat(65)));
    expect!["`_pumps` starts with '_', expected a-z or 0-9; remedy: start with a lower-case letter or a digit"]
        .assert_eq(&error("_pumps"));
    expect!["`depot north` holds ' ', expected a-z, 0-9, `_` or `-`; remedy: replace it, for example by `-`"]
        .assert_eq(&error("depot north"));
    for wrong in ["Pumps", "pumpS", "a.b", "a*", "a>", "zähler", "a\n", "a/b"] {
        assert!(wrong.parse::<Name>().is_err(), "{wrong}");
    }
    assert!("n".repeat(64).parse::<Name>().is_ok());
}

#[test]
fn bad_subjects_say_why() {
    let error = |text: &str| text.parse::<MsgSubject>().unwrap_err();
    expect!["subject `flux.msg.a.b` is not ours, expected `flux.msg.{rack}.{gear}.{port}`; remedy: check the stream's subject filter"]
        .assert_eq(&error("flux.msg.a.b").to_string());
    let token = error("flux.msg.a.B.out");
    expect!["the gear of the subject is not a name; remedy: check who publishes there"].assert_eq(&token.to_string());
    assert!(std::error::Error::source(&token).is_some());
    for wrong in ["", "flux.msg.", "flux.msg.a.b.c.d", "flux.cmd.a.b.c", "flux.msg.a.b.>", "flux.msg.a..c"] {
        assert!(wrong.parse::<MsgSubject>().is_err(), "{wrong}");
    }
}

#[test]
fn a_name_is_found_by_its_text() {
    let name: Name = serde_json::from_str(r#""pumps""#).unwrap();
    assert_eq!(serde_json::to_string(&name).unwrap(), r#""pumps""#);
    let set = std::collections::BTreeSet::from([name.clone()]);
    assert!(set.contains("pumps") && name.starts_with('p'));
    assert_eq!(MsgSubject::filter_of_rack(&name), "flux.msg.pumps.>");
    assert!(serde_json::from_str::<Name>(r#""Pumps""#).is_err());
    assert_eq!(schemars::schema_for!(Name).get("type"), Some(&"string".into()));
}

proptest! {
    #[test]
    fn subjects_survive_the_way(rack in "[a-z0-9][a-z0-9_-]{0,63}", gear in "[a-z0-9]{1,9}", port in "[a-z0-9]{1,9}") {
        let subject = MsgSubject {
            rack: rack.parse().unwrap(),
            gear: gear.parse().unwrap(),
            port: port.parse().unwrap(),
        };
        prop_assert_eq!(subject.to_string().parse(), Ok(subject));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
        if let Ok(name) = text.parse::<Name>() {
            prop_assert_eq!(name.as_str(), text.as_str());
        }
        let _ = text.parse::<MsgSubject>();
    }
}
