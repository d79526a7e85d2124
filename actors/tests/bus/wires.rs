//! A wire from one rack to another: what is published arrives, in order, once, whatever ends in between.

use std::time::Duration;

use crate::parts::{Hand, Rack, Sink, push, until, until_true, up, waits};
use crate::server::Server;

const STOP: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrives_in_order_once() {
    let Some(server) = Server::start("").await else { return };
    let (north, south) = (Rack::new("north", server.options()), Rack::new("south", server.options()));
    let (hand, sink) = (Hand::new(), Sink::default());
    let sender = north.sender(&hand).await;
    let receiver = south.receiver(&sink).await;
    assert_eq!(push(&hand.io().await, 0..3000).await, 3000);
    until("all arrive", || if sink.len() >= 3000 { Ok(()) } else { Err(sink.len().to_string()) }).await;
    assert_eq!(sink.numbers(), (0..3000).collect::<Vec<_>>());
    assert!(sink.msgs().iter().all(|msg| msg.trace.is_set() && msg.path.len() == 2), "its trace and its hops");
    assert!(sender.idle().await && sender.dead_letter_count() == 0);
    assert!(receiver.stop(STOP).await && sender.stop(STOP).await);
}

/// What is published while the receiver is down arrives when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_for_a_receiver_that_is_down() {
    let Some(mut server) = Server::start("").await else { return };
    let (north, south) = (Rack::new("north", server.options()), Rack::new("south", server.options()));
    let (hand, sink) = (Hand::new(), Sink::default());
    let sender = north.sender(&hand).await;
    // The receiver has never run; the stream keeps for it all the same.
    assert_eq!(push(&hand.io().await, 0..500).await, 500);
    assert!(sender.idle().await, "the server has them");
    let receiver = south.receiver(&sink).await;
    until_true("the first arrive", || sink.len() >= 500).await;
    receiver.kill().await;
    assert_eq!(push(&hand.io().await, 500..1000).await, 500);
    assert!(sender.idle().await);
    server.restart();
    let receiver = south.receiver(&sink).await;
    until_true("the others arrive", || sink.numbers().len() >= 1000).await;
    assert_eq!(sink.numbers(), (0..1000).collect::<Vec<_>>());
    assert!(receiver.stop(STOP).await && sender.stop(STOP).await);
}

/// A rack starts without its bus, says what waits, and joins without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_when_the_bus_comes() {
    let Some(mut server) = Server::start("").await else { return };
    server.kill();
    let (north, south) = (Rack::new("north", server.options()), Rack::new("south", server.options()));
    let (hand, sink) = (Hand::new(), Sink::default());
    let sender = north.sender(&hand).await;
    let receiver = south.receiver(&sink).await;
    assert_eq!(push(&hand.io().await, 0..10).await, 10, "its own wires run");
    let why = waits(&sender, "out", "found no server at").await;
    assert!(why.contains(&server.url()) && why.contains("remedy: start it"), "{why}");
    waits(&receiver, "in", "found no server at").await;
    server.restart();
    until_true("all arrive", || sink.len() == 10).await;
    assert!(receiver.stop(STOP).await && sender.stop(STOP).await);
}

/// Either side, the server, and the connection end at random times: nothing is lost, nothing comes twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_by_kills() {
    let Some(mut server) = Server::start("").await else { return };
    let (north, south) = (Rack::new("north", server.options()), Rack::new("south", server.options()));
    let (hand, sink) = (Hand::new(), Sink::default());
    let mut sender = Some(north.sender(&hand).await);
    let mut receiver = Some(south.receiver(&sink).await);
    let mut pushed = 0;
    for round in 0..24_u64 {
        // So many numbers are durable on the wire before anything ends; what follows is under way when it does.
        let count = 40 + (round * 7919) % 160;
        assert_eq!(push(&hand.io().await, pushed..pushed + count).await, count);
        pushed += count;
        match round % 6 {
            0 | 3 => {
                sender.take().unwrap().kill().await;
                sender = Some(north.sender(&hand).await);
            }
            1 | 4 => {
                until_true("some have come", || sink.len() as u64 > pushed / 2).await;
                receiver.take().unwrap().kill().await;
                receiver = Some(south.receiver(&sink).await);
            }
            2 => server.restart(),
            _ => {
                server.pause(true);
                let count = push(&hand.io().await, pushed..pushed + 20).await;
                pushed += count;
                server.pause(false);
            }
        }
    }
    let (out, bus) = (sender.as_ref().unwrap(), north.bus());
    up(&bus).await;
    let seen = || format!("{} of {pushed}; {:?}; {:?}", sink.numbers().len(), out.wires(), out.tallies());
    let mut status = Default::default();
    for _ in 0..200 {
        if sink.numbers().len() as u64 >= pushed {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        status = bus.status().await.unwrap();
    }
    assert!(
        sink.numbers().len() as u64 >= pushed,
        "{}; {:?}; {status:?}",
        seen(),
        receiver.as_ref().unwrap().tallies()
    );
    assert_eq!(sink.numbers(), (0..pushed).collect::<Vec<_>>());
    assert!(receiver.unwrap().stop(STOP).await && sender.unwrap().stop(STOP).await);
}

/// A bus may be started, used and dropped without a rig.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_and_removes_what_is_there() {
    let Some(server) = Server::start("").await else { return };
    let north = Rack::new("north", server.options());
    let hand = Hand::new();
    let sender = north.sender(&hand).await;
    assert_eq!(push(&hand.io().await, 0..7).await, 7);
    assert!(sender.idle().await);
    let bus = north.bus();
    up(&bus).await;
    let status = bus.status().await.unwrap();
    let [stream] = &status.streams[..] else { panic!("{status:?}") };
    assert_eq!((stream.name.as_str(), stream.rack.as_deref(), stream.messages), ("FLUX_MSG_north", Some("north"), 7));
    assert_eq!((stream.drift.as_ref(), stream.replicas, stream.max_bytes), (None, 1, None));
    let [consumer] = &stream.consumers[..] else { panic!("{stream:?}") };
    assert_eq!((consumer.name.as_str(), consumer.rack.as_deref()), ("south_in", Some("south")));
    assert_eq!((consumer.pending, consumer.unacked, consumer.is_read, consumer.drift.as_ref()), (7, 0, false, None));
    assert!(sender.stop(STOP).await);
    let pruned = bus.prune(|_, consumer| consumer == Some("south_in")).await.unwrap();
    assert_eq!(pruned.consumers, ["FLUX_MSG_north/south_in"]);
    let pruned = bus.prune(|stream, _| stream == "FLUX_MSG_north").await.unwrap();
    assert_eq!(pruned.streams, ["FLUX_MSG_north"]);
    assert_eq!(bus.status().await.unwrap().streams, []);
}
