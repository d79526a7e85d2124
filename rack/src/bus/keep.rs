//! What keeps a managed server running: the decisions of a supervisor, carried out on a process in place of an actor.

use std::time::Duration;

use fluxrig_actors::supervision::strategy::{Action, Decider, Event, Rules};
use fluxrig_actors::supervision::{Backoff, GiveUp, Intensity, Restart, Shutdown, Strategy};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::process::{Launch, Running};
use crate::scenario::ManagedBus;

/// What a managed server does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It is healthy.
    Up,
    /// It ended and is started again.
    Down {
        /// Why it ended, or does not start.
        why: String,
    },
    /// It ended more often than its intensity allows, and is not started again.
    Failed {
        /// Why it ended last.
        why: String,
    },
    /// The rack has stopped it.
    Stopped,
}

/// A managed server as it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerView {
    /// What it does.
    pub state: ServerState,
    /// Its process, while there is one.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u64,
}

/// Keeps it running until it is told to stop.
pub(crate) struct Keeper<'l> {
    pub(crate) launch: &'l Launch,
    pub(crate) view: watch::Sender<ServerView>,
    pub(crate) stop: oneshot::Receiver<()>,
    pub(crate) decider: Decider,
    began: Instant,
}

/// A decider for one child, which has started.
pub(crate) fn decider(wanted: &ManagedBus) -> Decider {
    let ms = |ms: u32| Duration::from_millis(ms.into());
    let intensity = Intensity::new(wanted.max_restarts, ms(wanted.within_ms.get()));
    // Nothing else waits for this one, so chance has nobody to keep it apart from.
    let mut decider = Decider::new(Strategy::OneForOne, intensity, GiveUp::Hold, 0);
    let backoff = Backoff::new(ms(wanted.backoff_ms.first), ms(wanted.backoff_ms.max));
    let child = decider.add(Rules { restart: Restart::Permanent, shutdown: Shutdown::Kill, backoff });
    decider.decide(Event::Boot, Duration::ZERO);
    decider.decide(Event::Started(child), Duration::ZERO);
    decider
}

impl<'l> Keeper<'l> {
    pub(crate) fn new(
        launch: &'l Launch,
        view: watch::Sender<ServerView>,
        stop: oneshot::Receiver<()>,
        wanted: &ManagedBus,
    ) -> Self {
        Self { launch, view, stop, decider: decider(wanted), began: Instant::now() }
    }

    pub(crate) async fn keep(mut self, first: Running<'l>) {
        let mut running = first;
        loop {
            let why = tokio::select! {
                why = running.failed() => why,
                _ = &mut self.stop => {
                    running.stop().await;
                    return self.say(ServerState::Stopped, None);
                }
            };
            drop(running);
            self.launch.place.forget_pid();
            match self.again(why).await {
                Some(started) => running = started,
                None => return,
            }
        }
    }

    /// Starts it again as often as its intensity allows; `None` when it is not to run any more.
    async fn again(&mut self, mut why: String) -> Option<Running<'l>> {
        let child = self.decider.children().next()?;
        let mut event = Event::Exited { child, is_abnormal: true, has_progressed: false };
        loop {
            match self.decider.decide(event, self.began.elapsed()).last() {
                Some(&Action::Later { generation, after, .. }) => {
                    tracing::warn!(why, after_ms = after.as_millis(), "bus: nats-server is down; it is started again");
                    self.say(ServerState::Down { why: why.clone() }, None);
                    tokio::select! {
                        () = tokio::time::sleep(after) => event = Event::Due { generation },
                        _ = &mut self.stop => return self.stopped(),
                    }
                }
                Some(Action::Start(_)) => {
                    self.view.send_modify(|view| view.restarts += 1);
                    let launch = self.launch;
                    let started = tokio::select! {
                        started = launch.run() => started,
                        _ = &mut self.stop => return self.stopped(),
                    };
                    match started {
                        Ok(running) => {
                            self.decider.decide(Event::Started(child), self.began.elapsed());
                            tracing::info!(pid = running.pid(), "bus: nats-server is up again");
                            self.say(ServerState::Up, Some(running.pid()));
                            return Some(running);
                        }
                        Err(reason) => {
                            why = reason;
                            event = Event::StartFailed(child);
                        }
                    }
                }
                _ => {
                    tracing::error!(
                        why,
                        "bus: nats-server ended more often than `max_restarts` within `within_ms` and is not started \
                         again: wires on the bus wait; remedy: see its log in the data directory, and start the rack again"
                    );
                    self.say(ServerState::Failed { why }, None);
                    // Whoever stops the rack later finds nothing to stop.
                    drop((&mut self.stop).await);
                    return None;
                }
            }
        }
    }

    fn stopped(&self) -> Option<Running<'l>> {
        self.say(ServerState::Stopped, None);
        None
    }

    fn say(&self, state: ServerState, pid: Option<u32>) {
        self.view.send_modify(|view| (view.state, view.pid) = (state, pid));
    }
}
