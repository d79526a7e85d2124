//! The endpoints of a simulated rig: sources with receipts, sinks with pauses before and after each effect, a host.
//! What they do to the world goes into the ledger at that moment, and only while their process lives.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::Refused;
use fluxrig_actors::journal::disk::sim::SplitMix;
use fluxrig_actors::prelude::*;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::draw;
use super::gears::{WANTED, label};
use super::ledger::{self, Event, Proc};
use super::plan::{Fate, Kind, PartSpec, fate};

/// Numbers of one source are so far from those of the next.
pub const SOURCE_STEP: u64 = 1_000_000;

fn chance(proc: &Proc, name: &str) -> SplitMix {
    // Another start draws other chances: the ledger has grown since.
    SplitMix::new(draw(proc.seed, &["endpoint", name], proc.ledger.len() as u64))
}

async fn pause(rng: &mut SplitMix, max_ms: u64) {
    if max_ms > 0 {
        let ms = rng.below(max_ms + 1);
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await;
        }
    }
}

/// Fails now and then, by error or by panic.
fn mood(rng: &mut SplitMix, proc: &Proc) -> Result<(), GearError> {
    if !proc.may_fail() || rng.below(60) > 0 {
        return Ok(());
    }
    assert!(rng.below(2) > 0, "{WANTED}");
    Err(GearError::broken("planned"))
}

/// Number of the source in its name: what its messages' numbers begin with.
#[must_use]
pub fn source_number(name: &str) -> u64 {
    name.trim_start_matches(char::is_alphabetic).parse().unwrap_or(0)
}

/// Admits numbered messages and remembers which receipts became durable.
#[derive(Clone, Debug)]
pub struct Source {
    /// What it is.
    pub spec: PartSpec,
    /// The process it is part of.
    pub proc: Arc<Proc>,
}

impl Endpoint for Source {
    const TYPE: &'static str = "sim_source";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let Kind::Source { count, keys, gap_ms, burst, expires } = self.spec.kind else { return Ok(()) };
        let (name, proc) = (&self.spec.name, &self.proc);
        proc.note(Event::EndpointStarted(name.clone()));
        let mut rng = chance(proc, name);
        let door = io.door();
        loop {
            pause(&mut rng, gap_ms).await;
            mood(&mut rng, proc)?;
            let mut msgs = VecDeque::new();
            for _ in 0..1 + rng.below(burst) {
                if !proc.is_alive() {
                    return Ok(());
                }
                let Some(number) = proc.ledger.next(name, count) else { break };
                let n = source_number(name) * SOURCE_STEP + number;
                let key = draw(proc.seed, &["key", name], n) % keys;
                let mut msg = io.message();
                if expires > 0 && n % expires == 3 {
                    let left_ms = draw(proc.seed, &["expires"], n) % 200;
                    msg.expires = Some(io.now_ns() + i64::try_from(left_ms * 1_000_000).unwrap_or(0));
                }
                msg.meta.set("n", n.to_string());
                msg.data.insert_key("k", key);
                // Some messages are long, so that segments fill and bodies are worth reading back.
                msg.data.insert_key("pad", "x".repeat(draw(proc.seed, &["pad"], n) as usize % 400));
                proc.note(Event::Offered { source: name.clone(), n, key, expires: msg.expires });
                msgs.push_back(msg);
            }
            if msgs.is_empty() {
                return Ok(());
            }
            let numbers: Vec<u64> = msgs.iter().map(|msg| label(msg).n).collect();
            match door.admit_all(&mut msgs).await {
                Ok(Some(receipt)) => {
                    let proc = Arc::clone(proc);
                    tokio::spawn(async move {
                        if receipt.durable().await {
                            for n in numbers {
                                proc.note(Event::Acked(n));
                            }
                        }
                    });
                }
                Ok(None) => {}
                Err(Refused::Closed(msg, _)) => {
                    proc.note(Event::Refused(label(&msg).n));
                    for msg in &msgs {
                        proc.note(Event::Refused(label(msg).n));
                    }
                    return Ok(());
                }
                Err(error) => return Err(GearError::broken(error.to_string())),
            }
        }
    }
}

fn effect_line(name: &str, effect: &Effect, io: &Io) -> ledger::Effect {
    let msg = &effect.msg;
    let meta = |key: &str| msg.meta.get(key).unwrap_or("").to_owned();
    ledger::Effect {
        place: name.to_owned(),
        label: label(msg),
        id: msg.id,
        is_flagged: effect.is_maybe_sent(),
        counts: meta("c"),
        read: meta("r"),
        outcome: meta("f"),
        reference: msg.reference,
        wall_ns: io.now_ns(),
    }
}

/// Ends messages: an effect in the ledger, a pause, `done`.
#[derive(Clone, Debug)]
pub struct Sink {
    /// What it is.
    pub spec: PartSpec,
    /// The process it is part of.
    pub proc: Arc<Proc>,
}

impl Endpoint for Sink {
    const TYPE: &'static str = "sim_sink";

    fn ports(&self) -> Ports {
        match self.spec.kind {
            Kind::Sink { is_reporting: true, .. } => Ports::sink().output("report"),
            _ => Ports::sink(),
        }
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let Kind::Sink { is_reporting, wide, pause_ms } = self.spec.kind else { return Ok(()) };
        let (name, proc) = (&self.spec.name, &self.proc);
        proc.note(Event::EndpointStarted(name.clone()));
        let mut rng = chance(proc, name);
        let mut effects = io.effects();
        let permits = Arc::new(Semaphore::new(wide as usize));
        let mut under_way = JoinSet::new();
        let window = 1 + rng.below(8) as usize;
        effects.set_window(window);
        io.link_up();
        loop {
            if proc.may_fail() && rng.below(40) == 0 {
                effects.set_window(0);
                io.link_down("planned");
                pause(&mut rng, 60).await;
                effects.set_window(window);
                io.link_up();
            }
            let Some(effect) = effects.take().await else { return Ok(()) };
            pause(&mut rng, pause_ms).await;
            mood(&mut rng, proc)?;
            let line = effect_line(name, &effect, &io);
            if is_reporting && effect.is_maybe_sent() {
                proc.note(Event::Unknown { place: name.clone(), label: line.label });
                effect.unknown("planned");
                continue;
            }
            if fate(proc.seed, &self.spec, &line.label) == Fate::Reject {
                effect.reject("planned");
                continue;
            }
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return Ok(()) };
            // The pause may have outlasted it.
            if !effect.is_maybe_sent() && effect.msg.expires.is_some_and(|expires| expires < io.now_ns()) {
                effect.reject("expired");
                continue;
            }
            let label = line.label.clone();
            proc.note(Event::Effect(ledger::Effect { wall_ns: io.now_ns(), ..line }));
            mood(&mut rng, proc)?;
            // One effect in a while takes long, so that those behind it are acked before it.
            let long_ms = if wide > 1 && rng.below(12) == 0 { 900 } else { pause_ms };
            let mut own = SplitMix::new(rng.next_u64());
            let (place, proc) = (name.clone(), Arc::clone(proc));
            under_way.spawn(async move {
                pause(&mut own, long_ms).await;
                effect.done();
                proc.note(Event::Done { place, label });
                drop(permit);
            });
            while under_way.try_join_next().is_some() {}
        }
    }
}

/// Answers what a conductor asks, mostly; reports what it may have seen before.
#[derive(Clone, Debug)]
pub struct Host {
    /// What it is.
    pub spec: PartSpec,
    /// The process it is part of.
    pub proc: Arc<Proc>,
}

impl Endpoint for Host {
    const TYPE: &'static str = "sim_host";

    fn ports(&self) -> Ports {
        Ports::none().input("ask").output("rep")
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let Kind::Host { pause_ms } = self.spec.kind else { return Ok(()) };
        let (name, proc) = (&self.spec.name, &self.proc);
        proc.note(Event::EndpointStarted(name.clone()));
        let mut rng = chance(proc, name);
        let mut effects = io.effects();
        effects.set_window(1 + rng.below(4) as usize);
        let door = io.door();
        loop {
            let Some(effect) = effects.take().await else { return Ok(()) };
            pause(&mut rng, pause_ms).await;
            mood(&mut rng, proc)?;
            let line = effect_line(name, &effect, &io);
            if effect.is_maybe_sent() {
                proc.note(Event::Unknown { place: name.clone(), label: line.label });
                effect.unknown("planned");
                continue;
            }
            if effect.msg.expires.is_some_and(|expires| expires < io.now_ns()) {
                effect.reject("expired");
                continue;
            }
            let label = line.label.clone();
            proc.note(Event::Effect(ledger::Effect { wall_ns: io.now_ns(), ..line }));
            mood(&mut rng, proc)?;
            // One question in five is never answered.
            if !draw(proc.seed, &["host"], label.n).is_multiple_of(5) {
                let mut reply = io.message();
                reply.reference = Some(effect.msg.id);
                reply.meta.set("n", label.n.to_string());
                reply.meta.set("p", label.path.clone());
                if door.admit(reply).await.is_err() {
                    return Ok(());
                }
                mood(&mut rng, proc)?;
            }
            effect.done();
            proc.note(Event::Done { place: name.clone(), label });
        }
    }
}
