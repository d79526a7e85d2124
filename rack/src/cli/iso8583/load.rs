//! `fluxrig iso8583 load`: many terminals at once, each on a connection of its own, and what came of their requests.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use fluxrig_rack::exit;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::time;
use super::line::{self, Pace, Plan};
use super::report::Report;
use super::request::Run;
use super::{Failure, Peer, grouped, runtime, say, say_json};

/// Most connections.
const CONNECTIONS_MAX: u64 = 4096;
/// Most requests that one connection has open, also with `--rate`: what is due beyond waits, and its time counts.
const OPEN_MAX: u64 = 65_536;
/// Most requests a second: a due time is a whole number of nanoseconds.
const RATE_MAX: f64 = 10_000_000.0;
/// How often the bar moves.
const BAR_EVERY: Duration = Duration::from_millis(200);
/// Longest run.
const DURATION_MAX: Duration = Duration::from_secs(86_400);

#[derive(Debug, Args)]
pub(in crate::cli) struct LoadArgs {
    #[command(flatten)]
    peer: Peer,
    /// For how long requests are sent: `10s`, `500ms`, `2m`.
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = duration)]
    duration: Duration,
    /// Connections, each with a terminal of its own.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=CONNECTIONS_MAX))]
    connections: u64,
    /// Requests a second over all connections, sent when they are due whatever the answers do. Latency counts from
    /// then; up to a millisecond of it is the tick of the terminal's own timer.
    #[arg(long, value_name = "N", value_parser = rate, conflicts_with = "in_flight")]
    rate: Option<f64>,
    /// Requests that each connection has open at once; the next is sent when one is answered.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=OPEN_MAX))]
    in_flight: u64,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = time::duration(text).ok().filter(|duration| *duration <= DURATION_MAX);
    duration.ok_or_else(|| {
        "found no time, expected a number and `ms`, `s`, `m` or `h`, up to `24h`; remedy: write for example `10s`"
            .into()
    })
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|rate| (0.001..=RATE_MAX).contains(rate)).ok_or_else(|| {
        format!("found no rate, expected requests a second from 0.001 to {RATE_MAX}; remedy: write for example `1000`")
    })
}

pub(super) fn load(args: &LoadArgs) -> Result<u8, Failure> {
    let (report, took) = runtime()?.block_on(run(args))?;
    match args.json {
        true => say_json(&report.as_json(took)),
        false => say(&report.as_text(took)),
    }
    Ok(if report.is_clean() { exit::DONE } else { exit::FAILED })
}

async fn run(args: &LoadArgs) -> Result<(Report, Duration), Failure> {
    let peer = &args.peer;
    let plan = plan(args)?;
    let mut streams = Vec::new();
    for _ in 0..args.connections {
        streams.push(peer.connect().await?);
    }
    let start = Instant::now();
    plan.end.send_replace(start + args.duration);
    let plan = Arc::new(plan);
    let mut lines = JoinSet::new();
    for (idx, stream) in streams.into_iter().enumerate() {
        let pace = match args.rate {
            None => Pace::Closed,
            Some(rate) => Pace::Open {
                first: start + Duration::from_secs_f64(idx as f64 / rate),
                every: Duration::from_secs_f64(args.connections as f64 / rate),
            },
        };
        lines.spawn(line::drive(Arc::clone(&plan), stream, plan.run.terminal(idx), pace));
    }
    let mut report = Report::new();
    let mut bar = Bar { is_shown: std::io::stderr().is_terminal(), start, last: (start, 0) };
    let mut tick = tokio::time::interval(BAR_EVERY);
    let mut is_stopped = false;
    loop {
        tokio::select! {
            ended = lines.join_next() => match ended {
                Some(Ok(line)) => report.add(&line),
                Some(Err(error)) => return Err(Failure { code: exit::FAILED, text: format!("terminal: {error}") }),
                None => break,
            },
            _ = tick.tick() => bar.show(args.duration, plan.answered.load(Ordering::Relaxed)),
            Ok(()) = tokio::signal::ctrl_c() => {
                if is_stopped {
                    let text = "load: found a second Ctrl-C, expected the last answers first; remedy: wait for them to see the report";
                    return Err(Failure { code: exit::FAILED, text: text.to_owned() });
                }
                is_stopped = true;
                plan.end.send_replace(Instant::now().min(plan.end()));
            }
        }
    }
    bar.clear();
    // Waiting for the last answers is no time of load.
    let took = plan.end().saturating_duration_since(start);
    Ok((report, start.elapsed().min(took)))
}

fn plan(args: &LoadArgs) -> Result<Plan, Failure> {
    let peer = &args.peer;
    let spec = peer.spec()?;
    if spec.field(11).is_none() {
        return Err(Failure::usage(
            "--spec: found one without field 11, expected the trace number, by which answers are told apart; remedy: add it",
        ));
    }
    let fields = peer.set_fields(&spec)?;
    for number in ["7", "11", "37", "41"] {
        if fields.get_key(number).is_some() {
            return Err(Failure::usage(format!(
                "--set {number}: found a field by which requests are told apart, expected another; remedy: leave it out"
            )));
        }
    }
    let plan = Plan {
        run: Run::new(),
        frames: peer.frames(),
        mti: peer.mti.clone(),
        fields,
        target: peer.target.clone(),
        timeout: peer.timeout(),
        end: watch::Sender::new(Instant::now()),
        open_max: if args.rate.is_some() { OPEN_MAX } else { args.in_flight } as usize,
        answered: AtomicU64::new(0),
        spec,
    };
    attempt(&plan)?;
    Ok(plan)
}

/// Writes one request that is not sent: what is wrong with the flags is told before anything is.
fn attempt(plan: &Plan) -> Result<(), Failure> {
    let mut terminal = plan.run.terminal(0);
    let stamp = plan.run.stamp(&mut terminal, |_| false);
    let mut fields = plan.fields.clone();
    stamp.fill(&terminal, &plan.spec, &mut fields);
    stamp.fill_purchase(&plan.spec, &mut fields);
    let body = plan.spec.encode(&plan.mti, &fields).map_err(|error| Failure::usage(format!("--set: {error}")))?;
    if plan.frames.write(&body, &mut Vec::new()) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "--framing: found requests of {} bytes, expected such that their length can be said; remedy: choose `be32`",
        body.len()
    )))
}

/// How far it is, on a terminal.
struct Bar {
    is_shown: bool,
    start: Instant,
    last: (Instant, u64),
}

impl Bar {
    const CELLS: usize = 30;

    fn show(&mut self, whole: Duration, answered: u64) {
        if !self.is_shown {
            return;
        }
        let now = Instant::now();
        let done = (now - self.start).as_secs_f64() / whole.as_secs_f64();
        let cells = ((done * Self::CELLS as f64) as usize).min(Self::CELLS);
        let rate = (answered - self.last.1) as f64 / (now - self.last.0).as_secs_f64().max(1e-3);
        self.last = (now, answered);
        let bar = format!("{}{}", "█".repeat(cells), "░".repeat(Self::CELLS - cells));
        let text = format!("\r{bar} {} answered, {} per second\x1b[K", grouped(answered), grouped(rate as u64));
        drop(std::io::stderr().write_all(text.as_bytes()));
    }

    fn clear(&self) {
        if self.is_shown {
            drop(std::io::stderr().write_all(b"\r\x1b[K"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_read_or_refused() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "s", "10", "0s", "25h", "-1s", "1.5s", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(rate("1000"), Ok(1000.0));
        for text in ["0", "-1", "NaN", "inf", "1e9", "many"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
