//! Why something could not be done with a store, as an operator should read it, and whether it may be over soon.

use std::error::Error;
use std::io;
use std::time::Duration;

use crate::host::files;
use crate::host::names::Unresolved;
use crate::host::secret::SecretError;
use crate::units::HumanDuration;

#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("{url}: {error}")]
    Secret { url: String, error: SecretError },
    #[error("{url} can't be reached: {reason}")]
    Away { url: String, reason: String },
    #[error("{url}: nothing moved for {}", HumanDuration(*.after))]
    Silent { url: String, after: Duration },
    /// In the words of the store.
    #[error("{url}: the store refuses: {reason}")]
    Refused { url: String, reason: String },
    #[error("{url}: there is no such bucket: make it, or correct the address")]
    NoBucket { url: String },
    #[error("{url}: the store is full: {reason}")]
    Full { url: String, reason: String },
    #[error("{url}: the store fails: {reason}")]
    Failed { url: String, reason: String },
    #[error("{url} is not there")]
    Absent { url: String },
    #[error("{url} is not what was sent: {expected} was sent, {found} is there; it was removed")]
    Differs { url: String, expected: String, found: String },
    #[error(
        "the file to copy is not what its manifest says: {expected} is meant, {found} was read; nothing was copied"
    )]
    Changed { expected: String, found: String },
    #[error("another process copies to {url} now")]
    Busy { url: String },
    #[error("{what}: {error}")]
    File { what: String, error: io::Error },
    #[error("no client for {url} can be made: {reason}")]
    Client { url: String, reason: String },
}

impl ObjectError {
    /// No later try mends it.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Secret { .. }
            | Self::Refused { .. }
            | Self::NoBucket { .. }
            | Self::Absent { .. }
            | Self::Changed { .. }
            | Self::Client { .. } => true,
            Self::File { error, .. } => {
                matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound)
            }
            Self::Away { .. }
            | Self::Silent { .. }
            | Self::Full { .. }
            | Self::Failed { .. }
            | Self::Differs { .. }
            | Self::Busy { .. } => false,
        }
    }

    pub(super) fn file(what: impl Into<String>, error: io::Error) -> Self {
        Self::File { what: what.into(), error }
    }

    /// Of a folder: a full one says so in the store's way.
    pub(super) fn writing(url: &str, error: io::Error) -> Self {
        if files::is_full(&error) {
            return Self::Full { url: url.to_owned(), reason: error.to_string() };
        }
        Self::File { what: format!("{url} can't be written"), error }
    }
}

/// Not every store says them with status 403.
const DENIALS: [&str; 7] = [
    "AccessDenied",
    "AllAccessDisabled",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
];

/// What the library says of a request. `secrets`: never repeated, whatever the store has echoed.
pub(super) fn explain(error: &object_store::Error, url: &str, secrets: &[&str]) -> ObjectError {
    let url = url.to_owned();
    let whole = told(error);
    let reason = |otherwise: String| {
        let mut reason = said(&whole).unwrap_or(otherwise);
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            reason = reason.replace(secret, "***");
        }
        reason
    };
    let code = element(&whole, "Code").unwrap_or_default();
    if code == "NoSuchBucket" {
        return ObjectError::NoBucket { url };
    }
    let is_full = ["QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507", "StorageFull"];
    if is_full.iter().any(|word| code.contains(word)) || whole.contains("507 Insufficient Storage") {
        return ObjectError::Full { url, reason: reason("it has no space left".into()) };
    }
    let is_denied = matches!(
        error,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }
    );
    if is_denied || DENIALS.contains(&code) {
        let hint = match code {
            "RequestTimeTooSkewed" => "is this host's clock wrong?",
            _ => "are the access key, the secret key and their rights correct?",
        };
        let reason = reason("access denied".into());
        return ObjectError::Refused { url, reason: format!("{}: {hint}", reason.trim_end_matches('.')) };
    }
    match error {
        object_store::Error::NotFound { .. } => ObjectError::Absent { url },
        _ if matches!(
            code,
            "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException"
        ) || whole.contains("redirect without LOCATION") =>
        {
            ObjectError::Refused {
                url,
                reason: format!("{}: is the region correct?", reason("wrong region".into())),
            }
        }
        _ if !code.is_empty() || whole.contains("status code") => {
            ObjectError::Failed { url, reason: reason("it gives no reason".into()) }
        }
        _ => ObjectError::Away { url, reason: root(error) },
    }
}

/// The whole chain of causes, in which the answer of the store stands.
fn told(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |&error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// `NoSuchKey: The specified key does not exist.`, or the status.
fn said(whole: &str) -> Option<String> {
    match (element(whole, "Code"), element(whole, "Message")) {
        (Some(code), Some(message)) => Some(format!("{code}: {message}")),
        (Some(code), None) => Some(code.to_owned()),
        _ => {
            let (_, after) = whole.split_once("status code: ")?;
            let status = after.split(['\n', '<']).next()?.trim().trim_end_matches(':');
            Some(format!("it answers {status}"))
        }
    }
}

/// The text of the first element of this name: the answers are small and flat.
fn element<'w>(whole: &'w str, name: &str) -> Option<&'w str> {
    let (_, after) = whole.split_once(&format!("<{name}>"))?;
    let (text, _) = after.split_once('<')?;
    Some(text.trim())
}

/// The innermost cause: the library's own words around it say nothing to an operator.
fn root(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    loop {
        if let Some(unresolved) = last.downcast_ref::<Unresolved>() {
            return format!("its name can't be resolved: {unresolved}");
        }
        let held = last.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match held.map(|held| held as &(dyn Error + 'static)).or_else(|| last.source()) {
            Some(next) => last = next,
            None => return last.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn a_store_is_repeated_in_its_own_words_and_without_secrets() {
        let check = |error: object_store::Error, lasting: bool, expected: &str| {
            let explained = explain(&error, "s3://b", &["AKIA1", "hunter2"]);
            assert_eq!((explained.to_string().as_str(), explained.is_lasting()), (expected, lasting));
        };
        let denied = "Server returned non-2xx status code: 403 Forbidden: <Error><Code>InvalidAccessKeyId</Code>\
                      <Message>AKIA1 is not known, nor hunter2</Message></Error>";
        check(
            object_store::Error::PermissionDenied { path: "p".into(), source: denied.to_owned().into() },
            true,
            "s3://b: the store refuses: InvalidAccessKeyId: *** is not known, nor ***: are the access key, the secret \
             key and their rights correct?",
        );
        check(
            generic(
                "Server returned non-2xx status code: 404 Not Found: <Error><Code>NoSuchBucket</Code></Error>",
            ),
            true,
            "s3://b: there is no such bucket: make it, or correct the address",
        );
        check(
            generic("Server returned non-2xx status code: 507 Insufficient Storage: "),
            false,
            "s3://b: the store is full: it answers 507 Insufficient Storage",
        );
        check(
            generic(
                "Server returned non-2xx status code: 503 Service Unavailable: <Error><Code>SlowDown</Code></Error>",
            ),
            false,
            "s3://b: the store fails: SlowDown",
        );
        check(generic("connection refused"), false, "s3://b can't be reached: connection refused");
    }
}
