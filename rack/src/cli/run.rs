//! `fluxrig run`: the daemon. Logs go to stderr, for people on a terminal and as JSON lines elsewhere.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use fluxrig_actors::Orphans;
use fluxrig_rack::{Rack, RackError, RackOptions, exit, with_causes};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tracing_subscriber::EnvFilter;

use super::{OrphansChoice, RunArgs, complain};
use crate::cli::{check, mask};

pub(super) fn run(args: &RunArgs, log_level: &str) -> u8 {
    if let Err(error) = start_log(log_level) {
        complain(&format!(
            "--log-level: found `{log_level}` ({error}), expected a level or a filter; remedy: try `info`"
        ));
        return exit::USAGE;
    }
    fluxrig_rack::limit_panic_reports();
    let rack = match Rack::load(&args.file, &fluxrig_gears::standard()) {
        Ok(rack) => rack,
        Err(error) => return refuse(&args.file, &error),
    };
    for warning in &rack.checked().warnings {
        tracing::warn!("{warning}");
    }
    let options = RackOptions {
        data_dir: args.at.data_dir.clone(),
        rack: args.rack.clone(),
        metrics: args.metrics,
        standby: args.standby,
        orphans: match args.orphans {
            OrphansChoice::Refuse => Orphans::Refuse,
            OrphansChoice::Dlq => Orphans::DeadLetter,
        },
        drain: Duration::from_millis(args.drain_ms),
        mask: mask::shown,
        redactor: Some(fluxrig_gears::iso8583::redacted),
        // The running binary, also where its file was replaced meanwhile.
        guard: Some("/proc/self/exe".into()),
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = args.threads {
        runtime.worker_threads(threads.into());
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!(
                "runtime: found no threads ({error}), expected some; remedy: raise the limits of the process"
            ));
            return exit::TRY_AGAIN;
        }
    };
    let code = runtime.block_on(live(rack, options, &args.file));
    // What still blocks is of no use to anybody any more.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

fn start_log(log_level: &str) -> Result<(), String> {
    // Its spans name actors by numbers, which say nothing that our events do not say better.
    let filter = EnvFilter::try_new(format!("ractor=warn,{log_level}")).map_err(|error| error.to_string())?;
    let is_terminal = std::io::stderr().is_terminal();
    // An empty NO_COLOR counts as none (no-color.org).
    let has_color = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(has_color);
    // A log that cannot be written (a full disk) is no reason to panic, wherever it happens: the journal's writer logs.
    let log = log.log_internal_errors(false);
    let started = if is_terminal { log.try_init() } else { log.json().flatten_event(true).try_init() };
    started.map_err(|error| error.to_string())
}

pub(super) fn refuse(file: &Path, error: &RackError) -> u8 {
    match error {
        RackError::Scenario(errors) => complain(check::pointed(file, &errors.0).trim_end()),
        other => complain(&with_causes(other)),
    }
    error.exit_code()
}

/// Signals this close together are one: `timeout`, or a shell with the process group, sends its own twice.
const SAME_SIGNAL: Duration = Duration::from_millis(50);

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn live(rack: Rack, options: RackOptions, file: &Path) -> u8 {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!(
                "signals: found none to be had ({error}), expected SIGTERM and SIGINT; remedy: see the system's limits"
            ));
            return exit::FAILED;
        }
    };
    // A signal during a long recovery ends it at once: nothing runs yet, and the journal is as it was.
    let started = tokio::select! {
        started = rack.start(options) => started,
        () = signals.next() => return exit::DONE,
    };
    let running = match started {
        Ok(running) => running,
        Err(error) => return refuse(file, &error),
    };
    let ended = tokio::select! {
        error = running.ended() => Some(error),
        () = signals.next() => None,
    };
    let first = Instant::now();
    if ended.is_none() {
        tracing::info!("draining");
    }
    let again = async {
        loop {
            signals.next().await;
            if first.elapsed() >= SAME_SIGNAL {
                return;
            }
        }
    };
    tokio::select! {
        is_drained = running.stop() => match is_drained {
            true => tracing::info!("rack stopped"),
            false => tracing::warn!("rack stopped before everything under way was done"),
        },
        // What is on standard wires stays in the journal.
        () = again => tracing::warn!("rack ended by a second signal, not drained"),
    }
    match ended {
        Some(error) => refuse(file, &error),
        None => exit::DONE,
    }
}
