//! Times as people write them on the command line: RFC 3339, to nanoseconds since 1970; and durations like `10m`.

use std::time::Duration;

use fluxrig_actors::clock::{Machine, World};

const NS_PER_S: i64 = 1_000_000_000;
/// Longest duration: a year.
const DURATION_MAX: Duration = Duration::from_secs(366 * 86_400);
/// Longest wait for what becomes of something.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Reads `500ms`, `10s`, `10m`, `2h` or `7d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit_ms = match &text[at..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    let ms = text[..at].parse::<u64>().ok().and_then(|count| count.checked_mul(unit_ms)).filter(|ms| *ms > 0);
    let duration = ms.map(Duration::from_millis).filter(|duration| *duration <= DURATION_MAX);
    duration.ok_or_else(|| {
        format!(
            "found `{text}`, expected a number and `ms`, `s`, `m`, `h` or `d`, up to `366d`; remedy: write for example `10m`"
        )
    })
}

/// Reads how long to wait; `0` is not at all.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        text => duration(text).ok().filter(|wait| *wait <= WAIT_MAX).ok_or_else(|| {
            format!("found `{text}`, expected `0` or a duration up to `1h`; remedy: write for example `10s`")
        }),
    }
}

/// Reads a duration that ends now, or a time; returns where it begins.
pub(super) fn since(text: &str) -> Result<i64, String> {
    if let Ok(ago) = duration(text) {
        let ago = i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX);
        return Ok(Machine::new().wall_ns().saturating_sub(ago));
    }
    read(text).ok_or_else(|| {
        format!(
            "found `{text}`, expected a duration or a time; remedy: write it like `10m`, `2h` or `2026-01-31T08:00:00Z`"
        )
    })
}

/// Reads `2026-01-31T08:00:00Z`, with or without a fraction and an offset, or nanoseconds since 1970.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    if let Ok(ns) = text.parse::<i64>() {
        return Ok(ns);
    }
    read(text).ok_or_else(|| {
        format!("found `{text}`, expected a time; remedy: write it like `2026-01-31T08:00:00Z`, or in nanoseconds since 1970")
    })
}

fn read(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-')?;
    let at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':')?;
    let offset_s = match zone {
        "Z" | "z" => 0,
        zone => {
            let [hours, minutes] = numbers(&zone[1..], ':')?;
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            sign * (hours * 3600 + minutes * 60)
        }
    };
    let is_real = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    let is_digits = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
    if !is_real || !is_digits {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}")[..9].parse().ok()?;
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset_s;
    seconds.checked_mul(NS_PER_S)?.checked_add(nanos)
}

fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let parts: Vec<i64> =
        text.split(separator).map(|part| part.parse::<u16>().ok().map(i64::from)).collect::<Option<_>>()?;
    parts.try_into().ok()
}

/// Days since 1970, in the proleptic Gregorian calendar (Howard Hinnant's `days_from_civil`): years begin in March, so
/// that the leap day is the last one.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use fluxrig_actors::clock::utc;

    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Ok(0));
        assert_eq!(parse("2000-02-29T12:30:15.25Z"), Ok(951_827_415_250_000_000));
        assert_eq!(parse("2026-01-31T08:00:00+01:00"), parse("2026-01-31T07:00:00Z"));
        assert_eq!(parse("12345"), Ok(12_345));
        for bad in ["", "today", "2026-01-31", "2026-13-01T00:00:00Z", "2026-01-31T08:00:00", "2026-01-31T08:00Z"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("366d"), Ok(DURATION_MAX));
        for bad in ["", "10", "m", "0s", "367d", "1.5h", "-1m", "10 m", "99999999999999999999d", "10µ"] {
            assert!(duration(bad).unwrap_err().contains("expected a number and `ms`"), "{bad}");
        }
        assert_eq!((wait("0"), wait("1h")), (Ok(Duration::ZERO), Ok(WAIT_MAX)));
        assert!(wait("2h").is_err() && wait("5").is_err());
        let (before, now) = (since("1h").unwrap(), since("1ms").unwrap());
        assert!((3500..3700).contains(&((now - before) / NS_PER_S)));
        assert_eq!(since("1970-01-01T00:00:01Z"), Ok(NS_PER_S));
        assert!(since("10").unwrap_err().contains("`10m`"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for ns in [0, 951_782_400_000_000_000, 1_767_225_599_999_000_000, -1_000_000] {
            assert_eq!(parse(&utc(ns)), Ok(ns), "{}", utc(ns));
        }
    }
}
