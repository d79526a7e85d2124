//! What a case is made of: a rig whose wire and whose journal go over one bus, and what the bus says of itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::bus::{Bus, BusDurability, BusIn, BusOptions, BusOut, BusState};
use fluxrig_actors::journal::stream::Log;
use fluxrig_actors::prelude::*;
use fluxrig_gears::{FileSink, Generator};
use fluxrig_tests::outside::nats::{self, Server, Wanted};
use fluxrig_tests::outside::place::Place;

/// Longest wait for a fact.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const LINES: u64 = 20;

/// A server with these lines in its configuration; `None` is said loudly.
pub(crate) fn server(test: &str, more: &str) -> Option<Server> {
    let program = nats::program(test)?;
    Some(Server::start(&program, &Wanted { more: more.to_owned(), ..Wanted::default() }).unwrap())
}

/// How to reach it, with the flushing told by its monitor.
pub(crate) fn options(server: &Server) -> BusOptions {
    BusOptions { monitor_url: Some(server.monitor_url()), ..BusOptions::at([server.url()]) }
}

/// Sends lines over a wire on the bus, with the journal on it as well.
pub(crate) async fn passes(options: BusOptions, durability: BusDurability) {
    let bus = Bus::start(options, "north");
    let log = match durability {
        BusDurability::Replicated => bus.replicated_journal(None, PATIENCE).await,
        _ => bus.journal(None, PATIENCE).await,
    };
    let place = Place::new().unwrap();
    run(&bus, log.unwrap(), durability, place.path()).await;
}

async fn run(bus: &Arc<Bus>, log: Arc<dyn Log>, durability: BusDurability, dir: &Path) {
    let subject = || "flux.msg.north.source.out".parse().unwrap();
    let out = BusOut {
        durability,
        readers: vec![("north".into(), BusIn::reader_name("north", "in"))],
        ..BusOut::new(Arc::clone(bus), subject())
    };
    let file = dir.join("lines.jsonl");
    let rig = || {
        Rig::new("bus")
            .endpoint("source", Generator::counting(LINES))
            .endpoint("out", out.clone())
            .endpoint("in", BusIn::new(Arc::clone(bus), subject()))
            .endpoint("sink", FileSink::at(&file))
            .wire("source", "out")
            .wire("in", "sink")
            .journal_with(JournalOptions::dir(dir.join("journal")).on_stream(Arc::clone(&log)))
    };
    let rig = patiently(async || rig().start().await).await;
    let lines = || std::fs::read_to_string(&file).unwrap_or_default().lines().count() as u64;
    until("all lines arrive", || if lines() >= LINES { Ok(()) } else { Err(format!("{:?}", rig.links())) }).await;
    assert!(rig.stop(PATIENCE).await);
    assert_eq!(lines(), LINES);
}

/// Starts what gives up on servers that take their time: the machine may have other things to do.
pub(crate) async fn patiently<T, E: std::fmt::Display>(start: impl AsyncFn() -> Result<T, E>) -> T {
    let end = tokio::time::Instant::now() + 2 * PATIENCE;
    loop {
        match start().await {
            Ok(started) => return started,
            Err(error) if tokio::time::Instant::now() > end => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// What it says when it is refused.
pub(crate) async fn refused(options: BusOptions) -> String {
    let bus = Bus::start(options, "north");
    let state = bus.state();
    until("the bus is refused", || match &*state.borrow() {
        BusState::Refused { why } => Ok(why.clone()),
        other => Err(format!("{other:?}")),
    })
    .await
}

/// Waits for a fact; fails with what was seen last.
pub(crate) async fn until<T>(what: &str, mut fact: impl FnMut() -> Result<T, String>) -> T {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        match fact() {
            Ok(value) => return value,
            Err(seen) if tokio::time::Instant::now() > end => panic!("{what}: still {seen}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
