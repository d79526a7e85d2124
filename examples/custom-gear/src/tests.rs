//! Each file in `fixtures` is a case: configuration and input, and what comes of it.
//! `UPDATE_FIXTURES=1` writes what came into the file, whose change is then reviewed.

use serde_json::{Value as Json, json};

#[tokio::test(start_paused = true)]
async fn cases() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let case: Json = serde_json::from_str(&text).unwrap();
        let mut found = match super::catalog().build("scale", case["config"].clone()) {
            Ok(scale) => super::rig::run(scale, case["in"].as_array().unwrap()).await,
            Err(error) => json!({ "error": error.to_string() }),
        };
        for key in ["config", "in"].into_iter().filter(|key| case.get(key).is_some()) {
            found[key] = case[key].clone();
        }
        let found = format!("{found:#}\n");
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            std::fs::write(&path, &found).unwrap();
        } else {
            assert_eq!(text, found, "{}", path.display());
        }
    }
}
