//! What becomes of dead letters that are sent again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::{LetterError, LetterFilter, Outcome, SentAgain};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::control::{Answer, Lines};
use crate::error::with_causes;
use crate::operate::{drains, durable, refuse};
use crate::rack::Shared;

/// Dead letters that one request sends again; of more, the oldest.
const REPLAYED_MAX: usize = 10_000;
/// Letters that are sent before it is looked what became of those before.
const SENT_AT_ONCE: usize = 256;
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Longest that it is waited for what becomes of letters.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Sends letters again, and waits at most `wait` for what becomes of them.
pub(super) async fn send_again(
    shared: &Arc<Shared>,
    letters: LetterFilter,
    even_maybe_sent: bool,
    wait: Duration,
    lines: &mut Lines,
) -> io::Result<Answer> {
    let until = Instant::now() + wait.min(WAIT_MAX);
    Sending { shared, even_maybe_sent, until, open: Vec::new(), waiting: Vec::new() }.run(letters, lines).await
}

/// Dead letters on their way again.
struct Sending<'a> {
    shared: &'a Arc<Shared>,
    even_maybe_sent: bool,
    until: Instant,
    /// Not sent yet, the oldest last.
    waiting: Vec<u64>,
    /// Sent, and not known yet what became of them.
    open: Vec<SentAgain>,
}

impl Sending<'_> {
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
