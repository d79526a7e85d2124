//! What can be wrong with a scenario: each fault with its place in the file, all of them gathered before any is shown.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use super::tree::Pos;

/// A place in a scenario file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Where in it.
    pub pos: Pos,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.pos)
    }
}

/// One thing that is wrong with a scenario, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The place in the file.
    pub at: Location,
    /// The key, as a path from the top; empty when the fault says it itself.
    pub path: String,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "{}: {}", self.at, self.fault),
            path => write!(f, "{}: `{path}`: {}", self.at, self.fault),
        }
    }
}

/// What is wrong, without the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file cannot be read.
    #[error("found a file that cannot be read ({reason}), expected a scenario; remedy: check its name and rights")]
    Unreadable {
        /// What the system said.
        reason: String,
    },
    /// Bytes that are no text.
    #[error("found bytes that are not UTF-8, expected text; remedy: save the file as UTF-8")]
    Encoding,
    /// Over the budget of one file.
    #[error("found {found} bytes, expected at most {limit}; remedy: split the scenario")]
    TooLarge {
        /// Size of the file, or a size above the limit where reading stopped.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Over the budget of nesting.
    #[error("found more than {limit} maps and lists inside each other, expected at most that; remedy: flatten it")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// Not YAML.
    #[error("found what is no YAML ({found}), expected YAML; remedy: {remedy}")]
    Syntax {
        /// In the parser's words.
        found: String,
        /// What to try.
        remedy: &'static str,
    },
    /// More than are shown.
    #[error("found {found} more mistakes than are shown, expected none; remedy: correct these first")]
    More {
        /// How many.
        found: usize,
    },
    /// An anchor.
    #[error(
        "found an anchor (`&`), expected none: scenarios have no aliases; remedy: write the value out, or quote it"
    )]
    Anchor,
    /// An alias.
    #[error("found an alias (`*`), expected none: scenarios have no aliases; remedy: write the value out, or quote it")]
    Alias,
    /// A tag.
    #[error(
        "found a tag (`!`), expected none: the key says what its value is; remedy: leave it out, or quote the text"
    )]
    Tag,
    /// More than one document.
    #[error("found a second document (`---`), expected one; remedy: put it into a file of its own")]
    SecondDocument,
    /// A key that is a map or a list.
    #[error("found a map or a list as a key, expected a text; remedy: quote the key")]
    KeyKind,
    /// The same key again.
    #[error("found key `{key}` again (first in line {first_line}), expected each key once; remedy: remove one of them")]
    DuplicateKey {
        /// The key.
        key: String,
        /// Where it stood before.
        first_line: usize,
    },
    /// `${…}` that is none.
    #[error(
        "found {found}, expected `${{NAME}}` or `${{NAME:-default}}`; remedy: correct it, or write `$${{` for the text"
    )]
    Interpolation {
        /// What stands there.
        found: String,
    },
    /// A variable that is not set.
    #[error(
        "found no variable `{name}` in the environment, expected one; remedy: set it, or write `${{{name}:-default}}`"
    )]
    Variable {
        /// Its name.
        name: String,
    },
    /// A map where a list belongs, and the like.
    #[error("found {found}, expected {expected}; remedy: write it so")]
    Kind {
        /// What stands there.
        found: String,
        /// What belongs there.
        expected: String,
    },
    /// A key or value that its reader refuses, in the reader's words.
    #[error("{text}")]
    Refused {
        /// Found, expected and remedy.
        text: String,
    },
    /// A gear type that the catalog does not have.
    #[error("found `{found}`, which no gear is called, expected a type of the catalog; remedy: {remedy}")]
    UnknownType {
        /// What stands there.
        found: String,
        /// The nearest name, or how to see all.
        remedy: String,
    },
    /// Two things of one name.
    #[error("found `{name}` again (first in line {first_line}), expected each name once; remedy: rename one of them")]
    DuplicateName {
        /// The name.
        name: String,
        /// Where it stood before.
        first_line: usize,
    },
    /// Two gears that would listen on one address.
    #[error(
        "found `{found}`, on which gear `{other}` listens already, expected an address of its own; remedy: change one of them"
    )]
    BindClash {
        /// The address.
        found: String,
        /// The other gear.
        other: String,
    },
    /// `deploy` names what `racks` does not list.
    #[error("found `{found}`, expected a rack or group of `racks`; remedy: {remedy}")]
    UnknownRack {
        /// What stands there.
        found: String,
        /// The nearest name, or what to add.
        remedy: String,
    },
    /// A wire between racks without a bus.
    #[error(
        "wire `{wire}`: found ends on different racks and no bus between them, expected one; remedy: add `bus: nats://host:4222` or `bus: {{ managed: true, .. }}`, or give both gears the same `deploy`"
    )]
    NoBus {
        /// The wire.
        wire: String,
    },
    /// A wire on JetStream without a bus.
    #[error(
        "wire `{wire}`: found `jetstream` and no bus, expected one; remedy: add `bus: nats://host:4222` or `bus: {{ managed: true }}`, or leave `backend` out"
    )]
    NoBusForWire {
        /// The wire.
        wire: String,
    },
    /// A journal on JetStream without a bus.
    #[error(
        "found `jetstream` and no bus, expected one; remedy: add `bus: nats://host:4222` or `bus: {{ managed: true }}`, or use `file`"
    )]
    NoBusForJournal,
    /// A wire between racks of which each has a server of its own.
    #[error(
        "wire `{wire}`: found a bus that each rack runs for itself, expected one that both ends connect to; remedy: name the rack that runs it: `bus: {{ managed: true, rack: NAME, port: N, token: .. }}`"
    )]
    BusOfEach {
        /// The wire.
        wire: String,
    },
    /// A wire whose ends run together on some racks only.
    #[error(
        "wire `{wire}`: found ends that run together on some racks and alone on others, expected both on the same racks or on different ones; remedy: change `deploy`, or add a second gear of the same type"
    )]
    PartlyTogether {
        /// The wire.
        wire: String,
    },
    /// A turbo wire between racks.
    #[error(
        "wire `{wire}`: found a turbo wire between racks, expected a standard one; remedy: leave `lane` out, since what is on the bus is durable"
    )]
    TurboAcross {
        /// The wire.
        wire: String,
    },
    /// A gear that is called like an end of the bus.
    #[error(
        "found `{name}`, expected no name that begins with `{start}`, which the ends of the bus have; remedy: rename it"
    )]
    Reserved {
        /// The name.
        name: String,
        /// Its first letters.
        start: &'static str,
    },
    /// A key that has no effect beside another one.
    #[error("found it on a turbo wire, expected a standard one; remedy: leave it out, or make the wire standard")]
    Turbo,
    /// An end of a wire that is no gear.
    #[error("wire `{wire}`: found gear `{found}`, expected one of `gears`; remedy: {remedy}")]
    UnknownGear {
        /// The wire.
        wire: String,
        /// What stands there.
        found: String,
        /// The nearest name, or what to add.
        remedy: String,
    },
    /// An end of a wire at a gear without ports in that direction.
    #[error("wire `{wire}`: found gear `{gear}`, which has no {what}, expected one that has; remedy: {remedy}")]
    NoPorts {
        /// The wire.
        wire: String,
        /// The gear.
        gear: String,
        /// `inputs` or `outputs`.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// An end of a wire that is no port of its gear.
    #[error("wire `{wire}`: found port `{found}` of gear `{gear}`, expected one of {expected}; remedy: {remedy}")]
    UnknownPort {
        /// The wire.
        wire: String,
        /// The gear.
        gear: String,
        /// What stands there.
        found: String,
        /// Ports that there are, in the wire's direction.
        expected: String,
        /// The nearest name, or to use one of these.
        remedy: String,
    },
    /// What the runtime says of gears and wires together.
    #[error("{text}")]
    Plan {
        /// Where, found, expected and remedy.
        text: String,
    },
    /// Only a warning: what was durable before is not any more.
    #[error(
        "wire `{wire}`: found a turbo wire behind a standard one, expected durability to go on; remedy: make it standard, or accept that a crash loses what is on it"
    )]
    TurboBehindStandard {
        /// The wire.
        wire: String,
    },
}

/// Everything that is wrong with one scenario, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ScenarioErrors(pub Vec<Problem>);

impl fmt::Display for ScenarioErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, problem) in self.0.iter().enumerate() {
            let line_end = if idx == 0 { "" } else { "\n" };
            write!(f, "{line_end}{problem}")?;
        }
        Ok(())
    }
}

/// Problems as they are found.
#[derive(Debug)]
pub(crate) struct Problems {
    file: Arc<str>,
    found: Vec<Problem>,
    /// Where the first one was that is not kept, and how many there are.
    more: Option<(Pos, usize)>,
}

/// A file with more than that has one mistake many times.
const PROBLEMS_MAX: usize = 1000;

impl Problems {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: file.into(), found: Vec::new(), more: None }
    }

    pub(crate) fn add(&mut self, pos: Pos, path: impl Into<String>, fault: Fault) {
        if self.found.len() == PROBLEMS_MAX {
            self.more.get_or_insert((pos, 0)).1 += 1;
            return;
        }
        let at = Location { file: Arc::clone(&self.file), pos };
        self.found.push(Problem { at, path: path.into(), fault });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// In the order of the file, each once. What is said of a value whose variable is not there follows from that.
    pub(crate) fn into_vec(mut self) -> Vec<Problem> {
        let is_of_variable =
            |problem: &Problem| matches!(problem.fault, Fault::Variable { .. } | Fault::Interpolation { .. });
        let unset: BTreeSet<Pos> =
            self.found.iter().filter(|problem| is_of_variable(problem)).map(|problem| problem.at.pos).collect();
        let mut said = HashSet::new();
        self.found.retain(|problem| {
            (is_of_variable(problem) || !unset.contains(&problem.at.pos)) && said.insert(problem.to_string())
        });
        self.found.sort_by_key(|problem| problem.at.pos);
        if let Some((pos, found)) = self.more {
            let at = Location { file: self.file, pos };
            self.found.push(Problem { at, path: String::new(), fault: Fault::More { found } });
        }
        self.found
    }
}
