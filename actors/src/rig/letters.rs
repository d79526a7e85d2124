//! Dead letters, in code: listed, sent again, purged.

use std::sync::MutexGuard;

use bytes::Bytes;
use fluxrig_protocol::{Flags, FluxMsg};
use smol_str::SmolStr;

use super::RunningRig;
use super::filter::{Found, LetterFilter};
use crate::commit::EffectEnd;
use crate::door::Closed;
use crate::fate::SentAgain;
use crate::journal::{GroupAt, Reader, StorageError};
use crate::node::Node;
use crate::wire::{Body, Position};
use crate::wire_actor::body_at;

/// Dead letters that are purged in one commit.
const PURGED_AT_ONCE: usize = 1024;

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
    /// It is a timer, or the state of a gear, which came on no wire.
    #[error(
        "dead letter {seq}: found one that came on no wire, expected one that can be sent over its wire again; remedy: see what it holds, then purge it"
    )]
    Wireless {
        /// The number.
        seq: u64,
    },
    /// Its wire is full.
    #[error(
        "dead letter {seq}: found wire `{wire}` full, expected room on it; remedy: try again when its gear has handled some of what is there"
    )]
    Full {
        /// The number.
        seq: u64,
        /// The wire.
        wire: SmolStr,
    },
    /// The rig has ended.
    #[error("dead letter {seq}: found the rig ended, expected it running; remedy: start it again")]
    Ended {
        /// The number.
        seq: u64,
    },
    /// Its effect may have happened.
    #[error(
        "dead letter {seq}: found one that may have been sent, expected the operator's word; remedy: check with the peer, then replay it as maybe sent"
    )]
    MaybeSent {
        /// The number.
        seq: u64,
    },
    /// No gear has such a name.
    #[error("dead letters: found no gear that matches `{found}`, expected one of the rig's or of a letter's{}; remedy: name one, with `*` for any text", near_text(.near))]
    NoGear {
        /// What was asked for.
        found: String,
        /// The name most like it.
        near: Option<String>,
    },
    /// No wire has such a name.
    #[error("dead letters: found no wire that matches `{found}`, expected one of the rig's or of a letter's{}; remedy: name one, with `*` for any text", near_text(.near))]
    NoWireLike {
        /// What was asked for.
        found: String,
        /// The name most like it.
        near: Option<String>,
    },
    /// No letter has such a reason.
    #[error("dead letters: found no reason with `{found}` in it, expected part of a letter's reason{}; remedy: count them, which lists the reasons", near_text(.near))]
    NoReason {
        /// What was asked for.
        found: String,
        /// The reason most like it.
        near: Option<String>,
    },
    /// No wire has this name.
    #[error("wire `{wire}`: found none of this name, expected one of the rig's{}; remedy: name it `gear.port->gear.port`", near_text(.near))]
    UnknownWire {
        /// What was asked for.
        wire: String,
        /// The name most like it.
        near: Option<String>,
    },
    /// The wire does not retain.
    #[error(
        "wire `{wire}`: found one that keeps nothing, expected a wire with `retention`; remedy: write for example `retention: 1h` at this wire of the scenario and run it again; what passes from then on can be replayed"
    )]
    NotRetained {
        /// The wire.
        wire: String,
    },
    /// The rig drains or has ended while a wire is replayed.
    #[error(
        "wire `{wire}`: found the rig {} after {delivered} messages were delivered again, expected it running; remedy: replay the others when it runs again",
        .closed.word()
    )]
    Stopped {
        /// The wire.
        wire: String,
        /// How many were delivered again.
        delivered: u64,
        /// Why no more is.
        closed: Closed,
    },
    /// A body cannot be read back.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A body does not decode.
    #[error("journal: {0}")]
    Decode(String),
}

fn near_text(near: &Option<String>) -> String {
    near.as_ref().map(|near| format!(" (nearest: `{near}`)")).unwrap_or_default()
}

/// A group of the journal that was read: where it begins, and its body.
pub(super) type Group = (GroupAt, Bytes);

/// Reads a message from the journal. Neighbours are nearly always of one group, so the one that was read last is kept in
/// `group`.
pub(super) fn read_back(
    node: &Node,
    reader: Option<&dyn Reader>,
    position: Position,
    group: &mut Option<Group>,
) -> Result<FluxMsg, LetterError> {
    let body = match group {
        Some((at, body)) if *at == position.at => body,
        _ => {
            let reader = reader.ok_or_else(|| LetterError::Decode("found no journal to read from".into()))?;
            &group.insert((position.at, reader.read(position.at)?)).1
        }
    };
    body_at(body, position, node.settings.limits).map_err(LetterError::Decode)
}

impl RunningRig {
    /// Every dead letter, oldest first.
    ///
    /// # Errors
    /// When one cannot be read back from the journal.
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>, LetterError> {
        self.find_letters(&LetterFilter::default(), usize::MAX)
    }

    /// The dead letters that are meant, oldest first; of more than `max` the youngest.
    ///
    /// # Errors
    /// When nothing has a name, or no letter a number, that the filter says, or one cannot be read back from the journal.
    pub fn find_letters(&self, filter: &LetterFilter, max: usize) -> Result<Vec<DeadLetter>, LetterError> {
        let mut found = self.chosen(filter)?;
        found.drain(..found.len().saturating_sub(max));
        let mut group = None;
        found.into_iter().map(|found| self.letter(found, &mut group)).collect()
    }

    /// One dead letter.
    ///
    /// # Errors
    /// When there is none of this number, or it cannot be read back from the journal.
    pub fn dead_letter(&self, seq: u64) -> Result<DeadLetter, LetterError> {
        let found = self.chosen(&LetterFilter::seq(seq))?.pop().ok_or(LetterError::Unknown { seq })?;
        self.letter(found, &mut None)
    }

    /// How many dead letters there are.
    #[must_use]
    pub fn dead_letter_count(&self) -> usize {
        self.node.dead.len()
    }

    fn letter(&self, (seq, body, note): Found, group: &mut Option<Group>) -> Result<DeadLetter, LetterError> {
        let msg = match body {
            Body::Here(msg) => msg,
            Body::There(position) => read_back(&self.node, self.reader.as_deref(), position, group)?,
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

    /// Sends a dead letter over its wire again, and takes it off the list, in one commit. One that may have been sent is
    /// sent only with the operator's word, `even_maybe_sent`. What becomes of it is told by what is returned.
    ///
    /// # Errors
    /// See [`LetterError`]; the letter stays then.
    pub fn replay_letter(&self, seq: u64, even_maybe_sent: bool) -> Result<SentAgain, LetterError> {
        let _hand = self.hand();
        let letter = self.dead_letter(seq)?;
        if letter.msg.flags.contains(Flags::MAYBE_SENT) && !even_maybe_sent {
            return Err(LetterError::MaybeSent { seq });
        }
        if letter.wire.is_empty() {
            return Err(LetterError::Wireless { seq });
        }
        let wire = self.node.wires.iter().find(|wire| wire.name == letter.wire);
        let Some(wire) = wire else { return Err(LetterError::NoWire { seq, wire: letter.wire }) };
        let queue = wire.route(&letter.msg);
        if !queue.has_room() {
            return Err(LetterError::Full { seq, wire: letter.wire });
        }
        let mut msg = letter.msg;
        // Another id than before: what was derived from the failed deliveries must not be taken for what comes now.
        msg.id = self.node.id_key.replay(msg.id, self.node.dead.spec.number, seq);
        SentAgain::send(&self.node, queue, seq, msg).ok_or(LetterError::Ended { seq })
    }

    /// Forgets a dead letter.
    ///
    /// # Errors
    /// When there is none of this number.
    pub fn purge_letter(&self, seq: u64) -> Result<(), LetterError> {
        self.purge_letters(&LetterFilter::seq(seq)).map(drop)
    }

    /// Forgets the dead letters that are meant, and says how many they were.
    ///
    /// # Errors
    /// When nothing has a name, or no letter a number, that the filter says; none is forgotten then.
    pub fn purge_letters(&self, filter: &LetterFilter) -> Result<usize, LetterError> {
        let _hand = self.hand();
        let seqs = self.letter_seqs(filter)?;
        for seqs in seqs.chunks(PURGED_AT_ONCE) {
            let mut seqs = seqs.iter().copied();
            let reports = Vec::new();
            self.node.end_effects(EffectEnd { queue: &self.node.dead, seqs: &mut seqs, dead: Vec::new(), reports });
        }
        Ok(seqs.len())
    }

    /// One operator at a time: a letter that two send again at once would be sent twice.
    fn hand(&self) -> MutexGuard<'_, ()> {
        self.hand.lock().expect("nothing panics while it is held")
    }
}
