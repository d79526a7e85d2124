//! What an operator can ask of a running rack, and do with its dead letters and retained messages.

use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::{DeadLetter, LetterCount, LetterError, RunningRig};
use serde_json::{Value, json};

use crate::control::{Answer, Request, refused};
use crate::error::{exit, with_causes};
use crate::mask::{Form, Whence};
use crate::rack::Shared;
use crate::view;

/// Dead letters in one list; the newest.
const LISTED_MAX: usize = 10_000;
/// How long what was done may take to be durable.
const DURABLE_TIME: Duration = Duration::from_secs(5);

/// Answers one request.
pub(crate) async fn answer(request: Request, shared: Arc<Shared>) -> Answer {
    let of_bus = match &request {
        Request::Top => return Answer::Done(view::top(&shared).await),
        Request::BusStatus => return Answer::Done(view::bus_status(&shared).await),
        Request::BusUnused => Some(shared.bus.unused().await.map(|unused| json!({ "unused": unused }))),
        Request::BusPrune { names } => Some(shared.bus.prune(names).await.map(|removed| json!({ "removed": removed }))),
        _ => None,
    };
    if let Some(done) = of_bus {
        return done.map_or_else(|why| refused(exit::UNAVAILABLE, &why), Answer::Done);
    }
    // What is sent again while it drains would only be one more thing to wait for.
    if shared.is_draining()
        && !matches!(request, Request::DlqList { .. } | Request::DlqCount { .. } | Request::DlqShow { .. })
    {
        return drains();
    }
    let asked = Arc::clone(&shared);
    // What is on the disk is read back there, which may take its time.
    let done = tokio::task::spawn_blocking(move || match asked.rig.blocking_read().as_ref() {
        Some(rig) => act(&request, rig, &asked),
        None => Err(drains()),
    });
    match done.await {
        Ok(Ok((value, true))) => durable(&shared).await.err().unwrap_or(Answer::Done(value)),
        Ok(Ok((value, false))) => Answer::Done(value),
        Ok(Err(refused)) => refused,
        Err(_) => {
            refused(exit::FAILED, "request: found a failure inside the rack, expected an answer; remedy: see its log")
        }
    }
}

/// What an operator was told is done stays done.
pub(crate) async fn durable(shared: &Shared) -> Result<(), Answer> {
    match shared.rig.read().await.as_ref() {
        Some(rig) => match tokio::time::timeout(DURABLE_TIME, rig.durable()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(drains()),
            Err(_) => Err(not_durable()),
        },
        None => Err(drains()),
    }
}

pub(crate) fn drains() -> Answer {
    refused(
        exit::TRY_AGAIN,
        "rack: found it starting, standing by or draining, expected it running; remedy: try again later, or ask the holder",
    )
}

fn not_durable() -> Answer {
    refused(
        exit::TRY_AGAIN,
        "journal: found it not written in time, expected what was done to be durable; remedy: see whether the rack is degraded",
    )
}

/// A name that nothing has is a mistake in the command line; all else is a failure.
pub(crate) fn refuse(error: &LetterError) -> Answer {
    let code = match error {
        LetterError::NoGear { .. }
        | LetterError::NoWireLike { .. }
        | LetterError::NoReason { .. }
        | LetterError::UnknownWire { .. } => exit::USAGE,
        _ => exit::FAILED,
    };
    refused(code, &with_causes(error))
}

/// The answer, and whether anything was changed.
fn act(request: &Request, rig: &RunningRig, shared: &Shared) -> Result<(Value, bool), Answer> {
    let refuse = |error: LetterError| refuse(&error);
    match request {
        Request::DlqList { letters, limit } => {
            let max = limit.map_or(LISTED_MAX, |limit| limit.min(LISTED_MAX));
            let count = rig.letter_seqs(letters).map_err(refuse)?.len();
            let found = rig.find_letters(letters, max).map_err(refuse)?;
            let shown: Vec<Value> = found.iter().map(letter_view).collect();
            Ok((json!({ "count": count, "letters": shown }), false))
        }
        Request::DlqCount { letters } => {
            let counts = rig.count_letters(letters).map_err(refuse)?;
            let sum: usize = counts.iter().map(|count| count.count).sum();
            let last_seq = counts.iter().map(|count| count.last_seq).max();
            let shown: Vec<Value> = counts.iter().map(count_view).collect();
            Ok((json!({ "count": sum, "last_seq": last_seq, "counts": shown }), false))
        }
        Request::DlqShow { seq } => {
            let letter = rig.dead_letter(*seq).map_err(refuse)?;
            let mut shown = letter_view(&letter);
            shown["first_error"] = letter.first_error.as_str().into();
            shown["last_error"] = letter.last_error.as_str().into();
            let whence = Whence { checked: &shared.checked, gear: &letter.gear, form: Form::Page };
            shown["content"] = (shared.mask)(&letter.msg, &whence).into();
            Ok((shown, false))
        }
        Request::DlqPurge { letters } => {
            let purged = rig.purge_letters(letters).map_err(refuse)?;
            Ok((json!({ "purged": purged }), true))
        }
        // These have answers of their own.
        Request::Top
        | Request::BusStatus
        | Request::BusUnused
        | Request::BusPrune { .. }
        | Request::DlqReplay { .. }
        | Request::Replay { .. }
        | Request::Tap { .. } => Ok((Value::Null, false)),
    }
}

pub(crate) fn wall_ns() -> i64 {
    use fluxrig_actors::clock::{Machine, World};
    Machine::new().wall_ns()
}

fn count_view(count: &LetterCount) -> Value {
    json!({
        "gear": count.gear.as_str(),
        "reason": count.reason.as_str(),
        "count": count.count,
        "oldest_ns": count.oldest_ns,
        "newest_ns": count.newest_ns,
    })
}

fn letter_view(letter: &DeadLetter) -> Value {
    let is_maybe_sent = letter.msg.flags.contains(fluxrig_actors::protocol::Flags::MAYBE_SENT);
    json!({
        "seq": letter.seq,
        "id": letter.msg.id.to_string(),
        "gear": letter.gear.as_str(),
        "wire": letter.wire.as_str(),
        "reason": letter.reason.as_str(),
        "attempts": letter.attempts,
        "at_ns": letter.at_ns,
        "is_maybe_sent": is_maybe_sent,
    })
}
