//! A TLS handshake that asks which certificate a server shows, trusted or not.
//!
//! Sends and reads nothing beyond the handshake.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::certificates::Certificate;
use super::{names, sockets, trust};

/// Where a TLS server is, and whose certificate it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `NAME:PORT`, `ADDRESS:PORT`, `[ADDRESS]:PORT`.
    pub address: String,
    /// What is asked for (SNI). `None`: the server shows what it shows to those who name nothing.
    pub name: Option<String>,
}

/// What a server has shown.
#[derive(Clone, Debug)]
pub struct Served {
    /// The server's own certificate.
    pub leaf: Certificate,
    chain: Vec<CertificateDer<'static>>,
}

impl Endpoint {
    /// The name that is asked for is that of the address, unless it is a number or `localhost`, which no public
    /// certificate is for.
    ///
    /// # Errors
    /// Where it isn't an address and a port.
    pub fn parse(address: &str) -> Result<Self, String> {
        let (host, port) = address.rsplit_once(':').unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let numeric = host.parse::<IpAddr>().is_ok();
        let six = host.contains(':');
        let plain = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/' || c == '@');
        let fine = plain && (!six || (numeric && bare.is_some()));
        if !fine || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(format!("`{address}` is not an address and a port"));
        }
        let name = (!numeric && !host.eq_ignore_ascii_case("localhost")).then(|| host.to_owned());
        if let Some(name) = &name {
            valid_name(name)?;
        }
        Ok(Self { address: address.to_owned(), name })
    }

    /// # Errors
    /// Where either isn't what it should be.
    pub fn named(address: &str, name: &str) -> Result<Self, String> {
        valid_name(name)?;
        Ok(Self { name: Some(name.to_owned()), ..Self::parse(address)? })
    }

    /// Connects and shakes hands within `limit`.
    ///
    /// # Errors
    /// What went wrong, as a sentence that begins with the address.
    pub async fn handshake(&self, limit: Duration) -> Result<Served, String> {
        let address = &self.address;
        let seconds = limit.as_secs_f64();
        // Not part of the time that the server is given: it has not been asked yet.
        let _permit = sockets::permit().await;
        let connected = tokio::time::timeout(limit, self.connect()).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(format!("{address} takes no connection: {error}")),
            Err(_) => return Err(format!("{address} takes no connection within {seconds} s")),
        };
        let seen = Arc::new(Seen::default());
        let shaken = tokio::time::timeout(limit, self.shake(stream, seen.clone())).await;
        let chain = match (shaken, seen.chain.get()) {
            (Ok(Ok(())), Some(chain)) => chain.clone(),
            // It may go on to refuse us, who bring no certificate: what it shows to others is proven all the same.
            (Ok(Err(_)), Some(chain)) if seen.proven.load(Ordering::Relaxed) => chain.clone(),
            (Ok(Ok(())), None) => return Err(format!("{address} shows no certificate")),
            (Ok(Err(why)), _) => return Err(format!("{address}: the TLS handshake failed: {why}")),
            (Err(_), _) => {
                return Err(format!(
                    "{address} takes connections, but shakes no TLS hands within {seconds} s"
                ));
            }
        };
        let leaf = chain.first().map(|der| Certificate::from_der(der));
        match leaf {
            Some(Ok(leaf)) => Ok(Served { leaf, chain }),
            Some(Err(why)) => Err(format!("{address} shows something that is no certificate: {why}")),
            None => Err(format!("{address} shows no certificate")),
        }
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let (host, port) = self.address.rsplit_once(':').unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // Not by the runtime's own look-up, which knows no bound: a hundred slow names would hold all its threads.
        let found = names::addresses(host).await.map_err(std::io::Error::other)?;
        let port = port.parse().unwrap_or_default();
        let addresses: Vec<_> = found.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        TcpStream::connect(&*addresses).await
    }

    async fn shake(&self, stream: TcpStream, seen: Arc<Seen>) -> Result<(), String> {
        let mut config =
            trust::tls().dangerous().with_custom_certificate_verifier(seen).with_no_client_auth();
        config.enable_sni = self.name.is_some();
        // Without SNI the name is of no account: the verifier doesn't look at it.
        let name = server_name(self.name.as_deref().unwrap_or("localhost"))?;
        match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
            Ok(_) => Ok(()),
            Err(error) => Err(explain(&error)),
        }
    }
}

impl Served {
    /// Why a client of this host that looks for `name` would not trust the server; `None`: it would. Without a name,
    /// one that the certificate itself bears is taken.
    pub async fn distrust(&self, name: Option<&str>, now: Timestamp) -> Option<String> {
        let chain = self.chain.clone();
        let name = name.or(self.leaf.names.iter().map(String::as_str).find(|name| !name.starts_with('*')));
        let name = name.unwrap_or("localhost").to_owned();
        let judged = tokio::task::spawn_blocking(move || verify(&chain, &name, now)).await;
        judged.unwrap_or_else(|error| Err(error.to_string())).err()
    }
}

/// By the certificate authorities of this host.
fn verify(chain: &[CertificateDer<'static>], name: &str, now: Timestamp) -> Result<(), String> {
    let (leaf, rest) = chain.split_first().ok_or("it shows no certificate")?;
    let roots = trust::authorities();
    if roots.is_empty() {
        return Err("this host has no certificate authorities: install ca-certificates".to_owned());
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, trust::provider())
        .build()
        .map_err(|error| error.to_string())?;
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let verified = verifier.verify_server_cert(leaf, rest, &server_name(name)?, &[], now);
    verified.map(|_| ()).map_err(|error| match error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer) => {
            "its issuer is none that this host trusts".to_owned()
        }
        other => other.to_string(),
    })
}

fn valid_name(name: &str) -> Result<(), String> {
    match ServerName::try_from(name) {
        Ok(ServerName::DnsName(_)) => Ok(()),
        _ => Err(format!("`{name}` is not a DNS name")),
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned()).map_err(|error| format!("{name}: {error}"))
}

fn explain(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(_)) => "what answers there doesn't speak TLS".to_owned(),
        Some(rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)) => {
            "the server speaks neither TLS 1.2 nor TLS 1.3".to_owned()
        }
        Some(rustls::Error::AlertReceived(AlertDescription::UnrecognisedName)) => {
            "the server knows no site of that name".to_owned()
        }
        Some(other) => other.to_string(),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the server closed the connection".to_owned()
        }
        None => error.to_string(),
    }
}

/// Takes note of every chain and believes it; that the server holds the certificate's key is checked all the same.
#[derive(Debug)]
pub(super) struct Seen {
    chain: OnceLock<Vec<CertificateDer<'static>>>,
    /// The server has signed with the key of its certificate.
    proven: AtomicBool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Default for Seen {
    fn default() -> Self {
        let algorithms = trust::provider().signature_verification_algorithms;
        Self { chain: OnceLock::new(), proven: AtomicBool::new(false), algorithms }
    }
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let all = std::iter::once(end_entity).chain(intermediates);
        let _ = self.chain.set(all.map(|one| one.clone().into_owned()).collect());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let signed = rustls::crypto::verify_tls12_signature(message, cert, signature, &self.algorithms);
        self.proven.store(signed.is_ok(), Ordering::Relaxed);
        signed
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let signed = rustls::crypto::verify_tls13_signature(message, cert, signature, &self.algorithms);
        self.proven.store(signed.is_ok(), Ordering::Relaxed);
        signed
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
