//! A gear of one's own: registered in a catalog, built from its configuration, run in a rig, and checked.

mod rig;
mod scale;

use fluxrig_actors::{About, Catalog, Category, Maturity};
use serde_json::json;

/// Every gear of this program, in one visible value.
fn catalog() -> Catalog {
    Catalog::new().with::<scale::Scale>(About { category: Category::Logic, maturity: Maturity::Preview })
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let catalog = catalog();
    println!("{}", catalog.manifest("scale").expect("it is registered").doc());
    let scale = catalog.build("scale", json!({ "field": "tank.level", "factor": 0.5 })).expect("a good configuration");
    let outcome = rig::run(scale, &[json!({ "tank": { "level": 8 } }), json!({ "tank": {} })]).await;
    println!("{outcome}");
    assert_eq!(outcome["out"], json!([{ "tank": { "level": 4.0 } }]));
    assert_eq!(outcome["rejected"].as_array().map(Vec::len), Some(1));

    let error = catalog.build("scael", json!({})).err().expect("there is no such gear");
    println!("{error}");
    assert!(error.to_string().contains("use `scale`"));
}

#[cfg(test)]
mod tests;
