//! The actor around a gear: answers the doorbell, takes a batch from a wire, calls the gear message by message, commits.
//! It owns nothing that must last: queues, durable state and timers are the node's.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fluxrig_protocol::FluxMsg;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use smol_str::SmolStr;

use crate::cell::{Cell, Inlet};
use crate::commit::{Acks, Commit, Failure};
use crate::gear::{AnyGear, AnyRunning, GearError, Link, StartContext};
use crate::identity::Cause;
use crate::mutants::{self, Mutation};
use crate::node::Node;
use crate::outlet::{Delivery, EmitBounds, Outlet};
use crate::wire::{After, DeadNote, Front, Taken};

/// A batch ends after this long, so that other gears of the worker get their turn (HEART §2.4).
const BATCH_NS: u64 = 200_000;

/// Messages taken at once by a gear whose speed is not known yet; the clock is looked at as often.
const BATCH_FIRST: usize = 16;

/// Timers fired in one go.
const TIMERS_MAX: usize = 256;

pub(crate) enum GearMsg {
    /// The wires hold the messages; this only says that there are some.
    Ready,
}

pub(crate) struct GearActor;

/// What a gear actor is started with.
pub(crate) struct GearSetup {
    pub(crate) gear: Arc<dyn AnyGear>,
    pub(crate) node: Arc<Node>,
    pub(crate) cell: Arc<Cell>,
}

pub(crate) struct Run {
    node: Arc<Node>,
    cell: Arc<Cell>,
    gear: Box<dyn AnyRunning>,
    outlet: Outlet,
    taken: Vec<Taken>,
    gone: Vec<FluxMsg>,
    due: Vec<(SmolStr, u64)>,
    next_inlet: usize,
    /// Messages to take at once: as many as fit into the time of a batch, so that none is copied off a wire in vain.
    batch: usize,
    link_count: u64,
}

/// The gear cannot go on; its supervisor decides.
#[derive(Debug, thiserror::Error)]
#[error("gear `{gear}`: {error}")]
struct Crashed {
    gear: SmolStr,
    error: SmolStr,
}

impl Actor for GearActor {
    type Msg = GearMsg;
    type State = Run;
    type Arguments = GearSetup;

    async fn pre_start(&self, me: ActorRef<GearMsg>, setup: GearSetup) -> Result<Run, ActorProcessingErr> {
        let run = Run::start(setup)?;
        for inlet in &run.cell.wiring().inlets {
            run.node.move_motion(inlet.queue.resume());
        }
        // Whatever waited while nobody was there is served now.
        run.cell.bell.connect(move || drop(me.cast(GearMsg::Ready)));
        Ok(run)
    }

    async fn handle(&self, _me: ActorRef<GearMsg>, msg: GearMsg, run: &mut Run) -> Result<(), ActorProcessingErr> {
        match msg {
            GearMsg::Ready => {
                run.cell.bell.answer();
                match run.serve().await {
                    Ok(true) => run.cell.bell.ring(),
                    Ok(false) => {}
                    Err(crash) => {
                        run.rest();
                        return Err(crash.into());
                    }
                }
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _me: ActorRef<GearMsg>, run: &mut Run) -> Result<(), ActorProcessingErr> {
        run.cell.bell.disconnect();
        Ok(())
    }
}

/// How one delivery ended.
enum Outcome {
    Done,
    Rejected(SmolStr),
    Broken(SmolStr),
}

impl Run {
    fn start(setup: GearSetup) -> Result<Self, GearError> {
        let GearSetup { gear, node, cell } = setup;
        let recovered = cell.memory().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let ctx = StartContext {
            name: cell.name.clone(),
            entity: cell.entity,
            partition: cell.partition,
            recovered,
            tallies: cell.tallies.clone(),
        };
        let gear = gear.start(&ctx)?;
        cell.repeat_links();
        let bounds = EmitBounds { messages: node.settings.emit_max, bytes: node.settings.emit_bytes_max };
        let outlet = Outlet::new(Arc::clone(&cell), node.id_key, node.settings.limits, bounds);
        Ok(Self {
            node,
            cell,
            gear,
            outlet,
            taken: Vec::new(),
            gone: Vec::new(),
            due: Vec::new(),
            next_inlet: 0,
            batch: BATCH_FIRST,
            link_count: 0,
        })
    }

    /// Serves replies, then timers, then requests (HEART §3.4). True when there is more to do at once.
    async fn serve(&mut self) -> Result<bool, Crashed> {
        if self.node.gauge.is_halted() {
            return Ok(false);
        }
        let cell = Arc::clone(&self.cell);
        self.tell_links()?;
        let inlets = &cell.wiring().inlets;
        let replies = inlets.iter().take_while(|inlet| inlet.is_reply).count();
        let mut is_more = false;
        for inlet in &inlets[..replies] {
            // What was there when the bell rang beats a timer that is due now; what comes later takes its turn.
            let mut left = inlet.queue.len();
            while left > 0 {
                let Served { count, is_more: more } = self.drain(inlet).await?;
                is_more |= more;
                if count == 0 {
                    break;
                }
                left = left.saturating_sub(count);
            }
        }
        is_more |= self.fire()?;
        let requests = inlets.len() - replies;
        for offset in 0..requests {
            let inlet = &inlets[replies + (self.next_inlet + offset) % requests];
            is_more |= self.drain(inlet).await?.is_more;
        }
        self.next_inlet = self.next_inlet.wrapping_add(1);
        self.arm_timers();
        Ok(is_more)
    }

    /// Nobody takes what waits for this gear until it is started again, so no cut waits for it either.
    fn rest(&self) {
        for inlet in &self.cell.wiring().inlets {
            self.node.move_motion(inlet.queue.set_idle(true));
        }
    }

    fn has_full_outs(&self) -> bool {
        self.cell.wiring().outs.iter().flatten().any(|wire| wire.queues.iter().any(|queue| !queue.has_room()))
    }

    /// Takes one batch from a queue, handles it and commits.
    async fn drain(&mut self, inlet: &Inlet) -> Result<Served, Crashed> {
        while mutants::is(Mutation::WaitingEmitters) && self.has_full_outs() && !self.node.gauge.is_halted() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let is_careful = self.node.is_careful.load(Ordering::Relaxed);
        let batch_max = if is_careful { 1 } else { self.batch.min(self.node.settings.batch_max) };
        let started_ns = self.node.now_ns();
        let mut taken = std::mem::take(&mut self.taken);
        match inlet.queue.front(batch_max, started_ns, &mut taken) {
            Front::Given => {}
            Front::BlockedUntil(until_ns) => {
                self.cell.alarm(&self.node, until_ns);
                self.taken = taken;
                return Ok(Served::NOTHING);
            }
            Front::Empty | Front::Away => {
                self.taken = taken;
                return Ok(Served::NOTHING);
            }
        }
        let mut started_ns = started_ns;
        if is_careful {
            self.attempt_durably(inlet, &mut taken[0]).await;
            // A timer that this delivery sets runs from the delivery on, not from before that wait.
            started_ns = self.node.now_ns();
        }
        let is_full = taken.len() == batch_max;
        let Handled { count, left, crash } = self.handle_batch(inlet, &mut taken, started_ns, is_careful);
        let is_cut_short = left > 0;
        if is_cut_short {
            self.batch = (batch_max - left).max(BATCH_FIRST);
        } else if is_full {
            self.batch = (batch_max * 2).min(self.node.settings.batch_max).max(BATCH_FIRST);
        }
        self.taken = taken;
        // What the commit took off the queue is dropped here, outside the gate.
        self.gone.clear();
        match crash {
            None => Ok(Served { count, is_more: is_full || is_cut_short }),
            Some(crash) => Err(crash),
        }
    }

    /// Handles what was taken, up to the time limit or the first message that breaks the gear, and commits that much.
    /// Leaves `taken` empty, with its room for the next batch.
    fn handle_batch(&mut self, inlet: &Inlet, taken: &mut Vec<Taken>, started_ns: u64, is_careful: bool) -> Handled {
        let queue = &inlet.queue;
        let first_seq = taken[0].seq;
        let mut after = self.cell.memory().after;
        let mut count: usize = 0;
        let mut dead = Vec::new();
        let mut failure = None;
        self.outlet.begin_batch(self.node.wall_ns(), started_ns);
        self.cell.counters.busy_since_ns.store(started_ns, Ordering::Relaxed);
        let mut is_stateful = self.gear.is_stateful();
        // A wire that retains reads the message once more when it is acked.
        let can_let_go = queue.spec.retention.is_none();
        let mut messages = taken.drain(..);
        for message in messages.by_ref() {
            let Taken { seq, msg, after: msg_after, attempts } = message;
            // State carries what earlier messages depended on into everything said later.
            let here = if mutants::is(Mutation::AfterNotThroughState) { msg_after } else { after.max(msg_after) };
            if is_stateful {
                after = here;
            }
            let delivery = Delivery {
                cause: Cause { input: msg.id, wire: queue.spec.number, gear: self.cell.number },
                port_idx: Some(inlet.port_idx),
                input: can_let_go.then_some(seq),
                after: here,
            };
            let max = queue.spec.redelivery.max_deliver.get();
            let outcome = if attempts >= max {
                Outcome::Rejected("delivered too often".into())
            } else {
                deliver(&mut self.outlet, delivery, |outlet| self.gear.handle(msg, outlet))
            };
            match outcome {
                // What it put, or a timer that it set, tells those after it as well.
                Outcome::Done if !is_stateful && !self.outlet.batch.changes.is_empty() => {
                    (is_stateful, after) = (true, here)
                }
                Outcome::Done => {}
                Outcome::Rejected(reason) => {
                    self.cell.counters.rejected.fetch_add(1, Ordering::Relaxed);
                    // The delivery that was rejected counts, unless it was not made at all.
                    let made = if attempts >= max { attempts } else { attempts + 1 };
                    dead.extend(self.bury(inlet, seq, here, &reason, made));
                }
                Outcome::Broken(error) => {
                    self.cell.counters.failed.fetch_add(1, Ordering::Relaxed);
                    let made = attempts + 1;
                    if made >= max {
                        dead.extend(self.bury(inlet, seq, here, &error, made));
                        count += 1;
                    }
                    failure = Some((seq, error, made));
                    break;
                }
            }
            count += 1;
            if count.is_multiple_of(BATCH_FIRST) && self.node.now_ns() - started_ns > BATCH_NS {
                break;
            }
        }
        let left = messages.len();
        drop(messages);
        let now_ns = self.node.now_ns();
        let failed = failure.as_ref().filter(|(_, _, made)| *made < queue.spec.redelivery.max_deliver.get());
        let failed = failed.map(|(seq, error, made)| Failure {
            queue,
            seq: *seq,
            error,
            until_ns: now_ns.saturating_add(ns(queue.spec.redelivery.wait(*made))),
            // A careful attempt was counted before it was made.
            is_counted: is_careful && queue.spec.lane.is_standard(),
        });
        let commit = Commit {
            cell: &self.cell,
            acks: Some(Acks { queue, first_seq, count }),
            fired: &[],
            batch: &mut self.outlet.batch,
            after: if is_stateful { after } else { After::NOTHING },
            dead,
            failure: failed,
            now_ns,
        };
        let until_ns = commit.failure.map(|failure| failure.until_ns);
        self.node.commit_or_halt(commit, &mut self.gone);
        self.outlet.clear();
        self.cell.counters.busy_since_ns.store(0, Ordering::Relaxed);
        // Messages that went through, or became dead letters, are progress, and forgive the crashes they cost:
        // poison drains, and only a gear that gets nothing out of the way is over its intensity.
        self.cell.count_handled(count as u64);
        if let Some(until_ns) = until_ns {
            self.cell.alarm(&self.node, until_ns);
        }
        let crash = failure.map(|(_, error, _)| Crashed { gear: self.cell.name.clone(), error });
        Handled { count, left, crash }
    }

    fn bury(&self, inlet: &Inlet, seq: u64, after: After, error: &str, attempts: u32) -> Option<crate::commit::Letter> {
        let msg = inlet.queue.msg_at(seq)?;
        let first = match inlet.queue.front_fault(seq) {
            Some(fault) => fault.first,
            None => error.into(),
        };
        let note = DeadNote {
            gear: self.cell.name.clone(),
            wire: inlet.queue.spec.wire.clone(),
            reason: error.into(),
            attempts,
            first,
            last: error.into(),
            at_ns: self.node.wall_ns(),
        };
        Some((self.node.redacted(msg), after, Arc::new(note)))
    }

    /// After two unclean starts the attempt is durable before it is made, so that a message which ends the process is
    /// found out (HEART §7.2).
    async fn attempt_durably(&self, inlet: &Inlet, taken: &mut Taken) {
        let lane = inlet.queue.spec.lane;
        if !lane.is_standard() || taken.attempts >= inlet.queue.spec.redelivery.max_deliver.get() {
            return;
        }
        let after = {
            let _gate = self.node.gate.enter();
            taken.attempts = inlet.queue.attempt_front(taken.seq);
            self.node.note_dirty();
            self.node.after_now(lane)
        };
        self.node.durable(after).await;
        // The present attempt is under way: it must not count as one too many itself.
        taken.attempts = taken.attempts.saturating_sub(1);
    }

    /// Fires timers that are due, while the gear's door is open.
    fn fire(&mut self) -> Result<bool, Crashed> {
        let now_ns = self.node.now_ns();
        let mut due = std::mem::take(&mut self.due);
        due.clear();
        self.cell.memory().due(now_ns, TIMERS_MAX, &mut due);
        if self.is_door_closed() {
            // The door rings when it opens; until then there is nothing more to do at once.
            due.clear();
        }
        let is_full = due.len() == TIMERS_MAX;
        let result = if due.is_empty() { Ok(()) } else { self.fire_due(&due, now_ns) };
        self.due = due;
        result.map(|()| is_full)
    }

    fn is_door_closed(&self) -> bool {
        self.cell.wiring().timer_door.as_ref().is_some_and(|door| door.closed().is_some())
    }

    fn fire_due(&mut self, due: &[(SmolStr, u64)], now_ns: u64) -> Result<(), Crashed> {
        let after = self.cell.memory().after;
        let mut fired = 0;
        let mut dead = Vec::new();
        let mut crash = None;
        self.outlet.begin_batch(self.node.wall_ns(), now_ns);
        for (key, generation) in due {
            if self.outlet.has_moved_timer(key) {
                // One that fired before it in this batch stopped it or set it anew: this generation is stale.
                fired += 1;
                continue;
            }
            let input = self.node.id_key.timer(self.cell.number, key, *generation);
            let cause = Cause { input, wire: 0, gear: self.cell.number };
            let delivery = Delivery { cause, port_idx: None, input: None, after };
            match deliver(&mut self.outlet, delivery, |outlet| self.gear.on_timer(key, outlet)) {
                Outcome::Done => {}
                Outcome::Rejected(reason) => dead.push(self.bury_timer(delivery, key, &reason, 1)),
                Outcome::Broken(error) => {
                    let attempts = self.cell.memory().note_timer_failure(key);
                    if attempts >= TIMER_ATTEMPTS_MAX {
                        dead.push(self.bury_timer(delivery, key, &error, attempts));
                        fired += 1;
                    } else {
                        let wait = crate::wire::Redelivery::default().wait(attempts);
                        self.cell.memory().postpone(key, now_ns.saturating_add(ns(wait)));
                    }
                    crash = Some(error);
                    break;
                }
            }
            fired += 1;
        }
        let commit = Commit {
            cell: &self.cell,
            acks: None,
            fired: &due[..fired],
            batch: &mut self.outlet.batch,
            after: After::NOTHING,
            dead,
            failure: None,
            now_ns,
        };
        self.node.commit_or_halt(commit, &mut self.gone);
        self.outlet.clear();
        self.cell.count_handled(fired as u64);
        match crash {
            None => Ok(()),
            Some(error) => {
                self.arm_timers();
                Err(Crashed { gear: self.cell.name.clone(), error })
            }
        }
    }

    /// A timer that cannot be handled is a dead letter like any other, with its key where a message has its fields.
    fn bury_timer(&self, delivery: Delivery, key: &str, error: &str, attempts: u32) -> crate::commit::Letter {
        let mut msg = FluxMsg::new(
            delivery.cause.input,
            fluxrig_protocol::Trace::default(),
            self.cell.entity,
            self.node.wall_ns(),
        );
        msg.meta.set("fluxrig.timer", key);
        let note = DeadNote {
            gear: self.cell.name.clone(),
            wire: SmolStr::default(),
            reason: error.into(),
            attempts,
            first: error.into(),
            last: error.into(),
            at_ns: self.node.wall_ns(),
        };
        (msg, delivery.after, Arc::new(note))
    }

    fn arm_timers(&self) {
        let due_ns = self.cell.memory().next_due_ns();
        if let Some(due_ns) = due_ns {
            // A closed door rings when it opens; an alarm for a time that has passed would ring for ever.
            if due_ns > self.node.now_ns() || !self.is_door_closed() {
                self.cell.alarm(&self.node, due_ns);
            }
        }
    }

    /// Tells the gear what changed about the links next to it.
    fn tell_links(&mut self) -> Result<(), Crashed> {
        for link in self.cell.link_news() {
            self.tell_link(&link)?;
        }
        Ok(())
    }

    fn tell_link(&mut self, link: &Link) -> Result<(), Crashed> {
        self.link_count += 1;
        let now_ns = self.node.now_ns();
        let input = self.node.fresh_id();
        let after = self.cell.memory().after;
        let cause = Cause { input, wire: 0, gear: self.cell.number };
        let delivery = Delivery { cause, port_idx: None, input: None, after };
        self.outlet.begin_batch(self.node.wall_ns(), now_ns);
        let outcome = deliver(&mut self.outlet, delivery, |outlet| self.gear.on_link(link, outlet));
        let commit = Commit {
            cell: &self.cell,
            acks: None,
            fired: &[],
            batch: &mut self.outlet.batch,
            after: After::NOTHING,
            dead: Vec::new(),
            failure: None,
            now_ns,
        };
        self.node.commit_or_halt(commit, &mut self.gone);
        self.outlet.clear();
        match outcome {
            Outcome::Done => Ok(()),
            // News of a link is no message that could be kept: a gear that refuses it has said so in its log.
            Outcome::Rejected(reason) => {
                tracing::warn!(gear = %self.cell.name, endpoint = %link.endpoint, %reason, "link news rejected");
                Ok(())
            }
            Outcome::Broken(error) => Err(Crashed { gear: self.cell.name.clone(), error }),
        }
    }
}

/// Attempts at a timer before it becomes a dead letter, as for a message on a wire with default redelivery.
const TIMER_ATTEMPTS_MAX: u32 = 5;

/// What one look at a queue came to.
struct Served {
    count: usize,
    is_more: bool,
}

impl Served {
    const NOTHING: Self = Self { count: 0, is_more: false };
}

/// What became of a batch.
struct Handled {
    /// Messages that are off the wire.
    count: usize,
    /// Messages that stay on it, for the next batch.
    left: usize,
    crash: Option<Crashed>,
}

/// Calls the gear under a savepoint: an error or a panic leaves nothing of this delivery behind.
fn deliver(
    outlet: &mut Outlet,
    delivery: Delivery,
    call: impl FnOnce(&mut Outlet) -> Result<(), GearError>,
) -> Outcome {
    let savepoint = outlet.begin(delivery);
    // The gear is dropped after a panic, and the outlet is undone, so nothing broken is seen by anyone.
    let result = match catch_unwind(AssertUnwindSafe(|| call(outlet))) {
        Ok(Ok(())) => outlet.keep(),
        Ok(Err(error)) => Err(error),
        Err(panic) => Err(GearError::Broken(format!("panicked: {}", panic_text(&*panic)).into())),
    };
    match result {
        Ok(()) => Outcome::Done,
        Err(error) => {
            outlet.undo(&savepoint);
            match error {
                GearError::Reject(reason) => Outcome::Rejected(reason),
                GearError::Broken(reason) => Outcome::Broken(reason),
            }
        }
    }
}

/// The text of a panic, as far as it has one.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}
