//! Which names a pattern means, and what a tap tells.

use super::*;
use crate::sample::msg;

#[test]
fn a_star_stands_for_any_text() {
    let yes = [
        ("a.out->b.in", "a.out->b.in"),
        ("*", ""),
        ("*", "a.out->b.in"),
        ("a.*", "a.out->b.in"),
        ("*->b.in", "a.out->b.in"),
        ("a*->b*", "a.out->b.in"),
        ("*.out->*", "a.out->b.in"),
        ("**", "a"),
        ("a*a", "aa"),
        ("*ab*ab", "abxabab"),
    ];
    let no = [("a", "ab"), ("a*", "ba"), ("*a", "ab"), ("a*a", "a"), ("a*b*c", "acb"), ("", "a"), ("*x*", "abc")];
    yes.iter().for_each(|(pattern, name)| assert!(matches(pattern, name), "{pattern} {name}"));
    no.iter().for_each(|(pattern, name)| assert!(!matches(pattern, name), "{pattern} {name}"));
}

fn tap(every: u64) -> (TapEnd, Tap) {
    let (tapped, receiver) = mpsc::channel(LAG_MAX);
    let missed = Arc::new(AtomicU64::new(0));
    let every = NonZeroU64::new(every).unwrap();
    let end = TapEnd { every, wire: "a.out->b.in".into(), tapped, missed: Arc::clone(&missed) };
    (end, Tap { wires: vec!["a.out->b.in".into()], redactor: None, tapped: receiver, missed })
}

#[tokio::test]
async fn it_shows_a_sample_and_counts_what_nobody_took_in_time() {
    let (end, mut tap) = tap(3);
    let sampled = LAG_MAX as u64 + 5;
    (1..=3 * sampled).for_each(|seq| end.show(seq, &msg(seq)));
    assert_eq!(tap.missed(), 5);
    for idx in 1..=LAG_MAX as u64 {
        let tapped = tap.next().await.unwrap();
        assert_eq!((tapped.seq, tapped.msg.id), (3 * idx, msg(3 * idx).id));
    }
    assert!(end.is_open());
    drop(end);
    assert!(tap.next().await.is_none());
}

#[tokio::test]
async fn what_is_sensitive_is_not_shown() {
    let (end, tap) = tap(1);
    let mut tap = Tap { redactor: Some(|_| Some(msg(7))), ..tap };
    end.show(1, &msg(1));
    assert_eq!(tap.next().await.unwrap().msg.id, msg(7).id);
    drop(tap);
    assert!(!end.is_open());
}

#[test]
fn what_cannot_be_tapped_says_why() {
    let error = TapError::NoWire { pattern: "a.out->c.in".into(), near: Some("a.out->b.in".into()) };
    let text = error.to_string();
    assert!(text.starts_with("tap: found no wire that matches `a.out->c.in`"), "{text}");
    assert!(text.contains("nearest: `a.out->b.in`"), "{text}");
    assert!(TapError::TooMany("a.out->b.in".into()).to_string().contains("found 16 taps on wire `a.out->b.in`"));
}
