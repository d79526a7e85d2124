//! Values of a scenario that are more than a word or a number: versions, durations and sizes.
//! Each keeps the text it came from, since that is how it is printed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use fluxrig_actors::Retention;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};

/// A version, `MAJOR.MINOR.PATCH` as in Semantic Versioning 2.0.0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

/// How long or how much of a wire stays readable: `24h`, `1GiB`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// What it means.
    pub retention: Retention,
    text: String,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Retained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
        let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
        let is_number = |part: &str| part.parse::<u64>().is_ok_and(|number| number.to_string() == part);
        let is_word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let is_pre = |part: &str| is_word(part) && (is_number(part) || !part.bytes().all(|b| b.is_ascii_digit()));
        let is_good = core.split('.').count() == 3
            && core.split('.').all(is_number)
            && pre.is_none_or(|pre| pre.split('.').all(is_pre))
            && build.is_none_or(|build| build.split('.').all(is_word));
        let expected = "a version like `1.4.0` or `2.0.0-rc.1`; remedy: write major, minor and patch";
        is_good.then(|| Self(text.to_owned())).ok_or_else(|| format!("found `{text}`, expected {expected}"))
    }
}

const UNITS: &[(&str, Unit)] = &[
    ("ms", Unit::Ms(1)),
    ("s", Unit::Ms(1000)),
    ("m", Unit::Ms(60_000)),
    ("h", Unit::Ms(3_600_000)),
    ("d", Unit::Ms(86_400_000)),
    ("B", Unit::Bytes(1)),
    ("KiB", Unit::Bytes(1 << 10)),
    ("MiB", Unit::Bytes(1 << 20)),
    ("GiB", Unit::Bytes(1 << 30)),
    ("TiB", Unit::Bytes(1 << 40)),
];

#[derive(Clone, Copy)]
enum Unit {
    Ms(u64),
    Bytes(u64),
}

impl FromStr for Retained {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, unit)| *unit);
        let number = number.parse::<u64>().ok().filter(|&number| number > 0);
        let retention = match (number, unit) {
            (Some(number), Some(Unit::Ms(ms))) => {
                number.checked_mul(ms).map(|ms| Retention::Time(Duration::from_millis(ms)))
            }
            (Some(number), Some(Unit::Bytes(bytes))) => number.checked_mul(bytes).map(Retention::Bytes),
            _ => None,
        };
        let retention = retention.ok_or_else(|| {
            format!(
                "found `{text}`, expected a duration or a size; remedy: write a whole number and one of {}",
                UNITS.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            )
        })?;
        Ok(Self { retention, text: text.to_owned() })
    }
}

macro_rules! from_text {
    ($($type:ty: $pattern:literal, $doc:literal;)*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $doc })
            }
        }
    )*};
}

from_text! {
    Version: r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$", "A version as in Semantic Versioning.";
    Retained: r"^[0-9]+(ms|s|m|h|d|B|KiB|MiB|GiB|TiB)$", "A duration like `24h`, or a size like `1GiB`.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_semantic() {
        for good in ["0.0.0", "1.2.3", "1.0.0-alpha.1", "1.0.0+b.007", "1.0.0-x-y.z+1"] {
            assert!(good.parse::<Version>().is_ok(), "{good}");
        }
        for bad in ["", "1", "1.2", "v1.2.3", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "1.2.3.4", "1.2.x"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }

    #[test]
    fn retention_is_a_duration_or_a_size() {
        let check = |text: &str| text.parse::<Retained>().map(|retained| retained.retention).ok();
        assert_eq!(check("24h"), Some(Retention::Time(Duration::from_secs(86_400))));
        assert_eq!(check("1500ms"), Some(Retention::Time(Duration::from_millis(1500))));
        assert_eq!(check("1GiB"), Some(Retention::Bytes(1 << 30)));
        for bad in ["24", "h", "0h", "1.5h", "-1h", "1gib", "99999999999999999999h", "18446744073709551615d"] {
            assert_eq!(check(bad), None, "{bad}");
        }
    }
}
