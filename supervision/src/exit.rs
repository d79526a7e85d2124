//! Why an actor ended, and how that is learned from ractor's supervision events.
//! Only the distinction matters to a supervisor: abnormal exits are failures, the others are not.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use ractor::{ActorCell, SupervisionEvent};

/// The stop reason by which an actor says that it was shut down, which is not a failure.
pub const SHUTDOWN: &str = "shutdown";

/// Starts the stop reason of a supervisor that exceeded its intensity.
const GAVE_UP: &str = "gave up: ";

/// Ends the calling actor with [`ExitReason::Shutdown`] once its current message is handled.
///
/// The plain `stop(None)` of ractor ends it with [`ExitReason::Normal`].
pub fn shut_down(me: &ActorCell) {
    me.stop(Some(SHUTDOWN.to_owned()));
}

/// Why an actor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitReason {
    /// It stopped by itself, its work done.
    Normal,
    /// It was told to stop by its supervisor, or called [`shut_down`].
    Shutdown,
    /// A supervisor that exceeded its intensity. As in OTP this is a shutdown: a transient child that ends so is not
    /// started again, a permanent one is, and the parent counts it.
    GaveUp(Arc<str>),
    /// It returned an error from a handler, or its start function did.
    Failed(Arc<str>),
    /// It panicked. ractor turns a panic into a bare text and hands a handler's `Err("text".into())` on in the same
    /// shape, so the latter reads as a panic, too; errors with a type of their own never do.
    Panic(Arc<str>),
    /// It was killed, or its task was cancelled.
    Killed,
}

impl ExitReason {
    /// Whether a transient child that ends so is started again.
    pub fn is_abnormal(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Panic(_) | Self::Killed)
    }

    /// The reason in a supervision event that tells of an end; nothing for other events.
    pub fn from_event(event: &SupervisionEvent) -> Option<Self> {
        match event {
            SupervisionEvent::ActorTerminated(_, _, reason) => Some(Self::from_stop(reason.as_deref())),
            SupervisionEvent::ActorFailed(_, error) => Some(Self::from_error(error.as_ref())),
            _ => None,
        }
    }

    /// The text to stop an actor with, so that its supervisor reads this reason.
    pub(crate) fn to_stop(&self) -> Option<String> {
        match self {
            Self::Normal => None,
            Self::Shutdown => Some(SHUTDOWN.to_owned()),
            other => Some(other.to_string()),
        }
    }

    fn from_stop(reason: Option<&str>) -> Self {
        match reason {
            Some(SHUTDOWN) => Self::Shutdown,
            // The two texts by which ractor reports a kill and an aborted task.
            Some("killed" | "actor_task_cancelled") => Self::Killed,
            Some(text) => match text.strip_prefix(GAVE_UP) {
                Some(why) => Self::GaveUp(why.into()),
                None => Self::Normal,
            },
            None => Self::Normal,
        }
    }

    fn from_error(error: &(dyn Error + 'static)) -> Self {
        let text = chain(error);
        // A bare text, boxed, debugs as the quoted text and has no source: the shape ractor gives to panics.
        if error.source().is_none() && format!("{error:?}") == format!("{text:?}") {
            Self::Panic(text.into())
        } else {
            Self::Failed(text.into())
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("normal"),
            Self::Shutdown => f.write_str(SHUTDOWN),
            Self::GaveUp(why) => write!(f, "{GAVE_UP}{why}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Panic(why) => write!(f, "panic: {why}"),
            Self::Killed => f.write_str("killed"),
        }
    }
}

/// An error and its causes on one line, because an exit reason is all that survives of them.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests;
