//! Daemons of an example, for `standby` and `two-racks`: where `fluxrig` and `nats-server` are, a folder for the run, racks
//! as child processes in it, and what a rack says when it is asked.

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fluxrig_rack::{Answer, Request, ask};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// Whatever went wrong, as a text for a person.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Whatever takes longer hangs.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);
/// Names the server for a rack that runs one.
const SERVER: &str = "FLUXRIG_NATS_SERVER";

/// The programs, and the folder in which they run. The folder is gone with the value.
pub(crate) struct Daemons {
    /// The binary `fluxrig`.
    pub(crate) program: PathBuf,
    server: PathBuf,
    /// Where the scenario, the data directories and the logs are.
    pub(crate) dir: PathBuf,
    /// What the scenario asks the environment for.
    variables: Vec<(&'static str, String)>,
}

impl Daemons {
    /// For one example and its scenario; `None` where there is no server, which it says.
    pub(crate) fn find(example: &str, scenario: &str) -> Result<Option<Self>, Failure> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let program = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => std::env::current_exe()?.with_file_name("fluxrig"),
            ["--daemon", path] => std::path::absolute(path)?,
            _ => return Err(format!("usage: {example} [--daemon PATH_OF_FLUXRIG]").into()),
        };
        if !program.is_file() {
            let remedy = "build it (`cargo build -p fluxrig-rack`) in the same profile, or name it with `--daemon`";
            let found = format!("{}: found no file, expected the binary `fluxrig`", program.display());
            return Err(format!("{found}; remedy: {remedy}").into());
        }
        let Some(server) = server() else {
            println!("SKIPPED: {example} needs nats-server, which is not here; `cargo xtask setup` fetches it");
            return Ok(None);
        };
        let dir = std::env::temp_dir().join(format!("fluxrig-{example}-{}", std::process::id()));
        std::fs::create_dir(&dir)?;
        let daemons = Self { program, server: std::path::absolute(server)?, dir, variables: Vec::new() };
        std::fs::write(daemons.dir.join("scenario.yaml"), scenario)?;
        Ok(Some(daemons))
    }

    /// The same with values for what the scenario asks the environment for.
    pub(crate) fn with(mut self, variables: &[(&'static str, String)]) -> Self {
        self.variables.extend_from_slice(variables);
        self
    }

    /// A rack of the scenario with this data directory, and more arguments.
    pub(crate) fn start(&self, rack: &str, data: &str, more: &[&str]) -> Result<Child, Failure> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log(data))?;
        // What a kill left would be taken for the new one.
        drop(std::fs::remove_file(self.dir.join(data).join("control.sock")));
        let child = Command::new(&self.program)
            .current_dir(&self.dir)
            .args(["run", "scenario.yaml", "--rack", rack, "--data-dir", data])
            .args(more)
            .env(SERVER, &self.server)
            .envs(self.variables.iter().cloned())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        Ok(child)
    }

    /// What `fluxrig top --json` shows of the rack with this data directory; nothing while it does not answer.
    pub(crate) async fn top(&self, data: &str) -> Option<Value> {
        match ask(&self.dir.join(data), &Request::Top).await {
            Ok(Answer::Done(top)) => Some(top),
            _ => None,
        }
    }

    /// Looks until a fact is so.
    pub(crate) async fn until<F: Future<Output = bool>>(
        &self,
        what: &str,
        is_so: impl Fn() -> F,
    ) -> Result<(), Failure> {
        let until = Instant::now() + WAIT_MAX;
        while !is_so().await {
            if Instant::now() > until {
                return Err(self.failed(what));
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The fact that never came, with all logs.
    pub(crate) fn failed(&self, what: &str) -> Failure {
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                eprintln!("{}: {}", path.display(), std::fs::read_to_string(&path).unwrap_or_default());
            }
        }
        format!("found it not so after {WAIT_MAX:?}, expected {what}; remedy: see the logs above").into()
    }

    fn log(&self, data: &str) -> PathBuf {
        self.dir.join(format!("{data}.log"))
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        // What cannot be removed changes no result.
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// What a rack is told to run: of the environment, fetched by `cargo xtask setup`, or on PATH.
fn server() -> Option<PathBuf> {
    let named = std::env::var_os(SERVER).map(PathBuf::from);
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/nats-server/nats-server");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
    named.into_iter().chain([fetched]).chain(on_path).find(|program| program.is_file())
}

/// Addresses on which nobody listens, no two the same.
pub(crate) fn addresses<const COUNT: usize>() -> Result<[SocketAddr; COUNT], Failure> {
    let bind = |_| TcpListener::bind("127.0.0.1:0");
    let listeners = (0..COUNT).map(bind).collect::<Result<Vec<_>, _>>()?;
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); COUNT];
    for (address, listener) in addresses.iter_mut().zip(&listeners) {
        *address = listener.local_addr()?;
    }
    Ok(addresses)
}

/// SIGTERM, and a drain.
pub(crate) async fn end(mut rack: Child) -> Result<(), Failure> {
    let id = rack.id().ok_or("fluxrig: found it ended, expected it to run")?;
    Command::new("kill").args(["-TERM", &id.to_string()]).status().await?;
    let status = timeout(WAIT_MAX, rack.wait()).await??;
    if status.success() { Ok(()) } else { Err(format!("fluxrig: ended with {status}, expected 0").into()) }
}
