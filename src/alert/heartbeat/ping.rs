//! One request in the manner of healthchecks.io: where it goes and what it says. Tries once.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::waiting::Beat;
use crate::alert::courier::{Failure, judge};
use crate::alert::message::cut;
use crate::alert::tail::tail;
use crate::host::http::{Request, Target};
use crate::host::secret::ExposeSecret;
use crate::model::{JobName, Outcome, RunId, Trigger};
use crate::units::HumanDuration;

/// For all of an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of what is said: such services keep 10 kB or more.
const LONGEST: usize = 10_000;
const LONGEST_REASON: usize = 2_000;

pub(super) struct Around {
    pub(super) logs: PathBuf,
    pub(super) host: String,
}

/// What a request says of its run.
#[derive(Clone, Debug)]
pub(super) struct Said {
    /// Behind the path of the URL.
    signal: &'static str,
    text: String,
}

const START: &str = "start";
const FAIL: &str = "fail";

impl Said {
    pub(super) fn began(trigger: Trigger) -> Self {
        Self { signal: START, text: format!("began ({trigger})") }
    }

    pub(super) fn ended(outcome: Outcome, took: Option<Duration>, reason: Option<&str>) -> Self {
        let signal = if outcome == Outcome::Succeeded { "" } else { FAIL };
        let mut text = outcome.to_string().replace('_', " ");
        if let Some(took) = took {
            text += &format!(" after {}", HumanDuration(Duration::from_secs(took.as_secs())));
        }
        if let Some(reason) = reason.filter(|reason| !reason.is_empty()) {
            text += &format!("\n{}", cut(reason, LONGEST_REASON));
        }
        Self { signal, text }
    }

    pub(super) fn is_start(&self) -> bool {
        self.signal == START
    }
}

pub(super) async fn ping(job: &JobName, beat: &Beat, around: &Around, now: Timestamp) -> Result<(), Failure> {
    let Beat { run, heartbeat, said, .. } = beat;
    let url = heartbeat.url(job).await.map_err(Failure::for_now)?;
    let target = |url: &str| {
        let wrong = |reason: String| Failure::ForGood(format!("its URL is wrong: {reason}"));
        Target::secret(url).map_err(wrong)
    };
    let mut request = if heartbeat.only_success {
        Request::get(target(url.expose_secret())?)
    } else {
        let url = address(url.expose_secret(), said.signal, &id_of(&around.host, job, *run));
        let log =
            if said.signal == FAIL { tail(around.logs.clone(), job.clone(), *run).await } else { vec![] };
        let body = body(&format!("{job} on {}, run {run}: {}", around.host, said.text), &log);
        Request::post(target(&url)?, "text/plain; charset=utf-8", body)
    };
    request.timeout = PATIENCE;
    request.read = 0;
    let answer = request.send().await.map_err(Failure::for_now)?;
    judge(&answer, now)
}

/// The path goes on with the signal; the query stays behind it.
fn address(url: &str, signal: &str, id: &str) -> String {
    let url = url.split_once('#').map_or(url, |(url, _)| url);
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let path = match signal {
        "" => path.to_owned(),
        signal => format!("{}/{signal}", path.trim_end_matches('/')),
    };
    let and = if query.is_empty() { "" } else { "&" };
    format!("{path}?{query}{and}rid={id}")
}

/// By which the service knows the end that belongs to a start: a UUID of RFC 9562's free form, version 8, the same for
/// the daemon that adopts the run.
fn id_of(host: &str, job: &JobName, run: RunId) -> String {
    let mut bytes: [u8; 16] = [0; 16];
    let digest = Sha256::digest(format!("punk-eco-sched\0{host}\0{job}\0{run}"));
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Of the log the last lines, as many as there is room for.
fn body(said: &str, log: &[String]) -> String {
    let mut room = LONGEST.saturating_sub(said.len() + 2);
    let fits = |line: &&String| match room.checked_sub(line.len() + 1) {
        Some(rest) => {
            room = rest;
            true
        }
        None => false,
    };
    let kept = log.iter().rev().take_while(fits).count();
    let lines: String = log[log.len() - kept..].iter().map(|line| format!("{line}\n")).collect();
    if lines.is_empty() { format!("{said}\n") } else { format!("{said}\n\n{lines}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signal_goes_behind_the_path_and_before_the_query() {
        let check = |url: &str, signal: &str, expected: &str| {
            assert_eq!(address(url, signal, "ID"), expected);
        };
        check("https://x/ping", "", "https://x/ping?rid=ID");
        check("https://x/ping", "start", "https://x/ping/start?rid=ID");
        check("https://x/ping/", "fail", "https://x/ping/fail?rid=ID");
        check("https://x/ping/", "", "https://x/ping/?rid=ID");
        check("https://x/ping?key=1", "start", "https://x/ping/start?key=1&rid=ID");
        check("https://x/ping?key=1", "", "https://x/ping?key=1&rid=ID");
        check("https://x/ping?a=/b?#c", "fail", "https://x/ping/fail?a=/b?&rid=ID");
        check("https://x", "start", "https://x/start?rid=ID");
    }

    #[test]
    fn a_run_has_its_own_uuid() {
        let job = JobName::new("db-backup").unwrap();
        let id = id_of("web1", &job, RunId(812));
        assert_eq!(id, "190dd83e-283c-8180-992f-efc51075d9ee");
        assert_ne!(id, id_of("web1", &job, RunId(813)));
        assert_ne!(id, id_of("web2", &job, RunId(812)));
    }

    #[test]
    fn what_is_said_is_bounded_and_has_the_end_of_the_log() {
        assert_eq!(body("x failed", &[]), "x failed\n");
        assert_eq!(body("x failed", &["a".into(), "b".into()]), "x failed\n\na\nb\n");
        let long: Vec<String> = (0..40).map(|number| format!("{number:02}{}", "é".repeat(249))).collect();
        let body = body(&"r".repeat(2_000), &long);
        assert!(body.len() <= 10_000, "{}", body.len());
        assert!(body.ends_with("é\n") && body.contains("\n39") && !body.contains("\n01"));
        let said = Said::ended(Outcome::Failed, Some(Duration::from_secs(62)), Some("exit code 7"));
        assert_eq!((said.signal, said.text.as_str()), ("fail", "failed after 1m2s\nexit code 7"));
    }
}
