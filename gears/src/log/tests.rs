//! Cases of `log` are files; that no value reaches a log is here.

use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::clock::SimWorld;
use fluxrig_actors::prelude::*;

use crate::Log;
use crate::tests::harness::{Logged, Source, msg};

#[tokio::test(start_paused = true)]
async fn cases() {
    crate::tests::harness::check_cases("log").await;
}

#[tokio::test(start_paused = true)]
async fn a_card_number_never_reaches_the_log() {
    const PAN: &str = "4111111111111111";
    let mut card = msg(0);
    card.meta.set("pan", PAN);
    card.data.set(&"card.pan".parse().unwrap(), PAN).unwrap();
    card.data.set(&"card.number".parse().unwrap(), PAN.parse::<u64>().unwrap()).unwrap();
    card.data.set(&"card.list".parse().unwrap(), vec![Value::from(PAN), Value::from(PAN.as_bytes())]).unwrap();
    card.raw = Some(PAN.as_bytes().to_vec().into());
    card.return_to = card.raw.clone();

    let logged = Logged::default();
    let guard = logged.start();
    let rig = Rig::new("cards").world(Arc::new(SimWorld::new(1))).endpoint("source", Source(vec![card]));
    let rig = rig.gear("log", Log::default()).turbo("source", "log").start().await.unwrap();
    assert!(rig.finished().await);
    assert!(rig.stop(Duration::from_secs(1)).await);
    drop(guard);

    let text = logged.text();
    assert!(text.contains("card"), "the key is there: {text}");
    let digits: String = PAN.bytes().map(|digit| format!("{digit}, ")).collect();
    for form in [PAN, "411111", "34313131", digits.trim_end_matches(", ")] {
        assert!(!text.contains(form), "found `{form}` in: {text}");
    }
}
