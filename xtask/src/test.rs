//! `cargo xtask test`: exactly what CI runs, cheap steps first, stopping at the first that fails.
//!
//! Everything is built in the dev profile: its overflow checks and debug assertions are worth more to a simulation than
//! speed, and a second profile would double the build of a clean run. Dependencies are optimised there all the same.

mod tally;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{child, setup, tidy, usage};
use tally::Tally;

/// Enough to meet every kind of fault, few enough for a minute or two; thousands run in `cargo xtask sim`.
const SIM_SEEDS: &str = "200";

/// The longest that a step which tries our programs may print nothing: a test that hangs must fail, by name, before the
/// machine that runs it gives up on all of them. The slowest takes a minute.
const SILENCE_MAX: Duration = Duration::from_secs(600);

/// Runs all steps and ends with one line that sums up all tests.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    usage::none(arguments)?;
    let mut run = Run::default();
    let outcome = STEPS.iter().try_for_each(|step| run.step(step));
    println!("{}", run.tally);
    outcome
}

/// All targets but benches: they are compiled by the lints step, and a benchmark is not a test.
const TESTS: &str = "test --workspace --lib --bins --tests --examples --no-fail-fast";

struct Step {
    name: &'static str,
    run: fn(&mut Run) -> Result<()>,
}

const STEPS: &[Step] = &[
    Step { name: "setup", run: |_| setup::run(&[]) },
    Step { name: "format", run: |_| child::run(&mut child::cargo("fmt --all -- --check")) },
    Step { name: "lints", run: |_| child::run(&mut child::cargo("clippy --workspace --all-targets -- -D warnings")) },
    Step { name: "tidy", run: |_| tidy::run(&[]) },
    Step { name: "tests", run: |run| run.tests(TESTS) },
    Step { name: "doc tests", run: |run| run.watch(&mut child::cargo("test --workspace --doc --no-fail-fast")) },
    Step { name: "programs", run: Run::build_programs },
    Step { name: "simulation", run: Run::simulation },
    Step { name: "faults", run: Run::faults },
    Step { name: "mutations", run: Run::mutations },
    Step { name: "examples", run: Run::examples },
    Step { name: "docs", run: docs },
];

/// What one run has found so far.
#[derive(Default)]
struct Run {
    tally: Tally,
    programs: Vec<Program>,
}

/// A binary of the workspace, built.
struct Program {
    name: String,
    manifest: PathBuf,
    executable: PathBuf,
}

impl Run {
    fn step(&mut self, step: &Step) -> Result<()> {
        println!("== {}", step.name);
        let started = now();
        let outcome = (step.run)(self);
        let took = seconds(started.elapsed());
        match &outcome {
            Ok(()) => println!("== {}: ok in {took}", step.name),
            Err(_) => println!("== {}: FAILED after {took}, later steps were not run", step.name),
        }
        outcome.with_context(|| format!("step `{}` failed", step.name))
    }

    /// The build takes as long as it takes; what was built is watched.
    fn tests(&mut self, arguments: &str) -> Result<()> {
        child::run(child::cargo(arguments).arg("--no-run"))?;
        self.watch(&mut child::cargo(arguments))
    }

    fn watch(&mut self, command: &mut Command) -> Result<()> {
        child::run_watched(command, SILENCE_MAX, |line| {
            println!("{line}");
            self.tally.count(line);
        })
    }

    /// One build for all programs: `cargo run -p` for each would resolve features for each alone and build tokio again.
    fn build_programs(&mut self) -> Result<()> {
        let arguments = "build --workspace --exclude xtask --bins --message-format=json-render-diagnostics";
        child::run_lines(&mut child::cargo(arguments), |line| self.programs.extend(program(line)))
    }

    fn program(&self, name: &str) -> Result<&Path> {
        let found = self.programs.iter().find(|program| program.name == name);
        Ok(&found.with_context(|| format!("the workspace has no binary `{name}`"))?.executable)
    }

    fn simulation(&mut self) -> Result<()> {
        let mut sim = child::command(self.program("sim")?);
        self.watch(sim.args(["--seeds", SIM_SEEDS]))
    }

    /// A few faults of each class, against the binary as a process; thousands run in `cargo xtask faults`.
    fn faults(&mut self) -> Result<()> {
        let mut faults = child::command(self.program("faults")?);
        self.watch(faults.args(["--slice", "--daemon"]).arg(self.program("fluxrig")?))
    }

    /// Rules of the runtime broken one by one: the simulation must notice each, or it has no teeth.
    fn mutations(&mut self) -> Result<()> {
        self.tests("test -p fluxrig-tests --features mutants --test sim")
    }

    /// Each example checks its own result, so its exit code is the verdict.
    fn examples(&mut self) -> Result<()> {
        let folder = child::root().join("examples");
        let programs = std::mem::take(&mut self.programs);
        let (mut run_count, mut failed) = (0, Vec::new());
        for program in programs.iter().filter(|program| program.manifest.starts_with(&folder)) {
            println!("-- example `{}`", program.name);
            run_count += 1;
            if let Err(error) = self.watch(&mut child::command(&program.executable)) {
                println!("-- example `{}`: {error}", program.name);
                failed.push(program.name.as_str());
            }
        }
        match (run_count, failed.as_slice()) {
            (0, _) => bail!("`examples` has no program"),
            (_, []) => Ok(()),
            (_, failed) => bail!("of {run_count} examples failed: {}", failed.join(", ")),
        }
    }
}

fn docs(_: &mut Run) -> Result<()> {
    child::run(child::cargo("doc --workspace --no-deps").env("RUSTDOCFLAGS", "-D warnings"))
}

/// The executable that one of cargo's JSON messages speaks of, if it does.
fn program(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    let path = |value: &Value| value.as_str().map(|text| Path::new(text).to_path_buf());
    let name = message["target"]["name"].as_str()?.to_owned();
    Some(Program { name, manifest: path(&message["manifest_path"])?, executable: path(&message["executable"])? })
}

#[expect(
    clippy::disallowed_methods,
    reason = "an automation tells a person how long it took; nothing here is simulated"
)]
fn now() -> Instant {
    Instant::now()
}

fn seconds(took: Duration) -> String {
    let whole = took.as_secs();
    if whole < 60 { format!("{:.1} s", took.as_secs_f64()) } else { format!("{} min {:02} s", whole / 60, whole % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(
            [900, 59_900, 61_000, 754_000].map(|ms| seconds(Duration::from_millis(ms))),
            ["0.9 s", "59.9 s", "1 min 01 s", "12 min 34 s"]
        );
    }

    #[test]
    fn only_messages_with_an_executable_are_programs() {
        let built = r#"{"reason":"compiler-artifact","manifest_path":"/w/tests/Cargo.toml","target":{"name":"sim"},"executable":"/t/sim"}"#;
        assert_eq!(program(built).map(|found| found.executable), Some(PathBuf::from("/t/sim")));
        for other in ["", r#"{"reason":"build-finished"}"#, &built.replace(r#""/t/sim""#, "null")] {
            assert!(program(other).is_none(), "{other}");
        }
    }
}
