//! The tree of a scenario's file, read by the reader of YAML that message specifications use, too; and its faults in the
//! words of scenarios.

use fluxrig_gears::yaml::{self, YamlFault};

pub(crate) use fluxrig_gears::yaml::{Content, Entry, Node, Scalar, clipped};
pub use fluxrig_gears::yaml::{DEPTH_MAX, Pos};

use super::problem::{Fault, Problems};

/// Longest scenario, bytes.
pub const BYTES_MAX: usize = 1 << 20;

/// Reads one document whose top is a map. What is wrong goes to `problems`; a tree comes back as far as one could be
/// made.
pub(crate) fn parse(text: &str, problems: &mut Problems) -> Option<Node> {
    yaml::parse(text, BYTES_MAX, &mut |pos, fault| problems.add(pos, "", told(fault, text, pos)))
}

fn told(fault: YamlFault, text: &str, pos: Pos) -> Fault {
    match fault {
        YamlFault::TooLarge { found, limit } => Fault::TooLarge { found, limit },
        YamlFault::TooDeep => Fault::TooDeep { limit: DEPTH_MAX },
        YamlFault::Syntax { found } => Fault::Syntax { found, remedy: remedy(text, pos) },
        YamlFault::Anchor => Fault::Anchor,
        YamlFault::Alias => Fault::Alias,
        YamlFault::Tag => Fault::Tag,
        YamlFault::SecondDocument => Fault::SecondDocument,
        YamlFault::KeyKind => Fault::KeyKind,
        YamlFault::DuplicateKey { key, first_line } => Fault::DuplicateKey { key, first_line },
        YamlFault::NoMap { found } => {
            Fault::Kind { found, expected: "a map with `meta`, `gears` and `wires`".to_owned() }
        }
        other => Fault::Syntax { found: format!("{other:?}"), remedy: remedy(text, pos) },
    }
}

/// Braces of a variable are also braces of YAML, where a map is written in them.
fn remedy(text: &str, pos: Pos) -> &'static str {
    let is_variable = |line: &str| line.contains("${");
    let mut lines = text.lines().skip(pos.line.saturating_sub(2)).take(2);
    match lines.any(is_variable) {
        true => "quote the text that has `${…}` in it: inside `{ }` and `[ ]` its braces are YAML's",
        false => "correct it here, or quote the text",
    }
}

#[cfg(test)]
mod tests;
