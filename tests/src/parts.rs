//! Small gears and endpoints for tests and benches.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_actors::{Effect, Refused};

/// Passes every message on.
#[derive(Clone, Debug)]
pub struct Pass;

impl Gear for Pass {
    const TYPE: &'static str = "pass";
    type State = ();

    fn handle(&self, msg: FluxMsg, (): &mut (), out: &mut Outlet) -> Result<(), GearError> {
        out.emit(msg);
        Ok(())
    }
}

/// Fills a message with the twelve short fields of the usual bench message.
pub fn fill(msg: &mut FluxMsg, number: u64) {
    let body = &mut **msg;
    for idx in 0..11_u32 {
        body.data.insert_key(format!("field{idx:02}"), format!("value-{idx:04}"));
    }
    body.data.insert_key("number", i64::try_from(number).unwrap_or(0));
    body.meta.set("site", "N1");
}

/// The number that [`fill`] put into a message.
pub fn number(msg: &FluxMsg) -> u64 {
    msg.data.get_key("number").and_then(Value::as_int).and_then(|int| u64::try_from(int).ok()).unwrap_or(u64::MAX)
}

/// How large a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// One field.
    Small,
    /// Twelve short fields, about 350 bytes encoded.
    Usual,
}

impl Size {
    fn fill(self, msg: &mut FluxMsg, number: u64) {
        match self {
            Self::Small => drop(msg.data.insert_key("number", i64::try_from(number).unwrap_or(0))),
            Self::Usual => fill(msg, number),
        }
    }
}

/// A source, so many passing gears, a sink, all wires alike.
pub fn pipeline(source: impl Endpoint, sink: impl Endpoint, gears: usize, lane: Lane) -> Rig {
    let mut rig = Rig::new("pipeline").endpoint("source", source).endpoint("sink", sink);
    let mut last = "source".to_owned();
    let options = || WireOptions { lane, ..WireOptions::default() };
    for idx in 0..gears {
        let name = format!("gear{idx}");
        rig = rig.gear(&name, Pass).wire_with(&last, &name, options());
        last = name;
    }
    rig.wire_with(&last, "sink", options())
}

/// Admits `count` messages as fast as the door lets them in.
#[derive(Clone, Debug)]
pub struct Burst {
    /// How many.
    pub count: u64,
    /// How large.
    pub size: Size,
}

impl Endpoint for Burst {
    const TYPE: &'static str = "burst";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let door = io.door();
        let mut template = io.message();
        self.size.fill(&mut template, 0);
        let mut next = 0;
        while next < self.count {
            let mut batch: VecDeque<FluxMsg> = (next..self.count.min(next + 256))
                .map(|number| {
                    let mut msg = io.message();
                    msg.data = template.data.clone();
                    msg.meta = template.meta.clone();
                    msg.data.insert_key("number", i64::try_from(number).unwrap_or(0));
                    msg
                })
                .collect();
            next += batch.len() as u64;
            match door.admit_all(&mut batch).await {
                Ok(_) => {}
                Err(Refused::Closed(..)) => return Ok(()),
                Err(error) => return Err(GearError::broken(error.to_string())),
            }
        }
        Ok(())
    }
}

/// Counts what reaches it.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// So many so far.
    pub seen: Arc<AtomicU64>,
}

impl Endpoint for Count {
    const TYPE: &'static str = "count";

    fn ports(&self) -> Ports {
        Ports::sink()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let mut effects = io.effects();
        loop {
            let batch = effects.take_many(1024).await;
            if batch.is_empty() {
                return Ok(());
            }
            let count = batch.len() as u64;
            // Counted first: whoever sees the wires empty finds them all counted.
            self.seen.fetch_add(count, Ordering::Relaxed);
            Effect::done_all(batch);
        }
    }
}

/// Admits one message after the other, so many, one each `every`.
#[derive(Clone, Debug)]
pub struct Paced {
    /// How many.
    pub count: u64,
    /// Time between two; zero is as fast as the door allows.
    pub every: Duration,
    /// How large.
    pub size: Size,
}

impl Endpoint for Paced {
    const TYPE: &'static str = "paced";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let door = io.door();
        for number in 0..self.count {
            if !self.every.is_zero() {
                tokio::time::sleep(self.every).await;
            }
            let mut msg = io.message();
            self.size.fill(&mut msg, number);
            if door.admit(msg).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Admits `count` messages with a payload of random bytes, as fast as the door lets them in.
#[derive(Clone, Debug)]
pub struct Bulky {
    /// How many.
    pub count: u64,
    /// Bytes of `raw` in each.
    pub raw_bytes: usize,
}

impl Endpoint for Bulky {
    const TYPE: &'static str = "bulky";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let door = io.door();
        let mut next = 0;
        while next < self.count {
            let make = |_| {
                let mut raw = vec![0; self.raw_bytes];
                io.random(&mut raw);
                let mut msg = io.message();
                msg.raw = Some(raw.into());
                msg
            };
            let mut batch: VecDeque<FluxMsg> = (next..self.count.min(next + 256)).map(make).collect();
            next += batch.len() as u64;
            if door.admit_all(&mut batch).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Takes nothing.
#[derive(Clone, Debug)]
pub struct Stalled;

impl Endpoint for Stalled {
    const TYPE: &'static str = "stalled";

    fn ports(&self) -> Ports {
        Ports::sink()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        io.draining().await;
        Ok(())
    }
}

/// A sink that notes how long each message took since it was made.
#[derive(Clone, Debug, Default)]
pub struct Stopwatch {
    times: Arc<Mutex<Vec<Duration>>>,
}

impl Stopwatch {
    /// How many were noted and not taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.lock().expect("nothing panics while it is held").len()
    }

    /// Whether nothing was noted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was noted, in order.
    pub fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut self.times.lock().expect("nothing panics while it is held"))
    }
}

impl Endpoint for Stopwatch {
    const TYPE: &'static str = "stopwatch";

    fn ports(&self) -> Ports {
        Ports::sink()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let mut effects = io.effects();
        while let Some(effect) = effects.take().await {
            let took_ns = u64::try_from(io.now_ns() - effect.msg.ts).unwrap_or(0);
            self.times.lock().expect("nothing panics while it is held").push(Duration::from_nanos(took_ns));
            effect.done();
        }
        Ok(())
    }
}

/// Admits a message whenever it is asked to.
#[derive(Clone, Debug)]
pub struct Asked {
    /// How large.
    pub size: Size,
    asks: Arc<tokio::sync::Semaphore>,
}

impl Asked {
    /// One that was not asked yet.
    #[must_use]
    pub fn new(size: Size) -> Self {
        Self { size, asks: Arc::new(tokio::sync::Semaphore::new(0)) }
    }

    /// Asks for one message.
    pub fn ask(&self) {
        self.asks.add_permits(1);
    }

    /// Asks for no more.
    pub fn end(&self) {
        self.asks.close();
    }
}

impl Endpoint for Asked {
    const TYPE: &'static str = "asked";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let door = io.door();
        while let Ok(permit) = self.asks.acquire().await {
            permit.forget();
            let mut msg = io.message();
            self.size.fill(&mut msg, 0);
            if door.admit(msg).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}
