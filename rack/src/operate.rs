//! What an operator can ask of a running rack, and do with its dead letters and retained messages.

use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::{DeadLetter, LetterError, Replayed, RunningRig};
use serde_json::{Value, json};

use crate::control::{Answer, Request, refused};
use crate::error::{exit, with_causes};
use crate::mask::Whence;
use crate::rack::Shared;
use crate::view;

/// Dead letters in one list; the newest.
const LISTED_MAX: usize = 10_000;
/// How long what was done may take to be durable.
const DURABLE_TIME: Duration = Duration::from_secs(5);

/// Answers one request.
pub(crate) async fn answer(request: Request, shared: Arc<Shared>) -> Answer {
    if request == Request::Top {
        return Answer::Done(view::top(&shared).await);
    }
    let asked = Arc::clone(&shared);
    // What is on the disk is read back there, which may take its time.
    let done = tokio::task::spawn_blocking(move || match asked.rig.blocking_read().as_ref() {
        Some(rig) => act(&request, rig, &asked),
        None => Err(drains()),
    });
    match done.await {
        Ok(Ok((value, true))) => match shared.rig.read().await.as_ref() {
            // What an operator was told is done stays done.
            Some(rig) => match tokio::time::timeout(DURABLE_TIME, rig.durable()).await {
                Ok(true) => Answer::Done(value),
                Ok(false) => drains(),
                Err(_) => refused(
                    exit::TRY_AGAIN,
                    "journal: found it not written in time, expected what was done to be durable; remedy: see whether the rack is degraded",
                ),
            },
            None => drains(),
        },
        Ok(Ok((value, false))) => Answer::Done(value),
        Ok(Err(refused)) => refused,
        Err(_) => {
            refused(exit::FAILED, "request: found a failure inside the rack, expected an answer; remedy: see its log")
        }
    }
}

fn drains() -> Answer {
    refused(exit::TRY_AGAIN, "rack: found it starting or draining, expected it running; remedy: try again later")
}

/// The answer, and whether anything was changed.
fn act(request: &Request, rig: &RunningRig, shared: &Shared) -> Result<(Value, bool), Answer> {
    let refuse = |error: LetterError| refused(exit::FAILED, &with_causes(&error));
    match request {
        Request::Top => Ok((Value::Null, false)),
        Request::DlqList => {
            let letters = rig.dead_letters().map_err(refuse)?;
            let skipped = letters.len().saturating_sub(LISTED_MAX);
            let shown: Vec<Value> = letters[skipped..].iter().map(letter_view).collect();
            Ok((json!({ "count": letters.len(), "letters": shown }), false))
        }
        Request::DlqShow { seq } => {
            let letters = rig.dead_letters().map_err(refuse)?;
            let letter = letters.iter().find(|letter| letter.seq == *seq);
            let letter = letter.ok_or_else(|| refuse(LetterError::Unknown { seq: *seq }))?;
            let mut shown = letter_view(letter);
            shown["first_error"] = letter.first_error.as_str().into();
            shown["last_error"] = letter.last_error.as_str().into();
            let whence = Whence { checked: &shared.checked, gear: &letter.gear };
            shown["content"] = (shared.mask)(&letter.msg, &whence).into();
            Ok((shown, false))
        }
        Request::DlqReplay { seq, even_maybe_sent } => {
            rig.replay_letter(*seq, *even_maybe_sent).map_err(refuse)?;
            Ok((json!({ "replayed": seq }), true))
        }
        Request::DlqPurge { seq: Some(seq) } => {
            rig.purge_letter(*seq).map_err(refuse)?;
            Ok((json!({ "purged": 1 }), true))
        }
        Request::DlqPurge { seq: None } => {
            let letters = rig.dead_letters().map_err(refuse)?;
            let mut purged = 0;
            for letter in &letters {
                // Another operator may have been faster.
                purged += u64::from(rig.purge_letter(letter.seq).is_ok());
            }
            Ok((json!({ "purged": purged }), true))
        }
        Request::Replay { wire, from_seq, from_ns } => {
            let from = match (from_seq, from_ns) {
                (Some(seq), None) => Replayed::FromSeq(*seq),
                (None, Some(ns)) => Replayed::FromNs(*ns),
                _ => {
                    return Err(refused(
                        exit::USAGE,
                        "replay: found both or neither of a sequence and a time, expected one; remedy: give one",
                    ));
                }
            };
            let number = replay_number();
            let count = rig.replay(wire, from, number).map_err(refuse)?;
            Ok((json!({ "wire": wire, "replayed": count, "replay": number }), true))
        }
    }
}

/// A number that no replay before had: the same number twice would make the same ids.
fn replay_number() -> u64 {
    use fluxrig_actors::clock::{Machine, World};
    u64::try_from(Machine::new().wall_ns()).unwrap_or(0)
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
