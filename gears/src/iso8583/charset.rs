//! Which characters each kind of field may hold. Eight at a time for the two kinds that most fields are.

/// What a field holds, in the notation of the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Digits.
    N,
    /// Letters, and the space as filler.
    A,
    /// Letters and digits, and the space as filler.
    An,
    /// Letters and digits, padded with spaces.
    Anp,
    /// Digits and special characters.
    Ns,
    /// Letters and special characters.
    As,
    /// Special characters.
    S,
    /// Every printable character.
    Ans,
    /// Characters of a card's track: digits, `=` or `D` between them, and what else track 2 and 3 know.
    Z,
    /// `C` or `D`, then digits.
    Xn,
    /// Bytes.
    B,
}

const DIGIT: u8 = 1;
const LETTER: u8 = 2;
const SPECIAL: u8 = 4;
const SPACE: u8 = 8;
const TRACK: u8 = 16;

/// The classes of each byte.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        let c = byte as u8;
        classes[byte] = if c.is_ascii_digit() {
            DIGIT
        } else if c.is_ascii_alphabetic() {
            LETTER
        } else if c == b' ' {
            SPACE
        } else {
            SPECIAL
        };
        // The track codes are 0x30 to 0x3F; some hosts write the separator as the letter of its nibble.
        if (c >= 0x30 && c <= 0x3f) || c == b'D' {
            classes[byte] |= TRACK;
        }
        byte += 1;
    }
    classes
};

const EIGHT: u64 = 0x0101_0101_0101_0101;

impl Kind {
    /// Every kind, as a spec writes it.
    pub const NAMES: [(&'static str, Kind); 11] = [
        ("n", Kind::N),
        ("a", Kind::A),
        ("an", Kind::An),
        ("anp", Kind::Anp),
        ("ns", Kind::Ns),
        ("as", Kind::As),
        ("s", Kind::S),
        ("ans", Kind::Ans),
        ("z", Kind::Z),
        ("x+n", Kind::Xn),
        ("b", Kind::B),
    ];

    /// The word that a spec writes.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether these are characters of this kind. Bytes always are.
    #[inline]
    pub(super) fn accepts(self, bytes: &[u8]) -> bool {
        match self {
            Self::N => words(bytes, not_digits),
            Self::Ans => words(bytes, not_printable),
            Self::A => classes(bytes, LETTER | SPACE),
            Self::An | Self::Anp => classes(bytes, LETTER | DIGIT | SPACE),
            Self::Ns => classes(bytes, DIGIT | SPECIAL | SPACE),
            Self::As => classes(bytes, LETTER | SPECIAL | SPACE),
            Self::S => classes(bytes, SPECIAL | SPACE),
            Self::Z => words(bytes, not_track) || classes(bytes, TRACK),
            Self::Xn => match bytes {
                [b'C' | b'D', digits @ ..] => words(digits, not_digits),
                _ => false,
            },
            Self::B => true,
        }
    }

    /// Position of the first character that is not of this kind.
    #[cold]
    pub(super) fn stranger(self, bytes: &[u8]) -> Option<usize> {
        let alone = |idx: usize| match (self, idx) {
            (Self::Xn, 0) => matches!(bytes[0], b'C' | b'D'),
            (Self::Xn, _) => bytes[idx].is_ascii_digit(),
            _ => self.accepts(&bytes[idx..=idx]),
        };
        (0..bytes.len()).find(|&idx| !alone(idx))
    }
}

#[inline]
fn classes(bytes: &[u8], allowed: u8) -> bool {
    bytes.iter().fold(true, |is_well, &byte| is_well & (CLASSES[usize::from(byte)] & allowed != 0))
}

/// Non-zero when one of the eight bytes is not a digit.
#[inline]
fn not_digits(word: u64) -> u64 {
    // High half must be 3; so it must be after adding 6, which carries what is above 9 out of the low half.
    const HIGH: u64 = 0xf0 * EIGHT;
    const THREE: u64 = 0x30 * EIGHT;
    ((word & HIGH) ^ THREE) | ((word.wrapping_add(6 * EIGHT) & HIGH) ^ THREE)
}

/// Non-zero when one of the eight bytes is not from 0x30 to 0x3F.
#[inline]
fn not_track(word: u64) -> u64 {
    (word & (0xf0 * EIGHT)) ^ (0x30 * EIGHT)
}

/// Non-zero when one of the eight bytes is not from 0x20 to 0x7E.
#[inline]
fn not_printable(word: u64) -> u64 {
    const TOP: u64 = 0x80 * EIGHT;
    (word | !((word | TOP) - 0x20 * EIGHT) | word.wrapping_add(EIGHT)) & TOP
}

/// Asks `strange` about all bytes, eight at a time; the last eight may overlap those before.
#[inline(always)]
fn words(bytes: &[u8], strange: impl Fn(u64) -> u64) -> bool {
    if let Some(last) = bytes.last_chunk::<8>() {
        let (chunks, _) = bytes.as_chunks::<8>();
        let found = chunks.iter().fold(0, |found, chunk| found | strange(u64::from_le_bytes(*chunk)));
        return found | strange(u64::from_le_bytes(*last)) == 0;
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return strange(u64::from(first) | u64::from(last) << 32) == 0;
    }
    // Up to three bytes: the first in every place that is left over.
    match *bytes {
        [] => true,
        [a] => strange(u64::from(a) * EIGHT) == 0,
        [a, b] => strange(u64::from_le_bytes([a, b, a, a, a, a, a, a])) == 0,
        [a, b, c, ..] => strange(u64::from_le_bytes([a, b, c, a, a, a, a, a])) == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slow reading of the table in the documentation.
    fn expected(kind: Kind, c: u8) -> bool {
        let (is_digit, is_letter) = (c.is_ascii_digit(), c.is_ascii_alphabetic());
        let is_special = c.is_ascii_punctuation() || c == b' ';
        match kind {
            Kind::N => is_digit,
            Kind::A => is_letter || c == b' ',
            Kind::An | Kind::Anp => is_letter || is_digit || c == b' ',
            Kind::Ns => is_digit || is_special,
            Kind::As => is_letter || is_special,
            Kind::S => is_special,
            Kind::Ans => is_letter || is_digit || is_special,
            Kind::Z => (0x30..=0x3f).contains(&c) || c == b'D',
            Kind::Xn => unreachable!("its first character differs from the others"),
            Kind::B => true,
        }
    }

    #[test]
    fn every_byte_at_every_place_is_judged_as_the_table_says() {
        for (name, kind) in Kind::NAMES {
            if kind == Kind::Xn {
                continue;
            }
            let fill = if kind == Kind::S || kind == Kind::As {
                b'-'
            } else if kind == Kind::A {
                b'A'
            } else {
                b'7'
            };
            for len in 0..20 {
                let mut bytes = vec![fill; len];
                assert!(kind.accepts(&bytes), "{name} {len}");
                for at in 0..len {
                    for c in 0..=255 {
                        bytes[at] = c;
                        let is_well = expected(kind, c);
                        assert_eq!(kind.accepts(&bytes), is_well, "{name}, {c:#x} at {at} of {len}");
                        assert_eq!(kind.stranger(&bytes), (!is_well).then_some(at));
                    }
                    bytes[at] = fill;
                }
            }
        }
    }

    #[test]
    fn a_signed_number_is_a_sign_and_digits() {
        for (text, stranger) in [
            ("C00000001", None),
            ("D1", None),
            ("C", None),
            ("F0000000", Some(0)),
            ("0000", Some(0)),
            ("CD00", Some(1)),
        ] {
            assert_eq!(Kind::Xn.stranger(text.as_bytes()), stranger, "{text}");
            assert_eq!(Kind::Xn.accepts(text.as_bytes()), stranger.is_none(), "{text}");
        }
        assert!(!Kind::Xn.accepts(b""));
    }
}
