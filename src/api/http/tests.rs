use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;

use super::token::Access;
use super::*;
use crate::host::secret::SecretText;

#[test]
fn the_form_is_the_one_that_is_liked_more() {
    let check = |accept: &str, expected: Form| {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_str(accept).unwrap())]);
        assert_eq!(form_for(&headers), expected, "{accept}");
    };
    // Prometheus 2.42, and 3.
    check(
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
         text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        Form::OpenMetrics,
    );
    check(
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;q=0.4,*/*;q=0.1",
        Form::OpenMetrics,
    );
    check("application/openmetrics-text", Form::OpenMetrics);
    check("text/plain, Application/OpenMetrics-Text;q=0.5", Form::Plain);
    check("application/openmetrics-text;q=0", Form::Plain);
    check("text/html,*/*;q=0.8", Form::Plain);
    check("application/openmetrics-textual", Form::Plain);
    assert_eq!(form_for(&HeaderMap::new()), Form::Plain);
}

#[tokio::test]
async fn a_token_that_is_empty_or_missing_is_nobodys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let token = || SecretText::parse(&format!("${{file:{}}}", path.display())).unwrap();
    let check = async |expected: Result<(), &str>| {
        let access = Access::of(Some(token())).await;
        match expected {
            Ok(()) => assert!(matches!(access, Ok(Access::With(_)))),
            Err(why) => assert!(access.err().is_some_and(|error| error.contains(why)), "{why}"),
        }
    };
    check(Err("token")).await;
    std::fs::write(&path, "\n").unwrap();
    check(Err("it is empty")).await;
    std::fs::write(&path, "x\n").unwrap();
    check(Ok(())).await;
    std::fs::write(&path, "x\ty\n").unwrap();
    check(Err("no client can send it")).await;
    // As a client reads the same file.
    std::fs::write(&path, " x\r\n\n").unwrap();
    let given = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer x"))]);
    assert!(Access::of(Some(token())).await.unwrap().refuses(&given).is_none());
    assert!(matches!(Access::of(None).await, Ok(Access::Anybody)));
}

/// An engine that does not answer.
struct Silent;

#[async_trait]
impl Pages for Silent {
    async fn is_alive(&self) -> bool {
        false
    }

    async fn scrape(&self) -> Option<Scrape> {
        None
    }
}

#[tokio::test]
async fn a_scheduler_that_does_not_answer_is_told_by_the_status() {
    let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    tokio::spawn(converse(theirs, router(Arc::new(Silent)), |_| None, stop));
    let mut client = ours.into_std().unwrap();
    client.set_nonblocking(false).unwrap();
    let answers = tokio::task::spawn_blocking(move || {
        let mut answers = String::new();
        client.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\nGET /metrics HTTP/1.0\r\n\r\n").unwrap();
        client.read_to_string(&mut answers).unwrap();
        answers
    });
    let answers = answers.await.unwrap();
    assert_eq!(answers.matches(" 503 Service Unavailable\r\n").count(), 2, "{answers}");
    assert_eq!(answers.matches("the scheduler does not answer").count(), 2, "{answers}");
}

/// Nobody of ours waits until it is clear that they speak no HTTP.
#[test]
fn our_own_clients_are_greeted_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let stop = tokio_util::sync::CancellationToken::new();
    let (bound, ready) = std::sync::mpsc::channel();
    let server = std::thread::spawn({
        let (path, stop) = (path.clone(), stop.clone());
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = crate::api::server::Server::bind(&path).unwrap().with_pages(Arc::new(Silent));
                bound.send(()).unwrap();
                server.serve(Arc::new(crate::api::server::tests::Fake::default()), stop).await;
            });
        }
    });
    ready.recv().unwrap();
    let began = Instant::now();
    for _ in 0..100 {
        crate::api::client::Client::connect(&path).unwrap();
    }
    // A silence for each would be six seconds.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // One that says nothing is greeted all the same.
    let mut older = UnixStream::connect(&path).unwrap();
    let mut hello = [0; 12];
    older.read_exact(&mut hello).unwrap();
    assert_eq!(&hello, b"{\"protocol\":");
    drop(older);
    stop.cancel();
    server.join().unwrap();
}

/// Says `request` and gives what is answered up to `end`; all there is, where that does not come.
async fn said(client: &mut tokio::net::TcpStream, request: &str, end: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    client.write_all(format!("GET /healthz HTTP/1.1\r\nhost: a\r\n{request}\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    while end.is_empty() || !answer.ends_with(end) {
        let mut piece = [0; 1024];
        match client.read(&mut piece).await.unwrap() {
            0 => break,
            length => answer.push_str(std::str::from_utf8(&piece[..length]).unwrap()),
        }
    }
    answer
}

#[tokio::test]
async fn who_has_no_token_keeps_nobody_out_who_has_it() {
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let front = Front::start(Arc::new(Silent), stop.clone());
    front.put(Some(crate::config::Dashboard { listen, token: Some("x".into()) }));
    let connected = async || loop {
        if let Ok(client) = tokio::net::TcpStream::connect(listen).await {
            return client;
        }
        tokio::task::yield_now().await;
    };
    // One that is refused is hung up on.
    let refused = said(&mut connected().await, "", "").await;
    assert!(
        refused.starts_with("HTTP/1.1 401 ") && refused.contains("\r\nconnection: close\r\n"),
        "{refused}"
    );
    let (token, end) = ("authorization: bearer x\r\n", "see the daemon's log\n");
    let mut early = connected().await;
    assert!(said(&mut early, token, end).await.ends_with(end));
    assert_eq!(front.problems(), Vec::<String>::new());
    let mut others = vec![];
    for _ in 0..80 {
        others.push(connected().await);
    }
    let mut late = connected().await;
    for client in [&mut late, &mut early] {
        assert!(said(client, token, end).await.ends_with(end));
    }
    // The two, and the newest 62 of the others.
    let gone = async |client: &mut tokio::net::TcpStream| {
        let read = tokio::io::AsyncReadExt::read_u8(client);
        tokio::time::timeout(Duration::from_secs(5), read).await.is_ok_and(|read| read.is_err())
    };
    for client in &mut others[..18] {
        assert!(gone(client).await);
    }
    let kept = others[18].try_read(&mut [0]).unwrap_err();
    assert_eq!(kept.kind(), std::io::ErrorKind::WouldBlock);
    let crowded = "dashboard.listen: all 64 connections are taken: the longest idle ones are closed for others; \
                   the newest is from 127.0.0.1";
    assert_eq!(front.problems(), [crowded]);
    stop.cancel();
}
