//! The printed texts of what a rig refuses, each with its remedy.

use std::io;

use expect_test::{Expect, expect};
use fluxrig_protocol::{FluxMsg, LimitError};

use super::*;
use crate::door::Closed;
use crate::endpoint::Refused;
use crate::sample::msg;

#[track_caller]
fn check(error: &dyn std::error::Error, expected: &Expect) {
    expected.assert_eq(&error.to_string());
}

#[test]
fn why_a_rig_does_not_start() {
    let denied = || io::Error::new(io::ErrorKind::PermissionDenied, "permission denied");
    check(
        &RigError::Directory(denied()),
        &expect![
            "journal directory: found it unusable (permission denied), expected a writable directory; remedy: mend its permissions or choose another"
        ],
    );
    check(
        &RigError::from(StorageError::Final { file: "00000001.seg".into() }),
        &expect![
            "00000001.seg: an earlier write or flush failed, so nothing more is written to it; remedy: begin a new segment with `replace`"
        ],
    );
    let shape = RecordError::Shape { offset: 12, found: "an array of 3".into(), expected: "a clock of 4" };
    check(
        &RigError::from(shape),
        &expect![
            "journal: journal group at byte 12 of its body: found an array of 3, expected a clock of 4; remedy: run `fluxrig journal verify`"
        ],
    );
    let unknown = RecordError::Unknown { offset: 12, key: 9 };
    check(
        &RigError::from(unknown),
        &expect![
            "journal: journal group at byte 12 of its body: found key 9, which this version does not know; remedy: use the version that wrote it"
        ],
    );
    check(
        &RigError::Orphans("2 messages of wire `a.out->b.in` (0/1) of scenario `plant`".into()),
        &expect![
            "journal: found 2 messages of wire `a.out->b.in` (0/1) of scenario `plant`, expected only what this rig has; remedy: bring those gears back, or start with orphans sent to the dead-letter wire (`--orphans dlq`)"
        ],
    );
    let plan = PlanErrors(vec![crate::plan::PlanError::DuplicateName { name: "pumps".into() }]);
    check(
        &RigError::from(plan),
        &expect!["gear `pumps`: found twice, expected each name once; remedy: rename one of them"],
    );
}

#[test]
fn why_a_letter_is_not_sent_again() {
    check(
        &LetterError::Unknown { seq: 4 },
        &expect!["dead letter 4: found none of this number, expected one of the list; remedy: list them again"],
    );
    check(
        &LetterError::NoWire { seq: 4, wire: "a.out->b.in".into() },
        &expect![
            "dead letter 4: found no wire `a.out->b.in` in this rig, expected the one it came on; remedy: purge it, or start the rig that has the wire"
        ],
    );
    check(
        &LetterError::MaybeSent { seq: 4 },
        &expect![
            "dead letter 4: found one that may have been sent, expected the operator's word; remedy: check with the peer, then replay it as maybe sent"
        ],
    );
    check(
        &LetterError::NotRetained { wire: "a.out->b.in".into() },
        &expect![
            "wire `a.out->b.in`: found none of this name that retains, expected a wire with `retention`; remedy: set it and run again"
        ],
    );
    check(
        &LetterError::Decode("found no journal to read from".into()),
        &expect!["journal: found no journal to read from"],
    );
    check(
        &LetterError::from(StorageError::Final { file: "00000001.seg".into() }),
        &expect![
            "00000001.seg: an earlier write or flush failed, so nothing more is written to it; remedy: begin a new segment with `replace`"
        ],
    );
}

#[test]
fn why_a_message_is_not_let_in() {
    let closed = |closed| Refused::Closed(msg(1), closed).to_string();
    let all = [Closed::Draining, Closed::Halted, Closed::Full, Closed::Unflushed, Closed::Disk].map(closed);
    expect![[r#"
        door: found the rig draining, expected it running; remedy: keep the message and offer it after the restart
        door: found the rig ended, expected it running; remedy: keep the message and offer it after the restart
        door: found the rig busy, expected it running; remedy: keep the message and offer it after the restart
        door: found the rig busy, expected it running; remedy: keep the message and offer it after the restart
        door: found the rig busy, expected it running; remedy: keep the message and offer it after the restart"#]]
    .assert_eq(&all.join("\n"));
    let error = Refused::Limit(msg(1), LimitError::Hops { found: 65, limit: 64 });
    check(&error, &expect!["door: `path` has 65 hops, the limit is 64; remedy: look for a loop in the wires"]);
    let Refused::Limit(given_back, _) = error else { panic!("{error}") };
    assert_eq!(given_back, FluxMsg::clone(&msg(1)), "a message that is refused is given back");
}

/// Limits are lowered, never raised, and everything wrong is said with them.
#[tokio::test]
async fn a_rig_with_raised_limits_does_not_start() {
    let mut settings = Settings::default();
    settings.limits.hops += 1;
    let rig = Rig::new("limits").settings(settings).wire("nobody", "nowhere");
    check(
        &rig.start().await.unwrap_err(),
        &expect![[r#"
        limits: `hops` is 65, the most is 64; remedy: limits can only be lowered
        wire `nobody->nowhere`: found gear `nobody`, expected one of the rig; remedy: add a gear of that name
        wire `nobody->nowhere`: found gear `nowhere`, expected one of the rig; remedy: add a gear of that name
        wire `nobody->nowhere`: found a standard wire in a rig without a journal, expected one; remedy: give the rig a journal, or make the wire turbo"#]],
    );
}
