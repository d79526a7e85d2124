//! F14: peers that reset their connections: inside a length, between it and the message, inside the message, and as a
//! bank with requests open. The others do not notice, the connection is made again, and the ledgers agree.

use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::payments::Payments;
use fluxrig_tests::outside::pipeline::Pipeline;
use fluxrig_tests::outside::session::Session;
use fluxrig_tests::outside::{World, wait};

use super::class::{Ask, Report, Stop};

/// So many resets come within this time, or peers are not rude.
const RESETS_MAX: Duration = Duration::from_secs(120);
/// Everything is judged after so many resets.
const JUDGED_EVERY: u64 = 100;

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    let payments = rounds / 2;
    world(Payments::new(&ask.daemon, None, chance)?, payments, report)?;
    world(Pipeline::new(&ask.daemon, None, chance)?, rounds - payments, report)
}

fn world<W: World>(world: W, rounds: u64, report: &mut Report) -> Result<(), Stop> {
    let mut session = Session::new(world);
    report.expect(session.world.name());
    let outcome = resets(&mut session, rounds);
    report.fired_times(session.world.name(), session.world.rudeness());
    report.session(&mut session);
    Ok(outcome?)
}

fn resets<W: World>(session: &mut Session<W>, rounds: u64) -> Result<(), String> {
    session.start(1)?;
    while session.world.rudeness() < rounds {
        let enough = rounds.min(session.world.rudeness() + JUDGED_EVERY);
        session.world.set_quiet(false);
        session.world.set_rude(true);
        if !wait::until(RESETS_MAX, || session.world.rudeness() >= enough) {
            return Err(format!("only {} resets: {}", session.world.rudeness(), session.log()));
        }
        session.world.set_rude(false);
        // Those who are polite again are served again.
        session.until_answers(50)?;
        session.settle()?;
    }
    // Each of them has a reason in the rack's own figures.
    let (broken, mut counted) = (session.world.rudeness(), 0);
    for reason in ["\"failed\"", "\"truncated\"", "\"peer\""] {
        counted += session.rack().counted(&["fluxrig_gear_count_total", "connections_closed", reason])?;
    }
    if counted < broken {
        return Err(format!("{counted} connections are counted as closed by the peer, and peers broke {broken}"));
    }
    session.end()
}
