//! A doorbell: says that there is something to do, at most once until it is answered.
//! The wire holds the messages; the bell only wakes who serves them.

use std::fmt;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

type Ring = Box<dyn Fn() + Send + Sync>;

/// A coalesced wake-up for one actor, or for whoever awaits [`Bell::heard`].
#[derive(Default)]
pub(crate) struct Bell {
    is_pending: AtomicBool,
    notify: Notify,
    ring: RwLock<Option<Ring>>,
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").field("is_pending", &self.is_pending).finish_non_exhaustive()
    }
}

impl Bell {
    /// Rings, unless a ring is pending.
    pub(crate) fn ring(&self) {
        if self.is_pending.swap(true, Ordering::AcqRel) {
            return;
        }
        match &*self.ring.read().expect("nothing panics while it is held") {
            Some(ring) => ring(),
            None => self.notify.notify_one(),
        }
    }

    /// Called first by whoever serves, so that a ring from here on is a new one.
    pub(crate) fn answer(&self) {
        // A swap, not a store: it acquires what a ringer that found the bell pending had put there before.
        self.is_pending.swap(false, Ordering::AcqRel);
    }

    /// Sends the rings to an actor from now on. A ring that was pending is given to it at once.
    pub(crate) fn connect(&self, ring: impl Fn() + Send + Sync + 'static) {
        *self.ring.write().expect("nothing panics while it is held") = Some(Box::new(ring));
        self.is_pending.store(false, Ordering::Release);
        self.ring();
    }

    /// The actor is gone: rings wait for the next one.
    pub(crate) fn disconnect(&self) {
        *self.ring.write().expect("nothing panics while it is held") = None;
    }

    /// Waits for a ring and answers it.
    pub(crate) async fn heard(&self) {
        self.notify.notified().await;
        self.answer();
    }
}

#[cfg(test)]
mod tests;
