//! Any bytes, read as ISO 8583: refused with a place inside them, or a message that is written and read as the same.
//! The corpus is also read by the ordinary tests of `gears`.

#![no_main]

use fluxrig_gears::iso8583::Spec;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static SPECS: LazyLock<Vec<Spec>> =
    LazyLock::new(|| Spec::built_in_names().filter_map(Spec::built_in).collect());

fuzz_target!(|bytes: &[u8]| {
    for spec in SPECS.iter() {
        match spec.decode(bytes) {
            Ok(read) => {
                let again = spec.encode(&read.mti, &read.fields).expect("what was read can be written");
                assert!(spec.decode(&again).expect("and be read again") == read);
                assert!(!format!("{read:?}").is_empty());
            }
            Err(error) => {
                assert!(error.at <= bytes.len());
                assert!(!error.to_string().is_empty());
            }
        }
    }
});
