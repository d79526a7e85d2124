//! F9, F12: what lies between a rack and the server stands still without a word, or cuts every connection, for one rack
//! or for all. By a proxy of the suite's own, so that it needs no rights on the machine.

use std::ops::Range;
use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::nats::{Server, Wanted};
use fluxrig_tests::outside::proxy::{Proxy, Way};
use fluxrig_tests::outside::racks::Racks;
use fluxrig_tests::outside::wait;

use super::class::{Ask, Report, Stop};
use super::server::{away, kill_rack, on_one, program};

/// Everything is judged after so many faults.
const JUDGED_EVERY: u64 = 6;
/// Shorter ones nobody would notice.
const NOTICED_MIN: Duration = Duration::from_millis(200);

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    let program = program()?;
    for kind in ["stood still", "cut"] {
        report.expect(kind);
    }
    let server = Server::start(&program, &Wanted::default())?;
    let proxies = [Proxy::to(server.address())?, Proxy::to(server.address())?];
    let on = on_one(&server, proxies.iter().map(Proxy::url).collect());
    let two = rounds.div_ceil(2);
    world(Racks::two(&ask.daemon, &on, chance)?, &proxies, ask, 0..two, chance, report)?;
    world(Racks::on_stream(&ask.daemon, &on, chance)?, &proxies[..1], ask, two..rounds, chance, report)?;
    let passed: u64 = proxies.iter().map(Proxy::bytes).sum();
    let connections: u64 = proxies.iter().map(Proxy::connections).sum();
    report.note(format!("by proxy: {} KiB over {connections} connections", passed >> 10));
    Ok(())
}

fn world(
    mut racks: Racks,
    proxies: &[Proxy],
    ask: &Ask,
    rounds: Range<u64>,
    chance: &mut Chance,
    report: &mut Report,
) -> Result<(), Stop> {
    let outcome = faults(&mut racks, proxies, ask, rounds, chance, report).and_then(|()| racks.end());
    report.tally(std::mem::take(&mut racks.tally));
    Ok(outcome?)
}

fn faults(
    racks: &mut Racks,
    proxies: &[Proxy],
    ask: &Ask,
    rounds: Range<u64>,
    chance: &mut Chance,
    report: &mut Report,
) -> Result<(), String> {
    racks.start_all()?;
    racks.until_answers(1)?;
    for round in rounds {
        racks.until_answers(chance.zipf(300))?;
        let (way, kind) = if round % 2 == 0 { (Way::Still, "stood still") } else { (Way::Cut, "cut") };
        // One of them, or all.
        let only = chance.below(proxies.len() as u64 + 1) as usize;
        let meant = || proxies.iter().enumerate().filter(|(idx, _)| only == proxies.len() || *idx == only);
        meant().for_each(|(_, proxy)| proxy.set(way));
        wait::pass(NOTICED_MIN + away(ask, chance));
        meant().for_each(|(_, proxy)| proxy.set(Way::Open));
        report.fired(kind);
        if chance.percent(20) {
            kill_rack(racks, chance, report)?;
        }
        racks.until_answers(1)?;
        if round % JUDGED_EVERY == JUDGED_EVERY - 1 {
            racks.settle()?;
        }
    }
    Ok(())
}
