//! The store of the server loses its end while the server is down, as after a power cut of one that does not sync: an
//! earlier copy is put in its place. What is gone cannot come back; it is named, and nothing is doubled or mixed up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::daemon::{Started, Wrap};
use fluxrig_tests::outside::nats::{Server, Wanted};
use fluxrig_tests::outside::place::Place;
use fluxrig_tests::outside::racks::{OnBus, Racks};
use fluxrig_tests::outside::{World, tried, wait};

use super::class::{Ask, Report, Stop};
use super::on_bus::{program, world};

const KINDS: [&str; 4] = [
    "wire: a tail nobody had read",
    "wire: the same, and its sender started again",
    "journal: under a rack that runs",
    "journal: under a rack that is down",
];

/// Lines behind the copy.
const LINES: u64 = 200;
/// For so long nothing comes in, or else it has not stopped.
const CALM: Duration = Duration::from_secs(1);

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    let program = program()?;
    KINDS.iter().for_each(|kind| report.expect(kind));
    for _ in 0..rounds.div_ceil(2) {
        let (mut server, on) = lazy(&program)?;
        world(Racks::two(&ask.daemon, &on, chance)?, report, |racks, report| {
            wire(racks, &mut server, false, report)?;
            wire(racks, &mut server, true, report)
        })?;
        let (mut server, on) = lazy(&program)?;
        let racks = Racks::on_stream(&ask.daemon, &on, chance)?;
        world(racks, report, |racks, report| journal(racks, &mut server, report))?;
    }
    Ok(())
}

/// A server that does not sync, though the racks are told that it does: what a power cut takes from it.
fn lazy(program: &Path) -> Result<(Server, OnBus), String> {
    let server = Server::start(program, &Wanted { is_lazy: true, ..Wanted::default() })?;
    let bus = "{ servers: [\"${BUS}\"], assume_sync: true }".to_owned();
    let on = OnBus { bus, durability: "flush", urls: vec![server.url()] };
    Ok((server, on))
}

/// `core` is down while `edge` publishes, and the server forgets what it has acked of that.
fn wire(racks: &mut Racks, server: &mut Server, is_sender_new: bool, report: &mut Report) -> Result<(), String> {
    racks.start_all()?;
    racks.until_answers(LINES)?;
    racks.settle()?;
    racks.kill(1);
    racks.pipeline.set_quiet(true);
    let copies = Place::new()?;
    let early = copies.path().join("early");
    server.stop()?;
    copy(server.store(), &early)?;
    server.restart()?;
    racks.pipeline.set_quiet(false);
    racks.until_answers(LINES)?;
    racks.pipeline.set_quiet(true);
    racks.until("still publishing", |racks| waiting(racks, 0) == Ok(0))?;
    server.kill();
    replace(server.store(), &early)?;
    server.restart()?;
    if is_sender_new {
        racks.kill(0);
        racks.start(0)?;
    }
    racks.start(1)?;
    racks.pipeline.set_quiet(false);
    racks.until_answers(LINES)?;
    // What comes after it goes through all the same.
    racks.until("nobody says that messages are missing", |racks| missing(racks) > 0)?;
    let log = racks.log(1);
    if !log.contains("bus_in: found messages missing") {
        return Err(format!("it is counted that messages are missing, and not said: {log}"));
    }
    racks.pipeline.set_quiet(true);
    racks.until("still publishing", |racks| waiting(racks, 0) == Ok(0))?;
    let mut seen = 0;
    racks.until("still coming in", |racks| {
        wait::pass(CALM);
        let now = racks.pipeline.look().map_or(0, |evidence| evidence.file.len() + evidence.ledger.len());
        std::mem::replace(&mut seen, now) == now
    })?;
    let tally = racks.pipeline.settle_within(Duration::ZERO);
    if tally.lost == 0 {
        return Err("the store was cut back, and no line is lost: it was not cut".to_owned());
    }
    if tally.duplicate + tally.reordered + tally.foreign > 0 {
        return Err(format!("beside the loss: {tally}\n  {}", tally.findings.join("\n  ")));
    }
    let kind = if is_sender_new { KINDS[1] } else { KINDS[0] };
    report.fired(kind);
    report.note(format!("{kind}: {} lines gone, {} told", tally.lost, missing(racks)));
    racks.pipeline.set_quiet(false);
    racks.until_answers(LINES)?;
    racks.settle()
}

/// The journal is on the server: effects stop until the store is whole again, and then nothing is lost.
fn journal(racks: &mut Racks, server: &mut Server, report: &mut Report) -> Result<(), String> {
    racks.start_all()?;
    racks.until_answers(LINES)?;
    let copies = Place::new()?;
    let (early, whole) = (copies.path().join("early"), copies.path().join("whole"));
    server.stop()?;
    copy(server.store(), &early)?;
    server.restart()?;
    racks.until_answers(LINES)?;
    server.kill();
    copy(server.store(), &whole)?;
    replace(server.store(), &early)?;
    server.restart()?;
    racks.until("a stream without its end is not noticed", |racks| {
        racks.log(0).contains("found it to end at sequence")
    })?;
    let before = racks.pipeline.feeders().acked();
    wait::pass(CALM);
    let more = racks.pipeline.feeders().acked() - before;
    if more > 0 {
        return Err(format!("{more} lines acknowledged over a stream without its end: {}", racks.log(0)));
    }
    report.fired(KINDS[2]);
    racks.pipeline.set_quiet(true);
    racks.kill(0);
    match racks.rack(0).start(&Wrap::default())? {
        Started::Ended(status, log) if !status.success() && log.contains("which were acked; remedy") => {}
        Started::Ended(status, log) => return Err(format!("it ended with {status}, and does not say why: {log}")),
        Started::Ready(_) => return Err("a rack starts on a journal without its end".to_owned()),
    }
    report.fired(KINDS[3]);
    server.stop()?;
    replace(server.store(), &whole)?;
    server.restart()?;
    racks.start_all()?;
    racks.until_answers(LINES)
}

/// What `edge` has to publish and has not had acked.
fn waiting(racks: &Racks, idx: usize) -> Result<u64, String> {
    let top = racks.rack(idx).top()?;
    let wires = top["wires"].as_array().into_iter().flatten();
    let to_bus = wires.filter(|wire| wire["name"].as_str().is_some_and(|name| name.contains("->bus-out-")));
    Ok(to_bus.filter_map(|wire| wire["depth"].as_u64()).sum())
}

/// How often `core` has found messages missing.
fn missing(racks: &Racks) -> u64 {
    ["never arrived", "unexplained"].into_iter().filter_map(|label| racks.rack(1).counted(&[label]).ok()).sum()
}

fn replace(store: &Path, by: &Path) -> Result<(), String> {
    std::fs::remove_dir_all(store).map_err(tried("the store"))?;
    copy(by, store)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::create_dir_all(to).map_err(tried("a copy of the store"))?;
    for entry in std::fs::read_dir(from).map_err(tried("the store"))? {
        let path: PathBuf = entry.map_err(tried("the store"))?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        match path.is_dir() {
            true => copy(&path, &target)?,
            false => drop(std::fs::copy(&path, &target).map_err(tried("a file of the store"))?),
        }
    }
    Ok(())
}
