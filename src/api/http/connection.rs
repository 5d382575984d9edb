//! One client's connection, whichever socket it came by: HTTP/1.1, bounded in size and time.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderMap, HeaderValue, Request};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

/// For the head of a request, from the connection or the last answer on.
const HEAD: Duration = Duration::from_secs(10);
/// Bytes of it.
const LARGEST: usize = 16 << 10;
/// After this a connection is ended once its request is answered: it costs a scraper nothing, and a client that keeps
/// many open its hold.
const LIFETIME: Duration = Duration::from_secs(120);
/// For the answer that is under way then.
const FAREWELL: Duration = Duration::from_secs(40);

/// Answers until the client has gone, has taken too long, or `stop`. `gate`: what is answered in place of a page.
pub(in crate::api) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    router: Router,
    gate: impl Fn(&HeaderMap) -> Option<Response> + Send,
    stop: CancellationToken,
) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let refused = gate(request.headers());
        let mut router = router.clone();
        async move {
            let response = match refused {
                // It may come again with a token, and takes nobody's place until then.
                Some(mut refused) => {
                    refused.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    refused
                }
                None => router.call(request.map(Body::new)).await?,
            };
            Ok::<_, Infallible>(response)
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(LARGEST);
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    let farewell = tokio::select! {
        // A client that goes away is nobody's problem.
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(LIFETIME) => FAREWELL,
        () = stop.cancelled() => Duration::from_secs(1),
    };
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(farewell, connection).await;
}

/// There are too many already.
pub(in crate::api) async fn turn_away(mut stream: impl AsyncWrite + Unpin) {
    let answer = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(answer)).await;
}
