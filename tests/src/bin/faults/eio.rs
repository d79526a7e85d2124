//! F3: the disk refuses to write or to flush, by strace on the running rack: once in each thread, or all the time until
//! strace lets go. While nothing can be made durable nothing may be promised; afterwards the rack goes on by itself.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::payments::Payments;
use fluxrig_tests::outside::pipeline::Pipeline;
use fluxrig_tests::outside::place::{self, Place};
use fluxrig_tests::outside::session::Session;
use fluxrig_tests::outside::{World, tried, wait};
use rustix::process::Signal;

use super::class::{Ask, Report, Stop, needs_strace};

/// One way of failing: the call, the error, whether once in each thread, and whether it leaves nothing durable.
struct Failure {
    name: &'static str,
    inject: &'static str,
    is_total: bool,
}

const FAILURES: &[Failure] = &[
    Failure { name: "fdatasync EIO once", inject: "fdatasync:error=EIO:when=1", is_total: false },
    Failure { name: "fdatasync EIO", inject: "fdatasync:error=EIO", is_total: true },
    Failure { name: "pwrite64 EIO once", inject: "pwrite64:error=EIO:when=1", is_total: false },
    Failure { name: "pwrite64 EIO", inject: "pwrite64:error=EIO", is_total: true },
    Failure { name: "pwrite64 ENOSPC", inject: "pwrite64:error=ENOSPC", is_total: true },
    Failure { name: "fdatasync ENOSPC once", inject: "fdatasync:error=ENOSPC:when=2", is_total: false },
];

const FIRED_MAX: Duration = Duration::from_secs(20);
/// What was under way when the first call failed has left after this.
const CALM: Duration = Duration::from_millis(200);
/// For so long nothing may be promised.
const WATCHED: Duration = Duration::from_millis(400);

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    let place = Place::new()?;
    needs_strace(&place.path().join("strace"))?;
    FAILURES.iter().take(usize::try_from(rounds).unwrap_or(usize::MAX)).for_each(|failure| report.expect(failure.name));
    let pipeline = rounds.div_ceil(2);
    let notes = place.path().join("strace");
    world(Pipeline::new(&ask.daemon, None, chance)?, 0..pipeline, &notes, chance, report)?;
    world(Payments::new(&ask.daemon, None, chance)?, pipeline..rounds, &notes, chance, report)
}

fn world<W: World>(
    world: W,
    rounds: std::ops::Range<u64>,
    notes: &Path,
    chance: &mut Chance,
    report: &mut Report,
) -> Result<(), Stop> {
    let mut session = Session::new(world);
    let mut outcome = session.start(1);
    for round in rounds {
        if outcome.is_ok() {
            let failure = &FAILURES[round as usize % FAILURES.len()];
            outcome = fail(&mut session, failure, notes, chance, report);
            outcome = outcome.map_err(|error| format!("{}: {error}", failure.name));
        }
    }
    let outcome = outcome.and_then(|()| session.end());
    report.session(&mut session);
    Ok(outcome?)
}

fn fail<W: World>(
    session: &mut Session<W>,
    failure: &Failure,
    notes: &Path,
    chance: &mut Chance,
    report: &mut Report,
) -> Result<(), String> {
    session.until_answers(20)?;
    let strace = Strace::on(session.daemon()?.pid(), failure.inject, notes)?;
    if !wait::until(FIRED_MAX, || strace.has_fired()) {
        return Err(format!("no call failed within {FIRED_MAX:?}"));
    }
    report.fired(failure.name);
    if failure.is_total {
        wait::pass(CALM);
        let before = session.world.progress();
        wait::pass(WATCHED);
        let after = session.world.progress();
        if after != before {
            return Err(format!("{} promises left while nothing could be made durable", after - before));
        }
    }
    if let Some(status) = session.daemon()?.ended() {
        return Err(format!("the rack ended with {status}, expected it to go on degraded: {}", session.log()));
    }
    if chance.percent(30) {
        session.kill();
        drop(strace);
        session.rack().verify()?;
        report.fired("killed while it failed");
        session.start(20)?;
    } else {
        drop(strace);
    }
    // It has to find by itself that the disk can be written again.
    session.until_answers(50)?;
    session.settle()?;
    session.world.set_quiet(false);
    Ok(())
}

/// strace on a process that runs; it lets go when dropped.
struct Strace {
    child: Child,
    notes: PathBuf,
}

impl Strace {
    fn on(pid: u32, inject: &str, notes: &Path) -> Result<Self, String> {
        drop(std::fs::remove_file(notes));
        let call = inject.split(':').next().unwrap_or(inject);
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", &format!("trace={call}"), "-e", &format!("inject={inject}")]);
        command.arg("-o").arg(notes).args(["-p", &pid.to_string()]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().map_err(tried("strace"))?;
        Ok(Self { child, notes: notes.to_owned() })
    }

    fn has_fired(&self) -> bool {
        std::fs::read_to_string(&self.notes).is_ok_and(|notes| notes.contains("(INJECTED)"))
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // It detaches by itself on SIGTERM; the process below it goes on.
        place::signal(self.child.id(), Signal::TERM);
        drop(self.child.wait());
    }
}
