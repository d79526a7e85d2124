//! Mutations: each breaks one rule of the commit, the journal or the effects. Off in every build without the feature
//! `mutants`; the simulation turns them on one by one and must notice every one, or it would not notice a mistake either.

/// One broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// State changes outside the gate.
    SkipGateForState,
    /// An effect does not wait for the cut that notes it as taken.
    CutBeforeTake,
    /// An effect is acked when it starts.
    AckBeforeEffect,
    /// A segment without live messages is deleted, whatever else it holds.
    DeleteAnyDeadSegment,
    /// *Taken* is not written.
    NoTaken,
    /// Of the acks only the floor is written.
    FloorsWithoutRanges,
    /// What a gear says does not depend on what its state came from.
    AfterNotThroughState,
    /// Timers run anew after a restart.
    TimersRearmedInFull,
    /// Attempts are not written.
    AttemptsNotKept,
    /// An effect does not wait for any mark.
    EffectBeforeMark,
    /// What is carried was chosen in an earlier cut.
    StaleCarry,
    /// What a failing message emitted and put stays.
    NoSavepoint,
    /// A receipt does not wait.
    ReceiptBeforeMark,
    /// The written mark stands for the flushed one.
    WrittenMarkForFlush,
    /// A group whose write or flush failed is forgotten.
    FailedGroupDropped,
    /// What lies behind the point that a segment's header names is read all the same.
    HeaderVoidsNothing,
    /// The header of a segment whose first group is not whole voids what lies behind its point.
    UnbornHeaderVoids,
    /// Gears find their state by their place in the rig.
    StateByPosition,
    /// The next group is written before the flush of this one is looked at, and taken for flushed with it.
    NextBeforeFlush,
    /// Gears wait for room on the wires behind them.
    WaitingEmitters,
    /// A message is appended whatever the last sequence of the stream is.
    ExpectedNotSent,
    /// The ack of a group's first message is taken for that of all.
    FirstMessageForGroup,
    /// A message whose outcome is unknown is taken for stored; nobody looks.
    UnknownIsAcked,
    /// A message whose outcome is unknown is sent again before anybody looks.
    UnknownSentAgain,
    /// A writer that finds a higher term goes on behind it, and readers take that.
    OlderTermGoesOn,
    /// A stream that ends before what was acked is gone on with.
    ShorterAccepted,
    /// Effects start as long as anything of the lease is left.
    EffectToTheLeasesEnd,
    /// The lease is counted from when an ack came, and not from when its message was sent.
    LeaseFromAnswer,
    /// An idle holder writes nothing, and its lease runs out.
    IdleWithoutRenewal,
    /// A stand-by waits half a lease.
    ImpatientStandby,
    /// A stand-by that is refused for what came in between takes over behind it, unread.
    LaggardTakesOver,
    /// The record that begins a term is appended whatever the last sequence is.
    RecordWithoutExpected,
}

#[cfg(feature = "mutants")]
mod switch {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Mutation;

    impl Mutation {
        /// All of them.
        pub const ALL: [Self; 32] = [
            Self::SkipGateForState,
            Self::CutBeforeTake,
            Self::AckBeforeEffect,
            Self::DeleteAnyDeadSegment,
            Self::NoTaken,
            Self::FloorsWithoutRanges,
            Self::AfterNotThroughState,
            Self::TimersRearmedInFull,
            Self::AttemptsNotKept,
            Self::EffectBeforeMark,
            Self::StaleCarry,
            Self::NoSavepoint,
            Self::ReceiptBeforeMark,
            Self::WrittenMarkForFlush,
            Self::FailedGroupDropped,
            Self::HeaderVoidsNothing,
            Self::UnbornHeaderVoids,
            Self::StateByPosition,
            Self::NextBeforeFlush,
            Self::WaitingEmitters,
            Self::ExpectedNotSent,
            Self::FirstMessageForGroup,
            Self::UnknownIsAcked,
            Self::UnknownSentAgain,
            Self::OlderTermGoesOn,
            Self::ShorterAccepted,
            Self::EffectToTheLeasesEnd,
            Self::LeaseFromAnswer,
            Self::IdleWithoutRenewal,
            Self::ImpatientStandby,
            Self::LaggardTakesOver,
            Self::RecordWithoutExpected,
        ];

        /// Whether only a journal on a stream shows it, mostly only beside a stand-by: these are the last ones.
        #[must_use]
        pub const fn is_of_streams(self) -> bool {
            self as u8 >= Self::ExpectedNotSent as u8
        }
    }

    /// 0 for none, else one more than the mutation's number.
    static NOW: AtomicU8 = AtomicU8::new(0);

    /// Breaks this rule in the whole process from now on, or none.
    pub fn set(mutation: Option<Mutation>) {
        NOW.store(mutation.map_or(0, |mutation| mutation as u8 + 1), Ordering::Relaxed);
    }

    pub(crate) fn is(mutation: Mutation) -> bool {
        NOW.load(Ordering::Relaxed) == mutation as u8 + 1
    }

    /// Gives another thread the time to meet what is half done.
    pub(crate) fn linger() {
        for _ in 0..2_000 {
            std::hint::spin_loop();
        }
        std::thread::yield_now();
    }
}

#[cfg(feature = "mutants")]
pub use switch::set;
#[cfg(feature = "mutants")]
pub(crate) use switch::{is, linger};

#[cfg(not(feature = "mutants"))]
pub(crate) const fn is(_mutation: Mutation) -> bool {
    false
}

#[cfg(not(feature = "mutants"))]
pub(crate) const fn linger() {}
