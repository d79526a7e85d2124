//! How large a message may be. One set of numbers for what is built here and for what comes from outside.
//! The defaults are also the maxima: a node may ask for less, never for more, or its neighbours refuse its messages.

use serde::Deserialize;
use smol_str::SmolStr;

/// Limits of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Size of the encoded message, with room kept for all its hops and for the widest numbers; bytes.
    pub encoded_bytes: usize,
    /// Entries of the audit trail.
    pub hops: usize,
    /// Levels of maps and arrays in `data`; `data` itself is the first.
    pub depth: usize,
    /// Entries of one map.
    pub map_entries: usize,
    /// Length of one key of a map, bytes.
    pub key_bytes: usize,
}

impl Limits {
    /// The largest limits there are, which are also the default.
    pub const MAX: Limits =
        Limits { encoded_bytes: 2 * 1024 * 1024, hops: 64, depth: 32, map_entries: 4096, key_bytes: 256 };

    /// Refuses limits above [`Limits::MAX`], and limits under which no message would fit.
    ///
    /// # Errors
    ///
    /// Names the first limit that is too high or too low.
    pub fn validate(&self) -> Result<(), LimitsError> {
        let max = Self::MAX;
        for (name, found, max) in [
            ("encoded_bytes", self.encoded_bytes, max.encoded_bytes),
            ("hops", self.hops, max.hops),
            ("depth", self.depth, max.depth),
            ("map_entries", self.map_entries, max.map_entries),
            ("key_bytes", self.key_bytes, max.key_bytes),
        ] {
            if found > max {
                return Err(LimitsError::TooHigh { name, found, max });
            }
            if found == 0 {
                return Err(LimitsError::TooLow { name, found, min: 1 });
            }
        }
        let min = self.reserved_bytes() + 2;
        if self.encoded_bytes < min {
            return Err(LimitsError::TooLow { name: "encoded_bytes", found: self.encoded_bytes, min });
        }
        Ok(())
    }

    /// What a message needs beside its own content, bytes: its fixed fields at full width and all hops it may collect.
    pub fn reserved_bytes(&self) -> usize {
        // Map head 3, twelve keys, id and ref 17 each, trace 27, five integers 9 each (src, ts, flags, expires, and
        // one spare), path head 3. A hop is an array head and two integers.
        const FIXED_BYTES: usize = 3 + 12 + 2 * 17 + 27 + 5 * 9 + 3;
        const HOP_BYTES: usize = 1 + 9 + 9;
        FIXED_BYTES.saturating_add(self.hops.saturating_mul(HOP_BYTES))
    }

    /// Levels of `data`, bounded also when these limits were never validated: recursion must fit the stack.
    pub(crate) fn levels(&self) -> usize {
        self.depth.min(Self::MAX.depth)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::MAX
    }
}

/// A message that is over one of its [`Limits`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// Too large.
    #[error(
        "the message takes {found} bytes (hops and numbers at full size), the limit is {limit}; remedy: send bulk data by reference"
    )]
    EncodedBytes {
        /// Size at most, with room for hops.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many hops.
    #[error("`path` has {found} hops, the limit is {limit}; remedy: look for a loop in the wires")]
    Hops {
        /// Length of the path.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Nested too deep.
    #[error("`{at}` is nested deeper than the limit of {limit} levels; remedy: flatten the value")]
    Depth {
        /// Keys that lead to the place.
        at: SmolStr,
        /// The limit.
        limit: usize,
    },
    /// A map with too many entries.
    #[error("`{at}` has {found} entries, the limit is {limit}; remedy: use an array, or several messages")]
    MapEntries {
        /// Keys that lead to the map.
        at: SmolStr,
        /// Entries of the map.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A key that is too long.
    #[error("`{at}` has a key of {found} bytes, the limit is {limit}; remedy: put long texts into values")]
    KeyBytes {
        /// Keys that lead to the map.
        at: SmolStr,
        /// Length of the key.
        found: usize,
        /// The limit.
        limit: usize,
    },
}

/// [`Limits`] that cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitsError {
    /// Above the maximum that every node accepts.
    #[error("`{name}` is {found}, the most is {max}; remedy: limits can only be lowered")]
    TooHigh {
        /// The limit's name.
        name: &'static str,
        /// What was asked for.
        found: usize,
        /// The most there is.
        max: usize,
    },
    /// So low that no message fits.
    #[error("`{name}` is {found}, expected at least {min}, or no message would fit; remedy: raise it, or lower `hops`")]
    TooLow {
        /// The limit's name.
        name: &'static str,
        /// What was asked for.
        found: usize,
        /// The least that makes sense beside the other limits.
        min: usize,
    },
}

#[cfg(test)]
mod tests;
