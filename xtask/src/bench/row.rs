//! One measured row as the bench program prints it, and its verdict.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::table;

/// A JSON line with `row`, `what`, `value`, `unit`, `bar`, `bar_text`, `better` (`higher` or `lower`) and `note`.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) json: Value,
    value: f64,
    bar: Option<f64>,
}

impl Row {
    /// Reads one line; a line that has no value or an unknown direction is the bench's mistake.
    pub(crate) fn parse(line: &str) -> Result<Row> {
        let json: Value = serde_json::from_str(line).with_context(|| format!("bench row `{line}` is not JSON"))?;
        let value = json["value"].as_f64().with_context(|| format!("bench row `{line}` has no numeric `value`"))?;
        let bar = json["bar"].as_f64();
        if bar.is_some() {
            let known = matches!(json["better"].as_str(), Some("higher" | "lower"));
            known.then_some(()).with_context(|| format!("bench row `{line}`: `better` must be `higher` or `lower`"))?;
        }
        Ok(Row { json, value, bar })
    }

    /// Row, what, measured, unit, bar, verdict.
    pub(crate) fn cells(&self) -> Vec<String> {
        let bar = match (self.text("bar_text"), self.bar) {
            ("", None) => "-".into(),
            ("", Some(bar)) => table::number(bar),
            (text, _) => text.into(),
        };
        let measured = table::number(self.value);
        vec![self.text("row").into(), self.text("what").into(), measured, self.text("unit").into(), bar, self.verdict()]
    }

    /// The note with the row it belongs to.
    pub(crate) fn note(&self) -> Option<String> {
        let note = self.text("note");
        (!note.is_empty()).then(|| format!("{}: {note}", self.text("row")))
    }

    /// By how much a bar is missed is counted in percent of the bar.
    fn verdict(&self) -> String {
        let Some(bar) = self.bar else { return "-".into() };
        let is_higher_better = self.text("better") == "higher";
        let missed_by = if is_higher_better { bar - self.value } else { self.value - bar };
        if missed_by <= 0.0 {
            return "met".into();
        }
        // Of nothing there is no share.
        if bar == 0.0 {
            return format!("missed by {}", table::number(missed_by));
        }
        format!("missed by {} %", table::number(missed_by / bar.abs() * 100.0))
    }

    fn text(&self, key: &str) -> &str {
        self.json[key].as_str().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: f64, better: &str, verdict: &str) {
        let line = serde_json::json!({ "row": "r", "value": value, "bar": 100, "better": better }).to_string();
        assert_eq!(Row::parse(&line).unwrap().verdict(), verdict);
    }

    #[test]
    fn a_bar_is_met_or_missed_by_a_share_of_itself() {
        check(100.0, "higher", "met");
        check(88.0, "higher", "missed by 12 %");
        check(100.0, "lower", "met");
        check(100.4, "lower", "missed by 0.4 %");
    }

    #[test]
    fn a_bar_of_zero_is_missed_by_a_number() {
        let line = r#"{"row":"r","value":2,"bar":0,"better":"lower"}"#;
        assert_eq!(Row::parse(line).unwrap().verdict(), "missed by 2");
    }

    #[test]
    fn a_row_without_sense_is_refused() {
        for line in ["{", r#"{"row":"r"}"#, r#"{"row":"r","value":1,"bar":2,"better":"wider"}"#] {
            assert!(Row::parse(line).is_err(), "{line}");
        }
    }
}
