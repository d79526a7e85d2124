//! YAML text to a tree whose every node knows line and column, and whose every scalar is the text that stands there.
//! The only place that names the YAML parser. It knows neither scenarios nor message specifications.
//!
//! It reads the parser's events itself, since the loaders above it load by recursion: one line of half a million `- ` ends
//! the process. They also take a second document for nothing and stop at the first error.

use std::collections::HashMap;
use std::fmt;

use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::{Marker, TScalarStyle};

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
pub struct Node {
    /// Where it begins.
    pub pos: Pos,
    /// What it is.
    pub content: Content,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A text.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// Keys and values, each key once, in the order of the file.
    Map(Vec<Entry>),
}

/// Text as it stands in the file; what it means depends on who reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scalar {
    /// The text, without quotes.
    pub text: String,
    /// Written without quotes, so that it may mean a number, a bool or nothing.
    pub is_plain: bool,
    /// What stood there before a reader put something else in its place. Shown instead of it, which may be a secret.
    pub source: Option<String>,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Scalar,
    /// Where the key stands.
    pub key_pos: Pos,
    /// The value.
    pub value: Node,
}

impl Scalar {
    /// A text without quotes.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_plain: true, source: None }
    }

    /// Nothing, or one of YAML's words for it.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.is_plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// What stands in the file.
    #[must_use]
    pub fn source(&self) -> &str {
        self.source.as_deref().unwrap_or(&self.text)
    }
}

impl Node {
    /// A node that stands nowhere, for printing.
    #[must_use]
    pub fn made(content: Content) -> Self {
        Self { pos: Pos::default(), content }
    }

    /// The value of a key, in a map.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key.text == key).map(|entry| &entry.value)
    }

    /// What a map holds; nothing where it is none.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Map(entries) => entries,
            Content::Scalar(_) | Content::List(_) => &[],
        }
    }

    /// Its text, where it is one and not nothing.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(scalar) if !scalar.is_null() => Some(&scalar.text),
            _ => None,
        }
    }

    /// What it is, for an error.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.content {
            Content::Scalar(scalar) if scalar.is_null() && scalar.source.is_none() => "nothing".to_owned(),
            Content::Scalar(scalar) => format!("`{}`", clipped(scalar.source())),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a map".to_owned(),
        }
    }
}

/// The beginning of a text, short enough for a line.
#[must_use]
pub fn clipped(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut clipped: String =
        text.chars().take(CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        clipped.push('…');
    }
    clipped
}

/// What is wrong with a text, or what of YAML is not read here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum YamlFault {
    /// Longer than the reader allows, bytes.
    TooLarge {
        /// How long.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// More than [`DEPTH_MAX`] maps and lists inside each other.
    TooDeep,
    /// No YAML.
    Syntax {
        /// What the parser says.
        found: String,
    },
    /// An anchor.
    Anchor,
    /// An alias.
    Alias,
    /// A tag.
    Tag,
    /// More than one document.
    SecondDocument,
    /// A key that is a map or a list.
    KeyKind,
    /// The same key again.
    DuplicateKey {
        /// The key, cut short.
        key: String,
        /// Where it stood first.
        first_line: usize,
    },
    /// No map at the top.
    NoMap {
        /// What is there.
        found: String,
    },
}

/// Reads one document whose top is a map, of at most `bytes_max`. What is wrong is told to `report`; a tree comes back as
/// far as one could be made.
pub fn parse(text: &str, bytes_max: usize, report: &mut dyn FnMut(Pos, YamlFault)) -> Option<Node> {
    let start = Pos { line: 1, column: 1 };
    if text.len() > bytes_max {
        report(start, YamlFault::TooLarge { found: text.len(), limit: bytes_max });
        return None;
    }
    let mut loader = Loader { open: Vec::new(), done: None, report };
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
                let fault = match error.info() {
                    "while parsing node, found unknown anchor" => YamlFault::Alias,
                    info => YamlFault::Syntax { found: info.to_owned() },
                };
                (loader.report)(pos_of(error.marker()), fault);
                return None;
            }
        }
    }
    let top = loader.done.take();
    match top {
        Some(Node { content: Content::Map(_), .. }) => top,
        other => {
            let pos = other.as_ref().map_or(start, |node| node.pos);
            let found = other.map_or_else(|| "nothing".to_owned(), |node| node.shown());
            report(pos, YamlFault::NoMap { found });
            None
        }
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
    report: &'p mut dyn FnMut(Pos, YamlFault),
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
                (self.report)(pos, YamlFault::Alias);
                self.scalar(Scalar::plain(""), pos);
            }
            Event::DocumentStart if self.done.is_some() => {
                (self.report)(pos, YamlFault::SecondDocument);
                return false;
            }
            Event::DocumentStart | Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => {}
        }
        true
    }

    fn refuse_extras(&mut self, anchor: usize, has_tag: bool, pos: Pos) {
        if anchor > 0 {
            (self.report)(pos, YamlFault::Anchor);
        }
        if has_tag {
            (self.report)(pos, YamlFault::Tag);
        }
    }

    fn begin(&mut self, open: Open, pos: Pos) -> bool {
        if let Some(Open::Map { key: None, .. }) = self.open.last() {
            (self.report)(pos, YamlFault::KeyKind);
            return false;
        }
        if self.open.len() == DEPTH_MAX {
            (self.report)(pos, YamlFault::TooDeep);
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
                        (self.report)(key_pos, YamlFault::DuplicateKey { key: clipped(&key.text), first_line });
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
