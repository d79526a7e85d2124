//! The bus of a rack as `fluxrig top` and `fluxrig bus status` show it: one JSON value, and lines of text made of it.

use fluxrig_actors::RunningRig;
use serde_json::{Value, json};

use super::{BusState, RackBus, ServerState};

/// What is seen without asking the bus itself. Nothing where there is none.
pub(crate) fn shown(bus: &RackBus, rig: &RunningRig) -> Value {
    let (Some(options), Some(state)) = (bus.options(), bus.state()) else { return Value::Null };
    let (word, why) = said(&state);
    let links = rig.links();
    let ends = bus.ends().iter().map(|end| {
        let link = links.iter().find(|link| link.endpoint == end.name.as_str());
        json!({
            "endpoint": end.name,
            "subject": end.subject,
            "is_up": link.is_some_and(|link| link.is_up),
            "reason": link.map_or("", |link| link.reason.as_str()),
            "wires": end.wires,
        })
    });
    json!({
        "servers": options.servers,
        "state": word,
        "why": why,
        "waiting": bus.waiting(rig),
        "ends": ends.collect::<Vec<Value>>(),
        "server": server(bus),
    })
}

/// What is on the servers, asked now; why that cannot be said, otherwise.
pub(crate) async fn streams(bus: &RackBus) -> Value {
    let status = match bus.status().await {
        Ok(status) => status,
        Err(why) => return json!({ "why": why, "streams": [] }),
    };
    let drift = |drift: &Option<fluxrig_actors::bus::BusError>| drift.as_ref().map(ToString::to_string);
    let streams = status.streams.iter().map(|stream| {
        let consumers = stream.consumers.iter().map(|one| {
            json!({
                "name": one.name,
                "rack": one.rack,
                "subject": one.subject,
                "pending": one.pending,
                "unacked": one.unacked,
                "is_read": one.is_read,
                "drift": drift(&one.drift),
            })
        });
        json!({
            "name": stream.name,
            "rack": stream.rack,
            "messages": stream.messages,
            "bytes": stream.bytes,
            "max_bytes": stream.max_bytes,
            "replicas": stream.replicas,
            "drift": drift(&stream.drift),
            "consumers": consumers.collect::<Vec<Value>>(),
        })
    });
    json!({ "why": null, "streams": streams.collect::<Vec<Value>>() })
}

/// The same as lines of text.
pub(crate) fn stream_lines(found: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    if let Some(why) = found["why"].as_str() {
        return format!("streams: {why}\n");
    }
    let mut text = String::new();
    let drift = |one: &Value| one["drift"].as_str().map_or_else(String::new, |drift| format!("  DRIFT {drift}"));
    for stream in found["streams"].as_array().into_iter().flatten() {
        text.push_str(&format!(
            "stream {}  {} messages  {} bytes  {} replicas{}\n",
            word(&stream["name"]),
            stream["messages"],
            stream["bytes"],
            stream["replicas"],
            drift(stream)
        ));
        for one in stream["consumers"].as_array().into_iter().flatten() {
            let read = if one["is_read"] == true { "read" } else { "not read" };
            text.push_str(&format!(
                "  consumer {}  {} pending  {} unacked  {read}{}\n",
                word(&one["name"]),
                one["pending"],
                one["unacked"],
                drift(one)
            ));
        }
    }
    text
}

/// The rack's own server.
fn server(bus: &RackBus) -> Value {
    let Some(server) = bus.server() else { return Value::Null };
    let view = server.view();
    let (state, why) = match &view.state {
        ServerState::Up => ("up", ""),
        ServerState::Down { why } => ("down", why.as_str()),
        ServerState::Failed { why } => ("failed", why.as_str()),
        ServerState::Stopped => ("stopped", ""),
    };
    json!({
        "address": server.address().to_string(),
        "version": server.version,
        "pid": view.pid,
        "restarts": view.restarts,
        "state": state,
        "why": why,
    })
}

fn said(state: &BusState) -> (&'static str, String) {
    match state {
        BusState::Connecting { why } => ("connecting", why.clone()),
        BusState::Up { server, version, .. } => ("up", format!("{server} {version}")),
        BusState::Refused { why } => ("refused", why.clone()),
        _ => ("unknown", String::new()),
    }
}

/// The lines of a page: what the bus does, and the rack's own server. None without a bus.
#[must_use]
pub(crate) fn lines(bus: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if bus.is_null() {
        return String::new();
    }
    let more = |state: &Value, why: &Value| match word(why).as_str() {
        "" => word(state),
        why => format!("{}: {why}", word(state)),
    };
    let mut text = format!("bus {}\n", more(&bus["state"], &bus["why"]));
    let waiting: Vec<String> = bus["waiting"].as_array().into_iter().flatten().map(word).collect();
    if !waiting.is_empty() {
        text.push_str(&format!("wires that wait for it: {}\n", waiting.join(", ")));
    }
    let server = &bus["server"];
    if !server.is_null() {
        text.push_str(&format!(
            "nats-server {} on {}  pid {}  restarts {}  {}\n",
            word(&server["version"]),
            word(&server["address"]),
            server["pid"].as_u64().map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            server["restarts"],
            more(&server["state"], &server["why"]),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_what_the_bus_does_and_who_waits() {
        let bus = json!({
            "state": "connecting", "why": "nobody listens", "waiting": ["a.out->b.in", "c.out->d.in"],
            "server": { "version": "2.15.1", "address": "127.0.0.1:4222", "pid": null, "restarts": 2, "state": "down", "why": "killed" },
        });
        let expected = "bus connecting: nobody listens\nwires that wait for it: a.out->b.in, c.out->d.in\n\
                        nats-server 2.15.1 on 127.0.0.1:4222  pid -  restarts 2  down: killed\n";
        assert_eq!(lines(&bus), expected);
        assert_eq!(lines(&json!({ "state": "up", "why": "", "waiting": [], "server": null })), "bus up\n");
        assert_eq!(lines(&Value::Null), "");
    }
}
