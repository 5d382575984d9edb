//! What the daemon answers over HTTP: `/metrics` and `/healthz`, to read. The same on the address of `dashboard:`, for who
//! has the token, and on the control socket, whose mode guards it.
//!
//! Whatever a client sends, or fails to read, costs it its own connection and nothing else: headers, answers and
//! connections are bounded in size and time. Changes nothing; knows no metric.

mod connection;
mod listen;
mod token;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

pub(super) use self::connection::{converse, turn_away};
pub use self::listen::Front;
pub use self::token::token_of;
use crate::metrics::{Form, Scrape};

/// Scrapes that are under way at once; others wait for their turn.
const SCRAPES: usize = 4;
/// Of a scrape's turn.
const TURN: Duration = Duration::from_secs(5);
/// What a client may take to read one answer.
const READING: Duration = Duration::from_secs(30);
/// Bytes of a piece of an answer.
const PIECE: usize = 64 << 10;

/// What there is to read.
#[async_trait]
pub trait Pages: Send + Sync {
    /// Whether the engine answers, within a few seconds.
    async fn is_alive(&self) -> bool;

    /// `None` where the engine does not answer within a few seconds.
    async fn scrape(&self) -> Option<Scrape>;
}

#[derive(Clone)]
struct Served {
    pages: Arc<dyn Pages>,
    scrapes: Arc<Semaphore>,
}

pub(super) fn router(pages: Arc<dyn Pages>) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .method_not_allowed_fallback(wrong_method)
        .fallback(not_found)
        .with_state(Served { pages, scrapes: Arc::new(Semaphore::new(SCRAPES)) })
}

async fn front() -> &'static str {
    concat!(
        "punk-eco-sched ",
        env!("CARGO_PKG_VERSION"),
        "\n\n/metrics  metrics, for Prometheus\n/healthz  200 while the scheduler answers\n"
    )
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "there is /metrics and /healthz\n").into_response()
}

async fn wrong_method() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")], "here is only something to read: use GET\n")
        .into_response()
}

async fn health(State(served): State<Served>) -> Response {
    if served.pages.is_alive().await {
        return "the scheduler answers\n".into_response();
    }
    silent()
}

fn silent() -> Response {
    let text = "the scheduler does not answer: see the daemon's log\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics(State(served): State<Served>, headers: HeaderMap) -> Response {
    let Ok(Ok(turn)) = tokio::time::timeout(TURN, served.scrapes.acquire_owned()).await else {
        let text = format!("{SCRAPES} scrapes are under way already\n");
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let Some(scrape) = served.pages.scrape().await else { return silent() };
    let form = form_for(&headers);
    ([(CONTENT_TYPE, form.content_type())], in_pieces(scrape, form, turn)).into_response()
}

/// As Prometheus asks for it, which names all that it takes, each with how much it likes it.
fn form_for(headers: &HeaderMap) -> Form {
    let mut liked = [None, None];
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for one in accepted.flat_map(|value| value.split(',')) {
        let mut parts = one.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let quality =
            parts.find_map(|part| part.strip_prefix("q=")?.trim().parse::<f64>().ok()).unwrap_or(1.0);
        let at = match kind {
            kind if kind.eq_ignore_ascii_case("application/openmetrics-text") => 0,
            kind if kind.eq_ignore_ascii_case("text/plain") => 1,
            _ => continue,
        };
        liked[at] = Some(liked[at].map_or(quality, |best: f64| best.max(quality)));
    }
    match liked {
        [Some(open), plain] if open > 0.0 && plain.is_none_or(|plain| open >= plain) => Form::OpenMetrics,
        _ => Form::Plain,
    }
}

/// Written on a thread of its own as the client reads; one that does not read ends it.
fn in_pieces(scrape: Scrape, form: Form, turn: OwnedSemaphorePermit) -> Body {
    let (sender, pieces) = mpsc::channel::<Result<Bytes, fmt::Error>>(4);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let until = tokio::time::Instant::now() + READING;
        let mut out = Pieces { sender, runtime, until, piece: String::with_capacity(PIECE) };
        if scrape.write(&mut out, form).and_then(|()| out.send()).is_err() {
            // A text that is cut off must not look whole.
            let _ = out.sender.try_send(Err(fmt::Error));
        }
        drop(turn);
    });
    Body::from_stream(futures_util::stream::unfold(pieces, |mut pieces| async move {
        Some((pieces.recv().await?, pieces))
    }))
}

struct Pieces {
    sender: mpsc::Sender<Result<Bytes, fmt::Error>>,
    runtime: tokio::runtime::Handle,
    until: tokio::time::Instant,
    piece: String,
}

impl fmt::Write for Pieces {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.piece.push_str(text);
        if self.piece.len() < PIECE { Ok(()) } else { self.send() }
    }
}

impl Pieces {
    fn send(&mut self) -> fmt::Result {
        let piece = Bytes::from(std::mem::replace(&mut self.piece, String::with_capacity(PIECE)));
        let sending = tokio::time::timeout_at(self.until, self.sender.send(Ok(piece)));
        match self.runtime.block_on(sending) {
            Ok(Ok(())) => Ok(()),
            // It is late, or nobody reads any more.
            _ => Err(fmt::Error),
        }
    }
}
