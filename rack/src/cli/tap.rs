//! `fluxrig tap`: what comes onto the wires of the running rack, as it comes, masked.
//! It ends by itself, by a signal, with the rack, or when nobody reads its output any more.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::time::Duration;

use clap::Args;
use fluxrig_rack::{Answer, Form, Listening, Request, exit, listen_to, with_causes};
use serde_json::Value;
use tokio::io::{AsyncWriteExt, Stdout};
use tokio::time::{Sleep, timeout};

use super::ask::{runtime, unavailable};
use super::signals::Signals;
use super::{At, complain, time};

/// How long the rack may take to say how many messages were missed.
const LAST_WORD: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct TapArgs {
    #[command(flatten)]
    at: At,
    /// The wires, `gear.port->gear.port`; `*` stands for any text.
    pattern: String,
    /// Of each wire only the messages whose number this divides.
    #[arg(long, value_name = "N", default_value = "1")]
    every: NonZeroU64,
    /// Ends after so many messages.
    #[arg(long, value_name = "N")]
    count: Option<NonZeroU64>,
    /// Ends after this time, for instance `10s`.
    #[arg(long = "for", value_name = "DURATION", value_parser = time::duration)]
    lasting: Option<Duration>,
    /// As JSON, one object a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn tap(args: &TapArgs) -> u8 {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let code = runtime.block_on(look(args)).unwrap_or_else(|code| code);
    // A reader that stopped reading holds up a write for as long as it likes.
    runtime.shutdown_background();
    code
}

/// What ends a tap from this side.
struct Enough {
    signals: Signals,
    time: Option<Pin<Box<Sleep>>>,
}

impl Enough {
    fn new() -> std::io::Result<Self> {
        Ok(Self { signals: Signals::new()?, time: None })
    }

    async fn reached(&mut self) {
        let time = async {
            match &mut self.time {
                Some(time) => time.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.signals.next() => {}
            () = time => {}
        }
    }
}

/// How a tap ended, and what it missed.
enum End {
    /// Whoever read the output wants no more of it.
    Unread,
    /// It was ended from this side.
    Enough,
    /// It was told so, or the rack is gone.
    Rack(Option<Value>),
}

/// What was shown so far.
#[derive(Default)]
struct Seen {
    shown: u64,
    missed: u64,
}

async fn look(args: &TapArgs) -> Result<u8, u8> {
    let mut enough = Enough::new().map_err(|error| unavailable(&error))?;
    let form = if args.json { Form::Page } else { Form::Line };
    let request = Request::Tap { pattern: args.pattern.clone(), every: args.every, form };
    let mut lines = listen_to(&args.at.data_dir, &request).await.map_err(|error| unavailable(&error))?;
    let mut seen = Seen::default();
    let end = follow(args, &mut lines, &mut enough, &mut seen).await?;
    let is_over = matches!(end, End::Rack(_));
    let last = match end {
        End::Unread => return Ok(exit::DONE),
        End::Rack(last) => last,
        End::Enough => timeout(LAST_WORD, last_word(&mut lines)).await.ok().flatten(),
    };
    // What the rack says last is exact; without it there is what it said with the last message.
    let missed = last.and_then(|last| last["missed"].as_u64()).unwrap_or(seen.missed);
    let why = if is_over { "the rack has ended; " } else { "" };
    complain(&format!("{why}{} shown, {missed} missed", seen.shown));
    Ok(exit::DONE)
}

/// Shows message after message until something ends it.
async fn follow(args: &TapArgs, lines: &mut Listening, enough: &mut Enough, seen: &mut Seen) -> Result<End, u8> {
    let mut out = tokio::io::stdout();
    loop {
        let answer = tokio::select! {
            biased;
            () = enough.reached() => return Ok(End::Enough),
            answer = lines.next() => answer,
        };
        let item = match answer {
            Ok(Some(Answer::Item(item))) => item,
            Ok(Some(Answer::Begun(begun))) => {
                complain(&opened(&begun));
                // From here on: until now there was nothing to see.
                enough.time = args.lasting.map(|lasting| Box::pin(tokio::time::sleep(lasting)));
                continue;
            }
            Ok(Some(Answer::Refused { code, text })) => {
                complain(&text);
                return Err(code);
            }
            Ok(Some(Answer::Done(done))) => return Ok(End::Rack(Some(done))),
            Ok(None) => return Ok(End::Rack(None)),
            Err(error) => {
                complain(&with_causes(&error));
                return Err(exit::UNAVAILABLE);
            }
        };
        let line = if args.json { format!("{item}\n") } else { shown(&item) };
        tokio::select! {
            biased;
            () = enough.reached() => return Ok(End::Enough),
            written = write(&mut out, &line) => {
                if written.is_err() {
                    return Ok(End::Unread);
                }
            }
        }
        seen.shown += 1;
        seen.missed = item["missed"].as_u64().unwrap_or(seen.missed);
        if args.count.is_some_and(|count| seen.shown >= count.get()) {
            return Ok(End::Enough);
        }
    }
}

async fn write(out: &mut Stdout, line: &str) -> std::io::Result<()> {
    out.write_all(line.as_bytes()).await?;
    out.flush().await
}

/// What the rack says once it is told that enough was seen.
async fn last_word(lines: &mut Listening) -> Option<Value> {
    lines.enough().await;
    loop {
        match lines.next().await {
            Ok(Some(Answer::Done(done))) => return Some(done),
            Ok(Some(_)) => {}
            _ => return None,
        }
    }
}

fn opened(begun: &Value) -> String {
    let wires = begun["wires"].as_array().map(Vec::as_slice).unwrap_or_default();
    match wires {
        [one] => format!("tapping {}", one.as_str().unwrap_or_default()),
        _ => format!("tapping {} wires", wires.len()),
    }
}

/// Time of day, wire, number on it, the end of the id, and what may be seen of the message.
fn shown(item: &Value) -> String {
    let word = |key: &str| item[key].as_str().unwrap_or_default();
    let at = fluxrig_actors::clock::utc(item["at_ns"].as_i64().unwrap_or(0));
    let (_, at) = at.split_once('T').unwrap_or(("", &at));
    // An id begins with the time, which many have in common.
    let id = word("id");
    let id = id.get(id.len().saturating_sub(8)..).unwrap_or(id);
    format!("{at}  {}  {}  {id}  {}\n", word("wire"), item["seq"], word("content").replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let item = json!({
            "at_ns": 1_767_225_599_999_000_000_i64, "wire": "a.out->b.in", "seq": 7,
            "id": "01900000-0000-7000-8000-000012345678", "content": "0100 3=000000\n4=1", "missed": 0,
        });
        assert_eq!(shown(&item), "23:59:59.999Z  a.out->b.in  7  12345678  0100 3=000000 4=1\n");
        assert_eq!(opened(&json!({ "wires": ["a.out->b.in"] })), "tapping a.out->b.in");
        assert_eq!(opened(&json!({ "wires": ["a", "b"] })), "tapping 2 wires");
    }
}
