//! Two racks over a bus: `edge` takes lines, `core` keeps the ledger and the server between them. Both are killed in turn
//! while lines come in, and at the end the ledger has every line that `edge` took, in order.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluxrig_rack::{Answer, Request, ask};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// Whatever went wrong, as a text for a person.
type Failure = Box<dyn Error + Send + Sync>;

const SCENARIO: &str = include_str!("../scenario.yaml");
/// Names the server for a rack that runs one.
const SERVER: &str = "FLUXRIG_NATS_SERVER";
/// Of each part.
const LINES: u64 = 2_000;
/// A start, or the way of all lines, that takes longer hangs.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let program = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => std::env::current_exe()?.with_file_name("fluxrig"),
        ["--daemon", path] => PathBuf::from(path),
        _ => return Err("usage: two-racks [--daemon PATH_OF_FLUXRIG]".into()),
    };
    if !program.is_file() {
        let remedy = "build it (`cargo build -p fluxrig-rack`) in the same profile, or name it with `--daemon`";
        return Err(
            format!("{}: found no file, expected the binary `fluxrig`; remedy: {remedy}", program.display()).into()
        );
    }
    let Some(server) = server() else {
        println!("SKIPPED: two-racks needs nats-server, which is not here; `cargo xtask setup` fetches it");
        return Ok(());
    };
    let dir = std::env::temp_dir().join(format!("fluxrig-two-racks-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let result = run(Racks::new(&program, &server, &dir)?).await;
    std::fs::remove_dir_all(&dir)?;
    result
}

/// What the racks are told to run: of the environment, fetched by `cargo xtask setup`, or on PATH.
fn server() -> Option<PathBuf> {
    let named = std::env::var_os(SERVER).map(PathBuf::from);
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/nats-server/nats-server");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
    named.into_iter().chain([fetched]).chain(on_path).find(|program| program.is_file())
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

/// SIGTERM, and a drain.
async fn end(mut rack: Child) -> Result<(), Failure> {
    let id = rack.id().ok_or("fluxrig: found it ended, expected it to run")?;
    Command::new("kill").args(["-TERM", &id.to_string()]).status().await?;
    let status = timeout(WAIT_MAX, rack.wait()).await??;
    if status.success() { Ok(()) } else { Err(format!("fluxrig: ended with {status}, expected 0").into()) }
}

struct Racks {
    program: PathBuf,
    server: PathBuf,
    dir: PathBuf,
    lines: SocketAddr,
    bus: SocketAddr,
}

impl Racks {
    fn new(program: &Path, server: &Path, dir: &Path) -> Result<Self, Failure> {
        std::fs::write(dir.join("scenario.yaml"), SCENARIO)?;
        let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let [lines, bus] = [listeners[0].local_addr()?, listeners[1].local_addr()?];
        let [program, server] = [std::path::absolute(program)?, std::path::absolute(server)?];
        Ok(Self { program, server, dir: dir.to_owned(), lines, bus })
    }

    fn start(&self, name: &str) -> Result<Child, Failure> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join(format!("{name}.log")))?;
        let child = Command::new(&self.program)
            .current_dir(&self.dir)
            .args(["run", "scenario.yaml", "--rack", name, "--data-dir", name])
            .env(SERVER, &self.server)
            .env("LINES", self.lines.to_string())
            .env("BUS_PORT", self.bus.port().to_string())
            .env("BUS_TOKEN", "of-this-run")
            .env("LEDGER", self.ledger())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        Ok(child)
    }

    fn ledger(&self) -> PathBuf {
        self.dir.join("ledger.jsonl")
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
        self.until("edge to take all lines", || async {
            let Ok(Answer::Done(top)) = ask(&self.dir.join("edge"), &Request::Top).await else { return false };
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
        self.until("the ledger to be complete", || async {
            self.numbers().is_ok_and(|numbers| {
                numbers.into_iter().map(|(number, _)| number).collect::<BTreeSet<_>>().len() as u64 >= lines
            })
        })
        .await
    }

    async fn until<F: Future<Output = bool>>(&self, what: &str, is_so: impl Fn() -> F) -> Result<(), Failure> {
        let until = Instant::now() + WAIT_MAX;
        while !is_so().await {
            if Instant::now() > until {
                for name in ["core", "edge"] {
                    let log = std::fs::read_to_string(self.dir.join(format!("{name}.log"))).unwrap_or_default();
                    eprintln!("{name}: {log}");
                }
                return Err(
                    format!("found it not so after {WAIT_MAX:?}, expected {what}; remedy: see the logs above").into()
                );
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The number in each line of the ledger, in its order, and whether the line says that it may be there already. The
    /// last line may be half written.
    fn numbers(&self) -> Result<Vec<(u64, bool)>, Failure> {
        let text = std::fs::read_to_string(self.ledger())?;
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
