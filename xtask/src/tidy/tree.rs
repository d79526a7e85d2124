//! The text files of a checkout, read once; every rule looks at the same tree.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::rust;
use crate::manifest::{self, Entry};

/// Bad trees that show the rules firing; they are no part of the workspace.
const FIXTURES: &str = "xtask/fixtures/tidy";

/// All text files below a root, in order of their paths.
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    pub(crate) files: Vec<File>,
}

/// A file that holds UTF-8 text.
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text with strings and comments blanked, line for line; empty unless the file is Rust.
    pub(crate) code: String,
    /// The text with everything but comments blanked; all of it when the file is not Rust.
    pub(crate) prose: String,
}

/// A `Cargo.toml`, scanned.
pub(crate) struct Manifest<'a> {
    pub(crate) path: &'a str,
    pub(crate) entries: Vec<Entry>,
}

impl Tree {
    /// Reads everything below `root` but what `.gitignore` of the root names, build output and our own fixtures.
    pub(crate) fn load(root: &Path) -> Result<Tree> {
        let ignored = std::fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
        let ignored: Vec<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
        let mut tree = Tree { root: root.into(), files: Vec::new() };
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            let entries = std::fs::read_dir(&folder).with_context(|| format!("could not read {}", folder.display()))?;
            for entry in entries {
                let entry = entry?;
                let path = relative(root, &entry.path());
                let name = path.rsplit('/').next().unwrap_or(&path);
                if matches!(name, ".git" | "target") || path == FIXTURES || ignored.contains(&path.as_str()) {
                    continue;
                }
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    tree.files.extend(File::load(&entry.path(), path)?);
                }
            }
        }
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// All manifests, the root's first.
    pub(crate) fn manifests(&self) -> Vec<Manifest<'_>> {
        let files = self.files.iter().filter(|file| file.name() == "Cargo.toml");
        let scanned = files.map(|file| Manifest { path: &file.path, entries: manifest::scan(&file.text) });
        scanned.collect()
    }
}

impl File {
    fn load(location: &Path, path: String) -> Result<Option<File>> {
        let bytes = std::fs::read(location).with_context(|| format!("could not read {path}"))?;
        let Ok(text) = String::from_utf8(bytes) else { return Ok(None) };
        if text.contains('\0') {
            return Ok(None);
        }
        let views = if path.ends_with(".rs") { rust::split(&text) } else { (String::new(), text.clone()) };
        Ok(Some(File { path, text, code: views.0, prose: views.1 }))
    }

    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Whether all of the file is test code: `tests.rs` beside the code, or a file in the `tests` folder of a crate.
    pub(crate) fn is_test(&self) -> bool {
        self.name() == "tests.rs" || self.path.contains("/tests/")
    }

    /// The number of lines before the test module at the end, or of all lines when there is none.
    pub(crate) fn shipped_len(&self) -> usize {
        let lines: Vec<&str> = self.code.lines().map(str::trim).collect();
        let starts = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
        lines.windows(2).position(starts).unwrap_or(lines.len())
    }

    /// The lines of code that ship, counted from 1.
    pub(crate) fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.code).take(if self.is_test() { 0 } else { self.shipped_len() })
    }
}

/// Lines with their numbers, counted from 1.
pub(crate) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(idx, line)| (idx + 1, line))
}

/// The identifiers in a piece of code.
pub(crate) fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

fn relative(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).expect("the walk stays below its root");
    below.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}
