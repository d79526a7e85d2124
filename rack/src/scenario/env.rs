//! `${NAME}` and `${NAME:-default}` inside the values of a scenario, replaced before anything reads them.
//! Keys are never replaced, and what comes out of a variable is not looked into again. `${SCENARIO_DIR}` is the folder of
//! the scenario's file, whatever the environment says; a scenario in memory has none.

use std::path::Path;

use super::problem::{Fault, Problems};
use super::tree::{Content, Node, clipped};

/// Where variables come from: the environment, or a map in a test.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variable that stands for the folder of the scenario.
const SCENARIO_DIR: &str = "SCENARIO_DIR";

/// Variables of a scenario in a file: those of `lookup`, and its folder.
pub(crate) fn beside<'a>(file: &'a Path, lookup: Lookup<'a>) -> impl Fn(&str) -> Option<String> + 'a {
    move |name| match name {
        SCENARIO_DIR => {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            folder.to_str().map(str::to_owned)
        }
        name => lookup(name),
    }
}

/// The environment of this process.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Replaces every variable below `node`.
pub(crate) fn expand(node: &mut Node, path: &str, lookup: Lookup<'_>, problems: &mut Problems) {
    match &mut node.content {
        Content::Map(entries) => {
            for entry in entries {
                let key = clipped(&entry.key.text);
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                expand(&mut entry.value, &path, lookup, problems);
            }
        }
        Content::List(items) => {
            for (idx, item) in items.iter_mut().enumerate() {
                expand(item, &format!("{path}[{idx}]"), lookup, problems);
            }
        }
        Content::Scalar(scalar) if scalar.text.contains("${") => {
            let mut fault = |fault| problems.add(node.pos, path, fault);
            let text = replace(&scalar.text, lookup, &mut fault);
            scalar.source = Some(std::mem::replace(&mut scalar.text, text));
        }
        Content::Scalar(_) => {}
    }
}

fn replace(text: &str, lookup: Lookup<'_>, fault: &mut dyn FnMut(Fault)) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let before = &rest[..at];
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(before);
        rest = &rest[at + 2..];
        let Some(end) = rest.find('}') else {
            fault(Fault::Interpolation { found: "`${` without its `}`".to_owned() });
            return out;
        };
        let inner = &rest[..end];
        rest = &rest[end + 1..];
        let (name, default) = inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
        if !is_name(name) {
            fault(Fault::Interpolation { found: format!("`${{{}}}`", clipped(inner)) });
            continue;
        }
        // As in a shell, an empty variable counts as none where there is a default.
        match (lookup(name), default) {
            (Some(value), None) => out.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
            (_, Some(default)) => out.push_str(default),
            (None, None) => fault(Fault::Variable { name: name.to_owned() }),
        }
    }
    out.push_str(rest);
    out
}

fn is_name(name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(is_word) && name.chars().next().is_some_and(|first| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str, faults: &[&str]) {
        let lookup = |name: &str| match name {
            "HOST" => Some("h1".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".to_owned()),
            _ => None,
        };
        let mut found = Vec::new();
        let replaced = replace(text, &lookup, &mut |fault| found.push(fault.to_string()));
        assert_eq!(replaced, expected, "{text}");
        assert_eq!(found.len(), faults.len(), "{found:?}");
        for (found, part) in found.iter().zip(faults) {
            assert!(found.contains(part), "{found}");
        }
    }

    #[test]
    fn variables_are_replaced() {
        check("a ${HOST}:${PORT:-80} b", "a h1:80 b", &[]);
        check("${HOST:-x}${EMPTY:-d}${EMPTY}${NONE:-}", "h1d", &[]);
    }

    #[test]
    fn the_folder_of_a_scenario_is_that_of_its_file() {
        let none: Lookup<'_> = &|name| (name == "HOST").then(|| "h1".to_owned());
        for (file, folder) in [("a/b/plant.yaml", "a/b"), ("plant.yaml", "."), ("/plant.yaml", "/")] {
            let lookup = beside(Path::new(file), none);
            assert_eq!(lookup("SCENARIO_DIR").as_deref(), Some(folder));
            assert_eq!((lookup("HOST").as_deref(), lookup("NONE")), (Some("h1"), None));
        }
    }

    #[test]
    fn an_escape_stays_a_text() {
        check("$${HOST} $HOST $$ $", "${HOST} $HOST $$ $", &[]);
    }

    #[test]
    fn what_a_variable_holds_is_not_looked_into() {
        check("${NESTED}", "${HOST}", &[]);
    }

    #[test]
    fn mistakes_are_all_said() {
        check("${NONE} ${1X} ${HOST", "  ", &["no variable `NONE`", "`${1X}`", "without its `}`"]);
    }
}
