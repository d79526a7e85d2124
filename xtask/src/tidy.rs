//! `cargo xtask tidy`: the house rules that neither compiler, formatter nor clippy knows. It is also a test.
//! Each finding says file, line, what is wrong and the remedy. `fixtures/tidy/<rule>` shows each rule firing.

mod code;
mod gears;
mod manifests;
mod pages;
mod rust;
mod text;
mod tree;

use std::fmt;

use anyhow::{Result, bail};

pub(crate) use tree::Tree;

use crate::{child, usage};

/// Checks the workspace and prints every finding.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    usage::none(arguments)?;
    let findings = findings(&Tree::load(&child::root())?);
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("tidy: {} rules, no finding", RULES.len()),
        count => bail!("tidy: {count} findings, each with its remedy above"),
    }
    Ok(())
}

/// What all rules say about a tree, each line with its rule.
fn findings(tree: &Tree) -> Vec<String> {
    let all = RULES.iter().flat_map(|rule| (rule.check)(tree).into_iter().map(|finding| (finding, rule.name)));
    all.map(|(finding, name)| format!("{finding} [{name}]")).collect()
}

/// One rule; its name is also the folder of its fixture.
struct Rule {
    name: &'static str,
    check: fn(&Tree) -> Vec<Finding>,
}

const RULES: &[Rule] = &[
    Rule { name: "module-doc", check: code::module_doc },
    Rule { name: "no-mod-rs", check: code::no_mod_rs },
    Rule { name: "file-length", check: code::file_length },
    Rule { name: "unfinished", check: code::unfinished },
    Rule { name: "todo-issue", check: code::todo_issue },
    Rule { name: "clock-reason", check: code::clock_reason },
    Rule { name: "dependency-reason", check: manifests::dependency_reason },
    Rule { name: "dependency-version", check: manifests::dependency_version },
    Rule { name: "dependency-arrow", check: manifests::dependency_arrow },
    Rule { name: "unwind", check: manifests::unwind },
    Rule { name: "architecture-names", check: pages::architecture_names },
    Rule { name: "readme-commands", check: pages::readme_commands },
    Rule { name: "readme-code", check: pages::readme_code },
    Rule { name: "reliability-proof", check: pages::reliability_proof },
    Rule { name: "gear-catalog", check: gears::catalog },
    Rule { name: "config-unit", check: gears::config_unit },
    Rule { name: "machine-path", check: text::machine_path },
    Rule { name: "registry-host", check: text::registry_host },
    Rule { name: "whitespace", check: text::whitespace },
];

/// Something to change, and how.
#[derive(Debug)]
struct Finding {
    path: String,
    /// Counted from 1.
    line: usize,
    problem: String,
    remedy: String,
}

impl Finding {
    fn new(path: &str, line: usize, problem: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { path: path.into(), line, problem: problem.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; remedy: {}", self.path, self.line, self.problem, self.remedy)
    }
}

#[cfg(test)]
mod tests;
