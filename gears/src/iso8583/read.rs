//! The reader of message specifications: the tree of a YAML file to the checked table, with the place of every mistake.

mod field;

use fluxrig_actors::nearest;

use super::privacy::ALWAYS_SENSITIVE;
use super::spec::{BitmapEncoding, DataEncoding, FIELD_MAX, MtiEncoding, PrefixEncoding, Table};
use super::spec_error::{SpecError, SpecErrors, SpecFault};
use crate::yaml::{self, Content, DEPTH_MAX, Entry, Node, Pos, YamlFault};

/// A spec is a few kibibytes; what is larger is another file.
pub(crate) const TEXT_BYTES_MAX: usize = 1 << 20;

/// Keys of the file, and those that a later version will know.
const KEYS: [&str; 7] = ["name", "version", "mti", "bitmap", "prefix", "data", "fields"];
const LATER: [(&str, &str, &str); 5] = [
    ("extends", "a spec that changes another", "copy the other spec, and change the copy"),
    ("header", "a header before the message type", "let the endpoint that reads the connection take it off"),
    ("tpdu", "a header before the message type", "let the endpoint that reads the connection take it off"),
    ("validation", "rules across fields", "check them in a gear behind the codec"),
    ("bitmaps", "a third bitmap", "leave it out: the first and the second are always read"),
];

/// Reads the text of a whole file.
pub(super) fn spec(file: &str, text: &str) -> Result<Table, SpecErrors> {
    let mut reader = Reader { file, errors: Vec::new() };
    let root = reader.load(text);
    let table = root.and_then(|root| reader.table(&root));
    reader.errors.sort_by_key(|error| (error.line, error.column));
    match table {
        Some(table) if reader.errors.is_empty() => Ok(table),
        _ => Err(SpecErrors(reader.errors)),
    }
}

struct Reader<'a> {
    file: &'a str,
    errors: Vec<SpecError>,
}

/// What a field has that does not say otherwise.
struct Defaults {
    prefix: PrefixEncoding,
    /// By the name of the kind.
    data: Vec<(String, DataEncoding)>,
}

impl Reader<'_> {
    fn load(&mut self, text: &str) -> Option<Node> {
        yaml::parse(text, TEXT_BYTES_MAX, &mut |at, fault| {
            let reason = match fault {
                YamlFault::TooLarge { found, limit } => {
                    let (found, expected) = (format!("{found} bytes"), format!("at most {limit} bytes"));
                    let remedy = "name the file of a message specification";
                    return self.fault(at, SpecFault::Value { path: "spec".into(), found, expected, remedy });
                }
                YamlFault::TooDeep => format!("more than {DEPTH_MAX} maps and lists inside each other"),
                YamlFault::Syntax { found } => found,
                YamlFault::Anchor => "an anchor".to_owned(),
                YamlFault::Alias => "an alias".to_owned(),
                YamlFault::Tag => "a tag".to_owned(),
                YamlFault::SecondDocument => "a second document".to_owned(),
                YamlFault::KeyKind => "a key that is no word".to_owned(),
                YamlFault::DuplicateKey { key, .. } => format!("key `{key}` twice"),
                YamlFault::NoMap { .. } => "no map at the top".to_owned(),
            };
            self.fault(at, SpecFault::Yaml { reason });
        })
    }

    fn table(&mut self, root: &Node) -> Option<Table> {
        let root = self.map("spec", root)?;
        self.only(root, &KEYS, &LATER);
        let name = self.required(root, "spec", "name", "what the spec is called");
        let version = self.required(root, "spec", "version", "a text that tells two versions apart");
        let mti = [("ascii", MtiEncoding::Ascii), ("bcd", MtiEncoding::Bcd)];
        let mti = self.choice(root, "mti", &mti);
        let bitmap = [("hex", BitmapEncoding::Hex), ("binary", BitmapEncoding::Binary)];
        let bitmap = self.choice(root, "bitmap", &bitmap);
        let prefix = match root.get("prefix") {
            Some(_) => self.choice(root, "prefix", &field::PREFIXES),
            None => Some(PrefixEncoding::Ascii),
        };
        let data = self.kinds(root);
        let mut fields: Vec<_> = (0..=FIELD_MAX).map(|_| None).collect();
        match root.get("fields") {
            None => self.missing(root, "spec", "fields", "a map of field numbers"),
            Some(node) => {
                let defaults = Defaults { prefix: prefix.unwrap_or(PrefixEncoding::Ascii), data };
                for entry in self.map("fields", node)?.entries() {
                    if let Some(number) = self.number(entry) {
                        fields[usize::from(number)] = self.field(number, &entry.value, &defaults);
                    }
                }
            }
        }
        let marked = fields.iter().flatten().filter(|field| field.is_sensitive);
        let marked = marked.map(|field| field.number).filter(|number| !ALWAYS_SENSITIVE.contains(number));
        let marked: Vec<String> = marked.map(|number| number.to_string()).collect();
        Some(Table {
            name: name?.into(),
            version: version?.into(),
            mti: mti?,
            bitmap: bitmap?,
            fields: fields.into_boxed_slice(),
            marked: (!marked.is_empty()).then(|| marked.join(",").into()),
        })
    }

    /// Encodings of whole kinds.
    fn kinds(&mut self, root: &Node) -> Vec<(String, DataEncoding)> {
        let mut found = Vec::new();
        let Some(node) = root.get("data") else { return found };
        let Some(map) = self.map("data", node) else { return found };
        let known: Vec<&str> = super::charset::Kind::NAMES.iter().map(|(name, _)| *name).collect();
        self.only(map, &known, &[]);
        for kind in known {
            if map.get(kind).is_some()
                && let Some(encoding) = self.choice_at(map, "data", kind, &field::ENCODINGS)
            {
                found.push((kind.to_owned(), encoding));
            }
        }
        found
    }

    fn number(&mut self, key: &Entry) -> Option<u8> {
        let text = key.key.text.as_str();
        let number = text.parse::<u8>().ok().filter(|number| number.to_string() == text);
        let number = number.filter(|number| (2..=FIELD_MAX).contains(&usize::from(*number)) && *number != 65);
        if number.is_none() {
            let found = format!("field `{}`", clipped(text));
            let expected = "a number from 2 to 128, without 65".to_owned();
            let remedy = "remove it: 1 and 65 are bits of bitmaps, and there is no third bitmap yet";
            self.fault(key.key_pos, SpecFault::Value { path: "fields".into(), found, expected, remedy });
        }
        number
    }

    // Parts of a map.

    fn map<'n>(&mut self, path: &str, node: &'n Node) -> Option<&'n Node> {
        if matches!(node.content, Content::Map(_)) {
            return Some(node);
        }
        let (found, expected) = (shape(node), "a map".to_owned());
        self.fault(node.pos, SpecFault::Value { path: path.into(), found, expected, remedy: "write keys and values" });
        None
    }

    fn scalar<'n>(&mut self, path: &str, node: &'n Node, expected: &str) -> Option<&'n str> {
        if let Content::Scalar(scalar) = &node.content {
            return Some(&scalar.text);
        }
        let (found, expected) = (shape(node), expected.to_owned());
        self.fault(node.pos, SpecFault::Value { path: path.into(), found, expected, remedy: "write one word" });
        None
    }

    fn required(&mut self, map: &Node, path: &str, key: &'static str, what: &str) -> Option<String> {
        let Some(node) = map.get(key) else {
            self.missing(map, path, key, what);
            return None;
        };
        let text = self.scalar(&joined(path, key), node, what)?;
        if text.is_empty() {
            let (path, found) = (joined(path, key), "an empty text".to_owned());
            self.fault(node.pos, SpecFault::Value { path, found, expected: what.into(), remedy: "write one" });
            return None;
        }
        Some(text.to_owned())
    }

    fn choice<T: Copy>(&mut self, map: &Node, key: &'static str, known: &[(&str, T)]) -> Option<T> {
        self.choice_at(map, "spec", key, known)
    }

    /// One word of a list.
    fn choice_at<T: Copy>(&mut self, map: &Node, path: &str, key: &'static str, known: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let expected = listed(&names);
        let Some(node) = map.get(key) else {
            self.missing(map, path, key, &expected);
            return None;
        };
        let path = joined(path, key);
        let text = self.scalar(&path, node, &expected)?;
        if let Some((_, choice)) = known.iter().find(|(name, _)| *name == text) {
            return Some(*choice);
        }
        if text == "ebcdic" || text == "ber_tlv" {
            let (what, remedy) = ("an encoding of a later version", "translate before the codec");
            self.fault(node.pos, SpecFault::NotYet { found: text.into(), what, remedy });
            return None;
        }
        let found = format!("`{}`", clipped(text));
        self.fault(node.pos, SpecFault::Value { path, found, expected, remedy: "use one of them" });
        None
    }

    /// Refuses keys that are not known.
    fn only(&mut self, map: &Node, known: &[&'static str], later: &[(&str, &'static str, &'static str)]) {
        for Entry { key, key_pos, .. } in map.entries() {
            let name = key.text.as_str();
            if let Some((_, what, remedy)) = later.iter().find(|(word, ..)| *word == name) {
                self.fault(*key_pos, SpecFault::NotYet { found: name.into(), what, remedy });
            } else if !known.contains(&name) {
                let remedy = nearest(name, known.iter().copied())
                    .map_or_else(|| "remove it".to_owned(), |near| format!("use `{near}`, or remove it"));
                let (key_name, known) = (clipped(name), listed(known));
                self.fault(*key_pos, SpecFault::UnknownKey { key: key_name, known, remedy });
            }
        }
    }

    fn missing(&mut self, map: &Node, path: &str, key: &'static str, expected: &str) {
        let (path, expected) = (path.to_owned(), expected.to_owned());
        self.fault(map.pos, SpecFault::Missing { path, key, expected });
    }

    fn fault(&mut self, at: Pos, fault: SpecFault) {
        // A file of mistakes only need not be told to its end.
        const ERRORS_MAX: usize = 100;
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(SpecError { file: self.file.to_owned(), line: at.line, column: at.column, fault });
        }
    }
}

fn shape(node: &Node) -> String {
    match &node.content {
        Content::Scalar(scalar) => format!("`{}`", clipped(&scalar.text)),
        Content::Map(_) => "a map".into(),
        Content::List(_) => "a list".into(),
    }
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn joined(path: &str, key: &str) -> String {
    if path == "spec" { key.to_owned() } else { format!("{path}.{key}") }
}

fn clipped(text: &str) -> String {
    text.chars().take(48).collect()
}

#[cfg(test)]
mod tests;
