//! The corpora of the fuzz targets as ordinary tests: what a fuzzer once found stays found.
//! The check is the one the targets make.

use std::path::Path;

use fluxrig_protocol::{FluxMsg, Limits};

#[test]
fn what_the_decoder_accepts_it_writes_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/fluxmsg_decode");
    let limits = Limits::default();
    let (mut accepted, mut refused) = (0, 0);
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        match FluxMsg::decode(&bytes, &limits) {
            Ok(msg) => {
                assert_eq!(msg.encoded(&limits).unwrap(), bytes, "{}", path.display());
                accepted += 1;
            }
            Err(error) => {
                assert!(error.at <= bytes.len(), "{}: {error}", path.display());
                refused += 1;
            }
        }
    }
    assert!(accepted > 0 && refused > 0, "a corpus without both kinds tries only half: {accepted} and {refused}");
}
