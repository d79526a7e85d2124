//! A managed server in one process: real servers, without the guard that only the binary has.

use std::io::Write;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::scenario::check_text;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("fluxrig-rack-server-{name}-{}", std::process::id())))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn wanted(more: &str) -> ManagedBus {
    let text = format!("meta: {{ name: server, version: 0.1.0 }}\nbus: {{ managed: true{more} }}\ngears: []\n");
    let checked = check_text("f", &text, &fluxrig_actors::Catalog::new(), &|_| None).unwrap();
    checked.scenario.bus.managed_by("rack").unwrap().clone()
}

fn skipped(test: &str) {
    // Not with a macro: the output of a test that passes is not shown.
    let skipped = format!("SKIPPED: {test} needs nats-server, which is not here; `cargo xtask setup` fetches it\n");
    std::io::stderr().write_all(skipped.as_bytes()).unwrap();
}

/// A server, or nothing where there is no program.
async fn start(test: &str, dir: &TempDir, wanted: &ManagedBus) -> Option<(Server, Keeping)> {
    match Server::start(wanted, "rack", &dir.0, None).await {
        Err(BusError::NoProgram { .. }) => {
            skipped(test);
            None
        }
        started => Some(started.unwrap()),
    }
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

async fn until(server: &Server, fact: impl FnMut(&ServerView) -> bool) -> ServerView {
    let mut view = server.view.clone();
    tokio::time::timeout(PATIENCE, view.wait_for(fact)).await.expect("in time").unwrap().clone()
}

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[tokio::test]
async fn a_server_that_is_killed_is_started_again_on_the_same_port() {
    let dir = TempDir::new("killed");
    let wanted = wanted(", backoff_ms: { first: 1, max: 10 }");
    let Some((server, keeping)) = start("bus::killed", &dir, &wanted).await else { return };
    process::probe(server.settings.monitor).await.unwrap();
    let first = until(&server, |view| view.pid.is_some()).await.pid.unwrap();
    signal(first, Signal::KILL);
    let again = until(&server, |view| view.restarts == 1 && view.state == ServerState::Up).await;
    assert_ne!(again.pid, Some(first));
    process::probe(server.settings.monitor).await.unwrap();
    let options = server.options(&wanted);
    assert!(options.errors().is_empty(), "{:?}", options.errors());
    keeping.stop().await;
    assert_eq!(server.view().state, ServerState::Stopped);
    assert!(!is_running(again.pid.unwrap()));
    // It closed its store by itself.
    let log = std::fs::read_to_string(dir.0.join("bus/nats-server.log")).unwrap();
    assert!(log.contains("Initiating JetStream Shutdown"), "{log}");
}

#[tokio::test]
async fn one_restart_too_many_is_said_and_the_server_stays_down() {
    let dir = TempDir::new("intensity");
    let wanted = wanted(", max_restarts: 1, within_ms: 3600000, backoff_ms: { first: 1, max: 10 }");
    let Some((server, keeping)) = start("bus::intensity", &dir, &wanted).await else { return };
    for restarts in 0..2 {
        let up =
            until(&server, |view| view.restarts == restarts && view.state == ServerState::Up && view.pid.is_some());
        signal(up.await.pid.unwrap(), Signal::KILL);
    }
    let failed = tokio::time::timeout(PATIENCE, server.failed()).await.expect("in time");
    assert!(
        failed.to_string().starts_with("bus: found nats-server ended too often (it ended with signal: 9"),
        "{failed}"
    );
    assert_eq!(failed.exit_code(), 69);
    assert_eq!(server.view().restarts, 1);
    keeping.stop().await;
}

#[tokio::test]
async fn a_server_that_stands_still_is_ended_and_started_again() {
    let dir = TempDir::new("still");
    let wanted = wanted(", backoff_ms: { first: 1, max: 10 }");
    let Some((server, keeping)) = start("bus::still", &dir, &wanted).await else { return };
    let first = until(&server, |view| view.pid.is_some()).await.pid.unwrap();
    signal(first, Signal::STOP);
    let again = until(&server, |view| view.restarts == 1 && view.state == ServerState::Up).await;
    assert_ne!(again.pid, Some(first));
    keeping.stop().await;
}

#[tokio::test]
async fn a_server_that_was_left_behind_is_ended_at_the_next_start() {
    let dir = TempDir::new("left");
    let wanted = wanted("");
    let Some((server, keeping)) = start("bus::left", &dir, &wanted).await else { return };
    keeping.stop().await;
    // What a rack leaves that was killed where the kernel ends no children.
    let place = Place::open_soon(&dir.0).await.unwrap();
    let program = program::find(place.dir()).await.unwrap().path;
    let mut left =
        tokio::process::Command::new(program).arg("-c").arg(place.config()).kill_on_drop(true).spawn().unwrap();
    place.note_pid(left.id().unwrap());
    drop(place);
    let (again, keeping) = start("bus::left", &dir, &wanted).await.unwrap();
    left.wait().await.unwrap();
    assert_eq!(again.address(), server.address());
    keeping.stop().await;
}

#[tokio::test]
async fn a_server_that_does_not_start_says_its_last_word() {
    let dir = TempDir::new("word");
    std::fs::create_dir_all(dir.0.join("bus")).unwrap();
    // A file where the store must be.
    std::fs::write(dir.0.join("bus/store"), "").unwrap();
    match Server::start(&wanted(""), "rack", &dir.0, None).await {
        Err(BusError::NoProgram { .. }) => skipped("bus::word"),
        Err(error) => {
            assert_eq!(error.exit_code(), 69);
            assert!(error.to_string().contains("last word: "), "{error}");
            assert!(error.to_string().contains("not a directory"), "{error}");
        }
        Ok(_) => panic!("it started"),
    }
}

#[tokio::test]
async fn what_was_never_made_is_put_aside_and_what_holds_messages_is_not() {
    let dir = TempDir::new("torn");
    let streams = dir.0.join("bus/store/jetstream/$G/streams");
    for (name, text) in [("unfinished", ""), ("damaged", "message")] {
        std::fs::create_dir_all(streams.join(name).join("msgs")).unwrap();
        std::fs::write(streams.join(name).join("meta.inf.tmp"), "{").unwrap();
        std::fs::write(streams.join(name).join("msgs/1.blk"), text).unwrap();
    }
    let wanted = wanted("");
    match Server::start(&wanted, "rack", &dir.0, None).await {
        Err(BusError::NoProgram { .. }) => {
            return skipped("bus::torn");
        }
        Err(error) => assert!(error.to_string().contains("damaged' could not be recovered"), "{error}"),
        Ok(_) => panic!("it started"),
    }
    assert!(dir.0.join("bus/aside/unfinished.1").exists());
    // Whoever has looked at it takes it away.
    std::fs::remove_dir_all(streams.join("damaged")).unwrap();
    let (_, keeping) = start("bus::torn", &dir, &wanted).await.unwrap();
    keeping.stop().await;
}

#[tokio::test]
async fn a_stream_that_a_client_is_just_making_is_waited_for() {
    let dir = TempDir::new("making");
    // The server finds a folder of a stream that it does not know, and says so, until the folder is gone.
    let making = dir.0.join("bus/store/jetstream/$G/streams/making");
    std::fs::create_dir_all(making.join("msgs")).unwrap();
    std::fs::write(making.join("msgs/1.blk"), "message").unwrap();
    let log = dir.0.join("bus/nats-server.log");
    let made = async {
        while !std::fs::read_to_string(&log).unwrap_or_default().contains("could not be recovered") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        std::fs::remove_dir_all(&making).unwrap();
        std::future::pending::<()>().await;
    };
    let wanted = wanted("");
    let started = tokio::select! {
        started = start("bus::making", &dir, &wanted) => started,
        () = made => unreachable!("it waits for ever"),
    };
    if let Some((_, keeping)) = started {
        keeping.stop().await;
    }
}
