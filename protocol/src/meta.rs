//! Routing and context of a message: text under text keys.
//! Keys are flat; a dot in one is part of its name (`iso8583.mti`).

use std::fmt;

use smol_str::SmolStr;

use crate::{sorted::Sorted, value::Extent};

/// Text under text keys, shared until written. Empty costs nothing, a copy one atomic increment.
///
/// ```
/// # use fluxrig_protocol::Meta;
/// let mut meta = Meta::default();
/// meta.set("iso8583.mti", "0200");
/// let before = meta.clone();
/// meta.set("iso8583.mti", "0210");
/// assert_eq!((before.get("iso8583.mti"), meta.get("iso8583.mti")), (Some("0200"), Some("0210")));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Meta(Sorted<SmolStr>);

impl Meta {
    /// The text under a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(SmolStr::as_str)
    }

    /// Puts a text under a key and gives what stood there.
    pub fn set(&mut self, key: impl Into<SmolStr>, text: impl Into<SmolStr>) -> Option<SmolStr> {
        self.0.insert(key.into(), text.into())
    }

    /// Takes a text out.
    pub fn remove(&mut self, key: &str) -> Option<SmolStr> {
        self.0.remove(key)
    }

    /// All entries, in the order in which they are encoded: shorter keys first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.entries().iter().map(|(key, text)| (key.as_str(), text.as_str()))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    pub(crate) fn entries(&self) -> &[(SmolStr, SmolStr)] {
        self.0.entries()
    }

    /// The caller vouches for the order and that no key stands twice.
    pub(crate) fn from_sorted(entries: Vec<(SmolStr, SmolStr)>) -> Self {
        Self(Sorted::from_sorted(entries))
    }
}

impl<K: Into<SmolStr>, T: Into<SmolStr>> FromIterator<(K, T)> for Meta {
    /// Of equal keys the last wins.
    fn from_iter<I: IntoIterator<Item = (K, T)>>(entries: I) -> Self {
        Self(Sorted::from_unsorted(entries.into_iter().map(|(key, text)| (key.into(), text.into())).collect()))
    }
}

/// Keys and lengths, never the texts.
impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(key, text)| (key, Extent("text", text.len())))).finish()
    }
}
