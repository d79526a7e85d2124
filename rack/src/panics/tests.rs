//! Which panics are reported.

use super::*;

#[test]
fn a_place_is_reported_once_in_a_while_with_how_many_were_not() {
    let (mut places, now) = (Places::default(), Instant::now());
    let mut look = |file, line, after_ms| places.look(file, line, 1, now + Duration::from_millis(after_ms));
    assert_eq!((look("a.rs", 1, 0), look("a.rs", 1, 1), look("a.rs", 1, 9_999)), (Some(0), None, None));
    assert_eq!((look("a.rs", 2, 1), look("b.rs", 1, 1)), (Some(0), Some(0)), "another place");
    assert_eq!((look("a.rs", 1, 10_000), look("a.rs", 1, 10_001)), (Some(2), None));
    assert_eq!(look("a.rs", 1, 30_000), Some(1));
}

#[test]
fn places_are_bounded() {
    let (mut places, now) = (Places::default(), Instant::now());
    for line in 0..1000 {
        assert_eq!(places.look("a.rs", line, 1, now + Duration::from_millis(line.into())), Some(0));
    }
    assert_eq!(places.0.len(), PLACES_MAX);
    let later = now + Duration::from_secs(1);
    assert_eq!((places.look("a.rs", 999, 1, later), places.look("a.rs", 0, 1, later)), (None, Some(0)));
}
