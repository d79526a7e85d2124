//! What is refused and in which words, what a door can reach, and what it must not wait for.

use expect_test::{Expect, expect};

use super::*;
use crate::endpoint::{Endpoint, Io, TypedEndpoint};
use crate::gear::{Gear, GearError, Typed};
use crate::outlet::Outlet;
use crate::port::{Input, Output};
use crate::wire::Retention;

/// A gear that is only its ports.
struct Stub(Ports);

impl Gear for Stub {
    const TYPE: &'static str = "stub";
    type State = ();

    fn ports(&self) -> Ports {
        self.0.clone()
    }

    fn handle(&self, _: fluxrig_protocol::FluxMsg, _: &mut (), _: &mut Outlet) -> Result<(), GearError> {
        Ok(())
    }
}

/// An endpoint that is only its ports.
struct Edge(Ports);

impl Endpoint for Edge {
    const TYPE: &'static str = "edge";

    fn ports(&self) -> Ports {
        self.0.clone()
    }

    async fn run(self: Arc<Self>, _: Io) -> Result<(), GearError> {
        Ok(())
    }
}

fn part(name: &str, role: Role, ports: Ports) -> Part {
    Part { name: name.into(), role, ports, supervision: Supervision::default(), is_state_durable: false }
}

fn gear(name: &str, ports: Ports) -> Part {
    part(name, Role::Gear(Arc::new(Typed(Arc::new(Stub(ports.clone()))))), ports)
}

fn edge(name: &str, ports: Ports) -> Part {
    part(name, Role::Endpoint(Arc::new(TypedEndpoint(Arc::new(Edge(ports.clone()))))), ports)
}

fn wire(text: &str, options: WireOptions) -> WireAsk {
    let (from, to) = text.split_once(" -> ").unwrap();
    WireAsk { from: from.to_owned(), to: to.to_owned(), options }
}

fn plan(parts: Vec<Part>, wires: &[&str]) -> Result<Plan, PlanErrors> {
    Plan::check(parts, wires.iter().map(|text| wire(text, WireOptions::default())).collect(), true)
}

/// Says of every door which wires it can reach, and past which of them it does not look.
#[track_caller]
fn check(parts: Vec<Part>, wires: &[&str], expected: &Expect) {
    let plan = plan(parts, wires).unwrap_or_else(|errors| panic!("{errors}"));
    let mut text = String::new();
    for (part_idx, part) in plan.parts.iter().enumerate().filter(|(_, part)| part.is_endpoint()) {
        for (port_idx, port) in part.ports.outputs.iter().enumerate() {
            let reply = if plan.is_reply_door(part_idx, port_idx) { " (replies)" } else { "" };
            text.push_str(&format!("{}.{}{reply}\n", part.name, port.name));
            let set = plan.door_set(part_idx, port_idx);
            let reach = plan.reach(part_idx, port_idx);
            assert!(set.is_subset(&reach));
            for line_idx in reach {
                let past = if set.contains(&line_idx) { "" } else { " (looked past)" };
                text.push_str(&format!("  {}{past}\n", plan.lines[line_idx].name));
            }
        }
    }
    expected.assert_eq(&text);
}

/// Says everything that is wrong.
#[track_caller]
fn check_refused(result: Result<Plan, PlanErrors>, expected: &Expect) {
    let Err(errors) = result else { panic!("expected a refusal") };
    expected.assert_eq(&errors.to_string());
}

fn conductor(fail_over_to: &str) -> Part {
    let ports = Ports::none()
        .input_feeding("requests", &["hosts"])
        .reply("replies", &["answers", fail_over_to])
        .output("hosts")
        .output("spares")
        .output("answers");
    gear("conductor", ports)
}

/// The reply of a host must come in although the host waits: a second try may go to the same host.
#[test]
fn a_host_does_not_wait_for_its_own_wire_nor_for_the_terminals() {
    let parts = vec![edge("terminals", Ports::pipe()), conductor("hosts"), edge("host", Ports::pipe())];
    let wires = [
        "terminals -> conductor.requests",
        "conductor.hosts -> host",
        "host -> conductor.replies",
        "conductor.answers -> terminals",
    ];
    check(
        parts,
        &wires,
        &expect![[r#"
        terminals.out
          terminals.out->conductor.requests
          conductor.hosts->host.in
        host.out (replies)
          conductor.hosts->host.in (looked past)
          host.out->conductor.replies
          conductor.answers->terminals.in (looked past)
    "#]],
    );
}

#[test]
fn a_spare_host_counts_unless_it_may_wait_for_the_one_that_replies() {
    let parts = vec![
        edge("terminals", Ports::pipe()),
        conductor("spares"),
        edge("host", Ports::pipe()),
        edge("spare", Ports::pipe()),
    ];
    let wires = [
        "terminals -> conductor.requests",
        "conductor.hosts -> host",
        "host -> conductor.replies",
        "conductor.spares -> spare",
        "spare -> conductor.replies",
        "conductor.answers -> terminals",
    ];
    check(
        parts,
        &wires,
        &expect![[r#"
        terminals.out
          terminals.out->conductor.requests
          conductor.hosts->host.in
        host.out (replies)
          host.out->conductor.replies
          conductor.spares->spare.in
          conductor.answers->terminals.in (looked past)
        spare.out (replies)
          conductor.spares->spare.in (looked past)
          spare.out->conductor.replies
          conductor.answers->terminals.in
    "#]],
    );
}

/// The usual switch: a reply that comes through a codec is a reply, also when the rig drains.
#[test]
fn codecs_between_are_walked_through() {
    let parts = vec![
        edge("terminals", Ports::pipe()),
        gear("decode", Ports::pipe()),
        conductor("hosts"),
        gear("encode", Ports::pipe()),
        edge("host", Ports::pipe()),
        gear("decode-reply", Ports::pipe().output("unwired")),
        gear("encode-answer", Ports::pipe()),
    ];
    let wires = [
        "terminals -> decode",
        "decode -> conductor.requests",
        "conductor.hosts -> encode",
        "encode -> host",
        "host -> decode-reply",
        "decode-reply -> conductor.replies",
        "conductor.answers -> encode-answer",
        "encode-answer -> terminals",
    ];
    check(
        parts,
        &wires,
        &expect![[r#"
        terminals.out
          terminals.out->decode.in
          decode.out->conductor.requests
          conductor.hosts->encode.in
          encode.out->host.in
        host.out (replies)
          conductor.hosts->encode.in
          encode.out->host.in (looked past)
          host.out->decode-reply.in
          decode-reply.out->conductor.replies
          conductor.answers->encode-answer.in
          encode-answer.out->terminals.in (looked past)
    "#]],
    );
}

#[test]
fn a_server_that_answers_itself_counts_its_own_answers() {
    let parts = vec![edge("server", Ports::pipe()), gear("work", Ports::pipe())];
    check(
        parts,
        &["server -> work", "work -> server"],
        &expect![[r#"
        server.out
          server.out->work.in
          work.out->server.in
    "#]],
    );
}

#[test]
fn a_door_that_also_feeds_a_tap_is_no_reply_door() {
    let parts = vec![
        edge("terminals", Ports::pipe()),
        conductor("hosts"),
        edge("host", Ports::pipe()),
        edge("log", Ports::sink()),
    ];
    let wires = [
        "terminals -> conductor.requests",
        "conductor.hosts -> host",
        "host -> conductor.replies",
        "host -> log",
        "conductor.answers -> terminals",
    ];
    check(
        parts,
        &wires,
        &expect![[r#"
        terminals.out
          terminals.out->conductor.requests
          conductor.hosts->host.in
        host.out
          conductor.hosts->host.in
          host.out->conductor.replies
          host.out->log.in
          conductor.answers->terminals.in
    "#]],
    );
}

#[test]
fn an_input_reaches_only_what_it_feeds() {
    let split = Ports::none().input_feeding("left", &["l"]).input_feeding("right", &["r"]).output("l").output("r");
    let parts = vec![
        edge("a", Ports::source()),
        edge("b", Ports::source()),
        gear("split", split),
        edge("c", Ports::sink()),
        edge("d", Ports::sink()),
    ];
    let wires = ["a -> split.left", "b -> split.right", "split.l -> c", "split.r -> d"];
    check(
        parts,
        &wires,
        &expect![[r#"
        a.out
          a.out->split.left
          split.l->c.in
        b.out
          b.out->split.right
          split.r->d.in
    "#]],
    );
}

#[test]
fn a_door_without_wires_reaches_nothing() {
    check(
        vec![edge("a", Ports::source())],
        &[],
        &expect![[r#"
        a.out
    "#]],
    );
}

#[test]
fn loops_of_gears_are_refused_wherever_they_are() {
    let pipe = |name| gear(name, Ports::pipe());
    let start = || edge("start", Ports::source());
    for wires in [
        &["start -> a", "a -> a"][..],
        &["start -> a", "a -> b", "b -> a"],
        &["start -> a", "a -> b", "b -> c", "c -> b"],
    ] {
        let parts = [start(), pipe("a"), pipe("b"), pipe("c")];
        let named = |part: &Part| wires.iter().any(|wire| wire.split(" -> ").any(|end| end == part.name));
        let Err(PlanErrors(errors)) = plan(parts.into_iter().filter(named).collect(), wires) else {
            panic!("{wires:?}")
        };
        assert!(matches!(&errors[..], [PlanError::Cycle { .. }]), "{errors:?}");
    }
}

/// A stand-in that authorises within the rack: its reply causes an answer only, so nothing runs for ever.
#[test]
fn a_gear_that_replies_to_a_gear_is_no_loop() {
    let ports = || Ports::none().input_feeding("requests", &["hosts"]).reply("replies", &["answers"]);
    let parts = || vec![edge("terminals", Ports::pipe()), gear("stand-in", Ports::pipe())];
    let wires = [
        "terminals -> conductor.requests",
        "conductor.hosts -> stand-in",
        "stand-in -> conductor.replies",
        "conductor.answers -> terminals",
    ];
    let conductor = gear("conductor", ports().output("hosts").output("answers"));
    assert!(plan(parts().into_iter().chain([conductor]).collect(), &wires).is_ok());
    // With a second try after a reply it is one.
    let ports = Ports::none().input_feeding("requests", &["hosts"]).reply("replies", &["answers", "hosts"]);
    let conductor = gear("conductor", ports.output("hosts").output("answers"));
    assert!(plan(parts().into_iter().chain([conductor]).collect(), &wires).is_err());
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let required = Ports { inputs: Vec::new(), outputs: vec![Output { name: "out".into(), is_required: true }] };
    let undeclared = Ports {
        inputs: vec![
            Input { name: "in".into(), is_reply: false, feeds: None, is_required: false },
            Input { name: "replies".into(), is_reply: true, feeds: Some(vec!["ouy".into()]), is_required: false },
        ],
        outputs: vec![Output { name: "out".into(), is_required: false }],
    };
    let parts = vec![
        gear("pumps", Ports::pipe()),
        gear("pumps", Ports::pipe()),
        gear("Bad Name", Ports::none()),
        edge("source", required),
        gear("mixed", undeclared),
        gear("loop", Ports::pipe()),
        edge("sink", Ports::sink().input("side")),
    ];
    let partitioned = |count| WireOptions {
        partitions: NonZeroU32::new(count).unwrap(),
        partition_by: Some("key".parse().unwrap()),
        ..WireOptions::default()
    };
    let asks = vec![
        wire("pumsp -> sink", WireOptions::default()),
        wire("nothing-like-it -> sink", WireOptions::default()),
        wire("pumps.ouch -> sink.on", WireOptions::default()),
        wire("sink -> pumps", WireOptions::default()),
        wire("loop -> loop", WireOptions::default()),
        wire("loop -> sink", partitioned(2)),
        wire("loop -> sink", WireOptions::default()),
        wire("pumps -> loop", partitioned(3)),
        wire(
            "loop -> pumps",
            WireOptions {
                lane: Lane::Turbo,
                capacity: 0,
                memory_window: 511,
                partitions: NonZeroU32::new(2).unwrap(),
                retention: Some(Retention::Bytes(1)),
                ..WireOptions::default()
            },
        ),
    ];
    check_refused(
        Plan::check(parts, asks, true),
        &expect![[r#"
        gear `pumps`: found twice, expected each name once; remedy: rename one of them
        gear `Bad Name`: `Bad Name` starts with 'B', expected a-z or 0-9; remedy: start with a lower-case letter or a digit
        wire `pumsp->sink`: found gear `pumsp`, expected one of the rig; remedy: use `pumps`
        wire `nothing-like-it->sink`: found gear `nothing-like-it`, expected one of the rig; remedy: add a gear of that name
        wire `pumps.ouch->sink.on`: found port `pumps.ouch`, expected one of `pumps.out`; remedy: use a port that is there
        wire `pumps.ouch->sink.on`: found port `sink.on`, expected one of `sink.in`, `sink.side`; remedy: use a port that is there
        wire `sink->pumps`: found port `sink`, expected none, since `sink` has no outputs; remedy: use a port that is there
        wire `loop.out->sink.in`: found partitions into an endpoint, expected none; remedy: partition the wire into a gear before it
        wire `loop.out->sink.in`: found twice, expected each pair of ports once; remedy: remove one of them
        wire `loop->pumps`: found `capacity` = 0, expected at least 1; remedy: set it so
        wire `loop->pumps`: found `memory_window` = 511, expected at least 512; remedy: set it so
        wire `loop->pumps`: found `partition_by` = nothing, expected the path of the key when `partitions` is above 1; remedy: set it so
        wire `loop->pumps`: found `retention` = a value, on a turbo wire, expected a standard wire, whose messages are in the journal; remedy: set it so
        gear `pumps`: found input `in` without a wire, expected at least one; remedy: wire something to `pumps.in`
        gear `source`: found output `out` without a wire, expected at least one; remedy: wire `source.out` to something
        gear `mixed`: found reply ports and an input `in` that says not what it feeds, expected all to say; remedy: declare it with `input_feeding`
        gear `mixed`: found input `replies` that feeds `ouy`, expected one of its outputs; remedy: name it as `ports` does
        gear `loop`: found inputs with 1 and 3 partitions, expected the same number on all; remedy: set `partitions` alike on every wire into it
        gear `sink`: found input `side` without a wire, expected at least one; remedy: wire something to `sink.side`
        gear `sink`: found inputs with 1 and 2 partitions, expected the same number on all; remedy: set `partitions` alike on every wire into it
        gear `pumps`: found a cycle of gears through it, expected an endpoint in every cycle; remedy: break the cycle, or answer through an endpoint"#]],
    );
}

#[test]
fn a_standard_wire_needs_a_journal() {
    let parts = vec![edge("a", Ports::source()), edge("b", Ports::sink())];
    let asks = vec![wire("a -> b", WireOptions::default())];
    check_refused(
        Plan::check(parts, asks, false),
        &expect![
            "wire `a->b`: found a standard wire in a rig without a journal, expected one; remedy: give the rig a journal, or make the wire turbo"
        ],
    );
    let error = PlanError::Limits { reason: "`hops` is 65, the most is 64; remedy: limits can only be lowered".into() };
    expect!["limits: `hops` is 65, the most is 64; remedy: limits can only be lowered"].assert_eq(&error.to_string());
}

#[test]
fn a_part_is_as_durable_as_its_strongest_wire() {
    let lane = |lane| WireOptions { lane, ..WireOptions::default() };
    let mut parts = vec![
        edge("a", Ports::source()),
        gear("turbo", Ports::pipe()),
        gear("os", Ports::pipe()),
        gear("kept", Ports::pipe()),
        edge("b", Ports::sink()),
    ];
    parts[3].is_state_durable = true;
    let asks = vec![
        wire("a -> turbo", lane(Lane::Turbo)),
        wire("turbo -> os", lane(Lane::Turbo)),
        wire("os -> b", lane(Lane::Os)),
        wire("a -> kept", lane(Lane::Turbo)),
    ];
    let plan = Plan::check(parts, asks, true).unwrap_or_else(|errors| panic!("{errors}"));
    let lanes: Vec<Lane> = (0..5).map(|idx| plan.lane_of(idx)).collect();
    assert_eq!(lanes, [Lane::Turbo, Lane::Turbo, Lane::Os, Lane::Flush, Lane::Os]);
}

#[test]
fn the_nearest_name_is_one_that_may_be_meant() {
    let near = |found| nearest(found, ["scale", "threshold", "io_mqtt", "map"].into_iter());
    assert_eq!(near("scael"), Some("scale"));
    assert_eq!(near("treshold"), Some("threshold"));
    assert_eq!(near("io_mqt"), Some("io_mqtt"));
    assert_eq!(near("mpa"), Some("map"));
    assert_eq!(near("iso8583"), None);
    assert_eq!(near(""), None);
    assert_eq!(nearest("a", [].into_iter()), None);
    for (left, right, expected) in [("", "abc", 3), ("abc", "abc", 0), ("abc", "acb", 1), ("kitten", "sitting", 3)] {
        assert_eq!((edits(left, right), edits(right, left)), (expected, expected), "{left} {right}");
    }
}
