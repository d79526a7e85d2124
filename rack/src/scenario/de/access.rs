//! Lists, maps with their keys, and enums, as serde walks through them.

use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::{De, DeError, Session, Step, root};
use crate::scenario::tree::{Content, Entry, Node, Scalar};

/// The items of a list.
pub(super) struct Items<'t> {
    items: &'t [Node],
    idx: usize,
    session: &'t Session,
}

impl<'t> Items<'t> {
    pub(super) fn new(items: &'t [Node], session: &'t Session) -> Self {
        Self { items, idx: 0, session }
    }
}

impl<'t> SeqAccess<'t> for Items<'t> {
    type Error = DeError;

    fn next_element_seed<T: DeserializeSeed<'t>>(&mut self, seed: T) -> Result<Option<T::Value>, DeError> {
        let Some(node) = self.items.get(self.idx) else { return Ok(None) };
        let step = Step::Idx(self.idx);
        self.idx += 1;
        let session = self.session;
        session.at(step, node, node.pos, || seed.deserialize(De { node, session }).map(Some))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.idx)
    }
}

/// The entries of a map, without the hidden ones.
pub(super) struct Entries<'t> {
    left: std::slice::Iter<'t, Entry>,
    now: Option<&'t Entry>,
    session: &'t Session,
}

impl<'t> Entries<'t> {
    pub(super) fn new(entries: &'t [Entry], session: &'t Session) -> Self {
        Self { left: entries.iter(), now: None, session }
    }
}

impl<'t> MapAccess<'t> for Entries<'t> {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'t>>(&mut self, seed: K) -> Result<Option<K::Value>, DeError> {
        let session = self.session;
        self.now = self.left.find(|entry| !session.is_hidden(&entry.key.text));
        let Some(entry) = self.now else { return Ok(None) };
        // A key is read as a value would be, so that numbers can be keys.
        let node = Node { pos: entry.key_pos, content: Content::Scalar(entry.key.clone()) };
        let step = Step::Key(entry.key.text.clone());
        session.at(step, &node, entry.key_pos, || seed.deserialize(Key { text: &entry.key.text, session }).map(Some))
    }

    fn next_value_seed<V: DeserializeSeed<'t>>(&mut self, seed: V) -> Result<V::Value, DeError> {
        let entry = self.now.take().expect("serde asks for a value behind its key only");
        let (session, node) = (self.session, &entry.value);
        let step = Step::Key(entry.key.text.clone());
        session.at(step, node, node.pos, || seed.deserialize(De { node, session }))
    }
}

/// A key: a text, or a number where the type asks for one.
#[derive(Clone, Copy)]
struct Key<'t> {
    text: &'t str,
    session: &'t Session,
}

macro_rules! key_integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, DeError> {
            let node = Node::made(Content::Scalar(Scalar::plain(self.text)));
            // Only numbers are read through it, and these do not borrow.
            let owned = Session::default();
            let number = root(&node, &owned, |de| de.integer::<i128>(i64::MIN, u64::MAX))?;
            match (u64::try_from(number), i64::try_from(number)) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => visitor.visit_i128(number),
            }
        }
    )*};
}

impl<'t> Deserializer<'t> for Key<'t> {
    type Error = DeError;

    key_integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_borrowed_str(self.text)
    }

    fn deserialize_newtype_struct<V: Visitor<'t>>(self, _: &'static str, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'t>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        visitor.visit_enum(Variant::alone(self.text, self.session))
    }

    forward_to_deserialize_any! {
        <V: Visitor<'t>>
        bool f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

/// An enum, externally tagged: `name`, or `name: content`.
pub(super) struct Variant<'t> {
    name: &'t str,
    entry: Option<&'t Entry>,
    session: &'t Session,
}

impl<'t> Variant<'t> {
    pub(super) fn alone(name: &'t str, session: &'t Session) -> Self {
        Self { name, entry: None, session }
    }

    pub(super) fn of(entry: &'t Entry, session: &'t Session) -> Self {
        Self { name: &entry.key.text, entry: Some(entry), session }
    }

    fn content<T>(self, read: impl FnOnce(De<'t>) -> Result<T, DeError>) -> Result<T, DeError> {
        let Some(entry) = self.entry else {
            let text = format!("found `{}` alone, expected a value behind it; remedy: write `{0}: …`", self.name);
            return Err(DeError::other(text));
        };
        let (session, node) = (self.session, &entry.value);
        session.at(Step::Key(entry.key.text.clone()), node, node.pos, || read(De { node, session }))
    }
}

impl<'t> EnumAccess<'t> for Variant<'t> {
    type Error = DeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'t>>(self, seed: V) -> Result<(V::Value, Self), DeError> {
        let key = Key { text: self.name, session: self.session };
        let value = match self.entry {
            None => seed.deserialize(key)?,
            Some(entry) => {
                let step = Step::Key(entry.key.text.clone());
                self.session.at(step, &entry.value, entry.key_pos, || seed.deserialize(key))?
            }
        };
        Ok((value, self))
    }
}

impl<'t> VariantAccess<'t> for Variant<'t> {
    type Error = DeError;

    fn unit_variant(self) -> Result<(), DeError> {
        match self.entry {
            None => Ok(()),
            Some(_) => self.content(|de| de.deserialize_unit(de::IgnoredAny).map(|_| ())),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'t>>(self, seed: T) -> Result<T::Value, DeError> {
        self.content(|de| seed.deserialize(de))
    }

    fn tuple_variant<V: Visitor<'t>>(self, len: usize, visitor: V) -> Result<V::Value, DeError> {
        self.content(|de| de.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'t>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, DeError> {
        self.content(|de| de.deserialize_map(visitor))
    }
}
