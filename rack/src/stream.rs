//! Answers of many lines: what comes onto wires, what becomes of dead letters that are sent again, and how far the replay
//! of a wire is.
//! A client that does not read holds up nobody but itself: it misses messages, and is closed at last.

mod letters;
mod replay;
mod tap;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::Replayed;
use serde_json::Value;

use crate::control::{Answer, Lines, Request, refused};
use crate::error::exit;
use crate::operate::drains;
use crate::rack::Shared;

/// Says every line but the last, which is returned. It ends early when the client has `left`.
///
/// # Errors
/// When the client does not read.
pub(crate) async fn answer(
    request: Request,
    shared: &Arc<Shared>,
    lines: &mut Lines,
    left: impl Future<Output = ()>,
) -> io::Result<Answer> {
    match request {
        Request::Tap { pattern, every, form } => tap::tap(shared, (&pattern, every, form), lines, left).await,
        Request::DlqReplay { .. } | Request::Replay { .. } if shared.is_draining() => Ok(drains()),
        Request::Replay { wire, from_seq, from_ns } => match (from_seq, from_ns) {
            (Some(seq), None) => replay::replay(shared, (&wire, Replayed::FromSeq(seq)), lines, left).await,
            (None, Some(ns)) => replay::replay(shared, (&wire, Replayed::FromNs(ns)), lines, left).await,
            _ => Ok(refused(
                exit::USAGE,
                "replay: found both or neither of a sequence and a time, expected one; remedy: give one",
            )),
        },
        Request::DlqReplay { letters, even_maybe_sent, wait_ms } => tokio::select! {
            answer = letters::send_again(shared, letters, even_maybe_sent, Duration::from_millis(wait_ms), lines) => answer,
            // What was sent is sent; nobody is there to be told of it.
            () = left => Ok(Answer::Done(Value::Null)),
        },
        _ => Ok(refused(exit::USAGE, "request: found one with a single answer, expected a tap or a replay")),
    }
}
