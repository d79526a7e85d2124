//! Messages in order, made into the groups that count: what recovery and a stand-by believe.
//! Reads nothing by itself; whoever reads the stream hands each message in.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::super::seal::{RackKey, SegmentKey, TAG_BYTES};
use super::super::storage::{GroupAt, SegmentId};
use super::format::{self, FORMAT_VERSION, Hash, Link, NoPart, Part};
use crate::mutants::{self, Mutation};

/// Bytes of groups that a later one may still make void. The writer keeps less than that unflushed.
const PENDING_BYTES_MAX: usize = 1 << 30;

/// The end of a group: where a new segment may say that what came before stops counting.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Point {
    pub(super) link: Link,
    pub(super) hash: Hash,
    pub(super) oldest: SegmentId,
}

/// A whole group.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    pub(super) point: Point,
    pub(super) at: GroupAt,
    pub(super) term: u64,
    pub(super) flushed: u64,
    pub(super) is_empty: bool,
    /// Length of the body, also where it is not kept.
    pub(super) body_bytes: usize,
    pub(super) body: Bytes,
}

/// What a segment is known by.
#[derive(Clone)]
pub(super) struct Extent {
    /// Sequence of its first message.
    pub(super) first: u64,
    pub(super) bytes: u64,
    pub(super) key: Option<Arc<SegmentKey>>,
}

/// What no crash explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    Newer { seq: u64, found: u32 },
    Rack { found: [u8; 16] },
    Key { segment: SegmentId, found: [u8; 16] },
    Damaged { seq: u64, found: String, expected: String },
}

impl Broken {
    /// Between what was read and what came next something is missing.
    pub(super) fn gap(expected_seq: u64, seq: u64) -> Broken {
        let found = format!("no message before sequence {seq}");
        damaged(expected_seq, found, "a message: none is ever deleted but from the front")
    }
}

/// Messages of a group that came to nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Skipped {
    pub(super) seq: u64,
    pub(super) why: &'static str,
}

/// Reads the stream in order.
pub(super) struct Replay {
    rack: [u8; 16],
    key: Arc<RackKey>,
    /// Segments before this one hold nothing alive.
    oldest: SegmentId,
    /// The last message seen.
    pub(super) seq: u64,
    /// The last group that counts; none before the first.
    pub(super) last: Option<Point>,
    pub(super) term: u64,
    pub(super) extents: BTreeMap<SegmentId, Extent>,
    pub(super) skipped: Vec<Skipped>,
    /// How many there were, told or not.
    pub(super) skipped_count: u64,
    /// What the last message said about its writer and its lease.
    pub(super) lease_ms: u32,
    pub(super) writer: u64,
    segment_max: SegmentId,
    pub(super) unfinished: Vec<Part>,
    /// Groups that a new segment may still make void, in order.
    pending: VecDeque<Whole>,
    pending_bytes: usize,
    /// The last group that was handed on.
    sure: Option<Point>,
    /// Bodies are opened and let go of: for whoever only wants to know whether they are whole.
    is_check: bool,
    /// What lies before is not known: the next segment counts, whatever it follows.
    is_adrift: bool,
    /// Nothing up to this message is known; 0 where all of it is.
    unknown_upto: u64,
}

/// Most entries of what is told of skipped messages.
const SKIPPED_MAX: usize = 100;

impl Replay {
    /// Begins behind `seq`; segments before `oldest` are passed over.
    pub(super) fn new(rack: [u8; 16], key: Arc<RackKey>, oldest: SegmentId, seq: u64) -> Replay {
        Replay {
            rack,
            key,
            oldest,
            seq,
            last: None,
            term: 0,
            extents: BTreeMap::new(),
            skipped: Vec::new(),
            skipped_count: 0,
            lease_ms: 0,
            writer: 0,
            segment_max: 0,
            unfinished: Vec::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            sure: None,
            is_check: false,
            is_adrift: false,
            unknown_upto: 0,
        }
    }

    /// The same for whoever does not want the bodies.
    pub(super) fn check_only(self) -> Replay {
        Replay { is_check: true, ..self }
    }

    /// Goes on behind `seq` with the next segment that begins there, knowing nothing of what lies before it. Everything
    /// that was pending must have been taken.
    pub(super) fn drift_behind(&mut self, seq: u64) {
        self.unfinished.clear();
        (self.seq, self.last, self.sure, self.is_adrift, self.unknown_upto) = (seq, None, None, true, seq);
    }

    /// The number of the next segment: above every one that a message names, counting or not.
    pub(super) fn next_segment(&self) -> SegmentId {
        self.segment_max + 1
    }

    /// Takes the next message.
    pub(super) fn message(&mut self, seq: u64, payload: &Bytes) -> Result<(), Broken> {
        if seq != self.seq + 1 {
            return Err(Broken::gap(self.seq + 1, seq));
        }
        let part = format::part(payload).map_err(|no_part| match no_part {
            NoPart::Newer(found) => Broken::Newer { seq, found },
            NoPart::Bad { found, expected } => damaged(seq, found, expected),
        })?;
        if part.header.rack != self.rack {
            return Err(Broken::Rack { found: part.header.rack });
        }
        self.seq = seq;
        self.segment_max = self.segment_max.max(part.header.segment);
        self.term = self.term.max(part.header.term);
        let extent = Extent { first: seq, bytes: 0, key: None };
        self.extents.entry(part.header.segment).or_insert(extent).bytes += payload.len() as u64;
        (self.lease_ms, self.writer) = (part.header.lease_ms, part.header.writer);
        if part.header.segment < self.oldest {
            self.abandon("older than what is alive");
            return Ok(());
        }
        self.add(seq, part)
    }

    fn add(&mut self, seq: u64, part: Part) -> Result<(), Broken> {
        let is_in_place = part.header.first.checked_add(part.header.part.into()) == Some(seq);
        let follows = match self.unfinished.last() {
            Some(last) => last.header.part + 1 == part.header.part && last.header.is_same_group(&part.header),
            None => false,
        };
        if !is_in_place || (part.header.part > 0 && !follows) {
            self.abandon("its group was not completed");
            self.skip(seq, "the end of a group whose beginning is not there");
            return Ok(());
        }
        if part.header.part == 0 {
            self.abandon("its group was not completed");
        }
        let is_last = part.header.part + 1 == part.header.parts;
        let bytes = self.unfinished.iter().map(|part| part.sealed.len()).sum::<usize>() + part.sealed.len();
        if bytes > part.header.body_bytes as usize + TAG_BYTES {
            let expected = format!("a group of {} bytes", part.header.body_bytes);
            return Err(damaged(seq, format!("{bytes} bytes of it"), &expected));
        }
        self.unfinished.push(part);
        if !is_last {
            return Ok(());
        }
        let parts = std::mem::take(&mut self.unfinished);
        self.whole(&parts)
    }

    fn whole(&mut self, parts: &[Part]) -> Result<(), Broken> {
        let (first, header) = (&parts[0], parts[0].header);
        if self.is_adrift && first.segment.is_none() {
            self.skip(header.first, "its segment's beginning was not read");
            return Ok(());
        }
        if let Some(segment) = &first.segment {
            self.begin(first, segment.link)?;
        }
        self.check(first)?;
        let end = header.first + u64::from(header.parts) - 1;
        let key = self.extents.get(&header.segment).and_then(|extent| extent.key.clone());
        let Some((body, hash)) = key.and_then(|key| format::open(parts, &key)) else {
            let found = "a group that its segment's key did not seal for this place".to_owned();
            return Err(damaged(header.first, found, "the group that was written there"));
        };
        let link = Link { segment: header.segment, seq: end, epoch: header.epoch };
        let point = Point { link, hash, oldest: header.oldest };
        self.last = Some(point);
        self.pending_bytes += body.len();
        if header.is_empty {
            self.forget_renewals(header.epoch);
        }
        self.pending.push_back(Whole {
            point,
            at: GroupAt { segment: header.segment, offset: header.first },
            term: header.term,
            flushed: header.flushed,
            is_empty: header.is_empty,
            body_bytes: body.len(),
            body: if self.is_check { Bytes::new() } else { body.into() },
        });
        if self.pending_bytes > PENDING_BYTES_MAX {
            let found = format!("{} bytes of groups above the flushed mark", self.pending_bytes);
            return Err(damaged(header.first, found, "less than a writer keeps"));
        }
        Ok(())
    }

    // An idle rack renews its lease for as long as it is idle. Of those the last two may be named by a segment: the last
    // one that is acked. Each names the one before, so all before that were.
    fn forget_renewals(&mut self, epoch: u64) {
        let is_renewal = |whole: &Whole| whole.is_empty && whole.point.link.epoch == epoch;
        if let Some(idx) = self.pending.len().checked_sub(2)
            && self.pending.range(idx..).all(is_renewal)
        {
            self.pending.remove(idx);
        }
    }

    // A new segment: what lies behind the point that it names is void.
    fn begin(&mut self, first: &Part, link: Link) -> Result<(), Broken> {
        let header = &first.header;
        let key_id = first.segment.map_or([0; 16], |segment| segment.key_id);
        if key_id != self.key.id() {
            return Err(Broken::Key { segment: header.segment, found: key_id });
        }
        let Some(key) = first.new_key(&self.key) else {
            let found = "a wrapped key that does not open".to_owned();
            return Err(damaged(header.first, found, "the segment's key, wrapped under the rack's"));
        };
        if let Some(extent) = self.extents.get_mut(&header.segment) {
            extent.key = Some(Arc::new(key));
        }
        while let Some(whole) = self.pending.pop_back_if(|whole| whole.point.link.seq > link.seq) {
            self.pending_bytes -= whole.body_bytes;
            self.skip(whole.at.offset, "void: a later segment names a point before it");
        }
        self.last = self.pending.back().map(|whole| whole.point).or(self.sure);
        match self.last {
            Some(last) if last.link.seq == link.seq => Ok(()),
            Some(last) => {
                let found = format!("a segment that follows sequence {}", link.seq);
                Err(damaged(header.first, found, &format!("one that follows sequence {}", last.link.seq)))
            }
            // The first that is alive, or the first of what is known that counts: what it follows is older, and may be gone.
            None if self.is_adrift
                || link.segment < self.oldest.max(1)
                || (1..=self.unknown_upto).contains(&link.seq) =>
            {
                self.is_adrift = false;
                self.last = Some(Point { link, hash: header.before, oldest: 0 });
                Ok(())
            }
            None => {
                let found = format!("nothing of segment {:08x}", link.segment);
                Err(damaged(header.first, found, &format!("every segment from {:08x} on", self.oldest)))
            }
        }
    }

    fn check(&self, first: &Part) -> Result<(), Broken> {
        let header = &first.header;
        let fail = |found: String, expected: String| Err(damaged(header.first, found, &expected));
        let Some(last) = &self.last else {
            return fail("a group without its segment's beginning".into(), "the first message of a segment".into());
        };
        if header.before != last.hash || first.segment.is_some_and(|segment| segment.link.seq != last.link.seq) {
            let found = format!("a group of epoch {} that follows another group", header.epoch);
            return fail(found, format!("the one that follows epoch {}", last.link.epoch));
        }
        if first.segment.is_none() && header.segment != last.link.segment {
            let found = format!("a group of segment {:08x}", header.segment);
            return fail(found, format!("one of segment {:08x}", last.link.segment));
        }
        if header.epoch < last.link.epoch || (!header.is_empty && header.epoch == last.link.epoch) {
            return fail(format!("epoch {}", header.epoch), format!("an epoch above {}", last.link.epoch));
        }
        if header.flushed > last.link.epoch {
            return fail(format!("flushed mark {}", header.flushed), format!("at most {}", last.link.epoch));
        }
        let is_fenced = self.pending.back().is_some_and(|before| header.term < before.term);
        if is_fenced && !mutants::is(Mutation::OlderTermGoesOn) {
            return fail(format!("term {}", header.term), "a term that is not below the one before".into());
        }
        Ok(())
    }

    /// The next group that nothing can make void any more: a later one says that it was durable.
    pub(super) fn next_sure(&mut self) -> Option<Whole> {
        // The last may always be: one without a body repeats an epoch that was durable before it.
        if self.pending.len() < 2 {
            return None;
        }
        let flushed = self.pending.back()?.flushed;
        if self.pending.front()?.point.link.epoch > flushed {
            return None;
        }
        self.next_pending()
    }

    /// The next group, whether or not it may still be made void: for whoever makes sure that it is not.
    pub(super) fn next_pending(&mut self) -> Option<Whole> {
        let whole = self.pending.pop_front()?;
        self.pending_bytes -= whole.body_bytes;
        self.sure = Some(whole.point);
        Some(whole)
    }

    /// Keeps the newest of the segments, and the one that the last group is in: for whoever reads nothing twice.
    pub(super) fn forget_keys(&mut self, keys_max: usize) {
        let needed = self.last.map_or(0, |last| last.link.segment);
        while self.extents.len() > keys_max {
            let Some(id) = self.extents.keys().copied().find(|id| *id != needed) else { return };
            self.extents.remove(&id);
        }
    }

    #[cfg(test)]
    pub(super) fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// What stands unfinished at the end comes to nothing.
    pub(super) fn abandon(&mut self, why: &'static str) {
        for part in std::mem::take(&mut self.unfinished) {
            self.skip(part.header.first + u64::from(part.header.part), why);
        }
    }

    fn skip(&mut self, seq: u64, why: &'static str) {
        self.skipped_count += 1;
        if self.skipped.len() < SKIPPED_MAX {
            self.skipped.push(Skipped { seq, why });
        }
    }
}

fn damaged(seq: u64, found: String, expected: &str) -> Broken {
    Broken::Damaged { seq, found, expected: expected.to_owned() }
}

/// How a version that is too new is told of.
pub(super) const NEWEST: u32 = FORMAT_VERSION;
