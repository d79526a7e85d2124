//! F4 on the other side: the file system of the server's store is full, on a small tmpfs in a mount namespace of our own.
//! Wires wait and say so, a journal on it closes the doors, and all goes on when there is room and the server starts anew.

use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::nats::{Server, Wanted};
use fluxrig_tests::outside::place::Place;
use fluxrig_tests::outside::racks::Racks;
use fluxrig_tests::outside::wait;

use super::class::{Ask, Report, Stop};
use super::full::Disk;
use super::on_bus::{on_one, program, world};

pub(crate) const NAME: &str = "server-full";

/// Of the tmpfs.
const MIB: u64 = 48;
/// For so long nothing more comes in, or else it has not noticed.
const CALM: Duration = Duration::from_millis(700);

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    let program = program()?;
    report.expect("full, and the wire waits");
    report.expect("full, and the journal's doors close");
    let place = Place::new()?;
    let disk = Disk::mount(place.path().join("disk"), MIB)?;
    let wanted = Wanted { store: Some(disk.path().join("store")), ..Wanted::default() };
    let mut server = Server::start(&program, &wanted)?;
    let on = on_one(&server, vec![server.url()]);
    let two = rounds.div_ceil(2);
    let racks = Racks::two(&ask.daemon, &on, chance)?;
    world(racks, report, |racks, report| faults(racks, &mut server, &disk, two, report))?;
    let racks = Racks::on_stream(&ask.daemon, &on, chance)?;
    world(racks, report, |racks, report| faults(racks, &mut server, &disk, rounds - two, report))
}

fn faults(racks: &mut Racks, server: &mut Server, disk: &Disk, rounds: u64, report: &mut Report) -> Result<(), String> {
    racks.start_all()?;
    (0..rounds).try_for_each(|_| full(racks, server, disk, report))
}

fn full(racks: &mut Racks, server: &mut Server, disk: &Disk, report: &mut Report) -> Result<(), String> {
    racks.until_answers(100)?;
    // What the server gives back it gets not again.
    match racks.count() {
        1 => {
            let mut last = 0;
            racks.until("still answers on a full server", |racks| {
                wait::pass(CALM);
                let before = std::mem::replace(&mut last, racks.pipeline.feeders().acked());
                disk.fill().is_ok() && last == before
            })?;
            report.fired("full, and the journal's doors close");
        }
        _ => {
            racks.until("a full server, and no wire waits", |racks| disk.fill().is_ok() && is_waiting(racks))?;
            report.fired("full, and the wire waits");
        }
    }
    disk.free()?;
    // A server that could not write its store goes on only after a new start.
    server.kill();
    server.restart()?;
    racks.until_answers(50)?;
    racks.settle()
}

/// Whether `edge` says that its wire waits for the bus.
fn is_waiting(racks: &Racks) -> bool {
    let top = racks.rack(0).top().unwrap_or_default();
    top["bus"]["waiting"].as_array().is_some_and(|wires| !wires.is_empty())
}
