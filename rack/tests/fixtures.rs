//! Scenarios as data: each file in `fixtures/good` with its normalised form beside it, each in `fixtures/bad` with all
//! that is wrong with it. `UPDATE_FIXTURES=1` writes what came; read the difference.

#![allow(clippy::unwrap_used, reason = "a test ends where anything is not as it should be")]

use std::path::{Path, PathBuf};

use fluxrig_actors::Catalog;
use fluxrig_rack::scenario::{Checked, GraphFormat, check_text};
use fluxrig_rack::{Rack, RackOptions, ScenarioErrors};

/// What `SITE` stands for: it must never be shown.
const SECRET: &str = "hidden-site";

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.retain(|path| !path.to_string_lossy().ends_with(".normal.yaml"));
    files.sort();
    assert!(!files.is_empty());
    files
}

fn lookup(name: &str) -> Option<String> {
    match name {
        "SITE" => Some(SECRET.to_owned()),
        "COUNT" => Some("7".to_owned()),
        _ => None,
    }
}

fn checked(path: &Path) -> Result<Checked, ScenarioErrors> {
    let text = std::fs::read_to_string(path).unwrap();
    let name = path.file_name().unwrap().to_string_lossy();
    check_text(&name, &text, &fluxrig_gears::standard(), &lookup)
}

/// Compares with a file, or writes it.
fn compare(path: &Path, found: &str) {
    if std::env::var_os("UPDATE_FIXTURES").is_some_and(|value| value == "1") {
        std::fs::write(path, found).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(expected, found, "{}: remedy: `UPDATE_FIXTURES=1`, and read the difference", path.display());
}

#[test]
fn good_scenarios_have_their_normalised_form() {
    for path in files("good") {
        let checked = checked(&path).unwrap_or_else(|errors| panic!("{errors}"));
        let normal = checked.normal_form();
        assert!(!normal.contains(SECRET), "{}", path.display());
        compare(&path.with_extension("normal.yaml"), &normal);
        let again = check_text("again", &normal, &fluxrig_gears::standard(), &lookup);
        let again = again.unwrap_or_else(|errors| panic!("{}: {errors}", path.display()));
        assert_eq!(again.normal_form(), normal, "{}: the form of the form", path.display());
        let warnings: String = checked.warnings.iter().map(|warning| format!("{warning}\n")).collect();
        let graphs = format!("{warnings}{}{}", checked.graph(GraphFormat::Mermaid), checked.graph(GraphFormat::Dot));
        compare(&path.with_extension("txt"), &graphs);
    }
}

#[test]
fn bad_scenarios_say_all_that_is_wrong() {
    for path in files("bad") {
        let Err(errors) = checked(&path) else { panic!("{}: nothing is wrong with it", path.display()) };
        let text = errors.to_string();
        for line in text.lines() {
            assert!(line.contains("remedy: "), "{line}");
            assert!(!line.contains(SECRET), "{line}");
        }
        compare(&path.with_extension("txt"), &format!("{text}\n"));
    }
}

#[test]
fn a_thousand_gears_are_checked() {
    let mut text =
        String::from("meta: { name: many, version: 0.1.0 }\ngears:\n  - { name: source, type: generator }\n");
    for idx in 0..998 {
        text.push_str(&format!(
            "  - {{ name: g{idx}, type: map, config: {{ steps: [{{ drop: {{ path: data.x }} }}] }} }}\n"
        ));
    }
    text.push_str("  - { name: sink, type: file, config: { path: out } }\nwires:\n  - { from: source, to: g0 }\n");
    for idx in 1..998 {
        text.push_str(&format!("  - {{ from: g{}, to: g{idx} }}\n", idx - 1));
    }
    text.push_str("  - { from: g997, to: sink }\n");
    let checked =
        check_text("many", &text, &fluxrig_gears::standard(), &lookup).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((checked.scenario.gears.len(), checked.scenario.wires.len()), (1000, 999));
}

#[test]
fn the_page_of_metrics_lists_every_series() {
    let mut page = String::from(
        "# What `/metrics` shows\n\n\
         `fluxrig run --metrics ADDR` serves it as Prometheus text. A name that was released keeps its meaning. What a gear counts\n\
         by itself, as `name` and `label` of `fluxrig_gear_count_total`, is in its manual: `fluxrig gears doc TYPE`. The\n\
         ends of a bus, which have none, count `bus_publishes` (`acked`, `repeated`, `refused`) and `bus_arrivals` (`let in`,\n\
         `repeats`, `refused`, `never arrived`, `unexplained`).\n\n\
         | series | kind | labels | what it says |\n| --- | --- | --- | --- |\n",
    );
    for series in fluxrig_rack::SERIES {
        let labels: Vec<String> = series.labels.iter().map(|label| format!("`{label}`")).collect();
        page.push_str(&format!("| `{}` | {} | {} | {} |\n", series.name, series.kind, labels.join(" "), series.help));
    }
    compare(&Path::new(env!("CARGO_MANIFEST_DIR")).join("METRICS.md"), &page);
}

#[test]
fn an_unreadable_file_is_said_with_its_name() {
    let catalog = Catalog::new();
    let error = Rack::load("no/such/file.yaml", &catalog).unwrap_err();
    assert!(error.to_string().starts_with("no/such/file.yaml:1:1: found a file that cannot be read"), "{error}");
    assert_eq!(error.exit_code(), 78);
    let path = std::env::temp_dir().join(format!("fluxrig-rack-utf8-{}.yaml", std::process::id()));
    std::fs::write(&path, b"meta: 1\ngears: \xff\n").unwrap();
    let error = Rack::load(&path, &catalog).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    assert!(error.to_string().contains(":2:8: found bytes that are not UTF-8"), "{error}");
}

#[test]
fn the_rack_is_chosen() {
    let text = |racks: &str| {
        format!(
            "meta: {{ name: choose, version: 0.1.0 }}\nracks: {racks}\ngears:\n  \
             - {{ name: a, type: generator, deploy: north }}\n  - {{ name: b, type: file, deploy: north, config: {{ path: x }} }}\n\
             wires: [{{ from: a, to: b }}]\n"
        )
    };
    let catalog = fluxrig_gears::standard();
    let choose = |racks: &str, name: Option<&str>| {
        let checked = check_text("f", &text(racks), &catalog, &lookup).unwrap_or_else(|errors| panic!("{errors}"));
        let name = checked.rack(name).map_err(|error| error.to_string())?;
        Ok::<_, String>(name.map(|name| name.to_string()))
    };
    assert_eq!(choose("[{ name: north }]", None), Ok(Some("north".into())));
    let two = "[{ name: north }, { name: south }]";
    assert_eq!(choose(two, Some("south")), Ok(Some("south".into())));
    assert!(choose(two, None).unwrap_err().contains("name it with `--rack`"));
    assert!(choose(two, Some("west")).unwrap_err().contains("expected one of `north`, `south`"));
    assert_eq!(RackOptions::default().rack, None);
}
