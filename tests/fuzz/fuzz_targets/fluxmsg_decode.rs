//! Any bytes: refused with a place inside them, or a message that is written again as exactly these bytes.
//! Seeds are the golden and hostile fixtures of `protocol`.

#![no_main]

use fluxrig_protocol::{FluxMsg, Limits, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    match FluxMsg::decode(bytes, &limits) {
        Ok(msg) => {
            msg.check(&limits).expect("what was read is within limits");
            assert_eq!(msg.encoded(&limits).expect("and can be written"), bytes);
            assert!(!format!("{msg} {msg:#?}").is_empty());
        }
        Err(error) => {
            assert!(error.at <= bytes.len());
            assert!(!error.to_string().is_empty());
        }
    }
    if let Ok(value) = Value::decode(bytes, &limits) {
        let mut again = Vec::new();
        value.encode_into(&mut again);
        assert_eq!(again, bytes);
    }
});
