//! The header by which a receiver knows what a message of ours is: port, incarnation of the wire, sequence, and what is
//! known about those before it. Everything else about a message stands in its body.

use std::fmt;
use std::str::FromStr;

/// Name of the header.
pub(super) const HEADER: &str = "Flux-Wire";

/// Name of the header of a message that only says what is settled: `<incarnation> <settled>`.
pub(super) const SETTLED: &str = "Flux-Settled";

/// The incarnation, and what is settled of it.
pub(super) fn settled(text: &str) -> Option<(u64, u64)> {
    let (incarnation, settled) = text.split_once(' ')?;
    Some((u64::from_str_radix(incarnation, 16).ok()?, settled.parse().ok()?))
}

/// Where a message stands on its wire.
///
/// `Flux-Wire: <incarnation, 16 hex digits> <sequence> <before> <settled>`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Names the sequences of one wire into the sender.
    pub(super) incarnation: u64,
    /// Its own, from 1.
    pub(super) seq: u64,
    /// The sequence of the message that was published before it; nothing in between is ever published. 0 for the first
    /// that a start of the sender publishes.
    pub(super) before: u64,
    /// Everything below is settled: the server has acked it, or it never comes.
    pub(super) settled: u64,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x} {} {} {}", self.incarnation, self.seq, self.before, self.settled)
    }
}

/// A header that is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoStamp;

impl FromStr for Stamp {
    type Err = NoStamp;

    fn from_str(text: &str) -> Result<Self, NoStamp> {
        let mut parts = text.split(' ');
        let mut next = || parts.next().ok_or(NoStamp);
        let incarnation = u64::from_str_radix(next()?, 16).map_err(|_| NoStamp)?;
        let mut number = || next()?.parse().map_err(|_| NoStamp);
        let stamp = Self { incarnation, seq: number()?, before: number()?, settled: number()? };
        let is_sound = stamp.seq > 0 && stamp.before < stamp.seq && stamp.settled <= stamp.seq;
        if is_sound && parts.next().is_none() { Ok(stamp) } else { Err(NoStamp) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_around() {
        let stamp = Stamp { incarnation: u64::MAX - 7, seq: 12, before: 9, settled: 8 };
        assert_eq!(stamp.to_string(), "fffffffffffffff8 12 9 8");
        assert_eq!(stamp.to_string().parse(), Ok(stamp));
        let others = ["", "1", "1 2 3", "1 2 1 1 1", "x 2 1 1", "1 0 0 0", "1 2 2 1", "1 2 1 3", "1 -2 1 1"];
        for text in others {
            assert_eq!(text.parse::<Stamp>(), Err(NoStamp), "{text}");
        }
    }
}
