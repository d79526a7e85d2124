//! The reader of message specifications: YAML to the checked table, with the place of every mistake.
//! The only file of `gears` that names the YAML parser.

mod field;

use fluxrig_actors::nearest;
use marked_yaml::types::{MarkedMappingNode, MarkedScalarNode};
use marked_yaml::{LoadError, LoaderOptions, Marker, Node, Span};

use super::privacy::ALWAYS_SENSITIVE;
use super::spec::{BitmapEncoding, DataEncoding, FIELD_MAX, MtiEncoding, PrefixEncoding, Table};
use super::spec_error::{SpecError, SpecErrors, SpecFault};

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
        let top = Marker::new(0, 0, 1, 1);
        if text.len() > TEXT_BYTES_MAX {
            let found = format!("{} bytes", text.len());
            let expected = format!("at most {TEXT_BYTES_MAX} bytes");
            let remedy = "name the file of a message specification";
            self.fault_at(top, SpecFault::Value { path: "spec".into(), found, expected, remedy });
            return None;
        }
        let options = LoaderOptions::default().error_on_duplicate_keys(true);
        let error = match marked_yaml::parse_yaml_with_options(0, text, options) {
            Ok(node) => return Some(node),
            Err(error) => error,
        };
        let (at, reason) = match &error {
            LoadError::TopLevelMustBeMapping(at) => (*at, "no map at the top".to_owned()),
            LoadError::TopLevelMustBeSequence(at) => (*at, "no list at the top".to_owned()),
            LoadError::UnexpectedAnchor(at) => (*at, "an anchor".to_owned()),
            LoadError::MappingKeyMustBeScalar(at) => (*at, "a key that is no word".to_owned()),
            LoadError::UnexpectedTag(at) => (*at, "a tag".to_owned()),
            LoadError::ScanError(at, error) => (*at, error.info().to_owned()),
            LoadError::DuplicateKey(keys) => {
                let at = keys.key.span().start().copied().unwrap_or(top);
                (at, format!("key `{}` twice", keys.key.as_str()))
            }
        };
        self.fault_at(at, SpecFault::Yaml { reason });
        None
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
        let prefix = match root.get_node("prefix") {
            Some(_) => self.choice(root, "prefix", &field::PREFIXES),
            None => Some(PrefixEncoding::Ascii),
        };
        let data = self.kinds(root);
        let mut fields: Vec<_> = (0..=FIELD_MAX).map(|_| None).collect();
        match root.get_node("fields") {
            None => self.missing(root, "spec", "fields", "a map of field numbers"),
            Some(node) => {
                let defaults = Defaults { prefix: prefix.unwrap_or(PrefixEncoding::Ascii), data };
                for (key, node) in self.map("fields", node)?.iter() {
                    if let Some(number) = self.number(key) {
                        fields[usize::from(number)] = self.field(number, node, &defaults);
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
    fn kinds(&mut self, root: &MarkedMappingNode) -> Vec<(String, DataEncoding)> {
        let mut found = Vec::new();
        let Some(node) = root.get_node("data") else { return found };
        let Some(map) = self.map("data", node) else { return found };
        let known: Vec<&str> = super::charset::Kind::NAMES.iter().map(|(name, _)| *name).collect();
        self.only(map, &known, &[]);
        for kind in known {
            if map.get_node(kind).is_some()
                && let Some(encoding) = self.choice_at(map, "data", kind, &field::ENCODINGS)
            {
                found.push((kind.to_owned(), encoding));
            }
        }
        found
    }

    fn number(&mut self, key: &MarkedScalarNode) -> Option<u8> {
        let text = key.as_str();
        let number = text.parse::<u8>().ok().filter(|number| number.to_string() == text);
        let number = number.filter(|number| (2..=FIELD_MAX).contains(&usize::from(*number)) && *number != 65);
        if number.is_none() {
            let found = format!("field `{}`", clipped(text));
            let expected = "a number from 2 to 128, without 65".to_owned();
            let remedy = "remove it: 1 and 65 are bits of bitmaps, and there is no third bitmap yet";
            self.fault(key.span(), SpecFault::Value { path: "fields".into(), found, expected, remedy });
        }
        number
    }

    // Parts of a map.

    fn map<'n>(&mut self, path: &str, node: &'n Node) -> Option<&'n MarkedMappingNode> {
        if let Node::Mapping(map) = node {
            return Some(map);
        }
        let (found, expected) = (shape(node), "a map".to_owned());
        self.fault(
            node.span(),
            SpecFault::Value { path: path.into(), found, expected, remedy: "write keys and values" },
        );
        None
    }

    fn scalar<'n>(&mut self, path: &str, node: &'n Node, expected: &str) -> Option<&'n str> {
        if let Node::Scalar(scalar) = node {
            return Some(scalar.as_str());
        }
        let (found, expected) = (shape(node), expected.to_owned());
        self.fault(node.span(), SpecFault::Value { path: path.into(), found, expected, remedy: "write one word" });
        None
    }

    fn required(&mut self, map: &MarkedMappingNode, path: &str, key: &'static str, what: &str) -> Option<String> {
        let Some(node) = map.get_node(key) else {
            self.missing(map, path, key, what);
            return None;
        };
        let text = self.scalar(&joined(path, key), node, what)?;
        if text.is_empty() {
            let (path, found) = (joined(path, key), "an empty text".to_owned());
            self.fault(node.span(), SpecFault::Value { path, found, expected: what.into(), remedy: "write one" });
            return None;
        }
        Some(text.to_owned())
    }

    fn choice<T: Copy>(&mut self, map: &MarkedMappingNode, key: &'static str, known: &[(&str, T)]) -> Option<T> {
        self.choice_at(map, "spec", key, known)
    }

    /// One word of a list.
    fn choice_at<T: Copy>(
        &mut self,
        map: &MarkedMappingNode,
        path: &str,
        key: &'static str,
        known: &[(&str, T)],
    ) -> Option<T> {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let expected = listed(&names);
        let Some(node) = map.get_node(key) else {
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
            self.fault(node.span(), SpecFault::NotYet { found: text.into(), what, remedy });
            return None;
        }
        let found = format!("`{}`", clipped(text));
        self.fault(node.span(), SpecFault::Value { path, found, expected, remedy: "use one of them" });
        None
    }

    /// Refuses keys that are not known.
    fn only(&mut self, map: &MarkedMappingNode, known: &[&'static str], later: &[(&str, &'static str, &'static str)]) {
        for key in map.keys() {
            let name = key.as_str();
            if let Some((_, what, remedy)) = later.iter().find(|(word, ..)| *word == name) {
                self.fault(key.span(), SpecFault::NotYet { found: name.into(), what, remedy });
            } else if !known.contains(&name) {
                let remedy = nearest(name, known.iter().copied())
                    .map_or_else(|| "remove it".to_owned(), |near| format!("use `{near}`, or remove it"));
                let (key_name, known) = (clipped(name), listed(known));
                self.fault(key.span(), SpecFault::UnknownKey { key: key_name, known, remedy });
            }
        }
    }

    fn missing(&mut self, map: &MarkedMappingNode, path: &str, key: &'static str, expected: &str) {
        let (path, expected) = (path.to_owned(), expected.to_owned());
        self.fault(map.span(), SpecFault::Missing { path, key, expected });
    }

    fn fault(&mut self, span: &Span, fault: SpecFault) {
        let at = span.start().copied().unwrap_or(Marker::new(0, 0, 1, 1));
        self.fault_at(at, fault);
    }

    fn fault_at(&mut self, at: Marker, fault: SpecFault) {
        // A file of mistakes only need not be told to its end.
        const ERRORS_MAX: usize = 100;
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(SpecError { file: self.file.to_owned(), line: at.line(), column: at.column(), fault });
        }
    }
}

fn shape(node: &Node) -> String {
    match node {
        Node::Scalar(scalar) => format!("`{}`", clipped(scalar.as_str())),
        Node::Mapping(_) => "a map".into(),
        Node::Sequence(_) => "a list".into(),
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
