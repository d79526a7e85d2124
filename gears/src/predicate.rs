//! Conditions on a message, as a configuration writes them: one field against one operator, and `all`, `any`, `not` of
//! such.
//! A field that is missing, or that is no text, integer or bool, holds for nothing but `present`.

use std::borrow::Cow;
use std::cmp::Ordering;

use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::SmolStr;
use schemars::{Schema, SchemaGenerator};

use crate::map::place::Place;

/// Levels of `all`, `any` and `not`: what is deeper is a mistake, or meant to exhaust the stack.
const DEPTH_MAX: usize = 16;

/// A condition on a message.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Condition")]
pub struct Predicate(Test);

impl JsonSchema for Predicate {
    fn schema_name() -> Cow<'static, str> {
        "Predicate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Condition::json_schema(generator)
    }
}

#[derive(Clone, Debug)]
enum Test {
    Field(Place, Operator),
    All(Vec<Predicate>),
    Any(Vec<Predicate>),
    Not(Box<Predicate>),
}

#[derive(Clone, Debug)]
enum Operator {
    Equals(SmolStr),
    Prefix(SmolStr),
    Range(Range),
    /// Sorted, so that a long list is not walked.
    In(Vec<SmolStr>),
    Present(bool),
}

/// A condition: `field` with exactly one of `equals`, `prefix`, `range`, `in` and `present`; or exactly one of `all`,
/// `any` and `not` alone.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Condition {
    /// The field that is looked at: `data.iso8583.2`, `meta.iso8583.mti`.
    field: Option<Place>,
    /// The field is this text.
    equals: Option<String>,
    /// The field begins with this text.
    prefix: Option<String>,
    /// The field is an integer, and within.
    range: Option<Range>,
    /// The field is one of these texts.
    #[serde(rename = "in")]
    one_of: Option<Vec<String>>,
    /// Whether there is such a field.
    present: Option<bool>,
    /// Every one of these holds.
    all: Option<Vec<Predicate>>,
    /// At least one of these holds.
    any: Option<Vec<Predicate>>,
    /// This one does not hold.
    not: Option<Box<Predicate>>,
}

/// Integers of any length, both ends included; one end may be left out. Leading zeros count for nothing.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Range {
    /// The first integer, in digits.
    from: Option<String>,
    /// The last integer, in digits.
    to: Option<String>,
}

/// A condition that cannot be what it says. Holds keys and counts only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PredicateError {
    /// Nothing is asked, or more than one thing.
    #[error(
        "condition: found {found} of `equals`, `prefix`, `range`, `in`, `present`, `all`, `any`, `not`, expected exactly one; remedy: join several with `all` or `any`"
    )]
    Operators {
        /// How many.
        found: usize,
    },
    /// An operator that needs a field, without one.
    #[error(
        "condition: found `{operator}` without `field`, expected both; remedy: say which field, for example `data.iso8583.2`"
    )]
    NoField {
        /// The operator.
        operator: &'static str,
    },
    /// A field beside what joins conditions.
    #[error(
        "condition: found `field` beside `{operator}`, expected it inside; remedy: move it into a condition of `{operator}`"
    )]
    Field {
        /// The operator.
        operator: &'static str,
    },
    /// A list of nothing.
    #[error("condition: `{operator}` is empty, expected at least one entry; remedy: add one, or remove the condition")]
    Empty {
        /// The operator.
        operator: &'static str,
    },
    /// An end of a range that is not digits, or ends the wrong way round.
    #[error("condition: `range` has `{end}` that {problem}; remedy: write digits, the smaller number in `from`")]
    Range {
        /// Which end.
        end: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Too many levels.
    #[error("condition: found more than {max} levels of `all`, `any` and `not`, expected fewer; remedy: flatten it", max = DEPTH_MAX)]
    Depth,
}

impl TryFrom<Condition> for Predicate {
    type Error = PredicateError;

    fn try_from(raw: Condition) -> Result<Self, PredicateError> {
        let Condition { field, equals, prefix, range, one_of, present, all, any, not } = raw;
        let mut tests = Vec::new();
        let mut ask = |name, operator| tests.push((name, operator));
        let operators = [
            equals.map(|text| ("equals", Operator::Equals(text.into()))),
            prefix.map(|text| ("prefix", Operator::Prefix(text.into()))),
            range.map(|range| ("range", Operator::Range(range))),
            one_of.map(|texts| ("in", Operator::In(texts.into_iter().map(SmolStr::from).collect()))),
            present.map(|is_there| ("present", Operator::Present(is_there))),
        ];
        for (name, operator) in operators.into_iter().flatten() {
            ask(name, Asked::Operator(operator));
        }
        let joined = [all.map(|list| ("all", Test::All(list))), any.map(|list| ("any", Test::Any(list)))];
        for (name, test) in joined.into_iter().flatten() {
            ask(name, Asked::Test(test));
        }
        if let Some(inner) = not {
            ask("not", Asked::Test(Test::Not(inner)));
        }
        let found = tests.len();
        let Some((name, asked)) = tests.pop().filter(|_| found == 1) else {
            return Err(PredicateError::Operators { found });
        };
        let test = match (asked, field) {
            (Asked::Operator(_), None) => return Err(PredicateError::NoField { operator: name }),
            (Asked::Test(_), Some(_)) => return Err(PredicateError::Field { operator: name }),
            (Asked::Operator(operator), Some(field)) => Test::Field(field, operator.checked()?),
            (Asked::Test(test), None) => test,
        };
        let is_empty = matches!(&test, Test::All(list) | Test::Any(list) if list.is_empty());
        let predicate = Self(test);
        match () {
            () if is_empty => Err(PredicateError::Empty { operator: name }),
            () if predicate.depth() > DEPTH_MAX => Err(PredicateError::Depth),
            () => Ok(predicate),
        }
    }
}

/// One of the keys of a condition.
enum Asked {
    Operator(Operator),
    Test(Test),
}

impl Operator {
    fn checked(self) -> Result<Self, PredicateError> {
        match self {
            Self::In(texts) if texts.is_empty() => Err(PredicateError::Empty { operator: "in" }),
            Self::In(mut texts) => {
                texts.sort_unstable();
                Ok(Self::In(texts))
            }
            Self::Prefix(text) if text.is_empty() => Err(PredicateError::Empty { operator: "prefix" }),
            Self::Range(range) => range.checked().map(Self::Range),
            other => Ok(other),
        }
    }

    fn holds(&self, text: &str) -> bool {
        match self {
            Self::Equals(wanted) => text == wanted,
            Self::Prefix(wanted) => text.starts_with(wanted.as_str()),
            Self::Range(range) => range.contains(text),
            Self::In(wanted) => wanted.binary_search_by(|one| one.as_str().cmp(text)).is_ok(),
            Self::Present(is_wanted) => *is_wanted,
        }
    }
}

impl Range {
    fn checked(self) -> Result<Self, PredicateError> {
        if self.from.is_none() && self.to.is_none() {
            return Err(PredicateError::Empty { operator: "range" });
        }
        for (end, text) in [("from", &self.from), ("to", &self.to)] {
            if text.as_deref().is_some_and(|text| !is_integer(text)) {
                return Err(PredicateError::Range { end, problem: "is not made of digits" });
            }
        }
        match (&self.from, &self.to) {
            (Some(from), Some(to)) if by_number(from, to).is_gt() => {
                Err(PredicateError::Range { end: "from", problem: "is above `to`" })
            }
            _ => Ok(self),
        }
    }

    fn contains(&self, text: &str) -> bool {
        is_integer(text)
            && self.from.as_deref().is_none_or(|from| by_number(from, text).is_le())
            && self.to.as_deref().is_none_or(|to| by_number(text, to).is_le())
    }
}

/// Digits, perhaps behind a minus.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Compares digits as the numbers they write, however long: a card number does not fit 64 bits.
fn by_number(a: &str, b: &str) -> Ordering {
    let ((a_is_negative, a), (b_is_negative, b)) = (sign_and_digits(a), sign_and_digits(b));
    match (a_is_negative, b_is_negative) {
        (false, false) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        (true, true) => b.len().cmp(&a.len()).then_with(|| b.cmp(a)),
        (is_negative, _) => {
            if is_negative {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
    }
}

/// Without zeros in front; zero has no sign.
fn sign_and_digits(text: &str) -> (bool, &str) {
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let digits = digits.trim_start_matches('0');
    (is_negative && !digits.is_empty(), digits)
}

impl Predicate {
    /// Whether the condition holds for this message.
    #[must_use]
    pub fn holds(&self, msg: &FluxMsg) -> bool {
        match &self.0 {
            Test::Field(place, Operator::Present(is_wanted)) => is_present(place, msg) == *is_wanted,
            Test::Field(place, operator) => text_at(place, msg).is_some_and(|text| operator.holds(&text)),
            Test::All(list) => list.iter().all(|one| one.holds(msg)),
            Test::Any(list) => list.iter().any(|one| one.holds(msg)),
            Test::Not(inner) => !inner.holds(msg),
        }
    }

    fn depth(&self) -> usize {
        match &self.0 {
            Test::Field(..) => 0,
            Test::All(list) | Test::Any(list) => 1 + list.iter().map(Self::depth).max().unwrap_or(0),
            Test::Not(inner) => 1 + inner.depth(),
        }
    }
}

fn is_present(place: &Place, msg: &FluxMsg) -> bool {
    match place {
        Place::Data(path) => msg.data.get(path).is_some(),
        Place::Meta(key) => msg.meta.get(key).is_some(),
    }
}

/// The text of a field, borrowed where it is one.
fn text_at<'a>(place: &Place, msg: &'a FluxMsg) -> Option<Cow<'a, str>> {
    let value = match place {
        Place::Meta(key) => return msg.meta.get(key).map(Cow::Borrowed),
        Place::Data(path) => msg.data.get(path)?,
    };
    match value {
        Value::Text(text) => Some(Cow::Borrowed(text)),
        Value::Int(int) => Some(Cow::Owned(i128::from(*int).to_string())),
        Value::Bool(is_true) => Some(Cow::Borrowed(if *is_true { "true" } else { "false" })),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
