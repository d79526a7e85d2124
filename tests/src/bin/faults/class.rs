//! What a class of faults is, what it is asked for, and what it reports.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fluxrig_tests::outside::World;
use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::session::Session;
use fluxrig_tests::outside::tally::Tally;

use super::{
    backlog, clock, cluster, damage, eio, full, kill, netns, overload, panic, partition, pause, reset, server,
    server_full, soak, syscall, tail, takeover,
};

/// Why a class ended before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// This machine lacks what it needs.
    Skipped(String),
    /// A promise was broken, or the fault could not be made.
    Broken(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Broken(why)
    }
}

/// A class of faults.
pub(crate) struct Class {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Faults of a full run.
    pub(crate) full: u64,
    /// Faults of the slice that CI runs.
    pub(crate) slice: u64,
    pub(crate) run: fn(&Ask, u64, &mut Chance, &mut Report) -> Result<(), Stop>,
}

pub(crate) const CLASSES: &[Class] = &[
    Class {
        name: "kill",
        about: "`kill -9` at random moments, start-up and recovery among them",
        full: 240,
        slice: 16,
        run: kill::run,
    },
    Class {
        name: "syscall",
        about: "killed at the nth call of the system, swept over n and calls",
        full: 520,
        slice: 10,
        run: syscall::run,
    },
    Class {
        name: "damage",
        about: "bits flipped, files cut, missing, swapped, foreign, old chunks put back, below a rack that is down",
        full: 2000,
        slice: 150,
        run: damage::run,
    },
    Class {
        name: "eio",
        about: "the disk refuses to write or to flush, once or for a while",
        full: 60,
        slice: 6,
        run: eio::run,
    },
    Class {
        name: "pause",
        about: "the process stands still: 2 s in a slice, 30 to 60 s in full",
        full: 6,
        slice: 2,
        run: pause::run,
    },
    Class {
        name: "reset",
        about: "peers that reset their connections mid-message and with requests open",
        full: 600,
        slice: 20,
        run: reset::run,
    },
    Class {
        name: "full",
        about: "the data directory's file system full, then read-only, on a tmpfs of its own",
        full: 24,
        slice: 2,
        run: full::run,
    },
    Class {
        name: "panic",
        about: "a gear that always panics: drained to dead letters, or failed with its wire held, its siblings unharmed",
        full: 2000,
        slice: 200,
        run: panic::run,
    },
    Class {
        name: "overload",
        about: "a consumer that is not there, and one terminal of 500 that asks without end and never reads",
        full: 6,
        slice: 2,
        run: overload::run,
    },
    Class {
        name: "backlog",
        about: "lines that wait on one wire while their consumer is away, and a `kill -9` on top of them",
        full: 1_000_000,
        slice: 20_000,
        run: backlog::run,
    },
    Class {
        name: "clock",
        about: "the wall clock an hour forward and back, by libfaketime",
        full: 12,
        slice: 4,
        run: clock::run,
    },
    Class {
        name: "takeover",
        about: "the holder of a journal on JetStream killed, paused beyond its lease or stopped; its stand-by goes on",
        full: 50,
        slice: 2,
        run: takeover::run,
    },
    Class {
        name: "server",
        about: "the server of a bus killed or standing still, and racks killed: a wire between two, and a journal on it",
        full: 160,
        slice: 4,
        run: server::run,
    },
    Class {
        name: "partition",
        about: "what lies between racks and server stands still, or cuts all connections",
        full: 80,
        slice: 3,
        run: partition::run,
    },
    Class {
        name: "netns",
        about: "links between racks and server lose packets, one way or both, by network namespaces; holders and stand-bys",
        full: 72,
        slice: 6,
        run: netns::run,
    },
    Class {
        name: "cluster",
        about: "one of three servers killed, in turn, with `durability: replicated`",
        full: 60,
        slice: 1,
        run: cluster::run,
    },
    Class {
        name: "server-full",
        about: "the file system of the server's store full, on a tmpfs of its own",
        full: 12,
        slice: 2,
        run: server_full::run,
    },
    Class {
        name: "server-tail",
        about: "the server's store cut back while it is down: named, effects stop, nothing doubled",
        full: 10,
        slice: 2,
        run: tail::run,
    },
];

/// Not among the classes: it takes its time. Its rounds are minutes.
pub(crate) const SOAK: Class = Class {
    name: "soak",
    about: "so many minutes at half of peak, with kills and connections that break: nothing grows, nothing is missing",
    full: 10,
    slice: 1,
    run: soak::run,
};

/// What is asked for on the command line.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) daemon: PathBuf,
    pub(crate) seed: u64,
    pub(crate) rounds: Option<u64>,
    pub(crate) is_slice: bool,
    /// Set by the suite itself, in the namespaces that it has made for a class.
    pub(crate) is_inside: bool,
    /// Rules of the runtime are broken, to see that this is noticed.
    pub(crate) has_mutants: bool,
}

/// All there is to say.
pub(crate) fn usage() -> String {
    let mut text = "usage: faults [CLASS…] [--rounds N] [--seed N] [--slice] [--daemon PATH]\n\n  \
         --rounds N     so many faults of each class, in place of the figures below\n  \
         --seed N       what chooses the faults; default 1\n  \
         --slice        few of each, for a minute of CI\n  \
         --daemon PATH  the binary `fluxrig`; default: beside this one\n\nclasses, with their faults in full and in a slice:\n"
        .to_owned();
    for Class { name, about, full, slice, .. } in CLASSES.iter().chain([&SOAK]) {
        text.push_str(&format!("  {name:11} {full:7} {slice:5}  {about}\n"));
    }
    text
}

impl Ask {
    /// Reads the arguments; `None` when help is asked for.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<(Vec<&'static Class>, Self)>, String> {
        let beside = std::env::current_exe().map_err(|error| error.to_string())?.with_file_name("fluxrig");
        let mut ask =
            Self { daemon: beside, seed: 1, rounds: None, is_slice: false, is_inside: false, has_mutants: false };
        let mut classes = Vec::new();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("`{arg}` needs a value"));
            let number = |text: String| text.parse().map_err(|_| format!("`{arg} {text}`: expected a number"));
            match arg.as_str() {
                "--help" | "-h" => return Ok(None),
                "--seed" => ask.seed = number(value()?)?,
                "--rounds" => ask.rounds = Some(number(value()?)?),
                "--slice" => ask.is_slice = true,
                "--inside" => ask.is_inside = true,
                "--mutants" if cfg!(feature = "mutants") => ask.has_mutants = true,
                "--daemon" => ask.daemon = value()?.into(),
                name => {
                    let class = CLASSES.iter().chain([&SOAK]).find(|class| class.name == name);
                    classes.push(class.ok_or_else(|| format!("`{name}` is no class of faults"))?);
                }
            }
        }
        if !ask.daemon.is_file() {
            return Err(format!(
                "{}: no such program; build `fluxrig`, or name it by `--daemon`",
                ask.daemon.display()
            ));
        }
        if classes.is_empty() {
            classes.extend(CLASSES);
        }
        Ok(Some((classes, ask)))
    }

    /// How many faults of a class.
    pub(crate) fn rounds_of(&self, class: &Class) -> u64 {
        self.rounds.unwrap_or(if self.is_slice { class.slice } else { class.full })
    }

    /// What runs a class like this again.
    pub(crate) fn again(&self, class: &Class, rounds: u64) -> String {
        let slice = if self.is_slice { " --slice" } else { "" };
        if class.name == SOAK.name {
            return format!("cargo xtask soak --minutes {rounds} --seed {}", self.seed);
        }
        format!("cargo xtask faults {} --rounds {rounds} --seed {}{slice}", class.name, self.seed)
    }
}

/// What a class has come to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Faults that fired, by kind. A kind that is asked for stands here with 0 from the beginning.
    fired: BTreeMap<String, u64>,
    tally: Tally,
    longest_away: Duration,
    longest_start: Duration,
    notes: Vec<String>,
}

impl Report {
    /// Says that a kind of fault is asked for.
    pub(crate) fn expect(&mut self, kind: &str) {
        self.fired.entry(kind.to_owned()).or_default();
    }

    /// One fault has fired.
    pub(crate) fn fired(&mut self, kind: &str) {
        self.fired_times(kind, 1);
    }

    /// So many faults have fired.
    pub(crate) fn fired_times(&mut self, kind: &str, times: u64) {
        *self.fired.entry(kind.to_owned()).or_default() += times;
    }

    /// How many faults have fired.
    #[cfg(feature = "mutants")]
    pub(crate) fn total(&self) -> u64 {
        self.fired.values().sum()
    }

    /// A kind that never fired, or the word for no kind at all.
    pub(crate) fn vacuous(&self) -> Option<&str> {
        let silent = self.fired.iter().find(|(_, times)| **times == 0).map(|(kind, _)| kind.as_str());
        silent.or(self.fired.is_empty().then_some("any fault"))
    }

    /// Takes over what a session came to, whether it held or not.
    pub(crate) fn session<W: World>(&mut self, session: &mut Session<W>) {
        self.tally.add(std::mem::take(&mut session.tally));
        self.longest_away = self.longest_away.max(session.longest_away);
        self.longest_start = self.longest_start.max(session.longest_start);
    }

    /// What a class has judged itself.
    pub(crate) fn tally(&mut self, tally: Tally) {
        self.tally.add(tally);
    }

    /// One more line for the reader.
    pub(crate) fn note(&mut self, text: String) {
        self.notes.push(text);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: u64 = self.fired.values().sum();
        let kinds: Vec<String> = self.fired.iter().map(|(kind, times)| format!("{kind} {times}")).collect();
        writeln!(f, "  {total} faults fired: {}", kinds.join(", "))?;
        writeln!(f, "  {}", self.tally)?;
        if self.longest_away > Duration::ZERO {
            let [away, start] = [self.longest_away, self.longest_start].map(|time| time.as_millis());
            writeln!(f, "  longest from an end to the next answer {away} ms, from a start {start} ms")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))
    }
}

/// Refuses to go on without strace.
pub(crate) fn needs_strace(notes: &Path) -> Result<(), Stop> {
    let notes = notes.display().to_string();
    let arguments = ["-D", "-f", "-qq", "-o", &notes, "-e", "trace=fsync", "true"];
    let status = Command::new("strace").args(arguments).stderr(Stdio::null()).status();
    if status.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(Stop::Skipped("strace cannot be started here; remedy: install it, and allow ptrace".to_owned()))
}

#[cfg(test)]
mod tests {
    //! What is asked for is what runs, and a run without its fault does not pass.

    #![allow(clippy::unwrap_used, reason = "a test ends where anything is not as it should be")]

    use super::*;

    fn parse(line: &str) -> Result<Option<(Vec<&'static str>, Ask)>, String> {
        // Any file stands for the binary here.
        let own = std::env::current_exe().unwrap().display().to_string();
        let words = line.split_whitespace().map(str::to_owned).chain(["--daemon".to_owned(), own]);
        let found = Ask::parse(words)?;
        Ok(found.map(|(classes, ask)| (classes.iter().map(|class| class.name).collect(), ask)))
    }

    #[test]
    fn all_classes_or_those_that_are_named() {
        let (classes, ask) = parse("").unwrap().unwrap();
        assert_eq!((classes.len(), ask.seed, ask.rounds_of(&CLASSES[0])), (CLASSES.len(), 1, CLASSES[0].full));
        let (classes, ask) = parse("kill --seed 7 pause --slice").unwrap().unwrap();
        assert_eq!((classes, ask.seed, ask.rounds_of(&CLASSES[0])), (vec!["kill", "pause"], 7, CLASSES[0].slice));
        assert_eq!(parse("--rounds 3").unwrap().unwrap().1.rounds_of(&CLASSES[0]), 3);
        assert!(parse("--help").unwrap().is_none());
        for wrong in ["earthquake", "--seed x", "--rounds"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(CLASSES.iter().all(|class| usage().contains(class.name)));
    }

    #[test]
    fn a_fault_that_never_fired_is_named() {
        let mut report = Report::default();
        assert_eq!(report.vacuous(), Some("any fault"));
        report.fired("one");
        assert_eq!(report.vacuous(), None);
        report.expect("other");
        assert_eq!(report.vacuous(), Some("other"));
    }
}
