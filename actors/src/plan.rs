//! The checked plan of a rig: parts, wires, and what each door can reach. Nothing starts before it is whole.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use fluxrig_supervision::{Backoff, Restart};
use smol_str::SmolStr;

use crate::endpoint::AnyEndpoint;
use crate::gear::AnyGear;
use crate::port::Ports;
use crate::wire::{Lane, WireOptions};

/// How the supervisor of one gear behaves; the defaults of DESIGN §8.
#[derive(Clone, Debug)]
pub struct Supervision {
    /// When it is started again.
    pub restart: Restart,
    /// More restarts than this within `within`, and the gear is failed.
    pub max_restarts: u32,
    /// See `max_restarts`.
    pub within: Duration,
    /// Wait before a restart.
    pub backoff: Backoff,
    /// One message that takes longer is reported as stuck.
    pub handle_timeout: Duration,
}

impl Default for Supervision {
    fn default() -> Self {
        Self {
            restart: Restart::Permanent,
            max_restarts: 5,
            within: Duration::from_secs(60),
            backoff: Backoff::new(Duration::from_millis(10), Duration::from_secs(5)),
            handle_timeout: Duration::from_secs(1),
        }
    }
}

/// What a part of a rig is.
#[derive(Clone)]
pub(crate) enum Role {
    Gear(Arc<dyn AnyGear>),
    Endpoint(Arc<dyn AnyEndpoint>),
}

/// One gear or endpoint, as the rig was told.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) name: SmolStr,
    pub(crate) role: Role,
    pub(crate) ports: Ports,
    pub(crate) supervision: Supervision,
    /// State is durable even when no wire of the gear is standard.
    pub(crate) is_state_durable: bool,
}

impl Part {
    pub(crate) fn is_endpoint(&self) -> bool {
        matches!(self.role, Role::Endpoint(_))
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match &self.role {
            Role::Gear(gear) => gear.type_name(),
            Role::Endpoint(endpoint) => endpoint.type_name(),
        }
    }
}

/// A wire as the rig was told: `gear.port`, or `gear` for its first port.
#[derive(Clone)]
pub(crate) struct WireAsk {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) options: WireOptions,
}

/// A wire whose ends are found.
pub(crate) struct Line {
    pub(crate) name: SmolStr,
    pub(crate) from: (usize, usize),
    pub(crate) to: (usize, usize),
    pub(crate) options: WireOptions,
}

/// A rig that can run.
pub(crate) struct Plan {
    pub(crate) parts: Vec<Part>,
    pub(crate) lines: Vec<Line>,
    /// Instances of each part.
    pub(crate) partitions: Vec<NonZeroU32>,
}

/// Everything that is wrong with a rig, all at once.
#[derive(Debug, thiserror::Error)]
pub struct PlanErrors(pub Vec<PlanError>);

impl fmt::Display for PlanErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, error) in self.0.iter().enumerate() {
            let line_end = if idx == 0 { "" } else { "\n" };
            write!(f, "{line_end}{error}")?;
        }
        Ok(())
    }
}

/// One thing that is wrong with a rig.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Two parts of one name.
    #[error("gear `{name}`: found twice, expected each name once; remedy: rename one of them")]
    DuplicateName {
        /// The name.
        name: SmolStr,
    },
    /// A name that subjects and paths cannot carry.
    #[error("gear `{name}`: {reason}")]
    BadName {
        /// The name.
        name: SmolStr,
        /// What is wrong with it.
        reason: String,
    },
    /// An end of a wire that is no gear.
    #[error("wire `{wire}`: found gear `{found}`, expected one of the rig; remedy: {remedy}")]
    UnknownGear {
        /// The wire.
        wire: String,
        /// What it names.
        found: String,
        /// The nearest name, or how to add one.
        remedy: String,
    },
    /// An end of a wire that is no port.
    #[error("wire `{wire}`: found port `{found}`, expected {expected}; remedy: use a port that is there")]
    UnknownPort {
        /// The wire.
        wire: String,
        /// What it names.
        found: String,
        /// The ports that there are in the wire's direction, or that there are none.
        expected: String,
    },
    /// The same wire again.
    #[error("wire `{wire}`: found twice, expected each pair of ports once; remedy: remove one of them")]
    DuplicateWire {
        /// The wire.
        wire: String,
    },
    /// An input that nothing feeds.
    #[error(
        "gear `{gear}`: found input `{port}` without a wire, expected at least one; remedy: wire something to `{gear}.{port}`"
    )]
    Unwired {
        /// The gear.
        gear: SmolStr,
        /// The port.
        port: SmolStr,
    },
    /// A required output that leads nowhere.
    #[error(
        "gear `{gear}`: found output `{port}` without a wire, expected at least one; remedy: wire `{gear}.{port}` to something"
    )]
    UnwiredOutput {
        /// The gear.
        gear: SmolStr,
        /// The port.
        port: SmolStr,
    },
    /// An input that says it feeds what is no output: doors would look past the wires behind it.
    #[error(
        "gear `{gear}`: found input `{port}` that feeds `{found}`, expected one of its outputs; remedy: name it as `ports` does"
    )]
    UnknownFeed {
        /// The gear.
        gear: SmolStr,
        /// The input.
        port: SmolStr,
        /// What it names.
        found: SmolStr,
    },
    /// Inputs of one gear that are partitioned differently.
    #[error(
        "gear `{gear}`: found inputs with {found} partitions, expected the same number on all; remedy: set `partitions` alike on every wire into it"
    )]
    Partitions {
        /// The gear.
        gear: SmolStr,
        /// The numbers found.
        found: String,
    },
    /// A partitioned wire into an endpoint.
    #[error(
        "wire `{wire}`: found partitions into an endpoint, expected none; remedy: partition the wire into a gear before it"
    )]
    PartitionedEndpoint {
        /// The wire.
        wire: String,
    },
    /// A standard wire without a journal.
    #[error(
        "wire `{wire}`: found a standard wire in a rig without a journal, expected one; remedy: give the rig a journal, or make the wire turbo"
    )]
    NoJournal {
        /// The wire.
        wire: String,
    },
    /// Durable state without a journal.
    #[error(
        "gear `{gear}`: found durable state in a rig without a journal, expected one; remedy: give the rig a journal, or leave out `durable_state`"
    )]
    NoJournalForState {
        /// The gear.
        gear: SmolStr,
    },
    /// A gear with reply ports that does not say what its inputs feed.
    #[error(
        "gear `{gear}`: found reply ports and an input `{port}` that says not what it feeds, expected all to say; remedy: declare it with `input_feeding`"
    )]
    Feeds {
        /// The gear.
        gear: SmolStr,
        /// The input.
        port: SmolStr,
    },
    /// A loop of gears through which a message could run for ever.
    #[error(
        "gear `{gear}`: found a cycle of gears through it, expected an endpoint in every cycle; remedy: break the cycle, or answer through an endpoint"
    )]
    Cycle {
        /// A gear on the cycle.
        gear: SmolStr,
    },
    /// A number that makes no sense.
    #[error("wire `{wire}`: found `{setting}` = {found}, expected {expected}; remedy: set it so")]
    Setting {
        /// The wire.
        wire: String,
        /// The setting.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A number of the rig's settings with which nothing would ever move.
    #[error("settings: found `{setting}` = 0, expected at least 1; remedy: raise it, or leave it at its default")]
    Settings {
        /// The setting.
        setting: &'static str,
    },
    /// A number of the journal's with which its doors would never open.
    #[error("journal: found `{setting}` = {found}, expected {expected}; remedy: set it so, or leave it at its default")]
    Journal {
        /// The setting.
        setting: &'static str,
        /// Its value.
        found: u64,
        /// What it may be.
        expected: String,
    },
    /// Limits raised.
    #[error("limits: {reason}")]
    Limits {
        /// What is wrong.
        reason: String,
    },
}

impl Plan {
    /// Checks to the end and says everything that is wrong.
    pub(crate) fn check(parts: Vec<Part>, asks: Vec<WireAsk>, has_journal: bool) -> Result<Self, PlanErrors> {
        let mut errors = Vec::new();
        let mut by_name = HashMap::new();
        for (idx, part) in parts.iter().enumerate() {
            if let Err(error) = part.name.parse::<fluxrig_protocol::subject::Name>() {
                errors.push(PlanError::BadName { name: part.name.clone(), reason: error.to_string() });
            }
            if by_name.insert(part.name.clone(), idx).is_some() {
                errors.push(PlanError::DuplicateName { name: part.name.clone() });
            }
            if part.is_state_durable && !has_journal {
                errors.push(PlanError::NoJournalForState { gear: part.name.clone() });
            }
        }
        let mut seen = BTreeSet::new();
        let mut lines = Vec::new();
        for ask in asks {
            let wire = format!("{}->{}", ask.from, ask.to);
            let from = find(&parts, &by_name, &wire, &ask.from, Side::Output, &mut errors);
            let to = find(&parts, &by_name, &wire, &ask.to, Side::Input, &mut errors);
            check_options(&wire, &ask.options, has_journal, &mut errors);
            let (Some(from), Some(to)) = (from, to) else { continue };
            let name: SmolStr = format!(
                "{}.{}->{}.{}",
                parts[from.0].name,
                parts[from.0].ports.outputs[from.1].name,
                parts[to.0].name,
                parts[to.0].ports.inputs[to.1].name
            )
            .into();
            if !seen.insert((from, to)) {
                errors.push(PlanError::DuplicateWire { wire: name.to_string() });
            }
            if ask.options.partitions.get() > 1 && parts[to.0].is_endpoint() {
                errors.push(PlanError::PartitionedEndpoint { wire: name.to_string() });
            }
            lines.push(Line { name, from, to, options: ask.options });
        }
        let partitions = check_parts(&parts, &lines, &mut errors);
        check_cycles(&parts, &lines, &mut errors);
        if errors.is_empty() { Ok(Self { parts, lines, partitions }) } else { Err(PlanErrors(errors)) }
    }

    /// Strongest durability among the wires of a part.
    pub(crate) fn lane_of(&self, part_idx: usize) -> Lane {
        let part = &self.parts[part_idx];
        let floor = if part.is_state_durable { Lane::Flush } else { Lane::Turbo };
        let touching = self.lines.iter().filter(|line| line.from.0 == part_idx || line.to.0 == part_idx);
        touching.map(|line| line.options.lane).fold(floor, Lane::max)
    }

    /// Wires that can be reached from an output port through gears; endpoints end the walk (HEART §3.2).
    pub(crate) fn reach(&self, part_idx: usize, port_idx: usize) -> BTreeSet<usize> {
        let lines = self.lines.iter().enumerate().filter(|(_, line)| line.from == (part_idx, port_idx));
        self.reach_of(lines.map(|(line_idx, _)| line_idx))
    }

    /// These wires, and what can be reached from them.
    pub(crate) fn reach_of(&self, lines: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut ahead: VecDeque<usize> = lines.into_iter().collect();
        while let Some(line_idx) = ahead.pop_front() {
            let (to, input_idx) = self.lines[line_idx].to;
            if !reached.insert(line_idx) || self.parts[to].is_endpoint() {
                continue;
            }
            let feeds = |&(part_idx, port_idx): &(usize, usize)| {
                part_idx == to && self.parts[to].ports.feeds(input_idx, port_idx)
            };
            ahead.extend((0..self.lines.len()).filter(|&idx| feeds(&self.lines[idx].from)));
        }
        reached
    }

    /// Whether every wire of an output port ends in a reply port, through gears (a codec) or at once.
    pub(crate) fn is_reply_door(&self, part_idx: usize, port_idx: usize) -> bool {
        let mut lines = self.lines.iter().filter(|line| line.from == (part_idx, port_idx)).peekable();
        lines.peek().is_some() && lines.all(|line| self.leads_to_replies(line.to))
    }

    /// Whether an input is a reply port, or feeds outputs that lead to reply ports only. No cycle: that was refused.
    fn leads_to_replies(&self, (part_idx, input_idx): (usize, usize)) -> bool {
        let part = &self.parts[part_idx];
        if part.is_endpoint() || part.ports.inputs[input_idx].is_reply {
            return part.ports.inputs[input_idx].is_reply;
        }
        let is_wired = |&port_idx: &usize| self.lines.iter().any(|line| line.from == (part_idx, port_idx));
        let fed = (0..part.ports.outputs.len()).filter(|&port_idx| part.ports.feeds(input_idx, port_idx));
        let mut fed = fed.filter(is_wired).peekable();
        fed.peek().is_some() && fed.all(|port_idx| self.is_reply_door(part_idx, port_idx))
    }

    /// The wires whose room a door looks at.
    pub(crate) fn door_set(&self, part_idx: usize, port_idx: usize) -> BTreeSet<usize> {
        let mut set = self.reach(part_idx, port_idx);
        if self.is_reply_door(part_idx, port_idx) {
            // An endpoint that may itself be waiting for these replies must not keep them out.
            set.retain(|&line_idx| {
                let to = self.lines[line_idx].to.0;
                !(self.parts[to].is_endpoint() && self.waits_for(to, part_idx))
            });
        }
        set
    }

    /// Whether a door of `waiting` can stay closed until `endpoint` has taken something: then it waits for it.
    fn waits_for(&self, waiting: usize, endpoint: usize) -> bool {
        if waiting == endpoint {
            return true;
        }
        let outputs = self.parts[waiting].ports.outputs.len();
        (0..outputs)
            .any(|port_idx| self.reach(waiting, port_idx).iter().any(|&line_idx| self.lines[line_idx].to.0 == endpoint))
    }
}

#[derive(Clone, Copy)]
enum Side {
    Input,
    Output,
}

fn find(
    parts: &[Part],
    by_name: &HashMap<SmolStr, usize>,
    wire: &str,
    end: &str,
    side: Side,
    errors: &mut Vec<PlanError>,
) -> Option<(usize, usize)> {
    let (gear, port) = end.split_once('.').map_or((end, None), |(gear, port)| (gear, Some(port)));
    let Some(&part_idx) = by_name.get(gear) else {
        let nearest = nearest(gear, parts.iter().map(|part| part.name.as_str()));
        let remedy = nearest.map_or_else(|| "add a gear of that name".to_owned(), |name| format!("use `{name}`"));
        errors.push(PlanError::UnknownGear { wire: wire.to_owned(), found: gear.to_owned(), remedy });
        return None;
    };
    let ports = &parts[part_idx].ports;
    let names: Vec<&SmolStr> = match side {
        Side::Input => ports.inputs.iter().map(|port| &port.name).collect(),
        Side::Output => ports.outputs.iter().map(|port| &port.name).collect(),
    };
    let port_idx = match port {
        None => (!names.is_empty()).then_some(0),
        Some(port) => names.iter().position(|name| *name == port),
    };
    if port_idx.is_none() {
        let listed: Vec<String> = names.iter().map(|name| format!("`{gear}.{name}`")).collect();
        let expected = match (side, listed.is_empty()) {
            (_, false) => format!("one of {}", listed.join(", ")),
            (Side::Input, true) => format!("none, since `{gear}` has no inputs"),
            (Side::Output, true) => format!("none, since `{gear}` has no outputs"),
        };
        errors.push(PlanError::UnknownPort { wire: wire.to_owned(), found: end.to_owned(), expected });
    }
    port_idx.map(|port_idx| (part_idx, port_idx))
}

/// The name that is fewest edits away, if it is near enough to be meant.
pub fn nearest<'a>(found: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (edits(found, name), name))
        .min()
        .filter(|(edits, name)| *edits <= 1 + name.len() / 3)
        .map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours between two names.
fn edits(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
    for row in 0..=left.len() {
        for column in 0..=right.len() {
            if row == 0 || column == 0 {
                rows[row][column] = row + column;
                continue;
            }
            let is_same = left[row - 1] == right[column - 1];
            let mut best = rows[row - 1][column - 1] + usize::from(!is_same);
            best = best.min(rows[row - 1][column] + 1).min(rows[row][column - 1] + 1);
            if row > 1 && column > 1 && left[row - 1] == right[column - 2] && left[row - 2] == right[column - 1] {
                best = best.min(rows[row - 2][column - 2] + 1);
            }
            rows[row][column] = best;
        }
    }
    rows[left.len()][right.len()]
}

fn check_options(wire: &str, options: &WireOptions, has_journal: bool, errors: &mut Vec<PlanError>) {
    let mut setting = |setting, found: String, expected| {
        errors.push(PlanError::Setting { wire: wire.to_owned(), setting, found, expected });
    };
    if options.capacity == 0 {
        setting("capacity", "0".into(), "at least 1");
    }
    if options.memory_window < 512 {
        setting("memory_window", options.memory_window.to_string(), "at least 512");
    }
    if options.partitions.get() > 1 && options.partition_by.is_none() {
        setting("partition_by", "nothing".into(), "the path of the key when `partitions` is above 1");
    }
    if options.retention.is_some() && !options.lane.is_standard() {
        setting("retention", "a value, on a turbo wire".into(), "a standard wire, whose messages are in the journal");
    }
    if options.lane.is_standard() && !has_journal {
        errors.push(PlanError::NoJournal { wire: wire.to_owned() });
    }
}

fn check_parts(parts: &[Part], lines: &[Line], errors: &mut Vec<PlanError>) -> Vec<NonZeroU32> {
    let mut partitions = Vec::with_capacity(parts.len());
    for (part_idx, part) in parts.iter().enumerate() {
        let into = || lines.iter().filter(|line| line.to.0 == part_idx);
        for (port_idx, port) in part.ports.inputs.iter().enumerate() {
            if port.is_required && !into().any(|line| line.to.1 == port_idx) {
                errors.push(PlanError::Unwired { gear: part.name.clone(), port: port.name.clone() });
            }
            if port.feeds.is_none() && part.ports.inputs.iter().any(|port| port.is_reply) {
                errors.push(PlanError::Feeds { gear: part.name.clone(), port: port.name.clone() });
            }
            for found in port.feeds.iter().flatten().filter(|name| part.ports.output_idx(name).is_none()) {
                let (gear, port, found) = (part.name.clone(), port.name.clone(), found.clone());
                errors.push(PlanError::UnknownFeed { gear, port, found });
            }
        }
        for (port_idx, port) in part.ports.outputs.iter().enumerate().filter(|(_, port)| port.is_required) {
            if !lines.iter().any(|line| line.from == (part_idx, port_idx)) {
                errors.push(PlanError::UnwiredOutput { gear: part.name.clone(), port: port.name.clone() });
            }
        }
        let numbers: BTreeSet<NonZeroU32> = into().map(|line| line.options.partitions).collect();
        if numbers.len() > 1 {
            let found = numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
            errors.push(PlanError::Partitions { gear: part.name.clone(), found });
        }
        partitions.push(numbers.into_iter().next().unwrap_or(NonZeroU32::MIN));
    }
    partitions
}

/// Finds output ports from which a walk through gears alone comes back. Coming back to the gear is not enough: its
/// reply port may feed other outputs only, and then no message runs for ever.
fn check_cycles(parts: &[Part], lines: &[Line], errors: &mut Vec<PlanError>) {
    let suspects = behind_cycles(parts, lines);
    for (start, part) in parts.iter().enumerate().filter(|(_, part)| !part.is_endpoint()) {
        let mut ports = (0..part.ports.outputs.len()).map(|port_idx| (start, port_idx));
        if ports.any(|port| suspects.contains(&port) && comes_back(parts, lines, port)) {
            errors.push(PlanError::Cycle { gear: part.name.clone() });
            // One gear of the cycle names it; the others would only repeat it.
            return;
        }
    }
}

/// Output ports of gears that are on a cycle or behind one: what is left when ports that nothing left feeds are taken
/// away again and again. One pass over all wires, where walking from every port would be one for each.
fn behind_cycles(parts: &[Part], lines: &[Line]) -> BTreeSet<(usize, usize)> {
    let mut next: HashMap<(usize, usize), Vec<(usize, usize)>> = HashMap::new();
    let mut feeders: HashMap<(usize, usize), usize> = HashMap::new();
    for line in lines.iter().filter(|line| !parts[line.from.0].is_endpoint() && !parts[line.to.0].is_endpoint()) {
        let (to, input_idx) = line.to;
        for port_idx in (0..parts[to].ports.outputs.len()).filter(|&idx| parts[to].ports.feeds(input_idx, idx)) {
            next.entry(line.from).or_default().push((to, port_idx));
            *feeders.entry((to, port_idx)).or_default() += 1;
        }
    }
    let mut left: BTreeSet<(usize, usize)> = next.keys().chain(feeders.keys()).copied().collect();
    let mut free: Vec<(usize, usize)> = left.iter().filter(|port| !feeders.contains_key(port)).copied().collect();
    while let Some(port) = free.pop() {
        left.remove(&port);
        for fed in next.get(&port).into_iter().flatten() {
            let count = feeders.get_mut(fed).expect("whatever is fed was counted");
            *count -= 1;
            if *count == 0 {
                free.push(*fed);
            }
        }
    }
    left
}

fn comes_back(parts: &[Part], lines: &[Line], start: (usize, usize)) -> bool {
    let mut ports = VecDeque::from([start]);
    let mut walked = BTreeSet::new();
    while let Some(port) = ports.pop_front() {
        for line in lines.iter().filter(|line| line.from == port) {
            let (to, input_idx) = line.to;
            let part = &parts[to];
            let fed =
                (0..part.ports.outputs.len()).filter(|&idx| part.ports.feeds(input_idx, idx)).map(|idx| (to, idx));
            for port in fed.filter(|_| !part.is_endpoint()) {
                if port == start {
                    return true;
                }
                if walked.insert(port) {
                    ports.push_back(port);
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests;
