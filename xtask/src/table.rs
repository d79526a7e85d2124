//! Aligned text tables for the terminal.

/// Pads every column to its widest cell, two spaces apart. A column of numbers stands right-aligned.
pub(crate) fn render(rows: &[Vec<String>]) -> String {
    let column_count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |idx: usize| rows.iter().filter_map(move |row| row.get(idx));
    let widths: Vec<usize> = (0..column_count).map(|idx| cells(idx).map(|cell| len(cell)).max().unwrap_or(0)).collect();
    // The first row may be a heading, so it has no vote.
    let right: Vec<bool> = (0..column_count).map(|idx| cells(idx).skip(1).any(|cell| is_number(cell))).collect();

    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (idx, cell) in row.iter().enumerate() {
            let padding = " ".repeat(widths[idx] - len(cell));
            let (before, after) = if right[idx] { (padding.as_str(), "") } else { ("", padding.as_str()) };
            line.push_str(&format!("{before}{cell}{after}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Three significant digits, thousands apart: `0.0123`, `4.57`, `31.4`, `5,120,000`.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    if value.abs() < 1000.0 {
        let magnitude = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
        let decimals = (2 - magnitude).clamp(0, 6) as usize;
        let text = format!("{value:.decimals$}");
        return if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text };
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn is_number(cell: &str) -> bool {
    cell.starts_with(|first: char| first.is_ascii_digit())
        && cell.chars().all(|c| c.is_ascii_digit() || ",.".contains(c))
}

/// Characters, not bytes, so that `µs` keeps its column.
fn len(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let rows = [["row", "measured", "unit"], ["turbo", "5,120,000", "hops/s"], ["idle", "17.5", "µs"]];
        let rows: Vec<Vec<String>> = rows.map(|row| row.map(String::from).to_vec()).to_vec();
        assert_eq!(render(&rows), "row     measured  unit\nturbo  5,120,000  hops/s\nidle        17.5  µs\n");
    }

    #[test]
    fn numbers_keep_three_digits_and_show_thousands() {
        let shown = [0.0, 0.012345, 4.567, 31.42, 999.6, 1000.0, 5_120_000.4, -12_345.0].map(number);
        assert_eq!(shown, ["0", "0.0123", "4.57", "31.4", "1000", "1,000", "5,120,000", "-12,345"]);
    }
}
