//! F9, F12: what lies between a rack and the server stands still without a word, or cuts every connection, for one rack
//! or for all. By a proxy of the suite's own, so that it needs no rights on the machine.

use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::nats::{Server, Wanted};
use fluxrig_tests::outside::proxy::{Proxy, Way};
use fluxrig_tests::outside::wait;

use super::class::{Ask, Report, Stop};
use super::on_bus::{Rounds, away, kill_rack, on_one, program};

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
    let all = [Proxy::to(server.address())?, Proxy::to(server.address())?];
    let on = on_one(&server, all.iter().map(Proxy::url).collect());
    let rounds = Rounds { ask, on: &on, count: rounds, judged_every: JUDGED_EVERY };
    rounds.run(chance, report, |racks, round, chance, report| {
        let proxies = &all[..racks.count()];
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
        racks.until_answers(1)
    })?;
    let passed: u64 = all.iter().map(Proxy::bytes).sum();
    let connections: u64 = all.iter().map(Proxy::connections).sum();
    report.note(format!("by proxy: {} KiB over {connections} connections", passed >> 10));
    Ok(())
}
