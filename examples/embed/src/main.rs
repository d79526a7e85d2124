//! A rig in code: a source, two gears, a sink, durable wires between them. Prints what it did, and checks it.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_gears::{FileSink, Generator, Mapping};
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MESSAGES: u64 = 100_000;

/// The gear of this program: it squares the number of a message.
struct Square {
    from: FieldPath,
    to: FieldPath,
}

impl Gear for Square {
    const TYPE: &'static str = "square";
    type State = ();

    fn handle(&self, mut msg: FluxMsg, (): &mut (), out: &mut Outlet) -> Result<(), GearError> {
        let number = msg.data.int(&self.from)?;
        msg.data.set(&self.to, number * number)?;
        out.emit(msg);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("fluxrig-embed-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let result = run(&dir).await;
    std::fs::remove_dir_all(&dir)?;
    result
}

async fn run(dir: &Path) -> Result<(), Box<dyn Error>> {
    let file = dir.join("out.jsonl");
    let rig = Rig::new("embed")
        .endpoint("source", Generator::counting(MESSAGES).payload(64, 1))
        .gear("square", Square { from: "seq".parse()?, to: "square".parse()? })
        .gear("label", Mapping::default().set("meta.site", "N1")?.rename("data.seq", "data.number")?)
        .endpoint("sink", FileSink::at(&file))
        .wire("source", "square")
        .wire("square", "label")
        .wire("label", "sink")
        .journal(dir.join("journal"));

    let began = Instant::now();
    let rig = rig.start().await?;
    let is_finished = rig.finished().await;
    let took = began.elapsed();
    let (journal, _) = rig.journal().ok_or("there is a journal")?;
    let is_drained = rig.stop(Duration::from_secs(10)).await;

    println!("{MESSAGES} messages through 2 gears and 3 durable wires, from a generator to a file, in {took:.1?}");
    println!("{} per second", (MESSAGES as f64 / took.as_secs_f64()) as u64);
    println!("journal: {} groups, {} records, {} flushes", journal.groups, journal.records, journal.flushes);
    assert!(is_finished && is_drained, "the rig ended before its work did");
    check(&file)
}

/// Every message once, in order, as the gears made it.
fn check(file: &Path) -> Result<(), Box<dyn Error>> {
    let text = std::fs::read_to_string(file)?;
    for (number, line) in text.lines().enumerate() {
        let line: serde_json::Value = serde_json::from_str(line)?;
        let data = &line["data"];
        assert_eq!((&data["number"], &data["square"]), (&number.into(), &(number * number).into()));
        assert_eq!((&line["meta"]["site"], &data["seq"]), (&"N1".into(), &serde_json::Value::Null));
    }
    assert_eq!(text.lines().count() as u64, MESSAGES);
    println!("checked: every message is in the file, once and in order");
    Ok(())
}
