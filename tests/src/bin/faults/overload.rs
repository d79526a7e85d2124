//! Overload: while a consumer is not there its wire fills, the door closes, the source is not read and memory stays as
//! it is; and one terminal of 500 that asks without end and never reads is cut off alone. All goes on afterwards.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fluxrig_tests::outside::chance::Chance;
use fluxrig_tests::outside::iso::{self, Line};
use fluxrig_tests::outside::payments::{FLOODING, Payments, SCENARIO};
use fluxrig_tests::outside::pipeline::Pipeline;
use fluxrig_tests::outside::session::{Session, shown};
use fluxrig_tests::outside::{World, place, tried, wait};

use super::class::{Ask, Report, Stop};

/// Within this time a wire is full, and a connection that reads nothing is closed.
const FULL_MAX: Duration = Duration::from_secs(60);
const CALM: Duration = Duration::from_millis(500);
/// How long a closed door is watched.
const WATCHED: Duration = Duration::from_secs(1);
/// What the terminals' endpoint is told beside the example: it is not the time to write that ends a connection here.
const TERMINALS: (&str, &str) = ("framing: { length: be16 } }", "framing: { length: be16 }, write_ms: 600000 }");
/// A terminal that never reads asks for so much, so often.
const STROKE: Duration = Duration::from_millis(20);
const STROKE_REQUESTS: u32 = 60;
/// Memory may breathe, but not grow with what peers would like to send.
const GROWTH_KIB_MAX: u64 = 8 << 10;

pub(crate) fn run(ask: &Ask, rounds: u64, chance: &mut Chance, report: &mut Report) -> Result<(), Stop> {
    report.expect("no consumer");
    report.expect("never reads");
    for _ in 0..rounds.div_ceil(2) {
        let mut session = Session::new(Pipeline::new(&ask.daemon, None, chance)?);
        let outcome = no_consumer(&mut session, report);
        report.session(&mut session);
        outcome?;
        let scenario = SCENARIO.replacen(TERMINALS.0, TERMINALS.1, 1);
        let payments = Payments::with(&scenario, &ask.daemon, None, chance)?.with_a_crowd(chance);
        let mut session = Session::new(payments);
        let outcome = never_reads(&mut session, report);
        report.session(&mut session);
        outcome?;
    }
    Ok(())
}

fn no_consumer(session: &mut Session<Pipeline>, report: &mut Report) -> Result<(), String> {
    let nobody = place::address()?;
    session.world.set("LEDGER", &nobody.to_string());
    session.start(1)?;
    let mut last = 0;
    let is_calm = wait::until(FULL_MAX, || {
        wait::pass(CALM);
        std::mem::replace(&mut last, session.world.progress()) == session.world.progress()
    });
    let top = session.rack().top()?;
    let is_told = top["doors"].as_array().is_some_and(|doors| doors.iter().any(|door| door["state"] == "full wire"));
    if !is_calm || !is_told {
        return Err(format!("{last} lines without a consumer, doors {}", top["doors"]));
    }
    let before = session.daemon()?.memory_kib()?;
    wait::pass(WATCHED);
    let after = session.daemon()?.memory_kib()?;
    if after > before + GROWTH_KIB_MAX || session.world.progress() != last {
        let more = session.world.progress() - last;
        return Err(format!("behind a closed door: memory from {before} to {after} KiB, and {more} more lines"));
    }
    report.fired("no consumer");
    report.note(format!("no consumer: door closed after {last} lines, memory {before} and then {after} KiB"));
    session.world.open_ledger_at(nobody)?;
    session.until_answers(500)?;
    session.end()
}

/// A connection for which the system keeps little: it is the rack's own bound that has to end it.
fn narrow(address: SocketAddr) -> std::io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_recv_buffer_size(&socket, 4 << 10)?;
    connect(&socket, &address)?;
    Ok(socket.into())
}

/// Asks without end until its connection ends; how often it has asked.
fn flood(mut line: Line, asked: &AtomicU64) {
    for number in 1.. {
        if !line.send(&iso::payment(FLOODING, number)) {
            return;
        }
        asked.fetch_add(1, Ordering::Relaxed);
        // As much as the bank can bear: how long others wait for it is no matter of the rack.
        if number % STROKE_REQUESTS == 0 {
            wait::pass(STROKE);
        }
    }
}

fn never_reads(session: &mut Session<Payments>, report: &mut Report) -> Result<(), String> {
    session.start(500)?;
    let before = session.world.terminals().slowest();
    let line = Line::new(narrow(session.world.address()).map_err(tried("a terminal"))?);
    line.set_patience(FULL_MAX);
    let asked = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&asked);
    let flooding = std::thread::spawn(move || flood(line, &seen));
    let (mut slowest, mut stalled, mut stall) = (u64::MAX, Duration::ZERO, String::new());
    let is_cut = wait::until(FULL_MAX, || {
        let before = session.world.progress();
        wait::until(WATCHED, || flooding.is_finished());
        let answers = session.world.progress() - before;
        if !flooding.is_finished() {
            slowest = slowest.min(answers);
        }
        if answers == 0 {
            stalled += WATCHED;
        }
        if answers == 0 && stall.is_empty() {
            stall = session.rack().top().map_or_else(|error| error, |top| shown(&top));
        }
        flooding.is_finished()
    });
    let number = asked.load(Ordering::Relaxed);
    if !is_cut {
        return Err(format!("{number} requests, no answer read, and the connection is still there"));
    }
    report.fired("never reads");
    if !stalled.is_zero() {
        return Err(format!("others had no answer for {stalled:?}: {stall}"));
    }
    let counted = session.rack().counted(&["fluxrig_gear_count_total", "connections_closed", "\"unsent\""])?
        + session.rack().counted(&["fluxrig_gear_count_total", "connections_closed", "\"write\""])?;
    report.note(format!(
        "never reads: cut off after {number} requests; the 499 others had {slowest} answers in {WATCHED:?} at least, the slowest after {:?} ({before:?} before)",
        session.world.terminals().slowest()
    ));
    if counted == 0 {
        return Err("a connection that does not read ended, and was not counted as such".to_owned());
    }
    session.until_answers(100)?;
    session.end()
}
