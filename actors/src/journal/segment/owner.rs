//! Whose directory this is: told apart from one that is no journal, and named for whoever came here by mistake.
//! What names it is a text beside the journal, believed only where its hash stands in a segment.

use std::{collections::BTreeMap, io};

use super::super::{
    disk::{Disk, read_up_to},
    lock::LOCK_FILE,
    seal::KEY_FILE,
};
use super::{
    OpenError,
    file::name_of,
    format::{HEADER_BYTES, NoHeader, SegmentHeader},
    rack_id,
    survey::{Listing, list},
};

const NAME_FILE: &str = "rack.name";
/// Longest name that is read back.
const NAME_BYTES_MAX: u64 = 256;
/// What a file system, not a person, puts into an empty directory.
const OF_THE_SYSTEM: &str = "lost+found";

/// The rack whose journal a directory holds: the one that its name file and a segment name, else the one that most
/// segments name. `None` when there is no segment that says so.
///
/// # Errors
/// When the directory holds no journal but something else, or the system refuses.
pub fn owner(disk: &dyn Disk) -> Result<Option<[u8; 16]>, OpenError> {
    let listing = list(disk)?;
    check_is_journal(disk, &listing)?;
    let mut counts: BTreeMap<[u8; 16], usize> = BTreeMap::new();
    for id in &listing.segments {
        let name = name_of(*id);
        let raw = disk.open(&name).and_then(|file| read_up_to(&*file, HEADER_BYTES));
        match SegmentHeader::decode(&raw.map_err(|error| OpenError::io(&name, "read a segment", error))?) {
            Ok(header) => *counts.entry(header.rack).or_default() += 1,
            Err(NoHeader::Prepared(header)) => *counts.entry(header.rack).or_default() += 1,
            Err(_) => {}
        }
    }
    let named = read_name(disk).map(|name| rack_id(&name)).filter(|rack| counts.contains_key(rack));
    Ok(named.or_else(|| counts.into_iter().max_by_key(|(_, count)| *count).map(|(rack, _)| rack)))
}

/// A directory that holds no journal is taken only when it is empty: what is in it is somebody else's.
pub(in crate::journal) fn check_is_journal(disk: &dyn Disk, listing: &Listing) -> Result<(), OpenError> {
    let is_ours =
        listing.has_key || listing.is_on_stream || !listing.segments.is_empty() || !listing.quarantined.is_empty();
    match &listing.stranger {
        Some(file) if !is_ours => Err(OpenError::NoJournal { dir: disk.label(), file: file.clone() }),
        _ => Ok(()),
    }
}

/// Whether a file of this name says nothing about whose directory it is in.
pub(super) fn is_of_nobody(name: &str) -> bool {
    // What an earlier start that was cut short has left, too.
    name == LOCK_FILE
        || name == NAME_FILE
        || name.starts_with(KEY_FILE)
        || name == OF_THE_SYSTEM
        || name.starts_with('.')
}

/// How a rack is called in an error: by its name where that is known, else by its id.
pub(super) fn called(disk: &dyn Disk, rack: [u8; 16], name: &str) -> String {
    let is_its = |name: &String| rack_id(name) == rack;
    let known = Some(name.to_owned()).filter(is_its).or_else(|| read_name(disk).filter(is_its));
    match known {
        Some(name) => format!("`{name}`"),
        None => rack.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

fn read_name(disk: &dyn Disk) -> Option<String> {
    let raw = disk.open(NAME_FILE).and_then(|file| read_up_to(&*file, NAME_BYTES_MAX)).ok()?;
    String::from_utf8(raw).ok().map(|text| text.trim_end().to_owned())
}

/// Leaves the rack's name in its directory. Nothing depends on it, so a disk that refuses is no obstacle.
pub(in crate::journal) fn leave_name(disk: &dyn Disk, name: &str) {
    if name.is_empty() || read_name(disk).as_deref() == Some(name) {
        return;
    }
    let write = || -> io::Result<()> {
        match disk.remove(NAME_FILE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        disk.create_new(NAME_FILE)?.write_at(format!("{name}\n").as_bytes(), 0)
    };
    if let Err(error) = write() {
        tracing::debug!(%error, "the rack's name was not left in its data directory");
    }
}
