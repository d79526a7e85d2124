//! Three pages over HTTP/1.1: `/metrics`, `/healthz`, `/readyz` (with `?links` also about peers).
//! Connections, their headers and their time are bounded.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::metrics;
use crate::rack::Shared;

/// Connections at once; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 64;
const HEADERS_TIME: Duration = Duration::from_secs(5);
const HEADERS_BYTES_MAX: usize = 16 << 10;
/// A connection that lives longer is closed; whoever scrapes opens another.
const CONNECTION_TIME: Duration = Duration::from_secs(300);

/// Serves until it is stopped.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = Arc::clone(&free).acquire_owned().await.expect("it is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "metrics: a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| page(request, Arc::clone(&shared)));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS_TIME)
                .max_buf_size(HEADERS_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            // A client that went away is no concern of the rack.
            drop(tokio::time::timeout(CONNECTION_TIME, connection).await);
            drop(permit);
        });
    }
}

async fn page(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Infallible> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    Ok(match request.uri().path() {
        "/metrics" => respond(StatusCode::OK, metrics::CONTENT_TYPE, metrics::page(&shared).await),
        // Whoever answers is alive.
        "/healthz" => respond(StatusCode::OK, TEXT, "alive\n".to_owned()),
        "/readyz" => match not_ready(&shared, request.uri().query() == Some("links")).await {
            None => respond(StatusCode::OK, TEXT, "ready\n".to_owned()),
            Some(why) => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
        },
        _ => respond(
            StatusCode::NOT_FOUND,
            TEXT,
            "found no such page, expected /metrics, /healthz or /readyz\n".to_owned(),
        ),
    })
}

/// Why the rack should be sent nothing. That a peer is away is no such reason, since whoever asks is answered all the
/// same, and an orchestrator that took the rack away would make a decline into silence. Who wants it otherwise asks for
/// the links, too.
async fn not_ready(shared: &Shared, with_links: bool) -> Option<String> {
    if shared.is_draining() {
        return Some("draining".to_owned());
    }
    match shared.rig.read().await.as_ref() {
        None if shared.standing.is_standby() => Some("stand-by".to_owned()),
        None => Some("starting".to_owned()),
        Some(rig) if rig.is_degraded() => Some("degraded".to_owned()),
        Some(rig) if with_links => {
            let down = rig.links().into_iter().find(|link| !link.is_up)?;
            Some(format!("link `{}` is down: {}", down.endpoint, down.reason))
        }
        Some(_) => None,
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
