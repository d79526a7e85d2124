//! Real `nats-server` processes of a test: one, or a cluster of three, on free ports with stores of their own; killed,
//! paused, started again where they were, and gone with their value. A test without one skips, and says so.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::{Outcome, place, tried, wait};

/// Names the program where it is not on PATH.
const VARIABLE: &str = "FLUXRIG_NATS_SERVER";
/// A start, or an election, that takes longer hangs.
const READY_MAX: Duration = Duration::from_secs(60);
/// An end that takes longer hangs.
const END_MAX: Duration = Duration::from_secs(30);
/// So much of a log is shown with an error.
const LOG_TAIL_BYTES: usize = 3000;
/// What a question to the monitor may take.
const ASK_MAX: Duration = Duration::from_secs(5);

/// Where `cargo xtask setup` puts it.
const FETCHED: &str = "../.cache/nats-server/nats-server";

/// The program: of the environment, fetched, or on PATH. Without one the test is skipped, and whoever reads its output knows.
#[must_use]
pub fn program(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join(FETCHED);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
    let found = named.into_iter().chain([fetched]).chain(on_path).find(|program| program.is_file());
    if found.is_none() {
        // Not with a macro: the output of a test that passes is not shown.
        let skipped =
            format!("SKIPPED: {test}: no nats-server on PATH or in {VARIABLE}; `cargo xtask setup` fetches it\n");
        drop(std::io::stderr().write_all(skipped.as_bytes()));
    }
    found
}

/// How a server differs from the usual one: JetStream on, every write flushed, no authentication.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Does not flush each write: what most servers in the world do.
    pub is_lazy: bool,
    /// More lines of its configuration: authorization, TLS, limits.
    pub more: String,
    /// More keys of its `jetstream` block.
    pub jetstream: String,
    /// Where its store is. Default: in its own folder.
    pub store: Option<PathBuf>,
    /// Runs in another network namespace. Default: in that of the test, for this machine alone.
    pub far: Option<Far>,
}

/// Another network namespace.
#[derive(Clone, Debug)]
pub struct Far {
    /// A program and its arguments that lead there, in front of the server.
    pub before: Vec<String>,
    /// Where the test finds what runs there.
    pub address: Ipv4Addr,
}

/// A server with its folder; killed when dropped.
#[derive(Debug)]
pub struct Server {
    /// With what stands in front of it.
    words: Vec<PathBuf>,
    place: place::Place,
    address: SocketAddr,
    monitor: SocketAddr,
    store: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Starts one and waits until it is healthy.
    ///
    /// # Errors
    /// When it does not become so.
    pub fn start(program: &Path, wanted: &Wanted) -> Outcome<Self> {
        let mut server = Self::made(program, wanted, "single", "")?;
        server.restart()?;
        Ok(server)
    }

    fn made(program: &Path, wanted: &Wanted, name: &str, cluster: &str) -> Outcome<Self> {
        let place = place::Place::new()?;
        let (mut address, mut monitor) = (place::address()?, place::address()?);
        let mut words = vec![program.to_owned()];
        let mut listens = address.ip();
        if let Some(far) = &wanted.far {
            words.splice(..0, far.before.iter().map(PathBuf::from));
            listens = Ipv4Addr::UNSPECIFIED.into();
            [&mut address, &mut monitor].into_iter().for_each(|at| at.set_ip(far.address.into()));
        }
        let store = wanted.store.clone().unwrap_or_else(|| place.path().join("store"));
        let sync = if wanted.is_lazy { "2m" } else { "always" };
        let config = format!(
            "server_name: {name}\nlisten: \"{listens}:{}\"\nhttp: \"{listens}:{}\"\n\
             jetstream {{ store_dir: \"{}\", sync_interval: {sync}\n{} }}\n{cluster}{}\n",
            address.port(),
            monitor.port(),
            store.display(),
            wanted.jetstream,
            wanted.more
        );
        place.file("server.conf", &config)?;
        Ok(Self { words, place, address, monitor, store, child: None })
    }

    /// Starts it again on the same ports with the same store, and waits until it is healthy.
    ///
    /// # Errors
    /// When it does not become so.
    pub fn restart(&mut self) -> Outcome {
        self.spawn()?;
        self.until_healthy()
    }

    /// Starts it without waiting for anything.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn spawn(&mut self) -> Outcome {
        self.kill();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path());
        let log = log.map_err(tried("the log of nats-server"))?;
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).arg("-c").arg(self.place.path().join("server.conf"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.map_err(tried("starting nats-server"))?;
        place::born(child.id());
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it says that it is healthy; of a cluster, that there is a leader.
    ///
    /// # Errors
    /// When it ends, or does not say so.
    pub fn until_healthy(&mut self) -> Outcome {
        let is_healthy = wait::until(READY_MAX, || self.is_healthy() || self.is_gone());
        match is_healthy && !self.is_gone() {
            true => Ok(()),
            false => Err(format!("nats-server is not healthy: {}", self.log())),
        }
    }

    fn is_gone(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().ok().flatten().is_some())
    }

    fn is_healthy(&self) -> bool {
        self.ask("/healthz").is_ok_and(|answer| answer.contains("\"ok\""))
    }

    /// What its monitor says of a path.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn ask(&self, path: &str) -> Outcome<String> {
        let talk = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&self.monitor, ASK_MAX)?;
            stream.set_read_timeout(Some(ASK_MAX))?;
            write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = talk().map_err(tried("the monitor of nats-server"))?;
        Ok(answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
    }

    /// What a client connects to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its monitor is.
    #[must_use]
    pub fn monitor_url(&self) -> String {
        format!("http://{}", self.monitor)
    }

    /// The folder in which its streams are.
    #[must_use]
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// Its process, while it has one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The end of what it logged.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.place.path().join("server.log")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
            place::gone(child.id());
        }
    }

    /// SIGTERM, and its end.
    ///
    /// # Errors
    /// When it hangs.
    pub fn stop(&mut self) -> Outcome {
        self.signal(Signal::TERM);
        let is_gone = wait::until(END_MAX, || self.is_gone());
        let log = self.log();
        self.kill();
        if is_gone { Ok(()) } else { Err(format!("nats-server does not end: {log}")) }
    }

    /// It stands still: connections stay, nothing is answered.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            place::signal(pid, signal);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three servers that keep one store between them.
#[derive(Debug)]
pub struct Cluster {
    /// Each of them.
    pub servers: [Server; 3],
}

impl Cluster {
    /// Starts them and waits until each knows a leader.
    ///
    /// # Errors
    /// When that does not come.
    pub fn start(program: &Path, wanted: &Wanted) -> Outcome<Self> {
        let ports = [place::address()?, place::address()?, place::address()?];
        let routes = ports.map(|port| format!("\"nats://{port}\"")).join(", ");
        let made = |idx: usize| {
            let cluster = format!("cluster {{ name: three, listen: \"{}\", routes: [{routes}] }}\n", ports[idx]);
            Server::made(program, wanted, &format!("n{idx}"), &cluster)
        };
        let mut cluster = Self { servers: [made(0)?, made(1)?, made(2)?] };
        // All of them first: one alone has no leader to wait for.
        cluster.servers.iter_mut().try_for_each(Server::spawn)?;
        cluster.until_healthy()?;
        Ok(cluster)
    }

    /// Waits until each that runs is healthy.
    ///
    /// # Errors
    /// When one is not.
    pub fn until_healthy(&mut self) -> Outcome {
        self.servers.iter_mut().filter(|server| server.pid().is_some()).try_for_each(Server::until_healthy)
    }

    /// What a client may connect to.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(Server::url).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_killed_paused_and_started_again_where_it_was() {
        let Some(program) = program("nats::a_server_is_killed") else { return };
        let mut server = Server::start(&program, &Wanted::default()).expect("it starts");
        let (url, store) = (server.url(), server.store().to_owned());
        assert!(server.ask("/jsz?config=1").expect("an answer").contains("\"sync_always\": true"));
        server.pause();
        server.resume();
        server.kill();
        assert!(!server.is_healthy());
        server.restart().expect("it starts again");
        assert_eq!((server.url(), server.store()), (url, store.as_path()));
        assert!(store.join("jetstream").is_dir());
        server.stop().expect("it ends");
    }

    #[test]
    fn a_cluster_finds_a_leader_without_one_of_its_three() {
        let Some(program) = program("nats::a_cluster_finds_a_leader") else { return };
        let mut cluster = Cluster::start(&program, &Wanted::default()).expect("it starts");
        assert_eq!(cluster.urls().len(), 3);
        cluster.servers[1].kill();
        cluster.until_healthy().expect("two are a majority");
        cluster.servers[1].restart().expect("it joins");
    }
}
