//! Entries under text keys, in the order of their encoded keys, shared between owners until one of them writes.
//! [`Map`](crate::Map) and [`Meta`](crate::Meta) are this with their own words around it.

use std::{cmp::Ordering, sync::Arc};

use smol_str::SmolStr;

/// An empty one costs nothing, a copy costs one atomic increment, the first write after a copy copies the entries.
#[derive(Clone)]
pub(crate) struct Sorted<V>(Option<Arc<Vec<(SmolStr, V)>>>);

/// RFC 8949 §4.2.1 sorts keys by their encoded bytes. A text's head grows with its length, so the length decides first.
pub(crate) fn key_order(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes()))
}

impl<V> Sorted<V> {
    pub(crate) const EMPTY: Self = Self(None);

    /// The caller vouches for the order and that no key stands twice.
    pub(crate) fn from_sorted(entries: Vec<(SmolStr, V)>) -> Self {
        debug_assert!(entries.is_sorted_by(|(a, _), (b, _)| key_order(a, b).is_lt()));
        if entries.is_empty() { Self::EMPTY } else { Self(Some(Arc::new(entries))) }
    }

    /// Sorts once; of equal keys the last wins.
    pub(crate) fn from_unsorted(mut entries: Vec<(SmolStr, V)>) -> Self {
        // The sort is stable, so among equal keys the last written comes last; reversed it is the one dedup keeps.
        entries.reverse();
        entries.sort_by(|(a, _), (b, _)| key_order(a, b));
        entries.dedup_by(|(later, _), (kept, _)| later == kept);
        Self::from_sorted(entries)
    }

    pub(crate) fn entries(&self) -> &[(SmolStr, V)] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&V> {
        let entries = self.entries();
        find(entries, key).ok().map(|idx| &entries[idx].1)
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        }
    }
}

impl<V: Clone> Sorted<V> {
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        let entries = self.0.as_mut()?;
        let idx = find(entries, key).ok()?;
        Some(&mut Arc::make_mut(entries)[idx].1)
    }

    pub(crate) fn insert(&mut self, key: SmolStr, value: V) -> Option<V> {
        let Some(entries) = &mut self.0 else {
            self.0 = Some(Arc::new(vec![(key, value)]));
            return None;
        };
        match find(entries, &key) {
            Ok(idx) => Some(std::mem::replace(&mut Arc::make_mut(entries)[idx].1, value)),
            Err(idx) => {
                insert_at(entries, idx, (key, value));
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<V> {
        let entries = self.0.as_mut()?;
        // Looked up first: removing what is not there must not copy the entries.
        let idx = find(entries, key).ok()?;
        if entries.len() == 1 {
            // Nothing is left, so there is nothing to copy for others who hold it.
            let value = entries[idx].1.clone();
            self.0 = None;
            return Some(value);
        }
        Some(Arc::make_mut(entries).remove(idx).1)
    }
}

/// Entries that others hold too are copied into room for one more: a copy that then grows is moved twice.
fn insert_at<V: Clone>(entries: &mut Arc<Vec<(SmolStr, V)>>, idx: usize, entry: (SmolStr, V)) {
    if let Some(entries) = Arc::get_mut(entries) {
        return entries.insert(idx, entry);
    }
    let mut copy = Vec::with_capacity(entries.len() + 1);
    copy.extend_from_slice(&entries[..idx]);
    copy.push(entry);
    copy.extend_from_slice(&entries[idx..]);
    *entries = Arc::new(copy);
}

impl<V> Default for Sorted<V> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<V: PartialEq> PartialEq for Sorted<V> {
    fn eq(&self, other: &Self) -> bool {
        self.same(other) || self.entries() == other.entries()
    }
}

impl<V: Eq> Eq for Sorted<V> {}

/// Up to so many entries are looked at one after the other: most are passed by their length alone.
const FEW: usize = 8;

fn find<V>(entries: &[(SmolStr, V)], key: &str) -> Result<usize, usize> {
    if entries.len() > FEW {
        return entries.binary_search_by(|(found, _)| key_order(found, key));
    }
    for (idx, (found, _)) in entries.iter().enumerate() {
        if found.len() < key.len() {
            continue;
        }
        match key_order(found, key) {
            Ordering::Less => {}
            Ordering::Equal => return Ok(idx),
            Ordering::Greater => return Err(idx),
        }
    }
    Err(entries.len())
}
