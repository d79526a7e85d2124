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
        &LetterError::Wireless { seq: 4 },
        &expect![
            "dead letter 4: found one that came on no wire, expected one that can be sent over its wire again; remedy: see what it holds, then purge it"
        ],
    );
    check(
        &LetterError::Full { seq: 4, wire: "a.out->b.in".into() },
        &expect![
            "dead letter 4: found wire `a.out->b.in` full, expected room on it; remedy: try again when its gear has handled some of what is there"
        ],
    );
    check(
        &LetterError::Ended { seq: 4 },
        &expect!["dead letter 4: found the rig ended, expected it running; remedy: start it again"],
    );
    check(
        &LetterError::NoGear { found: "pck".into(), near: Some("pick".into()) },
        &expect![
            "dead letters: found no gear that matches `pck`, expected one of the rig's or of a letter's (nearest: `pick`); remedy: name one, with `*` for any text"
        ],
    );
    check(
        &LetterError::NoWireLike { found: "nowhere".into(), near: None },
        &expect![
            "dead letters: found no wire that matches `nowhere`, expected one of the rig's or of a letter's; remedy: name one, with `*` for any text"
        ],
    );
    check(
        &LetterError::NoReason { found: "expird".into(), near: Some("expired".into()) },
        &expect![
            "dead letters: found no reason with `expird` in it, expected part of a letter's reason (nearest: `expired`); remedy: count them, which lists the reasons"
        ],
    );
    check(
        &LetterError::UnknownWire { wire: "a.out->c.in".into(), near: Some("a.out->b.in".into()) },
        &expect![
            "wire `a.out->c.in`: found none of this name, expected one of the rig's (nearest: `a.out->b.in`); remedy: name it `gear.port->gear.port`"
        ],
    );
    check(
        &LetterError::NotRetained { wire: "a.out->b.in".into() },
        &expect![
            "wire `a.out->b.in`: found one that keeps nothing, expected a wire with `retention`; remedy: write for example `retention: 1h` at this wire of the scenario and run it again; what passes from then on can be replayed"
        ],
    );
    check(
        &LetterError::Stopped { wire: "a.out->b.in".into(), delivered: 7, closed: Closed::Draining },
        &expect![
            "wire `a.out->b.in`: found the rig draining after 7 messages were delivered again, expected it running; remedy: replay the others when it runs again"
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

struct Pass;

impl crate::Gear for Pass {
    const TYPE: &'static str = "pass";
    type State = ();

    fn handle(&self, msg: FluxMsg, (): &mut (), out: &mut crate::Outlet) -> Result<(), crate::GearError> {
        out.emit(msg);
        Ok(())
    }
}

/// A source of three, or a sink that takes nothing.
enum End {
    Three,
    Stalled,
}

impl Endpoint for End {
    const TYPE: &'static str = "end";

    fn ports(&self) -> crate::Ports {
        match self {
            Self::Three => crate::Ports::source(),
            Self::Stalled => crate::Ports::sink(),
        }
    }

    async fn run(self: Arc<Self>, io: crate::Io) -> Result<(), crate::GearError> {
        if matches!(*self, Self::Three) {
            for _ in 0..3 {
                drop(io.door().admit(io.message()).await);
            }
        }
        io.draining().await;
        Ok(())
    }
}

fn line(disk: &crate::journal::disk::sim::SimDisk, lane: Lane) -> Rig {
    let pace = Pace { seed: 1, max: Duration::ZERO };
    Rig::new("line")
        .endpoint("source", End::Three)
        .endpoint("sink", End::Stalled)
        .wire_with("source", "sink", WireOptions { lane, ..WireOptions::default() })
        .journal_with(JournalOptions { pace: Some(pace), ..JournalOptions::disk(disk.process()) })
        .world(Arc::new(crate::clock::SimWorld::new(1)))
}

/// An ack on a turbo wire is never written, so what an old journal holds of it would come back at every start.
#[tokio::test(start_paused = true)]
async fn a_wire_made_turbo_leaves_orphans() {
    let disk = crate::journal::disk::sim::SimDisk::new(1);
    let rig = line(&disk, Lane::Flush).start().await.expect("the first rig starts");
    while rig.wires()[0].depth < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    rig.stop(Duration::from_secs(1)).await;
    let error = line(&disk, Lane::Turbo).start().await.expect_err("the old messages have no place");
    check(
        &error,
        &expect![
            "journal: found 3 messages of wire `source.out->sink.in` (0/1) of scenario `line`, expected only what this rig has; remedy: bring those gears back, or start with orphans sent to the dead-letter wire (`--orphans dlq`)"
        ],
    );
    let rig = line(&disk, Lane::Turbo).orphans(Orphans::DeadLetter).start().await.expect("they go to the dead letters");
    assert_eq!(rig.dead_letter_count(), 3);
    rig.stop(Duration::from_secs(1)).await;
}

/// Panics at whatever it gets.
struct Panicking;

impl crate::Gear for Panicking {
    const TYPE: &'static str = "panicking";
    type State = ();

    fn handle(&self, _: FluxMsg, (): &mut (), _: &mut crate::Outlet) -> Result<(), crate::GearError> {
        panic!("it was made to")
    }
}

/// A cut waits for what will be handled in a moment, and this will not be: else each cut of its siblings took longer.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_gear_that_waits_for_its_restart_is_not_in_motion() {
    let hour = Duration::from_secs(3600);
    let backoff = fluxrig_supervision::Backoff::new(hour, hour);
    let mut options = WireOptions { lane: Lane::Turbo, ..WireOptions::default() };
    options.redelivery.max_deliver = std::num::NonZeroU32::MIN;
    let rig = Rig::new("panics")
        .endpoint("three", End::Three)
        .gear("gear", Panicking)
        .supervised(Supervision { backoff, ..Supervision::default() })
        .endpoint("sink", End::Stalled)
        .wire_with("three", "gear", options)
        .turbo("gear", "sink");
    let rig = rig.start().await.unwrap();
    for letters in 1..=3 {
        tokio::time::sleep(hour / 2).await;
        assert_eq!(rig.dead_letters().unwrap().len(), letters);
        assert!(rig.node.is_still());
        tokio::time::sleep(hour / 2).await;
    }
    rig.kill().await;
}

#[tokio::test]
async fn numbers_with_which_nothing_moves() {
    let disk = crate::journal::disk::sim::SimDisk::new(1);
    let journal = JournalOptions {
        segment_bytes: 1 << 20,
        disk: DiskOptions { max_bytes: 1 << 20, first_percent: 95, second_percent: 95 },
        ..JournalOptions::disk(disk.process())
    };
    let settings =
        Settings { emit_max: 0, batch_max: 100_000, unflushed_max: 0, effects_max: 0, ..Settings::default() };
    let rig = Rig::new("idle").gear("pass", Pass).wire("pass", "pass").journal_with(journal).settings(settings);
    let error = rig.start().await.expect_err("nothing would move");
    check(
        &error,
        &expect![[r#"
        settings: found `emit_max` = 0, expected at least 1; remedy: raise it, or leave it at its default
        settings: found `unflushed_max` = 0, expected at least 1; remedy: raise it, or leave it at its default
        settings: found `effects_max` = 0, expected at least 1; remedy: raise it, or leave it at its default
        journal: found `max_bytes` = 1048576, expected at least four segments (4194304); remedy: set it so, or leave it at its default
        journal: found `first_percent` = 95, expected less than `second_percent` (95); remedy: set it so, or leave it at its default
        wire `pass->pass`: found `memory_window` = 16384, expected at least `batch_max`; remedy: set it so
        gear `pass`: found a cycle of gears through it, expected an endpoint in every cycle; remedy: break the cycle, or answer through an endpoint"#]],
    );
}

/// A service starts and ends rigs as long as it lives: nothing of one is left in memory.
#[tokio::test(start_paused = true)]
async fn an_ended_rig_leaves_nothing_behind() {
    for is_killed in [false, true] {
        let disk = crate::journal::disk::sim::SimDisk::new(1);
        let rig =
            line(&disk, Lane::Flush).gear("log", Panicking).wire("source", "log").start().await.expect("it starts");
        let node = Arc::downgrade(&rig.node);
        let queues: Vec<_> = rig.node.queues.iter().map(Arc::downgrade).collect();
        let cells: Vec<_> = rig.node.cells.iter().map(Arc::downgrade).collect();
        match is_killed {
            true => rig.kill().await,
            false => drop(rig.stop(Duration::from_secs(1)).await),
        }
        // Tasks that were told to end still have to.
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(queues.iter().filter(|queue| queue.upgrade().is_some()).count(), 0, "queues, killed: {is_killed}");
        assert_eq!(cells.iter().filter(|cell| cell.upgrade().is_some()).count(), 0, "cells, killed: {is_killed}");
        assert!(node.upgrade().is_none(), "the node, killed: {is_killed}");
    }
}
