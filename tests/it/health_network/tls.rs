//! `http` with TLS: whom the program trusts, and what it says of a certificate that proves nothing.

use std::io::{Read, Write};

use super::{host, looked, said};
use crate::support::missing::lacks;
use crate::support::web::{Authority, Program, Server, until_closed};

#[test]
fn a_certificate_is_trusted_or_it_is_said_why_not() {
    if lacks("nginx") {
        return;
    }
    let authority = Authority::new();
    let check = |trusted: &str, certificate: &str, host_name: &str, expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        let (public, key) =
            (authority.path(&format!("{certificate}.pem")), authority.path(&format!("{certificate}.key")));
        let block = format!(
            "ssl_certificate {}; ssl_certificate_key {}; location / {{ return 200 fine; }}",
            public.display(),
            key.display()
        );
        let nginx = Program::nginx(folder.path(), "ssl", &block);
        let host = host("", &[format!("http: {{ url: 'https://{host_name}:{}/' }}", nginx.port)]);
        let results = looked(&host, |run| {
            run.env("SSL_CERT_FILE", authority.path(trusted)).env_remove("SSL_CERT_DIR");
        });
        assert_eq!(said(&results[0], nginx.port), expected, "{certificate}");
    };
    authority.sign("good", "DNS:localhost,IP:127.0.0.1", "30");
    authority.sign("expired", "DNS:localhost,IP:127.0.0.1", "-1");
    authority.sign("other", "DNS:shop.example,DNS:www.shop.example", "30");
    check("ca.pem", "good", "localhost", "ok: 200 in N ms");
    check("ca.pem", "good", "127.0.0.1", "ok: 200 in N ms");
    check(
        "ca.pem",
        "other",
        "localhost",
        "failing: no TLS with localhost:PORT: its certificate is for shop.example, www.shop.example, not for localhost",
    );
    check(
        "good.pem",
        "other",
        "localhost",
        "failing: no TLS with localhost:PORT: nobody whom this host trusts has signed its certificate (an own authority \
         goes to /usr/local/share/ca-certificates, then update-ca-certificates)",
    );
    check(
        "good.pem",
        "ca",
        "localhost",
        "failing: no TLS with localhost:PORT: its certificate has signed itself",
    );
    let ended = authority.expiry("expired");
    check(
        "ca.pem",
        "expired",
        "localhost",
        &format!(
            "failing: no TLS with localhost:PORT: its certificate has expired on {ended}: renew it, or reload the server \
             that still serves the old one"
        ),
    );
}

#[test]
fn a_server_without_tls_is_told_from_one_with_a_bad_certificate() {
    let plain = Server::start(|mut connection| {
        let _ = connection.read(&mut [0; 16]);
        let _ = connection.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        until_closed(&mut connection);
    });
    super::check(
        plain.port,
        "http: { url: 'https://127.0.0.1:PORT/' }",
        "failing: no TLS with 127.0.0.1:PORT: what answers there doesn't speak TLS",
    );
    let closes = Server::start(drop);
    super::check(
        closes.port,
        "http: { url: 'https://127.0.0.1:PORT/' }",
        "failing: no TLS with 127.0.0.1:PORT: it closes the connection during the handshake",
    );
}
