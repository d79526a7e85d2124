//! What the codec must do with every message: come back the same, refuse what is cut or changed, and tell no value.

mod dumps;
mod encodings;
mod private;

use fluxrig_actors::protocol::{Map, SmolStr, Value};
use proptest::prelude::*;

use super::{DecodeFault, Decoded, EncodeFault, FieldSpec, Kind, Part, Spec};

pub(super) fn built_in() -> [Spec; 2] {
    ["iso8583-1987-ascii", "iso8583-1987-binary"].map(|name| Spec::built_in(name).unwrap())
}

pub(super) fn fields(fields: &[(u8, &str)]) -> Map {
    fields.iter().map(|(number, text)| (number.to_string(), *text)).collect()
}

/// The 0200 of twenty fields that the bench sends.
pub(super) fn purchase() -> Map {
    fields(&[
        (2, "4761739001010119"),
        (3, "000000"),
        (4, "000000012345"),
        (7, "1121073655"),
        (11, "123456"),
        (12, "073655"),
        (13, "1121"),
        (14, "2812"),
        (18, "5411"),
        (22, "051"),
        (25, "00"),
        (32, "123456"),
        (35, "4761739001010119=28122011143857289"),
        (37, "632507123456"),
        (41, "TERM0001"),
        (42, "MERCHANT0000001"),
        (43, "FLUX COFFEE BAR          LISBOA       PT"),
        (48, "ADDITIONAL DATA 1234"),
        (49, "840"),
        (60, "RESERVED0060"),
    ])
}

/// A number from a seed, and the next seed.
fn draw(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// A value that a field may hold, of a length that it may have.
fn value(field: &FieldSpec, seed: &mut u64) -> Value {
    let max = field.units_max();
    let len = match draw(seed) % 4 {
        _ if field.is_fixed() => max,
        0 => max,
        1 => 0,
        _ => draw(seed) as usize % (max + 1).min(40),
    };
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz ";
    let (digits, special) = (b"0123456789".as_slice(), b" !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~".as_slice());
    let allowed: Vec<u8> = match field.kind() {
        Kind::B => return (0..len).map(|_| draw(seed) as u8).collect::<Vec<u8>>().into(),
        Kind::N | Kind::Xn => digits.to_vec(),
        Kind::A => letters.to_vec(),
        Kind::An | Kind::Anp => [letters, digits].concat(),
        Kind::Ns => [digits, special].concat(),
        Kind::As => [letters, special].concat(),
        Kind::S => special.to_vec(),
        Kind::Ans => [letters, digits, special].concat(),
        Kind::Z => b"0123456789=".to_vec(),
    };
    let mut text: Vec<u8> = (0..len).map(|_| allowed[draw(seed) as usize % allowed.len()]).collect();
    if field.kind() == Kind::Xn {
        text[0] = if draw(seed).is_multiple_of(2) { b'C' } else { b'D' };
    }
    String::from_utf8(text).unwrap().into()
}

fn message(spec: &Spec, bits: u128, mut seed: u64) -> Decoded {
    let chosen = spec.fields().filter(|field| bits >> (field.number() - 1) & 1 == 1);
    let fields = chosen.map(|field| (field.number().to_string(), value(field, &mut seed))).collect();
    Decoded { mti: SmolStr::from(format!("{:04}", draw(&mut seed) % 10_000)), fields }
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same(bits: u128, other: u128, seed: u64) {
        for spec in built_in() {
            for bits in [bits, bits & other, (bits & other) >> 64] {
                let sent = message(&spec, bits, seed);
                let bytes = spec.encode(&sent.mti, &sent.fields).unwrap();
                prop_assert!(spec.decode(&bytes).unwrap() == sent);
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read_and_written_again(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        bits: u128,
        seed: u64,
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4),
    ) {
        for spec in built_in() {
            check_any(&spec, &bytes);
            let sent = message(&spec, bits & 0xffff_ffff, seed);
            let mut changed = spec.encode(&sent.mti, &sent.fields).unwrap();
            for (at, byte) in &changes {
                let at = usize::from(*at) % changed.len();
                changed[at] = *byte;
            }
            check_any(&spec, &changed);
        }
    }
}

proptest! {
    // Each case reads the message as often as it has bytes.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_message_that_is_cut_is_refused_wherever_it_is_cut(bits: u128, other: u128, seed: u64) {
        for spec in built_in() {
            let sent = message(&spec, bits & other, seed);
            let bytes = spec.encode(&sent.mti, &sent.fields).unwrap();
            for len in 0..bytes.len() {
                let error = spec.decode(&bytes[..len]).unwrap_err();
                prop_assert!(error.at <= len, "{error}");
            }
            let error = spec.decode(&[bytes.as_slice(), b"0"].concat()).unwrap_err();
            prop_assert_eq!((error.part, error.fault), (Part::End, DecodeFault::Trailing { left: 1 }));
        }
    }
}

/// Never a panic; what was read can be written and is then read as the same.
fn check_any(spec: &Spec, bytes: &[u8]) {
    match spec.decode(bytes) {
        Ok(read) => {
            let again = spec.encode(&read.mti, &read.fields).unwrap();
            assert!(spec.decode(&again).unwrap() == read);
        }
        Err(error) => assert!(error.at <= bytes.len(), "{error}"),
    }
}

/// The corpus of the fuzz target `iso8583`, as an ordinary test.
#[test]
fn the_corpus_of_the_fuzzer_holds() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/iso8583");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for spec in built_in() {
            check_any(&spec, &bytes);
        }
        count += 1;
    }
    assert!(count >= 4, "the corpus has {count} files");
}

#[test]
fn a_length_that_is_only_claimed_is_refused_before_anything_is_made_of_it() {
    let [ascii, binary] = built_in();
    let error = ascii.decode(b"02000000000000010000999AB").unwrap_err();
    assert_eq!(
        error.to_string(),
        "field 48 at byte 23: found 2 bytes, expected 999; remedy: compare the spec and the framing with the peer's"
    );
    let error = ascii.decode(b"0200400000000000000099123").unwrap_err();
    assert_eq!(
        error.to_string(),
        "field 2 at byte 20: found a length of 99, expected at most 19; remedy: compare the spec with the peer's"
    );
    let error = binary.decode(b"\x02\x00\0\0\0\0\0\0\x02\0\x02\x56\0\0").unwrap_err();
    assert_eq!(error.fault, DecodeFault::Length { found: 256, max: 255 }, "{error}");
}

#[test]
fn values_that_do_not_fit_are_refused_by_field_and_reason() {
    let [ascii, _] = built_in();
    let fault = |number: &str, value: Value| {
        let fields: Map = [(number, value)].into_iter().collect();
        ascii.encode("0200", &fields).unwrap_err().to_string()
    };
    let errors = [
        fault("2", "47617390010101190000".into()),
        fault("3", "00000A".into()),
        fault("3", 0_u64.into()),
        fault("28", "C0000".into()),
        fault("41", "TERMINAL1".into()),
        fault("49", "84\u{e4}".into()),
        fault("52", "0123456789ABCDEF".into()),
        fault("64", b"1234567".into()),
        fault("65", "1".into()),
        fault("1", "1".into()),
        fault("129", "1".into()),
        fault("002", "1".into()),
    ];
    expect_test::expect![[r#"
        field 2: found a length of 20, expected at most 19; remedy: correct the value
        field 3: found at position 5 a character that is none of kind `n`; remedy: correct the value
        field 3: found a value of type int, expected text; remedy: convert it before this gear
        field 28: found a length of 5, expected 9; remedy: correct the value
        field 41: found a length of 9, expected at most 8; remedy: correct the value
        field 49: found at position 2 a character that is none of kind `an`; remedy: correct the value
        field 52: found a value of type text, expected bytes; remedy: convert it before this gear
        field 64: found a length of 7, expected 8; remedy: correct the value
        field 65: found a key that is no field of the spec; remedy: add it to the spec, or let an earlier gear drop it
        `data.iso8583`: found a key that is no field of the spec; remedy: add it to the spec, or let an earlier gear drop it
        `data.iso8583`: found a key that is no field of the spec; remedy: add it to the spec, or let an earlier gear drop it
        `data.iso8583`: found a key that is no field of the spec; remedy: add it to the spec, or let an earlier gear drop it"#]]
    .assert_eq(&errors.join("\n"));
    let error = ascii.encode("02O0", &Map::default()).unwrap_err();
    assert_eq!((error.part, error.fault), (Part::Mti, EncodeFault::Mti));
}
