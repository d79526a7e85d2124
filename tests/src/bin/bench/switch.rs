//! The switch from end to end: terminals, `fluxrig` with the relay of the payments example, and a host, each in a process
//! of its own on the same cores. Every answer is checked by the terminals, and counted against the host's own count.

use std::collections::BTreeMap;
use std::time::Duration;

use fluxrig_tests::outside::nats::program;
use tokio::time::Instant;

use super::daemon::{self, Relay, free_address};
use super::isoload::{Isoload, Load, until_approved};
use super::jpos::Jpos;
use super::nats;
use super::relay;
use super::row::{Bar, Rows, Scratch, median, pause};
use super::standard::Bare;

const ROUNDS: usize = 3;
const WARM_S: f64 = 0.5;
const RUN_S: f64 = 2.5;
/// Bare flushes measured before and after each run with one in flight.
const FLUSHES: u64 = 200;
const KILLS: usize = 5;
/// The usual group at 20,000 requests a second, and how often one is flushed then.
const PACED_BYTES: usize = 48 << 10;
const PACED_EVERY: Duration = Duration::from_millis(1);
/// A bare flush that takes longer than the bar of a whole request.
const STALL: Duration = Duration::from_millis(3);
/// What jPOS did where the bars were set: 8 × 8 in flight, k/s, and p50 with one in flight, µs.
const JPOS_RECORDED: (f64, f64) = (57.0, 125.0);

/// How much is asked of the switch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// So many terminals with so many in flight each.
    Closed(u32, u32),
    /// So many a second in all, from 16 terminals.
    PerSecond(u32),
}

const LEVELS: [Level; 6] = [
    Level::Closed(1, 1),
    Level::Closed(8, 8),
    Level::Closed(16, 16),
    Level::Closed(32, 32),
    Level::PerSecond(5_000),
    Level::PerSecond(20_000),
];
const LANES: [&str; 2] = ["standard", "turbo"];

impl Level {
    fn name(self) -> String {
        match self {
            Self::Closed(terminals, window) => format!("{terminals}x{window}"),
            Self::PerSecond(rate) => format!("{}k", rate / 1000),
        }
    }

    fn arguments(self, address: std::net::SocketAddr, run_s: f64) -> Vec<String> {
        let (kind, terminals, much) = match self {
            Self::Closed(terminals, window) => ("load", terminals, window),
            Self::PerSecond(rate) => ("rate", 16, rate),
        };
        let (terminals, much, warm, run) =
            (terminals.to_string(), much.to_string(), WARM_S.to_string(), run_s.to_string());
        vec![kind.to_owned(), address.to_string(), terminals, much, warm, run]
    }

    fn row(self, lane: &str) -> String {
        format!("switch.{lane}.{}", self.name())
    }
}

/// One run of one level.
struct Run {
    load: Load,
    /// Processor time of the switch per transaction, µs.
    cpu: f64,
}

/// All that was measured.
#[derive(Default)]
struct Measured {
    runs: BTreeMap<(&'static str, Level), Vec<Run>>,
    proxy: Vec<f64>,
    flushes: Vec<f64>,
    /// Time in bare flushes that were stalls, and the longest of them, as seen before each run at 20,000 a second.
    stalls: Vec<(Duration, Duration)>,
    /// Runs with an answer missing, wrong or crossed, or a count that differs from the host's.
    wrong: usize,
}

pub(crate) fn end_to_end(rows: &mut Rows, jpos: Option<&Jpos>) {
    let wanted: Vec<(&'static str, Level)> = LEVELS
        .into_iter()
        .flat_map(|level| LANES.map(|lane| (lane, level)))
        .filter(|(lane, level)| {
            rows.wants_any_of(&level.row(lane)) || jpos.is_some() && rows.wants_any_of("peer.ratio")
        })
        .collect();
    let wants_resume = rows.wants("switch.resume");
    if wanted.is_empty() && !wants_resume {
        return;
    }
    let (Some(scenario), Some(program), Some(isoload)) = (relay::scenario(), daemon::program(), Isoload::build())
    else {
        return;
    };
    let (terminals, host) = (free_address(), free_address());
    let relay = Relay { program, scenario, lane: "standard", terminals, host };
    let mut measured = Measured::default();
    for _ in 0..ROUNDS {
        for (lane, level) in &wanted {
            measured.one(&isoload, &relay, lane, *level);
        }
    }
    if !wanted.is_empty() {
        measured.tell(rows, jpos);
    }
    if wants_resume {
        resume(rows, &isoload, &relay);
    }
}

impl Measured {
    fn one(&mut self, isoload: &Isoload, relay: &Relay, lane: &'static str, level: Level) {
        let is_paced_by_flushes = (lane, level) == ("standard", Level::Closed(1, 1));
        if is_paced_by_flushes {
            self.flush();
        }
        if (lane, level) == ("standard", Level::PerSecond(20_000)) {
            self.stalls.push(stalls());
        }
        match measure(isoload, &Relay { lane, ..relay.clone() }, level) {
            Some(run) => self.runs.entry((lane, level)).or_default().push(run),
            None => self.wrong += 1,
        }
        if is_paced_by_flushes {
            self.flush();
        }
        if (lane, level) == ("turbo", Level::Closed(16, 16)) {
            let host = isoload.host();
            let (address, _proxy) = isoload.proxy(host.address);
            self.proxy.push(isoload.run(&level.arguments(address, RUN_S)).per_second);
        }
    }

    fn flush(&mut self) {
        let scratch = Scratch::new("flush");
        let bare = Bare::new(&scratch);
        self.flushes.extend((0..FLUSHES).map(|idx| bare.flush(idx)));
    }

    fn median(&self, lane: &'static str, level: Level, figure: impl Fn(&Run) -> f64) -> Option<f64> {
        self.runs.get(&(lane, level)).map(|runs| median(runs.iter().map(figure).collect()))
    }

    fn tell(&self, rows: &mut Rows, jpos: Option<&Jpos>) {
        for ((lane, level), runs) in &self.runs {
            let row = level.row(lane);
            let cpu = median(runs.iter().map(|run| run.cpu).collect());
            let note = format!(
                "{} of {ROUNDS} runs of {RUN_S} s count, median; each with a fresh process and data directory; isoload as terminals and host; {cpu:.1} µs of CPU of the switch per transaction",
                runs.len()
            );
            let of = |figure: fn(&Run) -> f64| median(runs.iter().map(figure).collect());
            let (rate, p50, p99) =
                (of(|run| run.load.per_second / 1e3), of(|run| run.load.p50), of(|run| run.load.p99));
            let what = format!("switch, {lane} wires, {}", level.name());
            if matches!(level, Level::Closed(..)) {
                let (bar, more) = self.rate_bar(lane, *level, jpos);
                rows.add_wanted(&format!("{row}.throughput"), &what, rate, "k/s", bar, &format!("{note}{more}"));
            }
            let (bar, more) = self.p50_bar(lane, *level, jpos);
            rows.add_wanted(&format!("{row}.p50"), &format!("{what}, p50"), p50, "µs", bar, &format!("{note}{more}"));
            let is_barred = (*lane, *level) == ("standard", Level::PerSecond(20_000));
            let (bar, more) =
                if is_barred { (Bar::AtMost(3_000.0), self.stalled()) } else { (Bar::None, String::new()) };
            rows.add_wanted(&format!("{row}.p99"), &format!("{what}, p99"), p99, "µs", bar, &format!("{note}{more}"));
        }
        self.tell_proxy(rows);
        self.tell_ratios(rows, jpos);
        let note =
            "runs whose answers were not all right, or not as many as the host counted; they are in no other row";
        rows.add("switch.wrong", "switch: runs that do not count", self.wrong as f64, "runs", Bar::AtMost(0.0), note);
    }

    /// What the disk does by itself.
    fn stalled(&self) -> String {
        let share = median(self.stalls.iter().map(|(sum, _)| sum.as_secs_f64() / RUN_S * 100.0).collect());
        let longest = self.stalls.iter().map(|(_, longest)| longest.as_secs_f64() * 1e3).fold(0.0, f64::max);
        format!(
            "; before each run, bare flushes of {PACED_BYTES} bytes every {PACED_EVERY:?}: {share:.2} % of the time in such that took over {STALL:?}, the longest {longest:.1} ms"
        )
    }

    fn rate_bar(&self, lane: &str, level: Level, jpos: Option<&Jpos>) -> (Bar, String) {
        match (lane, level) {
            ("standard", Level::Closed(16, 16)) => (Bar::AtLeast(100.0), String::new()),
            ("standard", Level::Closed(32, 32)) => (Bar::AtLeast(200.0), String::new()),
            ("standard", Level::Closed(8, 8)) => match jpos.and_then(|jpos| jpos.rate(8)) {
                Some(rate) => (Bar::AtLeast((rate / 1e3).round()), "; the bar is jPOS in this run".to_owned()),
                None => (Bar::None, format!("; jPOS in memory did {} k/s where the bars were set", JPOS_RECORDED.0)),
            },
            ("turbo", Level::Closed(16, 16)) if !self.proxy.is_empty() => {
                let proxy = median(self.proxy.clone()) / 1e3;
                let more = format!("; the bar is 40 % of the byte proxy, which did {proxy:.0} k/s in this run");
                (Bar::AtLeast((proxy * 0.4).round()), more)
            }
            _ => (Bar::None, String::new()),
        }
    }

    fn p50_bar(&self, lane: &str, level: Level, jpos: Option<&Jpos>) -> (Bar, String) {
        match (lane, level) {
            ("standard", Level::Closed(1, 1)) => {
                let bare = median(self.flushes.clone());
                let more = format!(
                    "; the bar is 3 bare flushes and 150 µs; a bare flush took {bare:.0} µs, measured before and after each of the runs"
                );
                (Bar::AtMost((bare * 3.0 + 150.0).round()), more)
            }
            ("turbo", Level::Closed(1, 1)) => match jpos.and_then(|jpos| jpos.p50(1)) {
                Some(p50) => (Bar::AtMost(p50), "; the bar is jPOS in this run".to_owned()),
                None => (Bar::None, format!("; jPOS did {} µs where the bars were set", JPOS_RECORDED.1)),
            },
            _ => (Bar::None, String::new()),
        }
    }

    fn tell_proxy(&self, rows: &mut Rows) {
        if self.proxy.is_empty() {
            return;
        }
        let note = "isoload's proxy, which copies bytes and parses nothing, in turns with the switch with turbo wires";
        let proxy = median(self.proxy.clone()) / 1e3;
        rows.add("peer.proxy.16x16.throughput", "byte proxy, 16x16", proxy, "k/s", Bar::None, note);
    }

    fn tell_ratios(&self, rows: &mut Rows, jpos: Option<&Jpos>) {
        let Some(jpos) = jpos else { return };
        let note = "switch against jPOS with all in memory, same machine, same run; above 1 the switch is better";
        let rate = |run: &Run| run.load.per_second;
        for (lane, terminals, bar) in
            [("standard", 8, Bar::AtLeast(1.0)), ("standard", 16, Bar::AtLeast(2.0)), ("turbo", 16, Bar::None)]
        {
            let ours = self.median(lane, Level::Closed(terminals, terminals), rate);
            if let (Some(ours), Some(theirs)) = (ours, jpos.rate(terminals)) {
                let row = format!("peer.ratio.{lane}.{terminals}x{terminals}");
                rows.add(&row, &format!("{lane} wires against jPOS, throughput"), ours / theirs, "×", bar, note);
            }
        }
        for (lane, bar) in [("standard", Bar::None), ("turbo", Bar::AtLeast(1.0))] {
            let ours = self.median(lane, Level::Closed(1, 1), |run| run.load.p50);
            if let (Some(ours), Some(theirs)) = (ours, jpos.p50(1)) {
                let row = format!("peer.ratio.{lane}.1x1.p50");
                rows.add(
                    &row,
                    &format!("jPOS against {lane} wires, p50 with one in flight"),
                    theirs / ours,
                    "×",
                    bar,
                    note,
                );
            }
        }
    }
}

/// Flushes as the journal does at 20,000 requests a second, with nothing else under way.
fn stalls() -> (Duration, Duration) {
    let scratch = Scratch::new("stalls");
    let bare = Bare::new(&scratch);
    let (mut sum, mut longest) = (Duration::ZERO, Duration::ZERO);
    let until = Instant::now() + Duration::from_secs_f64(RUN_S);
    for idx in 0.. {
        let begun = Instant::now();
        if begun >= until {
            break;
        }
        bare.flush_of(idx, PACED_BYTES);
        let took = begun.elapsed();
        if took > STALL {
            sum += took;
        }
        longest = longest.max(took);
        pause(PACED_EVERY.saturating_sub(took));
    }
    (sum, longest)
}

/// One run with everything fresh. `None`, and a word, when it does not count.
fn measure(isoload: &Isoload, relay: &Relay, level: Level) -> Option<Run> {
    let scratch = Scratch::new("switch");
    let host = isoload.host();
    let relay = Relay { host: host.address, terminals: free_address(), ..relay.clone() };
    let mut daemon = relay.start(&scratch.0.join("data"));
    daemon.ready();
    until_approved(relay.terminals);
    let before = daemon.cpu_seconds();
    let load = isoload.run(&level.arguments(relay.terminals, RUN_S));
    let cpu = (daemon.cpu_seconds() - before) * 1e6 / load.sent as f64;
    daemon.terminate();
    // And the one request of our own.
    let answered = host.answered(load.sent + 1);
    let is_right = load.bad == 0 && load.crossed == 0 && load.lost == 0;
    if is_right && answered == load.sent + 1 {
        return Some(Run { load, cpu });
    }
    let row = level.row(relay.lane);
    eprintln!("DOES NOT COUNT: {row}: {load:?}, and the host answered {answered}, expected {}", load.sent + 1);
    None
}

/// The switch with its journal on a server that flushes each write, on the same cores, against its journal in a file.
pub(crate) fn on_stream(rows: &mut Rows) {
    const ROW: &str = "jetstream.switch.16x16";
    if !rows.wants(ROW) {
        return;
    }
    let Some(server) = program(&format!("the row `{ROW}`")) else { return };
    let (Some(scenario), Some(program), Some(isoload)) = (relay::scenario(), daemon::program(), Isoload::build())
    else {
        return;
    };
    let level = Level::Closed(16, 16);
    let (terminals, host) = (free_address(), free_address());
    let file = Relay { program, scenario, lane: "standard", terminals, host };
    let (mut on_file, mut on_stream) = (Vec::new(), Vec::new());
    let rate = |run: Run| run.load.per_second / 1e3;
    for _ in 0..ROUNDS {
        let of_file = measure(&isoload, &file, level);
        let (server, scratch) = (nats::server(&server, false), Scratch::new("scenario"));
        let scenario = scratch.0.join("relay.yaml");
        let text = std::fs::read_to_string(&file.scenario).expect("it was found");
        let bus = format!(
            "\nbus: {{ servers: [\"{}\"], monitor_url: \"{}\" }}\njournal: jetstream\n",
            server.url(),
            server.monitor_url()
        );
        std::fs::write(&scenario, text + &bus).expect("the temporary folder is writable");
        let of_stream = measure(&isoload, &Relay { scenario, ..file.clone() }, level);
        if let (Some(of_file), Some(of_stream)) = (of_file, of_stream) {
            on_file.push(rate(of_file));
            on_stream.push(rate(of_stream));
        }
    }
    let counted = format!("{} of {ROUNDS} rounds of {RUN_S} s each count", on_file.len());
    let ratio = median(on_stream.iter().zip(&on_file).map(|(stream, file)| stream / file).collect());
    let (file, stream) = (median(on_file), median(on_stream));
    let note = format!(
        "{counted}, medians; {stream:.1} k/s with `journal: jetstream` and nats-server with `sync_interval: always` on the same two cores, {file:.1} k/s with the journal in a file"
    );
    let what = "switch, journal on JetStream against its journal in a file, 16x16";
    rows.add(ROW, what, ratio * 100.0, "%", Bar::AtLeast(50.0), &note);
}

/// From `kill -9` under load to the first approved answer of the next process.
fn resume(rows: &mut Rows, isoload: &Isoload, relay: &Relay) {
    let mut times = Vec::new();
    for _ in 0..KILLS {
        let scratch = Scratch::new("resume");
        let host = isoload.host();
        let relay = Relay { host: host.address, terminals: free_address(), ..relay.clone() };
        let data_dir = scratch.0.join("data");
        let mut daemon = relay.start(&data_dir);
        daemon.ready();
        until_approved(relay.terminals);
        let terminals = isoload.beside(&Level::Closed(16, 16).arguments(relay.terminals, 60.0));
        pause(Duration::from_secs(2));
        let killed = Instant::now();
        daemon.kill();
        let _next = relay.start(&data_dir);
        times.push((until_approved(relay.terminals) - killed).as_secs_f64() * 1e3);
        drop(terminals);
    }
    let slowest = times.iter().copied().fold(0.0, f64::max);
    let note = format!(
        "standard wires, 16x16 in flight for 2 s, `kill -9`, a new process at once over the same data directory; median of {KILLS}, slowest {slowest:.0} ms"
    );
    let what = "switch: `kill -9` under load to the first answer";
    rows.add("switch.resume", what, median(times), "ms", Bar::AtMost(1_000.0), &note);
}
