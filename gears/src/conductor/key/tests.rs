//! Keys: what is one transaction and what is not, and their names.

use std::collections::HashSet;

use super::*;

fn key(mti: &str, fields: &[&str]) -> Key {
    let seen: Vec<Seen<'_>> = fields.iter().map(|text| Seen::Text(text)).collect();
    Key::of(super::mti(mti), &seen, &mut Vec::new()).unwrap()
}

#[test]
fn replies_and_repeats_are_of_the_transaction_of_their_request_and_nothing_else_is() {
    let same = ["0200", "0201", "0210", "0211"];
    assert!(same.iter().all(|mti| key(mti, &["1"]) == key("0200", &["1"])));
    let other = ["1200", "0100", "0220", "0202", "0400", "0206", "0207"];
    let keys: HashSet<Key> = other.iter().map(|mti| key(mti, &["1"])).chain([key("0200", &["1"])]).collect();
    assert_eq!(keys.len(), other.len() + 1);
    assert_eq!((answering(*b"0201"), answering(*b"0120"), answering(*b"0403")), (*b"0210", *b"0130", *b"0412"));
}

#[test]
fn fields_do_not_run_into_each_other() {
    let lists: [&[&str]; 5] = [&["12", "3"], &["1", "23"], &["123"], &["123", ""], &["", "123"]];
    let keys: HashSet<Key> = lists.iter().map(|fields| key("0200", fields)).collect();
    assert_eq!(keys.len(), lists.len());
    let bytes = Value::from(b"123");
    let of_bytes = Key::of(super::mti("0200"), &[Seen::Value(&bytes)], &mut Vec::new()).unwrap();
    assert!(of_bytes != key("0200", &["123"]), "a text is not the bytes of the same characters");
}

#[test]
fn a_name_is_inline_and_stands_for_one_key() {
    for number in 0..1000u128 {
        let key = Key(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        assert!(!key.text().is_heap_allocated());
        assert_eq!(Key::from_text(&key.text()), Some(key));
    }
    assert_eq!(Key::from_text(&Key(u128::MAX).text()), Some(Key(u128::MAX)));
    for text in ["", "A", "AAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAA=", "AAAAAAAAAAAAAAAAAAAAAE"] {
        assert_eq!(Key::from_text(text), None, "{text}");
    }
}
