//! `http`: a web server answers, with the right status, with the right text, in time.

use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::CheckSeverity;
use super::check::{Check, Common, Measured};
use super::network::{no_time, took};
use super::recent::Tolerance;
use crate::document::Invalid;
use crate::host::http::{Answer, Redirects, Request, Target};
use crate::host::secret::{self, ExposeSecret, SecretText};
use crate::jobs::{HostContext, JobContext, Lack};
use crate::logs::harmless;
use crate::model::Unit;
use crate::units::HumanDuration;

/// 1 MiB of a body: more than any page has that says how a service is. The rest is not fetched.
const READ: usize = 1 << 20;

/// Of a body, for the message.
const QUOTED: usize = 100;

const REDIRECTS: usize = 10;

const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    /// Where to ask, of http or https; may hold `${env:…}`, `${file:…}` and `${credential:…}`.
    url: SecretText,
    /// The statuses that are right. A redirect is followed, up to 10 times, unless its status is among them.
    #[serde(default = "ok")]
    #[schemars(length(min = 1), inner(range(min = 100, max = 599)))]
    status: Vec<u16>,
    /// What the first 1 MiB of the body must have in it.
    #[serde(default)]
    body_has: String,
    /// How long the whole answer may take to be a good one; default: `timeout`.
    within: Option<HumanDuration>,
    /// When an answer is no longer waited for: from the name's look-up to the end of the body, redirects included.
    /// Default: 5s, or `within` where that is longer.
    timeout: Option<HumanDuration>,
    /// How findings and alerts call the check; default: what it looks at.
    name: Option<String>,
    /// What a failure of the check is.
    severity: Option<CheckSeverity>,
    /// How many of the last looks must be bad for the check to fail, as in 3/5; default: 1/1.
    #[serde(rename = "for")]
    tolerance: Option<Tolerance>,
}

fn ok() -> Vec<u16> {
    vec![200]
}

#[async_trait]
impl Check for Http {
    fn subject(&self) -> String {
        match self.url.literal().map(Target::parse) {
            Some(Ok(target)) => target.to_string(),
            Some(Err(_)) => "an address".into(),
            None => without_user(&self.url.as_written()),
        }
    }

    fn common(&self) -> Common<'_> {
        Common { name: self.name.as_ref(), severity: self.severity, tolerance: self.tolerance }
    }

    fn invalid(&self) -> Vec<Invalid> {
        let mut found = vec![];
        let mut say = |key: &str, message: String, hint: &str| {
            found.push(Invalid { key: key.into(), message, hint: Some(hint.into()) });
        };
        const EXAMPLE: &str = "as in http://127.0.0.1:5000/health";
        let written = self.url.as_written();
        match self.url.literal().map(Target::parse) {
            Some(Err(reason)) => {
                say("url", format!("this is no address of http or https: {reason}"), EXAMPLE)
            }
            None if !["http://", "https://", "${"].iter().any(|start| written.starts_with(start)) => {
                say("url", "an address begins with http:// or https://".into(), EXAMPLE);
            }
            _ => {}
        }
        if self.status.is_empty() {
            say("status", "with an empty list no answer would be right".into(), "leave it out for [200]");
        }
        for (at, status) in self.status.iter().enumerate().filter(|(_, status)| !(100..600).contains(*status))
        {
            say(
                &format!("status.{at}"),
                format!("`{status}` is no HTTP status"),
                "100 to 599, as in [200, 204]",
            );
        }
        let timeout = self.timeout();
        if let Some(within) = self.within.filter(|within| within.0 > timeout.0) {
            let message = format!(
                "`within: {within}` can't be measured: after `timeout: {timeout}` nobody waits any more"
            );
            say("within", message, "make timeout longer, or leave within out");
        }
        let within = self.within.and_then(|within| no_time("within", within));
        found.into_iter().chain(within).chain(no_time("timeout", timeout)).collect()
    }

    async fn look(&self, _ctx: &JobContext) -> Measured {
        let target = match self.target().await {
            Ok(target) => target,
            Err(reason) => return Measured::unknown(reason),
        };
        let request = Request {
            timeout: self.timeout().0,
            read: READ,
            // A character has up to four bytes.
            keep: 4 * (QUOTED + 1),
            find: self.body_has.clone().into_bytes(),
            redirects: Redirects::Follow { at_most: REDIRECTS, but: self.status.clone() },
            ..Request::get(target)
        };
        let limit = self.within.unwrap_or(self.timeout()).0.as_secs_f64();
        match request.send().await {
            Ok(answer) => {
                let took = answer.took.as_secs_f64();
                self.judge(&answer).against(took, limit).measuring("response", Unit::Seconds, took, limit)
            }
            Err(error) => Measured::of(false, error.to_string())
                .against(serde_json::Value::Null, limit)
                .measuring("response", Unit::Seconds, None, limit),
        }
    }

    async fn preflight(&self, _ctx: &HostContext) -> Vec<Lack> {
        let lack = |message| Lack { fatal: true, message, hint: None };
        self.target().await.err().map(lack).into_iter().collect()
    }
}

impl Http {
    fn timeout(&self) -> HumanDuration {
        let usual = TIMEOUT.max(self.within.map_or(Duration::ZERO, |within| within.0));
        self.timeout.unwrap_or(HumanDuration(usual))
    }

    async fn target(&self) -> Result<Target, String> {
        let address = self.url.resolve_within(secret::PATIENCE).await.map_err(|error| error.to_string())?;
        let target = Target::parse(address.expose_secret())
            .map_err(|reason| format!("{} is no address of http or https: {reason}", self.subject()))?;
        Ok(if self.url.literal().is_some() { target } else { target.shown_as(self.subject()) })
    }

    fn judge(&self, answer: &Answer) -> Measured {
        let mut text = format!("{} in {}", answer.status, took(answer.took));
        match answer.redirects {
            0 => {}
            1 => text.push_str(&format!(" after a redirect to {}", answer.url)),
            several => text.push_str(&format!(" after {several} redirects to {}", answer.url)),
        }
        if !self.status.contains(&answer.status) {
            let asked: Vec<String> = self.status.iter().map(u16::to_string).collect();
            return Measured::of(
                false,
                format!("{text}, asked for: {}{}", asked.join(" or "), quote(answer)),
            );
        }
        if !answer.found {
            let body = if answer.truncated { "the first 1 MiB of the body" } else { "the body" };
            let wanted = harmless(&self.body_has);
            return Measured::of(
                false,
                format!("{text}, but {body} doesn't have \"{wanted}\"{}", quote(answer)),
            );
        }
        match self.within {
            Some(within) if answer.took > within.0 => {
                Measured::of(false, format!("{text}, asked for: within {within}"))
            }
            Some(within) => Measured::of(true, format!("{text} (within {within})")),
            None => Measured::of(true, text),
        }
    }
}

/// The first line of a body that says anything: `: Service Unavailable`.
fn quote(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    let Some(line) = text.lines().map(str::trim).find(|line| !line.is_empty()) else {
        return String::new();
    };
    let mut shown: String = harmless(line).chars().take(QUOTED).collect();
    if line.chars().count() > QUOTED {
        shown.push('…');
    }
    format!(": {shown}")
}

/// As written, but for `user:password@`.
fn without_user(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    // A reference to a file has slashes of its own.
    let mut end = rest.len();
    let mut depth = 0_u32;
    for (at, letter) in rest.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '/' | '?' | '#' if depth == 0 => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_named_without_its_user() {
        let check = |url: &str, expected: &str| {
            let http: Http = serde_json::from_value(serde_json::json!({ "url": url })).unwrap();
            assert_eq!(http.subject(), expected, "{url}");
            assert!(!format!("{http:?}").contains("hunter2"), "{http:?}");
        };
        check("http://127.0.0.1:5000/health?a=b", "http://127.0.0.1:5000/health?a=b");
        check("http://me:hunter2@web1/health", "http://web1/health");
        check("http://me:hunter2@${env:WEB}/health", "http://${env:WEB}/health");
        check("http://me:${file:/etc/x}@web1/a@b", "http://web1/a@b");
        check("${env:WEB}", "${env:WEB}");
        check("hunter2", "an address");
    }

    #[test]
    fn an_answer_is_waited_for_as_long_as_it_may_take() {
        let check = |options: &str, expected: &str| {
            let text = format!(r#"{{ "url": "http://web1/"{options} }}"#);
            let http: Http = serde_json::from_str(&text).unwrap();
            assert_eq!(http.timeout().to_string(), expected, "{options}");
            assert_eq!(http.invalid(), [], "{options}");
        };
        check("", "5s");
        check(r#", "within": "500ms""#, "5s");
        check(r#", "within": "10s""#, "10s");
        check(r#", "within": "10s", "timeout": "10s""#, "10s");
        check(r#", "within": "500ms", "timeout": "2s""#, "2s");
    }

    #[test]
    fn an_answer_is_held_against_what_was_asked_for() {
        let check = |options: serde_json::Value, answer: Answer, expected: (bool, &str)| {
            let mut all = serde_json::json!({ "url": "http://web1/" });
            all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
            let http: Http = serde_json::from_value(all).unwrap();
            let measured = http.judge(&answer);
            assert_eq!(measured, Measured::of(expected.0, expected.1));
        };
        let answer = |status: u16, body: &str| Answer {
            status,
            body: body.into(),
            truncated: false,
            found: true,
            took: Duration::from_millis(34),
            redirects: 0,
            url: "http://web1/".into(),
            retry_after: None,
        };
        let options = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        check(options("{}"), answer(200, "fine"), (true, "200 in 34 ms"));
        check(options(r#"{"within": "500ms"}"#), answer(200, ""), (true, "200 in 34 ms (within 500ms)"));
        check(
            options(r#"{"within": "30ms"}"#),
            answer(200, ""),
            (false, "200 in 34 ms, asked for: within 30ms"),
        );
        check(
            options(r#"{"status": [200, 204]}"#),
            answer(503, "\r\n  <h1>\u{1b}[31mdown</h1>\r\nmore"),
            (false, "503 in 34 ms, asked for: 200 or 204: <h1>\\x1b[31mdown</h1>"),
        );
        let long = format!("503 in 34 ms, asked for: 200: {}…", "ä".repeat(100));
        check(options("{}"), answer(503, &"ä".repeat(101)), (false, &long));
        let missing = Answer { found: false, ..answer(200, "fine") };
        check(
            options(r#"{"body_has": "ok"}"#),
            missing.clone(),
            (false, "200 in 34 ms, but the body doesn't have \"ok\": fine"),
        );
        check(
            options(r#"{"body_has": "ok"}"#),
            Answer { truncated: true, body: vec![], ..missing },
            (false, "200 in 34 ms, but the first 1 MiB of the body doesn't have \"ok\""),
        );
        check(
            options("{}"),
            Answer { redirects: 2, took: Duration::from_micros(12_345_600), ..answer(200, "") },
            (true, "200 in 12.3 s after 2 redirects to http://web1/"),
        );
    }
}
