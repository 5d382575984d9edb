//! HTTP as this program speaks it: one request, one bounded answer, within one span of time.
//!
//! Owns redirects, bounds, and what is said when something goes wrong. Takes no proxy from the environment, keeps no
//! cookies and no connections, and asks for no compression: a check is to see what a visitor's first request sees.

mod client;
mod error;
mod target;

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use tokio::time::Instant;

use self::client::Progress;
pub use self::error::HttpError;
pub use self::target::Target;
use super::sockets;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
}

/// What is asked. Sensible bounds, no redirects: see [`Self::get`].
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub target: Target,
    /// Sent to the first server only; one to which it redirects gets none of them.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Of the whole exchange: name, connection, every redirect, and the body to its end or bound.
    pub timeout: Duration,
    /// Bytes of the answer's body that are read; the rest is not fetched. 0: the status is all that is asked for.
    pub read: usize,
    /// Bytes of these that [`Answer::body`] holds.
    pub keep: usize,
    /// Bytes to look for in all that is read.
    pub find: Vec<u8>,
    pub redirects: Redirects,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirects {
    /// A redirect is an answer like another.
    Never,
    /// GET only. A status among `but` is an answer.
    Follow { at_most: usize, but: Vec<u16> },
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// There was more than [`Request::read`].
    pub truncated: bool,
    /// Whether [`Request::find`] is in what was read; nothing is found everywhere.
    pub found: bool,
    /// From the start to the last byte that was read.
    pub took: Duration,
    /// Redirects that were followed.
    pub redirects: usize,
    /// Where the answer came from, fit to be shown.
    pub url: String,
    /// The header, as it came.
    pub retry_after: Option<String>,
}

impl Request {
    pub fn get(target: Target) -> Self {
        Self {
            method: Method::Get,
            target,
            headers: vec![],
            body: vec![],
            timeout: Duration::from_secs(10),
            read: 64 * 1024,
            keep: 1024,
            find: vec![],
            redirects: Redirects::Never,
        }
    }

    pub fn post(target: Target, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![(CONTENT_TYPE.to_string(), content_type.to_owned())];
        Self { method: Method::Post, headers, body: body.into(), ..Self::get(target) }
    }

    /// # Errors
    /// [`HttpError`]: what, where, and how far it came. Never what stands in a secret address.
    pub async fn send(&self) -> Result<Answer, HttpError> {
        // Not part of the time that the server is given: it has not been asked yet.
        let _permit = sockets::permit().await;
        let progress = Progress::default();
        let started = Instant::now();
        let exchange = client::observed(progress.clone(), self.exchange(started, &progress));
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(HttpError::Timeout {
                url: progress.url().unwrap_or_else(|| self.target.to_string()),
                within: self.timeout,
                got: progress.reached(),
            }),
        }
    }

    async fn exchange(&self, started: Instant, progress: &Progress) -> Result<Answer, HttpError> {
        let mut at = self.target.clone();
        let mut seen = vec![at.url().clone()];
        loop {
            progress.asks(&at);
            let first = seen.len() == 1;
            let response = self.ask(&at, first, progress).await?;
            progress.status(response.status().as_u16());
            let Some(next) = self.next(&at, &response)? else {
                let redirects = seen.len() - 1;
                return read(self, response, &at, progress, |body| Answer {
                    took: started.elapsed(),
                    redirects,
                    ..body
                })
                .await;
            };
            if seen.contains(next.url()) {
                return Err(HttpError::Circle { back_to: next.to_string(), after: seen.len() });
            }
            if let Redirects::Follow { at_most, .. } = self.redirects
                && seen.len() > at_most
            {
                return Err(HttpError::TooManyRedirects { followed: at_most, last: next.to_string() });
            }
            seen.push(next.url().clone());
            at = next;
        }
    }

    async fn ask(&self, at: &Target, first: bool, progress: &Progress) -> Result<Response, HttpError> {
        let client = client::of(at)?;
        let mut request = match self.method {
            Method::Get => client.get(at.url().clone()),
            Method::Post => client.post(at.url().clone()).body(self.body.clone()),
        };
        if first {
            request = request.headers(self.header_map()?);
        }
        request.send().await.map_err(|error| error::explain(&error, at, progress))
    }

    fn header_map(&self) -> Result<HeaderMap, HttpError> {
        let mut map = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let wrong = || HttpError::Header { name: name.clone() };
            let key = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
            map.insert(key, HeaderValue::try_from(value.as_str()).map_err(|_| wrong())?);
        }
        Ok(map)
    }

    /// Where the answer sends us, if we are to follow.
    fn next(&self, at: &Target, response: &Response) -> Result<Option<Target>, HttpError> {
        let status = response.status();
        let Redirects::Follow { but, .. } = &self.redirects else { return Ok(None) };
        let moved = matches!(
            status,
            StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT
        );
        if !moved || self.method != Method::Get || but.contains(&status.as_u16()) {
            return Ok(None);
        }
        let Some(location) = response.headers().get(LOCATION) else { return Ok(None) };
        match at.redirected(location.as_bytes()) {
            Some(next) => Ok(Some(next)),
            None => Err(HttpError::Nowhere { status: status.as_u16(), url: at.to_string() }),
        }
    }
}

/// Reads the body up to its bound, keeping no more than was asked for.
async fn read(
    request: &Request,
    mut response: Response,
    at: &Target,
    progress: &Progress,
    finish: impl FnOnce(Answer) -> Answer,
) -> Result<Answer, HttpError> {
    let mut body = Vec::new();
    let mut finder = Finder::new(&request.find);
    let mut total = 0;
    let mut truncated = false;
    let broken = |error: reqwest::Error| error::explain(&error, at, progress);
    // Who wants nothing of it doesn't wait for it, and isn't told what is wrong with it.
    while request.read > 0
        && let Some(chunk) = response.chunk().await.map_err(broken)?
    {
        let piece = &chunk[..chunk.len().min(request.read - total)];
        total += piece.len();
        progress.body(total);
        finder.look(piece);
        body.extend_from_slice(&piece[..piece.len().min(request.keep - body.len())]);
        if piece.len() < chunk.len() {
            truncated = true;
            break;
        }
    }
    Ok(finish(Answer {
        status: response.status().as_u16(),
        body,
        truncated,
        found: finder.found,
        took: Duration::ZERO,
        redirects: 0,
        url: at.to_string(),
        retry_after: response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|wish| wish.to_str().ok())
            .map(str::to_owned),
    }))
}

/// Finds bytes in a stream that comes in pieces, holding no more of it than their length.
struct Finder<'a> {
    wanted: &'a [u8],
    tail: Vec<u8>,
    found: bool,
}

impl<'a> Finder<'a> {
    fn new(wanted: &'a [u8]) -> Self {
        Self { wanted, tail: vec![], found: wanted.is_empty() }
    }

    fn look(&mut self, piece: &[u8]) {
        if self.found {
            return;
        }
        self.tail.extend_from_slice(piece);
        self.found = memchr::memmem::find(&self.tail, self.wanted).is_some();
        let keep = self.tail.len().min(self.wanted.len() - 1);
        self.tail.drain(..self.tail.len() - keep);
    }
}

#[cfg(test)]
mod tests;
