//! The scenario of the payments example in one process without sockets: what its gears and wires cost by themselves.
//! Terminals and host are played by endpoints that have the name of the real one.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_actors::{IN, Input, OUT};
use fluxrig_gears::{Codec, Conductor, Log, Mode, Reply};
use fluxrig_rack::Rack;
use tokio::sync::Notify;

use super::message::Purchase;
use super::row::{Scratch, runtime};

/// Transactions open at once, as of 16 terminals with 16 each.
const OPEN: u64 = 256;
const IDLE: Duration = Duration::from_secs(5);

// A catalog builds endpoints from their configuration alone, so what the child was asked for stands here.
static COUNT: OnceLock<u64> = OnceLock::new();
static FINISHED: Notify = Notify::const_new();

/// The scenario, where there is one.
pub(crate) fn scenario() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/payments/relay.yaml");
    if !path.is_file() {
        eprintln!("SKIPPED: rows of the switch: there is no examples/payments/relay.yaml");
        return None;
    }
    Some(path)
}

/// The child: so many transactions through the switch, then it ends.
pub(crate) fn child(lane: &str, count: u64) {
    COUNT.get_or_init(|| count);
    let scratch = Scratch::new("relay");
    let text = std::fs::read_to_string(scenario().expect("whoever starts the child has looked")).expect("it is text");
    let lookup = |name: &str| (name == "LANE").then(|| lane.to_owned());
    let catalog = catalog();
    let rack = Rack::parse("relay.yaml", &text, &catalog, &lookup).expect("the scenario is right");
    let rig = rack.checked().rig(None, &catalog, &scratch.0.join("journal")).expect("it has one rack");
    runtime(1).block_on(async {
        let rig = rig.start().await.expect("the rig starts");
        FINISHED.notified().await;
        rig.stop(IDLE).await;
    });
}

fn catalog() -> Catalog {
    let about = || About { category: Category::Logic, maturity: Maturity::Preview };
    Catalog::new()
        .with::<Conductor>(about())
        .with::<Codec>(about())
        .with::<Reply>(about())
        .with::<Log>(about())
        .with_endpoint::<Played>(about())
}

/// Terminals where the scenario has a server, a host where it has a client. The other keys are about sockets.
#[derive(Debug, Deserialize, JsonSchema)]
struct Played {
    mode: Mode,
}

impl Endpoint for Played {
    const TYPE: &'static str = "io_iso8583";

    fn ports(&self) -> Ports {
        let mut ports = Ports::none().output(OUT);
        ports.inputs.push(Input { name: IN.into(), is_reply: false, feeds: None, is_required: false });
        ports
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        match self.mode {
            Mode::Server => terminals(&io, *COUNT.get().expect("the child says it first")).await,
            Mode::Client => host(&io).await,
        }
    }
}

/// A closed loop: an answer makes room for the next request.
async fn terminals(io: &Io, count: u64) -> Result<(), GearError> {
    let purchase = Purchase::new();
    let (door, mut effects) = (io.door(), io.effects());
    let request = |number| {
        let mut msg = io.message();
        msg.meta.set("content", "iso8583");
        msg.return_to = Some(io.return_address(number % 16));
        msg.raw = Some(purchase.numbered(number).into());
        msg
    };
    let (mut sent, mut answered, mut is_linked) = (0, 0, false);
    while answered < count {
        // The switch declines until it knows of the host.
        let room = if is_linked { OPEN - (sent - answered) } else { 1 };
        let mut batch: VecDeque<FluxMsg> = (sent..sent + room.min(count - sent)).map(request).collect();
        sent += batch.len() as u64;
        door.admit_all(&mut batch).await.map_err(|error| GearError::broken(error.to_string()))?;
        let answers = effects.take_many(OPEN as usize).await;
        for answer in &answers {
            let is_approval = answer.msg.raw.as_ref().is_some_and(|raw| purchase.is_approval(raw));
            assert!(is_approval || !is_linked, "every request is approved");
            is_linked = is_approval;
        }
        answered += answers.len() as u64;
        Effect::done_all(answers);
    }
    FINISHED.notify_one();
    io.draining().await;
    Ok(())
}

async fn host(io: &Io) -> Result<(), GearError> {
    let purchase = Purchase::new();
    let (door, mut effects) = (io.door(), io.effects());
    io.link_up();
    loop {
        let requests = effects.take_many(1024).await;
        if requests.is_empty() {
            return Ok(());
        }
        let answer = |request: &Effect| {
            let mut msg = io.message();
            msg.meta.set("content", "iso8583");
            msg.raw = request.msg.raw.as_ref().map(|raw| purchase.approval(raw).into());
            msg
        };
        let mut answers: VecDeque<FluxMsg> = requests.iter().map(answer).collect();
        Effect::done_all(requests);
        door.admit_all(&mut answers).await.map_err(|error| GearError::broken(error.to_string()))?;
    }
}
