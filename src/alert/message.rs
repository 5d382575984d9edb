//! What is said of one notice: the mail and the JSON made of the story of a run's end.
//!
//! Pure. The text is made when it is sent, so that a run's number is the one that the ledger gave it in the end.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Story;
use super::said::{self, NAME, Said, Tone, commands, rows};
use super::story::LONGEST_REASON;
use super::story::StoryCheck;
use super::words::{Label, Note, Title, What, words};
use crate::config::Language;
use crate::ledger::Notice;
use crate::logs::harmless;
use crate::model::{NoticeKind, Severity};

/// A notice with all that is said in it.
pub struct Message<'a> {
    pub notice: &'a Notice,
    pub story: &'a Story,
    /// The last lines of the run's log.
    pub log: &'a [String],
    pub zone: &'a TimeZone,
    pub language: Language,
}

impl Message<'_> {
    pub(super) fn said(&self) -> Said {
        let words = words(self.language);
        Said {
            id: self.notice.id.clone(),
            at: self.notice.at,
            subject: self.subject(),
            text: self.text(),
            document: self.json(),
            tone: tone(self.notice, self.story),
            sender: words.on_host(NAME, &self.story.host),
        }
    }

    /// `[punk-eco-sched] db-backup failed on web1`
    pub fn subject(&self) -> String {
        said::subject(&self.headline())
    }

    pub fn text(&self) -> String {
        let (Self { story, .. }, words) = (self, words(self.language));
        let mut text = self.headline() + ".\n";
        if let Some(description) = &story.description {
            text += &format!("{}\n", cut(description, LONGEST_REASON));
        }
        text.push('\n');
        text += &rows(&self.facts());
        if !story.checks.is_empty() {
            text += "\n";
            for check in &story.checks {
                text += &self.check(check);
            }
            if story.more_checks > 0 {
                text += &format!("  {}\n", words.more(story.more_checks));
            }
        }
        if !story.findings.is_empty() {
            text += &format!("\n{}\n\n", words.title(Title::Findings));
            for finding in &story.findings {
                let severity = words.severity(finding.severity);
                let message = finding.message.replace('\n', "\n    ");
                text += &format!("  {severity}{}{message}\n", words.colon());
            }
            if story.more_findings > 0 {
                text += &format!("  {}\n", words.more(story.more_findings));
            }
        }
        if !self.log.is_empty() {
            text += &format!("\n{}\n\n", words.title(Title::Log));
            for line in self.log {
                text += &format!("  {line}\n");
            }
        }
        text += &commands(words.title(Title::Next), &self.next());
        let note = match (self.notice.kind, self.notice.job.is_job()) {
            (NoticeKind::Failed, true) => Note::Failed,
            (NoticeKind::Failed, false) => Note::LedgerFailed,
            (NoticeKind::Held, _) => Note::Held,
            (NoticeKind::Reminder, _) => Note::Reminder,
            (NoticeKind::Flapping, _) => Note::Flapping,
            (NoticeKind::Recovered, _) => return text,
        };
        text + &format!("\n{}\n", words.note(note))
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
        let words = words(self.language);
        let warning = match check.severity {
            Severity::Warning => format!(" ({})", words.severity(Severity::Warning)),
            _ => String::new(),
        };
        let (name, seen) = (&check.name, check.text.replace('\n', "\n    "));
        let mut text = format!("  {name}{warning}{}{seen}\n", words.colon());
        let recovered = self.notice.kind == NoticeKind::Recovered;
        let since = words.check_since(recovered, &said::instant(check.since, self.zone), check.failures);
        text += &format!("    {since}\n");
        if !check.consequences.is_empty() {
            text += &format!("    {}\n", words.consequences(&check.consequences.join(", ")));
        }
        text
    }

    /// `db-backup timed out on web1`
    fn headline(&self) -> String {
        words(self.language).on_host(&happened(self.notice, self.story, self.language), &self.story.host)
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let (Self { notice, story, .. }, words) = (self, words(self.language));
        let at = |at: Timestamp| said::instant(at, self.zone);
        let mut facts = Vec::new();
        let mut fact = |label: Label, value: String| facts.push((words.label(label), value));
        let recovered = notice.kind == NoticeKind::Recovered;
        if let Some(reason) = &story.reason {
            fact(if recovered { Label::Done } else { Label::Reason }, reason.clone());
        }
        if !notice.job.is_job() {
            fact(Label::Since, at(story.since));
            if recovered {
                fact(Label::Until, at(story.ended_at));
            }
            return facts;
        }
        if !story.checks.is_empty() {
            fact(Label::Run, notice.run.to_string());
            fact(Label::At, at(story.ended_at));
            return facts;
        }
        fact(Label::Run, format!("{}{}", notice.run, words.attempts(story.attempts)));
        if let Some(started) = story.started_at {
            fact(Label::Began, at(started));
        }
        fact(Label::Ended, at(story.ended_at));
        if recovered || story.failures > 1 {
            let since = at(story.since);
            fact(Label::Failing, words.failing(&since, story.failures, story.first_run.0));
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

/// `db-backup timed out`, `monitoring: page failed`, `monitoring: 3 checks recovered`
pub(super) fn happened(notice: &Notice, story: &Story, language: Language) -> String {
    let (words, what) = (words(language), What::of(notice.kind, story.outcome));
    let job = notice.job.as_str();
    match &story.checks[..] {
        _ if !notice.job.is_job() => words.ledger(notice.kind == NoticeKind::Recovered),
        [] => words.job(what, job),
        [one] if story.more_checks == 0 => words.check(what, job, &one.name),
        all => words.checks(what, job, all.len() + story.more_checks),
    }
}

pub(super) fn tone(notice: &Notice, story: &Story) -> Tone {
    let worst = story.checks.iter().map(|check| check.severity).max();
    match notice.kind {
        NoticeKind::Recovered => Tone::Good,
        _ => worst.map_or(Tone::Critical, Tone::from),
    }
}

/// At most so many bytes, and nothing in them that reaches for the terminal on which the mail is read. Lines stay.
pub fn cut(text: &str, longest: usize) -> String {
    let end = (0..=longest).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let lines: Vec<String> = text[..end.min(text.len())].lines().map(harmless).collect();
    let more = if end < text.len() { " […]" } else { "" };
    lines.join("\n") + more
}

#[cfg(test)]
mod tests;
