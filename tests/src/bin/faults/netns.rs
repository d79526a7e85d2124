//! Partitions by network namespaces: the server stands at the far end of one link per rack, and a link loses what is sent,
//! what would be heard, or both. Nothing is refused or reset. On two racks, on one with its journal there, on a pair.

use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::links::{Links, Loss};
use fluxrig_tests::outside::nats::{Far, Server, Wanted};
use fluxrig_tests::outside::racks::OnBus;
use fluxrig_tests::outside::{Outcome, wait};
use tokio::time::Instant;

use super::class::{Ask, Report, Stop};
use super::on_bus::{Rounds, away, kill_rack, program};
use super::pair::{Fence, LEASE, Node, Pair};

pub(crate) const NAME: &str = "netns";

/// Everything is judged after so many faults.
const JUDGED_EVERY: u64 = 6;
/// Shorter ones nobody would notice.
const NOTICED_MIN: Duration = Duration::from_millis(200);
/// Somebody sends by then: connections are looked at every five seconds.
const LOST_MAX: Duration = Duration::from_secs(20);
/// With the shortest, and what is sent again and again before it gets through: less than two thirds of a lease.
const SHORT_MAX: Duration = Duration::from_millis(300);
/// A holder stays cut off for up to so long after it was replaced.
const BEHIND_MAX: Duration = Duration::from_secs(3);
/// The fault falls up to this long after some answers.
const LOAD_MAX: Duration = Duration::from_millis(300);

/// What a link loses, and how a report calls it.
const LOSSES: [(Loss, &str); 3] =
    [(Loss::Heard, "nothing is heard"), (Loss::Sent, "nothing is sent"), (Loss::Both, "neither is")];

/// What is cut off in a pair, in turn.
const CUTS: [Cut; 7] = [
    Cut { kind: "holder deaf for long", loss: Loss::Heard, of: Of::HolderLong },
    Cut { kind: "holder mute for long", loss: Loss::Sent, of: Of::HolderLong },
    Cut { kind: "holder away for long", loss: Loss::Both, of: Of::HolderLong },
    Cut { kind: "stand-by away for long", loss: Loss::Both, of: Of::Standby },
    Cut { kind: "holder deaf for a moment", loss: Loss::Heard, of: Of::HolderShort },
    Cut { kind: "holder mute for a moment", loss: Loss::Sent, of: Of::HolderShort },
    Cut { kind: "holder away for a moment", loss: Loss::Both, of: Of::HolderShort },
];

struct Cut {
    kind: &'static str,
    loss: Loss,
    of: Of,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// For longer than its lease.
    HolderLong,
    HolderShort,
    Standby,
}

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    let program = program()?;
    // The first one is the suite's own, which is never cut.
    let links = Links::new(3)?;
    let far = Far { before: links.before(), address: links.address(0) };
    let wanted = Wanted { far: Some(far), ..Wanted::default() };
    let on_pair = rounds.div_ceil(3);
    let server = Server::start(&program, &wanted)?;
    pair(Pair::new(&on_links(&server, &links), ask, chance)?, &links, on_pair, chance, report)?;
    // Another one, since the racks have the same names.
    let server = Server::start(&program, &wanted)?;
    let on = on_links(&server, &links);
    let rounds = Rounds { ask, on: &on, count: rounds - on_pair, judged_every: JUDGED_EVERY };
    LOSSES.iter().zip(0..rounds.count).for_each(|((_, kind), _)| report.expect(kind));
    rounds.run(chance, report, |racks, round, chance, report| {
        let (loss, kind) = LOSSES[(round % LOSSES.len() as u64) as usize];
        // One of them, or all.
        let count = racks.count() as u64;
        let only = chance.below(count + 1);
        let meant: Vec<u8> = (0..count).filter(|idx| only == count || *idx == only).map(|idx| idx as u8 + 1).collect();
        meant.iter().try_for_each(|idx| links.lose(*idx, loss))?;
        wait::pass(NOTICED_MIN + away(ask, chance));
        heal(&links, &meant, loss)?;
        report.fired(kind);
        if chance.percent(20) {
            kill_rack(racks, chance, report)?;
        }
        racks.until_answers(1)
    })
}

/// Ends a cut that has lost something by then: one that loses nothing is none.
fn heal(links: &Links, meant: &[u8], loss: Loss) -> Outcome {
    let lost = || meant.iter().map(|idx| links.lost(*idx, loss)).sum::<Outcome<u64>>();
    if !wait::until(LOST_MAX, || lost().is_ok_and(|packets| packets > 0)) {
        return Err(format!("links {meant:?} lose nothing within {LOST_MAX:?}: {:?}", lost()));
    }
    meant.iter().try_for_each(|idx| links.heal(*idx, loss))
}

/// The server, over a link of its own for each rack.
fn on_links(server: &Server, links: &Links) -> OnBus {
    let own = links.address(0).to_string();
    let [url, monitor] = [server.url(), server.monitor_url()].map(|url| url.replace(&own, "${BUS}"));
    let bus = format!("{{ servers: [\"{url}\"], monitor_url: \"{monitor}\" }}");
    OnBus { bus, durability: "flush", urls: [1, 2].map(|idx| links.address(idx).to_string()).to_vec() }
}

fn pair(mut pair: Pair, links: &Links, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    CUTS.iter().zip(0..rounds).for_each(|(cut, _)| report.expect(cut.kind));
    let outcome = cuts(&mut pair, links, rounds, chance, report);
    pair.judge(outcome, &CUTS.map(|cut| cut.kind), report)
}

fn cuts(pair: &mut Pair, links: &Links, rounds: u64, chance: &mut Chance, report: &mut Report) -> Outcome {
    let mut holder = pair.begin()?;
    let mut standby = pair.start(1, true)?;
    for (_, cut) in (0..rounds).zip(CUTS.iter().cycle()) {
        pair.until_answers(&holder, 1 + chance.zipf(300))?;
        wait::pass(chance.time(LOAD_MAX));
        match replaced(pair, cut, links, [&holder, &standby], chance, report)? {
            None => pair.settle(&holder)?,
            Some(fence) => {
                Pair::until_fenced(&mut holder)?;
                pair.count_after(&fence, &holder);
                pair.settle(&standby)?;
                let gone = std::mem::replace(&mut holder, standby);
                standby = pair.start(gone.idx, true)?;
            }
        }
    }
    drop(standby);
    pair.end(holder)
}

/// One cut and its end: the fence of the holder, if the stand-by has taken its place.
fn replaced(
    pair: &mut Pair,
    cut: &Cut,
    links: &Links,
    [holder, standby]: [&Node; 2],
    chance: &mut Chance,
    report: &mut Report,
) -> Outcome<Option<Fence>> {
    let link = (if cut.of == Of::Standby { standby.idx } else { holder.idx }) as u8 + 1;
    let since = Instant::now();
    links.lose(link, cut.loss)?;
    let mut fence = None;
    match cut.of {
        Of::HolderLong => {
            fence = Some(pair.until_taken_over(cut.kind, since, holder, standby)?);
            wait::pass(chance.time(BEHIND_MAX));
        }
        Of::HolderShort => wait::pass(NOTICED_MIN + chance.time(SHORT_MAX)),
        Of::Standby => {
            wait::pass(LEASE + chance.time(LEASE));
            // Nobody needs it.
            pair.until_answers(holder, 50)?;
        }
    }
    heal(links, &[link], cut.loss)?;
    report.fired(cut.kind);
    // On a slow machine a moment may be longer than it was meant.
    if cut.of == Of::HolderShort && pair.is_replaced(holder, standby)? {
        fence = Some(pair.until_taken_over(cut.kind, since, holder, standby)?);
    }
    Ok(fence)
}
