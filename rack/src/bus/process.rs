//! One run of a managed server: started from a thread that lives as long as the rack, asked for its health, and ended
//! in order.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::guard::{GUARD, own_pid};
use super::place::Place;
use super::store::put_aside_unfinished;

/// A server that reads a long store back is not healthy before it has.
const START_TIME: Duration = Duration::from_secs(120);
/// How long it may take to end by itself.
const STOP_TIME: Duration = Duration::from_secs(10);
/// Between two looks at a server that starts.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The waits between looks double up to this.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);
/// What the server says of a stream that is on its disk and not there.
const UNRECOVERED: &str = "could not be recovered";
/// How long it may say so once it takes clients: a stream that a client is just making is on its disk a moment before
/// it is there, too. Making one flushes, which takes its time on a busy disk.
const UNRECOVERED_TIME: Duration = Duration::from_secs(5);
/// Between two looks at a server that runs.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// How long it may take to answer.
const PROBE_TIME: Duration = Duration::from_secs(5);
/// Looks in a row at which it was not healthy; then it is ended, since a store that met an error stays frozen.
const PROBES_FAILED_MAX: u32 = 3;
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// The thread that starts every server. The kernel ends a guarded child with the thread that started it, so it lives
/// as long as this value; the threads of a runtime come and go.
#[derive(Debug)]
pub(crate) struct Starter {
    orders: mpsc::Sender<Order>,
}

struct Order {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

impl Starter {
    pub(crate) fn new() -> io::Result<Self> {
        let (orders, waiting) = mpsc::channel::<Order>();
        std::thread::Builder::new().name("fluxrig-bus".to_owned()).spawn(move || {
            for Order { mut command, runtime, reply } in waiting {
                let _inside = runtime.enter();
                // Whoever asked may have been stopped; the child is then killed as it is dropped.
                drop(reply.send(command.spawn()));
            }
        })?;
        Ok(Self { orders })
    }

    async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, started) = oneshot::channel();
        let order = Order { command, runtime: Handle::current(), reply };
        let gone = || io::Error::other("the thread that starts it has ended");
        self.orders.send(order).map_err(|_| gone())?;
        started.await.map_err(|_| gone())?
    }
}

/// What a run needs.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) starter: Starter,
    pub(crate) place: Place,
    pub(crate) program: PathBuf,
    /// The binary that has the command [`GUARD`]; without one the note of the process is all there is.
    pub(crate) guard: Option<PathBuf>,
    pub(crate) address: SocketAddr,
    pub(crate) monitor: SocketAddr,
}

impl Launch {
    /// Starts a server and waits until it is healthy; why not, otherwise.
    pub(crate) async fn run(&self) -> Result<Running<'_>, String> {
        let errors = File::create(self.place.errors()).map_err(|error| error.to_string())?;
        put_aside_unfinished(&self.place.store(), &self.place.aside()).map_err(|error| error.to_string())?;
        let mut command = match &self.guard {
            Some(binary) => {
                let mut command = Command::new(binary);
                command.args([GUARD, &own_pid()]).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command.arg("-c").arg(self.place.config()).current_dir(self.place.dir());
        // A terminal's Ctrl-C is for the rack, which ends the server when it needs it no more.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let child = self.starter.spawn(command).await.map_err(|error| error.to_string())?;
        let mut running = Running { launch: self, child };
        self.place.note_pid(running.pid());
        running.until_healthy().await.map(|()| running)
    }
}

/// A server that runs; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running<'l> {
    launch: &'l Launch,
    child: Child,
}

impl Running<'_> {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    async fn until_healthy(&mut self) -> Result<(), String> {
        let until = Instant::now() + START_TIME;
        let mut pause = LOOK_EVERY;
        let mut unrecovered_until = None;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.epitaph(status));
            }
            let Err(why) = probe(self.launch.monitor).await else { return Ok(()) };
            // It takes clients once it has read its store: what it has not recovered by then it never will.
            if why.contains(UNRECOVERED) && TcpStream::connect(self.launch.address).await.is_ok() {
                let until = *unrecovered_until.get_or_insert_with(|| Instant::now() + UNRECOVERED_TIME);
                if Instant::now() >= until {
                    let store = self.launch.place.store();
                    return Err(format!("{why}; its folder is in `{}`", store.display()));
                }
            } else {
                unrecovered_until = None;
            }
            if Instant::now() >= until {
                return Err(format!("it was not healthy within {} s: {why}", START_TIME.as_secs()));
            }
            tokio::time::sleep(pause).await;
            // Each look at a server that is not healthy is a line in its log.
            pause = (pause * 2).min(LOOK_EVERY_MAX);
        }
    }

    /// Waits until it ends, or is to be ended since it is not healthy any more; says why.
    pub(crate) async fn failed(&mut self) -> String {
        let monitor = self.launch.monitor;
        tokio::select! {
            status = self.child.wait() => match status {
                Ok(status) => self.epitaph(status),
                Err(error) => error.to_string(),
            },
            why = unhealthy(monitor) => {
                // What does not answer may not hear SIGTERM either.
                drop(self.child.kill().await);
                format!("it was not healthy {PROBES_FAILED_MAX} times in a row ({why}) and was ended")
            }
        }
    }

    fn epitaph(&self, status: ExitStatus) -> String {
        format!("it ended with {status}; its last word: {}", self.launch.place.last_words())
    }

    /// SIGTERM, upon which it closes its stores, and SIGKILL when that takes too long.
    pub(crate) async fn stop(mut self) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It is our child and was not waited for, so the number is still its own.
            kill_process(pid, Signal::TERM).unwrap_or_default();
        }
        if timeout(STOP_TIME, self.child.wait()).await.is_err() {
            tracing::warn!("bus: nats-server did not end within {} s and was killed", STOP_TIME.as_secs());
            drop(self.child.kill().await);
        }
        self.launch.place.forget_pid();
    }
}

async fn unhealthy(monitor: SocketAddr) -> String {
    let mut failed = 0;
    let mut next = Instant::now();
    loop {
        next += PROBE_EVERY;
        tokio::time::sleep_until(next).await;
        match probe(monitor).await {
            Ok(()) => failed = 0,
            Err(why) => {
                failed += 1;
                tracing::warn!(why, failed, "bus: nats-server is not healthy");
                if failed >= PROBES_FAILED_MAX {
                    return why;
                }
            }
        }
        next = next.max(Instant::now());
    }
}

/// Asks the monitor whether all is well: the server, JetStream, and each stream.
pub(crate) async fn probe(monitor: SocketAddr) -> Result<(), String> {
    let talk = async {
        let mut stream = TcpStream::connect(monitor).await?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: rack\r\nconnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = match timeout(PROBE_TIME, talk).await {
        Ok(Ok(answer)) => String::from_utf8_lossy(&answer).into_owned(),
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no answer within {} s", PROBE_TIME.as_secs())),
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(body.trim().chars().take(200).collect()),
    }
}
