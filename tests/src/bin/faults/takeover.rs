//! Take-overs: a holder and its stand-by over one `nats-server`; the holder is killed, stands still for longer than its
//! lease, or stops in order, and the stand-by goes on with all of it. Terminals and bank are outside.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluxrig_tests::outside::bank::Entrance;
use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::daemon::{Daemon, RackAt, Started, Wrap};
use fluxrig_tests::outside::front::Front;
use fluxrig_tests::outside::nats::{Server, Wanted, program};
use fluxrig_tests::outside::payments::{Payments, SCENARIO};
use fluxrig_tests::outside::tally::Tally;
use fluxrig_tests::outside::{Outcome, World, place, tried, wait};
use rustix::process::Signal;
use tokio::time::Instant;

use super::class::{Ask, Report, Stop};

/// How the holder goes, in turn.
const KINDS: [&str; 3] = ["kill", "pause", "stop"];
const LEASE: Duration = Duration::from_millis(2000);
/// A full run fails when one takes longer, from the signal to the first answer.
const TAKE_OVER_MAX: Duration = Duration::from_secs(5);
/// Whatever takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// What `/readyz` may take; a rack that stands still does not answer.
const ASK_MAX: Duration = Duration::from_millis(500);
/// The exit code of a rack that another one has fenced.
const FENCED: i32 = 77;
/// The fault falls up to this long after some answers.
const LOAD_MAX: Duration = Duration::from_millis(300);

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    let Some(program) = program("faults `takeover`") else {
        return Err(Stop::Skipped("no nats-server; remedy: `cargo xtask setup`".to_owned()));
    };
    KINDS.iter().take(usize::try_from(rounds).unwrap_or(usize::MAX)).for_each(|kind| report.expect(kind));
    let server = Server::start(&program, &Wanted::default())?;
    let mut pair = Pair::new(&server, ask, chance)?;
    let outcome = pair.rounds(rounds, chance, report);
    let Figures { times, after_fence } = pair.figures;
    report.tally(pair.tally);
    report.note(format!(
        "from the signal until the stand-by is ready, and to the first answer, with a lease of {LEASE:?}:"
    ));
    for kind in KINDS {
        report.note(spread(kind, times.iter().filter(|time| time.kind == kind)));
    }
    report.note(spread("all", times.iter()));
    let longest = times.iter().map(|time| time.answered).max().unwrap_or_default();
    report.note(format!("requests that the bank got from holders after their fence: {after_fence}"));
    outcome?;
    if after_fence > 0 {
        return Err(Stop::Broken("a fenced holder reached the bank".to_owned()));
    }
    // A slice runs beside everything else that CI does.
    if !ask.is_slice && longest > TAKE_OVER_MAX {
        return Err(Stop::Broken(format!("a take-over took {longest:?}, expected at most {TAKE_OVER_MAX:?}")));
    }
    Ok(())
}

fn spread<'a>(kind: &str, times: impl Iterator<Item = &'a Time>) -> String {
    let (mut ready, mut answered): (Vec<_>, Vec<_>) = times.map(|time| (time.ready, time.answered)).unzip();
    let told = |times: &mut Vec<Duration>| {
        times.sort();
        let [median, longest] = [times.get(times.len() / 2), times.last()];
        let [median, longest] = [median, longest].map(|time| time.map_or(0, Duration::as_millis));
        format!("median {median} ms, longest {longest} ms")
    };
    format!("  {kind:5} {:3}: {}; {}", ready.len(), told(&mut ready), told(&mut answered))
}

/// How long one take-over took, from the signal on.
#[derive(Debug)]
struct Time {
    kind: &'static str,
    ready: Duration,
    answered: Duration,
}

/// What the take-overs came to.
#[derive(Debug, Default)]
struct Figures {
    times: Vec<Time>,
    /// What came to the bank from a holder that somebody else had replaced.
    after_fence: u64,
}

/// One rack's process, and how it is told from the other.
struct Node {
    daemon: Daemon,
    address: SocketAddr,
    metrics: SocketAddr,
    bank: Entrance,
    data_dir: PathBuf,
}

/// A holder and a stand-by behind one address.
struct Pair {
    world: Payments,
    front: Front,
    dirs: [PathBuf; 2],
    tally: Tally,
    figures: Figures,
}

impl Pair {
    fn new(server: &Server, ask: &Ask, chance: &mut Chance) -> Outcome<Self> {
        let more = format!(
            "\nbus: {{ servers: [\"{}\"], monitor_url: \"{}\" }}\njournal: {{ jetstream: {{ lease_ms: {}, max_bytes: 268435456 }} }}\n",
            server.url(),
            server.monitor_url(),
            LEASE.as_millis()
        );
        let world = Payments::with_journal(&more, SCENARIO, &ask.daemon, None, chance)?;
        let front = Front::open(world.address())?;
        let dirs = ["one", "two"].map(|name| world.rack().data_dir.with_file_name(name));
        Ok(Self { world, front, dirs, tally: Tally::default(), figures: Figures::default() })
    }

    fn rounds(&mut self, rounds: u64, chance: &mut Chance, report: &mut Report) -> Outcome {
        let [first, second] = self.dirs.clone();
        let mut holder = self.start(&first, false)?;
        copy_key(&first, &second)?;
        self.front.lead_to(Some(holder.address));
        self.world.set_quiet(false);
        let mut other = second;
        for (_, kind) in (0..rounds).zip(KINDS.iter().cycle()) {
            let standby = self.start(&other, true)?;
            self.until_answers(&standby, 1 + chance.zipf(300))?;
            wait::pass(chance.time(LOAD_MAX));
            let gone = self.take_over(kind, holder, &standby)?;
            report.fired(kind);
            self.settle(&standby)?;
            (holder, other) = (standby, gone);
        }
        self.world.set_quiet(true);
        holder.daemon.terminate()
    }

    /// Starts one and waits until it runs, or follows.
    fn start(&self, data_dir: &Path, is_standby: bool) -> Outcome<Node> {
        let (address, bank) = (place::address()?, self.world.bank().entrance()?);
        let variables = [("TERMINALS", address), ("HOST", bank.address())];
        let variables = variables.map(|(name, address)| (name.to_owned(), address.to_string())).to_vec();
        let rack = RackAt { data_dir: data_dir.to_owned(), variables, ..self.world.rack().clone() };
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
        Ok(Node { daemon, address, metrics, bank, data_dir: data_dir.to_owned() })
    }

    /// The holder goes, the stand-by answers; the data directory of what is gone.
    fn take_over(&mut self, kind: &'static str, mut holder: Node, standby: &Node) -> Outcome<PathBuf> {
        let since = Instant::now();
        holder.daemon.signal(match kind {
            "kill" => Signal::KILL,
            "pause" => Signal::STOP,
            _ => Signal::TERM,
        });
        let is_ready = wait::until(PATIENCE, || is_ready(standby.metrics));
        if !is_ready {
            return Err(format!("{kind}: the stand-by does not take over: {}", standby.daemon.log()));
        }
        let (ready, heard) = (since.elapsed(), holder.bank.heard());
        self.front.lead_to(Some(standby.address));
        self.until_answers(standby, 1)?;
        self.figures.times.push(Time { kind, ready, answered: since.elapsed() });
        self.until_answers(standby, 50)?;
        if kind == "pause" {
            holder.daemon.signal(Signal::CONT);
            if !wait::until(PATIENCE, || holder.daemon.ended().is_some()) {
                return Err(format!("the fenced holder does not end: {}", holder.daemon.log()));
            }
            let code = holder.daemon.ended().and_then(|status| status.code());
            if code != Some(FENCED) {
                return Err(format!("the fenced holder ended with {code:?}: {}", holder.daemon.log()));
            }
        }
        // What it wrote before it went may still have been on its way when that was looked at; what is fenced writes none.
        self.figures.after_fence += holder.bank.heard() - heard;
        if kind == "stop" {
            holder.daemon.terminate()?;
        }
        Ok(holder.data_dir)
    }

    fn until_answers(&self, from: &Node, more: u64) -> Outcome {
        let enough = self.world.progress() + more;
        match wait::until(PATIENCE, || self.world.progress() >= enough) {
            true => Ok(()),
            false => Err(format!("no answer for {PATIENCE:?}: {}", from.daemon.log())),
        }
    }

    fn settle(&mut self, holder: &Node) -> Outcome {
        let tally = self.world.settle();
        let is_clean = tally.is_clean();
        self.tally.add(tally);
        self.world.set_quiet(false);
        match is_clean {
            true => Ok(()),
            false => Err(format!("{}\n  {}\n  {}", self.tally, self.tally.findings.join("\n  "), holder.daemon.log())),
        }
    }
}

/// What an operator does once: the stand-by opens what the holder has sealed.
fn copy_key(from: &Path, to: &Path) -> Outcome {
    let (from, to) = (from.join("journal/rack.key"), to.join("journal"));
    std::fs::create_dir_all(&to).map_err(tried("the journal's folder"))?;
    std::fs::copy(from, to.join("rack.key")).map(drop).map_err(tried("the key"))
}

fn is_ready(metrics: SocketAddr) -> bool {
    let talk = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&metrics, ASK_MAX)?;
        stream.set_read_timeout(Some(ASK_MAX))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nhost: rack\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    talk().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
