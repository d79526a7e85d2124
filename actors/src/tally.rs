//! What gears and endpoints count by themselves: series of a name and a label, made once, read by metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Series of one gear or endpoint; past it, further ones are added up under the label `other`.
const SERIES_MAX: usize = 256;

/// The series of one gear or endpoint. They outlive its restarts.
#[derive(Clone, Debug, Default)]
pub struct Tallies(Arc<Mutex<BTreeMap<(&'static str, String), Tally>>>);

/// One counter that only rises. Keep it: making it again looks it up.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<AtomicU64>);

impl Tally {
    /// Counts `count` more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// What was counted since the process started.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tallies {
    /// The series of this name (snake_case, a plural noun) and label (why, where; never from a message).
    /// At most 256 series are kept; the rest share the label `other`.
    #[must_use]
    pub fn tally(&self, name: &'static str, label: &str) -> Tally {
        let mut series = self.0.lock().expect("nothing panics while it is held");
        let key = (name, label.to_owned());
        let key = if series.contains_key(&key) || series.len() < SERIES_MAX { key } else { (name, "other".into()) };
        series.entry(key).or_default().clone()
    }

    pub(crate) fn list(&self) -> Vec<(&'static str, String, u64)> {
        let series = self.0.lock().expect("nothing panics while it is held");
        series.iter().map(|((name, label), tally)| (*name, label.clone(), tally.get())).collect()
    }
}

#[cfg(test)]
mod tests;
