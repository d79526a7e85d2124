//! How one field of a message specification is read and checked.

use super::{Defaults, Reader, clipped, joined, listed, shape};
use crate::iso8583::charset::Kind;
use crate::iso8583::privacy::ALWAYS_SENSITIVE;
use crate::iso8583::spec::{Counts, DataEncoding, FieldSpec, KEYS as FIELD_KEYS, Length, Pad, Prefix, PrefixEncoding};
use crate::iso8583::spec_error::SpecFault;
use crate::yaml::Node;

pub(super) const PREFIXES: [(&str, PrefixEncoding); 3] =
    [("ascii", PrefixEncoding::Ascii), ("bcd", PrefixEncoding::Bcd), ("binary", PrefixEncoding::Binary)];
pub(super) const ENCODINGS: [(&str, DataEncoding); 4] = [
    ("ascii", DataEncoding::Ascii),
    ("bcd", DataEncoding::Bcd),
    ("hex", DataEncoding::Hex),
    ("binary", DataEncoding::Binary),
];

const KEYS: [&str; 9] = ["name", "kind", "length", "max", "prefix", "counts", "data", "pad", "sensitive"];
const LATER: [(&str, &str, &str); 4] = [
    ("fields", "fields inside a field", "take the field apart in a gear behind the codec"),
    ("tlv", "tagged data inside a field", "take the field apart in a gear behind the codec"),
    ("format", "rules for a field's content", "check it in a gear behind the codec"),
    ("required", "rules across fields", "check them in a gear behind the codec"),
];

/// Characters, digits or bytes of one field; what a prefix of four digits can say.
const UNITS_MAX: usize = 9999;

impl Reader<'_> {
    pub(super) fn field(&mut self, number: u8, node: &Node, defaults: &Defaults) -> Option<FieldSpec> {
        let path = format!("fields.{number}");
        let map = self.map(&path, node)?;
        self.only(map, &KEYS, &LATER);
        let name = self.required(map, &path, "name", "what the field is called");
        let kind = self.choice_at(map, &path, "kind", &Kind::NAMES)?;
        let data = self.data(map, &path, kind, defaults)?;
        let (length, units) = self.length(map, &path, (kind, data), defaults)?;
        let pad = self.pad(map, &path, (kind, data))?;
        let sensitive = match map.get("sensitive") {
            Some(_) => self.choice_at(map, &path, "sensitive", &[("true", true), ("false", false)])?,
            None => false,
        };
        Some(FieldSpec {
            number,
            key: FIELD_KEYS[usize::from(number)],
            name: name?.into(),
            kind,
            usual: kind.usual(),
            length,
            units,
            claim_max: match length {
                Length::Prefixed(Prefix { counts: Counts::Pairs, .. }) => units.next_multiple_of(2),
                _ => units,
            },
            data,
            pad,
            is_sensitive: sensitive || ALWAYS_SENSITIVE.contains(&number),
        })
    }

    fn data(&mut self, map: &Node, path: &str, kind: Kind, defaults: &Defaults) -> Option<DataEncoding> {
        let (encoding, pos) = match map.get("data") {
            Some(node) => (self.choice_at(map, path, "data", &ENCODINGS)?, node.pos),
            None => {
                let of_kind = defaults.data.iter().find(|(name, _)| name == kind.name());
                let plain = if kind == Kind::B { DataEncoding::Binary } else { DataEncoding::Ascii };
                (of_kind.map_or(plain, |(_, encoding)| *encoding), map.pos)
            }
        };
        let allowed: &[&str] = match kind {
            Kind::B => &["hex", "binary"],
            Kind::N | Kind::Z | Kind::Xn => &["ascii", "bcd"],
            _ => &["ascii"],
        };
        let name = ENCODINGS.iter().find(|(_, known)| *known == encoding).map_or("", |(name, _)| name);
        if allowed.contains(&name) {
            return Some(encoding);
        }
        let (found, expected) = (format!("`{name}` for kind `{}`", kind.name()), listed(allowed));
        let remedy = "use another encoding, or another kind";
        self.fault(pos, SpecFault::Value { path: joined(path, "data"), found, expected, remedy });
        None
    }

    fn length(
        &mut self,
        map: &Node,
        path: &str,
        (kind, data): (Kind, DataEncoding),
        defaults: &Defaults,
    ) -> Option<(Length, usize)> {
        const EXPECTED: &str = "a number of characters, digits or bytes, or `LL`, `LLL` or `LLLL`";
        let text = self.required(map, path, "length", EXPECTED)?;
        let digits = ["LL", "LLL", "LLLL"].iter().position(|word| *word == text);
        let Some(digits) = digits.map(|idx| idx + 2) else {
            let units = self.units(map, path, "length", EXPECTED)?;
            for key in ["max", "prefix", "counts"] {
                self.refuse(map, path, key, "a key of fields with a length prefix", "remove it, or write `length: LL`");
            }
            // The sign stands before as many digits as the standard says.
            return Some((Length::Fixed, if kind == Kind::Xn { units + 1 } else { units }));
        };
        if kind == Kind::Xn {
            self.refuse(map, path, "length", "a length prefix for kind `x+n`", "write the number of digits");
            return None;
        }
        let encoding = match map.get("prefix") {
            Some(_) => self.choice_at(map, path, "prefix", &PREFIXES)?,
            None => defaults.prefix,
        };
        let of_bytes = match map.get("counts") {
            Some(_) => self.choice_at(map, path, "counts", &[("characters", false), ("bytes", true)])?,
            None => false,
        };
        let counts = match data {
            DataEncoding::Bcd if of_bytes => Counts::Pairs,
            DataEncoding::Hex if !of_bytes => Counts::Halves,
            _ => Counts::Units,
        };
        let (bytes, counted) = match encoding {
            PrefixEncoding::Ascii => (digits, 10_usize.pow(digits as u32) - 1),
            PrefixEncoding::Bcd => (digits.div_ceil(2), 10_usize.pow(digits as u32) - 1),
            PrefixEncoding::Binary => (digits.div_ceil(2), if digits == 2 { 255 } else { UNITS_MAX }),
        };
        let most = match counts {
            Counts::Units => counted,
            Counts::Pairs => counted * 2,
            Counts::Halves => counted / 2,
        };
        let prefix = Prefix { encoding, bytes: bytes as u8, counts };
        let units = match map.get("max") {
            None => most,
            Some(node) => {
                let expected = format!("a number from 1 to {most}, which is what the prefix can say");
                let units = self.units(map, path, "max", &expected)?;
                if units > most {
                    let (path, found) = (joined(path, "max"), units.to_string());
                    let remedy = "lower it, or take a longer prefix";
                    self.fault(node.pos, SpecFault::Value { path, found, expected, remedy });
                }
                units
            }
        };
        Some((Length::Prefixed(prefix), units))
    }

    /// A number of units.
    fn units(&mut self, map: &Node, path: &str, key: &'static str, expected: &str) -> Option<usize> {
        let node = map.get(key)?;
        let text = self.scalar(&joined(path, key), node, expected)?;
        let units = text.parse().ok().filter(|units| (1..=UNITS_MAX).contains(units));
        if units.is_none() {
            let (path, found) = (joined(path, key), shape(node));
            let (expected, remedy) = (expected.to_owned(), "write one of 1 to 9999");
            self.fault(node.pos, SpecFault::Value { path, found, expected, remedy });
        }
        units
    }

    fn refuse(&mut self, map: &Node, path: &str, key: &'static str, found: &'static str, remedy: &'static str) {
        if let Some(node) = map.get(key) {
            let (path, found, expected) = (joined(path, key), found.to_owned(), "a fixed length without it".to_owned());
            self.fault(node.pos, SpecFault::Value { path, found, expected, remedy });
        }
    }

    fn pad(&mut self, map: &Node, path: &str, (kind, data): (Kind, DataEncoding)) -> Option<Pad> {
        let default = match kind {
            Kind::N | Kind::Xn => Pad::Left(b'0'),
            Kind::Z if data == DataEncoding::Bcd => Pad::Right(b'F'),
            Kind::Z | Kind::B => Pad::None,
            _ => Pad::Right(b' '),
        };
        let Some(node) = map.get("pad") else { return Some(default) };
        let path = joined(path, "pad");
        let expected = "`left` or `right`, and one character that the kind has, for example `left 0`";
        let text = self.scalar(&path, node, expected)?;
        let pad = match text.split_once(' ') {
            None if text == "none" && data != DataEncoding::Bcd => return Some(Pad::None),
            Some((side @ ("left" | "right"), with)) => {
                let with = if with == "space" { " " } else { with };
                match *with.as_bytes() {
                    [with] if fills(kind, data, with) => {
                        Some(if side == "left" { Pad::Left(with) } else { Pad::Right(with) })
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        if pad.is_none() {
            let found = format!("`{}`", clipped(text));
            let remedy = "write `left 0`, `right 0`, `right F` (packed digits), `right space` or `none`";
            let expected = expected.to_owned();
            self.fault(node.pos, SpecFault::Value { path, found, expected, remedy });
        }
        pad
    }
}

/// Whether a field can be filled with this character.
fn fills(kind: Kind, data: DataEncoding, with: u8) -> bool {
    match (kind, data) {
        (Kind::B | Kind::Xn, _) => with == b'0' && kind == Kind::Xn,
        (_, DataEncoding::Bcd) => with.is_ascii_digit() || with == b'F',
        _ => kind.accepts(&[with]),
    }
}
