//! What a stand-by needs of its scenario, and how its part reads.

use super::*;
use crate::scenario::check_text;

fn refused(bus: &str, journal: &str) -> Option<NoStandby> {
    let text = format!("meta: {{ name: one, version: 0.1.0 }}\nbus: {bus}\njournal: {journal}\ngears: []\n");
    let checked = check_text("f", &text, &fluxrig_actors::Catalog::new(), &|_| None).unwrap();
    check(&checked, "rack").err()
}

#[test]
fn a_standby_needs_a_stream_a_lease_and_servers_that_stay() {
    let leased = "{ jetstream: { lease_ms: 5000 } }";
    assert_eq!(refused("nats://host:4222", leased), None);
    assert_eq!(refused("nats://host:4222", "file"), Some(NoStandby::OnFiles));
    assert_eq!(refused("nats://host:4222", "jetstream"), Some(NoStandby::NoLease));
    assert_eq!(refused("{ managed: true }", leased), Some(NoStandby::OwnServer));
    for refusal in [NoStandby::OnFiles, NoStandby::NoLease, NoStandby::OwnServer] {
        assert!(refusal.to_string().contains("; remedy: "), "{refusal}");
    }
}

#[test]
fn a_part_reads_as_one_line() {
    let lease_left = Some(Duration::from_millis(1840));
    let part = Part { role: STANDBY, term: Some(3), lag: Some(0), lease_left };
    assert_eq!(line(&shown(Some(part))), "stream: stand-by  term 3  lag 0  lease left 1840 ms\n");
    let part = Part { role: HOLDER, term: None, lag: None, lease_left: None };
    assert_eq!(line(&shown(Some(part))), "stream: holder  term none  lease left none\n");
    assert_eq!(line(&shown(None)), "");
}
