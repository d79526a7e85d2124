//! Actors to supervise that do as they are told and note it, and a reader of log events.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::watch;
use tracing::field::{Field, Visit};

use crate::exit::shut_down;
use crate::spec::{ChildSpec, Start};

/// What a hand is told.
pub(super) enum Tell {
    Fail,
    Panic,
    Finish,
    ShutDown,
    Hang,
}

#[derive(Debug, thiserror::Error)]
#[error("hand: a failure, expected none; remedy: none, it was told to")]
pub(super) struct Told;

/// Everything that hands did, their references, and how many of them are alive.
#[derive(Clone)]
pub(super) struct Stage {
    notes: watch::Sender<Vec<String>>,
    hands: Arc<Mutex<HashMap<String, ActorRef<Tell>>>>,
    alive: watch::Sender<HashSet<String>>,
}

/// Stands for a socket: there is one per name, from a successful `pre_start` until the actor's state is dropped.
pub(super) struct Alive(String, watch::Sender<HashSet<String>>);

impl Drop for Alive {
    fn drop(&mut self) {
        // A successor on another thread gets its chance to come too early.
        (0..200).for_each(|_| std::thread::yield_now());
        self.1.send_modify(|alive| assert!(alive.remove(&self.0)));
    }
}

struct Hand(String, Stage);

impl Actor for Hand {
    type Msg = Tell;
    type State = Alive;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Tell>, _: ()) -> Result<Alive, ActorProcessingErr> {
        let Self(name, stage) = self;
        stage.hands.lock().unwrap().insert(name.clone(), me);
        if !stage.alive.send_if_modified(|alive| alive.insert(name.clone())) {
            stage.note(format!("?{name}"));
            return Err("its predecessor still holds the socket".into());
        }
        stage.note(format!("+{name}"));
        Ok(Alive(name.clone(), stage.alive.clone()))
    }

    async fn handle(&self, me: ActorRef<Tell>, tell: Tell, _: &mut Alive) -> Result<(), ActorProcessingErr> {
        match tell {
            Tell::Fail => return Err(Box::new(Told)),
            Tell::Panic => panic!("hand {} slipped", self.0),
            Tell::Finish => me.stop(None),
            Tell::ShutDown => shut_down(&me),
            Tell::Hang => std::future::pending().await,
        }
        Ok(())
    }

    async fn post_stop(&self, _me: ActorRef<Tell>, _: &mut Alive) -> Result<(), ActorProcessingErr> {
        self.1.note(format!("-{}", self.0));
        Ok(())
    }
}

impl Stage {
    pub(super) fn new() -> Self {
        Self { notes: watch::Sender::new(Vec::new()), hands: Arc::default(), alive: watch::Sender::default() }
    }

    pub(super) fn note(&self, note: String) {
        self.notes.send_modify(|notes| notes.push(note));
    }

    pub(super) async fn enter(&self, start: &Start) -> Result<ractor::ActorCell, crate::StartError> {
        start.spawn(Hand(start.name.to_string(), self.clone()), ()).await
    }

    /// A hand that restarts without a wait.
    pub(super) fn hand(&self, name: &str) -> ChildSpec {
        let stage = self.clone();
        ChildSpec::worker(name, move |start| {
            let stage = stage.clone();
            async move { stage.enter(&start).await }
        })
        .backoff(crate::Backoff::NONE)
    }

    /// A hand whose starts from the `from`-th to before the `to`-th fail.
    pub(super) fn clumsy(&self, name: &str, from: u64, to: u64) -> ChildSpec {
        let (stage, starts) = (self.clone(), Arc::new(AtomicU64::new(0)));
        ChildSpec::worker(name, move |start| {
            let stage = stage.clone();
            let fails = (from..to).contains(&starts.fetch_add(1, Ordering::Relaxed));
            async move {
                if fails {
                    stage.note(format!("!{}", start.name));
                    return Err(crate::StartError::other(Told));
                }
                stage.enter(&start).await
            }
        })
        .backoff(crate::Backoff::NONE)
    }

    pub(super) fn get(&self, name: &str) -> ActorRef<Tell> {
        self.hands.lock().unwrap()[name].clone()
    }

    pub(super) fn tell(&self, name: &str, tell: Tell) {
        assert!(self.get(name).cast(tell).is_ok(), "{name} does not run");
    }

    /// Everything noted since the last call, once there are at least this many.
    pub(super) async fn notes(&self, count: usize) -> String {
        self.notes.subscribe().wait_for(|notes| notes.len() >= count).await.unwrap();
        let mut taken = Vec::new();
        self.notes.send_modify(|notes| taken = std::mem::take(notes));
        taken.join(" ")
    }

    pub(super) async fn all_gone(&self) {
        self.alive.subscribe().wait_for(HashSet::is_empty).await.unwrap();
    }

    pub(super) fn alive(&self) -> usize {
        self.alive.borrow().len()
    }
}

/// Counts the log events of this thread by their message.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<HashMap<String, usize>>>);

impl Log {
    pub(super) fn start(&self) -> tracing::subscriber::DefaultGuard {
        // As long as tracing knows of one subscriber, the thread that meets an event first decides alone, and for all
        // threads, whether anybody listens to it. One more that never ends, and each event asks them all.
        static ANOTHER: OnceLock<tracing::Dispatch> = OnceLock::new();
        ANOTHER.get_or_init(|| tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default()));
        tracing::subscriber::set_default(self.clone())
    }

    pub(super) fn count(&self, message: &str) -> usize {
        self.0.lock().unwrap().get(message).copied().unwrap_or(0)
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        *self.0.lock().unwrap().entry(message.0).or_default() += 1;
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
