//! A tap: a bounded look at what comes onto wires. It holds nothing up, keeps nothing alive, and counts what it missed.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fluxrig_protocol::FluxMsg;
use smol_str::SmolStr;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::node::Redactor;
use crate::plan::nearest;
use crate::rig::RunningRig;

/// Messages that a reader may lag behind; with more it misses some, and is told how many.
const LAG_MAX: usize = 256;
/// Taps on one wire at once; each costs its wire a copy of every message that it samples.
pub(crate) const TAPS_MAX: usize = 16;

/// A sample of what comes onto wires, in the order of each wire, without sensitive data where the rig has a redactor.
///
/// A message is seen when it comes onto its wire: it need not be durable yet, and a crash may take it back. Dropping the
/// tap ends it.
#[derive(Debug)]
pub struct Tap {
    wires: Vec<SmolStr>,
    redactor: Option<Redactor>,
    tapped: mpsc::Receiver<Tapped>,
    missed: Arc<AtomicU64>,
}

/// One message on its way.
#[derive(Clone, Debug)]
pub struct Tapped {
    /// `gear.port->gear.port`.
    pub wire: SmolStr,
    /// Its number on the wire, or on its partition of it.
    pub seq: u64,
    /// Itself.
    pub msg: FluxMsg,
}

/// Why nothing can be tapped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// No wire has such a name.
    #[error("tap: found no wire that matches `{pattern}`, expected one of the rig's{}; remedy: name one, with `*` for any text", near.as_ref().map(|near| format!(" (nearest: `{near}`)")).unwrap_or_default())]
    NoWire {
        /// What was asked for.
        pattern: String,
        /// The name most like it.
        near: Option<String>,
    },
    /// A wire has as many taps as it may have.
    #[error("tap: found {TAPS_MAX} taps on wire `{0}`, expected fewer; remedy: end one of them")]
    TooMany(SmolStr),
}

/// The end of a tap that a queue holds.
#[derive(Debug)]
pub(crate) struct TapEnd {
    every: NonZeroU64,
    wire: SmolStr,
    tapped: mpsc::Sender<Tapped>,
    missed: Arc<AtomicU64>,
}

impl TapEnd {
    /// Whether somebody still looks.
    pub(crate) fn is_open(&self) -> bool {
        !self.tapped.is_closed()
    }

    /// Shows a message if it is one of the sample.
    pub(crate) fn show(&self, seq: u64, msg: &FluxMsg) {
        if !seq.is_multiple_of(self.every.get()) {
            return;
        }
        let shown = self.tapped.try_send(Tapped { wire: self.wire.clone(), seq, msg: msg.clone() });
        if let Err(TrySendError::Full(_)) = shown {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Tap {
    /// The next message of the sample. `None` when the rig has ended.
    ///
    /// Cancel-safe: a message that was not returned comes at the next call.
    pub async fn next(&mut self) -> Option<Tapped> {
        let mut tapped = self.tapped.recv().await?;
        // Here, and not where the wire is locked.
        if let Some(msg) = self.redactor.and_then(|redact| redact(&tapped.msg)) {
            tapped.msg = msg;
        }
        Some(tapped)
    }

    /// The wires that it looks at.
    #[must_use]
    pub fn wires(&self) -> &[SmolStr] {
        &self.wires
    }

    /// Messages of the sample that were not seen, since they came faster than they were asked for.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl RunningRig {
    /// Looks at what comes onto the wires whose names match `pattern`, where `*` stands for any text: of each wire (of
    /// each partition of it) the messages whose number `every` divides, so all of them with 1.
    ///
    /// # Errors
    /// When no wire matches, or one has too many taps.
    pub fn tap(&self, pattern: &str, every: NonZeroU64) -> Result<Tap, TapError> {
        let wires: Vec<_> = self.node.wires.iter().filter(|wire| matches(pattern, &wire.name)).collect();
        if wires.is_empty() {
            let near = nearest(pattern, self.node.wires.iter().map(|wire| wire.name.as_str()));
            return Err(TapError::NoWire { pattern: pattern.to_owned(), near: near.map(str::to_owned) });
        }
        let (sender, tapped) = mpsc::channel(LAG_MAX);
        let missed = Arc::new(AtomicU64::new(0));
        let names = wires.iter().map(|wire| wire.name.clone()).collect();
        let redactor = self.node.settings.redactor;
        let tap = Tap { wires: names, redactor, tapped, missed: Arc::clone(&missed) };
        for wire in wires {
            for queue in &wire.queues {
                let (tapped, missed) = (sender.clone(), Arc::clone(&missed));
                // Those that are on wires before it are closed with the channel, and go with the next message.
                if !queue.tap(TapEnd { every, wire: wire.name.clone(), tapped, missed }) {
                    return Err(TapError::TooMany(wire.name.clone()));
                }
            }
        }
        Ok(tap)
    }
}

/// Whether `name` is what `pattern` says; `*` stands for any text, also none.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return name.ends_with(part);
        }
        // The first place is as good as any later one: what follows may then stand anywhere behind it.
        let Some((_, behind)) = name.split_once(part) else { return false };
        name = behind;
    }
    true
}

#[cfg(test)]
mod tests;
