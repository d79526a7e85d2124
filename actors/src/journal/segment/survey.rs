//! Reading a journal without changing it: which segments count, which groups are whole, which are proven.
//! Nothing here writes; damage is told apart from a torn tail by what the files claim.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, mpsc},
};

use bytes::Bytes;

use crate::mutants::{self, Mutation};

use super::super::{
    disk::{Disk, DiskFile, read_up_to},
    seal::{KEY_FILE, RackKey},
    storage::{GroupAt, SegmentId, StorageError},
    stream::MARK_FILE,
};
use super::{
    Damage, Link, OpenError, Point, RecoveredGroup, Recovery, SegmentFile, Torn, Unused,
    file::{QUARANTINE_SUFFIX, SPARE_SUFFIX, UNFINISHED_SUFFIX, describe, id_of, name_of},
    format::{FORMAT_VERSION, HEADER_BYTES, Hash, NoHeader, PreparedHeader, SegmentHeader, group_bytes},
    owner::{called, is_of_nobody},
    scan::{Before, Behind, Parsed, Scan, Stop, behind, scan},
};

/// Names of a directory that concern us.
#[derive(Debug, Default)]
pub(in crate::journal) struct Listing {
    pub(in crate::journal) segments: Vec<SegmentId>,
    pub(in crate::journal) quarantined: Vec<SegmentId>,
    // Without a number that counts: being made, or kept for a segment to come.
    pub(super) unfinished: Vec<String>,
    pub(super) has_key: bool,
    // The mark of a journal on a stream.
    pub(super) is_on_stream: bool,
    // A file that is none of ours.
    pub(super) stranger: Option<String>,
}

pub(in crate::journal) fn list(disk: &dyn Disk) -> Result<Listing, OpenError> {
    let names = disk.list().map_err(|error| OpenError::io(".", "list the directory", error))?;
    let mut listing = Listing::default();
    for name in names {
        if let Some(id) = id_of(&name) {
            listing.segments.push(id);
        } else if let Some(id) = name.strip_suffix(QUARANTINE_SUFFIX).and_then(id_of) {
            listing.quarantined.push(id);
        } else if name.ends_with(UNFINISHED_SUFFIX) || name.ends_with(SPARE_SUFFIX) {
            listing.unfinished.push(name);
        } else if name == KEY_FILE {
            listing.has_key = true;
        } else if name == MARK_FILE {
            listing.is_on_stream = true;
        } else if !is_of_nobody(&name) && !name.ends_with(QUARANTINE_SUFFIX) {
            listing.stranger = Some(name);
        }
    }
    listing.segments.sort_unstable();
    Ok(listing)
}

pub(in crate::journal) fn load_key(disk: &dyn Disk) -> Result<Option<RackKey>, OpenError> {
    RackKey::load(disk).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => OpenError::KeyInvalid { dir: disk.label(), found: error.to_string() },
        _ => OpenError::io(KEY_FILE, "read the key", error),
    })
}

/// Everything that was read, before anything is changed.
pub(super) struct Found {
    pub(super) recovery: Recovery,
    pub(super) base: Point,
    pub(super) readable: BTreeMap<SegmentId, Arc<SegmentFile>>,
    // Prepared, never begun.
    pub(super) blank: Vec<SegmentId>,
}

/// Reads a journal without changing it.
pub(super) struct Survey<'a> {
    pub(super) disk: &'a Arc<dyn Disk>,
    pub(super) rack: [u8; 16],
    pub(super) rack_name: &'a str,
    pub(super) key: &'a RackKey,
    pub(super) listing: &'a Listing,
}

/// A segment whose header is whole.
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<SegmentFile>,
}

/// The newest segment that exists, and what lies beyond it.
pub(super) struct Head {
    segment: Segment,
    raw: Vec<u8>,
    scan: Scan,
    behind: Behind,
}

/// A part of the chain that lies before the head.
struct Part {
    segment: Segment,
    upto: Link,
}

type Visit<'a> = &'a mut dyn FnMut(RecoveredGroup) -> Result<(), StorageError>;

impl Survey<'_> {
    pub(super) fn run(&mut self, visit: Visit<'_>) -> Result<Found, OpenError> {
        let mut unused = Vec::new();
        let mut blank = Vec::new();
        let mut claim = Claim::new(self.listing);
        let mut header_claim = 0;
        let mut torn = None;
        let mut head = None;
        for name in &self.listing.unfinished {
            let raw = read_up_to(&*self.file(name)?, HEADER_BYTES);
            let raw = raw.map_err(|error| OpenError::io(name, "read a segment that was being prepared", error))?;
            if let Err(NoHeader::Prepared(header)) = SegmentHeader::decode(&raw) {
                self.check_rack(name, header.rack)?;
                claim.add(header.epoch, name, header.id);
            }
        }
        for id in self.listing.segments.iter().rev() {
            match self.examine(*id)? {
                Examined::Head(found) => {
                    head = Some(*found);
                    break;
                }
                Examined::Unborn { behind, header_epoch, offset, why } => {
                    let file = name_of(*id);
                    // Its groups speak for those that are missing in front of them, its header for the files before.
                    claim.add(behind.claim, &file, *id + 1);
                    claim.add(header_epoch, &file, *id);
                    claim.suspects.push((*id, offset, why.clone()));
                    header_claim = header_claim.max(header_epoch);
                    if behind.bytes > 0 {
                        torn = Some(Torn { file: file.clone(), offset: HEADER_BYTES, bytes: behind.bytes, why });
                    }
                    unused.push(Unused { file, why: "its first group is not whole" });
                }
                Examined::Blank(prepared) => {
                    let file = name_of(*id);
                    match prepared {
                        Some(header) => claim.add(header.epoch, &file, *id),
                        None => {
                            claim.suspects.push((*id, 0, "nothing but zeros".to_owned()));
                            claim.zeros = Some(*id);
                        }
                    }
                    unused.push(Unused { file, why: "prepared, never begun" });
                    blank.push(*id);
                }
            }
        }
        if let Some(head) = &mut head
            && mutants::is(Mutation::UnbornHeaderVoids)
            && header_claim > 0
        {
            let first = head.scan.groups[0].header.epoch;
            head.scan.groups.retain(|group| group.header.epoch <= header_claim.max(first));
        }
        let Some(head) = head else {
            claim.check(None)?;
            claim.check_zeros()?;
            let recovery = Recovery { torn, unused, ..Recovery::default() };
            return Ok(Found { recovery, base: Point::default(), readable: BTreeMap::new(), blank });
        };
        self.check_head(&head, &claim)?;
        let last = head.scan.groups.last().expect("a head has a first group");
        let oldest = last.header.oldest;
        let claimed = head.segment.header.link.epoch.max(last.header.flushed).max(header_claim);
        let base = base_of(&head, claimed);
        // A mark always names the end of a group; should it not, the caller merges from the end that is there.
        let proven_epoch = base.link.epoch;
        if let Stop::Hole(no_group) = &head.scan.stop
            && head.behind.bytes > 0
        {
            torn = Some(Torn {
                file: head.segment.file.name.clone(),
                offset: head.scan.end,
                bytes: head.behind.bytes,
                why: describe(no_group),
            });
        }
        let parts = self.chain(&head, oldest)?;
        for id in self.listing.segments.iter().filter(|id| **id < head.segment.header.id) {
            if !parts.iter().any(|part| part.segment.header.id == *id) {
                let why = if *id < oldest { "older than what is alive" } else { "void: its successor names another" };
                unused.push(Unused { file: name_of(*id), why });
            }
        }
        let mut recovery =
            Recovery { last_epoch: last.header.epoch, proven_epoch, oldest, torn, unused, ..Recovery::default() };
        let mut readable: BTreeMap<_, _> =
            parts.iter().map(|part| (part.segment.header.id, part.segment.file.clone())).collect();
        readable.insert(head.segment.header.id, head.segment.file.clone());
        let before = self.show_parts(parts, &mut recovery, visit)?;
        let Head { segment, raw, scan, .. } = head;
        let first = &scan.groups[0];
        check_first(&segment, first, before)?;
        show(&segment, Bytes::from(raw), &scan.groups, &mut recovery, visit)?;
        Ok(Found { recovery, base, readable, blank })
    }

    fn examine(&self, id: SegmentId) -> Result<Examined, OpenError> {
        let name = name_of(id);
        let file = self.file(&name)?;
        let segment = match self.segment(id, file.clone())? {
            Ok(segment) => segment,
            Err(NoHeader::Newer(found)) => {
                return Err(OpenError::NewerFormat { file: name, found, expected: FORMAT_VERSION });
            }
            Err(NoHeader::Short(bytes)) => return Err(cut(&name, id, bytes, HEADER_BYTES)),
            Err(no_header) => {
                let raw = read_all(&name, &*file)?;
                let behind = behind(&raw, id, HEADER_BYTES);
                let unborn = |behind, header_epoch, offset, why| Examined::Unborn { behind, header_epoch, offset, why };
                return Ok(match no_header {
                    // Even a header alone is something that was torn.
                    NoHeader::Bad { offset, found, expected } => {
                        let behind = Behind { bytes: behind.bytes.max(1), ..behind };
                        unborn(behind, 0, offset, format!("{found} in place of {expected}"))
                    }
                    NoHeader::Prepared(header) if behind.bytes == 0 => Examined::Blank(Some(header)),
                    NoHeader::Prepared(header) => unborn(behind, header.epoch, 0, "no header".to_owned()),
                    _ if behind.bytes == 0 => Examined::Blank(None),
                    _ => unborn(behind, 0, 0, "no header".to_owned()),
                });
            }
        };
        let mut raw = read_all(&name, &*file)?;
        let link = segment.header.link;
        // Its own first group's predecessor is checked when that is read.
        let scan = scan(&mut raw, id, &segment.file.key, Before { epoch: link.epoch, hash: None });
        if scan.groups.is_empty() {
            let why = match scan.stop {
                Stop::Hole(no_group) => describe(&no_group),
                Stop::Broken { found, expected } => {
                    return Err(damage(&name, id, HEADER_BYTES, found, expected, link.epoch));
                }
            };
            let (behind, offset) = (behind(&raw, id, HEADER_BYTES), HEADER_BYTES);
            return Ok(Examined::Unborn { behind, header_epoch: link.epoch, offset, why });
        }
        let behind = behind(&raw, id, scan.end);
        Ok(Examined::Head(Box::new(Head { segment, raw, scan, behind })))
    }

    fn check_head(&self, head: &Head, claim: &Claim<'_>) -> Result<(), OpenError> {
        let Segment { header, file } = &head.segment;
        let last_epoch = head.scan.groups.last().map_or(header.link.epoch, |group| group.header.epoch);
        match &head.scan.stop {
            Stop::Broken { found, expected } => {
                Err(damage(&file.name, header.id, head.scan.end, found.clone(), expected.clone(), last_epoch))
            }
            Stop::Hole(no_group) if head.behind.claim > last_epoch => {
                let expected =
                    format!("a whole group, since a later one says that epoch {} was durable", head.behind.claim);
                Err(damage(&file.name, header.id, head.scan.end, describe(no_group), expected, last_epoch))
            }
            Stop::Hole(no_group) => {
                claim.check(Some(Whole { id: header.id, offset: head.scan.end, found: describe(no_group), last_epoch }))
            }
        }
    }

    /// The segments from the oldest one alive to the one before the head.
    fn chain(&self, head: &Head, oldest: SegmentId) -> Result<Vec<Part>, OpenError> {
        let mut parts: Vec<Part> = Vec::new();
        let (mut successor, mut link) = (head.segment.header.id, head.segment.header.link);
        while link.segment != 0 && link.segment >= oldest {
            let name = name_of(link.segment);
            let expected = format!("the predecessor of segment {successor:08x}, whole up to offset {}", link.offset);
            let missing = |found: &str| Err(damage(&name, link.segment, 0, found.to_owned(), expected.clone(), 0));
            if link.segment >= successor {
                return missing("a predecessor that is younger");
            }
            if !self.listing.segments.contains(&link.segment) {
                let is_quarantined = self.listing.quarantined.contains(&link.segment);
                return missing(if is_quarantined { "it was put in quarantine" } else { "no file" });
            }
            let file = self.file(&name)?;
            let segment = match self.segment(link.segment, file)? {
                Ok(segment) => segment,
                Err(NoHeader::Newer(found)) => {
                    return Err(OpenError::NewerFormat { file: name, found, expected: FORMAT_VERSION });
                }
                Err(NoHeader::Short(bytes)) => return Err(cut(&name, link.segment, bytes, HEADER_BYTES)),
                Err(NoHeader::Blank) => return missing("a header of zeros"),
                Err(NoHeader::Prepared(_)) => return missing("a segment that was prepared and not begun"),
                Err(NoHeader::Bad { offset, found, expected }) => {
                    return Err(damage(&name, link.segment, offset, found, expected.to_owned(), 0));
                }
            };
            (successor, link) = (link.segment, segment.header.link);
            let upto = parts.last().map_or(head.segment.header.link, |part: &Part| part.segment.header.link);
            let whole = Link { offset: u64::MAX, ..upto };
            parts.push(Part { segment, upto: if mutants::is(Mutation::HeaderVoidsNothing) { whole } else { upto } });
        }
        parts.reverse();
        Ok(parts)
    }

    // Shows the groups of all parts; one thread reads the next part while this one opens the groups of the last.
    fn show_parts(
        &self,
        parts: Vec<Part>,
        recovery: &mut Recovery,
        visit: Visit<'_>,
    ) -> Result<Option<Hash>, OpenError> {
        let reads: Vec<_> = parts.iter().map(|part| (part.segment.file.clone(), part.upto.offset)).collect();
        let (sender, receiver) = mpsc::sync_channel(1);
        let read_ahead = move || {
            for (segment, bytes) in reads {
                // Nobody listens any more after an error.
                if sender.send(read_up_to(&*segment.file, bytes)).is_err() {
                    return;
                }
            }
        };
        let is_ahead = parts.len() > 1 && self.disk.has_threads();
        if is_ahead {
            self.disk
                .spawn(Box::new(read_ahead))
                .map_err(|error| OpenError::io(".", "start a thread that reads", error))?;
        }
        let mut before: Option<Hash> = None;
        for part in &parts {
            let name = &part.segment.file.name;
            let raw = if is_ahead {
                receiver.recv().unwrap_or_else(|_| Err(io::Error::other("the reading thread ended")))
            } else {
                read_up_to(&*part.segment.file.file, part.upto.offset)
            };
            let mut raw = raw.map_err(|error| OpenError::io(name, "read a segment", error))?;
            let Segment { header, file } = &part.segment;
            let start = before.or((header.link.segment == 0).then_some([0; 16]));
            let scan = scan(&mut raw, header.id, &file.key, Before { epoch: header.link.epoch, hash: start });
            check_part(part, &scan)?;
            before = scan.groups.last().map(|group| group.hash);
            show(&part.segment, Bytes::from(raw), &scan.groups, recovery, visit)?;
        }
        Ok(before)
    }

    fn check_rack(&self, name: &str, rack: [u8; 16]) -> Result<(), OpenError> {
        if rack == self.rack {
            return Ok(());
        }
        let called = |rack| called(&**self.disk, rack, self.rack_name);
        let (found, expected) = (called(rack), called(self.rack));
        Err(OpenError::ForeignRack { dir: self.disk.label(), file: name.to_owned(), found, expected })
    }

    fn file(&self, name: &str) -> Result<Arc<dyn DiskFile>, OpenError> {
        self.disk.open(name).map_err(|error| OpenError::io(name, "open a segment", error))
    }

    /// The segment's header and key, if its header is whole and ours.
    pub(super) fn segment(
        &self,
        id: SegmentId,
        file: Arc<dyn DiskFile>,
    ) -> Result<Result<Segment, NoHeader>, OpenError> {
        let name = name_of(id);
        let raw = read_up_to(&*file, HEADER_BYTES).map_err(|error| OpenError::io(&name, "read a segment", error))?;
        let file_len = file.len().map_err(|error| OpenError::io(&name, "measure a segment", error))?;
        let header = match SegmentHeader::decode(&raw) {
            Ok(header) => header,
            Err(no_header) => {
                if let NoHeader::Prepared(header) = &no_header {
                    self.check_rack(&name, header.rack)?;
                }
                return Ok(Err(no_header));
            }
        };
        self.check_rack(&name, header.rack)?;
        if header.key_id != self.key.id() {
            let (found, expected) = (hex(&self.key.id()), hex(&header.key_id));
            return Err(OpenError::KeyWrong { file: name, found, expected });
        }
        if header.id != id {
            let found = format!("the header of segment {:08x}", header.id);
            return Ok(Err(NoHeader::Bad { offset: 32, found, expected: "the header of the segment its name says" }));
        }
        match self.key.unwrap_segment_key(&header.key, &header.context()) {
            Ok(_) if file_len < header.file_bytes => Err(cut(&name, id, file_len, header.file_bytes)),
            Ok(key) => Ok(Ok(Segment { header, file: Arc::new(SegmentFile::new(id, file, key)) })),
            Err(_) => Ok(Err(NoHeader::Bad {
                offset: 96,
                found: "a wrapped key that does not open".to_owned(),
                expected: "the segment's key, wrapped under the rack's",
            })),
        }
    }
}

enum Examined {
    Head(Box<Head>),
    Unborn { behind: Behind, header_epoch: u64, offset: u64, why: String },
    Blank(Option<PreparedHeader>),
}

/// Where the whole groups of the head end.
struct Whole {
    id: SegmentId,
    offset: u64,
    found: String,
    last_epoch: u64,
}

/// The largest epoch that something outside the chain says was durable, and who may have held it.
struct Claim<'a> {
    listing: &'a Listing,
    epoch: u64,
    file: String,
    // The segments before this one may have held that epoch.
    before: SegmentId,
    // Files without a whole first group, from the newest to the oldest, and what stands where in them.
    suspects: Vec<(SegmentId, u64, String)>,
    // The oldest of them that is all zeros.
    zeros: Option<SegmentId>,
}

impl Claim<'_> {
    fn new(listing: &Listing) -> Claim<'_> {
        Claim { listing, epoch: 0, file: String::new(), before: 0, suspects: Vec::new(), zeros: None }
    }

    fn add(&mut self, epoch: u64, file: &str, before: SegmentId) {
        if epoch > self.epoch {
            (self.epoch, self.file, self.before) = (epoch, file.to_owned(), before);
        }
    }

    fn check(&self, head: Option<Whole>) -> Result<(), OpenError> {
        let last_epoch = head.as_ref().map_or(0, |head| head.last_epoch);
        if self.epoch <= last_epoch {
            return Ok(());
        }
        let expected = format!("groups up to epoch {}, which {} says were flushed", self.epoch, self.file);
        let first = head.as_ref().map_or(1, |head| head.id + 1);
        if let Some((id, offset, found)) = (first..self.before).find_map(|id| self.suspect(id)) {
            return Err(damage(&name_of(id), id, offset, found, expected, last_epoch));
        }
        match head {
            // What is whole of that segment stays when the next one, which says that more was, is given up.
            Some(Whole { id, offset, found, .. }) => {
                let expected = format!("more {expected}");
                let file = name_of(id);
                Err(OpenError::Damaged(Damage { file, segment: self.before, offset, found, expected, last_epoch }))
            }
            None => Err(damage(&self.file, id_of(&self.file).unwrap_or(1), 0, "no group".to_owned(), expected, 0)),
        }
    }

    // Zeros say nothing, and who has lost all in front of them and what stood there is not to begin anew.
    fn check_zeros(&self) -> Result<(), OpenError> {
        let Some(id) = self.zeros.filter(|id| *id > 1 && self.listing.quarantined.is_empty()) else { return Ok(()) };
        if self.listing.segments.first() != Some(&id) {
            return Ok(());
        }
        let expected = format!("the segments before {}, or word that there were none", name_of(id));
        Err(damage(&name_of(id - 1), id - 1, 0, "no file".to_owned(), expected, 0))
    }

    fn suspect(&self, id: SegmentId) -> Option<(SegmentId, u64, String)> {
        let is_quarantined = self.listing.quarantined.contains(&id);
        if !self.listing.segments.contains(&id) {
            return Some((id, 0, if is_quarantined { "it was put in quarantine" } else { "no file" }.to_owned()));
        }
        self.suspects.iter().find(|(suspect, ..)| *suspect == id).cloned()
    }
}

// Where the proven part ends: in the head, or at the point its header names.
fn base_of(head: &Head, proven_epoch: u64) -> Point {
    let header = &head.segment.header;
    let proven = head.scan.groups.iter().take_while(|group| group.header.epoch <= proven_epoch).last();
    match proven {
        Some(group) => {
            let offset = group.offset + group_bytes(group.body.len());
            let link = Link { segment: header.id, offset, epoch: group.header.epoch };
            Point { link, hash: group.hash, oldest: group.header.oldest }
        }
        None => Point { link: header.link, hash: head.scan.groups[0].header.before, oldest: header.oldest },
    }
}

fn check_part(part: &Part, scan: &Scan) -> Result<(), OpenError> {
    let Segment { header, file } = &part.segment;
    let last_epoch = scan.groups.last().map_or(header.link.epoch, |group| group.header.epoch);
    let fail = |found, expected| Err(damage(&file.name, header.id, scan.end, found, expected, last_epoch));
    if mutants::is(Mutation::HeaderVoidsNothing) {
        return Ok(());
    }
    if scan.end == part.upto.offset && last_epoch == part.upto.epoch && !scan.groups.is_empty() {
        return Ok(());
    }
    match &scan.stop {
        Stop::Broken { found, expected } => fail(found.clone(), expected.clone()),
        Stop::Hole(no_group) => fail(
            describe(no_group),
            format!("whole groups up to offset {} and epoch {}", part.upto.offset, part.upto.epoch),
        ),
    }
}

// The head was read before its predecessors, so its place in the chain is checked last.
fn check_first(segment: &Segment, first: &Parsed, before: Option<Hash>) -> Result<(), OpenError> {
    let link = segment.header.link;
    let expected = before.or((link.segment == 0).then_some([0; 16]));
    if expected.is_some_and(|hash| hash != first.header.before) {
        let found = format!("a group of epoch {} that follows another group", first.header.epoch);
        let expected = format!("the one that follows epoch {} of segment {:08x}", link.epoch, link.segment);
        let Segment { header, file } = segment;
        return Err(damage(&file.name, header.id, first.offset, found, expected, link.epoch));
    }
    Ok(())
}

fn show(
    segment: &Segment,
    raw: Bytes,
    groups: &[Parsed],
    recovery: &mut Recovery,
    visit: Visit<'_>,
) -> Result<(), OpenError> {
    for group in groups {
        recovery.groups += 1;
        recovery.bytes += group.body.len() as u64;
        visit(RecoveredGroup {
            epoch: group.header.epoch,
            term: group.header.term,
            flushed: group.header.flushed,
            oldest: group.header.oldest,
            at: GroupAt { segment: segment.header.id, offset: group.offset },
            body: raw.slice(group.body.clone()),
            proven: group.header.epoch <= recovery.proven_epoch,
        })?;
    }
    Ok(())
}

fn read_all(name: &str, file: &dyn DiskFile) -> Result<Vec<u8>, OpenError> {
    read_up_to(file, u64::MAX).map_err(|error| OpenError::io(name, "read a segment", error))
}

pub(super) fn damage(
    file: &str,
    segment: SegmentId,
    offset: u64,
    found: String,
    expected: String,
    last_epoch: u64,
) -> OpenError {
    OpenError::Damaged(Damage { file: file.to_owned(), segment, offset, found, expected, last_epoch })
}

fn cut(file: &str, segment: SegmentId, bytes: u64, expected: u64) -> OpenError {
    let expected = format!("a file of {expected} bytes, as it was when the segment was begun");
    damage(file, segment, bytes, format!("a file of {bytes} bytes"), expected, 0)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
