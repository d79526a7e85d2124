//! `kill -9`: what a terminal was told and what a bank has seen stay so. The bank is the test's own and outlives every
//! kill; it notes each request by its fields 11 and 37, and nothing may come to it twice.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use fluxrig_gears::iso8583::Decoded;
use serde_json::Value;
use tokio::time::Instant;

use crate::harness::{Daemon, TempDir, counted, done, free_addresses, text as utf8, wait_until};
use crate::terminal::{Line, answer, payment, text};

const KILLS: usize = 20;
const TERMINALS: usize = 4;
/// Requests of one terminal without an answer at a time.
const OPEN_MAX: usize = 16;
/// All of it takes less than a minute; a run that hangs ends.
const RUN_MAX: Duration = Duration::from_secs(180);
/// What was answered first is asked again last, on a slow machine after the usual minute.
const WINDOW: (&str, &str) = ("      timeout_ms: ", "      repeats: { window_ms: 600000 }\n      timeout_ms: ");
const RELAY: &str = include_str!("../../../examples/payments/relay.yaml");

/// The relay between its terminals and the bank of the test.
struct Relay {
    dir: TempDir,
    scenario: PathBuf,
    address: SocketAddr,
    bank: SocketAddr,
}

impl Relay {
    fn new(bank: &TcpListener) -> Self {
        Self::of(bank, RELAY)
    }

    /// Waits longer for an answer than a start takes on a machine with other things to do.
    fn patient(bank: &TcpListener) -> Self {
        Self::of(bank, &RELAY.replacen("timeout_ms: 10000\n", "timeout_ms: 120000\n", 1))
    }

    fn of(bank: &TcpListener, scenario: &str) -> Self {
        let dir = TempDir::new();
        let scenario = dir.file("relay.yaml", &scenario.replacen(WINDOW.0, WINDOW.1, 1));
        let [address] = free_addresses();
        Self { dir, scenario, address, bank: bank.local_addr().unwrap() }
    }

    fn start(&self) -> Daemon {
        let variables = [("TERMINALS", self.address), ("HOST", self.bank)];
        Daemon::start_set(&self.scenario, &self.dir.0.join("data"), &variables)
    }

    /// Asks for payments until one is approved: the line to the bank is up.
    fn until_up(&self, number: usize) {
        let mut line = Line::connect(self.address);
        let mut numbers = number..;
        wait_until("a payment is approved", || {
            text(&line.asked(&payment('4', 9999, numbers.next().unwrap())), "39") == "00"
        });
    }

    fn end(&self, daemon: Daemon) {
        let (code, log) = daemon.terminate();
        assert_eq!(code, Some(0), "{log}");
        let output = done(&["journal", "verify", "--data-dir", self.dir.0.join("data").to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", utf8(&output.stderr));
    }
}

/// Which request it is, whoever asks.
fn name(message: &Decoded) -> String {
    format!("{} {}", text(message, "11"), text(message, "37"))
}

/// How often each request came.
type Seen = Arc<Mutex<HashMap<String, usize>>>;

/// A bank that approves everything, for ever.
fn approving(bank: TcpListener) -> Seen {
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    std::thread::spawn(move || {
        loop {
            let (mut line, seen) = (Line::accept(&bank), Arc::clone(&noted));
            std::thread::spawn(move || {
                while let Some(request) = line.try_receive() {
                    *seen.lock().unwrap().entry(name(&request)).or_default() += 1;
                    if !line.try_send(&answer(&request, "00")) {
                        return;
                    }
                }
            });
        }
    });
    seen
}

/// What all terminals of a run share.
#[derive(Default)]
struct Run {
    /// Somebody listens. A terminal that dialled a port nobody has could, by chance, reach itself from that very port.
    is_up: AtomicBool,
    /// No new requests from here on; those that are open are asked until they are answered.
    is_ending: AtomicBool,
    answered: AtomicUsize,
}

/// One request and what came to it.
#[derive(Default)]
struct Asked {
    number: usize,
    codes: Vec<String>,
    /// On how many connections it was asked.
    times: usize,
}

/// Asks, and asks again after each kill whatever has no answer, until the run ends and nothing is open.
fn terminal(number: usize, address: SocketAddr, run: &Run) -> HashMap<String, Asked> {
    let mut asked: HashMap<String, Asked> = HashMap::new();
    let mut open: Vec<Decoded> = Vec::new();
    let mut next = 0;
    let until = Instant::now() + RUN_MAX;
    while !(run.is_ending.load(Ordering::Relaxed) && open.is_empty()) {
        assert!(Instant::now() < until, "terminal {number}: {} requests without an answer", open.len());
        if !run.is_up.load(Ordering::SeqCst) {
            std::thread::yield_now();
            continue;
        }
        let Ok(stream) = TcpStream::connect(address) else { continue };
        let mut line = Line::new(stream);
        // Once on each connection, and at most one answer to it there.
        let mut unsent: Vec<Decoded> = std::mem::take(&mut open);
        let mut here = HashSet::new();
        loop {
            while open.len() + unsent.len() < OPEN_MAX && !run.is_ending.load(Ordering::Relaxed) {
                next += 1;
                let request = payment('4', number, next);
                asked.insert(name(&request), Asked { number: next, ..Asked::default() });
                unsent.push(request);
            }
            let mut is_alive = true;
            for request in unsent.drain(..) {
                here.insert(name(&request));
                asked.get_mut(&name(&request)).unwrap().times += 1;
                is_alive = is_alive && line.try_send(&request);
                open.push(request);
            }
            if open.is_empty() || !is_alive {
                break;
            }
            let Some(found) = line.try_receive() else { break };
            let of = name(&found);
            assert!(here.remove(&of), "terminal {number}: a second answer, or one to no request: {of}");
            assert_eq!(&*found.mti, "0110");
            open.retain(|request| name(request) != of);
            asked.get_mut(&of).unwrap().codes.push(text(&found, "39").to_owned());
            run.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
    asked
}

#[test]
fn twenty_kills_under_load_leave_one_outcome_for_each_request() {
    let bank = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = Relay::new(&bank);
    let seen = approving(bank);
    let run = Arc::new(Run::default());
    let mut daemon = relay.start();
    relay.until_up(1);
    run.is_up.store(true, Ordering::SeqCst);
    let terminals: Vec<JoinHandle<_>> = (1..=TERMINALS)
        .map(|number| {
            let (run, address) = (Arc::clone(&run), relay.address);
            std::thread::spawn(move || terminal(number, address, &run))
        })
        .collect();
    for kill in 0..KILLS {
        // In the middle of the load, each time at another place.
        let enough = run.answered.load(Ordering::Relaxed) + 20 + 37 * kill % 300;
        while run.answered.load(Ordering::Relaxed) < enough {
            assert!(!terminals.iter().any(JoinHandle::is_finished), "a terminal failed");
            std::thread::yield_now();
        }
        run.is_up.store(false, Ordering::SeqCst);
        daemon.kill();
        daemon = relay.start();
        run.is_up.store(true, Ordering::SeqCst);
    }
    run.is_ending.store(true, Ordering::Relaxed);
    let asked: Vec<HashMap<String, Asked>> = terminals.into_iter().map(|thread| thread.join().unwrap()).collect();

    let mut counts: HashMap<(&str, usize, bool), usize> = HashMap::new();
    let times_seen = |of: &String| seen.lock().unwrap().get(of).copied().unwrap_or(0);
    for (of, asked) in asked.iter().flatten() {
        let code = asked.codes.first().unwrap().as_str();
        assert_eq!(asked.codes.len(), 1, "{of}: {:?}", asked.codes);
        match (code, times_seen(of)) {
            ("00", 1) | ("91", 0 | 1) => {}
            (code, times) => panic!("{of}: answered {code}, and the bank saw it {times} times"),
        }
        *counts.entry((code, times_seen(of), asked.times > 1)).or_default() += 1;
    }
    println!("by code, how often the bank saw it, and whether it was repeated: {counts:?}");
    assert!(counts.contains_key(&("00", 1, true)), "no repeat was answered: {counts:?}");
    until_gone(&daemon, 1);
    let before = Outcomes::of(&daemon);
    let (repeated, sent) = ask_again(&relay, &asked, &seen);
    let after = Outcomes::of(&daemon);
    // What was asked again is answered from memory, or never was sent before; nothing else happened meanwhile.
    assert_eq!((after.repeats - before.repeats, after.sent - before.sent), (repeated, sent));
    assert_eq!(
        (after.answered - before.answered, after.expired, after.duplicates),
        (sent, before.expired, before.duplicates)
    );
    // Each request that this process sent has an outcome here, and those that it found open, too.
    assert!(after.answered + after.expired + after.undeliverable >= after.sent, "{after:?}");
    assert_eq!(after.broken, 0);
    relay.end(daemon);
}

/// The newest requests of each terminal again. What ended with an answer or without one in time is answered the same,
/// and the bank hears nothing. What was refused because no line was up was never sent, so it may be sent now, once.
fn ask_again(relay: &Relay, asked: &[HashMap<String, Asked>], seen: &Seen) -> (u64, u64) {
    let (mut repeated, mut sent) = (0, 0);
    let before = seen.lock().unwrap().clone();
    for (idx, asked) in asked.iter().enumerate() {
        let mut line = Line::connect(relay.address);
        let newest = asked.values().map(|asked| asked.number).max().unwrap();
        for (of, asked) in asked.iter().filter(|(_, asked)| asked.number + 100 > newest) {
            let request = payment('4', idx + 1, asked.number);
            let again = line.asked(&request);
            assert_eq!(again, answer(&request, text(&again, "39")));
            let (code, had) = (text(&again, "39"), asked.codes[0].as_str());
            let is_sent_now = (had, code, before.get(of)) == ("91", "00", None);
            assert!(code == had || is_sent_now, "{of}: answered {had}, and then {code}");
            *(if is_sent_now { &mut sent } else { &mut repeated }) += 1;
            let times = usize::from(is_sent_now) + before.get(of).unwrap_or(&0);
            assert_eq!(seen.lock().unwrap().get(of).unwrap_or(&0), &times, "{of}");
        }
    }
    (repeated, sent)
}

/// What the switch itself has counted since it was started.
#[derive(Debug)]
struct Outcomes {
    sent: u64,
    answered: u64,
    expired: u64,
    undeliverable: u64,
    repeats: u64,
    duplicates: u64,
    broken: u64,
}

impl Outcomes {
    fn of(daemon: &Daemon) -> Self {
        let (_, page) = daemon.get("/metrics");
        let count = |name: &str, label: &str| counted(&page, "switch", name, label);
        Self {
            sent: count("requests_sent", "host"),
            answered: count("outcomes", "answered"),
            expired: count("outcomes", "expired"),
            undeliverable: count("outcomes", "undeliverable"),
            repeats: count("messages", "repeat"),
            duplicates: count("messages", "duplicate"),
            broken: count("messages", "broken_record"),
        }
    }
}

/// Waits until the line to the bank is up: a request that comes before is declined.
fn until_linked(daemon: &Daemon) {
    daemon.until(|top| top["links"][0]["is_up"] == true);
}

/// Waits for so many dead letters, all of answers whose connection is gone.
fn until_gone(daemon: &Daemon, count: u64) {
    daemon.until(|top| top["dead_letters"].as_u64() >= Some(count));
    for letter in daemon.letters() {
        assert_eq!((&letter["gear"], &letter["reason"]), (&"terminals".into(), &"gone".into()));
    }
}

#[test]
fn an_answer_after_a_kill_is_gone_and_the_repeat_is_answered_from_memory() {
    let bank = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = Relay::patient(&bank);
    let mut daemon = relay.start();
    let mut at_bank = Line::accept(&bank);
    until_linked(&daemon);
    let mut terminal = Line::connect(relay.address);
    let request = payment('4', 1, 1);
    terminal.send(&request);
    assert_eq!(at_bank.receive(), request);
    // The line has ended it, and that is durable: a purge is answered only when all before it is.
    let is_sent = |top: &Value| {
        let wires = top["wires"].as_array().unwrap();
        wires.iter().any(|wire| wire["name"] == "write_host.out->line.in" && wire["depth"] == 0 && wire["passed"] == 1)
    };
    daemon.until(is_sent);
    assert!(daemon.ask(&["dlq", "purge", "--all", "--yes"]).status.success());
    daemon.kill();

    let daemon = relay.start();
    let mut at_bank = Line::accept(&bank);
    at_bank.send(&answer(&request, "00"));
    until_gone(&daemon, 1);
    let mut terminal = Line::connect(relay.address);
    let again = terminal.asked(&request);
    assert_eq!(again, answer(&request, "00"));
    // The next thing that the bank sees is another request.
    let other = payment('4', 1, 2);
    terminal.send(&other);
    assert_eq!(at_bank.receive(), other);
    at_bank.send(&answer(&other, "00"));
    assert_eq!(terminal.receive(), answer(&other, "00"));
    relay.end(daemon);
}

#[test]
fn what_was_with_the_line_at_a_kill_is_never_sent_again_and_counts_as_timed_out() {
    let bank = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = Relay::new(&bank);
    let mut daemon = relay.start();
    let mut at_bank = Line::accept(&bank);
    until_linked(&daemon);
    let request = payment('4', 1, 1);
    Line::connect(relay.address).send(&request);
    assert_eq!(at_bank.receive(), request);
    // At once: that it was sent is not on the disk yet, or only just.
    daemon.kill();

    let daemon = relay.start();
    let mut at_bank = Line::accept(&bank);
    // Reported when the line is up again, or else at the deadline; its asker is gone either way.
    until_gone(&daemon, 1);
    let mut terminal = Line::connect(relay.address);
    assert_eq!(text(&terminal.asked(&request), "39"), "91");
    let other = payment('4', 1, 2);
    terminal.send(&other);
    assert_eq!(at_bank.receive(), other);
    at_bank.send(&answer(&other, "00"));
    assert_eq!(terminal.receive(), answer(&other, "00"));
    relay.end(daemon);
}
