//! What became of messages whose outcome is unknown (HEART §10.3): sent again, found with the leader, or given up.
//! The only place that decides whether we are still the one who writes.

use bytes::Bytes;
use futures_util::future::join_all;

use super::format::{self, Identity, NoPart, part};
use super::log::{Last, Log, LogError, Outcome};
use crate::mutants::{self, Mutation};

/// How often messages are sent before their fate is left to a new segment.
const ROUNDS_MAX: u32 = 3;
/// Messages behind ours that are looked at one by one; more than one writer leaves by accident.
const LOOK_MAX: u64 = 8192;
/// What a writer that is broken on purpose expects; only the simulated log knows it.
pub(super) const ANY_SEQ: u64 = u64::MAX;

/// Who we are in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Me {
    pub(super) term: u64,
    /// Random number of this opening: two that hold one term by mistake are told apart by it.
    pub(super) writer: u64,
}

/// The last message that is known to be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) seq: u64,
    /// `None` for the beginning of a stream.
    pub(super) identity: Option<Identity>,
}

/// Why messages are not known to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unsettled {
    Full(String),
    TooLarge(usize),
    Unreachable(LogError),
    /// The stream ends before what was acked.
    Rewound {
        found: u64,
    },
    /// Another one writes.
    Fenced {
        term: u64,
    },
    /// Something stands behind our tail that nobody of this journal wrote.
    Foreign {
        seq: u64,
        found: String,
    },
    /// A message that had been given up arrived between ours.
    Crossed,
    /// Sent and looked for as often as makes sense.
    Unknown(String),
}

impl From<LogError> for Unsettled {
    fn from(error: LogError) -> Self {
        Unsettled::Unreachable(error)
    }
}

/// Appends these messages behind `tail`, which moves with each that is known to be stored.
pub(super) async fn settle(log: &dyn Log, me: Me, tail: &mut Tail, parts: &[Bytes]) -> Result<(), Unsettled> {
    let mut done = 0;
    let mut why = String::new();
    for _ in 0..ROUNDS_MAX {
        let left = &parts[done..];
        // All are on their way before the first is waited for.
        let outcomes: Vec<_> =
            left.iter().zip(tail.seq..).map(|(part, seq)| log.append(part.clone(), expected(part, seq))).collect();
        let outcomes = join_all(outcomes).await;
        let is_stored = |(outcome, seq): &(&Outcome, u64)| **outcome == Outcome::Stored(*seq);
        let stored = outcomes.iter().zip(tail.seq + 1..).take_while(is_stored).count();
        advance(tail, &left[..stored]);
        done += stored;
        if mutants::is(Mutation::FirstMessageForGroup) && stored > 0 {
            advance(tail, &left[stored..]);
            return Ok(());
        }
        match outcomes.get(stored) {
            None => return Ok(()),
            Some(Outcome::Unknown { .. }) if mutants::is(Mutation::UnknownIsAcked) => {
                advance(tail, &left[stored..]);
                return Ok(());
            }
            Some(Outcome::Full { reason }) => return Err(Unsettled::Full(reason.clone())),
            Some(Outcome::TooLarge { bytes_max }) => return Err(Unsettled::TooLarge(*bytes_max)),
            Some(Outcome::Unknown { reason }) => why.clone_from(reason),
            Some(Outcome::WrongLast { .. } | Outcome::Stored(_)) => "another last sequence".clone_into(&mut why),
        }
        if mutants::is(Mutation::UnknownSentAgain) {
            drop(log.append(parts[done].clone(), ANY_SEQ).await);
        }
        let found = look(log, me, tail).await?;
        let ours = found.iter().zip(&parts[done..]).take_while(|((_, found), part)| found == *part).count();
        advance(tail, &parts[done..done + ours]);
        done += ours;
        if ours < found.len() {
            return Err(Unsettled::Crossed);
        }
        if done == parts.len() {
            return Ok(());
        }
    }
    Err(Unsettled::Unknown(why))
}

// The sequence behind which a message is to stand.
fn expected(part: &Bytes, seq: u64) -> u64 {
    let is_record = || format::part(part).is_ok_and(|part| part.header.begins && part.header.is_empty);
    let is_any = mutants::is(Mutation::ExpectedNotSent) || mutants::is(Mutation::RecordWithoutExpected) && is_record();
    if is_any { ANY_SEQ } else { seq }
}

fn advance(tail: &mut Tail, stored: &[Bytes]) {
    if let Some(last) = stored.last() {
        *tail = Tail { seq: tail.seq + stored.len() as u64, identity: Some(Identity::of(last)) };
    }
}

/// Everything that the leader has behind `tail`, which must still be what it was. All of it is ours, of a term before
/// ours, or the end of our writing.
pub(super) async fn look(log: &dyn Log, me: Me, tail: &Tail) -> Result<Vec<(u64, Bytes)>, Unsettled> {
    let Last { seq: last_seq, payload } = log.last().await?;
    if last_seq < tail.seq {
        return Err(Unsettled::Rewound { found: last_seq });
    }
    if last_seq == tail.seq {
        let identity = payload.as_deref().map(Identity::of);
        return if identity == tail.identity {
            Ok(Vec::new())
        } else {
            match payload {
                Some(payload) => {
                    check_author(me, last_seq, &payload)?;
                    // Ours, and yet another message: what was acked is gone.
                    Err(Unsettled::Rewound { found: last_seq - 1 })
                }
                None => Err(Unsettled::Rewound { found: 0 }),
            }
        };
    }
    if let Some(payload) = &payload {
        check_author(me, last_seq, payload)?;
    }
    if last_seq - tail.seq > LOOK_MAX {
        let found = format!("{} messages behind the last that is known", last_seq - tail.seq);
        return Err(Unsettled::Foreign { seq: last_seq, found });
    }
    let mut found = Vec::new();
    // One by one: the end of an abandoned group may arrive behind the record that fenced us.
    for seq in tail.seq + 1..=last_seq {
        let Some(payload) = log.read(seq).await? else {
            return Err(Unsettled::Foreign { seq, found: "no message".into() });
        };
        check_author(me, seq, &payload)?;
        found.push((seq, payload));
    }
    Ok(found)
}

fn check_author(me: Me, seq: u64, payload: &Bytes) -> Result<(), Unsettled> {
    match part(payload) {
        Ok(part) => {
            let theirs = Me { term: part.header.term, writer: part.header.writer };
            if mutants::is(Mutation::OlderTermGoesOn) {
                return Ok(());
            }
            if theirs.term > me.term || (theirs.term == me.term && theirs.writer != me.writer) {
                return Err(Unsettled::Fenced { term: theirs.term });
            }
            Ok(())
        }
        // Whoever writes a newer format has taken over.
        Err(NoPart::Newer(version)) => {
            Err(Unsettled::Foreign { seq, found: format!("a message of format version {version}") })
        }
        Err(NoPart::Bad { found, .. }) => Err(Unsettled::Foreign { seq, found }),
    }
}
