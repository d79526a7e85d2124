//! A thousand connections at once, all of them talking.

use serde_json::json;

use super::Stage;
use super::server::lines;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_talk_at_once() {
    const COUNT: usize = 1000;
    let stage = Stage::tcp(lines(json!({}))).await;
    let mut peers = Vec::new();
    for _ in 0..COUNT {
        peers.push(stage.connect().await);
    }
    stage.counted("connections_opened", "all", COUNT as u64).await;
    for round in 1..=3 {
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.send(format!("{round}-{number}\n").as_bytes()).await;
        }
        for msg in stage.desk.seen(round * COUNT).await.split_off((round - 1) * COUNT) {
            stage.desk.answer(&msg, msg.raw.as_ref().unwrap());
        }
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.expect(format!("{round}-{number}\n").as_bytes()).await;
        }
    }
    drop(peers);
    stage.closed("peer", COUNT as u64).await;
    stage.stop().await;
}
