//! Commands and their arguments; each command has a module of its own that does it and says the exit code.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use fluxrig_rack::bus::{GUARD, guard};
use fluxrig_rack::exit;

mod ask;
mod bus;
mod check;
mod dlq;
mod gears;
mod iso8583;
mod journal;
mod mask;
mod replay;
mod run;
mod signals;
mod sim;
mod tap;
mod time;

/// Durable actor runtime: gears, wires and nodes, supervised.
#[derive(Debug, Parser)]
#[command(name = "fluxrig", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
struct Cli {
    /// Least level of log events: error, warn, info, debug, trace, or a filter like `info,fluxrig_rack=debug`.
    #[arg(long, global = true, env = "FLUXRIG_LOG", default_value = "info", value_name = "LEVEL")]
    log_level: String,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 usage, 65 damaged journal, 69 no running rack or peer, \
    73 data directory locked or not writable, 75 try again, 77 fenced: a stand-by has taken over, 78 bad config, 98 address in use.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a scenario until SIGTERM or SIGINT, then drains it; a second signal ends it at once.
    Run(RunArgs),
    /// Simulates a scenario: its gears as they are, with simulated sockets, disk and clock, seeded terminals and hosts
    /// around it and seeded faults under it; the exit code is 0 only when every request came to its end.
    Sim(sim::SimArgs),
    /// Checks scenarios and says everything that is wrong with them.
    Lint(LintArgs),
    /// Prints a scenario as a graph.
    Graph {
        /// The scenario.
        file: PathBuf,
        /// Language of the graph.
        #[arg(long, value_enum, default_value_t = GraphChoice::Mermaid)]
        format: GraphChoice,
    },
    /// Prints a scenario in its normalised form: every key, defaults written out.
    Echo {
        /// The scenario.
        file: PathBuf,
    },
    /// Prints the JSON Schema of a scenario, for editors.
    Schema,
    /// Shows the gears that a scenario may use.
    #[command(subcommand)]
    Gears(GearsCommand),
    /// Lists the series of `/metrics`.
    Metrics,
    /// Shows the running rack: actors, wires, journal.
    Top {
        #[command(flatten)]
        at: At,
        /// As JSON, once.
        #[arg(long)]
        json: bool,
        /// Once, also on a terminal.
        #[arg(long)]
        once: bool,
    },
    /// Looks after the dead letters of the running rack.
    Dlq {
        #[command(flatten)]
        at: At,
        #[command(subcommand)]
        command: dlq::DlqCommand,
    },
    /// Looks after the bus of the running rack.
    Bus {
        #[command(flatten)]
        at: At,
        #[command(subcommand)]
        command: bus::BusCommand,
    },
    /// Delivers again what a wire of the running rack retains, as fast as there is room; a signal ends it.
    Replay(replay::ReplayArgs),
    /// Shows what comes onto wires of the running rack, as it comes, without sensitive data.
    Tap(tap::TapArgs),
    /// Looks after the journal of a rack that does not run, or whose journal is on a stream.
    Journal {
        #[command(flatten)]
        at: At,
        #[command(subcommand)]
        command: JournalCommand,
    },
    /// Is a terminal that speaks ISO 8583: sends one message, or many.
    #[command(subcommand)]
    Iso8583(iso8583::Iso8583Command),
    /// Prints a completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the version.
    Version,
    /// Becomes a program that the kernel ends with the rack that started it.
    #[command(name = GUARD, hide = true)]
    Guard {
        /// The rack's process.
        parent: i32,
        /// The program.
        program: OsString,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Which rack is meant.
#[derive(Clone, Debug, Args)]
struct At {
    /// Data directory of the rack.
    #[arg(long, global = true, env = "FLUXRIG_DATA_DIR", default_value = "fluxrig-data", value_name = "DIR")]
    data_dir: PathBuf,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The scenario.
    file: PathBuf,
    #[command(flatten)]
    at: At,
    /// Which rack of the scenario this is; not needed when it has one.
    #[arg(long, env = "FLUXRIG_RACK", value_name = "NAME")]
    rack: Option<String>,
    /// Runs as a stand-by: follows the journal of this rack, which runs elsewhere with `journal: { jetstream: { lease_ms: N } }`,
    /// and takes its place when it is gone. Needs a data directory of its own, with a copy of the holder's
    /// `journal/rack.key` in its folder `journal`. `/readyz` says `stand-by` until then.
    #[arg(long)]
    standby: bool,
    /// Serves `/metrics`, `/healthz` and `/readyz` here, for instance on 127.0.0.1:9464. Ready is a rack that takes
    /// messages and writes its journal, whether its peers are there or not; `/readyz?links` asks for these, too.
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// What happens to messages and state that the journal holds and the scenario has no place for.
    #[arg(long, value_enum, default_value_t = OrphansChoice::Refuse)]
    orphans: OrphansChoice,
    /// How long it may drain, in milliseconds.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    drain_ms: u64,
    /// Threads that gears and endpoints share, 1 to 512; as many as there are cores without it.
    #[arg(long, env = "FLUXRIG_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    threads: Option<u16>,
}

#[derive(Debug, Args)]
struct LintArgs {
    /// The scenarios.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// As a JSON list.
    #[arg(long)]
    json: bool,
    /// Prints the keys of every gear and wire with their defaults, too.
    #[arg(long, conflicts_with = "json")]
    defaults: bool,
    /// Warnings are errors.
    #[arg(long)]
    deny_warnings: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GraphChoice {
    Mermaid,
    Dot,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OrphansChoice {
    /// The rack does not start.
    Refuse,
    /// They go to the dead letters.
    Dlq,
}

#[derive(Debug, Subcommand)]
enum GearsCommand {
    /// Lists all gear types.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints the manual of a gear type.
    Doc {
        /// The type.
        #[arg(value_name = "TYPE")]
        type_name: String,
    },
    /// Prints the JSON Schema of a gear type's configuration.
    Schema {
        /// The type.
        #[arg(value_name = "TYPE")]
        type_name: String,
    },
}

#[derive(Debug, Subcommand)]
enum JournalCommand {
    /// Reads all of it and reports what is not whole, what is lost and what the choices are. Changes nothing.
    ///
    /// An epoch is what one cut of the journal holds: all that was committed since the cut before. A journal on a stream
    /// (`journal: jetstream`) is read where its scenario says, with the key in the data directory; its rack may run
    /// meanwhile. Exit codes: 0 whole, 65 damaged or shorter than what was acked, 69 no server that answers, 73 in use,
    /// not writable, or no journal of this rack.
    Verify {
        #[command(flatten)]
        of: Scenario,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Puts the damaged segment and all younger ones aside, so that the rack starts with what is older. Of a journal on
    /// a stream it only says what can be done: nothing of that is put aside.
    Repair {
        #[command(flatten)]
        of: Scenario,
        /// Does it; without, it only says what would be given up.
        #[arg(long)]
        give_up: bool,
    },
    /// Shows its segments.
    Stats {
        #[command(flatten)]
        of: Scenario,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Whose journal is meant, where that is on a stream.
#[derive(Clone, Debug, Args)]
struct Scenario {
    /// The scenario of the rack: it says whether the journal is on a stream, and where that is. Without one the journal
    /// is on files.
    file: Option<PathBuf>,
    /// Which rack of the scenario this is; not needed when it has one.
    #[arg(long, env = "FLUXRIG_RACK", value_name = "NAME")]
    rack: Option<String>,
}

/// Does what the arguments say.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match cli.command {
        Command::Run(args) => run::run(&args, &cli.log_level),
        Command::Sim(args) => sim::sim(&args),
        Command::Lint(args) => check::lint(&args),
        Command::Graph { file, format } => check::graph(&file, format),
        Command::Echo { file } => check::echo(&file),
        Command::Schema => check::schema(),
        Command::Gears(command) => gears::gears(&command),
        Command::Metrics => gears::metrics(),
        Command::Top { at, json, once } => ask::top(&at, json, once),
        Command::Dlq { at, command } => dlq::dlq(&at, &command),
        Command::Bus { at, command } => bus::bus(&at, &command),
        Command::Replay(args) => replay::replay(&args),
        Command::Tap(args) => tap::tap(&args),
        Command::Journal { at, command } => journal::journal(&at, &command),
        Command::Iso8583(command) => iso8583::iso8583(&command),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "fluxrig", &mut script);
            say(&String::from_utf8_lossy(&script));
            exit::DONE
        }
        Command::Guard { parent, program, arguments } => {
            complain(&format!("{GUARD}: {}", guard(parent, &program, &arguments)));
            exit::FAILED
        }
        Command::Version => {
            say(&format!("fluxrig {}\n", env!("CARGO_PKG_VERSION")));
            exit::DONE
        }
    };
    ExitCode::from(code)
}

/// Prints a result. A reader that went away (`| head`) wants no more of it.
fn say(text: &str) {
    drop(std::io::stdout().write_all(text.as_bytes()));
}

/// Prints why a command failed.
fn complain(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

fn say_json(value: &serde_json::Value) {
    say(&format!("{value:#}\n"));
}

fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
