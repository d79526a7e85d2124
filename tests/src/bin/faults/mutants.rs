//! The teeth of the suite: a rack with one rule broken on purpose must not pass `kill -9`, or a mistake would pass as well.

use std::time::Duration;

use fluxrig_actors::mutants::{Mutation, set};
use fluxrig_tests::outside::World;
use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::daemon::RackAt;
use fluxrig_tests::outside::payments::Payments;
use fluxrig_tests::outside::pipeline::Pipeline;
use fluxrig_tests::outside::session::Session;

use super::class::{Ask, Report};
use super::kill;

/// Tells the rack of this program which rule it breaks.
const VARIABLE: &str = "FLUXRIG_MUTANT";
/// Those that a process which is killed shows soon. The others need a power cut, a failing disk or luck, which the
/// simulation has.
const SHOWN: [Mutation; 3] = [Mutation::EffectBeforeMark, Mutation::NoTaken, Mutation::DeleteAnyDeadSegment];
const KILLS_MAX: u64 = 200;

/// In the process of the rack: breaks the rule that it was told to break.
pub(crate) fn break_rule() {
    let name = std::env::var(VARIABLE).unwrap_or_default();
    set(Mutation::ALL.into_iter().find(|mutation| format!("{mutation:?}") == name));
}

/// Whether each is caught. Prints by what, and how many kills it took.
pub(crate) fn run(ask: &Ask) -> bool {
    let mut survivors = 0;
    println!("{:<22} {:>6}  by", "mutation", "kills");
    for mutation in SHOWN {
        match catch(ask, mutation) {
            Ok(Some((kills, by))) => println!("{:<22} {kills:>6}  {by}", format!("{mutation:?}")),
            Ok(None) => {
                println!("{:<22} {KILLS_MAX:>6}  SURVIVED", format!("{mutation:?}"));
                survivors += 1;
            }
            Err(error) => {
                println!("{mutation:?}: {error}");
                survivors += 1;
            }
        }
    }
    survivors == 0
}

/// The kills and the first words of what noticed it, on either topology.
fn catch(ask: &Ask, mutation: Mutation) -> Result<Option<(u64, String)>, String> {
    let mut chance = Chance::new(ask.seed);
    let mut kills = 0;
    let mut pipeline = Pipeline::new(&ask.daemon, None, &mut chance)?;
    broken(pipeline.rack_mut(), mutation)?;
    if let Some(by) = caught(pipeline, &mut kills, &mut chance) {
        return Ok(Some((kills, by)));
    }
    let mut payments = Payments::new(&ask.daemon, None, &mut chance)?;
    broken(payments.rack_mut(), mutation)?;
    Ok(caught(payments, &mut kills, &mut chance).map(|by| (kills, by)))
}

fn broken(rack: &mut RackAt, mutation: Mutation) -> Result<(), String> {
    rack.runner = Some(std::env::current_exe().map_err(|error| error.to_string())?);
    rack.variables.push((VARIABLE.to_owned(), format!("{mutation:?}")));
    Ok(())
}

fn caught<W: World>(world: W, kills: &mut u64, chance: &mut Chance) -> Option<String> {
    let mut session = Session::new(world);
    let mut report = Report::default();
    let outcome = kill::kills_of(&mut session, KILLS_MAX / 2, Duration::from_millis(400), chance, &mut report);
    *kills += report.total();
    let error = outcome.and_then(|()| session.end()).err()?;
    let lines: Vec<&str> = error.lines().map(str::trim).filter(|line| !line.is_empty()).take(2).collect();
    Some(lines.join("; ").chars().take(200).collect())
}
