//! Tests of limits: only downward, and never so low that nothing fits.
//! What they do to messages is tested where messages are.

use expect_test::expect;

use super::*;

#[test]
fn limits_can_only_be_lowered() {
    assert_eq!(Limits::default().validate(), Ok(()));
    let high = Limits { hops: 65, ..Limits::default() };
    expect!["`hops` is 65, the most is 64; remedy: limits can only be lowered"]
        .assert_eq(&high.validate().unwrap_err().to_string());
    let none = Limits { depth: 0, ..Limits::default() };
    expect!["`depth` is 0, expected at least 1, or no message would fit; remedy: raise it, or lower `hops`"]
        .assert_eq(&none.validate().unwrap_err().to_string());
    let narrow = Limits { encoded_bytes: 1000, ..Limits::default() };
    expect![
        "`encoded_bytes` is 1000, expected at least 1342, or no message would fit; remedy: raise it, or lower `hops`"
    ]
    .assert_eq(&narrow.validate().unwrap_err().to_string());
    assert_eq!(Limits { hops: 4, ..narrow }.validate(), Ok(()));
}

#[test]
fn limits_are_read_from_configuration() {
    let limits: Limits = serde_json::from_str(r#"{"hops": 8}"#).unwrap();
    assert_eq!(limits, Limits { hops: 8, ..Limits::MAX });
    assert!(serde_json::from_str::<Limits>(r#"{"hop": 8}"#).is_err());
}
