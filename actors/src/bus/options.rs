//! How a rack reaches its bus: servers, one way to sign in, TLS, what its streams may take. Checked whole, and every
//! mistake says what was found, what was expected and the remedy; no text ever shows a secret.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// Most copies of a stream that a server keeps.
const REPLICAS_MAX: u8 = 5;

/// Least bytes that a stream of wires is given: less would close it with one burst.
const STREAM_BYTES_MIN: u64 = 1 << 20;

/// A connection to a NATS server with JetStream.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BusOptions {
    /// Servers, as `nats://host:port` or `tls://host:port`. All are tried, in any order.
    pub servers: Vec<String>,
    /// User name, with `password`.
    pub user: Option<String>,
    /// Password of `user`.
    pub password: Option<Secret>,
    /// Token that the servers ask for.
    pub token: Option<Secret>,
    /// Seed of a user's nkey, beginning with `SU`.
    pub nkey: Option<Secret>,
    /// File with a user's JWT and seed (`.creds`).
    pub credentials: Option<PathBuf>,
    /// Encryption, and who each side is.
    pub tls: Option<BusTls>,
    /// JetStream domain, where the servers are behind a leaf node.
    pub domain: Option<String>,
    /// Copies that the cluster keeps of each stream that is made, 1 to 5.
    pub replicas: u8,
    /// The server's monitor, as `http://host:8222`: asked whether the server syncs every write (`sync_interval: always`)
    /// when a wire wants `durability: flush`.
    pub monitor_url: Option<String>,
    /// Your word that the server syncs every write, where no monitor can be asked.
    pub assume_sync: bool,
    /// Bytes that the rack's stream of wires may take on the servers. Without it only the account's limit holds. With it,
    /// what the rack has published and not had acked is at most half of that, give or take a message for each endpoint.
    pub max_bytes: Option<u64>,
}

impl Default for BusOptions {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            user: None,
            password: None,
            token: None,
            nkey: None,
            credentials: None,
            tls: None,
            domain: None,
            replicas: 1,
            monitor_url: None,
            assume_sync: false,
            max_bytes: None,
        }
    }
}

/// Files for TLS, all PEM. With any of them the connection is encrypted or is not made.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BusTls {
    /// Certificates that the server's must lead to. Without it, those that the machine trusts.
    pub ca: Option<PathBuf>,
    /// Our certificate, where the server asks for one.
    pub cert: Option<PathBuf>,
    /// The key of `cert`.
    pub key: Option<PathBuf>,
}

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever has to present it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// One mistake in [`BusOptions`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bus: `{key}` is {found}, expected {expected}; remedy: {remedy}")]
pub struct BusOptionError {
    /// The key.
    pub key: &'static str,
    /// What stands there, without any secret.
    pub found: String,
    /// What should.
    pub expected: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

impl BusOptions {
    /// Options for these servers and nothing else.
    #[must_use]
    pub fn at(servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { servers: servers.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Everything that is wrong with them; nothing is connected for it.
    #[must_use]
    pub fn errors(&self) -> Vec<BusOptionError> {
        let mut errors = Vec::new();
        let mut error = |key, found: String, expected, remedy| {
            errors.push(BusOptionError { key, found, expected, remedy });
        };
        if self.servers.is_empty() {
            let remedy = "write for example `servers: [\"nats://127.0.0.1:4222\"]`";
            error("servers", "empty".into(), "at least one server", remedy);
        }
        for (idx, server) in self.servers.iter().enumerate() {
            if let Some((found, expected, remedy)) = server_error(server) {
                error("servers", format!("{found} at position {}", idx + 1), expected, remedy);
            }
        }
        let ways = self.ways();
        if ways.len() > 1 {
            let found = format!("one of {} ways to sign in (`{}`)", ways.len(), ways.join("`, `"));
            error(ways[1], found, "at most one of them", "keep the one that your servers ask for");
        }
        match (&self.user, &self.password) {
            (Some(_), None) => error("user", "without `password`".into(), "both or neither", "write `password`, too"),
            (None, Some(_)) => error("password", "without `user`".into(), "both or neither", "write `user`, too"),
            _ => {}
        }
        if self.nkey.as_ref().is_some_and(|seed| !is_user_seed(seed.expose())) {
            let found = "no seed of a user".into();
            error("nkey", found, "58 characters beginning with `SU`", "take the line that `nk -gen user` prints first");
        }
        if let Some(tls) = &self.tls {
            match (&tls.cert, &tls.key) {
                (Some(_), None) => error("tls.cert", "without `key`".into(), "both or neither", "write `key`, too"),
                (None, Some(_)) => error("tls.key", "without `cert`".into(), "both or neither", "write `cert`, too"),
                _ => {}
            }
        }
        if !(1..=REPLICAS_MAX).contains(&self.replicas) {
            let remedy = "write 1 for one server, 3 for a cluster";
            error("replicas", self.replicas.to_string(), "1 to 5", remedy);
        }
        if self.domain.as_ref().is_some_and(|domain| !is_token(domain)) {
            let remedy = "write the name from the server's `jetstream { domain: … }`";
            error("domain", "no name of a domain".into(), "letters, digits, `-` and `_`", remedy);
        }
        if self.monitor_url.as_ref().is_some_and(|url| monitor_address(url).is_none()) {
            let remedy = "write the address of the server's `http_port`, for example `http://127.0.0.1:8222`";
            error("monitor_url", "no such address".into(), "`http://host:port`", remedy);
        }
        if let Some(max_bytes) = self.max_bytes.filter(|&bytes| bytes < STREAM_BYTES_MIN) {
            let remedy = "give it room for what is under way while a rack is down, or leave it out";
            error("max_bytes", format!("{max_bytes} bytes"), "at least 1048576 bytes", remedy);
        }
        errors
    }

    /// Keys of the ways to sign in that are given.
    fn ways(&self) -> Vec<&'static str> {
        let given = [
            ("user", self.user.is_some() || self.password.is_some()),
            ("token", self.token.is_some()),
            ("nkey", self.nkey.is_some()),
            ("credentials", self.credentials.is_some()),
        ];
        given.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key).collect()
    }
}

fn server_error(server: &str) -> Option<(&'static str, &'static str, &'static str)> {
    let expected = "`nats://host:port` or `tls://host:port`";
    let remedy = "write the address that clients connect to, for example `nats://127.0.0.1:4222`";
    let Some((scheme, rest)) = server.split_once("://") else {
        return Some(("an address without a scheme", expected, remedy));
    };
    if !matches!(scheme, "nats" | "tls") {
        return Some(("an address of another scheme", expected, remedy));
    }
    if rest.contains('@') {
        let remedy = "write `user` and `password`, or `token`, beside `servers`";
        return Some(("an address with a user or a token in it", expected, remedy));
    }
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').unwrap_or((rest, "4222"));
    let is_address = !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0);
    (!is_address).then_some(("no host and port", expected, remedy))
}

fn is_user_seed(seed: &str) -> bool {
    seed.len() == 58 && seed.starts_with("SU") && seed.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'))
}

/// Whether a text is one token of a subject, and safe in a name of a stream.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Host and port of a monitor.
pub(super) fn monitor_address(url: &str) -> Option<(&str, u16)> {
    let rest = url.strip_prefix("http://")?.trim_end_matches('/');
    let (host, port) = rest.rsplit_once(':').unwrap_or((rest, "8222"));
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|&port| port > 0)?;
    (!host.is_empty() && !host.contains(['/', '@'])).then_some((host, port))
}

#[cfg(test)]
mod tests;
