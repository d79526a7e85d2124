//! The judgement: what the world outside noted, against the few rules that a switch promises. It counts and compares; it
//! knows nothing of how the runtime keeps its word.

mod sendings;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fluxrig_actors::Lane;
use fluxrig_gears::sim::Heard;

use super::ledger::Event;
use super::plan::{Act, Fault, Plan};
use super::report::{Report, Violation};
use super::stage::{Entrance, Promise};
use super::{Subject, shrink};

/// Violations of one rule that are listed; a run that goes wrong mostly goes wrong often.
const LISTED_MAX: usize = 5;
/// What says that a request was granted.
const GRANTED: &str = "00";

/// All that is known of a run.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    pub(super) events: Vec<(u64, Event)>,
    pub(super) heard: Vec<(u64, Heard)>,
    pub(super) letters: Vec<Letter>,
    /// What the run itself found.
    pub(super) violations: Vec<Violation>,
}

/// A dead letter.
#[derive(Debug)]
pub(super) struct Letter {
    /// The request that it is of, as far as it can be known.
    pub(super) request: Option<usize>,
    pub(super) place: String,
    pub(super) reason: String,
}

/// What became of one request.
#[derive(Default)]
struct Story {
    sent: Vec<(u64, u64)>,
    answers: Vec<(u64, u64, String)>,
    seen: Vec<u64>,
    silent: Option<u64>,
}

/// One run, to be judged.
struct Case<'a> {
    subject: &'a Subject,
    plan: &'a Plan,
    evidence: &'a Evidence,
    stories: BTreeMap<usize, Story>,
    found: Vec<Violation>,
}

pub(super) fn check(subject: &Subject, plan: &Plan, evidence: &Evidence) -> Report {
    let mut case = Case { subject, plan, evidence, stories: BTreeMap::new(), found: evidence.violations.clone() };
    case.read_events();
    case.read_lines();
    case.judge_answers();
    case.judge_sendings();
    case.report()
}

impl Case<'_> {
    fn find(&mut self, rule: &'static str, found: String) {
        if self.found.iter().filter(|violation| violation.check == rule).count() < LISTED_MAX {
            self.found.push(Violation::new(rule, found));
        }
    }

    fn read_events(&mut self) {
        for (at, event) in &self.evidence.events {
            match event {
                Event::Sent { request, connection, .. } => self.story(*request).sent.push((*at, *connection)),
                Event::Answer { request, connection, code } => {
                    self.story(*request).answers.push((*at, *connection, code.clone()));
                }
                Event::Silent { request, connection } => self.story(*request).silent = Some(*connection),
                Event::Wrong { connection, what } => {
                    self.find("wrong answer", format!("{what}, on connection {connection} at {at} us"));
                }
                _ => {}
            }
        }
    }

    fn story(&mut self, request: usize) -> &mut Story {
        self.stories.entry(request).or_default()
    }

    /// Whether what had happened is still known after everything that this plan does to the process.
    fn is_durable(&self) -> bool {
        let has = |fault| self.plan.faults.iter().any(|planned| planned.what.kind() == fault);
        match self.subject.stage.lane {
            Lane::Turbo => !has(Fault::Kill) && !has(Fault::Power),
            Lane::Os => !has(Fault::Power),
            Lane::Flush => true,
        }
    }

    fn promise(&self, request: usize) -> Promise {
        let promise = self.entrance(request).map(|entrance| entrance.promise);
        match (promise, self.subject.traffic.answers) {
            (Some(promise), None | Some(true)) => promise,
            _ => Promise::Nothing,
        }
    }

    fn judge_answers(&mut self) {
        let stories = std::mem::take(&mut self.stories);
        let dead: BTreeSet<usize> = self.evidence.letters.iter().filter_map(|letter| letter.request).collect();
        for (number, story) in &stories {
            let number = *number;
            let is_promised = matches!(self.promise(number), Promise::Outcome(_));
            for (at, connection, code) in &story.answers {
                if !story.sent.iter().any(|(_, over)| over == connection) {
                    let found = format!("request {number}, which connection {connection} never made, at {at} us");
                    self.find("answer to the wrong connection", found);
                }
                self.judge_code(number, code);
            }
            if is_promised && story.answers.len() > story.sent.len() {
                let found =
                    format!("request {number}: {} answers, asked {} times", story.answers.len(), story.sent.len());
                self.find("answered more often than asked", found);
            }
            if is_promised && !dead.contains(&number) {
                if let Some(connection) = story.silent {
                    let found = format!("request {number} on connection {connection}, which lived on");
                    self.find("no outcome", found);
                } else if story.answers.is_empty() && !story.sent.is_empty() {
                    let found =
                        format!("request {number}, asked {} times, in the end without faults", story.sent.len());
                    self.find("never answered", found);
                }
            }
            self.judge_consistency(number, story);
        }
        self.stories = stories;
    }

    /// What a terminal was granted no later answer takes back.
    fn judge_consistency(&mut self, number: usize, story: &Story) {
        let window = self.window();
        let granted = story.answers.iter().find(|(_, _, code)| code == GRANTED);
        if let (Some((at, ..)), Some(window), true) = (granted, window, self.is_durable())
            && let Some((later, _, code)) = story
                .answers
                .iter()
                .find(|(later, _, code)| later > at && u128::from(later - at) < window.as_micros() && code != GRANTED)
        {
            self.find("an answer was taken back", format!("request {number}: `{code}` at {later} us"));
        }
    }

    /// How long a switch of the scenario remembers.
    fn window(&self) -> Option<Duration> {
        self.subject.stage.exits.iter().filter_map(|exit| exit.once_within).min()
    }

    fn judge_code(&mut self, number: usize, code: &str) {
        let Some(entrance) = self.entrance(number) else { return };
        let expect =
            self.subject.traffic.template(self.plan.seed, number, &entrance.gear).map(|template| &template.expect);
        if expect.is_some_and(|expect| !expect.is_empty() && !expect.iter().any(|one| one == code)) {
            self.find("unexpected answer", format!("request {number}: code `{code}`"));
        }
    }

    fn entrance(&self, number: usize) -> Option<&Entrance> {
        let planned = self.plan.requests.iter().find(|planned| planned.idx == number)?;
        Some(&self.subject.stage.entrances[self.plan.terminals[planned.terminal]])
    }

    fn report(self) -> Report {
        let mut report = Report { violations: self.found, ..Report::default() };
        let count = |of: &dyn Fn(&Event) -> bool| self.evidence.events.iter().filter(|(_, event)| of(event)).count();
        report.terminals = self.plan.terminals.len();
        report.requests = self.plan.requests.iter().filter(|request| matches!(request.act, Act::Ask { .. })).count();
        report.garbage = count(&|event| matches!(event, Event::Garbage { .. }));
        report.sent = count(&|event| matches!(event, Event::Sent { .. }));
        report.seen = self.stories.values().map(|story| story.seen.len()).sum();
        let again =
            self.evidence.events.iter().find(|(_, event)| *event == Event::Again).map_or(u64::MAX, |(at, _)| *at);
        for story in self.stories.values().filter(|story| !story.sent.is_empty()) {
            match story.answers.first() {
                Some((at, _, code)) => {
                    *report.answered.entry(code.clone()).or_default() += 1;
                    report.answered_late += usize::from(*at > again);
                    report.answered_again += usize::from(story.answers.len() > 1);
                }
                None => report.unanswered += 1,
            }
        }
        for (_, event) in &self.evidence.events {
            if let Event::Ended { why, .. } = event {
                *report.ended.entry((*why).to_owned()).or_default() += 1;
            }
        }
        for letter in &self.evidence.letters {
            *report.letters.entry(format!("{}: {}", letter.place, letter.reason)).or_default() += 1;
        }
        report.plan = shrink::told(self.plan);
        report
    }
}
