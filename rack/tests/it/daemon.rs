//! The binary as an operator meets it: started, asked, drained, refused. Each test has a data directory of its own and
//! waits for what it asks for, never for a time.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use fluxrig_rack::SERIES;
use serde_json::Value;

use crate::harness::{Daemon, TempDir, done, fluxrig, free_addresses, get, passed, text, wait_until};

fn pipeline(dir: &TempDir, count: u64) -> PathBuf {
    let out = dir.0.join("out.jsonl");
    let scenario = format!(
        "meta: {{ name: pipeline, version: 0.1.0 }}\ngears:\n  \
         - {{ name: source, type: generator, config: {{ count: {count}, data: {{ card: 4111111111111111 }} }} }}\n  \
         - {{ name: label, type: map, config: {{ steps: [{{ set: {{ path: meta.site, value: N1 }} }}] }} }}\n  \
         - {{ name: sink, type: file, config: {{ path: {} }} }}\n\
         wires:\n  - {{ from: source, to: label }}\n  - {{ from: label, to: sink, retention: 1h }}\n",
        out.display()
    );
    dir.file("pipeline.yaml", &scenario)
}

#[test]
fn a_scenario_runs_is_seen_and_is_drained() {
    let dir = TempDir::new();
    let daemon = Daemon::start(&pipeline(&dir, 1000), &dir.0.join("data"));
    let top = daemon.until(|top| passed(top, "label.out->sink.in") == 1000);
    assert_eq!((top["scenario"].as_str(), top["is_degraded"].as_bool()), (Some("pipeline"), Some(false)));
    assert_eq!(top["wires"][0]["doors"], "open");
    assert_eq!(daemon.get("/readyz"), (200, "ready\n".into()));
    assert_eq!(daemon.get("/readyz?links"), (200, "ready\n".into()));
    assert_eq!(daemon.get("/healthz").0, 200);
    assert_eq!(daemon.get("/nothing").0, 404);

    let (status, page) = daemon.get("/metrics");
    assert_eq!(status, 200);
    let shown: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let listed: Vec<&str> = SERIES.iter().map(|series| series.name).collect();
    assert_eq!(shown, listed);
    // Gears that count, endpoints with a peer, a drain, a bus and a journal on it have tests of their own.
    let elsewhere = ["gear_count_total", "link_up", "drain_waiting", "journal_role", "journal_term", "journal_lag"];
    let is_told_elsewhere = |name: &str| {
        let name = name.strip_prefix("fluxrig_").unwrap();
        elsewhere.contains(&name) || name.starts_with("bus_") || name == "journal_lease_seconds"
    };
    for series in SERIES.iter().filter(|series| !is_told_elsewhere(series.name)) {
        let samples = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(series.name));
        assert!(samples.count() > 0, "{} has no sample", series.name);
    }
    assert!(page.contains("fluxrig_gear_handled_total{gear=\"label\"} 1000\n"), "{page}");
    assert!(page.contains("fluxrig_wire_passed_total{wire=\"source.out->label.in\"} 1000\n"), "{page}");
    let documented = text(&done(&["metrics"]).stdout);
    assert!(listed.iter().all(|name| documented.contains(name)));

    let page = text(&daemon.ask(&["top"]).stdout);
    assert!(page.contains("DEPTH") && page.contains("source.out->label.in"), "{page}");
    let socket = std::fs::metadata(dir.0.join("data/control.sock")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&socket.permissions()) & 0o777, 0o600);

    let (code, log) = daemon.terminate();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("4111111111111111"), "{log}");
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{log}");
    assert!(!dir.0.join("data/control.sock").exists());
    let lines = std::fs::read_to_string(dir.0.join("out.jsonl")).unwrap();
    let numbers: Vec<u64> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["data"]["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..1000).collect::<Vec<u64>>());
}

#[test]
fn a_replay_waits_for_room_and_a_signal_ends_it() {
    let dir = TempDir::new();
    let [lines, nobody] = free_addresses();
    let scenario = format!(
        "meta: {{ name: full, version: 0.1.0 }}\ngears:\n  \
         - {{ name: lines, type: io_tcp, config: {{ mode: server, bind: \"{lines}\", framing: {{ delimiter: \"\\n\" }} }} }}\n  \
         - {{ name: peer, type: io_tcp, config: {{ mode: client, connect: \"{nobody}\", framing: {{ delimiter: \"\\n\" }} }} }}\n  \
         - {{ name: said, type: log }}\n\
         wires:\n  - {{ from: lines, to: peer, capacity: 50, retention: 1h }}\n  - {{ from: peer, to: said }}\n"
    );
    let data = dir.0.join("data");
    let daemon = Daemon::start(&dir.file("full.yaml", &scenario), &data);
    let mut line = std::net::TcpStream::connect(lines).unwrap();
    (0..50).for_each(|number| writeln!(line, "line {number}").unwrap());
    let depth = |top: &Value| top["wires"].as_array().unwrap()[0]["depth"].as_u64();
    let top = daemon.until(|top| depth(top) == Some(50));
    assert_eq!(top["wires"][0]["name"], "lines.out->peer.in");

    let wait = || {
        let mut command = fluxrig(&["replay", "--wire", "lines.out->peer.in", "--from-seq", "1", "--data-dir"]);
        command.arg(&data).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut replay = command.spawn().unwrap();
        let mut errors = BufReader::new(replay.stderr.take().unwrap());
        let mut said = String::new();
        errors.read_line(&mut said).unwrap();
        assert!(said.starts_with("0 delivered again so far; waiting for room on wire `lines.out->peer.in`"), "{said}");
        (replay, errors)
    };
    let (replay, _errors) = wait();
    assert!(Command::new("kill").args(["-INT", &replay.id().to_string()]).status().unwrap().success());
    let output = replay.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "0 messages delivered again, and no more: ended by a signal\n");
    assert_eq!(depth(&daemon.top()), Some(50));

    // Somebody comes for them: there is room, and what was waited for goes on.
    let (replay, _errors) = wait();
    let peer = std::net::TcpListener::bind(nobody).unwrap();
    let came = BufReader::new(peer.accept().unwrap().0).lines().take(100).map(Result::unwrap);
    let expected = (0..50).chain(0..50).map(|number| format!("line {number}"));
    assert!(came.eq(expected));
    let output = replay.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "50 messages delivered again\n".into()));
    assert_eq!(daemon.terminate().0, Some(0));
}

#[test]
fn what_a_wire_retains_is_delivered_again() {
    let dir = TempDir::new();
    let daemon = Daemon::start(&pipeline(&dir, 10), &dir.0.join("data"));
    daemon.until(|top| passed(top, "label.out->sink.in") == 10);
    let replay = |arguments: &[&str]| {
        let output = daemon.ask(&[&["replay", "--wire"], arguments].concat());
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (_, told, error) = replay(&["label.out->sink.in", "--from", "1970-01-01T00:00:00Z"]);
    assert_eq!(told, "10 messages delivered again\n", "{error}");
    daemon.until(|top| passed(top, "label.out->sink.in") == 20);
    // What was delivered again is kept as well.
    let (_, told, error) = replay(&["label.out->sink.in", "--since", "1h", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["replayed"], 20, "{error}");
    daemon.until(|top| passed(top, "label.out->sink.in") == 40);
    assert_eq!(replay(&["label.out->sink.in", "--from-seq", "40"]).1, "1 message delivered again\n");
    assert_eq!(replay(&["label.out->sink.in", "--from-seq", "99"]).1, "0 messages delivered again\n");

    let (code, _, error) = replay(&["source.out->label.in", "--from-seq", "1"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("expected a wire with `retention`") && error.contains("`retention: 1h`"), "{error}");
    let (code, _, error) = replay(&["label.out->sing.in", "--from-seq", "1"]);
    assert!(code == Some(2) && error.contains("nearest: `label.out->sink.in`"), "{error}");
    for (arguments, word) in [
        (["--from-seq", "x"].as_slice(), "invalid digit"),
        (&["--since", "10"], "like `10m`"),
        (&["--from", "yesterday"], "expected a time"),
        (&["--since", "1h", "--from-seq", "1"], "cannot be used with"),
        (&[], "required"),
    ] {
        let (code, _, error) = replay(&[&["label.out->sink.in"], arguments].concat());
        assert!(code == Some(2) && error.contains(word), "{arguments:?}: {error}");
    }
    assert_eq!(daemon.terminate().0, Some(0));
}

#[test]
fn dead_letters_are_listed_shown_sent_again_and_purged() {
    let dir = TempDir::new();
    let out = dir.0.join("out.jsonl");
    let scenario = dir.file(
        "dead.yaml",
        &format!(
            "meta: {{ name: dead, version: 0.1.0 }}\ngears:\n  \
             - {{ name: source, type: generator, config: {{ count: 3, data: {{ card: 4111111111111111 }} }} }}\n  \
             - {{ name: pick, type: map, config: {{ steps: [{{ copy: {{ from: data.absent, to: data.there }} }}] }} }}\n  \
             - {{ name: sink, type: file, config: {{ path: {} }} }}\n\
             wires:\n  - {{ from: source, to: pick }}\n  - {{ from: pick, to: sink }}\n",
            out.display()
        ),
    );
    let daemon = Daemon::start(&scenario, &dir.0.join("data"));
    daemon.until(|top| top["dead_letters"] == 3);
    let list: Value = serde_json::from_slice(&daemon.ask(&["dlq", "list", "--json"]).stdout).unwrap();
    assert_eq!(list["count"], 3);
    let seq = list["letters"][0]["seq"].to_string();
    let shown = text(&daemon.ask(&["dlq", "show", &seq]).stdout);
    assert!(shown.contains("data.absent") && shown.contains("card"), "{shown}");
    assert!(!shown.contains("4111111111111111"), "{shown}");
    assert!(text(&daemon.ask(&["dlq", "list"]).stdout).starts_with("3 dead letters\n"));

    // Sent again it fails again, as another letter.
    let output = daemon.ask(&["dlq", "replay", &seq]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    let is_new = |top: &Value| top["dead_letters"] == 3 && passed(top, "source.out->pick.in") == 4;
    daemon.until(is_new);
    assert_eq!(daemon.ask(&["dlq", "show", &seq]).status.code(), Some(1));
    let list: Value = serde_json::from_slice(&daemon.ask(&["dlq", "list", "--json"]).stdout).unwrap();
    let seq = list["letters"][0]["seq"].to_string();
    assert_eq!(text(&daemon.ask(&["dlq", "purge", "--yes", &seq]).stdout), "1 purged\n");
    assert_eq!(text(&daemon.ask(&["dlq", "purge", "--all", "--yes"]).stdout), "2 purged\n");
    assert_eq!(daemon.top()["dead_letters"], 0);
    assert_eq!(daemon.terminate().0, Some(0));
}

#[test]
fn a_card_number_is_nowhere_shown() {
    let dir = TempDir::new();
    let pan = "4111111111111111";
    let data =
        format!("{{ iso8583: {{ '2': '{pan}', '3': '000000', '35': '{pan}=2512', '200': '{pan}' }}, card: '{pan}' }}");
    let scenario = dir.file(
        "pan.yaml",
        &format!(
            "meta: {{ name: pan, version: 0.1.0 }}\ngears:\n  \
             - {{ name: source, type: generator, config: {{ count: 2, data: {data} }} }}\n  \
             - {{ name: pick, type: map, config: {{ steps: [{{ copy: {{ from: data.card, to: meta.card }} }}, {{ copy: {{ from: data.absent, to: data.there }} }}] }} }}\n  \
             - {{ name: log, type: log }}\n\
             wires:\n  - {{ from: source, to: [pick, log] }}\n"
        )
        .replace("to: [pick, log] }\n", "to: pick }\n  - { from: source, to: log }\n  - { from: pick, to: log }\n"),
    );
    let daemon = Daemon::start_with(&scenario, &dir.0.join("data"), &["--log-level", "trace"]);
    daemon.until(|top| top["dead_letters"] == 2);
    let list: Value = serde_json::from_slice(&daemon.ask(&["dlq", "list", "--json"]).stdout).unwrap();
    let seq = list["letters"][0]["seq"].to_string();
    let asked = [
        daemon.ask(&["dlq", "list"]),
        daemon.ask(&["dlq", "list", "--json"]),
        daemon.ask(&["dlq", "show", &seq]),
        daemon.ask(&["dlq", "show", &seq, "--json"]),
        daemon.ask(&["dlq", "show", "77"]),
        daemon.ask(&["dlq", "count"]),
        daemon.ask(&["dlq", "replay", "--all"]),
        daemon.ask(&["replay", "--wire", "source.out->pick.in", "--from-seq", "1"]),
        daemon.ask(&["top"]),
        daemon.ask(&["top", "--json"]),
    ];
    let shown = text(&asked[2].stdout);
    assert!(shown.contains("primary account number  411111******1111"), "{shown}");
    assert!(shown.contains("processing code  000000") && shown.contains("card"), "{shown}");
    let (_, page) = daemon.get("/metrics");
    assert!(page.contains("fluxrig_gear_rejected_total{gear=\"pick\"} 4\n"), "{page}");
    let (code, log) = daemon.terminate();
    assert_eq!(code, Some(0), "{log}");
    let asked = asked.iter().flat_map(|output| [text(&output.stdout), text(&output.stderr)]);
    for place in asked.chain([page, log]) {
        assert!(!place.contains("41111111") && !place.contains("2512"), "{place}");
    }
}

#[test]
fn links_doors_and_what_gears_count_are_told() {
    let dir = TempDir::new();
    // Nobody listens there: the port was given to this test and closed again.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let scenario = dir.file(
        "links.yaml",
        &format!(
            "meta: {{ name: links, version: 0.1.0 }}\ngears:\n  \
             - {{ name: source, type: generator, config: {{ count: 1 }} }}\n  \
             - {{ name: host, type: io_iso8583, config: {{ mode: client, connect: '{nowhere}', framing: {{ length: be16 }}, backoff_ms: {{ first: 1, max: 1 }} }} }}\n  \
             - {{ name: log, type: log }}\n\
             wires:\n  - {{ from: source, to: host }}\n  - {{ from: host, to: log }}\n"
        ),
    );
    let daemon = Daemon::start(&scenario, &dir.0.join("data"));
    let is_counted =
        |page: &str| page.lines().any(|line| line.starts_with("fluxrig_gear_count_total{gear=\"host\",name=\""));
    let top = daemon.until(|top| top["links"][0]["is_up"] == false && is_counted(&daemon.get("/metrics").1));
    assert_eq!((&top["links"][0]["endpoint"], &top["doors"][0]["state"]), (&"host".into(), &"open".into()), "{top}");
    let (_, page) = daemon.get("/metrics");
    assert!(page.contains("fluxrig_link_up{endpoint=\"host\"} 0\n"), "{page}");
    // Whoever asks is answered all the same: a peer that is away takes nothing from readiness, unless that is asked.
    assert!(page.contains("fluxrig_ready 1\n"), "{page}");
    assert_eq!(daemon.get("/readyz"), (200, "ready\n".into()));
    let (status, why) = daemon.get("/readyz?links");
    assert!(status == 503 && why.starts_with("link `host` is down: "), "{status} {why}");
    assert!(page.contains("fluxrig_door_open{endpoint=\"source\",port=\"out\"} 1\n"), "{page}");
    let page = text(&daemon.ask(&["top"]).stdout);
    assert!(page.contains("\nDOOR") && page.contains("source.out  open\n"), "{page}");
    assert!(page.contains("\nLINK") && page.contains("host  down"), "{page}");
    daemon.terminate();
}

#[test]
fn a_spec_beside_the_scenario_is_found_from_anywhere() {
    let dir = TempDir::new();
    let spec = fluxrig_gears::iso8583::Spec::built_in_text("iso8583-1987-ascii").unwrap();
    let bank = dir.file("bank.yaml", spec);
    let scenario = dir.file(
        "beside.yaml",
        "meta: { name: beside, version: 0.1.0 }\ngears:\n  \
         - { name: source, type: generator, config: { count: 1 } }\n  \
         - { name: codec, type: codec_iso8583, config: { spec: \"${SCENARIO_DIR}/bank.yaml\", direction: decode } }\n  \
         - { name: log, type: log }\n\
         wires:\n  - { from: source, to: codec }\n  - { from: codec, to: log }\n",
    );
    let output = done(&["lint", scenario.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let output = fluxrig(&["lint", "beside.yaml"]).current_dir(&dir.0).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    std::fs::remove_file(bank).unwrap();
    assert_eq!(done(&["lint", scenario.to_str().unwrap()]).status.code(), Some(78));
}

#[test]
fn a_renamed_scenario_is_told_of_what_the_old_one_left() {
    let dir = TempDir::new();
    let data_dir = dir.0.join("data");
    let scenario = |name: &str, sink: &str| {
        let text = format!(
            "meta: {{ name: {name}, version: 0.1.0 }}\ngears:\n  - {{ name: source, type: generator, config: {{ count: 3 }} }}\n{sink}\
             wires:\n  - {{ from: source, to: sink }}\n"
        );
        dir.file(&format!("{name}.yaml"), &text)
    };
    let stuck =
        "  - { name: sink, type: file, config: { path: no/such/folder/out }, supervision: { max_restarts: 0 } }\n";
    let daemon = Daemon::start(&scenario("before", stuck), &data_dir);
    daemon.until(|top| top["wires"][0]["depth"] == 3);
    assert_eq!(daemon.terminate().0, Some(0));
    let after = scenario("after", "  - { name: sink, type: log }\n");
    let arguments = ["run", after.to_str().unwrap(), "--data-dir", data_dir.to_str().unwrap()];
    let output = done(&arguments);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{error}");
    assert!(error.contains("3 messages of wire") && error.contains("of scenario `before`"), "{error}");
    assert!(error.contains("--orphans dlq"), "{error}");
    let daemon = Daemon::start_with(&after, &data_dir, &["--orphans", "dlq"]);
    assert_eq!(daemon.top()["dead_letters"], 3);
    assert_eq!(daemon.terminate().0, Some(0));
    // Another rack's journal stays another rack's.
    let racks = std::fs::read_to_string(&after).unwrap().replace("gears:", "racks: [{ name: other }]\ngears:");
    let other = dir.file("other.yaml", &racks);
    let output = done(&["run", other.to_str().unwrap(), "--data-dir", data_dir.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(73), "{}", text(&output.stderr));
}

#[test]
fn a_second_process_is_told_who_has_the_directory() {
    let dir = TempDir::new();
    let scenario = pipeline(&dir, 1);
    let daemon = Daemon::start(&scenario, &dir.0.join("data"));
    let data_dir = dir.0.join("data");
    let output = done(&["run", scenario.to_str().unwrap(), "--data-dir", data_dir.to_str().unwrap()]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(73), "{error}");
    assert!(error.contains(&format!("in use by process {}", daemon.child.id())), "{error}");
    let output = done(&["journal", "verify", "--data-dir", data_dir.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(73), "{}", text(&output.stderr));
    daemon.top();
    assert_eq!(daemon.terminate().0, Some(0));
}

#[test]
fn a_path_longer_than_a_socket_address_is_no_obstacle() {
    let dir = TempDir::new();
    let data_dir = dir.0.join("d".repeat(120));
    let daemon = Daemon::start(&pipeline(&dir, 1), &data_dir);
    daemon.top();
    assert_eq!(daemon.terminate().0, Some(0));
}

#[test]
fn a_socket_left_by_a_kill_is_replaced_and_the_journal_goes_on() {
    let dir = TempDir::new();
    let (scenario, data_dir) = (pipeline(&dir, 5), dir.0.join("data"));
    let mut daemon = Daemon::start(&scenario, &data_dir);
    daemon.until(|top| passed(top, "label.out->sink.in") == 5);
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    drop(daemon);
    assert_eq!(done(&["top", "--data-dir", data_dir.to_str().unwrap()]).status.code(), Some(69));
    let left = std::fs::metadata(data_dir.join("control.sock")).unwrap();
    let daemon = Daemon::start(&scenario, &data_dir);
    // The old name is there at once; the new one is another file.
    wait_until("the socket is another", || {
        let found = std::fs::metadata(data_dir.join("control.sock")).unwrap();
        std::os::unix::fs::MetadataExt::ino(&found) != std::os::unix::fs::MetadataExt::ino(&left)
    });
    daemon.top();
    assert_eq!(daemon.terminate().0, Some(0));
    let output = done(&["journal", "verify", "--data-dir", data_dir.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("whole up to epoch "), "{}", text(&output.stdout));
    let stats = done(&["journal", "stats", "--json", "--data-dir", data_dir.to_str().unwrap()]);
    let stats: Value = serde_json::from_slice(&stats.stdout).unwrap();
    assert!(stats[0]["groups"].as_u64().unwrap() > 0, "{stats}");
}

#[test]
fn a_damaged_journal_is_said_and_given_up_only_on_demand() {
    let dir = TempDir::new();
    let (scenario, data_dir) = (pipeline(&dir, 50), dir.0.join("data"));
    let daemon = Daemon::start(&scenario, &data_dir);
    daemon.until(|top| passed(top, "label.out->sink.in") == 50);
    assert_eq!(daemon.terminate().0, Some(0));
    let segment = data_dir.join("journal/00000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[4096 + 100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let here = data_dir.to_str().unwrap();
    for arguments in [vec!["run", scenario.to_str().unwrap()], vec!["journal", "verify"], vec!["journal", "repair"]] {
        let mut arguments = arguments;
        let at = if arguments[0] == "run" { 2 } else { 1 };
        arguments.splice(at..at, ["--data-dir", here]);
        let output = done(&arguments);
        assert_eq!(output.status.code(), Some(65), "{arguments:?}: {}", text(&output.stderr));
    }
    let output = done(&["journal", "--data-dir", here, "repair", "--give-up"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("put aside: 00000001.seg.quarantined"), "{}", text(&output.stdout));
    assert_eq!(Daemon::start(&scenario, &data_dir).terminate().0, Some(0));
}

#[test]
fn orphans_are_refused_until_the_operator_says_otherwise() {
    let dir = TempDir::new();
    let data_dir = dir.0.join("data");
    // Nothing takes what is on the wire: the sink's folder is not there, and it is failed at once.
    let held = |gears: &str, wires: &str| {
        format!(
            "meta: {{ name: orphans, version: 0.1.0 }}\ngears:\n  - {{ name: source, type: generator, config: {{ count: 3 }} }}\n{gears}wires:\n{wires}"
        )
    };
    let stuck =
        "  - { name: sink, type: file, config: { path: no/such/folder/out }, supervision: { max_restarts: 0 } }\n";
    let before = dir.file("before.yaml", &held(stuck, "  - { from: source, to: sink }\n"));
    let daemon = Daemon::start(&before, &data_dir);
    daemon.until(|top| top["wires"][0]["depth"] == 3);
    assert_eq!(daemon.terminate().0, Some(0));
    let after =
        dir.file("after.yaml", &held("  - { name: log, type: log }\n", "  - { from: source, to: log, lane: turbo }\n"));
    let output = done(&["run", after.to_str().unwrap(), "--data-dir", data_dir.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("--orphans dlq"), "{}", text(&output.stderr));
    let daemon = Daemon::start_with(&after, &data_dir, &["--orphans", "dlq"]);
    assert_eq!(daemon.top()["dead_letters"], 3);
    assert_eq!(daemon.terminate().0, Some(0));
}

#[test]
fn wrong_arguments_and_scenarios_have_their_codes() {
    let dir = TempDir::new();
    let bad = dir.file("bad.yaml", "meta: { name: bad, version: 0.1.0 }\ngears:\n  - { name: a, type: scael }\n");
    let bad = bad.to_str().unwrap();
    for arguments in
        [["run", bad].as_slice(), &["lint", bad], &["graph", bad], &["echo", bad], &["lint", "--json", bad]]
    {
        assert_eq!(done(arguments).status.code(), Some(78), "{arguments:?}");
    }
    let warned = dir.file("warned.yaml", include_str!("../../fixtures/good/turbo-behind-standard.yaml"));
    let warned = warned.to_str().unwrap();
    assert_eq!(done(&["lint", warned]).status.code(), Some(0));
    assert_eq!(done(&["lint", "--deny-warnings", warned]).status.code(), Some(78));
    assert_eq!(done(&["lint", warned, bad]).status.code(), Some(78));
    assert!(text(&done(&["lint", "--defaults", warned]).stdout).contains("    capacity: 4096\n"));
    let found: Value = serde_json::from_slice(&done(&["lint", "--json", bad]).stdout).unwrap();
    assert_eq!(
        (&found[0]["line"], &found[0]["column"], &found[0]["severity"]),
        (&3.into(), &22.into(), &"error".into())
    );
    assert!(text(&done(&["lint", bad]).stdout).contains("bad.yaml:3:22: `gears[0].type`: found `scael`"));
    assert_eq!(done(&["run"]).status.code(), Some(2));
    assert_eq!(done(&["gears", "doc", "mapp"]).status.code(), Some(2));
    let nowhere = dir.0.join("nowhere");
    assert_eq!(done(&["dlq", "--data-dir", nowhere.to_str().unwrap(), "list"]).status.code(), Some(69));
    let scenario = pipeline(&dir, 1);
    let file = dir.file("file", "");
    let output = done(&["run", scenario.to_str().unwrap(), "--data-dir", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(73), "{}", text(&output.stderr));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data_dir = dir.0.join("data");
    let output =
        done(&["run", scenario.to_str().unwrap(), "--data-dir", data_dir.to_str().unwrap(), "--metrics", &address]);
    assert_eq!(output.status.code(), Some(98), "{}", text(&output.stderr));
    let output = done(&["run", scenario.to_str().unwrap(), "--log-level", "info,=,"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}

#[test]
fn what_there_is_can_be_read() {
    let catalog = fluxrig_gears::standard();
    let list: Value = serde_json::from_slice(&done(&["gears", "list", "--json"]).stdout).unwrap();
    let types: Vec<&str> = list.as_array().unwrap().iter().map(|gear| gear["type"].as_str().unwrap()).collect();
    assert_eq!(types, catalog.manifests().map(|manifest| manifest.type_name).collect::<Vec<_>>());
    for type_name in types {
        assert!(text(&done(&["gears", "doc", type_name]).stdout).starts_with(type_name));
        let schema: Value = serde_json::from_slice(&done(&["gears", "schema", type_name]).stdout).unwrap();
        assert!(schema["properties"].is_object());
    }
    let schema: Value = serde_json::from_slice(&done(&["schema"]).stdout).unwrap();
    assert!(schema["properties"]["gears"].is_object());
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&done(&["completion", shell]).stdout);
        let words = ["fluxrig", "tap", "purge", "even-maybe-sent", "since"];
        assert!(words.iter().all(|word| script.contains(word)), "{shell}");
    }
    for (command, words) in [
        (["tap", "--help"].as_slice(), ["stands for any text", "--every", "--for"]),
        (&["dlq", "replay", "--help"], ["what becomes of each", "--wait", "--even-maybe-sent"]),
        (&["dlq", "purge", "--help"], ["once it is confirmed", "--yes", "--reason"]),
        (&["replay", "--help"], ["retention", "--since", "--from-seq"]),
    ] {
        let help = text(&done(command).stdout);
        assert!(words.iter().all(|word| help.contains(word)), "{help}");
    }
    assert_eq!(text(&done(&["version"]).stdout), format!("fluxrig {}\n", env!("CARGO_PKG_VERSION")));
}

/// A sink that cannot start: what is on the wire before it stays there.
fn broken_sink(dir: &TempDir, on_failed: &str) -> PathBuf {
    dir.file(
        "broken.yaml",
        &format!(
            "meta: {{ name: broken, version: 0.1.0 }}\non_failed: {on_failed}\ngears:\n  \
             - {{ name: source, type: generator, config: {{ count: 3 }} }}\n  \
             - {{ name: sink, type: file, config: {{ path: no/such/folder/out }}, supervision: {{ max_restarts: 0 }} }}\n\
             wires:\n  - {{ from: source, to: sink, lane: turbo }}\n"
        ),
    )
}

#[test]
fn threads_are_as_many_as_asked_for() {
    let dir = TempDir::new();
    let scenario = broken_sink(&dir, "hold");
    for threads in ["1", "3"] {
        let daemon = Daemon::start_with(&scenario, &dir.0.join(threads), &["--threads", threads]);
        let (_, log) = daemon.terminate_at_once();
        assert!(log.contains(&format!("\"threads\":{threads}")), "{log}");
    }
    let output = done(&["run", scenario.to_str().unwrap(), "--threads", "0"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("0 is not in 1..=512"), "{}", text(&output.stderr));
}

#[test]
fn a_second_signal_ends_what_does_not_drain() {
    let dir = TempDir::new();
    let scenario = broken_sink(&dir, "hold");
    let data_dir = dir.0.join("data");
    let daemon = Daemon::start_with(&scenario, &data_dir, &["--drain-ms", "600000"]);
    let top = daemon.until(|top| top["wires"][0]["depth"] == 3);
    let metrics = top["metrics"].as_str().unwrap().to_owned();
    assert!(get(&metrics, "/metrics").1.contains("fluxrig_gear_failed{gear=\"sink\"} 1\n"));
    daemon.signal();
    wait_until("it drains", || get(&metrics, "/readyz") == (503, "draining\n".to_owned()));
    assert_eq!(get(&metrics, "/healthz").0, 200);
    assert!(daemon.ask(&["dlq", "list"]).status.success());
    let output = daemon.ask(&["dlq", "purge", "--all", "--yes"]);
    assert_eq!(output.status.code(), Some(75), "{}", text(&output.stderr));
    // It says what it is that does not drain.
    let top = daemon.top();
    assert!(top["is_draining"] == true && top["tree"].is_object(), "{top}");
    assert_eq!(
        top["waiting"][0],
        serde_json::json!({ "what": "turbo messages", "name": "source.out->sink.in", "count": 3 })
    );
    assert!(text(&daemon.ask(&["top"]).stdout).contains("DRAIN WAITS FOR"));
    // Two that come together are one, as `timeout` sends them; so it is sent until it counts.
    let (code, log) = daemon.terminate_at_once();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("ended by a second signal"), "{log}");
}

#[test]
fn a_rack_that_stops_for_a_failed_gear_has_failed() {
    let dir = TempDir::new();
    let scenario = broken_sink(&dir, "stop");
    let output = done(&["run", scenario.to_str().unwrap(), "--data-dir", dir.0.join("data").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("rack: found it ended by itself"), "{}", text(&output.stderr));
}
