//! Which dead letters are meant, and how many there are: by gear, wire, reason, age and number.
//! A name that nothing has is an error with the nearest one, never an empty list.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::letters::LetterError;
use super::running::RunningRig;
use crate::plan::nearest;
use crate::tap::matches;
use crate::wire::{Body, DeadNote};

/// Of a reason in an error about reasons.
const REASON_CHARS_MAX: usize = 60;

/// Which dead letters are meant. What is set narrows it; the default means all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LetterFilter {
    /// These numbers; none is any.
    pub seqs: Vec<u64>,
    /// No younger one than this number.
    pub to_seq: Option<u64>,
    /// Of gears with such a name; `*` stands for any text.
    pub gear: Option<String>,
    /// That came on wires with such a name; `*` stands for any text.
    pub wire: Option<String>,
    /// With this text in the reason; `*` stands for any text.
    pub reason: Option<String>,
    /// That came here at this time or later, in nanoseconds since the Unix epoch.
    pub since_ns: Option<i64>,
}

impl LetterFilter {
    /// One letter, by its number.
    #[must_use]
    pub fn seq(seq: u64) -> Self {
        Self { seqs: vec![seq], ..Self::default() }
    }

    fn takes(&self, seq: u64, note: &DeadNote) -> bool {
        let is_named = |pattern: &Option<String>, name: &str| pattern.as_ref().is_none_or(|like| matches(like, name));
        (self.seqs.is_empty() || self.seqs.contains(&seq))
            && self.to_seq.is_none_or(|to| seq <= to)
            && is_named(&self.gear, &note.gear)
            && is_named(&self.wire, &note.wire)
            && self.reason.as_ref().is_none_or(|part| is_in(part, &note.reason))
            && self.since_ns.is_none_or(|since| note.at_ns >= since)
    }
}

/// Whether the text stands somewhere in the reason.
fn is_in(part: &str, reason: &str) -> bool {
    matches(&format!("*{part}*"), reason)
}

/// Dead letters of one gear with one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterCount {
    /// The gear that could not handle them.
    pub gear: SmolStr,
    /// Why.
    pub reason: SmolStr,
    /// How many.
    pub count: usize,
    /// When the oldest of them came here, in nanoseconds since the Unix epoch.
    pub oldest_ns: i64,
    /// When the youngest of them came here, in nanoseconds since the Unix epoch.
    pub newest_ns: i64,
    /// The highest of their numbers.
    pub last_seq: u64,
}

/// A letter before its message is read.
pub(super) type Found = (u64, Body, Arc<DeadNote>);

impl RunningRig {
    /// How many dead letters of each gear have each reason, most first.
    ///
    /// # Errors
    /// When nothing has a name, or no letter a number, that the filter says.
    pub fn count_letters(&self, filter: &LetterFilter) -> Result<Vec<LetterCount>, LetterError> {
        let mut counts: BTreeMap<(SmolStr, SmolStr), LetterCount> = BTreeMap::new();
        for (seq, _, note) in self.chosen(filter)? {
            let key = (note.gear.clone(), note.reason.clone());
            let count = counts.entry(key).or_insert_with(|| LetterCount {
                gear: note.gear.clone(),
                reason: note.reason.clone(),
                count: 0,
                oldest_ns: note.at_ns,
                newest_ns: note.at_ns,
                last_seq: seq,
            });
            count.count += 1;
            count.oldest_ns = count.oldest_ns.min(note.at_ns);
            count.newest_ns = count.newest_ns.max(note.at_ns);
            count.last_seq = count.last_seq.max(seq);
        }
        let mut counts: Vec<LetterCount> = counts.into_values().collect();
        counts.sort_by_key(|count| std::cmp::Reverse(count.count));
        Ok(counts)
    }

    /// The numbers of the dead letters that are meant, oldest first.
    ///
    /// # Errors
    /// As for [`RunningRig::count_letters`].
    pub fn letter_seqs(&self, filter: &LetterFilter) -> Result<Vec<u64>, LetterError> {
        Ok(self.chosen(filter)?.into_iter().map(|(seq, ..)| seq).collect())
    }

    /// The letters that are meant, oldest first, without reading what is on the disk.
    pub(super) fn chosen(&self, filter: &LetterFilter) -> Result<Vec<Found>, LetterError> {
        let mut is_empty = true;
        let found: Vec<Found> = self.node.dead.peek(|entry| {
            is_empty = false;
            let note = entry.dead.as_ref()?;
            filter.takes(entry.seq, note).then(|| (entry.seq, entry.body.clone(), Arc::clone(note)))
        });
        if found.len() < filter.seqs.len().max(1) {
            self.check(filter, is_empty)?;
        }
        Ok(found)
    }

    /// Whether what the filter names is there; called when too little was found.
    fn check(&self, filter: &LetterFilter, is_empty: bool) -> Result<(), LetterError> {
        let there = self.node.dead.peek(|entry| Some((entry.seq, entry.dead.clone()?)));
        if let Some(&seq) = filter.seqs.iter().find(|seq| there.iter().all(|(other, _)| other != *seq)) {
            return Err(LetterError::Unknown { seq });
        }
        let notes = || there.iter().map(|(_, note)| note);
        let gears = self.node.cells.iter().map(|cell| &cell.name).chain(notes().map(|note| &note.gear));
        let wires = self.node.wires.iter().map(|wire| &wire.name).chain(notes().map(|note| &note.wire));
        unknown(&filter.gear, gears).map_or(Ok(()), |(found, near)| Err(LetterError::NoGear { found, near }))?;
        unknown(&filter.wire, wires).map_or(Ok(()), |(found, near)| Err(LetterError::NoWireLike { found, near }))?;
        match &filter.reason {
            // Where there is no letter, no reason is wrong.
            Some(found) if !is_empty && !notes().any(|note| is_in(found, &note.reason)) => {
                let near = nearest(found, notes().map(|note| &*note.reason));
                // An excerpt is not like any whole reason; the newest one shows at least what they look like.
                let near = near.or_else(|| notes().next_back().map(|note| &*note.reason));
                Err(LetterError::NoReason { found: found.clone(), near: near.map(excerpt) })
            }
            _ => Ok(()),
        }
    }
}

/// As much of a reason as helps to tell it from others.
fn excerpt(reason: &str) -> String {
    match reason.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}

/// The pattern, and the nearest name, when it is like no name.
fn unknown<'a>(
    pattern: &Option<String>,
    names: impl Iterator<Item = &'a SmolStr> + Clone,
) -> Option<(String, Option<String>)> {
    let found = pattern.as_ref()?;
    if names.clone().any(|name| matches(found, name)) {
        return None;
    }
    Some((found.clone(), nearest(found, names.map(SmolStr::as_str)).map(str::to_owned)))
}
