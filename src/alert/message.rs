//! What is said: the story of a run's end as the ledger keeps it, and the mail and the JSON made of it.
//!
//! Pure. The text is made when it is sent, so that a run's number is the one that the ledger gave it in the end.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::ledger::{Incident, Notice};
use crate::logs::harmless;
use crate::model::{Checked, Finding, NoticeKind, Outcome, RunId, Severity};

/// A reason is a sentence; what is longer is in the log.
const LONGEST_REASON: usize = 2000;
const LONGEST_FINDING: usize = 500;
const FINDINGS: usize = 20;
const CHECKS: usize = 20;

/// What the end of a run leaves to be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Story {
    pub host: String,
    pub description: Option<String>,
    pub outcome: Outcome,
    /// Why it failed; of a recovery, what the run says it did.
    pub reason: Option<String>,
    pub attempts: u32,
    pub started_at: Option<Timestamp>,
    pub ended_at: Timestamp,
    /// When the first run of this incident failed, and which it was.
    pub since: Timestamp,
    pub first_run: RunId,
    /// Runs that failed in this incident.
    pub failures: u64,
    pub findings: Vec<Finding>,
    /// Findings that there was no room for.
    pub more_findings: usize,
    /// The checks of the job that this is about; none: it is about the job itself.
    #[serde(default)]
    pub checks: Vec<StoryCheck>,
    /// Checks that there was no room for.
    #[serde(default)]
    pub more_checks: usize,
}

/// What is told of one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoryCheck {
    pub name: String,
    pub severity: Severity,
    /// The measured value against its threshold.
    pub text: String,
    pub since: Timestamp,
    /// Runs in which it failed.
    pub failures: u64,
    /// Checks that fail because of this one.
    pub consequences: Vec<String>,
}

impl Story {
    /// Bounded, whatever the job said.
    pub fn new(host: &str, incident: &Incident, outcome: Outcome, ended_at: Timestamp) -> Self {
        Self {
            host: host.to_owned(),
            description: None,
            outcome,
            reason: None,
            attempts: 0,
            started_at: None,
            ended_at,
            since: incident.opened_at,
            first_run: incident.run,
            failures: incident.failures,
            findings: vec![],
            more_findings: 0,
            checks: vec![],
            more_checks: 0,
        }
    }

    /// These incidents of the job's checks, as `seen` by the run.
    #[must_use]
    pub fn about(mut self, incidents: &[Incident], seen: &[Checked]) -> Self {
        let one = |incident: &Incident| {
            let name = incident.check.clone().unwrap_or_default();
            let now = seen.iter().find(|check| check.name == name);
            let text = now.map(|check| check.text.as_str()).or(incident.reason.as_deref()).unwrap_or_default();
            let caused = seen.iter().filter(|check| check.because_of.as_ref() == Some(&name));
            StoryCheck {
                severity: incident.severity,
                text: cut(text, LONGEST_FINDING),
                since: incident.opened_at,
                failures: incident.failures,
                consequences: caused.map(|check| check.name.clone()).take(CHECKS).collect(),
                name,
            }
        };
        self.checks = incidents.iter().take(CHECKS).map(one).collect();
        self.more_checks = incidents.len() - self.checks.len();
        self
    }

    #[must_use]
    pub fn reason(mut self, reason: Option<&str>) -> Self {
        self.reason = reason.filter(|reason| !reason.is_empty()).map(|reason| cut(reason, LONGEST_REASON));
        self
    }

    #[must_use]
    pub fn findings(mut self, findings: &[Finding]) -> Self {
        let shortened =
            |one: &Finding| Finding { message: cut(&one.message, LONGEST_FINDING), ..one.clone() };
        self.findings = findings.iter().take(FINDINGS).map(shortened).collect();
        self.more_findings = findings.len() - self.findings.len();
        self
    }
}

/// A notice with all that is said in it.
pub struct Message<'a> {
    pub notice: &'a Notice,
    pub story: &'a Story,
    /// The last lines of the run's log.
    pub log: &'a [String],
    pub zone: &'a TimeZone,
}

impl Message<'_> {
    /// `[punk-eco-sched] db-backup failed on web1`
    pub fn subject(&self) -> String {
        format!("[punk-eco-sched] {}", self.headline())
    }

    pub fn text(&self) -> String {
        let Self { story, .. } = self;
        let mut text = self.headline() + ".\n";
        if let Some(description) = &story.description {
            text += &format!("{}\n", cut(description, LONGEST_REASON));
        }
        text.push('\n');
        for (what, value) in self.facts() {
            // A reason may have several lines: each stands under the first.
            let value = value.trim_end().replace('\n', "\n            ");
            text += &format!("  {what:<8}  {value}\n");
        }
        if !story.findings.is_empty() {
            text += "\nWhat it found:\n\n";
            for finding in &story.findings {
                text += &format!("  {}: {}\n", finding.severity, finding.message.replace('\n', "\n    "));
            }
            if story.more_findings > 0 {
                text += &format!("  and {} more\n", story.more_findings);
            }
        }
        if !self.log.is_empty() {
            text += "\nThe last lines of its log:\n\n";
            for line in self.log {
                text += &format!("  {line}\n");
            }
        }
        text += "\nWhat to type next:\n\n";
        for command in self.next() {
            text += &format!("  {command}\n");
        }
        text += match (self.notice.kind, self.notice.job.is_job()) {
            (NoticeKind::Failed, true) => {
                "\nNothing more is sent while it goes on failing; its recovery will be told.\n"
            }
            (NoticeKind::Failed, false) => "\nThe jobs go on. The end of this trouble will be told.\n",
            (NoticeKind::Held, _) => {
                "\nIts slots are recorded as skipped until it is resumed; `run-now` starts it all the same.\n"
            }
            (NoticeKind::Reminder, _) => "\nThis is told again while it lasts; its recovery will be told.\n",
            (NoticeKind::Flapping, _) => {
                "\nNothing more is told until it has been well, or not, for half an hour.\n"
            }
            (NoticeKind::Recovered, _) => "",
        };
        text
    }

    /// What a webhook is given; docs/jobs-yaml.md describes it.
    pub fn json(&self) -> serde_json::Value {
        let Self { notice, story, .. } = self;
        serde_json::json!({
            "id": notice.id,
            "event": notice.kind,
            "job": notice.job.is_job().then_some(&notice.job),
            "host": story.host,
            "run": notice.job.is_job().then_some(notice.run),
            "outcome": story.outcome,
            "reason": story.reason,
            "attempts": story.attempts,
            "started_at": story.started_at,
            "ended_at": story.ended_at,
            "since": story.since,
            "failures": story.failures,
            "findings": story.findings,
            "log": self.log,
            "next": self.next(),
            "text": format!("{}\n\n{}", self.subject(), self.text()),
        })
    }

    /// `db-backup timed out on web1`
    fn headline(&self) -> String {
        let Self { notice, story, .. } = self;
        if !notice.job.is_job() {
            let what = match notice.kind {
                NoticeKind::Recovered => "is in order again",
                _ => "is in trouble",
            };
            return format!("the ledger {what} on {}", story.host);
        }
        let what = match (notice.kind, story.outcome) {
            (NoticeKind::Recovered, _) => "recovered",
            (NoticeKind::Held, _) => "is held",
            (NoticeKind::Reminder, _) => "still fails",
            (NoticeKind::Flapping, _) => "fails and recovers by turns",
            (NoticeKind::Failed, Outcome::TimedOut) => "timed out",
            (NoticeKind::Failed, Outcome::Interrupted) => "was interrupted",
            (NoticeKind::Failed, _) => "failed",
        };
        format!("{} {what} on {}", notice.job, story.host)
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let Self { notice, story, .. } = self;
        let at = |at: Timestamp| at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string();
        let mut facts = Vec::new();
        let recovered = notice.kind == NoticeKind::Recovered;
        if let Some(reason) = &story.reason {
            facts.push((if recovered { "done" } else { "reason" }, reason.clone()));
        }
        if !notice.job.is_job() {
            facts.push(("since", at(story.since)));
            if recovered {
                facts.push(("until", at(story.ended_at)));
            }
            return facts;
        }
        let attempts = match story.attempts {
            0 | 1 => String::new(),
            many => format!(", {many} attempts"),
        };
        facts.push(("run", format!("{}{attempts}", notice.run)));
        facts.extend(story.started_at.map(|started| ("began", at(started))));
        facts.push(("ended", at(story.ended_at)));
        let failures = match story.failures {
            1 => "1 run failed".to_owned(),
            many => format!("{many} runs failed"),
        };
        if recovered || story.failures > 1 {
            let since = at(story.since);
            facts.push((
                "failing",
                format!("since {since}: {failures}, the first was run {}", story.first_run),
            ));
        }
        facts
    }

    fn next(&self) -> Vec<String> {
        let Notice { run, job, kind, .. } = self.notice;
        if !job.is_job() {
            return match kind {
                NoticeKind::Recovered => vec!["punk-eco-sched audit".to_owned()],
                _ => vec!["punk-eco-sched status".to_owned(), "df -h".to_owned()],
            };
        }
        let mut next =
            vec![format!("punk-eco-sched show {run}"), format!("punk-eco-sched logs {job} --run {run}")];
        match kind {
            NoticeKind::Failed | NoticeKind::Reminder => next.push(format!("punk-eco-sched run-now {job}")),
            NoticeKind::Recovered | NoticeKind::Flapping => next.push(format!("punk-eco-sched history {job}")),
            NoticeKind::Held => {
                let at = self.story.started_at.unwrap_or(self.story.ended_at);
                next.push(format!("punk-eco-sched why {job} {at:.0}"));
                next.push(format!("punk-eco-sched resume {job}"));
            }
        }
        next
    }
}

/// At most so many bytes, and nothing in them that reaches for the terminal on which the mail is read. Lines stay.
pub(super) fn cut(text: &str, longest: usize) -> String {
    let end = (0..=longest).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let lines: Vec<String> = text[..end.min(text.len())].lines().map(harmless).collect();
    let more = if end < text.len() { " […]" } else { "" };
    lines.join("\n") + more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Channel, JobName};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn notice(kind: NoticeKind) -> Notice {
        Notice {
            id: "1-2-3".into(),
            at: at("2026-11-22T23:01:00Z"),
            job: JobName::new("db-backup").unwrap(),
            run: RunId(812),
            contact: "infra".into(),
            channel: Channel::Email,
            kind,
            story: serde_json::Value::Null,
        }
    }

    fn story(outcome: Outcome, failures: u64) -> Story {
        let job = JobName::new("db-backup").unwrap();
        let first = at("2026-11-22T23:01:00Z");
        let incident =
            Incident { failures, told_at: Some(first), ..Incident::of_job(job, RunId(812), first) };
        Story::new("web1", &incident, outcome, at("2026-11-22T23:01:00.5Z"))
    }

    fn message(notice: &Notice, story: &Story, log: &[&str]) -> (String, String, serde_json::Value) {
        let log: Vec<String> = log.iter().map(|line| (*line).to_owned()).collect();
        let zone = TimeZone::get("Africa/Lagos").unwrap();
        let message = Message { notice, story, log: &log, zone: &zone };
        (message.subject(), message.text(), message.json())
    }

    #[test]
    fn a_failure_whole() {
        let story = Story {
            description: Some("Nightly dump of the shop's database, en français é".into()),
            attempts: 3,
            started_at: Some(at("2026-11-22T23:00:00Z")),
            ..story(Outcome::Failed, 1)
        };
        let story = story
            .reason(Some("pg_dump: error: the server said\nFATAL: no"))
            .findings(&[Finding::warning("the disk is nearly full")]);
        let (subject, text, json) =
            message(&notice(NoticeKind::Failed), &story, &["23:00:00 stderr| FATAL: no"]);
        assert_eq!(subject, "[punk-eco-sched] db-backup failed on web1");
        let expected = "\
db-backup failed on web1.
Nightly dump of the shop's database, en français é

  reason    pg_dump: error: the server said
            FATAL: no
  run       812, 3 attempts
  began     2026-11-23 00:00:00+01:00
  ended     2026-11-23 00:01:00+01:00

What it found:

  warning: the disk is nearly full

The last lines of its log:

  23:00:00 stderr| FATAL: no

What to type next:

  punk-eco-sched show 812
  punk-eco-sched logs db-backup --run 812
  punk-eco-sched run-now db-backup

Nothing more is sent while it goes on failing; its recovery will be told.
";
        assert_eq!(text, expected);
        assert_eq!(
            json,
            serde_json::json!({
                "id": "1-2-3",
                "event": "failed",
                "job": "db-backup",
                "host": "web1",
                "run": 812,
                "outcome": "failed",
                "reason": "pg_dump: error: the server said\nFATAL: no",
                "attempts": 3,
                "started_at": "2026-11-22T23:00:00Z",
                "ended_at": "2026-11-22T23:01:00.5Z",
                "since": "2026-11-22T23:01:00Z",
                "failures": 1,
                "findings": [{ "severity": "warning", "message": "the disk is nearly full" }],
                "log": ["23:00:00 stderr| FATAL: no"],
                "next": [
                    "punk-eco-sched show 812",
                    "punk-eco-sched logs db-backup --run 812",
                    "punk-eco-sched run-now db-backup"
                ],
                "text": format!("[punk-eco-sched] db-backup failed on web1\n\n{expected}"),
            })
        );
    }

    #[test]
    fn a_recovery_says_since_when_it_failed() {
        let notice = Notice { run: RunId(815), ..notice(NoticeKind::Recovered) };
        let story = story(Outcome::Succeeded, 3).reason(Some("dumped punk_eco"));
        let (subject, text, json) = message(&notice, &story, &[]);
        assert_eq!(subject, "[punk-eco-sched] db-backup recovered on web1");
        assert_eq!(
            text,
            "\
db-backup recovered on web1.

  done      dumped punk_eco
  run       815
  ended     2026-11-23 00:01:00+01:00
  failing   since 2026-11-23 00:01:00+01:00: 3 runs failed, the first was run 812

What to type next:

  punk-eco-sched show 815
  punk-eco-sched logs db-backup --run 815
  punk-eco-sched history db-backup
"
        );
        assert_eq!((&json["event"], &json["failures"]), (&"recovered".into(), &3.into()));
    }

    #[test]
    fn the_headline_tells_how_it_ended() {
        let check = |outcome, expected: &str| {
            let (subject, _, _) = message(&notice(NoticeKind::Failed), &story(outcome, 1), &[]);
            assert_eq!(subject, expected);
        };
        check(Outcome::TimedOut, "[punk-eco-sched] db-backup timed out on web1");
        check(Outcome::Interrupted, "[punk-eco-sched] db-backup was interrupted on web1");
    }

    #[test]
    fn a_job_that_says_much_is_cut() {
        let findings: Vec<Finding> = (0..1000).map(|_| Finding::warning("é".repeat(5000))).collect();
        let described = Story {
            description: Some(format!("\u{1b}[31m{}", "x".repeat(1 << 20))),
            ..story(Outcome::Failed, 1)
        };
        let story = described.reason(Some(&"x".repeat(1 << 20))).findings(&findings);
        assert_eq!((story.findings.len(), story.more_findings), (20, 980));
        assert!(story.findings[0].message.ends_with("é […]"));
        let (_, text, _) = message(&notice(NoticeKind::Failed), &story, &[]);
        assert!(text.len() < 20_000, "{}", text.len());
        assert!(text.contains("\n  and 980 more\n"), "{text}");
        assert!(text.starts_with("db-backup failed on web1.\n\\x1b[31mxxx"), "{text}");
    }
}
