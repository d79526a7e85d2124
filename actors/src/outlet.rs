//! Where a gear puts what it causes: messages, state and timers, with a savepoint per message.
//! Nothing in it is seen by anyone before the commit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxrig_protocol::{EntityId, FluxId, FluxMsg, Hop, LimitError, Limits, Value};
use smol_str::SmolStr;

use crate::cell::Cell;
use crate::clock::splitmix;
use crate::gear::GearError;
use crate::identity::{Cause, IdKey};
use crate::memory::{CLOCK, Change};
use crate::mutants::{self, Mutation};
use crate::wire::After;

/// The outputs, the durable state and the timers of the message that is being handled.
#[derive(Debug)]
pub struct Outlet {
    cell: Arc<Cell>,
    id_key: IdKey,
    limits: Limits,
    bounds: EmitBounds,
    /// The delivery that is being handled.
    cause: Cause,
    port_idx: Option<usize>,
    input: Option<u64>,
    now_ns: u64,
    after: After,
    emitted_here: u32,
    bytes_here: usize,
    chance: Option<u64>,
    refusal: Option<GearError>,
    changes_here: Vec<Change>,
    /// What [`Outlet::steady_ns`] counts by, once it was asked for.
    clock: Option<SteadyClock>,
    /// The delivery that ended last left nothing behind.
    was_undone: bool,
    /// What the messages before this one in the batch caused.
    pub(crate) batch: Batch,
}

/// What one delivery may emit, over all ports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EmitBounds {
    pub(crate) messages: u32,
    /// Bytes of content.
    pub(crate) bytes: usize,
}

/// What a batch has caused so far; the commit takes it whole.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) sends: Vec<Send>,
    pub(crate) changes: Vec<Change>,
    /// Wall time of the batch.
    wall_ns: i64,
    /// Queues that the commit pushed to and has to ring.
    pub(crate) touched: Vec<usize>,
    /// Filled on demand.
    overlay: Mutex<Overlay>,
}

/// Where in the changes of a batch each key was changed last, as far as somebody has asked.
#[derive(Debug, Default)]
struct Overlay {
    last: HashMap<SmolStr, usize>,
    /// So many changes are in it.
    until: usize,
}

/// When the timer behind a gear's clock would fire, in monotonic time of the node.
#[derive(Clone, Copy, Debug)]
struct SteadyClock {
    end_ns: u64,
    /// It stands in the gear's memory.
    is_kept: bool,
}

/// The newest changes that are looked at one by one: who asks for a key has often just changed it.
const LOOKED: usize = 8;

impl Batch {
    /// Stamps what was left for the commit. Inside it, once the input wire has let go of these messages.
    pub(crate) fn stamp_passed(&mut self, gear: EntityId) {
        let hop = Hop { gear, ts: self.wall_ns };
        for send in &mut self.sends {
            if let Some(passed) = send.passed.take() {
                send.msg.stamp(passed.id, gear, hop);
            }
        }
    }

    /// What the batch makes of `key`: `None` when it leaves it alone, else the value that it has then.
    fn get(&self, key: &str) -> Option<Option<Value>> {
        let changes = &self.changes;
        if let Some(value) = last_of(&changes[changes.len().saturating_sub(LOOKED)..], key) {
            return Some(value);
        }
        if changes.len() <= LOOKED {
            return None;
        }
        let mut overlay = self.overlay.lock().expect("nothing panics while it is held");
        for (idx, change) in changes.iter().enumerate().skip(overlay.until) {
            if let Change::Put(key, _) | Change::Remove(key) = change {
                overlay.last.insert(key.clone(), idx);
            }
        }
        overlay.until = changes.len();
        let idx = *overlay.last.get(key)?;
        last_of(&changes[idx..=idx], key)
    }
}

/// The value that these changes leave behind `key`, when they touch it.
fn last_of(changes: &[Change], key: &str) -> Option<Option<Value>> {
    changes.iter().rev().find_map(|change| match change {
        Change::Put(changed, value) if changed == key => Some(Some(value.clone())),
        Change::Remove(changed) if changed == key => Some(None),
        _ => None,
    })
}

/// One message for one queue of the node.
#[derive(Debug)]
pub(crate) struct Send {
    pub(crate) queue: usize,
    pub(crate) msg: FluxMsg,
    pub(crate) after: After,
    /// It is still the message that came in, and the commit stamps it.
    pub(crate) passed: Option<Passed>,
}

/// A message that a gear passes on as it came. Until the commit its input wire holds it as well, so that stamping it
/// before would copy it, and the copy is a third of what a hop costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    /// Its sequence on the input wire.
    pub(crate) seq: u64,
    /// What it is called from here on.
    id: FluxId,
}

impl Send {
    /// A message that is complete.
    pub(crate) fn new(queue: usize, msg: FluxMsg, after: After) -> Self {
        Self { queue, msg, after, passed: None }
    }
}

/// One delivery, as the outlet is told about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) cause: Cause,
    pub(crate) port_idx: Option<usize>,
    /// Sequence of the message on its wire, where that can let go of the message before it is acked.
    pub(crate) input: Option<u64>,
    pub(crate) after: After,
}

impl Outlet {
    pub(crate) fn new(cell: Arc<Cell>, id_key: IdKey, limits: Limits, bounds: EmitBounds) -> Self {
        let cause = Cause { input: FluxId::NIL, wire: 0, gear: cell.number };
        Self {
            cell,
            id_key,
            limits,
            bounds,
            cause,
            port_idx: None,
            input: None,
            now_ns: 0,
            after: After::NOTHING,
            emitted_here: 0,
            bytes_here: 0,
            chance: None,
            refusal: None,
            changes_here: Vec::new(),
            clock: None,
            was_undone: false,
            batch: Batch::default(),
        }
    }

    /// Sends `msg` out of the first output port. It gets an id of its own, derived from what is being handled.
    ///
    /// A message beyond a limit (hops, size, depth, `emit_max`, `emit_bytes_max`) makes the whole delivery a rejected one.
    pub fn emit(&mut self, msg: FluxMsg) {
        self.send(0, msg);
    }

    /// Sends `msg` out of the named output port.
    ///
    /// A port that the gear has not declared makes the delivery a broken one: that is the gear's own mistake.
    pub fn emit_on(&mut self, port: &str, msg: FluxMsg) {
        match self.cell.ports.output_idx(port) {
            Some(port_idx) => self.send(port_idx, msg),
            None => {
                let gear = &self.cell.name;
                self.refuse(GearError::broken(format!(
                    "gear `{gear}`: emitted on port `{port}`, which it has not declared; remedy: add it to `ports`"
                )));
            }
        }
    }

    /// A message caused by the one that is handled: `request`'s trace, return address and expiry, and `ref` set to it.
    #[must_use]
    pub fn answer(&self, request: &FluxMsg) -> FluxMsg {
        let mut answer = FluxMsg::new(request.id, request.trace, self.cell.entity, self.batch.wall_ns);
        answer.reference = Some(request.id);
        answer.return_to.clone_from(&request.return_to);
        answer.expires = request.expires;
        answer
    }

    fn refuse(&mut self, error: GearError) {
        // The first reason is the one that explains the others.
        self.refusal.get_or_insert(error);
    }

    fn send(&mut self, port_idx: usize, msg: FluxMsg) {
        if self.refusal.is_none()
            && let Err(error) = self.try_send(port_idx, msg)
        {
            self.refusal = Some(error);
        }
    }

    fn try_send(&mut self, port_idx: usize, mut msg: FluxMsg) -> Result<(), GearError> {
        if self.emitted_here == self.bounds.messages {
            let (gear, max) = (&self.cell.name, self.bounds.messages);
            return Err(GearError::reject(format!(
                "gear `{gear}`: found more than {max} messages emitted for one, expected at most `emit_max` = {max}; remedy: emit less per message, or raise `emit_max`"
            )));
        }
        let id = self.id_key.derive(self.cause, self.emitted_here);
        self.emitted_here += 1;
        let wires = self.cell.outs(port_idx);
        // Held by us and by the input wire alone, so it came in like this and is emitted once.
        let passed = self.input.filter(|_| wires.len() == 1 && msg.holders() == 2).map(|seq| Passed { seq, id });
        if passed.is_none() {
            msg.stamp(id, self.cell.entity, Hop { gear: self.cell.entity, ts: self.batch.wall_ns });
        }
        self.check(&msg, passed.is_some())?;
        self.bytes_here = self.bytes_here.saturating_add(msg.content_bytes());
        if self.bytes_here > self.bounds.bytes {
            let (gear, max) = (&self.cell.name, self.bounds.bytes);
            return Err(GearError::reject(format!(
                "gear `{gear}`: found more than {max} bytes emitted for one message, expected at most `emit_bytes_max` = {max}; remedy: emit less per message, or raise `emit_bytes_max`"
            )));
        }
        let Some((last, others)) = wires.split_last() else {
            self.cell.count_unwired();
            return Ok(());
        };
        for wire in others {
            let queue = wire.route(&msg).spec.idx;
            self.batch.sends.push(Send::new(queue, msg.clone(), self.after));
        }
        let queue = last.route(&msg).spec.idx;
        self.batch.sends.push(Send { queue, msg, after: self.after, passed });
        Ok(())
    }

    /// Whether the message is within limits, with the hop that it has or still gets here.
    fn check(&self, msg: &FluxMsg, is_passed: bool) -> Result<(), LimitError> {
        let (hops, limit) = (msg.path.len() + usize::from(is_passed), self.limits.hops);
        if hops > limit {
            return Err(LimitError::Hops { found: hops, limit });
        }
        msg.check(&self.limits)
    }

    /// Name of the input port that the message came in by; empty in `on_timer` and `on_link`.
    #[must_use]
    pub fn port(&self) -> &str {
        self.port_idx.map_or("", |idx| &self.cell.ports.inputs[idx].name)
    }

    /// Wall time of this commit, in nanoseconds since the Unix epoch.
    #[must_use]
    pub fn now_ns(&self) -> i64 {
        self.batch.wall_ns
    }

    /// Time on a clock of this gear, in nanoseconds: for what is remembered for a while. It is the wall time at which the
    /// gear first asked for it plus what has passed since, whatever the wall clock does: by the monotonic clock, and over
    /// restarts as timers do, by the boot clock within one boot and by the wall clock across boots.
    pub fn steady_ns(&mut self) -> i64 {
        let clock = match self.clock {
            Some(clock) if clock.is_kept => clock,
            _ => self.keep_clock(),
        };
        i64::MAX.saturating_sub_unsigned(clock.end_ns.saturating_sub(self.now_ns))
    }

    /// A clock is a timer that never fires: what is left of it tells the time, and the journal keeps it as it is.
    fn keep_clock(&mut self) -> SteadyClock {
        let kept = self.cell.memory().clock_end_ns();
        let begun = || {
            let left = u64::try_from(i64::MAX.saturating_sub(self.batch.wall_ns)).unwrap_or(u64::MAX / 2);
            self.now_ns.saturating_add(left)
        };
        let end_ns = kept.or(self.clock.map(|clock| clock.end_ns)).unwrap_or_else(begun);
        if kept.is_none() {
            // Said again until it is seen in the memory: the delivery that said it first may have been undone.
            self.changes_here.push(Change::Timer(SmolStr::new_static(CLOCK), end_ns));
        }
        *self.clock.insert(SteadyClock { end_ns, is_kept: kept.is_some() })
    }

    /// Whether the delivery before this one, to the same start of the gear, left nothing behind: it was rejected, be it
    /// for what it emitted after `handle` had returned. A gear that notes in its own state what it puts asks for it.
    #[must_use]
    pub fn was_undone(&self) -> bool {
        self.was_undone
    }

    /// A random number that is the same when this delivery is handled again.
    pub fn random(&mut self) -> u64 {
        let (id_key, cause) = (self.id_key, self.cause);
        let state = self.chance.get_or_insert_with(|| {
            let id = id_key.derive(cause, u32::MAX);
            let mut word = [0; 8];
            word.copy_from_slice(&id.0[8..]);
            u64::from_le_bytes(word)
        });
        splitmix(state)
    }

    /// The durable value behind `key`, as this commit leaves it so far.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value> {
        if let Some(value) = last_of(&self.changes_here, key).or_else(|| self.batch.get(key)) {
            return value;
        }
        self.cell.memory().get(key).cloned()
    }

    /// Keeps `value` behind `key`: durable with this commit, there again after a restart of gear or process.
    pub fn put(&mut self, key: impl Into<SmolStr>, value: impl Into<Value>) {
        self.changes_here.push(Change::Put(key.into(), value.into()));
    }

    /// Forgets `key`.
    pub fn remove(&mut self, key: impl Into<SmolStr>) {
        self.changes_here.push(Change::Remove(key.into()));
    }

    /// Calls `on_timer(key)` after `after`; a timer of the same key is replaced. Durable with this commit.
    /// The key `fluxrig.clock` is the runtime's.
    pub fn timer(&mut self, key: impl Into<SmolStr>, after: Duration) {
        let after_ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX / 2);
        self.changes_here.push(Change::Timer(key.into(), self.now_ns.saturating_add(after_ns)));
    }

    /// Stops the timer, if it runs.
    pub fn cancel(&mut self, key: impl Into<SmolStr>) {
        self.changes_here.push(Change::Cancel(key.into()));
    }

    /// A batch begins at these times.
    pub(crate) fn begin_batch(&mut self, wall_ns: i64, now_ns: u64) {
        self.batch.wall_ns = wall_ns;
        self.now_ns = now_ns;
    }

    /// A delivery begins: what follows can be undone down to here. What is kept or undone at its end is empty by then.
    #[inline]
    pub(crate) fn begin(&mut self, delivery: Delivery) -> Savepoint {
        self.cause = delivery.cause;
        self.port_idx = delivery.port_idx;
        self.input = delivery.input;
        self.after = delivery.after;
        self.emitted_here = 0;
        self.bytes_here = 0;
        self.chance = None;
        Savepoint { sends: self.batch.sends.len() }
    }

    /// The delivery succeeded: its changes join the batch. Or it emitted what it must not, which is its error.
    #[inline]
    pub(crate) fn keep(&mut self) -> Result<(), GearError> {
        if let Some(error) = self.refusal.take() {
            return Err(error);
        }
        if !self.changes_here.is_empty() {
            self.batch.changes.append(&mut self.changes_here);
        }
        self.was_undone = false;
        Ok(())
    }

    /// The delivery failed: it is as if it had not been.
    pub(crate) fn undo(&mut self, savepoint: &Savepoint) {
        self.was_undone = true;
        self.refusal = None;
        if mutants::is(Mutation::NoSavepoint) {
            self.batch.changes.append(&mut self.changes_here);
            return;
        }
        self.batch.sends.truncate(savepoint.sends);
        self.changes_here.clear();
    }

    /// Whether a delivery of this batch stopped or set the timer of this key.
    pub(crate) fn has_moved_timer(&self, key: &str) -> bool {
        let is_of_key =
            |change: &Change| matches!(change, Change::Timer(moved, _) | Change::Cancel(moved) if moved == key);
        self.batch.changes.iter().any(is_of_key)
    }

    /// The batch was committed.
    pub(crate) fn clear(&mut self) {
        self.batch.sends.clear();
        self.batch.changes.clear();
        let overlay = self.batch.overlay.get_mut().expect("nothing panics while it is held");
        if overlay.until > 0 {
            overlay.last.clear();
            overlay.until = 0;
        }
    }
}

/// Where a delivery began in its batch.
#[derive(Debug)]
pub(crate) struct Savepoint {
    sends: usize,
}
