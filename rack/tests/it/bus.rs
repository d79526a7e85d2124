//! A rack with a server of its own, as a process: it leaves none behind, however it ends, and says why it has none.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Daemon, TempDir, done, fluxrig, free_addresses, text, wait_until};

const GEARS: &str = "gears:\n  - { name: source, type: generator, config: { count: 1 } }\n  - { name: shown, type: log }\n\
                     wires:\n  - { from: source, to: shown, backend: jetstream }\n";

fn scenario(dir: &TempDir, bus: &str) -> PathBuf {
    dir.file("plant.yaml", &format!("meta: {{ name: plant, version: 0.1.0 }}\nbus: {bus}\n{GEARS}"))
}

/// Whether the tests can have a server; says so where not.
pub(crate) fn has_server(test: &str) -> bool {
    let named = crate::harness::nats_server();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
    let has = named.into_iter().chain(on_path).any(|program| program.is_file());
    if !has {
        // Not with a macro: the output of a test that passes is not shown.
        let skipped =
            format!("SKIPPED: bus::{test} needs nats-server, which is not here; `cargo xtask setup` fetches it\n");
        std::io::stderr().write_all(skipped.as_bytes()).unwrap();
    }
    has
}

fn server_pid(top: &Value) -> u32 {
    top["bus"]["server"]["pid"].as_u64().unwrap().try_into().unwrap()
}

/// A process that was ended and not yet waited for is gone, too.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn until_gone(pid: u32) {
    wait_until("the server has ended", || !is_running(pid));
}

#[test]
fn a_rack_that_is_killed_leaves_no_server_and_the_next_one_has_the_same_port() {
    if !has_server("a_rack_that_is_killed") {
        return;
    }
    let dir = TempDir::new();
    let (scenario, data) = (scenario(&dir, "{ managed: true }"), dir.0.join("data"));
    let mut daemon = Daemon::start(&scenario, &data);
    let first = daemon.top();
    let pid = server_pid(&first);
    assert!(is_running(pid));
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(text(&line).contains("nats-server.conf"), "{}", text(&line));
    daemon.kill();
    until_gone(pid);
    drop(std::fs::remove_file(data.join("control.sock")));
    let daemon = Daemon::start(&scenario, &data);
    let again = daemon.top();
    assert_eq!(again["bus"]["server"]["address"], first["bus"]["server"]["address"]);
    let pid = server_pid(&again);
    let (code, log) = daemon.terminate();
    assert_eq!(code, Some(0), "{log}");
    assert!(!is_running(pid));
    assert!(!data.join("bus/nats-server.pid").exists());
}

#[test]
fn a_server_that_is_killed_is_started_again_and_top_and_metrics_say_so() {
    if !has_server("a_server_that_is_killed") {
        return;
    }
    let dir = TempDir::new();
    let daemon = Daemon::start(&scenario(&dir, "{ managed: true }"), &dir.0.join("data"));
    let pid = server_pid(&daemon.top()).to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    let top = daemon.until(|top| top["bus"]["server"]["restarts"] == 1 && top["bus"]["server"]["state"] == "up");
    assert_ne!(server_pid(&top).to_string(), pid);
    let (_, page) = daemon.get("/metrics");
    for line in ["fluxrig_bus_server_up 1", "fluxrig_bus_server_restarts_total 1"] {
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }
    let shown = text(&daemon.ask(&["top"]).stdout);
    assert!(shown.contains("nats-server ") && shown.contains("restarts 1  up"), "{shown}");
    let status = daemon.ask(&["bus", "status"]);
    assert!(status.status.success());
    let status = text(&status.stdout);
    assert!(status.contains("flux.msg.rack.source.out  source.out->shown.in"), "{status}");
    let status: Value = serde_json::from_slice(&daemon.ask(&["bus", "status", "--json"]).stdout).unwrap();
    assert_eq!(status["bus"]["ends"].as_array().unwrap().len(), 2);
    assert_eq!(daemon.ask(&["bus", "prune"]).status.code(), Some(2));
    let (code, log) = daemon.terminate();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_rack_without_a_program_or_with_its_port_taken_says_so_and_ends() {
    let dir = TempDir::new();
    let (path, data) = (scenario(&dir, "{ managed: true }"), dir.0.join("data"));
    let mut command = fluxrig(&["run", path.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    let output = command.env("PATH", "").env_remove("FLUXRIG_NATS_SERVER").output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("bus: found no `nats-server` on PATH"), "{}", text(&output.stderr));
    if !has_server("a_rack_with_its_port_taken") {
        return;
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let path = scenario(&dir, &format!("{{ managed: true, port: {} }}", address.port()));
    let output = done(&["run", path.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(98), "{}", text(&output.stderr));
    let expected = format!("found address {address} of `bus.port` not to be had");
    assert!(text(&output.stderr).contains(&expected), "{}", text(&output.stderr));
}

#[test]
fn a_rack_whose_bus_is_away_runs_and_says_which_wires_wait() {
    let dir = TempDir::new();
    let [nobody] = free_addresses();
    let daemon = Daemon::start(&scenario(&dir, &format!("nats://{nobody}")), &dir.0.join("data"));
    let top = daemon.until(|top| top["bus"]["waiting"] == serde_json::json!(["source.out->shown.in"]));
    assert_ne!(top["bus"]["state"], "up");
    assert_eq!(daemon.get("/readyz").0, 200);
    let (_, page) = daemon.get("/metrics");
    for line in ["fluxrig_bus_up 0", "fluxrig_bus_wires_waiting 1"] {
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }
    let shown = text(&daemon.ask(&["top"]).stdout);
    assert!(shown.contains("wires that wait for it: source.out->shown.in"), "{shown}");
    let prune = daemon.ask(&["bus", "prune", "--yes"]);
    assert_eq!(prune.status.code(), Some(69));
    assert!(text(&prune.stderr).contains("bus: found it not up"), "{}", text(&prune.stderr));
    let (code, log) = daemon.terminate_at_once();
    assert_eq!(code, Some(0), "{log}");
}

/// Processes whose command line has the configuration of this data directory in it.
fn servers_of(data: &std::path::Path) -> usize {
    let config = data.join("bus/nats-server.conf").display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok());
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| text(line).contains(&config)).count()
}

#[test]
fn a_rack_that_is_killed_while_it_starts_its_server_leaves_none() {
    if !has_server("a_rack_that_is_killed_while_it_starts") {
        return;
    }
    let dir = TempDir::new();
    let (scenario, data) = (scenario(&dir, "{ managed: true }"), dir.0.join("data"));
    // Each is there a little later than the one before.
    let moments =
        ["kept.json", "nats-server.conf", "start.log", "nats-server.pid", "nats-server.log", "store/jetstream"];
    for moment in moments {
        drop(std::fs::remove_dir_all(&data));
        let mut command = fluxrig(&["run", scenario.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
        let mut rack = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        wait_until(moment, || {
            assert!(rack.try_wait().unwrap().is_none(), "it ended before {moment}");
            data.join("bus").join(moment).exists()
        });
        rack.kill().unwrap();
        rack.wait().unwrap();
        wait_until("no server is left", || servers_of(&data) == 0);
    }
}

/// Two racks over the server of the first.
fn two_racks(dir: &TempDir, count: usize) -> (PathBuf, PathBuf) {
    let [address, monitor] = free_addresses();
    let out = dir.0.join("out.jsonl");
    let text = format!(
        "meta: {{ name: two, version: 0.1.0 }}\n\
         bus: {{ managed: true, rack: north, port: {}, monitor_port: {}, token: t0ken }}\n\
         racks: [{{ name: north }}, {{ name: south }}]\n\
         gears:\n  - {{ name: source, type: generator, deploy: north, config: {{ count: {count}, rate_per_s: 2000 }} }}\n  \
         - {{ name: sink, type: file, deploy: south, config: {{ path: \"{}\" }} }}\n\
         wires:\n  - {{ from: source, to: sink }}\n",
        address.port(),
        monitor.port(),
        out.display()
    );
    (dir.file("two.yaml", &text), out)
}

fn seqs(out: &std::path::Path) -> Vec<u64> {
    let text = std::fs::read_to_string(out).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["data"]["seq"].as_u64().unwrap()).collect()
}

#[test]
fn what_is_published_while_a_rack_is_down_arrives_in_order_and_once() {
    if !has_server("what_is_published_while_a_rack_is_down") {
        return;
    }
    const COUNT: usize = 5000;
    let dir = TempDir::new();
    let (scenario, out) = two_racks(&dir, COUNT);
    let start = |rack: &str| {
        let data = dir.0.join(rack);
        drop(std::fs::remove_file(data.join("control.sock")));
        Daemon::start_with(&scenario, &data, &["--rack", rack])
    };
    // The reader first: its bus is not there yet, and it waits for it.
    let mut south = start("south");
    let top = south.top();
    assert_eq!(top["bus"]["waiting"], serde_json::json!(["source.out->sink.in"]));
    let north = start("north");
    south.until(|top| top["bus"]["state"] == "up");
    wait_until("a tenth has come", || seqs(&out).len() >= COUNT / 10);
    south.kill();
    // It goes on while nobody reads.
    let at_kill = seqs(&out).len();
    wait_until("a tenth waits", || passed_by(&north) >= (at_kill + COUNT / 10) as u64);
    south = start("south");
    wait_until("half of it has come", || seqs(&out).len() >= COUNT / 2);
    // The server, too. The rack that sends stays: a generator that is started again begins again.
    let pid = server_pid(&north.top()).to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    wait_until("all of it has come", || seqs(&out).last() == Some(&(COUNT as u64 - 1)));
    // What the file was writing when its rack was killed it writes again: it cannot know. All else comes once.
    let found = seqs(&out);
    let mut next = 0;
    for seq in &found {
        assert!(*seq <= next, "{seq} before {next}");
        next = next.max(seq + 1);
    }
    assert!(found.len() < COUNT + 1024, "{} lines for {COUNT} messages", found.len());
    let status: Value = serde_json::from_slice(&north.ask(&["bus", "status", "--json"]).stdout).unwrap();
    assert_eq!(status["bus"]["state"], "up", "{status}");
    let (code, log) = south.terminate();
    assert_eq!(code, Some(0), "{log}");
    let (code, log) = north.terminate();
    assert_eq!(code, Some(0), "{log}");
}

fn passed_by(north: &Daemon) -> u64 {
    crate::harness::passed(&north.top(), "source.out->bus-out-source--out.in")
}

#[test]
fn what_a_scenario_has_no_place_for_is_removed_only_when_told() {
    if !has_server("what_a_scenario_has_no_place_for") {
        return;
    }
    let dir = TempDir::new();
    let (path, data) = (scenario(&dir, "{ managed: true }"), dir.0.join("data"));
    let is_up = |top: &Value| top["bus"]["state"] == "up" && top["bus"]["waiting"] == serde_json::json!([]);
    let daemon = Daemon::start(&path, &data);
    daemon.until(is_up);
    let status = text(&daemon.ask(&["bus", "status"]).stdout);
    assert!(status.contains("stream FLUX_MSG_rack  "), "{status}");
    assert!(status.contains("  consumer rack_bus-in-rack--source--out  "), "{status}");
    let none: Value = serde_json::from_slice(&daemon.ask(&["bus", "prune", "--yes", "--json"]).stdout).unwrap();
    assert_eq!(none["removed"], 0);
    assert_eq!(daemon.terminate().0, Some(0));
    // The same without the bus for this wire; what is in the journal of the ends has no place any more.
    let other = std::fs::read_to_string(&path).unwrap().replace(", backend: jetstream", "");
    let path = dir.file("plant.yaml", &other);
    let daemon = Daemon::start_with(&path, &data, &["--orphans", "dlq"]);
    daemon.until(is_up);
    assert!(text(&daemon.ask(&["bus", "status"]).stdout).contains("stream FLUX_MSG_rack  "));
    let one = daemon.ask(&["bus", "prune", "--yes"]);
    assert_eq!((one.status.code(), text(&one.stdout)), (Some(0), "1 removed\n".to_owned()));
    let status: Value = serde_json::from_slice(&daemon.ask(&["bus", "status", "--json"]).stdout).unwrap();
    assert_eq!(status["streams"]["streams"], serde_json::json!([]));
    assert_eq!(daemon.terminate().0, Some(0));
}

/// Lines that wait for a peer who never comes, with the journal on the rack's own server.
fn waiting_lines(dir: &TempDir, bus: &str) -> (PathBuf, std::net::SocketAddr) {
    let [lines, nobody] = free_addresses();
    let text = format!(
        "meta: {{ name: waiting, version: 0.1.0 }}\nbus: {bus}\njournal: {{ jetstream: {{ max_bytes: 67108864 }} }}\n\
         gears:\n  - {{ name: lines, type: io_tcp, config: {{ mode: server, bind: \"{lines}\", framing: {{ delimiter: \"\\n\" }} }} }}\n  \
         - {{ name: peer, type: io_tcp, config: {{ mode: client, connect: \"{nobody}\", framing: {{ delimiter: \"\\n\" }} }} }}\n  \
         - {{ name: shown, type: log }}\n\
         wires:\n  - {{ from: lines, to: peer }}\n  - {{ from: peer, to: shown }}\n"
    );
    (dir.file("waiting.yaml", &text), lines)
}

fn waits(top: &Value) -> u64 {
    let wires = top["wires"].as_array().unwrap();
    let wire = wires.iter().find(|wire| wire["name"] == "lines.out->peer.in").unwrap();
    wire["depth"].as_u64().unwrap()
}

#[test]
fn a_journal_on_the_bus_survives_kills_of_the_rack_and_of_the_server() {
    if !has_server("a_journal_on_the_bus") {
        return;
    }
    let dir = TempDir::new();
    let (scenario, address) = waiting_lines(&dir, "{ managed: true }");
    let data = dir.0.join("data");
    let send = |count: u32| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        (0..count).for_each(|number| writeln!(stream, "line {number}").unwrap());
    };
    let mut daemon = Daemon::start(&scenario, &data);
    send(300);
    daemon.until(|top| waits(top) == 300);
    let files = std::fs::read_dir(data.join("journal")).unwrap();
    let names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| !name.ends_with(".seg")), "{names:?}");
    assert!(names.iter().any(|name| name == "stream.mark"), "{names:?}");
    let pid = server_pid(&daemon.top()).to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    daemon.until(|top| top["bus"]["server"]["restarts"] == 1 && top["bus"]["state"] == "up");
    send(300);
    // What is in the journal has left no door closed, and the node is not degraded.
    daemon.until(|top| waits(top) == 600 && top["is_degraded"] == false);
    // A cut is at most some milliseconds away; its ack shows in the groups written.
    let groups = |daemon: &Daemon| {
        let (_, page) = daemon.get("/metrics");
        let line = page.lines().find(|line| line.starts_with("fluxrig_journal_groups_total ")).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let before = groups(&daemon);
    send(1);
    wait_until("another group is written", || groups(&daemon) > before);
    daemon.kill();
    drop(std::fs::remove_file(data.join("control.sock")));
    let daemon = Daemon::start(&scenario, &data);
    daemon.until(|top| waits(top) >= 600);
    let (code, log) = daemon.terminate();
    assert_eq!(code, Some(0), "{log}");
    let daemon = Daemon::start(&scenario, &data);
    daemon.until(|top| waits(top) >= 600);
    assert_eq!(daemon.terminate().0, Some(0));
}

#[test]
fn a_rack_whose_journal_cannot_be_reached_says_so_and_ends() {
    let dir = TempDir::new();
    let [nobody] = free_addresses();
    let (scenario, _) = waiting_lines(&dir, &format!("nats://{nobody}"));
    let data = dir.0.join("data");
    let output = done(&["run", scenario.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    let expected = format!("`journal: jetstream`: bus: found no server at nats://{nobody} ");
    assert!(text(&output.stderr).contains(&expected), "{}", text(&output.stderr));
}
