//! F4: the file system of the data directory is full, and later read-only: a small tmpfs in a mount namespace of our
//! own. Doors close, nothing is lost, and all goes on when there is room again.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::daemon::{Wrap, said};
use fluxrig_tests::outside::payments::Payments;
use fluxrig_tests::outside::pipeline::Pipeline;
use fluxrig_tests::outside::place::{self, Place};
use fluxrig_tests::outside::session::Session;
use fluxrig_tests::outside::{World, tried, wait};

use super::class::{Ask, Report, Stop};

pub(crate) const NAME: &str = "full";

/// Of the tmpfs.
const MIB: u64 = 16;
/// A rack on a full disk has noticed after this.
const NOTICE_MAX: Duration = Duration::from_secs(30);
/// For so long nothing more comes in, or else it has not noticed.
const CALM: Duration = Duration::from_millis(700);

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    report.expect("full");
    report.expect("read-only");
    let place = Place::new()?;
    let disk = Disk::mount(place.path().join("disk"), MIB)?;
    let pipeline = rounds.div_ceil(2);
    world(Pipeline::new(&ask.daemon, Some(&disk.0), chance)?, &disk, pipeline, chance, report)?;
    world(Payments::new(&ask.daemon, Some(&disk.0), chance)?, &disk, rounds - pipeline, chance, report)
}

fn world<W: World>(world: W, disk: &Disk, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    let mut session = Session::new(world);
    let mut outcome = session.start(1);
    for round in 0..rounds {
        outcome = outcome.and_then(|()| full(&mut session, disk, round, chance, report));
    }
    outcome = outcome.and_then(|()| session.end()).and_then(|()| read_only(&mut session, disk, report));
    report.session(&mut session);
    disk.set_writable(true)?;
    Ok(outcome?)
}

fn full<W: World>(
    session: &mut Session<W>,
    disk: &Disk,
    round: u64,
    chance: &mut Chance,
    report: &mut Report,
) -> Result<(), String> {
    session.until_answers(chance.below(500))?;
    disk.fill()?;
    let mut last = session.world.progress();
    let is_calm = wait::until(NOTICE_MAX, || {
        wait::pass(CALM);
        // The rack trims what it needs no more, and that room is no more than anybody else's.
        let is_filled = disk.fill().is_ok();
        let before = std::mem::replace(&mut last, session.world.progress());
        is_filled && last == before
    });
    if !is_calm {
        return Err(format!("still {last} promises and more on a full disk: {}", session.log()));
    }
    report.fired("full");
    if let Some(status) = session.daemon()?.ended() {
        return Err(format!("the rack ended with {status} on a full disk: {}", session.log()));
    }
    // Whatever else is closed: a door for requests says that it is the disk.
    let top = session.rack().top()?;
    let is_told = top["doors"].as_array().is_some_and(|doors| doors.iter().any(|door| door["state"] == "disk"));
    if !is_told && top["journal"]["is_degraded"] != true {
        return Err(format!("a full disk, and no door says so: {} {}", top["doors"], top["journal"]));
    }
    if round % 3 == 2 {
        session.kill();
        report.fired("killed on a full disk");
        session.rack().verify()?;
        // It may start or say that it may work later, and nothing else.
        match session.start_under(&Wrap::default())? {
            Some((status, log)) if status.code() != Some(75) => {
                return Err(format!("a start on a full disk ended with {status}, expected 75: {log}"));
            }
            Some(_) => report.fired("refused a start on a full disk"),
            None => report.fired("started on a full disk"),
        }
        disk.free()?;
        session.kill();
        session.start(1)?;
    }
    disk.free()?;
    session.until_answers(50)?;
    session.settle()?;
    session.world.set_quiet(false);
    Ok(())
}

/// A data directory that cannot be written is refused with 73 and left as it is; whoever only looks still can.
fn read_only<W: World>(session: &mut Session<W>, disk: &Disk, report: &mut Report) -> Result<(), String> {
    session.world.set_quiet(true);
    disk.set_writable(false)?;
    let mut command = Command::new(&session.rack().binary);
    let rack = session.rack();
    command.envs(rack.variables.iter().cloned()).arg("run").arg(&rack.scenario).arg("--data-dir").arg(&rack.data_dir);
    let output = command.output().map_err(tried("a start"))?;
    let text = said(&output);
    if output.status.code() != Some(73) || !text.contains("remedy") {
        return Err(format!("a start on a read-only disk ended with {}, expected 73: {text}", output.status));
    }
    report.fired("read-only");
    session.rack().verify().map_err(|error| format!("on a read-only disk: {error}"))?;
    disk.set_writable(true)?;
    session.start(50)?;
    session.end()
}

/// A tmpfs, there as long as the value.
pub(crate) struct Disk(PathBuf);

impl Disk {
    pub(crate) fn mount(at: PathBuf, mib: u64) -> Result<Self, String> {
        std::fs::create_dir_all(&at).map_err(tried("the mount point"))?;
        mount(&["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"], &at)?;
        place::mounted(&at);
        Ok(Self(at))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) -> Result<(), String> {
        let mut file = File::options().create(true).append(true).open(self.filler()).map_err(tried("the filler"))?;
        for bytes in [64 << 10, 4096, 1] {
            let chunk = vec![1; bytes];
            // Until the system says that there is no more.
            while file.write(&chunk).is_ok_and(|written| written > 0) {}
        }
        Ok(())
    }

    pub(crate) fn free(&self) -> Result<(), String> {
        if self.filler().exists() { std::fs::remove_file(self.filler()).map_err(tried("the filler")) } else { Ok(()) }
    }

    fn set_writable(&self, is_writable: bool) -> Result<(), String> {
        mount(&["-o", if is_writable { "remount,rw" } else { "remount,ro" }], &self.0)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        place::unmount(&self.0);
    }
}

fn mount(arguments: &[&str], at: &Path) -> Result<(), String> {
    let output = Command::new("mount").args(arguments).arg(at).output().map_err(tried("mount"))?;
    if output.status.success() { Ok(()) } else { Err(format!("mount {arguments:?}: {}", said(&output))) }
}
