//! Gears from their configuration: built from JSON as from any format, refused with the remedy, listed in order.

use expect_test::{Expect, expect};
use serde::Deserialize;
use std::sync::Arc;

use super::*;
use crate::endpoint::Io;
use crate::gear::GearError;
use crate::outlet::Outlet;

/// Multiplies by a constant.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Scale {
    /// Multiplier, dimensionless.
    #[expect(dead_code, reason = "only its parsing matters here")]
    factor: f64,
    /// Names of outputs.
    #[serde(default)]
    outputs: Vec<String>,
}

impl Gear for Scale {
    const TYPE: &'static str = "scale";
    type State = ();

    fn ports(&self) -> Ports {
        self.outputs.iter().fold(Ports::sink(), |ports, name| ports.output(name))
    }

    fn handle(&self, _: fluxrig_protocol::FluxMsg, _: &mut (), _: &mut Outlet) -> Result<(), GearError> {
        Ok(())
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Sink {}

impl Endpoint for Sink {
    const TYPE: &'static str = "sink";

    fn ports(&self) -> Ports {
        Ports::sink()
    }

    async fn run(self: Arc<Self>, _: Io) -> Result<(), GearError> {
        Ok(())
    }
}

const ABOUT: About = About { category: Category::Logic, maturity: Maturity::Preview };

fn catalog() -> Catalog {
    Catalog::new().with::<Scale>(ABOUT).with_endpoint::<Sink>(About { category: Category::Io, ..ABOUT })
}

/// Builds from JSON: the ports of the gear, or what is wrong.
#[track_caller]
fn check(type_name: &str, config: &str, expected: &Expect) {
    let mut config = serde_json::Deserializer::from_str(config);
    let text = match catalog().build(type_name, &mut config) {
        Ok(built) => {
            let ports = built.ports();
            let inputs: Vec<_> = ports.inputs.iter().map(|port| port.name.as_str()).collect();
            let outputs: Vec<_> = ports.outputs.iter().map(|port| port.name.as_str()).collect();
            format!("{inputs:?} -> {outputs:?}")
        }
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&text);
}

#[test]
fn a_gear_is_built_from_its_configuration() {
    check("scale", r#"{"factor": 2.5, "outputs": ["a", "b"]}"#, &expect![[r#"["in"] -> ["a", "b"]"#]]);
    check("sink", "{}", &expect![[r#"["in"] -> []"#]]);
    let value = serde_json::json!({"factor": 1});
    assert!(catalog().build("scale", value).is_ok(), "from a value as from text");
}

#[test]
fn a_wrong_configuration_is_refused() {
    check(
        "scale",
        r#"{"factor": 2.5, "fcator": 1}"#,
        &expect![
            "gear type `scale`: unknown field `fcator`, expected `factor` or `outputs` at line 1 column 24; remedy: see the gear's schema"
        ],
    );
    check(
        "scale",
        "{}",
        &expect!["gear type `scale`: missing field `factor` at line 1 column 2; remedy: see the gear's schema"],
    );
    check(
        "scale",
        r#"{"factor": "two"}"#,
        &expect![[
            r#"gear type `scale`: invalid type: string "two", expected f64 at line 1 column 16; remedy: see the gear's schema"#
        ]],
    );
    check(
        "sink",
        r#"{"any": 1}"#,
        &expect![
            "gear type `sink`: unknown field `any`, there are no fields at line 1 column 6; remedy: see the gear's schema"
        ],
    );
    check(
        "sink",
        "",
        &expect!["gear type `sink`: EOF while parsing a value at line 1 column 0; remedy: see the gear's schema"],
    );
}

#[test]
fn an_unknown_type_is_refused_with_the_nearest() {
    check(
        "scael",
        "{}",
        &expect![
            "gear type `scael`: found none of this name, expected one of the catalog; remedy: use `scale`, or add yours with `Catalog::with`"
        ],
    );
    check(
        "io_mqtt",
        "{}",
        &expect![
            "gear type `io_mqtt`: found none of this name, expected one of the catalog; remedy: add yours with `Catalog::with`"
        ],
    );
}

#[test]
#[should_panic(expected = "gear type `scale` is in the catalog twice")]
fn one_type_has_one_meaning() {
    drop(catalog().with::<Scale>(ABOUT));
}

#[test]
fn manifests_come_in_order_with_their_manual() {
    let catalog = catalog();
    let listed: Vec<_> = catalog.manifests().map(|manifest| (manifest.type_name, manifest.doc())).collect();
    assert_eq!(listed, [("scale", "Multiplies by a constant."), ("sink", "")]);
    assert_eq!(format!("{catalog:?}"), r#"["scale", "sink"]"#);
    let scale = catalog.manifest("scale").unwrap();
    assert_eq!((scale.about.category, scale.about.maturity), (Category::Logic, Maturity::Preview));
    assert_eq!(scale.schema.get("required").unwrap(), &serde_json::json!(["factor"]));
    assert!(catalog.manifest("none").is_none());
}
