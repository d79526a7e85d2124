//! The manual of every gear, as its struct makes it, is a file whose changes are reviewed.

use std::path::Path;

use crate::tests::harness::check_file;

#[test]
fn the_manual_page_and_the_schema_of_every_gear_are_what_was_reviewed() {
    for gear in super::standard().manifests() {
        let schema = serde_json::to_string_pretty(&gear.schema).unwrap();
        let page = format!(
            "{}: {:?}, {:?}\n\n{}\n\n{schema}\n",
            gear.type_name,
            gear.about.category,
            gear.about.maturity,
            gear.doc()
        );
        assert!(!gear.doc().is_empty(), "gear `{}` has no manual page", gear.type_name);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(gear.type_name);
        check_file(&folder.join("manual.txt"), &page);
    }
}

#[test]
fn every_key_of_every_gear_says_what_it_is() {
    for gear in super::standard().manifests() {
        let properties = gear.schema.get("properties").and_then(|keys| keys.as_object()).unwrap();
        for (key, schema) in properties {
            assert!(schema.get("description").is_some(), "gear `{}`: key `{key}` has no doc comment", gear.type_name);
        }
    }
}
