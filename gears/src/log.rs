//! `log`: one event per message, without anything that the message says, and the message goes on.

use std::num::NonZeroU64;

use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::SmolStr;

/// Writes one log event per message and passes the message on; `out` may stay unwired.
///
/// An event has the gear's name, the message's id, source and number of hops, and of `meta`, `data` and `raw` the keys,
/// types and lengths. It never has a value, so that card data cannot reach a log.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Level of the events. Default `info`.
    pub level: Level,
    /// One event for so many messages, beginning with the first since the gear's last start. Default 1: every message.
    pub every_count: NonZeroU64,
}

/// How important an event is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For whoever hunts a fault of the runtime.
    Trace,
    /// For whoever hunts a fault of a scenario.
    Debug,
    /// What happens.
    #[default]
    Info,
    /// What should not happen often.
    Warn,
    /// What a person must act on.
    Error,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: Level::default(), every_count: NonZeroU64::MIN }
    }
}

/// What the gear remembers: whose events these are, and how many messages came by.
#[derive(Debug, Default)]
pub struct Seen {
    gear: SmolStr,
    count: u64,
}

impl Gear for Log {
    const TYPE: &'static str = "log";
    type State = Seen;

    fn start(&self, ctx: &StartContext) -> Result<Seen, GearError> {
        Ok(Seen { gear: ctx.name.clone(), count: 0 })
    }

    fn handle(&self, msg: FluxMsg, seen: &mut Seen, out: &mut Outlet) -> Result<(), GearError> {
        if seen.count.is_multiple_of(self.every_count.get()) {
            self.tell(&seen.gear, &msg);
        }
        seen.count = seen.count.wrapping_add(1);
        out.emit(msg);
        Ok(())
    }
}

impl Log {
    fn tell(self, gear: &str, msg: &FluxMsg) {
        // The level of an event is part of its call site, hence one site for each. `Debug` of `meta` and `data` prints
        // keys, types and lengths, never values.
        macro_rules! tell {
            ($level:ident) => {
                tracing::$level!(
                    gear,
                    id = %msg.id,
                    src = %msg.src,
                    hops = msg.path.len(),
                    meta = ?msg.meta,
                    data = ?msg.data,
                    raw_bytes = msg.raw.as_ref().map(|raw| raw.len()),
                    "message"
                )
            };
        }
        match self.level {
            Level::Trace => tell!(trace),
            Level::Debug => tell!(debug),
            Level::Info => tell!(info),
            Level::Warn => tell!(warn),
            Level::Error => tell!(error),
        }
    }
}

#[cfg(test)]
mod tests;
