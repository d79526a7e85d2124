//! The shortest replay: a plan that failed is tried with fewer faults and fewer requests, as long as it breaks the same
//! rule. Each item of a plan is drawn by its own number, so that what is left stays what it was.

use super::plan::{Act, Plan};
use super::{Options, Report, Subject};

/// Runs that are tried at most.
const RUNS_MAX: usize = 400;

/// The smallest plan that was found.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What it is asked.
    pub options: Options,
    /// What it came to.
    pub report: Report,
    /// How many runs were tried.
    pub runs: usize,
}

/// Looks for a smaller plan of the same seed that breaks the first rule which `report` broke. Nothing where it broke none.
#[must_use]
pub fn shrink(subject: &Subject, report: &Report, options: &Options) -> Option<Shrunk> {
    let check = report.violations.first()?.check;
    let plan = Plan::draw(report.seed, &subject.stage, options);
    let faults: Vec<usize> = plan.faults.iter().map(|fault| fault.idx).collect();
    let requests: Vec<usize> = plan.requests.iter().map(|request| request.idx).collect();
    let mut search = Search { subject, check, best: (options.clone(), report.clone()), runs: 0 };
    search.options(|options| {
        options.only_faults = Some(faults.clone());
        options.only_requests = Some(requests.clone());
    });
    // Fewer of one kind often makes more of the other needless.
    for _ in 0..3 {
        let before = search.size();
        search.list(|options| &mut options.only_faults);
        search.list(|options| &mut options.only_requests);
        if search.size() == before {
            break;
        }
    }
    let (options, report) = search.best;
    Some(Shrunk { options, report, runs: search.runs })
}

struct Search<'a> {
    subject: &'a Subject,
    check: &'static str,
    best: (Options, Report),
    runs: usize,
}

impl Search<'_> {
    fn size(&self) -> usize {
        let len = |list: &Option<Vec<usize>>| list.as_ref().map_or(0, Vec::len);
        len(&self.best.0.only_faults) + len(&self.best.0.only_requests)
    }

    /// Tries other options; keeps them when the same rule breaks.
    fn options(&mut self, change: impl Fn(&mut Options)) -> bool {
        if self.runs >= RUNS_MAX {
            return false;
        }
        self.runs += 1;
        let mut options = self.best.0.clone();
        change(&mut options);
        let report = self.subject.run(self.best.1.seed, &options);
        let is_same = report.violations.iter().any(|violation| violation.check == self.check);
        if is_same {
            self.best = (options, report);
        }
        is_same
    }

    /// Takes away parts of a list, half of it at first, one by one in the end (delta debugging).
    fn list(&mut self, of: fn(&mut Options) -> &mut Option<Vec<usize>>) {
        let mut list = of(&mut self.best.0.clone()).clone().unwrap_or_default();
        let mut part = list.len().div_ceil(2);
        while part > 0 && !list.is_empty() {
            let mut at = 0;
            while at < list.len() {
                let mut less = list.clone();
                less.drain(at..(at + part).min(list.len()));
                if self.options(|options| *of(options) = Some(less.clone())) {
                    list = less;
                } else {
                    at += part;
                }
            }
            part = if part == 1 { 0 } else { part.div_ceil(2) };
        }
    }
}

/// What is left of a plan, a line each, for a person who reads a replay.
#[must_use]
pub(super) fn told(plan: &Plan) -> Vec<String> {
    let mut lines: Vec<_> = plan.faults.iter().map(|fault| (fault.at, fault.to_string())).collect();
    for request in &plan.requests {
        let what = match request.act {
            Act::Ask { repeat_after: Some(after) } => {
                format!("asks, and again after {} ms without an answer", after.as_millis())
            }
            Act::Ask { repeat_after: None } => "asks".to_owned(),
            Act::Garbage => "sends garbage".to_owned(),
            Act::HangUp => "hangs up".to_owned(),
        };
        let at = request.at.as_secs_f64();
        lines.push((request.at, format!("request {} at {at:.3} s: terminal {} {what}", request.idx, request.terminal)));
    }
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}
