//! The switch that is driven: in this process on free ports, or as a daemon on the ports of the scenario.
//! Both are asked over the control socket in their data directory.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluxrig_actors::LetterFilter;
use fluxrig_actors::protocol::FluxMsg;
use fluxrig_gears::iso8583;
use fluxrig_rack::{Answer, Rack, RackOptions, Request, RunningRack, Whence, ask};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::Failure;
use crate::terminal::NO_MESSAGE;

const SCENARIO: &str = include_str!("../scenario.yaml");
const FILE: &str = "scenario.yaml";
/// Where the scenario has its terminals unless told otherwise.
const TERMINALS: &str = "127.0.0.1:8583";
/// A drain takes ten seconds at most.
const STOP_MAX: Duration = Duration::from_secs(20);
/// Until what was read is a dead letter that can be listed.
const LETTERS_MAX: Duration = Duration::from_secs(10);

/// A switch that runs.
pub(crate) struct Switch {
    address: SocketAddr,
    data_dir: PathBuf,
    runs: Runs,
}

enum Runs {
    Here(Box<RunningRack>),
    Daemon(Child),
}

impl Switch {
    /// Starts it in this process.
    pub(crate) async fn here(dir: &Path) -> Result<Self, Failure> {
        let ports = free_ports()?;
        let lookup = |name: &str| {
            let names = ["TERMINALS", "BANK_1", "BANK_2"];
            names.iter().position(|known| *known == name).map(|idx| ports[idx].to_string())
        };
        let data_dir = dir.join("data");
        let options = RackOptions {
            data_dir: data_dir.clone(),
            mask: everything,
            redactor: Some(iso8583::redacted),
            ..RackOptions::default()
        };
        let rack = Rack::parse(FILE, SCENARIO, &fluxrig_gears::standard(), &lookup)?.start(options).await?;
        println!("the switch runs in this process; terminals connect to {}", ports[0]);
        Ok(Self { address: ports[0], data_dir, runs: Runs::Here(Box::new(rack)) })
    }

    /// Starts the binary `fluxrig`.
    pub(crate) fn daemon(program: &Path, dir: &Path) -> Result<Self, Failure> {
        let (file, data_dir) = (dir.join(FILE), dir.join("data"));
        std::fs::write(&file, SCENARIO)?;
        let mut command = Command::new(program);
        for name in ["TERMINALS", "BANK_1", "BANK_2", "FLUXRIG_DATA_DIR", "FLUXRIG_RACK"] {
            command.env_remove(name);
        }
        let child = command.arg("run").arg(&file).arg("--data-dir").arg(&data_dir).kill_on_drop(true).spawn()?;
        println!("the switch is {}; terminals connect to {TERMINALS}", program.display());
        Ok(Self { address: TERMINALS.parse()?, data_dir, runs: Runs::Daemon(child) })
    }

    /// Where terminals connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Fails when it has ended by itself.
    pub(crate) fn check_alive(&mut self) -> Result<(), Failure> {
        match &mut self.runs {
            Runs::Daemon(child) => match child.try_wait()? {
                Some(status) => Err(format!("fluxrig: found it ended ({status}), expected it to run").into()),
                None => Ok(()),
            },
            Runs::Here(_) => Ok(()),
        }
    }

    /// Fails unless there are exactly so many dead letters, of what is no message, and no card number can be seen.
    pub(crate) async fn check_dead_letters(&self, expected: usize) -> Result<(), Failure> {
        let all = Request::DlqList { letters: LetterFilter::default(), limit: None };
        let count = async {
            // Answers overtake what a gear could not read.
            while self.ask(&all).await?["count"].as_u64() < Some(expected as u64) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<_, Failure>(())
        };
        // Listed once more below, with the text that says what is there.
        let _ = timeout(LETTERS_MAX, count).await.unwrap_or(Ok(()));
        let list = self.ask(&all).await?;
        let letters = list["letters"].as_array().ok_or("the dead letters are a list")?;
        if letters.len() != expected {
            return Err(format!("dead letters: found {}, expected {expected}", letters.len()).into());
        }
        let card = std::str::from_utf8(&NO_MESSAGE[10..])?;
        for letter in letters {
            let seq = letter["seq"].as_u64().ok_or("a dead letter has a number")?;
            let shown = self.ask(&Request::DlqShow { seq }).await?.to_string();
            if letter["gear"] != "read" || shown.contains(card) || shown.contains(&hex(card)) {
                return Err(format!("dead letter {seq}: found it of {}, or with card data", letter["gear"]).into());
            }
        }
        Ok(())
    }

    async fn ask(&self, request: &Request) -> Result<Value, Failure> {
        match ask(&self.data_dir, request).await? {
            Answer::Done(value) => Ok(value),
            Answer::Refused { text, .. } => Err(text.into()),
            Answer::Begun(_) | Answer::Item(_) => Err("switch: found one of many answers, expected one".into()),
        }
    }

    /// Drains and ends it.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        match self.runs {
            Runs::Here(rack) => match rack.stop().await {
                true => Ok(()),
                false => Err("switch: found messages under way after its drain, expected none".into()),
            },
            Runs::Daemon(mut child) => {
                let id = child.id().ok_or("fluxrig: found it ended, expected it to run")?;
                Command::new("kill").args(["-TERM", &id.to_string()]).status().await?;
                let status = timeout(STOP_MAX, child.wait()).await??;
                if status.success() { Ok(()) } else { Err(format!("fluxrig: ended with {status}, expected 0").into()) }
            }
        }
    }
}

/// Ports that were free a moment ago, held together so that they differ.
fn free_ports() -> std::io::Result<[SocketAddr; 3]> {
    let bind = || TcpListener::bind("127.0.0.1:0");
    let held = [bind()?, bind()?, bind()?];
    Ok([held[0].local_addr()?, held[1].local_addr()?, held[2].local_addr()?])
}

/// Hides nothing, so that what is kept can be checked; no rack that serves anybody is run so.
fn everything(msg: &FluxMsg, _: &Whence<'_>) -> String {
    let raw: String = msg.raw.iter().flat_map(|raw| raw.iter()).map(|byte| format!("{byte:02x}")).collect();
    let fields = msg.data.get_key(iso8583::FIELDS).and_then(|fields| fields.as_map());
    let texts = fields.iter().flat_map(|fields| fields.iter()).filter_map(|(_, value)| value.as_text());
    format!("{raw} {}", texts.collect::<Vec<_>>().join(" "))
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
