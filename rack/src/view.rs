//! What `fluxrig top` shows: the tree of actors, wires with their doors, the journal, as one JSON value and as text.

use std::fmt::Write as _;

use fluxrig_actors::supervision::{Status, TreeNode};
use fluxrig_actors::{Closed, Lane, RunningRig, WaitsFor};
use serde_json::{Value, json};

use crate::bus;
use crate::rack::Shared;
use crate::standby;

/// The rack as it is now.
pub(crate) async fn top(shared: &Shared) -> Value {
    let meta = &shared.checked.scenario.meta;
    let mut top = json!({
        "scenario": meta.name.as_str(),
        "version": meta.version.to_string(),
        "rack": shared.rack,
        "pid": std::process::id(),
        "up_ms": millis(shared.since.elapsed()),
        "is_draining": shared.is_draining(),
        "metrics": shared.metrics.get().map(ToString::to_string),
    });
    let rig = shared.rig.read().await;
    top["stream"] = standby::shown(shared.standing.part(&shared.checked, rig.as_ref()));
    if let Some(rig) = rig.as_ref() {
        top["is_degraded"] = rig.is_degraded().into();
        top["dead_letters"] = rig.dead_letter_count().into();
        top["journal"] = journal(rig);
        top["wires"] = wires(rig);
        top["doors"] = doors(rig);
        top["links"] = links(rig);
        top["bus"] = bus::shown(&shared.bus, rig);
        if shared.is_draining() {
            top["waiting"] = waiting(rig);
        }
        if let Ok(tree) = rig.snapshot().await {
            top["text"] = tree.to_string().into();
            top["tree"] = node(&tree);
        }
    }
    top
}

/// The bus as it is now.
pub(crate) async fn bus_status(shared: &Shared) -> Value {
    // The servers may take their time, and the rig must not wait for them.
    let streams = match shared.bus.options() {
        Some(_) => bus::streams(&shared.bus).await,
        None => Value::Null,
    };
    match shared.rig.read().await.as_ref() {
        Some(rig) => json!({ "bus": bus::shown(&shared.bus, rig), "streams": streams }),
        None => Value::Null,
    }
}

/// The value of a request for the bus, as text.
#[must_use]
pub fn bus_text(status: &Value) -> String {
    let found = &status["bus"];
    if found.is_null() {
        return "no bus\n".to_owned();
    }
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut page = bus::lines(found);
    let servers: Vec<String> = found["servers"].as_array().into_iter().flatten().map(word).collect();
    page.push_str(&format!("servers {}\n", servers.join(", ")));
    for end in found["ends"].as_array().into_iter().flatten() {
        let wires: Vec<String> = end["wires"].as_array().into_iter().flatten().map(word).collect();
        let state = if end["is_up"] == true { "up" } else { "waits" };
        page.push_str(&format!("{state:5}  {}  {}\n", word(&end["subject"]), wires.join(", ")));
    }
    page.push_str(&bus::stream_lines(&status["streams"]));
    page
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn node(tree: &TreeNode) -> Value {
    let status = match tree.status {
        Status::Backoff { .. } => "backoff".to_owned(),
        other => other.to_string(),
    };
    let mut shown = json!({
        "name": &*tree.name,
        "state": status,
        "restarts": tree.restarts,
        "is_stuck": tree.stuck,
        "has_answered": tree.answered,
        "last_exit": tree.last_exit.as_ref().map(ToString::to_string),
        "up_ms": tree.up_for.map(millis),
        "rate_per_s": tree.rate,
    });
    if let Some(vitals) = &tree.vitals {
        shown["depth"] = vitals.depth.into();
        shown["handled"] = vitals.handled.into();
        shown["oldest_ms"] = vitals.oldest_ms.into();
        shown["busy_ms"] = vitals.busy_ms.into();
    }
    if !tree.children.is_empty() {
        shown["children"] = tree.children.iter().map(node).collect();
    }
    shown
}

/// Every wire, and whether it has room: a full one closes every door that can reach it.
fn wires(rig: &RunningRig) -> Value {
    let views = rig.wires().into_iter().map(|view| {
        json!({
            "name": view.name.as_str(),
            "lane": match view.lane { Lane::Turbo => "turbo", Lane::Os => "os", Lane::Flush => "flush" },
            "depth": view.depth,
            "capacity": view.capacity,
            "passed": view.passed,
            "oldest_ms": view.oldest.map(millis),
            "doors": if view.depth < view.capacity { "open" } else { "closed" },
        })
    });
    views.collect()
}

/// Every door, and why it is closed.
fn doors(rig: &RunningRig) -> Value {
    let views = rig.doors().into_iter().map(|door| {
        let state = match door.closed {
            None => "open",
            Some(Closed::Full) => "full wire",
            Some(Closed::Unflushed) => "not durable",
            Some(Closed::Disk) => "disk",
            Some(Closed::Draining) => "draining",
            Some(Closed::Halted) => "ended",
        };
        json!({ "endpoint": door.endpoint.as_str(), "port": door.port.as_str(), "state": state })
    });
    views.collect()
}

/// Every endpoint that has a peer, and what it last said of it.
fn links(rig: &RunningRig) -> Value {
    let views = rig
        .links()
        .into_iter()
        .map(|link| json!({ "endpoint": link.endpoint.as_str(), "is_up": link.is_up, "reason": link.reason.as_str() }));
    views.collect()
}

/// What it waits for while it drains.
fn waiting(rig: &RunningRig) -> Value {
    let views = rig.waiting().into_iter();
    views.map(|view| json!({ "what": waits_for(view.what), "name": view.name.as_str(), "count": view.count })).collect()
}

pub(crate) fn waits_for(what: WaitsFor) -> &'static str {
    match what {
        WaitsFor::Requests => "open requests",
        WaitsFor::Answers => "answers",
        WaitsFor::Turbo => "turbo messages",
        WaitsFor::Deliveries => "deliveries",
        _ => "other",
    }
}

fn journal(rig: &RunningRig) -> Value {
    rig.journal().map_or(Value::Null, |(stats, usage)| {
        json!({
            "groups": stats.groups,
            "records": stats.records,
            "bytes": stats.bytes,
            "flushes": stats.flushes,
            "failures": stats.failures,
            "disk_bytes": usage.bytes,
            "segments": usage.segments,
            "free_bytes": usage.free_bytes,
        })
    })
}

/// The value of a request for it, as a page of text.
#[must_use]
pub fn top_text(top: &Value) -> String {
    let text = |key: &str| top[key].as_str().unwrap_or("-").to_owned();
    let is = |key: &str| top[key] == true;
    let mut page = format!(
        "{} {}  rack {}  up {} s",
        text("scenario"),
        text("version"),
        text("rack"),
        top["up_ms"].as_u64().unwrap_or(0) / 1000
    );
    for (key, word) in [("is_degraded", "DEGRADED"), ("is_draining", "DRAINING")] {
        if is(key) {
            page.push_str("  ");
            page.push_str(word);
        }
    }
    page.push('\n');
    page.push_str(&standby::line(&top["stream"]));
    let journal = &top["journal"];
    if journal.is_null() && top["wires"].is_null() {
        // It runs nothing yet.
        return page;
    }
    // Writing to a text cannot fail.
    let _ = writeln!(
        page,
        "dead letters {}  journal {} bytes on disk, {} flushes\n",
        top["dead_letters"], journal["disk_bytes"], journal["flushes"]
    );
    let of_bus = bus::lines(&top["bus"]);
    if !of_bus.is_empty() {
        page.push_str(&of_bus);
        page.push('\n');
    }
    page.push_str(top["text"].as_str().unwrap_or_default());
    let wires = top["wires"].as_array().map(Vec::as_slice).unwrap_or_default();
    let width = wires.iter().filter_map(|wire| wire["name"].as_str()).map(str::len).max().unwrap_or(0).max(4);
    let _ = writeln!(
        page,
        "\n{:width$}  {:6} {:>8} {:>8} {:>10} {:>9}  DOORS",
        "WIRE", "LANE", "DEPTH", "CAPACITY", "PASSED", "OLDEST_MS"
    );
    for wire in wires {
        let oldest = wire["oldest_ms"].as_u64().map_or_else(|| "-".to_owned(), |ms| ms.to_string());
        let word = |key: &str| wire[key].as_str().unwrap_or("-");
        let _ = writeln!(
            page,
            "{:width$}  {:6} {:>8} {:>8} {:>10} {oldest:>9}  {}",
            word("name"),
            word("lane"),
            wire["depth"].as_u64().unwrap_or(0),
            wire["capacity"].as_u64().unwrap_or(0),
            wire["passed"].as_u64().unwrap_or(0),
            word("doors"),
        );
    }
    ends(&mut page, top);
    page
}

/// Doors, links and what a drain waits for, where there are any.
fn ends(page: &mut String, top: &Value) {
    let list = |key: &str| top[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let doors = list("doors").iter().map(|door| {
        let name = format!("{}.{}", word(&door["endpoint"]), word(&door["port"]));
        (name, word(&door["state"]))
    });
    let links = list("links").iter().map(|link| {
        let state = if link["is_up"] == true { "up" } else { "down" };
        (word(&link["endpoint"]), format!("{state}  {}", word(&link["reason"])).trim_end().to_owned())
    });
    let waiting = list("waiting")
        .iter()
        .map(|waiting| (word(&waiting["name"]), format!("{} {}", waiting["count"], word(&waiting["what"]))));
    let tables: [(&str, Vec<(String, String)>); 3] =
        [("DOOR", doors.collect()), ("LINK", links.collect()), ("DRAIN WAITS FOR", waiting.collect())];
    for (title, rows) in tables.into_iter().filter(|(_, rows)| !rows.is_empty()) {
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(title.len());
        // Writing to a text cannot fail.
        let _ = writeln!(page, "\n{title:width$}  STATE");
        for (name, state) in rows {
            let _ = writeln!(page, "{name:width$}  {state}");
        }
    }
}
