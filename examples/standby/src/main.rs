//! A switch for card payments and its stand-by: the holder is killed, and later stopped in order, while payments are made.
//! Says how long nobody answered, and fails unless each payment has one outcome and the bank saw none of them twice.

#[path = "../../daemons.rs"]
mod daemons;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use daemons::{Daemons, Failure, WAIT_MAX, addresses, end};

const SCENARIO: &str = include_str!("../scenario.yaml");
/// Payments before and after each take-over.
const PAYMENTS: u32 = 30;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    match Daemons::find("standby", SCENARIO)? {
        Some(daemons) => run(Racks::new(daemons)?).await,
        None => Ok(()),
    }
}

async fn run(racks: Racks) -> Result<(), Failure> {
    let daemons = &racks.daemons;
    let bank = daemons.start("bank", "bank", &[])?;
    let mut holder = daemons.start("switch", "one", &[])?;
    racks.until_role("one", "holder").await?;
    // Once for each pair: the stand-by opens what the holder seals.
    std::fs::create_dir_all(daemons.dir.join("two/journal"))?;
    std::fs::copy(daemons.dir.join("one/journal/rack.key"), daemons.dir.join("two/journal/rack.key"))?;
    let standby = daemons.start("switch", "two", &["--standby"])?;
    racks.until_role("two", "stand-by").await?;
    let mut load = Load::default();
    load.pay(&racks).await?;
    println!("{} payments, answered by the holder; its stand-by follows", load.answered());

    holder.kill().await?;
    let gap = load.pay(&racks).await?;
    println!("the holder was killed: the next answer came after {} ms, from the stand-by", gap.as_millis());

    let holder = standby;
    let standby = daemons.start("switch", "one", &["--standby"])?;
    racks.until_role("one", "stand-by").await?;
    // It drains while payments go on.
    let (ended, gap) = tokio::join!(end(holder), load.pay(&racks));
    ended?;
    println!(
        "the killed one came back as a stand-by, and the other one was stopped: {} ms without an answer",
        gap?.as_millis()
    );

    let seen = racks.seen_by_bank().await?;
    load.check(seen)?;
    end(standby).await?;
    end(bank).await
}

/// What a terminal knows.
#[derive(Default)]
struct Load {
    /// Of each payment, its number being the place: the code in its answer.
    codes: Vec<String>,
    asked: usize,
}

impl Load {
    /// Pays so often, asks again until somebody answers, and says how long the longest answer took.
    async fn pay(&mut self, racks: &Racks) -> Result<Duration, Failure> {
        let mut longest = Duration::ZERO;
        for _ in 0..PAYMENTS {
            let since = Instant::now();
            let code = loop {
                self.asked += 1;
                match racks.pay(self.codes.len()).await? {
                    Some(code) => break code,
                    None if since.elapsed() > WAIT_MAX => return Err(racks.daemons.failed("an answer")),
                    None => sleep(Duration::from_millis(20)).await,
                }
            };
            longest = longest.max(since.elapsed());
            self.codes.push(code);
        }
        Ok(longest)
    }

    fn answered(&self) -> usize {
        self.codes.len()
    }

    fn check(&self, seen: usize) -> Result<(), Failure> {
        let of = |code: &str| self.codes.iter().filter(|found| *found == code).count();
        let (approved, timed_out) = (of("00"), of("91"));
        if approved + timed_out != self.answered() {
            return Err(format!("answers: found {:?}, expected 00, or 91 for a few", self.codes).into());
        }
        // The bank may have seen those that timed out, once.
        if !(approved..=approved + timed_out).contains(&seen) {
            return Err(
                format!("bank: found {seen} requests for {approved} approved payments, expected as many").into()
            );
        }
        println!(
            "checked: {} payments asked {} times, {approved} approved, {timed_out} timed out; the bank saw {seen} requests, none twice",
            self.answered(),
            self.asked
        );
        Ok(())
    }
}

struct Racks {
    daemons: Daemons,
    terminals: SocketAddr,
}

impl Racks {
    fn new(daemons: Daemons) -> Result<Self, Failure> {
        let [terminals, bank, bus] = addresses()?;
        let daemons = daemons.with(&[
            ("TERMINALS", terminals.to_string()),
            ("BANK", bank.to_string()),
            ("BUS_PORT", bus.port().to_string()),
            ("BUS_TOKEN", "of-this-run".to_owned()),
        ]);
        Ok(Self { daemons, terminals })
    }

    async fn until_role(&self, data: &str, role: &str) -> Result<(), Failure> {
        let is_so = || async { self.daemons.top(data).await.is_some_and(|top| top["stream"]["role"] == role) };
        self.daemons.until(&format!("`{data}` to be the {role}"), is_so).await
    }

    /// One payment, as a terminal makes it: the code in its answer, or nothing when nobody answers.
    async fn pay(&self, number: usize) -> Result<Option<String>, Failure> {
        let target = self.terminals.to_string();
        let fields = ["2=4000001234562", "4=000000001000", "7=1122103000", "41=TERM0001"].map(str::to_owned);
        let own = [format!("11={number:06}"), format!("37={number:012}")];
        let set = fields.iter().chain(&own).flat_map(|field| ["--set", field]);
        let output = Command::new(&self.daemons.program)
            .args(["iso8583", "send", "--target", &target, "--timeout-ms", "5000"])
            .args(set)
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let code = text.lines().find_map(|line| line.trim_start().strip_prefix("39 ")?.split_whitespace().last());
        Ok(code.filter(|_| output.status.success()).map(str::to_owned))
    }

    /// Requests that came to the bank.
    async fn seen_by_bank(&self) -> Result<usize, Failure> {
        let top = self.daemons.top("bank").await.ok_or_else(|| self.daemons.failed("the bank's rack to answer"))?;
        let wires = top["wires"].as_array().cloned().unwrap_or_default();
        let is_asked = |wire: &&Value| wire["name"] == "host.out->host_read.in";
        let passed = wires.iter().find(is_asked).and_then(|wire| wire["passed"].as_u64());
        Ok(usize::try_from(passed.ok_or("bank: found no wire behind its door, expected one")?)?)
    }
}
