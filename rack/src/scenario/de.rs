//! A serde deserializer over the tree: text becomes a number or a bool only where the type asks for one.
//! Every error is noted with the place of the innermost value it speaks of, before serde turns it into mere text.

use std::cell::RefCell;
use std::fmt;

use fluxrig_actors::nearest;
use serde::de::{self, Deserializer, Visitor};

use self::access::{Entries, Items, Variant};
use super::tree::{Content, Node, Pos, Scalar, clipped};

/// One step from a value to a value inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Idx(usize),
}

/// Steps as they are written: `.framing.length`, `[3].from`.
pub(crate) fn written(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Key(key) => path.push_str(&format!(".{}", clipped(key))),
            Step::Idx(idx) => path.push_str(&format!("[{idx}]")),
        }
    }
    path
}

/// What went wrong first, and where.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) steps: Vec<Step>,
    pub(crate) pos: Pos,
    pub(crate) error: DeError,
}

/// One attempt to read a value: what is left out, where it is, what went wrong.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// Paths that are as if they were not there, since an earlier attempt failed at them.
    pub(crate) hidden: Vec<Vec<Step>>,
    steps: RefCell<Vec<Step>>,
    trouble: RefCell<Option<Trouble>>,
}

impl Session {
    /// Ready for another attempt; what is hidden stays so.
    pub(crate) fn take_trouble(&mut self) -> Option<Trouble> {
        self.steps.get_mut().clear();
        self.trouble.get_mut().take()
    }

    fn is_hidden(&self, key: &str) -> bool {
        let steps = self.steps.borrow();
        self.hidden.iter().any(|hidden| match hidden.split_last() {
            Some((Step::Key(last), before)) => last == key && before == *steps,
            _ => false,
        })
    }

    /// Runs `read` one step further in. The first error of all is kept.
    fn at<T>(
        &self,
        step: Step,
        node: &Node,
        pos: Pos,
        read: impl FnOnce() -> Result<T, DeError>,
    ) -> Result<T, DeError> {
        self.steps.borrow_mut().push(step);
        let result = read();
        if let Err(error) = &result {
            self.note(node, pos, error);
        }
        self.steps.borrow_mut().pop();
        result
    }

    fn note(&self, node: &Node, pos: Pos, error: &DeError) {
        let mut trouble = self.trouble.borrow_mut();
        if trouble.is_none() {
            let error = DeError { text: masked(node, &error.text), ..error.clone() };
            *trouble = Some(Trouble { steps: self.steps.borrow().clone(), pos, error });
        }
    }
}

/// A text without what came out of variables.
pub(crate) fn masked(node: &Node, text: &str) -> String {
    match &node.content {
        Content::Scalar(Scalar { text: value, source: Some(source), .. }) if !value.is_empty() => {
            text.replace(value.as_str(), source)
        }
        Content::Scalar(_) => text.to_owned(),
        Content::List(items) => items.iter().fold(text.to_owned(), |text, item| masked(item, &text)),
        Content::Map(entries) => entries.iter().fold(text.to_owned(), |text, entry| masked(&entry.value, &text)),
    }
}

/// What a type says of a value, with what kind of mistake it is.
#[derive(Clone, Debug)]
pub(crate) struct DeError {
    pub(crate) text: String,
    pub(crate) kind: DeKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeKind {
    Other,
    /// A key that the type does not know: without it all is well.
    UnknownKey,
    /// A key that the type needs.
    Missing(&'static str),
}

impl DeError {
    fn other(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: DeKind::Other }
    }
}

impl fmt::Display for DeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for DeError {}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn use_one_of(found: &str, names: &'static [&'static str]) -> String {
    nearest(found, names.iter().copied()).map_or_else(|| "use one of these".to_owned(), |name| format!("use `{name}`"))
}

impl de::Error for DeError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::other(text.to_string())
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            de::Unexpected::Str(text) => format!("`{}`", clipped(text)),
            de::Unexpected::Unsigned(number) => format!("`{number}`"),
            de::Unexpected::Signed(number) => format!("`{number}`"),
            de::Unexpected::Float(number) => format!("`{number}`"),
            de::Unexpected::Bool(value) => format!("`{value}`"),
            de::Unexpected::Unit | de::Unexpected::Option => "nothing".to_owned(),
            de::Unexpected::Seq => "a list".to_owned(),
            de::Unexpected::Map => "a map".to_owned(),
            other => other.to_string(),
        };
        Self::other(format!("found {found}, expected {}; remedy: write it so", plainly(expected)))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(found: &str, expected: &'static [&'static str]) -> Self {
        let text = match expected {
            [] => "found an unknown key, expected none; remedy: remove it".to_owned(),
            names => {
                let remedy = use_one_of(found, names);
                format!("found an unknown key, expected one of {}; remedy: {remedy}, or remove it", listed(names))
            }
        };
        Self { text, kind: DeKind::UnknownKey }
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        let remedy = use_one_of(found, expected);
        Self::other(format!("found `{found}`, expected one of {}; remedy: {remedy}", listed(expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        let text = format!("found no key `{field}`, expected one; remedy: add `{field}`");
        Self { text, kind: DeKind::Missing(field) }
    }
}

/// What a type expects, without the words of the language it is written in.
fn plainly(expected: &dyn de::Expected) -> String {
    let text = expected.to_string();
    match text.split_once(' ') {
        Some(("struct", _)) => "a map of keys".to_owned(),
        _ if text.starts_with("a nonzero") => "at least 1".to_owned(),
        _ => text,
    }
}

/// Reads `node`, with the root's errors noted as well.
pub(crate) fn root<T>(
    node: &Node,
    session: &Session,
    read: impl FnOnce(De<'_>) -> Result<T, DeError>,
) -> Result<T, DeError> {
    let result = read(De { node, session });
    if let Err(error) = &result {
        session.note(node, node.pos, error);
    }
    result
}

/// A node as serde sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct De<'t> {
    node: &'t Node,
    session: &'t Session,
}

impl<'t> De<'t> {
    fn scalar(self, expected: &str) -> Result<&'t Scalar, DeError> {
        match &self.node.content {
            Content::Scalar(scalar) => Ok(scalar),
            _ => Err(self.mismatch(expected)),
        }
    }

    fn mismatch(self, expected: &str) -> DeError {
        DeError::other(format!("found {}, expected {expected}; remedy: write it so", self.node.shown()))
    }

    /// Notes an error here, before whoever called wraps it into one that has lost what kind it is.
    fn noted<T>(self, result: Result<T, DeError>) -> Result<T, DeError> {
        result.inspect_err(|error| self.session.note(self.node, self.node.pos, error))
    }

    fn text(self) -> Result<&'t str, DeError> {
        let scalar = self.scalar("a text")?;
        if scalar.is_null() {
            return Err(DeError::other(
                "found nothing, expected a text; remedy: write one, or quote it to mean this word",
            ));
        }
        Ok(&scalar.text)
    }

    fn integer<T: std::str::FromStr>(self, least: impl fmt::Display, most: impl fmt::Display) -> Result<T, DeError> {
        let expected = format!("an integer from {least} to {most}");
        let text = &self.scalar(&expected)?.text;
        let digits = text.strip_prefix('-').unwrap_or(text);
        // A leading zero is an octal number to some, and often the beginning of a text.
        let is_canonical = digits == "0" || digits.starts_with(|c: char| matches!(c, '1'..='9'));
        text.parse().ok().filter(|_| is_canonical).ok_or_else(|| self.mismatch(&expected))
    }

    fn float(self) -> Result<f64, DeError> {
        let text = &self.scalar("a number")?.text;
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| self.mismatch("a number"))
    }
}

/// What a plain scalar means to whoever takes anything. Only what prints as it was written is a number: `0800`, `1.50`
/// and `1e3` are texts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Meaning<'t> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'t str),
}

pub(crate) fn meaning(scalar: &Scalar) -> Meaning<'_> {
    let text = scalar.text.as_str();
    if !scalar.is_plain {
        return Meaning::Text(text);
    }
    if scalar.is_null() {
        return Meaning::Null;
    }
    if let "true" | "false" = text {
        return Meaning::Bool(text == "true");
    }
    if let Some(int) = text.parse::<i128>().ok().filter(|int| int.to_string() == text) {
        return Meaning::Int(int);
    }
    match text.parse::<f64>() {
        Ok(float) if float.is_finite() && format!("{float:?}") == text => Meaning::Float(float),
        _ => Meaning::Text(text),
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty)*) => {$(
        fn $method<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, DeError> {
            visitor.$visit(self.integer::<$type>(<$type>::MIN, <$type>::MAX)?)
        }
    )*};
}

macro_rules! as_text {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, DeError> {
            visitor.visit_borrowed_str(self.text()?)
        }
    )*};
}

impl<'t> Deserializer<'t> for De<'t> {
    type Error = DeError;

    integers! {
        deserialize_i8 visit_i8 i8
        deserialize_i16 visit_i16 i16
        deserialize_i32 visit_i32 i32
        deserialize_i64 visit_i64 i64
        deserialize_i128 visit_i128 i128
        deserialize_u8 visit_u8 u8
        deserialize_u16 visit_u16 u16
        deserialize_u32 visit_u32 u32
        deserialize_u64 visit_u64 u64
        deserialize_u128 visit_u128 u128
    }

    as_text! { deserialize_str deserialize_string deserialize_char deserialize_identifier }

    fn deserialize_bytes<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_borrowed_bytes(self.text()?.as_bytes())
    }

    fn deserialize_byte_buf<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_bool<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self.scalar("`true` or `false`")?.text.as_str() {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(self.mismatch("`true` or `false`")),
        }
    }

    fn deserialize_f32<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_f64(self.float()?)
    }

    fn deserialize_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, DeError> {
        let scalar = match &self.node.content {
            Content::Scalar(scalar) => scalar,
            Content::List(_) => return self.deserialize_seq(visitor),
            Content::Map(_) => return self.deserialize_map(visitor),
        };
        match meaning(scalar) {
            Meaning::Null => visitor.visit_unit(),
            Meaning::Bool(value) => visitor.visit_bool(value),
            Meaning::Int(value) => match (u64::try_from(value), i64::try_from(value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (_, Ok(value)) => visitor.visit_i64(value),
                _ => visitor.visit_i128(value),
            },
            Meaning::Float(value) => visitor.visit_f64(value),
            Meaning::Text(text) => visitor.visit_borrowed_str(text),
        }
    }

    fn deserialize_option<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.node.content {
            Content::Scalar(scalar) if scalar.is_null() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.node.content {
            Content::Scalar(scalar) if scalar.is_null() => visitor.visit_unit(),
            _ => Err(self.mismatch("nothing")),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'t>>(self, _: &'static str, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'t>>(self, _: &'static str, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.node.content {
            Content::List(items) => self.noted(visitor.visit_seq(Items::new(items, self.session))),
            _ => Err(self.mismatch("a list")),
        }
    }

    fn deserialize_tuple<V: Visitor<'t>>(self, len: usize, visitor: V) -> Result<V::Value, DeError> {
        match &self.node.content {
            Content::List(items) if items.len() != len => Err(DeError::other(format!(
                "found a list of {}, expected {len}; remedy: write so many items",
                items.len()
            ))),
            _ => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, DeError> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, DeError> {
        match &self.node.content {
            Content::Map(entries) => self.noted(visitor.visit_map(Entries::new(entries, self.session))),
            _ => Err(self.mismatch("a map of keys")),
        }
    }

    fn deserialize_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'t>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        match &self.node.content {
            Content::Scalar(_) => visitor.visit_enum(Variant::alone(self.text()?, self.session)),
            Content::Map(entries) if entries.len() == 1 => visitor.visit_enum(Variant::of(&entries[0], self.session)),
            _ => Err(self.mismatch(&format!("one of {}", listed(names)))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_unit()
    }
}

mod access;

#[cfg(test)]
mod tests;
