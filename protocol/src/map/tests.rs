//! Tests of maps: paths, order, copies that stay apart, and the texts of what a gear did wrong.
//! `map` builds one from paths and values.

use expect_test::expect;

use super::*;

fn path(text: &str) -> FieldPath {
    text.parse().unwrap()
}

fn map() -> Map {
    let mut map = Map::default();
    map.set(&path("tank.level"), 12).unwrap();
    map.set(&path("tank.unit"), "l").unwrap();
    map.set(&path("site"), "N1").unwrap();
    map
}

#[test]
fn set_makes_the_maps_on_the_way() {
    let map = map();
    assert_eq!(map.int(&path("tank.level")), Ok(12));
    assert_eq!(map.number(&path("tank.level")), Ok(12.0));
    assert_eq!(map.get_str("tank.unit").and_then(Value::as_text), Some("l"));
    assert_eq!(map.get_str("tank.unit.more"), None);
    assert_eq!(map.get_str(""), None);
    assert_eq!(map.len(), 2);
    assert_eq!(format!("{map}"), r#"{"site": text(2), "tank": {"unit": text(1), "level": int}}"#);
}

#[test]
fn keys_with_dots_are_reached_on_their_own_level() {
    let mut map = Map::default();
    map.insert_key("a.b", 1);
    assert_eq!(map.get_str("a.b"), None);
    assert_eq!(map.get_key("a.b"), Some(&1.into()));
    *map.get_key_mut("a.b").unwrap() = 2.into();
    assert_eq!(map.insert_key("a.b", 3), Some(2.into()));
    assert_eq!(map.remove_key("a.b"), Some(3.into()));
    assert_eq!(map.remove_key("a.b"), None);
    assert!(map.is_empty() && map == Map::default());
}

#[test]
fn errors_name_the_place_and_never_the_value() {
    let mut map = map();
    map.set(&path("pan"), "4000001234567899").unwrap();
    map.set(&path("far"), u64::MAX).unwrap();
    expect!["`tank.volume` is missing; remedy: name another field, or let an earlier gear set it"]
        .assert_eq(&map.number(&path("tank.volume")).unwrap_err().to_string());
    expect!["`pan` is of type text, expected number; remedy: name another field, or convert it before this gear"]
        .assert_eq(&map.number(&path("pan")).unwrap_err().to_string());
    expect!["`far` is an int outside -2^63 to 2^63 - 1; remedy: read it as a number, or carry it as text"]
        .assert_eq(&map.int(&path("far")).unwrap_err().to_string());
    let before = map.clone();
    expect!["`tank.level` is of type int, expected map; remedy: name another field, or convert it before this gear"]
        .assert_eq(&map.set(&path("tank.level.high.low"), 1).unwrap_err().to_string());
    assert_eq!(map, before);
    for error in [map.text(&path("tank")), map.bytes(&path("pan")).map(|_| ""), map.bool(&path("pan")).map(|_| "")] {
        assert!(matches!(error, Err(FieldError::Type { .. })));
    }
}

#[test]
fn a_write_copies_one_level_and_only_when_shared() {
    let mut map = map();
    let before = map.clone();
    map.set(&path("site"), "N2").unwrap();
    assert_eq!((before.text(&path("site")), map.text(&path("site"))), (Ok("N1"), Ok("N2")));
    let tank = |map: &Map| map.get_str("tank").unwrap().as_map().unwrap().entries().as_ptr();
    assert_eq!(tank(&before), tank(&map), "the level below was not copied");
    let level = map.entries().as_ptr();
    map.set(&path("site"), "N3").unwrap();
    assert_eq!(level, map.entries().as_ptr(), "nobody else holds it, so it is changed in place");
}

#[test]
fn removing_what_is_not_there_copies_nothing() {
    let map = map();
    let mut other = map.clone();
    assert_eq!(other.remove(&path("tank.volume")), None);
    assert_eq!(other.remove_key("volume"), None);
    assert_eq!(map.entries().as_ptr(), other.entries().as_ptr());
    assert_eq!(other.remove(&path("tank.level")), Some(12.into()));
    assert_eq!(other.remove(&path("tank.unit")), Some("l".into()));
    assert!(other.get_str("tank").unwrap().as_map().unwrap().is_empty());
    assert_eq!(map.int(&path("tank.level")), Ok(12));
}

#[test]
fn a_builder_sorts_once_and_keeps_the_last() {
    let keys = |map: &Map| map.iter().map(|(key, _)| key.to_owned()).collect::<Vec<_>>();
    let in_order: Map = [("2", 1), ("4", 2), ("11", 3)].into_iter().collect();
    let shuffled: Map = [("11", 9), ("4", 2), ("11", 8), ("2", 1), ("11", 3)].into_iter().collect();
    assert_eq!(keys(&shuffled), ["2", "4", "11"]);
    assert_eq!(in_order, shuffled);
    let twice: Map = [("2", 1), ("2", 2)].into_iter().collect();
    assert_eq!((twice.len(), twice.int(&path("2"))), (1, Ok(2)));
    assert_eq!(MapBuilder::default().build(), Map::default());
    let meta: crate::Meta = [("b", "1"), ("a", "2"), ("b", "3")].into_iter().collect();
    assert_eq!(meta.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "3")]);
}

#[test]
fn meta_prints_keys_and_lengths() {
    let mut meta: crate::Meta = [("pan", "4000001234567899")].into_iter().collect();
    assert_eq!(format!("{meta:?}"), r#"{"pan": text(16)}"#);
    assert_eq!(meta.set("pan", "x").as_deref(), Some("4000001234567899"));
    assert_eq!((meta.len(), meta.remove("pan").as_deref(), meta.is_empty()), (1, Some("x"), true));
}

const KEYS: [&str; 26] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "20",
    "21", "22", "23", "24", "25",
];

#[test]
fn texts_that_come_in_order_are_the_same_as_texts_that_are_sorted() {
    // Every length that stands inline, and two beyond.
    let texts: Vec<String> = (0..=25).map(|len| "x7ä".chars().cycle().take(len).collect()).collect();
    let mut next = (0_usize..).zip(&texts);
    let ordered: Result<Map, ()> = Map::try_fill(texts.len() + 1, |place| {
        match next.next() {
            Some((key, text)) => place.text(KEYS[key], text),
            None => place.value("100", Value::from(7_u64)),
        }
        Ok(())
    });
    let mut sorted: Map = texts.iter().enumerate().map(|(key, text)| (key.to_string(), text.as_str())).collect();
    sorted.insert_key("100", 7_u64);
    assert_eq!(ordered, Ok(sorted));
    assert_eq!(Map::try_fill(1, |_| Err("no")), Err("no"));
    assert!(Map::try_fill(0, |_| Err(())).is_ok_and(|map| map.is_empty()));
}
