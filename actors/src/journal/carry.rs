//! Carry-forward: only the oldest segment is deleted, and only after all that lives in it was written again (HEART §9.4).
//! It advances a bounded step inside each cut, so that no cut is long because a queue is.
//!
//! # What it may cost
//!
//! A record is a message, key or timer as a group holds it; one that was acked or written anew is *outlived*. The oldest
//! segment is carried when at most half of it is alive: this copies no more than it frees. A segment that is mostly alive
//! would hold back what is dead behind it, so there are *passes*, which carry every segment up to the one being written.
//! A pass costs what is alive at its beginning; it begins when that is at most [`WORTH`] times what was outlived and no
//! earlier pass was paid with, or [`WORTH_SCARCE`] times when the disk is above a watermark. Hence
//!
//! - records carried <= (1 + `WORTH`, or `WORTH_SCARCE`) times records outlived, whatever is alive and however long; above
//!   a watermark one pass more after each start, failure or rotation by age, which leave segments that are nearly empty;
//! - above a watermark room is made, by an idle rig too, for as long as more than one in 1 + `WORTH_SCARCE` of the
//!   records on disk is dead. What is dead in the segment being written when a pass begins is left to the next one.
//!   Only what a wire retains can forbid it.

use smol_str::SmolStr;

use super::SegmentId;
use super::record::{Delta, Kind, NameRecord, WireDelta};
use crate::memory::MemoryCarry;
use crate::mutants::{self, Mutation};
use crate::node::Node;
use crate::wire::Carry;

/// Entries looked at in one cut.
const LOOK_MAX: usize = 8192;
/// Messages written again in one cut.
const CARRY_MAX: usize = 1024;
/// Keys of a gear looked at in one cut: each may have to be written again, and the gate is closed meanwhile.
const KEYS_MAX: usize = 1024;
/// Records that a pass may carry for each one outlived.
const WORTH: u64 = 2;
/// The same while the disk is above a watermark: doors that stay closed cost more than copies.
const WORTH_SCARCE: u64 = 16;
/// Segments that are left alone: the one being written, and the one before it.
const KEEP_SEGMENTS: SegmentId = 2;
/// The same while the disk is above a watermark. With a quota of a few segments, and one of them made longer by a long
/// group, it is the one before that must go.
const KEEP_SEGMENTS_SCARCE: SegmentId = 1;

/// How far carrying has come.
#[derive(Debug)]
pub(crate) struct Carrying {
    /// Segments before this one hold nothing alive.
    oldest: SegmentId,
    target: Option<SegmentId>,
    place: Place,
    names: Vec<(NameRecord, SegmentId)>,
    /// Newest segment at the last look: looked again only after a rotation.
    looked_at: SegmentId,
    /// The last segment that the present pass carries, or that the one before carried.
    pass_end: SegmentId,
    /// Records outlived that no pass was paid with.
    outlived: u64,
    /// One pass need not be paid: a start or a failure left segments before they were full.
    is_prepaid: bool,
    /// For a mutation: what was chosen in the cut before.
    late: Vec<WireDelta>,
}

/// Where the next step goes on.
#[derive(Clone, Debug)]
enum Place {
    Names,
    Queue { idx: usize, seq: u64 },
    Cell { idx: usize, key: SmolStr },
}

/// What one step may touch. The gate is closed.
pub(crate) struct CarryStep<'a> {
    pub(crate) node: &'a Node,
    pub(crate) segment: SegmentId,
    pub(crate) now_ns: u64,
    pub(crate) wall_ns: i64,
    pub(crate) delta: &'a mut Delta,
}

impl Carrying {
    /// `outlived` are the dead records that the process before left on the disk.
    pub(crate) fn new(oldest: SegmentId, names: Vec<(NameRecord, SegmentId)>, outlived: u64) -> Self {
        let place = Place::Names;
        Self {
            oldest,
            target: None,
            place,
            names,
            looked_at: 0,
            pass_end: 0,
            outlived,
            is_prepaid: true,
            late: Vec::new(),
        }
    }

    /// The oldest segment that may hold something alive; what is written names it.
    pub(crate) fn oldest(&self) -> SegmentId {
        self.oldest
    }

    pub(crate) fn is_active(&self) -> bool {
        self.target.is_some()
    }

    /// Whether there are more segments than are left alone.
    pub(crate) fn has_spare(&self, newest: SegmentId, is_scarce: bool) -> bool {
        newest >= self.oldest + if is_scarce { KEEP_SEGMENTS_SCARCE } else { KEEP_SEGMENTS }
    }

    /// Whether there are, and one more than at the last look.
    pub(crate) fn is_due(&mut self, newest: SegmentId) -> bool {
        let is_due = newest > self.looked_at && self.has_spare(newest, false);
        if is_due {
            self.looked_at = newest;
        }
        is_due
    }

    /// Whether the oldest segment belongs to a pass that was paid for.
    pub(crate) fn is_in_pass(&self) -> bool {
        self.oldest <= self.pass_end
    }

    /// Whether enough was outlived to carry everything that is alive.
    pub(crate) fn is_pass_worth(&self, alive: u64, is_scarce: bool) -> bool {
        is_scarce && self.is_prepaid || self.outlived > 0 && alive <= self.outlived.saturating_mul(worth(is_scarce))
    }

    /// A segment was left before it was full: what is free in it, no count of records shows.
    pub(crate) fn note_early_segment(&mut self) {
        self.is_prepaid = true;
    }

    /// Begins a pass over every segment but the newest, and pays for it.
    pub(crate) fn begin_pass(&mut self, newest: SegmentId, alive: u64, is_scarce: bool) {
        self.pass_end = newest - 1;
        if !(is_scarce && std::mem::take(&mut self.is_prepaid)) {
            self.outlived = self.outlived.saturating_sub(alive.div_ceil(worth(is_scarce)));
        }
    }

    pub(crate) fn begin(&mut self, target: SegmentId) {
        self.target = Some(target);
        self.place = Place::Names;
        if mutants::is(Mutation::DeleteAnyDeadSegment) {
            self.place = Place::Cell { idx: usize::MAX, key: SmolStr::default() };
        }
    }

    /// Carries a bounded part. The step that reaches the end moves the oldest segment on, in the same group.
    pub(crate) fn step(&mut self, step: CarryStep<'_>) -> u64 {
        let mut late = std::mem::take(&mut self.late);
        step.delta.wires.append(&mut late);
        self.outlived = self.outlived.saturating_add(outlived_by(step.delta));
        let Some(target) = self.target else { return 0 };
        let CarryStep { node, segment, now_ns, wall_ns, delta } = step;
        let mut wires = Vec::new();
        let mut look = LOOK_MAX;
        while look > 0 {
            match &mut self.place {
                Place::Names => {
                    carry_names(&mut self.names, node, target, segment, delta);
                    self.place = Place::Queue { idx: 0, seq: 0 };
                }
                Place::Queue { idx, seq } => match node.queues.get(*idx) {
                    None => self.place = Place::Cell { idx: 0, key: SmolStr::default() },
                    Some(queue) => {
                        let before: usize = wires.iter().map(|wire: &WireDelta| wire.births.len()).sum();
                        let mut carry = Carry {
                            cursor: *seq,
                            oldest: target,
                            segment,
                            look,
                            max: CARRY_MAX.saturating_sub(before).max(1),
                            wall_ns,
                            into: &mut wires,
                        };
                        match queue.carry(&mut carry) {
                            Some(next) => {
                                *seq = next;
                                break;
                            }
                            None => (*idx, *seq) = (*idx + 1, 0),
                        }
                        look = look.saturating_sub(queue.len().max(1));
                    }
                },
                Place::Cell { idx, key } => match node.cells.get(*idx) {
                    None => {
                        self.oldest = target + 1;
                        self.target = None;
                        break;
                    }
                    Some(cell) => {
                        let mut carry = MemoryCarry {
                            cursor: key.clone(),
                            oldest: target,
                            segment,
                            look: look.min(KEYS_MAX),
                            into: &mut delta.gears,
                        };
                        match cell.memory().carry(cell.number, now_ns, &mut carry) {
                            Some(next) => {
                                *key = next;
                                break;
                            }
                            None => (*idx, *key) = (*idx + 1, SmolStr::default()),
                        }
                        look = look.saturating_sub(64);
                    }
                },
            }
        }
        let carried = wires.iter().map(|wire| wire.births.len() as u64).sum();
        let into = if mutants::is(Mutation::StaleCarry) { &mut self.late } else { &mut delta.wires };
        into.append(&mut wires);
        carried
    }
}

fn worth(is_scarce: bool) -> u64 {
    if is_scarce { WORTH_SCARCE } else { WORTH }
}

/// Records that those of a cut outlive: what was acked, and what is said anew of a message, a key or a timer.
fn outlived_by(delta: &Delta) -> u64 {
    let wires = delta.wires.iter().map(|wire| {
        let acked: u64 = wire.acked.iter().map(|(from, end)| end - from).sum();
        acked + wire.marks.len() as u64
    });
    let gears = delta.gears.iter().map(|gear| (gear.keys.len() + gear.timers.len()) as u64);
    wires.chain(gears).sum()
}

/// Names go with the next sequence (or generation) of what they name, so that both outlive the segment.
fn carry_names(
    names: &mut [(NameRecord, SegmentId)],
    node: &Node,
    target: SegmentId,
    segment: SegmentId,
    delta: &mut Delta,
) {
    for (name, home) in names.iter_mut().filter(|(_, home)| *home <= target) {
        *home = segment;
        delta.names.push(name.clone());
        if name.kind == Kind::Wire
            && let Some(queue) = node.queues.iter().find(|queue| queue.spec.number == name.number)
        {
            delta.wires.push(queue.identity());
        }
    }
}

#[cfg(test)]
mod tests;
