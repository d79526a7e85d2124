//! `Cargo.toml` read line by line. A TOML parser would lose the comments, and the comments are what we check:
//! each dependency states its reason behind its line.

/// One `key = value`, which may span lines while a bracket is open, or one `[section]` header with an empty key.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    /// Counted from 1.
    pub(crate) line: usize,
    /// The section without brackets, for example `workspace.dependencies`.
    pub(crate) section: String,
    pub(crate) key: String,
    pub(crate) value: String,
    /// Everything behind a `#` on the entry's own lines.
    pub(crate) comment: String,
}

/// One dependency of one manifest.
#[derive(Debug, PartialEq)]
pub(crate) struct Dependency {
    pub(crate) line: usize,
    pub(crate) section: String,
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) reason: String,
}

impl Dependency {
    /// Whether the version is taken from the root manifest.
    pub(crate) fn is_inherited(&self) -> bool {
        self.value.contains("workspace = true")
    }

    /// Whether it is a folder beside us and therefore has no version.
    pub(crate) fn is_path(&self) -> bool {
        self.value.contains("path = ") && !self.value.contains("version = ")
    }

    /// The version asked for, or `path` when there is none.
    pub(crate) fn version(&self) -> &str {
        let after = self.value.split_once("version = ").map_or(self.value.as_str(), |(_, after)| after);
        match after.split('"').nth(1) {
            Some(version) if !self.is_path() => version,
            _ => "path",
        }
    }
}

/// All entries of a manifest, in order.
pub(crate) fn scan(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut section = String::new();
    let mut depth = 0;
    for (idx, line) in text.lines().enumerate() {
        let (content, comment) = split_comment(line);
        if depth > 0 {
            let open = entries.last_mut().expect("a bracket is only opened by an entry");
            open.value = format!("{} {content}", open.value);
            open.comment = format!("{} {comment}", open.comment).trim().into();
            depth += depth_change(content);
            continue;
        }
        let (key, value) = match content.split_once('=') {
            None if content.starts_with('[') => {
                section = content.trim_matches(['[', ']']).trim().into();
                ("", "")
            }
            Some((key, value)) => (key.trim(), value.trim()),
            None => continue,
        };
        depth = depth_change(value);
        let (key, value) = (key.into(), value.into());
        entries.push(Entry { line: idx + 1, section: section.clone(), key, value, comment: comment.into() });
    }
    entries
}

/// The dependencies among `entries`, of every kind and for every target.
pub(crate) fn dependencies(entries: &[Entry]) -> Vec<Dependency> {
    entries.iter().filter_map(dependency).collect()
}

/// The package's name, when the manifest has a package.
pub(crate) fn package_name(entries: &[Entry]) -> Option<&str> {
    let name = entries.iter().find(|entry| entry.section == "package" && entry.key == "name")?;
    Some(name.value.trim_matches('"'))
}

fn dependency(entry: &Entry) -> Option<Dependency> {
    let is_table = |section: &str| section.rsplit('.').next().is_some_and(|last| last.ends_with("dependencies"));
    let (section, name, value) = if is_table(&entry.section) && !entry.key.is_empty() {
        // `tokio.workspace = true` and `tokio = { workspace = true }` say the same.
        match entry.key.split_once('.') {
            Some((name, field)) => (entry.section.as_str(), name, format!("{field} = {}", entry.value)),
            None => (entry.section.as_str(), entry.key.as_str(), entry.value.clone()),
        }
    } else {
        // `[dependencies.tokio]` shows as a dependency without a value: the rules then ask for the one-line form.
        let (section, name) = entry.section.rsplit_once('.').filter(|(parent, _)| is_table(parent))?;
        if !entry.key.is_empty() {
            return None;
        }
        (section, name, String::new())
    };
    let (section, name, reason) = (section.into(), name.trim_matches('"').into(), entry.comment.clone());
    Some(Dependency { line: entry.line, section, name, value, reason })
}

/// Splits at the first `#` outside a quoted string; both halves trimmed.
fn split_comment(line: &str) -> (&str, &str) {
    match unquoted(line).find(|(_, c)| *c == '#') {
        Some((idx, _)) => (line[..idx].trim(), line[idx + 1..].trim()),
        None => (line.trim(), ""),
    }
}

fn depth_change(content: &str) -> i32 {
    unquoted(content).map(|(_, c)| if "[{".contains(c) { 1 } else { -i32::from("]}".contains(c)) }).sum()
}

/// The characters outside quoted strings with their positions.
fn unquoted(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut quote = None;
    text.char_indices().filter(move |(_, c)| match quote {
        Some(open) => {
            quote = (*c != open).then_some(open);
            false
        }
        None => {
            quote = matches!(c, '"' | '\'').then_some(*c);
            quote.is_none()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(usize, &str, &str, &str)]) {
        let found = dependencies(&scan(text));
        let found: Vec<_> = found.iter().map(|d| (d.line, d.name.as_str(), d.version(), d.reason.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn reasons_stand_behind_their_line() {
        let text = "[workspace.dependencies]\na = \"1\"  # one # two\nb = { version = \"2\", features = [\"#x\"] }\n";
        check(text, &[(2, "a", "1", "one # two"), (3, "b", "2", "")]);
    }

    #[test]
    fn an_entry_may_span_lines() {
        let text = "[dependencies]\na = { version = \"1\", features = [\n  \"x\", # why x\n] }\nb = \"2\" # b\n";
        check(text, &[(2, "a", "1", "why x"), (5, "b", "2", "b")]);
    }

    #[test]
    fn sections_that_are_no_dependencies_stay_out() {
        check("[package]\nname = \"x\"\n[features]\ndefault = []\n[lints]\nworkspace = true\n", &[]);
    }

    #[test]
    fn every_way_to_inherit_is_seen() {
        let text = "[dependencies]\na.workspace = true\nb = { workspace = true, features = [\"x\"] }\nc = \"1\"\n[dev-dependencies.d]\nversion = \"1\"\n";
        let found = dependencies(&scan(text));
        let inherited: Vec<_> = found.iter().map(|d| (d.name.as_str(), d.is_inherited())).collect();
        assert_eq!(inherited, [("a", true), ("b", true), ("c", false), ("d", false)]);
    }

    #[test]
    fn the_package_has_a_name() {
        assert_eq!(package_name(&scan("[package]\nname = \"embed\" # short\n")), Some("embed"));
        assert_eq!(package_name(&scan("[workspace]\nmembers = []\n")), None);
    }
}
