//! Rules about every text file: nothing in it belongs to one machine, and its lines end clean.

use super::Finding;
use super::tree::{File, Tree};

/// Where people and build machines keep checkouts. Written in pieces, so that this file keeps its own rule.
const HOMES: &[&str] = &[concat!("/", "home/"), concat!("/", "root/"), concat!("/", "work/")];

/// The one package source everybody can reach.
const CRATES_IO: &str = "https://github.com/rust-lang/crates.io-index";

pub(super) fn machine_path(tree: &Tree) -> Vec<Finding> {
    let remedy = "write it from the workspace root, or take it from the environment";
    lines(tree, |_, line| {
        let home = HOMES.iter().find(|home| is_absolute(line, home))?;
        Some((format!("`{home}…` exists on one machine only"), remedy.into()))
    })
}

pub(super) fn registry_host(tree: &Tree) -> Vec<Finding> {
    lines(tree, |file, line| {
        let is_lock = file.name() == "Cargo.lock" && line.starts_with("source = ") && !line.contains(CRATES_IO);
        let is_config = file.path.starts_with(".cargo/")
            && ["[source", "[registr", "replace-with", "[http", "[net"].iter().any(|key| line.starts_with(key));
        let remedy = "keep mirrors and proxies in your own cargo configuration, outside the checkout";
        (is_lock || is_config).then(|| ("a package source that not everybody can reach".into(), remedy.into()))
    })
}

pub(super) fn whitespace(tree: &Tree) -> Vec<Finding> {
    let mut findings = lines(tree, |file, line| {
        let is_trailing = is_written_by_hand(file) && line.ends_with([' ', '\t', '\r']);
        is_trailing.then(|| ("white space at the end of the line".into(), "remove it".into()))
    });
    for file in tree.files.iter().filter(|file| is_written_by_hand(file)) {
        if !file.text.is_empty() && !file.text.ends_with('\n') {
            let line = file.text.lines().count();
            findings.push(Finding::new(&file.path, line, "the last line has no end", "add a newline"));
        }
    }
    findings
}

/// Asks `problem` about every line of every file.
fn lines(tree: &Tree, problem: impl Fn(&File, &str) -> Option<(String, String)>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        // Not `lines()`, which would swallow the carriage return that we look for.
        for (idx, line) in file.text.split('\n').enumerate() {
            let found = problem(file, line);
            findings.extend(found.map(|(text, remedy)| Finding::new(&file.path, idx + 1, text, remedy)));
        }
    }
    findings
}

/// A corpus or a captured message keeps its bytes, whatever they are.
fn is_written_by_hand(file: &File) -> bool {
    const EXTENSIONS: &[&str] = &["rs", "toml", "md", "yaml", "yml", "cddl", "json", "txt", "sh", "lock"];
    match file.name().trim_start_matches('.').rsplit_once('.') {
        Some((_, extension)) => EXTENSIONS.contains(&extension),
        None => !file.path.contains("/corpus/") && !file.path.contains("/fixtures/"),
    }
}

/// Whether `line` holds the absolute path `home`, not the middle of a relative one or of a URL.
fn is_absolute(line: &str, home: &str) -> bool {
    let continues = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || "_-.}*".contains(c));
    line.match_indices(home).any(|(idx, _)| !continues(&line[..idx]))
}
