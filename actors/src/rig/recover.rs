//! What a rig takes over from its journal: numbers, messages, memories; and the first groups it writes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;
use tokio::time::Instant;

use super::{JournalOptions, Orphans, RigError};
use crate::clock::{World, utc};
use crate::journal::stream::{Log, LogError, StreamOpenError, StreamOptions, open_stream};
use crate::journal::{
    Clock, Delta, Disk, GearDelta, Group, GroupAt, Holder, Image, Kind, NameRecord, OpenOptions, Placed, Reader,
    RecordError, RecoveredGroup, Recovery, SegmentId, Storage, StorageError, TimerRecord, WireDelta, encode, open,
    rack_id,
};
use crate::lease::Lease;
use crate::memory::RecoveredTimer;
use crate::mutants::{self, Mutation};
use crate::node::WorldDebug;
use crate::retained::Retained;
use crate::standby::TakenOver;
use crate::wire::{After, Body, DeadNote, Entry, Position, Retention};

/// How long a start waits for servers that do not answer: an election takes a few seconds, and whoever starts a rack that
/// ends at once would only start it again.
const START_FOR: Duration = Duration::from_secs(15);
const START_WAIT: Duration = Duration::from_secs(1);

/// A journal that was opened and read.
pub(crate) struct Opened {
    pub(crate) storage: Box<dyn Storage>,
    pub(crate) image: Image,
    pub(crate) oldest: SegmentId,
    pub(crate) births: BTreeMap<SegmentId, u64>,
    /// Last epoch written so far.
    epoch: u64,
    flushed: u64,
    pub(crate) unclean_starts: u32,
    /// The segment that the first delta went into: where the names are that are new in it.
    begun_in: SegmentId,
    /// Of a journal that a stand-by may take over.
    pub(crate) lease: Option<Arc<Lease>>,
}

/// Opens the journal; what was not proven to be on disk is merged, written again and flushed (HEART §9.5).
pub(crate) async fn open_journal(options: &JournalOptions, world: &Arc<dyn WorldDebug>) -> Result<Opened, RigError> {
    let taken = options.taken.as_ref().and_then(|taken| taken.lock().expect("nothing panics while it is held").take());
    let (mut storage, recovery, mut image, unproven, lease) = match taken {
        Some(TakenOver { storage, image, recovery, lease }) => (storage, recovery, image, Vec::new(), lease),
        None => {
            let until = Instant::now() + START_FOR;
            loop {
                let mut reading = Reading::default();
                let lease = options.new_lease(&(Arc::clone(world) as Arc<dyn World>));
                match open_storage(options, &**world, &mut reading, lease.clone()).await {
                    Ok((storage, recovery)) => break (storage, recovery, reading.image, reading.unproven, lease),
                    Err(error) if is_unreachable(&error) && Instant::now() < until => wait_after(&error).await,
                    Err(error) => return Err(reading.told(error)),
                }
            }
        }
    };
    if let Some(torn) = &recovery.torn {
        tracing::warn!(file = %torn.file, offset = torn.offset, bytes = torn.bytes, why = %torn.why, "journal: a torn tail was cut");
    }
    let mut epoch = recovery.last_epoch;
    let mut flushed = recovery.proven_epoch;
    let oldest = recovery.oldest.max(1);
    if !unproven.is_empty() {
        epoch += 1;
        let at = store(&mut *storage, Group { epoch, flushed, oldest, body: &unproven }).await?;
        flushed = epoch;
        image.apply(&unproven, at)?;
    }
    image.forget_before(oldest);
    if let Some(number) = image.nameless() {
        return Err(RigError::Nameless(number));
    }
    let unclean_starts = image.unclean_starts;
    let births = BTreeMap::new();
    Ok(Opened { storage, image, oldest, births, epoch, flushed, unclean_starts, begun_in: 0, lease })
}

/// What the groups of a journal come to while they are shown.
#[derive(Default)]
pub(crate) struct Reading {
    image: Image,
    unproven: Vec<u8>,
    record_error: Option<RecordError>,
}

impl Reading {
    pub(crate) fn group(&mut self, group: RecoveredGroup) -> Result<(), StorageError> {
        if !group.proven {
            self.unproven.extend_from_slice(&group.body);
            return Ok(());
        }
        self.image.apply(&group.body, group.at).map_err(|error| {
            let reason = error.to_string();
            self.record_error = Some(error);
            StorageError::Refused { at: group.at, reason }
        })
    }

    /// The error, or what was wrong with a record, if that is why.
    pub(crate) fn told(&mut self, error: RigError) -> RigError {
        self.record_error.take().map_or(error, RigError::from)
    }

    pub(crate) fn into_image(self) -> Image {
        self.image
    }
}

/// Directory, stream and all else that a journal on a stream is opened with.
type StreamParts = (Arc<dyn Disk>, Arc<dyn Log>, StreamOptions);

/// What a journal on a stream is opened with.
pub(crate) fn stream_options(
    options: &JournalOptions,
    world: &dyn World,
    lease: Option<Arc<Lease>>,
) -> Result<StreamParts, RigError> {
    let Some(log) = &options.stream else { return Err(RigError::NoStream) };
    let disk = options.open_disk().map_err(RigError::Directory)?;
    let holder = Holder::this_process(&*disk, utc(world.wall_ns())).map_err(RigError::Directory)?;
    let stream_options = StreamOptions {
        rack: rack_id(&options.rack),
        rack_name: options.rack.clone(),
        segment_bytes: options.segment_bytes,
        holder,
        accept_lost_tail: options.accept_lost_tail,
        lease,
    };
    Ok((disk, Arc::clone(log), stream_options))
}

async fn open_storage(
    options: &JournalOptions,
    world: &dyn World,
    reading: &mut Reading,
    lease: Option<Arc<Lease>>,
) -> Result<(Box<dyn Storage>, Recovery), RigError> {
    if options.stream.is_some() {
        let (disk, log, stream_options) = stream_options(options, world, lease)?;
        let (storage, recovery) = open_stream(disk, log, stream_options, &mut |group| reading.group(group)).await?;
        return Ok((Box::new(storage), recovery));
    }
    let disk = options.open_disk().map_err(RigError::Directory)?;
    let holder = Holder::this_process(&*disk, utc(world.wall_ns())).map_err(RigError::Directory)?;
    let open_options = OpenOptions {
        rack: rack_id(&options.rack),
        rack_name: options.rack.clone(),
        segment_bytes: options.segment_bytes,
        term: 0,
        holder,
    };
    let (storage, recovery) = open(disk, open_options, &mut |group| reading.group(group))?;
    Ok((Box::new(storage), recovery))
}

/// Whether the servers of a stream may answer later.
fn is_unreachable(error: &RigError) -> bool {
    match error {
        RigError::Stream(StreamOpenError::Log(error)) => matches!(error, LogError::Unreachable { .. }),
        RigError::Stream(StreamOpenError::Storage(error)) | RigError::Storage(error) => error.is_unreachable(),
        _ => false,
    }
}

async fn wait_after(error: &(dyn std::error::Error + Sync)) {
    tracing::warn!(%error, "journal: the start waits for the stream");
    tokio::time::sleep(START_WAIT).await;
}

/// Writes and flushes a group of a start, as often as the writer would: on a stream, servers may hold an election, and
/// what another process had sent before it was fenced may still arrive.
async fn store(storage: &mut dyn Storage, group: Group<'_>) -> Result<GroupAt, StorageError> {
    let until = Instant::now() + START_FOR;
    let mut stored = append(storage, group).await;
    while let Err(error) = &stored
        && error.is_unreachable()
        && Instant::now() < until
    {
        wait_after(error).await;
        stored = match storage.replace(group.flushed).await {
            Ok(()) => append(storage, group).await,
            Err(error) => Err(error),
        };
    }
    stored
}

async fn append(storage: &mut dyn Storage, group: Group<'_>) -> Result<GroupAt, StorageError> {
    let at = storage.append(group).await?;
    storage.flush().await?;
    Ok(at)
}

impl Opened {
    /// Writes and flushes the first delta of this start: new names, the count of starts, orphans that went.
    pub(crate) async fn begin(&mut self, mut delta: Delta, world: &dyn World) -> Result<u64, RigError> {
        self.epoch += 1;
        delta.clock = Clock::now(world, self.epoch);
        delta.unclean_starts = Some(self.unclean_starts.saturating_add(1));
        let mut body = Vec::new();
        let mut placed = Placed::new();
        encode(&delta, &mut body, &mut placed, &mut |position: Position| {
            self.storage
                .reader()
                .read(position.at)
                .map(|group| group.slice(position.offset as usize..(position.offset + position.len) as usize))
        })?;
        let group = Group { epoch: self.epoch, flushed: self.flushed, oldest: self.oldest, body: &body };
        // Not what the storage says is current afterwards: a group that fills its segment makes that the next one.
        self.begun_in = store(&mut *self.storage, group).await?.segment;
        self.flushed = self.epoch;
        Ok(self.epoch + 1)
    }

    /// Every name with the segment of its newest record, for carrying.
    pub(crate) fn names(&self, numbers: &Numbers) -> Vec<(NameRecord, SegmentId)> {
        numbers.all(self.begun_in)
    }

    pub(crate) fn reader(&self) -> Arc<dyn Reader> {
        self.storage.reader()
    }
}

/// Gives out the journal's numbers: the old one to what has a name in it, a new one to what has not.
pub(crate) struct Numbers {
    scenario: SmolStr,
    known: BTreeMap<(Kind, SmolStr, SmolStr, SmolStr), NameRecord>,
    homes: BTreeMap<u32, SegmentId>,
    used: HashSet<u32>,
    next: u32,
    pub(crate) new: Vec<NameRecord>,
}

impl Numbers {
    pub(crate) fn new(scenario: &SmolStr, image: &Image) -> Self {
        let key = |name: &NameRecord| (name.kind, name.scenario.clone(), name.name.clone(), name.variant.clone());
        Self {
            scenario: scenario.clone(),
            known: image.names.values().map(|(name, _)| (key(name), name.clone())).collect(),
            homes: image.names.iter().map(|(&number, (_, home))| (number, *home)).collect(),
            used: HashSet::new(),
            next: image.names.keys().next_back().map_or(1, |&number| number + 1),
            new: Vec::new(),
        }
    }

    pub(crate) fn of(&mut self, kind: Kind, name: &str, variant: &str, world: &dyn World) -> NameRecord {
        let key = (kind, self.scenario.clone(), SmolStr::from(name), SmolStr::from(variant));
        let record = match self.known.get(&key) {
            Some(record) => record.clone(),
            None => {
                let mut incarnation = [0; 8];
                world.random(&mut incarnation);
                let number = self.next;
                self.next += 1;
                let record = NameRecord {
                    number,
                    kind,
                    scenario: self.scenario.clone(),
                    name: name.into(),
                    variant: variant.into(),
                    incarnation: u64::from_le_bytes(incarnation),
                };
                self.new.push(record.clone());
                record
            }
        };
        self.used.insert(record.number);
        record
    }

    /// Every name with the segment of its newest record. New ones are in `segment`.
    fn all(&self, segment: SegmentId) -> Vec<(NameRecord, SegmentId)> {
        let old = self.known.values().map(|name| (name.clone(), self.homes[&name.number]));
        old.chain(self.new.iter().map(|name| (name.clone(), segment))).collect()
    }

    /// Names that this rig does not have and that still own something.
    pub(crate) fn orphans(&self, image: &Image) -> Vec<NameRecord> {
        let owns = |name: &NameRecord| match name.kind {
            Kind::Wire => image.wires.get(&name.number).is_some_and(|wire| !wire.live.is_empty()),
            Kind::Gear => image
                .gears
                .get(&name.number)
                .is_some_and(|gear| !gear.keys.is_empty() || gear.timers().next().is_some()),
        };
        self.known.values().filter(|name| !self.used.contains(&name.number) && owns(name)).cloned().collect()
    }
}

/// Decides about what has no place: refuses, or says what the first delta must take away.
pub(crate) fn settle_orphans(
    orphans: &[NameRecord],
    policy: Orphans,
    image: &Image,
    delta: &mut Delta,
) -> Result<(), RigError> {
    if orphans.is_empty() {
        return Ok(());
    }
    if policy == Orphans::Refuse {
        let listed: Vec<String> = orphans.iter().map(|name| describe(name, image)).collect();
        return Err(RigError::Orphans(listed.join(", ")));
    }
    for name in orphans {
        match name.kind {
            Kind::Wire => {
                let wire = &image.wires[&name.number];
                let acked = vec![(0, wire.next_seq)];
                delta.wires.push(WireDelta {
                    number: name.number,
                    next_seq: wire.next_seq,
                    acked,
                    ..WireDelta::default()
                });
            }
            Kind::Gear => {
                let gear = &image.gears[&name.number];
                delta.gears.push(GearDelta {
                    number: name.number,
                    generation: gear.generation,
                    keys: gear.keys.keys().map(|key| (key.clone(), None)).collect(),
                    timers: gear.timers.keys().map(|key| (key.clone(), None)).collect(),
                });
            }
        }
    }
    Ok(())
}

fn describe(name: &NameRecord, image: &Image) -> String {
    let NameRecord { name: of, scenario, number, variant, .. } = name;
    match name.kind {
        Kind::Wire => {
            let messages = counted(image.wires[number].live.len(), "message");
            format!("{messages} of wire `{of}` ({variant}) of scenario `{scenario}`")
        }
        Kind::Gear => {
            let gear = &image.gears[number];
            let (keys, timers) = (counted(gear.keys.len(), "key"), counted(gear.timers().count(), "timer"));
            format!("{keys} and {timers} of gear `{of}` ({variant}) of scenario `{scenario}`")
        }
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// The live messages of a queue, their bodies still in the journal.
pub(crate) fn entries(image: &Image, number: u32) -> (Vec<Entry>, u64) {
    let Some(wire) = image.wires.get(&number) else { return (Vec::new(), 1) };
    let entries = wire.live.iter().map(|(&seq, live)| Entry {
        seq,
        body: Body::There(live.position),
        after: After::NOTHING,
        attempts: live.attempts,
        home: live.position.at.segment,
        is_taken: live.is_taken,
        is_maybe_sent: live.is_taken,
        is_out: false,
        is_done: false,
        since_ns: 1,
        fault: live.fault.clone(),
        dead: live.dead.clone(),
    });
    (entries.collect(), wire.next_seq.max(1))
}

/// What replay can still read of a queue.
pub(crate) fn retained(image: &Image, number: u32, retention: Option<Retention>) -> Retained {
    let mut retained = Retained::new(retention);
    if let (Some(_), Some(wire)) = (retention, image.wires.get(&number)) {
        for item in wire.passed.values() {
            retained.add(item.seq, item.position, item.at_ns);
        }
    }
    retained
}

/// Timers with what is left of them: by the boot clock within one boot, by the wall clock across boots (HEART §8).
pub(crate) fn timers(image: &Image, number: u32, world: &dyn World) -> Vec<RecoveredTimer> {
    let Some(gear) = image.gears.get(&number) else { return Vec::new() };
    let now = Clock::now(world, image.epoch);
    let left = |timer: &TimerRecord, noted: &Clock| {
        let passed = image.boots.passed_ns(noted, &now);
        let passed = if mutants::is(Mutation::TimersRearmedInFull) { 0 } else { passed };
        timer.left_ns.saturating_sub(passed)
    };
    gear.timers
        .iter()
        .map(|(key, (timer, noted, home))| RecoveredTimer {
            key: key.clone(),
            generation: timer.generation,
            due_ns: left(timer, noted),
            home: *home,
        })
        .collect()
}

/// The note of something that a new scenario has no place for.
pub(crate) fn orphan_note(name: &NameRecord, at_ns: i64) -> DeadNote {
    let reason: SmolStr = format!("orphan of scenario `{}`", name.scenario).into();
    DeadNote {
        gear: if name.kind == Kind::Gear { name.name.clone() } else { SmolStr::default() },
        wire: if name.kind == Kind::Wire { name.name.clone() } else { SmolStr::default() },
        first: reason.clone(),
        last: reason.clone(),
        reason,
        attempts: 0,
        at_ns,
    }
}

#[cfg(test)]
mod tests;
