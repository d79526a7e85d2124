//! What a server is asked before it is used: its version, JetStream, the account's limits, whether it syncs.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::AccountErrorKind;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::options::monitor_address;
use super::{ANSWER_WAIT, BusError, BusOptions, VERSION_FLOOR};

/// Longest answer of a monitor that is read.
const MONITOR_BYTES_MAX: u64 = 1 << 20;

/// Whether this server may be used at all.
pub(super) async fn server(client: &Client, context: &Context, domain: Option<&str>) -> Result<(), BusError> {
    let info = client.server_info();
    let server = if info.server_name.is_empty() { info.server_id.clone() } else { info.server_name.clone() };
    if version(&info.version).is_none_or(|found| found < VERSION_FLOOR) {
        return Err(BusError::Version { server, found: info.version });
    }
    let none = |server| match domain {
        Some(domain) => BusError::NoDomain { server, domain: domain.to_owned() },
        None => BusError::NoJetStream { server },
    };
    let account = match context.query_account().await {
        Ok(account) => account,
        Err(error) => {
            return Err(match error.kind() {
                AccountErrorKind::JetStreamUnavailable => none(server),
                AccountErrorKind::JetStream(error) if is_not_enabled(error.error_code()) => none(server),
                AccountErrorKind::JetStream(error) => {
                    BusError::Answer { what: "account".into(), answer: error.to_string() }
                }
                _ => BusError::Silent { what: "account".into() },
            });
        }
    };
    let limits = account.limits;
    if limits.max_storage == Some(0) {
        let limit = "of 0 bytes on disk".to_owned();
        return Err(BusError::Limit { limit, what: "streams on disk".into() });
    }
    Ok(())
}

fn is_not_enabled(code: ErrorCode) -> bool {
    code == ErrorCode::JETSTREAM_NOT_ENABLED || code == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
}

/// `2.12.6-RC.1` as three numbers.
pub(super) fn version(text: &str) -> Option<(u64, u64, u64)> {
    let plain = text.trim_start_matches('v').split(['-', '+']).next()?;
    let mut parts = plain.split('.').map(str::parse);
    match (parts.next()?, parts.next()?, parts.next()?, parts.next()) {
        (Ok(major), Ok(minor), Ok(patch), None) => Some((major, minor, patch)),
        _ => None,
    }
}

/// What is read of a monitor's answer.
#[derive(Deserialize)]
struct Figures {
    config: Option<Config>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    sync_always: bool,
}

/// Whether the server syncs every write before it acks it.
pub(super) async fn syncs(options: &BusOptions) -> Result<(), BusError> {
    if options.assume_sync {
        return Ok(());
    }
    let Some((host, port)) = options.monitor_url.as_deref().and_then(monitor_address) else {
        return Err(BusError::UnknownSync);
    };
    let body = match tokio::time::timeout(ANSWER_WAIT, get(host, port, "/jsz?config=1")).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => return Err(BusError::Monitor { why: error.to_string() }),
        Err(_) => return Err(BusError::Monitor { why: "no answer".into() }),
    };
    match serde_json::from_slice::<Figures>(&body) {
        Ok(Figures { config: Some(Config { sync_always: true }) }) => Ok(()),
        Ok(Figures { config: Some(_) }) => Err(BusError::LazySync),
        Ok(Figures { config: None }) => Err(BusError::Monitor { why: "an answer without `config`".into() }),
        Err(_) => Err(BusError::Monitor { why: "an answer that is not its JSON".into() }),
    }
}

/// The body of one page, over plain HTTP/1.0: whole when the server closes.
async fn get(host: &str, port: u16, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((host, port)).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MONITOR_BYTES_MAX).read_to_end(&mut answer).await?;
    let other = |text: &str| std::io::Error::other(text.to_owned());
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(|| other("no page"))?;
    let status = answer.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
    if status != b"200" {
        return Err(other("a page that is not there"));
    }
    Ok(answer.split_off(head + 4))
}

/// A wait that grows from try to try, and is never the same for two racks.
pub(super) fn backoff(attempt: u32, max: Duration) -> Duration {
    let base = Duration::from_millis(50).saturating_mul(1 << attempt.min(10)).min(max);
    // Without chance the waits are only equal.
    let chance = getrandom::u32().unwrap_or(u32::MAX / 2);
    base.mul_f64(0.5 + f64::from(chance) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version("2.12.6"), Some((2, 12, 6)));
        assert_eq!(version("2.15.1-RC.2"), Some((2, 15, 1)));
        assert_eq!(version("v3.0.0"), Some((3, 0, 0)));
        assert!(version("2.12.6").unwrap() >= VERSION_FLOOR && version("2.12.5").unwrap() < VERSION_FLOOR);
        for other in ["", "2", "2.12", "2.x.1", "2.12.6.1"] {
            assert_eq!(version(other), None, "{other}");
        }
    }

    #[test]
    fn waits_grow_to_their_bound() {
        let max = Duration::from_secs(4);
        assert!(backoff(0, max) <= Duration::from_millis(75));
        for attempt in [10, 100, u32::MAX] {
            assert!((max / 2..=max * 3 / 2).contains(&backoff(attempt, max)));
        }
    }
}
