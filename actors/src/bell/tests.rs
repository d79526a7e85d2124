//! One ring until it is answered, wherever it goes; none is lost while nobody listens.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::*;

fn counting(bell: &Bell) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let rung = Arc::clone(&count);
    bell.connect(move || {
        rung.fetch_add(1, Ordering::Relaxed);
    });
    count
}

#[test]
fn it_rings_once_until_it_is_answered() {
    let bell = Bell::default();
    let count = counting(&bell);
    // Whatever waited while nobody was there is served now.
    assert_eq!(count.load(Ordering::Relaxed), 1);
    for expected in [2, 3] {
        bell.answer();
        bell.ring();
        bell.ring();
        assert_eq!(count.load(Ordering::Relaxed), expected);
    }
}

#[test]
fn the_next_actor_is_told_at_once() {
    let bell = Bell::default();
    let first = counting(&bell);
    bell.answer();
    bell.disconnect();
    bell.ring();
    assert_eq!(first.load(Ordering::Relaxed), 1, "it is gone");
    assert_eq!(counting(&bell).load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn whoever_awaits_it_hears_a_ring_from_before() {
    let bell = Bell::default();
    bell.ring();
    bell.ring();
    bell.heard().await;
    bell.ring();
    bell.heard().await;
}
