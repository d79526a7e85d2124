//! Request and reply in a loop, under pressure: nobody inside waits, so nobody waits for each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::prelude::*;
use tokio::task::JoinHandle;

use crate::parts::{Func, Hand, number, numbered, text};
use crate::stage::Stage;

/// Answers every request it is asked, one after the other, and waits for its own door before it takes the next.
fn host(io: Io, verdict: &'static str) -> JoinHandle<u64> {
    tokio::spawn(async move {
        let (mut effects, door) = (io.effects(), io.door());
        effects.set_window(1);
        let mut answered = 0;
        while let Some(effect) = effects.take().await {
            let mut reply = effect.msg.clone();
            reply.reference = Some(effect.msg.id);
            reply.data.insert_key("verdict", verdict);
            if door.admit(reply).await.is_err() {
                return answered;
            }
            effect.done();
            answered += 1;
        }
        answered
    })
}

/// Asks the first host; when that declines, the second. A timer stands for each open request.
fn conductor() -> Func {
    let ports = Ports::none()
        .input_feeding("in", &["first", "answer"])
        .reply("reply", &["second", "answer"])
        .output("first")
        .output("second")
        .output("answer");
    Func::new(|mut msg, _, out| {
        let key = format!("open-{}", number(&msg));
        match (out.port(), text(&msg, "verdict").as_str()) {
            ("in", _) => {
                out.timer(key, Duration::from_secs(3600));
                out.emit_on("first", msg);
            }
            (_, "declined") => out.emit_on("second", msg),
            (_, verdict) => {
                let verdict = verdict.to_owned();
                out.cancel(key);
                msg.data.insert_key("final", verdict);
                out.emit_on("answer", msg);
            }
        }
        Ok(())
    })
    .ports(ports)
}

async fn run(stage: Arc<Stage>, capacity: usize, requests: u64) {
    let tiny = || WireOptions { capacity, ..stage.wire() };
    let terminals = Hand::new(Ports::none().input("answers").output("requests"));
    let hosts = || Hand::new(Ports::none().input("ask").output("reply"));
    let (first, second) = (hosts(), hosts());
    let rig = stage
        .rig("loop")
        .endpoint("terminals", terminals.clone())
        .gear("decode", crate::parts::Pass)
        .gear("conductor", conductor())
        .gear("encode", crate::parts::Pass)
        .endpoint("first", first.clone())
        .endpoint("second", second.clone())
        .wire_with("terminals.requests", "decode", tiny())
        .wire_with("decode", "conductor.in", tiny())
        .wire_with("conductor.first", "first.ask", tiny())
        .wire_with("conductor.second", "second.ask", tiny())
        .wire_with("first.reply", "conductor.reply", tiny())
        .wire_with("second.reply", "conductor.reply", tiny())
        .wire_with("conductor.answer", "encode", tiny())
        .wire_with("encode", "terminals.answers", tiny())
        .start()
        .await
        .unwrap();
    let (first, second) = (host(first.io().await, "declined"), host(second.io().await, "approved"));
    let io = terminals.io().await;
    let asking = io.clone();
    let asker = tokio::spawn(async move {
        let door = asking.door();
        for number in 0..requests {
            let mut msg = numbered(&asking, number);
            msg.return_to = Some(asking.return_address(number));
            door.admit(msg).await.unwrap();
        }
    });
    let mut answers = BTreeMap::new();
    let mut effects = io.effects();
    effects.set_window(1);
    while answers.len() < requests as usize {
        let took = tokio::time::timeout(Duration::from_secs(60), effects.take()).await;
        let effect = took.unwrap_or_else(|_| panic!("stands still after {} answers: {:?}", answers.len(), rig.wires()));
        let effect = effect.unwrap();
        assert_eq!(io.connection(&effect.msg), Some(number(&effect.msg)), "to whoever asked");
        assert_eq!(text(&effect.msg, "final"), "approved");
        *answers.entry(number(&effect.msg)).or_insert(0) += 1;
        effect.done();
        let inside: usize = rig.wires().iter().map(|wire| wire.depth).sum();
        assert!(inside <= 8 * (capacity + 2) * 2, "bounded: {:?}", rig.wires());
    }
    asker.await.unwrap();
    assert!(rig.idle().await);
    assert!(answers.values().all(|count| *count == 1), "each once");
    drop(effects);
    stage.stop(rig).await;
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (requests, requests));
}

pub(crate) async fn capacity_of_one(stage: Arc<Stage>) {
    run(stage, 1, 200).await;
}

pub(crate) async fn capacity_of_three(stage: Arc<Stage>) {
    run(stage, 3, 400).await;
}
