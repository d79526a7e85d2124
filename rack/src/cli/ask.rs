//! `fluxrig top`, `replay`, and how a command asks the running rack: over its control socket.

use std::time::Duration;

use fluxrig_rack::{Answer, Request, ask, exit, listen_to, top_text, with_causes};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::tap::Signals;
use super::{At, ReplayArgs, complain, is_terminal, say, say_json};

/// How often `top` looks.
const REFRESH: Duration = Duration::from_secs(1);

pub(super) fn runtime() -> Result<Runtime, u8> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        complain(&format!("runtime: found none to be had ({error}), expected one; remedy: see the system's limits"));
        exit::TRY_AGAIN
    })
}

pub(super) fn asked(at: &At, request: &Request) -> Result<Value, u8> {
    match runtime()?.block_on(ask(&at.data_dir, request)) {
        Ok(Answer::Done(value)) => Ok(value),
        Ok(Answer::Refused { code, text }) => {
            complain(&text);
            Err(code)
        }
        // `ask` takes no other.
        Ok(_) => Err(exit::FAILED),
        Err(error) => {
            complain(&with_causes(&error));
            Err(exit::UNAVAILABLE)
        }
    }
}

pub(super) fn answer(at: &At, request: &Request, show: impl FnOnce(&Value)) -> u8 {
    match asked(at, request) {
        Ok(value) => {
            show(&value);
            exit::DONE
        }
        Err(code) => code,
    }
}

pub(super) fn top(at: &At, is_json: bool, is_once: bool) -> u8 {
    if is_json {
        return answer(at, &Request::Top, |top| {
            let mut top = top.clone();
            // The page for people is no part of what programs read.
            top.as_object_mut().map(|top| top.remove("text"));
            say_json(&top);
        });
    }
    if is_once || !is_terminal() {
        return answer(at, &Request::Top, |top| say(&top_text(top)));
    }
    loop {
        let code = answer(at, &Request::Top, |top| say(&frame(&top_text(top))));
        if code != exit::DONE {
            return code;
        }
        match runtime() {
            Ok(runtime) => runtime.block_on(tokio::time::sleep(REFRESH)),
            Err(code) => return code,
        }
    }
}

/// A page that takes the place of the one before: no flicker, and no second screen to leave. Each line goes to a row of
/// its own, so one that is longer than the screen does not scroll it: its beginning stays, and its last line.
fn frame(page: &str) -> String {
    let rows = page.lines().zip(1..).map(|(line, row)| format!("\x1b[{row};1H{line}\x1b[K"));
    rows.chain(["\x1b[J".to_owned()]).collect()
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
    let unavailable = |error: &dyn std::error::Error| {
        complain(&with_causes(error));
        exit::UNAVAILABLE
    };
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
                    "{waits_after} delivered again so far; waiting for room on wire `{}` or behind it; Ctrl-C ends the replay here",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_longer_than_the_screen_does_not_scroll_it() {
        let found = frame("one\ntwo\n");
        assert_eq!(found, "\x1b[1;1Hone\x1b[K\x1b[2;1Htwo\x1b[K\x1b[J");
    }
}
