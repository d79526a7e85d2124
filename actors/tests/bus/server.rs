//! A `nats-server` of the test's own: on a free port, its store in a directory that goes with it; killed, paused,
//! started again in the same place.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fluxrig_actors::bus::BusOptions;

use crate::parts::until;

/// Where the binary is; `None` is said loudly.
pub(crate) fn binary() -> Option<PathBuf> {
    let named = std::env::var_os("FLUXRIG_NATS_SERVER").map(PathBuf::from);
    let on_path = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).map(|dir| dir.join("nats-server")).collect::<Vec<_>>());
    let found = named.into_iter().chain(on_path).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: no nats-server on PATH or in FLUXRIG_NATS_SERVER: nothing was tested here");
    }
    found
}

/// A server; what it listens on stays the same over its restarts.
pub(crate) struct Server {
    binary: PathBuf,
    dir: PathBuf,
    child: Option<Child>,
    pub(crate) port: u16,
    monitor: u16,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Server {
    /// With JetStream, and these further lines of configuration.
    pub(crate) async fn start(config: &str) -> Option<Self> {
        Self::start_with(&format!("jetstream {{ store_dir: \"$STORE\" }}\n{config}")).await
    }

    /// With this configuration; `$STORE` is a place for its store, `$DIR` for other files.
    pub(crate) async fn start_with(config: &str) -> Option<Self> {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        // Only the first of these is heard.
        drop(tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init());
        let binary = binary()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("fluxrig-bus-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut server = Self { binary, dir, child: None, port: 0, monitor: 0 };
        server.configure(config);
        server.spawn(&["--port", "-1", "--http_port", "-1"]);
        let (port, monitor) = until("the server says its ports", || server.ports().ok_or("no ports".into())).await;
        (server.port, server.monitor) = (port, monitor);
        Some(server)
    }

    /// Another configuration, from the next start on.
    pub(crate) fn configure(&self, config: &str) {
        let dir = self.dir.to_str().unwrap();
        let config = config.replace("$STORE", &format!("{dir}/store")).replace("$DIR", dir);
        std::fs::write(self.dir.join("server.conf"), format!("host: 127.0.0.1\n{config}")).unwrap();
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn spawn(&mut self, ports: &[&str]) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).unwrap();
        let child = Command::new(&self.binary)
            .arg("--config")
            .arg(self.dir.join("server.conf"))
            .arg("--ports_file_dir")
            .arg(&self.dir)
            .args(ports)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    fn ports(&self) -> Option<(u16, u16)> {
        let pid = self.child.as_ref()?.id();
        let entries = std::fs::read_dir(&self.dir).ok()?;
        let file = entries
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().ends_with(&format!("_{pid}.ports")))?;
        let text = std::fs::read_to_string(file).ok()?;
        let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
        let port = |key: &str| ports[key][0].as_str()?.rsplit(':').next()?.parse().ok();
        Some((port("nats")?, port("monitoring")?))
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor)
    }

    /// Options that say that it syncs.
    pub(crate) fn options(&self) -> BusOptions {
        BusOptions { assume_sync: true, ..BusOptions::at([self.url()]) }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        self.spawn(&["--port", &self.port.to_string(), "--http_port", &self.monitor.to_string()]);
    }

    /// Stops it as it is, or lets it go on.
    pub(crate) fn pause(&self, is_paused: bool) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let signal = if is_paused { "-STOP" } else { "-CONT" };
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// A client of somebody else.
    pub(crate) async fn stranger(&self) -> async_nats::Client {
        let end = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            match async_nats::connect(self.url()).await {
                Ok(client) => return client,
                Err(error) if tokio::time::Instant::now() > end => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        drop(std::fs::remove_dir_all(&self.dir));
    }
}
