//! One mail to one mail server: plain text, bounded in time, errors that say what refused it and where.
//!
//! Never keeps a connection, never retries, and decides about no mail: who sends one does.

mod bounded;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lettre::address::{Address, Envelope};
use lettre::message::header::{
    ContentTransferEncoding, ContentType, HeaderName, HeaderValue, MIME_VERSION_1_0,
};
use lettre::message::{Body, Mailbox, Message};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use self::bounded::Bounded;
use super::secret::{ExposeSecret, SecretString};
use super::{procfs, trust};
use crate::logs::harmless;
use crate::units::HumanDuration;

/// Of a mail, without its end (RFC 5322, 2.1.1).
const LONGEST_LINE: usize = 998;

/// For the answer to QUIT, for which nobody has a use.
const GOODBYE: Duration = Duration::from_secs(1);

/// How the connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    #[default]
    None,
    Starttls,
    Tls,
}

pub struct Server {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    pub login: Option<(String, SecretString)>,
    /// For all of a mail, from the look-up of the name to the last answer.
    pub patience: Duration,
}

pub struct Mail {
    /// The part of the Message-ID before the `@`.
    pub id: String,
    pub at: Timestamp,
    /// The name beside the address it is from.
    pub sender: String,
    pub from: String,
    pub to: String,
    pub subject: String,
    pub text: String,
}

#[derive(Debug, thiserror::Error)]
pub enum MailError {
    #[error("SMTP at {server}: the name does not resolve: {reason}")]
    Resolve { server: String, reason: String },
    #[error("SMTP at {server}: {reason}")]
    Connect { server: String, reason: String },
    #[error("SMTP at {server}: no TLS: {reason}")]
    Tls { server: String, reason: String },
    #[error("SMTP at {server}: the login of {user} was refused: {reason}")]
    Login { server: String, user: String, reason: String },
    #[error("SMTP at {server}: the sender {from} was refused: {reason}")]
    Sender { server: String, from: String, reason: String },
    #[error("SMTP at {server}: the recipient {to} was refused: {reason}")]
    Recipient { server: String, to: String, reason: String, for_good: bool },
    #[error("SMTP at {server}: the mail was refused: {reason}")]
    Refused { server: String, reason: String, for_good: bool },
    /// It spoke, and then not as a mail server does.
    #[error("SMTP at {server}: {reason}")]
    Broken { server: String, reason: String },
    #[error("SMTP at {server}: not done after {after}")]
    Timeout { server: String, after: HumanDuration },
    #[error("a mail to {to} can't be written: {reason}")]
    Unwritable { to: String, reason: String },
}

impl MailError {
    /// The same mail will never be taken there.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Recipient { for_good, .. } | Self::Refused { for_good, .. } => *for_good,
            Self::Unwritable { .. } => true,
            _ => false,
        }
    }
}

/// The server has taken the mail on return.
///
/// # Errors
/// [`MailError`]
pub async fn send(server: &Server, mail: &Mail) -> Result<(), MailError> {
    let message = compose(mail)?;
    let connection = bounded(server, async {
        let mut connection = open(server).await?;
        match hand_over(server, &mut connection, message.envelope(), &message.formatted()).await {
            Ok(()) => Ok(connection),
            Err(error) => {
                say_goodbye(connection).await;
                Err(error)
            }
        }
    })
    .await?;
    // Not within the bound: the mail is there, whatever the server says to the goodbye, and is not to be sent again.
    say_goodbye(connection).await;
    Ok(())
}

/// Whether the server answers and takes the login.
///
/// # Errors
/// [`MailError`]
pub async fn reach(server: &Server) -> Result<(), MailError> {
    say_goodbye(bounded(server, open(server)).await?).await;
    Ok(())
}

async fn say_goodbye(mut connection: AsyncSmtpConnection) {
    let _ = tokio::time::timeout(GOODBYE, connection.abort()).await;
}

async fn bounded<T>(
    server: &Server,
    work: impl Future<Output = Result<T, MailError>>,
) -> Result<T, MailError> {
    tokio::time::timeout(server.patience, work).await.unwrap_or_else(|_| {
        Err(MailError::Timeout { server: server.name(), after: HumanDuration(server.patience) })
    })
}

impl Server {
    /// `mail.example:25`
    pub fn name(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

async fn open(server: &Server) -> Result<AsyncSmtpConnection, MailError> {
    let name = || server.name();
    let hello = hello();
    let connection_failed =
        |error: SmtpError| MailError::Broken { server: name(), reason: reason_of(&error) };
    let tls_failed = |error: SmtpError| MailError::Tls { server: name(), reason: reason_of(&error) };
    let parameters = || TlsParameters::new(server.host.clone()).map_err(tls_failed);
    let address = (server.host.as_str(), server.port);
    let addresses: Vec<_> = tokio::net::lookup_host(address)
        .await
        .map_err(|error| MailError::Resolve { server: name(), reason: plain(&error) })?
        .collect();
    let stream = TcpStream::connect(&*addresses)
        .await
        .map_err(|error| MailError::Connect { server: name(), reason: plain(&error) })?;
    // A mail and its end are two writes: without this the second waits for the server's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let peer =
        stream.peer_addr().map_err(|error| MailError::Connect { server: name(), reason: plain(&error) })?;
    let stream: Box<dyn AsyncTokioStream> = if server.tls == Tls::Tls {
        let no_tls = |reason: String| MailError::Tls { server: name(), reason };
        let shown = ServerName::try_from(server.host.clone()).map_err(|error| no_tls(error.to_string()))?;
        let config = trust::verifying(trust::authorities()).with_no_client_auth();
        let shaken = TlsConnector::from(Arc::new(config)).connect(shown, stream).await;
        Box::new(Bounded::new(shaken.map_err(|error| no_tls(plain(&error)))?, peer))
    } else {
        Box::new(Bounded::new(stream, peer))
    };
    let mut connection =
        AsyncSmtpConnection::connect_with_transport(stream, &hello).await.map_err(connection_failed)?;
    if server.tls == Tls::Starttls {
        if !connection.can_starttls() {
            connection.abort().await;
            let reason = "it does not offer STARTTLS".to_owned();
            return Err(MailError::Tls { server: name(), reason });
        }
        connection.starttls(parameters()?, &hello).await.map_err(tls_failed)?;
    }
    if let Some((user, password)) = &server.login {
        let credentials = Credentials::new(user.clone(), password.expose_secret().to_owned());
        connection.auth(DEFAULT_MECHANISMS, &credentials).await.map_err(|error| {
            let (server, user) = (name(), user.clone());
            // What it says is the server's own; a client's error of this library may tell of the credentials.
            let reason = match error.status() {
                Some(_) => reason_of(&error),
                None if error.is_client() => "it offers no kind of login that is known here".to_owned(),
                None => "it broke off".to_owned(),
            };
            MailError::Login { server, user, reason }
        })?;
    }
    Ok(connection)
}

/// Command by command, so that the error can say what was refused.
async fn hand_over(
    server: &Server,
    connection: &mut AsyncSmtpConnection,
    envelope: &Envelope,
    mail: &[u8],
) -> Result<(), MailError> {
    let name = || server.name();
    let broken = |error: &SmtpError| MailError::Broken { server: name(), reason: reason_of(error) };
    let mut parameters = vec![];
    let beyond_ascii = |address: &Address| !AsRef::<str>::as_ref(address).is_ascii();
    if envelope.from().into_iter().chain(envelope.to()).any(beyond_ascii) {
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            let reason = "it takes no addresses beyond ASCII (SMTPUTF8)".to_owned();
            return Err(MailError::Refused { server: name(), reason, for_good: true });
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    let from = envelope.from().cloned();
    connection.command(MailFrom::new(from.clone(), parameters)).await.map_err(|error| {
        let from = from.map(|from| from.to_string()).unwrap_or_default();
        match error.status() {
            Some(_) => MailError::Sender { server: name(), from, reason: reason_of(&error) },
            None => broken(&error),
        }
    })?;
    for to in envelope.to() {
        connection.command(Rcpt::new(to.clone(), vec![])).await.map_err(|error| {
            let (to, for_good) = (to.to_string(), error.is_permanent());
            match error.status() {
                Some(_) => MailError::Recipient { server: name(), to, reason: reason_of(&error), for_good },
                None => broken(&error),
            }
        })?;
    }
    let refused = |error: SmtpError| match error.status() {
        Some(_) => {
            let for_good = error.is_permanent();
            MailError::Refused { server: name(), reason: reason_of(&error), for_good }
        }
        None => broken(&error),
    };
    connection.command(Data).await.map_err(refused)?;
    connection.message(mail).await.map_err(refused)?;
    Ok(())
}

fn compose(mail: &Mail) -> Result<Message, MailError> {
    let unwritable = |reason: String| MailError::Unwritable { to: mail.to.clone(), reason };
    let address = |text: &str| -> Result<Address, MailError> {
        text.parse().map_err(|error| unwritable(format!("`{}`: {error}", harmless(text))))
    };
    let host = procfs::host_name();
    let from = Mailbox::new(Some(harmless(&mail.sender)), address(&mail.from)?);
    Message::builder()
        .from(from)
        .to(Mailbox::new(None, address(&mail.to)?))
        .subject(harmless(&mail.subject))
        .date(mail.at.into())
        .message_id(Some(format!("<{}@{}>", mail.id, domain(&host))))
        // RFC 3834: no answering machine may answer.
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ))
        .header(MIME_VERSION_1_0)
        .header(ContentType::TEXT_PLAIN)
        .body(body(&mail.text))
        .map_err(|error| unwritable(error.to_string()))
}

/// As it is wherever that may be: a log line that quoted-printable has broken can't be searched for or copied from the
/// raw mail.
fn body(text: &str) -> Body {
    let plain = text.is_ascii()
        && !text.contains(['\r', '\0'])
        && text.lines().all(|line| line.len() <= LONGEST_LINE);
    if !plain {
        return Body::new(text.to_owned());
    }
    let lines = text.replace('\n', "\r\n").into_bytes();
    Body::dangerous_pre_encoded(lines, ContentTransferEncoding::SevenBit)
}

fn hello() -> ClientId {
    ClientId::Domain(domain(&procfs::host_name()))
}

/// What stands where a domain is wanted.
fn domain(host: &str) -> String {
    let fine = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.');
    let name: String = host.chars().filter(|letter| fine(*letter)).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// What the server replied, or why there was no reply.
fn reason_of(error: &SmtpError) -> String {
    if let Some(io) = io_of(error) {
        return plain(io);
    }
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let text = match error.status() {
        Some(code) => format!("{code} {source}"),
        None if source.is_empty() => error.to_string(),
        None => source,
    };
    // A reply is the server's to write, and is shown on terminals.
    harmless(text.trim())
}

fn io_of(error: &SmtpError) -> Option<&std::io::Error> {
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref() {
            return Some(io);
        }
        next = error.source();
    }
    None
}

/// `connection refused` rather than `Connection refused (os error 111)`.
fn plain(error: &std::io::Error) -> String {
    match error.kind().to_string() {
        kind if error.raw_os_error().is_some() && kind != "uncategorized error" => kind,
        _ => error.to_string(),
    }
}
