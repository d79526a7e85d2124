//! What came of a load: counted by each terminal for itself, added up at the end, shown as text or JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::grouped;

/// Longest time that is told apart from longer ones, nanoseconds: an hour and a bit.
const LATENCY_NS_MAX: u64 = 4_000_000_000_000;
/// Response codes that are counted by name; a peer that makes them up cannot fill the memory.
const CODES_MAX: usize = 128;
/// What is shown of the latency.
const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// What came of the requests of one terminal, or of all of them.
pub(super) struct Report {
    latency: Histogram<u64>,
    pub(super) codes: BTreeMap<String, u64>,
    pub(super) sent: u64,
    pub(super) answered: u64,
    /// Due by the rate, and not sent until the end.
    pub(super) unsent: u64,
    /// Sent, and not answered in time.
    pub(super) unanswered: u64,
    /// Answers to the request of somebody else.
    pub(super) crossed: u64,
    /// Answers to requests of this terminal that had been answered, or given up.
    pub(super) late: u64,
    /// Messages that the spec does not read, or that are no answers.
    pub(super) unreadable: u64,
    /// Connections that ended early, and why.
    pub(super) lost: BTreeMap<String, u64>,
    /// Of these, how many were made again.
    pub(super) reconnected: u64,
    /// Attempts to do so that failed.
    pub(super) refused: u64,
}

impl Report {
    pub(super) fn new() -> Self {
        Self {
            latency: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are in order"),
            codes: BTreeMap::new(),
            sent: 0,
            answered: 0,
            unsent: 0,
            unanswered: 0,
            crossed: 0,
            late: 0,
            unreadable: 0,
            lost: BTreeMap::new(),
            reconnected: 0,
            refused: 0,
        }
    }

    pub(super) fn answer(&mut self, code: Option<&str>, latency: Duration) {
        self.answered += 1;
        self.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        // A response code is short; what is longer is none, and not shown.
        let code = match code {
            None => "none",
            Some(code) if code.len() <= 4 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()) => code,
            Some(_) => "other",
        };
        if let Some(count) = self.codes.get_mut(code) {
            *count += 1;
            return;
        }
        let code = if self.codes.len() < CODES_MAX { code } else { "other" };
        *self.codes.entry(code.to_owned()).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency).expect("all have the same bounds");
        for (to, from) in [(&mut self.codes, &other.codes), (&mut self.lost, &other.lost)] {
            for (key, count) in from {
                *to.entry(key.clone()).or_default() += count;
            }
        }
        self.sent += other.sent;
        self.answered += other.answered;
        self.unsent += other.unsent;
        self.unanswered += other.unanswered;
        self.crossed += other.crossed;
        self.late += other.late;
        self.unreadable += other.unreadable;
        self.reconnected += other.reconnected;
        self.refused += other.refused;
    }

    /// Whether each request was sent and had its own answer, once.
    pub(super) fn is_clean(&self) -> bool {
        let faults = [self.unsent, self.unanswered, self.crossed, self.late, self.unreadable];
        faults.iter().all(|count| *count == 0) && self.lost.is_empty()
    }

    fn latency_ns(&self, quantile: f64) -> u64 {
        if quantile >= 1.0 { self.latency.max() } else { self.latency.value_at_quantile(quantile) }
    }

    fn rate(&self, took: Duration) -> f64 {
        self.answered as f64 / took.as_secs_f64().max(1e-9)
    }

    fn faults(&self) -> [(&'static str, u64); 5] {
        [
            ("unsent", self.unsent),
            ("unanswered", self.unanswered),
            ("crossed", self.crossed),
            ("late", self.late),
            ("unreadable", self.unreadable),
        ]
    }

    pub(super) fn as_json(&self, took: Duration) -> Value {
        let latency: serde_json::Map<String, Value> = QUANTILES
            .iter()
            .map(|(name, quantile)| ((*name).to_owned(), (self.latency_ns(*quantile) as f64 / 1e3).into()))
            .collect();
        let mut value = json!({
            "duration_s": took.as_secs_f64(),
            "sent": self.sent,
            "answered": self.answered,
            "answered_per_s": self.rate(took),
            "latency_us": latency,
            "codes": self.codes,
            "lost_connections": self.lost,
            "reconnected": self.reconnected,
            "refused_connections": self.refused,
        });
        for (name, count) in self.faults() {
            value[name] = count.into();
        }
        value
    }

    pub(super) fn as_text(&self, took: Duration) -> String {
        let latency: Vec<String> = QUANTILES
            .iter()
            .map(|(name, quantile)| format!("{name} {:.3} ms", self.latency_ns(*quantile) as f64 / 1e6))
            .collect();
        let codes: Vec<String> =
            self.codes.iter().map(|(code, count)| format!("{code}: {}", grouped(*count))).collect();
        let mut text = format!(
            "sent         {}\nanswered     {} in {:.1} s, {} per second\nlatency      {}\ncodes        {}\n",
            grouped(self.sent),
            grouped(self.answered),
            took.as_secs_f64(),
            grouped(self.rate(took) as u64),
            latency.join("  "),
            codes.join("  "),
        );
        for (name, count) in self.faults() {
            text.push_str(&format!("{name:12} {}\n", grouped(count)));
        }
        for (reason, count) in &self.lost {
            text.push_str(&format!("connections  {} ended early: {reason}\n", grouped(*count)));
        }
        if !self.lost.is_empty() {
            let (again, refused) = (grouped(self.reconnected), grouped(self.refused));
            text.push_str(&format!("reconnected  {again} times, {refused} attempts failed\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_one_fault_is_enough() {
        let mut sum = Report::new();
        assert!(sum.is_clean());
        let mut one = Report::new();
        one.answer(Some("00"), Duration::from_millis(2));
        one.answer(Some("4000001234562"), Duration::from_millis(1));
        one.answer(None, Duration::from_hours(5));
        sum.add(&one);
        sum.add(&one);
        let text = sum.as_text(Duration::from_secs(2));
        assert!(text.contains("answered     6 in 2.0 s, 3 per second"), "{text}");
        assert!(text.contains("codes        00: 2  none: 2  other: 2\n"), "{text}");
        assert!(!text.contains("400000"), "{text}");
        let value = sum.as_json(Duration::from_secs(2));
        assert_eq!((&value["codes"]["00"], &value["crossed"]), (&2.into(), &0.into()));
        assert!(value["latency_us"]["p50"].as_f64().unwrap() > 1990.0, "{value}");
        assert!(sum.is_clean());
        for fault in [
            |report: &mut Report| report.unsent = 1,
            |report: &mut Report| report.unanswered = 1,
            |report: &mut Report| report.crossed = 1,
            |report: &mut Report| report.late = 1,
            |report: &mut Report| report.unreadable = 1,
            |report: &mut Report| *report.lost.entry("closed".to_owned()).or_default() += 1,
        ] {
            let mut report = Report::new();
            fault(&mut report);
            assert!(!report.is_clean());
        }
    }

    #[test]
    fn a_peer_that_makes_codes_up_fills_no_memory() {
        let mut report = Report::new();
        for code in 0..1000 {
            report.answer(Some(&code.to_string()), Duration::ZERO);
        }
        assert_eq!((report.codes.len(), report.codes["other"]), (CODES_MAX + 1, 1000 - CODES_MAX as u64));
    }
}
