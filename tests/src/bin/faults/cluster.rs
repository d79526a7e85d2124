//! Three servers that flush nothing by themselves keep three copies (`durability: replicated`), and one after the other is
//! killed under load: the other two go on.

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::nats::{Cluster, Wanted};
use fluxrig_tests::outside::racks::OnBus;
use fluxrig_tests::outside::wait;

use super::class::{Ask, Report, Stop};
use super::on_bus::{Rounds, away, kill_rack, program};

/// Everything is judged after so many faults.
const JUDGED_EVERY: u64 = 6;

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    let program = program()?;
    report.expect("one of three killed");
    let mut cluster = Cluster::start(&program, &Wanted { is_lazy: true, ..Wanted::default() })?;
    let urls: Vec<String> = cluster.urls().iter().map(|url| format!("\"{url}\"")).collect();
    let bus = format!("{{ servers: [{}], replicas: 3 }}", urls.join(", "));
    let on = OnBus { bus, durability: "replicated", urls: Vec::new() };
    let rounds = Rounds { ask, on: &on, count: rounds, judged_every: JUDGED_EVERY };
    rounds.run(chance, report, |racks, round, chance, report| {
        let idx = (round % 3) as usize;
        cluster.servers[idx].kill();
        report.fired("one of three killed");
        // With the two that are left everything goes on.
        racks.until_answers(50)?;
        if !ask.is_slice && chance.percent(25) {
            kill_rack(racks, chance, report)?;
            racks.until_answers(1)?;
        }
        wait::pass(away(ask, chance) / 4);
        cluster.servers[idx].spawn()?;
        // A minority is away at any time: the next one is killed when this one has caught up.
        cluster.until_healthy()
    })
}
