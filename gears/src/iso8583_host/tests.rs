//! Cases of `iso8583_host` are files; what they do not show is here: times, deadlines and the way back.

use std::time::Duration;

use fluxrig_actors::clock::SimWorld;
use fluxrig_actors::prelude::*;

use crate::tests::harness::{Collected, Source, msg};

#[tokio::test(start_paused = true)]
async fn cases() {
    crate::tests::harness::check_cases("iso8583_host").await;
}

/// What comes of one request with a deadline of 300 ms, that long after the start.
async fn answered_by(rules: &str, after: Duration) -> Vec<FluxMsg> {
    let world = SimWorld::new(1);
    let mut request = msg(1);
    request.meta.set("iso8583.mti", "0200");
    request.return_to = Some(b"connection 7".to_vec().into());
    // The world of a case begins at this time.
    request.expires = Some(1_750_000_000_000_000_000 + 300_000_000);
    let host: super::Host = serde_json::from_str(rules).unwrap();
    let sink = Collected::default();
    let rig = Rig::new("host")
        .world(std::sync::Arc::new(world))
        .endpoint("source", Source(vec![request]))
        .gear("host", host)
        .endpoint("sink", sink.clone())
        .turbo("source", "host")
        .turbo("host", "sink");
    let rig = rig.start().await.unwrap();
    tokio::time::sleep(after).await;
    let answers = sink.msgs();
    rig.stop(Duration::from_secs(1)).await;
    answers
}

#[tokio::test(start_paused = true)]
async fn a_delayed_answer_comes_after_its_time_and_keeps_the_deadline() {
    let rules = r#"{"rules":[{"delay_ms":200}]}"#;
    assert!(answered_by(rules, Duration::from_millis(190)).await.is_empty());
    let answers = answered_by(rules, Duration::from_millis(210)).await;
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].expires, Some(1_750_000_000_300_000_000));
    assert_eq!(answers[0].return_to.as_deref(), Some(b"connection 7".as_slice()));
    assert_eq!(answers[0].reference, Some(msg(1).id));
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_comes_after_the_deadline_and_has_none() {
    let rules = r#"{"rules":[{"late_ms":200}]}"#;
    assert!(answered_by(rules, Duration::from_millis(490)).await.is_empty());
    let answers = answered_by(rules, Duration::from_millis(510)).await;
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].expires, None);
}
