//! What became of everything that was asked, in five classes, and the first things that are wrong.
//! Only `ok` and `unknown` may be there when a rack keeps its word.

use std::fmt;

/// Wrong things that are written out; the rest is only counted.
const FINDINGS_MAX: usize = 12;

/// How many of each class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Seen as promised.
    pub ok: u64,
    /// Promised and not there.
    pub lost: u64,
    /// Handed over as *maybe sent*, once.
    pub unknown: u64,
    /// There twice without a word.
    pub duplicate: u64,
    /// There before what came before it.
    pub reordered: u64,
    /// Whatever nobody asked for: foreign lines, nonsense, answers to no question.
    pub foreign: u64,
    /// The first of what is wrong, in words.
    pub findings: Vec<String>,
}

impl Tally {
    /// Counts one more that is promised and not there.
    pub fn lost(&mut self, what: String) {
        self.lost += 1;
        self.find("lost", what);
    }

    /// Counts one more that is there twice.
    pub fn duplicate(&mut self, what: String) {
        self.duplicate += 1;
        self.find("duplicate", what);
    }

    /// Counts one more that came too early.
    pub fn reordered(&mut self, what: String) {
        self.reordered += 1;
        self.find("reordered", what);
    }

    /// Counts one more that nobody asked for.
    pub fn foreign(&mut self, what: String) {
        self.foreign += 1;
        self.find("foreign", what);
    }

    fn find(&mut self, class: &str, what: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(format!("{class}: {what}"));
        }
    }

    /// Whether the rack kept its word.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicate + self.reordered + self.foreign == 0
    }

    /// Adds another one.
    pub fn add(&mut self, other: Tally) {
        self.ok += other.ok;
        self.lost += other.lost;
        self.unknown += other.unknown;
        self.duplicate += other.duplicate;
        self.reordered += other.reordered;
        self.foreign += other.foreign;
        let room = FINDINGS_MAX.saturating_sub(self.findings.len());
        self.findings.extend(other.findings.into_iter().take(room));
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ok, lost, unknown, duplicate, reordered, foreign, .. } = self;
        write!(
            f,
            "{ok} ok, {lost} lost, {unknown} unknown, {duplicate} duplicate, {reordered} reordered, {foreign} foreign"
        )
    }
}
