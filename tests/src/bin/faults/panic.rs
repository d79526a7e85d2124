//! F19: a gear that panics at every message, beside a pipeline that has nothing to do with it. Where messages
//! become dead letters before its restarts are used up it drains; else it is failed and its wire holds. Its siblings run at full rate.
//! The gear is our own, so the rack runs in this program (`faults run`), with the same library as in `fluxrig`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_actors::{About, Category, Maturity};
use fluxrig_rack::{Rack, RackOptions};
use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::pipeline::{Pipeline, SCENARIO};
use fluxrig_tests::outside::session::Session;
use fluxrig_tests::outside::{World, wait};

use super::class::{Ask, Report, Stop};

/// The word that makes this program a rack.
pub(crate) const RUN: &str = "run";

const DRAIN_MAX: Duration = Duration::from_secs(120);
/// Of a wire: the door closes when it is full.
const CAPACITY: u64 = 4096;
/// How long the rate of the siblings is measured.
const MEASURED: Duration = Duration::from_secs(2);
const WIRE: &str = "made.out->bad.in";

/// Panics at each message, or passes each on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Panicking {
    /// Whether it does. Default true.
    #[serde(default = "yes")]
    is_bad: bool,
}

fn yes() -> bool {
    true
}

impl Gear for Panicking {
    const TYPE: &'static str = "panicking";
    type State = ();

    fn handle(&self, msg: FluxMsg, (): &mut (), out: &mut Outlet) -> Result<(), GearError> {
        assert!(!self.is_bad, "this gear was made to panic");
        out.emit(msg);
        Ok(())
    }
}

/// `faults run SCENARIO --data-dir DIR`: what `fluxrig run` does, with one more gear.
pub(crate) fn rack(mut words: impl Iterator<Item = String>) -> ExitCode {
    let (Some(scenario), Some(data_dir)) = (words.next(), words.nth(1)) else { return ExitCode::from(2) };
    fluxrig_rack::limit_panic_reports();
    #[cfg(feature = "mutants")]
    super::mutants::break_rule();
    let about = About { category: Category::Logic, maturity: Maturity::Preview };
    let catalog = fluxrig_gears::standard().with::<Panicking>(about);
    let lived = Rack::load(&scenario, &catalog).map_err(|error| error.to_string()).and_then(|rack| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(live(rack, data_dir.into()))
    });
    match lived {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn live(rack: Rack, data_dir: PathBuf) -> Result<(), String> {
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(|error| error.to_string())?;
    let running = rack.start(RackOptions { data_dir, ..RackOptions::default() }).await;
    let running = running.map_err(|error| fluxrig_rack::with_causes(&error))?;
    running.run_until(terminate.recv()).await.map_err(|error| error.to_string())
}

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let calm = drained(ask, &own, rounds, false, chance, report)?;
    let panicking = drained(ask, &own, rounds, true, chance, report)?;
    report.note(format!("siblings: {panicking} lines/s beside a gear that panics, {calm} beside one that does not"));
    // Whoever is held up stands still. Each cut of the journal may wait a moment for the gear that restarts, though.
    if panicking < calm / 10 {
        return Err(Stop::Broken(format!("siblings are slow: {panicking} lines/s, and {calm} without panics")));
    }
    held(ask, &own, rounds, chance, report)
}

/// The pipeline, and beside it so many messages for one more gear.
fn scenario(rounds: u64, is_bad: bool, max_restarts: u32, max_deliver: u32) -> String {
    let gears = format!(
        "  - {{ name: made, type: generator, config: {{ count: {rounds}, rate_per_s: 400 }} }}\n  \
         - {{ name: bad, type: panicking, config: {{ is_bad: {is_bad} }}, supervision: {{ max_restarts: {max_restarts}, backoff_ms: {{ first: 1, max: 1 }} }} }}\n  \
         - {{ name: rest, type: log }}\n"
    );
    let wires = format!(
        "  - {{ from: made.out, to: bad.in, max_deliver: {max_deliver}, backoff_ms: {{ first: 1, max: 1 }} }}\n  \
         - {{ from: bad.out, to: rest.in }}\n"
    );
    format!("{}{wires}", SCENARIO.replace("wires:\n", &format!("{gears}wires:\n")))
}

fn depth(top: &serde_json::Value) -> u64 {
    let wires = top["wires"].as_array().into_iter().flatten();
    wires.filter(|wire| wire["name"] == WIRE).filter_map(|wire| wire["depth"].as_u64()).sum()
}

fn passed(top: &serde_json::Value) -> u64 {
    let wires = top["wires"].as_array().into_iter().flatten();
    wires.filter(|wire| wire["name"] == WIRE).filter_map(|wire| wire["passed"].as_u64()).sum()
}

/// Fewer deliveries than restarts: every message becomes a dead letter, which is progress and forgives the restarts. Gives the rate of the siblings meanwhile.
fn drained(
    ask: &Ask,
    own: &Path,
    rounds: u64,
    is_bad: bool,
    chance: &mut Chance,
    report: &mut Report,
) -> Result<u64, Stop> {
    let mut pipeline = Pipeline::with(&scenario(rounds, is_bad, 5, 2), &ask.daemon, None, chance)?;
    pipeline.rack_mut().runner = Some(own.to_owned());
    let mut session = Session::new(pipeline);
    let outcome = (|| {
        session.start(1)?;
        let before = session.world.progress();
        wait::pass(MEASURED);
        let rate = (session.world.progress() - before) / MEASURED.as_secs();
        let rack = session.rack().clone();
        let is_through =
            wait::until(DRAIN_MAX, || rack.top().is_ok_and(|top| depth(&top) == 0 && passed(&top) == rounds));
        let letters = rack.top()?["dead_letters"].as_u64().unwrap_or(0);
        if !is_through || letters != if is_bad { rounds } else { 0 } {
            return Err(format!("{letters} dead letters of {rounds} messages: {}", rack.top()?["wires"]));
        }
        if is_bad {
            report.fired_times("panics, drained", 2 * letters);
        }
        session.end()?;
        Ok(rate)
    })();
    report.session(&mut session);
    Ok(outcome?)
}

/// More restarts than its intensity allows bring nothing out of the wire: the gear is failed, its wire holds whatever comes, also over a kill, and the others go on.
fn held(ask: &Ask, own: &Path, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    let mut pipeline = Pipeline::with(&scenario(rounds, true, 3, 1000), &ask.daemon, None, chance)?;
    pipeline.rack_mut().runner = Some(own.to_owned());
    let mut session = Session::new(pipeline);
    let outcome = (|| {
        for start in 1..=2 {
            session.start(1)?;
            let rack = session.rack().clone();
            let mut top = serde_json::Value::Null;
            let mut held = 0;
            let is_held = wait::until(DRAIN_MAX, || {
                top = rack.top().unwrap_or_default();
                held = depth(&top) + rack.letters_of("bad").unwrap_or(0);
                held == (start * rounds).min(CAPACITY) && top["tree"].to_string().contains(r#""state":"failed""#)
            });
            if !is_held {
                return Err(format!("start {start}: {held} held of {rounds} and more: {}", top["wires"]));
            }
            report.fired("failed and held");
            session.until_answers(200)?;
            session.settle()?;
            if start == 1 {
                session.kill();
                session.rack().verify()?;
            }
        }
        // What its wire holds stays there, so this rack cannot drain: it has to be killed.
        session.kill();
        session.rack().verify()
    })();
    report.session(&mut session);
    Ok(outcome?)
}
