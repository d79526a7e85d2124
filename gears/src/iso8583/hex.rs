//! Half bytes as characters and back: eight at a time for bitmaps and packed digits, by a table for byte strings.

const EIGHT: u64 = 0x0101_0101_0101_0101;

/// A bitmap as hex characters.
pub(super) fn write_bitmap(bits: u64) -> [u8; 16] {
    let mut chars = [0; 16];
    chars[..8].copy_from_slice(&chars_of(spread((bits >> 32) as u32)).to_be_bytes());
    chars[8..].copy_from_slice(&chars_of(spread(bits as u32)).to_be_bytes());
    chars
}

/// The bitmap behind hex characters of either case; `None` when one is no hex character.
pub(super) fn read_bitmap(chars: &[u8; 16]) -> Option<u64> {
    let (high, low) = (chars.first_chunk::<8>()?, chars.last_chunk::<8>()?);
    Some(u64::from(read_eight(*high)?) << 32 | u64::from(read_eight(*low)?))
}

fn read_eight(chars: [u8; 8]) -> Option<u32> {
    let word = u64::from_be_bytes(chars);
    // Letters have the bit 0x40, and a low half that is 9 less than what they stand for.
    let letters = word >> 6 & EIGHT;
    let halves = (word & (0x0f * EIGHT)) + letters * 9;
    let upper = word & !(letters << 5);
    // What is no hex character does not come back, or, as `G` to `O`, is more than half a byte.
    let is_hex = halves & (0xf0 * EIGHT) == 0 && chars_of(halves) == upper;
    is_hex.then(|| gather(halves))
}

/// Hex characters of eight half bytes, each in a byte of its own.
fn chars_of(halves: u64) -> u64 {
    // Adding 6 carries from 10 on; then the next character is 7 places further on, where `A` stands.
    let letters = (halves + 6 * EIGHT) >> 4 & EIGHT;
    halves + 0x30 * EIGHT + letters * 7
}

/// Each half byte into a byte of its own, the highest first.
fn spread(halves: u32) -> u64 {
    let word = u64::from(halves);
    let word = (word | word << 16) & 0x0000_ffff_0000_ffff;
    let word = (word | word << 8) & 0x00ff_00ff_00ff_00ff;
    (word | word << 4) & 0x0f0f_0f0f_0f0f_0f0f
}

/// The other way round.
fn gather(halves: u64) -> u32 {
    let word = (halves | halves >> 4) & 0x00ff_00ff_00ff_00ff;
    let word = (word | word >> 8) & 0x0000_ffff_0000_ffff;
    (word | word >> 16) as u32
}

/// Half bytes as the characters `0` to `?`: digits as they are, and what else a track knows. Two for each byte.
pub(super) fn unpack(packed: &[u8], chars: &mut [u8]) {
    let (fours, rest) = packed.as_chunks::<4>();
    let (eights, _) = chars.as_chunks_mut::<8>();
    for (eight, four) in eights.iter_mut().zip(fours) {
        *eight = (spread(u32::from_be_bytes(*four)) | (0x30 * EIGHT)).to_be_bytes();
    }
    let (pairs, _) = chars[fours.len() * 8..].as_chunks_mut::<2>();
    for (pair, byte) in pairs.iter_mut().zip(rest) {
        *pair = [b'0' | byte >> 4, b'0' | byte & 15];
    }
}

/// The other way round, for eight characters that stand for their low halves; `None` when one is a letter.
pub(super) fn pack(chars: [u8; 8]) -> Option<[u8; 4]> {
    let word = u64::from_be_bytes(chars);
    (word & (0x40 * EIGHT) == 0).then(|| gather(word & (0x0f * EIGHT)).to_be_bytes())
}

/// Hex characters of one byte.
pub(super) fn chars(byte: u8) -> [u8; 2] {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]
}

/// The byte behind two hex characters of either case.
pub(super) fn byte(pair: [u8; 2]) -> Option<u8> {
    const NONE: u8 = 0x80;
    const NIBBLES: [u8; 256] = {
        let mut nibbles = [NONE; 256];
        let mut nibble = 0;
        while nibble < 16 {
            nibbles[b"0123456789ABCDEF"[nibble] as usize] = nibble as u8;
            nibbles[b"0123456789abcdef"[nibble] as usize] = nibble as u8;
            nibble += 1;
        }
        nibbles
    };
    let (high, low) = (NIBBLES[usize::from(pair[0])], NIBBLES[usize::from(pair[1])]);
    ((high | low) & NONE == 0).then_some(high << 4 | low)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bitmap_is_written_and_read_as_the_formatter_does(bits: u64) {
            let (upper, lower) = (format!("{bits:016X}").into_bytes(), format!("{bits:016x}").into_bytes());
            prop_assert_eq!(&write_bitmap(bits)[..], upper.as_slice());
            prop_assert_eq!(read_bitmap(upper.first_chunk().unwrap()), Some(bits));
            prop_assert_eq!(read_bitmap(lower.first_chunk().unwrap()), Some(bits));
        }
    }

    proptest! {
        #[test]
        fn packed_digits_are_unpacked_half_by_half(packed in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut chars = vec![0; packed.len() * 2];
            unpack(&packed, &mut chars);
            let halves = packed.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            prop_assert!(chars.into_iter().eq(halves.map(|half| b'0' + half)));
        }
    }

    #[test]
    fn every_byte_at_every_place_is_judged_as_the_table_says() {
        for at in 0..16 {
            for c in 0..=255 {
                let mut chars = *b"0123456789abcDEF";
                chars[at] = c;
                let halves = chars.map(|c| char::from(c).to_digit(16));
                let expected = halves.iter().try_fold(0, |bits, half| Some(bits << 4 | u64::from((*half)?)));
                assert_eq!(read_bitmap(&chars), expected, "{c:#x} at {at}");
                assert_eq!(byte([c, b'9']), halves[at].map(|half| (half << 4) as u8 | 9), "{c:#x}");
                assert_eq!(byte([b'9', c]), halves[at].map(|half| 0x90 | half as u8), "{c:#x}");
            }
        }
        assert_eq!(
            (0..=255).map(|byte| super::byte(chars(byte))).collect::<Option<Vec<u8>>>().map(|all| all.len()),
            Some(256)
        );
    }
}
