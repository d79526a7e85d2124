//! The simulation from the command line: many seeds, or one again. Ends with an error when a seed breaks a rule, or
//! when a fault that was asked for never fired.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fluxrig_tests::sim::{self, Fault, Options, Storage, Totals};

const USAGE: &str = "sim [--seeds COUNT | --seed N | --minutes M] [--start N] [--faults kill,power,flush,full,endpoint,gear,scenario,clock] [--stream | --pair] [--verbose] [--mutants [NAME]]";

struct Ask {
    seeds: u64,
    start: u64,
    minutes: Option<u64>,
    is_one: bool,
    is_asked: bool,
    mutants: Option<String>,
    options: Options,
}

fn main() -> ExitCode {
    let ask = match parse(std::env::args().skip(1)) {
        Ok(ask) => ask,
        Err(error) => {
            eprintln!("{error}\nusage: {USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Some(name) = &ask.mutants {
        return mutants(name, &ask);
    }
    if ask.is_one {
        let report = sim::run(ask.start, &ask.options);
        println!("{report}");
        let vacuous = if ask.is_asked { vacuous(&ask.options, &report) } else { Vec::new() };
        return end(report.violations.is_empty(), &vacuous);
    }
    let totals = run_all(&ask);
    println!("{totals}");
    // A few seeds need not meet every fault, unless they were asked to.
    let vacuous = if ask.is_asked || totals.seeds >= 50 { totals.vacuous(&ask.options.faults) } else { Vec::new() };
    end(totals.failed.is_empty(), &vacuous)
}

fn vacuous(options: &Options, report: &sim::Report) -> Vec<Fault> {
    let mut totals = Totals::default();
    totals.add(report);
    totals.vacuous(&options.faults)
}

fn end(is_fine: bool, vacuous: &[Fault]) -> ExitCode {
    for fault in vacuous {
        println!("vacuous: no fault `{}` fired, though it was asked for", fault.name());
    }
    if is_fine && vacuous.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_all(ask: &Ask) -> Totals {
    let until = ask.minutes.map(|minutes| tokio::time::Instant::now() + Duration::from_secs(60 * minutes));
    let next = AtomicU64::new(ask.start);
    let is_over = AtomicBool::new(false);
    let totals = Mutex::new(Totals::default());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_out_of_time = until.is_some_and(|until| tokio::time::Instant::now() > until);
                    if is_out_of_time || until.is_none() && seed >= ask.start + ask.seeds {
                        return;
                    }
                    let report = sim::run(seed, &ask.options);
                    let mut totals = totals.lock().expect("no thread panics while it is held");
                    totals.add(&report);
                    if !report.violations.is_empty() {
                        let stream = match ask.options.storage {
                            Storage::Disk => "",
                            Storage::Stream => " --stream",
                            Storage::Pair => " --pair",
                        };
                        println!("{report}\n  again: cargo xtask sim --seed {seed}{stream}");
                        is_over.store(totals.failed.len() >= 20, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    totals.into_inner().expect("no thread panics while it is held")
}

#[cfg(feature = "mutants")]
fn mutants(name: &str, ask: &Ask) -> ExitCode {
    let is_caught = sim::mutants::run(name, ask.start, ask.seeds, &ask.options);
    if is_caught { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(not(feature = "mutants"))]
fn mutants(_name: &str, _ask: &Ask) -> ExitCode {
    eprintln!("this build has no mutations; build it with `--features mutants`");
    ExitCode::from(2)
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Ask, String> {
    let mut ask = Ask {
        seeds: 2000,
        start: 0,
        minutes: None,
        is_one: false,
        is_asked: false,
        mutants: None,
        options: Options::default(),
    };
    let mut pending = args.next();
    while let Some(arg) = pending.take() {
        let mut number = || -> Result<u64, String> {
            let text = args.next().ok_or_else(|| format!("`{arg}` needs a number"))?;
            text.parse().map_err(|_| format!("`{arg} {text}`: expected a number"))
        };
        match arg.as_str() {
            "--seeds" => ask.seeds = number()?,
            "--start" => ask.start = number()?,
            "--minutes" => ask.minutes = Some(number()?),
            "--seed" => (ask.start, ask.is_one) = (number()?, true),
            "--stream" => ask.options.storage = Storage::Stream,
            "--pair" => ask.options.storage = Storage::Pair,
            "--verbose" => ask.options.is_verbose = true,
            "--faults" => {
                let names = args.next().ok_or("`--faults` needs names")?;
                let found: Result<Vec<Fault>, String> = names
                    .split(',')
                    .map(|name| Fault::named(name).ok_or_else(|| format!("`{name}` is no fault")))
                    .collect();
                (ask.options.faults, ask.is_asked) = (found?, true);
            }
            "--mutants" => {
                pending = args.next();
                ask.mutants = Some(match &pending {
                    Some(name) if !name.starts_with("--") => pending.take().unwrap_or_default(),
                    _ => String::new(),
                });
                if pending.is_some() {
                    continue;
                }
            }
            _ => return Err(format!("`{arg}` is unknown")),
        }
        if pending.is_none() {
            pending = args.next();
        }
    }
    if ask.options.storage == Storage::Pair && !ask.is_asked {
        ask.options.faults = sim::pair::FAULTS.to_vec();
    }
    Ok(ask)
}
