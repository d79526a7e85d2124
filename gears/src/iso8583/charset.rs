//! Which characters each kind of field may hold: eight at a time for what fields usually hold, else by a table.

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
    pub(super) fn accepts(self, bytes: &[u8]) -> bool {
        self.usual().holds(bytes) || self.accepts_any(bytes)
    }

    /// Codes that all belong to this kind, in one row, chosen so that most values keep to them: those are then looked at
    /// eight bytes at a time, in the same way for every kind.
    pub(super) const fn usual(self) -> Span {
        match self {
            Self::N | Self::An | Self::Anp => Span::new(b'0', b'9'),
            Self::A => Span::new(b'A', b'Z'),
            Self::Ns => Span::new(b' ', b'@'),
            Self::As => Span::new(b':', b'~'),
            Self::S => Span::new(b' ', b'/'),
            Self::Ans => Span::new(b' ', b'~'),
            Self::Z => Span::new(b'0', b'?'),
            Self::Xn | Self::B => Span::NOTHING,
        }
    }

    /// The same as [`Kind::accepts`] for what is not usual.
    #[inline(never)]
    pub(super) fn accepts_any(self, bytes: &[u8]) -> bool {
        match self {
            // The usual ones are all there are.
            Self::N | Self::Ans => false,
            Self::A => classes(bytes, LETTER | SPACE),
            Self::An | Self::Anp => classes(bytes, LETTER | DIGIT | SPACE),
            Self::Ns => classes(bytes, DIGIT | SPECIAL | SPACE),
            Self::As => classes(bytes, LETTER | SPECIAL | SPACE),
            Self::S => classes(bytes, SPECIAL | SPACE),
            Self::Z => classes(bytes, TRACK),
            Self::Xn => match bytes {
                [b'C' | b'D', digits @ ..] => Self::N.usual().holds(digits),
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

/// Codes from one to another, both included, below 0x80: each bound in all eight bytes of a word.
#[derive(Clone, Copy)]
pub(super) struct Span {
    /// What is added to a byte to make it 0x80 or more when it is above the highest.
    above: u64,
    /// What a byte is taken from to leave 0x80 or more when it is below the lowest.
    below: u64,
}

impl Span {
    /// Every byte that is ASCII.
    pub(super) const ASCII: Self = Self::new(0, 0x7f);
    /// No byte is in it.
    const NOTHING: Self = Self::new(0x7f, 0);

    const fn new(lowest: u8, highest: u8) -> Self {
        Self { above: (0x7f - highest) as u64 * EIGHT, below: (0x7f + lowest) as u64 * EIGHT }
    }

    /// Whether all bytes are in it. Eight at a time; the last eight may overlap those before.
    #[inline(always)]
    pub(super) fn holds(self, bytes: &[u8]) -> bool {
        if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            let mut found = self.strange(u64::from_le_bytes(*first)) | self.strange(u64::from_le_bytes(*last));
            // Most fields have no more than the two.
            if bytes.len() > 16 {
                let (chunks, _) = bytes.as_chunks::<8>();
                found = chunks.iter().fold(found, |found, chunk| found | self.strange(u64::from_le_bytes(*chunk)));
            }
            return found == 0;
        }
        if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
            return self.strange(u64::from(first) | u64::from(last) << 32) == 0;
        }
        // Up to three bytes, again and again.
        match (bytes.first_chunk::<2>(), bytes.last_chunk::<2>(), bytes) {
            (Some(first), Some(last), _) => {
                let (first, last) = (u16::from_le_bytes(*first), u16::from_le_bytes(*last));
                let four = u64::from(first) | u64::from(last) << 16;
                self.strange(four | four << 32) == 0
            }
            (.., &[one]) => self.strange(u64::from(one) * EIGHT) == 0,
            // Nothing is all in it, but for the span that is nothing itself.
            _ => self.above != Self::NOTHING.above,
        }
    }

    /// Non-zero when one of the eight bytes is outside.
    #[inline(always)]
    fn strange(self, word: u64) -> u64 {
        // Bytes from 0x80 are told by their own top bit, so it does not matter that they carry into the next one.
        const TOP: u64 = 0x80 * EIGHT;
        (word | word.wrapping_add(self.above) | self.below.wrapping_sub(word)) & TOP
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
            // One that is usual, and one for which the table is asked.
            let fills = match kind {
                Kind::S | Kind::As => [b'-', b'~'],
                Kind::A => [b'A', b'z'],
                Kind::An | Kind::Anp => [b'7', b'z'],
                Kind::Ns => [b'7', b'~'],
                Kind::Z => [b'7', b'D'],
                Kind::N | Kind::Ans | Kind::Xn | Kind::B => [b'7', b'7'],
            };
            for (fill, len) in
                fills.into_iter().flat_map(|fill| (0..20).chain([31, 32, 33]).map(move |len| (fill, len)))
            {
                let mut bytes = vec![fill; len];
                assert!(kind.accepts(&bytes), "{name} {len}");
                for at in 0..len {
                    for c in 0..=255 {
                        bytes[at] = c;
                        let is_well = expected(kind, c);
                        assert_eq!(kind.accepts(&bytes), is_well, "{name}, {c:#x} at {at} of {len}");
                        if len < 4 {
                            assert_eq!(kind.stranger(&bytes), (!is_well).then_some(at));
                        }
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
