//! A rack that waits to take another one's place: it follows the journal's stream, and begins a term of its own when the
//! holder's lease has run out (HEART §10.6).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::World;
use crate::journal::stream::{Follower, StreamOpenError};
use crate::journal::{Image, Recovery, Storage};
use crate::lease::Lease;
use crate::rig::recover::{Reading, stream_options};
use crate::{JournalOptions, RigError};

/// How often the stream is looked at, as a part of the holder's lease, and at most.
const LOOKS_PER_LEASE: u32 = 20;
const LOOK_EVERY_MAX: Duration = Duration::from_millis(200);

/// A stand-by as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandbyView {
    /// The term of the holder that it follows; its own when it has taken over.
    pub term: u64,
    /// The last message that was applied.
    pub seq: u64,
    /// Messages that the stream has beyond it.
    pub lag: u64,
    /// What is left of the holder's lease, as far as this one knows; `None` when the holder has none, so that only an
    /// operator can take its place.
    pub lease_left: Option<Duration>,
    /// It holds the journal now.
    pub is_holder: bool,
}

/// What a stand-by has read, and the journal that it writes from now on.
pub(crate) struct TakenOver {
    pub(crate) storage: Box<dyn Storage>,
    pub(crate) image: Image,
    pub(crate) recovery: Recovery,
    pub(crate) lease: Option<Arc<Lease>>,
}

/// Follows the journal of a rack that another process runs.
pub struct Standby {
    options: JournalOptions,
    world: Arc<dyn World>,
    follower: Follower,
    reading: Reading,
    lease: Option<Arc<Lease>>,
    /// When the last message was read, on the boot clock: after it was sent, so whoever waits from here waits long enough.
    heard_ns: u64,
    views: watch::Sender<StandbyView>,
}

impl std::fmt::Debug for Standby {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standby").field("view", &self.view()).finish_non_exhaustive()
    }
}

impl Standby {
    /// Takes the data directory of this rack and reads the whole stream.
    ///
    /// # Errors
    /// As for the start of a rig; nothing is written.
    pub async fn follow(options: JournalOptions, world: Arc<dyn World>) -> Result<Self, RigError> {
        let lease = options.new_lease(&world);
        let (disk, log, stream_options) = stream_options(&options, &*world, lease.clone())?;
        let follower = Follower::follow(disk, log, stream_options).await?;
        let views = watch::Sender::new(StandbyView::default());
        let heard_ns = world.boot_ns();
        let mut standby = Self { options, world, follower, reading: Reading::default(), lease, heard_ns, views };
        standby.look().await?;
        Ok(standby)
    }

    /// How it stands, whenever that changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<StandbyView> {
        self.views.subscribe()
    }

    /// How it stands.
    #[must_use]
    pub fn view(&self) -> StandbyView {
        let seq = self.follower.seq();
        StandbyView {
            term: self.follower.term(),
            seq,
            lag: self.follower.last_seq().saturating_sub(seq),
            lease_left: self.lease_left(),
            is_holder: false,
        }
    }

    fn lease_left(&self) -> Option<Duration> {
        let length = self.follower.lease()?;
        Some(length.saturating_sub(Duration::from_nanos(self.world.boot_ns().saturating_sub(self.heard_ns))))
    }

    /// Reads what has come since the last look.
    ///
    /// # Errors
    /// When the stream does not answer, which may pass, or is not what was written to it.
    pub async fn look(&mut self) -> Result<StandbyView, RigError> {
        let before = self.follower.seq();
        let Self { follower, reading, .. } = self;
        let read = follower.catch_up(&mut |group| reading.group(group)).await;
        if self.follower.seq() > before {
            self.heard_ns = self.world.boot_ns();
        }
        self.views.send_replace(self.view());
        read.map_err(|error| self.reading.told(error.into()))?;
        Ok(self.view())
    }

    /// Whether the holder's lease has run out.
    #[must_use]
    pub fn may_take_over(&self) -> bool {
        self.lease_left().is_some_and(|left| left.is_zero())
    }

    /// Begins a term of its own, unless something has come that was not read: then the holder lives, or another stand-by
    /// was faster. `None` means that; what came has been read.
    ///
    /// # Errors
    /// As for [`Standby::look`].
    pub async fn take_over(&mut self) -> Result<Option<JournalOptions>, RigError> {
        if !self.may_take_over() {
            return Ok(None);
        }
        let before = self.follower.seq();
        let Self { follower, reading, .. } = self;
        let taken = follower.yielding_take_over(&mut |group| reading.group(group)).await;
        let Some((storage, recovery)) = taken.map_err(|error| self.reading.told(error.into()))? else {
            if self.follower.seq() > before {
                self.heard_ns = self.world.boot_ns();
            }
            return Ok(None);
        };
        let term = storage.term();
        tracing::warn!(term, seq = self.follower.seq(), "journal: this stand-by has taken over");
        let image = std::mem::take(&mut self.reading).into_image();
        let storage = Box::new(storage);
        let taken = TakenOver { storage, image, recovery, lease: self.lease.clone() };
        self.views.send_replace(StandbyView { term, is_holder: true, ..self.view() });
        Ok(Some(self.options.taken_over(taken)))
    }

    /// Follows until it has taken over; start the rig with the options that it returns. A stream that does not answer is
    /// asked again and again.
    ///
    /// # Errors
    /// When the stream is not what was written to it.
    pub async fn run(mut self) -> Result<JournalOptions, RigError> {
        let mut trouble = String::new();
        loop {
            let done = match self.look().await {
                Ok(_) => self.take_over().await,
                Err(error) => Err(error),
            };
            match done {
                Ok(Some(options)) => return Ok(options),
                Ok(None) if trouble.is_empty() => {}
                Ok(None) => {
                    trouble.clear();
                    tracing::info!(seq = self.follower.seq(), "journal: this stand-by reads the stream again");
                }
                // Said once, not with every look.
                Err(RigError::Stream(StreamOpenError::Log(error))) => {
                    let found = error.to_string();
                    if found != trouble {
                        tracing::warn!(%error, "journal: this stand-by cannot read the stream");
                        trouble = found;
                    }
                }
                Err(error) => return Err(error),
            }
            let every = self.follower.lease().map_or(LOOK_EVERY_MAX, |lease| lease / LOOKS_PER_LEASE);
            tokio::time::sleep(every.min(LOOK_EVERY_MAX)).await;
        }
    }
}

#[cfg(test)]
mod tests;
