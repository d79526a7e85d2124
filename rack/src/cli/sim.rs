//! `fluxrig sim`: a user's own scenario in the simulator, seed by seed, and the shortest replay of one that failed.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use fluxrig_rack::sim::{Fault, Options, Report, SimError, Subject, Totals, Traffic, shrink};
use fluxrig_rack::{Rack, exit};
use serde_json::json;

use super::{complain, run::refuse, say, say_json};

/// Seeds that failed and are shown; the rest is counted.
const SHOWN_MAX: usize = 5;

#[derive(Debug, Args)]
pub(super) struct SimArgs {
    /// The scenario.
    file: PathBuf,
    /// One seed, with its whole report.
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "start"])]
    seed: Option<u64>,
    /// So many seeds, with their totals.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    seeds: u64,
    /// The first of them.
    #[arg(long, value_name = "N", default_value_t = 0)]
    start: u64,
    /// Kinds of faults, or `none`: `kill`, the process vanishes and starts again; `power`, what was not flushed is lost or
    /// torn; `disk`, flushes fail or the disk is full for a while; `link`, connections break, are refused, stall or lead
    /// nowhere. One that never had an effect fails the run.
    #[arg(long, value_name = "LIST", default_value = "kill,power,disk,link")]
    faults: String,
    /// What terminals do: requests, and now and then garbage or a hang-up.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    requests: u64,
    /// Virtual time in which they do it.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Of the faults that a seed plans only these numbers, or `none`.
    #[arg(long, value_name = "LIST", requires = "seed")]
    only_faults: Option<String>,
    /// Of the requests that a seed plans only these numbers, or `none`.
    #[arg(long, value_name = "LIST", requires = "seed")]
    only_requests: Option<String>,
    /// What terminals say, in YAML: `messages: [{ mti: "0100", set: { "2": "4000001234562" }, expect: ["00"] }]`. Default:
    /// messages that the specification behind each server allows, or numbered lines where there is none.
    #[arg(long, value_name = "FILE")]
    traffic: Option<PathBuf>,
    /// Which rack of the scenario this is; not needed when it has one.
    #[arg(long, env = "FLUXRIG_RACK", value_name = "NAME")]
    rack: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// With `--seed`: all that terminals saw and did, a line each.
    #[arg(long, requires = "seed")]
    verbose: bool,
}

pub(super) fn sim(args: &SimArgs) -> u8 {
    let options = match options(args) {
        Ok(options) => options,
        Err(text) => return fail(exit::USAGE, &text),
    };
    let catalog = fluxrig_gears::standard();
    let rack = match Rack::load(&args.file, &catalog) {
        Ok(rack) => rack,
        Err(error) => return refuse(&args.file, &error),
    };
    let traffic = args.traffic.as_deref().map_or_else(|| Ok(Traffic::default()), Traffic::load);
    let subject = traffic.and_then(|traffic| Subject::new(rack.checked(), &catalog, args.rack.as_deref(), traffic));
    match subject {
        Ok(subject) if args.seed.is_some() => one(args, &subject, &options),
        Ok(subject) => many(args, &subject, &options),
        Err(error @ SimError::Rack(_)) => fail(exit::USAGE, &error.to_string()),
        Err(error) => fail(exit::BAD_CONFIG, &error.to_string()),
    }
}

fn fail(code: u8, text: &str) -> u8 {
    complain(text);
    code
}

fn options(args: &SimArgs) -> Result<Options, String> {
    let named = |name: &str| {
        Fault::named(name).ok_or_else(|| {
            format!("--faults: found `{name}`, expected some of `kill`, `power`, `disk` and `link`, or `none`; remedy: correct it")
        })
    };
    let numbers = |option: &str, list: &Option<String>| {
        let number = |text: &str| {
            text.parse::<usize>().map_err(|_| {
                format!("--{option}: found `{text}`, expected numbers with commas, or `none`; remedy: correct it")
            })
        };
        list.as_deref().map(|list| split(list).map(number).collect::<Result<Vec<_>, _>>()).transpose()
    };
    Ok(Options {
        faults: split(&args.faults).map(named).collect::<Result<_, _>>()?,
        requests: args.requests as usize,
        span: Duration::from_secs(args.seconds),
        only_faults: numbers("only-faults", &args.only_faults)?,
        only_requests: numbers("only-requests", &args.only_requests)?,
    })
}

fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').filter(|item| !item.is_empty() && *item != "none")
}

fn one(args: &SimArgs, subject: &Subject, options: &Options) -> u8 {
    let report = subject.run(args.seed.unwrap_or_default(), options);
    let mut totals = Totals::default();
    totals.add(&report);
    // A replay names what it wants, and the rest is left out on purpose.
    let is_replay = options.only_faults.is_some() || options.only_requests.is_some();
    let vacuous = if is_replay { Vec::new() } else { totals.vacuous(options) };
    let replay = if report.is_clean() || is_replay { None } else { shrink(subject, &report, options) };
    let command = again(args, report.seed, options);
    if args.json {
        let mut json = report.json();
        json["again"] = json!(command);
        json["vacuous"] = json!(vacuous.iter().map(|fault| fault.name()).collect::<Vec<_>>());
        if let Some(shrunk) = &replay {
            json["replay"] = json!(again(args, report.seed, &shrunk.options));
        }
        say_json(&json);
    } else {
        if args.verbose {
            say(&report.log);
        }
        let plan: String = report.plan.iter().map(|line| format!("  {line}\n")).collect();
        say(&if is_replay || args.verbose { format!("{plan}{report}") } else { report.to_string() });
        say(&format!("  again: {command}\n"));
        if let Some(shrunk) = replay {
            say_replay(args, &shrunk.report, &shrunk.options, shrunk.runs);
        }
        say_vacuous(&vacuous);
    }
    code(report.is_clean() && vacuous.is_empty())
}

fn many(args: &SimArgs, subject: &Subject, options: &Options) -> u8 {
    let next = AtomicU64::new(args.start);
    let until = args.start.saturating_add(args.seeds);
    let done = Mutex::new((Totals::default(), Vec::<Report>::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= until {
                        return;
                    }
                    let report = subject.run(seed, options);
                    let mut done = done.lock().expect("no thread panics while it is held");
                    done.0.add(&report);
                    if !report.is_clean() {
                        done.1.push(report);
                    }
                }
            });
        }
    });
    let (mut totals, mut failed) = done.into_inner().expect("no thread panics while it is held");
    totals.failed.sort_unstable();
    failed.sort_by_key(|report| report.seed);
    let vacuous = totals.vacuous(options);
    let replay = failed.first().and_then(|report| Some((report, shrink(subject, report, options)?)));
    if args.json {
        let mut json = totals.json();
        json["vacuous"] = json!(vacuous.iter().map(|fault| fault.name()).collect::<Vec<_>>());
        json["reports"] = failed.iter().take(SHOWN_MAX).map(Report::json).collect();
        if let Some((report, shrunk)) = &replay {
            json["replay"] = json!(again(args, report.seed, &shrunk.options));
        }
        say_json(&json);
    } else {
        for report in failed.iter().take(SHOWN_MAX) {
            say(&format!("{report}  again: {}\n", again(args, report.seed, options)));
        }
        say(&totals.to_string());
        if let Some((_, shrunk)) = &replay {
            say_replay(args, &shrunk.report, &shrunk.options, shrunk.runs);
        }
        say_vacuous(&vacuous);
    }
    code(failed.is_empty() && vacuous.is_empty())
}

fn code(is_fine: bool) -> u8 {
    if is_fine { exit::DONE } else { exit::FAILED }
}

fn say_vacuous(vacuous: &[Fault]) {
    for fault in vacuous {
        let name = fault.name();
        say(&format!(
            "vacuous: no fault `{name}` had an effect, though it was asked for; remedy: more seeds or requests\n"
        ));
    }
}

fn say_replay(args: &SimArgs, report: &Report, options: &Options, runs: usize) {
    say(&format!("shortest replay of seed {} that was found in {runs} runs:\n", report.seed));
    for line in &report.plan {
        say(&format!("  {line}\n"));
    }
    for violation in &report.violations {
        say(&format!("  broken: {}: {}\n", violation.check, violation.found));
    }
    say(&format!("  again: {}\n", again(args, report.seed, options)));
}

/// The command line of a run.
fn again(args: &SimArgs, seed: u64, options: &Options) -> String {
    let path = |path: &Path| path.display().to_string();
    let traffic = args.traffic.as_deref().map_or_else(String::new, |file| format!(" --traffic {}", path(file)));
    let rack = args.rack.as_ref().map_or_else(String::new, |rack| format!(" --rack {rack}"));
    format!("fluxrig sim {} --seed {seed}{}{traffic}{rack}", path(&args.file), options.arguments())
}
