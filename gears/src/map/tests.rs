//! Cases of `map` are files; how paths are refused is here.

use expect_test::expect;

use crate::Mapping;

#[tokio::test(start_paused = true)]
async fn cases() {
    crate::tests::harness::check_cases("map").await;
}

#[test]
fn a_mapping_in_code_refuses_what_a_configuration_refuses() {
    let refused = |mapping: Result<Mapping, crate::MappingError>| mapping.unwrap_err().to_string();
    let new = Mapping::default;
    let errors = [
        refused(new().drop("tank.level")),
        refused(new().drop("meta.")),
        refused(new().drop("data.")),
        refused(new().drop("data")),
        refused(new().set("meta.amount", 12.5)),
        refused(new().copy("data.a", "data.a")),
    ];
    expect![[r#"
        path `tank.level`: found neither `data.` nor `meta.` at its start, expected one of them; remedy: write `data.tank.level` for a business field, `meta.tank.level` for a context text
        path `meta.…`: found a key of 0 bytes, expected 1 to 256; remedy: name one key, for example `meta.site`
        path `data.…`: the path is empty, expected keys joined by dots; remedy: name a field, for example `tank.level`
        path `data`: found neither `data.` nor `meta.` at its start, expected one of them; remedy: write `data.data` for a business field, `meta.data` for a context text
        `meta.amount` would be of type float, expected text, int or bool in `meta`; remedy: put it into `data`
        found `data.a` as both `from` and `to`, expected two places; remedy: remove the step, or change one"#]].assert_eq(&errors.join("\n"));
}
