//! English.

use super::{Label, Note, Title, What, Words};
use crate::model::{NoticeKind, Severity};

pub(super) struct English;

impl Words for English {
    fn job(&self, what: What, job: &str) -> String {
        let what = match what {
            What::Failed => "failed",
            What::TimedOut => "timed out",
            What::Interrupted => "was interrupted",
            What::Recovered => "recovered",
            What::Held => "is held",
            What::Reminder => "still fails",
            What::Flapping => "fails and recovers by turns",
        };
        format!("{job} {what}")
    }

    fn check(&self, what: What, job: &str, check: &str) -> String {
        let what = match what {
            What::Recovered => "recovered",
            What::Reminder => "still fails",
            What::Flapping => "fails and recovers by turns",
            What::Failed | What::TimedOut | What::Interrupted | What::Held => "failed",
        };
        format!("{job}: {check} {what}")
    }

    fn checks(&self, what: What, job: &str, count: usize) -> String {
        let what = match what {
            What::Recovered => "recovered",
            What::Reminder => "still fail",
            What::Flapping => "fail and recover by turns",
            What::Failed | What::TimedOut | What::Interrupted | What::Held => "failed",
        };
        format!("{job}: {count} checks {what}")
    }

    fn ledger(&self, recovered: bool) -> String {
        let what = if recovered { "is in order again" } else { "is in trouble" };
        format!("the ledger {what}")
    }

    fn digest(&self, kinds: &[(NoticeKind, usize)]) -> String {
        let counted = |(kind, count): &(NoticeKind, usize)| match (kind, count) {
            (NoticeKind::Failed, count) => format!("{count} failed"),
            (NoticeKind::Recovered, count) => format!("{count} recovered"),
            (NoticeKind::Held, count) => format!("{count} held"),
            (NoticeKind::Reminder, 1) => "1 still fails".to_owned(),
            (NoticeKind::Reminder, count) => format!("{count} still fail"),
            (NoticeKind::Flapping, 1) => "1 comes and goes".to_owned(),
            (NoticeKind::Flapping, count) => format!("{count} come and go"),
        };
        let all: usize = kinds.iter().map(|(_, count)| count).sum();
        let kinds: Vec<String> = kinds.iter().map(counted).collect();
        format!("{all} messages: {}", kinds.join(", "))
    }

    fn test(&self) -> &'static str {
        "test message: nothing is wrong"
    }

    fn on_host(&self, what: &str, host: &str) -> String {
        format!("{what} on {host}")
    }

    fn label(&self, label: Label) -> &'static str {
        match label {
            Label::Reason => "reason",
            Label::Done => "done",
            Label::Since => "since",
            Label::Until => "until",
            Label::Run => "run",
            Label::At => "at",
            Label::Began => "began",
            Label::Ended => "ended",
            Label::Failing => "failing",
            Label::Contact => "contact",
            Label::AskedBy => "asked by",
        }
    }

    fn title(&self, title: Title) -> &'static str {
        match title {
            Title::Findings => "What it found:",
            Title::Log => "The last lines of its log:",
            Title::Next => "What to type next:",
        }
    }

    fn note(&self, note: Note) -> &'static str {
        match note {
            Note::Failed => {
                "Further failures are not told, but for a reminder now and then; its recovery will be."
            }
            Note::LedgerFailed => "The jobs go on. The end of this trouble will be told.",
            Note::Held => {
                "Its slots are recorded as skipped until it is resumed; `run-now` starts it all the same."
            }
            Note::Reminder => "This is told again while it lasts; its recovery will be told.",
            Note::Flapping => "Nothing more is told until it has been well, or not, for half an hour.",
            Note::Test => "Nothing has failed. What fails will be told by this way.",
            Note::Digest => "They are one message because many came at once.",
        }
    }

    fn severity(&self, severity: Severity) -> &'static str {
        match severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    fn colon(&self) -> &'static str {
        ": "
    }

    fn attempts(&self, count: u32) -> String {
        match count {
            0 | 1 => String::new(),
            many => format!(", {many} attempts"),
        }
    }

    fn failing(&self, since: &str, failures: u64, first_run: i64) -> String {
        let failures = match failures {
            1 => "1 run failed".to_owned(),
            many => format!("{many} runs failed"),
        };
        format!("since {since}: {failures}, the first was run {first_run}")
    }

    fn check_since(&self, recovered: bool, since: &str, failures: u64) -> String {
        match (recovered, failures) {
            (true, 1) => format!("it failed in 1 run, since {since}"),
            (true, many) => format!("it failed in {many} runs, since {since}"),
            (false, 1) => format!("since {since}"),
            (false, many) => format!("since {since}, in {many} runs"),
        }
    }

    fn consequences(&self, names: &str) -> String {
        format!("therefore also: {names}")
    }

    fn more(&self, count: usize) -> String {
        format!("and {count} more")
    }

    fn in_digest(&self, what: &str, recovered: bool, since: &str, reason: Option<&str>) -> String {
        let since = if recovered { format!("it failed since {since}") } else { format!("since {since}") };
        let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("{what}, {since}{reason}")
    }
}
