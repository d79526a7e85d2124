//! `cargo xtask bench`: runs the bench program and shows one table, each row with its bar.
//! A missed bar is shown, not hidden and not a failure: only a bench that could not run ends with an error.

mod row;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::usage::Usage;
use crate::{child, table};
use row::Row;

const FILE: &str = "bench.json";

/// What may stand beside the names of rows.
pub(crate) const ARGUMENTS: &str = "[ROW…] [--peers]";
const PEERS: &str = "--peers";

/// Measures all rows, or those whose name begins with one of `arguments`; with `--peers` others beside us, too.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let Some(unknown) = arguments.iter().find(|argument| argument.starts_with('-') && *argument != PEERS) {
        return Err(Usage(format!("`{unknown}`: this command takes names of rows and `{PEERS}`")).into());
    }
    let path = child::root().join(FILE);
    // Rows of the daemon run the binary that lies beside the bench.
    child::run(&mut child::cargo("build --release -p fluxrig-rack --bin fluxrig"))?;
    let mut bench = child::cargo("run --release -p fluxrig-tests --no-default-features --bin bench -- --json");
    bench.arg(&path).args(arguments);

    let machine = machine();
    // Rows come as JSON lines; anything else is for the person who waits.
    let mut found: Vec<Result<Row>> = Vec::new();
    let outcome = child::run_lines(&mut bench, |line| match line.starts_with('{') {
        true => found.push(Row::parse(line)),
        false => println!("{line}"),
    });
    let rows = found.into_iter().collect::<Result<Vec<Row>>>()?;

    // What was measured before a failure is worth showing, but no result to keep.
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

/// Processor, cores, kernel, date and what else ran at the start: a figure without its machine says nothing.
fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(':')).map_or("unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or("unknown".into(), |count| count.to_string());
    let kernel = child::answer("uname", &["-sr"]).unwrap_or("unknown kernel".into());
    let date = child::answer("date", &["-u", "+%Y-%m-%d"]).unwrap_or("unknown date".into());
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown");
    format!("{model}, {cores} cores, {kernel}, {date}, load {load} before the first row")
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
