//! `durability: replicated`: three servers that flush nothing by themselves, for a wire and for the journal; refused where
//! fewer copies are kept, and a flush is refused on such servers.

use std::time::Duration;

use fluxrig_actors::bus::{Bus, BusDurability, BusOptions};
use fluxrig_rack::{Rack, RackOptions};
use fluxrig_tests::outside::nats::{self, Cluster, Server, Wanted};
use fluxrig_tests::outside::place::Place;

use crate::parts::{PATIENCE, passes, patiently, until};

fn lazy() -> Wanted {
    Wanted { is_lazy: true, ..Wanted::default() }
}

/// A rack whose journal and one wire are on these servers.
fn scenario(urls: &[String], durability: &str, out: &std::path::Path) -> String {
    let urls: Vec<String> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    format!(
        "meta: {{ name: copies, version: 0.1.0 }}\nbus: {{ servers: [{}], replicas: 3 }}\n\
         journal: {{ jetstream: {{ durability: {durability} }} }}\n\
         gears:\n  - {{ name: source, type: generator, config: {{ count: 400, rate_per_s: 100 }} }}\n  \
         - {{ name: sink, type: file, config: {{ path: \"{}\" }} }}\n\
         wires:\n  - {{ from: source, to: sink, backend: jetstream }}\n",
        urls.join(", "),
        out.display()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_that_do_not_flush_keep_wire_and_journal_through_the_loss_of_one() {
    let Some(program) = nats::program("replicated::three_servers") else { return };
    let mut cluster = Cluster::start(&program, &lazy()).unwrap();
    let place = Place::new().unwrap();
    let out = place.path().join("lines.jsonl");
    let start = async |durability: &str, dir: &str| {
        let text = scenario(&cluster.urls(), durability, &out);
        let rack = Rack::parse("copies", &text, &fluxrig_gears::standard(), &|_| None).unwrap();
        rack.start(RackOptions { data_dir: place.path().join(dir), ..RackOptions::default() }).await
    };
    let why = start("flush", "flush").await.err().unwrap();
    let why = format!("{why}: {}", std::error::Error::source(&why).map(ToString::to_string).unwrap_or_default());
    assert!(why.contains("found nobody to ask whether the server syncs every write"), "{why}");
    let rack = patiently(async || start("replicated", "replicated").await).await;
    let lines = || std::fs::read_to_string(&out).unwrap_or_default().lines().count();
    until("some lines arrive", || if lines() > 20 { Ok(()) } else { Err(lines().to_string()) }).await;
    cluster.servers[0].kill();
    until("all lines arrive", || if lines() >= 400 { Ok(()) } else { Err(lines().to_string()) }).await;
    let bus = Bus::start(BusOptions { replicas: 3, ..BusOptions::at(cluster.urls()) }, "auditor");
    let status = bus.status().await.unwrap();
    let copies: Vec<_> = status.streams.iter().map(|stream| (stream.name.as_str(), stream.replicas)).collect();
    assert_eq!(copies, [("FLUX_JOURNAL_rack", 3), ("FLUX_MSG_rack", 3)]);
    rack.run_until(std::future::ready(())).await.unwrap();
    assert_eq!(lines(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fewer_copies_are_refused_by_name() {
    let Some(program) = nats::program("replicated::fewer_copies") else { return };
    let server = Server::start(&program, &lazy()).unwrap();
    let of = |replicas| Bus::start(BusOptions { replicas, ..BusOptions::at([server.url()]) }, "north");
    let why = of(2).replicated_journal(None, PATIENCE).await.err().unwrap().to_string();
    assert!(why.contains("stream `FLUX_JOURNAL_north`: found `num_replicas` 2, expected at least 3"), "{why}");
    assert!(why.contains("for `durability: replicated`; remedy: write `replicas: 3` at the bus"), "{why}");
    // The word is there, and the copies are not: a server alone keeps no three.
    let log = of(3).replicated_journal(None, PATIENCE).await.unwrap();
    let why = log.open().await.err().unwrap().to_string();
    assert!(why.contains("stream FLUX_JOURNAL_north") && why.contains("replicas > 1 not supported"), "{why}");
    let why = of(1).journal(None, Duration::from_secs(10)).await.err().unwrap().to_string();
    assert!(why.contains("expected `monitor_url` for `durability: flush`"), "{why}");
    passes(BusOptions { assume_sync: true, ..BusOptions::at([server.url()]) }, BusDurability::Os).await;
}
