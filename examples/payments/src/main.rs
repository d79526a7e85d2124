//! A switch for card payments, and terminals that check every answer of it. Without arguments the switch runs in this
//! process on free ports; with `--daemon PATH_OF_FLUXRIG` that binary runs it on the ports of the scenario.

mod cases;
mod report;
mod switch;
mod terminal;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use report::Report;
use switch::Switch;
use terminal::Terminal;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whatever went wrong, as a text for a person.
type Failure = Box<dyn Error + Send + Sync>;

const TERMINALS: usize = 8;
/// Of each terminal.
const REQUESTS: usize = 250;
/// How long the switch may take until its line to a bank is up.
const START_MAX: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let daemon = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["--daemon", path] => Some(PathBuf::from(path)),
        _ => return Err("usage: payments [--daemon PATH_OF_FLUXRIG]".into()),
    };
    let dir = std::env::temp_dir().join(format!("fluxrig-payments-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let result = run(&dir, daemon.as_deref()).await;
    std::fs::remove_dir_all(&dir)?;
    result
}

async fn run(dir: &Path, daemon: Option<&Path>) -> Result<(), Failure> {
    let switch = match daemon {
        Some(program) => Switch::daemon(program, dir)?,
        None => Switch::here(dir).await?,
    };
    let switch = drive(switch).await?;
    switch.stop().await?;
    println!("the switch drained and ended well");
    Ok(())
}

async fn drive(mut switch: Switch) -> Result<Switch, Failure> {
    wait_until_connected(&mut switch).await?;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 1..=TERMINALS {
        let terminal = Terminal::connect(switch.address(), number).await?;
        tasks.spawn(terminal.drive(REQUESTS));
    }
    let mut report = Report::default();
    while let Some(terminal) = tasks.join_next().await {
        report.add(terminal??);
    }
    print!("{}", report.text(TERMINALS, began.elapsed()));
    switch.check_dead_letters(TERMINALS).await?;
    println!(
        "checked: every answer, field by field; {TERMINALS} messages that are none are dead letters without card data"
    );
    Ok(switch)
}

/// Terminals can connect before the line to the bank is up: until then the switch declines what is for the bank.
async fn wait_until_connected(switch: &mut Switch) -> Result<(), Failure> {
    let until = Instant::now() + START_MAX;
    let mut attempt = 0;
    loop {
        switch.check_alive()?;
        if let Ok(mut terminal) = Terminal::connect(switch.address(), 0).await {
            attempt += 1;
            if terminal.is_approved(attempt).await? {
                return Ok(());
            }
        }
        if Instant::now() > until {
            return Err("switch: found no bank connected in time, expected one; remedy: see the log above".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
