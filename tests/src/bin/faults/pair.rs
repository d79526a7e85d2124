//! A holder and its stand-by behind one address, with terminals and a bank around them: how they are started, how one takes
//! the other's place, what the bank hears from a holder after its fence, and how long nobody answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluxrig_tests::outside::bank::Entrance;
use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::daemon::{Daemon, RackAt, Started, Wrap};
use fluxrig_tests::outside::front::Front;
use fluxrig_tests::outside::payments::{Payments, SCENARIO};
use fluxrig_tests::outside::place;
use fluxrig_tests::outside::racks::OnBus;
use fluxrig_tests::outside::tally::Tally;
use fluxrig_tests::outside::{Outcome, World, tried, wait};
use tokio::time::Instant;

use super::class::{Ask, Report, Stop};

pub(crate) const LEASE: Duration = Duration::from_millis(2000);
/// From the fault to the first answer, as it is promised for a lease like that.
pub(crate) const TAKE_OVER_MAX: Duration = Duration::from_secs(5);
/// Whatever takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// What `/readyz` may take; a rack that stands still does not answer.
const ASK_MAX: Duration = Duration::from_millis(500);
/// The exit code of a rack that another one has fenced.
const FENCED: i32 = 77;

/// How long one take-over took, from the fault on.
#[derive(Debug)]
pub(crate) struct Time {
    kind: &'static str,
    ready: Duration,
    pub(crate) answered: Duration,
    /// Before the stand-by was ready the bank had heard nothing of the holder for so long.
    calm: Duration,
}

/// What the take-overs came to.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) times: Vec<Time>,
    /// What came to the bank from a holder that somebody else had replaced.
    pub(crate) after_fence: u64,
    /// What the stand-by had logged when it had taken longer than is promised.
    slow: Vec<String>,
}

impl Figures {
    pub(crate) fn tell(&self, kinds: &[&'static str], report: &mut Report) {
        report.note(format!(
            "from the fault until the stand-by is ready, and to the first answer, with a lease of {LEASE:?}:"
        ));
        let width = kinds.iter().map(|kind| kind.len()).max().unwrap_or_default();
        for kind in kinds.iter().filter(|kind| self.times.iter().any(|time| time.kind == **kind)) {
            report.note(spread(kind, width, self.times.iter().filter(|time| time.kind == *kind)));
        }
        report.note(spread("all", width, self.times.iter()));
        let Self { after_fence, times, slow } = self;
        let calm = times.iter().map(|time| time.calm.as_millis()).min().unwrap_or_default();
        report.note(format!(
            "requests that the bank got from holders after their fence: {after_fence}, and none in the {calm} ms before it"
        ));
        slow.iter().for_each(|text| report.note(text.clone()));
    }
}

fn spread<'a>(kind: &str, width: usize, times: impl Iterator<Item = &'a Time>) -> String {
    let (mut ready, mut answered): (Vec<_>, Vec<_>) = times.map(|time| (time.ready, time.answered)).unzip();
    let told = |times: &mut Vec<Duration>| {
        times.sort();
        let [median, longest] = [times.get(times.len() / 2), times.last()];
        let [median, longest] = [median, longest].map(|time| time.map_or(0, Duration::as_millis));
        format!("median {median} ms, longest {longest} ms")
    };
    format!("  {kind:width$} {:3}: {}; {}", ready.len(), told(&mut ready), told(&mut answered))
}

/// One rack's process, and how it is told from the other.
pub(crate) struct Node {
    pub(crate) daemon: Daemon,
    /// Which of the two.
    pub(crate) idx: usize,
    address: SocketAddr,
    metrics: SocketAddr,
    bank: Entrance,
}

/// A holder and a stand-by behind one address.
pub(crate) struct Pair {
    world: Payments,
    front: Front,
    dirs: [PathBuf; 2],
    urls: Vec<String>,
    pub(crate) tally: Tally,
    pub(crate) figures: Figures,
}

impl Pair {
    pub(crate) fn new(on: &OnBus, ask: &Ask, chance: &mut Chance) -> Outcome<Self> {
        let more = format!(
            "\nbus: {}\njournal: {{ jetstream: {{ lease_ms: {}, max_bytes: 268435456 }} }}\n",
            on.bus,
            LEASE.as_millis()
        );
        let world = Payments::with_journal(&more, SCENARIO, &ask.daemon, None, chance)?;
        let front = Front::open(world.address())?;
        let dirs = ["one", "two"].map(|name| world.rack().data_dir.with_file_name(name));
        let urls = on.urls.clone();
        Ok(Self { world, front, dirs, urls, tally: Tally::default(), figures: Figures::default() })
    }

    /// The first of them as the holder, who answers from now on.
    pub(crate) fn begin(&mut self) -> Outcome<Node> {
        let holder = self.start(0, false)?;
        copy_key(&self.dirs[0], &self.dirs[1])?;
        self.front.lead_to(Some(holder.address));
        self.world.set_quiet(false);
        Ok(holder)
    }

    /// Starts one and waits until it runs, or follows.
    pub(crate) fn start(&self, idx: usize, is_standby: bool) -> Outcome<Node> {
        let (address, bank) = (place::address()?, self.world.bank().entrance()?);
        let bus = self.urls.get(idx).or(self.urls.first()).cloned().unwrap_or_default();
        let variables = [("TERMINALS", address.to_string()), ("HOST", bank.address().to_string()), ("BUS", bus)];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let rack = RackAt { data_dir: self.dirs[idx].clone(), variables, ..self.world.rack().clone() };
        let arguments = if is_standby { vec!["--standby".to_owned()] } else { Vec::new() };
        let daemon = match rack.start(&Wrap { arguments, ..Wrap::default() })? {
            Started::Ready(daemon) => daemon,
            Started::Ended(status, log) => {
                return Err(format!("the rack ended at its start with {status}: {log}"));
            }
        };
        let top = rack.top()?;
        let (role, expected) = (&top["stream"]["role"], if is_standby { "stand-by" } else { "holder" });
        if role != expected {
            return Err(format!("`top` says that it is {role}, expected {expected}"));
        }
        let metrics = top["metrics"].as_str().and_then(|address| address.parse().ok());
        let metrics = metrics.ok_or("`top` names no address of metrics")?;
        Ok(Node { daemon, idx, address, metrics, bank })
    }

    /// The holder went at `since`: waits until the stand-by answers in its place, and on.
    pub(crate) fn until_taken_over(
        &mut self,
        kind: &'static str,
        since: Instant,
        holder: &Node,
        standby: &Node,
    ) -> Outcome<Fence> {
        if !wait::until(PATIENCE, || standby.is_ready()) {
            let [gone, other] = [holder, standby].map(|node| node.daemon.log());
            return Err(format!("{kind}: the stand-by does not take over: {other}\n  and the holder: {gone}"));
        }
        let (ready, fence) = (since.elapsed(), Fence { heard: holder.bank.heard() });
        let calm = holder.bank.silence();
        self.front.lead_to(Some(standby.address));
        self.until_answers(standby, 1)?;
        let answered = since.elapsed();
        if answered > TAKE_OVER_MAX {
            self.figures
                .slow
                .push(format!("{kind} took {answered:?}, and the stand-by says: {}", standby.daemon.log()));
        }
        self.figures.times.push(Time { kind, ready, answered, calm });
        self.until_answers(standby, 50)?;
        Ok(fence)
    }

    /// Waits until the holder goes on, or the stand-by has its place.
    pub(crate) fn is_replaced(&self, holder: &Node, standby: &Node) -> Outcome<bool> {
        let enough = self.world.progress() + 50;
        let mut is_replaced = false;
        let is_decided = wait::until(PATIENCE, || {
            is_replaced = standby.is_ready();
            is_replaced || self.world.progress() >= enough
        });
        match is_decided {
            true => Ok(is_replaced),
            false => Err(format!("neither holder nor stand-by answers: {}", holder.daemon.log())),
        }
    }

    /// A holder that goes on behind its fence must find it, and end.
    pub(crate) fn until_fenced(holder: &mut Node) -> Outcome {
        if !wait::until(PATIENCE, || holder.daemon.ended().is_some()) {
            return Err(format!("the fenced holder does not end: {}", holder.daemon.log()));
        }
        match holder.daemon.ended().and_then(|status| status.code()) {
            Some(FENCED) => Ok(()),
            code => Err(format!("the fenced holder ended with {code:?}: {}", holder.daemon.log())),
        }
    }

    /// What it wrote before it went may still have been on its way at the fence; what is fenced writes none.
    pub(crate) fn count_after(&mut self, fence: &Fence, holder: &Node) {
        self.figures.after_fence += holder.bank.heard() - fence.heard;
    }

    pub(crate) fn until_answers(&self, from: &Node, more: u64) -> Outcome {
        let enough = self.world.progress() + more;
        match wait::until(PATIENCE, || self.world.progress() >= enough) {
            true => Ok(()),
            false => Err(format!("no answer for {PATIENCE:?}: {}", from.daemon.log())),
        }
    }

    pub(crate) fn settle(&mut self, holder: &Node) -> Outcome {
        let tally = self.world.settle();
        let is_clean = tally.is_clean();
        self.tally.add(tally);
        self.world.set_quiet(false);
        match is_clean {
            true => Ok(()),
            false => Err(format!("{}\n  {}\n  {}", self.tally, self.tally.findings.join("\n  "), holder.daemon.log())),
        }
    }

    /// Tells what all of it came to, whether it held or not.
    pub(crate) fn judge(&mut self, outcome: Outcome, kinds: &[&'static str], report: &mut Report) -> Result<(), Stop> {
        report.tally(std::mem::take(&mut self.tally));
        self.figures.tell(kinds, report);
        outcome?;
        match self.figures.after_fence {
            0 => Ok(()),
            _ => Err(Stop::Broken("a fenced holder reached the bank".to_owned())),
        }
    }

    pub(crate) fn end(&self, holder: Node) -> Outcome {
        self.world.set_quiet(true);
        holder.daemon.terminate()
    }
}

/// What the bank had heard from a holder when another one had taken its place.
pub(crate) struct Fence {
    heard: u64,
}

impl Node {
    /// Whether it says that it answers.
    pub(crate) fn is_ready(&self) -> bool {
        let talk = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&self.metrics, ASK_MAX)?;
            stream.set_read_timeout(Some(ASK_MAX))?;
            write!(stream, "GET /readyz HTTP/1.1\r\nhost: rack\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        talk().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }
}

/// What an operator does once: the stand-by opens what the holder has sealed.
fn copy_key(from: &Path, to: &Path) -> Outcome {
    let (from, to) = (from.join("journal/rack.key"), to.join("journal"));
    std::fs::create_dir_all(&to).map_err(tried("the journal's folder"))?;
    std::fs::copy(from, to.join("rack.key")).map(drop).map_err(tried("the key"))
}
