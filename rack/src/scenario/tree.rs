//! YAML text to a tree whose every node knows line and column, and whose every scalar is the text that stands there.
//! The only place that names the YAML parser.
//!
//! It reads the parser's events itself, as `marked-yaml` does, because that crate loads by recursion: one line of half a
//! million `- ` ends the process. It also takes a second document for nothing and stops at the first error.

use std::collections::HashMap;
use std::fmt;

use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::{Marker, TScalarStyle};

use super::problem::{Fault, Problems};

/// Longest scenario, bytes.
pub const BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of maps and lists.
pub const DEPTH_MAX: usize = 32;

/// A place in the file: both count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pos {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl fmt::Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One value of the file, and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) pos: Pos,
    pub(crate) content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// Text as it stands in the file; what it means depends on who reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Written without quotes, so that it may mean a number, a bool or nothing.
    pub(crate) is_plain: bool,
    /// What stood there before `${…}` was replaced. Shown in its place, since a variable may be a secret.
    pub(crate) source: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Scalar,
    pub(crate) key_pos: Pos,
    pub(crate) value: Node,
}

impl Scalar {
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_plain: true, source: None }
    }

    /// Nothing, or one of YAML's words for it.
    pub(crate) fn is_null(&self) -> bool {
        self.is_plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// What stands in the file.
    pub(crate) fn source(&self) -> &str {
        self.source.as_deref().unwrap_or(&self.text)
    }
}

impl Node {
    /// A node that stands nowhere, for printing.
    pub(crate) fn made(content: Content) -> Self {
        Self { pos: Pos::default(), content }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key.text == key).map(|entry| &entry.value)
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Map(entries) => entries,
            Content::Scalar(_) | Content::List(_) => &[],
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(scalar) if !scalar.is_null() => Some(&scalar.text),
            _ => None,
        }
    }

    /// What it is, for an error.
    pub(crate) fn shown(&self) -> String {
        match &self.content {
            Content::Scalar(scalar) if scalar.is_null() && scalar.source.is_none() => "nothing".to_owned(),
            Content::Scalar(scalar) => format!("`{}`", clipped(scalar.source())),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a map".to_owned(),
        }
    }
}

/// The beginning of a text, short enough for a line.
pub(crate) fn clipped(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut clipped: String =
        text.chars().take(CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        clipped.push('…');
    }
    clipped
}

/// Reads one document whose top is a map. What is wrong goes to `problems`; a tree comes back as far as one could be
/// made.
pub(crate) fn parse(text: &str, problems: &mut Problems) -> Option<Node> {
    if text.len() > BYTES_MAX {
        problems.add(Pos { line: 1, column: 1 }, "", Fault::TooLarge { found: text.len(), limit: BYTES_MAX });
        return None;
    }
    let mut loader = Loader { open: Vec::new(), done: None, problems };
    let mut parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    loop {
        match parser.next_token() {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, mark)) => {
                if !loader.take(event, pos_of(&mark)) {
                    return None;
                }
            }
            Err(error) => {
                let pos = pos_of(error.marker());
                let fault = match error.info() {
                    "while parsing node, found unknown anchor" => Fault::Alias,
                    info => Fault::Syntax { found: info.to_owned(), remedy: remedy(text, pos) },
                };
                loader.problems.add(pos, "", fault);
                return None;
            }
        }
    }
    let top = loader.done.take();
    match top {
        Some(Node { content: Content::Map(_), .. }) => top,
        other => {
            let pos = other.as_ref().map_or(Pos { line: 1, column: 1 }, |node| node.pos);
            let found = other.map_or_else(|| "nothing".to_owned(), |node| node.shown());
            problems.add(pos, "", Fault::Kind { found, expected: "a map with `meta`, `gears` and `wires`".to_owned() });
            None
        }
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

fn pos_of(mark: &Marker) -> Pos {
    Pos { line: mark.line().max(1), column: mark.col() + 1 }
}

/// A map or list whose end has not come yet.
enum Open {
    List { pos: Pos, items: Vec<Node> },
    Map { pos: Pos, entries: Vec<Entry>, lines: HashMap<String, usize>, key: Option<(Scalar, Pos)> },
}

struct Loader<'p> {
    open: Vec<Open>,
    done: Option<Node>,
    problems: &'p mut Problems,
}

impl Loader<'_> {
    /// False when there is no use in going on.
    fn take(&mut self, event: Event, pos: Pos) -> bool {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), pos);
                let scalar = Scalar { text, is_plain: matches!(style, TScalarStyle::Plain), source: None };
                self.scalar(scalar, pos);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), pos);
                return self.begin(Open::List { pos, items: Vec::new() }, pos);
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), pos);
                let map = Open::Map { pos, entries: Vec::new(), lines: HashMap::new(), key: None };
                return self.begin(map, pos);
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(_) => {
                self.problems.add(pos, "", Fault::Alias);
                self.scalar(Scalar::plain(""), pos);
            }
            Event::DocumentStart if self.done.is_some() => {
                self.problems.add(pos, "", Fault::SecondDocument);
                return false;
            }
            Event::DocumentStart | Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => {}
        }
        true
    }

    fn refuse_extras(&mut self, anchor: usize, has_tag: bool, pos: Pos) {
        if anchor > 0 {
            self.problems.add(pos, "", Fault::Anchor);
        }
        if has_tag {
            self.problems.add(pos, "", Fault::Tag);
        }
    }

    fn begin(&mut self, open: Open, pos: Pos) -> bool {
        if let Some(Open::Map { key: None, .. }) = self.open.last() {
            self.problems.add(pos, "", Fault::KeyKind);
            return false;
        }
        if self.open.len() == DEPTH_MAX {
            self.problems.add(pos, "", Fault::TooDeep { limit: DEPTH_MAX });
            return false;
        }
        self.open.push(open);
        true
    }

    fn end(&mut self) {
        let node = match self.open.pop() {
            Some(Open::List { pos, items }) => Node { pos, content: Content::List(items) },
            Some(Open::Map { pos, entries, .. }) => {
                // The parser marks a block map behind its first key; people look for it at the key.
                let pos = entries.first().map_or(pos, |first| first.key_pos.min(pos));
                Node { pos, content: Content::Map(entries) }
            }
            None => return,
        };
        self.value(node);
    }

    fn scalar(&mut self, scalar: Scalar, pos: Pos) {
        match self.open.last_mut() {
            Some(Open::Map { key: key @ None, .. }) => *key = Some((scalar, pos)),
            _ => self.value(Node { pos, content: Content::Scalar(scalar) }),
        }
    }

    fn value(&mut self, mut node: Node) {
        match self.open.last_mut() {
            None => self.done = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, lines, key, .. }) => {
                let Some((key, key_pos)) = key.take() else { return };
                // A value that is not there is marked where the next thing begins; the key is nearer.
                if matches!(&node.content, Content::Scalar(scalar) if scalar.text.is_empty() && scalar.is_plain) {
                    node.pos = key_pos;
                }
                match lines.get(&key.text) {
                    Some(&first_line) => {
                        self.problems.add(key_pos, "", Fault::DuplicateKey { key: clipped(&key.text), first_line });
                    }
                    None => {
                        lines.insert(key.text.clone(), key_pos.line);
                        entries.push(Entry { key, key_pos, value: node });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
