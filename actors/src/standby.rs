//! A rack that waits to take another one's place: it follows the journal's stream, and begins a term of its own when the
//! holder's lease has run out (HEART §10.6).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::World;
use crate::journal::stream::{Follower, StreamOpenError};
use crate::journal::{Image, Recovery, Storage};
use crate::lease::Lease;
use crate::mutants::{self, Mutation};
use crate::rig::recover::{Reading, stream_options};
use crate::{JournalOptions, RigError};

/// How often the stream is looked at, as a part of the holder's lease, and at most.
const LOOKS_PER_LEASE: u32 = 20;
const LOOK_EVERY_MAX: Duration = Duration::from_millis(200);
/// A look that takes longer than this part of the lease is told.
const SLOW_PER_LEASE: u32 = 4;
/// How often one look begins anew behind a holder that deletes what was to be read next.
const ANEW_MAX: u32 = 3;

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
    /// When the leader told of the last message that was read, on the boot clock: after it was sent, so whoever waits from
    /// here waits long enough.
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
        let length = if mutants::is(Mutation::ImpatientStandby) { length / 2 } else { length };
        Some(length.saturating_sub(self.since(self.heard_ns)))
    }

    /// Reads what has come since the last look.
    ///
    /// # Errors
    /// When the stream does not answer, which may pass, or is not what was written to it.
    pub async fn look(&mut self) -> Result<StandbyView, RigError> {
        let since_ns = self.world.boot_ns();
        let mut read = self.catch_up().await;
        for _ in 0..ANEW_MAX {
            let Err(StreamOpenError::Overtaken { seq, first_seq, .. }) = &read else { break };
            tracing::warn!(
                seq,
                first_seq,
                "journal: this stand-by was slower than the holder deletes, and reads the stream anew"
            );
            read = self.read_anew().await;
        }
        let took = self.since(since_ns);
        if read.is_ok() && self.follower.lease().is_some_and(|lease| took > lease / SLOW_PER_LEASE) {
            let (took_ms, seq) = (ms(took), self.follower.seq());
            tracing::warn!(took_ms, seq, "journal: a look of this stand-by at the stream took long");
        }
        self.views.send_replace(self.view());
        read.map_err(|error| self.reading.told(error.into()))?;
        Ok(self.view())
    }

    async fn read_anew(&mut self) -> Result<(), StreamOpenError> {
        self.follower.begin_anew().await?;
        // Only now: until then what was read and where it ends belong together.
        self.reading = Reading::default();
        self.catch_up().await
    }

    async fn catch_up(&mut self) -> Result<(), StreamOpenError> {
        self.follower.ask().await?;
        // However long the reading takes: what the leader has was sent by now.
        let (asked_ns, before) = (self.world.boot_ns(), self.follower.seq());
        let Self { follower, reading, .. } = self;
        let read = follower.read(&mut |group| reading.group(group)).await;
        if self.follower.seq() > before {
            self.heard_ns = asked_ns;
        }
        read
    }

    fn since(&self, ns: u64) -> Duration {
        Duration::from_nanos(self.world.boot_ns().saturating_sub(ns))
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
        let (before, since_ns) = (self.follower.seq(), self.world.boot_ns());
        let Self { follower, reading, .. } = self;
        let taken = match follower.yielding_take_over(&mut |group| reading.group(group)).await {
            // It lives, and the next look begins anew.
            Err(StreamOpenError::Overtaken { .. }) => Ok(None),
            other => other,
        };
        let Some((storage, recovery)) = taken.map_err(|error| self.reading.told(error.into()))? else {
            if self.follower.seq() > before {
                self.heard_ns = self.world.boot_ns();
            }
            return Ok(None);
        };
        let term = storage.term();
        // Where the time of a take-over went: waiting for the lease, or for the term to be acked.
        let (unheard_ms, took_ms) = (ms(self.since(self.heard_ns)), ms(self.since(since_ns)));
        let seq = self.follower.seq();
        tracing::warn!(term, seq, unheard_ms, took_ms, "journal: this stand-by has taken over");
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
                Err(RigError::Stream(error @ (StreamOpenError::Log(_) | StreamOpenError::Overtaken { .. }))) => {
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

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
