//! A rack as a stand-by: what it needs, how it follows the holder of its journal until it takes its place, and how either
//! part is seen. The runtime's `Standby` does the following itself.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fluxrig_actors::clock::Machine;
use fluxrig_actors::{JournalOptions, RigError, RunningRig, Standby, StandbyView};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::scenario::{Checked, Journal, StreamJournal};

/// What a rack may be to the stream of its journal.
pub(crate) const ROLES: [&str; 2] = [HOLDER, STANDBY];
const HOLDER: &str = "holder";
const STANDBY: &str = "stand-by";

/// Why a rack cannot be a stand-by of this scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoStandby {
    /// Its journal is on files.
    #[error(
        "`--standby`: found the journal on files, which nobody else can follow, expected it on a stream; remedy: write `journal: {{ jetstream: {{ lease_ms: 5000 }} }}` and `bus`, for the holder, too"
    )]
    OnFiles,
    /// Nobody would ever know that the holder is gone.
    #[error(
        "`--standby`: found `journal: jetstream` without `lease_ms`, expected it, since a stand-by takes over when the lease of the holder has run out; remedy: write `journal: {{ jetstream: {{ lease_ms: 5000 }} }}`, for the holder, too"
    )]
    NoLease,
    /// The servers would be gone with the holder, or are others than its own.
    #[error(
        "`--standby`: found a bus whose server this rack runs itself, expected servers that are there when the holder is gone; remedy: write `bus: {{ servers: [..] }}`, or let another rack run the server (`rack`)"
    )]
    OwnServer,
}

/// Looks at all that can be seen before anything is started.
pub(crate) fn check(checked: &Checked, rack: &str) -> Result<(), NoStandby> {
    match checked.scenario.journal {
        Journal::File(_) => return Err(NoStandby::OnFiles),
        Journal::Jetstream(StreamJournal { lease_ms: None, .. }) => return Err(NoStandby::NoLease),
        Journal::Jetstream(_) => {}
    }
    match checked.scenario.bus.managed_by(rack) {
        Some(_) => Err(NoStandby::OwnServer),
        None => Ok(()),
    }
}

/// A stand-by that has the lock of its data directory and has read the whole stream.
pub(crate) struct Following(Standby);

impl Following {
    pub(crate) async fn begin(journal: JournalOptions) -> Result<Self, RigError> {
        let standby = Standby::follow(journal, Arc::new(Machine::new())).await?;
        let StandbyView { term, seq, .. } = standby.view();
        tracing::info!(
            term,
            seq,
            "journal: this rack is a stand-by, follows the holder and takes over when it is gone"
        );
        Ok(Self(standby))
    }

    pub(crate) fn watch(&self) -> watch::Receiver<StandbyView> {
        self.0.watch()
    }

    /// Follows until the holder is gone, for as long as that takes. The journal that is returned is this rack's.
    pub(crate) async fn until_holder(self) -> Result<JournalOptions, RigError> {
        let mut views = self.0.watch();
        let complain = async {
            let is_without = |view: &StandbyView| view.seq > 0 && view.lease_left.is_none() && !view.is_holder;
            if views.wait_for(is_without).await.is_ok() {
                tracing::warn!(
                    "journal: the holder has no lease, so this stand-by never takes over; remedy: start the holder with `lease_ms` as well"
                );
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            done = self.0.run() => done,
            () = complain => unreachable!("it waits for ever"),
        }
    }
}

/// What a rack is to the stream of its journal, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) role: &'static str,
    pub(crate) term: Option<u64>,
    /// Of a stand-by: messages that it has not read yet.
    pub(crate) lag: Option<u64>,
    pub(crate) lease_left: Option<Duration>,
}

/// What a rack was started as.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    views: OnceLock<watch::Receiver<StandbyView>>,
}

impl Standing {
    pub(crate) fn follows(&self, views: watch::Receiver<StandbyView>) {
        self.views.get_or_init(|| views);
    }

    /// Whether it waits for the holder to be gone.
    pub(crate) fn is_standby(&self) -> bool {
        self.views.get().is_some_and(|views| !views.borrow().is_holder)
    }

    /// The part of a rack that runs, or follows; `None` for a journal on files, and before the rack is anything.
    pub(crate) fn part(&self, checked: &Checked, rig: Option<&RunningRig>) -> Option<Part> {
        let Journal::Jetstream(_) = checked.scenario.journal else { return None };
        if let Some(rig) = rig {
            let lease = rig.lease();
            let (term, lease_left) = (lease.map(|lease| lease.term), lease.map(|lease| lease.left));
            return Some(Part { role: HOLDER, term, lag: None, lease_left });
        }
        let StandbyView { term, lag, lease_left, is_holder, .. } = *self.views.get()?.borrow();
        let role = if is_holder { HOLDER } else { STANDBY };
        Some(Part { role, term: Some(term), lag: (!is_holder).then_some(lag), lease_left })
    }
}

/// As `fluxrig top --json` shows it.
pub(crate) fn shown(part: Option<Part>) -> Value {
    let Some(Part { role, term, lag, lease_left }) = part else { return Value::Null };
    let left_ms = lease_left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
    json!({ "role": role, "term": term, "lag": lag, "lease_left_ms": left_ms })
}

/// The same as a line of text; empty where there is no part.
pub(crate) fn line(shown: &Value) -> String {
    let Some(role) = shown["role"].as_str() else { return String::new() };
    let number =
        |key: &str, unit: &str| shown[key].as_u64().map_or("none".to_owned(), |found| format!("{found}{unit}"));
    let lag = if shown["lag"].is_null() { String::new() } else { format!("  lag {}", number("lag", "")) };
    format!("stream: {role}  term {}{lag}  lease left {}\n", number("term", ""), number("lease_left_ms", " ms"))
}

#[cfg(test)]
mod tests;
