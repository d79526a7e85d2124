//! Fields of later versions: read, checked, kept byte for byte, written again.
//! Known keys are 0 to 11, so all others sort behind them and are one run of bytes at the end of a message.

use std::{fmt, sync::Arc};

use smol_str::SmolStr;

use crate::{
    LimitError, Limits,
    cbor::{Field, Measure},
};

/// Top-level fields this version has no name for. Empty costs nothing, a copy one atomic increment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Unknown(Option<Arc<Run>>);

#[derive(PartialEq, Eq)]
struct Run {
    fields: usize,
    /// Keys and values as they came; checked to be deterministic CBOR.
    bytes: Box<[u8]>,
    measure: Measure,
}

impl Unknown {
    pub(super) fn new(fields: usize, bytes: &[u8], measure: Measure) -> Self {
        if fields == 0 {
            return Self::default();
        }
        // The fields stand in the map around the message, and count as a map of their own.
        let measure = Measure { bytes: bytes.len(), entries: measure.entries.max(fields), ..measure };
        Self(Some(Arc::new(Run { fields, bytes: bytes.into(), measure })))
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |run| run.fields)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Keys and values in CBOR, one after the other.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |run| &run.bytes)
    }

    pub(super) fn measure(&self) -> Measure {
        self.0.as_ref().map_or(Measure::default(), |run| run.measure)
    }

    /// The limit that these fields are over. They were within the limits they were read under; others may be lower.
    pub(super) fn blame(&self, limits: &Limits) -> Option<LimitError> {
        let Measure { depth, entries, key_bytes, .. } = self.measure();
        let at = SmolStr::new_static(Field::Unknown.name());
        if depth > limits.depth {
            Some(LimitError::Depth { at, limit: limits.depth })
        } else if entries > limits.map_entries {
            Some(LimitError::MapEntries { at, found: entries, limit: limits.map_entries })
        } else if key_bytes > limits.key_bytes {
            Some(LimitError::KeyBytes { at, found: key_bytes, limit: limits.key_bytes })
        } else {
            None
        }
    }
}

/// Count and size, never the bytes.
impl fmt::Debug for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fields({}) bytes({})", self.len(), self.as_bytes().len())
    }
}
