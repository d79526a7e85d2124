//! Randomness that never repeats, and simulated clocks that go where they are told.

use std::collections::HashSet;
use std::time::Duration;

use super::*;

#[test]
fn no_randomness_is_given_out_twice() {
    let machine = Machine::new();
    let mut seen = HashSet::new();
    // Many blocks, in pieces that do not divide them.
    for _ in 0..2_000 {
        let mut bytes = [0; 34];
        machine.random(&mut bytes);
        assert!(seen.insert(bytes));
    }
    let mut long = vec![0; 3 * Block::BYTES];
    machine.random(&mut long);
    assert!(long.chunks(64).collect::<HashSet<_>>().len() == long.len() / 64, "longer than a block");
}

#[test]
fn threads_do_not_share_a_block() {
    let draw = || {
        let mut bytes = [0; 16];
        Machine::new().random(&mut bytes);
        bytes
    };
    let other = std::thread::spawn(draw).join().unwrap();
    assert_ne!(draw(), other);
}

#[test]
fn one_boot_is_one_boot() {
    assert_eq!(Machine::new().boot_id(), Machine::new().boot_id());
    assert!(Machine::new().boot_ns() > 0);
}

const MS: u64 = 1_000_000;
const HOUR_NS: i64 = 3_600_000_000_000;

#[test]
fn a_wall_clock_that_is_set_does_not_move_deadlines() {
    for jump in [HOUR_NS, -HOUR_NS] {
        let wall = SteadyWall::new(5_000 * MS, HOUR_NS);
        let mut before = wall.wall_ns(5_000 * MS, || unreachable!("it was looked at just now"));
        assert_eq!(before, HOUR_NS);
        for passed in (0..20_000).step_by(10) {
            let machine_ns = HOUR_NS + (passed * MS) as i64 + jump;
            let now = wall.wall_ns((5_000 + passed) * MS, || machine_ns);
            let went = now - before;
            assert!((0..=10 * 101 * MS as i64 / 100).contains(&went), "{went} ns in 10 ms");
            before = now;
        }
        let ahead = before - HOUR_NS - 19_990 * MS as i64;
        assert_eq!(ahead, jump.signum() * 199_900_000, "a hundredth of the time that passed");
    }
}

#[test]
fn a_wall_clock_is_followed_until_it_is_reached() {
    let wall = SteadyWall::new(0, HOUR_NS);
    let late = |boot_ms: u64| {
        let machine_ns = HOUR_NS + (boot_ms * MS) as i64 + 30 * MS as i64;
        machine_ns - wall.wall_ns(boot_ms * MS, || machine_ns)
    };
    assert_eq!((late(1000), late(2000), late(3000), late(4000)), (20_000_000, 10_000_000, 0, 0));
}

#[test]
fn a_machine_that_began_without_the_time_is_followed_at_once() {
    // As one without a battery: the epoch at power on, and the year 2026 a minute later.
    let wall = SteadyWall::new(5 * MS, 5 * MS as i64);
    let set_ns = 1_790_000_000_000_000_000;
    assert_eq!(wall.wall_ns(1_000 * MS, || 1_000 * MS as i64), 1_000 * MS as i64);
    assert_eq!(wall.wall_ns(60_000 * MS, || set_ns), set_ns);
    // From then on it is one like any other.
    let later = wall.wall_ns(61_000 * MS, || set_ns + HOUR_NS);
    assert_eq!(later, set_ns + 1_000 * MS as i64 + 10 * MS as i64);
}

#[test]
fn times_of_the_machine_go_on_with_its_boot_clock() {
    let world = Machine::new();
    let (wall_ns, boot_ns) = (world.wall_ns(), world.boot_ns());
    while world.boot_ns() < boot_ns + 5 * MS {
        std::thread::yield_now();
    }
    let (went, passed) = (world.wall_ns() - wall_ns, (world.boot_ns() - boot_ns) as i64);
    // The first time was read before the first boot time, the last one after the second.
    assert!(went >= 4 * MS as i64 && went <= passed * 102 / 100 + 1_000 * MS as i64, "{went} in {passed}");
    assert!((world.machine_wall_ns() - world.wall_ns()).abs() < HOUR_NS);
}

#[tokio::test(start_paused = true)]
async fn a_simulated_world_follows_the_paused_clock_and_jumps() {
    let world = SimWorld::new(3);
    let (wall_ns, boot_id) = (world.wall_ns(), world.boot_id());
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!((world.wall_ns() - wall_ns, world.boot_ns()), (2_000_000_000, 2_000_000_000));
    world.jump(-500_000_000);
    assert_eq!((world.wall_ns() - wall_ns, world.boot_ns()), (1_500_000_000, 2_000_000_000));
    world.reboot();
    assert_ne!(world.boot_id(), boot_id);
}

#[tokio::test(start_paused = true)]
async fn equal_seeds_give_equal_chance() {
    let draw = |seed| {
        let mut bytes = [0; 20];
        SimWorld::new(seed).random(&mut bytes);
        bytes
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
}
