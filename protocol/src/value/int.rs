//! Integers as CBOR has them: two types of 64 bits that together cover 65, with one form for each number.
//! Conversions say when a number does not fit; nothing wraps.

use std::fmt;

/// An integer from −2^64 to 2^64 − 1, exactly the range of CBOR's two integer types, so nothing is lost on the way.
///
/// ```
/// # use fluxrig_protocol::Int;
/// assert_eq!(i64::try_from(Int::from(-7i64)), Ok(-7));
/// assert!(i64::try_from(Int::from(u64::MAX)).is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Int {
    negative: bool,
    /// The number itself, or −1 − number: CBOR's own split, in which no number has two forms.
    argument: u64,
}

impl Int {
    pub(crate) const fn from_cbor(negative: bool, argument: u64) -> Self {
        Self { negative, argument }
    }

    pub(crate) const fn to_cbor(self) -> (bool, u64) {
        (self.negative, self.argument)
    }

    /// The nearest float.
    pub fn to_f64(self) -> f64 {
        i128::from(self) as f64
    }
}

impl From<Int> for i128 {
    fn from(int: Int) -> i128 {
        let argument = i128::from(int.argument);
        if int.negative { -1 - argument } else { argument }
    }
}

impl From<u64> for Int {
    fn from(n: u64) -> Self {
        Self::from_cbor(false, n)
    }
}

impl From<i64> for Int {
    fn from(n: i64) -> Self {
        // The complement of a negative number is exactly −1 − n.
        if n < 0 { Self::from_cbor(true, !n as u64) } else { Self::from_cbor(false, n as u64) }
    }
}

/// An integer that is outside the range asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the integer does not fit the range asked for; remedy: read it as `i128`")]
pub struct OutOfRange;

impl TryFrom<i128> for Int {
    type Error = OutOfRange;

    fn try_from(n: i128) -> Result<Self, OutOfRange> {
        let (negative, argument) = if n < 0 { (true, -1 - n) } else { (false, n) };
        u64::try_from(argument).map(|argument| Self::from_cbor(negative, argument)).map_err(|_| OutOfRange)
    }
}

impl TryFrom<Int> for i64 {
    type Error = OutOfRange;

    fn try_from(int: Int) -> Result<i64, OutOfRange> {
        let argument = i64::try_from(int.argument).map_err(|_| OutOfRange)?;
        Ok(if int.negative { !argument } else { argument })
    }
}

impl TryFrom<Int> for u64 {
    type Error = OutOfRange;

    fn try_from(int: Int) -> Result<u64, OutOfRange> {
        if int.negative { Err(OutOfRange) } else { Ok(int.argument) }
    }
}

impl PartialOrd for Int {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Int {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        i128::from(*self).cmp(&i128::from(*other))
    }
}

impl fmt::Display for Int {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        i128::from(*self).fmt(f)
    }
}

/// A value like any other: `Debug` does not show it.
impl fmt::Debug for Int {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("int")
    }
}
