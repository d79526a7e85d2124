//! Where the writer lies while nothing is to be written, so that whoever demands a cut then makes it by itself.
//! Waking a thread and being woken by it costs as much as the disk (HEART §1); under load the writer is never found here.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::drive::{Control, Pace, block_on};
use super::writer::WriterState;
use super::{StorageError, Writer};
use crate::clock::splitmix;

/// The writer, and when it was at work last.
pub(crate) struct Rounds {
    pub(crate) writer: Writer,
    /// When the last round began.
    pub(crate) last_cut: Instant,
    /// How long it took.
    pub(crate) last_round: Duration,
}

impl Rounds {
    pub(crate) fn new(writer: Writer) -> Self {
        Self { writer, last_cut: Instant::now(), last_round: Duration::ZERO }
    }

    /// Cuts, writes, flushes where something waits for it. A failure is noted in the writer.
    pub(crate) fn round(&mut self) {
        self.last_cut = Instant::now();
        self.writer.cut();
        let stored: Result<(), StorageError> = block_on(async {
            self.writer.write().await?;
            if self.writer.must_flush() { self.writer.flush().await } else { Ok(()) }
        });
        if let Err(error) = stored {
            self.writer.fail(&error);
        }
        self.last_round = self.last_cut.elapsed();
    }
}

/// Holds the writer for whoever comes first: its own thread, or one who cannot go on without a cut.
pub(crate) struct Desk {
    control: Arc<Control>,
    /// `None` while the writer's own thread is at work, and when it has ended.
    rounds: Mutex<Option<Rounds>>,
    /// In a simulation chance decides who makes a cut, so that both ways meet every crash.
    chance: Option<Mutex<u64>>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

impl Desk {
    pub(crate) fn new(rounds: Rounds, control: Arc<Control>, pace: Option<Pace>) -> Arc<Self> {
        // Another sequence than that of the pauses.
        let chance = pace.map(|pace| Mutex::new(!pace.seed));
        Arc::new(Self { control, rounds: Mutex::new(Some(rounds)), chance })
    }

    /// For the writer's own thread, which waits for one who serves itself at the moment.
    pub(crate) fn take(&self) -> Rounds {
        self.lock().take().expect("only the writer's own thread takes it away")
    }

    pub(crate) fn put_back(&self, rounds: Rounds) {
        *self.lock() = Some(rounds);
    }

    /// Nobody serves itself any more.
    pub(crate) fn clear(&self) {
        // Taken out first: dropping it may take a while, and may be the end of what this belongs to.
        let rounds = self.rounds.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        drop(rounds);
    }

    /// Makes the cut that the caller demands, here and now. False when the writer's own thread is to make it: it is at
    /// work, or there is more to do than to write and flush a group.
    pub(crate) fn serve(&self) -> bool {
        if !self.control.is_running() || !self.is_drawn() {
            return false;
        }
        let Ok(mut rounds) = self.rounds.try_lock() else { return false };
        let Some(rounds) = rounds.as_mut().filter(|rounds| rounds.writer.is_light()) else { return false };
        rounds.round();
        self.control.note_stats(&rounds.writer);
        // A failed file is its own thread's to replace.
        rounds.writer.state() == WriterState::Running
    }

    fn is_drawn(&self) -> bool {
        let Some(chance) = &self.chance else { return true };
        splitmix(&mut chance.lock().expect("nothing panics while it is held")) & 1 == 0
    }

    fn lock(&self) -> MutexGuard<'_, Option<Rounds>> {
        self.rounds.lock().expect("whoever panicked in a round took the journal with it")
    }
}

#[cfg(test)]
mod tests;
