//! What waits on a wire is read back as soon as its storage answers, and nobody is started again for that.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::journal::disk::sim::SimDisk;
use crate::journal::stream::sim::{SimStream, StreamFaults};
use crate::prelude::*;
use crate::supervision::TreeNode;
use crate::{Rig, Settings};

const COUNT: i64 = 2000;

#[derive(Default)]
struct Shelf {
    is_open: AtomicBool,
    taken: Mutex<Vec<i64>>,
}

struct Source;

impl Endpoint for Source {
    const TYPE: &'static str = "source";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        for number in 0..COUNT {
            let mut msg = io.message();
            msg.data.insert_key("number", number);
            drop(io.door().admit(msg).await);
        }
        Ok(())
    }
}

struct Sink(Arc<Shelf>);

impl Endpoint for Sink {
    const TYPE: &'static str = "sink";

    fn ports(&self) -> Ports {
        Ports::sink()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        while !self.0.is_open.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut effects = io.effects();
        while let Some(effect) = effects.take().await {
            let number = effect.msg.data.get_key("number").and_then(Value::as_int).unwrap();
            self.0.taken.lock().unwrap().push(i64::try_from(number).unwrap());
            effect.done();
        }
        Ok(())
    }
}

fn restarts(node: &TreeNode) -> u64 {
    node.restarts + node.children.iter().map(restarts).sum::<u64>()
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_read_back_from_a_stream_that_does_not_always_answer() {
    let (stream, disk, shelf) = (SimStream::new(1), SimDisk::new(1), Arc::new(Shelf::default()));
    let mut journal = JournalOptions::disk(disk.process()).on_stream(stream.process());
    journal.pace = Some(crate::journal::Pace { seed: 3, max: Duration::from_micros(300) });
    let wire = WireOptions { memory_window: 512, ..WireOptions::default() };
    let rig = Rig::new("backlog")
        .settings(Settings { effects_max: 8, ..Settings::default() })
        .endpoint("source", Source)
        .endpoint("sink", Sink(Arc::clone(&shelf)))
        .wire_with("source", "sink", wire)
        .journal_with(journal)
        .start()
        .await
        .unwrap();
    while rig.wires()[0].depth < COUNT as usize {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(rig.durable().await);
    // Reads meet elections as well as writes do.
    stream.set_faults(StreamFaults { election_ppm: 100_000, ..StreamFaults::default() });
    shelf.is_open.store(true, Ordering::SeqCst);
    while shelf.taken.lock().unwrap().len() < COUNT as usize {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(*shelf.taken.lock().unwrap(), (0..COUNT).collect::<Vec<_>>());
    assert!(stream.fired().elections > 0);
    assert_eq!(restarts(&rig.snapshot().await.unwrap()), 0, "nobody is to blame");
    rig.kill().await;
}
