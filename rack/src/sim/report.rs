//! What a run says: totals by class, faults by kind, what broke a rule, and how to run it again.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value as Json, json};

use super::Options;
use super::plan::Fault;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub check: &'static str,
    /// What was found.
    pub found: String,
}

impl Violation {
    pub(super) fn new(check: &'static str, found: String) -> Self {
        Self { check, found }
    }
}

/// What one seed came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Terminals.
    pub terminals: usize,
    /// Requests that were planned.
    pub requests: usize,
    /// How often requests were sent, repeats included.
    pub sent: usize,
    /// Bytes that were no message.
    pub garbage: usize,
    /// Requests with an answer, by the code of the first.
    pub answered: BTreeMap<String, usize>,
    /// Of these, the ones that had none before terminals asked again in the end.
    pub answered_late: usize,
    /// Of these, the ones whose repeat was answered, too.
    pub answered_again: usize,
    /// Requests without any answer, where none is promised or they are dead letters.
    pub unanswered: usize,
    /// Messages that hosts have read.
    pub seen: usize,
    /// Dead letters by place and reason.
    pub letters: BTreeMap<String, usize>,
    /// Connections of terminals by how they ended.
    pub ended: BTreeMap<String, usize>,
    /// Faults that had an effect, by kind.
    pub fired: BTreeMap<Fault, u64>,
    /// Processes.
    pub starts: u64,
    /// Virtual time.
    pub virtual_ms: u64,
    /// The faults that were planned.
    pub plan: Vec<String>,
    /// Rules that were broken.
    pub violations: Vec<Violation>,
    /// All that the world outside noted, a line each.
    pub log: String,
}

impl Report {
    /// Whether every rule was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Json {
        let fired: BTreeMap<&str, u64> = self.fired.iter().map(|(fault, count)| (fault.name(), *count)).collect();
        let violations: Vec<Json> =
            self.violations.iter().map(|one| json!({ "check": one.check, "found": one.found })).collect();
        json!({
            "seed": self.seed, "terminals": self.terminals, "requests": self.requests, "sent": self.sent,
            "garbage": self.garbage, "answered": self.answered, "answered_late": self.answered_late,
            "answered_again": self.answered_again, "unanswered": self.unanswered, "seen_by_hosts": self.seen,
            "dead_letters": self.letters, "connections_ended": self.ended, "fired": fired, "starts": self.starts,
            "virtual_ms": self.virtual_ms, "plan": self.plan, "violations": violations,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, requests, terminals, starts, sent, garbage, seen, .. } = self;
        let seconds = self.virtual_ms as f64 / 1000.0;
        writeln!(
            f,
            "seed {seed}: {requests} requests of {terminals} terminals, {starts} starts, {seconds:.1} s of virtual time"
        )?;
        write_classes(f, self)?;
        writeln!(f, "  sent {sent} times, and garbage {garbage} times; hosts saw {seen} requests")?;
        for (letter, count) in &self.letters {
            writeln!(f, "  dead letters {count}: {letter}")?;
        }
        writeln!(f, "  connections ended: {}", listed(&self.ended))?;
        writeln!(f, "  faults with an effect: {}", fired(&self.fired))?;
        for violation in &self.violations {
            writeln!(f, "  broken: {}: {}", violation.check, violation.found)?;
        }
        Ok(())
    }
}

fn write_classes(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let answered: usize = report.answered.values().sum();
    let Report { answered_late, answered_again, unanswered, .. } = report;
    writeln!(
        f,
        "  answered {answered} ({}), {answered_late} of them only when asked again in the end, {answered_again} more than once; unanswered {unanswered}",
        listed(&report.answered)
    )
}

fn listed(counts: &BTreeMap<String, usize>) -> String {
    let name = |name: &str| if name.is_empty() { "without a code".to_owned() } else { name.to_owned() };
    let listed: Vec<String> = counts.iter().map(|(of, count)| format!("{}: {count}", name(of))).collect();
    if listed.is_empty() { "none".to_owned() } else { listed.join(", ") }
}

fn fired(counts: &BTreeMap<Fault, u64>) -> String {
    let listed: Vec<String> = counts.iter().map(|(fault, count)| format!("{} {count}", fault.name())).collect();
    if listed.is_empty() { "none".to_owned() } else { listed.join(", ") }
}

/// What many seeds came to.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// How many.
    pub seeds: u64,
    /// Those that broke a rule.
    pub failed: Vec<u64>,
    sum: Report,
}

impl Totals {
    /// Adds one.
    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        if !report.is_clean() {
            self.failed.push(report.seed);
        }
        let sum = &mut self.sum;
        sum.terminals += report.terminals;
        sum.requests += report.requests;
        sum.sent += report.sent;
        sum.garbage += report.garbage;
        sum.answered_late += report.answered_late;
        sum.answered_again += report.answered_again;
        sum.unanswered += report.unanswered;
        sum.seen += report.seen;
        sum.starts += report.starts;
        sum.virtual_ms += report.virtual_ms;
        report.answered.iter().for_each(|(code, count)| *sum.answered.entry(code.clone()).or_default() += count);
        report.letters.iter().for_each(|(letter, count)| *sum.letters.entry(letter.clone()).or_default() += count);
        report.ended.iter().for_each(|(why, count)| *sum.ended.entry(why.clone()).or_default() += count);
        report.fired.iter().for_each(|(fault, count)| *sum.fired.entry(*fault).or_default() += count);
    }

    /// Kinds of faults that were asked for and never had an effect: the run says nothing of them.
    #[must_use]
    pub fn vacuous(&self, options: &Options) -> Vec<Fault> {
        let is_silent = |fault: &Fault| self.sum.fired.get(fault).is_none_or(|count| *count == 0);
        options.faults.iter().copied().filter(is_silent).collect()
    }

    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Json {
        let mut json = self.sum.json();
        json["seeds"] = json!(self.seeds);
        json["failed"] = json!(self.failed);
        for of_one in ["seed", "plan", "violations"] {
            json.as_object_mut().map(|json| json.remove(of_one));
        }
        json
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { requests, terminals, starts, sent, garbage, seen, virtual_ms, .. } = &self.sum;
        let minutes = *virtual_ms as f64 / 60_000.0;
        let Self { seeds, failed, .. } = self;
        writeln!(
            f,
            "{seeds} seeds: {requests} requests of {terminals} terminals, {starts} starts, {minutes:.0} minutes of virtual time"
        )?;
        write_classes(f, &self.sum)?;
        writeln!(f, "  sent {sent} times, and garbage {garbage} times; hosts saw {seen} requests")?;
        for (letter, count) in &self.sum.letters {
            writeln!(f, "  dead letters {count}: {letter}")?;
        }
        writeln!(f, "  connections ended: {}", listed(&self.sum.ended))?;
        writeln!(f, "  faults with an effect: {}", fired(&self.sum.fired))?;
        writeln!(f, "  seeds that broke a rule: {}", failed.len())
    }
}

impl Options {
    /// What has to be said on a command line so that a run of a seed is asked the same.
    #[must_use]
    pub fn arguments(&self) -> String {
        let (default, mut text) = (Self::default(), String::new());
        let names: Vec<&str> = self.faults.iter().map(|fault| fault.name()).collect();
        if self.faults != default.faults {
            text.push_str(&format!(" --faults {}", if names.is_empty() { "none".to_owned() } else { names.join(",") }));
        }
        if self.requests != default.requests {
            text.push_str(&format!(" --requests {}", self.requests));
        }
        if self.span != default.span {
            text.push_str(&format!(" --seconds {}", self.span.as_secs()));
        }
        let only = |name: &str, numbers: &[usize]| {
            let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            format!(" --{name} {}", if numbers.is_empty() { "none".to_owned() } else { numbers.join(",") })
        };
        if let Some(faults) = &self.only_faults {
            text.push_str(&only("only-faults", faults));
        }
        if let Some(requests) = &self.only_requests {
            text.push_str(&only("only-requests", requests));
        }
        text
    }
}
