//! Who is woken by what: everybody by his own mark only, and all when they are told to look again.

use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Wake, Waker};

use super::*;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A move of the marks, whether it wakes the one who waits, and whether he is done then.
type Move<'a> = (&'a dyn Fn(&MarkBoard), bool, bool);

/// One who waits for `after` while the marks stand at 5.
#[track_caller]
fn check(after: After, moves: &[Move<'_>]) {
    let board = MarkBoard::new(Marks { written: 5, flushed: 5 });
    let mut watch = board.watch();
    let mut wait = pin!(watch.covered(after));
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    assert_eq!(wait.as_mut().poll(&mut context), Poll::Pending);
    for (idx, (make, is_woken, is_ready)) in moves.iter().enumerate() {
        make(&board);
        assert_eq!(count.0.swap(0, Ordering::Relaxed) > 0, *is_woken, "move {idx}");
        assert_eq!(wait.as_mut().poll(&mut context).is_ready(), *is_ready, "move {idx}");
    }
}

fn to(written: u64, flushed: u64) -> impl Fn(&MarkBoard) {
    move |board| board.set(Marks { written, flushed })
}

#[test]
fn a_written_mark_wakes_nobody_who_waits_for_a_flush() {
    let after = After { flush: 7, os: 0 };
    check(
        after,
        &[(&to(6, 5), false, false), (&to(7, 6), true, false), (&to(8, 6), false, false), (&to(8, 7), true, true)],
    );
}

#[test]
fn either_mark_serves_one_who_waits_for_the_page_cache() {
    check(After { flush: 0, os: 6 }, &[(&to(6, 5), true, true)]);
    check(After { flush: 0, os: 6 }, &[(&to(5, 6), true, true)]);
}

#[test]
fn one_who_needs_both_waits_for_one_after_the_other() {
    check(After { flush: 6, os: 7 }, &[(&to(6, 6), true, false), (&to(7, 6), true, true)]);
}

#[test]
fn one_who_needs_nothing_is_only_told() {
    check(After::NOTHING, &[(&to(7, 7), false, false), (&MarkBoard::wake, true, true)]);
    check(After { flush: 9, os: 0 }, &[(&MarkBoard::wake, true, true)]);
}
