//! What a run is asked, and what it says: options, faults fired, classes of effects, violations.

use std::collections::BTreeMap;
use std::fmt;

use super::keep::Storage;

/// A kind of fault that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` at a random time or in the middle of a disk operation.
    Kill,
    /// The power goes.
    Power,
    /// Failed writes and flushes.
    Flush,
    /// A full disk, later freed.
    Full,
    /// Endpoints that fail, panic, lose their link or are restarted.
    Endpoint,
    /// Gears that fail, panic or are restarted; wires that are restarted.
    Gear,
    /// A scenario that is another one after a restart.
    Scenario,
    /// A reboot with a wall clock that jumps.
    Clock,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Kill, Self::Power, Self::Flush, Self::Full, Self::Endpoint, Self::Gear, Self::Scenario, Self::Clock];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Power => "power",
            Self::Flush => "flush",
            Self::Full => "full",
            Self::Endpoint => "endpoint",
            Self::Gear => "gear",
            Self::Scenario => "scenario",
            Self::Clock => "clock",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }
}

/// How often each kind fired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(BTreeMap<Fault, u64>);

impl Faults {
    /// So many more.
    pub fn add(&mut self, fault: Fault, count: u64) {
        if count > 0 {
            *self.0.entry(fault).or_default() += count;
        }
    }

    /// How often.
    #[must_use]
    pub fn count(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or(0)
    }

    fn merge(&mut self, other: &Self) {
        for (&fault, &count) in &other.0 {
            self.add(fault, count);
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, fault) in Fault::ALL.into_iter().enumerate() {
            let space = if idx == 0 { "" } else { " " };
            write!(f, "{space}{}={}", fault.name(), self.count(fault))?;
        }
        Ok(())
    }
}

/// What a run is asked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Faults that may fire.
    pub faults: Vec<Fault>,
    /// What the journal is kept on.
    pub storage: Storage,
    /// Prints the ledger of a failing seed.
    pub is_verbose: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { faults: Fault::ALL.to_vec(), storage: Storage::Disk, is_verbose: false }
    }
}

impl Options {
    /// Whether this kind may fire.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}

/// How often the world saw what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// Effects seen once.
    pub ok: u64,
    /// Expected, acked, never seen: excused by the lane.
    pub lost: u64,
    /// Not acked and never seen, or reported as unknown.
    pub unknown: u64,
    /// Seen again: handed over as maybe sent, or excused by the lane.
    pub duplicate: u64,
    /// Seen in another order: excused by the lane.
    pub reordered: u64,
    /// Dead letters.
    pub dead: u64,
    /// Flagged as maybe sent, and never seen before.
    pub false_maybe_sent: u64,
}

/// One rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The check that found it.
    pub check: &'static str,
    /// What was found.
    pub found: String,
}

/// What one seed came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What was drawn from it.
    pub drawn: String,
    /// Faults that fired.
    pub fired: Faults,
    /// Classes of effects.
    pub classes: Classes,
    /// Processes started.
    pub starts: u64,
    /// Messages offered.
    pub offered: u64,
    /// Messages written again because their segment was to be deleted.
    pub carried: u64,
    /// Segments deleted.
    pub trimmed: u64,
    /// How often the journal was seen above its first watermark.
    pub watermarks: u64,
    /// How often a stand-by took over.
    pub take_overs: u64,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// Digest of the whole ledger.
    pub digest: u64,
    /// Broken rules.
    pub violations: Vec<Violation>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.drawn)?;
        writeln!(f, "  fired: {}", self.fired)?;
        let classes = self.classes;
        writeln!(
            f,
            "  ok={} lost={} unknown={} duplicate={} reordered={} dead={} false_maybe_sent={}",
            classes.ok,
            classes.lost,
            classes.unknown,
            classes.duplicate,
            classes.reordered,
            classes.dead,
            classes.false_maybe_sent
        )?;
        write!(
            f,
            "  starts={} offered={} carried={} trimmed={} watermarks={} take_overs={} virtual_ms={} digest={:016x}",
            self.starts,
            self.offered,
            self.carried,
            self.trimmed,
            self.watermarks,
            self.take_overs,
            self.virtual_ms,
            self.digest
        )?;
        for violation in self.violations.iter().take(8) {
            write!(f, "\n  VIOLATION {}: {}", violation.check, violation.found)?;
        }
        if self.violations.len() > 8 {
            write!(f, "\n  … and {} more", self.violations.len() - 8)?;
        }
        Ok(())
    }
}

/// Sums over many seeds.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Seeds run.
    pub seeds: u64,
    /// Faults fired.
    pub fired: Faults,
    /// Classes of effects.
    pub classes: Classes,
    /// Processes started.
    pub starts: u64,
    /// Messages offered.
    pub offered: u64,
    /// Messages carried.
    pub carried: u64,
    /// Segments trimmed.
    pub trimmed: u64,
    /// How often a journal was seen above its first watermark.
    pub watermarks: u64,
    /// How often a stand-by took over.
    pub take_overs: u64,
    /// Virtual time.
    pub virtual_ms: u64,
    /// Seeds with violations.
    pub failed: Vec<u64>,
}

impl Totals {
    /// Counts one seed in.
    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.fired.merge(&report.fired);
        let (sum, one) = (&mut self.classes, report.classes);
        sum.ok += one.ok;
        sum.lost += one.lost;
        sum.unknown += one.unknown;
        sum.duplicate += one.duplicate;
        sum.reordered += one.reordered;
        sum.dead += one.dead;
        sum.false_maybe_sent += one.false_maybe_sent;
        self.starts += report.starts;
        self.offered += report.offered;
        self.carried += report.carried;
        self.trimmed += report.trimmed;
        self.watermarks += report.watermarks;
        self.take_overs += report.take_overs;
        self.virtual_ms += report.virtual_ms;
        if !report.violations.is_empty() {
            self.failed.push(report.seed);
        }
    }

    /// Asked faults that never fired: such a run proves nothing about them.
    #[must_use]
    pub fn vacuous(&self, asked: &[Fault]) -> Vec<Fault> {
        asked.iter().copied().filter(|&fault| self.fired.count(fault) == 0).collect()
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.classes;
        writeln!(
            f,
            "{} seeds, {} process starts, {} messages offered, {} s of virtual time",
            self.seeds,
            self.starts,
            self.offered,
            self.virtual_ms / 1000
        )?;
        writeln!(f, "faults fired: {}", self.fired)?;
        writeln!(
            f,
            "ok={} lost={} unknown={} duplicate={} reordered={} dead={} false_maybe_sent={}",
            c.ok, c.lost, c.unknown, c.duplicate, c.reordered, c.dead, c.false_maybe_sent
        )?;
        writeln!(
            f,
            "(lost, duplicate and reordered are those that the lane allows or that were handed over as maybe sent)"
        )?;
        let Self { carried, trimmed, watermarks, take_overs, failed, .. } = self;
        write!(
            f,
            "carried={carried} trimmed={trimmed} watermarks={watermarks} take_overs={take_overs} failed={failed:?}"
        )
    }
}
