//! `fluxrig top`, and how a command asks the running rack: over its control socket.

use std::time::Duration;

use fluxrig_rack::{Answer, Request, ask, exit, top_text, with_causes};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{At, complain, is_terminal, say, say_json};

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
        Err(error) => Err(unavailable(&error)),
    }
}

/// Says why the rack cannot be asked, or does not answer; the exit code of that.
pub(super) fn unavailable(error: &dyn std::error::Error) -> u8 {
    complain(&with_causes(error));
    exit::UNAVAILABLE
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_longer_than_the_screen_does_not_scroll_it() {
        let found = frame("one\ntwo\n");
        assert_eq!(found, "\x1b[1;1Hone\x1b[K\x1b[2;1Htwo\x1b[K\x1b[J");
    }
}
