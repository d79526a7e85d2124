//! The workspace is tidy, and every rule is shown to fire on a small bad tree with the printed text beside it.

use std::path::Path;

use super::*;

#[test]
fn the_workspace_is_tidy() {
    let tree = Tree::load(&child::root()).unwrap();
    let findings = findings(&tree);
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn every_rule_fires_on_its_fixture() {
    for rule in RULES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tidy").join(rule.name);
        let tree = Tree::load(&folder.join("tree"))
            .unwrap_or_else(|error| panic!("rule `{}` needs a bad tree in `fixtures/tidy`: {error:#}", rule.name));
        let found: String = (rule.check)(&tree).iter().map(|finding| format!("{finding}\n")).collect();
        assert_ne!(found, "", "rule `{}` finds nothing in its own bad tree", rule.name);

        let expected = folder.join("expected.txt");
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            std::fs::write(&expected, &found).unwrap();
        }
        assert_eq!(found, std::fs::read_to_string(&expected).unwrap_or_default(), "rule `{}`", rule.name);
    }
}

#[test]
fn every_fixture_belongs_to_a_rule() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tidy");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(RULES.iter().any(|rule| name == rule.name), "no rule is called {name:?}");
    }
}
