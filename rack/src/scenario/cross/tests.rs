//! The compiled plan of each rack: names, ports and subjects, without a server.

use fluxrig_actors::Lane;

use super::*;
use crate::scenario::{Checked, check_text};

fn checked(text: &str) -> Checked {
    let text = format!("meta: {{ name: cross, version: 0.1.0 }}\nbus: nats://host:4222\n{text}");
    check_text("f", &text, &fluxrig_gears::standard(), &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The wires and ends of one rack, a line each.
fn plan(checked: &Checked, rack: Option<&str>) -> Vec<String> {
    let crossing = checked.crossing(rack).unwrap();
    let outs = crossing.outs.iter().map(|end| {
        let readers: Vec<String> = end.readers.iter().map(|(rack, end)| format!(" {rack}/{end}")).collect();
        format!("out {} {} read by{}", end.name, end.subject, readers.concat())
    });
    let ins = crossing.ins.iter().map(|end| format!("in {} {}", end.name, end.subject));
    let wires = crossing.wires().map(|wire| format!("{} -> {}", wire.from, wire.to));
    outs.chain(ins).chain(wires).collect()
}

const RACKS: &str = "racks:\n  - { name: north, labels: { kind: kiosk } }\n  - { name: west, labels: { kind: kiosk } }\n  \
                     - { name: south }\n  - { group: kiosks, match: { kind: kiosk } }\n";

fn gear(name: &str, type_name: &str, deploy: &str) -> String {
    let config = match type_name {
        "map" => ", config: { steps: [{ drop: { path: data.x } }] }",
        "file" => ", config: { path: out }",
        _ => "",
    };
    format!("  - {{ name: {name}, type: {type_name}{config}, deploy: {deploy} }}\n")
}

#[test]
fn one_output_is_published_once_however_many_wires_leave_it() {
    let gears =
        [("source", "generator", "north"), ("one", "log", "south"), ("two", "map", "south"), ("here", "log", "north")]
            .map(|(name, type_name, deploy)| gear(name, type_name, deploy))
            .concat();
    let wires = "  - { from: source, to: one, durability: os, capacity: 16 }\n  \
                 - { from: source, to: two, partitions: 2, partition_by: seq, max_deliver: 9, capacity: 64 }\n  \
                 - { from: source.out, to: here.in }\n";
    let checked = checked(&format!("{RACKS}gears:\n{gears}wires:\n{wires}"));
    assert_eq!(
        plan(&checked, Some("north")),
        [
            "out bus-out-source--out flux.msg.north.source.out read by south/bus-in-north--source--out",
            "source.out -> here.in",
            "source.out -> bus-out-source--out.in",
        ]
    );
    assert_eq!(
        plan(&checked, Some("south")),
        [
            "in bus-in-north--source--out flux.msg.north.source.out",
            "bus-in-north--source--out.out -> one",
            "bus-in-north--source--out.out -> two",
        ]
    );
    assert!(plan(&checked, Some("west")).is_empty());
    // On the way out it promises what any of the wires asks; the rest is asked where it arrives.
    let out = checked.crossing(Some("north")).unwrap().outs[0].wire.options.clone();
    assert_eq!((out.lane, out.capacity, out.partitions.get()), (Lane::Flush, 64, 1));
    let ins = checked.crossing(Some("south")).unwrap().ins[0].wires.clone();
    assert_eq!((ins[0].options.lane, ins[0].options.capacity), (Lane::Os, 16));
    assert_eq!((ins[1].options.partitions.get(), ins[1].options.redelivery.max_deliver.get()), (2, 9));
    for rack in ["north", "south"] {
        let rig = checked.rig(Some(rack), &fluxrig_gears::standard(), "d".as_ref()).unwrap();
        assert!(rig.check().is_ok(), "{rack}");
    }
}

#[test]
fn every_rack_of_a_group_sends_and_every_rack_of_a_group_receives() {
    let gears = [
        ("source", "generator", "kiosks"),
        ("sink", "file", "south"),
        ("back", "generator", "south"),
        ("shown", "log", "kiosks"),
    ]
    .map(|(name, type_name, deploy)| gear(name, type_name, deploy))
    .concat();
    let checked = checked(&format!(
        "{RACKS}gears:\n{gears}wires:\n  - {{ from: source, to: sink }}\n  - {{ from: back, to: shown }}\n"
    ));
    assert_eq!(
        plan(&checked, Some("south")),
        [
            "out bus-out-back--out flux.msg.south.back.out read by north/bus-in-south--back--out west/bus-in-south--back--out",
            "in bus-in-north--source--out flux.msg.north.source.out",
            "in bus-in-west--source--out flux.msg.west.source.out",
            "back.out -> bus-out-back--out.in",
            "bus-in-north--source--out.out -> sink",
            "bus-in-west--source--out.out -> sink",
        ]
    );
    for (rack, subject) in [("north", "flux.msg.north.source.out"), ("west", "flux.msg.west.source.out")] {
        let found = plan(&checked, Some(rack));
        let reader = format!("south/bus-in-{rack}--source--out");
        assert_eq!(found[0], format!("out bus-out-source--out {subject} read by {reader}"));
        assert_eq!(found[1], "in bus-in-south--back--out flux.msg.south.back.out");
    }
}

#[test]
fn a_wire_inside_a_rack_on_jetstream_leaves_it_and_comes_back() {
    let checked = checked(
        "gears:\n  - { name: source, type: generator }\n  - { name: one, type: log }\n  - { name: two, type: log }\n  \
         - { name: three, type: log }\nwires:\n  - { from: source, to: one, backend: jetstream }\n  \
         - { from: source, to: two, backend: jetstream }\n  - { from: source, to: three }\n",
    );
    assert_eq!(
        plan(&checked, None),
        [
            "out bus-out-source--out flux.msg.rack.source.out read by rack/bus-in-rack--source--out",
            "in bus-in-rack--source--out flux.msg.rack.source.out",
            "source -> three",
            "source.out -> bus-out-source--out.in",
            "bus-in-rack--source--out.out -> one",
            "bus-in-rack--source--out.out -> two",
        ]
    );
    // A rack that is named is called so on the bus as well.
    assert!(plan(&checked, Some("depot"))[0].contains(" flux.msg.depot.source.out read by depot/"));
}

#[test]
fn names_of_ends_never_run_together_and_are_never_too_long() {
    let name = |text: &str| text.parse::<Name>().unwrap();
    let out = |gear: &str, port: &str| named(RESERVED[0], &[&name(gear), &name(port)]);
    assert_eq!(out("a-b", "c"), "bus-out-a-b--c");
    assert_ne!(out("a--b", "c"), out("a", "b--c"));
    assert_ne!(out("a-", "b"), out("a", "-b".trim_start_matches('-')));
    let (long, longer) = ("g".repeat(60), "g".repeat(61));
    for found in [out(&long, "out"), out(&longer, "out"), out("a--b", "c")] {
        assert!(found.parse::<Name>().is_ok(), "{found}");
    }
    assert_ne!(out(&long, "out"), out(&longer, "out"));
}
