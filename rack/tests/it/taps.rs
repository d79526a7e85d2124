//! Taps as an operator meets them: what they show and hide, what ends them, and clients that never read.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::harness::{Daemon, TempDir, fluxrig, passed, text, wait_until};

const PAN: &str = "4111111111111111";

/// Messages without end, at this rate.
fn endless(dir: &TempDir, rate: &str) -> PathBuf {
    let data =
        format!("{{ iso8583: {{ '2': '{PAN}', '3': '000000', '35': '{PAN}=2512', '200': '{PAN}' }}, card: '{PAN}' }}");
    dir.file(
        "endless.yaml",
        &format!(
            "meta: {{ name: endless, version: 0.1.0 }}\ngears:\n  \
             - {{ name: source, type: generator, config: {{ {rate}data: {data} }} }}\n  \
             - {{ name: label, type: map, config: {{ steps: [{{ set: {{ path: meta.site, value: N1 }} }}] }} }}\n  \
             - {{ name: log, type: log, config: {{ level: debug }} }}\n\
             wires:\n  - {{ from: source, to: label, lane: turbo }}\n  - {{ from: label, to: log, lane: turbo }}\n"
        ),
    )
}

/// `fluxrig tap` in a process of its own, once it is open.
pub(crate) struct Tap {
    child: Child,
    out: BufReader<ChildStdout>,
    error: BufReader<std::process::ChildStderr>,
}

impl Tap {
    pub(crate) fn open(data_dir: &Path, arguments: &[&str]) -> Self {
        let mut command = fluxrig(&["tap", "--data-dir"]);
        command.arg(data_dir).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, error) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let mut tap = Self { child, out: BufReader::new(out), error: BufReader::new(error) };
        let mut opened = String::new();
        tap.error.read_line(&mut opened).unwrap();
        assert!(opened.starts_with("tapping "), "{opened}");
        tap
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Its exit code, the rest of what it showed, and what it said at the end.
    pub(crate) fn end(mut self) -> (Option<i32>, String, String) {
        let (mut out, mut error) = (String::new(), String::new());
        self.out.read_to_string(&mut out).unwrap();
        self.error.read_to_string(&mut error).unwrap();
        (self.child.wait().unwrap().code(), out, error)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A client that asks for a tap, and has read that it is open.
fn raw(data_dir: &Path, pattern: &str) -> Result<BufReader<UnixStream>, String> {
    let mut stream = UnixStream::connect(data_dir.join("control.sock")).unwrap();
    let request = format!("{{\"ask\":\"tap\",\"pattern\":\"{pattern}\",\"every\":1,\"form\":\"page\"}}\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    if line.starts_with("{\"begun\"") { Ok(reader) } else { Err(line) }
}

#[test]
fn what_comes_onto_wires_is_shown_masked() {
    let dir = TempDir::new();
    let data_dir = dir.0.join("data");
    let daemon = Daemon::start(&endless(&dir, "rate_per_s: 1000, "), &data_dir);
    let (code, out, error) = Tap::open(&data_dir, &["label*", "--count", "3"]).end();
    assert_eq!((code, out.lines().count()), (Some(0), 3), "{out}{error}");
    for line in out.lines() {
        assert!(line.contains("Z  label.out->log.in  "), "{line}");
        assert!(line.contains("  - 2=411111******1111 3=000000 200=text(16)"), "{line}");
    }
    assert!(error.starts_with("3 shown, ") && error.ends_with(" missed\n"), "{error}");

    let (code, objects, error) = Tap::open(&data_dir, &["*", "--json", "--count", "4", "--every", "10"]).end();
    assert_eq!(code, Some(0), "{error}");
    let objects: Vec<Value> = objects.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 4);
    for object in &objects {
        assert_eq!(object["seq"].as_u64().unwrap() % 10, 0, "{object}");
        assert_eq!(object["id"].as_str().unwrap().len(), 36, "{object}");
        let content = object["content"].as_str().unwrap();
        assert!(content.contains("primary account number  411111******1111") && content.contains("card"), "{content}");
    }
    let shown = [out, format!("{objects:?}")].concat();
    assert!(!shown.contains(&PAN[..8]) && !shown.contains("2512"), "{shown}");
    assert_eq!(daemon.terminate().0, Some(0));
}

#[test]
fn a_tap_ends_by_itself_by_a_signal_without_a_reader_and_with_its_rack() {
    let dir = TempDir::new();
    let data_dir = dir.0.join("data");
    let daemon = Daemon::start(&endless(&dir, "rate_per_s: 1000, "), &data_dir);
    // A wire on which this comes once in a very long time: what ends these is not a message.
    let (code, out, error) = Tap::open(&data_dir, &["source*", "--every", "1000000000", "--for", "10ms"]).end();
    assert_eq!((code, out.as_str(), error.as_str()), (Some(0), "", "0 shown, 0 missed\n"));
    for signal in ["-INT", "-TERM"] {
        let tap = Tap::open(&data_dir, &["source*", "--every", "1000000000"]);
        tap.signal(signal);
        let (code, _, error) = tap.end();
        assert_eq!((code, error.as_str()), (Some(0), "0 shown, 0 missed\n"));
    }
    let mut unread = Tap::open(&data_dir, &["*"]);
    assert!(unread.line().contains("->"));
    let Tap { out, .. } = &mut unread;
    drop(std::mem::replace(
        out,
        BufReader::new(Command::new("true").stdout(Stdio::piped()).spawn().unwrap().stdout.take().unwrap()),
    ));
    let (code, _, error) = unread.end();
    assert_eq!((code, error.as_str()), (Some(0), ""), "it ends without a word");
    // One whose reader has stopped reading is ended by a signal all the same.
    let held = Tap::open(&data_dir, &["*", "--json"]);
    daemon.until(|top| passed(top, "source.out->label.in") > 3000);
    held.signal("-INT");
    let (code, _, error) = held.end();
    assert!(code == Some(0) && error.contains(" shown, "), "{error}");

    let (drained, killed) = (Tap::open(&data_dir, &["*"]), Tap::open(&data_dir, &["label*"]));
    let (code, log) = daemon.terminate();
    assert!(code == Some(0) && !log.contains(&PAN[..8]), "{log}");
    let mut daemon = Daemon::start(&endless(&dir, "rate_per_s: 1000, "), &dir.0.join("other"));
    let at_kill = Tap::open(&dir.0.join("other"), &["*"]);
    daemon.kill();
    for tap in [drained, killed, at_kill] {
        let (code, _, error) = tap.end();
        assert!(code == Some(0) && error.starts_with("the rack has ended; "), "{error}");
    }
}

#[test]
fn clients_that_never_read_hold_nothing_up() {
    let dir = TempDir::new();
    let data_dir = dir.0.join("data");
    let daemon = Daemon::start(&endless(&dir, ""), &data_dir);
    let mut open: Vec<_> = (0..16).map(|_| raw(&data_dir, "label.out->log.in").unwrap()).collect();
    let refused = raw(&data_dir, "*").unwrap_err();
    assert!(refused.contains("found 16 taps and replays open") && refused.contains("\"code\":75"), "{refused}");
    // Messages pass, questions are answered.
    let before = passed(&daemon.top(), "label.out->log.in");
    daemon.until(|top| passed(top, "label.out->log.in") > before + 100_000);
    // One that comes to its senses is told what it missed.
    let mut late = open.pop().unwrap();
    late.get_ref().shutdown(Shutdown::Write).unwrap();
    let last = late.by_ref().lines().map_while(Result::ok).last().unwrap();
    let last: Value = serde_json::from_str(&last).unwrap();
    assert!(last["done"]["missed"].as_u64().unwrap() > 10_000, "{last}");
    // Those that went away leave their places.
    drop((open, late));
    let mut fresh: Vec<_> = Vec::new();
    wait_until("their places are free", || {
        fresh.extend(raw(&data_dir, "label.out->log.in"));
        fresh.len() == 16
    });
    drop(fresh);
    assert_eq!(daemon.terminate().0, Some(0));
}

#[test]
fn what_cannot_be_tapped_is_refused() {
    let dir = TempDir::new();
    let data_dir = dir.0.join("data");
    let daemon = Daemon::start(&endless(&dir, "rate_per_s: 10, "), &data_dir);
    for (arguments, word) in [
        (["label.out->lag.in"].as_slice(), "nearest: `label.out->log.in`"),
        (&["no*such"], "found no wire that matches `no*such`"),
        (&["*", "--every", "0"], "--every"),
        (&["*", "--count", "0"], "--count"),
        (&["*", "--for", "10"], "write for example `10m`"),
        (&[], "required"),
    ] {
        let output = daemon.ask(&[&["tap"], arguments].concat());
        let error = text(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(word), "{arguments:?}: {error}");
    }
    assert_eq!(daemon.terminate().0, Some(0));
    let output = fluxrig(&["tap", "*", "--data-dir"]).arg(&data_dir).output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
}
