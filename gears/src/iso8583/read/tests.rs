//! The built-in specs are read, and every mistake in a spec is told with its place.

use expect_test::expect;

use crate::iso8583::{Kind, Spec};

#[test]
fn the_built_in_specs_have_every_field_of_the_standard() {
    for name in Spec::built_in_names() {
        let spec = Spec::built_in(name).unwrap();
        assert_eq!((spec.name(), spec.version()), (name, "1"));
        let numbers: Vec<u8> = spec.fields().map(|field| field.number()).collect();
        let expected: Vec<u8> = (2..=128).filter(|number| *number != 65).collect();
        assert_eq!(numbers, expected);
        let sensitive: Vec<u8> =
            spec.fields().filter(|field| field.is_sensitive()).map(|field| field.number()).collect();
        assert_eq!(sensitive, super::ALWAYS_SENSITIVE);
        assert_eq!(spec.marked(), None);
        assert_eq!(spec.field(28).map(|field| (field.kind(), field.units_max())), Some((Kind::Xn, 9)));
        assert_eq!(spec.field(97).map(|field| field.units_max()), Some(17));
    }
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_with_their_places() {
    let text = r#"
nam: x
version: "1"
mti: ebcdic
bitmap: octal
prefix: binary
extends: iso8583-1987-ascii
data: { n: bcd, ans: bcd, q: hex }
fields:
  1: { name: bitmap, kind: b, length: 8 }
  02: { name: card, kind: n, length: LL }
  3: { name: processing code, kind: num, length: 6 }
  4: { name: amount, kind: n, length: twelve }
  5: { name: amount, kind: n, length: LL, max: 300 }
  6: { name: amount, kind: n, length: 12, max: 12 }
  7: { name: time, kind: n, length: 10, pad: middle 0 }
  8: { name: fee, kind: ans, length: 8, data: bcd }
  9: { kind: n, length: 8, tlv: true, sensitive: maybe }
  10: [n, 8]
  11: { name: sum, kind: x+n, length: LLL }
  12: { name: hidden, kind: an, length: 4, paddding: left 0 }
"#;
    expect![[r#"
        bank.yaml:2:1: `nam`: found a key of this name, expected one of `name`, `version`, `mti`, `bitmap`, `prefix`, `data`, `fields`; remedy: use `name`, or remove it
        bank.yaml:2:1: `spec`: found no `name`, expected what the spec is called; remedy: add it
        bank.yaml:4:6: `ebcdic`: found an encoding of a later version, which is not supported yet; remedy: translate before the codec
        bank.yaml:5:9: `bitmap`: found `octal`, expected `hex`, `binary`; remedy: use one of them
        bank.yaml:7:1: `extends`: found a spec that changes another, which is not supported yet; remedy: copy the other spec, and change the copy
        bank.yaml:8:27: `q`: found a key of this name, expected one of `n`, `a`, `an`, `anp`, `ns`, `as`, `s`, `ans`, `z`, `x+n`, `b`; remedy: use `a`, or remove it
        bank.yaml:10:3: `fields`: found field `1`, expected a number from 2 to 128, without 65; remedy: remove it: 1 and 65 are bits of bitmaps, and there is no third bitmap yet
        bank.yaml:11:3: `fields`: found field `02`, expected a number from 2 to 128, without 65; remedy: remove it: 1 and 65 are bits of bitmaps, and there is no third bitmap yet
        bank.yaml:12:37: `fields.3.kind`: found `num`, expected `n`, `a`, `an`, `anp`, `ns`, `as`, `s`, `ans`, `z`, `x+n`, `b`; remedy: use one of them
        bank.yaml:13:39: `fields.4.length`: found `twelve`, expected a number of characters, digits or bytes, or `LL`, `LLL` or `LLLL`; remedy: write one of 1 to 9999
        bank.yaml:14:48: `fields.5.max`: found 300, expected a number from 1 to 255, which is what the prefix can say; remedy: lower it, or take a longer prefix
        bank.yaml:15:48: `fields.6.max`: found a key of fields with a length prefix, expected a fixed length without it; remedy: remove it, or write `length: LL`
        bank.yaml:16:46: `fields.7.pad`: found `middle 0`, expected `left` or `right`, and one character that the kind has, for example `left 0`; remedy: write `left 0`, `right 0`, `right F` (packed digits), `right space` or `none`
        bank.yaml:17:47: `fields.8.data`: found `bcd` for kind `ans`, expected `ascii`; remedy: use another encoding, or another kind
        bank.yaml:18:6: `fields.9`: found no `name`, expected what the field is called; remedy: add it
        bank.yaml:18:28: `tlv`: found tagged data inside a field, which is not supported yet; remedy: take the field apart in a gear behind the codec
        bank.yaml:18:50: `fields.9.sensitive`: found `maybe`, expected `true`, `false`; remedy: use one of them
        bank.yaml:19:7: `fields.10`: found a list, expected a map; remedy: write keys and values
        bank.yaml:20:39: `fields.11.length`: found a length prefix for kind `x+n`, expected a fixed length without it; remedy: write the number of digits
        bank.yaml:21:44: `paddding`: found a key of this name, expected one of `name`, `kind`, `length`, `max`, `prefix`, `counts`, `data`, `pad`, `sensitive`; remedy: remove it"#]].assert_eq(&Spec::read("bank.yaml", text).unwrap_err().to_string());
}

#[test]
fn what_is_no_yaml_is_refused_with_its_place() {
    let errors = ["- a", "a: [", "name: x\nname: y\n", "a: &b 1", "fields: x\n", "? [a]\n: b\n", "", "name: !t x"]
        .map(|text| Spec::read("bank.yaml", text).unwrap_err().to_string().replace('\n', "\n    "));
    expect![[r#"
        bank.yaml:1:1: found no YAML (no map at the top), expected a map of keys; remedy: correct the line
        bank.yaml:2:1: found no YAML (while parsing a node, did not find expected node content), expected a map of keys; remedy: correct the line
        bank.yaml:1:1: `spec`: found no `version`, expected a text that tells two versions apart; remedy: add it
            bank.yaml:1:1: `spec`: found no `mti`, expected `ascii`, `bcd`; remedy: add it
            bank.yaml:1:1: `spec`: found no `bitmap`, expected `hex`, `binary`; remedy: add it
            bank.yaml:1:1: `spec`: found no `fields`, expected a map of field numbers; remedy: add it
            bank.yaml:2:1: found no YAML (key `name` twice), expected a map of keys; remedy: correct the line
        bank.yaml:1:1: `a`: found a key of this name, expected one of `name`, `version`, `mti`, `bitmap`, `prefix`, `data`, `fields`; remedy: remove it
            bank.yaml:1:1: `spec`: found no `name`, expected what the spec is called; remedy: add it
            bank.yaml:1:1: `spec`: found no `version`, expected a text that tells two versions apart; remedy: add it
            bank.yaml:1:1: `spec`: found no `mti`, expected `ascii`, `bcd`; remedy: add it
            bank.yaml:1:1: `spec`: found no `bitmap`, expected `hex`, `binary`; remedy: add it
            bank.yaml:1:1: `spec`: found no `fields`, expected a map of field numbers; remedy: add it
            bank.yaml:1:7: found no YAML (an anchor), expected a map of keys; remedy: correct the line
        bank.yaml:1:1: `spec`: found no `name`, expected what the spec is called; remedy: add it
            bank.yaml:1:1: `spec`: found no `version`, expected a text that tells two versions apart; remedy: add it
            bank.yaml:1:1: `spec`: found no `mti`, expected `ascii`, `bcd`; remedy: add it
            bank.yaml:1:1: `spec`: found no `bitmap`, expected `hex`, `binary`; remedy: add it
            bank.yaml:1:9: `fields`: found `x`, expected a map; remedy: write keys and values
        bank.yaml:1:3: found no YAML (a key that is no word), expected a map of keys; remedy: correct the line
        bank.yaml:1:1: found no YAML (no map at the top), expected a map of keys; remedy: correct the line
        bank.yaml:1:1: `spec`: found no `version`, expected a text that tells two versions apart; remedy: add it
            bank.yaml:1:1: `spec`: found no `mti`, expected `ascii`, `bcd`; remedy: add it
            bank.yaml:1:1: `spec`: found no `bitmap`, expected `hex`, `binary`; remedy: add it
            bank.yaml:1:1: `spec`: found no `fields`, expected a map of field numbers; remedy: add it
            bank.yaml:1:10: found no YAML (a tag), expected a map of keys; remedy: correct the line"#]].assert_eq(&errors.join("\n"));
}

#[test]
fn a_file_of_a_size_that_no_spec_has_is_not_read() {
    let text = " ".repeat(super::TEXT_BYTES_MAX + 1);
    let error = Spec::read("bank.yaml", &text).unwrap_err().to_string();
    assert!(error.contains("found 1048577 bytes, expected at most 1048576 bytes"), "{error}");
}

#[test]
fn what_is_nested_without_end_is_refused_and_ends_nothing() {
    for text in [
        format!("{}\n", "- ".repeat(500_000)),
        format!("fields:\n{}b\n", "- ".repeat(500_000)),
        format!("fields: {}\n", "[".repeat(1_000_000)),
        format!("fields: {}\n", "{b: ".repeat(250_000)),
    ] {
        let error = Spec::read("bank.yaml", &text).unwrap_err().to_string();
        assert!(error.contains("inside each other") || error.contains("recursion"), "{error}");
    }
}

#[test]
fn a_field_that_only_the_spec_calls_sensitive_is_listed_for_the_message() {
    let text = Spec::built_in_text("iso8583-1987-ascii").unwrap();
    let text = text.replace("length: LLL }", "length: LLL, sensitive: true }");
    let spec = Spec::read("bank.yaml", &text).unwrap();
    assert!(spec.field(48).unwrap().is_sensitive());
    assert!(spec.marked().unwrap().starts_with("46,47,48,56,57,"));
}
