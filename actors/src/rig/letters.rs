//! Dead letters and replay, in code: listed, sent again, purged; and what retained wires still hold.

use std::sync::Arc;

use fluxrig_protocol::{Flags, FluxMsg};
use smol_str::SmolStr;

use super::RunningRig;
use crate::commit::EffectEnd;
use crate::journal::StorageError;
use crate::outlet::Send;
use crate::wire::{After, Body, DeadNote, Position};
use crate::wire_actor::body_at;

/// A message that nobody could handle, and why.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Its number on the dead-letter wire.
    pub seq: u64,
    /// The message, without sensitive data where the rig redacts.
    pub msg: FluxMsg,
    /// The gear that could not handle it.
    pub gear: SmolStr,
    /// The wire it came on; empty for a timer.
    pub wire: SmolStr,
    /// Why it is here.
    pub reason: SmolStr,
    /// How often it was delivered.
    pub attempts: u32,
    /// The first error.
    pub first_error: SmolStr,
    /// The last error.
    pub last_error: SmolStr,
    /// When it came here, in nanoseconds since the Unix epoch.
    pub at_ns: i64,
}

/// Why a dead letter or a retained message is not sent again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LetterError {
    /// There is none of this number.
    #[error("dead letter {seq}: found none of this number, expected one of the list; remedy: list them again")]
    Unknown {
        /// The number.
        seq: u64,
    },
    /// The wire it came on is not there.
    #[error(
        "dead letter {seq}: found no wire `{wire}` in this rig, expected the one it came on; remedy: purge it, or start the rig that has the wire"
    )]
    NoWire {
        /// The number.
        seq: u64,
        /// The wire.
        wire: SmolStr,
    },
    /// Its effect may have happened.
    #[error(
        "dead letter {seq}: found one that may have been sent, expected the operator's word; remedy: check with the peer, then replay it as maybe sent"
    )]
    MaybeSent {
        /// The number.
        seq: u64,
    },
    /// No such wire, or it does not retain.
    #[error(
        "wire `{wire}`: found none of this name that retains, expected a wire with `retention`; remedy: set it and run again"
    )]
    NotRetained {
        /// The wire.
        wire: String,
    },
    /// A body cannot be read back.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A body does not decode.
    #[error("journal: {0}")]
    Decode(String),
}

/// One message that a wire retains.
#[derive(Clone, Debug)]
pub struct RetainedMsg {
    /// Its sequence on the wire (on its partition).
    pub seq: u64,
    /// When it was written, in nanoseconds since the Unix epoch.
    pub at_ns: i64,
    /// The message.
    pub msg: FluxMsg,
}

/// Where a replay begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// From this sequence on.
    FromSeq(u64),
    /// From this wall time on, in nanoseconds since the Unix epoch.
    FromNs(i64),
}

impl Replayed {
    fn takes(self, seq: u64, at_ns: i64) -> bool {
        match self {
            Self::FromSeq(from) => seq >= from,
            Self::FromNs(from) => at_ns >= from,
        }
    }
}

impl RunningRig {
    /// Every dead letter, oldest first.
    ///
    /// # Errors
    /// When one cannot be read back from the journal.
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>, LetterError> {
        let found: Vec<(u64, Body, Arc<DeadNote>)> = self.node.dead.peek(|entry| {
            let note = entry.dead.clone()?;
            Some((entry.seq, entry.body.clone(), note))
        });
        found.into_iter().map(|(seq, body, note)| self.letter(seq, body, &note)).collect()
    }

    /// How many dead letters there are.
    #[must_use]
    pub fn dead_letter_count(&self) -> usize {
        self.node.dead.len()
    }

    fn letter(&self, seq: u64, body: Body, note: &DeadNote) -> Result<DeadLetter, LetterError> {
        let msg = match body {
            Body::Here(msg) => msg,
            Body::There(position) => self.read_back(position)?,
            Body::Gone => return Err(LetterError::Unknown { seq }),
        };
        Ok(DeadLetter {
            seq,
            msg,
            gear: note.gear.clone(),
            wire: note.wire.clone(),
            reason: note.reason.clone(),
            attempts: note.attempts,
            first_error: note.first.clone(),
            last_error: note.last.clone(),
            at_ns: note.at_ns,
        })
    }

    fn read_back(&self, position: Position) -> Result<FluxMsg, LetterError> {
        let reader = self.reader.as_ref().ok_or_else(|| LetterError::Decode("found no journal to read from".into()))?;
        let body = reader.read(position.at)?;
        body_at(&body, position, self.node.settings.limits).map_err(LetterError::Decode)
    }

    /// Sends a dead letter over its wire again, and takes it off the list, in one commit. One that may have been sent is
    /// sent only with the operator's word, `even_maybe_sent`.
    ///
    /// # Errors
    /// See [`LetterError`]; the letter stays then.
    pub fn replay_letter(&self, seq: u64, even_maybe_sent: bool) -> Result<(), LetterError> {
        let letter = self.dead_letters()?.into_iter().find(|letter| letter.seq == seq);
        let letter = letter.ok_or(LetterError::Unknown { seq })?;
        if letter.msg.flags.contains(Flags::MAYBE_SENT) && !even_maybe_sent {
            return Err(LetterError::MaybeSent { seq });
        }
        let wire = self.node.wires.iter().find(|wire| wire.name == letter.wire);
        let Some(wire) = wire else { return Err(LetterError::NoWire { seq, wire: letter.wire }) };
        let queue = wire.route(&letter.msg).spec.idx;
        let mut msg = letter.msg;
        // Another id than before: what was derived from the failed deliveries must not be taken for what comes now.
        msg.id = self.node.id_key.replay(msg.id, self.node.dead.spec.number, seq);
        let reports = vec![Send::new(queue, msg, After::NOTHING)];
        self.take_off(seq, reports);
        Ok(())
    }

    /// Forgets a dead letter.
    ///
    /// # Errors
    /// When there is none of this number.
    pub fn purge_letter(&self, seq: u64) -> Result<(), LetterError> {
        if self.node.dead.peek(|entry| (entry.seq == seq).then_some(())).is_empty() {
            return Err(LetterError::Unknown { seq });
        }
        self.take_off(seq, Vec::new());
        Ok(())
    }

    fn take_off(&self, seq: u64, reports: Vec<Send>) {
        let mut seqs = std::iter::once(seq);
        self.node.end_effects(EffectEnd { queue: &self.node.dead, seqs: &mut seqs, dead: Vec::new(), reports });
    }

    /// What a wire with `retention` still holds from there on, oldest first.
    ///
    /// # Errors
    /// When the wire does not retain, or its messages cannot be read back.
    pub fn retained(&self, wire: &str, from: Replayed) -> Result<Vec<RetainedMsg>, LetterError> {
        let found = self.node.wires.iter().find(|found| found.name == wire && found.options.retention.is_some());
        let found = found.ok_or_else(|| LetterError::NotRetained { wire: wire.to_owned() })?;
        let items = found.queues.iter().flat_map(|queue| queue.retained());
        let items = items.filter(|item| from.takes(item.seq, item.at_ns));
        items
            .map(|item| Ok(RetainedMsg { seq: item.seq, at_ns: item.at_ns, msg: self.read_back(item.position)? }))
            .collect()
    }

    /// Delivers what a wire retains once more, from there on, behind what is on it now. Every message gets an id of its
    /// own, made of its first one and `replay`, the number of this replay: the same number twice makes the same ids.
    ///
    /// # Errors
    /// As for [`RunningRig::retained`].
    pub fn replay(&self, wire: &str, from: Replayed, replay: u64) -> Result<usize, LetterError> {
        let msgs = self.retained(wire, from)?;
        let count = msgs.len();
        let Some(wire) = self.node.wires.iter().find(|found| found.name == wire) else { return Ok(0) };
        for RetainedMsg { mut msg, .. } in msgs {
            let queue = wire.route(&msg);
            msg.reference = Some(msg.id);
            msg.id = self.node.id_key.replay(msg.id, queue.spec.number, replay);
            let reports = vec![Send::new(queue.spec.idx, msg, After::NOTHING)];
            let mut seqs = std::iter::empty();
            self.node.end_effects(EffectEnd { queue, seqs: &mut seqs, dead: Vec::new(), reports });
        }
        Ok(count)
    }
}
