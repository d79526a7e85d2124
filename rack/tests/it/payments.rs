//! The payments scenario: every kind of answer, banks that go down and come back, and terminals that behave badly.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use fluxrig_gears::iso8583::Decoded;
use tokio::time::Instant;

use crate::harness::{Daemon, TempDir, done, fluxrig, free_addresses, get, passed, text as utf8, wait_until};
use crate::taps::Tap;
use crate::terminal::{Line, answer, payment, spec, text};

const SCENARIO: &str = include_str!("../../../examples/payments/scenario.yaml");

/// The switch with its two simulated banks, and where terminals connect.
pub(crate) struct Payments {
    pub(crate) daemon: Daemon,
    pub(crate) address: SocketAddr,
}

impl Payments {
    pub(crate) fn start(dir: &TempDir) -> Self {
        Self::start_as(dir, SCENARIO)
    }

    fn start_as(dir: &TempDir, scenario: &str) -> Self {
        let [terminals, bank_1, bank_2] = free_addresses();
        let variables = [("TERMINALS", terminals), ("BANK_1", bank_1), ("BANK_2", bank_2)];
        let daemon = Daemon::start_set(&dir.file("payments.yaml", scenario), &dir.0.join("data"), &variables);
        let payments = Self { daemon, address: terminals };
        let mut line = payments.line();
        let mut number = 900_000;
        // Until the line to the bank is up, there is no destination.
        wait_until("a payment is approved", || {
            number += 1;
            text(&line.asked(&payment('4', 9999, number)), "39") == "00"
        });
        payments
    }

    fn line(&self) -> Line {
        Line::connect(self.address)
    }

    fn end(self) {
        let (code, log) = self.daemon.terminate();
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains("111110001"), "a card number is in the log: {log}");
    }
}

#[test]
fn the_scenarios_are_without_fault() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/payments");
    for name in ["scenario.yaml", "relay.yaml"] {
        let output = done(&["lint", "--deny-warnings", &format!("{folder}/{name}")]);
        assert_eq!(output.status.code(), Some(0), "{}", utf8(&output.stdout));
    }
}

fn sign_on(number: usize) -> Decoded {
    let texts = [("7", "1121101112".to_owned()), ("11", format!("{number:06}")), ("70", "301".to_owned())];
    Decoded { mti: "0800".into(), fields: texts.into_iter().collect() }
}

#[test]
fn every_request_is_answered_as_its_card_number_says() {
    let dir = TempDir::new();
    let payments = Payments::start(&dir);
    let mut line = payments.line();
    for (first, code) in [('4', "00"), ('5', "05"), ('9', "92")] {
        let request = payment(first, 1, usize::from(code.as_bytes()[1]));
        assert_eq!(line.asked(&request), answer(&request, code));
        // A repeat is answered from memory, and so is one under the type of a repeat.
        if first != '9' {
            let again = line.asked(&Decoded { mti: "0101".into(), ..request.clone() });
            assert_eq!(again, answer(&request, code));
        }
    }
    let request = sign_on(7);
    assert_eq!(line.asked(&request), answer(&request, "00"));
    // Asked first and answered last: nobody waits for a bank that is silent.
    let (silent, quick) = (payment('6', 1, 100), payment('4', 1, 101));
    let since = Instant::now();
    line.send(&silent);
    assert_eq!(line.asked(&quick), answer(&quick, "00"));
    assert_eq!(line.receive(), answer(&silent, "91"));
    assert!(since.elapsed() >= Duration::from_secs(2));
    payments.end();
}

#[test]
fn whatever_a_gear_counts_is_in_its_manual() {
    let dir = TempDir::new();
    let payments = Payments::start(&dir);
    let (_, page) = payments.daemon.get("/metrics");
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let mut seen = 0;
    for (gear, type_name) in [("terminals", "io_iso8583"), ("line_1", "io_iso8583"), ("switch", "conductor")] {
        let manual = utf8(&done(&["gears", "doc", type_name]).stdout);
        let is_its = |line: &&str| line.starts_with(&format!("fluxrig_gear_count_total{{gear=\"{gear}\","));
        for line in page.lines().filter(is_its) {
            for word in [label(line, "name"), label(line, ",label")] {
                // A destination is named by the scenario.
                assert!(word.starts_with("bank_") || manual.contains(&format!("`{word}`")), "{type_name}: {word}");
            }
            seen += 1;
        }
    }
    assert!(seen > 40, "{page}");
    assert!(utf8(&done(&["gears", "doc", "io_tcp"]).stdout).contains("`connections_opened`"));
    payments.end();
}

#[test]
fn a_drain_waits_for_what_is_open() {
    let dir = TempDir::new();
    let payments = Payments::start(&dir);
    let mut line = payments.line();
    let sent = |top: &serde_json::Value| passed(top, "write_1.out->line_1.in");
    let before = sent(&payments.daemon.top());
    let silent = payment('6', 1, 1);
    line.send(&silent);
    payments.daemon.until(|top| sent(top) > before);
    // It ends only when the request has its answer.
    payments.end();
    assert_eq!(line.receive(), answer(&silent, "91"));
}

#[test]
fn a_rack_that_drains_says_what_it_waits_for() {
    let dir = TempDir::new();
    let bank = TcpListener::bind("127.0.0.1:0").unwrap();
    let [terminals] = free_addresses();
    let relay =
        include_str!("../../../examples/payments/relay.yaml").replace("timeout_ms: 10000", "timeout_ms: 120000");
    let variables = [("TERMINALS", terminals), ("HOST", bank.local_addr().unwrap())];
    let scenario = dir.file("relay.yaml", &relay);
    let daemon = Daemon::start_set_with(&scenario, &dir.0.join("data"), &variables, &["--drain-ms", "120000"]);
    let metrics = daemon.top()["metrics"].as_str().unwrap().to_owned();
    let mut terminal = Line::connect(terminals);
    let mut bank = until_at(&mut terminal, &bank, &mut (1..));
    let slow = payment('4', 2, 1);
    terminal.send(&slow);
    let asked = bank.receive();
    daemon.signal();
    let open = serde_json::json!({ "what": "open requests", "name": "switch", "count": 1 });
    daemon.until(|top| {
        let gears = top["tree"].to_string();
        top["is_draining"] == true && top["waiting"] == serde_json::json!([open]) && gears.contains("switch-0")
    });
    let page = get(&metrics, "/metrics").1;
    for line in [
        "fluxrig_draining 1",
        "fluxrig_ready 0",
        "fluxrig_drain_waiting{name=\"switch\",what=\"open requests\"} 1",
        "fluxrig_link_up{endpoint=\"line\"} 1",
        "fluxrig_gear_failed{gear=\"switch\"} 0",
    ] {
        assert!(page.contains(&format!("{line}\n")), "{line}: {page}");
    }
    assert!(page.contains("fluxrig_journal_flushed_epoch "), "{page}");
    assert_eq!(get(&metrics, "/readyz"), (503, "draining\n".to_owned()));
    assert_eq!(get(&metrics, "/healthz").0, 200);
    // The answer ends the drain.
    bank.send(&answer(&asked, "00"));
    assert_eq!(terminal.receive(), answer(&slow, "00"));
    assert_eq!(daemon.ended().0, Some(0));
}

#[test]
fn bytes_that_are_no_message_are_a_dead_letter_without_card_data() {
    let dir = TempDir::new();
    let payments = Payments::start(&dir);
    let mut line = payments.line();
    assert!(line.send_bytes(b"0100 card 4111111111111111"));
    // A card number in a message that only lacks its end.
    let request = payment('4', 1, 1);
    let bytes = spec().encode(&request.mti, &request.fields).unwrap();
    assert!(line.send_bytes(&bytes[..bytes.len() - 1]));
    assert_eq!(line.asked(&request), answer(&request, "00"));
    payments.daemon.until(|top| top["dead_letters"] == 2);
    for letter in payments.daemon.letters() {
        let shown = utf8(&payments.daemon.ask(&["dlq", "show", &letter["seq"].to_string()]).stdout);
        assert!(shown.contains("read") && !shown.contains("411111"), "{shown}");
        // Nothing is left of the bytes: sent again there is nothing to decode.
        let output = payments.daemon.ask(&["dlq", "replay", "--wait", "1h", &letter["seq"].to_string()]);
        let told = utf8(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("  dead again as ") && told.contains("`raw`: found none"), "{told}");
    }
    let is_without = |letter: &serde_json::Value| letter["reason"].as_str().unwrap().starts_with("`raw`: found none");
    wait_until("they are dead again", || payments.daemon.letters().iter().all(is_without));
    payments.end();
}

#[test]
fn what_passes_is_looked_at_without_card_data() {
    let dir = TempDir::new();
    let payments = Payments::start(&dir);
    let data_dir = dir.0.join("data");
    let (mut lines, mut objects) = (Tap::open(&data_dir, &["read.out->*"]), Tap::open(&data_dir, &["*", "--json"]));
    let request = payment('4', 1, 42);
    assert_eq!(payments.line().asked(&request), answer(&request, "00"));
    let line = lines.line();
    assert!(
        line.contains("  read.out->switch.in  ") && line.contains("  0100 2=411111******0042 3=000000 4="),
        "{line}"
    );
    let (mut shown, mut wires) = (line, Vec::new());
    // From the terminal to the bank and back: every wire of the way shows it once.
    while wires.last().is_none_or(|wire| wire != "write.out->terminals.in") {
        let object: serde_json::Value = serde_json::from_str(&objects.line()).unwrap();
        wires.push(object["wire"].as_str().unwrap().to_owned());
        shown.push_str(&object.to_string());
    }
    assert!(wires.len() >= 10 && shown.contains("primary account number  411111******0042"), "{shown}");
    assert!(!shown.contains("111110001") && !shown.contains(&hex("111110001")), "{shown}");
    for tap in [lines, objects] {
        tap.signal("-INT");
        let (code, rest, error) = tap.end();
        assert!(code == Some(0) && error.ends_with(" 0 missed\n") && !rest.contains("111110001"), "{rest}{error}");
    }
    payments.end();
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// The scenario without its banks, which the test plays.
fn without_banks() -> String {
    let (before, rest) = SCENARIO.split_once("  # Bank 1, which").unwrap();
    let (_, wires) = rest.split_once("\nwires:\n").unwrap();
    let wires: Vec<&str> = wires.lines().filter(|line| !line.contains("host_")).collect();
    format!("{before}\nwires:\n{}\n", wires.join("\n"))
}

/// Sends new requests until one comes to this bank, which approves it; what comes before must be declined.
fn until_at(terminal: &mut Line, bank: &TcpListener, numbers: &mut std::ops::RangeFrom<usize>) -> Line {
    let mut line = Line::accept(bank);
    let mut asker = terminal.try_clone();
    let requests: Vec<Decoded> = numbers.by_ref().take(1000).map(|number| payment('4', 1, number)).collect();
    std::thread::scope(|scope| {
        let bank = scope.spawn(move || {
            let request = line.receive();
            line.send(&answer(&request, "00"));
            (line, request)
        });
        for request in &requests {
            let found = asker.asked(request);
            if found == answer(request, "00") {
                let (line, seen) = bank.join().unwrap();
                assert_eq!(seen, *request);
                return line;
            }
            assert_eq!(found, answer(request, "91"));
        }
        panic!("found no request at the bank, expected one");
    })
}

#[test]
fn the_second_bank_is_asked_while_the_first_is_down() {
    let dir = TempDir::new();
    let (bank_1, bank_2) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let [terminals] = free_addresses();
    let addresses = [bank_1.local_addr().unwrap(), bank_2.local_addr().unwrap()];
    let variables = [("TERMINALS", terminals), ("BANK_1", addresses[0]), ("BANK_2", addresses[1])];
    let scenario = dir.file("payments.yaml", &without_banks());
    let daemon = Daemon::start_set(&scenario, &dir.0.join("data"), &variables);
    let (mut terminal, mut numbers) = (Line::connect(terminals), 1..);

    let mut line_1 = until_at(&mut terminal, &bank_1, &mut numbers);
    // Both are up: the first one it stays.
    for number in numbers.by_ref().take(20) {
        let request = payment('4', 1, number);
        terminal.send(&request);
        assert_eq!(line_1.receive(), request);
        line_1.send(&answer(&request, "00"));
        assert_eq!(terminal.receive(), answer(&request, "00"));
    }
    drop((line_1, bank_1));
    let line_2 = until_at(&mut terminal, &bank_2, &mut numbers);
    drop((line_2, bank_2));
    // Both are down: an answer all the same, and at last at once, without waiting for a bank.
    wait_until("a decline comes at once", || {
        let (request, since) = (payment('4', 1, numbers.next().unwrap()), Instant::now());
        assert_eq!(terminal.asked(&request), answer(&request, "91"));
        since.elapsed() < Duration::from_secs(2)
    });
    let bank_1 = TcpListener::bind(addresses[0]).unwrap();
    drop(until_at(&mut terminal, &bank_1, &mut numbers));
    let (code, log) = daemon.terminate();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_port_in_use_is_told_with_its_gear() {
    let dir = TempDir::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let [bank_1, bank_2] = free_addresses();
    for (name, gear) in [("TERMINALS", "terminals"), ("BANK_2", "host_2")] {
        let mut variables = vec![("TERMINALS", free_addresses::<1>()[0]), ("BANK_1", bank_1), ("BANK_2", bank_2)];
        variables.retain(|(other, _)| *other != name);
        variables.push((name, address));
        let scenario: PathBuf = dir.file("payments.yaml", SCENARIO);
        let mut command = fluxrig(&["run", scenario.to_str().unwrap(), "--data-dir"]);
        command.arg(dir.0.join(gear)).envs(variables.iter().map(|(name, address)| (name, address.to_string())));
        let output = command.output().unwrap();
        let error = utf8(&output.stderr);
        assert_eq!(output.status.code(), Some(98), "{error}");
        assert!(error.contains(gear) && error.contains(&address.to_string()), "{error}");
    }
}

#[test]
fn terminals_that_behave_badly_disturb_nobody() {
    let dir = TempDir::new();
    let bind = "bind: \"${TERMINALS:-127.0.0.1:8583}\",";
    assert!(SCENARIO.contains(bind));
    let payments = Payments::start_as(&dir, &SCENARIO.replace(bind, &format!("{bind} write_ms: 500, frame_ms: 3000,")));
    let mut good = payments.line();
    let mut numbers = 1..;
    let mut is_served = || {
        let request = payment('4', 1, numbers.next().unwrap());
        assert_eq!(good.asked(&request), answer(&request, "00"));
    };

    // As long as a length can say, and no message.
    let mut garbage = payments.line();
    assert!(garbage.send_bytes(&[0xff; 65_535]));
    assert!(garbage.send_bytes(&[0]));
    is_served();
    // It is told nothing, and may go on.
    assert_eq!(garbage.asked(&sign_on(1)), answer(&sign_on(1), "00"));

    // Byte by byte, each message within its time.
    let mut slow = payments.line();
    let bytes = spec().encode("0800", &sign_on(2).fields).unwrap();
    let frame = [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), &bytes[..]].concat();
    for (idx, byte) in frame.into_iter().enumerate() {
        slow.stream.write_all(&[byte]).unwrap();
        if idx % 8 == 0 {
            is_served();
        }
    }
    assert_eq!(slow.receive(), answer(&sign_on(2), "00"));
    // One that begins a message and never ends it is closed.
    slow.stream.write_all(&[0, 100, 0]).unwrap();
    assert_eq!(slow.try_receive(), None);
    is_served();

    // One that asks and never reads is closed when it has left too much for too long.
    let mut deaf = payments.line();
    let flood = std::thread::spawn(move || {
        let mut number = 0;
        while deaf.try_send(&sign_on(number % 1_000_000)) {
            number += 1;
        }
    });
    while !flood.is_finished() {
        is_served();
    }
    flood.join().unwrap();
    is_served();
    payments.end();
}
