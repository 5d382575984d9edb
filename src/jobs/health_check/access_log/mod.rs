//! `access_log`: what a web server's log says of the last minutes: how many requests failed, and how long they took.

mod line;
mod window;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use self::window::Traffic;
use super::CheckSeverity;
use super::check::{Check, Common, Measured, rounded, shown};
use super::recent::Tolerance;
use crate::document::Invalid;
use crate::jobs::{HostContext, JobContext, Lack};
use crate::model::Unit;
use crate::units::{HumanDuration, Percent};

/// For reading it: a log of a million requests a minute takes a second or two.
const PATIENCE: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(86_400);

const HOW_TO_TIME: &str = "the log says nothing of how long they took: in nginx, `log_format timed '$remote_addr - \
                           $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \
                           \"$http_user_agent\" $request_time';` and `access_log FILE timed;`";

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessLog {
    /// The log in nginx's combined format with $request_time added; rotated files beside it are read too.
    #[serde(default = "usual_path")]
    path: PathBuf,
    /// How far back requests count.
    #[serde(default = "five_minutes")]
    over: HumanDuration,
    /// The share of requests that the server failed to answer (status 500 and above) must be below this.
    #[serde(default = "one_percent")]
    errors_below: Percent,
    /// 95 % of the requests must have taken less than this.
    #[serde(default = "half_a_second")]
    p95_below: HumanDuration,
    /// With fewer requests nothing is said.
    #[serde(default = "hundred")]
    at_least: u64,
    /// How findings and alerts call the check; default: what it looks at.
    name: Option<String>,
    /// What a failure of the check is.
    severity: Option<CheckSeverity>,
    /// How many of the last looks must be bad for the check to fail, as in 3/5; default: 1/1.
    #[serde(rename = "for")]
    tolerance: Option<Tolerance>,
}

fn usual_path() -> PathBuf {
    "/var/log/nginx/access.log".into()
}

fn five_minutes() -> HumanDuration {
    HumanDuration(Duration::from_secs(300))
}

fn one_percent() -> Percent {
    Percent(1.0)
}

fn half_a_second() -> HumanDuration {
    HumanDuration(Duration::from_millis(500))
}

fn hundred() -> u64 {
    100
}

#[async_trait]
impl Check for AccessLog {
    fn subject(&self) -> String {
        self.path.display().to_string()
    }

    fn common(&self) -> Common<'_> {
        Common { name: self.name.as_ref(), severity: self.severity, tolerance: self.tolerance }
    }

    fn invalid(&self) -> Vec<Invalid> {
        let say = |key: &str, message: String| Invalid { key: key.into(), message, hint: None };
        let mut found = vec![];
        if !self.path.is_absolute() {
            found.push(say("path", format!("`{}` must be an absolute path", self.path.display())));
        }
        if !(SHORTEST..=LONGEST).contains(&self.over.0) {
            let (shortest, longest) = (HumanDuration(SHORTEST), HumanDuration(LONGEST));
            found.push(say("over", format!("`over` must lie between {shortest} and {longest}")));
        }
        found
    }

    async fn look(&self, ctx: &JobContext) -> Measured {
        let until = ctx.clock.now();
        let since = until.checked_sub(self.over.0).unwrap_or(Timestamp::MIN);
        let stop = Arc::new(AtomicBool::new(false));
        let reading = tokio::task::spawn_blocking({
            let (path, stop) = (self.path.clone(), stop.clone());
            move || window::read(&path, since, until, &stop)
        });
        match tokio::time::timeout(PATIENCE, reading).await {
            Ok(Ok(Ok(traffic))) => self.judge(&traffic),
            Ok(Ok(Err(error))) => Measured::unknown(error),
            Ok(Err(error)) => Measured::unknown(format!("{} was not read: {error}", self.path.display())),
            Err(_) => {
                stop.store(true, Ordering::Relaxed);
                let patience = HumanDuration(PATIENCE);
                Measured::unknown(format!("{} can't be read within {patience}", self.path.display()))
            }
        }
    }

    async fn preflight(&self, _ctx: &HostContext) -> Vec<Lack> {
        let Err(error) = std::fs::File::open(&self.path) else { return vec![] };
        let message = format!("{} can't be read: {error}", self.path.display());
        vec![Lack { fatal: false, message, hint: None }]
    }
}

impl AccessLog {
    fn judge(&self, traffic: &Traffic) -> Measured {
        let Traffic { requests, errors, unreadable, .. } = *traffic;
        let plural = |number: u64| if number == 1 { "" } else { "s" };
        if unreadable > requests {
            return Measured::unknown(format!(
                "{unreadable} line{} of {} in {} {} not in nginx's combined format",
                plural(unreadable),
                self.path.display(),
                self.over,
                if unreadable == 1 { "is" } else { "are" }
            ));
        }
        if requests < self.at_least.max(1) {
            let at_least = self.at_least.max(1);
            return Measured::too_little(format!(
                "{requests} request{} in {}, too few to judge by (at least {at_least})",
                plural(requests),
                self.over
            ))
            .against(json!({ "requests": requests }), json!({ "requests": at_least }))
            .measuring("requests", Unit::Count, requests as f64, at_least as f64);
        }
        #[expect(clippy::cast_precision_loss, reason = "requests of a day are far below 2^52")]
        let share = errors as f64 * 100.0 / requests as f64;
        let wanted = self.errors_below.0;
        let mut text = format!(
            "{requests} request{} in {}, {errors} of them failed: {} %, asked for: below {}",
            plural(requests),
            self.over,
            shown(share, wanted),
            self.errors_below
        );
        let few_errors = share < wanted;
        let Some(p95) = traffic.percentile(95) else {
            text += &format!("; {HOW_TO_TIME}");
            let value = json!({ "requests": requests, "errors": rounded(share), "p95": null });
            let measured = if few_errors { Measured::unknown(text) } else { Measured::of(false, text) };
            return self.with_measures(measured.against(value, self.threshold()), traffic);
        };
        text += &format!("; 95 % within {}, asked for: below {}", milliseconds(p95), self.p95_below);
        let value =
            json!({ "requests": requests, "errors": rounded(share), "p95": rounded(p95.as_secs_f64()) });
        let measured = Measured::of(few_errors && p95 < self.p95_below.0, text);
        self.with_measures(measured.against(value, self.threshold()), traffic)
    }

    #[expect(clippy::cast_precision_loss, reason = "requests of a day are far below 2^52")]
    fn with_measures(&self, measured: Measured, traffic: &Traffic) -> Measured {
        let (requests, errors) = (traffic.requests as f64, traffic.errors as f64);
        let p95 = traffic.percentile(95).map(|time| time.as_secs_f64());
        measured
            .measuring("requests", Unit::Count, requests, self.at_least.max(1) as f64)
            .measuring("errors", Unit::Ratio, errors / requests, self.errors_below.0 / 100.0)
            .measuring("p95", Unit::Seconds, p95, self.p95_below.0.as_secs_f64())
    }

    /// Errors in percent, times in seconds.
    fn threshold(&self) -> serde_json::Value {
        json!({ "errors": self.errors_below.0, "p95": self.p95_below.0.as_secs_f64() })
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

#[cfg(test)]
mod tests;
