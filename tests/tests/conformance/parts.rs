//! Gears and endpoints that do what a case tells them, and remember what they saw. They know nothing of the runtime's
//! insides.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use fluxrig_actors::Refused;
use fluxrig_actors::prelude::*;
use tokio::sync::{Notify, watch};

pub(crate) use fluxrig_tests::parts::{Pass, number};

type Handle = Box<dyn Fn(FluxMsg, &mut u64, &mut Outlet) -> Result<(), GearError> + Send + Sync>;
type OnTimer = Box<dyn Fn(&str, &mut u64, &mut Outlet) -> Result<(), GearError> + Send + Sync>;
type OnStart = Box<dyn Fn(&StartContext) -> u64 + Send + Sync>;

/// A gear made of closures; its state is a number.
pub(crate) struct Func {
    ports: Ports,
    handle: Handle,
    on_timer: OnTimer,
    on_start: OnStart,
}

impl Func {
    pub(crate) fn new(
        handle: impl Fn(FluxMsg, &mut u64, &mut Outlet) -> Result<(), GearError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            ports: Ports::pipe(),
            handle: Box::new(handle),
            on_timer: Box::new(|_, _, _| Ok(())),
            on_start: Box::new(|_| 0),
        }
    }

    pub(crate) fn ports(self, ports: Ports) -> Self {
        Self { ports, ..self }
    }

    pub(crate) fn on_timer(
        self,
        on_timer: impl Fn(&str, &mut u64, &mut Outlet) -> Result<(), GearError> + Send + Sync + 'static,
    ) -> Self {
        Self { on_timer: Box::new(on_timer), ..self }
    }

    pub(crate) fn on_start(self, on_start: impl Fn(&StartContext) -> u64 + Send + Sync + 'static) -> Self {
        Self { on_start: Box::new(on_start), ..self }
    }
}

impl Gear for Func {
    const TYPE: &'static str = "func";
    type State = u64;

    fn ports(&self) -> Ports {
        self.ports.clone()
    }

    fn start(&self, ctx: &StartContext) -> Result<u64, GearError> {
        Ok((self.on_start)(ctx))
    }

    fn handle(&self, msg: FluxMsg, state: &mut u64, out: &mut Outlet) -> Result<(), GearError> {
        (self.handle)(msg, state, out)
    }

    fn on_timer(&self, key: &str, state: &mut u64, out: &mut Outlet) -> Result<(), GearError> {
        (self.on_timer)(key, state, out)
    }
}

/// An endpoint whose side of the rig is in the test's hand.
#[derive(Clone)]
pub(crate) struct Hand {
    ports: Ports,
    /// How often it was started, and its side of the rig while it runs.
    io: Arc<watch::Sender<(u64, Option<Io>)>>,
    crashing: Arc<Notify>,
}

impl Hand {
    pub(crate) fn new(ports: Ports) -> Self {
        Self { ports, io: Arc::new(watch::Sender::new((0, None))), crashing: Arc::default() }
    }

    pub(crate) fn source() -> Self {
        Self::new(Ports::source())
    }

    /// Its present start's side of the rig.
    pub(crate) async fn io(&self) -> Io {
        let mut io = self.io.subscribe();
        let io = io.wait_for(|(_, io)| io.is_some()).await.unwrap();
        io.1.clone().unwrap()
    }

    /// Fails, and waits for its next start.
    pub(crate) async fn crash(&self) -> Io {
        let mut io = self.io.subscribe();
        let before = io.borrow().0;
        self.crashing.notify_one();
        let io = io.wait_for(|(starts, io)| *starts > before && io.is_some()).await.unwrap();
        io.1.clone().unwrap()
    }
}

struct Leaving(Arc<watch::Sender<(u64, Option<Io>)>>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.send_modify(|(_, io)| *io = None);
    }
}

impl Endpoint for Hand {
    const TYPE: &'static str = "hand";

    fn ports(&self) -> Ports {
        self.ports.clone()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let _leaving = Leaving(Arc::clone(&self.io));
        self.io.send_modify(|(starts, present)| (*starts, *present) = (*starts + 1, Some(io)));
        self.crashing.notified().await;
        Err(GearError::broken("told to crash"))
    }
}

/// What a sink does with an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Done,
    Unknown,
    Reject,
    /// Begun, never ended while this start of the sink lives, and nothing is taken any more.
    Stay,
    /// Begun, and never ended while this start of the sink lives.
    Keep,
    /// The sink ends with the effect under way.
    Crash,
}

/// An effect as a sink saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) number: u64,
    pub(crate) id: FluxId,
    pub(crate) is_maybe_sent: bool,
    pub(crate) msg: FluxMsg,
}

/// A sink that keeps a ledger, over every start of it and of the rig.
#[derive(Clone)]
pub(crate) struct Sink {
    ports: Ports,
    ledger: Arc<Mutex<Vec<Seen>>>,
    act: Arc<dyn Fn(&Effect) -> Act + Send + Sync>,
}

impl Sink {
    pub(crate) fn new() -> Self {
        Self::acting(|_| Act::Done)
    }

    pub(crate) fn acting(act: impl Fn(&Effect) -> Act + Send + Sync + 'static) -> Self {
        Self { ports: Ports::sink(), ledger: Arc::default(), act: Arc::new(act) }
    }

    pub(crate) fn ports(self, ports: Ports) -> Self {
        Self { ports, ..self }
    }

    /// The same ledger, another behaviour.
    pub(crate) fn then(&self, act: impl Fn(&Effect) -> Act + Send + Sync + 'static) -> Self {
        Self { act: Arc::new(act), ..self.clone() }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.ledger.lock().unwrap().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.ledger.lock().unwrap().len()
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.ledger.lock().unwrap().iter().map(|seen| seen.number).collect()
    }

    pub(crate) fn ids(&self) -> Vec<FluxId> {
        self.ledger.lock().unwrap().iter().map(|seen| seen.id).collect()
    }
}

impl Endpoint for Sink {
    const TYPE: &'static str = "ledger";

    fn ports(&self) -> Ports {
        self.ports.clone()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let mut effects = io.effects();
        let mut kept = Vec::new();
        while let Some(effect) = effects.take().await {
            let seen = Seen {
                number: number(&effect.msg),
                id: effect.msg.id,
                is_maybe_sent: effect.is_maybe_sent(),
                msg: effect.msg.clone(),
            };
            self.ledger.lock().unwrap().push(seen);
            match (self.act)(&effect) {
                Act::Done => effect.done(),
                Act::Unknown => effect.unknown("no answer"),
                Act::Reject => effect.reject("not wanted"),
                Act::Keep => kept.push(effect),
                Act::Stay => {
                    kept.push(effect);
                    std::future::pending::<()>().await;
                }
                Act::Crash => return Err(GearError::broken("told to crash")),
            }
        }
        Ok(())
    }
}

/// A numbered message.
pub(crate) fn numbered(io: &Io, number: u64) -> FluxMsg {
    let mut msg = io.message();
    msg.data.insert_key("number", i64::try_from(number).unwrap());
    msg
}

/// Admits these numbers, in order, and waits until the last of them is durable.
pub(crate) async fn push(io: &Io, numbers: impl IntoIterator<Item = u64>) {
    let door = io.door();
    let mut last = None;
    for number in numbers {
        last = Some(door.admit(numbered(io, number)).await.unwrap());
    }
    if let Some(receipt) = last {
        assert!(receipt.durable().await, "the rig runs");
    }
}

/// Admits these numbers beside the test, until they are all in or the rig lets nothing in any more.
pub(crate) fn push_beside(io: &Io, numbers: std::ops::Range<u64>) -> tokio::task::JoinHandle<u64> {
    let io = io.clone();
    tokio::spawn(async move {
        let door = io.door();
        let mut admitted = 0;
        for number in numbers {
            match door.admit(numbered(&io, number)).await {
                Ok(_) => admitted += 1,
                Err(Refused::Closed(..)) => break,
                Err(error) => panic!("{error}"),
            }
        }
        admitted
    })
}

/// What a future gives when it is asked once; `None` while it waits.
pub(crate) async fn once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

/// The text of `data.<key>`.
pub(crate) fn text(msg: &FluxMsg, key: &str) -> String {
    msg.data.get_key(key).and_then(Value::as_text).unwrap_or_default().to_owned()
}
