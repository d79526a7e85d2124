//! The files of a journal in memory, and what can be done to them on the disk.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::tried;

const CHUNK: usize = 4096;
/// Groups begin at multiples of this.
const ALIGN: usize = 512;
const GROUP_MAGIC: &[u8] = b"FLXG";
/// What a segment that was begun starts with.
const MAGIC: &[u8] = b"FLUXJRNL";
/// What one starts with that is only prepared.
const PREPARED_MAGIC: &[u8] = b"FLUXNEXT";
/// What a rack writes into it with every start, and with every look.
const LOCK: &str = "lock";

/// All files of a journal, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    pub(super) fn load(journal: &Path) -> Result<Self, String> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(journal).map_err(tried("the journal"))? {
            let entry = entry.map_err(tried("the journal"))?;
            let bytes = match std::fs::read(entry.path()) {
                Ok(bytes) => bytes,
                // A rack that runs renames and deletes meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(tried("the journal")(error)),
            };
            files.insert(entry.file_name().to_string_lossy().into_owned(), bytes);
        }
        Ok(Self(files))
    }

    /// Makes the folder anew.
    pub(super) fn write(&self, journal: &Path) -> Result<(), String> {
        drop(std::fs::remove_dir_all(journal));
        std::fs::create_dir_all(journal).map_err(tried("the journal"))?;
        self.0.keys().try_for_each(|name| self.put(journal, name))
    }

    fn put(&self, journal: &Path, name: &str) -> Result<(), String> {
        let path = journal.join(name);
        match self.0.get(name) {
            Some(bytes) => std::fs::write(path, bytes).map_err(tried(name)),
            None => std::fs::remove_file(path).map_err(tried(name)),
        }
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &String> {
        self.0.keys().filter(|name| name.ends_with(".seg"))
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether a segment stands prepared, or half prepared, which knows of the one before.
    pub(super) fn has_next(&self) -> bool {
        self.0.values().any(|bytes| bytes.starts_with(PREPARED_MAGIC))
    }

    /// The rack that the oldest segment with a header names.
    pub(super) fn rack(&self) -> [u8; 16] {
        let headed = self.segments().filter_map(|name| self.0.get(name)).find(|bytes| bytes.starts_with(MAGIC));
        headed.and_then(|bytes| bytes.get(16..32)?.try_into().ok()).unwrap_or_default()
    }

    /// Whether nothing but the lock differs.
    pub(super) fn is_as(&self, other: &Files) -> bool {
        let but_lock = |files: &Files| {
            files
                .0
                .iter()
                .filter(|(name, _)| *name != LOCK)
                .map(|(name, bytes)| (name.clone(), bytes.clone()))
                .collect::<Vec<_>>()
        };
        but_lock(self) == but_lock(other)
    }

    fn any(&self, chance: &mut Chance) -> String {
        let segments: Vec<&String> = self.segments().collect();
        segments[chance.below(segments.len() as u64) as usize].clone()
    }
}

/// One damage. The changes are whole files with their new contents, or none.
pub(super) struct Damage {
    kind: &'static str,
    text: String,
    changes: Vec<(String, Option<Vec<u8>>)>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.text)
    }
}

impl Damage {
    pub(super) const KINDS: [&str; 6] = ["bit flip", "truncation", "old chunk", "missing", "swapped", "foreign"];

    /// Mostly bit flips.
    pub(super) fn choose(round: u64, now: &Files, old: &Files, foreign: &Files, chance: &mut Chance) -> Self {
        let name = now.any(chance);
        match round % 20 {
            1 | 7 | 13 => Self::truncation(now, name, chance),
            2 | 8 | 14 => Self::old_chunk(now, old, name, chance),
            5 => Self::missing(now, name, chance),
            10 => Self::swapped(now, name, chance),
            15 => Self::foreign(now, foreign, name, chance),
            _ => Self::bit_flip(now, name, chance),
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(super) fn is_foreign(&self) -> bool {
        self.kind == "foreign"
    }

    /// Whether the newest segment that was begun is gone as a whole, or blank.
    pub(super) fn takes_newest(&self, now: &Files) -> bool {
        let newest = now.segments().filter(|name| now.0[*name].starts_with(MAGIC)).last();
        let is_gone = |bytes: &Option<Vec<u8>>| bytes.iter().flatten().all(|byte| *byte == 0);
        self.changes.iter().any(|(name, bytes)| Some(name) == newest && is_gone(bytes))
    }

    /// Whether the newest segment has no group any more behind what was put back: nothing is left that could prove it.
    pub(super) fn takes_tail(&self, now: &Files) -> bool {
        let newest = now.segments().filter(|name| now.0[*name].starts_with(MAGIC)).last();
        self.kind == "old chunk"
            && self.changes.iter().any(|(name, bytes)| {
                let bytes = bytes.as_deref().unwrap_or_default();
                let same = bytes.iter().zip(&now.0[name]).take_while(|(one, two)| one == two).count();
                let from = same - same % CHUNK;
                Some(name) == newest && !bytes[from..].chunks(ALIGN).any(|sector| sector.starts_with(GROUP_MAGIC))
            })
    }

    fn bit_flip(now: &Files, mut name: String, chance: &mut Chance) -> Self {
        if chance.percent(3) {
            name = "rack.key".to_owned();
        }
        let mut bytes = now.0[&name].clone();
        // Half of them where there is something: files are zeroed ahead of what is written.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |end| end + 1);
        let end = if chance.percent(75) { used } else { bytes.len() };
        let at = chance.below(end as u64) as usize;
        let bit = chance.below(8);
        bytes[at] ^= 1 << bit;
        Self { kind: "bit flip", text: format!("in {name}+{at}, bit {bit}"), changes: vec![(name, Some(bytes))] }
    }

    fn truncation(now: &Files, name: String, chance: &mut Chance) -> Self {
        let mut bytes = now.0[&name].clone();
        let cut = 1 + chance.zipf(bytes.len() as u64 - 1) as usize;
        bytes.truncate(bytes.len() - cut);
        Self { kind: "truncation", text: format!("of {name} by {cut} bytes"), changes: vec![(name, Some(bytes))] }
    }

    /// A chunk as it was before, as a disk that lost a write would give it back.
    fn old_chunk(now: &Files, old: &Files, name: String, chance: &mut Chance) -> Self {
        let mut found = Vec::new();
        for (name, bytes) in &now.0 {
            let before = old.0.get(name).filter(|_| name.ends_with(".seg"));
            for at in (0..bytes.len()).step_by(CHUNK) {
                let end = (at + CHUNK).min(bytes.len());
                let chunk = before.map_or(&[0; CHUNK][..end - at], |before| before.get(at..end).unwrap_or_default());
                if chunk.len() == end - at && chunk != &bytes[at..end] && name.ends_with(".seg") {
                    found.push((name.clone(), at, chunk.to_vec()));
                }
            }
        }
        if found.is_empty() {
            return Self::truncation(now, name, chance);
        }
        let (name, at, chunk) = found.swap_remove(chance.below(found.len() as u64) as usize);
        let mut bytes = now.0[&name].clone();
        bytes[at..at + chunk.len()].copy_from_slice(&chunk);
        Self { kind: "old chunk", text: format!("in {name}+{at}"), changes: vec![(name, Some(bytes))] }
    }

    fn missing(_now: &Files, name: String, chance: &mut Chance) -> Self {
        let name = if chance.percent(20) { "rack.key".to_owned() } else { name };
        Self { kind: "missing", text: name.clone(), changes: vec![(name, None)] }
    }

    fn swapped(now: &Files, name: String, chance: &mut Chance) -> Self {
        let others: Vec<&String> = now.segments().filter(|other| **other != name).collect();
        let other = others[chance.below(others.len() as u64) as usize].clone();
        let text = format!("{name} and {other}");
        let (one, two) = (now.0[&name].clone(), now.0[&other].clone());
        Self { kind: "swapped", text, changes: vec![(name, Some(two)), (other, Some(one))] }
    }

    fn foreign(now: &Files, foreign: &Files, name: String, chance: &mut Chance) -> Self {
        let change = |name: &str, from: &str| (name.to_owned(), foreign.0.get(from).cloned());
        let other = foreign.any(chance);
        let (text, changes) = match chance.below(3) {
            0 => ("key of another rack".to_owned(), vec![change("rack.key", "rack.key")]),
            1 => (format!("segment in place of {name}"), vec![change(&name, &other)]),
            _ => {
                let next = format!("{:08x}.seg", 1 + now.segments().count() as u64 + 0x1000);
                (format!("segment {next} beside ours"), vec![change(&next, &other)])
            }
        };
        Self { kind: "foreign", text, changes }
    }

    pub(super) fn apply(&self, journal: &Path) -> Result<(), String> {
        let damaged =
            Files(self.changes.iter().filter_map(|(name, bytes)| Some((name.clone(), bytes.clone()?))).collect());
        self.changes.iter().try_for_each(|(name, _)| damaged.put(journal, name))
    }

    pub(super) fn take_back(&self, journal: &Path, now: &Files) -> Result<(), String> {
        self.changes.iter().try_for_each(|(name, _)| now.put(journal, name))
    }
}
