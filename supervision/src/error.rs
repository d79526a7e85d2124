//! What can go wrong when a child is started or a supervisor is asked for something.
//! What goes wrong later is an exit reason, not an error.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use ractor::SpawnErr;

/// A child, or a tree of them, that did not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The start function returned this error.
    #[error("start function: an error, expected a running actor; remedy: see the cause")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
    /// The start function, or the actor's own start, panicked outside of ractor's reach.
    #[error("start function: panic `{0}`, expected a running actor; remedy: return an error instead of panicking")]
    Panicked(String),
    /// The start function took too long and was abandoned.
    #[error(
        "start function: not done after {0:?}, expected a running actor; remedy: find what it waits for, or raise `start_timeout`"
    )]
    TimedOut(Duration),
    /// The start function returned an actor whose end its supervisor would not learn of.
    #[error(
        "start function: an actor that is not linked, expected a child of its supervisor; remedy: use `Start::spawn`"
    )]
    NotLinked,
    /// The start of this child failed, or of one below it.
    #[error("{name}: not started, expected to run; remedy: see the cause")]
    Child {
        /// The child's name.
        name: Arc<str>,
        /// Why it did not start.
        #[source]
        source: Box<StartError>,
    },
    /// Two children of one supervisor have the same name.
    #[error("{supervisor}: two children called `{name}`, expected different names; remedy: rename one")]
    DuplicateName {
        /// The supervisor's name.
        supervisor: Arc<str>,
        /// The name that occurs twice.
        name: Arc<str>,
    },
    /// A name that could not be part of a path.
    #[error(
        "{supervisor}: a child called `{name}`, expected a name that is not empty and has no `/`; remedy: rename it"
    )]
    BadName {
        /// The supervisor's name.
        supervisor: Arc<str>,
        /// The name.
        name: Arc<str>,
    },
}

impl StartError {
    /// Any error of a start function.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }

    /// Names of the children on the way down to the one that failed, outermost first.
    pub fn path(&self) -> impl Iterator<Item = &str> {
        let mut next = Some(self);
        std::iter::from_fn(move || match next {
            Some(Self::Child { name, source }) => {
                next = Some(source);
                Some(&**name)
            }
            _ => None,
        })
    }

    /// The text of the first cause, below everything that only says where it was.
    #[must_use]
    pub fn root_cause(&self) -> String {
        let mut cause: &dyn Error = self;
        while let Some(source) = cause.source() {
            cause = source;
        }
        cause.to_string()
    }

    pub(crate) fn of(self, name: &Arc<str>) -> Self {
        Self::Child { name: name.clone(), source: Box::new(self) }
    }
}

impl From<SpawnErr> for StartError {
    fn from(error: SpawnErr) -> Self {
        match error {
            // A nested supervisor fails with our own error, carried through ractor in a box.
            SpawnErr::StartupFailed(cause) => match cause.downcast::<StartError>() {
                Ok(ours) => *ours,
                Err(theirs) => Self::Failed(theirs),
            },
            other => Self::Failed(Box::new(other)),
        }
    }
}

/// A request that a supervisor did not fulfil.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The supervisor ended before or while it was asked.
    #[error("{supervisor}: it has ended, expected it to run; remedy: ask its parent for the new one")]
    Gone {
        /// The supervisor's name.
        supervisor: Arc<str>,
    },
    /// It did not answer in time: it waits for a child to start or to stop.
    #[error("{supervisor}: no answer after {after:?}, expected one; remedy: see which child is starting or stopping")]
    NoAnswer {
        /// The supervisor's name.
        supervisor: Arc<str>,
        /// How long we waited.
        after: Duration,
    },
    /// No child of that name.
    #[error("{supervisor}: no child called `{name}`, expected one; remedy: list them with `snapshot`")]
    UnknownChild {
        /// The supervisor that was asked.
        supervisor: Arc<str>,
        /// The name it does not know.
        name: Arc<str>,
    },
    /// A path leads through a child that has no children, or that does not run.
    #[error(
        "{supervisor}: `{name}` is no running supervisor, expected one; remedy: shorten the path, or restart `{name}` first"
    )]
    NotASupervisor {
        /// The supervisor that was asked.
        supervisor: Arc<str>,
        /// The child on the path.
        name: Arc<str>,
    },
    /// The supervisor gave up and holds.
    #[error("{supervisor}: it gave up and holds, expected it to supervise; remedy: restart one of its children first")]
    Held {
        /// The supervisor's name.
        supervisor: Arc<str>,
    },
    /// The child did not start.
    #[error("{supervisor}: the child did not start, expected it to run; remedy: see the cause")]
    Start {
        /// The supervisor's name.
        supervisor: Arc<str>,
        /// Why.
        #[source]
        source: StartError,
    },
}
