//! Hosts of the world outside, for clients whose peer no scenario brings: they answer by the same framing, mostly soon,
//! sometimes late, twice or not at all.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fluxrig_gears::sim::{Network, Stream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::stage::Exit;
use super::{draw, message};

/// Answers of a host that are late come after so much, milliseconds, and at most as much again.
const LATE_MS: u64 = 1_500;

/// Serves an address until it is dropped.
pub(super) async fn serve(network: Network, exit: Arc<Exit>, seed: u64) {
    // Nobody else of the world outside listens there.
    let Ok(listener) = network.bind(&exit.address) else { return };
    let mut tasks = JoinSet::new();
    while let Ok(stream) = listener.accept().await {
        tasks.spawn(converse(stream, Arc::clone(&exit), seed));
        while tasks.try_join_next().is_some() {}
    }
}

async fn converse(mut stream: Stream, exit: Arc<Exit>, seed: u64) {
    let mut buffer = BytesMut::new();
    // What is to be sent, by time and then by order.
    let mut due: Vec<(Instant, u64, Vec<u8>)> = Vec::new();
    let mut count = 0;
    loop {
        due.sort_by_key(|(at, order, _)| (*at, *order));
        let next = due.first().map_or_else(|| Instant::now() + Duration::from_secs(3_600), |(at, ..)| *at);
        tokio::select! {
            biased;
            () = sleep_until(next) => {
                if due.is_empty() {
                    continue;
                }
                let (_, _, bytes) = due.remove(0);
                if stream.send(&bytes).is_err() {
                    return;
                }
            }
            read = stream.read(&mut buffer) => {
                if !matches!(read, Ok(1..)) {
                    return;
                }
                while let Ok(Some(body)) = exit.frames.take(&mut buffer) {
                    if body.is_empty() && exit.frames.has_polls() {
                        due.push((Instant::now(), count, exit.frames.frame(&[])));
                        count += 1;
                        continue;
                    }
                    let number = message::number(&exit.speech, &body).map_or(u64::MAX, |(number, _)| number as u64);
                    let Some(reply) = message::reply(&exit.speech, &body, seed) else { continue };
                    let drawn = draw(seed, "host", number);
                    let wait = match drawn % 100 {
                        0..3 => continue,
                        3..8 => Duration::from_millis(LATE_MS + (drawn >> 8) % LATE_MS),
                        _ => Duration::from_micros((drawn >> 8) % 30_000),
                    };
                    // Only a switch can tell a second answer from a first one.
                    let is_twice = exit.once_within.is_some() && (drawn >> 40).is_multiple_of(50);
                    for copy in 0..1 + u64::from(is_twice) {
                        let at = Instant::now() + wait + Duration::from_millis(copy * 5);
                        due.push((at, count, exit.frames.frame(&reply)));
                        count += 1;
                    }
                }
            }
        }
    }
}
