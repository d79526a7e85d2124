//! Cases of `codec_iso8583` are files; specs in files and what a dead letter keeps are here.

use std::time::Duration;

use fluxrig_actors::Settings;
use fluxrig_actors::prelude::*;

use super::{Codec, Direction};
use crate::iso8583::{Spec, redacted};
use crate::tests::harness::{Collected, Source, TempDir, check_cases, msg};

#[tokio::test(start_paused = true)]
async fn cases() {
    check_cases("codec_iso8583").await;
}

fn build(spec: &str) -> Result<Codec, String> {
    serde_json::from_value(serde_json::json!({ "spec": spec, "direction": "decode" }))
        .map_err(|error| error.to_string())
}

#[test]
fn a_spec_in_a_file_is_read_when_the_gear_is_built_and_its_mistakes_have_a_place() {
    let dir = TempDir::new();
    let path = dir.path().join("bank.yaml");
    let name = path.to_str().unwrap();
    let text = "name: bank\nversion: \"2\"\nmti: bcd\nbitmap: binary\nfields:\n  3: { name: it, kind: n, length: 6 }\n";
    std::fs::write(&path, text).unwrap();
    let codec = build(name).unwrap();
    assert_eq!((codec.spec.name(), codec.spec.version()), ("bank", "2"));
    std::fs::write(&path, text.replace("kind: n,", "kind: m,")).unwrap();
    let error = build(name).unwrap_err();
    assert!(error.starts_with(&format!("{name}:6:24: `fields.3.kind`: found `m`, expected `n`")), "{error}");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(build(name).unwrap_err().contains("which cannot be read"));
}

#[test]
fn a_file_that_is_no_spec_by_its_size_is_not_read() {
    let dir = TempDir::new();
    let path = dir.path().join("bank.yaml");
    std::fs::File::create(&path).unwrap().set_len((1 << 20) + 1).unwrap();
    let error = build(path.to_str().unwrap()).unwrap_err();
    assert!(error.contains("found 1048577 bytes in the file"), "{error}");
}

/// A card number in a message that is broken behind it.
#[tokio::test(start_paused = true)]
async fn a_dead_letter_of_a_rig_with_the_redactor_holds_no_card_data() {
    let mut broken = msg(1);
    broken.raw = Some(b"0200600000000000000016492971620847351912345".to_vec().into());
    broken.meta.set("content", "iso8583");
    let codec = Codec::new(Spec::built_in("iso8583-1987-ascii").unwrap(), Direction::Decode);
    let sink = Collected::default();
    let rig = Rig::new("letters")
        .settings(Settings { redactor: Some(redacted), ..Settings::default() })
        .endpoint("source", Source(vec![broken]))
        .gear("decode", codec)
        .endpoint("sink", sink.clone())
        .turbo("source", "decode")
        .turbo("decode", "sink");
    let rig = rig.start().await.unwrap();
    assert!(rig.finished().await);
    let letters = rig.dead_letters().unwrap();
    rig.stop(Duration::from_secs(1)).await;
    assert_eq!((letters.len(), sink.len()), (1, 0));
    assert_eq!(letters[0].msg.raw, None);
    assert_eq!(
        letters[0].reason,
        "field 3 at byte 38: found 5 bytes, expected 6; remedy: compare the spec and the framing with the peer's"
    );
}
