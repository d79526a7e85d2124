//! Answers of many lines: what comes onto wires, what becomes of dead letters that are sent again, and how far the replay
//! of a wire is.
//! A client that does not read holds up nobody but itself: it misses messages, and is closed at last.

use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::{LetterError, LetterFilter, Outcome, Replayed, SentAgain, Tap, TapError, Tapped};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::control::{Answer, Lines, Request, refused};
use crate::error::{exit, with_causes};
use crate::mask::{Form, Whence};
use crate::operate::{drains, durable, refuse, wall_ns};
use crate::rack::Shared;

/// Dead letters that one request sends again; of more, the oldest.
const REPLAYED_MAX: usize = 10_000;
/// Letters that are sent before it is looked what became of those before.
const SENT_AT_ONCE: usize = 256;
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Longest that it is waited for what becomes of letters.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// How often it is said that the replay of a wire waits for room.
const SAY_EVERY: Duration = Duration::from_secs(1);

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
        Request::Tap { pattern, every, form } => tap(shared, (&pattern, every, form), lines, left).await,
        Request::DlqReplay { .. } | Request::Replay { .. } if shared.is_draining() => Ok(drains()),
        Request::Replay { wire, from_seq, from_ns } => match (from_seq, from_ns) {
            (Some(seq), None) => again(shared, (&wire, Replayed::FromSeq(seq)), lines, left).await,
            (None, Some(ns)) => again(shared, (&wire, Replayed::FromNs(ns)), lines, left).await,
            _ => Ok(refused(
                exit::USAGE,
                "replay: found both or neither of a sequence and a time, expected one; remedy: give one",
            )),
        },
        Request::DlqReplay { letters, even_maybe_sent, wait_ms } => {
            let wait = Duration::from_millis(wait_ms).min(WAIT_MAX);
            let replay =
                Replay { shared, even_maybe_sent, until: Instant::now() + wait, open: Vec::new(), waiting: Vec::new() };
            tokio::select! {
                answer = replay.run(letters, lines) => answer,
                // What was sent is sent; nobody is there to be told of it.
                () = left => Ok(Answer::Done(Value::Null)),
            }
        }
        _ => Ok(refused(exit::USAGE, "request: found one with a single answer, expected a tap or a replay")),
    }
}

async fn tap(
    shared: &Shared,
    (pattern, every, form): (&str, NonZeroU64, Form),
    lines: &mut Lines,
    left: impl Future<Output = ()>,
) -> io::Result<Answer> {
    // Held for no longer than this: a rack that stops must not wait for who looks on.
    let opened = match shared.rig.read().await.as_ref() {
        Some(rig) => rig.tap(pattern, every).map_err(|error| {
            let code = if matches!(error, TapError::NoWire { .. }) { exit::USAGE } else { exit::TRY_AGAIN };
            refused(code, &error.to_string())
        }),
        None => Err(drains()),
    };
    let mut tap: Tap = match opened {
        Ok(tap) => tap,
        Err(refused) => return Ok(refused),
    };
    let wires: Vec<&str> = tap.wires().iter().map(|wire| wire.as_str()).collect();
    lines.say(&Answer::Begun(json!({ "wires": wires }))).await?;
    tokio::pin!(left);
    let mut shown = 0_u64;
    let has_rack_ended = loop {
        tokio::select! {
            biased;
            () = &mut left => break false,
            tapped = tap.next() => {
                let Some(tapped) = tapped else { break true };
                lines.say(&Answer::Item(view(shared, &tapped, form, tap.missed()))).await?;
                shown += 1;
            }
        }
    };
    Ok(Answer::Done(json!({ "shown": shown, "missed": tap.missed(), "has_rack_ended": has_rack_ended })))
}

fn view(shared: &Shared, tapped: &Tapped, form: Form, missed: u64) -> Value {
    // The gear that it goes to, as for a dead letter.
    let gear = tapped.wire.rsplit_once("->").map_or("", |(_, to)| to.split('.').next().unwrap_or(to));
    let whence = Whence { checked: &shared.checked, gear, form };
    json!({
        "at_ns": wall_ns(),
        "wire": tapped.wire.as_str(),
        "seq": tapped.seq,
        "id": tapped.msg.id.to_string(),
        "content": (shared.mask)(&tapped.msg, &whence),
        "missed": missed,
    })
}

/// Delivers what a wire retains once more. Whoever asked may leave: then what was delivered is all.
async fn again(
    shared: &Arc<Shared>,
    (wire, from): (&str, Replayed),
    lines: &mut Lines,
    left: impl Future<Output = ()>,
) -> io::Result<Answer> {
    // A number that no replay before had: the same number twice would make the same ids.
    let number = u64::try_from(wall_ns()).unwrap_or(0);
    let begun = shared.rig.read().await.as_ref().map(|rig| rig.replay(wire, from, number));
    let mut replay = match begun {
        Some(Ok(replay)) => replay,
        Some(Err(error)) => return Ok(refuse(&error)),
        None => return Ok(drains()),
    };
    tokio::pin!(left);
    let is_whole = loop {
        let room = tokio::select! {
            biased;
            () = &mut left => break false,
            room = timeout(SAY_EVERY, replay.room()) => room,
        };
        match room {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Ok(refuse(&error)),
            Err(_) => {
                lines.say(&Answer::Item(json!({ "wire": wire, "waits_after": replay.delivered() }))).await?;
                continue;
            }
        }
        // What is on the disk is read back there, which may take its time.
        let step = tokio::task::spawn_blocking(move || {
            let count = replay.deliver();
            (replay, count)
        });
        let Ok((stepped, count)) = step.await else { return Ok(drains()) };
        replay = stepped;
        match count {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) => return Ok(refuse(&error)),
        }
    };
    let count = replay.delivered();
    drop(replay);
    if let Err(refused) = durable(shared).await {
        return Ok(refused);
    }
    Ok(Answer::Done(json!({ "wire": wire, "replayed": count, "replay": number, "is_whole": is_whole })))
}

/// Dead letters on their way again.
struct Replay<'a> {
    shared: &'a Arc<Shared>,
    even_maybe_sent: bool,
    until: Instant,
    /// Not sent yet, the oldest last.
    waiting: Vec<u64>,
    /// Sent, and not known yet what became of them.
    open: Vec<SentAgain>,
}

impl Replay<'_> {
    async fn run(mut self, letters: LetterFilter, lines: &mut Lines) -> io::Result<Answer> {
        let mut seqs = match self.shared.rig.read().await.as_ref().map(|rig| rig.letter_seqs(&letters)) {
            Some(Ok(seqs)) => seqs,
            Some(Err(error)) => return Ok(refuse(&error)),
            None => return Ok(drains()),
        };
        let left = seqs.len().saturating_sub(REPLAYED_MAX);
        seqs.truncate(REPLAYED_MAX);
        lines.say(&Answer::Begun(json!({ "letters": seqs.len() }))).await?;
        seqs.reverse();
        self.waiting = seqs;
        loop {
            let is_over = Instant::now() >= self.until || self.shared.is_draining();
            let before = self.waiting.len();
            let told = match self.send(is_over).await {
                Ok(refusals) => refusals,
                Err(refused) => return Ok(refused),
            };
            for item in told {
                lines.say(&Answer::Item(item)).await?;
            }
            let is_last = is_over && self.waiting.is_empty();
            match self.settle(is_last).await {
                Ok(settled) => {
                    for item in settled {
                        lines.say(&Answer::Item(item)).await?;
                    }
                }
                Err(refused) => return Ok(refused),
            }
            if self.waiting.is_empty() && self.open.is_empty() {
                return Ok(Answer::Done(json!({ "left": left })));
            }
            // While wires have room there is no reason to wait.
            if self.waiting.is_empty() || self.waiting.len() == before {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Sends the next ones, and says which are refused. One whose wire is full waits until it has room, or it `is_over`.
    async fn send(&mut self, is_over: bool) -> Result<Vec<Value>, Answer> {
        let count = self.waiting.len().min(SENT_AT_ONCE);
        if count == 0 {
            return Ok(Vec::new());
        }
        let next = self.waiting.split_off(self.waiting.len() - count);
        let (shared, even_maybe_sent) = (Arc::clone(self.shared), self.even_maybe_sent);
        // What is on the disk is read back there, which may take its time.
        let sent = tokio::task::spawn_blocking(move || {
            let rig = shared.rig.blocking_read();
            let rig = rig.as_ref()?;
            let sent = next.into_iter().rev().map(|seq| (seq, rig.replay_letter(seq, even_maybe_sent)));
            Some(sent.collect::<Vec<_>>())
        });
        let sent = sent.await.ok().flatten().ok_or_else(drains)?;
        let (mut refusals, mut held) = (Vec::new(), Vec::new());
        for (seq, sent) in sent {
            match sent {
                Ok(sent) => self.open.push(sent),
                Err(LetterError::Full { .. }) if !is_over => held.push(seq),
                Err(error) => {
                    refusals.push(json!({ "seq": seq, "outcome": "refused", "reason": with_causes(&error) }));
                }
            }
        }
        self.waiting.extend(held.into_iter().rev());
        Ok(refusals)
    }

    /// Says what became of those that it is known of; of all when it `is_last`.
    async fn settle(&mut self, is_last: bool) -> Result<Vec<Value>, Answer> {
        let mut settled = Vec::new();
        self.open.retain(|sent| {
            let outcome = sent.outcome();
            let is_known = is_last || outcome != Outcome::Waiting;
            if is_known {
                settled.push(outcome_view(sent, &outcome));
            }
            !is_known
        });
        if !settled.is_empty() {
            durable(self.shared).await?;
        }
        Ok(settled)
    }
}

fn outcome_view(sent: &SentAgain, outcome: &Outcome) -> Value {
    let mut view = json!({ "seq": sent.letter(), "id": sent.id().to_string(), "wire": sent.wire() });
    match outcome {
        Outcome::Handled => view["outcome"] = "handled".into(),
        Outcome::DeadAgain { seq, reason } => {
            view["outcome"] = "dead_again".into();
            view["again_seq"] = (*seq).into();
            view["reason"] = reason.as_str().into();
        }
        _ => view["outcome"] = "waiting".into(),
    }
    view
}
