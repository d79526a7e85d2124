//! Cases of `generator` are files; its ends and restarts are here.

use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::clock::SimWorld;
use fluxrig_actors::prelude::*;

use super::{Generator, Rate};
use crate::tests::harness::Collected;

#[tokio::test(start_paused = true)]
async fn cases() {
    crate::tests::harness::check_cases("generator").await;
}

async fn rig(generator: Generator, sink: &Collected) -> RunningRig {
    let rig = Rig::new("numbers").world(Arc::new(SimWorld::new(1))).endpoint("source", generator);
    rig.endpoint("sink", sink.clone()).turbo("source", "sink").start().await.unwrap()
}

fn numbers(sink: &Collected) -> Vec<i64> {
    sink.msgs().iter().map(|msg| msg.data.int(&"seq".parse().unwrap()).unwrap()).collect()
}

async fn ends_without_a_gap(rig: RunningRig, sink: &Collected) {
    assert!(rig.stop(Duration::from_secs(10)).await);
    let numbers = numbers(sink);
    assert!(numbers.len() >= 1000 && numbers.iter().copied().eq(0..numbers.len() as i64));
}

#[tokio::test(start_paused = true)]
async fn an_endless_generator_ends_with_the_rig_and_leaves_no_gap() {
    let sink = Collected::default();
    let rig = rig(Generator::default(), &sink).await;
    // A paused clock stands while there is work, and here there always is.
    while sink.len() < 1000 {
        tokio::task::yield_now().await;
    }
    ends_without_a_gap(rig, &sink).await;
}

#[tokio::test(start_paused = true)]
async fn a_steady_generator_ends_with_the_rig_and_leaves_no_gap() {
    let sink = Collected::default();
    let rig = rig(Generator::steady(Rate::per_s(1000.0).unwrap()), &sink).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    ends_without_a_gap(rig, &sink).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_behind_what_was_admitted() {
    for generator in
        [Generator::counting(50_000), Generator { count: Some(50), ..Generator::steady(Rate::per_s(100.0).unwrap()) }]
    {
        let sink = Collected::default();
        let (count, generator_rate) = (generator.count.unwrap() as i64, generator.rate_per_s);
        let rig = rig(generator, &sink).await;
        while sink.len() < 10 {
            match generator_rate {
                Some(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                None => tokio::task::yield_now().await,
            }
        }
        rig.restart_gear("source").await.unwrap();
        assert!(rig.finished().await);
        assert!(rig.stop(Duration::from_secs(10)).await);
        assert!(numbers(&sink).into_iter().eq(0..count));
    }
}

#[test]
fn payloads_depend_on_seed_and_number_alone() {
    let payload = |seed, number| Generator::default().payload(20, seed).payload_of(number);
    assert_eq!(payload(1, 7), payload(1, 7));
    assert_ne!(payload(1, 7), payload(1, 8));
    assert_ne!(payload(1, 7), payload(2, 7));
    assert_ne!(payload(1, 2), payload(2, 1));
    assert_eq!(payload(1, 7).len(), 20);
}

#[test]
fn a_rate_has_bounds_and_says_them() {
    for bad in [0.0, -1.0, 1e-7, 2e9, f64::NAN, f64::INFINITY] {
        let error = Rate::per_s(bad).unwrap_err().to_string();
        assert!(error.contains("expected 0.000001 to 1000000000 messages per second"), "{error}");
    }
    let slowest = Rate::per_s(1e-6).unwrap();
    assert!(slowest.time_of(u64::MAX) > Duration::from_secs(1 << 30), "far away, and no overflow");
    assert_eq!(Rate::per_s(10.0).unwrap().time_of(5), Duration::from_millis(500));
    assert_eq!(Rate::per_s(10.0).unwrap().count_by(Duration::from_millis(500)), 6);
}
