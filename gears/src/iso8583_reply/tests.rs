//! Cases of `iso8583_reply` are files; what they do not show is here: the way back, and to what an answer refers.

use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::Trace;

use crate::tests::harness::{Collected, Source, check_cases, msg};

#[tokio::test(start_paused = true)]
async fn cases() {
    check_cases("iso8583_reply").await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_finds_its_way_back_and_names_the_request() {
    let request = || {
        let mut request = msg(1);
        request.meta.set("iso8583.mti", "0200");
        request.return_to = Some(b"connection 7".to_vec().into());
        request.trace = Trace { trace_id: [7; 16], span_id: [8; 8], flags: 1 };
        request.expires = Some(i64::MAX);
        request
    };
    let error = {
        let mut error = request();
        error.id = msg(2).id;
        error.reference = Some(msg(1).id);
        error.meta.set("conductor.error", "timeout");
        error.meta.set("conductor.key", "0200 1");
        error.meta.set("site", "N1");
        error
    };
    let reply: super::Reply = serde_json::from_str("{}").unwrap();
    let sink = Collected::default();
    let rig = Rig::new("reply")
        .endpoint("source", Source(vec![request(), error]))
        .gear("reply", reply)
        .endpoint("sink", sink.clone())
        .turbo("source", "reply")
        .turbo("reply", "sink");
    let rig = rig.start().await.unwrap();
    assert!(rig.finished().await);
    rig.stop(Duration::from_secs(1)).await;
    let answers = sink.msgs();
    assert_eq!(answers.len(), 2);
    for answer in &answers {
        assert_eq!(answer.reference, Some(msg(1).id));
        assert_eq!(answer.return_to.as_deref(), Some(b"connection 7".as_slice()));
        assert_eq!((answer.trace.trace_id, answer.expires), ([7; 16], Some(i64::MAX)));
        assert!(answer.id != msg(1).id && answer.id != msg(2).id);
    }
    let context: Vec<&str> = answers[1].meta.iter().map(|(key, _)| key).collect();
    assert_eq!(context, ["site", "iso8583.mti"], "what the conductor said of the request is not said of its answer");
}
