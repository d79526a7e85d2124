//! However a stream is cut, the same frames come out of it; lengths that lie are told before anything is kept for them.

use proptest::prelude::*;

use super::{BadFrame, Framing, LengthPrefix};

fn framings() -> impl Strategy<Value = Framing> {
    let prefixes = [LengthPrefix::Be16, LengthPrefix::Be32, LengthPrefix::Ascii4, LengthPrefix::Bcd2];
    prop_oneof![
        (proptest::sample::select(prefixes.to_vec()), any::<bool>())
            .prop_map(|(prefix, is_inclusive)| Framing::Length { prefix, is_inclusive }),
        // A small alphabet, so that bodies often hold what a delimiter begins with.
        proptest::collection::vec(b'a'..=b'c', 1..4).prop_map(|bytes| Framing::Delimiter(bytes.into())),
    ]
}

fn bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(proptest::collection::vec(b'a'..=b'd', 0..40), 0..12)
}

/// Reads a stream that comes in the given parts.
fn read(framing: &Framing, stream: &[u8], cuts: &[usize], max: usize) -> (Vec<Vec<u8>>, Result<Vec<u8>, BadFrame>) {
    let (mut frames, mut buffer, mut looked) = (Vec::new(), Vec::new(), 0);
    let mut from = 0;
    for cut in cuts.iter().map(|cut| cut % (stream.len() + 1)).chain([stream.len()]) {
        if cut < from {
            continue;
        }
        buffer.extend_from_slice(&stream[from..cut]);
        from = cut;
        loop {
            match framing.first(&buffer, &mut looked, max) {
                Ok(Some(frame)) => {
                    frames.push(buffer[frame.head..frame.head + frame.body].to_vec());
                    buffer.drain(..frame.head + frame.body + frame.tail);
                }
                Ok(None) => break,
                Err(bad) => return (frames, Err(bad)),
            }
        }
    }
    (frames, Ok(buffer))
}

proptest! {
    #[test]
    fn what_was_written_is_read_however_it_is_cut(
        framing in framings(),
        bodies in bodies(),
        mut cuts in proptest::collection::vec(any::<usize>(), 0..30),
    ) {
        let bodies: Vec<_> = bodies.into_iter().filter(|body| framing.carries(body)).collect();
        let mut stream = Vec::new();
        for body in &bodies {
            framing.write(body, &mut stream);
        }
        cuts.sort_by_key(|cut| cut % (stream.len() + 1));
        let (frames, rest) = read(&framing, &stream, &cuts, 40);
        prop_assert_eq!(frames, bodies);
        prop_assert_eq!(rest, Ok(Vec::new()));
    }

    #[test]
    fn noise_comes_out_the_same_however_it_is_cut(
        framing in framings(),
        stream in proptest::collection::vec(prop_oneof![0u8..4, b'0'..=b'9', b'a'..=b'c', any::<u8>()], 0..200),
        mut cuts in proptest::collection::vec(any::<usize>(), 0..30),
        max in 0usize..60,
    ) {
        cuts.sort_by_key(|cut| cut % (stream.len() + 1));
        let whole = read(&framing, &stream, &[], max);
        prop_assert_eq!(&read(&framing, &stream, &cuts, max), &whole);
        prop_assert!(whole.0.iter().all(|frame| frame.len() <= max));
        // What is kept while a frame is not whole is bounded, whatever it claims.
        prop_assert!(whole.1.is_err() || whole.1.is_ok_and(|rest| rest.len() < max + 8));
    }

    #[test]
    fn what_a_framing_does_not_carry_would_not_come_back(framing in framings(), body in proptest::collection::vec(b'a'..=b'd', 0..40)) {
        let mut stream = Vec::new();
        framing.write(&body, &mut stream);
        let (frames, _) = read(&framing, &stream, &[], 100);
        prop_assert_eq!(frames == [body.clone()], framing.carries(&body));
    }
}

#[track_caller]
fn check(prefix: LengthPrefix, is_inclusive: bool, stream: &[u8], found: Result<Option<usize>, BadFrame>) {
    let framing = Framing::Length { prefix, is_inclusive };
    let first = framing.first(stream, &mut 0, 1000).map(|frame| frame.map(|frame| frame.body));
    assert_eq!(first, found, "{prefix:?} {is_inclusive} {stream:?}");
}

#[test]
fn prefixes_are_what_they_say() {
    use LengthPrefix::{Ascii4, Bcd2, Be16, Be32};
    check(Be16, false, b"\0\x02ab", Ok(Some(2)));
    check(Be16, true, b"\0\x04ab", Ok(Some(2)));
    check(Be16, true, b"\0\x02", Ok(Some(0)));
    check(Be32, false, b"\0\0\0\x02ab", Ok(Some(2)));
    check(Ascii4, false, b"0002ab", Ok(Some(2)));
    check(Ascii4, true, b"0006ab", Ok(Some(2)));
    check(Bcd2, false, b"\x00\x12abcdefghijkl", Ok(Some(12)));
    check(Bcd2, true, b"\x00\x14abcdefghijkl", Ok(Some(12)));
    // The jPOS primer's 46 bytes are `00 46` in this form, and 70 bytes in the binary one.
    check(Bcd2, false, &[&b"\x00\x46"[..], &[b'x'; 46]].concat(), Ok(Some(46)));
    check(Be16, false, &[&b"\x00\x46"[..], &[b'x'; 46]].concat(), Ok(None));
}

#[test]
fn lengths_that_lie_are_told_from_the_prefix_alone() {
    use LengthPrefix::{Ascii4, Bcd2, Be16, Be32};
    check(Be16, false, b"\0", Ok(None));
    check(Be16, false, b"\xff\xff", Err(BadFrame::Oversize));
    check(Be32, false, b"\xff\xff\xff\xff", Err(BadFrame::Oversize));
    check(Be32, false, b"\0\0\x03\xe9", Err(BadFrame::Oversize));
    check(Be32, false, b"\0\0\x03\xe8", Ok(None));
    for (prefix, least) in [(Be16, &b"\0\x01"[..]), (Be32, b"\0\0\0\x03"), (Ascii4, b"0003"), (Bcd2, b"\0\x01")] {
        check(prefix, true, least, Err(BadFrame::Length));
    }
    for text in [b"00a2", b"-001", b"+001", b" 001", b"0x10", b"\xf0\xf0\xf0\xf1"] {
        check(Ascii4, false, text, Err(BadFrame::Length));
    }
    check(Bcd2, false, b"\x0a\x00", Err(BadFrame::Length));
    check(Bcd2, false, b"\x00\xf1", Err(BadFrame::Length));
}

#[test]
fn a_length_is_written_in_all_its_digits() {
    let write = |prefix, is_inclusive, len: usize| {
        let mut out = Vec::new();
        Framing::Length { prefix, is_inclusive }.write(&vec![b'x'; len], &mut out);
        out.truncate(out.len() - len);
        out
    };
    assert_eq!(write(LengthPrefix::Ascii4, false, 46), b"0046");
    assert_eq!(write(LengthPrefix::Ascii4, true, 46), b"0050");
    assert_eq!(write(LengthPrefix::Bcd2, false, 115), b"\x01\x15");
    assert_eq!(write(LengthPrefix::Bcd2, false, 9_999), b"\x99\x99");
    assert_eq!(write(LengthPrefix::Be16, true, 65_533), b"\xff\xff");
    let carries = |prefix, is_inclusive, len: usize| Framing::Length { prefix, is_inclusive }.carries(&vec![b'x'; len]);
    assert!(carries(LengthPrefix::Be16, true, 65_533) && !carries(LengthPrefix::Be16, true, 65_534));
    assert!(carries(LengthPrefix::Bcd2, false, 9_999) && !carries(LengthPrefix::Bcd2, false, 10_000));
    assert!(carries(LengthPrefix::Ascii4, true, 9_995) && !carries(LengthPrefix::Ascii4, true, 9_996));
}
