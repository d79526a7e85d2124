//! `cargo xtask deps`: what we depend on, who asks for it and why, and what is compiled twice.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::tidy::Tree;
use crate::{child, manifest, table, usage};

/// Prints the table and the duplicates.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    usage::none(arguments)?;
    let tree = Tree::load(&child::root())?;
    let manifests = tree.manifests();
    let root = manifests.iter().find(|found| found.path == "Cargo.toml").context("no root manifest")?;

    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for member in manifests.iter().filter(|found| found.path != root.path) {
        let folder = member.path.trim_end_matches("/Cargo.toml");
        for dependency in manifest::dependencies(&member.entries) {
            let used_by = users.entry(dependency.name).or_default();
            if !dependency.section.starts_with("dev") {
                used_by.push(folder.into());
            } else if !used_by.iter().any(|user| user == folder) {
                used_by.push(format!("{folder} (dev)"));
            }
        }
    }

    let mut rows = vec![["dependency", "version", "used by", "reason"].map(String::from).to_vec()];
    for dependency in manifest::dependencies(&root.entries) {
        let used_by = users.get(&dependency.name).map_or("nobody".into(), |users| users.join(", "));
        rows.push(vec![dependency.name.clone(), dependency.version().into(), used_by, dependency.reason.clone()]);
    }
    print!("{}", table::render(&rows));
    println!("\ncompiled in more than one version:");
    child::run(&mut child::cargo("tree --workspace --duplicates --depth 0"))
}
