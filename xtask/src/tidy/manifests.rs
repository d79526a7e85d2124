//! Rules about manifests: every dependency has a reason, one version for all, and points the way the design draws it.

use super::Finding;
use super::tree::{Manifest, Tree};
use crate::manifest::{self, Dependency};

/// Which of our crates a crate may use. Folders that are not named here (examples, tests) may use all of these.
const ARROWS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("supervision", &[]),
    ("actors", &["fluxrig-protocol", "fluxrig-supervision"]),
    ("gears", &["fluxrig-actors"]),
    ("rack", &["fluxrig-gears", "fluxrig-actors"]),
    ("mixer", &["fluxrig-rack", "fluxrig-actors"]),
    ("xtask", &[]),
];

/// `protocol` is pure data: no runtime.
const RUNTIMES: &[&str] = &["tokio", "ractor"];

pub(super) fn dependency_reason(tree: &Tree) -> Vec<Finding> {
    let silent = |dependency: &Dependency| dependency.reason.is_empty() && !dependency.is_inherited();
    each(tree, |_, dependency| {
        silent(dependency).then(|| {
            let remedy = "say behind the line in one clause what it is for: `# …`";
            (format!("`{}` has no reason", dependency.name), remedy.into())
        })
    })
}

pub(super) fn dependency_version(tree: &Tree) -> Vec<Finding> {
    let manifests = tree.manifests();
    let excluded = manifests.iter().flat_map(|manifest| &manifest.entries).find(|entry| entry.key == "exclude");
    let excluded = excluded.map_or("", |entry| entry.value.as_str());
    each(tree, |folder, dependency| {
        let is_member = folder != "." && !excluded.contains(&format!("\"{folder}\""));
        (is_member && !dependency.is_inherited() && !dependency.is_path()).then(|| {
            let problem = format!("`{}` has a version of its own", dependency.name);
            let remedy = "put version and reason into `[workspace.dependencies]`, and here";
            (problem, format!("{remedy} `{}.workspace = true`", dependency.name))
        })
    })
}

pub(super) fn dependency_arrow(tree: &Tree) -> Vec<Finding> {
    let leaves = leaves(&tree.manifests());
    each(tree, |folder, dependency| {
        let name = dependency.name.as_str();
        if folder == "." {
            return None;
        }
        if leaves.iter().any(|leaf| leaf == name) {
            return Some((
                format!("nothing may depend on `{name}`"),
                "move what is shared to the crate that owns it".into(),
            ));
        }
        let (_, allowed) = ARROWS.iter().find(|(crate_folder, _)| *crate_folder == folder)?;
        let is_runtime = folder == "protocol" && RUNTIMES.contains(&name);
        let is_against = name.starts_with("fluxrig-") && !allowed.contains(&name);
        (is_runtime || is_against).then(|| {
            let remedy = "use what the arrows of `ARCHITECTURE.md` allow, or change the design in a commit of its own";
            (format!("`{folder}` must not depend on `{name}`"), remedy.into())
        })
    })
}

/// Supervision lives on unwinding.
pub(super) fn unwind(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for manifest in tree.manifests() {
        let aborts = manifest.entries.iter().filter(|entry| entry.key == "panic" && entry.value == "\"abort\"");
        let remedy = "use `panic = \"unwind\"`";
        findings.extend(
            aborts.map(|entry| Finding::new(manifest.path, entry.line, "`abort` switches supervision off", remedy)),
        );
    }
    findings
}

/// Asks `problem` about every dependency, with the folder of its manifest (`.` for the root).
fn each(tree: &Tree, problem: impl Fn(&str, &Dependency) -> Option<(String, String)>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for manifest in tree.manifests() {
        let folder = manifest.path.trim_end_matches("Cargo.toml").trim_end_matches('/');
        let folder = if folder.is_empty() { "." } else { folder };
        for dependency in manifest::dependencies(&manifest.entries) {
            let found = problem(folder, &dependency);
            findings.extend(found.map(|(text, remedy)| Finding::new(manifest.path, dependency.line, text, remedy)));
        }
    }
    findings
}

/// The packages that are ends of the graph.
fn leaves(manifests: &[Manifest<'_>]) -> Vec<String> {
    let is_leaf = |path: &str| ["examples/", "tests/", "xtask/"].iter().any(|folder| path.starts_with(folder));
    let ends = manifests.iter().filter(|manifest| is_leaf(manifest.path));
    ends.filter_map(|manifest| manifest::package_name(&manifest.entries)).map(String::from).collect()
}
