//! `fluxrig top`, `dlq`, `replay`: questions to the running rack, over its control socket.

use std::time::Duration;

use fluxrig_rack::{Answer, Request, ask, exit, top_text, with_causes};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{At, DlqCommand, ReplayArgs, complain, is_terminal, say, say_json, time};

/// How often `top` looks.
const REFRESH: Duration = Duration::from_secs(1);

fn runtime() -> Result<Runtime, u8> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        complain(&format!("runtime: found none to be had ({error}), expected one; remedy: see the system's limits"));
        exit::TRY_AGAIN
    })
}

fn asked(at: &At, request: &Request) -> Result<Value, u8> {
    match runtime()?.block_on(ask(&at.data_dir, request)) {
        Ok(Answer::Done(value)) => Ok(value),
        Ok(Answer::Refused { code, text }) => {
            complain(&text);
            Err(code)
        }
        Err(error) => {
            complain(&with_causes(&error));
            Err(exit::UNAVAILABLE)
        }
    }
}

fn answer(at: &At, request: &Request, show: impl FnOnce(&Value)) -> u8 {
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

pub(super) fn dlq(at: &At, command: &DlqCommand) -> u8 {
    match command {
        DlqCommand::List { json } => answer(at, &Request::DlqList, |found| match json {
            true => say_json(found),
            false => letters(found),
        }),
        DlqCommand::Show { seq, json } => answer(at, &Request::DlqShow { seq: *seq }, |found| match json {
            true => say_json(found),
            false => letter(found),
        }),
        DlqCommand::Replay { seq, even_maybe_sent } => {
            let request = Request::DlqReplay { seq: *seq, even_maybe_sent: *even_maybe_sent };
            answer(at, &request, |_| say(&format!("dead letter {seq} sent again\n")))
        }
        DlqCommand::Purge { seq, .. } => answer(at, &Request::DlqPurge { seq: *seq }, |done| {
            say(&format!("{} purged\n", done["purged"]));
        }),
    }
}

fn letters(found: &Value) {
    let letters = found["letters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let plural = if found["count"] == 1 { "" } else { "s" };
    say(&format!("{} dead letter{plural}\n", found["count"]));
    for letter in letters {
        let word = |key: &str| letter[key].as_str().unwrap_or_default();
        let at = time::written(letter["at_ns"].as_i64().unwrap_or(0));
        let mark = if letter["is_maybe_sent"] == true { "  MAYBE SENT" } else { "" };
        say(&format!(
            "{:>8}  {at}  {}  attempts {}{mark}  {}\n",
            letter["seq"],
            word("gear"),
            letter["attempts"],
            word("reason")
        ));
    }
}

fn letter(found: &Value) {
    for key in
        ["seq", "id", "gear", "wire", "reason", "attempts", "first_error", "last_error", "is_maybe_sent", "content"]
    {
        let value = &found[key];
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        say(&format!("{key:14} {}\n", text.replace('\n', &format!("\n{:15}", ""))));
    }
    say(&format!("{:14} {}\n", "at", time::written(found["at_ns"].as_i64().unwrap_or(0))));
}

pub(super) fn replay(args: &ReplayArgs) -> u8 {
    let request = Request::Replay { wire: args.wire.clone(), from_seq: args.from_seq, from_ns: args.from_time };
    answer(&args.at, &request, |done| say(&format!("{} messages delivered again\n", done["replayed"])))
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
