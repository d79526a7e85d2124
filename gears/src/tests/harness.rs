//! Tests of gears as data: `fixtures/<type>/<case>.json` says configuration and input, and what comes of it.
//! A case runs in a rig of turbo wires on a paused clock. `UPDATE_FIXTURES=1` writes what came into the file.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use fluxrig_actors::clock::SimWorld;
use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::Flags;
use serde_json::{Value as Json, json};

use crate::{file, literal::Literal};

/// A folder of its own, gone with the value.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fluxrig-gears-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Lets given messages in, then ends.
pub(crate) struct Source(pub(crate) Vec<FluxMsg>);

impl Endpoint for Source {
    const TYPE: &'static str = "test_source";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let mut msgs = self.0.iter().cloned().collect();
        io.door().admit_all(&mut msgs).await.map_err(|refused| GearError::broken(refused.to_string()))?;
        Ok(())
    }
}

/// Keeps what comes in.
#[derive(Clone, Default)]
pub(crate) struct Collected(Arc<Mutex<Vec<FluxMsg>>>);

impl Collected {
    pub(crate) fn msgs(&self) -> Vec<FluxMsg> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Endpoint for Collected {
    const TYPE: &'static str = "test_sink";

    fn ports(&self) -> Ports {
        Ports::sink()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let mut effects = io.effects();
        loop {
            let batch = effects.take_many(64).await;
            if batch.is_empty() {
                return Ok(());
            }
            self.0.lock().unwrap().extend(batch.iter().map(|effect| effect.msg.clone()));
            Effect::done_all(batch);
        }
    }
}

/// A message of a test: the `number`-th, at a time of its own.
pub(crate) fn msg(number: u64) -> FluxMsg {
    let ts = 1_700_000_000_000_000_000 + i64::try_from(number).unwrap();
    FluxMsg::new(
        FluxId::v7(1_700_000_000_000 + number, [0; 10]),
        Default::default(),
        fluxrig_actors::protocol::EntityId::NIL,
        ts,
    )
}

/// Log lines of this thread, while it lives.
#[derive(Clone, Default)]
pub(crate) struct Logged(Arc<Mutex<Vec<u8>>>);

impl Logged {
    pub(crate) fn start(&self) -> tracing::subscriber::DefaultGuard {
        // As long as tracing knows of one subscriber, the thread that meets an event first decides alone, and for all
        // threads, whether anybody listens to it. One more that never ends, and each event asks them all.
        static ANOTHER: OnceLock<tracing::Dispatch> = OnceLock::new();
        ANOTHER.get_or_init(|| tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default()));
        let logged = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .without_time()
            .with_ansi(false)
            .with_writer(move || logged.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Events of one of our gears, without the module they come from.
    pub(crate) fn lines_of(&self, module: &str) -> Vec<String> {
        let origin = format!("fluxrig_gears::{module}: ");
        let text = self.text();
        let told = text.lines().filter_map(|line| line.split_once(&origin));
        // Between level and origin stands a span of ractor, whose numbers change from run to run.
        told.map(|(head, event)| format!("{} {event}", head.split_whitespace().next().unwrap())).collect()
    }
}

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_another_thread_says_first_is_heard_here() {
    let logged = Logged::default();
    let guard = logged.start();
    let say = || tracing::info!("here and there");
    std::thread::spawn(say).join().unwrap();
    say();
    drop(guard);
    assert_eq!(logged.lines_of("tests::harness").len(), 1, "{}", logged.text());
}

fn folder(type_name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(type_name)
}

fn is_update() -> bool {
    std::env::var_os("UPDATE_FIXTURES").is_some_and(|value| value == "1")
}

/// Compares with a file, or writes it.
pub(crate) fn check_file(path: &Path, found: &str) {
    if is_update() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, found).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(expected, found, "{}: remedy: `UPDATE_FIXTURES=1`, and read the difference", path.display());
}

/// Runs every case of a type. Each key of its configuration must be set by one of them, and one must be refused for a
/// key that there is not.
pub(crate) async fn check_cases(type_name: &'static str) {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder(type_name)).unwrap().map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let (mut keys, mut errors) = (BTreeSet::new(), String::new());
    for path in &paths {
        let mut case: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let outcome = run(type_name, &case).await;
        keys.extend(case["config"].as_object().into_iter().flat_map(|config| config.keys().cloned()));
        errors.push_str(outcome["error"].as_str().unwrap_or_default());
        let case = case.as_object_mut().unwrap();
        case.retain(|key, _| ["about", "config", "in", "links", "tallied", "stop_after_ms"].contains(&key.as_str()));
        case.extend(outcome.as_object().unwrap().clone());
        check_file(path, &format!("{}\n", serde_json::to_string_pretty(&case).unwrap()));
    }
    let catalog = crate::standard();
    let schema = catalog.manifest(type_name).unwrap().schema.clone();
    for key in schema.get("properties").and_then(Json::as_object).unwrap().keys() {
        assert!(keys.contains(key), "gear `{type_name}`: no fixture sets `{key}`");
    }
    assert!(errors.contains("unknown field"), "gear `{type_name}`: no fixture has a key that there is not");
}

/// What comes of one case.
async fn run(type_name: &'static str, case: &Json) -> Json {
    let dir = TempDir::new();
    let here = dir.path().to_str().unwrap();
    let config: Json = serde_json::from_str(&case["config"].to_string().replace("$DIR", here)).unwrap();
    let built = match crate::standard().build(type_name, config) {
        Ok(built) => built,
        Err(error) => return json!({ "error": error.to_string().replace(here, "$DIR") }),
    };
    let logged = Logged::default();
    let guard = logged.start();
    let ports = built.ports();
    let mut rig = Rig::new("case").world(Arc::new(SimWorld::new(1))).built("gear", built);
    let msgs: Vec<Timed> = case["in"].as_array().into_iter().flatten().zip(0..).map(Timed::read).collect();
    for (idx, input) in ports.inputs.iter().enumerate() {
        let name = format!("source-{}", input.name);
        // A message that names no port goes into the first one.
        let is_here = |timed: &&Timed| timed.port.as_ref().map_or(idx == 0, |port| *port == input.name);
        let msgs = msgs.iter().filter(is_here).cloned().collect();
        rig = rig.endpoint(&name, TimedSource(msgs)).turbo(&name, &format!("gear.{}", input.name));
    }
    let mut sinks = Vec::new();
    for output in &ports.outputs {
        let (name, sink) = (format!("sink-{}", output.name), Collected::default());
        let linked = Linked { sink: sink.clone(), news: link_news(case, &name) };
        rig = rig.endpoint(&name, linked).turbo(&format!("gear.{}", output.name), &name);
        sinks.push((output.name.clone(), sink));
    }
    let rig = rig.start().await.unwrap();
    match case["stop_after_ms"].as_u64() {
        Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        None => assert!(rig.finished().await, "{:?}", rig.ended().await),
    }
    let rejected: Vec<String> =
        rig.dead_letters().unwrap().into_iter().map(|letter| letter.reason.to_string()).collect();
    let tallies = rig.tallies();
    rig.stop(Duration::from_secs(1)).await;
    drop(guard);

    let mut outcome = json!({});
    if case["tallied"] == true {
        for (_, series, label, count) in tallies.into_iter().filter(|(_, _, _, count)| *count > 0) {
            outcome["tallies"][format!("{series} {label}")] = count.into();
        }
    }
    for (port, sink) in &sinks {
        let is_source = ports.inputs.is_empty();
        outcome[port.as_str()] = sink.msgs().iter().map(|msg| show(msg, is_source)).collect();
    }
    if !rejected.is_empty() {
        outcome["rejected"] = rejected.into();
    }
    let events = logged.lines_of(type_name);
    if !events.is_empty() {
        outcome["log"] = events.into();
    }
    if let Ok(text) = std::fs::read_to_string(dir.path().join("out.jsonl")) {
        outcome["lines"] = text.lines().collect();
    }
    outcome
}

/// A message as a case writes it: `meta`, `data`, `raw` as text, and `probe`.
fn read(input: &Json, number: u64) -> FluxMsg {
    let mut msg = msg(number);
    for (key, text) in input["meta"].as_object().into_iter().flatten() {
        msg.meta.set(key.as_str(), text.as_str().unwrap());
    }
    for (key, value) in input["data"].as_object().into_iter().flatten() {
        let Literal(value) = serde_json::from_value(value.clone()).unwrap();
        msg.data.insert_key(key.as_str(), value);
    }
    msg.raw = input["raw"].as_str().map(|raw| raw.as_bytes().to_vec().into());
    msg.return_to = input["return"].as_str().map(|address| address.as_bytes().to_vec().into());
    msg.expires = input["expires_ms"].as_i64().map(|ms| WORLD_NS + ms * 1_000_000);
    if input["probe"] == true {
        msg.set_flags(Flags::PROBE);
    }
    if input["maybe_sent"] == true {
        msg.set_flags(Flags::MAYBE_SENT);
    }
    msg
}

/// When the world of a case begins.
const WORLD_NS: i64 = 1_750_000_000_000_000_000;

/// A message of a case with `port`, the input that it goes into, and `at_ms`, when.
#[derive(Clone)]
struct Timed {
    at: Duration,
    port: Option<String>,
    msg: FluxMsg,
}

impl Timed {
    fn read((input, number): (&Json, u64)) -> Self {
        let at = Duration::from_millis(input["at_ms"].as_u64().unwrap_or(0));
        Self { at, port: input["port"].as_str().map(str::to_owned), msg: read(input, number) }
    }
}

/// Lets messages in, each at its time, then ends.
struct TimedSource(Vec<Timed>);

impl Endpoint for TimedSource {
    const TYPE: &'static str = "test_timed_source";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let start = tokio::time::Instant::now();
        let mut left = self.0.as_slice();
        while let Some(first) = left.first() {
            // What comes at the same time comes in one go.
            let (now, later) = left.split_at(left.iter().take_while(|timed| timed.at == first.at).count());
            tokio::time::sleep_until(start + first.at).await;
            let mut msgs = now.iter().map(|timed| timed.msg.clone()).collect();
            io.door().admit_all(&mut msgs).await.map_err(|refused| GearError::broken(refused.to_string()))?;
            left = later;
        }
        Ok(())
    }
}

/// What a sink tells of its link in a case: `links: [{ endpoint, at_ms, is_up }]`.
fn link_news(case: &Json, endpoint: &str) -> Vec<(Duration, bool)> {
    let news = case["links"].as_array().into_iter().flatten().filter(|link| link["endpoint"] == endpoint);
    news.map(|link| (Duration::from_millis(link["at_ms"].as_u64().unwrap_or(0)), link["is_up"] == true)).collect()
}

/// A sink that tells of its link.
struct Linked {
    sink: Collected,
    news: Vec<(Duration, bool)>,
}

impl Endpoint for Linked {
    const TYPE: &'static str = "test_linked_sink";

    fn ports(&self) -> Ports {
        Ports::sink()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let start = tokio::time::Instant::now();
        let tell = async {
            for (at, is_up) in &self.news {
                tokio::time::sleep_until(start + *at).await;
                if *is_up { io.link_up() } else { io.link_down("told so") }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = Arc::new(self.sink.clone()).run(io.clone()) => result,
            () = tell => Ok(()),
        }
    }
}

fn show(msg: &FluxMsg, is_timed: bool) -> Json {
    let mut data = Vec::new();
    file::write_map(&mut data, &msg.data);
    let mut shown = json!({ "data": serde_json::from_slice::<Json>(&data).unwrap() });
    for (key, text) in msg.meta.iter() {
        shown["meta"][key] = text.into();
    }
    if let Some(raw) = &msg.raw {
        shown["raw"] = std::str::from_utf8(raw).unwrap().into();
    }
    if let Some(address) = &msg.return_to {
        shown["return"] = std::str::from_utf8(address).unwrap().into();
    }
    // Messages of a case are numbered by their ids.
    if let Some(number) = msg.reference.and_then(|reference| reference.unix_ms()) {
        shown["ref_of_in"] = (number - 1_700_000_000_000).into();
    }
    if let Some(expires) = msg.expires {
        shown["expires_ms"] = ((expires - WORLD_NS) / 1_000_000).into();
    }
    if is_timed {
        shown["at_ms"] = ((msg.ts - WORLD_NS) / 1_000_000).into();
    }
    shown
}
