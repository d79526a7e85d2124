//! `fluxrig bus`: what the bus of the running rack does, and what on it nobody needs any more.

use std::io::IsTerminal;

use clap::Subcommand;
use fluxrig_rack::{Request, bus_text, exit};
use serde_json::Value;

use super::ask::{answer, asked};
use super::dlq::confirms;
use super::{At, complain, say, say_json};

#[derive(Debug, Subcommand)]
pub(super) enum BusCommand {
    /// Shows the connection, the wires that go over it, and the streams and consumers of the rack.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Removes streams and consumers that the rack made and its scenario has no place for any more, once it is
    /// confirmed. What is still on them is gone then.
    Prune {
        /// Does not ask.
        #[arg(long)]
        yes: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn bus(at: &At, command: &BusCommand) -> u8 {
    match command {
        BusCommand::Status { json } => answer(at, &Request::BusStatus, |found| match json {
            true => say_json(found),
            false => say(&bus_text(found)),
        }),
        BusCommand::Prune { yes, json } => prune(at, *yes, *json).unwrap_or_else(|code| code),
    }
}

fn prune(at: &At, is_sure: bool, is_json: bool) -> Result<u8, u8> {
    if !is_sure && !std::io::stdin().is_terminal() {
        complain(
            "bus prune: found no terminal to ask on, expected a word on whether to remove them; remedy: say `--yes`",
        );
        return Err(exit::USAGE);
    }
    let found = asked(at, &Request::BusUnused)?;
    let unused: Vec<&Value> = found["unused"].as_array().into_iter().flatten().collect();
    let names: Vec<String> = unused.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect();
    let table: String = unused.iter().map(|one| row(one)).collect();
    if !names.is_empty() && !is_sure && !confirms(&mut std::io::stdin().lock(), &mut std::io::stderr(), &table) {
        complain("nothing removed");
        return Err(exit::FAILED);
    }
    // Only what was shown: what nobody needs from now on was not confirmed.
    Ok(answer(at, &Request::BusPrune { names }, |done| match is_json {
        true => say_json(done),
        false => say(&format!("{} removed\n", done["removed"])),
    }))
}

fn row(one: &Value) -> String {
    let word = |key: &str| one[key].as_str().unwrap_or("-").to_owned();
    format!("{:8}  {}  {} messages\n", word("kind"), word("name"), one["messages"].as_u64().unwrap_or(0))
}
