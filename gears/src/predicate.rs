//! Conditions on a message, as a configuration writes them: one operator on one place, and their combinations.
//! Texts are compared as they stand; only `range` reads them as integers.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use fluxrig_actors::protocol::{FieldPath, FluxMsg, Limits, SmolStr, Value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};

/// Levels of `all`, `any` and `not`; what is deeper, nobody reads.
const DEPTH_MAX: usize = 16;

/// A condition: one place and one operator, or a combination of conditions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Config")]
pub enum Predicate {
    /// What a place must be.
    Leaf {
        /// The place.
        field: Subject,
        /// What about it.
        test: Test,
    },
    /// Every one of these holds.
    All(Vec<Predicate>),
    /// At least one of these holds.
    Any(Vec<Predicate>),
    /// This does not hold.
    Not(Box<Predicate>),
}

/// What a leaf asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// Exactly this text.
    Equals(SmolStr),
    /// A text that begins so.
    Prefix(SmolStr),
    /// An integer between these two, both included. Zeros in front do not count.
    Range {
        /// The least, when there is one.
        from: Option<Integer>,
        /// The most, when there is one.
        to: Option<Integer>,
    },
    /// One of these texts.
    In(Vec<SmolStr>),
    /// Whether anything is there.
    Present(bool),
}

/// The place that a leaf looks at: `data.iso8583.2` is nested, `meta.iso8583.mti` is one flat key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A value in the business fields.
    Data(FieldPath),
    /// A context text.
    Meta(SmolStr),
}

/// An integer of any length, written in digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integer {
    is_negative: bool,
    /// Without zeros in front; empty for zero.
    digits: SmolStr,
}

/// A condition as it is written: exactly one of `all`, `any`, `not`, or `field` with exactly one operator.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Predicate")]
struct Config {
    /// Every condition of the list holds.
    all: Option<Vec<Predicate>>,
    /// At least one condition of the list holds.
    any: Option<Vec<Predicate>>,
    /// The condition does not hold.
    not: Option<Box<Predicate>>,
    /// The place that is looked at, for example `data.iso8583.2` or `meta.iso8583.mti`.
    field: Option<Subject>,
    /// Exactly this text.
    equals: Option<String>,
    /// A text that begins so.
    prefix: Option<String>,
    /// An integer in this range; zeros in front do not count.
    range: Option<RangeConfig>,
    /// One of these texts.
    #[serde(rename = "in")]
    one_of: Option<Vec<String>>,
    /// `true`: anything is there; `false`: nothing is.
    present: Option<bool>,
}

/// Both ends belong to the range; one may be left out.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RangeConfig {
    /// The least.
    #[serde(default)]
    from: Option<String>,
    /// The most.
    #[serde(default)]
    to: Option<String>,
}

/// A condition that cannot be what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PredicateError {
    /// None or several of what must be one.
    #[error(
        "found {}, expected exactly one of {expected}; remedy: nest with `all` or `any`",
        if found.is_empty() { "none" } else { found.as_str() }
    )]
    One {
        /// What is there.
        found: String,
        /// What must be there once.
        expected: &'static str,
    },
    /// A list without conditions or texts: it would always or never hold.
    #[error("`{key}`: found an empty list, expected at least one entry; remedy: add one, or leave the key out")]
    Empty {
        /// The key.
        key: &'static str,
    },
    /// Nested beyond reading.
    #[error("found more than {DEPTH_MAX} levels of `all`, `any` and `not`; remedy: flatten them")]
    Deep,
    /// A range without ends, from high to low, or of something else than integers.
    #[error("`range`: found {found}, expected integers with `from` not above `to`; remedy: correct it")]
    Range {
        /// What is there.
        found: String,
    },
    /// Not a place.
    #[error(
        "`field`: found `{found}`, expected a path that begins with `data.` or `meta.`; remedy: write for example `data.iso8583.2`"
    )]
    Subject {
        /// What is there, cut after 48 characters.
        found: String,
    },
}

impl Predicate {
    /// Whether it holds for a message. Nothing that is not there equals, begins with or is in anything.
    #[must_use]
    pub fn holds(&self, msg: &FluxMsg) -> bool {
        match self {
            Self::Leaf { field, test } => test.holds(field, msg),
            Self::All(parts) => parts.iter().all(|part| part.holds(msg)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(msg)),
            Self::Not(part) => !part.holds(msg),
        }
    }

    fn depth(&self) -> usize {
        match self {
            Self::Leaf { .. } => 1,
            Self::All(parts) | Self::Any(parts) => 1 + parts.iter().map(Self::depth).max().unwrap_or_default(),
            Self::Not(part) => 1 + part.depth(),
        }
    }
}

impl Test {
    fn holds(&self, field: &Subject, msg: &FluxMsg) -> bool {
        if let Self::Present(is_wanted) = self {
            return field.is_present(msg) == *is_wanted;
        }
        let Some(text) = field.text(msg) else { return false };
        match self {
            Self::Equals(expected) => text == expected.as_str(),
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::In(texts) => texts.iter().any(|expected| text == expected.as_str()),
            Self::Range { from, to } => text.parse().is_ok_and(|found: Integer| {
                from.as_ref().is_none_or(|from| found >= *from) && to.as_ref().is_none_or(|to| found <= *to)
            }),
            Self::Present(_) => false,
        }
    }
}

impl Subject {
    fn is_present(&self, msg: &FluxMsg) -> bool {
        match self {
            Self::Data(path) => msg.data.get(path).is_some(),
            Self::Meta(key) => msg.meta.get(key).is_some(),
        }
    }

    /// The text of what stands there; integers and truth values have one, too.
    fn text<'m>(&self, msg: &'m FluxMsg) -> Option<Cow<'m, str>> {
        let value = match self {
            Self::Meta(key) => return msg.meta.get(key).map(Cow::Borrowed),
            Self::Data(path) => msg.data.get(path)?,
        };
        match value {
            Value::Text(text) => Some(Cow::Borrowed(text)),
            Value::Int(int) => Some(Cow::Owned(int.to_string())),
            Value::Bool(is_true) => Some(Cow::Borrowed(if *is_true { "true" } else { "false" })),
            _ => None,
        }
    }
}

impl FromStr for Subject {
    type Err = PredicateError;

    fn from_str(text: &str) -> Result<Self, PredicateError> {
        let wrong = || PredicateError::Subject { found: text.chars().take(48).collect() };
        match text.split_once('.') {
            Some(("data", path)) => path.parse().map(Self::Data).map_err(|_| wrong()),
            Some(("meta", key)) if !key.is_empty() && key.len() <= Limits::MAX.key_bytes => Ok(Self::Meta(key.into())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(path) => write!(f, "data.{path}"),
            Self::Meta(key) => write!(f, "meta.{key}"),
        }
    }
}

impl FromStr for Integer {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
            return Err(());
        }
        let digits = digits.trim_start_matches('0');
        Ok(Self { is_negative: is_negative && !digits.is_empty(), digits: digits.into() })
    }
}

impl Ord for Integer {
    fn cmp(&self, other: &Self) -> Ordering {
        let size = |of: &Self| (of.digits.len(), of.digits.clone());
        match (self.is_negative, other.is_negative) {
            (false, false) => size(self).cmp(&size(other)),
            (true, true) => size(other).cmp(&size(self)),
            (is_negative, _) => {
                if is_negative {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
        }
    }
}

impl PartialOrd for Integer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl TryFrom<Config> for Predicate {
    type Error = PredicateError;

    fn try_from(config: Config) -> Result<Self, PredicateError> {
        let predicate = config.predicate()?;
        if predicate.depth() > DEPTH_MAX { Err(PredicateError::Deep) } else { Ok(predicate) }
    }
}

impl Config {
    fn predicate(self) -> Result<Predicate, PredicateError> {
        let kinds = [
            ("`all`", self.all.is_some()),
            ("`any`", self.any.is_some()),
            ("`not`", self.not.is_some()),
            ("`field`", self.field.is_some()),
        ];
        one(&kinds, "`all`, `any`, `not`, `field`")?;
        let operators = [
            ("`equals`", self.equals.is_some()),
            ("`prefix`", self.prefix.is_some()),
            ("`range`", self.range.is_some()),
            ("`in`", self.one_of.is_some()),
            ("`present`", self.present.is_some()),
        ];
        let Some(field) = self.field else {
            if operators.iter().any(|(_, is_there)| *is_there) {
                let found = "an operator without a place".to_owned();
                return Err(PredicateError::One {
                    found,
                    expected: "`all`, `any`, `not`, or `field` with an operator",
                });
            }
            return match (self.all, self.any, self.not) {
                (Some(parts), ..) if parts.is_empty() => Err(PredicateError::Empty { key: "all" }),
                (_, Some(parts), _) if parts.is_empty() => Err(PredicateError::Empty { key: "any" }),
                (Some(parts), ..) => Ok(Predicate::All(parts)),
                (_, Some(parts), _) => Ok(Predicate::Any(parts)),
                (.., not) => Ok(Predicate::Not(not.expect("one of the four is there"))),
            };
        };
        one(&operators, "`equals`, `prefix`, `range`, `in`, `present`")?;
        let test = match (self.equals, self.prefix, self.range, self.one_of) {
            (Some(text), ..) => Test::Equals(text.into()),
            (_, Some(prefix), ..) => Test::Prefix(prefix.into()),
            (_, _, Some(range), _) => range.test()?,
            (.., Some(texts)) if texts.is_empty() => return Err(PredicateError::Empty { key: "in" }),
            (.., Some(texts)) => Test::In(texts.into_iter().map(SmolStr::from).collect()),
            _ => Test::Present(self.present.unwrap_or(true)),
        };
        Ok(Predicate::Leaf { field, test })
    }
}

impl RangeConfig {
    fn test(self) -> Result<Test, PredicateError> {
        let wrong = |found: &str| PredicateError::Range { found: found.to_owned() };
        let end = |text: Option<String>| match text {
            None => Ok(None),
            Some(text) => text.parse::<Integer>().map(Some).map_err(|()| wrong("an end that is no integer")),
        };
        let (from, to) = (end(self.from)?, end(self.to)?);
        match (&from, &to) {
            (None, None) => Err(wrong("neither `from` nor `to`")),
            (Some(from), Some(to)) if from > to => Err(wrong("`from` above `to`")),
            _ => Ok(Test::Range { from, to }),
        }
    }
}

/// Refuses none and several.
fn one(parts: &[(&str, bool)], expected: &'static str) -> Result<(), PredicateError> {
    let found: Vec<&str> = parts.iter().filter(|(_, is_there)| *is_there).map(|(name, _)| *name).collect();
    if found.len() == 1 { Ok(()) } else { Err(PredicateError::One { found: found.join(" and "), expected }) }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Subject {
    fn schema_name() -> Cow<'static, str> {
        "Subject".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^(data(\.[^.]+)+|meta\..+)$" })
    }
}

impl JsonSchema for Predicate {
    fn schema_name() -> Cow<'static, str> {
        "Predicate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Config::json_schema(generator)
    }
}

#[cfg(test)]
mod tests;
