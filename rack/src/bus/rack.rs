//! The bus of one running rack: how it reaches it, the server where it runs one, which of its endpoints are on it, and
//! how all that is seen.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::RunningRig;
use fluxrig_actors::bus::{Bus, BusOptions, BusState, BusStatus};
use fluxrig_actors::journal::stream::Log;

use super::ends::OnBus;
use super::unused::{Expected, Found, FoundConsumer, Unused, unused};
use super::{BusError, Keeping, NoBus, Server};
use crate::scenario::cross::{Crossing, Ends};
use crate::scenario::{Checked, StreamDurability, StreamJournal};

/// The bus of a rack. Without one it has no options, and nothing is on it.
#[derive(Debug)]
pub(crate) struct RackBus {
    bus: Option<Arc<Bus>>,
    server: Option<Server>,
    ends: Vec<End>,
    expected: Expected,
}

/// How long a rack whose journal is on the servers waits for them: without it nothing of it can run.
const JOURNAL_WAIT: Duration = Duration::from_secs(15);

/// How long the servers may take to say what is there, or to remove it.
const ASK_TIME: Duration = Duration::from_secs(20);

/// An endpoint that is on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Its name in the rig.
    pub(crate) name: String,
    /// What it publishes, or takes.
    pub(crate) subject: String,
    /// The wires of the scenario that go over it.
    pub(crate) wires: Vec<String>,
}

impl RackBus {
    /// Starts the rack's own server, where it has one.
    pub(crate) async fn start(
        checked: &Checked,
        rack: Option<&str>,
        data_dir: &Path,
        guard: Option<PathBuf>,
    ) -> Result<(Self, Option<Keeping>), crate::RackError> {
        let name = checked.rack_name(rack)?;
        let crossing = checked.crossing(rack)?;
        let (ends, expected) = (ends(checked, &crossing), Expected::of(&name, &crossing));
        let bus = &checked.scenario.bus;
        let start = |options: BusOptions| Bus::start(options, &name);
        let Some(managed) = bus.managed_by(&name) else {
            return Ok((Self { bus: bus.elsewhere().map(start), server: None, ends, expected }, None));
        };
        let (server, keeping) = Server::start(managed, &name, data_dir, guard).await?;
        let bus = Some(start(server.options(managed)));
        Ok((Self { bus, server: Some(server), ends, expected }, Some(keeping)))
    }

    /// Who makes the endpoints of the rig.
    pub(crate) fn maker(&self) -> Box<dyn Ends> {
        match &self.bus {
            Some(bus) => Box::new(OnBus(Arc::clone(bus))),
            None => Box::new(NoBus),
        }
    }

    /// How the bus is reached; `None` without one.
    pub(crate) fn options(&self) -> Option<&BusOptions> {
        self.bus.as_ref().map(|bus| bus.options())
    }

    /// The servers as what keeps the rack's journal.
    pub(crate) async fn journal(&self, stream: StreamJournal) -> Result<Arc<dyn Log>, fluxrig_actors::bus::BusError> {
        let bus = self.bus.as_ref().expect("a scenario without a bus whose journal is there is refused");
        match stream.durability {
            StreamDurability::Flush => bus.journal(stream.max_bytes, JOURNAL_WAIT).await,
            StreamDurability::Replicated => bus.replicated_journal(stream.max_bytes, JOURNAL_WAIT).await,
        }
    }

    /// The rack's own server.
    pub(crate) fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// What the connection does; `None` without a bus.
    pub(crate) fn state(&self) -> Option<BusState> {
        self.bus.as_ref().map(|bus| bus.state().borrow().clone())
    }

    /// Wires of the scenario that wait for the bus: whose endpoint on it has no peer.
    pub(crate) fn waiting(&self, rig: &RunningRig) -> Vec<String> {
        let links = rig.links();
        let is_up = |end: &&End| links.iter().any(|link| link.endpoint == end.name.as_str() && link.is_up);
        let mut wires: Vec<String> =
            self.ends.iter().filter(|end| !is_up(end)).flat_map(|end| end.wires.iter().cloned()).collect();
        // A wire on JetStream inside a rack has two ends.
        wires.sort_unstable();
        wires.dedup();
        wires
    }

    /// What on the bus nobody needs any more; why that cannot be said, otherwise.
    pub(crate) async fn unused(&self) -> Result<Vec<Unused>, String> {
        Ok(unused(&self.expected, &self.found().await?))
    }

    /// The streams and consumers that are there, or why that cannot be said.
    pub(crate) async fn status(&self) -> Result<BusStatus, String> {
        self.asked(async |bus: &Bus| bus.status().await).await
    }

    async fn found(&self) -> Result<Vec<Found>, String> {
        let streams = self.status().await?.streams.into_iter().map(|stream| Found {
            name: stream.name,
            messages: stream.messages,
            consumers: stream
                .consumers
                .into_iter()
                .map(|one| FoundConsumer { name: one.name, rack: one.rack, pending: one.pending + one.unacked })
                .collect(),
        });
        Ok(streams.collect())
    }

    /// Removes of what nobody needs that which is named; how many. What is needed again by now stays.
    pub(crate) async fn prune(&self, names: &[String]) -> Result<usize, String> {
        let unused = self.unused().await?;
        let is_meant = |name: &str| names.iter().any(|one| one == name) && unused.iter().any(|one| one.name == name);
        let pruned = self
            .asked(async |bus: &Bus| {
                bus.prune(|stream, consumer| match consumer {
                    None => is_meant(stream),
                    Some(consumer) => is_meant(&format!("{stream}/{consumer}")),
                })
                .await
            })
            .await?;
        Ok(pruned.streams.len() + pruned.consumers.len())
    }

    /// Asks the servers, when they are there.
    async fn asked<T>(
        &self,
        ask: impl AsyncFnOnce(&Bus) -> Result<T, fluxrig_actors::bus::BusError>,
    ) -> Result<T, String> {
        let absent = |why: &str| {
            Err(format!("bus: found it not up ({why}), expected a connection; remedy: see `fluxrig bus status`"))
        };
        let Some(bus) = &self.bus else {
            return Err("bus: found none in the scenario, expected one; remedy: add `bus`".to_owned());
        };
        if let Some(why) = bus.why_down() {
            return absent(&why);
        }
        match tokio::time::timeout(ASK_TIME, ask(bus)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => absent("no answer in time"),
        }
    }

    /// Which endpoints are on it.
    pub(crate) fn ends(&self) -> &[End] {
        &self.ends
    }

    /// Waits until the rack's own server is given up.
    pub(crate) async fn failed(&self) -> BusError {
        match &self.server {
            Some(server) => server.failed().await,
            None => std::future::pending().await,
        }
    }
}

/// The ends of a rack, each with the wires of the scenario that need it.
fn ends(checked: &Checked, crossing: &Crossing) -> Vec<End> {
    let wires = &checked.scenario.wires;
    let outs = crossing.outs.iter().map(|end| {
        let of_port = wires.iter().filter(|wire| checked.is_on_bus(wire)).map(|wire| checked.wire_name(wire));
        let start = format!("{}->", end.wire.from);
        (&end.name, &end.subject, of_port.filter(|name| name.starts_with(&start)).collect())
    });
    let ins = crossing.ins.iter().map(|end| {
        let of_door = end.wires.iter().map(|wire| checked.wire_name(&wires[wire.wire_idx]));
        (&end.name, &end.subject, of_door.collect())
    });
    let all = outs.collect::<Vec<(_, _, Vec<String>)>>().into_iter().chain(ins);
    all.map(|(name, subject, wires)| End { name: name.clone(), subject: subject.to_string(), wires }).collect()
}
