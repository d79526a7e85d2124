//! Prometheus text: every series once in one table, and the page that is made of it.
//! A name that was released keeps its meaning.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fluxrig_actors::RunningRig;
use fluxrig_actors::supervision::{Status, TreeNode};

use crate::bus::{BusState, RackBus, ServerState};
use crate::rack::Shared;
use crate::standby::{Part, ROLES};
use crate::view::waits_for;

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One series of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// Name.
    pub name: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// Labels, in their order.
    pub labels: &'static [&'static str],
    /// What it counts, with its unit.
    pub help: &'static str,
}

macro_rules! series {
    ($($name:ident $kind:ident [$($label:ident)*] $help:literal)*) => {
        /// Every series that `/metrics` shows, in its order.
        pub const SERIES: &[Series] = &[$(Series {
            name: stringify!($name),
            kind: stringify!($kind),
            labels: &[$(stringify!($label)),*],
            help: $help,
        }),*];
    };
}

series! {
    fluxrig_info gauge [scenario version rack] "What runs; always 1."
    fluxrig_ready gauge [] "1 while the rack runs, is not degraded and does not drain; what its links do is told by fluxrig_link_up."
    fluxrig_degraded gauge [] "1 while the journal cannot be written and no effect leaves."
    fluxrig_draining gauge [] "1 once the rack drains."
    fluxrig_drain_waiting gauge [name what] "What a drain still waits for, while the rack drains: open requests and answers, turbo messages, deliveries."
    fluxrig_dead_letters gauge [] "Messages that nobody could handle, waiting for an operator."
    fluxrig_gear_handled_total counter [gear] "Messages handled."
    fluxrig_gear_restarts_total counter [gear] "Restarts."
    fluxrig_gear_depth gauge [gear] "Messages waiting on its wires."
    fluxrig_gear_oldest_seconds gauge [gear] "Age of the oldest message waiting; 0 when none waits."
    fluxrig_gear_failed gauge [gear] "1 when it is over its restarts and not started again by itself."
    fluxrig_gear_stuck gauge [gear] "1 while one message takes longer than its handle_timeout_ms."
    fluxrig_gear_rejected_total counter [gear] "Deliveries that it refused."
    fluxrig_gear_failed_deliveries_total counter [gear] "Deliveries in which it failed."
    fluxrig_gear_count_total counter [gear name label] "What it counts by itself; its manual says what."
    fluxrig_gear_unwired_total counter [gear] "Messages sent to an output without a wire."
    fluxrig_link_up gauge [endpoint] "1 while the endpoint has its peer."
    fluxrig_bus_up gauge [] "1 while the rack has its bus; not there without one."
    fluxrig_bus_wires_waiting gauge [] "Wires that wait for the bus."
    fluxrig_bus_server_up gauge [] "1 while the nats-server that the rack runs is healthy; not there where it runs none."
    fluxrig_bus_server_restarts_total counter [] "Restarts of that nats-server."
    fluxrig_door_open gauge [endpoint port] "1 while messages may come in."
    fluxrig_wire_depth gauge [wire] "Messages on it."
    fluxrig_wire_capacity gauge [wire] "Messages on it before the doors that feed it close."
    fluxrig_wire_passed_total counter [wire] "Messages that left it."
    fluxrig_wire_oldest_seconds gauge [wire] "Age of the oldest message on it; 0 when it is empty."
    fluxrig_journal_role gauge [role] "1 for what the rack is to the stream of its journal, holder or stand-by; only with journal: jetstream."
    fluxrig_journal_term gauge [] "Term of the holder; not there for a holder without a lease."
    fluxrig_journal_lag gauge [] "Messages of the stream that this stand-by has not read yet; only of a stand-by."
    fluxrig_journal_lease_seconds gauge [] "What is left of the holder's lease; not there without one."
    fluxrig_journal_groups_total counter [] "Groups written."
    fluxrig_journal_records_total counter [] "Messages written, carried ones included."
    fluxrig_journal_carried_total counter [] "Messages written again before their segment was deleted."
    fluxrig_journal_bytes_total counter [] "Bytes of groups written."
    fluxrig_journal_flushes_total counter [] "Flushes."
    fluxrig_journal_failures_total counter [] "Writes or flushes that failed."
    fluxrig_journal_trimmed_total counter [] "Segments deleted."
    fluxrig_journal_written_epoch gauge [] "Epoch up to which everything is written."
    fluxrig_journal_flushed_epoch gauge [] "Epoch up to which everything is flushed."
    fluxrig_journal_disk_bytes gauge [] "Bytes of all segments on disk."
    fluxrig_journal_segments gauge [] "Segments on disk."
    fluxrig_journal_free_bytes gauge [] "Bytes free on the file system."
}

/// Values of every series at one instant.
#[derive(Debug, Default)]
struct Samples(BTreeMap<&'static str, Vec<(Vec<String>, f64)>>);

impl Samples {
    fn put(&mut self, name: &'static str, labels: &[&str], value: f64) {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        self.0.entry(name).or_default().push((labels, value));
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for series in SERIES {
            // Writing to a text cannot fail.
            let _ = writeln!(out, "# HELP {} {}\n# TYPE {0} {}", series.name, series.help, series.kind);
            for (values, value) in self.0.get(series.name).into_iter().flatten() {
                let pairs: Vec<String> = series
                    .labels
                    .iter()
                    .zip(values)
                    .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
                    .collect();
                let labels = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
                let _ = writeln!(out, "{}{labels} {value}", series.name);
            }
        }
        out
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The page as it is now.
pub(crate) async fn page(shared: &Shared) -> String {
    let mut samples = Samples::default();
    let meta = &shared.checked.scenario.meta;
    let rack = shared.rack.as_deref().unwrap_or_default();
    samples.put("fluxrig_info", &[meta.name.as_str(), &meta.version.to_string(), rack], 1.0);
    let rig = shared.rig.read().await;
    let is_degraded = rig.as_ref().is_some_and(RunningRig::is_degraded);
    let is_ready = rig.is_some() && !is_degraded && !shared.is_draining();
    samples.put("fluxrig_ready", &[], flag(is_ready));
    samples.put("fluxrig_degraded", &[], flag(is_degraded));
    samples.put("fluxrig_draining", &[], flag(shared.is_draining()));
    of_stream(&mut samples, shared.standing.part(&shared.checked, rig.as_ref()));
    if let Some(rig) = rig.as_ref() {
        samples.put("fluxrig_dead_letters", &[], rig.dead_letter_count() as f64);
        if let Ok(tree) = rig.snapshot().await {
            of_gears(&mut samples, rig, &tree);
        }
        of_endpoints(&mut samples, rig);
        of_bus(&mut samples, &shared.bus, rig);
        of_wires(&mut samples, rig);
        of_journal(&mut samples, rig);
        for waiting in shared.is_draining().then(|| rig.waiting()).into_iter().flatten() {
            let labels = [waiting.name.as_str(), waits_for(waiting.what)];
            samples.put("fluxrig_drain_waiting", &labels, waiting.count as f64);
        }
    }
    samples.text()
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn seconds(ms: Option<u64>) -> f64 {
    ms.unwrap_or(0) as f64 / 1000.0
}

fn of_stream(samples: &mut Samples, part: Option<Part>) {
    let Some(Part { role: own, term, lag, lease_left }) = part else { return };
    for role in ROLES {
        samples.put("fluxrig_journal_role", &[role], flag(role == own));
    }
    let values = [
        ("fluxrig_journal_term", term.map(|term| term as f64)),
        ("fluxrig_journal_lag", lag.map(|lag| lag as f64)),
        ("fluxrig_journal_lease_seconds", lease_left.map(|left| left.as_secs_f64())),
    ];
    for (name, value) in values {
        if let Some(value) = value {
            samples.put(name, &[], value);
        }
    }
}

fn of_bus(samples: &mut Samples, bus: &RackBus, rig: &RunningRig) {
    let Some(state) = bus.state() else { return };
    samples.put("fluxrig_bus_up", &[], flag(matches!(state, BusState::Up { .. })));
    samples.put("fluxrig_bus_wires_waiting", &[], bus.waiting(rig).len() as f64);
    if let Some(server) = bus.server() {
        let view = server.view();
        samples.put("fluxrig_bus_server_up", &[], flag(view.state == ServerState::Up));
        samples.put("fluxrig_bus_server_restarts_total", &[], view.restarts as f64);
    }
}

fn of_gears(samples: &mut Samples, rig: &RunningRig, tree: &TreeNode) {
    let Some(gears) = tree.find("core/scenario/gears") else { return };
    for gear in &gears.children {
        let name = [&*gear.name];
        let sum = |value: fn(&TreeNode) -> u64| gear.children.iter().map(value).sum::<u64>() as f64;
        let vital = |node: &TreeNode| node.vitals.unwrap_or_default();
        samples.put("fluxrig_gear_handled_total", &name, sum(|node| node.vitals.unwrap_or_default().handled));
        samples.put("fluxrig_gear_restarts_total", &name, sum(|node| node.restarts));
        samples.put("fluxrig_gear_depth", &name, sum(|node| node.vitals.unwrap_or_default().depth));
        let oldest = gear.children.iter().filter_map(|node| vital(node).oldest_ms).max();
        samples.put("fluxrig_gear_oldest_seconds", &name, seconds(oldest));
        let is_failed = gear.status == Status::Failed || gear.children.iter().any(|node| node.status == Status::Failed);
        samples.put("fluxrig_gear_failed", &name, flag(is_failed));
        samples.put("fluxrig_gear_stuck", &name, flag(gear.children.iter().any(|node| node.stuck)));
        let (rejected, failed) = rig.refusals(&gear.name);
        samples.put("fluxrig_gear_rejected_total", &name, rejected as f64);
        samples.put("fluxrig_gear_failed_deliveries_total", &name, failed as f64);
        samples.put("fluxrig_gear_unwired_total", &name, rig.unwired(&gear.name) as f64);
    }
}

fn of_endpoints(samples: &mut Samples, rig: &RunningRig) {
    for (gear, name, label, count) in rig.tallies() {
        samples.put("fluxrig_gear_count_total", &[&gear, name, &label], count as f64);
    }
    for link in rig.links() {
        samples.put("fluxrig_link_up", &[&link.endpoint], flag(link.is_up));
    }
    for door in rig.doors() {
        samples.put("fluxrig_door_open", &[&door.endpoint, &door.port], flag(door.closed.is_none()));
    }
}

fn of_wires(samples: &mut Samples, rig: &RunningRig) {
    for wire in rig.wires() {
        let name = [wire.name.as_str()];
        samples.put("fluxrig_wire_depth", &name, wire.depth as f64);
        samples.put("fluxrig_wire_passed_total", &name, wire.passed as f64);
        samples.put("fluxrig_wire_capacity", &name, wire.capacity as f64);
        samples.put("fluxrig_wire_oldest_seconds", &name, wire.oldest.unwrap_or_default().as_secs_f64());
    }
}

fn of_journal(samples: &mut Samples, rig: &RunningRig) {
    let Some((stats, usage)) = rig.journal() else { return };
    let (written, flushed) = rig.marks();
    let values = [
        ("fluxrig_journal_written_epoch", written),
        ("fluxrig_journal_flushed_epoch", flushed),
        ("fluxrig_journal_groups_total", stats.groups),
        ("fluxrig_journal_records_total", stats.records),
        ("fluxrig_journal_carried_total", stats.carried),
        ("fluxrig_journal_bytes_total", stats.bytes),
        ("fluxrig_journal_flushes_total", stats.flushes),
        ("fluxrig_journal_failures_total", stats.failures),
        ("fluxrig_journal_trimmed_total", stats.trimmed),
        ("fluxrig_journal_disk_bytes", usage.bytes),
        ("fluxrig_journal_segments", usage.segments as u64),
    ];
    for (name, value) in values {
        samples.put(name, &[], value as f64);
    }
    if let Some(free) = usage.free_bytes {
        samples.put("fluxrig_journal_free_bytes", &[], free as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_well_named_and_said_once() {
        for (idx, series) in SERIES.iter().enumerate() {
            assert!(series.name.starts_with("fluxrig_"), "{}", series.name);
            assert_eq!(series.name.ends_with("_total"), series.kind == "counter", "{}", series.name);
            assert!(SERIES[..idx].iter().all(|other| other.name != series.name), "{}", series.name);
            assert!(series.help.ends_with('.') && !series.help.contains('\n'), "{}", series.name);
        }
    }

    #[test]
    fn labels_are_escaped() {
        let mut samples = Samples::default();
        samples.put("fluxrig_wire_depth", &["a\"\\\n"], 3.0);
        assert!(samples.text().contains("fluxrig_wire_depth{wire=\"a\\\"\\\\\\n\"} 3\n"));
    }
}
