//! What is said: the mail and the JSON made of the story of a run's end.
//!
//! Pure. The text is made when it is sent, so that a run's number is the one that the ledger gave it in the end.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Story;
use super::story::LONGEST_REASON;
use super::story::StoryCheck;
use crate::ledger::Notice;
use crate::logs::harmless;
use crate::model::{NoticeKind, Outcome, Severity};

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
        if !story.checks.is_empty() {
            text += "\n";
            for check in &story.checks {
                text += &self.check(check);
            }
            if story.more_checks > 0 {
                text += &format!("  and {} more\n", story.more_checks);
            }
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
                "\nFurther failures are not told, but for a reminder now and then; its recovery will be.\n"
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
            "checks": story.checks,
            "log": self.log,
            "next": self.next(),
            "text": format!("{}\n\n{}", self.subject(), self.text()),
        })
    }

    /// One check of several, with all that is known of it.
    fn check(&self, check: &StoryCheck) -> String {
        let Message { notice, zone, .. } = self;
        let warning = if check.severity == Severity::Warning { " (warning)" } else { "" };
        let mut text = format!("  {}{warning}: {}\n", check.name, check.text.replace('\n', "\n    "));
        let since = check.since.to_zoned((*zone).clone()).strftime("%Y-%m-%d %H:%M:%S%:z");
        text += &match (notice.kind, check.failures) {
            (NoticeKind::Recovered, 1) => format!("    it failed in 1 run, since {since}\n"),
            (NoticeKind::Recovered, many) => format!("    it failed in {many} runs, since {since}\n"),
            (_, 1) => format!("    since {since}\n"),
            (_, many) => format!("    since {since}, in {many} runs\n"),
        };
        if !check.consequences.is_empty() {
            text += &format!("    therefore also: {}\n", check.consequences.join(", "));
        }
        text
    }

    /// `monitoring: page failed on web1`, `monitoring: 3 checks recovered on web1`
    fn headline_of_checks(&self) -> Option<String> {
        let Self { notice, story, .. } = self;
        let (subject, many) = match &story.checks[..] {
            [] => return None,
            [one] if story.more_checks == 0 => (one.name.clone(), false),
            all => (format!("{} checks", all.len() + story.more_checks), true),
        };
        let what = match (notice.kind, many) {
            (NoticeKind::Recovered, _) => "recovered",
            (NoticeKind::Reminder, false) => "still fails",
            (NoticeKind::Reminder, true) => "still fail",
            (NoticeKind::Flapping, false) => "fails and recovers by turns",
            (NoticeKind::Flapping, true) => "fail and recover by turns",
            _ => "failed",
        };
        Some(format!("{}: {subject} {what} on {}", notice.job, story.host))
    }

    /// `db-backup timed out on web1`
    fn headline(&self) -> String {
        let Self { notice, story, .. } = self;
        if let Some(headline) = self.headline_of_checks() {
            return headline;
        }
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
        if !story.checks.is_empty() {
            facts.push(("run", notice.run.to_string()));
            facts.push(("at", at(story.ended_at)));
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
            NoticeKind::Recovered | NoticeKind::Flapping => {
                next.push(format!("punk-eco-sched history {job}"))
            }
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
mod tests;
