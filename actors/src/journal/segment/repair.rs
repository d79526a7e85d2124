//! What an operator does about damage: see all of it, and put segments aside.
//! Never overwrites and never deletes.

use std::sync::Arc;

use super::super::{
    disk::{Disk, read_up_to},
    lock::{self, Holder},
    storage::SegmentId,
};
use super::{
    Damage, OpenError, RecoveredGroup, Recovery,
    file::{QUARANTINE_SUFFIX, describe, name_of},
    format::{HEADER_BYTES, NoHeader},
    owner::check_is_journal,
    scan::{Before, Stop, behind, scan},
    survey::{Listing, Survey, list, load_key},
};

/// What [`verify`] found.
#[derive(Debug, Default)]
pub struct Report {
    /// Every segment file, from the oldest to the newest.
    pub segments: Vec<SegmentReport>,
    /// Every place where a segment file is not whole. Some of it may not matter: trimmed, void or torn.
    pub damages: Vec<Damage>,
    /// What opening would recover, or the damage that keeps it from opening.
    pub outcome: Option<Result<Recovery, OpenError>>,
    /// What giving up behind that damage would come to.
    pub given_up: Option<GivenUp>,
}

/// What is left of a journal when what is behind its damage is given up.
#[derive(Debug)]
pub struct GivenUp {
    /// Where giving up has to begin, so that what is left opens: with the damaged segment, or an older one.
    pub from: SegmentId,
    /// Files that [`quarantine`] would put aside.
    pub aside: Vec<String>,
    /// The last epoch that any file still shows or names, as far as it can be read; what lies between is lost.
    pub last_epoch_seen: u64,
    /// What opening would recover then, or why it would still not open.
    pub left: Result<Recovery, OpenError>,
}

/// One segment file as it stands by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentReport {
    /// The file.
    pub file: String,
    /// Its length, in bytes.
    pub bytes: u64,
    /// The epoch that its header says was durable before; 0 for none.
    pub claims: u64,
    /// Whole groups in front.
    pub groups: u64,
    /// Epoch of the first and of the last of them.
    pub epochs: Option<(u64, u64)>,
    /// Groups with a whole checksum behind the first one that is not whole: lost if the journal is cut there.
    pub groups_behind: u64,
}

/// Reads a whole journal and reports everything that is wrong with it; changes nothing but the lock file.
///
/// # Errors
/// When the journal is in use, the key is missing, or the system refuses.
pub fn verify(disk: &Arc<dyn Disk>, rack: [u8; 16], holder: &Holder) -> Result<Report, OpenError> {
    let empty = || Report { outcome: Some(Ok(Recovery::default())), ..Report::default() };
    let seen = list(&**disk)?;
    check_is_journal(&**disk, &seen)?;
    if seen.is_on_stream {
        return Err(OpenError::OnStream { dir: disk.label() });
    }
    // Nothing was ever written, so there is nothing to lock either.
    if !seen.has_key && seen.segments.is_empty() && seen.quarantined.is_empty() {
        return Ok(empty());
    }
    // On a read-only file system nobody can be writing either, so a copy mounted that way can be looked at.
    let _lock = match locked(&**disk, holder) {
        Err(OpenError::ReadOnly { .. }) => None,
        other => Some(other?),
    };
    let listing = list(&**disk)?;
    let Some(key) = load_key(&**disk)? else {
        let segments = listing.segments.len() + listing.quarantined.len();
        return Err(OpenError::KeyMissing { dir: disk.label(), segments });
    };
    let mut survey = Survey { disk, rack, rack_name: "", key: &key, listing: &listing };
    let outcome = survey.run(&mut |_: RecoveredGroup| Ok(())).map(|found| found.recovery);
    let mut report = empty();
    for id in &listing.segments {
        survey.inspect(*id, &mut report)?;
    }
    if let Err(OpenError::Damaged(damage)) = &outcome {
        let seen = |segment: &SegmentReport| segment.epochs.map_or(0, |(_, last)| last).max(segment.claims);
        let last_epoch_seen = report.segments.iter().map(seen).max().unwrap_or(0);
        report.given_up = Some(survey.without(damage.segment, last_epoch_seen));
    }
    report.outcome = Some(outcome);
    Ok(report)
}

/// Puts a segment and every younger one aside, under names that are never read, so that the journal opens with what is
/// older. Returns the new names. Only for an operator who has read the report: every epoch in them is given up.
///
/// # Errors
/// When the journal is in use or the system refuses; what was renamed before stays renamed.
pub fn quarantine(disk: &Arc<dyn Disk>, from: SegmentId, holder: &Holder) -> Result<Vec<String>, OpenError> {
    let _lock = locked(&**disk, holder)?;
    let mut renamed = Vec::new();
    let listing = list(&**disk)?;
    for name in aside_of(&listing, from) {
        let aside = format!("{name}{QUARANTINE_SUFFIX}");
        disk.rename(&name, &aside).map_err(|error| OpenError::io(&name, "rename a segment", error))?;
        renamed.push(aside);
    }
    disk.sync_dir().map_err(|error| OpenError::io(".", "flush the directory", error))?;
    Ok(renamed)
}

// From the youngest down: whenever this is cut short, no younger segment stands without the one before it. What was
// being prepared is younger than all.
fn aside_of(listing: &Listing, from: SegmentId) -> Vec<String> {
    let segments = listing.segments.iter().rev().filter(|id| **id >= from).map(|id| name_of(*id));
    listing.unfinished.iter().cloned().chain(segments).collect()
}

fn locked(disk: &dyn Disk, holder: &Holder) -> Result<lock::DirLock, OpenError> {
    lock::acquire(disk, holder)
        .map_err(|error| OpenError::io(lock::LOCK_FILE, "take the lock", error))?
        .map_err(|holder| OpenError::Locked { dir: disk.label(), holder })
}

impl Survey<'_> {
    // Reads again as if a segment and every younger one were put aside, and more of them while that shows more damage.
    fn without(&self, mut from: SegmentId, last_epoch_seen: u64) -> GivenUp {
        loop {
            let (segments, given_up): (Vec<_>, Vec<_>) = self.listing.segments.iter().partition(|id| **id < from);
            let quarantined = self.listing.quarantined.iter().copied().chain(given_up).collect();
            let listing = Listing { segments, quarantined, ..Listing::default() };
            let left = Survey { listing: &listing, ..*self }.run(&mut |_: RecoveredGroup| Ok(()));
            match left {
                Err(OpenError::Damaged(damage)) if damage.segment < from => from = damage.segment,
                left => {
                    let aside = aside_of(self.listing, from);
                    return GivenUp { from, aside, last_epoch_seen, left: left.map(|found| found.recovery) };
                }
            }
        }
    }

    fn inspect(&self, id: SegmentId, report: &mut Report) -> Result<(), OpenError> {
        let name = name_of(id);
        let io = |error| OpenError::io(&name, "read a segment", error);
        let file = self.disk.open(&name).map_err(io)?;
        let mut raw = read_up_to(&*file, u64::MAX).map_err(io)?;
        let mut found = SegmentReport { file: name.clone(), bytes: raw.len() as u64, ..SegmentReport::default() };
        let mut damage = |offset, found: String, expected: &str, last_epoch| {
            let expected = expected.to_owned();
            report.damages.push(Damage { file: name.clone(), segment: id, offset, found, expected, last_epoch });
        };
        match self.segment(id, file) {
            Ok(Ok(segment)) => {
                let before = Before { epoch: segment.header.link.epoch, hash: None };
                let scan = scan(&mut raw, id, &segment.file.key, before);
                let behind = behind(&raw, id, scan.end);
                found.groups = scan.groups.len() as u64;
                found.claims = before.epoch;
                found.groups_behind = behind.groups;
                let epochs = scan.groups.first().zip(scan.groups.last());
                found.epochs = epochs.map(|(first, last)| (first.header.epoch, last.header.epoch));
                let last_epoch = found.epochs.map_or(before.epoch, |(_, last)| last);
                match scan.stop {
                    Stop::Hole(no_group) if behind.bytes > 0 => {
                        damage(scan.end, describe(&no_group), "a whole group, or zeros up to the end", last_epoch);
                    }
                    Stop::Hole(_) => {}
                    Stop::Broken { found, expected } => damage(scan.end, found, &expected, last_epoch),
                }
            }
            Ok(Err(no_header)) => {
                let behind = behind(&raw, id, HEADER_BYTES);
                found.groups_behind = behind.groups;
                if let NoHeader::Prepared(header) = &no_header {
                    found.claims = header.epoch;
                }
                match no_header {
                    NoHeader::Blank | NoHeader::Prepared(_) if behind.bytes == 0 => {}
                    NoHeader::Prepared(_) => {
                        damage(0, "no header, but something behind it".to_owned(), "a segment header", 0);
                    }
                    NoHeader::Blank => damage(0, "a header of zeros".to_owned(), "a segment header", 0),
                    NoHeader::Newer(version) => {
                        damage(8, format!("format version {version}"), "a version this code reads", 0);
                    }
                    NoHeader::Short(bytes) => damage(bytes, format!("a file of {bytes} bytes"), "4096 or more", 0),
                    NoHeader::Bad { offset, found, expected } => damage(offset, found, expected, 0),
                }
            }
            // A file that was cut, or another rack's or key's: part of the report, not the end of it.
            Err(OpenError::Damaged(cut)) => report.damages.push(cut),
            Err(OpenError::ForeignRack { found, expected, .. }) => {
                damage(16, format!("a segment of rack {found}"), &format!("one of rack {expected}"), 0);
            }
            Err(OpenError::KeyWrong { found, expected, .. }) => {
                damage(
                    80,
                    format!("a segment sealed under key {expected}"),
                    &format!("one under rack.key, {found}"),
                    0,
                );
            }
            Err(error) => return Err(error),
        }
        report.segments.push(found);
        Ok(())
    }
}
