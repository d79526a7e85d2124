//! F1: `kill -9` at random moments under load, in start-up and in recovery, on both topologies.

use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::payments::Payments;
use fluxrig_tests::outside::pipeline::Pipeline;
use fluxrig_tests::outside::session::Session;
use fluxrig_tests::outside::{World, wait};

use super::class::{Ask, Report, Stop};

/// Everything is judged after so many kills.
const JUDGED_EVERY: u64 = 20;
/// A kill under load falls up to this long after some answers.
const LOAD_MAX: Duration = Duration::from_millis(120);
/// A start takes about this long.
const START_MAX: Duration = Duration::from_millis(60);

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    report.expect("under load");
    report.expect("in start-up");
    let payments = rounds / 2;
    world(Payments::new(&ask.daemon, None, chance)?, payments, chance, report)?;
    world(Pipeline::new(&ask.daemon, None, chance)?, rounds - payments, chance, report)
}

fn world<W: World>(world: W, kills: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    let mut session = Session::new(world);
    let outcome = kills_of(&mut session, kills, LOAD_MAX, chance, report).and_then(|()| session.end());
    report.session(&mut session);
    Ok(outcome?)
}

/// Kills it so often, each up to `load` after some answers.
pub(crate) fn kills_of<W: World>(
    session: &mut Session<W>,
    kills: u64,
    load: Duration,
    chance: &mut Chance,
    report: &mut Report,
) -> Result<(), String> {
    session.start(1)?;
    let (mut done, mut judged) = (0, 0);
    while done < kills {
        session.until_answers(chance.zipf(300))?;
        wait::pass(chance.time(load));
        session.kill();
        report.fired("under load");
        done += 1;
        while done < kills && chance.percent(40) {
            session.start_and_kill(chance.time(START_MAX))?;
            report.fired("in start-up");
            done += 1;
        }
        session.rack().verify()?;
        session.start(1)?;
        if done - judged >= JUDGED_EVERY {
            judged = done;
            session.settle()?;
            session.world.set_quiet(false);
        }
    }
    Ok(())
}
