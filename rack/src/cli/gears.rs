//! `fluxrig gears` and `fluxrig metrics`: what there is, from the same declarations that the runtime uses.

use fluxrig_actors::{Category, Manifest, Maturity, nearest};
use fluxrig_rack::{SERIES, exit};
use serde_json::{Value, json};

use super::{GearsCommand, complain, say, say_json};

pub(super) fn gears(command: &GearsCommand) -> u8 {
    match command {
        GearsCommand::List { json } => list(*json),
        GearsCommand::Doc { type_name } => of_type(type_name, |manifest| say(&manual(manifest))),
        GearsCommand::Schema { type_name } => of_type(type_name, |manifest| say_json(manifest.schema.as_value())),
    }
}

fn list(is_json: bool) -> u8 {
    let catalog = fluxrig_gears::standard();
    let row = |manifest: &Manifest| {
        json!({
            "type": manifest.type_name,
            "category": category(manifest.about.category),
            "maturity": maturity(manifest.about.maturity),
            "doc": manifest.doc().lines().next().unwrap_or_default(),
        })
    };
    let rows: Vec<Value> = catalog.manifests().map(row).collect();
    if is_json {
        say_json(&rows.into());
        return exit::DONE;
    }
    let width = catalog.manifests().map(|manifest| manifest.type_name.len()).max().unwrap_or(0);
    for row in rows {
        let word = |key: &str| row[key].as_str().unwrap_or_default();
        say(&format!("{:width$}  {:13}  {:7}  {}\n", word("type"), word("category"), word("maturity"), word("doc")));
    }
    exit::DONE
}

fn category(category: Category) -> &'static str {
    match category {
        Category::Io => "io",
        Category::Codec => "codec",
        Category::Logic => "logic",
        Category::Observability => "observability",
    }
}

fn maturity(maturity: Maturity) -> &'static str {
    match maturity {
        Maturity::Stable => "stable",
        Maturity::Preview => "preview",
    }
}

fn of_type(type_name: &str, show: impl FnOnce(&Manifest)) -> u8 {
    let catalog = fluxrig_gears::standard();
    if let Some(manifest) = catalog.manifest(type_name) {
        show(manifest);
        return exit::DONE;
    }
    let nearest = nearest(type_name, catalog.manifests().map(|manifest| manifest.type_name));
    let remedy = nearest.map_or_else(|| "see `fluxrig gears list`".to_owned(), |name| format!("use `{name}`"));
    complain(&format!(
        "gear type `{type_name}`: found none of this name, expected one of the catalog; remedy: {remedy}"
    ));
    exit::USAGE
}

/// A gear's manual: its text, then its keys with theirs.
fn manual(manifest: &Manifest) -> String {
    let schema = manifest.schema.as_value();
    let about = manifest.about;
    let mut page = format!(
        "{} ({}, {})\n\n{}\n",
        manifest.type_name,
        category(about.category),
        maturity(about.maturity),
        manifest.doc()
    );
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let keys = schema["properties"].as_object();
    for (key, about) in keys.into_iter().flatten() {
        let need = if required.contains(&key.as_str()) { " (required)" } else { "" };
        page.push_str(&format!("\n{key}{need}\n"));
        let referred = about["$ref"].as_str().and_then(|path| schema.pointer(path.strip_prefix('#')?));
        let text = about["description"].as_str().or_else(|| referred?["description"].as_str()).unwrap_or_default();
        text.lines().for_each(|line| page.push_str(&format!("    {line}\n")));
    }
    page
}

pub(super) fn metrics() -> u8 {
    for series in SERIES {
        let labels = if series.labels.is_empty() { String::new() } else { format!("{{{}}}", series.labels.join(",")) };
        say(&format!("{}{labels} ({})\n    {}\n", series.name, series.kind, series.help));
    }
    exit::DONE
}
