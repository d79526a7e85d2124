//! Tests of the trace context against the W3C recommendation: version 00 strictly, later versions by its rules.
//! A header that is refused means a new trace, so refusing too much loses traces and too little corrupts them.

use expect_test::expect;
use proptest::prelude::*;

use super::*;

const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn check(header: &str) -> Result<String, String> {
    header.parse::<Trace>().map(|trace| trace.to_string()).map_err(|error| error.to_string())
}

#[test]
fn a_header_survives_the_way() {
    assert_eq!(check(HEADER).as_deref(), Ok(HEADER));
    let trace: Trace = HEADER.parse().unwrap();
    assert!(trace.sampled() && trace.is_set() && !Trace::default().is_set());
    assert_eq!(Trace::from_bytes(&trace.to_bytes()), trace);
    assert_eq!(trace.child([9; 8]).trace_id, trace.trace_id);
}

#[test]
fn flags_without_a_meaning_do_not_leave() {
    assert_eq!(check(&HEADER.replace("-01", "-ff")), Ok(HEADER.replace("-01", "-03")));
    let trace = Trace { flags: 0xff, ..HEADER.parse().unwrap() };
    assert!(trace.to_string().ends_with("-03"));
}

#[test]
fn later_versions_are_read_as_far_as_we_know_them() {
    let later = HEADER.replacen("00", "cc", 1);
    assert_eq!(check(&later).as_deref(), Ok(HEADER));
    assert_eq!(check(&format!("{later}-what-the-future-holds")).as_deref(), Ok(HEADER));
    // Only the sampled bit has a meaning across versions.
    assert_eq!(check(&later.replace("-01", "-03")).as_deref(), Ok(HEADER));
    assert!(check(&format!("{later}.what")).is_err());
}

#[test]
fn bad_headers_say_why() {
    let error = |header: &str| check(header).unwrap_err();
    expect!["traceparent has 3 bytes, expected 55; remedy: send `00-<32 hex>-<16 hex>-<2 hex>`"]
        .assert_eq(&error("00-"));
    expect!["traceparent has 59 bytes, expected 55; remedy: send `00-<32 hex>-<16 hex>-<2 hex>`"]
        .assert_eq(&error(&format!("{HEADER}-abc")));
    expect!["traceparent lacks a dash between its fields; remedy: send `00-<32 hex>-<16 hex>-<2 hex>`"]
        .assert_eq(&error(&HEADER.replace('-', "_")));
    expect!["traceparent has version ff, which is forbidden; remedy: send version 00"]
        .assert_eq(&error(&HEADER.replacen("00", "ff", 1)));
    expect!["traceparent: `trace id` is not lower-case hex; remedy: send only the digits 0-9 and a-f"]
        .assert_eq(&error(&HEADER.replace("4bf", "4BF")));
    expect!["traceparent: `flags` is not lower-case hex; remedy: send only the digits 0-9 and a-f"]
        .assert_eq(&error(&HEADER.replace("-01", "-+1")));
    expect!["traceparent: `trace id` is all zeros, which names nothing; remedy: send no header instead"]
        .assert_eq(&error(&HEADER.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32))));
    expect!["traceparent: `span id` is all zeros, which names nothing; remedy: send no header instead"]
        .assert_eq(&error(&HEADER.replace("00f067aa0ba902b7", &"0".repeat(16))));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,70}", at in 0usize..55, with in any::<char>()) {
        let _ = text.parse::<Trace>();
        let mut header: Vec<char> = HEADER.chars().collect();
        header[at] = with;
        let _ = header.into_iter().collect::<String>().parse::<Trace>();
    }

    #[test]
    fn any_context_survives_the_way(trace_id in 1u128.., span_id in 1u64.., flags in 0u8..4) {
        let trace = Trace { trace_id: trace_id.to_be_bytes(), span_id: span_id.to_be_bytes(), flags };
        prop_assert_eq!(trace.to_string().parse(), Ok(trace));
    }
}
