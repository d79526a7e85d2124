//! The gears of a simulated rig: plain functions of message and durable state, some of them moody.
//! A failing attempt first emits and puts, so that what it leaves behind would be seen.

use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::Flags;

use super::draw;
use super::ledger::{Event, Label, Proc};
use super::plan::{Fate, Kind, PartSpec, fate};

/// Panics that the simulation wants begin with this.
pub const WANTED: &str = "wanted by the simulation";

/// Number and way of a message.
#[must_use]
pub fn label(msg: &FluxMsg) -> Label {
    let n = msg.meta.get("n").and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
    Label { n, path: msg.meta.get("p").unwrap_or("").to_owned() }
}

/// The key of a message.
#[must_use]
pub fn key(msg: &FluxMsg) -> u64 {
    msg.data.get_key("k").and_then(Value::as_int).and_then(|int| u64::try_from(int).ok()).unwrap_or(0)
}

/// How long the timer of message `n` runs.
#[must_use]
pub fn timer_ns(seed: u64, gear: &str, n: u64) -> u64 {
    let word = draw(seed, &["timer", gear], n);
    let ms = match word % 4 {
        0 => 5,
        1 => 80,
        2 => 1_000,
        _ => 12_000,
    };
    ms * 1_000_000
}

fn int(value: Option<Value>) -> u64 {
    value.as_ref().and_then(Value::as_int).and_then(|int| u64::try_from(int).ok()).unwrap_or(0)
}

fn note_recovered(proc: &Proc, ctx: &StartContext) {
    let text = |value: &Value| match value.as_int().and_then(|int| u64::try_from(int).ok()) {
        Some(number) => number.to_string(),
        None => value.as_text().unwrap_or("?").to_owned(),
    };
    let keys = ctx.recovered.iter().map(|(key, value)| (key.to_string(), text(value))).collect();
    proc.note(Event::Recovered { gear: ctx.name.to_string(), keys });
}

/// Every gear but the conductor.
#[derive(Clone, Debug)]
pub struct Worker {
    /// What it is.
    pub spec: PartSpec,
    /// The process it is part of.
    pub proc: Arc<Proc>,
}

impl Gear for Worker {
    const TYPE: &'static str = "sim_worker";
    type State = ();

    fn ports(&self) -> Ports {
        match self.spec.kind {
            Kind::Join => Ports::pipe().input("other"),
            Kind::Tap => Ports::none().input_feeding("set", &[]).input_feeding("ask", &["out"]).output("out"),
            _ => Ports::pipe(),
        }
    }

    fn start(&self, ctx: &StartContext) -> Result<(), GearError> {
        note_recovered(&self.proc, ctx);
        Ok(())
    }

    fn handle(&self, msg: FluxMsg, (): &mut (), out: &mut Outlet) -> Result<(), GearError> {
        let label = label(&msg);
        let fate = fate(self.proc.seed, &self.spec, &label);
        if fate == Fate::Reject {
            out.emit(msg);
            return Err(GearError::reject("planned"));
        }
        self.work(msg, &label, out);
        let is_failing = match fate {
            Fate::Poison => {
                self.proc.ledger.fail(&self.spec.name, &label);
                true
            }
            Fate::Flaky(times) => self.proc.ledger.fail(&self.spec.name, &label) <= times,
            Fate::Fine | Fate::Reject => false,
        };
        if !is_failing {
            return Ok(());
        }
        let is_panic = label.n.is_multiple_of(2);
        self.proc.note(Event::Failed { gear: self.spec.name.clone(), label });
        assert!(!is_panic, "{WANTED}");
        Err(GearError::broken("planned"))
    }

    fn on_timer(&self, key: &str, (): &mut (), out: &mut Outlet) -> Result<(), GearError> {
        self.proc.note(Event::TimerFired { gear: self.spec.name.clone(), key: key.to_owned() });
        let Some(path) = out.get(key) else { return Ok(()) };
        out.remove(key);
        // A timer has no message to derive from; a fresh one carries what the state kept.
        let mut msg = FluxMsg::new(FluxId::NIL, Default::default(), Default::default(), out.now_ns());
        msg.meta.set("n", key[1..].to_owned());
        msg.meta.set("p", format!("{}{}/", path.as_text().unwrap_or(""), self.spec.name));
        out.emit(msg);
        Ok(())
    }
}

impl Worker {
    fn work(&self, mut msg: FluxMsg, label: &Label, out: &mut Outlet) {
        let name = &self.spec.name;
        match self.spec.kind {
            Kind::Inserted => out.emit(msg),
            Kind::Split => {
                for idx in 0..copies(self.proc.seed, name, label.n) {
                    let mut copy = msg.clone();
                    copy.meta.set("p", format!("{}{name}#{idx}/", label.path));
                    out.emit(copy);
                }
            }
            Kind::Count => {
                let state = format!("c{}", key(&msg));
                let count = int(out.get(&state)) + 1;
                out.put(state, count);
                let counts = format!("{}{name}={count};", msg.meta.get("c").unwrap_or(""));
                msg.meta.set("c", counts);
                self.pass(msg, label, out);
            }
            Kind::Join => {
                let state = format!("j{}", label.n);
                if out.get(&state).is_none() {
                    out.put(state, label.path.clone());
                    return;
                }
                out.remove(state);
                msg.meta.set("p", format!("{name}/"));
                msg.meta.set("c", "");
                out.emit(msg);
            }
            Kind::Tap if out.port() == "set" => {
                let state = format!("v{}", key(&msg));
                let count = int(out.get(&state)) + 1;
                out.put(state, count);
                out.put(format!("l{}", key(&msg)), label.n);
            }
            Kind::Tap => {
                let key = key(&msg);
                let (count, last) = (int(out.get(&format!("v{key}"))), int(out.get(&format!("l{key}"))));
                msg.meta.set("r", format!("{key}:{count}:{last}"));
                self.pass(msg, label, out);
            }
            Kind::Alarm => {
                let timer = format!("a{}", label.n);
                let ns = timer_ns(self.proc.seed, name, label.n);
                out.put(timer.clone(), label.path.clone());
                out.timer(timer.clone(), Duration::from_nanos(ns));
                self.proc.note(Event::TimerSet { gear: name.clone(), key: timer, ns });
            }
            _ => self.pass(msg, label, out),
        }
    }

    fn pass(&self, mut msg: FluxMsg, label: &Label, out: &mut Outlet) {
        msg.meta.set("p", format!("{}{}/", label.path, self.spec.name));
        out.emit(msg);
    }
}

/// How many copies a split makes of message `n`.
#[must_use]
pub fn copies(seed: u64, gear: &str, n: u64) -> u64 {
    1 + draw(seed, &["copies", gear], n) % 3
}

/// Asks a host and answers the source's side once: with the reply, with *unknown*, or when its timer fires.
#[derive(Clone, Debug)]
pub struct Conductor {
    /// What it is.
    pub spec: PartSpec,
    /// The process it is part of.
    pub proc: Arc<Proc>,
}

impl Conductor {
    fn answer(&self, n: &str, path: &Value, outcome: &str, out: &mut Outlet) {
        let mut msg = FluxMsg::new(FluxId::NIL, Default::default(), Default::default(), out.now_ns());
        msg.meta.set("n", n.to_owned());
        msg.meta.set("p", format!("{}{}/ans/", path.as_text().unwrap_or(""), self.spec.name));
        msg.meta.set("f", outcome.to_owned());
        out.emit_on("ans", msg);
    }
}

impl Gear for Conductor {
    const TYPE: &'static str = "sim_conductor";
    type State = ();

    fn ports(&self) -> Ports {
        Ports::none().input_feeding("req", &["ask"]).reply("rep", &["ans"]).output("ask").output("ans")
    }

    fn start(&self, ctx: &StartContext) -> Result<(), GearError> {
        note_recovered(&self.proc, ctx);
        Ok(())
    }

    fn handle(&self, mut msg: FluxMsg, (): &mut (), out: &mut Outlet) -> Result<(), GearError> {
        let label = label(&msg);
        let state = format!("q{}", label.n);
        if out.port() == "req" {
            let ns = timer_ns(self.proc.seed, &self.spec.name, label.n);
            out.put(state.clone(), label.path.clone());
            out.timer(state.clone(), Duration::from_nanos(ns));
            self.proc.note(Event::TimerSet { gear: self.spec.name.clone(), key: state, ns });
            msg.meta.set("p", format!("{}{}/ask/", label.path, self.spec.name));
            out.emit_on("ask", msg);
            return Ok(());
        }
        let Some(path) = out.get(&state) else { return Ok(()) };
        out.remove(state.clone());
        out.cancel(state);
        let outcome = if msg.flags.contains(Flags::MAYBE_SENT) { "unknown" } else { "ok" };
        self.answer(&label.n.to_string(), &path, outcome, out);
        Ok(())
    }

    fn on_timer(&self, key: &str, (): &mut (), out: &mut Outlet) -> Result<(), GearError> {
        self.proc.note(Event::TimerFired { gear: self.spec.name.clone(), key: key.to_owned() });
        let Some(path) = out.get(key) else { return Ok(()) };
        out.remove(key);
        self.answer(&key[1..], &path, "timeout", out);
        Ok(())
    }
}
