//! F8: the process stands still for seconds, or for longer than every deadline in it, and goes on.

use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::payments::{Payments, SCENARIO};
use fluxrig_tests::outside::pipeline::Pipeline;
use fluxrig_tests::outside::session::Session;
use fluxrig_tests::outside::{World, wait};
use rustix::process::Signal;

use super::class::{Ask, Report, Stop};

const SLICE: Duration = Duration::from_secs(2);
/// Longer than the switch's ten seconds and a terminal's patience.
const FULL_SECS: std::ops::Range<u64> = 30..60;
/// Time passes for what the switch remembers while it stands still, and repeats are asked for afterwards.
const REMEMBERED: (&str, &str) =
    ("      timeout_ms: 10000\n", "      timeout_ms: 10000\n      repeats: { window_ms: 300000 }\n");

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    report.expect("pause");
    let payments = rounds.div_ceil(2);
    let scenario = SCENARIO.replacen(REMEMBERED.0, REMEMBERED.1, 1);
    world(Payments::with(&scenario, &ask.daemon, None, chance)?, ask, payments, chance, report)?;
    world(Pipeline::new(&ask.daemon, None, chance)?, ask, rounds - payments, chance, report)
}

fn world<W: World>(world: W, ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    let mut session = Session::new(world);
    let outcome = pauses(&mut session, ask, rounds, chance, report);
    report.session(&mut session);
    Ok(outcome?)
}

fn pauses<W: World>(
    session: &mut Session<W>,
    ask: &Ask,
    rounds: u64,
    chance: &mut Chance,
    report: &mut Report,
) -> Result<(), String> {
    session.start(1)?;
    for _ in 0..rounds {
        session.until_answers(chance.below(200))?;
        let full = FULL_SECS.start + chance.below(FULL_SECS.end - FULL_SECS.start);
        let time = if ask.is_slice { SLICE } else { Duration::from_secs(full) };
        session.daemon()?.signal(Signal::STOP);
        wait::pass(time);
        if !session.daemon()?.is_stopped()? {
            return Err("the rack ran while it was to stand still: somebody else continued it".to_owned());
        }
        session.daemon()?.signal(Signal::CONT);
        report.fired("pause");
        report.note(format!("stood still for {time:?}"));
        session.until_answers(100)?;
        session.settle()?;
        session.world.set_quiet(false);
    }
    session.end()
}
