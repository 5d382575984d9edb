//! What went wrong with a request, in plain words.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};

use super::Target;
use super::client::Progress;
use crate::host::names::Unresolved;
use crate::units::HumanDuration;

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("the name {host} can't be resolved: {reason}")]
    Name { host: String, reason: String },
    #[error("{address} refuses the connection: nothing listens there")]
    Refused { address: String },
    #[error("{address} can't be reached: {reason}")]
    Unreachable { address: String, reason: String },
    #[error("no TLS with {address}: {reason}")]
    Tls { address: String, reason: String },
    /// `got`: what had come until then.
    #[error("{url} didn't answer within {}: {got}", HumanDuration(*within))]
    Timeout { url: String, within: Duration, got: String },
    #[error("{url} is cut off: {got}")]
    Closed { url: String, got: String },
    #[error("{address} answers, but not with HTTP: {reason}")]
    NotHttp { address: String, reason: String },
    #[error("redirects lead in a circle: the {after}. one leads back to {back_to}")]
    Circle { back_to: String, after: usize },
    #[error("redirected more than {followed} times, last to {last}")]
    TooManyRedirects { followed: usize, last: String },
    #[error("{url} answers {status} with a Location that is no HTTP address")]
    Nowhere { status: u16, url: String },
    #[error("the header {name} can't be sent: its name or value has a character that headers can't hold")]
    Header { name: String },
    #[error("no HTTP client can be made: {reason}")]
    Client { reason: String },
}

/// What came instead of an answer, or of its rest.
pub(super) fn explain(error: &reqwest::Error, target: &Target, progress: &Progress) -> HttpError {
    let address = target.authority();
    let causes: Vec<&(dyn Error + 'static)> =
        std::iter::successors(error.source(), |&cause| cause.source()).collect();
    if let Some(unresolved) = causes.iter().find_map(|&cause| cause.downcast_ref::<Unresolved>()) {
        return HttpError::Name { host: target.host().to_owned(), reason: unresolved.to_string() };
    }
    if let Some(tls) = causes.iter().find_map(|&cause| tls_error(cause)) {
        return HttpError::Tls { address, reason: distrust(tls, target) };
    }
    let last = causes.last().map_or_else(|| "no reason is given".to_owned(), ToString::to_string);
    let io = causes.iter().rev().find_map(|cause| cause.downcast_ref::<io::Error>());
    if !progress.is_connected() {
        return match io.map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => HttpError::Refused { address },
            Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) if target.is_tls() => {
                HttpError::Tls { address, reason: "it closes the connection during the handshake".into() }
            }
            _ => HttpError::Unreachable { address, reason: last },
        };
    }
    if io.is_some()
        || last.contains("closed before message completed")
        || error.is_decode()
        || error.is_body()
    {
        return HttpError::Closed { url: target.to_string(), got: progress.reached() };
    }
    HttpError::NotHttp { address, reason: last }
}

/// An `io::Error` doesn't count what it holds among its sources, and may hold another one.
fn tls_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let held = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    cause.downcast_ref().or_else(|| tls_error(held?))
}

fn distrust(error: &rustls::Error, target: &Target) -> String {
    match error {
        rustls::Error::InvalidCertificate(certificate) => certificate_says(certificate, target),
        rustls::Error::InvalidMessage(_) => "what answers there doesn't speak TLS".into(),
        rustls::Error::AlertReceived(alert) => refusal(*alert),
        other => other.to_string(),
    }
}

fn refusal(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnrecognisedName => "it has no certificate for this name".into(),
        AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion => {
            "it offers only versions or ciphers that are no longer safe".into()
        }
        other => format!("it refuses with {other:?}"),
    }
}

fn certificate_says(error: &CertificateError, target: &Target) -> String {
    let day = |time: &rustls::pki_types::UnixTime| {
        let second = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(second).map_or_else(|_| String::new(), |at| at.to_string())
    };
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!(
                "its certificate has expired on {}: renew it, or reload the server that still serves the old one",
                day(not_after)
            )
        }
        CertificateError::Expired => "its certificate has expired".into(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("its certificate isn't valid before {}: is a clock wrong?", day(not_before))
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().map(|name| shown_name(name)).collect();
            let names = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
            format!("its certificate is for {names}, not for {}", target.host())
        }
        CertificateError::NotValidForName => format!("its certificate is not for {}", target.host()),
        CertificateError::UnknownIssuer => {
            "nobody whom this host trusts has signed its certificate (an own authority goes to \
             /usr/local/share/ca-certificates, then update-ca-certificates)"
                .into()
        }
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate has signed itself".into()
        }
        CertificateError::Revoked => "its certificate is revoked".into(),
        other => format!("its certificate proves nothing: {other}"),
    }
}

/// rustls writes names as its own types show themselves: `DnsName("a.example")`.
fn shown_name(name: &str) -> &str {
    name.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"')).map_or(name, |(inner, _)| inner)
}
