//! `fluxrig iso8583` against a host that answers, stays silent or mixes answers up, as each test asks.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};

use fluxrig_actors::protocol::Map;
use fluxrig_gears::iso8583::{Decoded, Spec, response_mti};
use serde_json::Value;

const SPEC: &str = "iso8583-1987-ascii";

/// What the host sends for one request: bodies of answers, by the number of the request on its connection.
type Answers = fn(usize, Decoded) -> Vec<(String, Map)>;

/// A host on a port of its own, until the test's process ends.
fn host(answers: Answers) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream, answers));
        }
    });
    address
}

fn serve(mut stream: TcpStream, answers: Answers) {
    let spec = Spec::built_in(SPEC).unwrap();
    for number in 0.. {
        let mut head = [0; 2];
        if stream.read_exact(&mut head).is_err() {
            return;
        }
        let mut body = vec![0; u16::from_be_bytes(head).into()];
        stream.read_exact(&mut body).unwrap();
        for (mti, fields) in answers(number, spec.decode(&body).unwrap()) {
            let answer = spec.encode(&mti, &fields).unwrap();
            let head = u16::try_from(answer.len()).unwrap().to_be_bytes();
            if stream.write_all(&[&head, answer.as_slice()].concat()).is_err() {
                return;
            }
        }
    }
}

fn answer(request: &Decoded, code: &str) -> (String, Map) {
    let mut fields = request.fields.clone();
    fields.insert_key("39", code);
    (response_mti(&request.mti).unwrap().to_string(), fields)
}

fn approve(_: usize, request: Decoded) -> Vec<(String, Map)> {
    vec![answer(&request, "00")]
}

fn fluxrig(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fluxrig")).arg("iso8583").args(arguments).output().unwrap()
}

/// A load of a quarter of a second, and what was counted.
fn load(answers: Answers, arguments: &[&str]) -> (Option<i32>, Value) {
    load_over("3", answers, arguments)
}

fn load_over(connections: &str, answers: Answers, arguments: &[&str]) -> (Option<i32>, Value) {
    load_for("250ms", connections, answers, arguments)
}

fn load_for(duration: &str, connections: &str, answers: Answers, arguments: &[&str]) -> (Option<i32>, Value) {
    let address = host(answers);
    let fixed = ["load", "--target", &address, "--duration", duration, "--connections", connections, "--json"];
    let output = fluxrig(&[&fixed, arguments].concat());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}")))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_closed_loop_is_answered_whole() {
    let (code, found) = load(approve, &["--in-flight", "4"]);
    assert_eq!(code, Some(0), "{found}");
    assert!(found["sent"].as_u64().unwrap() >= 12, "{found}");
    assert_eq!(found["sent"], found["answered"]);
    assert_eq!(found["codes"]["00"], found["answered"]);
    assert!(found["latency_us"]["p50"].as_f64() <= found["latency_us"]["max"].as_f64(), "{found}");
}

#[test]
fn an_open_loop_sends_what_is_due_and_no_more() {
    let (code, found) = load(approve, &["--rate", "200"]);
    assert_eq!(code, Some(0), "{found}");
    assert_eq!(found["sent"], 50, "{found}");
    assert_eq!(found["answered"], 50);
}

#[test]
fn latency_counts_from_when_a_request_was_due() {
    // The host holds the first answer back until a later request comes in, 20 ms after it was due.
    fn pairs(number: usize, request: Decoded) -> Vec<(String, Map)> {
        static HELD: std::sync::Mutex<Vec<Decoded>> = std::sync::Mutex::new(Vec::new());
        let mut held = HELD.lock().unwrap();
        held.push(request);
        if number.is_multiple_of(2) {
            Vec::new()
        } else {
            held.drain(..).map(|request| answer(&request, "00")).collect()
        }
    }
    let (code, found) = load_over("1", pairs, &["--rate", "40"]);
    assert_eq!((code, &found["sent"]), (Some(0), &10.into()), "{found}");
    assert!(found["latency_us"]["max"].as_f64().unwrap() > 20_000.0, "{found}");
}

#[test]
fn codes_are_counted_and_a_decline_is_an_answer() {
    let declines = |number: usize, request: Decoded| vec![answer(&request, if number == 0 { "05" } else { "00" })];
    let (code, found) = load(declines, &[]);
    assert_eq!((code, &found["codes"]["05"]), (Some(0), &3.into()), "{found}");
}

#[test]
fn what_is_not_answered_is_counted_and_fails() {
    let forgets = |number: usize, request: Decoded| match number {
        1 => Vec::new(),
        _ => vec![answer(&request, "00")],
    };
    let (code, found) = load(forgets, &["--timeout-ms", "60"]);
    assert_eq!((code, &found["unanswered"]), (Some(1), &3.into()), "{found}");
    assert!(found["answered"].as_u64().unwrap() > 3, "it goes on: {found}");
}

#[test]
fn an_answer_to_another_is_crossed_and_a_second_one_late() {
    let mixes = |number: usize, request: Decoded| {
        let mut wrong = answer(&request, "00");
        match number {
            0 => drop(wrong.1.insert_key("41", "SOMEBODY")),
            1 => drop(wrong.1.insert_key("37", "000000000000")),
            2 => drop(wrong.1.insert_key("4", "000000999999")),
            _ => {}
        }
        let right = answer(&request, "00");
        if number < 4 { vec![wrong, right] } else { vec![right] }
    };
    // Time for five requests on each, also on a machine with other things to do.
    let (code, found) = load_for("2s", "3", mixes, &[]);
    // Of the fourth pair both are right: one of them comes too late.
    assert_eq!((code, &found["crossed"], &found["late"]), (Some(1), &9.into(), &3.into()), "{found}");
    assert_eq!(found["sent"], found["answered"]);
}

#[test]
fn a_lost_connection_is_made_again_and_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (again, has_come_again) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // The first request gets no answer but the end, and for a while nobody listens.
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 2]).unwrap();
        drop((stream, listener));
        let listener = TcpListener::bind(address).unwrap();
        let (stream, _) = listener.accept().unwrap();
        again.send(()).unwrap();
        serve(stream, approve);
    });
    let address = address.to_string();
    let arguments = ["iso8583", "load", "--target", &address, "--connections", "1", "--duration", "60s", "--json"];
    let child = Command::new(env!("CARGO_BIN_EXE_fluxrig")).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    has_come_again.recv().unwrap();
    // Ctrl-C ends it early, and its report is there.
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["unanswered"], &found["reconnected"]), (&1.into(), &1.into()), "{found}");
    assert_eq!(found["sent"].as_u64().unwrap(), found["answered"].as_u64().unwrap() + 1, "{found}");
    assert_eq!(found["lost_connections"].as_object().unwrap().len(), 1, "{found}");
    assert!(found["duration_s"].as_f64().unwrap() < 60.0, "{found}");
}

#[test]
fn what_was_due_without_a_connection_is_unsent_and_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 2]).unwrap();
    });
    let output = fluxrig(&["load", "--target", &address, "--connections", "1", "--duration", "1s", "--rate", "10"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    let count = |name: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    assert_eq!((count("sent") + count("unsent"), count("unanswered")), (10, count("sent")), "{shown}");
    assert!(count("unsent") > 0 && shown.contains("1 ended early: "), "{shown}");
    assert!(shown.contains("reconnected  0 times, "), "{shown}");
}

#[test]
fn one_message_is_sent_and_its_answer_shown_masked() {
    let address = host(approve);
    let arguments = [
        "--set",
        "2=4000001234562",
        "--set",
        "4=000000001000",
        "--set",
        "35=4000001234562=2512",
        "--set",
        "52=0123456789ABCDEF",
    ];
    let output = fluxrig(&[&["send", "--target", &address, "--mti", "0100"], arguments.as_slice()].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.starts_with("0110 in "), "{shown}");
    for part in
        ["primary account number", "400000***4562", "000000001000", "  39  response code", "  41  ", "  37  ", "  12  "]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("4000001234562") && !shown.contains("2512") && !shown.contains("ABCDEF"), "{shown}");
}

#[test]
fn fields_that_were_set_stay_as_they_are() {
    let address = host(|_, request| vec![answer(&request, "00")]);
    let set = ["--set", "11=000042", "--set", "41=TERM0001", "--set", "37=MINE00000001", "--set", "7=0131080000"];
    let output = fluxrig(&[&["send", "--target", &address], set.as_slice()].concat());
    let shown = text(&output.stdout);
    for part in ["000042", "TERM0001", "MINE00000001", "0131080000"] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn what_cannot_be_has_its_code_and_shows_no_value() {
    let silent = host(|_, _| Vec::new());
    let other = host(|_, mut request| {
        request.fields.insert_key("11", "999999");
        vec![answer(&request, "00")]
    });
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let to = |address: &str, rest: &[&str]| {
        let mut arguments = vec!["send".to_owned(), "--target".to_owned(), address.to_owned()];
        arguments.extend(rest.iter().map(|&part| part.to_owned()));
        arguments
    };
    let mut load_7 = to(&silent, &["--set", "7=0131080000"]);
    load_7[0] = "load".to_owned();
    let cases = [
        (to(&nowhere, &[]), 69, "found no listener"),
        (to(&silent, &["--timeout-ms", "30"]), 1, "found none after 30 ms"),
        (to(&other, &["--timeout-ms", "200"]), 1, "and 1 other messages"),
        (to(&silent, &["--spec", "no-such"]), 2, "expected `iso8583-1987-ascii`"),
        (to(&silent, &["--set", "2=4000001234562x"]), 2, "--set: "),
        (to(&silent, &["--set", "1=4000001234562"]), 2, "found no field number"),
        (to(&silent, &["--set", "4000001234562"]), 2, "found no `=`"),
        (to(&silent, &["--set", "52=4000001234562z"]), 2, "found no bytes in hex"),
        (to(&silent, &["--set", "3=000000", "--set", "3=000000"]), 2, "found it twice"),
        (to(&silent, &["--mti", "01x0"]), 2, "expected four digits"),
        (load_7, 2, "by which requests are told apart"),
    ];
    for (arguments, code, part) in cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = fluxrig(&arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(part), "{part}: {error}");
    }
    for arguments in [["--rate", "0"], ["--duration", "10"], ["--connections", "0"]] {
        let output = fluxrig(&[["load", "--target", &silent].as_slice(), &arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let output = fluxrig(&["load", "--target", &silent, "--rate", "1", "--in-flight", "2"]);
    assert_eq!(output.status.code(), Some(2));
}
