//! `cargo xtask bench`: runs the bench program and shows one table, each row with its bar.
//! A missed bar is shown, not hidden and not a failure: only a bench that could not run ends with an error.

mod row;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::{child, table};
use row::Row;

const FILE: &str = "bench.json";

/// Measures all rows, or those named.
pub(crate) fn run(rows_asked: &[String]) -> Result<()> {
    let path = child::root().join(FILE);
    let mut bench = child::cargo("run --release -p fluxrig-tests --no-default-features --bin bench -- --json");
    bench.arg(&path).args(rows_asked);

    // Rows come as JSON lines; anything else is for the person who waits.
    let mut found: Vec<Result<Row>> = Vec::new();
    let outcome = child::run_lines(&mut bench, |line| match line.starts_with('{') {
        true => found.push(Row::parse(line)),
        false => println!("{line}"),
    });
    let rows = found.into_iter().collect::<Result<Vec<Row>>>()?;

    // What was measured before a failure is worth showing, but no result to keep.
    let machine = machine();
    print!("{}", report(&rows, &machine));
    outcome?;
    if rows.is_empty() {
        bail!("the bench printed no row; remedy: name rows that exist, the program lists them");
    }
    let document = json!({ "machine": machine, "rows": rows.iter().map(|row| &row.json).collect::<Vec<_>>() });
    let text = serde_json::to_string_pretty(&document)? + "\n";
    std::fs::write(&path, text).with_context(|| format!("could not write {FILE}"))?;
    Ok(())
}

fn report(rows: &[Row], machine: &str) -> String {
    let mut cells = vec![["row", "what", "measured", "unit", "bar", "verdict"].map(String::from).to_vec()];
    cells.extend(rows.iter().map(Row::cells));
    let notes = rows.iter().filter_map(Row::note).map(|note| note + "\n");
    format!("{}{}machine: {machine}\n", table::render(&cells), notes.collect::<String>())
}

/// Processor, cores, kernel and date: a figure without its machine says nothing.
fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(':')).map_or("unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or("unknown".into(), |count| count.to_string());
    let kernel = child::answer("uname", &["-sr"]).unwrap_or("unknown kernel".into());
    let date = child::answer("date", &["-u", "+%Y-%m-%d"]).unwrap_or("unknown date".into());
    format!("{model}, {cores} cores, {kernel}, {date}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_every_row_with_its_verdict() {
        let lines = [
            r#"{"row":"turbo","what":"5 hops","value":5500000,"unit":"hops/s","bar":5000000,"bar_text":"≥ 5 M","better":"higher","note":""}"#,
            r#"{"row":"durable","what":"p50","value":300,"unit":"µs","bar":240,"bar_text":"≤ 2 writes","better":"lower","note":"slow disk"}"#,
            r#"{"row":"write","what":"fdatasync","value":120.4,"unit":"µs","bar":null,"bar_text":"","better":"lower","note":null}"#,
        ];
        let rows: Vec<Row> = lines.iter().map(|line| Row::parse(line).unwrap()).collect();
        let expected = "\
row      what        measured  unit    bar         verdict
turbo    5 hops     5,500,000  hops/s  ≥ 5 M       met
durable  p50              300  µs      ≤ 2 writes  missed by 25 %
write    fdatasync        120  µs      -           -
durable: slow disk
machine: test
";
        assert_eq!(report(&rows, "test"), expected);
    }
}
