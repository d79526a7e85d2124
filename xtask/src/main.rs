//! `cargo xtask`: every automation of the project, in Rust.
//! This file is the list of commands; each command is a file of its own.

mod bench;
mod child;
mod demo;
mod deps;
mod faults;
mod fixtures;
mod fuzz;
mod interop;
mod manifest;
mod setup;
mod sim;
mod soak;
mod table;
mod test;
mod tidy;
mod usage;

use std::process::ExitCode;

use usage::Usage;

/// One word after `cargo xtask`.
struct Command {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(&[String]) -> anyhow::Result<()>,
}

/// Everything there is, in the order a newcomer needs it.
const COMMANDS: &[Command] = &[
    Command { name: "demo", arguments: "", about: "a payments switch, driven and checked", run: demo::run },
    Command { name: "test", arguments: "", about: "exactly what CI runs", run: test::run },
    Command { name: "setup", arguments: "", about: "fetches what only tests need, into `.cache`", run: setup::run },
    Command { name: "interop", arguments: "", about: "programs by others against ours", run: interop::run },
    Command { name: "tidy", arguments: "", about: "house rules, each with file, line and remedy", run: tidy::run },
    Command { name: "bench", arguments: bench::ARGUMENTS, about: "one table, each row with its bar", run: bench::run },
    Command { name: "sim", arguments: sim::ARGUMENTS, about: "simulated rigs under seeded faults", run: sim::run },
    Command {
        name: "faults",
        arguments: faults::ARGUMENTS,
        about: "the binary under faults, by class",
        run: faults::run,
    },
    Command { name: "soak", arguments: soak::ARGUMENTS, about: "ten minutes at half of peak", run: soak::run },
    Command { name: "fuzz", arguments: fuzz::ARGUMENTS, about: "hostile bytes for a decoder", run: fuzz::run },
    Command { name: "fixtures", arguments: "", about: "rewrite fixtures; review the diff", run: fixtures::run },
    Command { name: "deps", arguments: "", about: "dependencies with their reasons, and duplicates", run: deps::run },
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next().filter(|name| !matches!(name.as_str(), "help" | "--help" | "-h")) else {
        print!("{}", listing());
        return ExitCode::SUCCESS;
    };
    let rest: Vec<String> = arguments.collect();
    let outcome = match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => (command.run)(&rest),
        None => Err(Usage(format!("`{name}` is no command")).into()),
    };
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    eprintln!("xtask: {error:#}");
    if error.is::<Usage>() {
        eprint!("{}", listing());
        return ExitCode::from(2);
    }
    ExitCode::FAILURE
}

fn listing() -> String {
    let rows = COMMANDS.iter().map(|command| {
        vec![format!("  cargo xtask {} {}", command.name, command.arguments).trim_end().into(), command.about.into()]
    });
    table::render(&rows.collect::<Vec<_>>())
}
