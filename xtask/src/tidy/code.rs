//! Rules about Rust files: each opens with what it owns, stays one noun, and nothing in it is half-finished.

use super::Finding;
use super::tree::{File, Tree, numbered};

/// Past this, a file without a stated reason holds a second noun.
const LINES_MAX: usize = 600;

/// The line that lets a long table or state machine stay whole.
const WHOLE: &str = "// tidy: whole because ";

pub(super) fn module_doc(tree: &Tree) -> Vec<Finding> {
    let silent = tree.rust().filter(|file| !file.text.starts_with("//!"));
    let remedy = "say on top in two `//!` lines what this file owns";
    silent.map(|file| Finding::new(&file.path, 1, "file does not open with `//!`", remedy)).collect()
}

pub(super) fn no_mod_rs(tree: &Tree) -> Vec<Finding> {
    let files = tree.rust().filter(|file| file.name() == "mod.rs");
    let finding = |file: &File| {
        let folder = file.path.trim_end_matches("/mod.rs");
        Finding::new(
            &file.path,
            1,
            "a module in `mod.rs` has no name in an editor",
            format!("move it to `{folder}.rs`"),
        )
    };
    files.map(finding).collect()
}

pub(super) fn file_length(tree: &Tree) -> Vec<Finding> {
    let has_reason = |file: &File| {
        let reasons = file.text.lines().filter_map(|line| line.trim().strip_prefix(WHOLE));
        reasons.into_iter().any(|reason| !reason.trim().is_empty())
    };
    let long = tree.rust().filter(|file| !file.is_test() && file.shipped_len() > LINES_MAX && !has_reason(file));
    let finding = |file: &File| {
        let problem = format!("{} lines without tests, at most {LINES_MAX} expected", file.shipped_len());
        let remedy = format!("move the second noun to a file of its own, or say `{WHOLE}<reason>`");
        Finding::new(&file.path, LINES_MAX + 1, problem, remedy)
    };
    long.map(finding).collect()
}

pub(super) fn unfinished(tree: &Tree) -> Vec<Finding> {
    const BANNED: &[(&str, &str)] = &[
        ("todo!", "write it, or leave it out until its issue"),
        ("unimplemented!", "write it, or leave it out until its issue"),
        ("dbg!", "remove it, or use a `tracing` event"),
        ("#[ignore", "assert today's behaviour and name the issue"),
    ];
    let mut findings = Vec::new();
    for file in tree.rust() {
        for (line, code) in numbered(&file.code) {
            let found = BANNED.iter().filter(|(word, _)| has(code, word));
            findings.extend(found.map(|(word, remedy)| Finding::new(&file.path, line, format!("`{word}`"), *remedy)));
        }
    }
    findings
}

pub(super) fn todo_issue(tree: &Tree) -> Vec<Finding> {
    const MARKS: &[&str] = &["TODO", "FIXME", "XXX"];
    let mut findings = Vec::new();
    for file in &tree.files {
        for (line, prose) in numbered(&file.prose) {
            let mark = MARKS.iter().find(|mark| is_marked(prose, mark));
            let remedy = "name the issue, as in `#12`, or do it now";
            findings
                .extend(mark.map(|mark| Finding::new(&file.path, line, format!("`{mark}` without an issue"), remedy)));
        }
    }
    findings
}

/// The clocks are banned by clippy, which cannot see whether an exception has a reason.
pub(super) fn clock_reason(tree: &Tree) -> Vec<Finding> {
    const LINT: &str = "clippy::disallowed_methods";
    let mut findings = Vec::new();
    for file in tree.rust() {
        let prose: Vec<&str> = file.prose.lines().collect();
        for (line, _) in numbered(&file.code).filter(|(_, code)| code.contains(LINT)) {
            // The lines around the attribute, its own among them: `line` is counted from 1.
            let around = &prose[line.saturating_sub(2)..(line + 1).min(prose.len())];
            // What an item is for (`///`) is not why it may look at the clock.
            let is_reason = |comment: &&str| !comment.is_empty() && !comment.starts_with("///");
            let is_commented = around.iter().map(|comment| comment.trim()).any(|comment| is_reason(&comment));
            // `reason` may stand on a line of its own when the attribute is long.
            let is_reasoned = numbered(&file.code).skip(line - 1).take(3).any(|(_, code)| code.contains("reason = "));
            if !is_commented && !is_reasoned {
                let remedy = "add `reason = \"…\"`, or inject the clock";
                findings.push(Finding::new(&file.path, line, "a banned clock is allowed without a reason", remedy));
            }
        }
    }
    findings
}

/// Whether `code` holds `word`, not as the end of a longer word.
fn has(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(idx, _)| !code[..idx].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// Whether a line carries `mark` as a note to do something. A mark in backticks is only spoken of.
fn is_marked(prose: &str, mark: &str) -> bool {
    let is_edge = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '`');
    let stands =
        |idx: usize| is_edge(prose[..idx].chars().next_back()) && is_edge(prose[idx + mark.len()..].chars().next());
    let has_issue = prose.split('#').skip(1).any(|after| after.starts_with(|c: char| c.is_ascii_digit()));
    !has_issue && prose.match_indices(mark).any(|(idx, _)| stands(idx))
}
