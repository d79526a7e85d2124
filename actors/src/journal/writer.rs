//! The writer: closes the gate for an instant, encodes what changed, stores it, moves the marks.
//! One group is on its way at a time: the next is not written before the flush of this one has returned (HEART §4.4).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fluxrig_protocol::FluxMsg;

use super::carry::{CarryStep, Carrying};
use super::record::{self, Clock, Delta, NameRecord, Place, Placed};
use super::{Group, GroupAt, Reader, SegmentId, Storage, StorageError, Usage};
use crate::marks::Marks;
use crate::mutants::{self, Mutation};
use crate::node::{Node, Settings};
use crate::wire::{Lane, Position, Written};

/// A group of at most so many bytes may be made by anybody: more would keep a worker of the runtime from its messages.
const LIGHT_BYTES: usize = 16 << 10;

/// Bytes that may be written and not flushed while nothing waits for a flush.
const UNFLUSHED_BYTES_MAX: u64 = 32 << 20;

/// What the disk may hold before doors close (HEART §9.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// Bytes that the journal may take; the file system's free space bounds it as well.
    pub max_bytes: u64,
    /// Percentage of it at which doors for requests close.
    pub first_percent: u8,
    /// Percentage at which all doors close.
    pub second_percent: u8,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { max_bytes: 16 << 30, first_percent: 80, second_percent: 95 }
    }
}

/// Figures of the journal since the rig started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Groups written.
    pub groups: u64,
    /// Messages written in them, carried ones included.
    pub records: u64,
    /// Messages written again because their segment was to be deleted.
    pub carried: u64,
    /// Bytes of group bodies.
    pub bytes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Writes or flushes that failed.
    pub failures: u64,
    /// Segments deleted.
    pub trimmed: u64,
}

/// One delta on its way to the disk.
#[derive(Debug)]
struct Kept {
    epoch: u64,
    delta: Delta,
    /// Something in it must be flushed before the world may see it.
    is_flush: bool,
    is_written: bool,
    bytes: u64,
    placed: Placed,
    at: Option<GroupAt>,
    cut_ns: u64,
}

/// Cuts, encodes, stores. Driven by a thread, or by a task in a simulation.
pub(crate) struct Writer {
    node: Arc<Node>,
    storage: Box<dyn Storage>,
    reader: Arc<dyn Reader>,
    disk: DiskOptions,
    /// Deltas that are not below the flushed mark: a failed file takes none of them with it (HEART §4.4, §9.6).
    kept: VecDeque<Kept>,
    carrying: Carrying,
    body: Vec<u8>,
    last_read: Option<(GroupAt, Bytes)>,
    unclean_starts: Option<u32>,
    pub(crate) stats: JournalStats,
    births_by_segment: BTreeMap<SegmentId, u64>,
    trimmed_to: SegmentId,
    is_failed: bool,
    is_fenced: bool,
    segment_age_max: Option<Duration>,
    /// The segment being written, and since when (monotonic ns).
    segment_since: (SegmentId, u64),
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriterState {
    Running,
    /// A write or flush failed: effects stopped, a new segment is tried again and again.
    Degraded,
    /// Another process writes the journal: nothing of this one counts any more.
    Fenced,
}

/// What a writer is started with.
pub(crate) struct WriterParts {
    pub(crate) node: Arc<Node>,
    pub(crate) storage: Box<dyn Storage>,
    pub(crate) disk: DiskOptions,
    pub(crate) names: Vec<(NameRecord, SegmentId)>,
    pub(crate) oldest: SegmentId,
    /// Messages born in each segment so far.
    pub(crate) births: BTreeMap<SegmentId, u64>,
    pub(crate) segment_age_max: Option<Duration>,
}

impl Writer {
    pub(crate) fn new(parts: WriterParts) -> Self {
        let reader = parts.storage.reader();
        let born: u64 = parts.births.values().sum();
        let outlived = born.saturating_sub(alive_in(&parts.node));
        Self {
            node: parts.node,
            reader,
            disk: parts.disk,
            kept: VecDeque::new(),
            carrying: Carrying::new(parts.oldest, parts.names, outlived),
            body: Vec::with_capacity(1 << 20),
            last_read: None,
            unclean_starts: None,
            stats: JournalStats::default(),
            births_by_segment: parts.births,
            // What a process before declared dead and did not come to delete goes with the first trim.
            trimmed_to: 0,
            is_failed: false,
            is_fenced: false,
            segment_age_max: parts.segment_age_max,
            segment_since: (0, 0),
            storage: parts.storage,
        }
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Notes the count of unclean starts in the next group.
    pub(crate) fn note_unclean_starts(&mut self, count: u32) {
        self.unclean_starts = Some(count);
        self.node.note_dirty();
    }

    /// Whether a carry is under way, which goes on by itself.
    pub(crate) fn is_carrying(&self) -> bool {
        self.carrying.is_active()
    }

    /// Something is written and not flushed, and nothing waits for it.
    pub(crate) fn has_unflushed(&self) -> bool {
        self.kept.iter().any(|kept| kept.is_written)
    }

    /// Whether a round now is no more than one small group written and flushed, so that anybody may make it. The size
    /// of the last group stands for that of the next.
    pub(crate) fn is_light(&self) -> bool {
        let is_at_peace = self.kept.is_empty() && !self.is_failed && !self.is_carrying();
        let is_small = self.body.len() <= LIGHT_BYTES;
        is_at_peace && is_small && self.storage.is_prompt() && self.node.gauge.level() == 0
    }

    /// The cut: takes the exclusive side of the gate for an instant and notes what changed (HEART §4.1).
    pub(crate) fn cut(&mut self) {
        let segment = self.storage.current();
        self.consider_carry();
        let node = Arc::clone(&self.node);
        let mut delta = Delta::default();
        let mut is_flush = false;
        let gate = node.gate.close();
        let epoch = node.next_epoch();
        let (now_ns, wall_ns) = (node.now_ns(), node.wall_ns());
        for queue in node.queues.iter().filter(|queue| queue.spec.lane.is_standard()) {
            if let Some(wire) = queue.cut(segment) {
                is_flush |= queue.spec.lane == Lane::Flush;
                delta.wires.push(wire);
            }
        }
        for cell in node.cells.iter().filter(|cell| cell.lane.is_standard()) {
            if let Some(gear) = cell.memory().cut(cell.number, now_ns, segment) {
                is_flush |= cell.lane == Lane::Flush;
                delta.gears.push(gear);
            }
        }
        // What is carried is chosen inside the cut that carries it: a choice made before could be stale.
        let carried = self.carrying.step(CarryStep { node: &node, segment, now_ns, wall_ns, delta: &mut delta });
        drop(gate);
        self.stats.carried += carried;
        delta.unclean_starts = self.unclean_starts.take();
        delta.clock = Clock::now(&*node.world, epoch);
        is_flush |= delta.unclean_starts.is_some() || !delta.names.is_empty();
        let births: usize = delta.wires.iter().map(|wire| wire.births.len()).sum();
        *self.births_by_segment.entry(segment).or_default() += births as u64;
        self.kept.push_back(Kept {
            epoch,
            delta,
            is_flush,
            is_written: false,
            bytes: 0,
            placed: Vec::new(),
            at: None,
            cut_ns: now_ns,
        });
    }

    /// Encodes and writes what was cut; flushes when something in it must be, and moves the marks.
    pub(crate) async fn write(&mut self) -> Result<(), StorageError> {
        let Some(last) = self.kept.back() else { return Ok(()) };
        let epoch = last.epoch;
        self.body.clear();
        let mut body = std::mem::take(&mut self.body);
        let mut records = 0;
        let mut read_error = None;
        for kept in self.kept.iter_mut().filter(|kept| !kept.is_written) {
            kept.placed.clear();
            let before = body.len();
            let (reader, last_read, settings) = (&self.reader, &mut self.last_read, &self.node.settings);
            let wall_ns = kept.delta.clock.wall_ns;
            let result = record::encode(&kept.delta, &mut body, &mut kept.placed, &mut |position| {
                Ok(redact_expired(read_back(&**reader, last_read, position)?, settings, wall_ns))
            });
            if let Err(error) = result {
                read_error = Some(error);
                break;
            }
            kept.bytes = (body.len() - before) as u64;
            records += kept.placed.len() as u64;
        }
        if let Some(error) = read_error {
            self.body = body;
            return Err(error);
        }
        let flushed = self.flushed_mark();
        let group = Group { epoch, flushed, oldest: self.carrying.oldest(), body: &body };
        let result = self.storage.append(group).await;
        self.stats.bytes += body.len() as u64;
        self.body = body;
        if let Err(StorageError::TooLarge { bytes, bytes_max }) = result {
            // No smaller group will ever come of it, and nothing of it was promised to anybody: as after `kill -9`.
            tracing::error!(
                bytes,
                bytes_max,
                "journal: one cut is more than a group holds; lower `unflushed_bytes_max`"
            );
            self.node.halt("the journal cannot hold what came in between two cuts");
        }
        let at = result?;
        self.stats.groups += 1;
        self.stats.records += records;
        self.node.note_renewed();
        for kept in self.kept.iter_mut().filter(|kept| !kept.is_written) {
            kept.is_written = true;
            kept.at = Some(at);
        }
        self.node.set_marks(Marks { written: epoch, flushed: self.node.marks().flushed });
        Ok(())
    }

    /// Renews the lease when nothing was written for a while.
    pub(crate) async fn renew(&mut self) -> Result<(), StorageError> {
        if !self.is_failed && self.storage.is_renewal_due() {
            self.storage.renew().await?;
            self.node.note_renewed();
        }
        Ok(())
    }

    /// Says that this writer goes. Nothing is written after it.
    pub(crate) async fn leave(&mut self) -> Result<(), StorageError> {
        self.storage.leave().await
    }

    /// The mark as the storage is told it.
    fn flushed_mark(&self) -> u64 {
        let flushed = self.node.marks().flushed;
        match self.kept.front() {
            // The storage would refuse a mark that is not true.
            Some(kept) if mutants::is(Mutation::NextBeforeFlush) => flushed.min(kept.epoch - 1),
            _ => flushed,
        }
    }

    /// Whether the written groups must be flushed now.
    pub(crate) fn must_flush(&self) -> bool {
        let unflushed: u64 = self.kept.iter().map(|kept| kept.bytes).sum();
        self.kept.iter().any(|kept| kept.is_flush) || unflushed > UNFLUSHED_BYTES_MAX
    }

    /// Whether something written has waited for a flush that long.
    pub(crate) fn is_flush_due(&self, after: Duration) -> bool {
        let now_ns = self.node.now_ns();
        let bytes: u64 = self.kept.iter().map(|kept| kept.bytes).sum();
        let oldest = self.kept.iter().find(|kept| kept.is_written);
        oldest.is_some_and(|kept| u128::from(now_ns.saturating_sub(kept.cut_ns)) >= after.as_nanos())
            || bytes > UNFLUSHED_BYTES_MAX / 4
    }

    /// The flush as work for another thread; [`Writer::flushed`] is told the epoch it yields.
    pub(crate) fn flusher(&self) -> super::Task<u64> {
        self.storage.flusher()
    }

    /// Flushes everything written so far and moves the flushed mark.
    pub(crate) async fn flush(&mut self) -> Result<(), StorageError> {
        let Some(epoch) = self.kept.iter().filter(|kept| kept.is_written).map(|kept| kept.epoch).max() else {
            return Ok(());
        };
        self.storage.flush().await?;
        self.stats.flushes += 1;
        self.flushed(epoch);
        if mutants::is(Mutation::NextBeforeFlush) && self.node.is_dirty() {
            self.cut();
            self.write().await?;
            let written = self.node.marks().written;
            self.node.set_marks(Marks { written, flushed: written });
        }
        Ok(())
    }

    /// Everything up to `epoch` is on disk.
    pub(crate) fn flushed(&mut self, epoch: u64) {
        // A flush in the background may be overtaken by one that was demanded: marks never go back.
        let before = self.node.marks();
        let (written, epoch) = (before.written.max(epoch), before.flushed.max(epoch));
        let wall_ns = self.node.wall_ns();
        let mut births: BTreeMap<u32, Vec<Written>> = BTreeMap::new();
        let watched: Vec<_> = self.node.queues.iter().filter(|queue| queue.wants_positions()).collect();
        while self.kept.front().is_some_and(|kept| kept.is_written && kept.epoch <= epoch) {
            let Some(kept) = self.kept.pop_front() else { break };
            let Some(at) = kept.at else { continue };
            if watched.is_empty() {
                continue;
            }
            for Place { wire, seq, offset, len, is_retained } in kept.placed {
                let position = Position { at, offset, len };
                births.entry(wire).or_default().push(Written { seq, position, is_retained });
            }
        }
        for queue in watched {
            if let Some(births) = births.get(&queue.spec.number) {
                queue.written(births, wall_ns);
            }
        }
        self.node.set_marks(Marks { written, flushed: epoch });
    }

    /// Deletes segments that a flushed group has declared to hold nothing alive.
    pub(crate) fn trim(&mut self) -> Option<super::Task<usize>> {
        let oldest = self.carrying.oldest();
        let is_clear = self.kept.is_empty() || mutants::is(Mutation::NextBeforeFlush);
        if oldest <= self.trimmed_to || !is_clear {
            return None;
        }
        self.births_by_segment = self.births_by_segment.split_off(&oldest);
        self.stats.trimmed += u64::from(self.trimmed_to > 0);
        self.trimmed_to = oldest;
        Some(self.storage.trimmer(oldest))
    }

    /// The watermark that the disk stands above, what it holds, and the most that it may hold.
    fn level(&self) -> (u8, Usage, u64) {
        let usage = self.storage.usage();
        let max = match usage.free_bytes {
            Some(free) => self.disk.max_bytes.min(usage.bytes.saturating_add(free)),
            None => self.disk.max_bytes,
        };
        let is_above = |part: u8| u8::from(usage.bytes > max / 100 * u64::from(part));
        (is_above(self.disk.first_percent) + is_above(self.disk.second_percent), usage, max)
    }

    /// Looks at the disk and tells the doors; notes when the aftermath of an unclean end is over.
    pub(crate) fn gauge(&mut self) {
        if self.node.is_aftermath_over() {
            self.note_unclean_starts(1);
        }
        let (mut level, mut usage, mut max) = self.level();
        if level > 0 {
            self.storage.release();
            (level, usage, max) = self.level();
        }
        let before = self.node.gauge.level();
        if level != before {
            self.node.gauge.set_level(level);
            tracing::warn!(level, bytes = usage.bytes, max, "journal watermark");
            if level < before {
                self.node.open_doors();
            }
        }
        // Nothing else would make the cut in which an idle rig makes room, and its doors would stay closed.
        if level > 0
            && !self.carrying.is_active()
            && self.carrying.has_spare(self.storage.current(), true)
            && self.carry_worth(true).is_some()
        {
            self.node.note_dirty();
        }
    }

    /// A write or flush failed: that file is final. Effects have stopped by themselves, since no mark moves.
    pub(crate) fn fail(&mut self, error: &StorageError) {
        self.stats.failures += 1;
        self.is_failed = true;
        if error.is_fenced() {
            return self.end_fenced(error);
        }
        if !self.node.is_degraded.swap(true, std::sync::atomic::Ordering::Relaxed) {
            tracing::error!(%error, "journal: no effect leaves until a new segment is written");
        }
        for kept in &mut self.kept {
            kept.is_written = false;
        }
        if mutants::is(Mutation::FailedGroupDropped) {
            self.kept.clear();
        }
    }

    // As `kill -9` would: what was not written belongs to whoever took over.
    fn end_fenced(&mut self, error: &StorageError) {
        if !std::mem::replace(&mut self.is_fenced, true) {
            tracing::error!(%error, "journal: this rack is fenced: another one has taken over, everything ends here and all sockets close");
            self.node.is_fenced.store(true, std::sync::atomic::Ordering::SeqCst);
            self.node.halt(&error.to_string());
        }
    }

    /// Leaves a segment that is older than it may be, so that what was sensitive in it goes with it (HEART §9.2).
    pub(crate) async fn rotate_by_age(&mut self) -> Result<(), StorageError> {
        let Some(age_max) = self.segment_age_max.filter(|_| !self.is_failed) else { return Ok(()) };
        let (segment, now_ns) = (self.storage.current(), self.node.now_ns());
        if segment != self.segment_since.0 {
            self.segment_since = (segment, now_ns);
        }
        let is_old = u128::from(now_ns - self.segment_since.1) >= age_max.as_nanos();
        if is_old && self.births_by_segment.contains_key(&segment) {
            // Page-cache traffic is never all flushed by itself, and what is not flushed would be void in a new segment.
            self.flush().await?;
            self.storage.replace(self.flushed_mark()).await?;
            self.carrying.note_early_segment();
        }
        Ok(())
    }

    /// Begins a new segment whose first group merges all that was kept. An error means: again later.
    pub(crate) async fn recover(&mut self) -> Result<(), StorageError> {
        self.storage.replace(self.flushed_mark()).await?;
        self.carrying.note_early_segment();
        self.write().await?;
        self.flush().await?;
        self.is_failed = false;
        self.node.is_degraded.store(false, std::sync::atomic::Ordering::Relaxed);
        tracing::info!("journal: a new segment took over, effects go on");
        Ok(())
    }

    pub(crate) fn state(&self) -> WriterState {
        match (self.is_fenced, self.is_failed) {
            (true, _) => WriterState::Fenced,
            (false, true) => WriterState::Degraded,
            (false, false) => WriterState::Running,
        }
    }

    pub(crate) fn usage(&self) -> super::Usage {
        self.storage.usage()
    }

    /// Begins to carry the oldest segment forward when that is worth it: see the head of `carry.rs`.
    fn consider_carry(&mut self) {
        let newest = self.storage.current();
        let is_scarce = self.node.gauge.level() > 0;
        // On a full disk every cut looks again: acks may have emptied the oldest segment without a rotation.
        let is_due = self.carrying.is_due(newest) || (is_scarce && self.carrying.has_spare(newest, true));
        if self.carrying.is_active() || !is_due {
            return;
        }
        let Some(worth) = self.carry_worth(is_scarce) else { return };
        let oldest = self.carrying.oldest();
        match worth {
            CarryWorth::Pass { alive } => self.carrying.begin_pass(newest, alive, is_scarce),
            CarryWorth::Segment { alive } if alive > 0 && mutants::is(Mutation::DeleteAnyDeadSegment) => return,
            CarryWorth::Segment { .. } => {}
        }
        self.carrying.begin(oldest);
    }

    /// Whether the oldest segment may be carried now, and what pays for it.
    fn carry_worth(&self, is_scarce: bool) -> Option<CarryWorth> {
        let oldest = self.carrying.oldest();
        // What is not flushed yet is not known as retained yet either.
        if self.kept.iter().any(|kept| kept.at.is_some_and(|at| at.segment <= oldest)) {
            return None;
        }
        let (queues, cells, wall_ns) = (&self.node.queues, &self.node.cells, self.node.wall_ns());
        if queues.iter().filter_map(|queue| queue.oldest_retained(wall_ns)).any(|kept| kept <= oldest) {
            return None;
        }
        let messages: usize = queues.iter().map(|queue| queue.count_homed(oldest)).sum();
        if self.carrying.is_in_pass() {
            return Some(CarryWorth::Segment { alive: messages as u64 });
        }
        let memories: usize = cells.iter().map(|cell| cell.memory().count_homed(oldest)).sum();
        let alive = (messages + memories) as u64;
        let born = self.births_by_segment.get(&oldest).copied().unwrap_or(0);
        if alive.saturating_mul(2) <= born {
            return Some(CarryWorth::Segment { alive: messages as u64 });
        }
        let alive = alive_in(&self.node);
        self.carrying.is_pass_worth(alive, is_scarce).then_some(CarryWorth::Pass { alive })
    }
}

/// What pays for carrying the oldest segment.
#[derive(Clone, Copy, Debug)]
enum CarryWorth {
    /// What is dead in it, or the pass that it belongs to.
    Segment { alive: u64 },
    /// What was outlived since the last pass.
    Pass { alive: u64 },
}

/// Messages, keys and timers that a pass over all segments may have to carry.
fn alive_in(node: &Node) -> u64 {
    let queues = node.queues.iter().filter(|queue| queue.spec.lane.is_standard());
    let cells = node.cells.iter().filter(|cell| cell.lane.is_standard());
    let alive = queues.map(|queue| queue.len()).sum::<usize>() + cells.map(|cell| cell.memory().len()).sum::<usize>();
    alive as u64
}

/// Sensitive data is not carried past its message's expiry (HEART §9.2), also where only the journal has it.
fn redact_expired(bytes: Bytes, settings: &Settings, wall_ns: i64) -> Bytes {
    let Some(redact) = settings.redactor else { return bytes };
    // What does not decode is told of where it is delivered; here it is carried as it is.
    let Ok(msg) = FluxMsg::decode(&bytes, &settings.limits) else { return bytes };
    if msg.expires.is_none_or(|expires| expires >= wall_ns) {
        return bytes;
    }
    let redacted = redact(&msg).and_then(|redacted| redacted.encoded_shared(&settings.limits).ok());
    redacted.unwrap_or(bytes)
}

/// The bytes of one message, from the group it lies in; the last group read is kept, since neighbours come together.
fn read_back(
    reader: &dyn Reader,
    last: &mut Option<(GroupAt, Bytes)>,
    position: Position,
) -> Result<Bytes, StorageError> {
    let body = match last {
        Some((at, body)) if *at == position.at => body.clone(),
        _ => {
            let body = reader.read(position.at)?;
            *last = Some((position.at, body.clone()));
            body
        }
    };
    let (from, to) = (position.offset as usize, position.offset as usize + position.len as usize);
    if to > body.len() {
        return Err(StorageError::Damaged {
            file: position.at.to_string(),
            offset: from as u64,
            found: format!("a body of {} bytes", body.len()),
            expected: format!("a message that ends at {to}"),
        });
    }
    Ok(body.slice(from..to))
}

#[cfg(test)]
mod tests;
