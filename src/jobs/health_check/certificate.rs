//! `certificate`: what a server shows, or a file holds, is valid now and for a while yet.
//!
//! A certificate that this host doesn't trust, or that is for another name, is said and fails nothing: its authority
//! may be a private one, and the name may be that of a balancer.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use super::CheckSeverity;
use super::check::{Check, Common, Measured};
use super::recent::Tolerance;
use crate::document::Invalid;
use crate::host::certificates;
use crate::host::tls::Endpoint;
use crate::jobs::JobContext;
use crate::model::Unit;
use crate::units::HumanDuration;

/// Of connecting, and again of the handshake.
const LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    /// The server that shows it: `NAME:PORT`, whose name is asked for, `ADDRESS:PORT` or `[ADDRESS]:PORT`.
    address: Option<String>,
    /// The file that holds it, as PEM or DER; instead of `address`.
    file: Option<PathBuf>,
    /// It must not end before this time has passed.
    #[serde(default = "two_weeks")]
    valid_for: HumanDuration,
    /// How findings and alerts call the check; default: what it looks at.
    name: Option<String>,
    /// What a failure of the check is.
    severity: Option<CheckSeverity>,
    /// How many of the last looks must be bad for the check to fail, as in 3/5; default: 1/1.
    #[serde(rename = "for")]
    tolerance: Option<Tolerance>,
}

fn two_weeks() -> HumanDuration {
    HumanDuration(Duration::from_secs(14 * 86_400))
}

#[async_trait]
impl Check for Certificate {
    fn subject(&self) -> String {
        let file = self.file.as_ref().map(|file| file.display().to_string());
        self.address.clone().or(file).unwrap_or_default()
    }

    fn common(&self) -> Common<'_> {
        Common { name: self.name.as_ref(), severity: self.severity, tolerance: self.tolerance }
    }

    fn invalid(&self) -> Vec<Invalid> {
        let invalid = |key: &str, message: String, hint: &str| {
            vec![Invalid { key: key.into(), message, hint: Some(hint.into()) }]
        };
        match (&self.address, &self.file) {
            (None, None) => {
                let message = "a certificate is looked for at an `address` or in a `file`".to_owned();
                invalid("", message, "certificate: { address: \"punk-eco.ma:443\" }")
            }
            (Some(_), Some(_)) => {
                let message = "`address` and `file` exclude each other".to_owned();
                invalid("file", message, "make it two checks")
            }
            (Some(address), None) => match Endpoint::parse(address) {
                Ok(_) => vec![],
                Err(message) => invalid("address", message, "as in punk-eco.ma:443"),
            },
            (None, Some(file)) if !file.is_absolute() => {
                let message = format!("`{}` is not an absolute path", file.display());
                invalid("file", message, "begin it with /")
            }
            (None, Some(_)) => vec![],
        }
    }

    async fn look(&self, ctx: &JobContext) -> Measured {
        let now = ctx.clock.now();
        match (&self.address, &self.file) {
            (Some(address), _) => self.look_at(address, now).await,
            (None, Some(file)) => self.read(file.clone(), now).await,
            // `invalid` lets none of these through.
            (None, None) => Measured::unknown("there is nothing to look at"),
        }
    }
}

impl Certificate {
    async fn look_at(&self, address: &str, now: Timestamp) -> Measured {
        let endpoint = match Endpoint::parse(address) {
            Ok(endpoint) => endpoint,
            Err(why) => return Measured::unknown(why),
        };
        let served = match endpoint.handshake(LIMIT).await {
            Ok(served) => served,
            Err(why) => return Measured::of(false, why),
        };
        let mut measured = self.judge(&served.leaf, now);
        match &endpoint.name {
            Some(name) if !served.leaf.covers(name) => {
                let names = served.leaf.names.join(", ");
                measured.text += &format!("; it is not for {name}, but for: {names}");
            }
            name => {
                if let Some(why) = served.distrust(name.as_deref(), now).await {
                    measured.text += &format!("; not trusted by this host: {why}");
                }
            }
        }
        measured
    }

    async fn read(&self, file: PathBuf, now: Timestamp) -> Measured {
        let shown = file.display().to_string();
        let read = tokio::task::spawn_blocking(move || certificates::read_file(&file));
        let read = match tokio::time::timeout(LIMIT, read).await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => return Measured::unknown(error.to_string()),
            Err(_) => {
                return Measured::unknown(format!("{shown} can't be read within {} s", LIMIT.as_secs()));
            }
        };
        match read.as_deref() {
            Ok([leaf, ..]) => self.judge(leaf, now),
            Ok([]) => Measured::of(false, format!("{shown} holds no certificate")),
            Err(why) => Measured::of(false, format!("{shown} {why}")),
        }
    }

    fn judge(&self, leaf: &certificates::Certificate, now: Timestamp) -> Measured {
        let left = now.duration_until(leaf.not_after);
        let asked = SignedDuration::try_from(self.valid_for.0).unwrap_or(SignedDuration::MAX);
        let serial = &leaf.serial;
        let (fine, text) = if now < leaf.not_before {
            (false, format!("not valid before {} (serial {serial})", leaf.not_before))
        } else if left < SignedDuration::ZERO {
            (false, format!("expired {} ago, on {} (serial {serial})", rounded(-left), leaf.not_after))
        } else {
            let text = format!("valid for {} until {} (serial {serial})", rounded(left), leaf.not_after);
            (left >= asked, text)
        };
        let text = format!("{text}, asked for: {}", self.valid_for);
        Measured::of(fine, text).against(left.as_secs(), self.valid_for.0.as_secs()).measuring(
            "valid_for",
            Unit::Seconds,
            left.as_secs_f64(),
            self.valid_for.0.as_secs_f64(),
        )
    }
}

/// In the largest unit that there is one of.
fn rounded(time: SignedDuration) -> String {
    let seconds = time.as_secs();
    let (count, unit) = match seconds {
        86_400.. => (seconds / 86_400, "day"),
        3_600.. => (seconds / 3_600, "hour"),
        60.. => (seconds / 60, "minute"),
        _ => (seconds, "second"),
    };
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::health_check::check::State;

    #[test]
    fn the_time_that_is_left_is_held_against_what_was_asked_for() {
        let check = |now: &str, state: State, value: i64, expected: &str| {
            let leaf = certificates::Certificate {
                serial: "04D2".into(),
                names: vec!["punk-eco.ma".into()],
                not_before: "2026-09-01T00:00:00Z".parse().unwrap(),
                not_after: "2026-11-30T12:00:00Z".parse().unwrap(),
                issuer: "CN=R11".into(),
                self_signed: false,
            };
            let options: Certificate =
                serde_json::from_value(serde_json::json!({"file": "/x", "valid_for": "14d"})).unwrap();
            let measured = options.judge(&leaf, now.parse().unwrap());
            assert_eq!((measured.state, measured.text.as_str()), (state, expected));
            assert_eq!((measured.value, measured.threshold), (value.into(), 1_209_600.into()));
        };
        check(
            "2026-09-30T00:00:00Z",
            State::Ok,
            5_313_600,
            "valid for 61 days until 2026-11-30T12:00:00Z (serial 04D2), asked for: 14d",
        );
        check(
            "2026-11-16T12:00:00Z",
            State::Ok,
            1_209_600,
            "valid for 14 days until 2026-11-30T12:00:00Z (serial 04D2), asked for: 14d",
        );
        check(
            "2026-11-16T12:00:01Z",
            State::Failing,
            1_209_599,
            "valid for 13 days until 2026-11-30T12:00:00Z (serial 04D2), asked for: 14d",
        );
        check(
            "2026-11-30T13:30:00Z",
            State::Failing,
            -5400,
            "expired 1 hour ago, on 2026-11-30T12:00:00Z (serial 04D2), asked for: 14d",
        );
        check(
            "2026-08-31T23:59:59Z",
            State::Failing,
            7_819_201,
            "not valid before 2026-09-01T00:00:00Z (serial 04D2), asked for: 14d",
        );
    }

    #[test]
    fn one_thing_is_looked_at() {
        let check = |json: serde_json::Value, expected: &[(&str, &str)]| {
            let options: Certificate = serde_json::from_value(json).unwrap();
            let invalid = options.invalid();
            let found: Vec<_> = invalid.iter().map(|one| (one.key.as_str(), one.message.as_str())).collect();
            assert_eq!(found, expected);
        };
        use serde_json::json;
        check(json!({"address": "punk-eco.ma:443"}), &[]);
        check(json!({"address": "[::1]:8443"}), &[]);
        check(json!({"address": "::1:8443"}), &[("address", "`::1:8443` is not an address and a port")]);
        check(
            json!({"address": "punk-eco.ma"}),
            &[("address", "`punk-eco.ma` is not an address and a port")],
        );
        check(json!({"address": "a b:443"}), &[("address", "`a b:443` is not an address and a port")]);
        check(json!({"address": "a..b:443"}), &[("address", "`a..b` is not a DNS name")]);
        check(json!({"file": "cert.pem"}), &[("file", "`cert.pem` is not an absolute path")]);
        check(json!({}), &[("", "a certificate is looked for at an `address` or in a `file`")]);
        check(
            json!({"file": "/a", "address": "a:1"}),
            &[("file", "`address` and `file` exclude each other")],
        );
    }
}
