//! Message dumps by others: what they say is read, and what is broken in them is refused.
//! They are not part of the repository; where they are absent these tests say so and pass.

use std::path::{Path, PathBuf};

use fluxrig_actors::protocol::Value;

use crate::iso8583::{Decoded, Spec};

/// The folder of the dumps: `$FLUXRIG_DATA/iso8583`, or `shared/data/iso8583` beside or above the repository.
fn folder() -> Option<PathBuf> {
    let told = std::env::var_os("FLUXRIG_DATA").map(|data| PathBuf::from(data).join("iso8583"));
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("shared/data/iso8583"));
    let found = told.into_iter().chain(above).find(|folder| folder.is_dir());
    if found.is_none() {
        eprintln!("SKIPPED: no message dumps here; remedy: set FLUXRIG_DATA to the folder that has `iso8583`");
    }
    found
}

/// The 1987 spec with lines of its fields replaced.
fn spec(replaced: &[(u8, &str)]) -> Spec {
    let text = Spec::built_in_text("iso8583-1987-ascii").unwrap();
    let line = |line: &str| {
        let number = line.trim_start().split(':').next().and_then(|number| number.parse::<u8>().ok());
        match replaced.iter().find(|(replaced, _)| Some(*replaced) == number) {
            Some((number, field)) => format!("  {number}: {{ name: it, {field} }}\n"),
            None => format!("{line}\n"),
        }
    };
    Spec::read("dump.yaml", &text.lines().map(line).collect::<String>()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn read(spec: &Spec, name: &str) -> Option<Result<Decoded, String>> {
    let bytes = std::fs::read(folder()?.join(name)).unwrap();
    Some(spec.decode(&bytes).map_err(|error| error.to_string()))
}

/// Every field of a dump, as `number=text`.
fn shown(decoded: &Decoded) -> String {
    let text = |value: &Value| value.as_text().map_or_else(|| value.to_string(), str::to_owned);
    let fields: Vec<String> =
        decoded.fields.iter().map(|(number, value)| format!("{number}={}", text(value))).collect();
    format!("{} {}", decoded.mti, fields.join(" "))
}

fn check(spec: &Spec, name: &str, expected: &str) {
    if let Some(read) = read(spec, name) {
        assert_eq!(read.map_or_else(|error| error, |decoded| shown(&decoded)), expected, "{name}");
    }
}

#[test]
fn dumps_in_text_are_read() {
    let spec = spec(&[]);
    for (name, expected) in [
        ("network_management_message.dat", "0800 7=0420090613 11=900001 12=090613 13=0420 15=0420 70=001"),
        (
            "iso_reversal_message_advice.dat",
            "0420 2= 3=180000 4=000000030000 7=0109080646 11=100331 12=001120 25=33 32=00011122233",
        ),
        (
            "iso_reversal_message.dat",
            "0400 2=1111111110000000000 3=180000 4=000000030000 7=0109080646 11=100331 12=001120 13=0909 15=0809 \
             18=9601 32= 37=600020000000 42=00003430003948  48=08110012000004096565733200000003000001 49=360 \
             55=003317000394809080646510000000 63=132 90=020000331609080645190000000020000000000000",
        ),
    ] {
        check(&spec, name, expected);
    }
}

#[test]
fn a_dump_and_what_its_authors_say_of_it_are_the_same() {
    let Some(Ok(decoded)) = read(&spec(&[]), "iso_reversal_message.dat") else { return };
    let text = std::fs::read_to_string(folder().unwrap().join("iso_reversal_message.json")).unwrap();
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut said = said["elements"].as_object().unwrap().clone();
    said.remove("1");
    assert_eq!(said.len(), decoded.fields.len());
    for (number, text) in said {
        assert_eq!(decoded.fields.get_key(&number).and_then(Value::as_text), text.as_str(), "field {number}");
    }
}

#[test]
fn dumps_that_mix_encodings_are_read_with_a_spec_that_says_so() {
    let packed = [
        (7, "kind: n, length: 10, data: bcd"),
        (11, "kind: n, length: 6, data: bcd"),
        (12, "kind: n, length: 6, data: bcd"),
    ];
    check(&spec(&packed), "message_with_number_bcd_encoding.dat", "0800 7=0420090613 11=900001 12=090613");
    let counted = [(48, "kind: ans, length: LLL, prefix: bcd")];
    let head = "0800 7=0420090613 11=900001 12=090613 13=0420 15=0420";
    check(&spec(&counted), "message_with_hex_rbcd.dat", &format!("{head} 48=00000000"));
    // Their signed amount has seven digits, ours eight.
    let signed = [(28, "kind: x+n, length: 7")];
    check(&spec(&signed), "message_with_indicate_numeric.dat", &format!("{head} 28=C0000000"));
    let sign =
        "field 28 at byte 66: found a character that is none of kind `x+n`; remedy: compare the spec with the peer's";
    check(&spec(&signed), "message_with_error_indicate_numeric.dat", sign);
}

#[test]
fn dumps_that_are_broken_or_in_an_encoding_of_a_later_version_are_refused_with_the_reason() {
    let spec = spec(&[]);
    let names = [
        "error_message.dat",
        "message_with_hex_length.dat",
        "message_with_hex_bcd.dat",
        "message_with_character_ebcdic_encoding.dat",
        "network_management_message_with_track.dat",
        "network_management_message_with_error_track.dat",
    ];
    let refused: Option<Vec<String>> =
        names.iter().map(|name| read(&spec, name).map(|read| format!("{name}: {}", read.expect_err(name)))).collect();
    let Some(refused) = refused else { return };
    expect_test::expect![[r#"
        error_message.dat: field 55 at byte 185: found 21 bytes, expected 30; remedy: compare the spec and the framing with the peer's
        message_with_hex_length.dat: field 32 at byte 66: found a length that is no number, expected digits as text; remedy: compare the spec with the peer's
        message_with_hex_bcd.dat: field 48 at byte 66: found a length that is no number, expected digits as text; remedy: compare the spec with the peer's
        message_with_character_ebcdic_encoding.dat: field 42 at byte 58: found a character that is none of kind `ans`; remedy: compare the spec with the peer's
        network_management_message_with_track.dat: field 35 at byte 68: found a character that is none of kind `z`; remedy: compare the spec with the peer's
        network_management_message_with_error_track.dat: field 35 at byte 68: found a character that is none of kind `z`; remedy: compare the spec with the peer's"#]].assert_eq(&refused.join("\n"));
}

/// Rules across fields and rules for dates come with a later version: until then these are read as they are.
#[test]
fn dumps_with_fields_that_contradict_each_other_are_read() {
    let spec = spec(&[]);
    let head = "0420 2= 3=180000 4=000000030000 7=0109080646 11=100331 12=001120";
    check(&spec, "iso_reversal_message_advice_missing_field.dat", &format!("{head} 25=33"));
    let fields = format!("{head} 13=0909 14=0809 25=33 32=00011122233");
    check(&spec, "iso_reversal_message_advice_unexpected_field.dat", &fields);
    let Some(dated) = read(&spec, "iso_reversal_message_error_date.dat") else { return };
    assert_eq!(dated.unwrap().fields.get_key("13").and_then(Value::as_text), Some("9099"));
}
