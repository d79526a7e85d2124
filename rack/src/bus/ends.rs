//! Where a rack's plan gets the endpoints of its bus from: from the runtime's bus. Without one, as in a check, they have
//! ports and do nothing.

use std::sync::Arc;

use fluxrig_actors::bus::{Bus, BusDurability, BusIn, BusOut};
use fluxrig_actors::{Endpoint, GearError, Io, Ports, Rig};

use crate::scenario::Durability;
use crate::scenario::cross::{Ends, InEnd, OutEnd};

/// Ends that are on a bus.
#[derive(Clone, Debug)]
pub(crate) struct OnBus(pub(crate) Arc<Bus>);

impl Ends for OnBus {
    fn add_out(&self, rig: Rig, end: &OutEnd) -> Rig {
        let durability = match end.durability {
            Durability::Flush => BusDurability::Flush,
            Durability::Os => BusDurability::Os,
            Durability::Replicated => BusDurability::Replicated,
        };
        let readers = end.readers.iter().map(|(rack, name)| (rack.to_string(), BusIn::reader_name(rack, name)));
        let out = BusOut::new(Arc::clone(&self.0), end.subject.clone());
        rig.endpoint(&end.name, BusOut { durability, readers: readers.collect(), ..out })
    }

    fn add_in(&self, rig: Rig, end: &InEnd) -> Rig {
        rig.endpoint(&end.name, BusIn::new(Arc::clone(&self.0), end.subject.clone()))
    }
}

/// Ends that only say what ports they have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoBus;

struct NoOut;
struct NoIn;

impl Endpoint for NoOut {
    const TYPE: &'static str = "bus_out";

    fn ports(&self) -> Ports {
        Ports::sink()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        wait(&io).await
    }
}

impl Endpoint for NoIn {
    const TYPE: &'static str = "bus_in";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        wait(&io).await
    }
}

async fn wait(io: &Io) -> Result<(), GearError> {
    io.link_down("no bus");
    std::future::pending().await
}

impl Ends for NoBus {
    fn add_out(&self, rig: Rig, end: &OutEnd) -> Rig {
        rig.endpoint(&end.name, NoOut)
    }

    fn add_in(&self, rig: Rig, end: &InEnd) -> Rig {
        rig.endpoint(&end.name, NoIn)
    }
}
