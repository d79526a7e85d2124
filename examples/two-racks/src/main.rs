//! Two racks over a bus: `edge` takes lines, `core` keeps the ledger and the server between them. Both are killed in turn
//! while lines come in, and at the end the ledger has every line that `edge` took, in order.

#[path = "../../daemons.rs"]
mod daemons;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use daemons::{Daemons, Failure, WAIT_MAX, addresses, end};

const SCENARIO: &str = include_str!("../scenario.yaml");
/// Of each part.
const LINES: u64 = 2_000;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    match Daemons::find("two-racks", SCENARIO)? {
        Some(daemons) => run(Racks::new(daemons)?).await,
        None => Ok(()),
    }
}

async fn run(racks: Racks) -> Result<(), Failure> {
    let mut core = racks.start("core")?;
    let mut edge = racks.start("edge")?;

    racks.send(0).await?;
    racks.until_ledger_has(LINES).await?;
    println!("{LINES} lines came from edge to core, over the bus that core runs");

    core.kill().await?;
    racks.send(LINES).await?;
    racks.until_taken(2 * LINES).await?;
    println!("core was killed, and the bus with it; edge took {LINES} more lines");

    edge.kill().await?;
    let edge = racks.start("edge")?;
    let mut core = racks.start("core")?;
    racks.until_ledger_has(2 * LINES).await?;
    println!("edge was killed as well; both came back, and so did the lines");

    racks.send(2 * LINES).await?;
    core.kill().await?;
    let core = racks.start("core")?;
    racks.until_ledger_has(3 * LINES).await?;
    let again = racks.check_ledger(3 * LINES)?;
    println!(
        "checked: all {} lines are in the ledger, in order; {again} stand there twice, each marked as a repeat",
        3 * LINES
    );

    end(edge).await?;
    end(core).await
}

struct Racks {
    daemons: Daemons,
    lines: SocketAddr,
    ledger: PathBuf,
}

impl Racks {
    fn new(daemons: Daemons) -> Result<Self, Failure> {
        let [lines, bus] = addresses()?;
        let ledger = daemons.dir.join("ledger.jsonl");
        let daemons = daemons.with(&[
            ("LINES", lines.to_string()),
            ("BUS_PORT", bus.port().to_string()),
            ("BUS_TOKEN", "of-this-run".to_owned()),
            ("LEDGER", ledger.display().to_string()),
        ]);
        Ok(Self { daemons, lines, ledger })
    }

    fn start(&self, name: &str) -> Result<Child, Failure> {
        self.daemons.start(name, name, &[])
    }

    /// Lines from this number on, as somebody sends them who knows nothing of racks.
    async fn send(&self, from: u64) -> Result<(), Failure> {
        let until = Instant::now() + WAIT_MAX;
        let mut stream = loop {
            match TcpStream::connect(self.lines).await {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > until => return Err(error.into()),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        for number in from..from + LINES {
            stream.write_all(format!("line {number}\n").as_bytes()).await?;
        }
        stream.shutdown().await?;
        Ok(())
    }

    /// Until edge has so many lines behind its door since it was started first; it is not killed before that is durable.
    async fn until_taken(&self, lines: u64) -> Result<(), Failure> {
        self.daemons
            .until("edge to take all lines", || async {
                let Some(top) = self.daemons.top("edge").await else { return false };
                let wires = top["wires"].as_array().cloned().unwrap_or_default();
                let came = |wire: &Value| wire["passed"].as_u64().unwrap_or(0) + wire["depth"].as_u64().unwrap_or(0);
                wires.iter().any(|wire| came(wire) >= lines)
            })
            .await?;
        // A cut is at most five milliseconds away, its flush not much more.
        sleep(Duration::from_millis(500)).await;
        Ok(())
    }

    async fn until_ledger_has(&self, lines: u64) -> Result<(), Failure> {
        self.daemons
            .until("the ledger to be complete", || async {
                self.numbers().is_ok_and(|numbers| {
                    numbers.into_iter().map(|(number, _)| number).collect::<BTreeSet<_>>().len() as u64 >= lines
                })
            })
            .await
    }

    /// The number in each line of the ledger, in its order, and whether the line says that it may be there already. The
    /// last line may be half written.
    fn numbers(&self) -> Result<Vec<(u64, bool)>, Failure> {
        let text = std::fs::read_to_string(&self.ledger)?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| number(&serde_json::from_str(line)?)).collect()
    }

    /// How many lines stand there twice, since core was killed between writing them and noting it.
    fn check_ledger(&self, lines: u64) -> Result<usize, Failure> {
        let (mut next, mut again) = (0, 0);
        for (number, is_repeat) in self.numbers()? {
            match number {
                number if number == next => next += 1,
                number if number < next && is_repeat => again += 1,
                number => return Err(format!("ledger: found line {number}, expected {next}").into()),
            }
        }
        if next == lines { Ok(again) } else { Err(format!("ledger: found {next} lines, expected {lines}").into()) }
    }
}

/// What follows `line ` in the bytes that came in, which the ledger has in hexadecimal digits.
fn number(message: &Value) -> Result<(u64, bool), Failure> {
    let raw = message["raw"].as_str().ok_or("ledger: found a message without `raw`, expected the bytes of a line")?;
    let mut line = Vec::new();
    for byte in raw.as_bytes().chunks(2) {
        line.push(u8::from_str_radix(std::str::from_utf8(byte)?, 16)?);
    }
    let number = std::str::from_utf8(&line)?.strip_prefix("line ").ok_or("ledger: found other bytes than a line's")?;
    Ok((number.trim_end().parse()?, message["repeat"] == true))
}
