//! Addresses of the simulated network: one machine, whatever a scenario calls it.

use std::net::SocketAddr;
use std::sync::Arc;

/// One name for all ways to write an address of this machine: names lead nowhere else here.
pub(super) fn place(address: &str) -> Arc<str> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let host = match host {
        "localhost" | "0.0.0.0" | "[::]" | "[::1]" => "127.0.0.1",
        other => other,
    };
    format!("{host}:{port}").into()
}

/// Two addresses that mean one place.
#[must_use]
pub fn is_same_place(left: &str, right: &str) -> bool {
    place(left) == place(right)
}

/// The same as the system would say it.
pub(super) fn socket(address: &str) -> SocketAddr {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0);
    place(address).parse().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], port)))
}
