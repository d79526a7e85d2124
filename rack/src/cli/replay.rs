//! `fluxrig replay`: once more what a wire retains, as fast as there is room for it.

use clap::Args;
use fluxrig_rack::{Answer, Request, exit, listen_to};
use serde_json::Value;

use super::ask::{runtime, unavailable};
use super::signals::Signals;
use super::{At, complain, say, say_json, time};

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    at: At,
    /// The wire, `gear.port->gear.port`. It has `retention` in its scenario.
    #[arg(long)]
    wire: String,
    #[command(flatten)]
    from: ReplayFrom,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Where a replay begins.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ReplayFrom {
    /// What came so long ago or later: `10m`, `2h`, or a time like `2026-01-31T08:00:00Z`.
    #[arg(long, value_name = "DURATION", value_parser = time::since)]
    since: Option<i64>,
    /// From this sequence on.
    #[arg(long, value_name = "N")]
    from_seq: Option<u64>,
    /// From this time on: `2026-01-31T08:00:00Z`, or nanoseconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    from: Option<i64>,
}

pub(super) fn replay(args: &ReplayArgs) -> u8 {
    let from = &args.from;
    let request =
        Request::Replay { wire: args.wire.clone(), from_seq: from.from_seq, from_ns: from.since.or(from.from) };
    let done = match runtime().and_then(|runtime| runtime.block_on(replayed(&args.at, &request))) {
        Ok(done) => done,
        Err(code) => return code,
    };
    let is_whole = done["is_whole"] == true;
    if args.json {
        say_json(&done);
    } else {
        let plural = if done["replayed"] == 1 { "" } else { "s" };
        let others = if is_whole { "" } else { ", and no more: ended by a signal" };
        say(&format!("{} message{plural} delivered again{others}\n", done["replayed"]));
    }
    if is_whole { exit::DONE } else { exit::FAILED }
}

/// Follows a replay to its end. The first signal ends it where it is, and how far that was is still said.
async fn replayed(at: &At, request: &Request) -> Result<Value, u8> {
    let mut signals = Signals::new().map_err(|error| unavailable(&error))?;
    let mut lines = listen_to(&at.data_dir, request).await.map_err(|error| unavailable(&error))?;
    let (mut waits_after, mut is_enough) = (Value::Null, false);
    loop {
        let answer = tokio::select! {
            () = signals.next() => {
                if is_enough {
                    return Err(exit::FAILED);
                }
                is_enough = true;
                lines.enough().await;
                continue;
            }
            answer = lines.next() => answer.map_err(|error| unavailable(&error))?,
        };
        match answer {
            // Once for each time that it stands still.
            Some(Answer::Item(item)) if item["waits_after"] != waits_after => {
                waits_after = item["waits_after"].clone();
                complain(&format!(
                    "{waits_after} delivered again so far; waiting for room on wire `{}`, behind it or on the disk; Ctrl-C ends the replay here",
                    item["wire"].as_str().unwrap_or_default()
                ));
            }
            Some(Answer::Done(done)) => return Ok(done),
            Some(Answer::Refused { code, text }) => {
                complain(&text);
                return Err(code);
            }
            Some(_) => {}
            None => {
                complain(
                    "replay: found the rack ended, expected to be told how far it came; remedy: see which messages passed the wire, then replay the others",
                );
                return Err(exit::UNAVAILABLE);
            }
        }
    }
}
