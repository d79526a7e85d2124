//! What a person reads at the end: how many requests, which codes, how long answers took.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::cases::Case;
use crate::terminal::Answered;

/// Everything that was answered as it should be.
#[derive(Default)]
pub(crate) struct Report(BTreeMap<Case, Vec<Duration>>);

impl Report {
    pub(crate) fn add(&mut self, answered: Vec<Answered>) {
        for Answered { case, took } in answered {
            self.0.entry(case).or_default().push(took);
        }
    }

    pub(crate) fn text(mut self, terminals: usize, took: Duration) -> String {
        let count: usize = self.0.values().map(Vec::len).sum();
        let mut text = format!("{count} requests of {terminals} terminals, each answered once, in {took:.1?}\n\n");
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{:22} {:>6} {:>9} {:>12} {:>12} {:>12}", "case", "39", "answers", "p50", "p99", "max");
        for (case, times) in &mut self.0 {
            times.sort_unstable();
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|part| ms(percentile(times, part)));
            let _ = writeln!(
                text,
                "{:22} {:>6} {:>9} {p50:>12} {p99:>12} {max:>12}",
                case.name(),
                case.code(),
                times.len()
            );
        }
        text.push('\n');
        text
    }
}

/// Of times that are sorted; there is at least one.
fn percentile(times: &[Duration], part: f64) -> Duration {
    let idx = (times.len() as f64 * part) as usize;
    times[idx.min(times.len() - 1)]
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}
