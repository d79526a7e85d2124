//! Cases of `file` are files; what happens when the file fails, or the sink does, is here.

use std::path::Path;
use std::time::Duration;

use fluxrig_actors::prelude::*;

use super::{FileSink, Flush};
use crate::tests::harness::{Collected, Logged, Source, TempDir, msg};

#[tokio::test(start_paused = true)]
async fn cases() {
    crate::tests::harness::check_cases("file").await;
}

async fn rig(sink: FileSink, count: u64) -> RunningRig {
    let rig = Rig::new("lines").endpoint("source", Source((0..count).map(msg).collect())).endpoint("sink", sink);
    rig.turbo("source", "sink").start().await.unwrap()
}

/// Ids in a file whose every line must be whole.
fn ids(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    text.lines().map(id).collect()
}

fn ids_of(count: u64) -> Vec<String> {
    (0..count).map(|number| msg(number).id.to_string()).collect()
}

async fn restarts(rig: &RunningRig) -> u64 {
    let mut restarts = 0;
    rig.snapshot().await.unwrap().walk(&mut |node| restarts += node.restarts);
    restarts
}

#[tokio::test(start_paused = true)]
async fn lines_are_appended_in_order_to_what_is_there() {
    let dir = TempDir::new();
    let path = dir.path().join("out.jsonl");
    for flush in [Flush::Os, Flush::Sync] {
        let rig = rig(FileSink::at(&path).flush(flush), 3000).await;
        assert!(rig.finished().await);
        assert!(rig.stop(Duration::from_secs(1)).await);
    }
    assert_eq!(ids(&path), [ids_of(3000), ids_of(3000)].concat());
}

#[tokio::test(start_paused = true)]
async fn a_torn_last_line_is_cut_before_more_is_written() {
    let dir = TempDir::new();
    let path = dir.path().join("out.jsonl");
    std::fs::write(&path, "{\"id\":\"a\"}\n{\"id\":\"b\",\"da").unwrap();
    let rig = rig(FileSink::at(&path), 2).await;
    assert!(rig.finished().await);
    assert!(rig.stop(Duration::from_secs(1)).await);
    assert_eq!(ids(&path), [vec!["a".to_owned()], ids_of(2)].concat());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_opened_is_said_and_nothing_is_lost() {
    let dir = TempDir::new();
    let path = dir.path().join("absent").join("out.jsonl");
    let logged = Logged::default();
    let guard = logged.start();
    let rig = rig(FileSink::at(&path), 2).await;
    while restarts(&rig).await == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(rig.wires()[0].depth, 2);
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    assert!(rig.finished().await);
    assert!(rig.stop(Duration::from_secs(1)).await);
    assert_eq!(ids(&path), ids_of(2));
    drop(guard);
    assert!(logged.text().contains("remedy: make the folder"), "{}", logged.text());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_another_sink_has_is_waited_for() {
    let dir = TempDir::new();
    let path = dir.path().join("out.jsonl");
    let holder = std::fs::File::create(&path).unwrap();
    holder.lock().unwrap();
    let rig = rig(FileSink::at(&path), 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((rig.wires()[0].depth, restarts(&rig).await), (2, 0));
    drop(holder);
    assert!(rig.finished().await);
    assert!(rig.stop(Duration::from_secs(1)).await);
    assert_eq!(ids(&path), ids_of(2));
}

#[tokio::test]
async fn a_rig_that_is_killed_leaves_whole_lines_and_its_successor_leaves_no_gap() {
    let dir = TempDir::new();
    let path = dir.path().join("out.jsonl");
    let start = async |count: u64| {
        let rig = Rig::new("lines").endpoint("source", Source((0..count).map(msg).collect()));
        let rig = rig.endpoint("sink", FileSink::at(&path)).wire("source", "sink");
        rig.journal(dir.path().join("journal")).start().await.unwrap()
    };
    let rig = start(20_000).await;
    while std::fs::metadata(&path).map_or(0, |file| file.len()) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    rig.kill().await;
    let rig = start(0).await;
    assert!(rig.finished().await);
    assert!(rig.stop(Duration::from_secs(10)).await);

    // Some may be there twice, and what was not durable when the rig was killed may be missing at the end.
    let mut found = ids(&path);
    found.sort();
    found.dedup();
    assert!(!found.is_empty());
    assert_eq!(found, ids_of(found.len() as u64));
}

/// `/dev/full` takes nothing: a disk without room.
#[cfg(target_os = "linux")]
mod full {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// A path that leads to a full disk, until there is room.
    struct Disk {
        dir: TempDir,
    }

    impl Disk {
        fn new() -> Self {
            let disk = Self { dir: TempDir::new() };
            symlink("/dev/full", disk.path()).unwrap();
            disk
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("out.jsonl")
        }

        fn make_room(&self) {
            std::fs::remove_file(self.path()).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_holds_everything_until_there_is_room() {
        let disk = Disk::new();
        let logged = Logged::default();
        let guard = logged.start();
        let rig = rig(FileSink::at(disk.path()), 3000).await;
        // Longer than any supervisor would put up with.
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!((rig.wires()[0].depth, rig.wires()[0].passed, restarts(&rig).await), (3000, 0, 0));
        disk.make_room();
        assert!(rig.finished().await);
        assert!(rig.stop(Duration::from_secs(1)).await);
        assert_eq!(ids(&disk.path()), ids_of(3000));
        drop(guard);
        let text = logged.text();
        assert!(text.contains("expected room and a healthy disk") && text.contains("file sink goes on"), "{text}");
    }

    /// A sink that is restarted while it writes has messages that may be in the file.
    async fn restarted(on_maybe_sent: OnMaybeSent) -> (String, Vec<FluxMsg>) {
        let disk = Disk::new();
        let sink = FileSink::at(disk.path()).on_maybe_sent(on_maybe_sent);
        let is_reporting = !sink.ports().outputs.is_empty();
        let reports = Collected::default();
        let mut rig = Rig::new("lines").endpoint("source", Source(vec![msg(0)])).endpoint("sink", sink);
        if is_reporting {
            rig = rig.endpoint("reports", reports.clone()).turbo("sink.reports", "reports");
        }
        let rig = rig.turbo("source", "sink").start().await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        disk.make_room();
        rig.restart_gear("sink").await.unwrap();
        assert!(rig.finished().await);
        assert!(rig.stop(Duration::from_secs(1)).await);
        (std::fs::read_to_string(disk.path()).unwrap(), reports.msgs())
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_in_the_file_is_written_again_or_marked_or_reported() {
        let (text, _) = restarted(OnMaybeSent::Resend).await;
        assert!(text.ends_with("\"data\":{}}\n") && text.lines().count() == 1, "{text}");

        let (text, _) = restarted(OnMaybeSent::Repeat).await;
        assert!(text.ends_with("\"data\":{},\"repeat\":true}\n") && text.lines().count() == 1, "{text}");

        let (text, reports) = restarted(OnMaybeSent::Report).await;
        assert_eq!(text, "");
        assert_eq!((reports.len(), reports[0].reference), (1, Some(msg(0).id)));
        assert_eq!(reports[0].meta.get("fluxrig.outcome"), Some("unknown"));
    }
}
