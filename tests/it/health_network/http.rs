//! `http` against a real nginx, and against servers that do what no server should.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{check, host, looked, said};
use crate::support::missing::lacks;
use crate::support::web::{Program, Server, free_port, request, until_closed};

#[test]
fn a_real_server_is_held_against_what_is_asked_of_it() {
    if lacks("nginx") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let nginx = Program::nginx(
        folder.path(),
        "",
        "location /health { return 200 'status: well\\n'; }\n\
         location /moved { return 301 /health; }\n\
         location /broken { return 500 'it is down'; }\n\
         location /missing { return 404; }",
    );
    let check = |options: &str, expected: &str| check(nginx.port, options, expected);
    check("http: { url: http://127.0.0.1:PORT/health }", "ok: 200 in N ms");
    check(
        "http: { url: http://localhost:PORT/health, within: 4s, body_has: well }",
        "ok: 200 in N ms (within 4s)",
    );
    check(
        "http: { url: http://127.0.0.1:PORT/health, body_has: ill }",
        "failing: 200 in N ms, but the body doesn't have \"ill\": status: well",
    );
    check(
        "http: { url: http://127.0.0.1:PORT/moved }",
        "ok: 200 in N ms after a redirect to http://127.0.0.1:PORT/health",
    );
    check("http: { url: http://127.0.0.1:PORT/moved, status: [301] }", "ok: 301 in N ms");
    check("http: { url: http://127.0.0.1:PORT/broken }", "failing: 500 in N ms, asked for: 200: it is down");
    check(
        "http: { url: http://127.0.0.1:PORT/missing, status: [200, 204] }",
        "failing: 404 in N ms, asked for: 200 or 204: <html>",
    );
    check("http: { url: http://127.0.0.1:PORT/missing, status: [404] }", "ok: 404 in N ms");
}

#[test]
fn an_answer_that_comes_too_late_says_both_times() {
    let slow = Server::start(|mut connection| {
        request(&mut connection);
        std::thread::sleep(std::time::Duration::from_millis(60));
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    check(
        slow.port,
        "http: { url: http://127.0.0.1:PORT/, within: 50ms }",
        "failing: 200 in N ms, asked for: within 50ms",
    );
}

#[test]
fn a_server_that_never_comes_to_an_end_is_left_at_the_timeout() {
    // One byte each 20 ms, for ever.
    fn dribble(connection: &mut std::net::TcpStream) {
        while connection.write_all(b"x").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    let silent = Server::silent();
    check(
        silent.port,
        "http: { url: http://127.0.0.1:PORT/, timeout: 300ms }",
        "failing: http://127.0.0.1:PORT/ didn't answer within 300ms: connected, but no whole header came",
    );
    check(
        silent.port,
        "http: { url: https://127.0.0.1:PORT/, timeout: 300ms }",
        "failing: https://127.0.0.1:PORT/ didn't answer within 300ms: no TLS connection was made",
    );
    let headers = Server::start(|mut connection| {
        request(&mut connection);
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nX-Slow: ");
        dribble(&mut connection);
    });
    check(
        headers.port,
        "http: { url: http://127.0.0.1:PORT/, timeout: 300ms }",
        "failing: http://127.0.0.1:PORT/ didn't answer within 300ms: connected, but no whole header came",
    );
    let body = Server::start(|mut connection| {
        request(&mut connection);
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        dribble(&mut connection);
    });
    let results = looked(
        &host("", &[format!("http: {{ url: 'http://127.0.0.1:{}/', timeout: 500ms }}", body.port)]),
        |_| {},
    );
    let message = said(&results[0], body.port);
    let start = "failing: http://127.0.0.1:PORT/ didn't answer within 500ms: status 200 and ";
    let bytes = message
        .strip_prefix(start)
        .and_then(|rest| rest.strip_suffix(" bytes of the body came, but not its end"));
    assert!(bytes.is_some_and(|bytes| (2..30).contains(&bytes.parse::<u32>().unwrap())), "{message}");
    let begun = Server::start(|mut connection| {
        request(&mut connection);
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        until_closed(&mut connection);
    });
    check(
        begun.port,
        "http: { url: http://127.0.0.1:PORT/, timeout: 300ms }",
        "failing: http://127.0.0.1:PORT/ didn't answer within 300ms: status 200 came, but nothing of the body",
    );
}

#[test]
fn of_a_gigabyte_no_more_is_fetched_than_is_looked_at() {
    const GIGABYTE: usize = 1 << 30;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let large = Server::start(move |mut connection| {
        request(&mut connection);
        let _ = write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {GIGABYTE}\r\n\r\n");
        let block = [b'x'; 64 * 1024];
        while count.load(Ordering::SeqCst) < GIGABYTE && connection.write_all(&block).is_ok() {
            count.fetch_add(block.len(), Ordering::SeqCst);
        }
    });
    check(large.port, "http: { url: http://127.0.0.1:PORT/ }", "ok: 200 in N ms");
    check(
        large.port,
        "http: { url: http://127.0.0.1:PORT/, body_has: well }",
        &format!(
            "failing: 200 in N ms, but the first 1 MiB of the body doesn't have \"well\": {}…",
            "x".repeat(100)
        ),
    );
    // What the sockets of both ends hold comes on top.
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent < 32 << 20, "{sent} bytes were sent");
}

#[test]
fn redirects_end_somewhere_or_are_told_apart() {
    let circle = Server::start(|mut connection| {
        let head = request(&mut connection);
        let to = if head.starts_with("GET /a") { "/b" } else { "/a" };
        let _ =
            write!(connection, "HTTP/1.1 302 Found\r\nLocation: {to}?ticket=t\r\nContent-Length: 0\r\n\r\n");
    });
    check(
        circle.port,
        "http: { url: 'http://127.0.0.1:PORT/a?ticket=t' }",
        "failing: redirects lead in a circle: the 2. one leads back to http://127.0.0.1:PORT/a",
    );
    assert_eq!(circle.taken.load(Ordering::SeqCst), 2);
    let onward = Server::start(|mut connection| {
        let head = request(&mut connection);
        let path = head.split(' ').nth(1).unwrap();
        let _ = write!(connection, "HTTP/1.1 308 Onward\r\nLocation: {path}x\r\nContent-Length: 0\r\n\r\n");
    });
    check(
        onward.port,
        "http: { url: http://127.0.0.1:PORT/ }",
        "failing: redirected more than 10 times, last to http://127.0.0.1:PORT/xxxxxxxxxxx",
    );
    assert_eq!(onward.taken.load(Ordering::SeqCst), 11);
    let nowhere =
        Server::answering("HTTP/1.1 301 Moved\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n");
    check(
        nowhere.port,
        "http: { url: http://127.0.0.1:PORT/ }",
        "failing: http://127.0.0.1:PORT/ answers 301 with a Location that is no HTTP address",
    );
}

#[test]
fn a_redirect_to_another_server_takes_no_password_along() {
    let heads = Arc::new(std::sync::Mutex::new(vec![]));
    let heard = heads.clone();
    let other = Server::start(move |mut connection| {
        heard.lock().unwrap().push(request(&mut connection));
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let (heard, port) = (heads.clone(), other.port);
    let first = Server::start(move |mut connection| {
        heard.lock().unwrap().push(request(&mut connection));
        let _ = write!(
            connection,
            "HTTP/1.1 307 Over There\r\nLocation: http://127.0.0.1:{port}/there\r\nContent-Length: 0\r\n\r\n"
        );
    });
    let url = format!("http://monitor:hunter2@127.0.0.1:{}/here", first.port);
    let host = host("", &[format!("http: {{ url: '{url}' }}")]);
    let results = looked(&host, |_| {});
    assert_eq!(said(&results[0], port), "ok: 200 in N ms after a redirect to http://127.0.0.1:PORT/there");
    assert_eq!(results[0]["name"], format!("http http://127.0.0.1:{}/here", first.port));
    let heads = heads.lock().unwrap();
    let credentials = "authorization: Basic bW9uaXRvcjpodW50ZXIy";
    assert!(heads[0].starts_with("GET /here HTTP/1.1\r\n") && heads[0].contains(credentials), "{}", heads[0]);
    let plain = format!(
        "GET /there HTTP/1.1\r\naccept: */*\r\nuser-agent: punk-eco-sched/{}\r\nhost: 127.0.0.1:{port}\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(heads[1], plain);
}

#[test]
fn what_is_no_web_server_is_said_to_be_none() {
    check(
        free_port(),
        "http: { url: http://127.0.0.1:PORT/ }",
        "failing: 127.0.0.1:PORT refuses the connection: nothing listens there",
    );
    check(
        80,
        "http: { url: http://no-such.invalid/ }",
        "failing: the name no-such.invalid can't be resolved: Name or service not known",
    );
    let shy = Server::start(|mut connection| {
        request(&mut connection);
    });
    check(
        shy.port,
        "http: { url: http://127.0.0.1:PORT/ }",
        "failing: http://127.0.0.1:PORT/ is cut off: connected, but no whole header came",
    );
    let cut = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes.");
    check(
        cut.port,
        "http: { url: http://127.0.0.1:PORT/ }",
        "failing: http://127.0.0.1:PORT/ is cut off: status 200 and 10 bytes of the body came, but not its end",
    );
    let ssh = Server::answering("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n");
    check(
        ssh.port,
        "http: { url: http://127.0.0.1:PORT/ }",
        "failing: 127.0.0.1:PORT answers, but not with HTTP: invalid HTTP version parsed",
    );
}

#[test]
fn no_proxy_comes_in_between() {
    let server = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let host = host("", &[format!("http: {{ url: 'http://127.0.0.1:{}/' }}", server.port)]);
    let results = looked(&host, |run| {
        let dead = format!("http://127.0.0.1:{}", free_port());
        run.env("http_proxy", &dead).env("HTTP_PROXY", &dead).env("all_proxy", &dead);
    });
    assert_eq!(said(&results[0], server.port), "ok: 200 in N ms");
}

#[test]
fn an_address_may_be_kept_elsewhere_and_is_not_shown() {
    let server = Server::answering("HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n");
    let host = host("", &["http: { url: '${env:SHOP_URL}' }".to_owned()]);
    let secret = format!("http://127.0.0.1:{}/hunter2", server.port);
    let results = looked(&host, |run| {
        run.env("SHOP_URL", &secret);
    });
    assert_eq!(said(&results[0], server.port), "failing: 503 in N ms, asked for: 200");
    assert_eq!(results[0]["name"], "http ${env:SHOP_URL}");
    assert!(!host.log("watch").contains("hunter2"), "{}", host.log("watch"));
    let results = looked(&host, |_| {});
    assert_eq!(
        said(&results[0], server.port),
        "unknown: ${env:SHOP_URL}: the environment variable SHOP_URL is not set"
    );
    let results = looked(&host, |run| {
        run.env("SHOP_URL", "hunter2");
    });
    assert_eq!(
        said(&results[0], server.port),
        "unknown: ${env:SHOP_URL} is no address of http or https: relative URL without a base: it begins with http:// or https://"
    );
}
