//! How many messages per second: when each is due, and how many are due by now.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};

/// Messages per second, between one in eleven days and a thousand million.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(f64);

/// A rate that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "found a rate of {found}, expected {min} to {max} messages per second; remedy: leave it out for as fast as the door allows",
    min = Rate::MIN,
    max = Rate::MAX
)]
pub struct RateError {
    /// What was asked for.
    pub found: f64,
}

impl Rate {
    const MIN: f64 = 1e-6;
    const MAX: f64 = 1e9;

    /// So many messages per second.
    ///
    /// # Errors
    /// When it is below 0.000001 or above 1,000,000,000, or not a number.
    pub fn per_s(found: f64) -> Result<Self, RateError> {
        if (Self::MIN..=Self::MAX).contains(&found) { Ok(Self(found)) } else { Err(RateError { found }) }
    }

    /// When message `idx` is due; message 0 is due at once.
    pub(super) fn time_of(self, idx: u64) -> Duration {
        // A century stands for ever: tokio's clock cannot hold what is far beyond.
        const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);
        Duration::try_from_secs_f64(idx as f64 / self.0).unwrap_or(FOREVER).min(FOREVER)
    }

    /// How many messages are due by then.
    pub(super) fn count_by(self, elapsed: Duration) -> u64 {
        (elapsed.as_secs_f64() * self.0) as u64 + 1
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::per_s(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rate".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": Self::MIN, "maximum": Self::MAX })
    }
}
