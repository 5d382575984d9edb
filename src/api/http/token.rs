//! Who may read: the token of `dashboard:`, and what a request without it is told. Never shows it.

use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::host::secret::{self, ExposeSecret, SecretString, SecretText};

/// To be asked of each request.
#[derive(Clone)]
pub(super) enum Access {
    Anybody,
    /// Who knows the token of this hash.
    With([u8; 32]),
    /// The token could not be read: nobody, since whoever wrote it wanted not everybody.
    Nobody,
}

impl Access {
    /// # Errors
    /// Why the token can't be read; then it is nobody's.
    pub(super) async fn of(token: Option<SecretText>) -> Result<Self, String> {
        let Some(token) = token else { return Ok(Self::Anybody) };
        let resolved = token.resolve_within(secret::PATIENCE).await.map_err(|error| error.to_string())?;
        token_of(&resolved).map(|token| Self::With(hash(token))).map_err(str::to_owned)
    }

    /// What is answered in place of a page.
    pub(super) fn refuses(&self, headers: &HeaderMap) -> Option<Response> {
        match self {
            Self::Anybody => None,
            Self::Nobody => {
                let text = "the token of this daemon can't be read: see its log\n";
                Some((StatusCode::SERVICE_UNAVAILABLE, text).into_response())
            }
            Self::With(token) if bearer(headers).is_some_and(|given| is_same(&hash(given), token)) => None,
            Self::With(_) => {
                let how = [(WWW_AUTHENTICATE, "Bearer realm=\"punk-eco-sched\"")];
                let text = "a token is needed: Authorization: Bearer TOKEN (dashboard.token in jobs.yaml)\n";
                Some((StatusCode::UNAUTHORIZED, how, text).into_response())
            }
        }
    }
}

/// The token in what `dashboard.token` refers to.
///
/// # Errors
/// Why no client can ever give it. Does not show it.
pub fn token_of(resolved: &SecretString) -> Result<&str, &'static str> {
    let token = resolved.expose_secret().trim_ascii();
    match token.bytes().all(|byte| byte.is_ascii_graphic()) {
        _ if token.is_empty() => Err("it is empty"),
        true => Ok(token),
        false => Err("no client can send it: only visible ASCII characters without blanks fit a header"),
    }
}

/// RFC 6750, section 2.1.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// In the same time, however much of them is the same; of hashes, so that their length tells nothing either.
fn is_same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    std::iter::zip(one, other).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}
