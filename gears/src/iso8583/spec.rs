//! A message specification in the form the codec reads: one entry per field number, everything decided beforehand.
//! Made by the spec reader only, so what stands here was checked.

use std::fmt;
use std::sync::Arc;

use fluxrig_actors::nearest;
use fluxrig_actors::protocol::SmolStr;

use super::charset::{Kind, Span};
use super::read;
use super::spec_error::SpecErrors;

/// Field numbers go up to here: two bitmaps.
pub(super) const FIELD_MAX: usize = 128;

/// A message specification: how each field stands in the bytes, and what may be in it. A copy costs one increment.
///
/// ```
/// # use fluxrig_gears::iso8583::Spec;
/// let spec = Spec::built_in("iso8583-1987-ascii").expect("it is built in");
/// assert_eq!(spec.field(2).map(|field| field.name()), Some("primary account number"));
/// ```
#[derive(Clone)]
pub struct Spec(Arc<Table>);

pub(super) struct Table {
    pub(super) name: SmolStr,
    pub(super) version: SmolStr,
    pub(super) mti: MtiEncoding,
    pub(super) bitmap: BitmapEncoding,
    /// By number. 0 and 1, which are no fields, stay empty.
    pub(super) fields: Box<[Option<FieldSpec>]>,
    /// Fields that this spec calls sensitive and no spec has to: their numbers, joined by commas.
    pub(super) marked: Option<SmolStr>,
}

/// How the message type stands in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MtiEncoding {
    Ascii,
    Bcd,
}

/// How bitmaps stand in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BitmapEncoding {
    Hex,
    Binary,
}

/// How a field's content stands in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataEncoding {
    Ascii,
    Bcd,
    Hex,
    Binary,
}

/// How long a field is. Units are characters, digits of a number, or bytes of a byte string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Fixed,
    Prefixed(Prefix),
}

/// What stands before a field of variable length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    pub(super) encoding: PrefixEncoding,
    /// On the wire.
    pub(super) bytes: u8,
    pub(super) counts: Counts,
}

/// What a length prefix counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// Units.
    Units,
    /// Bytes of two digits each.
    Pairs,
    /// Hex characters, two for each byte.
    Halves,
}

/// How a length prefix is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PrefixEncoding {
    Ascii,
    Bcd,
    Binary,
}

/// What fills a field up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pad {
    /// Nothing does: a short value is refused.
    None,
    Left(u8),
    Right(u8),
}

/// One field.
pub struct FieldSpec {
    pub(super) number: u8,
    /// The number as the key in `data.iso8583`: static, so that making the key of a field is three stores.
    pub(super) key: &'static str,
    pub(super) name: SmolStr,
    pub(super) kind: Kind,
    /// What its characters usually are: that of the kind.
    pub(super) usual: Span,
    pub(super) length: Length,
    /// Exact for a fixed length, else the most; the sign of `x+n` is counted.
    pub(super) units: usize,
    /// The most that a prefix may claim: a prefix that counts bytes counts the filler, too.
    pub(super) claim_max: usize,
    pub(super) data: DataEncoding,
    pub(super) pad: Pad,
    pub(super) is_sensitive: bool,
}

/// Field numbers as keys.
pub(super) const KEYS: [&str; FIELD_MAX + 1] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "20",
    "21", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31", "32", "33", "34", "35", "36", "37", "38", "39",
    "40", "41", "42", "43", "44", "45", "46", "47", "48", "49", "50", "51", "52", "53", "54", "55", "56", "57", "58",
    "59", "60", "61", "62", "63", "64", "65", "66", "67", "68", "69", "70", "71", "72", "73", "74", "75", "76", "77",
    "78", "79", "80", "81", "82", "83", "84", "85", "86", "87", "88", "89", "90", "91", "92", "93", "94", "95", "96",
    "97", "98", "99", "100", "101", "102", "103", "104", "105", "106", "107", "108", "109", "110", "111", "112", "113",
    "114", "115", "116", "117", "118", "119", "120", "121", "122", "123", "124", "125", "126", "127", "128",
];

/// Names of the specs that are part of the program, with their text.
const BUILT_IN: [(&str, &str); 2] = [
    ("iso8583-1987-ascii", include_str!("../../specs/iso8583-1987-ascii.yaml")),
    ("iso8583-1987-binary", include_str!("../../specs/iso8583-1987-binary.yaml")),
];

impl Spec {
    /// Reads a spec from the text of a YAML file; `file` is what errors call it.
    ///
    /// ```yaml
    /// name: bank            # what listings call it
    /// version: "3"          # tells two versions apart
    /// mti: ascii            # ascii | bcd
    /// bitmap: hex           # hex | binary; a second bitmap is read and written where it is needed
    /// prefix: ascii         # of lengths: ascii | bcd | binary; a field may say otherwise
    /// data: { b: hex }      # of kinds: ascii | bcd (n, z, x+n) | hex, binary (b); a field may say otherwise
    /// fields:
    ///   2: { name: card number, kind: n, length: LL, max: 19, sensitive: true }
    ///   3: { name: processing code, kind: n, length: 6 }
    ///   48: { name: extras, kind: ans, length: LLL, prefix: bcd, counts: bytes }
    ///   52: { name: PIN data, kind: b, length: 8, data: binary }
    /// ```
    ///
    /// A length counts characters, digits, or bytes of kind `b`; that of `x+n` counts the digits behind the sign.
    /// `LL`, `LLL` and `LLLL` stand before the field and count the same, hex characters where bytes are written so;
    /// `counts: bytes` makes them count bytes: of packed digits those on the wire, of hex those it stands for.
    /// `pad` fills up a short value of a fixed length, and the last half byte of packed digits: `left 0` (the default
    /// of numbers), `right space` (of texts), `right F` (of packed tracks) or `none`.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with line and column.
    pub fn read(file: &str, text: &str) -> Result<Self, SpecErrors> {
        read::spec(file, text).map(|table| Self(Arc::new(table)))
    }

    /// A spec by what a configuration says: the name of a built-in one, the path of a file, or the YAML text itself, when
    /// it has several lines.
    ///
    /// # Errors
    /// When there is no such file, or everything that is wrong with what it says.
    pub fn load(spec: &str) -> Result<Self, String> {
        if let Some(spec) = Self::built_in(spec) {
            return Ok(spec);
        }
        if spec.contains('\n') {
            return Self::read("spec", spec).map_err(|errors| errors.to_string());
        }
        let unreadable = |error: &std::io::Error| Self::not_loaded(spec, error);
        let size = std::fs::metadata(spec).map_err(|error| unreadable(&error))?.len();
        if size > read::TEXT_BYTES_MAX as u64 {
            let limit = read::TEXT_BYTES_MAX;
            return Err(format!(
                "`spec`: found {size} bytes in the file `{spec}`, expected at most {limit}; remedy: name the file of a specification"
            ));
        }
        let text = std::fs::read_to_string(spec).map_err(|error| unreadable(&error))?;
        Self::read(spec, &text).map_err(|errors| errors.to_string())
    }

    /// What is said of a name that nothing has, and of a file that cannot be read.
    fn not_loaded(spec: &str, error: &std::io::Error) -> String {
        if error.kind() != std::io::ErrorKind::NotFound {
            let reason = error.kind();
            return format!(
                "`spec`: found `{spec}`, which cannot be read ({reason}), expected a YAML file; remedy: make it readable, or name another"
            );
        }
        let names: Vec<String> = Self::built_in_names().map(|name| format!("`{name}`")).collect();
        let is_path = spec.contains(std::path::is_separator) || std::path::Path::new(spec).extension().is_some();
        let remedy = match nearest(spec, Self::built_in_names()) {
            _ if is_path => "correct the path, which begins where the program was started".to_owned(),
            Some(name) => format!("use `{name}`"),
            None => "use one of these names, or the path of your own file".to_owned(),
        };
        format!(
            "`spec`: found `{spec}`, which is neither built in nor a file, expected {} or a file; remedy: {remedy}",
            names.join(", ")
        )
    }

    /// A spec that is part of the program.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
        Some(Self::read(name, text).expect("the tests read every built-in spec"))
    }

    /// Names of the specs that are part of the program.
    pub fn built_in_names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// The YAML text of a spec that is part of the program, to begin one's own with.
    #[must_use]
    pub fn built_in_text(name: &str) -> Option<&'static str> {
        BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }

    /// What the spec calls itself.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The version it gives itself.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.0.version
    }

    /// The field of a number, if the spec has it.
    #[must_use]
    pub fn field(&self, number: u8) -> Option<&FieldSpec> {
        self.0.field(number)
    }

    /// Every field, by number.
    pub fn fields(&self) -> impl Iterator<Item = &FieldSpec> {
        self.0.fields.iter().flatten()
    }

    /// The fields that only this spec calls sensitive: numbers joined by commas, as `meta` carries them.
    #[must_use]
    pub fn marked(&self) -> Option<&SmolStr> {
        self.0.marked.as_ref()
    }

    pub(super) fn table(&self) -> &Table {
        &self.0
    }
}

impl Table {
    #[inline]
    pub(super) fn field(&self, number: u8) -> Option<&FieldSpec> {
        self.fields.get(usize::from(number))?.as_ref()
    }
}

impl FieldSpec {
    /// Its number, 2 to 128.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.number
    }

    /// What the spec calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it holds.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Most characters, digits or bytes that it holds; the sign of `x+n` is counted.
    #[must_use]
    pub fn units_max(&self) -> usize {
        self.units
    }

    /// Whether it always holds as many.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.length == Length::Fixed
    }

    /// Whether no output may show what it holds.
    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        self.is_sensitive
    }

    /// Whether these are characters that it may hold.
    #[inline(always)]
    pub(super) fn accepts(&self, bytes: &[u8]) -> bool {
        self.usual.holds(bytes) || self.kind.accepts_any(bytes)
    }

    /// Bytes on the wire that so many units take, without the prefix.
    #[inline]
    pub(super) fn wire_bytes(&self, units: usize) -> usize {
        match self.data {
            DataEncoding::Ascii | DataEncoding::Binary => units,
            DataEncoding::Hex => units * 2,
            // The sign is a character, the digits behind it are packed.
            DataEncoding::Bcd if self.kind == Kind::Xn => 1 + units.saturating_sub(1).div_ceil(2),
            DataEncoding::Bcd => units.div_ceil(2),
        }
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spec({} {}, {} fields)", self.0.name, self.0.version, self.fields().count())
    }
}

impl fmt::Debug for FieldSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dots = if self.is_fixed() { "" } else { ".." };
        write!(f, "{} {} ({} {dots}{})", self.number, self.name, self.kind.name(), self.units)
    }
}
