//! Rules about pages: what `ARCHITECTURE.md` and the READMEs name must exist, and code that is shown must be compiled.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use super::Finding;
use super::tree::{File, Tree, numbered, words};
use crate::{COMMANDS, manifest};

const ARCHITECTURE: &str = "ARCHITECTURE.md";
const RELIABILITY: &str = "RELIABILITY.md";
const FAULT_CLASSES: &str = "tests/src/bin/faults/class.rs";
const MUTANTS: &str = "actors/src/mutants.rs";

pub(super) fn architecture_names(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.file(ARCHITECTURE) else { return Vec::new() };
    let identifiers: HashSet<&str> = tree.rust().flat_map(|file| words(&file.code)).collect();
    let mut findings = Vec::new();
    for (line, name) in inline_code(&page.text) {
        if looks_like_path(name) {
            if !exists(tree, name) {
                let remedy = "correct the path, or take it out of the backticks if it is none";
                findings.push(Finding::new(ARCHITECTURE, line, format!("`{name}` does not exist"), remedy));
            }
        } else if looks_like_code(name) {
            let missing = words(name).find(|word| is_camel_case(word) && !identifiers.contains(word));
            let remedy = "name what the code calls it today";
            findings.extend(
                missing.map(|word| Finding::new(ARCHITECTURE, line, format!("no code names `{word}`"), remedy)),
            );
        }
    }
    findings
}

pub(super) fn readme_commands(tree: &Tree) -> Vec<Finding> {
    let manifests = tree.manifests();
    let packages: Vec<&str> = manifests.iter().filter_map(|found| manifest::package_name(&found.entries)).collect();
    let mut findings = Vec::new();
    for page in readmes(tree) {
        for (line, command) in
            fences(&page.text).into_iter().filter(|fence| fence.language == "sh").flat_map(|f| f.lines)
        {
            let words: Vec<&str> = command.split_whitespace().skip_while(|word| *word == "$").collect();
            if let ["cargo", "xtask", name, ..] = words[..]
                && !COMMANDS.iter().any(|known| known.name == name)
            {
                let remedy = "`cargo xtask` lists what exists";
                findings.push(Finding::new(
                    &page.path,
                    line,
                    format!("`{name}` is no command of `cargo xtask`"),
                    remedy,
                ));
            }
            let named = words.windows(2).find(|pair| matches!(pair[0], "-p" | "--package")).map(|pair| pair[1]);
            if let Some(name) = named.filter(|name| words[0] == "cargo" && !packages.contains(name)) {
                let remedy = "name a package of this workspace";
                findings.push(Finding::new(&page.path, line, format!("there is no package `{name}`"), remedy));
            }
        }
    }
    findings
}

/// What the page on reliability claims must be there to be run: its commands, the classes of faults, every broken rule.
pub(super) fn reliability_proof(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.file(RELIABILITY) else { return Vec::new() };
    let code = |path| tree.file(path).map(|file| file.text.as_str()).unwrap_or_default();
    let (classes, mutants) = (code(FAULT_CLASSES), code(MUTANTS));
    let mut findings = Vec::new();
    for (line, command) in inline_code(&page.text) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let ["cargo", "xtask", name, rest @ ..] = words.as_slice() else { continue };
        if !COMMANDS.iter().any(|known| known.name == *name) {
            let what = format!("`{name}` is no command of `cargo xtask`");
            findings.push(Finding::new(RELIABILITY, line, what, "`cargo xtask` lists what exists"));
        }
        let named = rest.iter().filter(|_| *name == "faults").take_while(|word| !word.starts_with("--"));
        for class in named.filter(|class| !classes.contains(&format!("name: \"{class}\""))) {
            let what = format!("`{class}` is no class of faults");
            findings.push(Finding::new(RELIABILITY, line, what, "`cargo xtask faults --help` lists them"));
        }
    }
    let variants = mutants.lines().skip_while(|line| !line.starts_with("pub enum Mutation")).skip(1);
    let variants = variants.take_while(|line| *line != "}").filter_map(|line| line.trim().strip_suffix(','));
    for name in variants.filter(|name| !page.text.contains(&format!("`{name}`"))) {
        let what = format!("nothing says how the mutation `{name}` is noticed");
        findings.push(Finding::new(RELIABILITY, 1, what, "run `sim --mutants` and list it"));
    }
    findings
}

pub(super) fn readme_code(tree: &Tree) -> Vec<Finding> {
    let examples: Vec<String> =
        tree.rust().filter(|file| file.path.starts_with("examples/")).map(|file| essence(file.text.lines())).collect();
    let mut findings = Vec::new();
    for page in readmes(tree).filter(|page| !is_doc_test(tree, &page.path)) {
        for fence in fences(&page.text).into_iter().filter(|fence| fence.language == "rust") {
            let shown = essence(fence.lines.iter().map(|(_, line)| *line));
            if !examples.iter().any(|example| example.contains(&shown)) {
                let remedy = "cut it from a file in `examples/`, or include the page in a crate's documentation";
                findings.push(Finding::new(&page.path, fence.line, "this code is compiled nowhere", remedy));
            }
        }
    }
    findings
}

fn readmes(tree: &Tree) -> impl Iterator<Item = &File> {
    tree.files.iter().filter(|file| file.name() == "README.md")
}

/// A block between three backticks.
struct Fence<'a> {
    /// Where it opens, counted from 1.
    line: usize,
    language: &'a str,
    lines: Vec<(usize, &'a str)>,
}

fn fences(text: &str) -> Vec<Fence<'_>> {
    let mut fences = Vec::new();
    let mut open: Option<Fence<'_>> = None;
    for (line, content) in numbered(text) {
        match (open.take(), content.trim_start().strip_prefix("```")) {
            (None, Some(info)) => {
                let language = info.split([',', ' ']).next().unwrap_or_default();
                open = Some(Fence { line, language, lines: Vec::new() });
            }
            (None, None) => {}
            (Some(fence), Some(_)) => fences.push(fence),
            (Some(mut fence), None) => {
                fence.lines.push((line, content));
                open = Some(fence);
            }
        }
    }
    fences
}

/// What stands between single backticks outside fences, with its line.
fn inline_code(text: &str) -> Vec<(usize, &str)> {
    let fenced: HashSet<usize> =
        fences(text).iter().flat_map(|fence| fence.line..=fence.line + fence.lines.len()).collect();
    let open = numbered(text).filter(|(line, _)| !fenced.contains(line));
    open.flat_map(|(line, content)| content.split('`').skip(1).step_by(2).map(move |name| (line, name))).collect()
}

/// `actors/src/wire.rs`, `gears/`, `Cargo.toml`; neither a URL path (`/metrics`) nor a pattern (`gears/src/<name>.rs`).
fn looks_like_path(name: &str) -> bool {
    const EXTENSIONS: &[&str] = &["rs", "toml", "md", "cddl", "yaml", "json"];
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let has_extension = name.rsplit_once('.').is_some_and(|(stem, end)| !stem.is_empty() && EXTENSIONS.contains(&end));
    is_plain && !name.starts_with('/') && (name.contains('/') || has_extension)
}

/// Whether `name` is there, from the root or as the end of a path: a page may say `wire/turbo.rs` for short.
fn exists(tree: &Tree, name: &str) -> bool {
    let end = format!("/{name}");
    tree.root.join(name).exists() || tree.files.iter().any(|file| file.path.ends_with(&end))
}

fn looks_like_code(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || "_:<>(),&!# ".contains(c))
}

fn is_camel_case(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase()) && word.contains(|c: char| c.is_ascii_lowercase())
}

/// The lines without indentation and blank lines, which may differ between a page and a program.
fn essence<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.map(str::trim).filter(|line| !line.is_empty()).flat_map(|line| ["\n", line]).chain(["\n"]).collect()
}

/// Whether some file includes the page as documentation, which makes its code doc-tests.
fn is_doc_test(tree: &Tree, page: &str) -> bool {
    let includes = |file: &File| {
        let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
        let included = file.text.split("include_str!(\"").skip(1).filter_map(|after| after.split('"').next());
        included.into_iter().any(|path| resolve(&folder.join(path)) == Path::new(page))
    };
    tree.rust().any(includes)
}

/// Takes `..` out of a path without asking the file system.
fn resolve(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(resolved.pop()),
            part => resolved.push(part),
        }
    }
    resolved
}
