//! Take-overs: a holder and its stand-by over one `nats-server`; the holder is killed, stands still for longer than its
//! lease, or stops in order, and the stand-by goes on with all of it. Terminals and bank are outside.

use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::nats::{Server, Wanted};
use fluxrig_tests::outside::{Outcome, wait};
use rustix::process::Signal;
use tokio::time::Instant;

use super::class::{Ask, Report, Stop};
use super::on_bus::{on_one, program};
use super::pair::{Node, Pair, TAKE_OVER_MAX};

/// How the holder goes, in turn.
const KINDS: [&str; 3] = ["kill", "pause", "stop"];
/// The fault falls up to this long after some answers.
const LOAD_MAX: Duration = Duration::from_millis(300);

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    let program = program()?;
    KINDS.iter().take(usize::try_from(rounds).unwrap_or(usize::MAX)).for_each(|kind| report.expect(kind));
    let server = Server::start(&program, &Wanted::default())?;
    let mut pair = Pair::new(&on_one(&server, vec![server.url()]), ask, chance)?;
    let outcome = take_overs(&mut pair, rounds, chance, report);
    pair.judge(outcome, &KINDS, report)?;
    // A slice runs beside everything else that CI does.
    let longest = pair.figures.times.iter().map(|time| time.answered).max().unwrap_or_default();
    if !ask.is_slice && longest > TAKE_OVER_MAX {
        return Err(Stop::Broken(format!("a take-over took {longest:?}, expected at most {TAKE_OVER_MAX:?}")));
    }
    Ok(())
}

fn take_overs(pair: &mut Pair, rounds: u64, chance: &mut Chance, report: &mut Report) -> Outcome {
    let mut holder = pair.begin()?;
    for (_, kind) in (0..rounds).zip(KINDS.iter().cycle()) {
        let standby = pair.start(1 - holder.idx, true)?;
        pair.until_answers(&standby, 1 + chance.zipf(300))?;
        wait::pass(chance.time(LOAD_MAX));
        take_over(pair, kind, holder, &standby)?;
        report.fired(kind);
        pair.settle(&standby)?;
        holder = standby;
    }
    pair.end(holder)
}

/// The holder goes, the stand-by answers.
fn take_over(pair: &mut Pair, kind: &'static str, mut holder: Node, standby: &Node) -> Outcome {
    let since = Instant::now();
    holder.daemon.signal(match kind {
        "kill" => Signal::KILL,
        "pause" => Signal::STOP,
        _ => Signal::TERM,
    });
    let fence = pair.until_taken_over(kind, since, &holder, standby)?;
    if kind == "pause" {
        holder.daemon.signal(Signal::CONT);
        Pair::until_fenced(&mut holder)?;
    }
    pair.count_after(&fence, &holder);
    if kind == "stop" { holder.daemon.terminate() } else { Ok(()) }
}
