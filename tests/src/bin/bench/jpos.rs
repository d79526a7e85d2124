//! jPOS as the switch, for `--peers`: built and run by the scripts that stand beside `isoload`, where Java and Maven are.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::daemon::free_address;
use super::isoload::{self, Isoload};
use super::row::{Bar, Rows, median};

const VERSION: &str = "2.1.10";
const PACKAGER: &str = "coded";

/// What its runs came to.
pub(crate) struct Jpos {
    runs: Vec<Run>,
}

struct Run {
    terminals: u32,
    per_second: f64,
    p50: f64,
    wrong: f64,
}

impl Jpos {
    /// Builds and runs it; says so where it cannot.
    pub(crate) fn measure(rows: &mut Rows) -> Option<Self> {
        let Some(java) = java() else {
            return skipped("Java and Maven are not both there");
        };
        let (folder, isoload) = (isoload::folder()?.join("jpos"), Isoload::build()?);
        let script = |name: &str, arguments: &[&str]| {
            let mut command = Command::new("sh");
            command.arg(folder.join(name)).arg(VERSION).arg(&java).args(arguments);
            command.env("PEERS", isoload::target()).env("ISOLOAD", isoload.program());
            command
                .env("HOST_PORT", free_address().port().to_string())
                .env("PORT", free_address().port().to_string())
                .output()
        };
        if !script("build.sh", &[]).is_ok_and(|output| said(&output, "build.sh")) {
            return skipped("jPOS could not be built");
        }
        let codec = script("codec.sh", &[]).ok().filter(|output| said(output, "codec.sh"));
        if let Some(output) = codec {
            tell_codec(rows, &String::from_utf8_lossy(&output.stdout));
        }
        let switch = script("switch.sh", &[PACKAGER]).ok().filter(|output| said(output, "switch.sh"));
        let Some(output) = switch else {
            return skipped("jPOS did not run");
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let jpos = Self { runs: text.lines().filter_map(Run::read).filter(|run| run.wrong == 0.0).collect() };
        jpos.tell(rows);
        Some(jpos)
    }

    /// Answers a second with so many terminals and as many in flight on each.
    pub(crate) fn rate(&self, terminals: u32) -> Option<f64> {
        self.median(terminals, |run| run.per_second)
    }

    pub(crate) fn p50(&self, terminals: u32) -> Option<f64> {
        self.median(terminals, |run| run.p50)
    }

    fn median(&self, terminals: u32, figure: impl Fn(&Run) -> f64) -> Option<f64> {
        let figures: Vec<f64> = self.runs.iter().filter(|run| run.terminals == terminals).map(figure).collect();
        (!figures.is_empty()).then(|| median(figures))
    }

    fn tell(&self, rows: &mut Rows) {
        let note = format!(
            "jPOS {VERSION}, QServer, QMUX, ChannelAdaptor, everything in memory, after 16 s of load to warm up; median of 3 runs of 4 s"
        );
        for terminals in [1, 8, 16] {
            let (Some(rate), Some(p50)) = (self.rate(terminals), self.p50(terminals)) else { continue };
            let (row, what) = (format!("peer.jpos.{terminals}x{terminals}"), format!("jPOS, {terminals}x{terminals}"));
            rows.add(&format!("{row}.throughput"), &what, rate / 1e3, "k/s", Bar::None, &note);
            rows.add(&format!("{row}.p50"), &format!("{what}, p50"), p50, "µs", Bar::None, &note);
        }
    }
}

impl Run {
    fn read(line: &str) -> Option<Self> {
        let figure = |name: &str| {
            let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
            value.parse::<f64>().ok()
        };
        Some(Self {
            terminals: figure("conns")? as u32,
            per_second: figure("tps")?,
            p50: figure("p50_us")?,
            wrong: figure("bad")? + figure("crossed")? + figure("lost")?,
        })
    }
}

fn tell_codec(rows: &mut Rows, text: &str) {
    for (direction, operation) in [("encode", "pack(prebuilt)"), ("decode", "unpack")] {
        let lines = text.lines().filter(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.contains(&PACKAGER) && words.contains(&operation)
        });
        let ns =
            lines.filter_map(|line| line.split_whitespace().find_map(|word| word.strip_prefix("ns=")?.parse().ok()));
        let ns: Vec<f64> = ns.collect();
        let note = format!("jPOS {VERSION}, the same fields with the same lengths, one thread; median of {}", ns.len());
        rows.add(
            &format!("peer.jpos.codec.{direction}"),
            &format!("jPOS, {operation}"),
            median(ns),
            "ns",
            Bar::None,
            &note,
        );
    }
}

/// `$JAVA_HOME`, or where the compiler on the path really is; nothing without Maven.
fn java() -> Option<PathBuf> {
    Command::new("mvn").arg("--version").output().ok().filter(|output| output.status.success())?;
    let told = std::env::var_os("JAVA_HOME").map(PathBuf::from);
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let compilers = std::env::split_paths(&paths).filter_map(|folder| folder.join("javac").canonicalize().ok());
    let found = compilers.filter_map(|compiler| compiler.parent().and_then(Path::parent).map(Path::to_owned));
    told.into_iter().chain(found).find(|home| home.join("bin/javac").is_file())
}

fn said(output: &Output, script: &str) -> bool {
    if !output.status.success() {
        eprintln!("{script} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    output.status.success()
}

fn skipped(why: &str) -> Option<Jpos> {
    eprintln!("SKIPPED: rows of jPOS: {why}");
    None
}
