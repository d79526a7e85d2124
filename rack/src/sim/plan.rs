//! What a seed plans: requests of terminals and faults, each drawn by its own number, so that taking one away changes no
//! other. A plan that is smaller than its seed's can be said on a command line.

use std::fmt;
use std::time::Duration;

use super::stage::Stage;
use super::{Options, draw};

/// A kind of fault that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The process vanishes, at a time or in the middle of a disk operation, and starts again.
    Kill,
    /// The power goes: what was not flushed is lost or torn, and nobody is told.
    Power,
    /// Flushes and writes fail, or the disk is full, for a while.
    Disk,
    /// Connections break, are refused, stall, or lead nowhere for a while.
    Link,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kill, Self::Power, Self::Disk, Self::Link];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Power => "power",
            Self::Disk => "disk",
            Self::Link => "link",
        }
    }

    /// By its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }
}

/// One fault of a plan.
#[derive(Clone, Debug)]
pub(super) struct PlannedFault {
    pub(super) idx: usize,
    pub(super) at: Duration,
    pub(super) what: What,
}

/// What happens.
#[derive(Clone, Debug)]
pub(super) enum What {
    Kill {
        down: Duration,
    },
    /// In the middle of so manieth operation on the disk from then.
    KillWriting {
        operations: u64,
        down: Duration,
    },
    Power {
        down: Duration,
    },
    FailingFlushes {
        lasts: Duration,
        ppm: u32,
    },
    FullDisk {
        lasts: Duration,
        room: u64,
    },
    Reset {
        address: String,
    },
    Refuse {
        address: String,
        lasts: Duration,
    },
    Stall {
        address: String,
        lasts: Duration,
    },
    Blackhole {
        address: String,
        lasts: Duration,
    },
}

/// One thing that a terminal does.
#[derive(Clone, Debug)]
pub(super) struct PlannedRequest {
    pub(super) idx: usize,
    pub(super) at: Duration,
    pub(super) terminal: usize,
    pub(super) act: Act,
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// A request; an impatient terminal repeats it when it has no answer after so long.
    Ask { repeat_after: Option<Duration> },
    /// Bytes that are no message, over a connection of their own.
    Garbage,
    /// The terminal hangs up, and connects again for what comes next.
    HangUp,
}

/// What a seed plans.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) faults: Vec<PlannedFault>,
    pub(super) requests: Vec<PlannedRequest>,
    /// Which entrance each terminal connects to.
    pub(super) terminals: Vec<usize>,
    /// Longest pause of the journal's writer between two steps.
    pub(super) pace: Duration,
}

/// Most faults of one kind.
const FAULTS_MAX: u64 = 3;
/// Faults aim at one of the first requests: which ones there are must not matter.
const AIMED_AT: usize = 60;
/// Longest trouble of a disk or a line.
const LASTS_MAX: Duration = Duration::from_secs(6);
/// Longest time without a process.
const DOWN_MAX: Duration = Duration::from_secs(4);
/// Most terminals at one entrance.
const TERMINALS_MAX: u64 = 5;

impl Plan {
    pub(super) fn draw(seed: u64, stage: &Stage, options: &Options) -> Self {
        let mut terminals = Vec::new();
        for entrance in 0..stage.entrances.len() {
            let count = 1 + draw(seed, "terminals", entrance as u64) % TERMINALS_MAX;
            terminals.extend((0..count).map(|_| entrance));
        }
        let is_asked = |only: &Option<Vec<usize>>, idx: usize| only.as_ref().is_none_or(|only| only.contains(&idx));
        let requests = (0..options.requests).map(|idx| request(seed, idx, terminals.len(), options.span));
        let requests = requests.filter(|request| is_asked(&options.only_requests, request.idx)).collect();
        let mut faults: Vec<PlannedFault> = faults(seed, stage, options.span);
        faults.retain(|fault| options.faults.contains(&fault.what.kind()) && is_asked(&options.only_faults, fault.idx));
        faults.sort_by_key(|fault| (fault.at, fault.idx));
        let pace = Duration::from_millis([0, 1, 3][draw(seed, "pace", 0) as usize % 3]);
        Self { seed, faults, requests, terminals, pace }
    }
}

fn within(seed: u64, word: &str, number: u64, span: Duration) -> Duration {
    let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(draw(seed, word, number) % us)
}

/// When a fault happens: mostly soon after a request, when there is something to be lost.
fn moment(seed: u64, word: &str, number: u64, span: Duration) -> Duration {
    let drawn = draw(seed, word, number);
    if drawn.is_multiple_of(3) {
        return within(seed, word, number, span);
    }
    request(seed, (drawn >> 8) as usize % AIMED_AT, 1, span).at + Duration::from_micros((drawn >> 32) % 60_000)
}

fn request(seed: u64, idx: usize, terminals: usize, span: Duration) -> PlannedRequest {
    let number = idx as u64;
    // In bursts of eight, since what goes wrong mostly does when several things happen at once.
    let base = within(seed, "burst", number / 8, span);
    let at = base + Duration::from_micros(draw(seed, "at", number) % 400_000);
    let terminal = draw(seed, "terminal", number) as usize % terminals.max(1);
    let repeat_after = Duration::from_millis(500 + draw(seed, "patience", number) % 8_000);
    let act = match draw(seed, "act", number) % 100 {
        0..3 => Act::Garbage,
        3..6 => Act::HangUp,
        6..36 => Act::Ask { repeat_after: Some(repeat_after) },
        _ => Act::Ask { repeat_after: None },
    };
    PlannedRequest { idx, at, terminal, act }
}

/// All faults of a seed, whatever was asked for: their numbers must not depend on it.
fn faults(seed: u64, stage: &Stage, span: Duration) -> Vec<PlannedFault> {
    let lines = stage.lines();
    let mut planned = Vec::new();
    for (place, kind) in Fault::ALL.into_iter().enumerate() {
        let count = 1 + draw(seed, kind.name(), u64::MAX) % FAULTS_MAX;
        for nth in 0..count {
            let word = kind.name();
            let number = |of: u64| nth * 16 + of;
            let at = moment(seed, word, number(0), span);
            // Of a short run, too, most is left to what goes well.
            let lasts = Duration::from_millis(50) + within(seed, word, number(1), LASTS_MAX.min(span / 4));
            let down = Duration::from_millis(1) + within(seed, word, number(2), DOWN_MAX.min(span / 8));
            let chosen = draw(seed, word, number(3));
            let address = lines[draw(seed, word, number(4)) as usize % lines.len()].to_owned();
            let what = match kind {
                Fault::Kill if chosen.is_multiple_of(2) => What::Kill { down },
                Fault::Kill => What::KillWriting { operations: draw(seed, word, number(5)) % 40, down },
                Fault::Power => What::Power { down },
                Fault::Disk if chosen.is_multiple_of(2) => {
                    What::FailingFlushes { lasts, ppm: [50_000, 300_000, 1_000_000][chosen as usize / 2 % 3] }
                }
                Fault::Disk => What::FullDisk { lasts, room: draw(seed, word, number(5)) % 20_000 },
                Fault::Link => match chosen % 5 {
                    0 | 1 => What::Reset { address },
                    2 => What::Refuse { address, lasts },
                    3 => What::Stall { address, lasts },
                    _ => What::Blackhole { address, lasts },
                },
            };
            planned.push(PlannedFault { idx: place * FAULTS_MAX as usize + nth as usize, at, what });
        }
    }
    planned
}

impl What {
    pub(super) fn kind(&self) -> Fault {
        match self {
            Self::Kill { .. } | Self::KillWriting { .. } => Fault::Kill,
            Self::Power { .. } => Fault::Power,
            Self::FailingFlushes { .. } | Self::FullDisk { .. } => Fault::Disk,
            Self::Reset { .. } | Self::Refuse { .. } | Self::Stall { .. } | Self::Blackhole { .. } => Fault::Link,
        }
    }
}

impl fmt::Display for PlannedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.what.kind().name();
        write!(f, "fault {} at {:.3} s: {kind}, {}", self.idx, self.at.as_secs_f64(), self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = Duration::as_millis;
        match self {
            Self::Kill { down } => write!(f, "process gone for {} ms", ms(down)),
            Self::KillWriting { operations, down } => {
                write!(f, "process gone in disk operation {operations} from then, for {} ms", ms(down))
            }
            Self::Power { down } => write!(f, "power gone for {} ms", ms(down)),
            Self::FailingFlushes { lasts, ppm } => {
                write!(f, "{} of 1000 flushes fail for {} ms", ppm / 1000, ms(lasts))
            }
            Self::FullDisk { lasts, room } => write!(f, "full with {room} bytes left for {} ms", ms(lasts)),
            Self::Reset { address } => write!(f, "connections to {address} reset"),
            Self::Refuse { address, lasts } => write!(f, "{address} refuses for {} ms", ms(lasts)),
            Self::Stall { address, lasts } => write!(f, "lines to {address} stall for {} ms", ms(lasts)),
            Self::Blackhole { address, lasts } => write!(f, "lines to {address} lead nowhere for {} ms", ms(lasts)),
        }
    }
}
