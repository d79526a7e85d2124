//! Tests of ids: their bits, their texts, and that they never change.
//! The expected numbers are part of the promise: an id that moves orphans journals and registries.

use expect_test::expect;
use proptest::prelude::*;

use super::*;

#[test]
fn a_v7_id_sorts_by_time() {
    let earlier = FluxId::v7(1_700_000_000_000, [0xff; 10]);
    let later = FluxId::v7(1_700_000_000_001, [0; 10]);
    assert!(earlier < later);
    assert_eq!((later.version(), later.0[8] >> 6), (7, 0b10));
    assert_eq!(later.unix_ms(), Some(1_700_000_000_001));
    assert_eq!(FluxId::v7(u64::MAX, [0; 10]).unix_ms(), Some((1 << 48) - 1));
}

#[test]
fn a_derived_id_keeps_the_hash_but_six_bits() {
    let id = FluxId::derived([0xff; 16]);
    assert_eq!(id.to_string(), "ffffffff-ffff-8fff-bfff-ffffffffffff");
    assert_eq!((id.version(), id.unix_ms()), (8, None));
}

#[test]
fn entity_ids_have_three_parts() {
    let id = EntityId::new(EntityKind::Rack, 0xbeef, EntityId::SEQUENCE_MAX);
    assert_eq!(id.to_string(), "03beefffffffffff");
    assert_eq!((id.kind(), id.machine(), id.sequence()), (Some(EntityKind::Rack), 0xbeef, EntityId::SEQUENCE_MAX));
    assert_eq!(EntityId(0xff << 56).kind(), None);
    assert_eq!(EntityId::NIL.kind(), None);
    for (idx, kind) in EntityKind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, idx + 1);
        assert_eq!(EntityId::new(kind, 0, 0).kind(), Some(kind));
    }
}

#[test]
#[should_panic(expected = "40 bits")]
fn a_sequence_beyond_40_bits_is_our_mistake() {
    EntityId::new(EntityKind::Gear, 0, EntityId::SEQUENCE_MAX + 1);
}

#[test]
fn names_give_the_same_id_for_ever() {
    let id = |kind, scenario, name| EntityId::from_names(kind, 7, scenario, name).to_string();
    expect!["040007bbf976e1f4"].assert_eq(&id(EntityKind::Gear, "depot-fuel-cards", "pumps"));
    expect!["07000743febfcb56"].assert_eq(&id(EntityKind::Wire, "depot-fuel-cards", "pumps"));
    let ids = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc")].map(|(a, b)| id(EntityKind::Gear, a, b));
    assert!(ids.iter().enumerate().all(|(idx, id)| !ids[..idx].contains(id)), "{ids:?}");
}

#[test]
fn texts_that_are_no_ids_say_so() {
    let id = |text: &str| text.parse::<FluxId>().unwrap_err().to_string();
    expect!["flux id `not-an-id` is not a uuid, expected 8-4-4-4-12 hex digits; remedy: copy the whole id"]
        .assert_eq(&id("not-an-id"));
    for wrong in ["", "018bcfe568007fffbfffffffffffffff", "018bcfe5-6800-7fff-bfff-fffffffffffg", &"ä".repeat(18)] {
        assert!(wrong.parse::<FluxId>().is_err(), "{wrong}");
    }
    expect!["entity id `04` is not a number, expected 16 hex digits; remedy: copy the whole id"]
        .assert_eq(&"04".parse::<EntityId>().unwrap_err().to_string());
    assert!("+300000000000000".parse::<EntityId>().is_err());
}

proptest! {
    #[test]
    fn texts_survive_the_way(id in any::<[u8; 16]>(), entity in any::<u64>()) {
        prop_assert_eq!(FluxId(id).to_string().parse(), Ok(FluxId(id)));
        prop_assert_eq!(FluxId(id).to_string().to_uppercase().parse(), Ok(FluxId(id)));
        prop_assert_eq!(EntityId(entity).to_string().parse(), Ok(EntityId(entity)));
        let json = serde_json::to_string(&(FluxId(id), EntityId(entity))).unwrap();
        prop_assert_eq!(serde_json::from_str::<(FluxId, EntityId)>(&json).unwrap(), (FluxId(id), EntityId(entity)));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
        let _ = text.parse::<FluxId>();
        let _ = text.parse::<EntityId>();
    }
}
