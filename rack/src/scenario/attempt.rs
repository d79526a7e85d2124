//! Reads one part of a scenario into a type and finds all its errors, though serde stops at the first: what failed is left
//! out of the next attempt.

use serde::de::DeserializeOwned;

use super::de::{De, DeError, DeKind, Session, Step, root, written};
use super::problem::{Fault, Problems};
use super::tree::Node;

/// Attempts at one part; a part with more mistakes shows so many of them.
const ATTEMPTS_MAX: usize = 32;

/// What came of reading one part.
#[derive(Debug)]
pub(crate) struct Outcome<T> {
    /// The value without what was wrong in it; `None` when it cannot be without.
    pub(crate) value: Option<T>,
    /// All that the type knows was read: what was wrong was superfluous at most.
    pub(crate) is_certain: bool,
}

/// Reads a part into its type.
pub(crate) fn read<T: DeserializeOwned>(node: &Node, path: &str, problems: &mut Problems) -> Option<T> {
    attempt(node, path, "", problems, |de| T::deserialize(de)).value
}

/// Reads a part by any function. `remedy` is what an error without one of its own ends with.
pub(crate) fn attempt<T>(
    node: &Node,
    path: &str,
    remedy: &str,
    problems: &mut Problems,
    mut read: impl FnMut(De<'_>) -> Result<T, DeError>,
) -> Outcome<T> {
    let mut session = Session::default();
    let mut is_certain = true;
    for _ in 0..ATTEMPTS_MAX {
        match root(node, &session, &mut read) {
            Ok(value) => return Outcome { value: Some(value), is_certain },
            Err(_) => {
                let Some(trouble) = session.take_trouble() else { break };
                if !is_follow_up(&trouble.error, &trouble.steps, &session.hidden) {
                    let text = with_remedy(trouble.error.text, remedy);
                    problems.add(trouble.pos, format!("{path}{}", written(&trouble.steps)), Fault::Refused { text });
                }
                is_certain &= trouble.error.kind == DeKind::UnknownKey;
                // Items of a list are not left out alone: the others would be called by wrong numbers.
                let named = trouble.steps.iter().take_while(|step| matches!(step, Step::Key(_))).count();
                let mut left_out = trouble.steps;
                left_out.truncate(named);
                if left_out.is_empty() || session.hidden.contains(&left_out) {
                    break;
                }
                session.hidden.push(left_out);
            }
        }
    }
    Outcome { value: None, is_certain: false }
}

/// Whether an error only says that something is not there which was left out.
fn is_follow_up(error: &DeError, steps: &[Step], hidden: &[Vec<Step>]) -> bool {
    if let DeKind::Missing(field) = error.kind {
        return hidden.contains(&with(steps, field));
    }
    // What a type says of all its keys together names the ones that it misses.
    let is_named = |left_out: &Vec<Step>| match left_out.last() {
        Some(Step::Key(key)) if left_out.len() > steps.len() && left_out.starts_with(steps) => {
            error.kind == DeKind::Other && error.text.contains(&format!("`{key}`"))
        }
        _ => false,
    };
    hidden.iter().any(is_named)
}

fn with(steps: &[Step], field: &str) -> Vec<Step> {
    steps.iter().cloned().chain([Step::Key(field.to_owned())]).collect()
}

fn with_remedy(text: String, remedy: &str) -> String {
    if remedy.is_empty() || text.contains("remedy: ") { text } else { format!("{text}; remedy: {remedy}") }
}
