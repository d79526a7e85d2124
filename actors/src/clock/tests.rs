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
