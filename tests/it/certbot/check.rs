//! The `certificate` check against files, nginx, and servers that are none.

use std::io::{Read, Write};
use std::net::TcpListener;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde_json::Value;

use crate::support::daemon::Host;
use crate::support::missing::lacks;
use crate::support::nginx::Nginx;
use crate::support::openssl;
use crate::support::server::{Server, free_port};

/// Runs one check; the outcome of the run, and the check's result.
fn look(host: &Host, options: &str) -> (String, Value) {
    host.write_jobs(&format!(
        "  look:\n    health_check: {{ checks: [{{ certificate: {{ {options} }} }}] }}"
    ));
    host.cli(&["run-now", "look"]);
    let row = host.history("look").remove(0);
    (row["outcome"].as_str().unwrap().to_owned(), row["facts"]["results"][0].clone())
}

#[track_caller]
fn check(host: &Host, options: &str, fine: bool, expected: &str) {
    let (outcome, result) = look(host, options);
    let message = result["message"].as_str().unwrap();
    assert_eq!((outcome == "succeeded", result["state"] == "ok"), (fine, fine), "{message}");
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_file_is_fine_as_long_as_it_is_valid_for_what_is_asked() {
    let host = Host::new("");
    let at = |name: &str| host.path(name).display().to_string();
    openssl::make(&host.path("fresh"), "x", &["punk-eco.ma"], 30);
    openssl::make(&host.path("expired"), "x", &["punk-eco.ma"], -1);
    let serial = openssl::serial(&host.path("fresh/cert.pem"));
    let fresh = format!("file: {}/cert.pem", at("fresh"));
    check(&host, &fresh, true, "valid for 29 days until ");
    check(&host, &fresh, true, &format!("(serial {serial}), asked for: 14d"));
    check(&host, &format!("{fresh}, valid_for: 31d"), false, "asked for: 31d");
    check(&host, &format!("file: {}/cert.pem", at("expired")), false, "expired 1 day ago, on ");
    check(
        &host,
        &format!("file: {}/privkey.pem", at("fresh")),
        false,
        "/privkey.pem holds a private key and no",
    );
    check(
        &host,
        &format!("file: {}", at("jobs.yaml")),
        false,
        "/jobs.yaml is not a certificate, neither as PEM",
    );
    check(&host, &format!("file: {}", at("absent")), false, "/absent doesn't exist");
    let text = std::fs::read_to_string(host.path("fresh/cert.pem")).unwrap();
    let with_words = format!("Certificate:\r\n    Data: …\r\n{}", text.replace('\n', "\r\n"));
    std::fs::write(host.path("fresh/windows.pem"), with_words).unwrap();
    check(&host, &format!("file: {}/windows.pem", at("fresh")), true, &serial);
    let convert = ["x509", "-in", "cert.pem", "-outform", "DER", "-out", "cert.der"];
    let mut openssl = crate::support::server::program("openssl");
    assert!(openssl.args(convert).current_dir(host.path("fresh")).status().unwrap().success());
    check(&host, &format!("file: {}/cert.der", at("fresh")), true, &serial);
}

#[test]
fn a_server_is_judged_by_what_it_shows() {
    if lacks("nginx") {
        return;
    }
    let host = Host::new("");
    openssl::make(&host.path("fresh"), "x", &["punk-eco.ma"], 30);
    openssl::make(&host.path("expired"), "x", &["punk-eco.ma"], -1);
    let fresh = Nginx::serving(&[("_", &host.path("fresh"))]);
    let serial = openssl::serial(&host.path("fresh/cert.pem"));
    let at = format!("address: \"127.0.0.1:{}\"", fresh.https);
    // Not trusted, and said: its authority may be a private one.
    check(&host, &at, true, &format!("(serial {serial}), asked for: 14d; not trusted by this host: "));
    check(&host, &format!("{at}, valid_for: 31d"), false, "asked for: 31d");
    let expired = Nginx::serving(&[("_", &host.path("expired"))]);
    check(&host, &format!("address: \"127.0.0.1:{}\"", expired.https), false, "expired 1 day ago");
    // One that shows its own, and breaks off since we have none to show.
    let port = free_port();
    let at = port.to_string();
    let wants = [
        "openssl",
        "s_server",
        "-www",
        "-tls1_2",
        "-Verify",
        "1",
        "-accept",
        &at,
        "-cert",
        "cert.pem",
        "-key",
        "privkey.pem",
    ];
    let _server = Server::start(&host.path("fresh"), &wants, &[], port);
    check(&host, &format!("address: \"127.0.0.1:{port}\""), true, &serial);
    let plain = fresh.http;
    let why = format!("127.0.0.1:{plain}: the TLS handshake failed: what answers there doesn't speak TLS");
    check(&host, &format!("address: \"127.0.0.1:{plain}\""), false, &why);
}

#[test]
fn a_server_that_says_nothing_is_left_in_time() {
    let host = Host::new("");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let why = format!("127.0.0.1:{port} takes connections, but shakes no TLS hands within 5 s");
    check(&host, &format!("address: \"127.0.0.1:{port}\""), false, &why);
    drop(silent);
    let why = format!("127.0.0.1:{port} takes no connection: Connection refused");
    check(&host, &format!("address: \"127.0.0.1:{port}\""), false, &why);

    // One that hangs up in the middle.
    let rude = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = rude.local_addr().unwrap().port();
    let hanging_up = std::thread::spawn(move || {
        let (mut stream, _) = rude.accept().unwrap();
        stream.read_exact(&mut [0; 64]).unwrap();
        stream.write_all(&[22, 3, 3]).unwrap();
    });
    let why = format!("127.0.0.1:{port}: the TLS handshake failed: ");
    check(&host, &format!("address: \"127.0.0.1:{port}\""), false, &why);
    hanging_up.join().unwrap();
}

/// Shows a certificate whose key it doesn't have.
#[derive(Debug)]
struct Impostor(std::sync::Arc<CertifiedKey>);

impl rustls::server::ResolvesServerCert for Impostor {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<std::sync::Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[test]
fn a_certificate_is_believed_only_with_its_key() {
    if lacks("openssl") {
        return;
    }
    let host = Host::new("");
    openssl::make(&host.path("shown"), "x", &["punk-eco.ma"], 30);
    openssl::make(&host.path("own"), "x", &["punk-eco.ma"], 30);
    let chain = CertificateDer::from_pem_file(host.path("shown/cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(host.path("own/privkey.pem")).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = Impostor(std::sync::Arc::new(CertifiedKey::new(vec![chain], key)));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(std::sync::Arc::new(shown));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut connection = rustls::ServerConnection::new(std::sync::Arc::new(config)).unwrap();
        while connection.complete_io(&mut stream).is_ok_and(|(read, written)| read + written > 0) {}
    });
    let why = format!("127.0.0.1:{port}: the TLS handshake failed: invalid peer certificate: BadSignature");
    check(&host, &format!("address: \"127.0.0.1:{port}\""), false, &why);
    serving.join().unwrap();
}
