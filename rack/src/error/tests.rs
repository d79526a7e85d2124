//! Every error has its exit code, and its text says where, found, expected and remedy.

use std::io;

use fluxrig_actors::RigError;
use fluxrig_actors::journal::{Damage, Holder, OpenError};

use super::*;

fn check(error: &RackError, code: u8, part: &str) {
    let text = with_causes(error);
    assert_eq!(error.exit_code(), code, "{text}");
    for part in ["found", "expected", "remedy: ", part] {
        assert!(text.contains(part) || (part == "found" && text.contains("in use by")), "{part}: {text}");
    }
}

#[test]
fn each_error_has_its_code() {
    let io = |kind| io::Error::from(kind);
    let dir = || "d".to_owned();
    let address = "127.0.0.1:1".parse().unwrap();
    let holder = Holder { pid: 7, host: "h".into(), ..Holder::default() };
    let damage = Damage {
        file: "f".into(),
        segment: 1,
        offset: 0,
        found: "found".into(),
        expected: "a group".into(),
        last_epoch: 0,
    };
    check(&RackError::DataDir { dir: dir(), source: io(io::ErrorKind::PermissionDenied) }, 73, "`d`");
    check(&RackError::Control { dir: dir(), source: io(io::ErrorKind::PermissionDenied) }, 73, "`d`");
    check(&RackError::Metrics { address, source: io(io::ErrorKind::AddrInUse) }, 98, "127.0.0.1:1");
    check(&RackError::Metrics { address, source: io(io::ErrorKind::AddrNotAvailable) }, 1, "127.0.0.1:1");
    check(&RackError::Rig(OpenError::Locked { dir: dir(), holder }.into()), 73, "process 7 on `h`");
    check(&RackError::Rig(OpenError::Damaged(damage).into()), 65, "journal verify");
    check(&RackError::Rig(RigError::Orphans("1 message".into())), 78, "--orphans dlq");
    check(&RackError::Rig(RigError::Nameless(7)), 65, "verify");
    check(&RackError::Rig(RigError::Directory(io(io::ErrorKind::PermissionDenied))), 73, "writable");
    check(&RackError::Ended { reason: "shutdown".into() }, 1, "shutdown");
    check(&RackChoice::Unnamed { listed: "`a`, `b`".into() }.into(), 2, "--rack");
    check(&RackChoice::Unknown { found: "x".into(), listed: "`a`".into(), remedy: "use `a`".into() }.into(), 2, "`x`");
}

#[test]
fn a_cause_stands_before_the_remedy() {
    let source = io::Error::from(io::ErrorKind::PermissionDenied);
    let text = with_causes(&RackError::Control { dir: "d".to_owned(), source });
    assert!(text.contains("expected to be able to make it (permission denied); remedy: "), "{text}");
    assert!(text.ends_with("check the rights of the directory"), "{text}");
}

#[test]
fn an_address_in_use_is_told_from_other_failures() {
    let reason = "found 127.0.0.1:1 address in use, expected it free; remedy: stop the other".to_owned();
    assert_eq!(RackError::AddressInUse { gear: "g".into(), reason }.exit_code(), 98);
}
