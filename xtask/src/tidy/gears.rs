//! Rules about gears: each is in the catalog, has fixtures, and its configuration keys say their unit.

use super::Finding;
use super::tree::{File, Tree, words};

const CATALOG: &str = "gears/src/catalog.rs";

pub(super) fn catalog(tree: &Tree) -> Vec<Finding> {
    let registered = tree.file(CATALOG).map_or("", |file| file.code.as_str());
    let uses = |line: &&str| !line.trim_start().starts_with("use ");
    let registered: Vec<&str> = registered.lines().filter(uses).flat_map(words).collect();
    let mut findings = Vec::new();
    for file in sources(tree) {
        for gear in gear_types(file) {
            if !registered.contains(&gear.name) {
                let problem = format!("gear `{}` is not in the catalog", gear.name);
                let remedy = format!("add one line to `{CATALOG}`");
                findings.push(Finding::new(&file.path, gear.line, problem, remedy));
            }
            let folder = format!("gears/fixtures/{}", gear.type_name);
            let has_fixture = tree.root.join(&folder).read_dir().is_ok_and(|mut files| files.next().is_some());
            if !has_fixture {
                let problem = format!("gear `{}` has no fixture", gear.type_name);
                findings.push(Finding::new(&file.path, gear.line, problem, format!("add a case to `{folder}/`")));
            }
        }
    }
    findings
}

pub(super) fn config_unit(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in sources(tree) {
        for (line, key) in config_keys(file) {
            if lacks_unit(key) {
                let problem = format!("config key `{key}` is a quantity without a unit");
                let remedy = "put the unit last, as in `_ms`, `_bytes`, `_per_s`, `_count`, `_messages`";
                findings.push(Finding::new(&file.path, line, problem, remedy));
            }
        }
    }
    findings
}

fn sources(tree: &Tree) -> impl Iterator<Item = &File> {
    tree.rust().filter(|file| file.path.starts_with("gears/src/"))
}

/// A gear as its `impl` declares it.
struct GearType<'a> {
    line: usize,
    /// The Rust type.
    name: &'a str,
    /// The word that a scenario says.
    type_name: &'a str,
}

fn gear_types(file: &File) -> Vec<GearType<'_>> {
    let mut gears = Vec::new();
    let mut name = "";
    for (line, code) in file.shipped() {
        if let Some((_, target)) = code.split_once(" for ").filter(|_| code.trim_start().starts_with("impl")) {
            name = words(target).next().unwrap_or_default();
        }
        if code.contains("const TYPE: &'static str") || code.contains("const TYPE: &str") {
            // The code view has its strings blanked, so the word is read from the text.
            let type_name = file.text.lines().nth(line - 1).and_then(|text| text.split('"').nth(1)).unwrap_or_default();
            gears.push(GearType { line, name, type_name });
        }
    }
    gears
}

/// Numeric fields of the types that derive a JSON Schema, with their lines.
fn config_keys(file: &File) -> Vec<(usize, &str)> {
    let mut keys = Vec::new();
    // A derive may span lines; from there on the braces say where the type ends.
    let (mut is_config, mut depth) = (false, 0_usize);
    for (line, code) in file.shipped() {
        if depth == 0 {
            is_config |= code.contains("JsonSchema") && !code.trim_start().starts_with("use ");
        } else if is_config && let Some((name, kind)) = code.trim().split_once(':') {
            let name = words(name).last().unwrap_or_default();
            if words(kind).any(is_numeric) {
                keys.push((line, name));
            }
        }
        for c in code.chars() {
            depth = match c {
                '{' => depth + 1,
                '}' => depth.saturating_sub(1),
                _ => depth,
            };
            if depth == 0 && matches!(c, '}' | ';') {
                is_config = false;
            }
        }
    }
    keys
}

fn is_numeric(word: &str) -> bool {
    const NAMES: &[&str] = &["usize", "isize", "Duration"];
    let is_sized = word.strip_prefix(['u', 'i', 'f']).is_some_and(|bits| bits.parse::<u32>().is_ok());
    is_sized || NAMES.contains(&word) || word.starts_with("NonZero")
}

/// Whether a key speaks of a quantity and names no unit. A qualifier may follow the unit: `latency_ms_max`.
fn lacks_unit(key: &str) -> bool {
    const QUANTITIES: &[&str] = &[
        "age",
        "backoff",
        "bandwidth",
        "capacity",
        "delay",
        "depth",
        "deadline",
        "duration",
        "every",
        "frequency",
        "interval",
        "latency",
        "length",
        "limit",
        "period",
        "quota",
        "rate",
        "retention",
        "size",
        "timeout",
        "ttl",
        "wait",
        "window",
    ];
    const UNITS: &[&str] = &[
        "bits", "bps", "bytes", "chars", "count", "db", "degrees", "digits", "entries", "hops", "hz", "kib", "len",
        "lines", "messages", "mib", "min", "ms", "ns", "percent", "pixels", "ratio", "records", "s", "samples", "us",
        "volts",
    ];
    let parts: Vec<&str> = key.split('_').collect();
    parts.iter().any(|part| QUANTITIES.contains(part)) && !parts.iter().any(|part| UNITS.contains(part))
}
