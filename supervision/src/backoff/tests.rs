//! Bounds of the waits.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_wait_lies_between_its_jittered_and_its_full_length(
        seed: u64,
        failures in 0..2_000u32,
        first_ms in 0..5_000u64,
        max_ms in 0..100_000u64,
        jitter in 0.0..1.0f64,
    ) {
        let backoff = Backoff { jitter, ..Backoff::new(Duration::from_millis(first_ms), Duration::from_millis(max_ms)) };
        let full = Backoff { jitter: 0.0, ..backoff }.delay(failures, &mut Jitter::new(seed));
        let wait = backoff.delay(failures, &mut Jitter::new(seed));
        prop_assert!(full <= backoff.max);
        prop_assert!(wait <= full);
        // A nanosecond for the rounding of the product.
        prop_assert!(wait + Duration::from_nanos(1) >= full.mul_f64(1.0 - jitter));
    }
}

#[test]
fn a_first_wait_of_zero_is_followed_by_longer_ones() {
    let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
    let waits: Vec<_> = (0..12).map(|failures| backoff.delay(failures, &mut Jitter::new(0)).as_millis()).collect();
    assert_eq!(waits, [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
}

#[test]
fn none_never_waits() {
    assert!((0..100).all(|failures| Backoff::NONE.delay(failures, &mut Jitter::new(0)).is_zero()));
}
