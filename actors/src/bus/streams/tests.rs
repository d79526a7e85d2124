//! What counts as drift, what only as a limit, and how it is said.

use super::*;

type Change<T> = fn(&mut T);

fn options() -> BusOptions {
    BusOptions::at(["nats://127.0.0.1:4222"])
}

#[test]
fn a_stream_of_ours_has_not_drifted() {
    let wanted = wanted_stream("north", &options());
    assert_eq!((wanted.name.as_str(), &wanted.subjects[..]), ("FLUX_MSG_north", &["flux.msg.north.>".to_owned()][..]));
    assert_eq!(stream_drift(&wanted, &wanted), None);
    assert!(!limits_differ(&wanted, &wanted));
    let other = wanted_stream("north", &BusOptions { replicas: 3, max_bytes: Some(1 << 30), ..options() });
    assert_eq!(stream_drift(&wanted, &other), None, "limits are mended");
    assert!(limits_differ(&wanted, &other));
}

#[test]
fn drift_of_a_stream_is_named() {
    let wanted = wanted_stream("north", &options());
    let changes: [(Change<stream::Config>, &str); 11] = [
        (|found| found.retention = RetentionPolicy::Limits, "`retention` Limits"),
        (|found| found.discard = DiscardPolicy::Old, "`discard` Old"),
        (|found| found.storage = StorageType::Memory, "`storage` Memory"),
        (|found| found.subjects.push("other".into()), "`subjects` flux.msg.north.>, other"),
        (|found| found.max_age = Duration::from_secs(60), "`max_age` 60s"),
        (|found| found.max_messages = 10, "`max_msgs` 10"),
        (|found| found.max_messages_per_subject = 1, "`max_msgs_per_subject` 1"),
        (|found| found.no_ack = true, "`no_ack` true"),
        (|found| found.sealed = true, "`sealed` true"),
        (|found| found.sources = Some(vec![stream::Source::default()]), "`sources` some"),
        (|found| found.metadata.clear(), "`owner` None"),
    ];
    for (change, part) in changes {
        let mut found = wanted.clone();
        change(&mut found);
        let text = stream_drift(&found, &wanted).expect(part).to_string();
        assert!(text.starts_with("bus: stream `FLUX_MSG_north`: found ") && text.contains(part), "{text}");
        assert!(text.contains("fluxrig bus status") && text.contains("fluxrig bus prune"), "{text}");
    }
}

#[test]
fn drift_of_a_consumer_is_named() {
    let wanted = wanted_consumer("south_in", "flux.msg.north.pumps.out", "south");
    assert_eq!(consumer_drift(&wanted, &wanted), None);
    let changes: [(Change<consumer::Config>, &str); 8] = [
        (|found| found.ack_policy = AckPolicy::None, "`ack_policy` None"),
        (|found| found.deliver_policy = DeliverPolicy::New, "`deliver_policy` New"),
        (|found| found.max_deliver = 3, "`max_deliver` 3"),
        (|found| found.filter_subject = "flux.msg.north.>".into(), "`filter_subject` flux.msg.north.>"),
        (|found| found.backoff = vec![Duration::from_secs(1)], "`backoff` some"),
        (|found| found.headers_only = true, "`headers_only` true"),
        (|found| found.deliver_subject = Some("x".into()), "`deliver_subject` one"),
        (|found| found.metadata.clear(), "`reader` None"),
    ];
    for (change, part) in changes {
        let mut found = wanted.clone();
        change(&mut found);
        let text = consumer_drift(&found, &wanted).expect(part).to_string();
        assert!(text.starts_with("bus: consumer `south_in`: found ") && text.contains(part), "{text}");
    }
    let mut found = wanted.clone();
    (found.ack_wait, found.max_ack_pending) = (Duration::from_secs(30), 1000);
    assert_eq!(consumer_drift(&found, &wanted), None, "limits are mended");
}
