//! The examples of RFC 8949 Appendix A: each is read as a value and written as the same bytes, or refused for a reason.
//! The list lies beside the workspace; without it the test says so and does nothing.

use std::collections::BTreeMap;

use fluxrig_protocol::{Fault, Limits, Value};

const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/cbor/appendix_a.json");

/// Why an example is refused, and how many are.
const REFUSED: [(&str, usize); 6] = [
    ("a tag: dates, bignums and URIs travel as text", 8),
    ("indefinite length", 11),
    ("a float or NaN in a longer form", 6),
    ("undefined or a simple value", 3),
    ("malformed since RFC 8949", 1),
    ("a key that is not text", 1),
];

#[test]
fn each_example_is_kept_or_refused_for_a_reason() {
    let Ok(list) = std::fs::read(LIST) else {
        println!("SKIPPED: {LIST} is not there; the examples of RFC 8949 Appendix A were not tried");
        return;
    };
    let examples: Vec<serde_json::Value> = serde_json::from_slice(&list).unwrap();
    assert_eq!(examples.len(), 82);
    let mut refused = BTreeMap::new();
    let mut kept = 0;
    for example in &examples {
        let bytes = from_hex(example["hex"].as_str().unwrap());
        match Value::decode(&bytes, &Limits::default()) {
            Ok(value) => {
                let mut again = Vec::new();
                value.encode_into(&mut again);
                assert_eq!(again, bytes, "{example}");
                kept += 1;
            }
            Err(error) => *refused.entry(reason(&error.fault)).or_insert(0) += 1,
        }
    }
    assert_eq!(refused, BTreeMap::from(REFUSED));
    assert_eq!(kept, 82 - REFUSED.iter().map(|(_, count)| count).sum::<usize>());
}

fn reason(fault: &Fault) -> &'static str {
    match fault {
        Fault::Tag { .. } => REFUSED[0].0,
        Fault::Indefinite { .. } => REFUSED[1].0,
        Fault::FloatNotShortest { .. } | Fault::OtherNan => REFUSED[2].0,
        Fault::Simple { .. } => REFUSED[3].0,
        Fault::Malformed { .. } => REFUSED[4].0,
        Fault::Type { .. } => REFUSED[5].0,
        other => panic!("no example should be refused for this: {other}"),
    }
}

fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
