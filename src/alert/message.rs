//! What is said: the mail and the JSON made of the story of a run's end.
//!
//! Pure. The text is made when it is sent, so that a run's number is the one that the ledger gave it in the end.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Story;
use super::story::LONGEST_REASON;
use crate::ledger::Notice;
use crate::logs::harmless;
use crate::model::{Finding, NoticeKind, Outcome};

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
                text += &format!("  {}: {}\n", word(finding), finding.message.replace('\n', "\n    "));
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
            NoticeKind::Failed => next.push(format!("punk-eco-sched run-now {job}")),
            NoticeKind::Recovered => next.push(format!("punk-eco-sched history {job}")),
            NoticeKind::Held => {
                let at = self.story.started_at.unwrap_or(self.story.ended_at);
                next.push(format!("punk-eco-sched why {job} {at:.0}"));
                next.push(format!("punk-eco-sched resume {job}"));
            }
        }
        next
    }
}

fn word(finding: &Finding) -> &'static str {
    match finding.severity {
        crate::model::Severity::Info => "info",
        crate::model::Severity::Warning => "warning",
        crate::model::Severity::Critical => "critical",
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
mod tests;
