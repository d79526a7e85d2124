//! One row of the table: what was measured, in which unit, and the bar it is held against.

use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// The rows asked for; each is printed as soon as it is there.
pub(crate) struct Rows {
    wanted: Vec<String>,
}

/// A bar, and the side of it that is good.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
    /// Told for the record; nobody promised anything.
    None,
}

impl Rows {
    pub(crate) fn new(wanted: Vec<String>) -> Self {
        Self { wanted }
    }

    pub(crate) fn wants(&self, row: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| row.starts_with(wanted.as_str()))
    }

    /// Whether a row below this name, or this one itself, is asked for.
    pub(crate) fn wants_any_of(&self, name: &str) -> bool {
        self.wants(name) || self.wanted.iter().any(|wanted| wanted.starts_with(&format!("{name}.")))
    }

    /// Adds a row that was measured together with others, where it is asked for.
    pub(crate) fn add_wanted(&mut self, row: &str, what: &str, value: f64, unit: &str, bar: Bar, note: &str) {
        if self.wants(row) {
            self.add(row, what, value, unit, bar, note);
        }
    }

    pub(crate) fn add(&mut self, row: &str, what: &str, value: f64, unit: &str, bar: Bar, note: &str) {
        let (limit, text, better) = match bar {
            Bar::AtLeast(limit) => (Some(limit), format!("≥ {limit} {unit}"), "higher"),
            Bar::AtMost(limit) => (Some(limit), format!("≤ {limit} {unit}"), "lower"),
            Bar::None => (None, String::new(), "lower"),
        };
        let line = serde_json::json!({
            "row": row, "what": what, "value": value, "unit": unit,
            "bar": limit, "bar_text": text, "better": better, "note": note,
        });
        println!("{line}");
    }
}

pub(crate) fn runtime(workers: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(workers).enable_time().build().expect("a runtime starts")
}

/// A fresh directory, removed again when dropped.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fluxrig-bench-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The middle of what was measured.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Waits for another process.
#[expect(clippy::disallowed_methods, reason = "who runs the rows is no actor, and watches processes")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
