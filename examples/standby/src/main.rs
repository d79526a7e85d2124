//! A switch for card payments and its stand-by: the holder is killed, and later stopped in order, while payments are made.
//! Says how long nobody answered, and fails unless each payment has one outcome and the bank saw none of them twice.

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluxrig_rack::{Answer, Request, ask};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// Whatever went wrong, as a text for a person.
type Failure = Box<dyn Error + Send + Sync>;

const SCENARIO: &str = include_str!("../scenario.yaml");
/// Names the server for a rack that runs one.
const SERVER: &str = "FLUXRIG_NATS_SERVER";
/// Payments before and after each take-over.
const PAYMENTS: u32 = 30;
/// Whatever takes longer hangs.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let program = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => std::env::current_exe()?.with_file_name("fluxrig"),
        ["--daemon", path] => PathBuf::from(path),
        _ => return Err("usage: standby [--daemon PATH_OF_FLUXRIG]".into()),
    };
    if !program.is_file() {
        let remedy = "build it (`cargo build -p fluxrig-rack`) in the same profile, or name it with `--daemon`";
        return Err(
            format!("{}: found no file, expected the binary `fluxrig`; remedy: {remedy}", program.display()).into()
        );
    }
    let Some(server) = server() else {
        println!("SKIPPED: standby needs nats-server, which is not here; `cargo xtask setup` fetches it");
        return Ok(());
    };
    let dir = std::env::temp_dir().join(format!("fluxrig-standby-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let result = run(Racks::new(&program, &server, &dir)?).await;
    std::fs::remove_dir_all(&dir)?;
    result
}

/// What the bank's rack is told to run: of the environment, fetched by `cargo xtask setup`, or on PATH.
fn server() -> Option<PathBuf> {
    let named = std::env::var_os(SERVER).map(PathBuf::from);
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/nats-server/nats-server");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
    named.into_iter().chain([fetched]).chain(on_path).find(|program| program.is_file())
}

async fn run(racks: Racks) -> Result<(), Failure> {
    let bank = racks.start("bank", "bank", &[])?;
    let mut holder = racks.start("switch", "one", &[])?;
    racks.until_role("one", "holder").await?;
    // Once for each pair: the stand-by opens what the holder seals.
    std::fs::create_dir_all(racks.dir.join("two/journal"))?;
    std::fs::copy(racks.dir.join("one/journal/rack.key"), racks.dir.join("two/journal/rack.key"))?;
    let standby = racks.start("switch", "two", &["--standby"])?;
    racks.until_role("two", "stand-by").await?;
    let mut load = Load::default();
    load.pay(&racks).await?;
    println!("{} payments, answered by the holder; its stand-by follows", load.answered());

    holder.kill().await?;
    let gap = load.pay(&racks).await?;
    println!("the holder was killed: the next answer came after {} ms, from the stand-by", gap.as_millis());

    let holder = standby;
    let standby = racks.start("switch", "one", &["--standby"])?;
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

/// SIGTERM, and a drain.
async fn end(mut rack: Child) -> Result<(), Failure> {
    let id = rack.id().ok_or("fluxrig: found it ended, expected it to run")?;
    Command::new("kill").args(["-TERM", &id.to_string()]).status().await?;
    let status = timeout(WAIT_MAX, rack.wait()).await??;
    if status.success() { Ok(()) } else { Err(format!("fluxrig: ended with {status}, expected 0").into()) }
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
                    None if since.elapsed() > WAIT_MAX => return Err(racks.failed("an answer")),
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
    program: PathBuf,
    server: PathBuf,
    dir: PathBuf,
    terminals: SocketAddr,
    bank: SocketAddr,
    bus: SocketAddr,
}

impl Racks {
    fn new(program: &Path, server: &Path, dir: &Path) -> Result<Self, Failure> {
        std::fs::write(dir.join("scenario.yaml"), SCENARIO)?;
        let bind = || TcpListener::bind("127.0.0.1:0");
        let listeners = [bind()?, bind()?, bind()?];
        let [terminals, bank, bus] =
            [listeners[0].local_addr()?, listeners[1].local_addr()?, listeners[2].local_addr()?];
        let [program, server] = [std::path::absolute(program)?, std::path::absolute(server)?];
        Ok(Self { program, server, dir: dir.to_owned(), terminals, bank, bus })
    }

    fn start(&self, rack: &str, data: &str, more: &[&str]) -> Result<Child, Failure> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join(format!("{data}.log")))?;
        // What a kill left would be taken for the new one.
        drop(std::fs::remove_file(self.dir.join(data).join("control.sock")));
        let child = Command::new(&self.program)
            .current_dir(&self.dir)
            .args(["run", "scenario.yaml", "--rack", rack, "--data-dir", data])
            .args(more)
            .env(SERVER, &self.server)
            .env("TERMINALS", self.terminals.to_string())
            .env("BANK", self.bank.to_string())
            .env("BUS_PORT", self.bus.port().to_string())
            .env("BUS_TOKEN", "of-this-run")
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        Ok(child)
    }

    async fn until_role(&self, data: &str, role: &str) -> Result<(), Failure> {
        let until = Instant::now() + WAIT_MAX;
        while Instant::now() < until {
            if let Ok(Answer::Done(top)) = ask(&self.dir.join(data), &Request::Top).await
                && top["stream"]["role"] == role
            {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err(self.failed(&format!("`{data}` to be the {role}")))
    }

    /// One payment, as a terminal makes it: the code in its answer, or nothing when nobody answers.
    async fn pay(&self, number: usize) -> Result<Option<String>, Failure> {
        let target = self.terminals.to_string();
        let fields = ["2=4000001234562", "4=000000001000", "7=1122103000", "41=TERM0001"].map(str::to_owned);
        let own = [format!("11={number:06}"), format!("37={number:012}")];
        let set = fields.iter().chain(&own).flat_map(|field| ["--set", field]);
        let output = Command::new(&self.program)
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
        let Answer::Done(top) = ask(&self.dir.join("bank"), &Request::Top).await? else {
            return Err(self.failed("the bank's rack to answer"));
        };
        let wires = top["wires"].as_array().cloned().unwrap_or_default();
        let is_asked = |wire: &&Value| wire["name"] == "host.out->host_read.in";
        let passed = wires.iter().find(is_asked).and_then(|wire| wire["passed"].as_u64());
        Ok(usize::try_from(passed.ok_or("bank: found no wire behind its door, expected one")?)?)
    }

    fn failed(&self, what: &str) -> Failure {
        for name in ["bank", "one", "two"] {
            eprintln!("{name}: {}", std::fs::read_to_string(self.dir.join(format!("{name}.log"))).unwrap_or_default());
        }
        format!("found it not so after {WAIT_MAX:?}, expected {what}; remedy: see the logs above").into()
    }
}
