//! The connection's thread: connects, looks at the server, says what it found, and begins anew when it is lost.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{Client, ClientError, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerError};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::{ANSWER_WAIT, BusError, BusOptions, BusState, Link, Shared, check};

/// Longest wait between two tries to connect.
const RECONNECT_MAX: Duration = Duration::from_secs(4);

/// Longest wait before a server that was refused is looked at again.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(5);

/// A server that does not answer three of these in a row is given up.
const PING_EVERY: Duration = Duration::from_secs(5);

/// What the client last told.
#[derive(Clone, Debug, Default)]
struct Told {
    is_connected: bool,
    /// Why it does not connect again.
    trouble: Option<String>,
    /// How often it connected.
    connects: u64,
    is_closed: bool,
}

/// Starts the thread, which lives until the bus is dropped.
pub(super) fn spawn(shared: &Arc<Shared>, stopped: oneshot::Receiver<()>) -> Option<Handle> {
    let failed = |error: std::io::Error| {
        let why =
            format!("bus: found no thread for it ({error}), expected one; remedy: raise the limits of this process");
        shared.state.send_replace(BusState::Refused { why });
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            failed(error);
            return None;
        }
    };
    let handle = runtime.handle().clone();
    let of_thread = Arc::clone(shared);
    let thread = std::thread::Builder::new().name("fluxrig-bus".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = run(&of_thread) => {}
                _ = stopped => {}
            }
        });
        of_thread.link.send_replace(None);
        // Whatever the client has open is closed with it.
        runtime.shutdown_background();
    });
    match thread {
        Ok(_) => Some(handle),
        Err(error) => {
            failed(error);
            None
        }
    }
}

async fn run(shared: &Arc<Shared>) {
    let mut attempt = 0;
    let mut number = 0;
    loop {
        let told = watch::Sender::new(Told::default());
        let seen = told.subscribe();
        match connect(shared, told).await {
            Ok(client) => {
                attempt = 0;
                serve(shared, &client, seen, &mut number).await;
            }
            Err(error) => shared.say(&error),
        }
        tokio::time::sleep(check::backoff(attempt, RECONNECT_MAX)).await;
        attempt += 1;
    }
}

async fn connect(shared: &Arc<Shared>, told: watch::Sender<Told>) -> Result<Client, BusError> {
    let options = &shared.options;
    let denials = Arc::clone(shared);
    let told = Arc::new(told);
    let connect = sign_in(options)
        .await?
        .name(format!("fluxrig {}", shared.rack))
        .ping_interval(PING_EVERY)
        .connection_timeout(ANSWER_WAIT)
        .request_timeout(Some(ANSWER_WAIT))
        .reconnect_delay_callback(|attempts| {
            // The first try of each loss is made at once.
            let Some(again) = u32::try_from(attempts).ok().and_then(|attempts| attempts.checked_sub(2)) else {
                return Duration::ZERO;
            };
            check::backoff(again, RECONNECT_MAX)
        })
        .event_callback(move |event| {
            note(&denials, &told, event);
            std::future::ready(())
        });
    connect.connect(options.servers.clone()).await.map_err(|error| refused(options, &error))
}

fn note(shared: &Shared, told: &watch::Sender<Told>, event: Event) {
    match event {
        Event::Connected => {
            shared.denials.forget();
            told.send_modify(|told| {
                (told.is_connected, told.connects, told.trouble) = (true, told.connects + 1, None);
            });
        }
        Event::Disconnected => told.send_modify(|told| told.is_connected = false),
        Event::Closed => told.send_modify(|told| (told.is_connected, told.is_closed) = (false, true)),
        Event::ServerError(ServerError::Other(text)) => shared.denials.note(&text),
        Event::ClientError(ClientError::Other(text)) => drop(told.send_if_modified(|told| {
            let is_news = !told.is_connected && told.trouble.as_ref() != Some(&text);
            told.trouble = Some(text);
            is_news
        })),
        Event::LameDuckMode => tracing::info!("bus: the server is about to stop"),
        _ => {}
    }
}

/// Options of the client that say who we are.
pub(super) async fn sign_in(options: &BusOptions) -> Result<ConnectOptions, BusError> {
    let mut connect = ConnectOptions::new();
    if let (Some(user), Some(password)) = (&options.user, &options.password) {
        connect = connect.user_and_password(user.clone(), password.expose().to_owned());
    }
    if let Some(token) = &options.token {
        connect = connect.token(token.expose().to_owned());
    }
    if let Some(seed) = &options.nkey {
        connect = connect.nkey(seed.expose().to_owned());
    }
    if let Some(path) = &options.credentials {
        connect = connect.credentials_file(path).await.map_err(|error| BusError::File {
            key: "credentials",
            why: file_fault(&error),
            expected: "a user's JWT and seed, as `nsc generate creds` writes them",
        })?;
    }
    let Some(tls) = &options.tls else { return Ok(connect) };
    for (key, path) in [("tls.ca", &tls.ca), ("tls.cert", &tls.cert), ("tls.key", &tls.key)] {
        if let Some(path) = path
            && let Err(error) = std::fs::File::open(path)
        {
            return Err(BusError::File { key, why: file_fault(&error), expected: "a PEM file" });
        }
    }
    connect = connect.require_tls(true);
    if let Some(ca) = &tls.ca {
        connect = connect.add_root_certificates(ca.clone());
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        connect = connect.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(connect)
}

/// What is wrong with a file, without its path or anything that stands in it.
fn file_fault(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".into(),
        std::io::ErrorKind::PermissionDenied => "a file that may not be read".into(),
        _ => "a file that holds something else".into(),
    }
}

fn refused(options: &BusOptions, error: &ConnectError) -> BusError {
    let servers = options.servers.join(", ");
    let why = causes(error);
    let is_tls = error.kind() == ConnectErrorKind::Tls || is_of_tls(&why);
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            let (way, remedy) = way_in(options);
            BusError::Credentials { servers, why, way, remedy }
        }
        _ if is_tls => BusError::Tls { servers, why },
        _ => BusError::Unreachable { servers, why },
    }
}

/// Whether it tells of certificates or of what is between them: what one side refuses the other hears as an alert.
fn is_of_tls(why: &str) -> bool {
    ["ertificate", "TLS", "tls", "fatal alert"].iter().any(|word| why.contains(word))
}

/// Why there is no connection any more, by what the client says of its tries.
fn lost(options: &BusOptions, trouble: Option<String>) -> BusError {
    let servers = options.servers.join(", ");
    let why = trouble.unwrap_or_else(|| "the connection was lost".into());
    if why.contains("authorization") || why.contains("signing nonce") {
        let (way, remedy) = way_in(options);
        BusError::Credentials { servers, why, way, remedy }
    } else if is_of_tls(&why) {
        BusError::Tls { servers, why }
    } else {
        BusError::Unreachable { servers, why }
    }
}

fn way_in(options: &BusOptions) -> (&'static str, &'static str) {
    if options.user.is_some() {
        ("`user` and `password`", "mend them, or add the user on the server")
    } else if options.token.is_some() {
        ("`token`", "mend it, or the server's `authorization`")
    } else if options.nkey.is_some() {
        ("`nkey`", "add its public key to the server's users")
    } else if options.credentials.is_some() {
        ("`credentials`", "write the file anew (`nsc generate creds`), and push the account to the server")
    } else if options.tls.as_ref().is_some_and(|tls| tls.cert.is_some()) {
        ("`tls.cert`", "map the certificate to a user on the server, or write another way to sign in")
    } else {
        ("nobody's name", "write `user` and `password`, `token`, `nkey` or `credentials`")
    }
}

/// An error with what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// Holds one client through all its reconnects, until it is closed.
async fn serve(shared: &Shared, client: &Client, mut told: watch::Receiver<Told>, number: &mut u64) {
    let context = context(shared, client);
    // The client tells of its first connection, too, and a little later.
    if told.wait_for(|told| told.connects > 0 || told.is_closed).await.is_err() {
        return;
    }
    loop {
        let now = told.borrow_and_update().clone();
        if now.is_closed {
            return;
        }
        if !now.is_connected {
            shared.link.send_replace(None);
            shared.say(&lost(&shared.options, now.trouble));
            if told.changed().await.is_err() {
                return;
            }
            continue;
        }
        let mut attempt = 0;
        let is_usable = loop {
            match check::server(client, &context, shared.options.domain.as_deref()).await {
                Ok(()) => break true,
                Err(error) => {
                    shared.say(&shared.denials.below("$JS").or(shared.denials.below("_INBOX")).unwrap_or(error))
                }
            }
            // Other news than ours are looked at first.
            tokio::select! {
                () = tokio::time::sleep(check::backoff(attempt, LOOK_AGAIN_MAX)) => attempt += 1,
                changed = told.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break false;
                }
            }
        };
        if !is_usable {
            continue;
        }
        *number += 1;
        let info = client.server_info();
        let link = Link { context: context.clone(), number: *number };
        tracing::info!(server = %info.server_name, version = %info.version, rack = %shared.rack, "bus: up");
        shared.link.send_replace(Some(link));
        let max_payload = info.max_payload;
        shared.state.send_replace(BusState::Up { server: info.server_name, version: info.version, max_payload });
        if told.changed().await.is_err() {
            return;
        }
        // A connection that was lost and made again between two looks is another one.
        shared.link.send_replace(None);
    }
}

fn context(shared: &Shared, client: &Client) -> Context {
    match &shared.options.domain {
        Some(domain) => ContextBuilder::new().domain(domain).timeout(ANSWER_WAIT).build(client.clone()),
        None => ContextBuilder::new().timeout(ANSWER_WAIT).build(client.clone()),
    }
}

impl Shared {
    /// Says once why there is no connection.
    fn say(&self, error: &BusError) {
        let why = error.to_string();
        let state = if error.is_final() { BusState::Refused { why } } else { BusState::Connecting { why } };
        self.link.send_replace(None);
        self.state.send_if_modified(|before| {
            if *before == state {
                return false;
            }
            match &state {
                BusState::Refused { why } => tracing::error!(%why, "bus: refused"),
                _ => tracing::warn!(%error, "bus: waiting"),
            }
            *before = state;
            true
        });
    }
}
