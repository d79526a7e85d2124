//! The bus of a rack: one connection to JetStream servers, held by a thread of its own, on which wires cross racks.
//! It never fails at start: its state says what it waits for, and whoever uses it goes on when it is up.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::Context;
use fluxrig_protocol::subject::Name;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

mod check;
mod connect;
mod denials;
mod error;
mod foreign;
mod journal;
mod options;
mod order;
mod receive;
mod send;
mod stamp;
mod streams;

pub use error::BusError;
pub use options::{BusOptionError, BusOptions, BusTls, Secret};
pub use receive::BusIn;
pub use send::{BusDurability, BusOut};
pub use streams::{BusStatus, ConsumerStatus, Pruned, StreamStatus};

use denials::Denials;

/// The oldest server that is used: those before lose what they acked, or miss what wires ask for.
pub const VERSION_FLOOR: (u64, u64, u64) = (2, 12, 6);

/// Longest wait for an answer of a server.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// What a bus is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusState {
    /// There is no connection, or it has not been looked at yet; it is tried again and again.
    Connecting {
        /// Why there is none.
        why: String,
    },
    /// Wires may use it.
    Up {
        /// Name of the server.
        server: String,
        /// Its version.
        version: String,
        /// Largest message it takes, in bytes, headers included.
        max_payload: usize,
    },
    /// There is a server, and it cannot be used until an operator has done something. It is looked at again and again.
    Refused {
        /// What was found, what was expected, the remedy.
        why: String,
    },
}

/// One connection to the servers, while it lasts.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) context: Context,
    /// Counts connections of this bus.
    pub(crate) number: u64,
}

/// The bus. Dropping it ends the connection.
#[derive(Debug)]
pub struct Bus {
    shared: Arc<Shared>,
    runtime: Option<Handle>,
    /// Dropped with the bus: the thread ends.
    _stop: oneshot::Sender<()>,
}

/// What the thread and the users of a bus share.
#[derive(Debug)]
struct Shared {
    options: BusOptions,
    rack: String,
    state: watch::Sender<BusState>,
    link: watch::Sender<Option<Link>>,
    denials: Denials,
    /// Endpoints that publish into the rack's stream.
    senders: std::sync::atomic::AtomicUsize,
    /// What the monitor said, for the connection of this number.
    sync: Mutex<Option<(u64, Result<(), BusError>)>>,
}

impl Bus {
    /// Connects in the background, for this rack. What is wrong with the options is in its state.
    #[must_use]
    pub fn start(options: BusOptions, rack: &str) -> Arc<Self> {
        let wrong = wrong_options(&options, rack);
        let state = match &wrong {
            None => BusState::Connecting { why: "the first connection is being made".into() },
            Some(why) => BusState::Refused { why: why.clone() },
        };
        let shared = Arc::new(Shared {
            options,
            rack: rack.to_owned(),
            state: watch::Sender::new(state),
            link: watch::Sender::new(None),
            denials: Denials::default(),
            senders: std::sync::atomic::AtomicUsize::new(0),
            sync: Mutex::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let runtime = match wrong {
            None => connect::spawn(&shared, stopped),
            Some(_) => None,
        };
        Arc::new(Self { shared, runtime, _stop: stop })
    }

    /// What it is doing, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<BusState> {
        self.shared.state.subscribe()
    }

    /// Name of the rack.
    #[must_use]
    pub fn rack(&self) -> &str {
        &self.shared.rack
    }

    /// Its options.
    #[must_use]
    pub fn options(&self) -> &BusOptions {
        &self.shared.options
    }

    /// How many endpoints publish into the rack's stream.
    pub(crate) fn senders(&self) -> &std::sync::atomic::AtomicUsize {
        &self.shared.senders
    }

    /// Why it is not up; `None` while it is.
    #[must_use]
    pub fn why_down(&self) -> Option<String> {
        match &*self.shared.state.borrow() {
            BusState::Connecting { why } | BusState::Refused { why } => Some(why.clone()),
            BusState::Up { .. } => None,
        }
    }

    /// The connection, as soon as there is one that may be used.
    pub(crate) async fn up(&self) -> Link {
        let mut link = self.shared.link.subscribe();
        let found = link.wait_for(Option::is_some).await.ok().and_then(|link| link.clone());
        match found {
            Some(link) => link,
            None => std::future::pending().await,
        }
    }

    /// The same, and says meanwhile why there is none.
    pub(crate) async fn up_or_say(&self, mut say: impl FnMut(&str)) -> Link {
        let mut state = self.state();
        let mut up = std::pin::pin!(self.up());
        loop {
            let why = match &*state.borrow_and_update() {
                BusState::Connecting { why } | BusState::Refused { why } => Some(why.clone()),
                BusState::Up { .. } => None,
            };
            if let Some(why) = why {
                say(&why);
            }
            tokio::select! {
                biased;
                link = &mut up => return link,
                // An error means that nothing changes any more, which cannot be while the bus is there.
                Ok(()) = state.changed() => {}
            }
        }
    }

    /// Waits until this connection is no longer the one to use.
    pub(crate) async fn lost(&self, number: u64) {
        let mut link = self.shared.link.subscribe();
        let is_other = |link: &Option<Link>| link.as_ref().is_none_or(|link| link.number != number);
        // An error means that nothing changes any more, which cannot be while the bus is there.
        drop(link.wait_for(is_other).await);
    }

    /// Whether the servers sync every write before they ack it: asked once per connection.
    ///
    /// # Errors
    /// When they do not, or nobody can say so.
    pub async fn syncs(&self) -> Result<(), BusError> {
        let number = self.up().await.number;
        if let Some((of, answer)) = &*self.shared.sync.lock().expect("nothing panics while it is held")
            && *of == number
        {
            return answer.clone();
        }
        let Some(runtime) = &self.runtime else { return Err(BusError::Ended) };
        let shared = Arc::clone(&self.shared);
        let asked = runtime.spawn(async move { check::syncs(&shared.options).await }).await;
        let answer = asked.unwrap_or(Err(BusError::Ended));
        // An answer that never came may come the next time.
        if !matches!(answer, Err(BusError::Monitor { .. })) {
            *self.shared.sync.lock().expect("nothing panics while it is held") = Some((number, answer.clone()));
        }
        answer
    }

    /// What the server has denied us on this subject, since the connection was made.
    pub(crate) fn denied(&self, subject: &str) -> Option<BusError> {
        self.shared.denials.of(subject)
    }

    /// Whether the server has denied us to ack.
    pub(crate) fn denied_ack(&self) -> Option<BusError> {
        self.shared.denials.below("$JS.ACK.")
    }

    /// What the server has denied us of what every reader needs.
    pub(crate) fn denied_api(&self) -> Option<BusError> {
        self.shared.denials.below("$JS.").or_else(|| self.shared.denials.below("_INBOX."))
    }
}

/// Everything that is wrong with the options, as one text.
fn wrong_options(options: &BusOptions, rack: &str) -> Option<String> {
    let mut texts: Vec<String> = options.errors().iter().map(ToString::to_string).collect();
    if let Err(error) = rack.parse::<Name>() {
        texts.push(format!("bus: name of the rack: {error}"));
    }
    (!texts.is_empty()).then(|| texts.join("; "))
}

#[cfg(test)]
mod tests;
