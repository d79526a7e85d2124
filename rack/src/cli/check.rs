//! `fluxrig lint`, `graph`, `echo`, `schema`: what a scenario says, without running it.

use std::path::Path;

use fluxrig_rack::scenario::{Checked, GraphFormat, check_file, process_env, scenario_schema};
use fluxrig_rack::{Problem, ScenarioErrors, exit};
use serde_json::{Value, json};

use super::{GraphChoice, LintArgs, complain, is_terminal, say, say_json};

fn checked(file: &Path) -> Result<Checked, ScenarioErrors> {
    check_file(file, &fluxrig_gears::standard(), &process_env)
}

pub(super) fn lint(args: &LintArgs) -> u8 {
    let mut code = exit::DONE;
    let mut all = Vec::new();
    for file in &args.files {
        let (errors, warnings, normal) = match checked(file) {
            Ok(checked) => (Vec::new(), checked.warnings.clone(), args.defaults.then(|| checked.normal_form())),
            Err(ScenarioErrors(errors)) => (errors, Vec::new(), None),
        };
        if !errors.is_empty() || (args.deny_warnings && !warnings.is_empty()) {
            code = exit::BAD_CONFIG;
        }
        if args.json {
            all.extend(errors.iter().map(|problem| as_json(problem, "error")));
            all.extend(warnings.iter().map(|problem| as_json(problem, "warning")));
            continue;
        }
        say(&pointed(file, &errors));
        for warning in &warnings {
            say(&format!("warning: {warning}\n"));
        }
        if errors.is_empty() && warnings.is_empty() && normal.is_none() {
            say(&format!("{}: ok\n", file.display()));
        }
        say(&normal.unwrap_or_default());
    }
    if args.json {
        say_json(&all.into());
    }
    code
}

fn as_json(problem: &Problem, severity: &str) -> Value {
    json!({
        "file": &*problem.at.file,
        "line": problem.at.pos.line,
        "column": problem.at.pos.column,
        "path": problem.path,
        "severity": severity,
        "text": problem.fault.to_string(),
    })
}

/// Problems, one a line; on a terminal with the line of the file below each.
pub(super) fn pointed(file: &Path, problems: &[Problem]) -> String {
    let text = if is_terminal() { std::fs::read_to_string(file).unwrap_or_default() } else { String::new() };
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::new();
    for problem in problems {
        out.push_str(&format!("{problem}\n"));
        let pos = problem.at.pos;
        if let Some(line) = pos.line.checked_sub(1).and_then(|idx| lines.get(idx)) {
            let before: String =
                line.chars().take(pos.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            out.push_str(&format!("{:>5} | {line}\n      | {before}^\n", pos.line));
        }
    }
    out
}

fn show(file: &Path, text: impl FnOnce(&Checked) -> String) -> u8 {
    match checked(file) {
        Ok(checked) => {
            say(&text(&checked));
            exit::DONE
        }
        Err(errors) => {
            complain(pointed(file, &errors.0).trim_end());
            exit::BAD_CONFIG
        }
    }
}

pub(super) fn graph(file: &Path, format: GraphChoice) -> u8 {
    let format = match format {
        GraphChoice::Mermaid => GraphFormat::Mermaid,
        GraphChoice::Dot => GraphFormat::Dot,
    };
    show(file, |checked| checked.graph(format))
}

pub(super) fn echo(file: &Path) -> u8 {
    show(file, Checked::normal_form)
}

pub(super) fn schema() -> u8 {
    say_json(&scenario_schema(&fluxrig_gears::standard()));
    exit::DONE
}
