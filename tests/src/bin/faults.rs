//! The fault suite: the shipped binary `fluxrig` under faults, judged by ledgers outside it.
//! `cargo xtask faults --help` lists the classes. Ends with 0 only if every promise held and every kind of fault fired.

mod faults {
    //! One file per class of faults, and what they share.
    pub(crate) mod apart;
    pub(crate) mod backlog;
    pub(crate) mod class;
    pub(crate) mod clock;
    pub(crate) mod cluster;
    pub(crate) mod damage;
    pub(crate) mod eio;
    pub(crate) mod full;
    pub(crate) mod kill;
    #[cfg(feature = "mutants")]
    pub(crate) mod mutants;
    pub(crate) mod netns;
    pub(crate) mod on_bus;
    pub(crate) mod overload;
    pub(crate) mod pair;
    pub(crate) mod panic;
    pub(crate) mod partition;
    pub(crate) mod pause;
    pub(crate) mod reset;
    pub(crate) mod server;
    pub(crate) mod server_full;
    pub(crate) mod soak;
    pub(crate) mod syscall;
    pub(crate) mod tail;
    pub(crate) mod takeover;
}

use std::process::ExitCode;

use faults::class::{Ask, Class, Stop};
use fluxrig_tests::outside::{chance::Chance, place};

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some(faults::panic::RUN) {
        return faults::panic::rack(words);
    }
    let (classes, ask) = match Ask::parse(std::env::args().skip(1)) {
        Ok(Some(found)) => found,
        Ok(None) => {
            print!("{}", faults::class::usage());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n{}", faults::class::usage());
            return ExitCode::from(2);
        }
    };
    clear_when_interrupted();
    #[cfg(feature = "mutants")]
    if ask.has_mutants {
        return if faults::mutants::run(&ask) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut held = true;
    for class in classes {
        held &= run(class, &ask);
    }
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One class, with what it came to on a few lines.
fn run(class: &Class, ask: &Ask) -> bool {
    let rounds = ask.rounds_of(class);
    if let Some(held) = faults::apart::run(class.name, ask, rounds) {
        return held;
    }
    let mut report = faults::class::Report::default();
    let again = ask.again(class, rounds);
    println!("== {}: seed {}, {rounds} rounds: {}", class.name, ask.seed, class.about);
    let mut outcome = (class.run)(ask, rounds, &mut Chance::new(ask.seed), &mut report);
    if outcome.is_ok()
        && let Some(kind) = report.vacuous()
    {
        outcome = Err(Stop::Broken(format!("vacuous: {kind} was asked for, and none fired")));
    }
    print!("{report}");
    match outcome {
        Ok(()) => {
            println!("== {}: HELD  (again: {again})", class.name);
            true
        }
        Err(Stop::Skipped(why)) => {
            eprintln!("SKIPPED: faults `{}`: {why}", class.name);
            println!("== {}: SKIPPED", class.name);
            true
        }
        Err(Stop::Broken(why)) => {
            println!("== {}: FAILED\n  {why}\n  again: {again}", class.name);
            false
        }
    }
}

/// Ctrl-C and SIGTERM end the processes and remove the folders of the run.
fn clear_when_interrupted() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut terminate), Ok(mut interrupt)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return;
            };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            place::clear();
            std::process::exit(130);
        });
    });
}
