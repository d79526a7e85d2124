//! A bus that cannot start says so at once, and does not end anything else.

use super::*;

#[test]
fn wrong_options_are_said_at_once() {
    let bus = Bus::start(BusOptions { replicas: 9, ..BusOptions::default() }, "North Rack");
    let BusState::Refused { why } = bus.state().borrow().clone() else { panic!("{:?}", bus.state()) };
    for part in ["`servers` is empty", "`replicas` is 9", "name of the rack", "remedy"] {
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(bus.why_down(), Some(why));
    assert!(bus.runtime.is_none(), "nothing is connected");
}

#[test]
fn what_waits_and_what_an_operator_has_to_do() {
    let servers = || "nats://a:1".to_owned();
    let waiting = BusError::Unreachable { servers: servers(), why: "refused".into() };
    assert!(!waiting.is_final() && !BusError::Silent { what: "stream".into() }.is_final());
    let way = BusError::Credentials { servers: servers(), why: "no".into(), way: "`token`", remedy: "mend it" };
    assert!(way.is_final() && BusError::LazySync.is_final() && BusError::UnknownSync.is_final());
    assert_eq!(
        BusError::Version { server: "s1".into(), found: "2.10.1".into() }.to_string(),
        "bus: found server `s1` of version 2.10.1, expected at least 2.12.6; remedy: update it"
    );
}
